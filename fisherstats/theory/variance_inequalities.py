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

A form that gives no bound is 0 below and inf above. Every form has an outward margin for its own rounding and for that of the
exact value, so that none should be on the wrong side of it; a form that is has failed, which is counted and always reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fisherstats.core import margins
from fisherstats.core.arrays import like
from fisherstats.engines import primitives
from fisherstats.models.families import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.extremes import (
    information_extremes,
    projected_extremes,
    quartic_extremes,
    quartic_gradient,
    unfolded_largest,
)
from fisherstats.models.families.gaussian import GaussianLaw
from fisherstats.models.families.independent import BinomialLaw, IndependentLaw
from fisherstats.theory.cancellation import differentiation_room, fourth_rounding, ratio, uncancelled_variance
from fisherstats.theory.forward_rounding import SENSITIVITY

__all__ = ["FORMS", "Bounds", "LawBounds", "attained_extremes", "law_bounds"]

Array = NDArray[np.floating]
Forms = dict[str, Array]

FORMS = ("spectral", "projected", "standardised", "bhatia_davis", "pearson")


_FEW = 16
"""Units of rounding in a standard deviation, relative to its value without cancellation."""

_UNDERFLOW = 1e-300
"""Differences below this involve numbers that were subnormal in an intermediate step."""


@dataclass(frozen=True)
class Bounds:
    """Exact numbers per unit, (n, k), with lower and upper bounds by form; missing forms give no bound."""

    exact: Array
    lower: Forms
    upper: Forms

    def tightest(self) -> tuple[Array, Array]:
        """Return the largest lower and the smallest upper bound, of those that have not failed."""
        lower, upper = np.zeros_like(self.exact), np.full_like(self.exact, np.inf)
        failed = self.failed()
        for form, bound in self.lower.items():
            lower = np.maximum(lower, np.where(failed[form], 0, bound))
        for form, bound in self.upper.items():
            upper = np.minimum(upper, np.where(failed[form], np.inf, bound))
        return lower, upper

    def failed(self) -> Forms:
        """Return by form where its lower or upper bound is on the wrong side of the exact number, or is nan."""
        wrong = {form: np.zeros_like(self.exact, dtype=bool) for form in (*self.lower, *self.upper)}
        for form, bound in self.lower.items():
            wrong[form] = wrong[form] | ~(bound - self.exact <= _UNDERFLOW)
        for form, bound in self.upper.items():
            wrong[form] = wrong[form] | ~((bound >= self.exact) | (self.exact - bound <= _UNDERFLOW))
        return wrong

    def times(self, size: Array) -> Bounds:
        """Return the bounds of a multiple of the number."""
        lower, upper = ({form: one * size for form, one in side.items()} for side in (self.lower, self.upper))
        return Bounds(self.exact * size, cast(Forms, lower), cast(Forms, upper))

    def widened(
        self, below_by: Array | float, above_by: Array | float, room: Array | float = 0.0, relative: Array | float = 0.0
    ) -> Bounds:
        """Return the bounds with outward margins: of the roots of the numbers, of the numbers, and relative ones."""
        lower, upper = {}, {}
        for form, bound in self.lower.items():
            lower[form] = np.maximum(
                np.square(np.maximum(np.sqrt(margins.below(bound) * (1 - relative)) - below_by, 0)) - room, 0
            )
        for form, bound in self.upper.items():
            upper[form] = np.square(np.sqrt(margins.above(bound) * (1 + relative)) + above_by) + room
        return Bounds(self.exact, lower, upper)


