r"""Variances of every entry of the estimates, block by block (2024, Theorem C.1).

For the score estimator the variance of entry ([o, d], [p, q]) is :math:`M(g_o,g_p,g_o,g_p)\bar h_d^2\bar h_q^2`, with g the
columns of G_l and G_m. For the Hessian estimator it is :math:`s^\top I(h)s` with the second derivative
:math:`s=C[o,p]\bar h_d\bar h_q+1\{l<m\}g_pR[q,o]\bar h_d`: two squares and twice a product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fisherstats.models.derivatives import HessianBlocks
from fisherstats.models.families import Law
from fisherstats.theory import assembly

__all__ = ["hessian_entry_variances", "score_entry_variances"]

Array = NDArray[np.floating]
Blocks = dict[tuple[int, int], Array]


def score_entry_variances(
    law: Law, G: Sequence[Array], inputs: Sequence[Array], pairs: Sequence[tuple[int, int]], per_input: bool
) -> Blocks:
    """Return the single-label variances of the score estimator's entries, summed over inputs or per input."""
    build = assembly.pairs_per_input if per_input else assembly.pair_sum
    squares = [np.square(h_bar) for h_bar in inputs]
    return {(left, right): build(law.product_variance(G[left], G[right]), squares[left], squares[right]) for left, right in pairs}


def hessian_entry_variances(
    law: Law,
    inputs: Sequence[Array],
    hessian: HessianBlocks,
    pairs: Sequence[tuple[int, int]],
    per_input: bool,
) -> Blocks:
    """Return the single-label variances of the Hessian estimator's entries; `hessian` holds one direction per output."""
    build, reach_sum = (
        (assembly.pairs_per_input, assembly.reach_per_input) if per_input else (assembly.pair_sum, assembly.reach_sum)
    )
    squares = [np.square(h_bar) for h_bar in inputs]
    blocks: Blocks = {}
    for left, right in pairs:
        units, score = hessian.pairs[left, right], hessian.score[right]
        n, outputs, n_out, n_in2 = (*score.shape[:2], hessian.score[left].shape[2], score.shape[2])
        variance = np.zeros_like(score, shape=(n, n_out, n_in2))
        rows = None
        if units is not None:
            flat = units.reshape(n, outputs, n_out * n_in2)
            variance = law.diagonal(flat).reshape(n, n_out, n_in2)
            rows = law.rows(flat).reshape(n, -1, n_out, n_in2)
        block = build(variance, squares[left], squares[right])
        if left < right:
            reach = hessian.reach[left, right]
            block += reach_sum(np.square(reach), squares[left], squares[right], law.diagonal(score))
            if rows is not None:
                shared = np.einsum("nrop,nrp->nop", rows, law.rows(score))
                block += 2 * _crossed(shared, reach, squares[left], inputs[right], per_input)
        # The cross term may be negative: where the three parts cancel to 0, rounding must not make the sum negative.
        blocks[left, right] = np.maximum(block, 0) if left < right and rows is not None else block
    return blocks


def _crossed(shared: Array, reach: Array, left: Array, right: Array, per_input: bool) -> Array:
    r"""Return :math:`V[o,p]R[q,o]\bar h_q\bar h_d^2` over ([o, d], [p, q]), 0 for the bias of q, if there is one."""
    n, n_out, n_in2 = shared.shape
    n_weights = reach.shape[1]
    reached = reach * right[:, :n_weights, None]
    kept = np.einsum("nop,nqo,nd->nodpq" if per_input else "nop,nqo,nd->odpq", shared, reached, left, optimize=True)
    out = np.zeros_like(kept, shape=(*kept.shape[:-1], right.shape[1]))
    out[..., :n_weights] = kept
    size = (n_out * left.shape[1], n_in2 * right.shape[1])
    return out.reshape(n, *size) if per_input else out.reshape(size)
