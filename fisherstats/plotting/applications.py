"""Figures of the applications of Fisher information."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from fisherstats.core.validation import figures
from fisherstats.plotting.style import LAYER_STYLES, ends, log_axis, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["efficiency", "forgetting", "learning_curves", "second_moments"]

_EFFICIENCY = figures.Drawn(
    "result",
    "the record of an online estimate",
    dict.fromkeys(("efficiency", "standard_error", "expected_efficiency"), ("model", "gradient", "step")),
)
_FORGETTING = figures.Drawn(
    "result",
    "the record of sequentially learnt tasks",
    {"accuracy": ("importance", "strength", "replicate", "task")},
    fewest={"task": 2},
)
_CURVES = figures.Drawn("curves", "the record of requested labels by strategy", {"accuracy": ("strategy", "replicate", "labels")})
_MOMENTS = figures.Drawn(
    "history",
    "a history of `fisherstats.training.fit` that records the second moment",
    dict.fromkeys(("ratio", "correlation"), ("epoch", "layer", "diagonal")),
)


@styled
def efficiency(result: xr.Dataset) -> Figure:
    """Plot how the covariance of an online estimate approaches the Cramér-Rao bound.

    Parameters
    ----------
    result : Dataset
        ``efficiency (model, gradient, step)``, the trace of I t Cov over the number of parameters; ``standard_error`` and
        ``expected_efficiency`` of the same dims.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per model: a line per gradient with bars of two standard errors, its expectation dotted, and the bound 1 in grey.
    """
    result = figures.drawable(result, xr.Dataset, _EFFICIENCY)
    models = result["model"].values
    figure, panels = new_figure(0.8 + 2.1 * len(models), rows=len(models), sharex=True)
    for panel, name in zip(panels, models, strict=True):
        one = result.sel(model=name)
        panel.axhline(1.0, color="#888888", linewidth=1.0)
        for position, method in enumerate(result["gradient"].values):
            here, look = one.sel(gradient=method), _look(position)
            panel.errorbar(
                here["step"].values,
                here["efficiency"].values,
                yerr=2 * here["standard_error"].values,
                label=f"{method} gradient",
                **look,
            )
            panel.plot(here["step"].values, here["expected_efficiency"].values, ":", color=look["color"], linewidth=1.2)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        shown = one[["efficiency", "expected_efficiency"]].to_array()
        low, high = ends([*shown.values.flat, 1.0])
        log_axis(panel.yaxis, low, high)
        panel.set_title(str(name), loc="left")
        panel.set_ylabel("tr(I t Cov) / P")
    panels[-1].set_xlabel("step t")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2)
    return figure


@styled
def forgetting(result: xr.Dataset) -> Figure:
    """Plot accuracy on earlier tasks against accuracy on the last one, along the strength of a penalty.

    Parameters
    ----------
    result : Dataset
        ``accuracy (importance, strength, replicate, task)`` after the last task. Strength 0 is plain fine-tuning.

    Returns
    -------
    matplotlib.figure.Figure
        A line per importance through its strengths: mean accuracy on all tasks but the last against accuracy on the last, means
        over replicates with bars of one standard error; fine-tuning is the black cross. A strength at which any replicate
        diverged (nan) is left out.
    """
    result = figures.drawable(result, xr.Dataset, _FORGETTING)
    fine_tuning = figures.holds(result, "strength", 0.0, _FORGETTING)
    figure, (panel,) = new_figure(4.4)
    old, new = result["accuracy"].isel(task=slice(-1)).mean("task"), result["accuracy"].isel(task=-1)
    centres = [one.mean("replicate", skipna=False) for one in (new, old)]
    errors = [_standard_error(one) for one in (new, old)]
    for position, name in enumerate(result["importance"].values):
        x, y, x_error, y_error = (one.sel(importance=name).sortby("strength").values for one in (*centres, *errors))
        panel.errorbar(x, y, xerr=x_error, yerr=y_error, elinewidth=0.6, label=str(name), **_look(position))
    start = [float(one.isel(importance=0).isel(strength=fine_tuning)) for one in centres]
    panel.plot(*start, "x", color="black", markersize=10, markeredgewidth=2.5, linestyle="none", label="fine-tuning", zorder=5)
    panel.set_xlabel("accuracy on the last task")
    panel.set_ylabel("accuracy on earlier tasks")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@styled
def learning_curves(curves: xr.Dataset) -> Figure:
    """Plot accuracy against the number of requested labels.

    Parameters
    ----------
    curves : Dataset
        ``accuracy (strategy, replicate, labels)``.

    Returns
    -------
    matplotlib.figure.Figure
        A line per strategy, the mean over replicates, with bars of one standard error.
    """
    curves = figures.drawable(curves, xr.Dataset, _CURVES)
    figure, (panel,) = new_figure(4.0)
    accuracy = 100 * curves["accuracy"]
    mean, error = accuracy.mean("replicate"), _standard_error(accuracy)
    for position, name in enumerate(curves["strategy"].values):
        centre, bar = (one.sel(strategy=name).values for one in (mean, error))
        label = str(name).replace("_", " ")
        panel.errorbar(curves["labels"].values, centre, yerr=bar, elinewidth=0.7, label=label, **_look(position))
    panel.set_xlabel("labels")
    panel.set_ylabel("accuracy, %")
    panel.legend(loc="lower right")
    return figure


@styled
def second_moments(history: xr.Dataset) -> Figure:
    """Plot Adam's second moment relative to the diagonal information during training, by layer.

    Parameters
    ----------
    history : Dataset
        A history of `training.fit` with ``ratio (epoch, layer, diagonal)``, the mean of the second moment times the batch size
        over the mean of a diagonal, and ``correlation (epoch, layer, diagonal)`` of their logarithms.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels per diagonal, ratio (log axis; 1 is grey) and correlation, a line per layer.
    """
    history = figures.drawable(history, xr.Dataset, _MOMENTS)
    kinds = history["diagonal"].values
    finite = history["correlation"].where(np.isfinite(history["correlation"]))
    figure, panels = new_figure(0.8 + 3.6 * len(kinds), rows=2 * len(kinds), sharex=True)
    for position, kind in enumerate(kinds):
        above, below = panels[2 * position : 2 * position + 2]
        for layer in history["layer"].values:
            for panel, name in ((above, "ratio"), (below, "correlation")):
                values = history[name].sel(diagonal=kind, layer=layer).values
                panel.plot(history["epoch"].values, values, label=f"layer {layer}", **_look(int(layer)))
        shown = history["ratio"].sel(diagonal=kind)
        above.axhline(1.0, color="#888888", linewidth=1.0)
        above.set_yscale("log")
        low, high = ends([*shown.values.flat, 1.0])
        log_axis(above.yaxis, low, high)
        above.set_title(str(kind), loc="left")
        above.set_ylabel("ratio")
        below.set_ylabel("correlation")
        below.set_ylim(min(0.0, 1.1 * float(finite.min())), 1.05)
    panels[-1].set_xlabel("epoch")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4)
    return figure


def _standard_error(values: xr.DataArray) -> xr.DataArray:
    """Return the standard error of the mean over replicates; undefined for a single one."""
    n_replicates = values.sizes["replicate"]
    if n_replicates == 1:
        return xr.full_like(values.isel(replicate=0), np.nan)
    return values.std("replicate", ddof=1) / np.sqrt(n_replicates)


def _look(position: int) -> dict[str, Any]:
    """Return colour, marker and line style of one of several series."""
    colour, marker, line = LAYER_STYLES[position % len(LAYER_STYLES)]
    return {"color": colour, "marker": marker, "linestyle": line, "linewidth": 1.3, "markersize": 4}
