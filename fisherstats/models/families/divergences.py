r"""Kullback-Leibler divergence within one family, :math:`F(h')-F(h)-(h'-h)^\top\eta(h)`, as a sum of positive terms.

Nothing is drawn, and no large terms are subtracted: the result is accurate for nearly equal distributions and large parameters.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from fisherstats.models.families.base import Family, Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.counts import NegativeBinomialLaw
from fisherstats.models.families.deviance import (
    class_deviance,
    failure_deviance,
    gamma_excess,
    log_deviance,
    log_success,
    relative_excess,
)
from fisherstats.models.families.dirichlet import DirichletLaw
from fisherstats.models.families.double_double import exact_difference
from fisherstats.models.families.gaussian import GaussianLaw
from fisherstats.models.families.independent import BinomialLaw, PoissonLaw
from fisherstats.models.families.multinomial import MultinomialLaw
from fisherstats.models.families.positive import GammaLaw, InverseGaussianLaw
from fisherstats.models.families.product import ProductLaw
from fisherstats.models.families.two_parameter import GammaShapeRateLaw, GaussianMeanVarianceLaw
from fisherstats.models.families.user import LogPartitionFamily, LogPartitionLaw

__all__ = ["divergence"]

Array = NDArray[np.floating]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_CANCELLED = 1e-3
"""Below this fraction of its terms a difference has lost too many digits."""
_DEEPEST, _MOST_PANELS = 40, 64


@singledispatch
def divergence(law: Any, family: Family, other: Array) -> Array:
    r"""Return :math:`\mathrm{KL}[p_h\|p_{h'}]`, (n,), for h' in `other` (n, T) of float64, as the law is; on the host.

    Without a closed form it is an integral of the information.
    """
    known: Law = law
    return _integral(family, known.h, other)


def _integral(family: Family, h: Array, other: Array, tolerance: float = 1e-13) -> Array:
    r"""Return :math:`\int_0^1(1-t)\,s^\top I(h+ts)\,s\,dt`, s = h' - h, by panels that are halved as needed."""
    n, step = len(h), other - h

    def panels(rows: NDArray[np.intp], left: Array, width: Array) -> Array:
        t = left[:, None] + width[:, None] * (1 + _NODES) / 2
        points = (h[rows, None] + t[:, :, None] * step[rows, None]).reshape(-1, h.shape[1])
        along = np.repeat(step[rows], len(_NODES), axis=0)[:, :, None]
        squares = family.at(points).diagonal(along)[:, 0].reshape(t.shape)
        return width / 2 * (((1 - t) * squares) @ _WEIGHTS)

    rows, left, width = np.arange(n), np.zeros(n), np.ones(n)
    value, total = panels(rows, left, width), np.zeros(n)
    for _ in range(_DEEPEST):
        halves, starts = np.repeat(rows, 2), np.stack([left, left + width / 2], axis=1).ravel()
        widths = np.repeat(width / 2, 2)
        finer = panels(halves, starts, widths)
        sums = finer.reshape(-1, 2).sum(axis=1)
        whole = total + np.bincount(rows, sums, n)
        rough = np.abs(sums - value) > tolerance * whole[rows]
        if not rough.any() or len(rows) > _MOST_PANELS * n:
            return whole
        total = total + np.bincount(rows[~rough], sums[~rough], n)
        kept = np.repeat(rough, 2)
        rows, left, width, value = halves[kept], starts[kept], widths[kept], finer[kept]
    return whole


def _log_ratio(new: Array, old: Array, step: Array) -> Array:
    """Return log(new / old) of positive numbers, for step = new - old."""
    near = np.abs(step) <= old / 2
    return np.where(near, np.log1p(np.where(near, step / old, 0.0)), np.log(new) - np.log(old))


@divergence.register
def _(law: PoissonLaw, family: Family, other: Array) -> Array:
    return relative_excess(law.mean, np.exp(other), other - law.h).sum(axis=1)


@divergence.register
def _(law: BinomialLaw, family: Family, other: Array) -> Array:
    h, step = law.h, other - law.h
    p, near = np.stack([expit(h), expit(-h)], axis=-1), np.abs(step) <= 1
    close = np.log1p(p[..., 0] * np.expm1(np.where(near, step, 0.0)))
    constant = np.where(near, close, log_expit(-h) - log_expit(-other))
    steps = np.stack([step - constant, -constant], axis=-1)
    return law.n_trials * class_deviance(p, np.stack([expit(other), expit(-other)], axis=-1), steps, 1.0).sum(axis=1)


@divergence.register
def _(law: NegativeBinomialLaw, family: Family, other: Array) -> Array:
    log_ratio = log_success(other) - log_success(law.h)
    expected = law.n_successes * np.exp(other) / law.success
    return failure_deviance(law.mean, law.n_successes, other - law.h, log_ratio, expected).sum(axis=1)


