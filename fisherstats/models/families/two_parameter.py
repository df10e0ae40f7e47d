"""Families of one label with two parameters: a Gaussian of unknown mean and variance, a Gamma of unknown shape and rate.

Their two statistics are nearly dependent for large parameters. Both are written in an uncorrelated basis in which no cumulant
suffers from cancellation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import gammaln, psi

from fisherstats.core.arrays import double, like
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import arguments
from fisherstats.core.validation import families as checks
from fisherstats.core.validation.arguments import positive_integer
from fisherstats.models.families import samplers
from fisherstats.models.families.base import Draw, Family
from fisherstats.models.families.deviance import MODERATE, gamma_log_density, where_moderate
from fisherstats.models.families.double_double import two_product, two_sum
from fisherstats.models.families.draw_blocks import draw_labels
from fisherstats.models.families.links import Link
from fisherstats.models.families.moments import CumulantMoments, MomentLaw
from fisherstats.models.families.polygamma import leading_power, log_less_psi, polygamma_remainder

__all__ = ["GammaShapeRate", "GammaShapeRateLaw", "GaussianMeanVariance", "GaussianMeanVarianceLaw", "two_index_tensor"]


def two_index_tensor(values: Sequence[Any], other: np.ndarray) -> np.ndarray:
    """Return the symmetric tensors (n, 2, ..., 2) whose entry with m indices at 1 is values[m], a number or (n,).

    They have the precision of `other`, and are on its device.
    """
    order = len(values) - 1
    ones = np.indices((2,) * order).sum(axis=0)
    arrays = [like(np.array([value]), other) if isinstance(value, float) else value for value in values]
    columns = np.stack(np.broadcast_arrays(*arrays), axis=-1)
    return columns[:, ones].astype(other.dtype)


class GaussianMeanVarianceLaw(MomentLaw):
    """Law of (y, y^2) in the basis (z, z^2 - 1), where z = (y - mu) / sigma.

    There u.delta = sigma (u_1 + 2 mu u_2) z + sigma^2 u_2 (z^2 - 1): for |mu| far above sigma a moment loses no more digits than
    rounding u costs the sum in brackets, a relative error of eps |mu| / sigma along the direction of least variance. The basis
    is uncorrelated with variances 1 and 2 and, with e = z^2 - 1, non-zero cumulants kappa3(z, z, e) = 2, kappa3(e, e, e) = 8,
    kappa4(z, z, e, e) = 8, kappa4(e, e, e, e) = 48.
    """

    def __init__(self, h: np.ndarray) -> None:
        with np.errstate(over="ignore", under="ignore"):
            self.variance = -1 / (2 * h[:, 1])
            self.location = h[:, 0] * self.variance
            deviation = np.sqrt(self.variance)
            slope = 2 * self.location * deviation
            own = 60 * self.variance**4
            fourth = np.stack([3 * self.variance**2, 3 * slope**4 + 60 * (slope * self.variance) ** 2 + own], axis=1)
        checks.moment_range(h, fourth, "gaussian_mean_variance")
        coordinates = np.zeros_like(h, shape=(len(h), 2, 2))
        coordinates[:, 0, 0], coordinates[:, 0, 1], coordinates[:, 1, 1] = deviation, slope, self.variance
        constants = ([1.0, 0.0, 2.0], [0.0, 2.0, 0.0, 8.0], [0.0, 0.0, 8.0, 0.0, 48.0])
        tensors = [two_index_tensor(values, h) for values in constants]
        moments = CumulantMoments(*(np.broadcast_to(tensor, (len(h), *tensor.shape[1:])) for tensor in tensors))
        super().__init__(h, moments, coordinates)

    @cached_property
    def mean(self) -> np.ndarray:
        """E[(y, y^2)] = (mu, mu^2 + sigma^2), shape (n, 2)."""
        return np.stack([self.location, self.location**2 + self.variance], axis=1)

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return (y - mu, (y - mu)(y + mu) - sigma^2), shape (n, 2)."""
        deviation = y[:, 0] - self.location
        delta = np.stack([deviation, deviation * (y[:, 0] + self.location) - self.variance], axis=1)
        return delta.astype(self.h.dtype)

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta of `count` labels of one input, shape (count, 2)."""
        z = rng.standard_normal(count)
        return np.stack([z, z * z - 1], axis=1) @ self._exact_coordinates[row]

    @property
    def _exact_coordinates(self) -> np.ndarray:
        return np.asarray(self.coordinates, dtype=np.float64)

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input: from the mean and the scatter of y, or label by label.

        The mean of z is normal, and independently the scatter of z about it is chi^2(N - 1).
        """
        if second_moment:
            return draw_labels(rng, self, n_draws, second_moment)
        checks.draw_count(n_draws)
        mean = np.empty(self.h.shape)
        for row, coordinates in enumerate(self._exact_coordinates):
            z = rng.standard_normal() / math.sqrt(n_draws)
            scatter = rng.chisquare(n_draws - 1) if n_draws > 1 else 0.0
            mean[row] = np.array([z, z * z + (scatter - n_draws) / n_draws]) @ coordinates
        return Draw(mean.astype(self.h.dtype), None)


