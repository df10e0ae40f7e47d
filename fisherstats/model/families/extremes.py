"""Certified extremes of a law: eigenvalues of I(h), of the unfolded M = Cov(delta delta'), and ranges of u.delta.

Every function is exact or errs on the safe side. A law without a closed form falls back on dense eigenvalues.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from fisherstats.arrays import identity, like
from fisherstats.model.families.base import Law
from fisherstats.model.families.categorical import CategoricalLaw
from fisherstats.model.families.gaussian import GaussianLaw
from fisherstats.model.families.independent import IndependentLaw

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
    for _ in range(_BISECTIONS):
        middle = np.where(low > 0, np.sqrt(low) * np.sqrt(high), (low + high) / 2)
        inside = (low < middle) & (middle < high)
        if not inside.any():
            break
        with np.errstate(all="ignore"):  # a pole at a tied p only sends the bracket to that end
            gap = p - middle[:, None]
            value = (p / np.where(gap == 0, -np.finfo(p.dtype).tiny, gap)).sum(axis=1) - missing / middle
        below = value < 0
        low = np.where(inside & below, middle, low)
        high = np.where(inside & ~below, middle, high)
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
    largest = unfolded_largest(law.p, law.minimal)
    if law.p.shape[1] == 2 and law.minimal:
        return largest, largest
    return np.zeros_like(largest), largest


def unfolded_largest(p: np.ndarray, minimal: bool) -> np.ndarray:
    r"""Return the largest eigenvalue of Cov(vec(delta delta')), by a C x C matrix instead of a C^2 x C^2 one.

    It is the top eigenvalue of sqrt(p_i p_j) <v_i - vbar, v_j - vbar> with v_i = vec((e_i - p)(e_i - p)'), whose inner products
    are squares of <e_i - p, e_j - p>; they are referred to the most probable class first, so a nearly one-hot p cancels nothing.
    """
    classes = p.shape[1]
    kept = np.ones_like(p, shape=classes)
    if minimal:
        kept[-1] = 0
    shared = kept * p
    inner = np.square(shared).sum(axis=1)[:, None, None] - shared[:, :, None] - shared[:, None, :]
    diagonal = np.arange(classes)
    inner[:, diagonal, diagonal] += kept
    gram = np.square(inner)
    top = np.argmax(p, axis=1)[:, None]
    column = np.take_along_axis(gram, top[:, :, None], axis=2)[:, :, 0]
    own = np.take_along_axis(column, top, axis=1)[:, :, None]
    others = np.ones_like(p)
    np.put_along_axis(others, top, 0, axis=1)
    gram = (gram - column[:, :, None] - column[:, None, :] + own) * others[:, :, None] * others[:, None, :]
    mean = np.matmul(gram, p[:, :, None])[:, :, 0]
    overall = (mean * p).sum(axis=1)
    gram = gram - mean[:, :, None] - mean[:, None, :] + overall[:, None, None]
    root = np.sqrt(p)
    values = np.linalg.eigvalsh(root[:, :, None] * gram * root[:, None, :])
    # LAPACK's eigenvalues are exact for a matrix within a few C eps of the given one.
    largest: np.ndarray = np.maximum(values[:, -1], 0) * (1 + 8 * classes * np.finfo(p.dtype).eps)
    return largest


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
