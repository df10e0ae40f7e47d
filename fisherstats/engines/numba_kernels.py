"""Fused loops for contractions over classes, compiled on first use; `primitives` defines functions of the same names.

A kernel is kept only where it saves temporaries of shape (inputs, classes, units); `benchmarks/` has a row for each. Kernels take
numbers, never models; they are serial and release the GIL, because threads run over blocks. Each kernel is self-contained:
numba's cache does not notice changes in functions of another file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fisherstats.engines import primitives
from fisherstats.engines.kernel_cache import compiled

__all__ = [
    "class_moments",
    "class_probabilities",
    "class_products",
    "class_rows",
    "class_square_variance",
    "class_squares",
    "class_third_moment",
    "drawn_frequencies",
    "frequencies",
    "label_rows",
    "scaled_class_rows",
    "scaled_products",
    "squared_chain",
    "squared_products",
]

_MANY_CLASSES = 64
"""Number of classes above which numpy's vectorised exponentials, or float32 products, are faster than fewer calls."""


@compiled
def _largest(values: np.ndarray, i: int) -> int:  # pragma: no cover
    """Return the first column in which row i is largest."""
    largest = 0
    for k in range(1, values.shape[1]):
        if values[i, k] > values[i, largest]:
            largest = k
    return largest


@compiled
def _shift(p: np.ndarray, u: np.ndarray, i: int, q: np.ndarray, mean: np.ndarray) -> None:  # pragma: no cover
    """Fill q with u_k - u_m of input i, m its most probable class, and `mean` with sum_k p_k q_k (see `primitives.centred`).

    If u has one row fewer than p, it holds differences from the last class, whose own row is 0.
    """
    n_classes, n_rows, n_columns = p.shape[1], u.shape[1], u.shape[2]
    at = i if u.shape[0] > 1 else 0
    top = _largest(p, i)
    for j in range(n_columns):
        mean[j] = 0
        q[top, j] = 0
    if top == n_rows:
        for k in range(n_rows):
            for j in range(n_columns):
                q[k, j] = u[at, k, j]
                mean[j] += p[i, k] * q[k, j]
        return
    for k in range(n_rows):
        if k != top:
            for j in range(n_columns):
                q[k, j] = u[at, k, j] - u[at, top, j]
                mean[j] += p[i, k] * q[k, j]
    if n_rows < n_classes:
        for j in range(n_columns):
            q[n_rows, j] = -u[at, top, j]
            mean[j] += p[i, n_rows] * q[n_rows, j]


@compiled
def _class_rows(  # pragma: no cover
    w: np.ndarray, u: np.ndarray, shift: np.ndarray, scale: np.ndarray, rows: np.ndarray, squares: np.ndarray
) -> None:
    """Fill `rows`, or `squares` with the sums of their squares, or both; an empty `scale` stands for ones."""
    n_classes, n_rows, n_columns = w.shape[1], u.shape[1], u.shape[2]
    top_row, mean, row = np.empty(n_columns, u.dtype), np.empty(n_columns, u.dtype), np.empty(n_columns, u.dtype)
    factor = np.ones(n_columns, u.dtype)
    for i in range(w.shape[0]):
        at = i if u.shape[0] > 1 else 0
        after = w[i, n_classes - 1]
        top = _largest(w, i)
        for j in range(n_columns):
            top_row[j] = u[at, top, j] if top < n_rows else 0
            mean[j] = (u[at, n_rows - 1, j] if n_rows == n_classes else 0) - top_row[j]
        if len(scale) > 0:
            for j in range(n_columns):
                factor[j] = scale[i, j]
        if len(squares) > 0:
            for j in range(n_columns):
                squares[i, j] = 0
        # The last row is that of the shift, if there is one.
        for k in range(n_classes - 1 if len(shift) > 0 else n_classes - 2, -1, -1):
            if k == n_classes - 1:
                for j in range(n_columns):
                    row[j] = 0
                for c in range(n_classes):
                    for j in range(n_columns):
                        row[j] += shift[i, c] * ((u[at, c, j] if c < n_rows else 0) - top_row[j])
            else:
                here = after + w[i, k]
                share = w[i, k] / here if here > 0 else w[i, k]
                root = np.sqrt(share * after)
                # The mean is recomputed and not shifted, which would keep contributions of a class of zero weight.
                kept = after / here if here > 0 else after
                for j in range(n_columns):
                    own = u[at, k, j] - top_row[j]
                    row[j] = root * (own - mean[j])
                    mean[j] = kept * mean[j] + share * own
                after = here
            for j in range(n_columns):
                row[j] *= factor[j]
            if len(rows) > 0:
                for j in range(n_columns):
                    rows[i, k, j] = row[j]
            if len(squares) > 0:
                for j in range(n_columns):
                    squares[i, j] += row[j] * row[j]


