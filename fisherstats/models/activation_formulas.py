"""Formulas of the activations: generators of the value, the first and the second derivative.

Each takes pre-activations of any shape, and its parameters by keyword. All are written for relative accuracy: a decaying
derivative is never computed as a difference of numbers that do not decay. At a kink they give the left derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = [
    "arctan",
    "celu",
    "elu",
    "erf",
    "gelu",
    "gelu_tanh",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu",
    "sigmoid",
    "silu",
    "sin",
    "smoothed_relu",
    "softplus",
    "softsign",
    "tanh",
]

Array = NDArray[np.floating[Any]]


# Piecewise linear


def identity(a: Array) -> Iterator[Array]:
    """The identity: a."""
    yield a.copy()
    yield np.ones_like(a)
    yield np.zeros_like(a)


def relu(a: Array) -> Iterator[Array]:
    """The rectifier: max(a, 0)."""
    yield np.maximum(a, 0)
    yield (a > 0).astype(a.dtype)
    yield np.zeros_like(a)


def leaky_relu(a: Array, slope: float) -> Iterator[Array]:
    """The leaky rectifier: a above 0, slope * a below."""
    yield np.where(a > 0, a, slope * a)
    yield np.where(a > 0, 1, np.full_like(a, slope))
    yield np.zeros_like(a)


def smoothed_relu(a: Array, iota: float, omega: float) -> Iterator[Array]:
    """The smoothed leaky rectifier: omega * log(e^(iota a / omega) + e^(a / omega))."""
    with np.errstate(over="ignore"):
        distance = (1 - iota) / omega * a
    p, q = _exponential_odds(distance)
    yield np.where(a > 0, a, iota * a) + omega * np.log1p(p * q)
    total = p + q
    yield iota + (1 - iota) * (p / total)
    yield ((1 - iota) ** 2 / omega) * (p / total) * (q / total)


def hard_tanh(a: Array, lower: float = -1, upper: float = 1) -> Iterator[Array]:
    """The identity between two bounds, constant beyond."""
    yield np.clip(a, lower, upper)
    yield ((a > lower) & (a <= upper)).astype(a.dtype)
    yield np.zeros_like(a)


def hard_sigmoid(a: Array) -> Iterator[Array]:
    """The line (a + 3) / 6 between -3 and 3, constant beyond."""
    yield np.clip(a + 3, 0, 6) / 6
    yield np.where((a > -3) & (a <= 3), np.full_like(a, 1 / 6), 0)
    yield np.zeros_like(a)


# Piecewise quadratic


def hard_swish(a: Array) -> Iterator[Array]:
    """The parabola a (a + 3) / 6 between -3 and 3, 0 below and the identity above."""
    yield a * (np.clip(a + 3, 0, 6) / 6)
    between = (a > -3) & (a <= 3)
    # The slope of the parabola at the largest numbers, which is not used, would overflow.
    yield np.where(between, (2 * np.clip(a, -3, 3) + 3) / 6, (a > 3).astype(a.dtype))
    yield np.where(between, np.full_like(a, 1 / 3), 0)


# Exponentials


def elu(a: Array, alpha: float, scale: float = 1.0) -> Iterator[Array]:
    """The exponential linear unit: scale * a above 0, scale * alpha * (e^a - 1) below."""
    negative = np.minimum(a, 0)
    # expm1 is accurate for the value near 0, exp for the derivatives in the tail: neither can be computed from the other.
    yield scale * np.maximum(a, 0) + scale * alpha * np.expm1(negative)
    curvature = scale * alpha * np.exp(negative)
    yield np.where(a > 0, scale, curvature)
    yield np.where(a > 0, 0, curvature)


def celu(a: Array, alpha: float) -> Iterator[Array]:
    """The continuously differentiable exponential linear unit: a above 0, alpha * (e^(a / alpha) - 1) below."""
    with np.errstate(over="ignore"):
        distance = np.minimum(a, 0) / alpha
    yield np.maximum(a, 0) + alpha * np.expm1(distance)
    slope = np.exp(distance)
    yield slope
    yield np.where(a > 0, 0, slope / alpha)


def _exponential_odds(a: Array) -> tuple[Array, Array]:
    """Return p = min(e^a, 1) and q = min(e^-a, 1), so that p / q = e^a and nothing overflows."""
    decay = np.exp(-np.abs(a))
    return np.maximum(decay, a >= 0), np.maximum(decay, a <= 0)


def sigmoid(a: Array) -> Iterator[Array]:
    """The logistic function: 1 / (1 + e^-a)."""
    with np.errstate(over="ignore"):  # the limit 0 is then returned
        odds = np.exp(-a)
    odds += 1
    value = np.reciprocal(odds)
    yield value
    with np.errstate(over="ignore"):
        odds = np.exp(a)
    odds += 1
    first = value / odds
    yield first
    # 1 - 2 sigma = -tanh(a / 2), which keeps its relative accuracy near 0.
    yield -first * np.tanh(a / 2)


def softplus(a: Array, beta: float = 1.0) -> Iterator[Array]:
    """The soft rectifier: log(1 + e^(beta a)) / beta."""
    with np.errstate(over="ignore"):
        p, q = _exponential_odds(a if beta == 1 else beta * a)
    yield np.maximum(a, 0) + np.log1p(p * q) / beta
    total = p + q
    first = p / total
    yield first
    yield first * (q / total) * beta


def log_sigmoid(a: Array) -> Iterator[Array]:
    """The logarithm of the logistic function: -log(1 + e^-a)."""
    for sign, derivative in zip((-1, 1, -1), softplus(-a), strict=True):
        yield sign * derivative


def silu(a: Array) -> Iterator[Array]:
    """The sigmoid linear unit: a / (1 + e^-a)."""
    p, q = _exponential_odds(a)
    total = p + q
    sigmoid, complement = p / total, q / total
    yield a * sigmoid
    yield sigmoid * (1 + a * complement)
    yield sigmoid * complement * (2 + a * (complement - sigmoid))


def mish(a: Array) -> Iterator[Array]:
    """Mish: a tanh(log(1 + e^a))."""
    # The gate tanh(log(1 + e^a)) and its derivatives are homogeneous rational functions of p and q, as p / q = e^a.
    p, q = _exponential_odds(a)
    numerator = p * (p + 2 * q)
    denominator = numerator + 2 * q * q
    gate = numerator / denominator
    yield a * gate
    kernel = 4 * p * q * q / (denominator * denominator)
    gate_first = kernel * (p + q)
    yield gate + a * gate_first
    cubic = 2 * q * q * (p + q) - p * p * (3 * q + 2 * p)
    yield 2 * gate_first + a * kernel * (cubic / denominator)


def tanh(a: Array) -> Iterator[Array]:
    """The hyperbolic tangent."""
    value = np.tanh(a)
    yield value
    # 1 - value^2 would lose the digits of a small slope; as |value| = (1 - d) / (1 + d), d = e^(-2|a|), it is d (1 + |value|)^2.
    decay = np.abs(a, out=np.empty_like(a))
    np.negative(decay, out=decay)
    np.exp(decay, out=decay)
    first = np.abs(value, out=np.empty_like(a))
    first += 1
    first *= decay
    first *= first
    yield first
    second = np.multiply(value, first, out=decay)
    second *= -2
    yield second


# The normal distribution


def erf(a: Array) -> Iterator[Array]:
    """The error function."""
    yield special.erf(a)
    # Beyond 30 the density is 0 in either precision; squares of huge numbers would overflow.
    bounded = np.clip(a, -30, 30)
    first = 2 / math.sqrt(math.pi) * np.exp(-bounded * bounded)
    yield first
    yield -2 * bounded * first


def gelu(a: Array) -> Iterator[Array]:
    """The Gaussian error linear unit: a times the normal distribution function."""
    distribution = special.ndtr(a)
    yield a * distribution
    # Beyond 40 the density is 0 in either precision; squares of huge numbers would overflow.
    bounded = np.clip(a, -40, 40)
    square = bounded * bounded
    density = np.exp(-square / 2) / math.sqrt(2 * math.pi)
    yield distribution + bounded * density
    yield density * (2 - square)


def gelu_tanh(a: Array) -> Iterator[Array]:
    """The approximation of `gelu` by a hyperbolic tangent: a (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))) / 2."""
    # The gate is the logistic function of w, twice the argument of the tangent. Beyond 30 it is 0 or 1 in either precision, and
    # powers of huge numbers would overflow.
    bounded = np.clip(a, -30, 30)
    square = 0.044715 * (bounded * bounded)
    scale = 2 * math.sqrt(2 / math.pi)
    w = scale * (bounded * (1 + square))
    p, q = _exponential_odds(w)
    total = p + q
    gate, complement = p / total, q / total
    yield a * gate
    w_first = scale * (1 + 3 * square)
    yield gate * (1 + bounded * (complement * w_first))
    # bounded * w'' = 6 scale square.
    curved = 2 * w_first + 6 * scale * square - bounded * w_first * w_first * np.tanh(w / 2)
    yield gate * complement * curved


# Algebraic and trigonometric


def arctan(a: Array) -> Iterator[Array]:
    """The inverse tangent."""
    yield np.arctan(a)
    # A square that overflows is only divided by, and the slope has then underflown to 0.
    with np.errstate(over="ignore"):
        first = 1 / (1 + a * a)
    yield first
    yield -2 * first * (a * first)


def softsign(a: Array) -> Iterator[Array]:
    """The soft sign: a / (1 + |a|)."""
    shrinkage = 1 / (1 + np.abs(a))
    yield a * shrinkage
    first = shrinkage * shrinkage
    yield first
    curvature = 2 * first * shrinkage
    yield np.where(a > 0, -curvature, curvature)


def sin(a: Array) -> Iterator[Array]:
    """The sine."""
    value = np.sin(a)
    yield value
    yield np.cos(a)
    yield -value
