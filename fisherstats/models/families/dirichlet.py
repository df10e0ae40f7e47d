"""The Dirichlet family: proportions of C parts with concentrations h = alpha, t(y) = log y.

Breaking a stick, y_b = v_b (1 - v_1) ... (1 - v_(b-1)), makes the v_b independent Beta(alpha_b, sum of the later alphas)
variables. Then u.t = sum_b u_b log v_b + U_b log(1 - v_b) with U_b = u_(b+1) + ... + u_C: independent pairs, whose variances and
fourth moments add up without the cancellation of sum_b u_b^m psi_(m-1)(alpha_b) - (sum_b u_b)^m psi_(m-1)(alpha_0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import gammaln, logsumexp

from fisherstats.core.arrays import double, identity, like
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import arguments
from fisherstats.core.validation import families as checks
from fisherstats.core.validation.arguments import positive_integer
from fisherstats.models.families import samplers
from fisherstats.models.families.base import Draw, Family
from fisherstats.models.families.block_moments import EqualBlocks
from fisherstats.models.families.deviance import MODERATE, log_deviance, log_gamma_remainder, where_moderate
from fisherstats.models.families.double_double import exact_difference, exact_sum
from fisherstats.models.families.draw_blocks import draw_labels
from fisherstats.models.families.links import Link
from fisherstats.models.families.moments import CumulantMoments, MomentLaw
from fisherstats.models.families.polygamma import leading_power, log_less_psi, polygamma, polygamma_drop, polygamma_remainder
from fisherstats.models.families.two_parameter import two_index_tensor

__all__ = ["Dirichlet", "DirichletLaw"]


def _of_both(order: int, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """Return the cumulants of (log v, log(1 - v)) for v ~ Beta(a, b), by the multiplicity of log(1 - v)."""
    shared = -polygamma(order - 1, a + b)
    return [polygamma_drop(order - 1, a, b), *[shared] * (order - 1), polygamma_drop(order - 1, b, a)]


def _of_ratio(order: int, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """Return the cumulants of (R, S), R = log v - log(1 - v) and S = a log v + b log(1 - v), by the multiplicity of S.

    For large a and b, log v and log(1 - v) are proportional to first order, and S is the remainder of that order. R is a
    difference of two independent logarithms of Gamma variables. The leading powers of the polygamma functions cancel where R
    occurs at most once, and are omitted there.
    """
    remainder_a, remainder_b = polygamma_remainder(order - 1, a), polygamma_remainder(order - 1, b)
    values = []
    for count in range(order + 1):
        ratios = order - count
        of_a, of_b = remainder_a * a**count, remainder_b * b**count
        if ratios > 1:
            of_a = of_a + leading_power(order - 1, a) * a**count
            of_b = of_b + leading_power(order - 1, b) * b**count
        value = of_a + (-1) ** ratios * of_b
        if ratios == 0:
            value = value - polygamma_remainder(order - 1, a + b) * (a + b) ** count
        values.append(value)
    return values


class DirichletLaw(MomentLaw):
    """Law of log y: independent Beta pairs, each in the basis (R, S) if both concentrations exceed 1, else by its logarithms."""

    def __init__(self, h: np.ndarray) -> None:
        self.alpha = h.astype(np.float64)
        n, classes = h.shape
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            fourth = self._own_cumulant(4) + 3 * self._own_cumulant(2) ** 2
        checks.moment_range(h, fourth, "dirichlet")
        a = self.alpha[:, :-1]
        b = np.cumsum(self.alpha[:, ::-1], axis=1)[:, -2::-1]
        large = np.minimum(a, b) > 1
        tensors = []
        for order in (2, 3, 4):
            # Each form is evaluated where it is valid, and at the placeholder 1 elsewhere.
            of_large = _of_ratio(order, *(np.where(large, one, 1).ravel() for one in (a, b)))
            of_small = _of_both(order, *(np.where(large, 1, one).ravel() for one in (a, b)))
            chosen = large.reshape(-1, *(1,) * order)
            tensor = np.where(chosen, two_index_tensor(of_large, a), two_index_tensor(of_small, a))
            tensors.append(tensor.astype(h.dtype))
        # u log v + U log(1 - v) = [(u b - U a) R + (u + U) S] / (a + b)
        total = a + b
        of_own = np.stack([np.where(large, b / total, 1), np.where(large, 1 / total, 0)], axis=2)
        of_later = np.stack([np.where(large, -a / total, 0), np.where(large, 1 / total, 1)], axis=2)
        own, later = (
            like(one, h)[:, None] for one in (np.eye(classes - 1, classes), np.triu(np.ones((classes - 1, classes)), 1))
        )
        coordinates = of_own[..., None] * own + of_later[..., None] * later
        coordinates = coordinates.reshape(n, 2 * (classes - 1), classes).astype(h.dtype)
        super().__init__(h, EqualBlocks(CumulantMoments(*tensors), classes - 1), coordinates)

    @cached_property
    def _others(self) -> np.ndarray:
        """Sum of the other concentrations, shape (n, C)."""
        classes = self.alpha.shape[1]
        return self.alpha @ (1 - identity(classes, self.alpha))

    def _own_cumulant(self, order: int) -> np.ndarray:
        """Return psi_(m-1)(alpha_a) - psi_(m-1)(alpha_0), shape (n, C)."""
        return polygamma_drop(order - 1, self.alpha, self._others)

    @cached_property
    def mean(self) -> np.ndarray:
        """E[log y_a] = psi(alpha_a) - psi(alpha_0), shape (n, C)."""
        return self._own_cumulant(1).astype(self.h.dtype)

    def information(self) -> np.ndarray:
        """Return diag(psi_1(alpha)) - psi_1(alpha_0), shape (n, C, C)."""
        return self.cumulant(2)

    def cumulant(self, order: int) -> np.ndarray:
        """Return the cumulant tensor of t, -psi_(m-1)(alpha_0) off its diagonal, shape (n, C, ..., C)."""
        order = checks.cumulant_order(order)
        if order == 1:
            return self.mean
        n, classes = self.h.shape
        tensor = np.empty_like(self.h, shape=(n, *(classes,) * order))
        tensor[...] = -polygamma(order - 1, self.alpha.sum(axis=1)).reshape(n, *(1,) * order)
        diagonal: tuple[Any, ...] = (slice(None), *[np.arange(classes)] * order)
        tensor[diagonal] = self._own_cumulant(order)
        return tensor

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return log y - E[log y], shape (n, C)."""
        delta: np.ndarray = np.log(y) - self._own_cumulant(1)
        return delta.astype(self.h.dtype)

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta of `count` labels of one input, shape (count, C); logarithms are accurate where y underflows."""
        alpha = np.broadcast_to(self.alpha[row], (count, self.h.shape[1]))
        total = self.alpha[row].sum(keepdims=True)
        if total[0] >= samplers.LARGE_CONCENTRATION:
            ratios = samplers.log_gamma_ratios(rng, alpha)
            of_total = np.log1p(np.expm1(ratios) @ self.alpha[row] / total)
            return ratios - of_total[:, None] + (log_less_psi(self.alpha[row]) - log_less_psi(total))
        logs = samplers.log_gamma_labels(rng, alpha)
        return np.asarray(logs - logsumexp(logs, axis=1, keepdims=True) - self._own_mean[row])

    @cached_property
    def _own_mean(self) -> np.ndarray:
        return self._own_cumulant(1)

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input, drawn label by label."""
        return draw_labels(rng, self, n_draws, second_moment)


