"""Families of T independent scalar outputs: Bernoulli, Binomial, Poisson.

The cumulants of t are those of the single outputs, so a moment of u.t is a sum over outputs plus a sum over pairs. Both sums are
arranged to hold non-negative terms only, which keeps their relative accuracy at any rate.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, gammaln

from fisherstats.core.arrays import as_array, double
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import families as checks
from fisherstats.core.validation.arguments import generator, positive_integer
from fisherstats.engines.primitives import pair_sum, weighted_mean
from fisherstats.models.families import samplers
from fisherstats.models.families.base import Draw, Family, Law, RowProducts
from fisherstats.models.families.deviance import MODERATE, binomial_log_mass, poisson_log_mass, where_moderate
from fisherstats.models.families.draws import CountHeads, draw_counts, independent_scheme

__all__ = ["Bernoulli", "Binomial", "BinomialLaw", "IndependentLaw", "Poisson", "PoissonLaw"]

# 1 - 6 p (1 - p) = 2 p (1 - p) (cosh h - 2) vanishes at |h| = arccosh 2, given here as a sum of two floats.
ZERO_OF_FOURTH_CUMULANT = (1.3169578969248168, -8.682250844852022e-17)


class IndependentLaw(Law):
    """Law of T independent scalar statistics; a subclass gives the moments of one, each of shape (n, T)."""

    def __init__(self, h: np.ndarray) -> None:
        self.h = h

    @cached_property
    @abstractmethod
    def variance(self) -> np.ndarray:
        """Second cumulant of each output."""

    @cached_property
    @abstractmethod
    def third_cumulant(self) -> np.ndarray:
        """Third cumulant of each output."""

    @cached_property
    @abstractmethod
    def fourth_cumulant(self) -> np.ndarray:
        """Fourth cumulant of each output."""

    @cached_property
    @abstractmethod
    def fourth_central(self) -> np.ndarray:
        """Fourth central moment K of each output."""

    @cached_property
    @abstractmethod
    def variance_of_square(self) -> np.ndarray:
        """M = K - I^2 = Var(delta^2) of each output, without that subtraction."""

    @abstractmethod
    def _heads(self) -> CountHeads:
        """Return the counted outcomes of the draws, in float64."""

    def information(self) -> np.ndarray:
        """Return I(h) = diag(variance), shape (n, T, T)."""
        return _diagonal_tensor(self.variance, 2)

    def own_diagonal(self) -> np.ndarray:
        """Return the variances, shape (n, T)."""
        return self.variance

    def own_square_variance(self) -> np.ndarray:
        """Return M_a, shape (n, T)."""
        return self.variance_of_square

    def own_products(self) -> RowProducts:
        """Return the variances and no rows."""
        return self.variance[:, None, :][:, :0], self.own_diagonal()

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return I(h) z, shape (n, T, k)."""
        return self.variance[:, :, None] * z

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return Var(u.t) = sum_a u_a^2 I_a, shape (n, k)."""
        return weighted_mean(self.variance, u * u)

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return I^(1/2) u, shape (n, T, k)."""
        return np.sqrt(self.variance)[:, :, None] * u

    def fourth_moment(self, u: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^4] = sum_a u_a^4 K_a + 6 sum_{a<b} z_a z_b, with z_a = u_a^2 I_a."""
        square = u * u
        pairs = pair_sum(self.variance[:, :, None] * square)
        return weighted_mean(self.fourth_central, square * square) + 6 * pairs

    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return M(u,u,u,u) = sum_a u_a^4 M_a + 4 sum_{a<b} z_a z_b, with z_a = u_a^2 I_a."""
        square = u * u
        pairs = pair_sum(self.variance[:, :, None] * square)
        return weighted_mean(self.variance_of_square, square * square) + 4 * pairs

    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^2 (s.delta)] = sum_a u_a^2 s_a kappa3_a, shape (n, k)."""
        return weighted_mean(self.third_cumulant, u * u * s) + 0.0  # + 0.0 turns -0.0 into 0.0

    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return M(u,v,u,v) = sum_a u_a^2 v_a^2 M_a + sum_{a<b} (u_a v_b + u_b v_a)^2 I_a I_b, shape (n, k, m).

        Notes
        -----
        Cost T^2 n k m / 2: each pair of outputs is one square, so that the result can neither cancel nor be negative.
        """
        one_output = self.variance_of_square[:, :, None] * (u * u)
        total: np.ndarray = np.matmul(one_output.transpose(0, 2, 1), v * v)
        for b in range(1, u.shape[1]):
            for a in range(b):
                cross = u[:, a, :, None] * v[:, b, None, :] + u[:, b, :, None] * v[:, a, None, :]
                cross *= cross
                total += (self.variance[:, a] * self.variance[:, b])[:, None, None] * cross
        return total

    def quadratic_mean(self, a: np.ndarray) -> np.ndarray:
        """Return tr(a I) = sum_a a_aa I_a, shape (n,) or (n, g)."""
        diagonal = np.diagonal(a, axis1=-2, axis2=-1)
        return (diagonal * _per_group(self.variance, a)).sum(axis=-1)

    def quadratic_variance(self, a: np.ndarray) -> np.ndarray:
        """Return Var(delta' a delta) = sum_a a_aa^2 M_a + 2 sum_{a != b} a_ab^2 I_a I_b, shape (n,) or (n, g)."""
        squares = a * a
        own = np.diagonal(squares, axis1=-2, axis2=-1)
        variance = _per_group(self.variance, a)
        one_output = (own * _per_group(self.variance_of_square, a)).sum(axis=-1)
        outputs = np.arange(a.shape[-1])
        squares[..., outputs, outputs] = 0
        pairs = (np.matmul(squares, variance[..., None])[..., 0] * variance).sum(axis=-1)
        return one_output + 2 * pairs

    def quadratic_third_moment(self, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(delta' a delta)(s.delta)] = sum_a a_aa s_a kappa3_a, shape (n,) or (n, g)."""
        diagonal = np.diagonal(a, axis1=-2, axis2=-1)
        return (diagonal * s * _per_group(self.third_cumulant, a)).sum(axis=-1) + 0.0

    def cumulant(self, order: int) -> np.ndarray:
        """Return the cumulant tensor of t, non-zero only on its diagonal, shape (n, T, ..., T)."""
        order = checks.cumulant_order(order)
        if order == 1:
            return self.mean
        return _diagonal_tensor((self.variance, self.third_cumulant, self.fourth_cumulant)[order - 2], order)

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input, see `draws.draw_counts`."""
        return draw_counts(rng, self._heads(), n_draws, second_moment, first_input, self.h.dtype)


class BinomialLaw(IndependentLaw):
    """Binomial counts of n_trials with logit h; n_trials = 1 is the Bernoulli law.

    With v = p (1 - p) = expit(h) expit(-h) and 1 - 2p = -tanh(h/2), nothing below subtracts nearly equal numbers.
    """

    def __init__(self, h: np.ndarray, n_trials: int) -> None:
        super().__init__(h)
        self.n_trials = n_trials

    @cached_property
    def _bernoulli_variance(self) -> np.ndarray:
        return expit(self.h) * expit(-self.h)

    @cached_property
    def _tanh_square(self) -> np.ndarray:
        return np.tanh(self.h / 2) ** 2

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean n p, shape (n, T)."""
        return self.n_trials * expit(self.h)

    @cached_property
    def variance(self) -> np.ndarray:
        """Variance n v."""
        return self.n_trials * self._bernoulli_variance

    @cached_property
    def third_cumulant(self) -> np.ndarray:
        """Third cumulant n v (1 - 2p) = -n v tanh(h/2)."""
        return self.variance * np.tanh(-self.h / 2) + 0.0

    @cached_property
    def fourth_cumulant(self) -> np.ndarray:
        """Fourth cumulant n v (1 - 6v), with 1 - 6v = 4 v sinh((|h| - h0)/2) sinh((|h| + h0)/2) near its zero h0."""
        size = np.abs(self.h)
        near = np.clip(size, 0.75, 2.0)
        high, low = (size.dtype.type(part) for part in ZERO_OF_FOURTH_CUMULANT)
        if size.dtype == np.float32:
            low = np.float32(ZERO_OF_FOURTH_CUMULANT[0] - float(high))
        factor = 4 * np.sinh(((near - high) - low) / 2) * np.sinh((near + high) / 2)
        v = self._bernoulli_variance
        return self.variance * np.where(near == size, factor * v, 1 - 6 * v)

    @cached_property
    def fourth_central(self) -> np.ndarray:
        """K = n v (tanh^2(h/2) + (3n - 2) v)."""
        return self.variance * (self._tanh_square + (3 * self.n_trials - 2) * self._bernoulli_variance)

    @cached_property
    def variance_of_square(self) -> np.ndarray:
        """M = n v (tanh^2(h/2) + 2 (n - 1) v); 0 for a Bernoulli output at h = 0."""
        return self.variance * (self._tanh_square + 2 * (self.n_trials - 1) * self._bernoulli_variance)

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return y - n p, taken as n (1 - p) - (n - y) where p > 1/2."""
        n = self.n_trials
        delta: np.ndarray = np.where(self.h <= 0, y - n * expit(self.h), n * expit(-self.h) - (n - y))
        return delta.astype(self.h.dtype)

    def _heads(self) -> CountHeads:
        h = self.h.astype(np.float64)
        rarer = expit(-np.abs(h))
        return CountHeads(rarer, np.where(h <= 0, 1.0, -1.0), self.n_trials)


class PoissonLaw(IndependentLaw):
    """Poisson counts with log rate h: every cumulant is the rate."""

    @cached_property
    def mean(self) -> np.ndarray:
        """Rate e^h, shape (n, T)."""
        return np.exp(self.h)

    @cached_property
    def variance(self) -> np.ndarray:
        """Rate."""
        return self.mean

    @cached_property
    def third_cumulant(self) -> np.ndarray:
        """Rate."""
        return self.mean

    @cached_property
    def fourth_cumulant(self) -> np.ndarray:
        """Rate."""
        return self.mean

    @cached_property
    def fourth_central(self) -> np.ndarray:
        """K = rate + 3 rate^2."""
        return self.mean * (1 + 3 * self.mean)

    @cached_property
    def variance_of_square(self) -> np.ndarray:
        """M = rate + 2 rate^2."""
        return self.mean * (1 + 2 * self.mean)

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return y - rate."""
        return (y - self.mean).astype(self.h.dtype)

    def _heads(self) -> CountHeads:
        rate = np.exp(self.h.astype(np.float64))
        return CountHeads(rate, np.ones_like(rate), None)


class _IndependentFamily(Family):
    """Common base of the families of independent counts."""

    @property
    def _trials(self) -> int | None:
        return None

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {"name": self.name, "n_outputs": self.n_outputs}

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as a float64 array (n, T) if all are counts in the support."""
        largest = np.inf if self._trials is None else self._trials
        return checks.labels_in_support(checks.label_array(y, n, self.n_outputs), largest, self.name)

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) = y as floating-point numbers."""
        y = as_array(y)
        return y if y.dtype.kind == "f" else y.astype(np.float64)

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        return independent_scheme(self.n_outputs, self._trials, second_moment, n_draws)


@dataclass(frozen=True)
class Bernoulli(_IndependentFamily):
    """T independent binary outputs with logits h: p = 1 / (1 + exp(-h)), t(y) = y, F(h) = sum_a log(1 + e^h_a).

    Parameters
    ----------
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Draws: the mean alone needs the sum of labels only, one output one count, so the cost does not grow with n_draws.
    The second moment of several outputs needs the counts of the 2^T joint patterns if these are fewer than n_draws
    (and at most 2^22), else all labels, in slabs of bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> Bernoulli().information(np.array([[0.0]]))
    array([[[0.25]]])
    """

    name: ClassVar[str] = "bernoulli"
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))

    @property
    def _trials(self) -> int:
        return 1

    def at(self, h: np.ndarray) -> BinomialLaw:
        """Return the law of t at logits h (n, T)."""
        return BinomialLaw(checks.natural_parameters(h, self.n_outputs), 1)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return sum_a y_a log p_a + (1 - y_a) log(1 - p_a), shape (n,)."""
        return _binomial_log_prob(checks.natural_parameters(h, self.n_outputs), self.check_labels(y, len(h)), 1)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return 0/1 labels, shape (n_draws, n, T)."""
        p = expit(checks.natural_parameters(h, self.n_outputs).astype(np.float64))
        uniform = generator(rng).random((positive_integer("n_draws", n_draws), *p.shape))
        return (uniform < p).astype(np.int64)