class GammaShapeRateLaw(MomentLaw):
    """Law of (log y, y) for a Gamma label of shape k and rate beta, in a basis that is uncorrelated.

    With G = beta y and L = log G - psi(k), the basis is E = L - (G - k) / k, of variance psi_1(k) - 1/k, and X = G - k, of
    variance k, both divided by their deviations. For large k, L and X / k agree but for a part of relative size k^(-1/2), which
    is E. Its joint cumulants with X are those of X with powers of log G taken out: kappa(E, X, X) = -1, kappa(E, E, X, X) = 2/k,
    kappa(E, X, X, X) = -4, and 0 for (E, E, X) and (E, E, E, X); kappa_m(E) is psi_(m-1)(k) minus its leading power.
    """

    def __init__(self, h: np.ndarray) -> None:
        k = self.shape = h[:, 0].astype(np.float64)
        self.rate = -h[:, 1].astype(np.float64)
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            e2, e3, e4 = (polygamma_remainder(order, k) for order in (1, 2, 3))
            of_log = leading_power(3, k) + e4 + 3 * (leading_power(1, k) + e2) ** 2
            checks.moment_range(h, np.stack([of_log, 3 * k * (k + 2) / self.rate**4], axis=1), "gamma_shape_rate")
        deviation = np.sqrt(e2)
        coordinates = np.zeros_like(h, shape=(len(h), 2, 2))
        coordinates[:, 0, 0] = deviation
        coordinates[:, 1, 0], coordinates[:, 1, 1] = 1 / np.sqrt(k), np.sqrt(k) / self.rate
        one = np.ones_like(k)
        third = [e3 / deviation**3, 0.0, -1 / (deviation * k), 2 / np.sqrt(k)]
        fourth = [e4 / e2**2, 0.0, 2 / (k * k * e2), -4 / (deviation * k**1.5), 6 / k]
        moments = CumulantMoments(*(two_index_tensor(values, h) for values in ([one, 0.0, 1.0], third, fourth)))
        super().__init__(h, moments, coordinates)

    @cached_property
    def mean(self) -> np.ndarray:
        """E[(log y, y)] = (psi(k) - log beta, k / beta), shape (n, 2)."""
        return np.stack([psi(self.shape) - np.log(self.rate), self.shape / self.rate], axis=1).astype(self.h.dtype)

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return (log y - psi(k) + log beta, y - k / beta), shape (n, 2)."""
        label = y[:, 0]
        delta = np.stack([np.log(label * self.rate) - psi(self.shape), label - self.shape / self.rate], axis=1)
        return delta.astype(self.h.dtype)

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta of `count` labels of one input, shape (count, 2); the logarithm is accurate where y underflows."""
        k = self.shape[row]
        if k >= samplers.LARGE_CONCENTRATION:
            log_ratio = samplers.log_gamma_ratios(rng, np.full(count, k))
            return np.stack(
                [log_ratio + log_less_psi(self.shape[row : row + 1]), k * np.expm1(log_ratio) / self.rate[row]], axis=1
            )
        log_label = samplers.log_gamma_labels(rng, np.full(count, k))
        with np.errstate(under="ignore"):  # then y underflows to 0
            excess = np.exp(log_label) - k
        return np.stack([log_label - psi(k), excess / self.rate[row]], axis=1)

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input, drawn label by label."""
        return draw_labels(rng, self, n_draws, second_moment)


@dataclass(frozen=True)
class GaussianMeanVariance(Family):
    """One Gaussian output of unknown mean mu and variance sigma^2: t(y) = (y, y^2), h = (mu, -1/2) / sigma^2.

    Notes
    -----
    F(h) = -h_1^2 / (4 h_2) - log(-2 h_2) / 2, h_2 < 0; two network outputs, one label column. Link: h_1 = z_1 and
    h_2 = -e^(z_2) / 2, so that the precision is e^(z_2). Draws: the mean alone needs the mean label and the scatter about it;
    the second moment needs all labels, in slabs of bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> GaussianMeanVariance().mean(np.array([[3.0, -0.5]]))
    array([[ 3., 10.]])
    """

    name: ClassVar[str] = "gaussian_mean_variance"
    bounded: ClassVar[bool] = False
    n_label_columns: ClassVar[int] = 1

    @property
    def n_outputs(self) -> int:
        """Number of natural parameters, 2."""
        return 2

    @property
    def link(self) -> Link:
        """Link from the network's outputs to the natural domain."""
        return Link(("identity", "negative_half_exp"))

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {"name": self.name, "n_outputs": 2}

    def at(self, h: np.ndarray) -> GaussianMeanVarianceLaw:
        """Return the law of t at natural parameters h (n, 2)."""
        h = checks.natural_parameters(h, 2)
        checks.natural_domain(h, np.stack([np.isfinite(h[:, 0]), h[:, 1] < 0], axis=1), "below 0", self.name)
        return GaussianMeanVarianceLaw(h)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return the log density of y, shape (n,)."""
        h, label = double(self.at(h).h), self.check_labels(y, len(h))[:, 0]
        slope, precision = h[:, 0], -2 * h[:, 1]
        variance = 1 / precision

        def exact() -> np.ndarray:
            product, low = two_product(precision, label)
            apart, error = two_sum(slope, -product)
            return (apart + (error - low)) ** 2 / precision

        moderate = slope * slope <= MODERATE**2 * precision
        squares = where_moderate(moderate, lambda: (label - slope * variance) ** 2 / variance, exact)
        return -(squares + np.log(2 * math.pi * variance)) / 2

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return labels, shape (n_draws, n, 1)."""
        generator = arguments.generator(rng)
        law = self.at(h)
        z = generator.standard_normal((positive_integer("n_draws", n_draws), len(law.h)))
        labels: np.ndarray = law.location + z * np.sqrt(law.variance)
        return labels[:, :, None]

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as a float64 array (n, 1) if all are finite."""
        return checks.label_array(y, n, 1)

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) = (y, y^2), shape (..., 2)."""
        y = np.asarray(y, dtype=np.float64)
        return np.concatenate([y, y * y], axis=-1)

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        return "labels" if second_moment else "normal_and_wishart"


