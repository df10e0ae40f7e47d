r"""Exact norms of the P^4 covariance tensors for any P, from Gram matrices of the size of the outputs.

With R_i the rows of a root of M at input i (symmetric T x T matrices) and :math:`K_{ij}=J_iJ_j^\top`, the matricised
covariance of the score estimator is the sum of :math:`(J_i\otimes J_i)^\top R_i^\top R_i(J_i\otimes J_i)`, so its non-zero
eigenvalues are those of the matrix with blocks :math:`\langle R_{ir},K_{ij}R_{js}K_{ij}^\top\rangle`.  For the Hessian
estimator the blocks are :math:`I_i^{1/2}Q_{ij}I_j^{1/2}` with :math:`Q_{ij}^{ab}=\langle H^a(x_i),H^b(x_j)\rangle_F`, assembled
layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import double, like, top_eigenpair
from fisherstats.models.derivatives import HessianBlocks

__all__ = [
    "Gram",
    "hessian_gram",
    "hessian_inner_products",
    "hessian_rows",
    "hessian_tensor_attained",
    "jacobian_products",
    "own_layer_products",
    "own_pair_products",
    "score_gram",
    "score_tensor_attained",
]

Array = NDArray[np.floating]

_TILE = 2**23


@dataclass(frozen=True)
class Gram:
    """A symmetric positive semi-definite matrix with the non-zero spectrum of sum_i Cov_i for one label, in blocks per input."""

    blocks: Array
    """(n, r, n, r)."""

    def frobenius(self) -> float:
        """Return the Frobenius norm of the sum over inputs."""
        # Relative to the trace, because squares of very small entries would underflow.
        trace = self.trace()
        return trace * float(np.sqrt(np.square(self.blocks / trace).sum())) if trace > 0 else 0.0

    def trace(self) -> float:
        """Return the sum of the variances of all entries."""
        return float(np.einsum("iaia->", self.blocks))

    def spectral(self) -> float:
        """Return the largest eigenvalue of the matricised covariance."""
        size = self.blocks.shape[0] * self.blocks.shape[1]
        return float(max(top_eigenpair(self.blocks.reshape(size, size))[0], 0.0))

    def each(self) -> Array:
        """Return Frobenius norm, spectral norm and trace of every single input, (n, 3)."""
        own = np.moveaxis(np.diagonal(self.blocks, axis1=0, axis2=2), -1, 0)
        largest = np.maximum(np.linalg.eigvalsh(own)[:, -1], 0)
        trace = np.trace(own, axis1=1, axis2=2)
        scaled = own / np.where(trace > 0, trace, 1)[:, None, None]
        return np.stack([trace * np.linalg.norm(scaled, axis=(1, 2)), largest, trace], axis=1)


def jacobian_products(G: Sequence[Array], inputs: Sequence[Array]) -> Array:
    r"""Return :math:`J_iJ_j^\top=\sum_l(G_{l,i}G_{l,j}^\top)(\bar h_{l,i}\cdot\bar h_{l,j})` for all pairs, (n, T, n, T)."""
    n, outputs = G[0].shape[:2]
    total = np.zeros_like(inputs[0], dtype=np.float64, shape=(n, outputs, n, outputs))
    for G_l, h_bar in zip(G, inputs, strict=True):
        rows = double(G_l).reshape(n * outputs, -1)
        total += (rows @ rows.T).reshape(n, outputs, n, outputs) * (h_bar @ h_bar.T)[:, None, :, None]
    return total


def score_gram(roots: Array, products: Array) -> Gram:
    r"""Return the blocks :math:`\langle R_{ir},K_{ij}R_{js}K_{ij}^\top\rangle` (Theorem 4 of 2021), roots (n, r, T, T)."""
    n, rank, outputs = roots.shape[:3]
    blocks = np.empty_like(products, shape=(n, rank, n, rank))
    flat = roots.reshape(n, rank, outputs**2)
    step = max(1, _TILE // (n * rank * outputs**2))
    for start in range(0, n, step):
        K = products[start : start + step].transpose(0, 2, 1, 3)[:, :, None]
        moved = np.matmul(np.matmul(K, roots[None]), K.swapaxes(-1, -2)).reshape(-1, n * rank, outputs**2)
        tile = np.matmul(flat[start : start + step], moved.swapaxes(1, 2))
        blocks[start : start + step] = tile.reshape(-1, rank, n, rank)
    return Gram(blocks)


def hessian_gram(roots: Array, inner: Array) -> Gram:
    r"""Return the blocks :math:`I_i^{1/2}Q_{ij}I_j^{1/2}` (Theorem 6 of 2021); roots (n, r, T) with root' root = I."""
    left = np.einsum("ira,iajb->irjb", roots, inner, optimize=True)
    return Gram(np.einsum("irjb,jsb->irjs", left, roots, optimize=True))


