r"""The variance of a square plus a linear form, :math:`\mathrm{Var}((u^\top\delta)^2+s^\top\delta)`, for every distribution.

Where the two parts nearly cancel, the result is lost in the rounding of their variances and covariance: each distribution
therefore writes the sum so that it vanishes with its terms. Errors are of the order of the *square* of a rounding error of the
parts.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import like
from fisherstats.engines import primitives
from fisherstats.models.families.base import Law
from fisherstats.models.families.block_moments import BlockMoments
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.counts import NegativeBinomialLaw
from fisherstats.models.families.draws import _root as matrix_root
from fisherstats.models.families.gaussian import GaussianLaw
from fisherstats.models.families.independent import BinomialLaw, IndependentLaw, PoissonLaw
from fisherstats.models.families.moments import CumulantMoments, MomentLaw
from fisherstats.models.families.multinomial import MultinomialLaw
from fisherstats.models.families.positive import GammaLaw, InverseGaussianLaw

__all__ = ["combined_variance"]

Array = NDArray[np.floating]


@singledispatch
def combined_variance(law: Any, u: Array, s: Array) -> Array:
    r"""Return :math:`\mathrm{Var}((u^\top\delta)^2+s^\top\delta)` for each pair of columns of u and s (n, T, k), shape (n, k).

    The default is the sum of the moments, which may cancel.
    """
    known: Law = law
    total: Array = known.square_variance(u) + 2 * known.third_moment(u, s) + known.diagonal(s)
    return np.maximum(total, 0)


@combined_variance.register
def _(law: CategoricalLaw, u: Array, s: Array) -> Array:
    return _of_classes(law, u, s)


def _of_classes(law: CategoricalLaw, u: Array, s: Array) -> Array:
    """Return the variance over classes of q_k(u)^2 + q_k(s)."""
    values = law.centred(u)
    values *= values
    values += law.centred(s)
    return primitives.weighted_square(law.p, primitives.centred(law.p, values))


@combined_variance.register
def _(law: MultinomialLaw, u: Array, s: Array) -> Array:
    # Products of two different trials are uncorrelated with every function of one trial.
    pairs = 2 * (law.n_trials - 1) * law.one.diagonal(u) ** 2
    return law.n_trials * (_of_classes(law.one, u, s) + pairs)


@combined_variance.register
def _(law: GaussianLaw, u: Array, s: Array) -> Array:
    return law.square_variance(u) + law.diagonal(s)


@combined_variance.register
def _(law: IndependentLaw, u: Array, s: Array) -> Array:
    # Regress each delta_a^2 on delta_a; products of two outputs are uncorrelated with both.
    slope, rest = square_regression(law)
    square = u * u
    linear = square * slope[:, :, None] + s
    own = primitives.weighted_mean(rest, square * square) + primitives.weighted_mean(law.variance, linear * linear)
    return own + 4 * primitives.pair_sum(law.variance[:, :, None] * square)


@singledispatch
def square_regression(law: Any) -> tuple[Array, Array]:
    r"""Return slope :math:`\kappa_3/I` and rest :math:`M-\kappa_3^2/I` of the regression of delta^2 on delta, (n, T) each.

    The rest is the gap of Pearson's inequality for Var(delta^2). The default is a difference.
    """
    known: IndependentLaw = law
    variance = known.variance
    slope = np.where(variance > 0, known.third_cumulant / np.where(variance > 0, variance, 1), 0)
    return slope, np.maximum(known.variance_of_square - slope * known.third_cumulant, 0)


@square_regression.register
def _(law: BinomialLaw) -> tuple[Array, Array]:
    return np.tanh(-law.h / 2), 2 * (1 - 1 / law.n_trials) * law.variance**2


@square_regression.register
def _(law: PoissonLaw) -> tuple[Array, Array]:
    return np.ones_like(law.mean), 2 * law.mean**2


@square_regression.register
def _(law: GammaLaw) -> tuple[Array, Array]:
    return 2 * law.scale, 2 * law.shape * (law.shape + 1) * law.scale**4


@square_regression.register
def _(law: NegativeBinomialLaw) -> tuple[Array, Array]:
    return (1 + law.failure) / law.success, 2 * (1 + 1 / law.n_successes) * law.variance**2


@square_regression.register
def _(law: InverseGaussianLaw) -> tuple[Array, Array]:
    spread = law.mean / law.shape
    return 3 * law.mean * spread, law.variance**2 * (2 + 6 * spread)


@combined_variance.register
def _(law: MomentLaw, u: Array, s: Array) -> Array:
    return combined_variance(law.moments, law._along(u), law._along(s))


@combined_variance.register
def _(moments: BlockMoments, u: Array, s: Array) -> Array:
    own = moments.each(combined_variance, u, s)
    return own.sum(axis=1) + 4 * primitives.pair_sum(moments.each(lambda block, u_b: block.diagonal(u_b), u))


@combined_variance.register
def _(moments: CumulantMoments, u: Array, s: Array) -> Array:
    """Return the squared length of a root of Cov(products e_a e_b and e) along both, so that it cannot be negative."""
    size = moments.second.shape[1]
    rows, columns = np.triu_indices(size)
    mixed = np.einsum("nac,nbd->nabcd", moments.second, moments.second)
    of_squares = (moments.fourth + mixed + mixed.swapaxes(3, 4))[:, rows, columns][:, :, rows, columns]
    across = moments.third[:, rows, columns]
    joint = np.concatenate(
        [np.concatenate([of_squares, across], axis=2), np.concatenate([across.swapaxes(1, 2), moments.second], axis=2)], axis=1
    )
    products = u[:, rows] * u[:, columns] * like(np.where(rows == columns, 1.0, 2.0).astype(u.dtype), u)[:, None]
    along = np.matmul(matrix_root(joint), np.concatenate([products, s], axis=1))
    return np.einsum("nrk,nrk->nk", along, along)
