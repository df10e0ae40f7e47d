r"""First and second derivatives of h by chosen parameters: selected columns of J and entries of the Hessians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fisherstats.models.derivatives import HessianBlocks

__all__ = ["Places", "hessian_entries", "jacobian_columns"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Places:
    """Positions of parameters: layer, row o and column d of the weight matrix, (k,) each."""

    layer: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]

    @classmethod
    def of(cls, params: NDArray[np.int64], shapes: Sequence[tuple[int, int]]) -> Places:
        """Return the places of indices in the flat row-major parameter vector."""
        sizes = np.array([rows * columns for rows, columns in shapes])
        ends = np.cumsum(sizes)
        layer = np.searchsorted(ends, params, side="right")
        within = params - (ends - sizes)[layer]
        width = np.array([columns for _, columns in shapes])[layer]
        return cls(layer, within // width, within % width)

    def ordered(self, other: Places) -> tuple[Places, Places]:
        """Return both with the lower layer of each pair first."""
        swap = self.layer > other.layer
        fields = [(getattr(self, name), getattr(other, name)) for name in ("layer", "row", "column")]
        lower = Places(*(np.where(swap, theirs, ours) for ours, theirs in fields))
        upper = Places(*(np.where(swap, ours, theirs) for ours, theirs in fields))
        return lower, upper


def jacobian_columns(G: Sequence[Array], inputs: Sequence[Array], places: Places) -> Array:
    r"""Return :math:`\partial_ih=G_l[:,o]\,\bar h_l[d]` for chosen parameters, (n, T, k)."""
    n, outputs = G[0].shape[:2]
    columns = np.empty_like(inputs[0], shape=(n, outputs, len(places.layer)))
    for layer in np.unique(places.layer):
        here = np.flatnonzero(places.layer == layer)
        columns[:, :, here] = G[layer][:, :, places.row[here]] * inputs[layer][:, None, places.column[here]]
    return columns


def hessian_entries(hessian: HessianBlocks, inputs: Sequence[Array], first: Places, second: Places) -> Array:
    r"""Return :math:`\partial^2_{ij}(r_k\cdot h)` for chosen pairs of parameters, (n, K, pairs), for the K directions given.

    :math:`C_{lm}[o,p]\,\bar h_l[d]\bar h_m[q]`, plus :math:`g_m[p]\,R[q,o]\,\bar h_l[d]` for l < m and q not the bias.
    """
    lower, upper = first.ordered(second)
    n, directions = hessian.score[0].shape[:2]
    entries = np.zeros_like(inputs[0], shape=(n, directions, len(lower.layer)))
    for (left, right), units in hessian.pairs.items():
        here = np.flatnonzero((lower.layer == left) & (upper.layer == right))
        if not len(here):
            continue
        o, d, p, q = lower.row[here], lower.column[here], upper.row[here], upper.column[here]
        h_left, h_right = inputs[left][:, None, d], inputs[right][:, None, q]
        if units is not None:
            entries[:, :, here] += units[:, :, o, p] * h_left * h_right
        if left < right:
            weights = q < hessian.reach[left, right].shape[1]
            o, d, p, q = o[weights], d[weights], p[weights], q[weights]
            reach = hessian.reach[left, right][:, None, q, o]
            entries[:, :, here[weights]] += hessian.score[right][:, :, p] * reach * inputs[left][:, None, d]
    return entries