class LawBounds:
    """Bounds of the moments of one block's law; what depends on h alone is computed once.

    `rounding` (n,) is that of the network's outputs (`forward_rounding.forward_rounding`).
    """

    def __init__(self, law: Law, rounding: Array) -> None:
        self.law = law
        self.relative = np.minimum(SENSITIVITY * rounding, 1)[:, None]
        self.few = margins.EPS * _FEW + rounding[:, None]
        self.information = tuple(one[:, None] for one in information_extremes(law))
        self.quartic = tuple(one[:, None] for one in quartic_extremes(law))

    def of_variance(self, u: Array | None) -> Bounds:
        """Bound Var(u.t): statements (7) and (9); None stands for the outputs."""
        if u is None:
            return self._own_variance()
        u, size = _at_size_one(u)
        return self._variance(u).times(size * size)

    def of_square_variance(self, u: Array | None) -> Bounds:
        """Bound M(u,u,u,u) = Var((u.r)^2): statement (8); None stands for the outputs."""
        if u is None:
            return self._own_square_variance()
        u, size = _at_size_one(u)
        return self._square_variance(u).times(size * size).times(size * size)

    def _own_variance(self) -> Bounds:
        return self._variance(None)

    def _own_square_variance(self) -> Bounds:
        return self._square_variance(None)

    def _variance(self, u: Array | None) -> Bounds:
        exact = self.law.own_diagonal() if u is None else self.law.diagonal(u)
        square = np.ones_like(exact) if u is None else _norm(u)
        lower = {"spectral": self.information[0] * square}
        upper = {"spectral": self.information[1] * square}
        bounds = self._extended(Bounds(exact, lower, upper), u)
        rounding = self.few * np.sqrt(uncancelled_variance(self.law, u))
        room = differentiation_room(self.law, u, 2)
        return bounds.widened(rounding, rounding, room, self.relative)

    def _square_variance(self, u: Array | None) -> Bounds:
        law = self.law
        exact = law.own_square_variance() if u is None else law.square_variance(u)
        variance = law.own_diagonal() if u is None else law.diagonal(u)
        skewness = law.own_third_moment() if u is None else law.third_moment(u, u)
        fourth = np.ones_like(exact) if u is None else _norm(u) ** 2
        lower = {"spectral": self.quartic[0] * fourth, "pearson": ratio(skewness, variance) * skewness}
        upper = {"spectral": self.quartic[1] * fourth}
        bounds = self._extended_square(Bounds(exact, lower, upper), u, variance)
        rounding = fourth_rounding(law, self.few, u, u)
        room = differentiation_room(law, u, 4)
        return bounds.widened(rounding, self._upper_rounding(rounding), room, self.relative)

    def _extended(self, bounds: Bounds, u: Array | None) -> Bounds:
        return bounds

    def _extended_square(self, bounds: Bounds, u: Array | None, variance: Array) -> Bounds:
        return bounds

    def _upper_rounding(self, rounding: Array) -> Array | float:
        """Return the margin of the root of an upper bound of (8), given the one below."""
        return rounding


class _GaussianBounds(LawBounds):
    """With t / sqrt(I) both extremes are 1 and 2 whatever the covariance: equalities (Proposition 5.1)."""

    def _extended(self, bounds: Bounds, u: Array | None) -> Bounds:
        bounds.lower["standardised"] = bounds.upper["standardised"] = bounds.exact
        return bounds

    def _extended_square(self, bounds: Bounds, u: Array | None, variance: Array) -> Bounds:
        bounds.lower["standardised"] = bounds.upper["standardised"] = 2 * np.square(variance)
        return bounds


class _IndependentBounds(LawBounds):
    def __init__(self, law: IndependentLaw, rounding: Array) -> None:
        super().__init__(law, rounding)
        self.standardised = tuple(one[:, None] for one in _standardised_quartic(law))

    def _extended(self, bounds: Bounds, u: Array | None) -> Bounds:
        bounds.lower["standardised"] = bounds.upper["standardised"] = bounds.exact
        return bounds

    def _extended_square(self, bounds: Bounds, u: Array | None, variance: Array) -> Bounds:
        # The ratio first: the square of a far-tail variance would underflow by itself.
        bounds.lower["standardised"] = self.standardised[0] * variance * variance
        # Heads of very different variance: M / I^2 of one with I of another may overflow: the spectral form instead.
        with np.errstate(over="ignore", invalid="ignore"):
            upper = self.standardised[1] * variance * variance
        bounds.upper["standardised"] = np.where(np.isfinite(upper), upper, bounds.upper["spectral"])
        return bounds

    def _upper_rounding(self, rounding: Array) -> Array | float:
        return 0.0  # upper bounds are sums of terms of one sign


