"""Fused loops for contractions over classes, compiled on first use; definitions of the same names are in `primitives`.

A kernel is kept only where it saves temporaries of shape (inputs, classes, units); `benchmarks/` has a row for each. Kernels take
numbers, never models; they are serial and release the interpreter lock, because threads run over blocks. Each kernel is
complete in itself: numba's cache does not notice changes in functions of another file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["class_second_moment", "class_square_variance", "class_third_moment"]


def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with a cache on disk where one can be written (a read-only install and home directory have none)."""
    try:
        return numba.njit(kernel, nogil=True, cache=True, error_model="numpy")  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(kernel, nogil=True, error_model="numpy")  # type: ignore[no-any-return]


def _centre(p: np.ndarray, u: np.ndarray, i: int, q: np.ndarray) -> None:  # pragma: no cover
    """Fill q with u_k - sum_l p_l u_l of input i, referred to the most probable class first (see `primitives.centred`)."""
    top = 0
    for k in range(1, p.shape[1]):
        if p[i, k] > p[i, top]:
            top = k
    mean = np.zeros(u.shape[2], u.dtype)
    for k in range(p.shape[1]):
        for j in range(u.shape[2]):
            q[k, j] = u[i, k, j] - u[i, top, j]
            mean[j] += p[i, k] * q[k, j]
    for k in range(p.shape[1]):
        for j in range(u.shape[2]):
            q[k, j] -= mean[j]


_centre_compiled = _compiled(_centre)


@_compiled
def _second_moment(p: np.ndarray, w: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    q = np.empty(u.shape[1:], u.dtype)
    for i in range(u.shape[0]):
        _centre_compiled(p, u, i, q)
        for k in range(u.shape[1]):
            for j in range(u.shape[2]):
                out[i, j] += w[i, k] * (q[k, j] * q[k, j])


@_compiled
def _square_variance(p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    q = np.empty(u.shape[1:], u.dtype)
    for i in range(u.shape[0]):
        _centre_compiled(p, u, i, q)
        variance = np.zeros(u.shape[2], u.dtype)
        for k in range(u.shape[1]):
            for j in range(u.shape[2]):
                q[k, j] *= q[k, j]
                variance[j] += p[i, k] * q[k, j]
        for k in range(u.shape[1]):
            for j in range(u.shape[2]):
                excess = q[k, j] - variance[j]
                out[i, j] += p[i, k] * (excess * excess)


@_compiled
def _third_moment(p: np.ndarray, u: np.ndarray, s: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    q = np.empty(u.shape[1:], u.dtype)
    r = np.empty(s.shape[1:], s.dtype)
    for i in range(u.shape[0]):
        _centre_compiled(p, u, i, q)
        _centre_compiled(p, s, i, r)
        for k in range(u.shape[1]):
            for j in range(u.shape[2]):
                out[i, j] += p[i, k] * (q[k, j] * q[k, j] * r[k, j])


def class_second_moment(p: np.ndarray, w: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return sum_k w_k (u_k - sum_l p_l u_l)^2, shape (n, k)."""
    out = np.zeros((u.shape[0], u.shape[2]), dtype=u.dtype)
    _second_moment(p, w, np.ascontiguousarray(u), out)
    return out


def class_square_variance(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return Var_p((u_k - sum_l p_l u_l)^2), shape (n, k)."""
    out = np.zeros((u.shape[0], u.shape[2]), dtype=u.dtype)
    _square_variance(p, np.ascontiguousarray(u), out)
    return out


def class_third_moment(p: np.ndarray, u: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return sum_k p_k (u_k - sum_l p_l u_l)^2 (s_k - sum_l p_l s_l), shape (n, k)."""
    out = np.zeros((u.shape[0], u.shape[2]), dtype=u.dtype)
    _third_moment(p, np.ascontiguousarray(u), np.ascontiguousarray(s), out)
    return out
