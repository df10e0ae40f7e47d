"""Figures of the effect of weight norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from fisherstats.core.validation import figures
from fisherstats.plotting.style import COLOUR, LAYER_STYLES, TITLE, by_layer, log_axis, name_zero, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["derivative_bounds", "norm_sweep"]

_SWEEP = figures.Drawn(
    "sweep",
    "the result of `fisherstats.norm_sweep`",
    dict.fromkeys(("variance", "relative_variance", "upper"), ("estimator", "scale", "layer")),
)


@styled
def norm_sweep(sweep: xr.Dataset) -> Figure:
    """Plot absolute and relative variances of each layer against the scale of the weight norms.

    Parameters
    ----------
    sweep : Dataset
        The result of `norm_sweep`.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels per estimator, the variance with its certified bound (thin) and the variance over the squared information. A
        layer whose variance is exactly zero is named in the panel.
    """
    sweep = figures.drawable(sweep, xr.Dataset, _SWEEP).sortby("scale")
    scales = sweep["scale"].values
    names = [str(name) for name in sweep["estimator"].values]
    figure, panels = new_figure(3.1 * 2 * len(names), rows=2 * len(names), sharex=True)
    handles: dict[str, Any] = {}
    for position, name in enumerate(names):
        for panel, quantity, label in (
            (panels[position], "variance", "variance"),
            (panels[len(names) + position], "relative_variance", "variance / information$^2$"),
        ):
            exact, drawn = [], []
            for layer in sweep["layer"].values:
                one = sweep.sel(estimator=name, layer=layer)
                values = one[quantity].values
                if not (values > 0).any():
                    exact.append(str(layer))
                    continue
                colour, marker, line = LAYER_STYLES[int(layer) % len(LAYER_STYLES)]
                (handles[f"layer {layer}"],) = panel.plot(
                    scales, values, line, marker=marker, color=colour, linewidth=1.4, markersize=5
                )
                drawn += [*values]
                if quantity == "variance":
                    panel.plot(scales, one["upper"].values, ":", color=colour, linewidth=0.9)
                    drawn += [*one["upper"].values]
            drawn = [value for value in drawn if np.isfinite(value) and value > 0]
            panel.set_title(f"{TITLE[name]} estimator", loc="left", color=COLOUR[name])
            panel.set_ylabel(label)
            if drawn:
                panel.set_xscale("log")
                panel.set_yscale("log")
                log_axis(panel.yaxis, min(drawn), max(drawn))
            name_zero(panel, exact)
    log_axis(panels[-1].xaxis, scales.min(), scales.max())
    panels[-1].set_xlabel("scale of the weight norms")
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), 4))
    return figure


_CHAIN = {
    "covariance_exact": "exact",
    "covariance_upper": "best bound",
    "covariance_from_derivatives": "from derivatives",
    "covariance_from_weights": "from weights",
}

_DERIVATIVES = figures.Drawn(
    "bounds",
    "the result of `fisherstats.derivative_bounds` for the mean over inputs",
    {
        **dict.fromkeys(("first_exact", "first_upper"), ("norm", "layer")),
        **dict.fromkeys(_CHAIN, ("estimator", "norm")),
    },
    optional=frozenset(_CHAIN),
)


@styled
def derivative_bounds(bounds: xr.Dataset) -> Figure:
    """Plot the chain of bounds from weight norms over derivatives to the covariances.

    Parameters
    ----------
    bounds : Dataset
        The result of `derivative_bounds`, for the mean over inputs.

    Returns
    -------
    matplotlib.figure.Figure
        Exact norms of the first derivatives and their bounds by layer, a panel per norm; and, if the covariances were
        requested, the four stages of their chain, a panel per norm. Values that are exactly 0 are omitted from the log axes.
    """
    bounds = figures.drawable(bounds, xr.Dataset, _DERIVATIVES)
    layers = bounds["layer"].values
    rows = range(len(layers))
    norms = bounds["norm"].values.tolist()
    chained = all(stage in bounds for stage in _CHAIN)
    figure, panels = new_figure(2.2 * len(norms) * (1 + chained) + 0.35 * len(layers), rows=len(norms) * (1 + chained))
    for panel, norm in zip(panels, norms, strict=False):
        one = bounds.sel(norm=norm)
        drawn = []
        for name, marker, colour, label in (("exact", "o", "black", "exact"), ("upper", "|", "#009E73", "bound from weights")):
            values = one[f"first_{name}"].values
            panel.plot(
                np.where(values > 0, values, np.nan), rows, marker, color=colour, markersize=9, markeredgewidth=2, label=label
            )
            drawn += [value for value in values if np.isfinite(value) and value > 0]
        panel.set_xscale("log")
        if drawn:
            log_axis(panel.xaxis, min(drawn), max(drawn))
        panel.set_title(f"first derivatives, {norm} norm", loc="left")
        by_layer(panel, layers.tolist())
    handles, words = panels[0].get_legend_handles_labels()
    for panel, norm in zip(panels[len(norms) :], norms, strict=False):
        for name in bounds["estimator"].values:
            stages = [float(bounds[stage].sel(estimator=name, norm=norm)) for stage in _CHAIN]
            shown = [value if value > 0 else np.nan for value in stages]
            panel.plot(shown, range(len(stages)), "o-", color=COLOUR[str(name)], label=TITLE[str(name)])
        panel.set_xscale("log")
        panel.set_yticks(range(len(_CHAIN)), list(_CHAIN.values()))
        panel.set_title(f"covariance, {norm} norm", loc="left")
    if chained:
        more, names = panels[-1].get_legend_handles_labels()
        handles, words = [*handles, *more], [*words, *names]
    figure.legend(handles, words, loc="outside upper center", ncols=2)
    panels[-1].set_xlabel("norm")
    return figure
