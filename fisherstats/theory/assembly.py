r"""Assembly of arrays over parameters from (a number per unit) x (a power of the layer input).

A quantity over :math:`W_l[o,d]` that factors as :math:`f_l[o]\,\bar h_l[d]^k` is, summed over inputs, one matrix product per
layer; no array over inputs, outputs and parameters is created.  Sums over inputs are float64 whatever the factors are.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import double, joined, on_device
from fisherstats.execution import Reduction

__all__ = [
    "DiagonalSum",
    "diagonal",
    "full_matrix",
    "layer_means",
    "layer_pairs",
    "merge_moments",
    "moments_of_values",
    "moments_over_inputs",
    "outer_sum",
    "pair_sum",
    "pairs_per_input",
    "power_of",
    "reach_per_input",
    "reach_sum",
    "symmetric",
    "tiles",
]

Array = NDArray[np.floating]

_TILE = 2**21
"""Numbers in a temporary over (inputs, parameters)."""

_CACHED = 2**16
"""Numbers that fit in the cache of a core."""

_PANEL = 64
"""Rows mirrored at a time: reads and writes both fit in the cache."""

_STRIPE = 200
"""Columns of a layer's input in one task of a sum."""


def power_of(h_bar: Array, exponent: int) -> Array:
    """Return an integer power; even ones by squaring, as a general power is ten times slower."""
    if exponent == 1:
        return h_bar
    if exponent not in (2, 4):
        return h_bar**exponent
    square = np.square(h_bar)
    return square if exponent == 2 else np.square(square)


Quantity = tuple[Sequence[Array | None], int]
"""Factors per layer, None for zero, and the power of the layer input that they are multiplied by."""


class DiagonalSum(Reduction):
    r"""Sums over inputs of :math:`f_l[o]\,\bar h_l[d]^k`, (P,) for each of several quantities, from blocks of factors.

    Each block is ([(factors per layer, exponent k) of each quantity], layer inputs). The blocks of a group are joined, and each
    quantity takes one matrix product per layer, in stripes of columns that may run in parallel. Products are in the
    precision of the factors, over the inputs of one group; groups are added in float64. The sums are one array, (quantities, P).
    """

    shared = True

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self._shapes = shapes
        self._ends = [*itertools.accumulate(n_out * n_in for n_out, n_in in shapes)]

    def of_block(self, quantities: list[Quantity], inputs: list[Array]) -> list[Array]:
        """Return the sums over one block, where each block forms a group."""
        sums = self._empty(quantities, inputs)
        for layer in range(len(self._shapes)):
            self._sum_into(sums, True, [(quantities, inputs)], layer, slice(None))
        return [sums]

    def tasks(self, parts: list[tuple[list[Quantity], list[Array]]], last: bool) -> list[Callable[[], None]]:
        """Return tasks for the products of a group of blocks, each added to its own part of the leaf."""
        first = not self.leaf
        if first:
            self.leaf = [self._empty(*parts[0])]
        return [
            partial(self._sum_into, self.leaf[0], first, parts, layer, slice(start, start + _STRIPE))
            for layer, (_, n_in) in enumerate(self._shapes)
            for start in range(0, n_in, _STRIPE)
        ]

    def _empty(self, quantities: list[Quantity], inputs: list[Array]) -> Array:
        return np.empty_like(inputs[0], dtype=np.float64, shape=(len(quantities), self._ends[-1]))

    def _own(self, layer: int) -> slice:
        n_out, n_in = self._shapes[layer]
        return slice(self._ends[layer] - n_out * n_in, self._ends[layer])

    def _sum_into(
        self, sums: Array, first: bool, parts: list[tuple[list[Quantity], list[Array]]], layer: int, columns: slice
    ) -> None:
        """Add the sums over the inputs of the parts, for some columns of a layer, to those of each quantity; write the first."""
        quantities = parts[0][0]
        h_bar = joined([inputs[layer][:, columns] for _, inputs in parts])
        powers: dict[int, Array] = {}
        for number, (factors, exponent) in enumerate(quantities):
            into = sums[number][self._own(layer)].reshape(self._shapes[layer])[:, columns]
            if factors[layer] is None:
                if first:
                    into[...] = 0
                continue
            if exponent not in powers:
                powers[exponent] = power_of(h_bar, exponent)
            factor = joined([of[number][0][layer] for of, _ in parts])
            if first and factor.dtype == np.float64:
                np.matmul(factor.T, powers[exponent], out=into)
                continue
            product = factor.T @ powers[exponent]
            if product.dtype != np.float64 and not np.isfinite(product).all():
                # A power that exceeds the range of float32, though its product with a small factor may be within it.
                product = double(factor).T @ power_of(double(h_bar), exponent)
            if first:
                into[...] = product
            else:
                into += product


