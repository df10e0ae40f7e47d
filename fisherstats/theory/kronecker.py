r"""Kronecker factors of the diagonal blocks of the Fisher information, and the error of their product.

The block of layer l is :math:`B=\frac1n\sum_iM_i\otimes A_i` with :math:`M_i=G_l^\top I(h)G_l` over units and
:math:`A_i=\bar h_l\bar h_l^\top` over inputs of the layer (parameters row-major, so units come first).  Its Kronecker-factored
approximation is :math:`G\otimes A`, the product of the two means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import double
from fisherstats.execution import Reduction
from fisherstats.models.families.base import RowProducts
from fisherstats.theory.assembly import symmetric

__all__ = ["FactorSum", "block_distances", "factors", "of_inputs", "pair_sums"]

Array = NDArray[np.floating]
Blocks = dict[tuple[int, int], Array]

_PANEL = 128
"""Columns of a symmetric product computed at a time."""

_TILE = 2**20
"""Numbers in a temporary over (inputs, units, units)."""


def factors(units: Sequence[RowProducts], inputs: Sequence[Array]) -> list[Blocks]:
    r"""Return :math:`\bar h_l\bar h_l^\top` and :math:`G_l^\top I(h)G_l` of every layer l and input, (n, k, k)."""
    return [
        {(layer, layer): _products(h_bar[:, None, :], None) for layer, h_bar in enumerate(inputs)},
        {(layer, layer): _products(*of_layer) for layer, of_layer in enumerate(units)},
    ]


class FactorSum(Reduction):
    r"""Sums over inputs of :math:`\bar h_l\bar h_l^\top` and :math:`G_l^\top I(h)G_l`, from blocks (`RowProducts`, inputs).

    Each is symmetric: it is computed in panels of columns that may run in parallel, and copied below the diagonal.
    """

    shared = True

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self._sizes = [size for n_out, n_in in shapes for size in (n_in, n_out)]

    def tasks(self, parts: list[tuple[list[RowProducts], list[Array]]], last: bool) -> list[Callable[[], None]]:
        """Return tasks for the panels of all factors for a group of blocks, the larger ones first."""
        first = not self.leaf
        if first:
            self.leaf = [np.empty_like(parts[0][1][0], dtype=np.float64, shape=(size, size)) for size in self._sizes]
        tasks: list[Callable[[], None]] = []
        for layer, (A, G) in enumerate(zip(self.leaf[::2], self.leaf[1::2], strict=True)):
            from_inputs: list[RowProducts] = [(inputs[layer], None) for _, inputs in parts]
            from_units = [_over_inputs(*units[layer]) for units, _ in parts]
            for total, summands in ((A, from_inputs), (G, from_units)):
                tasks += [partial(_add_panel, total, summands, start, first) for start in range(0, len(total), _PANEL)]
        return tasks

    def means(self, n_inputs: int) -> list[Blocks]:
        """Return the mean factors of every layer."""
        for total in self.totals:
            total /= n_inputs
        kinds = self.totals[::2], self.totals[1::2]
        return [{(layer, layer): symmetric(one) for layer, one in enumerate(each)} for each in kinds]


def _over_inputs(rows: Array, diagonal: Array | None) -> RowProducts:
    """Return the sum of products over inputs, of rows (m, k) plus a diagonal (k,)."""
    return rows.reshape(-1, rows.shape[2]), None if diagonal is None else diagonal.sum(axis=0, dtype=np.float64)


def _add_panel(total: Array, summands: list[RowProducts], start: int, first: bool) -> None:
    """Add the contribution of blocks to a panel on and above the diagonal; the first group of blocks writes it."""
    panel = total[start : start + _PANEL, start:]
    if first:
        total[start : start + _PANEL, :start] = 0
    for number, (rows, diagonal) in enumerate(summands):
        product = rows[:, start : start + _PANEL].T @ rows[:, start:]
        units = np.arange(len(product))
        if diagonal is not None:
            np.subtract(0, product, out=product)  # and not its negative, which has -0.0
            product[units, units] = 0
        if first and number == 0:
            panel[...] = product
        else:
            panel += product
        if diagonal is not None:
            panel[units, units] += diagonal[start : start + _PANEL]


def _products(rows: Array, diagonal: Array | None, part: slice = slice(None)) -> Array:
    """Return some rows of the matrix of every input."""
    products: Array = np.matmul(rows[:, :, part].transpose(0, 2, 1), rows)
    if diagonal is not None:
        np.subtract(0, products, out=products)
        units = np.arange(rows.shape[2])[part]
        products[:, np.arange(len(units)), units] = diagonal[:, part]
    return products


def of_inputs(units: RowProducts, part: slice) -> RowProducts:
    """Return the products of some inputs."""
    rows, diagonal = units
    return rows[part], None if diagonal is None else diagonal[part]


def pair_sums(units: RowProducts, inputs: Array, A: Array, G: Array, mean: Array, first: int, count: int) -> Array:
    r"""Return what a group of inputs adds to :math:`n^2\lVert B-G\otimes A\rVert_F^2` and :math:`n^2\lVert B\rVert_F^2`, (2,).

    The group is the `count` inputs from `first` on, paired with itself and twice with all later ones: summed over groups that is
    every pair. `units` and `inputs` (n, n_l + 1) hold all inputs, A and G are the mean factors, `mean` is that of the inputs. The
    sums are in units of the squared traces of A and G, because the squares of a small information would underflow.

    As the means vanish, :math:`B-G\otimes A=\frac1n\sum_i(M_i-G)\otimes(A_i-A)`, so that
    :math:`n^2\lVert B-G\otimes A\rVert_F^2=\sum_{ij}\langle M_i-G,M_j-G\rangle\langle A_i-A,A_j-A\rangle`. With
    :math:`\bar h_i=\mu+c_i`, :math:`s=c_i^\top c_j` and :math:`m_i=\mu^\top c_i` the second product is
    :math:`2s(\lVert\mu\rVert^2+m_i+m_j)+2m_im_j+s^2`, up to terms in i or in j alone: these vanish in the sum, since the first
    product has mean zero in either index. So the two norms are never subtracted from each other.
    """
    unit_size, input_size = float(np.trace(G)), float(np.trace(A))
    if unit_size == 0:
        return np.zeros_like(A, dtype=np.float64, shape=2)
    G, mean = G / unit_size, mean / math.sqrt(input_size)

    def group(start: int) -> tuple[RowProducts, Array, Array, Array]:
        part = slice(start, start + count)
        h_bar = double(inputs[part]) / math.sqrt(input_size)
        deviations = h_bar - mean
        rows, diagonal = of_inputs(units, part)
        own = double(rows) / math.sqrt(unit_size), None if diagonal is None else double(diagonal) / unit_size
        return own, h_bar, deviations, deviations @ mean

    left_units, left, left_deviations, left_along = group(first)
    sums = np.zeros_like(A, dtype=np.float64, shape=2)
    for start in range(first, len(inputs), count):
        right_units, right, right_deviations, right_along = group(start)
        alike, unit_deviations = _inner_products(left_units, right_units, G)
        s = left_deviations @ right_deviations.T
        along = left_along[:, None] + right_along
        kernel = 2 * s * (mean @ mean + along) + 2 * np.outer(left_along, right_along) + np.square(s)
        part = np.stack([np.vdot(unit_deviations, kernel), np.vdot(alike, np.square(left @ right.T))])
        sums += part if start == first else 2 * part
    return sums


def _inner_products(left: RowProducts, right: RowProducts, G: Array) -> tuple[Array, Array]:
    r"""Return :math:`\langle M_i,M_j\rangle` and :math:`\langle M_i-G,M_j-G\rangle` of all pairs, by tiles of units."""
    n_left, n_right, n_units = len(left[0]), len(right[0]), len(G)
    plain, centred = np.zeros_like(G, shape=(2, n_left, n_right))
    step = max(1, _TILE // (max(n_left, n_right) * n_units))
    for start in range(0, n_units, step):
        part = slice(start, start + step)
        M_i, M_j = (_products(*one, part) for one in (left, right))
        plain += M_i.reshape(n_left, -1) @ M_j.reshape(n_right, -1).T
        M_i -= G[part]
        M_j -= G[part]
        centred += M_i.reshape(n_left, -1) @ M_j.reshape(n_right, -1).T
    return plain, centred


def block_distances(sums: Array, A: Sequence[Array], G: Sequence[Array], n: int) -> tuple[Array, Array]:
    r"""Return :math:`\lVert B-G\otimes A\rVert_F` and :math:`\lVert B\rVert_F` per layer from the sums over pairs, (L, 2)."""
    sizes = np.stack([np.trace(G_l) * np.trace(A_l) for G_l, A_l in zip(G, A, strict=True)])
    # A sum that is zero in theory may round to a negative number.
    error, norm = sizes * np.sqrt(np.maximum(sums, 0)).T / n
    return error, norm
