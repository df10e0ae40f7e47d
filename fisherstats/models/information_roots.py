r"""Rows of a root of a T x T matrix, :math:`S=\sum_r\rho_r\rho_r^\top`, propagated back: :math:`\rho_r^\top G_l`.

Sums of their products over r are :math:`G_l^\top S\,G_m`. So no derivative of a single output is needed, and as many rows are
propagated back as the root has: C - 1 for the information of a softmax over C classes, N for N labels drawn from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.engines import primitives
from fisherstats.models.derivatives import Forward, Outputs
from fisherstats.models.families.base import RowProducts, SecondMoment
from fisherstats.models.network import MLP

__all__ = ["own_products", "own_rows", "rows_below", "squares_from_the_top"]

Array = NDArray[np.floating]


def own_rows(forward: Forward, second: SecondMoment) -> Array:
    r"""Return :math:`\rho_r^\top G_L`, (n, R, T), of the last layer: the rows themselves, times the slope of a link."""
    own = second.own_rows()
    return own if forward.link_slope is None else own * forward.link_slope[:, None, :]


def own_products(forward: Forward, second: SecondMoment) -> RowProducts:
    r"""Return :math:`G_L^\top S\,G_L` of the last layer, as products of as few rows as the family offers."""
    rows, diagonal = second.own_products()
    if forward.link_slope is not None:
        rows = rows * forward.link_slope[:, None, :]
        diagonal = None if diagonal is None else diagonal * np.square(forward.link_slope)
    return rows, diagonal


def rows_below(
    model: MLP,
    forward: Forward,
    second: SecondMoment,
    own: Array | None = None,
    seen: Outputs | None = None,
    contractions: Any = primitives,
) -> Iterator[Array]:
    r"""Yield :math:`\rho_r^\top G_l`, (n, R, n_{l+1}), of the layers below the last one, from the top.

    `own` are the rows of the last layer, if they are known, and `seen` the output directions on which the law depends.
    """
    if model.n_layers == 1:
        return
    G, _ = _last_hidden(model, forward, second, own, seen, contractions)
    yield G
    for layer in range(model.n_layers - 3, -1, -1):
        (G,) = contractions.scaled_products(G, model.kernels[layer + 1], [forward.slopes[layer]])
        yield G


def squares_from_the_top(
    model: MLP, forward: Forward, second: SecondMoment, seen: Outputs | None = None, contractions: Any = primitives
) -> Iterator[Array]:
    """Yield the sums over r of the squares of `own_rows` and `rows_below`, (n, n_{l+1})."""
    squares = second.own_diagonal()
    yield squares if forward.link_slope is None else squares * np.square(forward.link_slope)
    if model.n_layers == 1:
        return
    G, squares = _last_hidden(model, forward, second, None, seen, contractions, model.n_layers > 2)
    yield squares
    for layer in range(model.n_layers - 3, -1, -1):
        G, squares = contractions.squared_products(G, model.kernels[layer + 1], forward.slopes[layer], layer > 0)
        yield squares


def _last_hidden(
    model: MLP,
    forward: Forward,
    second: SecondMoment,
    own: Array | None,
    seen: Outputs | None,
    contractions: Any,
    goes_on: bool = True,
) -> tuple[Array, Array]:
    """Return the rows of a root at the last hidden layer, (n, R, k), and the sums of their squares, (n, k).

    `own` are the rows of the last layer, which a link needs, if they are known. Without a link all inputs share the outputs, and
    the root is taken of their product with the kernel and not multiplied by it: where classes of non-negligible probability
    nearly coincide, only their differences are accurate.
    """
    found: tuple[Array, Array]
    if forward.link_slope is None:
        below = (Outputs(model.kernels[-1]) if seen is None else seen).below
        found = second.scaled_rows(np.broadcast_to(below, (len(forward.natural), *below.shape)), forward.slopes[-1])
    else:
        own = own_rows(forward, second) if own is None else own
        found = contractions.squared_products(own, model.kernels[-1], forward.slopes[-1], goes_on)
    return found
