"""The figures: one function per figure, each takes one labelled result and nothing else.

Figures are narrow with large type, so that they can be read on a telephone; layers differ in colour, marker and line,
so that they can be told apart on grey paper.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.checks.arguments import optional_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "as_svg",
    "bound_tightness",
    "derivative_bounds",
    "information_by_layer",
    "learning_zone",
    "norm_sweep",
    "relative_error_by_layer",
    "standard_error_by_draws",
]

Result = TypeVar("Result", xr.DataArray, xr.Dataset)

#: colour of each estimator (Okabe and Ito's palette, which colour-blind readers can tell apart)
_COLOUR = {"score": "#0072B2", "hessian": "#D55E00"}
_TITLE = {"score": "Score", "hessian": "Hessian"}
#: colour, marker and line of each layer
_LAYER_STYLES = [
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#555555", "v", "-"),
    ("#E69F00", "P", "--"),
    ("#56B4E9", "X", "-."),
]
_NOTE_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
_STYLE = {
    "font.size": 11.0,
    "axes.titlesize": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "fisherstats",
}


def _figure(height: float, rows: int = 1, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure that belongs to no window system and its panels, one below the other."""
    figure = optional_module("matplotlib.figure", extra="study").Figure(figsize=(5.4, height), layout="constrained")
    panels = figure.subplots(rows, 1, squeeze=False, **shared)
    return figure, list(panels[:, 0])


def _styled(draw: Callable[[Result], Figure]) -> Callable[[Result], Figure]:
    """Draw in the style of the report, and leave the caller's settings as they were."""

    @functools.wraps(draw)
    def drawn(result: Result) -> Figure:
        with optional_module("matplotlib", extra="study").rc_context(_STYLE):
            return draw(result)

    return drawn


def as_svg(figure: Figure) -> str:
    """Return the figure as an SVG document without a date, so that equal figures give equal text."""
    text = io.StringIO()
    with optional_module("matplotlib", extra="study").rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _layer_names(n_layers: int) -> list[str]:
    return [f"layer {layer}" for layer in range(n_layers)]


def _log_axis(axis: Axis, low: float, high: float, percent: bool = False) -> None:
    """Use a log scale with ticks a reader can name: several per decade where the range is short."""
    ticker = optional_module("matplotlib.ticker", extra="study")
    decades = np.log10(high / low) if 0 < low < high else 1.0
    if decades < 0.02:
        axis.set_view_interval(low / 1.1, high * 1.1, ignore=True)
    if decades < 0.4:
        axis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    else:
        subs = (1, 1.5, 2, 3, 5, 7) if decades < 0.8 else (1, 2, 5) if decades < 1.7 else (1, 3) if decades < 3.5 else (1,)
        axis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.set_minor_locator(ticker.NullLocator())
    # Powers of ten are named as they are: seven figures and a per cent sign would run into each other.
    if percent and decades < 3.5:
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{100 * value:,.4g} %"))
    elif decades < 5:
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.4g}"))


def _boxes(panel: Axes, groups: Sequence[NDArray[Any]], heights: Sequence[float], width: float, colour: str) -> None:
    """Draw a horizontal box per group: middle half, median, and whiskers over the middle 90 %."""
    drawn = [(group, height) for group, height in zip(groups, heights, strict=True) if group.size]
    if not drawn:
        return
    parts = panel.boxplot(
        [group for group, _ in drawn],
        positions=[height for _, height in drawn],
        widths=width,
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
    )
    for box in parts["boxes"]:
        box.set(facecolor=colour, alpha=0.45, edgecolor=colour)
    for line in parts["whiskers"] + parts["caps"]:
        line.set(color=colour)
    for line in parts["medians"]:
        line.set(color="black", linewidth=1.6)


def _by_layer(panel: Axes, n_layers: int) -> None:
    panel.set_yticks(range(n_layers), _layer_names(n_layers))
    panel.set_ylim(n_layers - 0.5, -0.5)
    panel.grid(axis="y", visible=False)


