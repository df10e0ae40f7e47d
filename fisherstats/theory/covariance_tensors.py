r"""The covariance tensors of the estimators for one label, dense for small P and contracted for any P.

Theorems 4 and 6 of 2021: :math:`\mathrm{Cov}(\hat I_1)_{ijkl}=J_{ai}J_{bj}J_{ck}J_{dl}M_{abcd}`,
:math:`\mathrm{Cov}(\hat I_2)_{ijkl}=H^a_{ij}H^b_{kl}I_{ab}`, and from the same labels
:math:`\mathrm{Cov}(\hat I_{1,ij},\hat I_{2,kl})=-J_{ai}J_{bj}H^c_{kl}\kappa_{abc}`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import identity, like
from fisherstats.models.derivatives import HessianBlocks
from fisherstats.models.families import Law
from fisherstats.models.families.extremes import quartic_root
from fisherstats.theory import assembly

__all__ = [
    "contracted_hessian",
    "covariance_sum",
    "dense_hessians",
    "dense_jacobian",
    "information_root",
    "middle_product",
    "projected_matrix",
]

Array = NDArray[np.floating]


def dense_jacobian(G: Sequence[Array], inputs: Sequence[Array]) -> Array:
    """Return J, (n, T, P)."""
    n, outputs = G[0].shape[:2]
    parts = [(G_l[:, :, :, None] * h_bar[:, None, None, :]).reshape(n, outputs, -1) for G_l, h_bar in zip(G, inputs, strict=True)]
    return np.concatenate(parts, axis=2)


def dense_hessians(hessian: HessianBlocks, inputs: Sequence[Array], slices: Sequence[slice]) -> Array:
    """Return the Hessians of all directions, (n, K, P, P)."""
    n, directions = hessian.score[0].shape[:2]
    every = [np.repeat(h_bar, directions, axis=0) for h_bar in inputs]
    blocks = {}
    for (left, right), units in hessian.pairs.items():
        shape = (n * directions, every[left].shape[1] * hessian.score[left].shape[2])
        block = np.zeros_like(every[left], shape=(*shape, every[right].shape[1] * hessian.score[right].shape[2]))
        if units is not None:
            block += assembly.pairs_per_input(units.reshape(n * directions, *units.shape[2:]), every[left], every[right])
        if left < right:
            reach = np.repeat(hessian.reach[left, right], directions, axis=0)
            block += assembly.reach_per_input(reach, every[left], every[right], hessian.score[right].reshape(n * directions, -1))
        blocks[left, right] = block
    matrix = assembly.full_matrix(blocks, slices)
    return matrix.reshape(n, directions, *matrix.shape[1:])


def information_root(law: Law) -> Array:
    """Return root rows of I(h), (n, r, T), with root' root = I."""
    n, outputs = law.h.shape
    return law.rows(np.broadcast_to(identity(outputs, law.h), (n, outputs, outputs)))


def covariance_sum(law: Law, jacobian: Array, hessians: Array | None, estimator: str) -> Array:
    """Return the sum over inputs of the covariance tensor, (P^2, P^2), as one product of root rows."""
    n, _, n_params = jacobian.shape
    if estimator == "hessian" and hessians is not None:
        rows = np.matmul(information_root(law), hessians.reshape(n, hessians.shape[1], -1)).reshape(-1, n_params**2)
        return rows.T @ rows
    if estimator == "cross" and hessians is not None:
        third = law.cumulant(3)
        left = np.einsum("nabc,nai,nbj->ncij", third, jacobian, jacobian, optimize=True).reshape(-1, n_params**2)
        return 0.0 - left.T @ hessians.reshape(-1, n_params**2)
    root = quartic_root(law)
    rows = np.einsum("nrab,nai,nbj->nrij", root, jacobian, jacobian, optimize=True).reshape(-1, n_params**2)
    return rows.T @ rows


def projected_matrix(G: Sequence[Array], inputs: Sequence[Array], matrix: Array, slices: Sequence[slice]) -> Array:
    r"""Return :math:`J_iXJ_i^\top` for a symmetric X (P, P), (n, T, T), block by block."""
    n, outputs = G[0].shape[:2]
    total, matrix = np.zeros_like(G[0], shape=(n, outputs, outputs)), like(matrix, G[0])
    for left, (G_l, h_left) in enumerate(zip(G, inputs, strict=True)):
        for right in range(left, len(G)):
            G_m, h_right = G[right], inputs[right]
            part = matrix[slices[left], slices[right]].reshape(G_l.shape[2], h_left.shape[1], G_m.shape[2], h_right.shape[1])
            units = np.einsum("odpq,nd,nq->nop", part, h_left, h_right, optimize=True)
            block = np.matmul(np.matmul(G_l, units), G_m.swapaxes(1, 2))
            total += block if left == right else block + block.swapaxes(1, 2)
    return (total + total.swapaxes(1, 2)) / 2


def contracted_hessian(hessian: HessianBlocks, inputs: Sequence[Array], matrix: Array, slices: Sequence[slice]) -> Array:
    r"""Return :math:`\mathrm{tr}(XH^k)` for a symmetric X (P, P), (n, K)."""
    total, matrix = np.zeros_like(hessian.score[0], shape=hessian.score[0].shape[:2]), like(matrix, hessian.score[0])
    for (left, right), units in hessian.pairs.items():
        h_left, h_right = inputs[left], inputs[right]
        n_out, n_out2 = hessian.score[left].shape[2], hessian.score[right].shape[2]
        part = matrix[slices[left], slices[right]].reshape(n_out, h_left.shape[1], n_out2, h_right.shape[1])
        block = np.zeros_like(total)
        if units is not None:
            block += np.einsum("nkop,odpq,nd,nq->nk", units, part, h_left, h_right, optimize=True)
        if left < right:
            reach, score = hessian.reach[left, right], hessian.score[right]
            block += np.einsum("nqo,odpq,nd,nkp->nk", reach, part[..., : reach.shape[1]], h_left, score, optimize=True)
        total += block if left == right else 2 * block
    return total


def middle_product(law: Law, form: Array) -> Array:
    r"""Return :math:`\mathrm{Cov}(rr^\top, r^\top Yr)=M:Y` for symmetric Y (n, T, T), (n, T, T)."""
    root = quartic_root(law)
    weights = np.einsum("nrab,nab->nr", root, form)
    return np.einsum("nr,nrab->nab", weights, root)
