"""Enumerated labels of a response distribution with their probabilities, if there are few; mean absolute deviations otherwise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, expit

from fisherstats.core.arrays import double, like, on_host
from fisherstats.models.families import Bernoulli, Categorical, Family, Law
from fisherstats.models.families.counts import NegativeBinomialLaw
from fisherstats.models.families.deviance import log_gamma_remainder
from fisherstats.models.families.gaussian import GaussianLaw
from fisherstats.models.families.independent import BinomialLaw, PoissonLaw
from fisherstats.models.families.positive import GammaLaw, InverseGaussianLaw

__all__ = ["entropy", "enumerated", "few", "mean_absolute_residual"]

Array = NDArray[np.floating]

_MOST_BINARY_OUTPUTS = 8


def few(family: Family) -> bool:
    """Return whether the labels can be enumerated."""
    return isinstance(family, Categorical) or (isinstance(family, Bernoulli) and family.n_outputs <= _MOST_BINARY_OUTPUTS)


def enumerated(family: Family, law: Law) -> tuple[Array, Array] | None:
    """Return r = t(y) - E[t] and log p(y) of every label, (n, K, T) and (n, K); None if the labels are many or not a finite set.

    Both are in float64, for a law of either precision.
    """
    if not few(family):
        return None
    law, n = _in_double(family, law), len(law.h)
    every: list[NDArray[Any]]
    if isinstance(family, Categorical):
        every = [np.full(n, label) for label in range(family.n_outputs + family.minimal)]
    else:
        patterns = itertools.product((0.0, 1.0), repeat=family.n_outputs)
        every = [np.broadcast_to(np.array(pattern), (n, family.n_outputs)) for pattern in patterns]
    residuals = np.stack([law.residual(like(y, law.h)) for y in every], axis=1)
    return residuals, like(np.stack([family.log_prob(on_host(law.h), y) for y in every], axis=1), law.h)


def _in_double(family: Family, law: Law) -> Law:
    return law if law.h.dtype == np.float64 else family.at(double(law.h))


def mean_absolute_residual(family: Family, law: Law) -> Array | None:
    r"""Return :math:`\mathrm E|t-\mathrm E[t]|`, (n,) in float64, for one output; None where it has no closed form."""
    if family.n_outputs > 1:
        return None
    exact = _in_double(family, law)
    if isinstance(exact, PoissonLaw | BinomialLaw | NegativeBinomialLaw):
        deviation = _of_counts(family, exact)
    elif isinstance(exact, GammaLaw):
        # 2 k^k e^-k b / Gamma(k)
        shape = np.full_like(exact.scale, exact.shape)
        deviation = 2 * exact.scale * np.exp(-log_gamma_remainder(shape))
    elif isinstance(exact, InverseGaussianLaw):
        deviation = 2 * exact.mean * erfcx(np.sqrt(2 * exact.shape / exact.mean))
    elif isinstance(exact, GaussianLaw):
        deviation = np.sqrt(2 / np.pi * exact.own_diagonal())
    else:
        return None
    return deviation[:, 0]


def _of_counts(family: Family, law: PoissonLaw | BinomialLaw | NegativeBinomialLaw) -> Array:
    r"""Return De Moivre's :math:`2c\,\nu\,p(\nu)`, with :math:`\nu` the first whole number above the mean.

    :math:`c` is 1 for Poisson counts, the failure probability for counts of successes, and the reciprocal success probability for
    counts of failures.
    """
    h, factor = law.h, np.ones_like(law.h)
    if isinstance(law, BinomialLaw):
        # The rarer outcome is counted: both counts have the same absolute deviation.
        h = -np.abs(h)
        factor = expit(-h)
    elif isinstance(law, NegativeBinomialLaw):
        factor = 1 / law.success
    # Far above 2^53 the next float is no closer to the mean, at which the product has an extremum.
    above = np.floor(family.at(h).mean) + 1
    log_mass = family.log_prob(h, above)[:, None]
    return 2 * factor * np.exp(np.log(above) + log_mass)


def entropy(log_prob: Array) -> Array:
    """Return - sum p log p over labels, (n, K) to (n,)."""
    return -np.sum(np.exp(log_prob) * np.where(log_prob == -np.inf, 0, log_prob), axis=1)
