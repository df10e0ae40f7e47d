r"""The Fisher information :math:`I(\theta)=J^\top I(h)J` and its estimates, which replace I(h).

Exact, score and empirical information differ only in the T x T matrix in the middle (Cov t, the mean of r r' over draws, r r' at
the data label), so each is one call of the same contraction.  The Hessian estimate adds a term linear in the mean residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import like
from fisherstats.engines import primitives
from fisherstats.models import information_roots
from fisherstats.models.derivatives import (
    Forward,
    HessianBlocks,
    Outputs,
    gradients,
    push_forward,
)
from fisherstats.models.families import Law, SecondMoment
from fisherstats.models.families.base import RowProducts
from fisherstats.models.network import MLP
from fisherstats.theory import assembly

__all__ = [
    "at_labels",
    "hessian_factors",
    "hessian_matrix_blocks",
    "hidden_information",
    "hidden_information_variance",
    "matrix_blocks",
    "product_factors",
    "root_products",
    "root_rows",
    "root_unit_factors",
    "unit_factors",
]

Array = NDArray[np.floating]
Blocks = dict[tuple[int, int], Array]


def unit_factors(second: SecondMoment, forward: Forward, G: Sequence[Array | None]) -> list[Array]:
    r"""Return :math:`G_l[:,o]^\top S\,G_l[:,o]` per layer, (n, units): times :math:`\bar h_l^2` it is the diagonal.

    With S = I(h) this is eq (6) of 2021 on the diagonal (Lemma 3.1 of 2024), with the mean of r r' over draws the score
    estimate (eq 2), with r r' at the data label the empirical Fisher (eq 17). Without a link, G of the last layer is the
    identity, and may be None.
    """
    own = [None] if forward.own_outputs else []
    return [second.own_diagonal() if G_l is None else second.diagonal(G_l) for G_l in [*G[: len(G) - len(own)], *own]]


def root_rows(
    model: MLP, forward: Forward, second: SecondMoment, seen: Outputs | None = None, contractions: Any = primitives
) -> list[Array]:
    r"""Return :math:`\rho_r^\top G_l` per layer for the rows :math:`\rho_r` of a root of S, (n, R, units).

    The rows themselves are propagated back through the network, so that no derivative of a single output is needed. `seen` are
    the output directions on which the law depends, see `derivatives.Outputs`.
    """
    own = information_roots.own_rows(forward, second)
    return [own, *information_roots.rows_below(model, forward, second, own, seen, contractions)][::-1]


def root_products(
    model: MLP, forward: Forward, second: SecondMoment, seen: Outputs | None = None, contractions: Any = primitives
) -> list[RowProducts]:
    r"""Return :math:`G_l^\top S\,G_l` per layer, as products of `root_rows` or, at the outputs, of fewer rows where available."""
    below = information_roots.rows_below(model, forward, second, None, seen, contractions)
    return [information_roots.own_products(forward, second), *((rows, None) for rows in below)][::-1]


def root_unit_factors(
    model: MLP, forward: Forward, second: SecondMoment, seen: Outputs | None = None, contractions: Any = primitives
) -> list[Array]:
    """Return the result of `unit_factors`, as sums of squares of `root_rows`, held for one layer at a time."""
    return [*information_roots.squares_from_the_top(model, forward, second, seen, contractions)][::-1]


def at_labels(law: Law, y: NDArray[np.generic]) -> SecondMoment:
    """Return r r' at one data label per input, about the model's mean: the middle of the empirical Fisher (eq 17)."""
    return law.second_moment_of(law.residual(like(y, law.h))[:, None, :])


def hessian_factors(exact: Sequence[Array], contracted: Sequence[Array | None]) -> list[Array]:
    r"""Return :math:`G_l^\top I(h)G_l-\bar r\cdot S_l` per unit (eq 3 of 2024, Remark H.1).

    `exact` are the unit factors of I(h), `contracted` is :math:`\bar r\cdot S_l`, (n, 1, units).
    """
    return [
        information if curvature is None else information - curvature[:, 0, :]
        for information, curvature in zip(exact, contracted, strict=True)
    ]


def matrix_blocks(
    second: SecondMoment, G: Sequence[Array], inputs: Sequence[Array], cross_layers: bool, per_input: bool
) -> Blocks:
    r"""Return the blocks l <= m of :math:`\sum_i (G_l^\top S\,G_m)\otimes(\bar h_l\bar h_m^\top)` (or per input)."""
    rows = [second.compact_rows(G_l) for G_l in G]
    build = assembly.pairs_per_input if per_input else assembly.pair_sum
    return {
        (left, right): build(_unit_pairs(rows, left, right), inputs[left], inputs[right])
        for left, right in assembly.layer_pairs(len(G), cross_layers)
    }


def hessian_matrix_blocks(
    law: Law, G: Sequence[Array], inputs: Sequence[Array], hessian: HessianBlocks, cross_layers: bool, per_input: bool
) -> Blocks:
    r"""Return the blocks l <= m of :math:`\sum_i J^\top I(h)J-\sum_a\bar r_aH^a` (eq 3 of 2024), or per input."""
    rows = [law.compact_rows(G_l) for G_l in G]
    build, reach = (assembly.pairs_per_input, assembly.reach_per_input) if per_input else (assembly.pair_sum, assembly.reach_sum)
    blocks = {}
    for left, right in assembly.layer_pairs(len(G), cross_layers):
        units = _unit_pairs(rows, left, right)
        curved = hessian.pairs[left, right]
        block = build(units if curved is None else units - curved[:, 0], inputs[left], inputs[right])
        if left < right:
            block -= reach(hessian.reach[left, right], inputs[left], inputs[right], hessian.score[right][:, 0])
        blocks[left, right] = block
    return blocks


def _unit_pairs(rows: Sequence[Array], left: int, right: int) -> Array:
    return np.matmul(rows[left].transpose(0, 2, 1), rows[right])


def hidden_information(second: SecondMoment, B: Array) -> Array:
    r"""Return :math:`I(h_l)=B_l^\top S\,B_l`, (n, units, units), exactly symmetric (2021, after the derivative lemma)."""
    rows = second.compact_rows(B)
    return np.matmul(rows.transpose(0, 2, 1), rows)


def hidden_information_variance(law: Law, B: Array | None) -> Array:
    r"""Return the single-label variance :math:`M(B_u,B_v,B_u,B_v)` of the score estimate of I(h_l) (Theorem 4 of 2021).

    B of None stands for the outputs themselves.
    """
    return law.own_product_variance() if B is None else law.product_variance(B, B)


def product_factors(model: MLP, forward: Forward, law: Law, direction: Array) -> list[Array]:
    r"""Return :math:`G_l^\top I(h)Jv` per unit: times :math:`\bar h_l` it is :math:`J^\top I(h)Jv`, by two passes."""
    tangent = push_forward(model, forward, direction)
    weighted = law.product(tangent[:, :, None])[:, :, 0]
    return gradients(model, forward, weighted)
