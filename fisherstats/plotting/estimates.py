"""Figures of estimates with their errors, and the choice of the figure that a result has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from fisherstats.core.validation import figures
from fisherstats.plotting.applications import second_moments
from fisherstats.plotting.relative import learning_zone
from fisherstats.plotting.study import bound_tightness, information_by_layer, relative_error_by_layer
from fisherstats.plotting.style import boxes, by_layer, ends, log_axis, new_figure, styled
from fisherstats.plotting.training import regularization_path, training_errors
from fisherstats.plotting.weights import derivative_bounds, norm_sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["estimate_by_layer", "plot"]

_ESTIMATE = figures.Drawn(
    "estimate",
    "an estimate that carries its standard error, as `fisherstats.estimate_fisher` returns it",
    {"information": ("param",)},
    beside={"param_layer": "param", "standard_error": "param"},
)


@styled
def estimate_by_layer(estimate: xr.DataArray) -> Figure:
    """Plot an estimated diagonal by layer, and below it the relative standard errors of its entries.

    Parameters
    ----------
    estimate : DataArray, dims (param,)
        One estimate with the coordinate ``standard_error``.

    Returns
    -------
    matplotlib.figure.Figure
        A box per layer over the positive entries; and a box per layer over their standard errors, relative to the entries.
    """
    found = figures.drawable(estimate, xr.DataArray, _ESTIMATE)
    layers, errors = found["param_layer"].values, found["standard_error"].values
    numbers = np.unique(layers).tolist()
    groups = [(found.values[layers == layer], errors[layers == layer]) for layer in numbers]
    figure, (top, bottom) = new_figure(2.6 + 1.1 * len(groups), 2)
    positive = [values[values > 0] for values, _ in groups]
    relative = [error[values > 0] / values[values > 0] for values, error in groups]
    for panel, shown, colour, label in (
        (top, positive, "#0072B2", "estimated Fisher information of a parameter"),
        (bottom, relative, "#D55E00", "standard error over the estimate"),
    ):
        boxes(panel, shown, range(len(groups)), 0.5, colour)
        low, high = ends(np.concatenate(shown))
        panel.set_xscale("log" if any((one > 0).any() for one in shown) else "linear")
        if panel is bottom and low < high:
            log_axis(panel.xaxis, low, high, percent=True)
        panel.set_xlabel(label)
        by_layer(panel, numbers)
    return figure


_FIGURES = (
    estimate_by_layer,
    information_by_layer,
    relative_error_by_layer,
    bound_tightness,
    learning_zone,
    derivative_bounds,
    norm_sweep,
    regularization_path,
    training_errors,
    second_moments,
)
"""The figures of a single result, the most specific ones first."""


def plot(result: Any) -> Figure:
    """Plot a result in the figure that belongs to it.

    Parameters
    ----------
    result : DataArray or Dataset
        A diagonal information or an estimate of it with errors, or the result of `variance_bounds`, `learning_zone`,
        `derivative_bounds`, `norm_sweep` or `regularization_path`, or a history of a training.

    Returns
    -------
    matplotlib.figure.Figure
        It shows itself at the end of a cell of a notebook; ``figure.axes`` are the panels, ``figure.savefig(path)`` writes it.

    Raises
    ------
    TypeError
        If `result` is no labelled result.
    ValueError
        If no figure is of such a result; the message names the figures.
    MissingExtra
        If matplotlib is not installed (extra ``study``).

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP.random([3, 5, 2], activation="tanh", family=fs.families.Bernoulli(2), rng=0)
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> estimate = fs.estimate_fisher(model, x, estimator="score", n_draws=5, rng=0)
    >>> [axes.get_xlabel() for axes in fs.plotting.plot(estimate).axes]
    ['estimated Fisher information of a parameter', 'standard error over the estimate']
    """
    figures.labelled_result(result, xr.DataArray | xr.Dataset)
    for draw in _FIGURES:
        try:
            return draw(result)
        except figures.NotDrawable:
            continue
    figures.no_figure(result, [draw.__name__ for draw in _FIGURES])
