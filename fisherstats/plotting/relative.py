"""Figure of the learning zones of units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from fisherstats.core.validation import figures
from fisherstats.plotting.style import LAYER_STYLES, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["learning_zone"]

_MOST_POINTS = 4000
_ZONE = figures.Drawn(
    "zone",
    "the result of `fisherstats.learning_zone`",
    {"pre_activation": ("input", "unit"), "coefficient": ("input", "unit"), "largest": ("unit",)},
    beside={"unit_layer": "unit"},
)


@styled
def learning_zone(zone: xr.Dataset) -> Figure:
    """Plot the distribution of the pre-activations of each layer, and the learning coefficients of its units there.

    Parameters
    ----------
    zone : Dataset
        The result of `learning_zone`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per layer: coefficients against pre-activations, thinned evenly along them to 4,000 points, over the histogram of
        all pre-activations, whose height has no scale. The title gives the mean coefficient and, where it is known, its
        percentage of the largest one.
    """
    zone = figures.drawable(zone, xr.Dataset, _ZONE)
    layers = zone["unit_layer"].values
    numbers = np.unique(layers)
    figure, panels = new_figure(1.0 + 2.1 * len(numbers), rows=len(numbers))
    for layer, panel in zip(numbers.tolist(), panels, strict=True):
        one = zone.isel(unit=layers == layer)
        values, coefficients = one["pre_activation"].values.ravel(), one["coefficient"].values.ravel()
        colour, marker, _ = LAYER_STYLES[layer % len(LAYER_STYLES)]
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
