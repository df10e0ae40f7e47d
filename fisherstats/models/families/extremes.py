"""Certified extremes of a distribution: eigenvalues of I(h) and of the unfolded M = Cov(delta delta'), ranges of u.delta.

Every function errs on the safe side, up to a few eps of the number itself, which its callers add. A law without a closed form
falls back on the limits of its spectrum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, singledispatch
from typing import cast

import numpy as np

from fisherstats.core.arrays import identity, like
from fisherstats.core.margins import EPS
from fisherstats.engines import primitives
from fisherstats.models.families.base import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.dirichlet import DirichletLaw
from fisherstats.models.families.gaussian import GaussianLaw
from fisherstats.models.families.independent import IndependentLaw
from fisherstats.models.families.moments import CumulantMoments, MomentLaw
from fisherstats.models.families.multinomial import MultinomialLaw
from fisherstats.models.families.polygamma import polygamma
from fisherstats.models.families.product import ProductLaw
from fisherstats.models.families.spectra import Pair, information_spectrum, quartic_matrix, quartic_spectrum, svec_basis

__all__ = [
    "information_extremes",
    "largest_eigenpairs",
    "projected_extremes",
    "quartic_extremes",
    "quartic_gradient",
    "quartic_root",
    "secular_bracket",
]

_BISECTIONS = 200

_FEW_OUTPUTS = 16
"""Up to this size the matrix of M on symmetric matrices is computed where another bound would be less tight."""


@singledispatch
def information_extremes(law: Law) -> Pair:
    """Return bounds of the smallest and largest eigenvalue of I(h), shape (n,) each."""
    lower, upper = information_spectrum(law)
    return lower[:, 0], upper[:, -1]


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
        return value < 0

    return _bisected(low, high, lies_above)


def largest_eigenpairs(p: np.ndarray, missing: np.ndarray, rank: int) -> Pair:
    """Return the largest eigenvalues of diag(p) - p p', descending, (n, r), and their eigenvectors, (n, T, r), within rounding.

    An eigenvector is p_k / (p_k - lambda), so bisection is for the distance of lambda from the nearest p_k, which has its own
    relative accuracy. Among m equal p_k lie m - 1 eigenvalues, with Helmert's contrasts for vectors. The vector of an eigenvalue
    of 0 is left at 0.
    """
    order = np.argsort(-p, axis=1)
    ordered = np.pad(np.take_along_axis(p, order, axis=1), ((0, 0), (0, 1)))
    place = np.argsort(order, axis=1)[:, :, None]
    high, low = ordered[:, :rank], ordered[:, 1 : rank + 1]
    gap, weights = high - low, p[:, :, None]

    def excess(anchor: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Return the increasing function of `secular_bracket` at anchors moved by a distance, (n, r)."""
        apart = weights - anchor[:, None] - distance[:, None]
        value = (weights / np.where(apart == 0, -np.finfo(p.dtype).tiny, apart)).sum(axis=1)
        return value - missing[:, None] / np.where(anchor + distance > 0, anchor + distance, 1)

    with np.errstate(all="ignore"):  # as in `_bisected`
        upper_half = excess(low, gap / 2) < 0
    anchor, sign = np.where(upper_half, high, low), np.where(upper_half, -1.0, 1.0)

    def lies_above(middle: np.ndarray) -> np.ndarray:
        return sign * excess(anchor, sign * middle[:, 0]) < 0

    distance = sign * _bisected(np.zeros_like(gap), gap / 2, lies_above)[1]
    values = anchor + distance
    apart = weights - anchor[:, None] - distance[:, None]
    position = like(np.arange(rank), place)
    first = (weights > high[:, None]).sum(axis=1)
    among = (place >= first[:, None]) & (place <= position)
    contrast = np.where(among, 1.0, np.where(place == position + 1, -(position - first + 1.0)[:, None], 0.0))
    vectors = np.where((gap > 0)[:, None], weights / np.where(apart == 0, 1, apart), contrast)
    vectors = np.where((values > 0)[:, None], vectors, 0)
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    vectors = vectors / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    return values, vectors / np.where(length > 0, length, 1)


def _bisected(low: np.ndarray, high: np.ndarray, lies_above: Callable[[np.ndarray], np.ndarray]) -> Pair:
    """Return brackets of non-negative numbers bisected down to adjacent floats; `lies_above` compares with a midpoint (n, 1)."""
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
    """Return certified bounds between which M(u,u,u,u) / |u|^4 lies for every u, shape (n,) each.

    The upper one is also one of the eigenvalues of M on symmetric matrices, or above all of them.
    """
    lower, upper = quartic_spectrum(law)
    return lower[:, 0], upper[:, -1]


@quartic_extremes.register
def _(law: ProductLaw) -> Pair:
    """Return those over the parts, and over twice the products of extremes of I(h) of two parts."""
    ends = [quartic_extremes(part) for part in law.parts]
    information = [information_extremes(part) for part in law.parts]
    for right in range(len(information)):
        for left in range(right):
            pair = zip(information[left], information[right], strict=True)
            ends.append(cast(Pair, tuple(2 * one * other for one, other in pair)))
    smallest, largest = zip(*ends, strict=True)
    return reduce(np.minimum, smallest), reduce(np.maximum, largest)


