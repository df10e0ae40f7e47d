r"""Dense matrices :math:`\frac1n\sum_i(R_l^\top R_m)\otimes(\bar h_l\bar h_m^\top)` from rows of unit factors, tile by tile.

Block (l, m) is one matrix product between pairs of units and pairs of inputs, whatever the number of outputs; within a layer both
kinds of pairs are symmetric, and each is formed once. A tile is a few units of layer l with all units of layer m: small enough to
stay near the cache, and the tiles of a matrix are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

__all__ = ["PairSum"]

Array = NDArray[np.floating]
Rows = list[list[Array]]
"""Per quantity and layer, (n, rows, units)."""

_TILE_PAIRS = 768
"""Unit pairs in a tile."""

_CHUNK = 768
"""Input pairs multiplied at a time."""


class PairSum:
    """The mean over inputs of one or more matrices, each given by rows R_l with (R_l' R_m) in its block (l, m).

    Each block of inputs is (rows of each quantity, layer inputs). Finished matrices lie in `matrices`: the whole matrix under
    (0, 0) with `cross_layers`, else the diagonal blocks under (l, l); exactly symmetric.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        n_inputs: int,
        n_quantities: int,
        cross_layers: bool,
        dtype: np.dtype[np.floating],
    ) -> None:
        self._shapes = shapes
        self._n_inputs = n_inputs
        self._seen = 0
        self._sums: dict[tuple[int, int, int, int], Array] = {}
        ends = np.cumsum([n_out * n_in for n_out, n_in in shapes])
        self._own = [slice(end - n_out * n_in, end) for end, (n_out, n_in) in zip(ends, shapes, strict=True)]
        self._cross_layers = cross_layers
        layers = range(len(shapes))
        sizes = {(0, 0): ends[-1]} if cross_layers else {(layer, layer): np.prod(shapes[layer]) for layer in layers}
        self.matrices = [{key: np.empty((size, size), dtype) for key, size in sizes.items()} for _ in range(n_quantities)]

    def tasks(self, parts: list[tuple[Rows, list[Array]]]) -> list[Callable[[], None]]:
        """Return the tiles of all blocks; the last group of inputs writes them into the matrices."""
        self._seen += sum(len(inputs[0]) for _, inputs in parts)
        last = self._seen == self._n_inputs
        layers = range(len(self._shapes))
        blocks = [(left, right) for left in layers for right in (layers[left:] if self._cross_layers else (left,))]
        # The largest first, so that the threads end at about the same time.
        blocks.sort(key=lambda block: -self._cost(*block))
        return [
            partial(self._tile, parts, last, quantity, left, right, start)
            for left, right in blocks
            for quantity in range(len(self.matrices))
            for start in range(0, self._shapes[left][0], self._step(right))
        ]

    def _cost(self, left: int, right: int) -> int:
        sizes = [n_out * n_in for n_out, n_in in (self._shapes[left], self._shapes[right])]
        return sizes[0] * sizes[1] // (4 if left == right else 1)

    def _step(self, right: int) -> int:
        """Return how many units of layer l a tile of block (l, m) takes."""
        return max(1, _TILE_PAIRS // self._shapes[right][0])

    def _tile(self, parts: list[tuple[Rows, list[Array]]], last: bool, quantity: int, left: int, right: int, start: int) -> None:
        rows = [(of[quantity][left], of[quantity][right]) for of, _ in parts]
        inputs = [(own[left], own[right]) for _, own in parts]
        chosen = slice(start, min(start + self._step(right), self._shapes[left][0]))
        same = left == right
        units = _unit_pairs(rows, chosen, same)
        keep = _upper(chosen, units.shape[2]) if same else None
        factor = units.reshape(len(units), -1) if keep is None else units.reshape(len(units), -1)[:, keep]
        sums = _products(factor, inputs, same)
        key = (quantity, left, right, start)
        if key in self._sums:
            sums += self._sums.pop(key)
        if not last:
            self._sums[key] = sums.astype(np.float64, copy=False)
            return
        sums /= self._n_inputs
        if same:
            self._write_own(quantity, left, chosen, sums)
        else:
            self._write_cross(quantity, left, right, chosen, sums)

    def _write_cross(self, quantity: int, left: int, right: int, chosen: slice, sums: Array) -> None:
        """Write the rows of block (l, m) that belong to the chosen units, and the same columns of block (m, l)."""
        (_, n_in), (n_out2, n_in2) = self._shapes[left], self._shapes[right]
        matrix = self.matrices[quantity][0, 0]
        tile = sums.reshape(-1, n_out2, n_in, n_in2)
        start = self._own[left].start
        own = slice(start + chosen.start * n_in, start + chosen.stop * n_in)
        above = matrix[own, self._own[right]].reshape(len(tile), n_in, n_out2, n_in2)
        above[...] = tile.transpose(0, 2, 1, 3)
        below = matrix[self._own[right], own].reshape(n_out2, n_in2, len(tile), n_in)
        below[...] = tile.transpose(1, 3, 0, 2)

    def _write_own(self, quantity: int, layer: int, chosen: slice, sums: Array) -> None:
        """Write the pairs o <= p of a layer's own block, with o among the chosen units, and their mirror images."""
        n_out, n_in = self._shapes[layer]
        matrix = self.matrices[quantity][(0, 0) if self._cross_layers else (layer, layer)]
        if self._cross_layers:
            matrix = matrix[self._own[layer], self._own[layer]]
        block = matrix.reshape(n_out, n_in, n_out, n_in)
        packed = np.empty((n_in, n_in), np.intp)
        above = np.triu_indices(n_in)
        packed[above] = packed.T[above] = np.arange(len(above[0]))
        first = 0
        for unit in range(chosen.start, chosen.stop):
            count = n_out - unit
            square = np.take(sums[first : first + count], packed.ravel(), axis=1).reshape(count, n_in, n_in)
            block[unit, :, unit:, :] = square.transpose(1, 0, 2)
            block[unit:, :, unit, :] = square
            first += count


def _unit_pairs(rows: list[tuple[Array, Array]], chosen: slice, same: bool) -> Array:
    """Return R_l' R_m for the chosen units of layer l, (n, chosen, units); within a layer from the first chosen unit on."""
    n = sum(len(one) for one, _ in rows)
    first = chosen.start if same else 0
    n_right = rows[0][1].shape[2] - first
    units = np.empty((n, chosen.stop - chosen.start, n_right), rows[0][0].dtype)
    start = 0
    for one, other in rows:
        stop = start + len(one)
        np.matmul(one[:, :, chosen].transpose(0, 2, 1), other[:, :, first:], out=units[start:stop])
        start = stop
    return units


def _upper(chosen: slice, n_right: int) -> NDArray[np.bool_]:
    """Return which of the pairs (chosen unit, unit from the first chosen one on) have o <= p, flattened."""
    count = chosen.stop - chosen.start
    upper: NDArray[np.bool_] = np.arange(n_right)[None, :] >= np.arange(count)[:, None]
    return upper.ravel()


def _products(factor: Array, inputs: list[tuple[Array, Array]], same: bool) -> Array:
    """Return factor' (pairs of inputs), chunk by chunk; within a layer the pairs d <= q only."""
    # Inputs last: the products are then formed along rows of many inputs.
    columns = [(left.T.copy(), right.T.copy()) for left, right in inputs]
    n_left, n_right = inputs[0][0].shape[1], inputs[0][1].shape[1]
    widths = [n_right - column if same else n_right for column in range(n_left)]
    sums = np.empty((factor.shape[1], sum(widths)), factor.dtype)
    column, done = 0, 0
    while column < n_left:
        stop, width = column + 1, widths[column]
        while stop < n_left and width + widths[stop] <= _CHUNK:
            width += widths[stop]
            stop += 1
        pairs = np.empty((width, len(factor)), factor.dtype)
        _fill(pairs, columns, range(column, stop), same)
        np.matmul(factor.T, pairs.T, out=sums[:, done : done + width])
        column, done = stop, done + width
    return sums


def _fill(pairs: Array, inputs: list[tuple[Array, Array]], columns: range, same: bool) -> None:
    """Write the products of the given columns of the left inputs with (the later ones of) the right inputs, (pairs, n)."""
    start = 0
    for left, right in inputs:
        stop = start + left.shape[1]
        done = 0
        for column in columns:
            later = right[column:] if same else right
            np.multiply(left[column], later, out=pairs[done : done + len(later), start:stop])
            done += len(later)
        start = stop
