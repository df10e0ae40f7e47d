"""Figures of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.validation import figures
from fisherstats.core.validation.arguments import optional_module
from fisherstats.plotting.style import COLOUR, LAYER_STYLES, NOTE_BOX, TITLE, boxes, by_layer, ends, log_axis, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["bound_tightness", "information_by_layer", "relative_error_by_layer", "standard_error_by_draws"]

_INFORMATION = figures.Drawn(
    "information",
    "the diagonal that `fisherstats.fisher_information` returns",
    {"information": ("param",)},
    beside={"param_layer": "param"},
    source="information",
)
_LAYERS = figures.Drawn(
    "layers",
    "the group `layers` of a study",
    {
        "information": ("layer",),
        "standard_error": ("estimator", "n_draws", "layer"),
        "observed_standard_error": ("estimator", "n_draws", "layer"),
        "expected_ratio": ("side",),
    },
    fewest={"side": 2},
)
_RELATIVE_ERROR = figures.Drawn(
    "relative_error",
    "the relative error of a study, or the root of the result of `fisherstats.estimator_variance` over the information",
    {"relative_error": ("estimator", "param")},
    beside={"param_layer": "param"},
)
_BOUNDS = figures.Drawn(
    "bounds",
    "the result of `fisherstats.variance_bounds`",
    dict.fromkeys(("exact", "lower", "upper"), ("estimator", "param")),
    beside={"param_layer": "param"},
)


@styled
def information_by_layer(information: xr.DataArray) -> Figure:
    """Plot the distribution of the exact diagonal information over the parameters of each layer.

    Parameters
    ----------
    information : DataArray, dims (param,)
        The diagonal of the Fisher information.

    Returns
    -------
    matplotlib.figure.Figure
        A box per layer over its positive entries, and a diamond at the mean of all its entries.
    """
    information = figures.drawable(information, xr.DataArray, _INFORMATION)
    layers = information["param_layer"].values
    numbers = np.unique(layers).tolist()
    groups = [information.values[layers == layer] for layer in numbers]
    figure, (panel,) = new_figure(1.5 + 0.55 * len(groups))
    positive = [group[group > 0] for group in groups]
    boxes(panel, positive, range(len(groups)), 0.5, "#0072B2")
    informed = [row for row, group in enumerate(positive) if group.size]
    means = [groups[row].mean() for row in informed]
    panel.plot(means, informed, "D", color="black", markersize=6, label="mean entry")
    # An axis without a positive number cannot be logarithmic.
    panel.set_xscale("log" if informed else "linear")
    panel.set_xlabel("exact Fisher information of a parameter")
    by_layer(panel, numbers)
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


@styled
def standard_error_by_draws(layers: xr.Dataset) -> Figure:
    """Plot closed-form and observed relative standard errors of each layer's mean entry against the number of draws.

    Parameters
    ----------
    layers : Dataset
        ``information(layer)``, ``standard_error`` and ``observed_standard_error(estimator, n_draws, layer)``,
        ``expected_ratio(side)`` and the attribute ``target_standard_error``.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per estimator: lines are closed forms, marks are observed values with bars of which 95 %
        should overlap the line. A layer whose error is exactly zero is named in the panel.
    """
    target = figures.attribute(layers, "target_standard_error", _LAYERS) if isinstance(layers, xr.Dataset) else 0.0
    layers = figures.drawable(layers, xr.Dataset, _LAYERS)
    draws = layers["n_draws"].values
    n_estimators = layers.sizes["estimator"]
    figure, panels = new_figure(0.8 + 3.2 * n_estimators, rows=n_estimators, sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    drawn = [target]
    for panel, estimator in zip(panels, layers["estimator"].values, strict=True):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_autoscaley_on(False)
        exact = []
        for layer in layers["layer"].values:
            one = layers.sel(estimator=estimator, layer=layer)
            scale = float(one["information"])
            expected, observed = one["standard_error"].values, one["observed_standard_error"].values
            if scale > 0 and expected.any():
                handles[f"layer {layer}"] = _against_draws(panel, int(layer), draws, expected / scale, observed / scale, one)
                drawn += [*(expected / scale), *(observed / scale)]
            elif scale > 0:
                exact.append(str(layer))
        panel.axhline(target, color="black", linewidth=0.9, linestyle=(0, (1, 2)))
        panel.annotate(
            f"target {100 * target:.3g} %",
            (1.0, target),
            xycoords=("axes fraction", "data"),
            va="bottom",
            ha="right",
            size=10,
            zorder=1,
            bbox=NOTE_BOX,
        )
        panel.set_title(f"{TITLE[str(estimator)]} estimator", loc="left", color=COLOUR[str(estimator)])
        panel.set_ylabel("relative standard error")
        if exact:
            named = f"layer{'s' if len(exact) > 1 else ''} {', '.join(exact)}: exactly 0"
            panel.annotate(named, (0.03, 0.05), xycoords="axes fraction", size=10)
        low, high = ends(drawn)
        log_axis(panel.yaxis, low, high, percent=True)
        panel.set_ylim(0.7 * low, 1.4 * high)
    panels[-1].set_xticks(draws, [f"{count:,}" for count in draws])
    panels[-1].minorticks_off()
    panels[-1].set_xlabel("draws per input, N")
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), 4))
    return figure


def _against_draws(
    panel: Axes, layer: int, draws: NDArray[Any], expected: NDArray[Any], observed: NDArray[Any], layers: xr.Dataset
) -> Any:
    """Plot one layer's line and marks, and return the marks for the legend."""
    colour, marker, line = LAYER_STYLES[layer % len(LAYER_STYLES)]
    panel.plot(draws, expected, line, color=colour, linewidth=1.4)
    # observed / closed form is in [low, high] with probability 95 %, so the closed form is in [observed/high, observed/low].
    low, high = layers["expected_ratio"].values.min(), layers["expected_ratio"].values.max()
    return panel.errorbar(
        draws,
        observed,
        np.maximum([observed - observed / high, observed / low - observed], 0),
        fmt=marker,
        color=colour,
        markersize=5,
        capsize=2.5,
    )


