"""Layer table of a study: size of each layer's information, and draws that its estimates need."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from fisherstats.quantities import _labels
from fisherstats.theory import sample_size

__all__ = ["draws_needed", "layers", "relative_error"]

Array = NDArray[np.floating]


def relative_error(variance: Array, information: Array) -> NDArray[np.float64]:
    r"""Return :math:`\sqrt V/I`, NaN where the information is zero: such entries do not count in a median."""
    return np.where(information > 0, sample_size.relative_error(variance, np.broadcast_to(information, variance.shape)), np.nan)


def draws_needed(error: Array, target: float) -> NDArray[np.float64]:
    r"""Return :math:`N=\lceil V/(\tau^2I^2)\rceil`, at least 1, from the relative error :math:`\sqrt V/I` at one draw.

    A standard error decreases as :math:`1/\sqrt N`, so N draws reduce it to the target :math:`\tau` (2024, Lemma 3.1).
    """
    return np.where(
        np.isnan(error), np.nan, sample_size.draws_needed(np.square(error), np.zeros_like(error), np.asarray(target**2))
    )


def expected_ratio(replicates: int) -> NDArray[np.float64]:
    r"""Return the 95 % range of observed over closed-form standard error, :math:`\sqrt{\chi^2_R/R}`.

    For normal estimates. The observed one has all R degrees of freedom because deviations are from the exact information, which
    is known.
    """
    return np.sqrt(stats.chi2.ppf([0.025, 0.975], replicates) / replicates)


def _medians(values: Array, layer: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the median over each layer's finite entries, (estimator, layer); NaN if there are none."""
    medians = np.full((len(values), layer.max() + 1), np.nan)
    for estimator, row in enumerate(values):
        for one in range(layer.max() + 1):
            finite = row[(layer == one) & np.isfinite(row)]
            if finite.size:
                medians[estimator, one] = np.median(finite)
    return medians


def layers(
    *,
    information: xr.DataArray,
    variance: xr.Dataset,
    layer_variance: xr.Dataset,
    bounds: xr.Dataset,
    observed: Array,
    n_draws: tuple[int, ...],
    replicates: int,
    target: float,
    provenance: dict[str, Any],
) -> xr.Dataset:
    """Return the table behind the report: every quantity that has one number per layer.

    Parameters
    ----------
    information : DataArray, dims (param,)
        Exact diagonal information.
    variance, layer_variance : Dataset
        Variances at one draw per input, of each parameter and of each layer's mean entry.
    bounds : Dataset
        Certified bounds of the variance of each parameter.
    observed : ndarray, shape (estimator, n_draws, layer)
        Observed standard errors of the layers' mean entries.
    n_draws : tuple of int
        Draws per input.
    replicates : int
        Number of replicates behind the observed standard errors.
    target : float
        Target relative standard error.
    provenance : dict
        Attached to every variable.

    Returns
    -------
    Dataset
        Dims (estimator, n_draws, layer).
    """
    layer = information["param_layer"].values
    size = np.bincount(layer)
    exact = information.values
    mean = np.bincount(layer, weights=exact) / size
    group = layer_variance["variance"].transpose("estimator", "layer").values
    mean_error = relative_error(group, mean)
    median_error = _medians(relative_error(variance["variance"].transpose("estimator", "param").values, exact), layer)
    by_side = {side: bounds[side].transpose("estimator", "param").values for side in ("lower", "exact", "upper")}
    positive = by_side["exact"] > 0
    tightness = {
        side: np.divide(by_side[side], by_side["exact"], out=np.full(positive.shape, np.nan), where=positive)
        for side in ("lower", "upper")
    }
    pair = ["estimator", "layer"]
    entries: list[_labels.Entry] = [
        ("information_group", ["layer"], mean),
        ("layer_size", ["layer"], size),
        ("layer_informed", ["layer"], np.bincount(layer, weights=exact > 0).astype(np.int64)),
        ("variance_group", pair, group),
        ("layer_mean_error", pair, mean_error),
        ("layer_median_error", pair, median_error),
        ("draws_for_mean", pair, draws_needed(mean_error, target)),
        ("draws_for_median", pair, draws_needed(median_error, target)),
        ("lower_tightness", pair, _medians(tightness["lower"], layer)),
        ("upper_tightness", pair, _medians(tightness["upper"], layer)),
        (
            "layer_standard_error",
            ["estimator", "n_draws", "layer"],
            np.sqrt(group[:, None, :] / np.array(n_draws, float)[:, None]),
        ),
        ("layer_observed_error", ["estimator", "n_draws", "layer"], observed),
        ("expected_ratio", ["side"], expected_ratio(replicates)),
    ]
    coords = _labels.layer_coordinates(len(size)) | _labels.coordinates(
        estimator=list(variance["estimator"].values), n_draws=np.array(n_draws), side=["lower", "upper"]
    )
    table = _labels.dataset(entries, coords, provenance)
    table.attrs |= {"target_standard_error": target, "replicates": replicates}
    return table