@divergence.register
def _(law: GammaLaw, family: Family, other: Array) -> Array:
    step = other - law.h
    log_ratio = _log_ratio(-other, -law.h, -step)
    return log_deviance(np.full_like(step, law.shape), law.shape * (step / law.h), log_ratio).sum(axis=1)


@divergence.register
def _(law: InverseGaussianLaw, family: Family, other: Array) -> Array:
    # lambda / (2 mu) (1 - mu / mu')^2 with mu / mu' = sqrt(h' / h)
    apart = (other - law.h) / law.h / (1 + np.sqrt(other / law.h))
    return (law.shape / (2 * law.mean) * np.square(apart)).sum(axis=1)


@divergence.register
def _(law: GaussianLaw, family: Family, other: Array) -> Array:
    return law.diagonal((other - law.h)[:, :, None])[:, 0] / 2


@divergence.register
def _(law: GaussianMeanVarianceLaw, family: Family, other: Array) -> Array:
    (slope, minus), (slope_other, minus_other) = law.h.T, other.T
    # mu' - mu = (h_1 h_2' - h_1' h_2) / (2 h_2 h_2')
    apart = exact_difference(slope, minus_other, slope_other, minus) / (2 * minus)
    step = minus_other - minus
    of_variance = log_deviance(np.ones_like(step), step / minus, _log_ratio(-minus_other, -minus, -step)) / 2
    return of_variance - apart * (apart / minus_other)


@divergence.register
def _(law: GammaShapeRateLaw, family: Family, other: Array) -> Array:
    (shape, minus_rate), (shape_other, minus_other) = law.h.T, other.T
    step, rate_step = shape_other - shape, minus_rate - minus_other
    # k' (x - log(1 + x)) with 1 + x the ratio of the means, and the contribution of the shapes alone
    apart = exact_difference(shape, minus_other, shape_other, minus_rate) / minus_rate
    log_ratio = _log_ratio(-minus_other, -minus_rate, rate_step) - _log_ratio(shape_other, shape, step)
    return log_deviance(shape_other, apart, log_ratio) + gamma_excess(shape, shape_other, step)


@divergence.register
def _(law: CategoricalLaw, family: Family, other: Array) -> Array:
    away = type(law)(other, law.minimal)
    step = away.logits - law.logits
    step = step - np.take_along_axis(step, law.top[:, None], axis=1)
    near = np.abs(step).max(axis=1, keepdims=True) <= 1
    close = np.log1p((law.p * np.expm1(np.where(near, step, 0.0))).sum(axis=1, keepdims=True))
    logs = law.log_p + step
    largest = logs.max(axis=1, keepdims=True)
    far = largest + np.log(np.exp(logs - largest).sum(axis=1, keepdims=True))
    return class_deviance(law.p, away.p, step - np.where(near, close, far), 1.0)


@divergence.register
def _(law: MultinomialLaw, family: Family, other: Array) -> Array:
    return law.n_trials * divergence(law.one, family, other)


@divergence.register
def _(law: DirichletLaw, family: Family, other: Array) -> Array:
    alpha, step = law.alpha, other - law.alpha
    whole, whole_other, whole_step = alpha.sum(axis=1), other.sum(axis=1), step.sum(axis=1)
    steps = _log_ratio(whole_other, whole, whole_step)[:, None] - _log_ratio(other, alpha, step)
    # the reverse divergence of the mean proportions, and the contribution of the concentrations alone
    of_means = class_deviance(other, alpha * (whole_other / whole)[:, None], steps, whole_other)
    of_parts = gamma_excess(alpha, other, step).sum(axis=1)
    of_whole = gamma_excess(whole, whole_other, whole_step)
    total: Array = of_means + (of_parts - of_whole)
    cancelled = total <= _CANCELLED * of_parts
    if cancelled.any():
        total[cancelled] = _integral(family, law.h[cancelled], other[cancelled])
    return total


@divergence.register
def _(law: ProductLaw, family: Any, other: Array) -> Array:
    parts = zip(law.parts, family.families, law.slices, strict=True)
    return np.stack([divergence(part, one, other[:, piece]) for part, one, piece in parts]).sum(axis=0)


@divergence.register
def _(law: LogPartitionLaw, family: LogPartitionFamily, other: Array) -> Array:
    step = other - law.h
    terms = np.real(np.stack([family.log_partition(other), -family.log_partition(law.h), -(step * law.mean).sum(axis=1)]))
    total: Array = terms.sum(axis=0)
    cancelled = total <= _CANCELLED * np.abs(terms).sum(axis=0)
    if cancelled.any():
        tolerance = max(1e-12, law.accuracy[2])
        total[cancelled] = _integral(family, law.h[cancelled], other[cancelled], tolerance)
    return total
