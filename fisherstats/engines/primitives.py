"""The contractions over classes and heads that the moments need, as plain array functions.

``p`` and ``w`` are (n, C) weights over classes, ``u`` and ``s`` (n, C, k) columns of directions, or their differences from the
last class, (n, C - 1, k), ``q`` their centred form. Weighted sums over classes are matrix products, so that no further (n, C, k)
array is reduced by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fisherstats.core.arrays import on_device, power_of_two

__all__ = [
    "centred",
    "class_forms",
    "class_moments",
    "class_probabilities",
    "class_product_variance",
    "class_products",
    "class_rows",
    "class_square_variance",
    "class_squares",
    "class_third_moment",
    "drawn_frequencies",
    "every_class",
    "frequencies",
    "label_rows",
    "pair_sum",
    "pair_total",
    "row_products",
    "scaled_class_rows",
    "scaled_products",
    "squared_chain",
    "squared_products",
    "sum_of_squares",
    "weighted_fourth_power",
    "weighted_mean",
    "weighted_square",
    "weighted_square_product",
    "weighted_square_variance",
    "with_last_exchanged",
]

_LEFT = 8
"""A difference below this fraction of its minuend has lost too many digits."""


def every_class(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return directions with one row per class: differences from the last class get their row of zeros."""
    return u if u.shape[1] == p.shape[1] else np.pad(u, ((0, 0), (0, 1), (0, 0)))


