"""Checks of the scaling of weights: factors and layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation.arguments import real_array, shown

__all__ = ["scales", "weight_layers"]


def scales(value: Any) -> NDArray[np.float64]:
    """Return different factors above 0."""
    factors = real_array("scales", value).astype(np.float64)
    if factors.ndim != 1 or not factors.size:
        raise ValueError(f"`scales` must be a list of at least one factor, got shape {factors.shape}; use [2.0] for one.")
    if (factors <= 0).any():
        position = int(np.argmax(factors <= 0))
        raise ValueError(f"`scales` must be above 0, got {factors[position]} at index {position}.")
    if np.unique(factors).size < factors.size:
        raise ValueError(f"`scales` must not repeat a factor, got {shown(value)}.")
    return factors


def weight_layers(value: Any, n_layers: int) -> list[int]:
    """Return different indices of weight matrices in ascending order; all of them for None."""
    if value is None:
        return list(range(n_layers))
    given = list(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes) else [value]
    for layer in given:
        if isinstance(layer, bool | np.bool_) or not isinstance(layer, int | np.integer) or not 0 <= layer < n_layers:
            raise ValueError(f"`layers` must hold integers from 0 to {n_layers - 1}, got {shown(layer)}.")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"`layers` must name at least one layer, each once, got {shown(value)}.")
    return sorted(int(layer) for layer in given)
