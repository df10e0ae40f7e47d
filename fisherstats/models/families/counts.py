"""Families of independent unbounded, overdispersed counts: NegativeBinomial, Geometric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import betaln

from fisherstats.core.arrays import double
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import arguments
from fisherstats.core.validation import families as checks
from fisherstats.core.validation.arguments import positive_integer, positive_number
from fisherstats.models.families import samplers
from fisherstats.models.families.deviance import MODERATE, failure_log_mass, log_success, where_moderate
from fisherstats.models.families.independent_draws import HeadsFamily, SummedLaw
from fisherstats.models.families.links import Link

__all__ = ["Geometric", "NegativeBinomial", "NegativeBinomialLaw"]

# A Gamma(a) variable passes a + sqrt(2 a x) + x with probability below e^-x.
TAIL_EXPONENT = 50.0


class NegativeBinomialLaw(SummedLaw):
    """T independent numbers of failures before r successes, with log failure probability h = log q < 0.

    1 - q = -expm1(h) is accurate for q near 1, and every cumulant is r q / (1 - q)^m times a polynomial in q with positive
    coefficients.
    """

    def __init__(self, h: np.ndarray, n_successes: float, family: str) -> None:
        super().__init__(h)
        self.n_successes = n_successes
        self.family = family
        with np.errstate(over="ignore", under="ignore", divide="ignore"):
            checks.moment_range(h, self.fourth_central, family, may_vanish=True)

    @cached_property
    def failure(self) -> np.ndarray:
        """Failure probability q, shape (n, T)."""
        return np.exp(self.h)

    @cached_property
    def success(self) -> np.ndarray:
        """Success probability 1 - q, shape (n, T)."""
        return -np.expm1(self.h)

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean r q / (1 - q), shape (n, T)."""
        return self.n_successes * self.failure / self.success

    @cached_property
    def variance(self) -> np.ndarray:
        """Variance r q / (1 - q)^2."""
        return self.mean / self.success

    @cached_property
    def third_cumulant(self) -> np.ndarray:
        """Third cumulant r q (1 + q) / (1 - q)^3."""
        return self.variance * (1 + self.failure) / self.success

    @cached_property
    def fourth_cumulant(self) -> np.ndarray:
        """Fourth cumulant r q (1 + 4q + q^2) / (1 - q)^4."""
        return self._fourth(0)

    @cached_property
    def fourth_central(self) -> np.ndarray:
        """K = r q (1 + 4q + q^2 + 3 r q) / (1 - q)^4."""
        return self._fourth(3)

    @cached_property
    def variance_of_square(self) -> np.ndarray:
        """M = r q (1 + 4q + q^2 + 2 r q) / (1 - q)^4."""
        return self._fourth(2)

    def _fourth(self, squares: int) -> np.ndarray:
        """Return the fourth cumulant plus the given number of squared variances."""
        q = self.failure
        return self.variance * (1 + (4 + squares * self.n_successes) * q + q * q) / self.success**2

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return y - r q / (1 - q)."""
        return (y - self.mean).astype(self.h.dtype)

    def counts(
        self, rng: np.random.Generator, row: int, shape: tuple[int, ...], n_labels: int, first_input: int = 0
    ) -> np.ndarray:
        """Return sums of n_labels counts of one input, shape (*shape, T): Poisson counts with a Gamma(N r) rate."""
        total = n_labels * self.n_successes
        odds = self.failure[row].astype(np.float64) / self.success[row]
        largest = (total + math.sqrt(2 * total * TAIL_EXPONENT) + TAIL_EXPONENT) * odds
        checks.sum_range(largest[None], n_labels, first_input + row, self.family)
        return samplers.poisson(rng, rng.standard_gamma(total, (*shape, len(odds))) * odds)

    def sum_residual(self, rng: np.random.Generator, n_draws: int, first_input: int) -> np.ndarray:
        """Return (1/N) sum_k delta_k: the sum is negative binomial with N r successes."""
        sums = np.stack([self.counts(rng, row, (), n_draws, first_input) for row in range(len(self.h))])
        return sums / n_draws - self.mean

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta of `count` labels of one input, shape (count, T)."""
        return self.counts(rng, row, (count,), 1) - self.mean[row]


def _plain_log_mass(h: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    # log Gamma(y + r) - log Gamma(r) - log y! = -log y - log B(y, r), without a difference of large numbers.
    positive = np.where(y > 0, y, 1.0)
    choose = np.where(y > 0, -np.log(positive) - betaln(positive, r), 0.0)
    return choose + r * log_success(h) + y * h


class _FailureFamily(HeadsFamily):
    """Common base of the two families of numbers of failures."""

    @property
    def _successes(self) -> float:
        return 1.0

    @property
    def link(self) -> Link:
        """Link h = log sigmoid(z), so that the failure probability is q = sigmoid(z)."""
        return Link(("log_sigmoid",) * self.n_outputs)

    def at(self, h: np.ndarray) -> NegativeBinomialLaw:
        """Return the law of t at natural parameters h (n, T)."""
        return NegativeBinomialLaw(self.natural(h), self._successes, self.name)

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as a float64 array (n, T) if all are counts."""
        return checks.labels_in_support(checks.label_array(y, n, self.n_outputs), np.inf, self.name)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return sum_a log Gamma(y_a + r) - log Gamma(r) - log(y_a!) + y_a h_a + r log(1 - e^h_a), shape (n,)."""
        h, labels = double(self.at(h).h), self.check_labels(y, len(h))
        r = self._successes
        if r == 1:
            terms = log_success(h) + labels * h
        else:
            terms = where_moderate(
                labels + r <= MODERATE, lambda: _plain_log_mass(h, labels, r), lambda: failure_log_mass(h, labels, r)
            )
        return terms.sum(axis=1)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return counts, shape (n_draws, n, T)."""
        generator = arguments.generator(rng)
        law, shape = self.at(h), (positive_integer("n_draws", n_draws),)
        return np.stack([law.counts(generator, row, shape, 1) for row in range(len(law.h))], axis=1)


@dataclass(frozen=True)
class NegativeBinomial(_FailureFamily):
    """T independent numbers of failures before r successes, h = log q < 0: t(y) = y, F(h) = -r sum_a log(1 - e^h_a).

    Parameters
    ----------
    n_successes : float
        Number of successes r > 0 of every output, not necessarily whole; q is the probability of a failure.
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Link: h = log sigmoid(z), q = sigmoid(z). Draws: the mean alone needs the sum of labels only, which is negative binomial with
    r n_draws successes; the second moment needs all labels, in slabs of bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> NegativeBinomial(3.0).mean(np.log([[0.5]]))
    array([[3.]])
    """

    name: ClassVar[str] = "negative_binomial"
    n_successes: float
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_successes", positive_number("n_successes", self.n_successes))
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))

    @property
    def _successes(self) -> float:
        return self.n_successes

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {**super().parameters(), "n_successes": self.n_successes}


@dataclass(frozen=True)
class Geometric(_FailureFamily):
    """T independent numbers of failures before the first success, h = log q < 0: t(y) = y, F(h) = -sum_a log(1 - e^h_a).

    Parameters
    ----------
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Link and draws: as for `NegativeBinomial` with one success.

    Examples
    --------
    >>> import numpy as np
    >>> Geometric().mean(np.log([[0.5]]))
    array([[1.]])
    """

    name: ClassVar[str] = "geometric"
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))