@styled
def relative_error_by_layer(relative_error: xr.DataArray) -> Figure:
    """Plot the distribution of the relative standard error at one draw per input over the parameters of each layer.

    Parameters
    ----------
    relative_error : DataArray, dims (estimator, param)
        Standard error over information; NaN where the information is zero.

    Returns
    -------
    matplotlib.figure.Figure
        A box per layer and estimator over the positive errors; the number of errors that are exactly zero is given as text.
    """
    relative_error = figures.drawable(relative_error, xr.DataArray, _RELATIVE_ERROR)
    return _paired_boxes(
        {str(name): relative_error.sel(estimator=name).values for name in relative_error["estimator"].values},
        relative_error["param_layer"].values,
        "relative standard error at 1 draw per input",
        "exactly 0",
        percent=True,
    )


@styled
def bound_tightness(bounds: xr.Dataset) -> Figure:
    """Plot the tightness of the certified bounds relative to the exact variance in each layer.

    Parameters
    ----------
    bounds : Dataset
        ``exact``, ``lower`` and ``upper``, each (estimator, param).

    Returns
    -------
    matplotlib.figure.Figure
        Boxes of lower/exact (left of 1) and upper/exact (right of 1) where the exact variance is positive.
    """
    bounds = figures.drawable(bounds, xr.Dataset, _BOUNDS)
    values: dict[str, NDArray[Any]] = {}
    for name in bounds["estimator"].values:
        one = bounds.sel(estimator=name)
        exact = np.where(one["exact"].values > 0, one["exact"].values, np.nan)
        # A column per side; a lower bound of 0 cannot be shown on a log axis and is omitted, as stated in the caption.
        values[str(name)] = np.stack([one["lower"].values / exact, one["upper"].values / exact], axis=-1)
    return _paired_boxes(values, bounds["param_layer"].values, "bound / exact variance", "variance exactly 0", reference=1.0)


def _paired_boxes(
    values: dict[str, NDArray[Any]],
    layers: NDArray[Any],
    label: str,
    nothing: str,
    reference: float | None = None,
    percent: bool = False,
) -> Figure:
    """Plot a row of boxes per layer and estimator; `values` is (param,) or (param, side)."""
    rows = np.unique(layers).tolist()
    figure, (panel,) = new_figure(1.6 + 0.8 * len(rows))
    offsets = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [0.0]
    drawn = [] if reference is None else [reference]
    for (name, numbers), offset in zip(values.items(), offsets, strict=True):
        columns = numbers if numbers.ndim == 2 else numbers[:, None]
        for row, layer in enumerate(rows):
            sides = [column[np.isfinite(column) & (column > 0)] for column in columns[layers == layer].T]
            boxes(panel, sides, [row + offset] * len(sides), 0.3, COLOUR[name])
            drawn += [end for side in sides if side.size for end in np.percentile(side, [5, 95])]
            if not any(side.size for side in sides):
                place = (0.02, row + offset)
                text = f"{TITLE[name]}: {nothing}"
                note = panel.annotate(text, place, xycoords=("axes fraction", "data"), size=10, va="center")
                note.set(color=COLOUR[name], bbox=NOTE_BOX)
    if reference is not None:
        panel.axvline(reference, color="black", linewidth=0.9, linestyle=(0, (1, 2)))
    if drawn:
        panel.set_xscale("log")
        log_axis(panel.xaxis, min(drawn), max(drawn), percent)
    panel.set_xlabel(label)
    by_layer(panel, rows)
    patch = optional_module("matplotlib.patches", extra="study").Patch
    handles = [patch(facecolor=COLOUR[name], alpha=0.45, edgecolor=COLOUR[name], label=TITLE[name]) for name in values]
    panel.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
