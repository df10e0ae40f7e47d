r"""Dense matrices :math:`\frac1n\sum_i(R_l^\top R_m)\otimes(\bar h_l\bar h_m^\top)` from rows of unit factors, tile by tile.

Block (l, m) is one matrix product between pairs of units and pairs of inputs, whatever the number of outputs; within a layer both
kinds of pairs are symmetric, and each is formed once. A tile is a few units of layer l with all units of layer m: small enough to
stay near the cache, and the tiles of a matrix are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fisherstats.streaming import Reduction

__all__ = ["PairSum"]

Array = NDArray[np.floating]
Rows = list[list[Array]]
"""Per quantity and layer, (n, rows, units)."""

_TILE_PAIRS = 768
"""Unit pairs in a tile."""

_CHUNK = 768
"""Input pairs multiplied at a time."""


@dataclass(frozen=True)
class Tile:
    """A few units of layer `left` with all units of layer `right`, of one of the quantities."""

    quantity: int
    left: int
    right: int
    units: slice


class PairSum(Reduction):
    """The mean over inputs of one or more matrices, each given by rows R_l with (R_l' R_m) in its block (l, m).

    Each block of inputs is (rows of each quantity, layer inputs). `finish` gives the matrices: the whole matrix under (0, 0)
    with `cross_layers`, else the diagonal blocks under (l, l); exactly symmetric. A leaf is one group of blocks, so its tiles are
    added to the totals at once, and with the last group they are written while they are still in the cache.
    """

    leaf_blocks = 1

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        n_quantities: int,
        cross_layers: bool,
        dtype: np.dtype[np.floating],
    ) -> None:
        super().__init__()
        self._shapes = shapes
        self._dtype = dtype
        self._seen = 0
        self._written = False
        ends = np.cumsum([n_out * n_in for n_out, n_in in shapes])
        self._own = [slice(end - n_out * n_in, end) for end, (n_out, n_in) in zip(ends, shapes, strict=True)]
        self._cross_layers = cross_layers
        self._n_quantities = n_quantities
        self._matrices: list[dict[tuple[int, int], Array]] = []
        layers = range(len(shapes))
        blocks = [(left, right) for left in layers for right in (layers[left:] if cross_layers else (left,))]
        # The largest first, so that the threads end at about the same time.
        blocks.sort(key=lambda block: -self._cost(*block))
        self.tiles = [
            Tile(quantity, left, right, slice(start, min(start + self._step(right), shapes[left][0])))
            for left, right in blocks
            for quantity in range(n_quantities)
            for start in range(0, shapes[left][0], self._step(right))
        ]

    def tasks(self, parts: list[tuple[Rows, list[Array]]], last: bool) -> list[Callable[[], None]]:
        """Return the tiles of all blocks; the last group of inputs writes them into the matrices."""
        self._seen += sum(len(inputs[0]) for _, inputs in parts)
        if not self.totals:
            self.totals = [None] * len(self.tiles)
        if last:
            self._make_matrices()
            self._written = True
        return [partial(self._add, parts, last, place) for place in range(len(self.tiles))]

    def finish(self, n_inputs: int) -> list[dict[tuple[int, int], Array]]:
        """Return the matrices, written from the totals if the last group has not done it."""
        if not self._written:
            self._make_matrices()
            for place, tile in enumerate(self.tiles):
                self._write(tile, self.totals[place], n_inputs)
                self.totals[place] = None
        return self._matrices

    def _make_matrices(self) -> None:
        layers = range(len(self._shapes))
        size = self._own[-1].stop
        sizes = {(0, 0): size} if self._cross_layers else {(layer, layer): np.prod(self._shapes[layer]) for layer in layers}
        self._matrices = [{key: np.empty((n, n), self._dtype) for key, n in sizes.items()} for _ in range(self._n_quantities)]

    def _cost(self, left: int, right: int) -> int:
        sizes = [n_out * n_in for n_out, n_in in (self._shapes[left], self._shapes[right])]
        return sizes[0] * sizes[1] // (4 if left == right else 1)

    def _step(self, right: int) -> int:
        """Return how many units of layer l a tile of block (l, m) takes."""
        return max(1, _TILE_PAIRS // self._shapes[right][0])

    def _add(self, parts: list[tuple[Rows, list[Array]]], last: bool, place: int) -> None:
        tile = self.tiles[place]
        sums = tile_sums(parts, tile)
        if self.totals[place] is not None:
            sums = self.totals[place] + sums
        if last:
            self._write(tile, sums, self._seen)
            self.totals[place] = None
        else:
            self.totals[place] = sums.astype(np.float64, copy=False)

    def _write(self, tile: Tile, sums: Array, n_inputs: int) -> None:
        mean = np.divide(sums, n_inputs, out=sums)
        if tile.left == tile.right:
            self._write_own(tile.quantity, tile.left, tile.units, mean)
        else:
            self._write_cross(tile.quantity, tile.left, tile.right, tile.units, mean)

    def _write_cross(self, quantity: int, left: int, right: int, chosen: slice, sums: Array) -> None:
        """Write the rows of block (l, m) that belong to the chosen units, and the same columns of block (m, l)."""
        (_, n_in), (n_out2, n_in2) = self._shapes[left], self._shapes[right]
        matrix = self._matrices[quantity][0, 0]
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
        matrix = self._matrices[quantity][(0, 0) if self._cross_layers else (layer, layer)]
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


def tile_sums(parts: list[tuple[Rows, list[Array]]], tile: Tile) -> Array:
    """Return the sums over a group of inputs of a tile, (unit pairs, input pairs); within a layer the pairs o <= p and d <= q."""
    rows = [(of[tile.quantity][tile.left], of[tile.quantity][tile.right]) for of, _ in parts]
    inputs = [(own[tile.left], own[tile.right]) for _, own in parts]
    same = tile.left == tile.right
    units = _unit_pairs(rows, tile.units, same)
    flat = units.reshape(len(units), -1)
    factor = flat[:, _upper(tile.units, units.shape[2])] if same else flat
    return _products(factor, inputs, same)


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