def diagonal(
    factors: Sequence[Array | None], inputs: Sequence[Array], exponent: int, sizes: Sequence[int], per_input: bool
) -> Array:
    """Return sum over inputs of f_l[o] hbar_l[d]^exponent, (P,), or the summands, (n, P); None stands for zero."""
    parts = []
    for factor, h_bar, size in zip(factors, inputs, sizes, strict=True):
        n = h_bar.shape[0]
        if factor is None:
            shape = (n, size) if per_input else size
            parts.append(np.zeros_like(h_bar, dtype=h_bar.dtype if per_input else np.float64, shape=shape))
        elif per_input:
            parts.append((factor[:, :, None] * power_of(h_bar, exponent)[:, None, :]).reshape(n, size))
        else:
            parts.append(outer_sum(factor, power_of(double(h_bar), exponent)))
    return np.concatenate(parts, axis=-1)


def outer_sum(factor: Array, power: Array) -> Array:
    """Return sum over inputs of f[o] p[d], flattened row-major over [o, d], in float64."""
    return (double(factor).T @ double(power)).ravel()


def moments_over_inputs(factors: Sequence[Array], inputs: Sequence[Array], exponent: int) -> list[Array]:
    """Return [n, mean over inputs, sum of squared deviations] of f_l[o] hbar_l[d]^exponent, two-pass, (P,) each."""
    means, deviations = [], []
    for factor, h_bar in zip(factors, inputs, strict=True):
        power, units = power_of(double(h_bar), exponent), double(factor)
        mean, deviation = np.empty_like(power, shape=(2, units.shape[1], power.shape[1]))
        for tile in tiles(units, power):
            values = units[:, tile[0], None] * power[:, None, tile[1]]
            mean[tile] = values.mean(axis=0)
            values -= mean[tile]
            deviation[tile] = np.square(values, out=values).sum(axis=0)
        means.append(mean.ravel())
        deviations.append(deviation.ravel())
    return [np.full_like(means[0], len(units), shape=1), np.concatenate(means), np.concatenate(deviations)]


