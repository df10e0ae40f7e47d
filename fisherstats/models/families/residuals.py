r"""Squared residuals in units of their variance, :math:`r^\top I(h)^+r`, and the rank of its covariance.

The inverse is never formed. Each distribution whitens its residual in coordinates without cancellation, and uses logarithms where
the variance underflows, as the quotient may still be representable.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit

from fisherstats.models.families.base import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.counts import NegativeBinomialLaw
from fisherstats.models.families.deviance import log_deviance
from fisherstats.models.families.double_double import two_product
from fisherstats.models.families.gaussian import GaussianLaw
from fisherstats.models.families.independent import BinomialLaw, IndependentLaw, PoissonLaw
from fisherstats.models.families.multinomial import MultinomialLaw
from fisherstats.models.families.polygamma import log_less_psi, polygamma_remainder
from fisherstats.models.families.product import ProductLaw, split_labels
from fisherstats.models.families.two_parameter import GammaShapeRateLaw, GaussianMeanVarianceLaw

__all__ = ["squared_residuals", "varying_numbers"]

Array = NDArray[np.floating]

_TINY = float(np.finfo(np.float64).tiny)


@singledispatch
def varying_numbers(law: Any) -> Array:
    """Return the rank of Cov(t) at every input, (n,): structural, regardless of underflow."""
    known: Law = law
    _, values, _ = _scaled_root(known)
    return _kept(values).sum(axis=1)


@varying_numbers.register
def _(law: CategoricalLaw) -> Array:
    return np.full_like(law.h, law.logits.shape[1] - 1, shape=len(law.h))


@varying_numbers.register
def _(law: MultinomialLaw) -> Array:
    return varying_numbers(law.one)


@varying_numbers.register(IndependentLaw)
@varying_numbers.register(GaussianLaw)
@varying_numbers.register(GaussianMeanVarianceLaw)
@varying_numbers.register(GammaShapeRateLaw)
def _(law: Law) -> Array:
    return np.full_like(law.h, law.h.shape[1], shape=len(law.h))


@varying_numbers.register
def _(law: ProductLaw) -> Array:
    return np.stack([varying_numbers(part) for part in law.parts]).sum(axis=0)


@singledispatch
def squared_residuals(law: Any, y: Array) -> Array:
    r"""Return numbers >= 0 per input, (n, k), that add up to :math:`r^\top I(h)^+r`, for checked labels.

    Infinite where the label is impossible under the distribution. The default uses the singular values of a root of the
    covariance, whose condition number is not squared.
    """
    known: Law = law
    scale, values, right = _scaled_root(known)
    along = np.matmul(right, (known.residual(y) / scale)[:, :, None])[:, :, 0]
    kept = _kept(values)
    return np.square(np.where(kept, along / np.where(kept, values, 1), 0))


def _scaled_root(law: Law) -> tuple[Array, Array, Array]:
    """Return the column norms of a root of Cov(t), (n, T), and singular values and right vectors of the root scaled by them."""
    root = law.own_rows()
    scale = np.linalg.norm(root, axis=1)
    scale = np.where(scale > 0, scale, 1)
    _, values, right = np.linalg.svd(root / scale[:, None, :], full_matrices=False)
    return scale, values, right


def _kept(values: Array) -> Array:
    return values > 16 * values.shape[1] * np.finfo(values.dtype).eps * values[:, :1]


@squared_residuals.register
def _(law: GaussianLaw, y: Array) -> Array:
    return np.square(law.rows((y - law.h).astype(law.h.dtype)[:, :, None])[:, :, 0])


@squared_residuals.register
def _(law: IndependentLaw, y: Array) -> Array:
    residual, variance = law.residual(y), law.variance
    known = variance >= _TINY
    direct = np.square(residual / np.sqrt(np.where(known, variance, 1)))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # a residual of 0, and an impossible label
        log_residual, log_variance = _logarithms(law, y, residual)
        by_logs = np.exp(2 * log_residual - log_variance)
    return np.where(known, direct, by_logs)


@singledispatch
def _logarithms(law: Any, y: Array, residual: Array) -> tuple[Array, Array]:
    """Return the logarithms of the sizes of residual and variance, where the variance may underflow."""
    known: IndependentLaw = law
    return np.log(np.abs(residual)), np.log(known.variance)


@_logarithms.register
def _(law: BinomialLaw, y: Array, residual: Array) -> tuple[Array, Array]:
    n, above, below = law.n_trials, log_expit(law.h), log_expit(-law.h)
    certain = np.where(law.h <= 0, y, n - y) == 0
    rarer = np.where(law.h <= 0, above, below)
    return np.where(certain, math.log(n) + rarer, np.log(np.abs(residual))), math.log(n) + above + below


@_logarithms.register
def _(law: PoissonLaw, y: Array, residual: Array) -> tuple[Array, Array]:
    return np.where(y == 0, law.h, np.log(np.abs(residual))), law.h


@_logarithms.register
def _(law: NegativeBinomialLaw, y: Array, residual: Array) -> tuple[Array, Array]:
    log_mean = math.log(law.n_successes) + law.h - np.log(law.success)
    return np.where(y == 0, log_mean, np.log(np.abs(residual))), log_mean - np.log(law.success)


@squared_residuals.register
def _(law: CategoricalLaw, y: Array) -> Array:
    # sum_k (1[k = y] - p_k)^2 / p_k, a generalised inverse of Cov(t) being diag(1 / p)
    with np.errstate(over="ignore"):
        own = np.square(law.complement) * np.exp(-law.log_p)
    return np.where(law._are(y), own, law.p)


@squared_residuals.register
def _(law: MultinomialLaw, y: Array) -> Array:
    p, rest, n = law.one.p, law.one.complement, law.n_trials
    delta = np.where(p <= 0.5, y - n * p, n * rest - (n - y))
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.square(delta) / n * np.exp(-law.one.log_p)
    return np.where(y == 0, n * p, squares)


@squared_residuals.register
def _(law: GaussianMeanVarianceLaw, y: Array) -> Array:
    # y - mu = (y prec - h_1) / prec, whose two terms may agree in all their leading digits.
    precision = -2 * law.h[:, 1]
    z = _product_less(y[:, 0], precision, law.h[:, 0]) / np.sqrt(precision)
    return np.stack([np.square(z), np.square(z * z - 1) / 2], axis=1)


@squared_residuals.register
def _(law: GammaShapeRateLaw, y: Array) -> Array:
    k = law.shape
    excess = _product_less(y[:, 0], law.rate, k) / k
    log_ratio = np.log(y[:, 0] * law.rate / k)
    of_log = (log_less_psi(k) - log_deviance(np.ones_like(k), excess, log_ratio)) / np.sqrt(polygamma_remainder(1, k))
    return np.stack([np.square(of_log), np.square(excess * np.sqrt(k))], axis=1)


@squared_residuals.register
def _(law: ProductLaw, y: Array) -> Array:
    pieces = split_labels(law.families, y)
    return np.concatenate([squared_residuals(part, piece) for part, piece in zip(law.parts, pieces, strict=True)], axis=1)


def _product_less(a: Array, b: Array, c: Array) -> Array:
    """Return a b - c, accurate where both agree."""
    product, error = two_product(a, b)
    return (product - c) + error
