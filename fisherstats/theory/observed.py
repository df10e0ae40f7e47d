r"""Observed minus expected information, :math:`-\sum_ar_aH^a` at the data labels, in units of its standard error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fisherstats.models.derivatives import Forward, HessianBlocks
from fisherstats.models.families import Law
from fisherstats.theory import assembly

__all__ = ["deviation_blocks", "deviation_factors", "output_information", "z_scores"]

Array = NDArray[np.floating]

_ROUNDING = 64
"""Units of rounding allowed in a sum over outputs."""


def deviation_factors(S: Sequence[Array | None], residual: Array) -> tuple[list[Array | None], list[Array | None]]:
    r"""Return :math:`-r\cdot S_l` per unit (eq 3 of 2024), (n, units), and its rounding error; None where zero."""
    deviation: list[Array | None] = []
    rounding: list[Array | None] = []
    unit = _ROUNDING * np.finfo(residual.dtype).eps
    for S_l in S:
        deviation.append(None if S_l is None else 0.0 - np.matmul(residual[:, None, :], S_l)[:, 0])
        rounding.append(None if S_l is None else unit * np.matmul(np.abs(residual)[:, None, :], np.abs(S_l))[:, 0])
    return deviation, rounding


def deviation_blocks(hessian: HessianBlocks, inputs: Sequence[Array]) -> dict[tuple[int, int], Array]:
    r"""Return the blocks l <= m of :math:`-\sum_i\sum_ar_aH^a` for the Hessians of :math:`r^\top h` of each input."""
    blocks = {}
    for left in range(len(inputs)):
        for right in range(left, len(inputs)):
            units = hessian.pairs[left, right]
            if units is None:
                n_units = [hessian.score[layer].shape[2] for layer in (left, right)]
                units = np.zeros_like(hessian.score[0], shape=(len(inputs[0]), 1, *n_units))
            block = assembly.pair_sum(0.0 - units[:, 0], inputs[left], inputs[right])
            if left < right:
                block -= assembly.reach_sum(hessian.reach[left, right], inputs[left], inputs[right], hessian.score[right][:, 0])
            blocks[left, right] = block
    return blocks


def output_information(law: Law, forward: Forward, residual: Array) -> Array:
    r"""Return minus the second derivative of the log-likelihood by the outputs z, (n, T, T).

    It is :math:`g'I(h)g'-\mathrm{diag}(r\circ g'')` with a link h = g(z).
    """
    information = law.information()
    if forward.link_slope is None or forward.link_bend is None:
        return information
    outputs = np.arange(information.shape[1])
    matrix: Array = forward.link_slope[:, :, None] * information * forward.link_slope[:, None, :]
    matrix[:, outputs, outputs] -= residual * forward.link_bend
    return matrix


def z_scores(deviation: Array, rounding: Array, variance: Array) -> Array:
    """Return deviation / sqrt(variance); where the variance is 0, it is 0 within rounding error and infinite otherwise."""
    varies = variance > 0
    certain = np.where(np.abs(deviation) <= rounding, 0.0, np.copysign(np.inf, deviation)).astype(deviation.dtype)
    return np.where(varies, deviation / np.sqrt(np.where(varies, variance, 1)), certain)
