r"""Theorem 4.1 of 2024 and its tighter certified forms, as bounds per unit and input.

Each statement bounds a number per unit: (7) the information Var(u.t), (8) the score estimator's M(u,u,u,u) = Var((u.r)^2), (9)
the Hessian estimator's Var(s.t), with u = G_l[:,o] and s = S_l[:,o]. Forms:

``spectral``
    Theorem 4.1 with certified eigenvalues in the family's own parametrisation.
``projected``
    The same after removing the direction in which a softmax is flat, with the smallest non-zero eigenvalue.
``standardised``
    Theorem 4.1 in the parametrisation t / sqrt(I): for independent heads and Gaussians :math:`\lambda(I)=1`, so (7) and (9) are
    equalities and (8) has closed extremes; for classes relative to the most probable one m,
    :math:`p_mE\le\mathrm{Var}(z)\le E=\sum_{k\ne m}p_k(z_k-z_m)^2`.
``bhatia_davis``
    :math:`\mathrm{Var}(z)\le(\max z-Ez)(Ez-\min z)` for bounded t.
``pearson``
    :math:`\mathrm{Var}((u.r)^2)\ge E[(u.r)^3]^2/E[(u.r)^2]`.

A form that says nothing is 0 below and inf above.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fisherstats.arrays import like
from fisherstats.engines import primitives
from fisherstats.model.families import Law
from fisherstats.model.families.categorical import CategoricalLaw
from fisherstats.model.families.extremes import (
    information_extremes,
    projected_extremes,
    quartic_extremes,
    quartic_gradient,
    unfolded_largest,
)
from fisherstats.model.families.gaussian import GaussianLaw
from fisherstats.model.families.independent import BinomialLaw, IndependentLaw

__all__ = ["FORMS", "Bounds", "LawBounds", "attained_extremes", "law_bounds"]

Array = NDArray[np.floating]
Forms = dict[str, Array]

FORMS = ("spectral", "projected", "standardised", "bhatia_davis", "pearson")


@dataclass(frozen=True)
class Bounds:
    """Exact numbers per unit, (n, k), with lower and upper bounds by form; missing forms say nothing."""

    exact: Array
    lower: Forms
    upper: Forms
    scale: Array
    """What rounding is relative to: a difference below a few eps of it is equality."""

    def tightest(self) -> tuple[Array, Array]:
        """Return the largest lower and the smallest upper bound; rounding alone never puts them on the wrong side."""
        lower = functools.reduce(np.maximum, self.lower.values(), np.zeros_like(self.exact))
        upper = functools.reduce(np.minimum, self.upper.values(), np.full_like(self.exact, np.inf))
        slack = 64 * np.finfo(self.exact.dtype).eps * self.scale
        return (
            np.where((lower > self.exact) & (lower - self.exact <= slack), self.exact, lower),
            np.where((upper < self.exact) & (self.exact - upper <= slack), self.exact, upper),
        )


class LawBounds:
    """Bounds of the moments of one block's law; what depends on h alone is computed once."""

    def __init__(self, law: Law) -> None:
        self.law = law
        self.information = tuple(one[:, None] for one in information_extremes(law))
        self.quartic = tuple(one[:, None] for one in quartic_extremes(law))

    def of_variance(self, u: Array | None) -> Bounds:
        """Bound Var(u.t): statements (7) and (9); None stands for the outputs."""
        if u is None:
            return self._own_variance()
        exact, square = self.law.diagonal(u), _norm(u)
        lower = {"spectral": self.information[0] * square}
        upper = {"spectral": self.information[1] * square}
        return self._extended(Bounds(exact, lower, upper, exact), u)

    def of_square_variance(self, u: Array | None) -> Bounds:
        """Bound M(u,u,u,u) = Var((u.r)^2): statement (8); None stands for the outputs."""
        if u is None:
            return self._own_square_variance()
        exact, fourth = self.law.square_variance(u), _norm(u) ** 2
        variance, skewness = self.law.diagonal(u), self.law.third_moment(u, u)
        lower = {"spectral": self.quartic[0] * fourth, "pearson": _ratio(skewness, variance) * skewness}
        upper = {"spectral": self.quartic[1] * fourth}
        return self._extended_square(Bounds(exact, lower, upper, self.law.fourth_moment(u)), u, variance)

    def _own_variance(self) -> Bounds:
        return self.of_variance(self.law._outputs)

    def _own_square_variance(self) -> Bounds:
        return self.of_square_variance(self.law._outputs)

    def _extended(self, bounds: Bounds, u: Array) -> Bounds:
        return bounds

    def _extended_square(self, bounds: Bounds, u: Array, variance: Array) -> Bounds:
        return bounds


class _GaussianBounds(LawBounds):
    """With t / sqrt(I) both extremes are 1 and 2 whatever the covariance: equalities (Proposition 5.1)."""

    def _extended(self, bounds: Bounds, u: Array) -> Bounds:
        bounds.lower["standardised"] = bounds.upper["standardised"] = bounds.exact
        return bounds

    def _extended_square(self, bounds: Bounds, u: Array, variance: Array) -> Bounds:
        bounds.lower["standardised"] = bounds.upper["standardised"] = 2 * np.square(variance)
        return bounds


