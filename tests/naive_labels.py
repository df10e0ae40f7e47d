"""The law of the sufficient statistic as a finite list of points, for tests only.

Bernoulli, binomial and categorical laws are enumerated, the Poisson law is summed until nothing is left of the fourth
moment, and the Gaussian law is replaced by a tensor Gauss-Hermite rule, exact for polynomials up to degree eleven.
Every expectation that a variance of an estimator needs (degree four in ``t``) is then a finite sum.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["FAMILIES", "enumerate_labels", "law_of_statistic", "sufficient_statistic"]

FAMILIES = ("bernoulli", "binomial", "poisson", "categorical", "categorical_minimal", "gaussian")
"""Names of the families.  Parameters: ``n_trials`` (binomial), ``covariance`` (Gaussian: number, vector or matrix)."""

_QUADRATURE_NODES = 6


def _probability(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1.0 + math.exp(logit))


def _binomial_law(logit: float, n_trials: int) -> tuple[list[float], list[float]]:
    success, failure = _probability(logit), _probability(-logit)
    counts = range(n_trials + 1)
    return [float(k) for k in counts], [math.comb(n_trials, k) * success**k * failure ** (n_trials - k) for k in counts]


def _poisson_law(log_rate: float) -> tuple[list[float], list[float]]:
    rate = math.exp(log_rate)
    values, probabilities = [0.0], [math.exp(-rate)]
    while values[-1] < rate or probabilities[-1] * (values[-1] - rate) ** 4 > 1e-30 * rate:
        values.append(values[-1] + 1.0)
        probabilities.append(probabilities[-1] * rate / values[-1])
    return values, probabilities


def _product(laws: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[Array, Array]:
    points = np.array(list(itertools.product(*(values for values, _ in laws))))
    weights = np.array([math.prod(choice) for choice in itertools.product(*(chances for _, chances in laws))])
    return points, weights


def _softmax(logits: Array) -> Array:
    return np.array([1.0 / sum(math.exp(other - logit) for other in logits) for logit in logits])


def covariance_matrix(params: Mapping[str, Any], n_outputs: int) -> Array:
    """The covariance of ``y`` as a matrix, given as nothing (one), a number, a vector of variances or a matrix."""
    given = params.get("covariance")
    array = np.asarray(1.0 if given is None else given, dtype=float)
    return array if array.ndim == 2 else np.diag(np.broadcast_to(array, n_outputs))


def _gaussian_law(mean: Array, covariance: Array) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(_QUADRATURE_NODES)
    axis = (nodes.tolist(), (weights / weights.sum()).tolist())
    standard, chances = _product([axis] * len(mean))
    labels = mean + standard @ np.linalg.cholesky(covariance).T
    return labels @ np.linalg.inv(covariance), chances


def law_of_statistic(family: str, params: Mapping[str, Any], h: Any) -> tuple[Array, Array]:
    """Points ``t`` (K, T) and probabilities (K,) at natural parameter ``h`` (Gaussian: the mean of ``y``)."""
    natural = np.asarray(h, dtype=float)
    if family == "bernoulli":
        return _product([_binomial_law(logit, 1) for logit in natural])
    if family == "binomial":
        return _product([_binomial_law(logit, params["n_trials"]) for logit in natural])
    if family == "poisson":
        return _product([_poisson_law(log_rate) for log_rate in natural])
    if family == "categorical":
        return np.eye(len(natural)), _softmax(natural)
    if family == "categorical_minimal":
        return np.eye(len(natural) + 1)[:, :-1], _softmax(np.append(natural, 0.0))
    if family == "gaussian":
        return _gaussian_law(natural, covariance_matrix(params, len(natural)))
    raise ValueError(family)


def enumerate_labels(family: str, params: Mapping[str, Any], h: Any) -> tuple[Array, Array]:
    """Centred points ``delta = t - E[t]`` (K, T) with their probabilities (K,).

    As ``sum_j p_j (t_k - t_j)``, which does not cancel when one label takes nearly all the probability.
    """
    points, probabilities = law_of_statistic(family, params, h)
    chances = probabilities / probabilities.sum()
    return np.array([chances @ (point - points) for point in points]), probabilities


def sufficient_statistic(family: str, params: Mapping[str, Any], y: Any, n_outputs: int) -> Array:
    """``t(y)`` of one observed label."""
    if family == "categorical":
        return np.eye(n_outputs)[int(y)]
    if family == "categorical_minimal":
        return np.eye(n_outputs + 1)[int(y), :-1]
    label = np.atleast_1d(np.asarray(y, dtype=float))
    if family == "gaussian":
        return np.linalg.solve(covariance_matrix(params, n_outputs), label)
    return label