class _BinomialBounds(_IndependentBounds):
    """Counts out of n are bounded: r lies between -np and n(1 - p), at least as far from 0 as np is from an integer."""

    def __init__(self, law: BinomialLaw, rounding: Array) -> None:
        super().__init__(law, rounding)
        self.above, self.below = (law.n_trials * expit(side * law.h)[:, :, None] for side in (-1, 1))
        rarer = np.minimum(self.above, self.below)
        self.nearest = np.abs(rarer - np.rint(rarer))
        self.surely = np.maximum(self.nearest - margins.ROUNDING * margins.EPS * rarer, 0)

    def _extended(self, bounds: Bounds, u: Array | None) -> Bounds:
        assert u is not None
        highest, lowest, _ = self._range(u)
        bounds.upper["bhatia_davis"] = highest * lowest
        return super()._extended(bounds, u)

    def _extended_square(self, bounds: Bounds, u: Array | None, variance: Array) -> Bounds:
        assert u is not None
        highest, lowest, farthest = self._range(u)
        largest = np.square(np.maximum(highest, lowest))
        nearest, surely = (self._nearest(u, farthest, one) for one in (self.nearest, self.surely))
        bare = np.maximum(largest - variance, 0) * np.maximum(variance - np.square(nearest), 0)
        # Both differences may cancel.
        first = np.maximum(margins.above(largest) - margins.below(variance), 0)
        second = np.maximum(margins.above(variance) - margins.below(np.square(surely)), 0)
        bounds.upper["bhatia_davis"] = np.where((bare == 0) & (bounds.exact == 0), 0, first * second)
        return super()._extended_square(bounds, u, variance)

    def _own_variance(self) -> Bounds:
        return self._variance(self.law._outputs)

    def _own_square_variance(self) -> Bounds:
        return self._square_variance(self.law._outputs)

    def _range(self, u: Array) -> tuple[Array, Array, Array]:
        """Return max(u.r) and max(-u.r) over the support, and the largest |u_a r_a| of every head, (n, T, k)."""
        positive, negative = np.maximum(u, 0), np.maximum(-u, 0)
        return (
            (positive * self.above + negative * self.below).sum(axis=1),
            (positive * self.below + negative * self.above).sum(axis=1),
            np.abs(u) * np.maximum(self.above, self.below),
        )

    def _nearest(self, u: Array, farthest: Array, nearest: Array) -> Array:
        """Return a lower bound of |u.r| over the support."""
        total = farthest.sum(axis=1, keepdims=True)
        others = margins.above(total) - farthest if nearest is self.surely else total - farthest
        return np.maximum(np.abs(u) * nearest - others, 0).max(axis=1)


def _standardised_quartic(law: IndependentLaw) -> tuple[Array, Array]:
    r"""Return the extremes of :math:`M(u,u,u,u)/\mathrm{Var}(u.t)^2`, exact over all u.

    With z_a = u_a^2 I_a >= 0, sum z = 1 and m_a = M_a / I_a^2 it is :math:`2-\sum_a(2-m_a)z_a^2`: extreme at a single head, or
    where :math:`z_a\propto1/(2-m_a)` if all m_a lie on the same side of 2.
    """
    m = ratio(law.variance_of_square, law.variance)
    with np.errstate(over="ignore"):  # a rate below 1e-308
        m = ratio(m, law.variance)
    largest = m.max(axis=1)
    m = np.minimum(m, np.finfo(m.dtype).max / 1024)  # both extremes increase with m: still a lower bound
    with np.errstate(divide="ignore"):  # a head with m_a = 2 makes the interior extreme 2 itself
        interior = 2 - 1 / (1 / (2 - m)).sum(axis=1)
    smallest = m.min(axis=1)
    if m.shape[1] == 1:  # where 2 - (2 - m) would lose m
        return smallest, largest
    return (
        np.where(smallest > 2, interior, smallest),
        np.where(largest < 2, interior, largest),
    )


