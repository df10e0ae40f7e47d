r"""Moments of sums of squares along directions, :math:`f=\sum_{l,o}w_{lo}(u_{lo}^\top\delta)^2`, for every distribution.

This is delta' A delta with :math:`A=\sum_{l,o}w_{lo}u_{lo}u_{lo}^\top`, but for classes the matrix is never formed: f takes one
value for each class, at the cost of one column per direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import identity
from fisherstats.engines import primitives
from fisherstats.models.families.base import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.independent import IndependentLaw
from fisherstats.models.families.multinomial import MultinomialLaw
from fisherstats.models.families.product import ProductLaw
from fisherstats.models.families.stratified import StratifiedLaw

__all__ = ["Squares", "along_root", "class_squares", "form_moments", "mean_form", "white_norm", "white_norm_apart"]

Array = NDArray[np.floating]

Squares = Sequence[tuple[Array, Array | None]]
"""Weights (n, k), or (n, 1) if all are equal, of the squares along the columns of u (n, T, k); None stands for the outputs."""

Moments = tuple[Array, Array, Array]


@singledispatch
def form_moments(law: Any, squares: Squares, s: Array | None) -> Moments:
    r"""Return E f, Var f and E[f (s.delta)] for s (n, T), (n,) each; None stands for 0."""
    return _of_matrix(law, dense(law, squares), s)


def _of_matrix(law: Law, A: Array, s: Array | None) -> Moments:
    mean = law.quadratic_mean(A)
    return mean, law.quadratic_variance(A), np.zeros_like(mean) if s is None else law.quadratic_third_moment(A, s)


def dense(law: Law, squares: Squares) -> Array:
    """Return A, (n, T, T)."""
    parts = []
    for weights, u in squares:
        if u is not None and u.shape[1] < law.h.shape[1]:  # differences from the last output
            u = np.pad(u, ((0, 0), (0, 1), (0, 0)))
        if u is None:
            parts.append(weights[:, :, None] * identity(law.h.shape[1], law.h))
        elif weights.shape[1] == 1:
            parts.append(weights[:, :, None] * np.matmul(u, u.swapaxes(1, 2)))
        else:
            parts.append(np.matmul(u * weights[:, None, :], u.swapaxes(1, 2)))
    return parts[0] if len(parts) == 1 else np.stack(parts).sum(axis=0)


def mean_form(law: Law, squares: Squares) -> Array:
    """Return E f, a weighted sum of variances, (n,)."""
    total = np.zeros_like(law.h[:, 0])
    for weights, u in squares:
        own = law.own_diagonal() if u is None else law.diagonal(u)
        total = total + (weights * own).sum(axis=1)
    return total


@form_moments.register
def _(law: CategoricalLaw, squares: Squares, s: Array | None) -> Moments:
    deviation = primitives.centred(law.p, form_values(law, squares)[:, :, None])
    mean = mean_form(law, squares)
    third = np.zeros_like(mean) if s is None else primitives.weighted_mean(law.p, deviation * law.centred(s[:, :, None]))[:, 0]
    return mean, primitives.weighted_square(law.p, deviation)[:, 0], third + 0.0


@form_moments.register
def _(law: StratifiedLaw, squares: Squares, s: Array | None) -> Moments:
    """Return E f, and N times the variance of the mean of f and its covariance with that of s.delta."""
    of_labels = CategoricalLaw(law.h, law.minimal)
    of_labels.carried_out_by(law.contractions)
    values, mean = form_values(of_labels, squares), mean_form(of_labels, squares)
    third = np.zeros_like(mean) if s is None else law.value_covariance(values, law.centred(s[:, :, None])[:, :, 0])
    return mean, law.value_covariance(values, values), third + 0.0


def form_values(law: CategoricalLaw, squares: Squares) -> Array:
    r"""Return f of every class, minus a constant per input, (n, C).

    Along the outputs :math:`f_k=\sum_aw_a(1_{a=k}-p_a)^2`. Relative to the most probable class m it is
    :math:`(w_k-w_m)(1-2p_m)-2w_k(p_k-p_m)`, and :math:`p_k-p_m` comes from the difference of the logits.
    """
    total = np.zeros_like(law.p)
    for weights, u in squares:
        if u is not None:
            wide = np.broadcast_to(weights, (len(law.p), u.shape[2]))
            total = total + primitives.class_forms(law.p, u, wide)
            continue
        w = _of_classes(law, weights)
        p_top, apart = (_at_the_top(law, one) for one in (law.p, law.apart))
        total = total + (w - _at_the_top(law, w)) * apart - 2 * w * (p_top * np.expm1(law.shifted))
    return total


def class_squares(law: CategoricalLaw, squares: Squares) -> Array:
    r"""Return f of every class itself, (n, C); along the outputs it is :math:`w_k(1-p_k)^2+\sum_{a\ne k}w_ap_a^2`."""
    total = np.zeros_like(law.p)
    for weights, u in squares:
        if u is not None:
            total = total + primitives.class_forms(law.p, u, np.broadcast_to(weights, (len(law.p), u.shape[2])))
            continue
        w = _of_classes(law, weights)
        rest = np.where(law._are(law.top), 0, w * np.square(law.p))
        # Only that of the most probable class may dominate the sum.
        others = rest.sum(axis=1, keepdims=True) + np.where(law._are(law.top), 0, _at_the_top(law, w * np.square(law.p)) - rest)
        total = total + w * np.square(law.complement) + others
    return total


def along_root(law: CategoricalLaw, probes: Array) -> Array:
    r"""Return :math:`\sum_k\xi_k\sqrt{p_k}(e_k-p)` for probes xi (n, N, C), shape (n, N, T)."""
    values = np.sqrt(law.p)[:, None, :] * probes
    at_top = law._are(law.top)[:, None, :]
    # At the most probable class its own contribution to the sum is omitted, and 1 - p is its factor.
    others = np.where(at_top, 0, values).sum(axis=2, keepdims=True)
    sums = np.where(at_top, others, values.sum(axis=2, keepdims=True))
    rows: Array = values * np.where(at_top, law.complement[:, None, :], 1) - law.p[:, None, :] * sums
    return rows[:, :, :-1] if law.minimal else rows


def _of_classes(law: CategoricalLaw, weights: Array) -> Array:
    """Return a weight of every class: the last of a minimal form is no output."""
    wide: Array = np.broadcast_to(weights, law.h.shape)
    return np.pad(wide, ((0, 0), (0, 1))) if law.minimal else wide


def _at_the_top(law: CategoricalLaw, values: Array) -> Array:
    return np.take_along_axis(values, law.top[:, None], axis=1)


@form_moments.register
def _(law: MultinomialLaw, squares: Squares, s: Array | None) -> Moments:
    """Return n times those of one trial, plus the contribution of pairs of trials to the variance."""
    mean, variance, third = form_moments(law.one, squares, s)
    pairs = 2 * law._pairs * white_norm(law.one, squares) if law.n_trials > 1 else 0
    return law.n_trials * mean, law.n_trials * variance + pairs, law.n_trials * third


@singledispatch
def white_norm(law: Any, squares: Squares) -> Array:
    r"""Return :math:`\|RAR^\top\|_F^2` with :math:`R^\top R=I(h)`, (n,): half the variance of f if delta were Gaussian."""
    return np.square(_white(law, squares)).sum(axis=(1, 2))


def _white(law: Law, squares: Squares) -> Array:
    """Return R A R' for the root whose rows are `Law.rows`."""
    root = law.rows(law._outputs)
    return np.matmul(np.matmul(root, dense(law, squares)), root.swapaxes(1, 2))


