"""Families of independent positive outputs with h < 0: Exponential, Gamma, Laplace, Weibull, InverseGaussian.

Four of them have a Gamma-distributed statistic t(y) of rate -h: y itself, the distance from a known location, or a power of y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import gammaln, xlogy

from fisherstats.core.arrays import double
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import arguments
from fisherstats.core.validation import families as checks
from fisherstats.core.validation.arguments import positive_integer, positive_number
from fisherstats.models.families import samplers
from fisherstats.models.families.deviance import MODERATE, gamma_log_density, where_moderate
from fisherstats.models.families.double_double import two_product, two_sum
from fisherstats.models.families.independent_draws import HeadsFamily, SummedLaw

__all__ = ["Exponential", "Gamma", "GammaLaw", "InverseGaussian", "InverseGaussianLaw", "Laplace", "Weibull"]


class GammaLaw(SummedLaw):
    """T independent Gamma statistics of known shape k and rate -h: every cumulant is (m - 1)! k / (-h)^m."""

    def __init__(self, h: np.ndarray, shape: float, family: str) -> None:
        super().__init__(h)
        self.shape = shape
        with np.errstate(over="ignore", under="ignore"):
            checks.moment_range(h, self.fourth_central, family)

    @cached_property
    def scale(self) -> np.ndarray:
        """Scale b = -1 / h, shape (n, T)."""
        return -1 / self.h

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean k b, shape (n, T)."""
        return self.shape * self.scale

    @cached_property
    def variance(self) -> np.ndarray:
        """Variance k b^2."""
        return self.shape * self.scale**2

    @cached_property
    def third_cumulant(self) -> np.ndarray:
        """Third cumulant 2 k b^3."""
        return 2 * self.shape * self.scale**3

    @cached_property
    def fourth_cumulant(self) -> np.ndarray:
        """Fourth cumulant 6 k b^4."""
        return 6 * self.shape * self.scale**4

    @cached_property
    def fourth_central(self) -> np.ndarray:
        """K = 3 k (k + 2) b^4."""
        return 3 * self.shape * (self.shape + 2) * self.scale**4

    @cached_property
    def variance_of_square(self) -> np.ndarray:
        """M = 2 k (k + 3) b^4."""
        return 2 * self.shape * (self.shape + 3) * self.scale**4

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) - k b for the value t(y) of the statistic."""
        return (y - self.mean).astype(self.h.dtype)

    def sum_residual(self, rng: np.random.Generator, n_draws: int, first_input: int) -> np.ndarray:
        """Return (1/N) sum_k delta_k: the sum is Gamma(N k)."""
        total = n_draws * self.shape
        return samplers.centred_gamma(rng, np.full(self.h.shape, total)) / n_draws * self.scale

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta of `count` labels of one input, shape (count, T)."""
        return samplers.centred_gamma(rng, np.full((count, self.h.shape[1]), self.shape)) * self.scale[row]