@_styled
def information_by_layer(information: xr.DataArray) -> Figure:
    """Draw how the exact diagonal information spreads over the parameters of each layer.

    Parameters
    ----------
    information : DataArray, dims (param,)
        The diagonal of the Fisher information.

    Returns
    -------
    matplotlib.figure.Figure
        A box per layer over its positive entries, and a diamond at the mean of all its entries.
    """
    layers = information["param_layer"].values
    n_layers = int(layers.max()) + 1
    groups = [information.values[layers == layer] for layer in range(n_layers)]
    figure, (panel,) = _figure(1.5 + 0.55 * n_layers)
    positive = [group[group > 0] for group in groups]
    _boxes(panel, positive, range(n_layers), 0.5, "#0072B2")
    informed = [layer for layer in range(n_layers) if positive[layer].size]
    means = [groups[layer].mean() for layer in informed]
    panel.plot(means, informed, "D", color="black", markersize=6, label="mean entry")
    # An axis without a positive number cannot be logarithmic.
    panel.set_xscale("log" if informed else "linear")
    panel.set_xlabel("exact Fisher information of a parameter")
    _by_layer(panel, n_layers)
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


@_styled
def standard_error_by_draws(layers: xr.Dataset) -> Figure:
    """Draw closed-form and observed relative standard errors of each layer's mean entry against the number of draws.

    Parameters
    ----------
    layers : Dataset
        ``information(layer)``, ``standard_error`` and ``observed_standard_error(estimator, n_draws, layer)``,
        ``expected_ratio(side)`` and the attribute ``target_standard_error``.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per estimator: lines are closed forms, marks are observed with the bar that 95 % of them should
        overlap the line with. A layer whose error is exactly zero is named in the panel.
    """
    draws = layers["n_draws"].values
    target = float(layers.attrs["target_standard_error"])
    figure, panels = _figure(7.2, rows=2, sharex=True, sharey=True)
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
            bbox=_NOTE_BOX,
        )
        panel.set_title(f"{_TITLE[str(estimator)]} estimator", loc="left", color=_COLOUR[str(estimator)])
        panel.set_ylabel("relative standard error")
        if exact:
            named = f"layer{'s' if len(exact) > 1 else ''} {', '.join(exact)}: exactly 0"
            panel.annotate(named, (0.03, 0.05), xycoords="axes fraction", size=10)
        _log_axis(panel.yaxis, min(drawn), max(drawn), percent=True)
        panel.set_ylim(0.7 * min(drawn), 1.4 * max(drawn))
    panels[-1].set_xticks(draws, [f"{count:,}" for count in draws])
    panels[-1].minorticks_off()
    panels[-1].set_xlabel("draws per input, N")
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), 4))
    return figure


def _against_draws(
    panel: Axes, layer: int, draws: NDArray[Any], expected: NDArray[Any], observed: NDArray[Any], layers: xr.Dataset
) -> Any:
    """Draw one layer's line and marks, and return the marks for the legend."""
    colour, marker, line = _LAYER_STYLES[layer % len(_LAYER_STYLES)]
    panel.plot(draws, expected, line, color=colour, linewidth=1.4)
    # observed / closed form lies in [low, high] with 95 %, so the closed form lies in [observed/high, observed/low].
    low, high = layers["expected_ratio"].values
    return panel.errorbar(
        draws,
        observed,
        [observed - observed / high, observed / low - observed],
        fmt=marker,
        color=colour,
        markersize=5,
        capsize=2.5,
    )


@_styled
def relative_error_by_layer(relative_error: xr.DataArray) -> Figure:
    """Draw how the relative standard error at one draw per input spreads over the parameters of each layer.

    Parameters
    ----------
    relative_error : DataArray, dims (estimator, param)
        Standard error over information; NaN where the information is zero.

    Returns
    -------
    matplotlib.figure.Figure
        A box per layer and estimator over the positive errors; errors that are exactly zero are counted in words.
    """
    return _paired_boxes(
        {str(name): relative_error.sel(estimator=name).values for name in relative_error["estimator"].values},
        relative_error["param_layer"].values,
        "relative standard error at 1 draw per input",
        "exactly 0",
        percent=True,
    )


