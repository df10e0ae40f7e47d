r"""Degrees of freedom of the estimated variance of a mean over inputs, when the inputs are a sample.

Law of total variance (Theorem 4.7 of 2024): with n of n_all inputs drawn without replacement and N labels each,
:math:`\mathrm{Var}=\kappa S_x^2/n+E_xV/(Nn)` with :math:`\kappa=1-n/n_{all}`, or 1 for independent inputs. It is estimated by the
mean over inputs of :math:`u_i=\kappa(I_i-\bar I)^2+V_i/N`, over n (up to the divisor n - 1 of the first part): from sampled
inputs, even if the I_i and V_i are exact. `estimator_moments.under_design` computes the variance; this module its accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import double
from fisherstats.theory.assembly import power_of, tiles

__all__ = ["degrees_of_freedom", "deviations", "freedom_of_normal", "interval_ends"]

Array = NDArray[np.floating]
Factors = Sequence[Array | None]


def deviations(
    information: Factors, variances: Sequence[Factors], inputs: Sequence[Array], mean: Sequence[Array], kept: float, n_draws: int
) -> list[Array]:
    r"""Return the sums over inputs of :math:`(I_i-\bar I)^2` and, per estimator, of :math:`u_i^2`, (P,) each.

    `information` and `variances` (of one label) are per unit, `mean` is :math:`\bar I` per layer over all inputs, `kept` the
    finite-population factor of the variance over inputs, 1 - n/n_all.
    """
    columns: list[list[Array]] = [[] for _ in range(1 + len(variances))]
    for layer, h_bar in enumerate(inputs):
        power, centre = power_of(double(h_bar), 2), mean[layer]
        sums = np.zeros_like(power, shape=(1 + len(variances), *centre.shape))
        units = information[layer]
        units = np.zeros_like(power, shape=(len(power), len(centre))) if units is None else double(units)
        for tile in tiles(units, power):
            h2 = power[:, None, tile[1]]
            squares = np.square(units[:, tile[0], None] * h2 - centre[tile])
            sums[0][tile] = squares.sum(axis=0)
            for number, factors in enumerate(variances, 1):
                one = factors[layer]
                labels = 0.0 if one is None else double(one)[:, tile[0], None] * (np.square(h2) / n_draws)
                sums[number][tile] = np.square(kept * squares + labels).sum(axis=0)
        for column, total in zip(columns, sums, strict=True):
            column.append(total.ravel())
    return [np.concatenate(column) for column in columns]


def degrees_of_freedom(mean: Array, squares: Array, sampled: Array, n_inputs: int, kept: float) -> Array:
    r"""Return :math:`\nu=2\bar u^2/\widehat{\mathrm{Var}}(\bar u)` of the variance estimate :math:`\bar u/n` (Satterthwaite).

    `mean` is :math:`\bar u`, `squares` the mean of :math:`u_i^2`. Less than n for values with heavy tails, very large where all
    inputs agree or the sample is the whole population. At most that of normal values, for which the `sampled` part of the mean is
    the variance over inputs: small samples underrepresent outliers.
    """
    spread = kept * np.maximum(squares - np.square(mean), np.finfo(np.float64).eps * squares) / max(n_inputs - 1, 1)
    certain = spread <= 0
    own = np.where(certain, np.inf, 2 * np.square(mean) / np.where(certain, 1, spread))
    return np.minimum(own, freedom_of_normal(mean, sampled, n_inputs))


def freedom_of_normal(variance: Array, sampled: Array, n_inputs: int) -> Array:
    r"""Return :math:`(n-1)(\mathrm{Var}/B)^2`, B the `sampled` part of the variance, over inputs of normal values (Welch)."""
    certain = sampled <= 0
    return np.where(certain, np.inf, (n_inputs - 1) * np.square(variance / np.where(certain, 1, sampled)))


def interval_ends(estimate: Array, error: Array, quantile: Array, skewed: Array | None) -> tuple[Array, Array]:
    r"""Return the limits of a confidence interval for the value over all inputs, from a sample.

    A diagonal entry is a mean of numbers of at least 0, mostly skewed to the right: its error is estimated too small where the
    estimate is too small. On the log scale, :math:`\hat I\exp(\pm q\,se/\hat I)`, this is corrected to first order. In general,
    with c = `skewed` the part of the error with this property and :math:`a=c\,q\,se/\hat I`, the limits are
    :math:`\hat I+q\,se(e^a-1)/a` and :math:`\hat I-q\,se(1-e^{-a})/a`; where `skewed` is None, and for estimates that are not
    positive, :math:`\hat I\pm q\,se`. An entry with neither value nor error in the sample is only known to be at least 0. The
    limits allow for the rounding of the means.
    """
    reach = quantile * error + 4 * np.finfo(estimate.dtype).eps * np.abs(estimate)
    if skewed is None:
        return estimate - reach, estimate + reach
    a = np.where(estimate > 0, skewed * reach / np.where(estimate > 0, estimate, 1), 0)
    bent = a > 1e-6
    a = np.where(bent, a, 1)
    with np.errstate(over="ignore"):
        lower = estimate - reach * np.where(bent, -np.expm1(-a) / a, 1)
        upper = estimate + reach * np.where(bent, np.expm1(a) / a, 1)
    return lower, np.where((estimate == 0) & (error == 0), np.inf, upper)