def hessian_inner_products(hessian: HessianBlocks, inputs: Sequence[Array]) -> Array:
    r"""Return :math:`Q_{ij}^{ab}=\langle H^a(x_i),H^b(x_j)\rangle_F`, (n, K, n, K), from the layer structure.

    A block l <= m is C[o,p] h_l[d] h_m[q] + 1{l<m} g[p] R[q,o] h_l[d]; off-diagonal blocks count twice.
    """
    n, directions = hessian.score[0].shape[:2]
    size = n * directions
    total = np.zeros_like(inputs[0], dtype=np.float64, shape=(n, directions, n, directions))
    for (left, right), units in hessian.pairs.items():
        own_left = inputs[left] @ inputs[left].T
        block = np.zeros_like(total)
        if units is not None:
            flat = units.reshape(size, -1)
            own_right = inputs[right] @ inputs[right].T
            block += (flat @ flat.T).reshape(total.shape) * own_right[:, None, :, None]
        if left < right:
            score, reach = hessian.score[right].reshape(size, -1), hessian.reach[left, right].reshape(n, -1)
            block += (score @ score.T).reshape(total.shape) * (reach @ reach.T)[:, None, :, None]
            if units is not None:
                crossed = _crossed(units, hessian.score[right], hessian.reach[left, right], inputs[right])
                block += crossed + crossed.transpose(2, 3, 0, 1)
        total += (1 if left == right else 2) * own_left[:, None, :, None] * block
    return total


def own_layer_products(G: Sequence[Array], inputs: Sequence[Array]) -> list[Array]:
    r"""Return :math:`J_lJ_l^\top=|\bar h_l|^2G_lG_l^\top` of each input, (n, T, T) per layer."""
    return [_squares(h_bar)[:, None, None] * np.matmul(G_l, G_l.swapaxes(1, 2)) for G_l, h_bar in zip(G, inputs, strict=True)]


def own_pair_products(hessian: HessianBlocks, inputs: Sequence[Array]) -> dict[tuple[int, int], Array]:
    r"""Return :math:`\langle H^a_{lm},H^b_{lm}\rangle_F` of each input for every block l <= m, (n, K, K)."""
    products: dict[tuple[int, int], Array] = {}
    for (left, right), units in hessian.pairs.items():
        n, directions = hessian.score[right].shape[:2]
        block = np.zeros_like(inputs[0], dtype=np.float64, shape=(n, directions, directions))
        if units is not None:
            flat = units.reshape(n, directions, -1)
            block += np.matmul(flat, flat.swapaxes(1, 2)) * _squares(inputs[right])[:, None, None]
        if left < right:
            score, reach = hessian.score[right], hessian.reach[left, right]
            block += np.matmul(score, score.swapaxes(1, 2)) * _squares(reach.reshape(n, -1))[:, None, None]
            if units is not None:
                reached = np.einsum("nq,nqo->no", inputs[right][:, : reach.shape[1]], reach)
                crossed = np.matmul(np.einsum("naop,no->nap", units, reached), score.swapaxes(1, 2))
                block += crossed + crossed.swapaxes(1, 2)
        products[left, right] = _squares(inputs[left])[:, None, None] * block
    return products


def _squares(rows: Array) -> Array:
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)


