"""Scales of rounding errors: the value that a moment would have without cancellation.

Directions u are (n, T, k); None stands for the outputs, whose moments the distributions provide directly.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from fisherstats.engines import primitives
from fisherstats.models.families import Law
from fisherstats.models.families.gaussian import GaussianLaw
from fisherstats.models.families.independent import IndependentLaw
from fisherstats.models.families.product import ProductLaw
from fisherstats.models.families.user import LogPartitionLaw

__all__ = ["differentiation_room", "fourth_rounding", "ratio", "uncancelled_fourth", "uncancelled_variance"]

Array = NDArray[np.floating]


@singledispatch
def uncancelled_variance(law: Law, u: Array | None) -> Array:
    """Return Var(u.t) as it would be without cancellation, (sum_a |u_a| sd_a)^2, (n, k): the scale of its rounding error."""
    if u is None:
        return law.own_diagonal()
    deviations = np.sqrt(law.own_diagonal())
    return np.square(np.matmul(deviations[:, None, :], np.abs(u))[:, 0])


@uncancelled_variance.register
def _(law: IndependentLaw, u: Array | None) -> Array:
    return law.own_diagonal() if u is None else law.diagonal(u)


@uncancelled_variance.register
def _(law: GaussianLaw, u: Array | None) -> Array:
    """The covariance S of the labels is known to a few eps of itself, which is w'Sw for w = S^-1 u, and its root as well."""
    u = law._outputs if u is None else u
    if law.root.ndim == 1:
        return law.diagonal(u)
    factor = np.abs(np.linalg.inv(law.root).T)
    of_inverse = primitives.sum_of_squares(np.matmul(factor, np.abs(law.product(u))))
    of_root = primitives.sum_of_squares(np.matmul(np.abs(law.root), np.abs(u)))
    return np.maximum(of_root, ratio(of_inverse, law.diagonal(u)) * of_inverse)


@uncancelled_variance.register
def _(law: ProductLaw, u: Array | None) -> Array:
    if u is None:
        return np.concatenate([uncancelled_variance(part, None) for part in law.parts], axis=1)
    every = [uncancelled_variance(part, u[:, piece]) for part, piece in zip(law.parts, law.slices, strict=True)]
    return np.stack(every).sum(axis=0)


@singledispatch
def uncancelled_fourth(law: Law, u: Array | None) -> Array:
    """Return E[(u.r)^4]^(1/4) as it would be without cancellation, sum_a |u_a| E[r_a^4]^(1/4), (n, k)."""
    own = _own_fourth_root(law)
    if u is None:
        return own
    return np.matmul(own[:, None, :], np.abs(u))[:, 0]


@uncancelled_fourth.register
def _(law: IndependentLaw, u: Array | None) -> Array:
    return _fourth_root(law, u)


@uncancelled_fourth.register
def _(law: GaussianLaw, u: Array | None) -> Array:
    return np.sqrt(np.sqrt(3.0) * uncancelled_variance(law, u))


@uncancelled_fourth.register
def _(law: ProductLaw, u: Array | None) -> Array:
    if u is None:
        return np.concatenate([uncancelled_fourth(part, None) for part in law.parts], axis=1)
    every = [uncancelled_fourth(part, u[:, piece]) for part, piece in zip(law.parts, law.slices, strict=True)]
    return np.stack(every).sum(axis=0)


def _own_fourth_root(law: Law) -> Array:
    """Return E[r_a^4]^(1/4), (n, T)."""
    return np.sqrt(np.sqrt(law.own_square_variance() + np.square(law.own_diagonal())))


def _fourth_root(law: Law, u: Array | None) -> Array:
    """Return E[(u.r)^4]^(1/4), (n, k)."""
    return _own_fourth_root(law) if u is None else np.sqrt(np.sqrt(law.fourth_moment(u)))


def fourth_rounding(law: Law, few: Array, u: Array | None, v: Array | None) -> Array:
    """Return the rounding error of the standard deviation of (u.r)(v.r), (n, k), where u.r and v.r are known to `few` (n, 1).

    By Hoelder it is at most |u.r| |dv.r| + |du.r| |v.r| + |du.r| |dv.r|, in fourth moments.
    """
    (first, first_off), (second, second_off) = ((_fourth_root(law, one), few * uncancelled_fourth(law, one)) for one in (u, v))
    return first * second_off + first_off * second + first_off * second_off


@singledispatch
def differentiation_room(law: Law, u: Array | None, order: int) -> Array | float:
    """Return the error of a moment of order two or four along u where cumulants are numerical derivatives."""
    return 0.0


@differentiation_room.register
def _(law: LogPartitionLaw, u: Array | None, order: int) -> Array | float:
    accuracy = law.accuracy[2] if order == 2 else law.accuracy[4] + 8 * law.accuracy[2]
    u = law._outputs if u is None else u
    return accuracy * np.einsum("nt,ntk->nk", np.sqrt(law.own_diagonal()), np.abs(u)) ** order


def ratio(numerator: Array, denominator: Array) -> Array:
    """Return numerator / denominator, 0 where the denominator is 0."""
    safe = np.where(denominator == 0, 1, denominator)
    return np.where(denominator == 0, 0, numerator / safe)