@dataclass(frozen=True)
class GammaShapeRate(Family):
    """One Gamma output with unknown shape k and rate beta: t(y) = (log y, y), h = (k, -beta), h_1 > 0, h_2 < 0.

    Notes
    -----
    F(h) = log Gamma(h_1) - h_1 log(-h_2), base measure 1 / y; two network outputs, one label column. Link: h_1 = e^(z_1),
    h_2 = -e^(z_2). Draws: all labels, in slabs of bounded memory, from the logarithm of y; `sample` refuses shapes so small that
    labels themselves are below the range of floats.

    Examples
    --------
    >>> import numpy as np
    >>> GammaShapeRate().information(np.array([[1.0, -2.0]]))[0, 1]
    array([0.5 , 0.25])
    """

    name: ClassVar[str] = "gamma_shape_rate"
    bounded: ClassVar[bool] = False
    n_label_columns: ClassVar[int] = 1

    @property
    def n_outputs(self) -> int:
        """Number of natural parameters, 2."""
        return 2

    @property
    def link(self) -> Link:
        """Link from the network's outputs to the natural domain."""
        return Link(("exp", "negative_exp"))

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {"name": self.name, "n_outputs": 2}

    def _natural(self, h: np.ndarray) -> np.ndarray:
        h = checks.natural_parameters(h, 2)
        anything = np.isfinite(h[:, 0])
        checks.natural_domain(h, np.stack([h[:, 0] > 0, anything], axis=1), "above 0", self.name)
        checks.natural_domain(h, np.stack([anything, h[:, 1] < 0], axis=1), "below 0", self.name)
        return h

    def at(self, h: np.ndarray) -> GammaShapeRateLaw:
        """Return the law of t at natural parameters h (n, 2)."""
        return GammaShapeRateLaw(self._natural(h))

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return k log(beta y) - beta y - log Gamma(k) - log y, shape (n,)."""
        h, label = self._natural(h), self.check_labels(y, len(h))[:, 0]
        shape, rate = double(h[:, 0]), -double(h[:, 1])
        scaled, log_label = rate * label, np.log(label)
        power = shape * (np.log(rate) + log_label)
        return where_moderate(
            (shape <= MODERATE) & (np.abs(power) + scaled <= 2 * MODERATE),
            lambda: shape * np.log(scaled) - scaled - gammaln(shape) - log_label,
            lambda: gamma_log_density(shape, rate, label) - log_label,
        )

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return labels, shape (n_draws, n, 1)."""
        generator = arguments.generator(rng)
        h = self._natural(h).astype(np.float64)
        labels = generator.standard_gamma(h[:, 0], (positive_integer("n_draws", n_draws), len(h))) / -h[:, 1]
        return checks.representable_labels(labels[:, :, None], self.name)

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as a float64 array (n, 1) if all are above 0."""
        return checks.labels_within(checks.label_array(y, n, 1), "above 0", self.name)

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) = (log y, y), shape (..., 2)."""
        y = np.asarray(y, dtype=np.float64)
        return np.concatenate([np.log(y), y], axis=-1)

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        return "labels"
