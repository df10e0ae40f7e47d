"""Checks of subsystems of a network and of changes of coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fisherstats.core.validation.arguments import real_array, shown

__all__ = ["SOFTMAX", "finite_metric", "layer_activations", "softmax_units", "transformation"]

SOFTMAX = "softmax"


def layer_activations(activation: Any, n_layers: int) -> tuple[list[Any], bool]:
    """Return one activation per matrix, and whether the last one is a softmax, which is then omitted."""
    several = isinstance(activation, Sequence) and not isinstance(activation, str)
    chosen = list(activation) if several else [activation] * n_layers
    if len(chosen) != n_layers:
        raise ValueError(
            f"`activation` must name one activation for each of the {n_layers} matrices in `weights`, got {len(chosen)}; a "
            "single name applies to all of them."
        )
    if any(isinstance(one, str) and one == SOFTMAX for one in chosen[:-1]):
        raise ValueError(
            f"`activation` must have 'softmax' in its last place only, got {shown(activation)}; give a list with one activation "
            "per matrix."
        )
    if isinstance(chosen[-1], str) and chosen[-1] == SOFTMAX:
        return chosen[:-1], True
    return chosen, False


def softmax_units(n_units: int) -> None:
    """Require a softmax layer to have at least two units."""
    if n_units < 2:
        raise ValueError(
            f"`weights` must end in a matrix of at least 2 rows with the activation 'softmax', got {n_units}; with one class "
            "nothing is random, and 'sigmoid' is a binary response."
        )


def transformation(metric: Any, jacobian: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a metric (..., m, m), symmetric up to rounding, and a Jacobian (..., m, k)."""
    metric, jacobian = real_array("metric", metric), real_array("jacobian", jacobian)
    if metric.ndim < 2 or metric.shape[-1] != metric.shape[-2]:
        raise ValueError(f"`metric` must be a square matrix, or several of them, (..., m, m), got shape {metric.shape}.")
    size = metric.shape[-1]
    if jacobian.ndim < 2 or jacobian.shape[-2] != size:
        raise ValueError(
            f"`jacobian` must have shape (..., {size}, k), a row for each of the {size} coordinates of the metric and a column "
            f"for each new one, got shape {jacobian.shape}."
        )
    try:
        np.broadcast_shapes(metric.shape[:-2], jacobian.shape[:-2])
    except ValueError as error:
        raise ValueError(
            f"`jacobian` must be one matrix, or one for each of the {metric.shape[:-2]} matrices of `metric`, got shape "
            f"{jacobian.shape}."
        ) from error
    apart = np.abs(metric - np.swapaxes(metric, -1, -2)).max(initial=0.0)
    if apart > 1e3 * np.finfo(metric.dtype).eps * np.abs(metric).max(initial=0.0):
        raise ValueError(f"`metric` must be symmetric, got entries that differ by {apart:.3g} from their mirror images.")
    return metric, jacobian


def finite_metric(metric: np.ndarray) -> np.ndarray:
    """Return a metric in other coordinates, if it is within the range of its dtype."""
    if not np.isfinite(metric).all():
        raise ValueError(
            f"`metric` and `jacobian` must give a metric within the range of {metric.dtype}, got "
            f"{metric[~np.isfinite(metric)][0]}; scale the coordinates."
        )
    return metric
