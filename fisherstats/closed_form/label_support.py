"""The labels of a law, each with its probability, where they are few; and mean absolute deviations where they are not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from fisherstats.arrays import like, on_host
from fisherstats.model.families import Bernoulli, Categorical, Family, Gaussian, Law, Poisson

__all__ = ["entropy", "enumerated", "few", "mean_absolute_residual"]

Array = NDArray[np.floating]

_MOST_BINARY_OUTPUTS = 8


def few(family: Family) -> bool:
    """Return whether the labels can be gone through one by one."""
    return isinstance(family, Categorical) or (isinstance(family, Bernoulli) and family.n_outputs <= _MOST_BINARY_OUTPUTS)


def enumerated(family: Family, law: Law) -> tuple[Array, Array] | None:
    """Return r = t(y) - E[t] and log p(y) of every label, (n, K, T) and (n, K); None where labels are many or no finite set."""
    if not few(family):
        return None
    n = len(law.h)
    every: list[NDArray[Any]]
    if isinstance(family, Categorical):
        every = [np.full(n, label) for label in range(family.n_outputs + family.minimal)]
    else:
        patterns = itertools.product((0.0, 1.0), repeat=family.n_outputs)
        every = [np.broadcast_to(np.array(pattern), (n, family.n_outputs)) for pattern in patterns]
    residuals = np.stack([law.residual(like(y, law.h)) for y in every], axis=1)
    return residuals, like(np.stack([family.log_prob(on_host(law.h), y) for y in every], axis=1), law.h)


def mean_absolute_residual(family: Family, law: Law) -> Array | None:
    r"""Return :math:`\mathrm E|t-\mathrm E[t]|`, (n,), for one Gaussian or Poisson output; None for other laws."""
    if family.n_outputs > 1:
        return None
    if isinstance(family, Gaussian):
        deviation: Array = np.sqrt(2 / np.pi * law.information()[:, 0, 0])
        return deviation
    if isinstance(family, Poisson):
        rate = np.exp(law.h[:, 0])
        whole = np.floor(rate)
        # 2 lambda^(k+1) e^-lambda / k!, k the integer part of lambda
        found: Array = 2 * np.exp((whole + 1) * law.h[:, 0] - rate - gammaln(whole + 1))
        return found
    return None


def entropy(log_prob: Array) -> Array:
    """Return - sum p log p over labels, (n, K) to (n,)."""
    total: Array = -np.sum(np.exp(log_prob) * np.where(log_prob == -np.inf, 0, log_prob), axis=1)
    return total
