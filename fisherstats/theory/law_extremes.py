r"""A priori extremes for a response distribution: of I(h), K = E[rrrr] and M = Cov(rr', rr') over unit vectors.

K(u,u,u,u) = M(u,u,u,u) + I(u,u)^2. Certified extremes come from matrices that are built in full (Theorem 4.1 needs them);
the statements need less: a bound of |r|^2, the class probabilities, or nothing at all.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fisherstats.core import margins
from fisherstats.models.families import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.extremes import information_extremes, quartic_extremes
from fisherstats.models.families.gaussian import GaussianLaw
from fisherstats.models.families.independent import BinomialLaw
from fisherstats.models.families.product import ProductLaw

__all__ = ["STATEMENTS", "TENSORS", "certified_extremes", "squared_radius", "statements"]

Array = NDArray[np.floating]

TENSORS = ("information", "fourth_moment", "square_covariance")
"""I(h), K and M."""

STATEMENTS = ("proposition_4_3", "corollary_r_1", "theorem_5_2", "proposition_5_1")


def certified_extremes(law: Law) -> Array:
    """Return certified bounds of the extremes of I, K and M over unit vectors, (n, 3, 2): lower and upper, rounded outwards.

    An upper limit is the minimum of the eigenvalue and the bounds of the statements: none is always the tightest. For two
    independent Bernoulli outputs at p = 1/2 the eigenvalue of M is 1/8, and Proposition 4.3 with Corollary 4.2 gives 1/16.
    """
    information, quartic = information_extremes(law), quartic_extremes(law)
    fourth = [square + one**2 for square, one in zip(quartic, information, strict=True)]
    ends = np.stack([np.stack(pair, axis=1) for pair in (information, fourth, quartic)], axis=1)
    lower, upper = margins.below(ends[..., 0], ends.shape[1]), margins.above(ends[..., 1], law.h.shape[1])
    said = statements(law)[..., 1].min(axis=1)
    # Bounds of M and I^2 bound their sum K.
    said[:, 1] = np.minimum(said[:, 1], margins.above(said[:, 2] + np.square(upper[:, 0])))
    return np.stack([lower, np.minimum(upper, said)], axis=2)


def statements(law: Law) -> Array:
    """Return the bounds of each of `STATEMENTS` on I, K and M, (n, 4, 3, 2): 0 below and inf above where it gives none.

    Proposition 4.3 of 2024 with B the largest |r|^2; Corollary R.1, its B = 2 for classes; Theorem 5.2, m and 2 m for classes
    with m = min(max p, 1 - |p|^2); Proposition 5.1, 1 and 2 for a Gaussian of unit variance. Computed limits are rounded
    outwards.
    """
    n = len(law.h)
    said = np.zeros_like(law.h, dtype=np.float64, shape=(n, len(STATEMENTS), len(TENSORS), 2))
    said[..., 1] = np.inf
    said[:, 0, :, 1] = _bounded_residual(law, margins.above(squared_radius(law), law.h.shape[1]))
    if isinstance(law, CategoricalLaw):
        said[:, 1, :, 1] = _bounded_residual(law, np.full_like(law.h, 2, dtype=np.float64, shape=n))
        m = margins.above(np.minimum(law.p.max(axis=1), (law.p * law.complement).sum(axis=1)), law.p.shape[1])
        said[:, 2, 0, 1], said[:, 2, 2, 1] = m, 2 * m
    if isinstance(law, GaussianLaw) and law.root.ndim == 1 and bool((law.root == 1).all()):
        said[:, 3, 0], said[:, 3, 2] = 1.0, 2.0
    return said


def _bounded_residual(law: Law, B: Array) -> Array:
    r"""Return the upper bounds of I, K and M that follow from :math:`|r|^2\le B`, (n, 3).

    Proposition 4.3 of 2024: :math:`\tilde\lambda_{max}(K)\le B\lambda_{max}(I)\le B^2`; by Corollary 4.2
    :math:`\tilde\lambda_{max}(M)\le B\lambda_{max}(I)-\lambda_{min}(I)^2`.
    """
    terms = law.h.shape[1]
    smallest, largest = information_extremes(law)
    fourth = np.where(np.isinf(B), np.inf, B * margins.above(largest, terms))
    return np.stack([B, fourth, fourth - np.square(margins.below(smallest, terms))], axis=1)


@singledispatch
def squared_radius(law: Law) -> Array:
    """Return the largest |r|^2 that the law allows, (n,): inf where t is unbounded or no bound is known."""
    return np.full_like(law.h, np.inf, dtype=np.float64, shape=len(law.h))


@squared_radius.register
def _(law: BinomialLaw) -> Array:
    return np.square(law.n_trials * expit(np.abs(law.h))).sum(axis=1)


@squared_radius.register
def _(law: CategoricalLaw) -> Array:
    """Return (1 - p_k)^2 + sum_{j != k} p_j^2 at the rarest class, or sum_j p_j^2 at an omitted one."""
    p, complement = law.mean, law._kept(law.complement)
    rarest = np.argmin(p, axis=1)[:, None]
    others = np.square(p)
    left_out: Array = others.sum(axis=1)
    np.put_along_axis(others, rarest, np.square(np.take_along_axis(complement, rarest, axis=1)), axis=1)
    largest: Array = others.sum(axis=1)
    return np.maximum(largest, left_out) if law.minimal else largest


@squared_radius.register
def _(law: ProductLaw) -> Array:
    return np.stack([squared_radius(part) for part in law.parts]).sum(axis=0)
