"""Figures: one function per figure, each of a single labelled result."""

from __future__ import annotations

from fisherstats.plotting.applications import efficiency, forgetting, learning_curves, second_moments
from fisherstats.plotting.estimates import estimate_by_layer, plot
from fisherstats.plotting.relative import learning_zone
from fisherstats.plotting.study import bound_tightness, information_by_layer, relative_error_by_layer, standard_error_by_draws
from fisherstats.plotting.style import as_svg
from fisherstats.plotting.training import regularization_path, training_errors
from fisherstats.plotting.weights import derivative_bounds, norm_sweep

__all__ = [
    "as_svg",
    "bound_tightness",
    "derivative_bounds",
    "efficiency",
    "estimate_by_layer",
    "forgetting",
    "information_by_layer",
    "learning_curves",
    "learning_zone",
    "norm_sweep",
    "plot",
    "regularization_path",
    "relative_error_by_layer",
    "second_moments",
    "standard_error_by_draws",
    "training_errors",
]
