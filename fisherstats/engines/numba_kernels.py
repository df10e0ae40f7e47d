"""Fused loops for contractions over classes, compiled on first use; definitions of the same names are in `primitives`.

A kernel is kept only where it saves temporaries of shape (inputs, classes, units); `benchmarks/` has a row for each. Kernels take
numbers, never models; they are serial and release the interpreter lock, because threads run over blocks. Each kernel is
complete in itself: numba's cache does not notice changes in functions of another file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

__all__ = [
    "class_moments",
    "class_second_moment",
    "class_square_variance",
    "class_third_moment",
    "scaled_products",
    "squared_chain",
]


def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with a cache on disk where one can be written (a read-only install and home directory have none)."""
    try:
        return numba.njit(kernel, nogil=True, cache=True, error_model="numpy")  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(kernel, nogil=True, error_model="numpy")  # type: ignore[no-any-return]


@_compiled
def _shift(p: np.ndarray, u: np.ndarray, i: int, q: np.ndarray, mean: np.ndarray) -> None:  # pragma: no cover
    """Fill q with u_k - u_m of input i, m its most probable class, and `mean` with sum_k p_k q_k (see `primitives.centred`).

    Where u has a row less than p it holds differences from the last class, whose own row is 0.
    """
    n_classes, n_rows, n_columns = p.shape[1], u.shape[1], u.shape[2]
    top = 0
    for k in range(1, n_classes):
        if p[i, k] > p[i, top]:
            top = k
    for j in range(n_columns):
        mean[j] = 0
        q[top, j] = 0
    if top == n_rows:
        for k in range(n_rows):
            for j in range(n_columns):
                q[k, j] = u[i, k, j]
                mean[j] += p[i, k] * q[k, j]
        return
    for k in range(n_rows):
        if k != top:
            for j in range(n_columns):
                q[k, j] = u[i, k, j] - u[i, top, j]
                mean[j] += p[i, k] * q[k, j]
    if n_rows < n_classes:
        for j in range(n_columns):
            q[n_rows, j] = -u[i, top, j]
            mean[j] += p[i, n_rows] * q[n_rows, j]


