"""Checks of the arguments of the bounds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation.arguments import array_like, shown

__all__ = ["forms_hold", "parameter_pairs", "several_inputs"]


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
    """Require two inputs where a variance over inputs is requested."""
    if n_inputs < 2:
        raise ValueError(f"`x` must have at least two rows for {what}, got {n_inputs}; one input has no variance over inputs.")


def forms_hold(function: str, forms: Sequence[str], failed: NDArray[np.floating]) -> None:
    """Warn of forms of a bound, on axis -2 of their counts, that are on the wrong side of the exact number or are none."""
    counts = failed.sum(axis=tuple(axis for axis in range(failed.ndim) if axis != failed.ndim - 2))
    if counts.any():
        wrong = ", ".join(f"{form!r} ({count:.0f})" for form, count in zip(forms, counts, strict=True) if count)
        warnings.warn(
            f"{function}: certified forms are on the wrong side of the exact value, or nan, at this many entries: {wrong}. They "
            "are not bounds in this result. This is a bug in fisherstats: please report the network and "
            "the inputs.",
            RuntimeWarning,
            stacklevel=2,
        )
