r"""Differences of means of two distributions of one family along directions, :math:`u^\top(E_q[t]-E_p[t])`.

The two means are often nearly equal, or both nearly certain. Each distribution therefore subtracts small quantities:
probabilities of the rarer outcome, or squares about a mean.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fisherstats.engines import primitives
from fisherstats.models.families.base import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.counts import NegativeBinomialLaw
from fisherstats.models.families.independent import BinomialLaw, PoissonLaw
from fisherstats.models.families.multinomial import MultinomialLaw
from fisherstats.models.families.positive import GammaLaw, InverseGaussianLaw
from fisherstats.models.families.product import ProductLaw
from fisherstats.models.families.two_parameter import GaussianMeanVarianceLaw

__all__ = ["mean_shift"]

Array = NDArray[np.floating]

_CLOSE = 1e-3
"""Relative change of a mean below which a difference of two means has lost digits."""


@singledispatch
def mean_shift(law: Any, truth: Any, u: Array) -> Array:
    r"""Return :math:`u^\top(E_q[t]-E_p[t])` for the laws p (`law`) and q (`truth`) and directions u (n, T, k), shape (n, k).

    Exactly 0 where the laws are the same. In general the error is that of the two means.
    """
    model: Law = law
    return primitives.weighted_mean(truth.mean - model.mean, u)


@mean_shift.register
def _(law: CategoricalLaw, truth: CategoricalLaw, u: Array) -> Array:
    # The differences sum to 0, so that of the most probable class is not needed.
    top = np.argmax(law.p, axis=1)[:, None, None]
    values = primitives.every_class(law.p, u)
    return primitives.weighted_mean(truth.p - law.p, values - np.take_along_axis(values, top, axis=1))


@mean_shift.register
def _(law: MultinomialLaw, truth: MultinomialLaw, u: Array) -> Array:
    return law.n_trials * mean_shift(law.one, truth.one, u)


@mean_shift.register
def _(law: BinomialLaw, truth: BinomialLaw, u: Array) -> Array:
    successes, failures = expit(truth.h) - expit(law.h), expit(-law.h) - expit(-truth.h)
    return primitives.weighted_mean(law.n_trials * np.where(law.h > 0, failures, successes), u)


@mean_shift.register
def _(law: PoissonLaw, truth: PoissonLaw, u: Array) -> Array:
    return _scaled_shift(law.mean, truth.mean, np.expm1(truth.h - law.h), u)


@mean_shift.register
def _(law: NegativeBinomialLaw, truth: NegativeBinomialLaw, u: Array) -> Array:
    return _scaled_shift(law.mean, truth.mean, np.expm1(truth.h - law.h) / truth.success, u)


@mean_shift.register
def _(law: GammaLaw, truth: GammaLaw, u: Array) -> Array:
    return _scaled_shift(law.mean, truth.mean, (law.h - truth.h) / truth.h, u)


@mean_shift.register
def _(law: InverseGaussianLaw, truth: InverseGaussianLaw, u: Array) -> Array:
    return _scaled_shift(law.mean, truth.mean, (law.h - truth.h) / truth.h / (1 + np.sqrt(law.h / truth.h)), u)


def _scaled_shift(mean: Array, true_mean: Array, relative: Array, u: Array) -> Array:
    """Return the shift along u of means whose relative change is known; used where the means nearly agree."""
    apart = true_mean - mean
    close = np.abs(apart) < _CLOSE * mean
    return primitives.weighted_mean(np.where(close, mean * np.where(close, relative, 0), apart), u)


@mean_shift.register
def _(law: GaussianMeanVarianceLaw, truth: GaussianMeanVarianceLaw, u: Array) -> Array:
    apart = (truth.location - law.location)[:, None]
    spread = (truth.variance - law.variance)[:, None]
    return (u[:, 0] + 2 * law.location[:, None] * u[:, 1]) * apart + u[:, 1] * (apart**2 + spread)


@mean_shift.register
def _(law: ProductLaw, truth: ProductLaw, u: Array) -> Array:
    parts = zip(law.parts, truth.parts, law.slices, strict=True)
    return np.stack([mean_shift(part, true_part, u[:, piece]) for part, true_part, piece in parts]).sum(axis=0)
