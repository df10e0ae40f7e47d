r"""Observed minus expected information, :math:`-\sum_ar_aH^a` at the data labels, in units of its standard error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["deviation_factors", "z_scores"]

Array = NDArray[np.floating]

_ROUNDING = 64
"""Units of rounding that a sum over outputs may carry."""


def deviation_factors(S: Sequence[Array | None], residual: Array) -> tuple[list[Array | None], list[Array | None]]:
    r"""Return :math:`-r\cdot S_l` per unit (eq 3 of 2024), (n, units), and what rounding may add to it; None where zero."""
    deviation: list[Array | None] = []
    rounding: list[Array | None] = []
    unit = _ROUNDING * np.finfo(residual.dtype).eps
    for S_l in S:
        deviation.append(None if S_l is None else 0.0 - np.matmul(residual[:, None, :], S_l)[:, 0])
        rounding.append(None if S_l is None else unit * np.matmul(np.abs(residual)[:, None, :], np.abs(S_l))[:, 0])
    return deviation, rounding


def z_scores(deviation: Array, rounding: Array, variance: Array) -> Array:
    """Return deviation / sqrt(variance); where it does not vary, 0 up to rounding and infinite beyond."""
    varies = variance > 0
    certain = np.where(np.abs(deviation) <= rounding, 0.0, np.copysign(np.inf, deviation)).astype(deviation.dtype)
    z: Array = np.where(varies, deviation / np.sqrt(np.where(varies, variance, 1)), certain)
    return z