class TransformedGammaLaw(GammaLaw):
    """Gamma law of a statistic t(y) that is not the label itself."""

    def __init__(self, h: np.ndarray, family: HeadsFamily) -> None:
        super().__init__(h, 1.0, family.name)
        self.family = family

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) - b."""
        return super().residual(self.family.statistic(y))


class InverseGaussianLaw(SummedLaw):
    """T independent inverse Gaussian labels of known shape lambda, with mean mu = sqrt(lambda / (-2h))."""

    def __init__(self, h: np.ndarray, shape: float) -> None:
        super().__init__(h)
        self.shape = shape
        with np.errstate(over="ignore", under="ignore"):
            checks.moment_range(h, self.fourth_central, "inverse_gaussian")

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean mu, shape (n, T)."""
        return math.sqrt(self.shape) / np.sqrt(-2 * self.h)

    @cached_property
    def _spread(self) -> np.ndarray:
        """Squared coefficient of variation phi = mu / lambda."""
        return self.mean / self.shape

    @cached_property
    def variance(self) -> np.ndarray:
        """Variance mu^2 phi."""
        return self.mean**2 * self._spread

    @cached_property
    def third_cumulant(self) -> np.ndarray:
        """Third cumulant 3 mu^3 phi^2."""
        return 3 * self.mean * self._spread * self.variance

    @cached_property
    def fourth_cumulant(self) -> np.ndarray:
        """Fourth cumulant 15 mu^4 phi^3."""
        return 15 * self.variance**2 * self._spread

    @cached_property
    def fourth_central(self) -> np.ndarray:
        """K = mu^4 phi^2 (3 + 15 phi)."""
        return self.variance**2 * (3 + 15 * self._spread)

    @cached_property
    def variance_of_square(self) -> np.ndarray:
        """M = mu^4 phi^2 (2 + 15 phi)."""
        return self.variance**2 * (2 + 15 * self._spread)

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return y - mu."""
        return (y - self.mean).astype(self.h.dtype)

    def sum_residual(self, rng: np.random.Generator, n_draws: int, first_input: int) -> np.ndarray:
        """Return (1/N) sum_k delta_k: the sum is inverse Gaussian with mean N mu and shape N^2 lambda."""
        rows = [_relative_residuals(rng, spread / n_draws) for spread in self._spread.astype(np.float64)]
        return self.mean * np.stack(rows)

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta of `count` labels of one input, shape (count, T)."""
        spread = np.broadcast_to(self._spread[row], (count, self.h.shape[1]))
        return self.mean[row] * _relative_residuals(rng, spread)


def _relative_residuals(rng: np.random.Generator, spread: np.ndarray) -> np.ndarray:
    """Return y / mu - 1 for inverse Gaussian y with squared coefficients of variation `spread`."""
    excess, below = _excesses(rng, spread)
    return np.where(below, -excess / (1 + excess), excess)


