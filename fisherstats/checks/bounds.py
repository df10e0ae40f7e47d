"""Checks of what the bounds are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.checks.arguments import array_like, shown

__all__ = ["parameter_pairs", "several_inputs"]


def parameter_pairs(value: Any, n_params: int) -> NDArray[np.int64]:
    """Return pairs of parameter indices as an integer array (k, 2)."""
    pairs = array_like("pairs", value)
    if pairs.ndim != 2 or pairs.shape[1:] != (2,) or not len(pairs):
        raise ValueError(
            f"`pairs` must have shape (k, 2), one row (i, j) per entry, got shape {pairs.shape}; use [(i, j)] for one."
        )
    if pairs.dtype.kind not in "iu":
        raise TypeError(f"`pairs` must hold integer indices of parameters, got {shown(pairs)}; convert it with `.astype(int)`.")
    outside = (pairs < 0) | (pairs >= n_params)
    if outside.any():
        row, side = (int(i) for i in np.argwhere(outside)[0])
        raise ValueError(f"`pairs` must hold indices from 0 to {n_params - 1}, got {pairs[row, side]} at index ({row}, {side}).")
    return pairs.astype(np.int64)


def several_inputs(what: str, n_inputs: int) -> None:
    """Require two inputs where a variance over inputs is asked for."""
    if n_inputs < 2:
        raise ValueError(f"`x` must have at least two rows for {what}, got {n_inputs}; one input has no variance over inputs.")
