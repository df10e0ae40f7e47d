"""Double-double arithmetic: sums, products and logarithms as pairs of floats, a value and its rounding error.

A log-likelihood of many trials is known to its last digits only where the distance of a label from its mean is. That distance
is a difference of nearly equal numbers, which a pair of floats keeps. The forms are Dekker's and Knuth's.
"""

from __future__ import annotations

import functools
from decimal import Context, Decimal

import numpy as np

from fisherstats.core.arrays import like

__all__ = ["exact_difference", "exact_sum", "log_pair", "two_product", "two_sum"]

Pair = tuple[np.ndarray, np.ndarray]

_SPLITTER = 2.0**27 + 1
_PER_BIT = 1 / np.log(2)
_FIRST, _SECOND = 2.0**7, 2.0**15
"""Fractions of the two factors by which a logarithm is reduced."""


def two_sum(a: np.ndarray, b: np.ndarray) -> Pair:
    """Return a + b and its rounding error."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def two_product(a: np.ndarray, b: np.ndarray) -> Pair:
    """Return a b and its rounding error, 0 where numbers exceed 1e300 and are too large to be split."""
    product = a * b
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
        error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, np.where(np.isfinite(error), error, 0.0)


def _halves(a: np.ndarray) -> Pair:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def exact_difference(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return a b - c d, to floating-point accuracy even where the products are nearly equal."""
    (first, low), (second, other_low) = two_product(a, b), two_product(c, d)
    total, error = two_sum(first, -second)
    return total + (error + (low - other_low))


def exact_sum(values: np.ndarray) -> Pair:
    """Return the sums over the last axis as pairs."""
    low = np.zeros_like(values[..., 0])
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        total, error = two_sum(values[..., :half], values[..., half : 2 * half])
        low = low + error.sum(axis=-1)
        values = np.concatenate([total, values[..., 2 * half :]], axis=-1)
    return values[..., 0], low


def log_pair(x: np.ndarray) -> Pair:
    """Return log x, x > 0, as a pair whose sum is accurate to 1e-30.

    x is a power of two times a number with 7 binary places times one within 2^-8 of 1 with 15, both with logarithms in a table,
    times 1 + r with r below 2^-16.
    """
    exponent = np.floor(np.log(x) * _PER_BIT)
    mantissa = np.ldexp(x, -exponent.astype(np.int32))
    first = np.rint(mantissa * _FIRST)
    second = np.rint((mantissa * _FIRST / first - 1) * _SECOND)
    factor = first * (_SECOND + second)
    rest = mantissa * (_FIRST * _SECOND) - factor  # exact, as the two are close
    r = rest / factor
    product, error = two_product(r, factor)
    r_low = ((rest - product) - error) / factor
    square, square_low = two_product(r, r)
    powers = square * r * (1 / 3 - r * (1 / 4 - r * (1 / 5 - r / 6)))
    low = r_low * (1 - r) - square_low / 2 + powers
    high = exponent * _LN2[0]
    parts = [exponent * _LN2[1], exponent * _LN2[2]]
    for table, index in zip(_tables(), (first, second), strict=True):
        place = (index - table[0]).astype(np.int64)
        parts += [like(values, x)[place] for values in table[1:]]
    for part in (*parts, r, -square / 2):
        high, error = two_sum(high, part)
        low = low + error
    return two_sum(high, low)


def _pairs_of(numbers: list[Decimal]) -> tuple[np.ndarray, np.ndarray]:
    high = [float(number) for number in numbers]
    return np.array(high), np.array([float(number - Decimal(value)) for number, value in zip(numbers, high, strict=True)])


@functools.cache
def _tables() -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return the first index, and the logarithms as pairs, of both factors."""
    digits = Context(prec=50)
    found = []
    for size, lowest, highest in ((_FIRST, 126, 258), (_SECOND, -132, 132)):
        whole = 0 if size == _FIRST else int(size)
        ratios = [digits.divide(Decimal(whole + index), Decimal(int(size))) for index in range(lowest, highest + 1)]
        found.append((lowest, *_pairs_of([digits.ln(ratio) for ratio in ratios])))
    return found


def _logarithm_of_two() -> tuple[float, float, float]:
    """Return log 2 as three floats, the first two of 40 binary places, so that multiples by an exponent are exact."""
    rest, parts = Context(prec=60).ln(Decimal(2)), []
    for places in (40, 80):
        part = float(Context(prec=60).multiply(rest, Decimal(2**places)).to_integral_value()) / 2.0**places
        parts.append(part)
        rest = Context(prec=60).subtract(rest, Decimal(part))
    return parts[0], parts[1], float(rest)


_LN2 = _logarithm_of_two()