def _log_density_of_logs(alpha: np.ndarray, total: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the log density of log y: minus KL of the mean proportions from y times their total, and Stirling remainders.

    Errors from rounding of the total and from labels that sum to 1 only approximately cancel with the excess of their sum.
    """
    whole = np.zeros_like(alpha) + total[:, None]
    apart = exact_difference(y, whole, alpha, np.ones_like(alpha))
    ratio = np.log(y) + np.log(whole) - np.log(alpha)
    high, low = exact_sum(y)
    deviance = log_deviance(alpha, apart, ratio).sum(axis=1) - total * ((high - 1) + low)
    return log_gamma_remainder(total) - log_gamma_remainder(alpha).sum(axis=1) - deviance


@dataclass(frozen=True)
class Dirichlet(Family):
    """Proportions of C parts with concentrations h > 0: t(y) = log y, F(h) = sum_a log Gamma(h_a) - log Gamma(sum_a h_a).

    Parameters
    ----------
    n_classes : int
        Number of parts C, at least 2; for C = 2 the first proportion is Beta(h_1, h_2).

    Notes
    -----
    Base measure prod_a 1 / y_a. Link: h = e^z. Labels are rows of C positive proportions that sum to 1. Draws: all labels, in
    slabs of bounded memory, from the logarithms of y; `sample` refuses concentrations so small that proportions are below the
    range of floats. A moment costs C^2 per direction.

    Examples
    --------
    >>> import numpy as np
    >>> Dirichlet(2).mean(np.ones((1, 2)))
    array([[-1., -1.]])
    """

    name: ClassVar[str] = "dirichlet"
    bounded: ClassVar[bool] = False
    n_classes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_classes", checks.n_classes(self.n_classes))

    @property
    def n_outputs(self) -> int:
        """Number of natural parameters C."""
        return self.n_classes

    @property
    def link(self) -> Link:
        """Link h = e^z."""
        return Link(("exp",) * self.n_classes)

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {"name": self.name, "n_outputs": self.n_outputs, "n_classes": self.n_classes}

    def _natural(self, h: np.ndarray) -> np.ndarray:
        h = checks.natural_parameters(h, self.n_outputs)
        checks.natural_domain(h, h > 0, "above 0", self.name)
        return h

    def at(self, h: np.ndarray) -> DirichletLaw:
        """Return the law of t at concentrations h (n, C)."""
        return DirichletLaw(self._natural(h))

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return log Gamma(alpha_0) + sum_a (alpha_a - 1) log y_a - log Gamma(alpha_a), shape (n,).

        It is the density in the first C - 1 proportions.
        """
        h, labels = self._natural(h), self.check_labels(y, len(h))
        alpha, logs = double(h), np.log(labels)
        total = alpha.sum(axis=1)
        moderate = (total <= MODERATE) & ((alpha * np.abs(logs)).sum(axis=1) <= 2 * MODERATE)
        return where_moderate(
            moderate,
            lambda: gammaln(total) + ((alpha - 1) * logs - gammaln(alpha)).sum(axis=1),
            lambda: _log_density_of_logs(alpha, total, labels) - logs.sum(axis=1),
        )

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return proportions, shape (n_draws, n, C)."""
        generator = arguments.generator(rng)
        alpha = self._natural(h).astype(np.float64)
        logs = samplers.log_gamma_labels(generator, np.broadcast_to(alpha, (positive_integer("n_draws", n_draws), *alpha.shape)))
        with np.errstate(under="ignore"):  # rejected by value in the next line
            labels = np.exp(logs - logsumexp(logs, axis=2, keepdims=True))
        return checks.representable_labels(labels, self.name)

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as a float64 array (n, C) if all are positive proportions that sum to 1."""
        return checks.proportions(checks.label_array(y, n, self.n_classes))

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) = log y, shape (..., C)."""
        return np.log(y)

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        return "labels"