@compiled
def _label_rows(
    p: np.ndarray, classes: np.ndarray, roots: np.ndarray, u: np.ndarray, rows: np.ndarray
) -> None:  # pragma: no cover
    n_classes, n_rows, n_columns = p.shape[1], u.shape[1], u.shape[2]
    top_row, mean = np.empty(n_columns, u.dtype), np.empty(n_columns, u.dtype)
    for i in range(len(p)):
        at = i if u.shape[0] > 1 else 0
        top = _largest(p, i)
        # As in `_shift`, which stores every difference and takes up to twice as long: only those of few classes are wanted here.
        for j in range(n_columns):
            top_row[j] = u[at, top, j] if top < n_rows else 0
            mean[j] = -top_row[j] * p[i, n_classes - 1] if n_rows < n_classes else 0
        for k in range(n_rows):
            if k != top:
                for j in range(n_columns):
                    mean[j] += p[i, k] * (u[at, k, j] - top_row[j])
        for r in range(classes.shape[1]):
            k = classes[i, r]
            for j in range(n_columns):
                rows[i, r, j] = roots[i, r] * (((u[at, k, j] if k < n_rows else 0) - top_row[j]) - mean[j])


@compiled
def _class_products(p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    for i in range(len(p)):
        at = i if u.shape[0] > 1 else 0
        top = _largest(p, i)
        # Columns one by one, as there is seldom more than one.
        for j in range(u.shape[2]):
            mean = out.dtype.type(0)
            for k in range(p.shape[1]):
                out[i, k, j] = u[at, k, j] - u[at, top, j]
                mean += p[i, k] * out[i, k, j]
            for k in range(p.shape[1]):
                out[i, k, j] = p[i, k] * (out[i, k, j] - mean)


@compiled
def _square_variance(p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    q = np.empty((p.shape[1], u.shape[2]), u.dtype)
    mean = np.empty(u.shape[2], u.dtype)
    variance = np.empty(u.shape[2], u.dtype)
    for i in range(p.shape[0]):
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


@compiled
def _third_moment(p: np.ndarray, u: np.ndarray, s: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    q = np.empty((p.shape[1], u.shape[2]), u.dtype)
    r = np.empty((p.shape[1], u.shape[2]), u.dtype)
    mean_q = np.empty(u.shape[2], u.dtype)
    mean_r = np.empty(u.shape[2], u.dtype)
    for i in range(p.shape[0]):
        _shift(p, u, i, q, mean_q)
        _shift(p, s, i, r, mean_r)
        for j in range(u.shape[2]):
            out[i, j] = 0
        for k in range(p.shape[1]):
            for j in range(u.shape[2]):
                centred = q[k, j] - mean_q[j]
                out[i, j] += p[i, k] * (centred * centred * (r[k, j] - mean_r[j]))


@compiled
def _moments(  # pragma: no cover
    p: np.ndarray, u: np.ndarray, s: np.ndarray, score: np.ndarray, hessian: np.ndarray, third: np.ndarray
) -> None:
    q = np.empty((p.shape[1], u.shape[2]), u.dtype)
    r = np.empty((p.shape[1], u.shape[2]), u.dtype)
    mean_q = np.empty(u.shape[2], u.dtype)
    mean_r = np.empty(u.shape[2], u.dtype)
    variance = np.empty(u.shape[2], u.dtype)
    for i in range(p.shape[0]):
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


@compiled
def _class_probabilities(logits: np.ndarray, p: np.ndarray, complement: np.ndarray) -> None:  # pragma: no cover
    sums = np.empty(2, p.dtype)
    for i in range(len(p)):
        top = _largest(logits, i)
        sums[:] = 0
        for k in range(p.shape[1]):
            p[i, k] = np.exp(logits[i, k] - logits[i, top])
            sums[0] += p[i, k]
        for k in range(p.shape[1]):
            p[i, k] /= sums[0]
            complement[i, k] = 1 - p[i, k]
            if k != top:
                sums[1] += p[i, k]
        complement[i, top] = sums[1]


@compiled
def _frequencies(  # pragma: no cover
    p: np.ndarray, uniforms: np.ndarray, counts: np.ndarray, n_draws: float, weights: np.ndarray, excess: np.ndarray
) -> None:
    """Fill `weights` and `excess` from counts, which are first computed from the uniform numbers if there are any."""
    n_classes = p.shape[1]
    below = np.empty(n_classes - 1, p.dtype)
    others = np.empty(1, p.dtype)
    for i in range(len(p)):
        top = _largest(p, i)
        if len(uniforms) > 0:
            others[0] = 0
            for k in range(n_classes - 1):
                others[0] += p[i, n_classes - 1 if k == top else k]
                below[k] = others[0]
            for k in range(n_classes):
                counts[i, k] = 0
            for r in range(uniforms.shape[1]):
                label = 0
                for k in range(n_classes - 1):
                    label += below[k] <= uniforms[i, r]
                # The most probable class and the last one are swapped.
                if label == n_classes - 1:
                    label = top
                elif label == top:
                    label = n_classes - 1
                counts[i, label] += 1
        others[0] = 0
        for k in range(n_classes):
            weights[i, k] = counts[i, k] / n_draws
            if k != top:
                excess[i, k] = weights[i, k] - p[i, k]
                others[0] += excess[i, k]
        excess[i, top] = -others[0]


@compiled
def _scaled_products(  # pragma: no cover
    rows: np.ndarray,
    kernel: np.ndarray,
    scale: np.ndarray,
    second: np.ndarray,
    out: np.ndarray,
    second_out: np.ndarray,
    piece: int,
) -> None:
    each = len(rows) // len(scale)
    for start in range(0, len(rows), piece):
        stop = min(start + piece, len(rows))
        np.dot(rows[start:stop], kernel, out[start:stop])
        for r in range(start, stop):
            i = r // each
            if len(second) > 0:
                for j in range(kernel.shape[1]):
                    second_out[r, j] = out[r, j] * second[i, j]
            for j in range(kernel.shape[1]):
                out[r, j] *= scale[i, j]


@compiled
def _squared_products(  # pragma: no cover
    rows: np.ndarray, kernel: np.ndarray, slopes: np.ndarray, out: np.ndarray, squares: np.ndarray, piece: int
) -> None:
    each = len(rows) // len(slopes)
    for start in range(0, len(rows), piece):
        stop = min(start + piece, len(rows))
        # Where `out` has room for one piece only, each overwrites the previous one.
        first = start if len(out) == len(rows) else 0
        into = out[first : first + stop - start]
        np.dot(rows[start:stop], kernel, into)
        for i in range(start // each, stop // each):
            for j in range(kernel.shape[1]):
                squares[i, j] = 0
            for r in range(i * each - start, (i + 1) * each - start):
                for j in range(kernel.shape[1]):
                    into[r, j] *= slopes[i, j]
                    squares[i, j] += into[r, j] * into[r, j]


@compiled
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


def class_rows(w: np.ndarray, u: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return rows whose squares add up to sum_k w_k (u_k - sum_l w_l u_l / sum_l w_l)^2, (n, C - 1, k), or C with `shift`."""
    rows = np.empty((len(w), w.shape[1] - 1 + (shift.size > 0), u.shape[2]), dtype=u.dtype)
    _class_rows(w, _stored_once(u), shift, rows[:0, 0], rows, rows[:0, 0])
    return rows


def label_rows(p: np.ndarray, classes: np.ndarray, roots: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return roots_r (u_{c_r} - sum_k p_k u_k) for classes c (n, R) and factors (n, R), shape (n, R, k)."""
    rows = np.empty((*classes.shape, u.shape[2]), dtype=u.dtype)
    _label_rows(*map(np.ascontiguousarray, (p, classes, roots)), _stored_once(u), rows)
    return rows


def scaled_class_rows(w: np.ndarray, u: np.ndarray, shift: np.ndarray, diagonals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `class_rows` times diagonals (n, k), and the sums over rows of their squares, (n, k)."""
    rows = np.empty((len(w), w.shape[1] - 1 + (shift.size > 0), u.shape[2]), dtype=u.dtype)
    squares = np.empty((len(w), u.shape[2]), dtype=u.dtype)
    _class_rows(w, _stored_once(u), shift, np.ascontiguousarray(diagonals), rows, squares)
    return rows, squares


def class_squares(w: np.ndarray, u: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the sums of the squares of `class_rows`, (n, k)."""
    squares = np.empty((len(w), u.shape[2]), dtype=u.dtype)
    _class_rows(w, _stored_once(u), shift, squares[:0], squares[:0, None], squares)
    return squares


def _stored_once(u: np.ndarray) -> np.ndarray:
    """Return u as a contiguous array, with a single row where all inputs share it."""
    return np.ascontiguousarray(u[:1] if u.strides[0] == 0 else u)


def class_products(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return p_k (u_k - sum_l p_l u_l), shape (n, C, k)."""
    if u.dtype == np.float32 and p.shape[1] > _MANY_CLASSES:
        return primitives.class_products(p, u)
    out = np.empty((*p.shape, u.shape[2]), dtype=u.dtype)
    _class_products(p, primitives.every_class(p, _stored_once(u)), out)
    return out


def class_square_variance(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return Var_p((u_k - sum_l p_l u_l)^2), shape (n, k)."""
    out = np.empty((len(p), u.shape[2]), dtype=u.dtype)
    _square_variance(p, _stored_once(u), out)
    return out


def class_third_moment(p: np.ndarray, u: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return sum_k p_k (u_k - sum_l p_l u_l)^2 (s_k - sum_l p_l s_l), shape (n, k)."""
    out = np.empty((len(p), u.shape[2]), dtype=u.dtype)
    _third_moment(p, _stored_once(u), _stored_once(s), out)
    return out


def class_moments(p: np.ndarray, u: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Var_p of the squared centred u, Var_p of s, and the third moment of both, (n, k) each."""
    score, hessian, third = (np.empty((len(p), u.shape[2]), dtype=u.dtype) for _ in range(3))
    _moments(p, _stored_once(u), _stored_once(s), score, hessian, third)
    return score, hessian, third


def class_probabilities(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return p_k = e^h_k / sum_l e^h_l and 1 - p_k for logits h, (n, C) each."""
    if logits.shape[1] > _MANY_CLASSES:
        return primitives.class_probabilities(logits)
    p, complement = np.empty(logits.shape, logits.dtype), np.empty(logits.shape, logits.dtype)
    _class_probabilities(np.ascontiguousarray(logits), p, complement)
    return p, complement


def drawn_frequencies(p: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative frequency of each class among labels, and that minus p, (n, C) each."""
    weights, excess = np.empty(p.shape, p.dtype), np.empty(p.shape, p.dtype)
    counts = np.empty(p.shape, dtype=np.int64)
    _frequencies(*map(np.ascontiguousarray, (p, uniforms, counts)), float(uniforms.shape[1]), weights, excess)
    return weights, excess


def frequencies(p: np.ndarray, counts: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of the classes over their number, and that minus p, both (n, C)."""
    weights, excess = np.empty(p.shape, p.dtype), np.empty(p.shape, p.dtype)
    _frequencies(*map(np.ascontiguousarray, (p, p[:0], counts)), float(n_draws), weights, excess)
    return weights, excess


def _piece(n: int, each: int, kernel: np.ndarray) -> int:
    """Return the rows of a piece: small products are still in the cache when they are scaled, and OpenBLAS is faster at them."""
    inputs = max(1, primitives.SMALL_PRODUCT // (each * kernel.size)) if kernel.size <= primitives.SMALL_PRODUCT // 32 else n
    return each * max(1, inputs)


def scaled_products(rows: np.ndarray, kernel: np.ndarray | None, scales: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return rows @ kernel times each of one or two diagonals `scales`, in one pass over pieces that stay in the cache."""
    if kernel is None:
        return primitives.scaled_products(rows, None, scales)
    n, each, _ = rows.shape
    first, second = (*scales, scales[0][:0])[:2]
    out, second_out = (np.empty((len(scale) * each, kernel.shape[1]), dtype=rows.dtype) for scale in (first, second))
    given = map(np.ascontiguousarray, (rows.reshape(n * each, -1), kernel, first, second))
    _scaled_products(*given, out, second_out, _piece(n, each, kernel))
    return [one.reshape(n, each, -1) for one in (out, second_out)[: len(scales)]]


def squared_products(
    rows: np.ndarray, kernel: np.ndarray | None, slopes: np.ndarray, goes_on: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows @ kernel times a diagonal (n, k), and the sums over T of its squares, (n, k); the first is empty at the end."""
    if kernel is None:
        return primitives.squared_products(rows, None, slopes, goes_on)
    n, each, _ = rows.shape
    piece = _piece(n, each, kernel)
    out = np.empty((n * each if goes_on else min(piece, n * each), kernel.shape[1]), dtype=rows.dtype)
    squares = np.empty((n, kernel.shape[1]), dtype=rows.dtype)
    given = map(np.ascontiguousarray, (rows.reshape(n * each, -1), kernel, slopes))
    _squared_products(*given, out, squares, piece)
    return out.reshape(-1, each, kernel.shape[1])[: n if goes_on else 0], squares


def squared_chain(
    kernel: np.ndarray, slopes: np.ndarray, chain: np.ndarray, above: np.ndarray, scale: np.ndarray, goes_on: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return J = W D J' and (sum_r a_r J_r^2) E, input by input, so that data stay in the cache between the two products."""
    n, outputs = above.shape[:2]
    link = np.empty((n if goes_on else 0, kernel.shape[0], chain.shape[2]), dtype=chain.dtype)
    out = np.empty((n, outputs, chain.shape[2]), dtype=chain.dtype)
    _squared_chain(*map(np.ascontiguousarray, (kernel, slopes, chain, above, scale)), link, out)
    return link, out