@_compiled
def _second_moment(p: np.ndarray, w: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    q = np.empty((p.shape[1], u.shape[2]), u.dtype)
    mean = np.empty(u.shape[2], u.dtype)
    for i in range(u.shape[0]):
        _shift(p, u, i, q, mean)
        for j in range(u.shape[2]):
            out[i, j] = 0
        for k in range(p.shape[1]):
            for j in range(u.shape[2]):
                centred = q[k, j] - mean[j]
                out[i, j] += w[i, k] * (centred * centred)


@_compiled
def _square_variance(p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    q = np.empty((p.shape[1], u.shape[2]), u.dtype)
    mean = np.empty(u.shape[2], u.dtype)
    variance = np.empty(u.shape[2], u.dtype)
    for i in range(u.shape[0]):
        _shift(p, u, i, q, mean)
        for j in range(u.shape[2]):
            variance[j] = 0
            out[i, j] = 0
        for k in range(p.shape[1]):
            for j in range(u.shape[2]):
                centred = q[k, j] - mean[j]
                q[k, j] = centred * centred
                variance[j] += p[i, k] * q[k, j]
        for k in range(p.shape[1]):
            for j in range(u.shape[2]):
                excess = q[k, j] - variance[j]
                out[i, j] += p[i, k] * (excess * excess)


@_compiled
def _third_moment(p: np.ndarray, u: np.ndarray, s: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    q = np.empty((p.shape[1], u.shape[2]), u.dtype)
    r = np.empty((p.shape[1], u.shape[2]), u.dtype)
    mean_q = np.empty(u.shape[2], u.dtype)
    mean_r = np.empty(u.shape[2], u.dtype)
    for i in range(u.shape[0]):
        _shift(p, u, i, q, mean_q)
        _shift(p, s, i, r, mean_r)
        for j in range(u.shape[2]):
            out[i, j] = 0
        for k in range(p.shape[1]):
            for j in range(u.shape[2]):
                centred = q[k, j] - mean_q[j]
                out[i, j] += p[i, k] * (centred * centred * (r[k, j] - mean_r[j]))


@_compiled
def _moments(  # pragma: no cover
    p: np.ndarray, u: np.ndarray, s: np.ndarray, score: np.ndarray, hessian: np.ndarray, third: np.ndarray
) -> None:
    q = np.empty((p.shape[1], u.shape[2]), u.dtype)
    r = np.empty((p.shape[1], u.shape[2]), u.dtype)
    mean_q = np.empty(u.shape[2], u.dtype)
    mean_r = np.empty(u.shape[2], u.dtype)
    variance = np.empty(u.shape[2], u.dtype)
    for i in range(u.shape[0]):
        _shift(p, u, i, q, mean_q)
        _shift(p, s, i, r, mean_r)
        for j in range(u.shape[2]):
            variance[j] = 0
            score[i, j] = 0
            hessian[i, j] = 0
            third[i, j] = 0
        for k in range(p.shape[1]):
            for j in range(u.shape[2]):
                centred = q[k, j] - mean_q[j]
                q[k, j] = centred * centred
                variance[j] += p[i, k] * q[k, j]
            # Loops over few arrays each: the compiler vectorises these, and not their union.
            for j in range(u.shape[2]):
                r[k, j] -= mean_r[j]
                hessian[i, j] += p[i, k] * (r[k, j] * r[k, j])
            for j in range(u.shape[2]):
                third[i, j] += p[i, k] * (q[k, j] * r[k, j])
        for k in range(p.shape[1]):
            for j in range(u.shape[2]):
                excess = q[k, j] - variance[j]
                score[i, j] += p[i, k] * (excess * excess)


@_compiled
def _scaled_products(  # pragma: no cover
    rows: np.ndarray, kernel: np.ndarray, scales: tuple[np.ndarray, ...], out: tuple[np.ndarray, ...]
) -> None:
    n, n_rows, _ = rows.shape
    first = out[0]
    # Pieces of at most a million multiplications: OpenBLAS is faster at those, and they are still in the cache when scaled.
    step = max(1, 1000000 // (n_rows * kernel.size)) if kernel.size <= 31250 else n
    for start in range(0, n, step):
        stop = min(start + step, n)
        count = (stop - start) * n_rows
        np.dot(rows[start:stop].reshape(count, rows.shape[2]), kernel, first[start:stop].reshape(count, kernel.shape[1]))
        for i in range(start, stop):
            for r in range(n_rows):
                for s in range(1, len(scales)):
                    for j in range(kernel.shape[1]):
                        out[s][i, r, j] = first[i, r, j] * scales[s][i, j]
                for j in range(kernel.shape[1]):
                    first[i, r, j] *= scales[0][i, j]


@_compiled
def _squared_chain(  # pragma: no cover
    kernel: np.ndarray,
    slopes: np.ndarray,
    chain: np.ndarray,
    above: np.ndarray,
    scale: np.ndarray,
    link: np.ndarray,
    out: np.ndarray,
) -> None:
    scaled = np.empty_like(kernel)
    own = np.empty(link.shape[1:], link.dtype)
    square = np.empty_like(own)
    for i in range(slopes.shape[0]):
        for r in range(kernel.shape[0]):
            for j in range(kernel.shape[1]):
                scaled[r, j] = kernel[r, j] * slopes[i, j]
        J = link[i] if link.shape[0] > 0 else own
        np.dot(scaled, chain[i if chain.shape[0] > 1 else 0], J)
        for r in range(square.shape[0]):
            for k in range(square.shape[1]):
                square[r, k] = J[r, k] * J[r, k]
        np.dot(above[i], square, out[i])
        for r in range(out.shape[1]):
            for k in range(out.shape[2]):
                out[i, r, k] *= scale[i, k]


def class_second_moment(p: np.ndarray, w: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return sum_k w_k (u_k - sum_l p_l u_l)^2, shape (n, k)."""
    out = np.empty((u.shape[0], u.shape[2]), dtype=u.dtype)
    _second_moment(p, w, np.ascontiguousarray(u), out)
    return out


def class_square_variance(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return Var_p((u_k - sum_l p_l u_l)^2), shape (n, k)."""
    out = np.empty((u.shape[0], u.shape[2]), dtype=u.dtype)
    _square_variance(p, np.ascontiguousarray(u), out)
    return out


def class_third_moment(p: np.ndarray, u: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return sum_k p_k (u_k - sum_l p_l u_l)^2 (s_k - sum_l p_l s_l), shape (n, k)."""
    out = np.empty((u.shape[0], u.shape[2]), dtype=u.dtype)
    _third_moment(p, np.ascontiguousarray(u), np.ascontiguousarray(s), out)
    return out


def class_moments(p: np.ndarray, u: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Var_p of the squared centred u, Var_p of s, and the third moment of both, (n, k) each."""
    score, hessian, third = (np.empty((u.shape[0], u.shape[2]), dtype=u.dtype) for _ in range(3))
    _moments(p, np.ascontiguousarray(u), np.ascontiguousarray(s), score, hessian, third)
    return score, hessian, third


def scaled_products(rows: np.ndarray, kernel: np.ndarray, scales: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return rows @ kernel times each of the diagonals `scales`, in one pass over pieces that stay in the cache."""
    out = [np.empty((*rows.shape[:2], kernel.shape[1]), dtype=rows.dtype) for _ in scales]
    _scaled_products(*(np.ascontiguousarray(one) for one in (rows, kernel)), tuple(map(np.ascontiguousarray, scales)), tuple(out))
    return out


def squared_chain(
    kernel: np.ndarray, slopes: np.ndarray, chain: np.ndarray, above: np.ndarray, scale: np.ndarray, goes_on: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return J = W D J' and (sum_r a_r J_r^2) E, input by input, so that nothing leaves the cache between the two products."""
    n, outputs = above.shape[:2]
    link = np.empty((n if goes_on else 0, kernel.shape[0], chain.shape[2]), dtype=chain.dtype)
    out = np.empty((n, outputs, chain.shape[2]), dtype=chain.dtype)
    _squared_chain(*(np.ascontiguousarray(one) for one in (kernel, slopes, chain, above, scale)), link, out)
    return link, out
