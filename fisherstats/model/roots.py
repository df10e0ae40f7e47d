r"""Rows of a root of a T x T matrix, :math:`S=\sum_r\rho_r\rho_r^\top`, carried back: :math:`\rho_r^\top G_l`.

Sums of their products over r are :math:`G_l^\top S\,G_m`. So the derivative of no single output is needed, and as many rows go
back as the root has: C - 1 for the information of a softmax over C classes, N for N labels drawn from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.engines import primitives
from fisherstats.model.derivatives import Forward, Outputs
from fisherstats.model.families.base import SecondMoment
from fisherstats.model.network import MLP

__all__ = ["rows_from_the_top", "squares_from_the_top"]

Array = NDArray[np.floating]


def rows_from_the_top(
    model: MLP, passed: Forward, second: SecondMoment, seen: Outputs | None = None, contractions: Any = primitives
) -> Iterator[Array]:
    r"""Yield :math:`\rho_r^\top G_l`, (n, R, n_{l+1}), the last layer first; `seen` are the outputs as the law sees them."""
    G = _at_the_outputs(passed, second)
    yield G
    for layer in range(model.n_layers - 2, -1, -1):
        if layer == model.n_layers - 2:
            G, _ = _last_hidden(model, passed, second, None if passed.link_slope is None else G, seen, contractions)
        else:
            (G,) = contractions.scaled_products(G, model.kernels[layer + 1], [passed.slopes[layer]])
        yield G


def squares_from_the_top(
    model: MLP, passed: Forward, second: SecondMoment, seen: Outputs | None = None, contractions: Any = primitives
) -> Iterator[Array]:
    """Yield the sums over r of the squares of `rows_from_the_top`, (n, n_{l+1})."""
    squares = second.own_diagonal()
    yield squares if passed.link_slope is None else squares * np.square(passed.link_slope)
    G = squares[:, :0]
    for layer in range(model.n_layers - 2, -1, -1):
        if layer == model.n_layers - 2:
            linked = None if passed.link_slope is None else _at_the_outputs(passed, second)
            G, squares = _last_hidden(model, passed, second, linked, seen, contractions, layer > 0)
        else:
            G, squares = contractions.squared_products(G, model.kernels[layer + 1], passed.slopes[layer], layer > 0)
        yield squares


def _at_the_outputs(passed: Forward, second: SecondMoment) -> Array:
    own = second.own_rows()
    return own if passed.link_slope is None else own * passed.link_slope[:, None, :]


def _last_hidden(
    model: MLP,
    passed: Forward,
    second: SecondMoment,
    linked: Array | None,
    seen: Outputs | None,
    contractions: Any,
    goes_on: bool = True,
) -> tuple[Array, Array]:
    """Return the rows of a root at the last hidden layer, (n, R, k), and the sums of their squares, (n, k).

    `linked` are the rows at the outputs of a link. Without one all inputs share the outputs, and the root is taken of their
    product with the kernel and not multiplied by it: where live classes nearly coincide, only their differences keep what is
    left.
    """
    found: tuple[Array, Array]
    if linked is None:
        below = (Outputs(model.kernels[-1]) if seen is None else seen).below
        found = second.scaled_rows(np.broadcast_to(below, (len(passed.natural), *below.shape)), passed.slopes[-1])
    else:
        found = contractions.squared_products(linked, model.kernels[-1], passed.slopes[-1], goes_on)
    return found