class _CategoricalBounds(LawBounds):
    def __init__(self, law: CategoricalLaw, rounding: Array) -> None:
        super().__init__(law, rounding)
        self.classes = law
        self.flat = tuple(one[:, None] for one in projected_extremes(law))
        self.flat_quartic = unfolded_largest(law, False)[:, None] if law.minimal else self.quartic[1]
        top = np.argmax(law.p, axis=1)[:, None]
        self.top_probability = np.take_along_axis(law.p, top, axis=1)
        self.top = top[:, :, None]

    def _extended(self, bounds: Bounds, u: Array | None) -> Bounds:
        assert u is not None
        square = self._projected_norm(u)
        bounds.lower["projected"] = self.flat[0] * square
        bounds.upper["projected"] = self.flat[1] * square
        return self._of_classes(bounds, self.classes.centred(u))

    def _extended_square(self, bounds: Bounds, u: Array | None, variance: Array) -> Bounds:
        assert u is not None
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
        rounding = self.few * np.sqrt(exact)
        return self._of_two_values(Bounds(exact, lower, upper), ones).widened(rounding, rounding, relative=self.relative)

    def _own_square_variance(self) -> Bounds:
        """Bound Var(delta_a^2): the square is (1 - p_a)^2 at the class and p_a^2 elsewhere, 1 - 2 p_a apart."""
        law = self.classes
        variance, exact = law.own_diagonal(), law.own_square_variance()
        ones, flat, apart = np.ones_like(exact), 1 - 1 / law.p.shape[1], law._kept(law.apart)
        skewness = law.own_third_moment()
        lower = {"spectral": self.quartic[0] * ones, "pearson": ratio(skewness, variance) * skewness}
        upper = {"spectral": self.quartic[1] * ones, "projected": self.flat_quartic * flat**2 * ones}
        # Nothing cancels, so that a 0 is one.
        wide = self._of_two_values(Bounds(exact, lower, upper), np.square(apart))
        return wide.widened(self.few * np.sqrt(exact + np.square(variance)), 0.0, relative=self.relative)

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
        full = full - np.take_along_axis(full, self.top, axis=1)  # the part common to all classes is removed
        return _norm(full - full.mean(axis=1, keepdims=True))


@singledispatch
def law_bounds(law: Law, rounding: Array) -> LawBounds:
    """Return the bounds that a law admits, its parameters known to a rounding (n,)."""
    return LawBounds(law, rounding)


law_bounds.register(GaussianLaw)(_GaussianBounds)
law_bounds.register(IndependentLaw)(_IndependentBounds)
law_bounds.register(BinomialLaw)(_BinomialBounds)
law_bounds.register(CategoricalLaw)(_CategoricalBounds)


def attained_extremes(law: Law, largest: Array, iterations: int = 60) -> tuple[Array, Array]:
    """Return the smallest and largest M(u,u,u,u) that a shifted power iteration attains on unit vectors, (n,) each.

    `largest` is a certified upper bound of M on unit vectors; it shifts the iteration u <- normalise(M u^3 +- alpha u). The
    attained value is a value of the form, not a bound.
    """
    outputs = law.h.shape[1]
    starts = like(
        np.concatenate([np.eye(outputs, min(outputs, 4)), _spread_directions(outputs)], axis=1).astype(law.h.dtype), law.h
    )
    step = 1 / (3 * largest[:, None, None] + np.finfo(law.h.dtype).tiny)
    extremes = []
    for sign in (-1.0, 1.0):
        # Directions are contiguous in memory: loops along the outputs are long.
        u = (np.zeros_like(law.h[:, None, :]) + starts.T).swapaxes(1, 2)
        for _ in range(iterations if outputs > 1 else 0):
            moved = quartic_gradient(law, u)
            moved *= sign * step
            moved += u
            moved /= np.sqrt(_norm(moved))[:, None, :]
            u = moved
        values = law.square_variance(u)
        extremes.append(values.min(axis=1) if sign < 0 else values.max(axis=1))
    return extremes[0], extremes[1]


def _spread_directions(outputs: int) -> Array:
    """Return a few fixed unit vectors in general position."""
    directions = np.random.Generator(np.random.Philox(key=outputs)).standard_normal((outputs, 6))
    return directions / np.linalg.norm(directions, axis=0)


def _at_size_one(u: Array) -> tuple[Array, Array]:
    """Return the directions (n, T, k) of each input over a power of two near their largest entry, and that power, (n, 1)."""
    size = margins.power_of_two(np.abs(u).max(axis=(1, 2)))
    return u / size[:, None, None], size[:, None]


def _norm(u: Array) -> Array:
    return np.einsum("ntk,ntk->nk", u, u)
