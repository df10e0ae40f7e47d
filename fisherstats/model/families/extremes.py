"""Certified extremes of a law: eigenvalues of I(h), of the unfolded M = Cov(delta delta'), and ranges of u.delta.

Every function is exact or errs on the safe side. A law without a closed form falls back on dense eigenvalues.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, singledispatch

import numpy as np

from fisherstats.arrays import identity, like
from fisherstats.model.families.base import Law
from fisherstats.model.families.categorical import CategoricalLaw
from fisherstats.model.families.gaussian import GaussianLaw
from fisherstats.model.families.independent import IndependentLaw
from fisherstats.model.families.multinomial import MultinomialLaw
from fisherstats.model.families.product import ProductLaw

__all__ = [
    "information_extremes",
    "projected_extremes",
    "quartic_extremes",
    "quartic_gradient",
    "quartic_root",
    "secular_bracket",
]

Pair = tuple[np.ndarray, np.ndarray]

_BISECTIONS = 200


@singledispatch
def information_extremes(law: Law) -> Pair:
    """Return bounds of the smallest and largest eigenvalue of I(h), shape (n,) each."""
    values = np.linalg.eigvalsh(law.information())
    return np.maximum(values[:, 0], 0), values[:, -1]


@information_extremes.register
def _(law: IndependentLaw) -> Pair:
    return law.variance.min(axis=1), law.variance.max(axis=1)


@information_extremes.register
def _(law: GaussianLaw) -> Pair:
    squares = np.square(np.linalg.svd(law.root, compute_uv=False)) if law.root.ndim == 2 else np.square(law.root)
    ones = np.ones_like(law.h[:, 0])
    return squares.min() * ones, squares.max() * ones


@information_extremes.register
def _(law: CategoricalLaw) -> Pair:
    missing = law.p[:, -1] if law.minimal else np.zeros_like(law.p[:, -1])
    largest = secular_bracket(law.mean, missing, -1)[1]
    if not law.minimal:
        return np.zeros_like(largest), largest
    return secular_bracket(law.mean, missing, 0)[0], largest


@information_extremes.register
def _(law: MultinomialLaw) -> Pair:
    smallest, largest = information_extremes(law.one)
    return law.n_trials * smallest, law.n_trials * largest


@information_extremes.register
def _(law: ProductLaw) -> Pair:
    """Return those over the blocks of all parts."""
    smallest, largest = zip(*(information_extremes(part) for part in law.parts), strict=True)
    return reduce(np.minimum, smallest), reduce(np.maximum, largest)


def projected_extremes(law: CategoricalLaw) -> Pair:
    """Return bounds of the smallest non-zero and the largest eigenvalue of diag(p) - p p' (on the complement of 1)."""
    missing = np.zeros_like(law.p[:, 0])
    return secular_bracket(law.p, missing, 1)[0], secular_bracket(law.p, missing, -1)[1]


def secular_bracket(p: np.ndarray, missing: np.ndarray, position: int) -> Pair:
    """Return a lower and an upper bound of one eigenvalue of diag(p) - p p', in ascending order of p.

    `missing` is 1 - sum(p), the probability of a class that was left out. The k-th eigenvalue lies between the sorted p_(k-1) and
    p_(k) and is the root there of the increasing function sum_k p_k / (p_k - lambda) - missing / lambda: the secular equation
    sum_k p_k^2 / (p_k - lambda) = 1 divided by lambda after its cancelling parts. Bisection keeps both ends.
    """
    ordered = np.sort(p, axis=1)
    index = range(p.shape[1])[position]
    high = ordered[:, index].copy()
    low = ordered[:, index - 1].copy() if index else np.zeros_like(high)

    def lies_above(middle: np.ndarray) -> np.ndarray:
        gap = p - middle
        value = (p / np.where(gap == 0, -np.finfo(p.dtype).tiny, gap)).sum(axis=1) - missing / middle[:, 0]
        above: np.ndarray = value < 0
        return above

    return _bisected(low, high, lies_above)


def _bisected(low: np.ndarray, high: np.ndarray, lies_above: Callable[[np.ndarray], np.ndarray]) -> Pair:
    """Return the ends of brackets of non-negative numbers that lie above a middle (n, 1) or not, as close as they come."""
    for _ in range(_BISECTIONS):
        middle = np.where(low > 0, np.sqrt(low) * np.sqrt(high), (low + high) / 2)
        inside = (low < middle) & (middle < high)
        if not inside.any():
            break
        with np.errstate(all="ignore"):  # a pole at a tied value only sends the bracket to that end
            above = lies_above(middle[:, None])
        low = np.where(inside & above, middle, low)
        high = np.where(inside & ~above, middle, high)
    return low, high


