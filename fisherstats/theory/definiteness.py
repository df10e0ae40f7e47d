"""Conditions for a positive definite Hessian estimate of the information (2021, section 3.4)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

__all__ = ["binomial_interval", "smallest_eigenvalue", "sufficient_draws"]


def smallest_eigenvalue(matrix: NDArray[np.float64]) -> float:
    """Return the smallest eigenvalue of a symmetric matrix, 0 if within rounding error."""
    values = np.linalg.eigvalsh(matrix)
    rounding = 4 * len(values) * np.finfo(values.dtype).eps * np.abs(values).max()
    return 0.0 if abs(values[0]) <= rounding else float(values[0])


def sufficient_draws(total_variance: float, n_inputs: int, delta: float, smallest: float) -> float:
    r"""Return the smallest whole :math:`N\ge S/(n\,\delta\,\lambda_{min}^2)`; inf for a singular information."""
    if smallest <= 0:
        return math.inf
    return max(float(np.ceil(total_variance / (n_inputs * delta) / smallest / smallest)), 1.0)


def binomial_interval(successes: int, trials: int, level: float) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a probability."""
    tail = (1 - level) / 2
    lower = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    upper = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return lower, upper
