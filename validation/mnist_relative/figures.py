"""The curves: loss and accuracy by epoch and by second."""

from __future__ import annotations

from typing import Any

import xarray as xr

from fisherstats.plotting.style import LAYER_STYLES, as_svg, new_figure, styled

__all__ = ["curves"]


def curves(runs: xr.Dataset) -> str:
    """Training loss and held-out accuracy of every optimiser, by epoch and by second: means, and the range over the seeds."""
    return as_svg(_drawn(runs))


@styled
def _drawn(runs: xr.Dataset) -> Any:
    figure, panels = new_figure(11.0, rows=4)
    handles = {}
    for position, (measure, label) in enumerate((("loss", "training loss"), ("validation_accuracy", "held-out accuracy"))):
        for by, panel in (("epoch", panels[position]), ("second", panels[2 + position])):
            for name, (colour, marker, line) in zip(runs.optimizer.values, LAYER_STYLES, strict=False):
                one = runs.sel(optimizer=name)
                places = one.epoch * (1 if by == "epoch" else float(one.seconds_per_epoch))
                values = one[measure]
                look = {"marker": marker, "color": colour, "linewidth": 1.4, "markersize": 3}
                (handles[str(name)],) = panel.plot(places, values.mean("seed"), line, **look)
                panel.fill_between(places, values.min("seed"), values.max("seed"), color=colour, alpha=0.15, linewidth=0)
            if measure == "loss":
                panel.set_yscale("log")
            panel.set_ylabel(label)
            panel.set_xlabel("epoch" if by == "epoch" else "seconds on one thread")
            panel.locator_params(axis="x", integer=True)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return figure