@_styled
def bound_tightness(bounds: xr.Dataset) -> Figure:
    """Draw how close the certified bounds come to the exact variance in each layer.

    Parameters
    ----------
    bounds : Dataset
        ``exact``, ``lower`` and ``upper``, each (estimator, param).

    Returns
    -------
    matplotlib.figure.Figure
        Boxes of lower/exact (left of 1) and upper/exact (right of 1) where the exact variance is positive.
    """
    values: dict[str, NDArray[Any]] = {}
    for name in bounds["estimator"].values:
        one = bounds.sel(estimator=name)
        exact = np.where(one["exact"].values > 0, one["exact"].values, np.nan)
        # A column per side; a lower bound of 0 has no place on a log axis and is left out, as the caption says.
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
    """Draw a row of boxes per layer and estimator; `values` is (param,) or (param, side)."""
    n_layers = int(layers.max()) + 1
    figure, (panel,) = _figure(1.6 + 0.8 * n_layers)
    offsets = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [0.0]
    ends = [] if reference is None else [reference]
    for (name, numbers), offset in zip(values.items(), offsets, strict=True):
        columns = numbers if numbers.ndim == 2 else numbers[:, None]
        for layer in range(n_layers):
            sides = [column[np.isfinite(column) & (column > 0)] for column in columns[layers == layer].T]
            _boxes(panel, sides, [layer + offset] * len(sides), 0.3, _COLOUR[name])
            ends += [end for side in sides if side.size for end in np.percentile(side, [5, 95])]
            if not any(side.size for side in sides):
                place = (0.02, layer + offset)
                text = f"{_TITLE[name]}: {nothing}"
                note = panel.annotate(text, place, xycoords=("axes fraction", "data"), size=10, va="center")
                note.set(color=_COLOUR[name], bbox=_NOTE_BOX)
    if reference is not None:
        panel.axvline(reference, color="black", linewidth=0.9, linestyle=(0, (1, 2)))
    if ends:
        panel.set_xscale("log")
        _log_axis(panel.xaxis, min(ends), max(ends), percent)
    panel.set_xlabel(label)
    _by_layer(panel, n_layers)
    patch = optional_module("matplotlib.patches", extra="study").Patch
    handles = [patch(facecolor=_COLOUR[name], alpha=0.45, edgecolor=_COLOUR[name], label=_TITLE[name]) for name in values]
    panel.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


@_styled
def norm_sweep(sweep: xr.Dataset) -> Figure:
    """Draw absolute and relative variances of each layer against the scale of the weight norms.

    Parameters
    ----------
    sweep : Dataset
        What `norm_sweep` returns.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels per estimator, the variance with its certified bound (thin) and the variance over the squared information. A
        layer whose variance is exactly zero is named in the panel.
    """
    sweep = sweep.sortby("scale")
    scales = sweep["scale"].values
    names = [str(name) for name in sweep["estimator"].values]
    figure, panels = _figure(3.1 * 2 * len(names), rows=2 * len(names), sharex=True)
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
                colour, marker, line = _LAYER_STYLES[int(layer) % len(_LAYER_STYLES)]
                (handles[f"layer {layer}"],) = panel.plot(
                    scales, values, line, marker=marker, color=colour, linewidth=1.4, markersize=5
                )
                drawn += [*values]
                if quantity == "variance":
                    panel.plot(scales, one["upper"].values, ":", color=colour, linewidth=0.9)
                    drawn += [*one["upper"].values]
            drawn = [value for value in drawn if np.isfinite(value) and value > 0]
            panel.set_title(f"{_TITLE[name]} estimator", loc="left", color=_COLOUR[name])
            panel.set_ylabel(label)
            if drawn:
                panel.set_xscale("log")
                panel.set_yscale("log")
                _log_axis(panel.yaxis, min(drawn), max(drawn))
            if exact:
                named = f"layer{'s' if len(exact) > 1 else ''} {', '.join(exact)}: exactly 0"
                height = 0.05 if quantity == "variance" else 0.88
                panel.annotate(named, (0.97, height), xycoords="axes fraction", ha="right", size=10, bbox=_NOTE_BOX)
    _log_axis(panels[-1].xaxis, scales.min(), scales.max())
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