def tiles(units: Array, inputs: Array) -> Iterator[tuple[slice, slice]]:
    """Yield tiles of units and layer inputs, small enough for the products of all inputs to stay in the cache."""
    (n, n_units), n_in = units.shape, inputs.shape[1]
    numbers = _TILE if on_device(inputs) else _CACHED
    columns = min(n_in, max(1, numbers // n))
    rows = max(1, numbers // (n * columns))
    for start, first in itertools.product(range(0, n_units, rows), range(0, n_in, columns)):
        yield slice(start, start + rows), slice(first, first + columns)


def moments_of_values(values: Array) -> list[Array]:
    """Return [n, mean over inputs, sum of squared deviations] of values (n, k)."""
    doubled = double(values)
    centre = doubled.mean(axis=0)
    return [np.full_like(centre, len(values), shape=1), centre, np.square(doubled - centre).sum(axis=0)]


def merge_moments(total: list[Array], part: list[Array]) -> None:
    """Merge [n, mean, squared deviations] of two groups of inputs into `total`; further arrays are plain sums."""
    (n_total, mean, deviations), (n_part, part_mean, part_deviations) = total[:3], part[:3]
    n = n_total + n_part
    shift = part_mean - mean
    mean += shift * (n_part / n)
    deviations += part_deviations + np.square(shift) * (n_total * n_part / n)
    n_total += n_part
    for into, array in zip(total[3:], part[3:], strict=True):
        into += array


def pair_sum(units: Array, left: Array, right: Array) -> Array:
    r"""Return :math:`\sum_i C[i,o,p]\,\bar h_l[i,d]\,\bar h_m[i,q]` as a matrix over ([o, d], [p, q])."""
    n, n_out, n_out2 = units.shape
    n_in, n_in2 = left.shape[1], right.shape[1]
    factor = double(units).reshape(n, n_out * n_out2).T
    out = np.empty_like(left, dtype=np.float64, shape=(n_out, n_in, n_out2, n_in2))
    step = max(1, _TILE // (n * n_in2))
    for start in range(0, n_in, step):
        products = (double(left[:, start : start + step])[:, :, None] * double(right)[:, None, :]).reshape(n, -1)
        tile = (factor @ products).reshape(n_out, n_out2, -1, n_in2)
        out[:, start : start + step] = tile.transpose(0, 2, 1, 3)
    return out.reshape(n_out * n_in, n_out2 * n_in2)


def pairs_per_input(units: Array, left: Array, right: Array) -> Array:
    """Return the summands of `pair_sum`, (n, out * in, out2 * in2)."""
    n, n_out, n_out2 = units.shape
    block = units[:, :, None, :, None] * left[:, None, :, None, None] * right[:, None, None, None, :]
    return block.reshape(n, n_out * left.shape[1], n_out2 * right.shape[1])


def reach_sum(reach: Array, left: Array, right: Array, score: Array) -> Array:
    r"""Return :math:`\sum_i R[i,q,o]\,\bar h_l[i,d]\,g[i,p]` over ([o, d], [p, q]), 0 for the bias in q, if the layer has one.

    `left` and `right` are the inputs of both layers.
    """
    n, n_in2, n_out = reach.shape
    n_in, n_out2 = left.shape[1], score.shape[1]
    products = (double(left)[:, :, None] * double(score)[:, None, :]).reshape(n, n_in * n_out2)
    summed = (double(reach).reshape(n, n_in2 * n_out).T @ products).reshape(n_in2, n_out, n_in, n_out2)
    out = np.zeros_like(left, dtype=np.float64, shape=(n_out, n_in, n_out2, right.shape[1]))
    out[..., :n_in2] = summed.transpose(1, 2, 3, 0)
    return out.reshape(n_out * n_in, n_out2 * right.shape[1])


def reach_per_input(reach: Array, left: Array, right: Array, score: Array) -> Array:
    """Return the summands of `reach_sum`."""
    n, n_in2, n_out = reach.shape
    n_in, n_out2 = left.shape[1], score.shape[1]
    out = np.zeros_like(reach, shape=(n, n_out, n_in, n_out2, right.shape[1]))
    out[..., :n_in2] = (
        reach.transpose(0, 2, 1)[:, :, None, None, :] * left[:, None, :, None, None] * score[:, None, None, :, None]
    )
    return out.reshape(n, n_out * n_in, n_out2 * right.shape[1])


def layer_means(values: Array, slices: Sequence[slice]) -> NDArray[np.float64]:
    """Return the means of (..., P) over each layer's entries, (..., L)."""
    return np.stack([values[..., part].mean(axis=-1, dtype=np.float64) for part in slices], axis=-1)


@functools.cache
def _below_the_diagonal(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.tril_indices(size, -1)


def symmetric(block: Array) -> Array:
    """Copy the upper triangle of the last two axes onto the lower one, in place, and return the array."""
    if on_device(block):
        block[...] = np.triu(block) + np.swapaxes(np.triu(block, 1), -1, -2)
        return block
    size = block.shape[-1]
    for start in range(0, size, _PANEL):
        stop = min(start + _PANEL, size)
        block[..., stop:, start:stop] = np.swapaxes(block[..., start:stop, stop:], -1, -2)
        corner = block[..., start:stop, start:stop]
        below, left = _below_the_diagonal(stop - start)
        corner[..., below, left] = corner[..., left, below]
    return block


def layer_pairs(n_layers: int, cross_layers: bool = True) -> list[tuple[int, int]]:
    """Return the pairs of layers l <= m of the blocks of a symmetric matrix: all, or those on its diagonal."""
    return [(left, right) for left in range(n_layers) for right in range(left, n_layers if cross_layers else left + 1)]


def full_matrix(blocks: Mapping[tuple[int, int], Array], slices: Sequence[slice]) -> Array:
    """Return the symmetric matrix (or one per input) from its blocks l <= m."""
    first = blocks[0, 0]
    n_params = slices[-1].stop
    matrix = np.empty_like(first, shape=(*first.shape[:-2], n_params, n_params))
    for (left, right), block in blocks.items():
        matrix[..., slices[left], slices[right]] = symmetric(block) if left == right else block
        if left < right:
            matrix[..., slices[right], slices[left]] = np.swapaxes(block, -1, -2)
    return matrix