def _crossed(units: Array, score: Array, reach: Array, h_right: Array) -> Array:
    r"""Return :math:`\sum_{op}C_i^a[o,p]\,g_j^b[p]\,(R_j^\top h_{m,i})[o]`, (n, K, n, K)."""
    n, directions, n_out, n_in = units.shape
    crossed = np.empty_like(score, dtype=np.float64, shape=(n, directions, n, directions))
    flat_score = score.reshape(n * directions, n_in)
    step = max(1, _TILE // (n * directions**2 * n_out))
    for start in range(0, n, step):
        part = units[start : start + step]
        pulled = (part.reshape(-1, n_in) @ flat_score.T).reshape(-1, directions, n_out, n, directions)
        reached = np.einsum("iq,jqo->ijo", h_right[start : start + step, : reach.shape[1]], reach, optimize=True)
        crossed[start : start + step] = np.einsum("iaojb,ijo->iajb", pulled, reached, optimize=True)
    return crossed


@dataclass(frozen=True)
class _Rows:
    """The vectors H v of every input and root row, per layer f[o] h_bar[d] + g[o] w[d]: never (inputs, rows, P)."""

    units: list[Array]
    """f, (n, r, n_{l+1})."""
    inputs: Sequence[Array]
    score: list[Array]
    """g, (n, r, n_{l+1})."""
    reached: list[Array]
    """w, (n, n_l + 1), 0 for the bias."""

    def gram(self) -> Array:
        """Return the inner products of all rows, (n r, n r)."""
        n, rank = self.units[0].shape[:2]
        total = np.zeros_like(self.units[0], dtype=np.float64, shape=(n, rank, n, rank))
        for f, h_bar, g, w in zip(self.units, self.inputs, self.score, self.reached, strict=True):
            parts = [(f.reshape(n * rank, -1), h_bar), (g.reshape(n * rank, -1), w)]
            for left, left_input in parts:
                for right, right_input in parts:
                    products = (left @ right.T).reshape(n, rank, n, rank)
                    total += products * (left_input @ right_input.T)[:, None, :, None]
        return total.reshape(n * rank, n * rank)

    def combined(self, weights: Array) -> list[Array]:
        """Return the sum of the rows with weights (n, r), one matrix per layer."""
        return [
            np.einsum("ir,iro->oi", weights, f) @ h_bar + np.einsum("ir,iro->oi", weights, g) @ w
            for f, h_bar, g, w in zip(self.units, self.inputs, self.score, self.reached, strict=True)
        ]


def hessian_rows(hessian: HessianBlocks, inputs: Sequence[Array], vectors: Sequence[Array]) -> _Rows:
    r"""Return :math:`H^k(x_i)\,v` for every input and direction, in factors, for v given as one matrix per layer."""
    units = [np.zeros_like(score) for score in hessian.score]
    reached = [np.zeros_like(h_bar) for h_bar in inputs]
    moved = [h_bar @ matrix.T for h_bar, matrix in zip(inputs, vectors, strict=True)]
    for (left, right), block in hessian.pairs.items():
        if block is not None:
            units[left] += np.matmul(block, moved[right][:, None, :, None])[..., 0]
            if left < right:
                units[right] += np.matmul(block.swapaxes(-1, -2), moved[left][:, None, :, None])[..., 0]
        if left < right:
            reach = hessian.reach[left, right]
            units[left] += np.matmul(hessian.score[right] @ vectors[right][:, : reach.shape[1]], reach)
            reached[right][:, : reach.shape[1]] += np.matmul(reach, moved[left][:, :, None])[:, :, 0]
    return _Rows(units, inputs, hessian.score, reached)


def score_tensor_attained(roots: Array, products: Array, gram: Gram, iterations: int = 60) -> float:
    r"""Return an attained value of :math:`\sum_i\mathrm{Cov}_i(\alpha,\beta,\alpha,\beta)` over unit vectors, score estimator.

    All computations are in the span of the rows of the Jacobians: with :math:`K=VV^\top` the directions are
    :math:`J_i\alpha=V_iw`. Given one direction the other is a top eigenvector; one start is the top eigenvector of the matricised
    covariance's top matrix. The forms :math:`V_i^\top R_{ir}V_i` themselves, n^3 numbers, are not formed.
    """
    n, rank, outputs = roots.shape[:3]
    values, vectors = np.linalg.eigh(products.reshape(n * outputs, n * outputs))
    kept = int((values > values[-1] * 1e-14).sum())
    if not kept:
        return 0.0
    V = (vectors[:, -kept:] * np.sqrt(values[-kept:])).reshape(n, outputs, -1)
    weights = top_eigenpair(gram.blocks.reshape(n * rank, n * rank))[1].reshape(n, rank)
    weighted = np.matmul(np.einsum("ir,irab->iab", weights, roots), V)
    values, vectors = np.linalg.eigh(V.reshape(n * outputs, -1).T @ weighted.reshape(n * outputs, -1))
    starts = [vectors[:, int(np.argmax(np.abs(values)))], *(like(one, V) for one in _directions(V.shape[2]))]
    return max(_alternate_forms(roots, V, start, iterations) for start in starts)


def _alternate_forms(roots: Array, V: Array, z: Array, iterations: int) -> float:
    """Raise sum_ir (w' V_i' R_ir V_i z)^2 over unit w and z, one at a time, by a few power steps each."""
    value, w = 0.0, z
    for _ in range(iterations):
        rows = np.matmul(roots, np.matmul(V, z)[:, None, :, None])[..., 0]
        for _ in range(4):
            forms = np.matmul(rows, np.matmul(V, w)[:, :, None])
            w = np.einsum("it,itk->k", np.matmul(rows.swapaxes(1, 2), forms)[:, :, 0], V)
            w = w / max(float(np.linalg.norm(w)), np.finfo(w.dtype).tiny)
        reached = float(np.square(np.matmul(rows, np.matmul(V, w)[:, :, None])).sum())
        if reached <= value * (1 + 1e-10):
            return max(value, reached)
        value, w, z = reached, z, w
    return value


def _directions(size: int, count: int = 3) -> list[Array]:
    directions = np.random.Generator(np.random.Philox(key=size)).standard_normal((count, size))
    return [one / np.linalg.norm(one) for one in directions]


def hessian_tensor_attained(
    hessian: HessianBlocks, roots: Array, inputs: Sequence[Array], gram: Gram, iterations: int = 12
) -> float:
    r"""Return an attained value of :math:`\sum_i\mathrm{Cov}_i(\alpha,\beta,\alpha,\beta)` for the Hessian estimator.

    `roots` (n, r, T) with root' root = I. As for the score, but the directions stay in factors per layer; the start is the top
    eigenvector of the matricised covariance's top matrix, by power iteration.
    """
    rooted = _rooted(hessian, roots)
    n, rank = roots.shape[:2]
    weights = top_eigenpair(gram.blocks.reshape(n * rank, n * rank))[1].reshape(n, rank)
    sizes = [(score.shape[2], h_bar.shape[1]) for score, h_bar in zip(hessian.score, inputs, strict=True)]
    ends = np.cumsum([rows * columns for rows, columns in sizes])
    start = like(_directions(int(ends[-1]), 1)[0], roots)
    vector = [start[end - size[0] * size[1] : end].reshape(size) for end, size in zip(ends.tolist(), sizes, strict=True)]
    value = 0.0
    for step in range(2 * iterations):
        rows = hessian_rows(rooted, inputs, vector)
        if step < iterations:
            vector = _normalised(rows.combined(weights))
            continue
        reached, weights = top_eigenpair(rows.gram())
        if reached <= value * (1 + 1e-9):
            break
        value = float(reached)
        vector = _normalised(rows.combined(weights.reshape(n, rank)))
    return value


def _rooted(hessian: HessianBlocks, roots: Array) -> HessianBlocks:
    """Return the Hessians of the directions root . h instead of h."""
    pairs = {
        key: None if block is None else np.einsum("ira,iaop->irop", roots, block, optimize=True)
        for key, block in hessian.pairs.items()
    }
    return HessianBlocks(pairs, [np.matmul(roots, score) for score in hessian.score], hessian.reach)


def _normalised(vector: list[Array]) -> list[Array]:
    size = np.sqrt(sum(float(np.square(part).sum()) for part in vector))
    return [part / size if size > 0 else part for part in vector]
