r"""Stratified labels of a response with finitely many classes: one label from each of N equal slices of [0, 1).

With :math:`y_j=F^{-1}((j+U_j)/N)`, j = 0 to N - 1, a mean over the labels is unbiased, and N times its variance is
:math:`\frac1N\sum_j\mathrm{Var}_j(f)`, where class c has in slice j the share :math:`w_{jc}`, N times the length that they share.
Independent labels have the same plus the variance between the slices. Only slices that a boundary between two classes
cuts vary, at most C - 1 of them for any N.

Classes are in the order of their numbers, but for the most probable one, which comes last: so the probabilities of the others
keep their accuracy in the cumulative sum, and the labels are those of the order in which single labels are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fisherstats.core.forks import cached_property
from fisherstats.models.families.base import Draw
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.draws import Uniforms

__all__ = ["StratifiedLaw"]


class StratifiedLaw(CategoricalLaw):
    """A categorical law whose variances are N times those of means over N stratified labels.

    Mean, residuals and information of a label are those of the law itself; what is a variance or a covariance of functions of
    the labels is that under stratification, so that dividing by N gives the variance of an estimate for either kind of labels.
    """

    def __init__(self, h: np.ndarray, minimal: bool, n_draws: int) -> None:
        super().__init__(h, minimal)
        self.n_draws = n_draws

    @cached_property
    def _order(self) -> np.ndarray:
        """The class at each place in the order of the slices, and the reverse, (n, C)."""
        last = self.logits.shape[1] - 1
        classes, top = np.arange(last + 1, like=self.h), self.top[:, None]
        order: np.ndarray = np.where(classes == top, last, np.where(classes == last, top, classes)).astype(np.intp)
        return order

    def _exchanged(self, values: np.ndarray) -> np.ndarray:
        """Return values of the classes (n, C) in the order of the slices, or back."""
        return np.take_along_axis(values, self._order, axis=1)

    @cached_property
    def _edges(self) -> np.ndarray:
        """N times the cumulative probabilities from 0 to 1, classes in the order of the slices, in float64, (n, C + 1)."""
        p = self._exchanged(self.exact.p)
        inner = np.minimum(self.n_draws * np.cumsum(p[:, :-1], axis=1), self.n_draws)
        return np.concatenate([np.zeros_like(p[:, :1]), inner, np.full_like(p[:, :1], self.n_draws)], axis=1)

    @cached_property
    def _cut(self) -> tuple[np.ndarray, np.ndarray]:
        """The slice of every boundary between two classes, and whether it is the first boundary there, (n, C - 1) each."""
        slices = np.minimum(np.floor(self._edges[:, 1:-1]), self.n_draws - 1)
        new = np.concatenate([np.ones_like(slices[:, :1], dtype=bool), slices[:, 1:] != slices[:, :-1]], axis=1)
        return slices, new

    def _shares(self) -> Iterator[np.ndarray]:
        """Yield the shares of all classes in a slice, (n, C) each, for every slice that may vary; 0 for a slice seen before."""
        start, end = self._edges[:, :-1], self._edges[:, 1:]
        whole = self.n_draws * self._exchanged(self.exact.p)
        slices, new = self._cut
        few = self.n_draws < slices.shape[1]
        for place in range(self.n_draws if few else slices.shape[1]):
            first = np.full_like(start[:, :1], place) if few else slices[:, place : place + 1]
            within = (start >= first) & (end <= first + 1)
            common = np.clip(end - first, 0, 1) - np.clip(start - first, 0, 1)
            share = np.where(within, whole, common)
            if not few:
                share = np.where(new[:, place : place + 1], share, 0)
            yield self._exchanged(share)

    def _covariance(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the mean over slices of the covariances within them, (n, k), of values of the classes (n, C, k)."""
        total = np.zeros_like(left[:, 0])
        same = left is right
        for share in self._shares():
            weights = share[:, :, None].astype(left.dtype, copy=False)
            # A slice that was seen before has no shares, and adds nothing.
            centred = left - (weights * left).sum(axis=1, keepdims=True)
            other = centred if same else right - (weights * right).sum(axis=1, keepdims=True)
            total += (weights * centred * other).sum(axis=1)
        return total / self.n_draws

    @cached_property
    def _own(self) -> np.ndarray:
        """Mean over slices of w (1 - w) for the share w of each class, (n, C): that of its indicator."""
        start, end = self._edges[:, :-1], self._edges[:, 1:]
        whole = self.n_draws * self._exchanged(self.exact.p)
        inside = end <= np.floor(start) + 1
        first, last = np.floor(start) + 1 - start, end - np.floor(end)
        apart = first * (1 - first) + last * (1 - last)
        varies = np.where(inside, whole * (1 - np.minimum(whole, 1)), apart) / self.n_draws
        return self._exchanged(varies).astype(self.h.dtype, copy=False)

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return N times the variance of the mean of u.delta, shape (n, k)."""
        values = self.centred(u)
        return self._covariance(values, values)

    def own_diagonal(self) -> np.ndarray:
        """Return the same along the outputs, shape (n, T)."""
        return self._kept(self._own)

    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return N times the variance of the mean of (u.delta)^2, shape (n, k)."""
        values = np.square(self.centred(u))
        return self._covariance(values, values)

    def own_square_variance(self) -> np.ndarray:
        """Return the same along the outputs, where the square takes two values that differ by 1 - 2 p_a, shape (n, T)."""
        return self._kept(self._own * np.square(self.apart))

    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return N times the covariance of the means of (u.delta)^2 and s.delta, shape (n, k)."""
        return self._covariance(np.square(self.centred(u)), self.centred(s)) + 0.0

    def own_third_moment(self) -> np.ndarray:
        """Return the same along the outputs, shape (n, T)."""
        return self._kept(self._own * self.apart)

    def joint_moments(self, u: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `square_variance` of u, `diagonal` of s and `third_moment` of both."""
        squares, values = np.square(self.centred(u)), self.centred(s)
        cross = self._covariance(squares, values) + 0.0
        return self._covariance(squares, squares), self._covariance(values, values), cross

    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return N times the variance of the mean of (u.delta)(v.delta) for all pairs, shape (n, k, m)."""
        left, right = self.centred(u), self.centred(v)
        products = (left[:, :, :, None] * right[:, :, None, :]).reshape(*left.shape[:2], -1)
        return self._covariance(products, products).reshape(len(left), left.shape[2], right.shape[2])

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return rows whose sums of products are N times the covariances of means of u.delta, (n, slices times C, k)."""
        values, rows = self.centred(u), []
        for share in self._shares():
            weights = share[:, :, None].astype(values.dtype, copy=False)
            rows.append(np.sqrt(weights / self.n_draws) * (values - (weights * values).sum(axis=1, keepdims=True)))
        return np.concatenate(rows, axis=1)

    def value_covariance(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return N times the covariance of the means of two functions of the class, (n,), given by their values (n, C)."""
        return self._covariance(left[:, :, None], left[:, :, None] if left is right else right[:, :, None])[:, 0]

    def labels(self, uniforms: Uniforms) -> np.ndarray:
        """Return the N labels of each input in the order of the slices, (n, N)."""
        counts = np.cumsum(self.counts(uniforms), axis=1)
        slices = np.arange(self.n_draws)
        labels = np.stack([np.searchsorted(one[:-1], slices, side="right") for one in counts])
        return np.take_along_axis(self._order, labels, axis=1)

    def counts(self, uniforms: Uniforms) -> np.ndarray:
        """Return how many of the N labels fall into each class, integers (n, C) in the order of the slices."""
        edges = self._edges[:, 1:-1]
        slices, new = self._cut
        # All boundaries within a slice see the same label, hence the same uniform number.
        place = np.maximum.accumulate(np.where(new, np.arange(edges.shape[1]), 0), axis=1)
        drawn = np.take_along_axis(uniforms(edges.shape), place, axis=1)
        below = slices + (drawn < edges - slices)
        n = len(below)
        ends = np.concatenate([np.zeros((n, 1)), below, np.full((n, 1), float(self.n_draws))], axis=1)
        return np.diff(ends, axis=1).astype(np.int64)

    def draw_stratified(self, uniforms: Uniforms, second_moment: bool) -> Draw:
        """Return the means over N stratified labels per input."""
        counts = self._exchanged(self.counts(uniforms))
        weights, excess = self.contractions.frequencies(self.exact.p, counts, self.n_draws)
        return self.draw_of(weights, excess, self.n_draws, second_moment)