def weighted_mean(w: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return sum_k w_k q_k, shape (n, k)."""
    return np.matmul(w[:, None, :], q)[:, 0, :]


def centred(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return q_k = u_k - sum_l p_l u_l, accurate for a p that is nearly one-hot.

    Everything is first referred to the most probable class m: w_k = u_k - u_m is exactly 0 there, so the weighted
    mean holds only small probabilities and q_m = -sum_l p_l w_l keeps its relative accuracy, where
    u_m - sum_l p_l u_l would have cancelled.
    """
    w = _from_the_top_class(p, u)
    w -= weighted_mean(p, w)[:, None, :]
    return w


def class_products(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return p_k (u_k - sum_l p_l u_l), shape (n, C, k)."""
    products: np.ndarray = centred(p, u)
    products *= p[:, :, None]
    return products


def weighted_square(w: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return sum_k w_k q_k^2, shape (n, k)."""
    return weighted_mean(w, q * q)


def weighted_fourth_power(w: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return sum_k w_k q_k^4, shape (n, k)."""
    square = q * q
    square *= square
    return weighted_mean(w, square)


def weighted_square_variance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return sum_k p_k (q_k^2 - sum_l p_l q_l^2)^2, shape (n, k): a sum of squares, never a difference of moments."""
    square = q * q
    square -= weighted_mean(p, square)[:, None, :]
    square *= square
    return weighted_mean(p, square)


def class_product_variance(p: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return sum_k p_k (q_k(u) q_k(v) - c)^2, c = sum_k p_k q_k(u) q_k(v), for all pairs of columns, shape (n, k, m).

    It is sum_k p_k q_k(u)^2 q_k(v)^2 - c^2, one matrix product per input; pairs for which this cancels, because the product of
    both hardly varies, are summed term by term.
    """
    q_u, size_u = _at_size_one(centred(p, u))
    q_v, size_v = (q_u, size_u) if v is u else _at_size_one(centred(p, v))
    root, same = np.sqrt(p)[:, :, None], q_v is q_u
    rows = root * q_u
    covariance = np.matmul(rows.swapaxes(1, 2), rows if same else root * q_v)
    squares = rows * q_u
    square = np.matmul(squares.swapaxes(1, 2), squares if same else root * np.square(q_v))
    variance: np.ndarray = square - np.square(covariance)
    lost = variance < square / _LEFT
    everywhere = on_device(p)  # testing would synchronise with the device
    for column in range(q_u.shape[2] if everywhere or lost.any() else 0):
        if everywhere or lost[:, column].any():
            deviation = q_u[:, :, column, None] * q_v - covariance[:, column, None, :]
            variance[:, column] = np.where(lost[:, column], weighted_square(p, deviation), variance[:, column])
    size = size_u[:, :, None] * size_v[:, None, :]
    variance *= size
    variance *= size
    return variance


def _at_size_one(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return columns over powers of two near their largest entries, whose fourth powers do not underflow, and these, (n, k)."""
    size: np.ndarray = power_of_two(np.abs(q).max(axis=1))
    q /= size[:, None, :]
    return q, size


def weighted_square_product(p: np.ndarray, q: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return sum_k p_k q_k^2 s_k, shape (n, k)."""
    return weighted_mean(p, q * q * s)


def pair_sum(z: np.ndarray) -> np.ndarray:
    """Return sum_{a<b} z_a z_b over axis 1 of a non-negative z (n, T, k), shape (n, k).

    A running prefix adds positive terms only; ((sum z)^2 - sum z^2) / 2 would cancel when one head dominates.
    """
    prefix = np.zeros_like(z[:, 0, :])
    total = np.zeros_like(prefix)
    for head in range(z.shape[1]):
        total += prefix * z[:, head, :]
        prefix += z[:, head, :]
    return total


def pair_total(z: np.ndarray) -> np.ndarray:
    """Return sum_{a<b} z_a z_b of a non-negative z (n, T), shape (n,), in a few steps for any T."""
    return (z[:, 1:] * np.cumsum(z[:, :-1], axis=1)).sum(axis=1)


def class_rows(w: np.ndarray, u: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return rows whose squares add up to sum_k w_k (u_k - sum_l w_l u_l / sum_l w_l)^2, (n, C - 1, k), or C with `shift`.

    Row k is u_k minus the mean of the classes after k, times the root of w_k (sum_{l>k} w_l) / (sum_{l>=k} w_l): the increments
    of West's one-pass variance, so nothing is subtracted from a sum of squares. For any two columns the sum of the products of
    their rows is the weighted covariance. A `shift` (n, C), zero in sum, adds the row sum_k s_k u_k; an empty one adds none.
    """
    # Relative to the class with the largest weight, as in `centred`.
    u = _from_the_top_class(w, u)
    here = np.cumsum(w[:, ::-1], axis=1)[:, ::-1]
    sums = np.cumsum((w[:, :, None] * u)[:, ::-1], axis=1)[:, ::-1]
    positive = np.where(here > 0, here, 1)
    rows = u[:, :-1] - sums[:, 1:] / positive[:, 1:, None]
    rows *= np.sqrt(w[:, :-1] * (here[:, 1:] / positive[:, :-1]))[:, :, None]
    return np.concatenate([rows, weighted_mean(shift, u)[:, None, :]], axis=1) if shift.size else rows


def _from_the_top_class(w: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return u_k minus that of the class with the largest weight, shape (n, C, k)."""
    u = every_class(w, u)
    return u - np.take_along_axis(u, np.argmax(w, axis=1)[:, None, None], axis=1)


def label_rows(p: np.ndarray, classes: np.ndarray, roots: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return roots_r (u_{c_r} - sum_k p_k u_k) for classes c (n, R) and factors (n, R), shape (n, R, k)."""
    rows: np.ndarray = np.take_along_axis(centred(p, u), classes[:, :, None], axis=1)
    rows *= roots[:, :, None]
    return rows


def scaled_class_rows(w: np.ndarray, u: np.ndarray, shift: np.ndarray, diagonals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `class_rows` times diagonals (n, k), and the sums over rows of their squares, (n, k)."""
    return squared_products(class_rows(w, u, shift), None, diagonals)


def class_squares(w: np.ndarray, u: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the sums of the squares of `class_rows`, (n, k)."""
    return sum_of_squares(class_rows(w, u, shift))


def class_square_variance(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return Var_p((u_k - sum_l p_l u_l)^2), shape (n, k)."""
    return weighted_square_variance(p, centred(p, u))


def class_forms(p: np.ndarray, u: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return sum_j w_j (u_kj - sum_l p_l u_lj)^2 of every class k for weights (n, k), shape (n, C)."""
    q = centred(p, u)
    q *= q
    return np.matmul(q, weights[:, :, None])[:, :, 0]


def class_third_moment(p: np.ndarray, u: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return sum_k p_k (u_k - sum_l p_l u_l)^2 (s_k - sum_l p_l s_l), shape (n, k)."""
    return weighted_square_product(p, centred(p, u), centred(p, s))


def class_moments(p: np.ndarray, u: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Var_p of the squared centred u, Var_p of s, and the third moment of both, (n, k) each."""
    q, r = centred(p, u), centred(p, s)
    return weighted_square_variance(p, q), weighted_square(p, r), weighted_square_product(p, q, r)


def class_probabilities(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return p_k = e^h_k / sum_l e^h_l and 1 - p_k for logits h, (n, C) each.

    At the most probable class 1 - p is the sum of the others, which is accurate where p is nearly 1.
    """
    top = np.argmax(logits, axis=1)[:, None]
    p = logits - np.take_along_axis(logits, top, axis=1)
    np.exp(p, out=p)
    np.put_along_axis(p, top, 0, axis=1)
    others = p.sum(axis=1, keepdims=True)
    p /= 1 + others
    np.put_along_axis(p, top, 1 / (1 + others), axis=1)
    complement = 1 - p
    np.put_along_axis(complement, top, others / (1 + others), axis=1)
    return p, complement


def drawn_frequencies(p: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative frequency of each class among labels, and that minus p, (n, C) each.

    A label is the class whose cumulative probability is the first to exceed its uniform number, (n, N) of them. The most probable
    class comes last, so that the others have the accuracy of their own probabilities, down to 2^-53, the spacing of uniform
    numbers; a class of probability 0 is never drawn.
    """
    n, n_classes = p.shape
    top = np.argmax(p, axis=1)
    below = np.cumsum(with_last_exchanged(p.copy(), top)[:, :-1], axis=1)
    labels = (below[:, None, :] <= uniforms[:, :, None]).sum(axis=2)
    labels += n_classes * np.arange(n)[:, None]
    counts = np.bincount(labels.ravel(), minlength=n * n_classes).reshape(n, n_classes)
    return frequencies(p, with_last_exchanged(counts, top), uniforms.shape[1])


def frequencies(p: np.ndarray, counts: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of the classes over their number, and that minus p, both (n, C).

    At the most probable class the difference is minus the sum of the others: there 1 - p is accurate and p is not.
    """
    weights = (counts / n_draws).astype(p.dtype, copy=False)
    excess = weights - p
    rows, top = np.arange(len(p)), np.argmax(p, axis=1)
    excess[rows, top] = 0
    excess[rows, top] = -excess.sum(axis=1)
    return weights, excess


def with_last_exchanged(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Exchange, in place, the last entry of each row (n, K) with that of its column (n,), and return the array."""
    rows = np.arange(len(values))
    values[rows, columns], values[:, -1] = values[:, -1].copy(), values[rows, columns]
    return values


SMALL_PRODUCT = 10**6
"""OpenBLAS has a faster path for products with fewer multiplications."""


def row_products(rows: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return rows @ kernel, (n, T, k), for rows (n, T, m) and a matrix (m, k); all rows are stacked, in small pieces."""
    n, n_rows, n_units = rows.shape
    smallest = -(-n * kernel.size // SMALL_PRODUCT)
    divisors = (
        [pieces for pieces in range(smallest, 4 * smallest) if n % pieces == 0] if kernel.size <= SMALL_PRODUCT // 32 else []
    )
    pieces = n_rows * divisors[0] if divisors and not on_device(rows) else 1
    product: np.ndarray = np.matmul(rows.reshape(pieces, -1, n_units), kernel)
    return product.reshape(n, n_rows, -1)


def scaled_products(rows: np.ndarray, kernel: np.ndarray | None, scales: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return rows @ kernel times each of one or two diagonals `scales` (n, k): (n, T, k), for rows (n, T, m), a matrix (m, k).

    None stands for the identity.
    """
    if kernel is None:
        return [rows * scale[:, None, :] for scale in scales]
    product = row_products(rows, kernel)
    scaled = [product * scale[:, None, :] for scale in scales[1:]]
    return [np.multiply(product, scales[0][:, None, :], out=product), *scaled]


def squared_products(
    rows: np.ndarray, kernel: np.ndarray | None, slopes: np.ndarray, goes_on: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows @ kernel times a diagonal (n, k), and the sums over T of its squares, (n, k); the first is empty at the end."""
    (product,) = scaled_products(rows, kernel, [slopes])
    return product if goes_on else product[:0], sum_of_squares(product)


def sum_of_squares(rows: np.ndarray) -> np.ndarray:
    """Return the sums over rows of their squares, (n, k), for rows (n, R, k)."""
    return np.einsum("nrk,nrk->nk", rows, rows)


def squared_chain(
    kernel: np.ndarray, slopes: np.ndarray, chain: np.ndarray, above: np.ndarray, scale: np.ndarray, goes_on: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return J = W D J' and (sum_r a_r J_r^2) E for W (m, j), the diagonals D (n, j), J' (n, j, k) or (1, j, k), a (n, T, m).

    E are the diagonals `scale` (n, k). Shapes (n, m, k) and (n, T, k); J is empty where the chain ends here.
    """
    link: np.ndarray = np.matmul(kernel * slopes[:, None, :], chain)
    return link if goes_on else link[:0], np.matmul(above, np.square(link)) * scale[:, None, :]