@dataclass(frozen=True)
class Binomial(_IndependentFamily):
    """T independent counts of successes in n_trials with logits h: t(y) = y, F(h) = n sum_a log(1 + e^h_a).

    Parameters
    ----------
    n_trials : int
        Number of trials of every output.
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Draws: as for `Poisson`, with a support of at most n_trials + 1 counts per output.

    Examples
    --------
    >>> import numpy as np
    >>> Binomial(8).mean(np.array([[0.0]]))
    array([[4.]])
    """

    name: ClassVar[str] = "binomial"
    n_trials: int
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_trials", positive_integer("n_trials", self.n_trials))
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))

    @property
    def _trials(self) -> int:
        return self.n_trials

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {**super().parameters(), "n_trials": self.n_trials}

    def at(self, h: np.ndarray) -> BinomialLaw:
        """Return the law of t at logits h (n, T)."""
        return BinomialLaw(checks.natural_parameters(h, self.n_outputs), self.n_trials)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return the log mass of one vector of counts per input, shape (n,)."""
        labels = self.check_labels(y, len(h))
        return _binomial_log_prob(checks.natural_parameters(h, self.n_outputs), labels, self.n_trials)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return counts, shape (n_draws, n, T)."""
        h = checks.natural_parameters(h, self.n_outputs).astype(np.float64)
        # The rarer outcome is counted, because 1 - p is inaccurate for a float64 p near 1.
        p = np.broadcast_to(expit(-np.abs(h)), (positive_integer("n_draws", n_draws), *h.shape))
        rarer = samplers.binomial(generator(rng), self.n_trials, p)
        return np.where(h <= 0, rarer, self.n_trials - rarer)