class _IndependentBounds(LawBounds):
    def __init__(self, law: IndependentLaw) -> None:
        super().__init__(law)
        self.standardised = tuple(one[:, None] for one in _standardised_quartic(law))

    def _extended(self, bounds: Bounds, u: Array) -> Bounds:
        bounds.lower["standardised"] = bounds.upper["standardised"] = bounds.exact
        return bounds

    def _extended_square(self, bounds: Bounds, u: Array, variance: Array) -> Bounds:
        # The ratio first: the square of a far-tail variance alone would underflow.
        bounds.lower["standardised"] = self.standardised[0] * variance * variance
        # Heads of very different variance: M / I^2 of one with I of another may overflow: the spectral form instead.
        with np.errstate(over="ignore", invalid="ignore"):
            upper = self.standardised[1] * variance * variance
        bounds.upper["standardised"] = np.where(np.isfinite(upper), upper, bounds.upper["spectral"])
        return bounds


class _BinomialBounds(_IndependentBounds):
    """Counts out of n are bounded: r lies between -np and n(1 - p), at least as far from 0 as np is from an integer."""

    def __init__(self, law: BinomialLaw) -> None:
        super().__init__(law)
        self.above, self.below = (law.n_trials * expit(side * law.h)[:, :, None] for side in (-1, 1))
        rarer = np.minimum(self.above, self.below)
        self.nearest = np.abs(rarer - np.rint(rarer))

    def _extended(self, bounds: Bounds, u: Array) -> Bounds:
        highest, lowest, _ = self._range(u)
        bounds.upper["bhatia_davis"] = highest * lowest
        return super()._extended(bounds, u)

    def _extended_square(self, bounds: Bounds, u: Array, variance: Array) -> Bounds:
        highest, lowest, nearest = self._range(u)
        largest = np.square(np.maximum(highest, lowest))
        bounds.upper["bhatia_davis"] = np.maximum(largest - variance, 0) * np.maximum(variance - np.square(nearest), 0)
        return super()._extended_square(bounds, u, variance)

    def _range(self, u: Array) -> tuple[Array, Array, Array]:
        """Return max(u.r), max(-u.r) and a lower bound of |u.r| over the support."""
        positive, negative = np.maximum(u, 0), np.maximum(-u, 0)
        farthest = np.abs(u) * np.maximum(self.above, self.below)
        others = farthest.sum(axis=1, keepdims=True) - farthest
        return (
            (positive * self.above + negative * self.below).sum(axis=1),
            (positive * self.below + negative * self.above).sum(axis=1),
            np.maximum(np.abs(u) * self.nearest - others, 0).max(axis=1),
        )


def _standardised_quartic(law: IndependentLaw) -> tuple[Array, Array]:
    r"""Return the extremes of :math:`M(u,u,u,u)/\mathrm{Var}(u.t)^2`, exact over all u.

    With z_a = u_a^2 I_a >= 0, sum z = 1 and m_a = M_a / I_a^2 it is :math:`2-\sum_a(2-m_a)z_a^2`: extreme at a single head, or
    where :math:`z_a\propto1/(2-m_a)` if all m_a lie on the same side of 2.
    """
    m = _ratio(law.variance_of_square, law.variance)
    with np.errstate(over="ignore"):  # a rate below 1e-308
        m = _ratio(m, law.variance)
    largest = m.max(axis=1)
    m = np.minimum(m, np.finfo(m.dtype).max / 1024)  # both extremes increase with m: still a lower bound
    with np.errstate(divide="ignore"):  # a head with m_a = 2 makes the interior extreme 2 itself
        interior = 2 - 1 / (1 / (2 - m)).sum(axis=1)
    smallest = m.min(axis=1)
    return (
        np.where(smallest > 2, interior, smallest),
        np.where(largest < 2, interior, largest),
    )