@singledispatch
def quartic_extremes(law: Law) -> Pair:
    """Return certified bounds of the extreme eigenvalues of M on symmetric matrices, shape (n,) each.

    M(u,u,u,u) / |u|^4 lies between them for every u.
    """
    values = np.linalg.eigvalsh(_unfolded(law)[0])
    return np.maximum(values[:, 0], 0), values[:, -1]


def _unfolded(law: Law) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return M on symmetric matrices in an orthonormal basis, with the rows, columns and weights of that basis."""
    fourth, information = law.cumulant(4), law.information()
    unfolded = fourth + 2 * np.einsum("nac,nbd->nabcd", information, information)
    unfolded = (unfolded + unfolded.swapaxes(1, 2)) / 2
    outputs = law.h.shape[1]
    rows, columns = np.triu_indices(outputs)
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0))
    return unfolded[:, rows, columns][:, :, rows, columns] * like(np.outer(weight, weight), unfolded), rows, columns, weight


@quartic_extremes.register
def _(law: IndependentLaw) -> Pair:
    """Return the extremes of M_a and of 2 I_a I_b over pairs: on symmetric matrices M is diagonal."""
    own = law.variance_of_square
    if own.shape[1] == 1:
        return own[:, 0], own[:, 0]
    ordered = np.sort(law.variance, axis=1)
    return (
        np.minimum(own.min(axis=1), 2 * ordered[:, 0] * ordered[:, 1]),
        np.maximum(own.max(axis=1), 2 * ordered[:, -1] * ordered[:, -2]),
    )


@quartic_extremes.register
def _(law: GaussianLaw) -> Pair:
    """Return 2 lambda(I)^2: M maps a symmetric X to 2 I X I."""
    smallest, largest = information_extremes(law)
    return 2 * smallest**2, 2 * largest**2


@quartic_extremes.register
def _(law: CategoricalLaw) -> Pair:
    largest = unfolded_largest(law, law.minimal)
    if law.p.shape[1] == 2 and law.minimal:
        return largest, largest
    return np.zeros_like(largest), largest


def unfolded_largest(law: CategoricalLaw, minimal: bool) -> np.ndarray:
    r"""Return an upper bound, within rounding, of the largest eigenvalue of Cov(vec(delta delta')), in O(C) per input.

    The law is that of the differences of logits as they are rounded.

    It is that of the matrix sqrt(p_i p_j) <v_i - vbar, v_j - vbar> with v_i = vec(delta_i delta_i') for class i. As
    <v_i, v_j> = <delta_i, delta_j>^2 and <delta_i, delta_j> = k_i 1_{i=j} + s - k_i p_i - k_j p_j, where k is 0 for a class that
    is left out and else 1, and s = sum_i k_i p_i^2, that matrix is P (diag(q) + 2 w w') P with q_i = k_i p_i (1 + 2 s - 4 p_i),
    w_i = sqrt(p_i) (s - k_i p_i) and P the projection along r = sqrt(p). Haynsworth's formula for the inertia of the matrix
    bordered by w and r counts its eigenvalues across r that lie above a number. For two classes it is p_1 p_2 (p_1 - p_2)^2.
    """
    p, complement = law.p, law.complement
    classes, eps = p.shape[1], np.finfo(p.dtype).eps
    if classes == 2:
        difference = np.tanh((law.logits[:, 0] - law.logits[:, 1]) / 2)
        of_two: np.ndarray = (p * complement)[:, 0] * np.square(difference) * (1 if minimal else 4) * (1 + 16 * eps)
        return of_two
    kept = np.ones_like(p, shape=classes)
    if minimal:
        kept[-1] = 0
    squares = kept * np.square(p)
    total = squares.sum(axis=1, keepdims=True)
    top = law.top[:, None]
    np.put_along_axis(squares, top, 0, axis=1)
    distance = total - kept * p
    # s - p where p is nearly 1.
    own = np.take_along_axis(kept * p * complement, top, axis=1)
    np.put_along_axis(distance, top, squares.sum(axis=1, keepdims=True) - own, axis=1)
    root = np.sqrt(p)
    q, w = kept * p * (1 + 2 * total - 4 * p), root * distance
    ordered = np.sort(q, axis=1)

    def lies_above(middle: np.ndarray) -> np.ndarray:
        gap = middle - q
        gap = np.where(gap == 0, np.finfo(p.dtype).tiny, gap)
        along = (p / gap).sum(axis=1, keepdims=True)
        across = w - (root * w / gap).sum(axis=1, keepdims=True) / along * root
        negative = (gap < 0).sum(axis=1) + (along[:, 0] > 0) + ((np.square(across) / gap).sum(axis=1) > 1 / 2)
        above: np.ndarray = negative > 1
        return above

    highest = np.maximum(ordered[:, -1], 0) + 2 * np.square(w).sum(axis=1)
    largest = _bisected(np.maximum(ordered[:, -2], 0), highest, lies_above)[1]
    # Rounding moves it by less than 4 C eps of the largest variance of a class, as 80 digits show where classes tie or vanish.
    found: np.ndarray = largest + 8 * classes * eps * (largest + (p * complement).max(axis=1))
    return found


@singledispatch
def quartic_gradient(law: Law, u: np.ndarray) -> np.ndarray:
    """Return E[(u.delta)^3 delta] - Var(u.t) I u, a quarter of the gradient of M(u,u,u,u), shape (n, T, k)."""
    third: np.ndarray = np.einsum("nabcd,nbk,nck,ndk->nak", law.cumulant(4), u, u, u)
    moved: np.ndarray = third + 2 * law.diagonal(u)[:, None, :] * law.product(u)
    return moved


@quartic_gradient.register
def _(law: IndependentLaw, u: np.ndarray) -> np.ndarray:
    moved: np.ndarray = law.fourth_cumulant[:, :, None] * u**3 + 2 * law.diagonal(u)[:, None, :] * law.product(u)
    return moved


@quartic_gradient.register
def _(law: GaussianLaw, u: np.ndarray) -> np.ndarray:
    moved: np.ndarray = 2 * law.diagonal(u)[:, None, :] * law.product(u)
    return moved


@quartic_gradient.register
def _(law: CategoricalLaw, u: np.ndarray) -> np.ndarray:
    q = law.centred(u)
    weight = law.p[:, :, None]
    cubed = (q * q - law.diagonal(u)[:, None, :]) * q
    moved: np.ndarray = weight * (cubed - (weight * cubed).sum(axis=1, keepdims=True))
    return moved[:, :-1] if law.minimal else moved


@singledispatch
def quartic_root(law: Law) -> np.ndarray:
    """Return symmetric matrices R_r with <X, M X> = sum_r <R_r, X>^2 for symmetric X, shape (n, r, T, T)."""
    symmetric, rows, columns, weight = _unfolded(law)
    values, vectors = np.linalg.eigh(symmetric)
    scaled = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    n, outputs = law.h.shape
    root = np.zeros_like(scaled, shape=(n, scaled.shape[2], outputs, outputs))
    entries = (scaled * like(weight / np.where(rows == columns, 1.0, 2.0), scaled)[:, None]).swapaxes(1, 2)
    root[:, :, rows, columns] = entries
    root[:, :, columns, rows] = entries
    return root


@quartic_root.register
def _(law: IndependentLaw) -> np.ndarray:
    n, outputs = law.h.shape
    rows, columns = np.triu_indices(outputs)
    pairs = np.sqrt(law.variance[:, rows]) * np.sqrt(law.variance[:, columns])
    own = np.sqrt(law.variance_of_square)[:, rows]
    root = np.zeros_like(law.h, shape=(n, len(rows), outputs, outputs))
    index = np.arange(len(rows))
    # On symmetric matrices M is diagonal: M_a X_aa^2 and 4 I_a I_b X_ab^2, half of it at (a, b) and half at (b, a).
    entries = np.where(like(rows == columns, own), own, pairs)
    root[:, index, rows, columns] = entries
    root[:, index, columns, rows] = entries
    return root


@quartic_root.register
def _(law: GaussianLaw) -> np.ndarray:
    """Return sqrt(2) A' E A for an orthonormal basis E of the symmetric matrices, A' A = I: M maps X to 2 I X I."""
    n, outputs = law.h.shape
    A = np.diag(law.root) if law.root.ndim == 1 else law.root
    rows, columns = np.triu_indices(outputs)
    basis = np.zeros((len(rows), outputs, outputs))
    index = np.arange(len(rows))
    basis[index, rows, columns] = basis[index, columns, rows] = np.where(rows == columns, 1.0, np.sqrt(0.5))
    one: np.ndarray = np.sqrt(2.0) * np.matmul(np.matmul(A.T, like(basis, A)), A)
    return np.broadcast_to(one.astype(law.h.dtype), (n, *one.shape))


@quartic_root.register
def _(law: CategoricalLaw) -> np.ndarray:
    """Return sqrt(p_k) (delta_k delta_k' - I) for every class k."""
    n = len(law.p)
    every = np.broadcast_to(identity(law.h.shape[1], law.h), (n, law.h.shape[1], law.h.shape[1]))
    delta = law.centred(every)
    root: np.ndarray = np.sqrt(law.p)[:, :, None, None] * (
        delta[:, :, :, None] * delta[:, :, None, :] - law.information()[:, None]
    )
    return root