@dataclass(frozen=True)
class Poisson(_IndependentFamily):
    """T independent counts with log rates h: t(y) = y, F(h) = sum_a e^h_a.

    Parameters
    ----------
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Draws: the mean alone needs the sum of labels only. The second moment needs the counts over the support, cut where
    either tail holds less than e^-50, and for several outputs over the joint patterns of their supports (at most 2^22),
    if these are fewer than n_draws: the cost then grows with the spread of y. Else all labels are drawn, in slabs of
    bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> Poisson().mean(np.array([[0.0]]))
    array([[1.]])
    """

    name: ClassVar[str] = "poisson"
    bounded: ClassVar[bool] = False
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))

    def at(self, h: np.ndarray) -> PoissonLaw:
        """Return the law of t at log rates h (n, T)."""
        h = checks.natural_parameters(h, self.n_outputs)
        self.check_domain(h)
        return PoissonLaw(h)

    def check_domain(self, h: np.ndarray, first_input: int = 0) -> None:
        """Refuse log rates whose fourth moment is past the range of the floating-point type."""
        checks.poisson_exponent(h, first_input)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return sum_a y_a h_a - e^h_a - log(y_a!), shape (n,)."""
        h, labels = double(self.at(h).h), self.check_labels(y, len(h))
        terms = where_moderate(
            (labels <= MODERATE) & (h <= math.log(MODERATE)),
            lambda: labels * h - np.exp(h) - gammaln(labels + 1),
            lambda: poisson_log_mass(h, labels),
        )
        return terms.sum(axis=1)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return counts, shape (n_draws, n, T)."""
        rate = np.exp(self.at(h).h.astype(np.float64))
        checks.sampler_range(1, rate, 0, "rate")
        return samplers.poisson(generator(rng), np.broadcast_to(rate, (positive_integer("n_draws", n_draws), *rate.shape)))


def _binomial_log_prob(h: np.ndarray, y: np.ndarray, n_trials: int) -> np.ndarray:
    """Return log C(n, y) + y log p + (n - y) log(1 - p), summed over outputs."""
    return binomial_log_mass(double(h), y, n_trials).sum(axis=1)


def _diagonal_tensor(values: np.ndarray, order: int) -> np.ndarray:
    """Return the (n, T, ..., T) tensor of the given order with `values` (n, T) on its diagonal."""
    n, outputs = values.shape
    tensor = np.zeros_like(values, shape=(n, *(outputs,) * order))
    diagonal: tuple[Any, ...] = (slice(None), *[np.arange(outputs)] * order)
    tensor[diagonal] = values
    return tensor


def _per_group(values: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Return `values` (n, T) ready to broadcast with a (n, T, T) or (n, g, T, T)."""
    return values if a.ndim == 3 else values[:, None, :]