def _excesses(rng: np.random.Generator, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (excess, below) with y / mu = 1 + excess, or its reciprocal where below, for inverse Gaussian y.

    Michael, Schucany and Haas (1976): the two values of y with the same lambda (y - mu)^2 / (mu^2 y), a chi^2(1) variable, are
    mu x and mu / x, taken with probabilities 1 / (1 + x) and x / (1 + x). Their x = 1 + a - sqrt(2a + a^2), a = chi^2 phi / 2,
    cancels for a large a, so 1/x - 1 is computed instead.
    """
    a = rng.chisquare(1, spread.shape) * spread.astype(np.float64) / 2
    excess = a + np.sqrt(a) * np.sqrt(2 + a)
    below = rng.random(spread.shape) * (2 + excess) <= 1 + excess
    return excess, below


@dataclass(frozen=True)
class Exponential(HeadsFamily):
    """T independent exponential outputs with rates -h, h < 0: t(y) = y, F(h) = -sum_a log(-h_a).

    Parameters
    ----------
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Link: h = -e^z. Draws: the mean alone needs the sum of labels only, which is Gamma(n_draws); the second moment needs all
    labels, in slabs of bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> Exponential().mean(np.array([[-0.5]]))
    array([[2.]])
    """

    name: ClassVar[str] = "exponential"
    support: ClassVar[str] = "at least 0"
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))

    def at(self, h: np.ndarray) -> GammaLaw:
        """Return the law of t at natural parameters h (n, T)."""
        return GammaLaw(self.natural(h), 1.0, self.name)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return sum_a log(-h_a) + h_a y_a, shape (n,)."""
        return _summed_log_prob(self.natural(h), self.check_labels(y, len(h)), 1.0)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return labels, shape (n_draws, n, T)."""
        generator = arguments.generator(rng)
        return _scaled_gamma(generator, self.at(h), n_draws)


@dataclass(frozen=True)
class Gamma(HeadsFamily):
    """T independent Gamma outputs of known shape k and rates -h, h < 0: t(y) = y, F(h) = -k sum_a log(-h_a).

    Parameters
    ----------
    shape : float
        Shape k > 0 of every output.
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Link: h = -e^z. Draws: the mean alone needs the sum of labels only, which is Gamma(k n_draws); the second moment needs all
    labels, in slabs of bounded memory. `sample` refuses shapes so small that labels are below the range of floats.

    Examples
    --------
    >>> import numpy as np
    >>> Gamma(3.0).mean(np.array([[-0.5]]))
    array([[6.]])
    """

    name: ClassVar[str] = "gamma"
    support: ClassVar[str] = "above 0"
    shape: float
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", positive_number("shape", self.shape))
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {**super().parameters(), "shape": self.shape}

    def at(self, h: np.ndarray) -> GammaLaw:
        """Return the law of t at natural parameters h (n, T)."""
        return GammaLaw(self.natural(h), self.shape, self.name)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return sum_a k log(-h_a) + h_a y_a + (k - 1) log y_a - log Gamma(k), shape (n,)."""
        return _summed_log_prob(self.natural(h), self.check_labels(y, len(h)), self.shape)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return labels, shape (n_draws, n, T)."""
        generator = arguments.generator(rng)
        return checks.representable_labels(_scaled_gamma(generator, self.at(h), n_draws), self.name)


@dataclass(frozen=True)
class Laplace(HeadsFamily):
    """T independent Laplace outputs of known location m and scales -1/h, h < 0: t(y) = abs(y - m), F(h) = -sum_a log(-h_a).

    Parameters
    ----------
    location : float, default 0
        Location m of every output.
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Link: h = -e^z. Draws: the mean alone needs the sum of abs(y - m) only, which is Gamma(n_draws); the second moment needs all
    labels, in slabs of bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> Laplace().mean(np.array([[-0.5]]))
    array([[2.]])
    """

    name: ClassVar[str] = "laplace"
    support: ClassVar[str] = "finite"
    location: float = 0.0
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "location", checks.finite_number("location", self.location))
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {**super().parameters(), "location": self.location}

    def at(self, h: np.ndarray) -> TransformedGammaLaw:
        """Return the law of t at natural parameters h (n, T)."""
        return TransformedGammaLaw(self.natural(h), self)

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) = abs(y - m)."""
        return np.abs(super().statistic(y) - self.location)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return sum_a log(-h_a / 2) + h_a * abs(y_a - m), shape (n,)."""
        distance = self.statistic(self.check_labels(y, len(h)))
        return _summed_log_prob(self.natural(h), distance, 1.0) - self.n_outputs * math.log(2)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return labels, shape (n_draws, n, T)."""
        generator = arguments.generator(rng)
        distance = _scaled_gamma(generator, self.at(h), n_draws)
        return self.location + np.where(generator.random(distance.shape) < 0.5, -distance, distance)


@dataclass(frozen=True)
class Weibull(HeadsFamily):
    """T independent Weibull outputs of known shape c and scales (-1/h)^(1/c), h < 0: t(y) = y^c, F(h) = -sum_a log(-h_a).

    Parameters
    ----------
    shape : float
        Shape c > 0 of every output.
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Link: h = -e^z. Draws: the mean alone needs the sum of y^c only, which is Gamma(n_draws); the second moment needs all
    labels, in slabs of bounded memory. `sample` refuses labels past the range of floats, which a tiny shape gives.

    Examples
    --------
    >>> import numpy as np
    >>> Weibull(2.0).mean(np.array([[-0.5]]))
    array([[2.]])
    """

    name: ClassVar[str] = "weibull"
    support: ClassVar[str] = "above 0"
    shape: float
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", positive_number("shape", self.shape))
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {**super().parameters(), "shape": self.shape}

    def at(self, h: np.ndarray) -> TransformedGammaLaw:
        """Return the law of t at natural parameters h (n, T)."""
        return TransformedGammaLaw(self.natural(h), self)

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) = y^c."""
        return super().statistic(y) ** self.shape

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return sum_a log(-h_a) + h_a y_a^c + log c + (c - 1) log y_a, shape (n,)."""
        h, labels = self.natural(h), self.check_labels(y, len(h))
        jacobian = math.log(self.shape) + (self.shape - 1) * np.log(labels)
        return _summed_log_prob(h, self.statistic(labels), 1.0) + jacobian.sum(axis=1)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return labels, shape (n_draws, n, T)."""
        generator = arguments.generator(rng)
        with np.errstate(over="ignore", under="ignore"):  # rejected by value in the next line
            labels = _scaled_gamma(generator, self.at(h), n_draws) ** (1 / self.shape)
        return checks.representable_labels(labels, self.name)


@dataclass(frozen=True)
class InverseGaussian(HeadsFamily):
    """T independent inverse Gaussian outputs of known shape lambda: t(y) = y, F(h) = -sum_a sqrt(-2 lambda h_a), h < 0.

    Parameters
    ----------
    shape : float
        Shape lambda > 0 of every output; the mean is mu = sqrt(lambda / (-2h)) and the variance mu^3 / lambda.
    n_outputs : int, default 1
        Number of outputs T.

    Notes
    -----
    Link: h = -e^z. Draws: the mean alone needs the sum of labels only, which is inverse Gaussian again; the second moment
    needs all labels, in slabs of bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> InverseGaussian(4.0).mean(np.array([[-0.5]]))
    array([[2.]])
    """

    name: ClassVar[str] = "inverse_gaussian"
    support: ClassVar[str] = "above 0"
    shape: float
    n_outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", positive_number("shape", self.shape))
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {**super().parameters(), "shape": self.shape}

    def at(self, h: np.ndarray) -> InverseGaussianLaw:
        """Return the law of t at natural parameters h (n, T)."""
        return InverseGaussianLaw(self.natural(h), self.shape)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return sum_a log(lambda / (2 pi y_a^3)) / 2 - lambda (y_a - mu_a)^2 / (2 mu_a^2 y_a), shape (n,)."""
        h, labels = double(self.at(h).h), self.check_labels(y, len(h))
        terms = math.log(self.shape / (2 * math.pi)) - 3 * np.log(labels) - self._squares(h, labels)
        return terms.sum(axis=1) / 2

    def _squares(self, h: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return lambda (y - mu)^2 / (mu^2 y)."""
        mean = math.sqrt(self.shape) / np.sqrt(-2 * h)
        ratio = y / mean

        def exact() -> np.ndarray:
            # y / mu - 1 = (y^2 / mu^2 - 1) / (y / mu + 1), with lambda / mu^2 = -2h
            square, low = two_product(y, y)
            scaled, error = two_product(-2 * h, square)
            apart, other = two_sum(scaled, np.zeros_like(y) - self.shape)
            relative = (apart + (other + error - 2 * h * low)) / self.shape / (ratio + 1)
            return self.shape * relative**2 / y

        moderate = (self.shape <= MODERATE * mean) | (np.abs(ratio - 1) > 0.5)
        return where_moderate(moderate, lambda: self.shape * (ratio - 1) ** 2 / y, exact)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return labels, shape (n_draws, n, T)."""
        generator = arguments.generator(rng)
        law = self.at(np.asarray(h, dtype=np.float64))
        spread = np.broadcast_to(law.mean / self.shape, (positive_integer("n_draws", n_draws), *law.h.shape))
        excess, below = _excesses(generator, spread)
        labels: np.ndarray = law.mean * np.where(below, 1 / (1 + excess), 1 + excess)
        return checks.representable_labels(labels, self.name)


def _summed_log_prob(h: np.ndarray, t: np.ndarray, shape: float) -> np.ndarray:
    """Return the log density of Gamma statistics t at rates -h, summed over outputs."""
    h = double(h)
    parts = [shape * np.log(-h), h * t, xlogy(shape - 1, t)]
    terms = parts[0] + parts[1] + parts[2] - gammaln(shape)
    if shape != 1:
        moderate = (shape <= MODERATE) & (np.abs(parts[0]) + np.abs(parts[1]) + np.abs(parts[2]) <= 2 * MODERATE)
        terms = where_moderate(moderate, lambda: terms, lambda: gamma_log_density(shape, -h, t) - np.log(t))
    return terms.sum(axis=1)


def _scaled_gamma(rng: np.random.Generator, law: GammaLaw, n_draws: int) -> np.ndarray:
    """Return values of the Gamma statistic, shape (n_draws, n, T)."""
    drawn = rng.standard_gamma(law.shape, (positive_integer("n_draws", n_draws), *law.h.shape))
    return drawn * law.scale.astype(np.float64)
