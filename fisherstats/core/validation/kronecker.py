"""Checks of operators by Kronecker factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from fisherstats.core.validation.arguments import shown

__all__ = ["layer_of", "vectors_of"]


def vectors_of(shape: tuple[int, ...], n_params: int) -> None:
    """Require one vector over the parameters, or columns."""
    if len(shape) not in (1, 2) or shape[0] != n_params:
        raise ValueError(f"`vectors` must have shape ({n_params},) or ({n_params}, k), one number per parameter, got {shape}.")


def layer_of(layer: Any, n_layers: int) -> int:
    """Return the number of a layer of weights."""
    if isinstance(layer, bool | np.bool_) or not isinstance(layer, int | np.integer) or not 0 <= layer < n_layers:
        raise ValueError(f"`layer` must be an integer from 0 to {n_layers - 1}, got {shown(layer)}.")
    return int(layer)
