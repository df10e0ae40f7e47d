r"""Polygamma functions as their leading power plus a remainder, and their differences, each without cancellation.

The cumulants of the logarithm of a Gamma(x) variable are psi_1(x), psi_2(x), psi_3(x). For large x they are almost the powers
1/x, -1/x^2, 2/x^3, which cancel in the moments of log y - y / x and of log-ratios; only the remainder below is left.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import psi

from fisherstats.core.arrays import like, zeta

__all__ = ["leading_power", "log_less_psi", "polygamma", "polygamma_drop", "polygamma_remainder"]

# Coefficients B_2, B_4, ..., B_14 of psi_1(x) - 1/x - 1/(2x^2) = sum_k B_2k / x^(2k+1), an asymptotic series; past x = 16
# seven terms leave 1e-16.
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
SHIFTS = 16
# Nodes of the quadrature of psi over [x, 3x/2], whose pole at 0 makes the error 10^(-2 * 8).
NODES, WEIGHTS = np.polynomial.legendre.leggauss(10)


def polygamma(order: int, x: np.ndarray) -> np.ndarray:
    """Return psi_n(x) for n = 0 to 4 and x > 0, by functions available in every array library."""
    return psi(x) if order == 0 else (-1.0) ** (order + 1) * math.factorial(order) * zeta(order + 1, x)


def leading_power(order: int, x: np.ndarray) -> np.ndarray:
    """Return 1/x, -1/x^2 or 2/x^3, the leading part of psi_1, psi_2 or psi_3."""
    return (1.0, -1.0, 2.0)[order - 1] / x**order


def log_less_psi(x: np.ndarray) -> np.ndarray:
    """Return log x - psi(x) = 1/(2x) + sum_k B_2k / (2k x^2k) for x > 0, which is small for a large x."""
    large = x >= SHIFTS
    inverse = 1 / np.where(large, x, SHIFTS)
    square = inverse * inverse
    series = np.zeros_like(x)
    for k in range(len(BERNOULLI), 0, -1):
        series = (series + BERNOULLI[k - 1] / (2 * k)) * square
    return np.where(large, inverse / 2 + series, np.log(x) - psi(x))


def polygamma_remainder(order: int, x: np.ndarray) -> np.ndarray:
    """Return psi_n(x) - leading power for n = 1, 2 or 3 and x > 0; it has the sign of psi_n, so their sum is accurate.

    From x + 1 to x it grows by 1/(x^2 (x+1)), -(3x+2)/(x^3 (x+1)^2) or (12x^2+16x+6)/(x^4 (x+1)^3): terms of one sign,
    added until the asymptotic series holds.
    """
    total = np.zeros_like(x)
    small = x < SHIFTS
    with np.errstate(over="ignore"):  # overflows for x near 0, where the caller refuses infinite moments
        for shift in range(SHIFTS):
            y = np.where(small, x, 1) + shift
            if order == 1:
                step = 1 / y / y / (y + 1)
            elif order == 2:
                step = -(3 * y + 2) / y / y / y / (y + 1) ** 2
            else:
                step = (12 * y**2 + 16 * y + 6) / y / y / y / y / (y + 1) ** 3
            total += np.where(small, step, 0)
    inverse = 1 / np.where(small, x + SHIFTS, x)
    square = inverse * inverse
    series = np.zeros_like(x)
    for k in range(len(BERNOULLI), 0, -1):
        factor = (1.0, -(2 * k + 1), (2 * k + 1) * (2 * k + 2))[order - 1]
        series = (series + factor * BERNOULLI[k - 1]) * square
    first = (0.5, -1.0, 3.0)[order - 1]
    return total + (first + series / inverse) * inverse ** (order + 1)


def polygamma_drop(order: int, x: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return psi_n(x) - psi_n(x + step) for n = 0 to 3 and step > 0, accurate for a small step.

    For a step of at most x/2 it is the integral of -psi_(n+1), whose integrand has one sign.
    """
    near = step <= x / 2
    width = np.where(near, step, x / 2)
    points = x[..., None] + width[..., None] * like(1 + NODES, x) / 2
    integral = -width / 2 * (polygamma(order + 1, points) @ like(WEIGHTS, x))
    far = polygamma(order, x) - polygamma(order, x + step)
    return np.where(near, integral, far)