@white_norm.register
def _(law: CategoricalLaw, squares: Squares) -> Array:
    """Add up squares: within the directions, within the outputs, where :math:`I_{ab}^2=p_a^2p_b^2`, and across."""
    along = [np.sqrt(weights)[:, None, :] * u for weights, u in squares if u is not None]
    total = np.zeros_like(law.h[:, 0])
    if along:
        rows = np.concatenate([law.compact_rows(one) for one in along], axis=2)
        turned = rows.swapaxes(1, 2)
        total = np.square(np.matmul(turned, rows) if rows.shape[2] < rows.shape[1] else np.matmul(rows, turned)).sum(axis=(1, 2))
    for weights in (weights for weights, u in squares if u is None):
        wide = np.broadcast_to(weights, law.h.shape)
        own = np.square(wide * law.own_diagonal()).sum(axis=1)
        total = total + own + 2 * primitives.pair_total(wide * np.square(law.mean))
        for left in along:
            total = total + 2 * (wide[:, :, None] * np.square(law.product(left))).sum(axis=(1, 2))
    return total


@white_norm.register
def _(law: MultinomialLaw, squares: Squares) -> Array:
    return law.n_trials**2 * white_norm(law.one, squares)


def white_norm_apart(law: Law, squares: Squares) -> Array:
    r"""Return :math:`\|RAR^\top\|_F^2` without the diagonal for the root whose rows are `Law.rows`, (n,)."""
    white = _white(law, squares)
    rows = np.arange(white.shape[1])
    white[:, rows, rows] = 0
    return np.square(white).sum(axis=(1, 2))