@_styled
def derivative_bounds(bounds: xr.Dataset) -> Figure:
    """Draw the chain from weight norms over derivatives to the covariances.

    Parameters
    ----------
    bounds : Dataset
        What `derivative_bounds` returns, for the mean over inputs.

    Returns
    -------
    matplotlib.figure.Figure
        Exact norms of the first derivatives and their bounds by layer, a panel per norm; and where the covariances were asked
        for the four stages of their chain, a panel per norm. What is exactly 0 has no place on a log axis and is left out.
    """
    layers = bounds["layer"].values
    norms = [str(norm) for norm in bounds["norm"].values]
    chained = "covariance_exact" in bounds
    figure, panels = _figure(2.2 * len(norms) * (1 + chained) + 0.35 * len(layers), rows=len(norms) * (1 + chained))
    for panel, norm in zip(panels, norms, strict=False):
        one = bounds.sel(norm=norm)
        drawn = []
        for name, marker, colour, label in (("exact", "o", "black", "exact"), ("upper", "|", "#009E73", "bound from weights")):
            values = one[f"first_{name}"].values
            panel.plot(
                np.where(values > 0, values, np.nan), layers, marker, color=colour, markersize=9, markeredgewidth=2, label=label
            )
            drawn += [value for value in values if np.isfinite(value) and value > 0]
        panel.set_xscale("log")
        if drawn:
            _log_axis(panel.xaxis, min(drawn), max(drawn))
        panel.set_title(f"first derivatives, {norm} norm", loc="left")
        _by_layer(panel, len(layers))
    handles, words = panels[0].get_legend_handles_labels()
    for panel, norm in zip(panels[len(norms) :], norms, strict=False):
        for name in bounds["estimator"].values:
            stages = [float(bounds[stage].sel(estimator=name, norm=norm)) for stage in _CHAIN]
            shown = [value if value > 0 else np.nan for value in stages]
            panel.plot(shown, range(len(stages)), "o-", color=_COLOUR[str(name)], label=_TITLE[str(name)])
        panel.set_xscale("log")
        panel.set_yticks(range(len(_CHAIN)), list(_CHAIN.values()))
        panel.set_title(f"covariance, {norm} norm", loc="left")
    if chained:
        more, names = panels[-1].get_legend_handles_labels()
        handles, words = [*handles, *more], [*words, *names]
    figure.legend(handles, words, loc="outside upper center", ncols=2)
    panels[-1].set_xlabel("norm")
    return figure


_MOST_POINTS = 4000


@_styled
def learning_zone(zone: xr.Dataset) -> Figure:
    """Draw where the pre-activations of each layer lie, and how much its units learn there.

    Parameters
    ----------
    zone : Dataset
        What `learning_zone` returns.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per layer: coefficients against pre-activations, thinned evenly along them to 4,000 points, over the histogram of
        all pre-activations, whose height has no scale. The title gives the mean coefficient and, where it is known, what part of
        the largest one that is.
    """
    layers = zone["unit_layer"].values
    figure, panels = _figure(1.0 + 2.1 * (layers.max() + 1), rows=int(layers.max()) + 1)
    for layer, panel in enumerate(panels):
        one = zone.isel(unit=layers == layer)
        values, coefficients = one["pre_activation"].values.ravel(), one["coefficient"].values.ravel()
        colour, marker, _ = _LAYER_STYLES[layer % len(_LAYER_STYLES)]
        shown = np.argsort(values)[:: -(-values.size // _MOST_POINTS)]
        counts, edges = np.histogram(values, bins=40)
        top = max(float(coefficients.max()), float(one["largest"].fillna(0).max())) or 1.0
        panel.stairs(top * counts / counts.max(), edges, fill=True, color="#dddddd")
        panel.plot(values[shown], coefficients[shown], marker, color=colour, markersize=3)
        panel.set_ylim(-0.03 * top, 1.05 * top)
        mean, largest = float(coefficients.mean()), float(one["largest"][0])
        part = "" if np.isnan(largest) else f", {100 * mean / largest:.3g} % of the largest"
        panel.set_title(f"layer {layer}: mean {mean:.3g}{part}", loc="left")
        panel.set_ylabel("coefficient")
    panels[-1].set_xlabel("pre-activation")
    return figure
