"""`check_family`: all families of the package pass it, and families with one thing wrong do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fisherstats import families
from fisherstats.models.families import (
    Bernoulli,
    Binomial,
    Categorical,
    Dirichlet,
    Exponential,
    Gamma,
    GammaShapeRate,
    Gaussian,
    GaussianMeanVariance,
    Geometric,
    InverseGaussian,
    Laplace,
    Link,
    LogPartitionFamily,
    Multinomial,
    NegativeBinomial,
    Poisson,
    Product,
    Weibull,
)
from fisherstats.models.families.independent import PoissonLaw
from fisherstats.models.families.positive import GammaLaw
from fisherstats.testing import check_family

FAMILIES = [
    Bernoulli(),
    Bernoulli(3),
    Binomial(5, 2),
    Categorical(4),
    Categorical(3, minimal=True),
    Dirichlet(2),
    Dirichlet(3),
    Exponential(2),
    Exponential(),
    Gamma(0.4),
    Gamma(2.5, 2),
    GammaShapeRate(),
    Gaussian(),
    Gaussian(2, covariance=[[2.0, 0.6], [0.6, 1.0]]),
    GaussianMeanVariance(),
    Geometric(),
    InverseGaussian(1.5),
    Laplace(0.7),
    Multinomial(1, 3),
    Multinomial(4, 3),
    Multinomial(4, 3, minimal=True),
    NegativeBinomial(2.5),
    NegativeBinomial(0.3, 2),
    Poisson(2),
    Product([Bernoulli(), Poisson()]),
    Product([Categorical(3), Gaussian(2), GammaShapeRate()]),
    Product([Dirichlet(2), Product([Multinomial(3, 2), Laplace()])]),
    Weibull(1.7),
    Weibull(0.6, 2),
]


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_our_families_pass(family):
    errors = check_family(family)
    exact = {name: error for name, error in errors.items() if "z-score" not in name}
    assert max(exact.values()) < 1e-8, exact


def test_every_family_is_tested():
    offered = {one for one in vars(families).values() if isinstance(one, type) and issubclass(one, families.Family)}
    assert offered - {families.Family, LogPartitionFamily} == {type(family) for family in FAMILIES}


@dataclass(frozen=True)
class Biased(Poisson):
    def sample(self, h, rng, n_draws):
        return super().sample(h + 0.05, rng, n_draws)


@dataclass(frozen=True)
class Deaf(Poisson):
    def sample(self, h, rng, n_draws):
        return super().sample(np.zeros_like(h), rng, n_draws)


@dataclass(frozen=True)
class Unnormalised(Poisson):
    def log_prob(self, h, y):
        return super().log_prob(h, y) + 1e-6


@dataclass(frozen=True)
class UnnormalisedPair(Exponential):
    """Two real columns: there is no rule of integration, and only labels can tell."""

    def log_prob(self, h, y):
        return super().log_prob(h, y) + h.sum(axis=1)


@dataclass(frozen=True)
class Lenient(Exponential):
    """Accepts negative labels, where its density is not 0."""

    def check_labels(self, y, n):
        return np.asarray(y, dtype=np.float64).reshape(n, 1)


@dataclass(frozen=True)
class Strict(Poisson):
    def check_labels(self, y, n):
        if np.max(y) > 3:
            raise ValueError("too large")
        return super().check_labels(y, n)


@dataclass(frozen=True)
class Halves(Poisson):
    def check_labels(self, y, n):
        return np.asarray(y, dtype=np.float64).reshape(n, 1)


class SkewedLaw(PoissonLaw):
    @property
    def third_cumulant(self):
        return 1.001 * self.mean


class FlatLaw(PoissonLaw):
    def square_variance(self, u):
        return super().square_variance(u) * (1 + 1e-5)


class UnequalLaw(PoissonLaw):
    def own_square_variance(self):
        return super().own_square_variance() * (1 + 1e-5)


class LeaningLaw(PoissonLaw):
    def own_products(self):
        rows, diagonal = super().own_products()
        return rows, diagonal * (1 + 1e-5)


class ShiftedLaw(PoissonLaw):
    def residual(self, y):
        return super().residual(y) + 1e-3


class RecentredLaw(PoissonLaw):
    def draw(self, rng, n_draws, second_moment, first_input=0):
        drawn = super().draw(rng, n_draws, second_moment, first_input)
        other = super().draw(rng, n_draws, second_moment, first_input)
        return type(drawn)(drawn.mean, other.second)


def with_law(law):
    @dataclass(frozen=True)
    class Broken(Poisson):
        def at(self, h):
            return law(super().at(h).h)

    return Broken()


@dataclass(frozen=True)
class WrongLaw(Exponential):
    def at(self, h):
        return GammaLaw(self.natural(h), 1.0001, self.name)


class BentLink(Link):
    def evaluate(self, z, order=0):
        h, *derivatives = super().evaluate(z, order)
        return (h, *(1.0001 * derivative for derivative in derivatives))


@dataclass(frozen=True)
class BadLink(Exponential):
    @property
    def link(self):
        return BentLink(("negative_exp",))


@dataclass(frozen=True)
class BadWords(Poisson):
    def draw_scheme(self, second_moment, n_draws):
        return "somehow"


@pytest.mark.parametrize(
    ("family", "test"),
    [
        (Biased(), "sampler"),
        (Deaf(), "sampler"),
        (Unnormalised(), "normalisation"),
        (UnnormalisedPair(2), "normalisation of labels"),
        (Lenient(), "normalisation"),
        (Strict(), "check_labels: refuses a label that was drawn"),
        (Halves(), "check_labels: accepts half a count"),
        (with_law(SkewedLaw), "derivative of cumulant 2"),
        (with_law(FlatLaw), "square_variance"),
        (with_law(UnequalLaw), "own_square_variance"),
        (with_law(LeaningLaw), "own_products"),
        (with_law(ShiftedLaw), "residual"),
        (with_law(RecentredLaw), "draws"),
        (WrongLaw(), "mean of labels"),
        (BadLink(), "link slope"),
        (BadWords(), "draw_scheme"),
    ],
    ids=lambda case: case if isinstance(case, str) else type(case).__name__,
)
def test_what_is_wrong_is_named(family, test):
    with pytest.raises(AssertionError, match=test):
        check_family(family)


def test_the_outcome_repeats_and_depends_on_the_seed():
    first, again, other = check_family(Poisson(), rng=1), check_family(Poisson(), rng=1), check_family(Poisson(), rng=2)
    assert first == again
    assert first != other


def test_given_natural_parameters_are_used():
    check_family(Poisson(2), h=[[0.0, 1.0]])
    with pytest.raises(ValueError, match="`h` must have shape"):
        check_family(Poisson(2), h=[[0.0]])
    with pytest.raises(ValueError, match="`families` must hold family objects"):
        check_family("poisson")
