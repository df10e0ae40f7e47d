r"""Dense matrices :math:`\frac1n\sum_i(R_l^\top R_m)\otimes(\bar h_l\bar h_m^\top)` from rows of unit factors, tile by tile.

Block (l, m) is one matrix product between pairs of units and pairs of inputs, for any number of outputs; within a layer both
kinds of pairs are symmetric, and each is formed once. A tile is a few units of layer l with all units of layer m: small enough to
stay near the cache, and the tiles of a matrix are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import double, on_device
from fisherstats.execution import Reduction

__all__ = ["DEVICE_PAIRS", "PairSum", "TileSum", "small_tiles"]

Array = NDArray[np.floating]
Rows = list[list[Array]]
"""Per quantity and layer, (n, rows, units)."""

_TILE_PAIRS = 768
"""Unit pairs in a tile."""

_CHUNK = 768
"""Input pairs multiplied at a time."""

DEVICE_PAIRS = 2**13
"""Unit pairs in a tile, and input pairs multiplied at a time, on a device: a product needs that many to keep it busy."""


@dataclass(frozen=True)
class Tile:
    """A few units of layer `left` with some units of layer `right`, of one of the quantities; within a layer the pairs o <= p."""

    quantity: int
    left: int
    right: int
    units: slice
    others: slice


def small_tiles(shapes: Sequence[tuple[int, int]], cross_layers: bool, numbers: int, chunk: Callable[[int], int]) -> list[Tile]:
    """Return tiles of one matrix with a maximal size, of at least one whole chunk of `chunk(layer)` units."""
    layers = range(len(shapes))
    tiles = []
    for left in layers:
        for right in layers[left:] if cross_layers else (left,):
            (n_left, n_in), (n_right, n_in2) = shapes[left], shapes[right]
            pairs = n_in * (n_in + 1) // 2 if left == right else n_in * n_in2
            rows, columns = chunk(left), chunk(right)
            width = columns * max(1, numbers // (pairs * rows * columns))
            for start in range(0, n_left, rows):
                units = slice(start, min(start + rows, n_left))
                for other in range(start if left == right else 0, n_right, width):
                    tiles.append(Tile(0, left, right, units, slice(other, min(other + width, n_right))))
    return tiles


class PairSum(Reduction):
    """The mean over inputs of one or more matrices, each given by rows R_l with (R_l' R_m) in its block (l, m).

    Each block of inputs is (rows of each quantity, layer inputs). `finish` gives the matrices: the whole matrix under (0, 0)
    with `cross_layers`, else the diagonal blocks under (l, l); exactly symmetric. A leaf is one group of blocks, so its tiles are
    added to the totals at once, and with the last group they are written while they are still in the cache.
    """

    leaf_blocks = 1
    shared = True

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        n_quantities: int,
        cross_layers: bool,
        dtype: np.dtype[np.floating],
        tile_pairs: int = _TILE_PAIRS,
    ) -> None:
        super().__init__()
        self._shapes = shapes
        self._dtype = dtype
        self._tile_pairs = tile_pairs
        self._seen = 0
        self._written = False
        ends = np.cumsum([n_out * n_in for n_out, n_in in shapes])
        self._own = [slice(end - n_out * n_in, end) for end, (n_out, n_in) in zip(ends, shapes, strict=True)]
        self._cross_layers = cross_layers
        self._n_quantities = n_quantities
        self._matrices: list[dict[tuple[int, int], Array]] = []
        layers = range(len(shapes))
        blocks = [(left, right) for left in layers for right in (layers[left:] if cross_layers else (left,))]
        # The largest first, so that the threads finish at about the same time.
        blocks.sort(key=lambda block: -self._cost(*block))
        self.tiles = [
            Tile(quantity, left, right, slice(start, stop), slice(start if left == right else 0, shapes[right][0]))
            for left, right in blocks
            for quantity in range(n_quantities)
            for start in range(0, shapes[left][0], self._step(right))
            for stop in (min(start + self._step(right), shapes[left][0]),)
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
        """Return the matrices, written from the totals unless the last group has already done so."""
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
        """Return the number of units of layer l in a tile of block (l, m)."""
        return max(1, self._tile_pairs // self._shapes[right][0])

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
            self._write_own(tile, mean)
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

    def _write_own(self, tile: Tile, sums: Array) -> None:
        """Write the pairs o <= p of a layer's own block, with o among the chosen units, and their mirror images."""
        n_out, n_in = self._shapes[tile.left]
        matrix = self._matrices[tile.quantity][(0, 0) if self._cross_layers else (tile.left, tile.left)]
        if self._cross_layers:
            matrix = matrix[self._own[tile.left], self._own[tile.left]]
        block = matrix.reshape(n_out, n_in, n_out, n_in)
        for unit, others, square in squares(tile, sums, n_in):
            block[unit, :, others, :] = square.transpose(1, 0, 2)
            block[others, :, unit, :] = square


class TileSum(Reduction):
    """The sums of some tiles only, for a matrix that does not fit in memory; `rectangles` yields values and positions."""

    leaf_blocks = 1
    shared = True

    def __init__(self, shapes: Sequence[tuple[int, int]], tiles: Sequence[Tile]) -> None:
        super().__init__()
        self._shapes = shapes
        self._tiles = tiles

    def tasks(self, parts: list[tuple[Rows, list[Array]]], last: bool) -> list[Callable[[], None]]:
        """Return the tiles."""
        if not self.totals:
            self.totals = [0.0] * len(self._tiles)
        return [partial(self._add, parts, place) for place in range(len(self._tiles))]

    def _add(self, parts: list[tuple[Rows, list[Array]]], place: int) -> None:
        sums = tile_sums(parts, self._tiles[place])
        self.totals[place] = double(sums) + self.totals[place]

    def rectangles(self, n_inputs: int) -> Iterator[tuple[int, int, slice, slice, Array]]:
        """Yield (layer l, layer m, rows, columns, mean) of every tile and its mirror image; rows and columns of block (l, m)."""
        for place, tile in enumerate(self._tiles):
            mean = np.divide(self.totals[place], n_inputs, out=self.totals[place])
            (_, n_in), (_, n_in2) = self._shapes[tile.left], self._shapes[tile.right]
            whole = self._whole(tile, mean, n_in, n_in2)
            rows = slice(tile.units.start * n_in, tile.units.stop * n_in)
            columns = slice(tile.others.start * n_in2, tile.others.stop * n_in2)
            yield tile.left, tile.right, rows, columns, whole
            yield tile.right, tile.left, columns, rows, whole.T
            self.totals[place] = None

    def _whole(self, tile: Tile, mean: Array, n_in: int, n_in2: int) -> Array:
        """Return the rectangle of a tile, pairs below the diagonal included."""
        n_units, n_others = tile.units.stop - tile.units.start, tile.others.stop - tile.others.start
        if tile.left != tile.right:
            return mean.reshape(n_units, n_others, n_in, n_in2).transpose(0, 2, 1, 3).reshape(n_units * n_in, -1)
        whole = np.empty((n_units, n_in, n_others, n_in))
        for unit, others, square in squares(tile, mean, n_in):
            own, first = unit - tile.units.start, others.start - tile.others.start
            whole[own, :, first:, :] = square.transpose(1, 0, 2)
            # The mirror images within the chosen units.
            for other in range(others.start, min(others.stop, tile.units.stop)):
                if unit >= tile.others.start:
                    whole[other - tile.units.start, :, unit - tile.others.start, :] = square[other - others.start]
        return whole.reshape(n_units * n_in, -1)


def squares(tile: Tile, sums: Array, n_in: int) -> Iterator[tuple[int, slice, Array]]:
    """Yield (unit o, units p >= o of the tile, their sums over all pairs of inputs) of a tile within a layer, (p, d, q)."""
    packed = np.empty((n_in, n_in), np.intp)
    above = np.triu_indices(n_in)
    packed[above] = packed.T[above] = np.arange(len(above[0]))
    first = 0
    for unit in range(tile.units.start, tile.units.stop):
        others = slice(max(unit, tile.others.start), tile.others.stop)
        count = max(0, others.stop - others.start)
        if count:
            yield unit, others, np.take(sums[first : first + count], packed.ravel(), axis=1).reshape(count, n_in, n_in)
        first += count


def tile_sums(parts: list[tuple[Rows, list[Array]]], tile: Tile) -> Array:
    """Return the sums over a group of inputs of a tile, (unit pairs, input pairs); within a layer the pairs o <= p and d <= q."""
    rows = [(of[tile.quantity][tile.left], of[tile.quantity][tile.right]) for of, _ in parts]
    inputs = [(own[tile.left], own[tile.right]) for _, own in parts]
    same = tile.left == tile.right
    if on_device(inputs[0][0]):
        return _sums_on_device(*rows[0], *inputs[0], tile)
    factor = _unit_pairs(rows, tile)
    sums = _products(factor, inputs, same)
    if sums.dtype != np.float64 and not np.isfinite(sums).all():
        # Pairs of inputs that exceed the range of float32, though their product with a small factor may be within it.
        sums = _products(double(factor), [(double(left), double(right)) for left, right in inputs], same)
    return sums


def _sums_on_device(one: Array, other: Array, left: Array, right: Array, tile: Tile) -> Array:
    """Return the same for a single large block, whose pairs are gathered by index."""
    units = np.matmul(one[:, :, tile.units].swapaxes(1, 2), other[:, :, tile.others])
    factor = units.reshape(len(units), -1)
    n_left, n_right = left.shape[1], right.shape[1]
    rows, columns = np.divmod(np.arange(n_left * n_right), n_right)
    if tile.left == tile.right:
        factor = factor[:, np.flatnonzero(_upper(tile.units, tile.others))]
        rows, columns = np.triu_indices(n_left)
    parts = [slice(start, start + DEVICE_PAIRS) for start in range(0, len(rows), DEVICE_PAIRS)]
    return np.concatenate([factor.T @ (left[:, rows[part]] * right[:, columns[part]]) for part in parts], axis=1)


def _unit_pairs(rows: list[tuple[Array, Array]], tile: Tile) -> Array:
    """Return R_l' R_m for the chosen units of layer l and the others of layer m, (n, pairs); within a layer the pairs o <= p."""
    upper = _upper(tile.units, tile.others)
    chosen = np.flatnonzero(upper) if tile.left == tile.right else None
    n, n_pairs = sum(len(one) for one, _ in rows), upper.size if chosen is None else len(chosen)
    factor = np.empty((n, n_pairs), rows[0][0].dtype)
    start = 0
    for one, other in rows:
        part = factor[start : start + len(one)]
        every = part if chosen is None else np.empty((len(one), upper.size), part.dtype)
        np.matmul(one[:, :, tile.units].transpose(0, 2, 1), other[:, :, tile.others], out=every.reshape(len(one), *upper.shape))
        if chosen is not None:
            # Row by row: indexing works column by column and is eight times slower. "raise" would make a copy.
            np.take(every, chosen, axis=1, out=part, mode="clip")
        start += len(one)
    return factor


def _upper(chosen: slice, others: slice) -> NDArray[np.bool_]:
    """Return which of the pairs (chosen unit o, other unit p) have o <= p."""
    o, p = np.arange(chosen.start, chosen.stop), np.arange(others.start, others.stop)
    return p >= o[:, None]


def _products(factor: Array, inputs: list[tuple[Array, Array]], same: bool) -> Array:
    """Return factor' (pairs of inputs), chunk by chunk; within a layer the pairs d <= q only."""
    # Inputs last: the products are then computed along rows of many inputs.
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
