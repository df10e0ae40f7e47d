"""Common elements of the figures: style, panels, axes, lines and boxes by layer.

Figures are narrow with large type, for reading on a phone; layers differ in colour, marker and line style, so that they can be
distinguished in greyscale.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.errors import MissingExtra
from fisherstats.core.validation.arguments import optional_module
from fisherstats.core.validation.figures import library_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "COLOUR",
    "LAYER_STYLES",
    "NOTE_BOX",
    "TITLE",
    "as_svg",
    "boxes",
    "by_layer",
    "ends",
    "library",
    "log_axis",
    "name_zero",
    "new_figure",
    "report_style",
    "styled",
]

Given = ParamSpec("Given")

#: colour of each estimator (Okabe and Ito's palette, distinguishable for colour-blind readers)
COLOUR = {"score": "#0072B2", "hessian": "#D55E00"}
TITLE = {"score": "Score", "hessian": "Hessian"}
#: colour, marker and line of each layer
LAYER_STYLES = [
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#555555", "v", "-"),
    ("#E69F00", "P", "--"),
    ("#56B4E9", "X", "-."),
]
NOTE_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
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


def new_figure(height: float, rows: int = 1, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure independent of any GUI backend, and its panels from top to bottom."""
    figure = optional_module("matplotlib.figure", extra="study").Figure(figsize=(5.4, height), layout="constrained")
    panels = figure.subplots(rows, 1, squeeze=False, **shared)
    # A figure apart from pyplot does not show itself in a notebook, and is not kept alive by it either.
    figure._repr_png_ = functools.partial(_as_png, figure)
    return figure, list(panels[:, 0])


def _as_png(figure: Figure) -> bytes:
    """Return a picture of a figure, as a notebook shows it."""
    picture = io.BytesIO()
    with report_style():
        figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


@contextlib.contextmanager
def report_style() -> Iterator[None]:
    """Apply the report style: matplotlib's defaults with a few settings, regardless of the user's configuration.

    A user's matplotlibrc can ask for LaTeX, fonts and sizes that would change a figure or fail while it is drawn.
    """
    matplotlib = library()
    default = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    with warnings.catch_warnings(), matplotlib.rc_context():
        # The defaults include deprecated settings; restoring them should not warn.
        warnings.filterwarnings("ignore", category=matplotlib.MatplotlibDeprecationWarning)
        matplotlib.rcParams.update(default | _STYLE)
        yield


def library() -> ModuleType:
    """Return matplotlib, even if its settings file or ``MPLBACKEND`` prevent a normal import."""
    try:
        return optional_module("matplotlib", extra="study")
    except MissingExtra:
        raise
    except Exception:
        found = importlib.util.find_spec("matplotlib")
        if found is None or found.origin is None:
            raise
        kept = {name: os.environ.pop(name, None) for name in ("MATPLOTLIBRC", "MPLBACKEND")}
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:  # partially imported
            del sys.modules[name]
        os.environ["MATPLOTLIBRC"] = str(Path(found.origin).parent / "mpl-data" / "matplotlibrc")
        try:
            return optional_module("matplotlib", extra="study")
        finally:
            del os.environ["MATPLOTLIBRC"]
            os.environ.update({name: value for name, value in kept.items() if value is not None})


def styled(draw: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Plot in the report style, and restore the caller's settings."""

    @functools.wraps(draw)
    def drawn(*args: Given.args, **keywords: Given.kwargs) -> Figure:
        with report_style(), np.errstate(all="ignore"):  # undefined values are omitted from the figure
            return draw(*args, **keywords)

    return drawn


def as_svg(figure: Figure) -> str:
    """Return the figure as an SVG document without a date, so that identical figures give identical text."""
    library_figure("figure", figure, optional_module("matplotlib.figure", extra="study").Figure)
    text = io.StringIO()
    with report_style():
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def log_axis(axis: Axis, low: float, high: float, percent: bool = False) -> None:
    """Use a log scale with readable ticks: several per decade where the range is short."""
    ticker = optional_module("matplotlib.ticker", extra="study")
    decades = np.log10(high) - np.log10(low) if 0 < low < high else 1.0
    if decades < 0.02:
        axis.set_view_interval(low / 1.1, high * 1.1, ignore=True)
    if decades < 0.4:
        axis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    else:
        subs = (1, 1.5, 2, 3, 5, 7) if decades < 0.8 else (1, 2, 5) if decades < 1.7 else (1, 3) if decades < 3.5 else (1,)
        axis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.set_minor_locator(ticker.NullLocator())
    # Powers of ten are labelled as powers: seven digits and a percent sign would overlap.
    if percent and decades < 3.5:
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{100 * value:,.4g} %"))
    elif decades < 5:
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.4g}"))


def ends(drawn: Iterable[Any]) -> tuple[float, float]:
    """Return the smallest and the largest positive finite number; 1 and 1 if there is none."""
    shown = [float(value) for value in drawn if np.isfinite(value) and value > 0]
    return min(shown, default=1.0), max(shown, default=1.0)


def boxes(panel: Axes, groups: Sequence[NDArray[Any]], heights: Sequence[float], width: float, colour: str) -> None:
    """Plot a horizontal box per group: middle half, median, and whiskers over the middle 90 %."""
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


def by_layer(panel: Axes, layers: Sequence[int]) -> None:
    """Label one row per layer, the first on top."""
    panel.set_yticks(range(len(layers)), [f"layer {layer}" for layer in layers])
    panel.set_ylim(len(layers) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)


def name_zero(panel: Axes, layers: Sequence[str]) -> None:
    """List above the panel the layers whose values are all exactly zero, which a log axis cannot show."""
    if layers:
        panel.set_title(f"layer{'s' if len(layers) > 1 else ''} {', '.join(layers)}: exactly 0", loc="right", size=10)