@form_moments.register
def _(law: IndependentLaw, squares: Squares, s: Array | None) -> Moments:
    if any(u is not None for _, u in squares):
        return _of_matrix(law, dense(law, squares), s)
    weights = np.broadcast_to(sum(weights for weights, _ in squares), law.h.shape)
    mean = (weights * law.variance).sum(axis=1)
    third = np.zeros_like(mean) if s is None else (weights * s * law.third_cumulant).sum(axis=1)
    return mean, (np.square(weights) * law.variance_of_square).sum(axis=1), third + 0.0


@form_moments.register
def _(law: ProductLaw, squares: Squares, s: Array | None) -> Moments:
    r"""Sum those of the parts, and add to the variance :math:`2\|R_bA_{bc}R_c^\top\|_F^2` for every ordered pair of parts."""
    if not any(isinstance(part, CategoricalLaw | MultinomialLaw) for part in law.parts):
        return _of_matrix(law, dense(law, squares), s)
    means, variances, thirds, rows = [], [], [], []
    for part, piece in zip(law.parts, law.slices, strict=True):
        own = [(_piece(weights, piece) if u is None else weights, None if u is None else u[:, piece]) for weights, u in squares]
        mean, variance, third = form_moments(part, own, None if s is None else s[:, piece])
        means.append(mean)
        variances.append(variance)
        thirds.append(third)
        along = [part.compact_rows(np.sqrt(weights)[:, None, :] * u) for weights, u in own if u is not None]
        if along:
            rows.append(np.concatenate(along, axis=2))
    total = np.stack(variances).sum(axis=0)
    for position, left in enumerate(rows):
        for right in rows[:position]:
            total = total + 4 * _cross_norm(left, right)
    return np.stack(means).sum(axis=0), total, np.stack(thirds).sum(axis=0)


def _piece(weights: Array, piece: slice) -> Array:
    return weights if weights.shape[1] == 1 else weights[:, piece]


def _cross_norm(left: Array, right: Array) -> Array:
    """Return |L R'|^2 for L (n, a, k) and R (n, b, k), with the smaller of the two products, (n,)."""
    if left.shape[1] * right.shape[1] <= left.shape[2] ** 2:
        return np.square(np.matmul(left, right.swapaxes(1, 2))).sum(axis=(1, 2))
    inner = [np.matmul(one.swapaxes(1, 2), one) for one in (left, right)]
    norm = np.maximum((inner[0] * inner[1]).sum(axis=(1, 2)), 0)
    return norm
