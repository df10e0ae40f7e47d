"""Outward margins: allowances for rounding in the numbers that enter a certified bound.

Bounds are computed in float64 whatever the precision of the call, and rounded outwards to it at the end. A sum of products of one
sign has a relative error of a few eps; an eigenvalue has an error of a few eps of the *largest* one, so that a small one may be
rounding error only.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import like, on_device

__all__ = ["ROUNDING", "above", "below", "eigenvalues", "nearest", "outwards", "power_of_two", "rounded_up", "spectrum"]

Array = NDArray[np.floating]

EPS = float(np.finfo(np.float64).eps)

ROUNDING = 64
"""Units of rounding that a number may have accumulated, in addition to those of its sums."""


def above(values: Array, terms: int = 0) -> Array:
    """Return upper limits of non-negative numbers after rounding errors of this many terms; 0 stays 0."""
    return values * (1 + (ROUNDING + terms) * EPS)


def below(values: Array, terms: int = 0) -> Array:
    """Return lower limits of non-negative numbers after rounding errors of this many terms."""
    return values * (1 - (ROUNDING + terms) * EPS)


def rounded_up(exact: Fraction) -> float:
    """Return the smallest number of double precision that is not below; infinite past the largest."""
    try:
        nearest = float(exact)
    except OverflowError:
        return math.inf
    return nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)


def eigenvalues(matrices: Array) -> Array:
    """Return the ascending eigenvalues of symmetric matrices (n, k, k), (n, k); inf where an entry is not finite."""
    finite = np.all(np.isfinite(matrices), axis=(1, 2))
    values: Array = np.linalg.eigvalsh(np.where(finite[:, None, None], matrices, 0))
    return np.where(finite[:, None], values, np.inf)


def spectrum(matrices: Array) -> tuple[Array, Array]:
    """Return lower and upper limits of the ascending eigenvalues of positive semi-definite matrices (n, k, k), (n, k) each.

    An eigenvalue by LAPACK, of a matrix whose entries are rounded, is off by a few eps of the largest one.
    """
    trace = np.trace(matrices, axis1=1, axis2=2)
    # Relative to a number near the trace, so that tiny matrices do not underflow.
    size = power_of_two(trace)[:, None]
    values = eigenvalues(matrices / size[..., None])
    margin = (16 + matrices.shape[1]) * EPS * np.maximum(values[:, -1:], 0)
    with np.errstate(invalid="ignore"):  # inf - inf, where the matrix was not finite
        lower = np.where(np.isinf(values), 0, np.maximum(values - margin, 0))
    return lower * size, np.maximum(values + margin, 0) * size


def power_of_two(values: Array) -> Array:
    """Return a power of two near each positive number, 1 where it is 0 or not finite: dividing by it rounds nothing."""
    usable = np.isfinite(values) & (values > 0)
    safe = np.where(usable, values, 1)
    if on_device(safe):
        return np.power(2.0, np.floor(np.log(safe) / np.log(2.0)))
    return np.ldexp(np.ones_like(safe), np.maximum(np.frexp(safe)[1] - 1, -1021))


def nearest(values: Array, dtype: np.dtype[np.floating]) -> Array:
    """Return numbers in the precision of the call, inf where they exceed its range."""
    with np.errstate(over="ignore"):
        rounded: Array = values.astype(dtype, copy=False)
    return rounded


def outwards(values: Array, dtype: np.dtype[np.floating], side: str) -> Array:
    """Return bounds in the precision of the call: rounded to the next number outwards where necessary."""
    if values.dtype == dtype:
        return values
    rounded = nearest(values, dtype)
    towards = like(np.array(np.inf if side == "upper" else -np.inf, dtype=dtype), rounded)
    inside = rounded < values if side == "upper" else rounded > values
    return np.where(inside, np.nextafter(rounded, towards), rounded)