@quartic_extremes.register
def _(law: MultinomialLaw) -> Pair:
    r"""Return those of the spectrum for few classes, and for more the sums of the extremes of the two terms.

    :math:`M=nM_1+2n(n-1)I\otimes I` with those of one trial, by Weyl's inequality, which gives less than twice the largest
    eigenvalue, as neither term is negative.
    """
    if law.h.shape[1] <= _FEW_OUTPUTS:
        lower, upper = quartic_spectrum(law)
        return lower[:, 0], upper[:, -1]
    own, information, n = quartic_extremes(law.one), information_extremes(law.one), float(law.n_trials)
    pair = zip(own, information, strict=True)
    return cast(Pair, tuple(n * one + 2 * n * (n - 1) * np.square(other) for one, other in pair))


@quartic_extremes.register
def _(law: DirichletLaw) -> Pair:
    r"""Return those of the spectrum, or :math:`2\lambda_{min}(I)^2` where the fourth cumulant is nowhere negative.

    By Hoelder :math:`\psi_3(\alpha_0)(\sum u)^4\le\sum\psi_3(\alpha_a)u_a^4` if
    :math:`\sum_a\psi_3(\alpha_a)^{-1/3}\le\psi_3(\alpha_0)^{-1/3}`.
    """
    lower, upper = quartic_spectrum(law)
    parts = np.power(polygamma(3, law.alpha), -1 / 3).sum(axis=1)
    whole = np.power(polygamma(3, law.alpha.sum(axis=1)), -1 / 3)
    convex = parts * (1 + 64 * EPS) <= whole
    smallest = np.where(convex, 2 * np.square(information_extremes(law)[0]), 0)
    return np.maximum(lower[:, 0], smallest), upper[:, -1]


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
        return (p * complement)[:, 0] * np.square(difference) * (1 if minimal else 4) * (1 + 16 * eps)
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
        return negative > 1

    highest = np.maximum(ordered[:, -1], 0) + 2 * np.square(w).sum(axis=1)
    largest = _bisected(np.maximum(ordered[:, -2], 0), highest, lies_above)[1]
    # Rounding moves it by less than 4 C eps of the largest variance of a class, as 80 digits show where classes tie or vanish.
    return largest + 8 * classes * eps * (largest + (p * complement).max(axis=1))


@singledispatch
def quartic_gradient(law: Law, u: np.ndarray) -> np.ndarray:
    """Return E[(u.delta)^3 delta] - Var(u.t) I u, a quarter of the gradient of M(u,u,u,u), shape (n, T, k)."""
    third: np.ndarray = np.einsum("nabcd,nbk,nck,ndk->nak", law.cumulant(4), u, u, u)
    return third + 2 * law.diagonal(u)[:, None, :] * law.product(u)


@quartic_gradient.register
def _(law: IndependentLaw, u: np.ndarray) -> np.ndarray:
    return law.fourth_cumulant[:, :, None] * u**3 + 2 * law.diagonal(u)[:, None, :] * law.product(u)


@quartic_gradient.register
def _(law: GaussianLaw, u: np.ndarray) -> np.ndarray:
    return 2 * law.diagonal(u)[:, None, :] * law.product(u)


@quartic_gradient.register
def _(law: CategoricalLaw, u: np.ndarray) -> np.ndarray:
    q = law.centred(u)
    moved: np.ndarray = q * q
    moved -= primitives.weighted_mean(law.p, moved)[:, None, :]
    moved *= q
    moved -= primitives.weighted_mean(law.p, moved)[:, None, :]
    moved *= law.p[:, :, None]
    return moved[:, :-1] if law.minimal else moved


@quartic_gradient.register
def _(law: MultinomialLaw, u: np.ndarray) -> np.ndarray:
    moved = law.n_trials * quartic_gradient(law.one, u)
    if law.n_trials > 1:
        moved += 2 * law._pairs * law.one.diagonal(u)[:, None, :] * law.one.product(u)
    return moved


@quartic_gradient.register
def _(law: ProductLaw, u: np.ndarray) -> np.ndarray:
    """Return those of the parts, and twice I_b u_b times the variances of all other parts."""
    pieces = [(part, u[:, piece]) for part, piece in zip(law.parts, law.slices, strict=True)]
    variances = [part.diagonal(u_b)[:, None, :] for part, u_b in pieces]
    # Sums over the other parts, without subtraction.
    others = [sum(variances[:b] + variances[b + 1 :]) for b in range(len(pieces))]
    moved = [quartic_gradient(part, u_b) + 2 * part.product(u_b) * rest for (part, u_b), rest in zip(pieces, others, strict=True)]
    return np.concatenate(moved, axis=1)


@singledispatch
def quartic_root(law: Law) -> np.ndarray:
    """Return symmetric matrices R_r with <X, M X> = sum_r <R_r, X>^2 for symmetric X, shape (n, r, T, T)."""
    return root_of_matrix(law)


def root_of_matrix(law: Law) -> np.ndarray:
    """Return that of the matrix of M by its eigenvectors."""
    rows, columns, weight = svec_basis(law.h.shape[1])
    values, vectors = np.linalg.eigh(quartic_matrix(law))
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
def _(law: MomentLaw) -> np.ndarray:
    """Return W' B_r W for the forms B_r of a basis e: nothing is lost where the statistics W' e are nearly dependent."""
    if law.coordinates is None or not isinstance(law.moments, CumulantMoments):
        return root_of_matrix(law)
    W = law.coordinates[:, None]
    return np.matmul(np.matmul(W.swapaxes(2, 3), law.moments.quartic_forms), W)


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
    return np.sqrt(law.p)[:, :, None, None] * (delta[:, :, :, None] * delta[:, :, None, :] - law.information()[:, None])
