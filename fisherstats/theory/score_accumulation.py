r"""Moments over inputs of squared scores, accumulated from per-example scores in one pass.

With :math:`s_{ik}` the score of a parameter for draw k of input i, :math:`z_{ik}=s_{ik}^2` and :math:`z_i` its mean over the N
draws, the mean of :math:`z_i` over inputs is the score estimate of a diagonal entry of the Fisher information. Kept
per parameter: that mean, :math:`\sum_i(z_i-\bar z)^2`, and with two draws or more the sum over inputs of the sample variance over
draws. Per array of parameters, the same of the total :math:`t_i=\sum z_i`, with all co-moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fisherstats.engines import score_kernels
from fisherstats.theory import assembly

__all__ = ["LEAF", "Moments", "order_probability", "pairwise_probability", "variance_of_mean"]

Array = NDArray[np.floating]
Sums = NDArray[np.float64]

LEAF = 256
"""Inputs whose moments are computed together before they are merged into those of all inputs."""

_CACHED = 2**14
"""Numbers merged at a time."""

_NONE = np.empty(0)


@dataclass
class Moments:
    """Moments of squared scores; the arrays are changed in place."""

    n_inputs: int
    parameters: list[list[Sums]]
    """For each array of parameters, (size,) each: the mean over inputs, the sum of squared deviations from it and, with two draws
    or more, the sum over inputs of the sample variance over draws."""
    totals: list[Sums]
    """The same of the totals of the arrays: (L,), (L, L) and (L, L)."""

    @classmethod
    def empty(cls, sizes: Sequence[int], n_draws: int) -> Moments:
        """Return the moments of no input."""
        n_kept = 3 if n_draws > 1 else 2
        arrays: list[list[Sums]] = [[np.zeros(size) for _ in range(n_kept)] for size in sizes]
        square = (len(sizes), len(sizes))
        return cls(0, arrays, [np.zeros(len(sizes)), *(np.zeros(square) for _ in range(n_kept - 1))])

    def add(self, scores: Sequence[Array]) -> None:
        r"""Add inputs, (n, draws, \*shape) for each array of parameters, a leaf at a time."""
        for start in range(0, len(scores[0]), LEAF):
            self._add_leaf([one[start : start + LEAF] for one in scores])

    def _add_leaf(self, scores: Sequence[Array]) -> None:
        rows, draws = scores[0].shape[:2]
        totals = np.zeros((len(scores), rows, draws))
        for one, kept, total in zip(scores, self.parameters, totals, strict=True):
            mean, deviations, *labels = kept
            # The loop is compiled for the two precisions of native byte order alone.
            dtype = one.dtype if one.dtype in (np.float32, np.float64) else np.float64
            leaf = np.ascontiguousarray(one, dtype=dtype).reshape(rows, draws, -1)
            score_kernels().add_leaf(leaf, self.n_inputs, mean, deviations, labels[0] if labels else _NONE, total)
        per_input = totals.mean(axis=2)
        mean = per_input.mean(axis=1)
        centred = per_input - mean[:, None]
        part = [mean, centred @ centred.T]
        if draws > 1:
            apart = (totals - per_input[:, :, None]).reshape(len(scores), -1)
            part.append(apart @ apart.T / (draws - 1))
        self._merge_totals(rows, part)
        self.n_inputs += rows

    def merge(self, other: Moments, places: Sequence[int]) -> None:
        """Add the inputs of other moments; `places` are those of the arrays of parameters there."""
        if not other.n_inputs:
            return
        for kept, place in zip(self.parameters, places, strict=True):
            for start in range(0, kept[0].size, _CACHED):
                into, part = ([one[start : start + _CACHED] for one in each] for each in (kept, other.parameters[place]))
                assembly.merge_moments([self.n_inputs, *into], [other.n_inputs, *part])  # type: ignore[list-item]
        mean, *matrices = other.totals
        self._merge_totals(other.n_inputs, [mean[[*places]], *(one[np.ix_(places, places)] for one in matrices)])
        self.n_inputs += other.n_inputs

    def _merge_totals(self, n_part: int, part: Sequence[Array]) -> None:
        """Merge means, co-moments and sums of a group of inputs: the formula of Chan, Golub and LeVeque for a matrix."""
        n = self.n_inputs + n_part
        shift = part[0] - self.totals[0]
        self.totals[0] += shift * (n_part / n)
        self.totals[1] += part[1] + np.outer(shift, shift) * (self.n_inputs * n_part / n)
        for into, array in zip(self.totals[2:], part[2:], strict=True):
            into += array


def variance_of_mean(moments: Sequence[Array], n_inputs: int, n_draws: int, design: str, population: int | None) -> Array:
    r"""Return the unbiased estimate of the variance of the mean over inputs, or of the covariance of several (Theorem 4.7, 2024).

    `moments` are [mean, sum of squared deviations, sum of variances over draws]. With :math:`s^2` the variance over inputs of the
    means over N draws and :math:`v` the mean variance over draws, :math:`E[s^2]=\mathrm{Var}_xI+E[v]/N`, so that random inputs
    give :math:`s^2/n` whatever N is, fixed ones :math:`v/(nN)`, and n of :math:`n_{all}` inputs without replacement
    :math:`[(1-f)s^2+fv/N]/n` with :math:`f=n/n_{all}`.
    """
    share = {"random": 0.0, "fixed": 1.0}.get(design, 1.0 if population is None else n_inputs / population)
    variance = np.zeros_like(moments[1])
    if share < 1:
        variance += moments[1] * ((1 - share) / (n_inputs - 1) / n_inputs)
    if share > 0:
        variance += moments[2] * (share / n_draws / n_inputs / n_inputs)
    return variance


def pairwise_probability(totals: Array, covariance: Array) -> Array:
    r"""Return :math:`\Phi((t_a-t_b)/\mathrm{sd}(t_a-t_b))` for all pairs; 1/2 where both difference and deviation are 0."""
    apart = totals[:, None] - totals
    variance = np.diag(covariance)[:, None] + np.diag(covariance) - 2 * covariance
    deviation = np.sqrt(np.maximum(variance, 0))
    certain = deviation == 0
    return np.where(certain, (np.sign(apart) + 1) / 2, special.ndtr(apart / np.where(certain, 1, deviation)))


def order_probability(pairwise: Array, order: NDArray[np.integer]) -> tuple[float, float]:
    """Return limits of the probability that all neighbours are in the given order, from those of each pair of them.

    The intersection of events has at most the smallest probability, and at least 1 less the sum of those of the complements; both
    hold for every joint law, and nothing is simulated.
    """
    right, wrong = pairwise[order[:-1], order[1:]], pairwise[order[1:], order[:-1]]
    return max(0.0, 1.0 - float(wrong.sum())), float(min(right, default=1.0))
