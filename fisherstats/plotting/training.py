"""Figures of the effect of training and penalties on information and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.validation import figures
from fisherstats.plotting.style import COLOUR, LAYER_STYLES, TITLE, log_axis, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["regularization_path", "training_errors"]

_PANEL = 2.5
_PER_ESTIMATOR = ("estimator", "layer")
_ERRORS = figures.Drawn(
    "history",
    "a history of `fisherstats.training.fit` that records `fisherstats.layer_errors`",
    {
        "information": ("epoch", "layer"),
        **dict.fromkeys(("variance", "lower", "upper"), ("epoch", *_PER_ESTIMATOR)),
    },
)
_MEASURES = ("accuracy", "log_likelihood")
_OPTIONAL = frozenset({*_MEASURES, *(f"validation_{measure}" for measure in _MEASURES)})
_PATH = figures.Drawn(
    "path",
    "the result of `fisherstats.regularization_path`",
    {
        **dict.fromkeys(("variance", "upper", "relative_error"), ("strength", *_PER_ESTIMATOR)),
        **dict.fromkeys(sorted(_OPTIONAL), ("strength",)),
    },
    optional=_OPTIONAL,
    either=_MEASURES,
)


@styled
def training_errors(history: xr.Dataset) -> Figure:
    """Plot information, standard deviations and their bounds by layer during training, as in Figure 2 of 2024.

    Parameters
    ----------
    history : Dataset
        A history of `training.fit` that records the result of `layer_errors`: ``information (epoch, layer)``, ``variance``,
        ``lower`` and ``upper (epoch, estimator, layer)``.

    Returns
    -------
    matplotlib.figure.Figure
        The mean information; a panel per estimator with the root of the mean variance and that of its certified bounds (dotted,
        lower bounds of 0 omitted); and a panel per estimator with upper bound over exact variance. A layer whose variance is
        exactly zero is named in the titles.
    """
    history = figures.drawable(history, xr.Dataset, _ERRORS)
    epochs = history["epoch"].values
    names = [str(name) for name in history["estimator"].values]
    figure, panels = new_figure(_PANEL * (1 + 2 * len(names)), rows=1 + 2 * len(names), sharex=True)
    handles = _lines(panels[0], epochs, {"": history["information"]})
    panels[0].set_ylabel("mean information")
    for position, name in enumerate(names, start=1):
        one = history.sel(estimator=name)
        handles |= _lines(panels[position], epochs, {side: one[side] ** 0.5 for side in ("variance", "lower", "upper")})
        exact = one["variance"].where(one["variance"] > 0)
        handles |= _lines(panels[len(names) + position], epochs, {"": (one["upper"] / exact).where(exact > 0, 0.0)})
        panels[position].set_ylabel("standard deviation")
        panels[len(names) + position].set_ylabel("bound / variance")
        for panel in (panels[position], panels[len(names) + position]):
            _title(panel, name, one)
    panels[-1].set_xticks(_whole_numbers(epochs))
    panels[-1].set_xlabel("epoch")
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), 4))
    return figure


@styled
def regularization_path(path: xr.Dataset) -> Figure:
    """Plot fit, absolute and relative errors by layer against the strength of a penalty.

    Parameters
    ----------
    path : Dataset
        The result of `regularization_path`.

    Returns
    -------
    matplotlib.figure.Figure
        Accuracy (or log-likelihood) of the training and validation labels; a panel per estimator with the root of the mean
        variance and of its upper bound (dotted); and a panel per estimator with the relative error. Strengths are equally
        spaced, the smallest on the left, so that 0 and inf can be shown.
    """
    path = figures.drawable(path, xr.Dataset, _PATH).sortby("strength")
    strengths = path["strength"].values
    places = np.arange(len(strengths))
    names = [str(name) for name in path["estimator"].values]
    figure, panels = new_figure(_PANEL * (1 + 2 * len(names)), rows=1 + 2 * len(names), sharex=True)
    measure = "accuracy" if "accuracy" in path else "log_likelihood"
    for label, name, line in (("training", measure, "o-"), ("validation", f"validation_{measure}", "s--")):
        if name in path:
            panels[0].plot(places, path[name].values, line, color="black", markersize=5, linewidth=1.4, label=label)
    panels[0].set_ylabel(measure.replace("_", "-"))
    panels[0].legend()
    handles: dict[str, Any] = {}
    for position, name in enumerate(names, start=1):
        one = path.sel(estimator=name)
        handles |= _lines(panels[position], places, {side: one[side] ** 0.5 for side in ("variance", "upper")})
        handles |= _lines(panels[len(names) + position], places, {"": one["relative_error"]}, percent=True)
        panels[position].set_ylabel("standard deviation")
        panels[len(names) + position].set_ylabel("relative error")
        for panel in (panels[position], panels[len(names) + position]):
            _title(panel, name, one)
    panels[-1].set_xticks(places, [f"{strength:g}" for strength in strengths])
    panels[-1].set_xlabel("strength of the penalty")
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), 4))
    return figure


def _lines(panel: Axes, places: NDArray[Any], quantities: dict[str, xr.DataArray], percent: bool = False) -> dict[str, Any]:
    """Plot a line per layer on a log axis, the first quantity with marks and the others dotted; return the lines by layer."""
    handles: dict[str, Any] = {}
    drawn: list[float] = []
    first, *others = quantities.values()
    for layer in first["layer"].values:
        colour, marker, line = LAYER_STYLES[int(layer) % len(LAYER_STYLES)]
        values = _positive(first, layer)
        if np.isnan(values).all():  # exactly 0, as given in the title; its bounds are not drawn either
            continue
        (handles[f"layer {layer}"],) = panel.plot(places, values, line, marker=marker, color=colour, linewidth=1.4, markersize=4)
        for bound in (_positive(one, layer) for one in others):
            panel.plot(places, bound, ":", color=colour, linewidth=0.9)
            values = np.append(values, bound)
        drawn += values[~np.isnan(values)].tolist()
    if drawn:
        panel.set_yscale("log")
        log_axis(panel.yaxis, min(drawn), max(drawn), percent)
    return handles


def _positive(quantity: xr.DataArray, layer: int) -> NDArray[Any]:
    """Return the values of a layer that a log axis can show, NaN elsewhere."""
    values = quantity.sel(layer=layer).values
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _title(panel: Axes, name: str, errors: xr.Dataset) -> None:
    """Set the title: the estimator and the layers in which it is exact."""
    exact = [str(layer) for layer in errors["layer"].values if not errors["variance"].sel(layer=layer).values.any()]
    named = f" (exact in layer{'s' if len(exact) > 1 else ''} {', '.join(exact)})" if exact else ""
    panel.set_title(f"{TITLE[name]} estimator{named}", loc="left", color=COLOUR[name])


def _whole_numbers(epochs: NDArray[Any]) -> NDArray[Any]:
    """Return at most a dozen epochs for tick labels."""
    return epochs[:: -(-len(epochs) // 12)]
