r"""The best linear combination of the two estimators from the same labels, entry by entry.

The Hessian estimator is regressed on the score estimator.  With :math:`V_1` the variance of the score estimator, :math:`m` the
slope of the regression and :math:`R` its residual variance, :math:`V_2=m^2V_1+R` and :math:`C_{12}=mV_1`, and every
quantity of the combination is a sum of non-negative terms; :math:`V_1V_2-C_{12}^2`, which vanishes for two classes, is never
formed.  Sums over inputs keep this form: a weighted mean of slopes and a weighted sum of their squared deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import double
from fisherstats.models.families import Law
from fisherstats.models.families.quadratic_and_linear import combined_variance
from fisherstats.theory.assembly import outer_sum, tiles

__all__ = ["Regression", "combination", "merge_regressions", "regression_factors", "regression_sums"]

Array = NDArray[np.floating]

_ROUNDING = 64
"""Units of rounding allowed in the slope of a regression."""


@dataclass(frozen=True)
class Regression:
    """Regression of the Hessian estimator on the score estimator, for one label: arrays of one shape."""

    variance: Array
    """V_1, the variance of the score estimator."""
    slope: Array
    """m = C_12 / V_1; 0 where V_1 is 0."""
    rest: Array
    """R = V_2 - C_12^2 / V_1, without that subtraction."""


def regression_factors(law: Law, G: Sequence[Array | None], S: Sequence[Array | None]) -> list[Regression]:
    r"""Return the regression per unit of each layer, (n, units): times :math:`\bar h^4` it is that of a diagonal entry.

    :math:`R=\mathrm{Var}(m\,(g^\top r)^2+s^\top r)`, with g = G_l[:,o], s = S_l[:,o]: the variance of the combined statistic.
    G of the last layer may be None, for the identity.
    """
    regressions = []
    for G_l, S_l in zip(G, S, strict=True):
        variance = law.own_square_variance() if G_l is None else law.square_variance(G_l)
        if S_l is None or G_l is None:
            regressions.append(Regression(variance, np.zeros_like(variance), np.zeros_like(variance)))
            continue
        covariance = -law.third_moment(G_l, S_l)
        slope = _ratio(covariance, variance)
        sign = np.where(slope < 0, -1, 1).astype(slope.dtype)
        # m q^2 + s and |m| q^2 + sign(m) s have one variance, and |m| goes into the direction of q.
        scaled = np.sqrt(np.abs(slope))[:, None, :] * G_l
        regressions.append(Regression(variance, slope, combined_variance(law, scaled, sign[:, None, :] * S_l)))
    return regressions


def regression_sums(regressions: Sequence[Regression], inputs: Sequence[Array]) -> list[Array]:
    r"""Return [sum V_1, slope, R] of the sums over inputs of :math:`\bar h^4` times the regressions, (P,) each.

    The sums regress on each other with the mean slope, weighted by V_1, with residual variance
    :math:`\sum R_i+\sum V_{1,i}(m_i-m)^2`.
    """
    totals, slopes, rests = [], [], []
    for one, h_bar in zip(regressions, inputs, strict=True):
        power = double(h_bar) ** 4
        variance, each = double(one.variance), double(one.slope)
        rest = outer_sum(one.rest, power).reshape(variance.shape[1], -1)
        total, slope = np.empty_like(rest), np.empty_like(rest)
        for tile in tiles(variance, power):
            weight, own = variance[:, tile[0], None] * power[:, None, tile[1]], each[:, tile[0], None]
            total[tile] = weight.sum(axis=0)
            slope[tile] = _ratio((weight * own).sum(axis=0), total[tile])
            weight *= np.square(own - slope[tile])
            rest[tile] += weight.sum(axis=0)
        totals.append(total.ravel())
        slopes.append(slope.ravel())
        rests.append(rest.ravel())
    return [np.concatenate(totals), np.concatenate(slopes), np.concatenate(rests)]


def merge_regressions(total: list[Array], part: list[Array]) -> None:
    """Merge [sum V_1, slope, R] of two groups of inputs into `total`; further arrays are plain sums."""
    (weight, slope, rest), (part_weight, part_slope, part_rest) = total[:3], part[:3]
    shift = part_slope - slope
    share = _ratio(part_weight, weight + part_weight)
    rest += part_rest + np.square(shift) * weight * share
    slope += shift * share
    weight += part_weight
    for into, array in zip(total[3:], part[3:], strict=True):
        into += array


def _ratio(numerator: Array, denominator: Array) -> Array:
    possible = denominator > 0
    return np.where(possible, numerator / np.where(possible, denominator, 1), 0)


def combination(regression: Regression, dtype: np.dtype[np.floating]) -> tuple[Array, Array]:
    r"""Return :math:`\alpha^*=(V_2-C_{12})/(V_1+V_2-2C_{12})` and the variance of :math:`\alpha\hat I_1+(1-\alpha)\hat I_2`.

    In terms of the regression :math:`V_1+V_2-2C_{12}=V_1(1-m)^2+R=D`, :math:`V_2-C_{12}=R-V_1m(1-m)`, and the smallest variance
    is :math:`V_1R/D`. Where D is 0, to the square of a rounding error in `dtype`, that of the moments, the estimators differ by
    a constant, and alpha is 1/2.
    """
    V_1, m = regression.variance, regression.slope
    rounding = (_ROUNDING * np.finfo(dtype).eps) ** 2
    # Below the square of the rounding error of the slope, R is indistinguishable from zero (two classes, one input: exactly 0).
    R = np.where(regression.rest > rounding * m**2 * V_1, regression.rest, 0)
    apart = 1 - m
    D = V_1 * apart**2 + R
    different = rounding * (V_1 + m**2 * V_1) < D
    D = np.where(different, D, 1)
    alpha = np.where(different, (R - V_1 * m * apart) / D, 0.5)
    equal = V_1 * np.square((1 + m) / 2) + R / 4
    return alpha, np.where(different, V_1 * (R / D), equal)