class _CategoricalBounds(LawBounds):
    def __init__(self, law: CategoricalLaw) -> None:
        super().__init__(law)
        self.classes = law
        self.flat = tuple(one[:, None] for one in projected_extremes(law))
        self.flat_quartic = (unfolded_largest(law, False) if law.minimal else quartic_extremes(law)[1])[:, None]
        top = np.argmax(law.p, axis=1)[:, None]
        self.top_probability = np.take_along_axis(law.p, top, axis=1)
        self.top = top[:, :, None]

    def _extended(self, bounds: Bounds, u: Array) -> Bounds:
        square = self._projected_norm(u)
        bounds.lower["projected"] = self.flat[0] * square
        bounds.upper["projected"] = self.flat[1] * square
        return self._of_classes(bounds, self.classes.centred(u))

    def _extended_square(self, bounds: Bounds, u: Array, variance: Array) -> Bounds:
        bounds.upper["projected"] = self.flat_quartic * np.square(self._projected_norm(u))
        squares = np.square(self.classes.centred(u))
        return self._of_classes(bounds, primitives.centred(self.classes.p, squares))

    def _of_classes(self, bounds: Bounds, deviation: Array) -> Bounds:
        """Add the bounds of Var(z) under p from z_k - E z."""
        apart = deviation - np.take_along_axis(deviation, self.top, axis=1)
        energy = primitives.weighted_square(self.classes.p, apart)
        bounds.lower["standardised"] = self.top_probability * energy
        bounds.upper["standardised"] = energy if deviation.shape[1] > 2 else bounds.lower["standardised"]
        bounds.upper["bhatia_davis"] = np.maximum(deviation.max(axis=1), 0) * np.maximum((-deviation).max(axis=1), 0)
        return bounds

    def _own_variance(self) -> Bounds:
        """Bound Var(t_a): along an output z is 1 at its class and 0 elsewhere."""
        law = self.classes
        exact = law.own_diagonal()
        ones, flat = np.ones_like(exact), 1 - 1 / law.p.shape[1]
        lower = {"spectral": self.information[0] * ones, "projected": self.flat[0] * flat * ones}
        upper = {"spectral": self.information[1] * ones, "projected": self.flat[1] * flat * ones}
        return self._of_two_values(Bounds(exact, lower, upper, exact), ones)

    def _own_square_variance(self) -> Bounds:
        """Bound Var(delta_a^2): the square is (1 - p_a)^2 at the class and p_a^2 elsewhere, 1 - 2 p_a apart."""
        law = self.classes
        p, rest, variance, exact = law.mean, law._kept(law.complement), law.own_diagonal(), law.own_square_variance()
        ones, flat, apart = np.ones_like(exact), 1 - 1 / law.p.shape[1], law._kept(law.apart)
        skewness = variance * apart
        lower = {"spectral": self.quartic[0] * ones, "pearson": _ratio(skewness, variance) * skewness}
        upper = {"spectral": self.quartic[1] * ones, "projected": self.flat_quartic * flat**2 * ones}
        return self._of_two_values(Bounds(exact, lower, upper, variance * (rest**3 + p**3)), np.square(apart))

    def _of_two_values(self, bounds: Bounds, square: Array) -> Bounds:
        """Add the bounds of Var(z) under p of z that differs at one class from all others, by the root of `square`."""
        law = self.classes
        weight = law._kept(np.where(law._are(law.top), law.complement, law.p))
        energy = weight * square
        bounds.lower["standardised"] = self.top_probability * energy
        bounds.upper["standardised"] = energy if law.p.shape[1] > 2 else bounds.lower["standardised"]
        bounds.upper["bhatia_davis"] = law.own_diagonal() * square
        return bounds

    def _projected_norm(self, u: Array) -> Array:
        """Return |P u|^2 with P = I - 11'/C, the last class at 0 in the minimal form."""
        full = np.pad(u, ((0, 0), (0, 1), (0, 0))) if self.classes.minimal else u
        return _norm(full - full.mean(axis=1, keepdims=True))


@singledispatch
def law_bounds(law: Law) -> LawBounds:
    """Return the bounds that a law admits."""
    return LawBounds(law)


law_bounds.register(GaussianLaw)(_GaussianBounds)
law_bounds.register(IndependentLaw)(_IndependentBounds)
law_bounds.register(BinomialLaw)(_BinomialBounds)
law_bounds.register(CategoricalLaw)(_CategoricalBounds)


def attained_extremes(law: Law, largest: Array, iterations: int = 60) -> tuple[Array, Array]:
    """Return the smallest and largest M(u,u,u,u) that a shifted power iteration attains on unit vectors, (n,) each.

    `largest` is a certified upper bound of M on unit vectors; it shifts the iteration u <- normalise(M u^3 +- alpha u). What it
    attains is a value of the form, not a bound.
    """
    n, outputs = law.h.shape
    starts = like(
        np.concatenate([np.eye(outputs, min(outputs, 4)), _spread_directions(outputs)], axis=1).astype(law.h.dtype), law.h
    )
    shift = 3 * largest[:, None, None] + np.finfo(law.h.dtype).tiny
    extremes = []
    for sign in (-1.0, 1.0):
        u = np.broadcast_to(starts, (n, *starts.shape))
        for _ in range(iterations if outputs > 1 else 0):
            u = sign * quartic_gradient(law, u) / shift + u
            u = u / np.sqrt(_norm(u))[:, None, :]
        values = law.square_variance(u)
        extremes.append(values.min(axis=1) if sign < 0 else values.max(axis=1))
    return extremes[0], extremes[1]


def _spread_directions(outputs: int) -> Array:
    """Return a few fixed unit vectors in general position."""
    directions = np.random.Generator(np.random.Philox(key=outputs)).standard_normal((outputs, 6))
    unit: Array = directions / np.linalg.norm(directions, axis=0)
    return unit


def _norm(u: Array) -> Array:
    squared: Array = np.einsum("ntk,ntk->nk", u, u)
    return squared


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Return numerator / denominator, 0 where the denominator is 0."""
    safe = np.where(denominator == 0, 1, denominator)
    return np.where(denominator == 0, 0, numerator / safe)
