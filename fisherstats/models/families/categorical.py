"""The categorical family: one of C classes with logits h, t(y) = one-hot.

Moments are sums over classes of powers of q_k = (e_k - p).u, at a cost of C per direction, and no tensor is built.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fisherstats.core.forks import cached_property
from fisherstats.core.validation import families as checks
from fisherstats.core.validation.arguments import boolean, generator, positive_integer
from fisherstats.engines import primitives
from fisherstats.models.families import samplers
from fisherstats.models.families.base import Draw, Family, Law, RootRows, RowProducts, SecondMoment
from fisherstats.models.families.draws import Multinomial, Uniforms, class_scheme, class_weights

__all__ = ["Categorical", "CategoricalLaw", "DrawnClasses", "WeightedClasses"]


class CategoricalLaw(Law):
    """Law of the one-hot statistic; `minimal` drops the last class, whose logit is then 0."""

    def __init__(self, h: np.ndarray, minimal: bool) -> None:
        self.h = h
        self.minimal = minimal

    @cached_property
    def logits(self) -> np.ndarray:
        """Logits of all C classes, shape (n, C)."""
        return np.pad(self.h, ((0, 0), (0, 1))) if self.minimal else self.h

    @cached_property
    def top(self) -> np.ndarray:
        """The most probable class, shape (n,)."""
        return np.argmax(self.logits, axis=1)

    @cached_property
    def shifted(self) -> np.ndarray:
        """Logits minus the largest, shape (n, C)."""
        return self.logits - self.logits.max(axis=1, keepdims=True)

    @cached_property
    def odds(self) -> np.ndarray:
        """Probabilities relative to the largest, shape (n, C): the difference of logits keeps the accuracy of small ones."""
        return np.exp(self.shifted)

    @cached_property
    def log_p(self) -> np.ndarray:
        """Logarithms of the class probabilities, shape (n, C)."""
        others = np.where(self._are(self.top), 0, self.odds)
        return self.shifted - np.log1p(others.sum(axis=1, keepdims=True))

    @cached_property
    def _probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        return self.contractions.class_probabilities(self.logits)

    @property
    def p(self) -> np.ndarray:
        """Class probabilities, shape (n, C)."""
        return self._probabilities[0]

    @property
    def complement(self) -> np.ndarray:
        """1 - p, shape (n, C), at the most probable class as the sum of the others."""
        return self._probabilities[1]

    @cached_property
    def apart(self) -> np.ndarray:
        """1 - 2 p, shape (n, C), also where it nearly vanishes.

        Times the sum of the odds it is 1 - o_k and the odds of all classes but k and the top one, where 1 - o_k comes from the
        difference of two logits. Only the second largest can dominate the others, so their sum is computed without it.
        """
        top = self.top[:, None]
        odds = np.where(self._are(self.top), 0, self.odds)
        second = np.argmax(odds, axis=1)[:, None]
        largest, fall = (np.take_along_axis(one, second, axis=1) for one in (odds, -np.expm1(self.shifted)))
        np.put_along_axis(odds, second, 0, axis=1)
        rest = odds.sum(axis=1, keepdims=True)
        apart: np.ndarray = -np.expm1(self.shifted) + largest + np.maximum(rest - odds, 0)
        np.put_along_axis(apart, second, fall + rest, axis=1)
        np.put_along_axis(apart, top, rest - fall, axis=1)
        apart /= 1 + largest + rest
        return apart

    def centred(self, u: np.ndarray) -> np.ndarray:
        """Return q_k = (e_k - p).u for every class, shape (n, C, k)."""
        return primitives.centred(self.p, u)

    def _kept(self, values: np.ndarray, axes: int = 1) -> np.ndarray:
        """Return the entries of (n, C, ...) that belong to outputs, over the given number of class axes."""
        return values[(slice(None), *(slice(-1),) * axes)] if self.minimal else values

    @cached_property
    def mean(self) -> np.ndarray:
        """Class probabilities of the outputs, shape (n, T)."""
        return self._kept(self.p)

    def information(self) -> np.ndarray:
        """Return diag(p) - p p', with p_a times the sum of the other p_b on the diagonal, shape (n, T, T)."""
        matrix = -self.p[:, :, None] * self.p[:, None, :]
        classes = np.arange(self.p.shape[1])
        matrix[:, classes, classes] = self.p * self.complement
        return self._kept(matrix, 2)

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return I z, whose entries are p_k q_k, shape (n, T, k)."""
        return self._kept(self.contractions.class_products(self.p, z))

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return sqrt(p_k) q_k, shape (n, C, k)."""
        return np.sqrt(self.p)[:, :, None] * self.centred(u)

    def compact_rows(self, u: np.ndarray) -> np.ndarray:
        """Return, for all classes but the last, multiples of u_k minus its mean over the classes after k, shape (n, C - 1, k)."""
        return self.contractions.class_rows(self.p, u, self._no_shift)

    def scaled_rows(self, u: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `compact_rows` times diagonals (n, k), and the sums over rows of their squares, (n, k)."""
        return self.contractions.scaled_class_rows(self.p, u, self._no_shift, scale)

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return Var(u.t) = sum_k p_k q_k^2, shape (n, k)."""
        return self.contractions.class_squares(self.p, u, self._no_shift)

    def own_diagonal(self) -> np.ndarray:
        """Return p_a (1 - p_a), shape (n, T)."""
        return self._kept(self.p * self.complement)

    def own_square_variance(self) -> np.ndarray:
        """Return p_a (1 - p_a) (1 - 2 p_a)^2, shape (n, T)."""
        return self._kept(self.p * self.complement * np.square(self.apart))

    def own_third_moment(self) -> np.ndarray:
        """Return p_a (1 - p_a) (1 - 2 p_a), shape (n, T)."""
        return self._kept(self.p * self.complement * self.apart)

    def own_product_variance(self) -> np.ndarray:
        """Return p_a p_b ((p_a - p_b)^2 + r (p_a + p_b)) for a != b, r = 1 - p_a - p_b, shape (n, T, T)."""
        p, q = self.p[:, :, None], self.p[:, None, :]
        rest = np.where(p >= q, self.complement[:, :, None] - q, self.complement[:, None, :] - p)
        variance = p * q * (np.square(p - q) + rest * (p + q))
        # Both terms may nearly vanish for the two most probable classes alone.
        top, others = self._are(self.top), np.where(self._are(self.top), 0, self.p)
        second = self._are(np.argmax(others, axis=1))
        left = np.where(second, 0, others).sum(axis=1)[:, None, None]
        apart = np.where(second, np.expm1(self.shifted), 0).sum(axis=1)[:, None, None] * np.maximum(p, q)
        both = p * q * (np.square(apart) + left * (p + q))
        pair = (top[:, :, None] & second[:, None, :]) | (second[:, :, None] & top[:, None, :])
        variance = np.where(pair, both, variance)
        classes = np.arange(self.p.shape[1])
        variance[:, classes, classes] = self.p * self.complement * np.square(self.apart)
        return self._kept(variance, 2)

    def own_products(self) -> RowProducts:
        """Return p, one row, and p_a (1 - p_a)."""
        return self.mean[:, None, :], self.own_diagonal()

    def own_root_pairs(self) -> np.ndarray:
        """Return p_a^3 (1 - p_a)^3 + p_a^4 sum_{k<m} p_k p_m over the other classes, shape (n, T)."""
        p = self.p
        # Pairs before a, after a and across it: nothing is subtracted.
        before, after = _running_pairs(p), [one[:, ::-1] for one in _running_pairs(p[:, ::-1])]
        others = before[1] + after[1] + before[0] * after[0]
        return self._kept(p**3 * (self.complement**3 + p * others))

    @property
    def _no_shift(self) -> np.ndarray:
        return self.p[:0]

    def fourth_moment(self, u: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^4] = sum_k p_k q_k^4, shape (n, k)."""
        return primitives.weighted_fourth_power(self.p, self.centred(u))

    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return M(u,u,u,u) = sum_k p_k (q_k^2 - Var(u.t))^2, shape (n, k)."""
        return self.contractions.class_square_variance(self.p, u)

    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^2 (s.delta)] = sum_k p_k q_k(u)^2 q_k(s), shape (n, k)."""
        return self.contractions.class_third_moment(self.p, u, s) + 0.0

    def joint_moments(self, u: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `square_variance` of u, `diagonal` of s and `third_moment` of both, in one pass over the classes."""
        return self.contractions.class_moments(self.p, u, s)

    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return M(u,v,u,v) = sum_k p_k (q_k(u) q_k(v) - Cov(u.t, v.t))^2 for all pairs, shape (n, k, m)."""
        return primitives.class_product_variance(self.p, u, v)

    def _form_values(self, a: np.ndarray) -> np.ndarray:
        """Return f_k = (e_k - p)' a (e_k - p) for every class, shape (n, g, C) for a (n, g, T, T).

        `a` is first taken relative to the most probable class m, B_kl = (e_k - e_m)' a (e_l - e_m), which is 0 for k = m.
        """
        form = np.pad(a, ((0, 0), (0, 0), (0, 1), (0, 1))) if self.minimal else a
        top = np.argmax(self.p, axis=1)[:, None, None, None]
        form = form - np.take_along_axis(form, top, axis=3)
        form = form - np.take_along_axis(form, top, axis=2)
        p = self.p[:, None, :, None]
        product = np.matmul(form, p)
        own = np.diagonal(form, axis1=-2, axis2=-1)
        return own - 2 * product[..., 0] + (product * p).sum(axis=2)

    def quadratic_mean(self, a: np.ndarray) -> np.ndarray:
        """Return tr(a I) = sum_k p_k f_k, with f_k = (e_k - p)' a (e_k - p), shape (n,) or (n, g)."""
        groups = a if a.ndim == 4 else a[:, None]
        mean: np.ndarray = np.matmul(self._form_values(groups), self.p[:, :, None])[..., 0]
        return mean if a.ndim == 4 else mean[:, 0]

    def quadratic_variance(self, a: np.ndarray) -> np.ndarray:
        """Return Var(delta' a delta) = sum_k p_k (f_k - sum_l p_l f_l)^2, shape (n,) or (n, g)."""
        values = self._form_values(a if a.ndim == 4 else a[:, None]).swapaxes(1, 2)
        variance = primitives.weighted_square(self.p, primitives.centred(self.p, values))
        return variance if a.ndim == 4 else variance[:, 0]

    def quadratic_third_moment(self, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(delta' a delta)(s.delta)] = sum_k p_k f_k q_k(s), shape (n,) or (n, g)."""
        values = self._form_values(a if a.ndim == 4 else a[:, None]).swapaxes(1, 2)
        directions = self.centred((s if a.ndim == 4 else s[:, None]).swapaxes(1, 2))
        moment: np.ndarray = primitives.weighted_mean(self.p, values * directions) + 0.0
        return moment if a.ndim == 4 else moment[:, 0]

    @cached_property
    def _one_hot_residuals(self) -> np.ndarray:
        """Residual delta of every class, (e_k - p)_a, shape (n, C, T)."""
        classes = np.arange(self.p.shape[1])
        residuals = np.repeat(-self.p[:, None, :], len(classes), axis=1)
        residuals[:, classes, classes] = self.complement
        return residuals[:, :, :-1] if self.minimal else residuals

    def cumulant(self, order: int) -> np.ndarray:
        """Return the cumulant tensor of t, shape (n, T, ..., T); order 4 is E[delta^4] minus its three pairings."""
        order = checks.cumulant_order(order)
        if order <= 2:
            return self.mean if order == 1 else self.information()
        d = self._one_hot_residuals
        if order == 3:
            return np.einsum("nk,nka,nkb,nkc->nabc", self.p, d, d, d, optimize=True)
        information = self.information()
        fourth: np.ndarray = np.einsum("nk,nka,nkb,nkc,nkd->nabcd", self.p, d, d, d, d, optimize=True)
        for pairing in ("nab,ncd->nabcd", "nac,nbd->nabcd", "nad,nbc->nabcd"):
            fourth -= np.einsum(pairing, information, information)
        return fourth

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return e_y - p, with 1 - p_y as the sum of the other probabilities, shape (n, T)."""
        own = self._are(y)
        others = np.where(own, 0, self.p)
        return self._kept(np.where(own, others.sum(axis=1, keepdims=True), -others))

    def _are(self, y: np.ndarray) -> np.ndarray:
        """Return whether each class is the given one of its input, shape (n, C)."""
        return np.arange(self.logits.shape[1], like=self.h) == y[:, None]

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input, from frequencies of the classes, see `draws.class_weights`."""
        return self.draw_from(functools.partial(samplers.multinomial, rng), rng.random, n_draws, second_moment)

    @property
    def exact(self) -> CategoricalLaw:
        """The same law in float64."""
        return self if self.h.dtype == np.float64 else self._widened

    @cached_property
    def _widened(self) -> CategoricalLaw:
        return CategoricalLaw(self.h.astype(np.float64), self.minimal)

    def draw_from(self, sample: Multinomial, uniforms: Uniforms, n_draws: int, second_moment: bool) -> Draw:
        """Return the means over n_draws labels per input, with the given samplers."""
        weights, excess = class_weights(sample, uniforms, self.exact.p, n_draws, self.contractions)
        return self.draw_of(weights, excess, n_draws, second_moment)

    def draw_of(self, weights: np.ndarray, excess: np.ndarray, n_draws: int, second_moment: bool) -> Draw:
        """Return the means over n_draws labels whose relative frequencies, and these minus p, are given, (n, C) each."""
        weights, excess = weights.astype(self.h.dtype, copy=False), excess.astype(self.h.dtype, copy=False)
        second: SecondMoment | None = None
        if second_moment:
            n_classes = weights.shape[1]
            few = _rows_drawn(n_draws, n_classes) < n_classes
            second = DrawnClasses.of(self, weights, n_draws) if few else WeightedClasses(self, weights, excess)
        return Draw(self._kept(excess), second)


def _running_pairs(p: np.ndarray) -> list[np.ndarray]:
    """Return the sums of p_k and of p_k p_m, k < m, over the classes before each one, (n, C) each."""
    before = ((0, 0), (1, 0))
    sums = np.pad(np.cumsum(p[:, :-1], axis=1), before)
    pairs = np.pad(np.cumsum(p[:, :-1] * sums[:, :-1], axis=1), before)
    return [sums, pairs]


def _rows_drawn(n_draws: int, n_classes: int) -> int:
    """Return the rows of a drawn second moment: one per label if there are few enough for gathering to pay off."""
    return n_draws if n_draws <= n_classes // 2 else n_classes


@dataclass(frozen=True)
class WeightedClasses(RootRows):
    """The second moment sum_k w_k (e_k - p)(e_k - p)' of class weights w about the mean p of a law.

    Parameters
    ----------
    law : CategoricalLaw
        The law whose mean is the centre.
    weights : numpy.ndarray
        Relative frequencies (n, C).
    shift : numpy.ndarray
        Mean under the weights minus that of the law, w - p, (n, C).
    """

    law: CategoricalLaw
    weights: np.ndarray
    shift: np.ndarray

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return sum_k w_k q_k^2, shape (n, k)."""
        return self.law.contractions.class_squares(self.weights, u, self.shift)

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return rows of the covariance under the weights, and one for their mean about that of the law, (n, C, k)."""
        return self.law.contractions.class_rows(self.weights, u, self.shift)

    def scaled_rows(self, u: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `rows` times diagonals (n, k), and the sums over rows of their squares, (n, k)."""
        return self.law.contractions.scaled_class_rows(self.weights, u, self.shift, scale)

    def own_rows(self) -> np.ndarray:
        """Return the rows themselves, shape (n, C, T)."""
        return self.rows(self.law._outputs)

    def own_diagonal(self) -> np.ndarray:
        """Return sum_k w_k (1[k = a] - p_a)^2, shape (n, T)."""
        return self.diagonal(self.law._outputs)


@dataclass(frozen=True)
class DrawnClasses(RootRows):
    """The second moment sum_r w_r (e_{c_r} - p)(e_{c_r} - p)' of few of the classes, c_r, about the mean p of a law.

    Parameters
    ----------
    law : CategoricalLaw
        The law whose mean is the centre.
    weights : numpy.ndarray
        Relative frequencies of all classes (n, C).
    classes : numpy.ndarray
        Classes (n, R).
    roots : numpy.ndarray
        Square roots of their relative frequencies (n, R), 0 where there are fewer than R classes.
    """

    law: CategoricalLaw
    weights: np.ndarray
    classes: np.ndarray
    roots: np.ndarray

    @classmethod
    def of(cls, law: CategoricalLaw, weights: np.ndarray, n_rows: int) -> DrawnClasses:
        """Build it from relative frequencies (n, C), of which at most `n_rows` per input are non-zero."""
        inputs, drawn = np.nonzero(weights)
        place = np.arange(len(inputs)) - np.searchsorted(inputs, inputs)
        classes, roots = np.zeros((len(weights), n_rows), dtype=np.intp), np.zeros((len(weights), n_rows), dtype=weights.dtype)
        classes[inputs, place] = drawn
        roots[inputs, place] = np.sqrt(weights[inputs, drawn])
        return cls(law, weights, classes, roots)

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return sqrt(w_r) q_{c_r}, shape (n, R, k)."""
        return self.law.contractions.label_rows(self.law.p, self.classes, self.roots, u)

    def own_rows(self) -> np.ndarray:
        """Return sqrt(w_r) (e_{c_r} - p), shape (n, R, T)."""
        rows: np.ndarray = -self.roots[:, :, None] * self.law.p[:, None, :]
        own = self.roots * np.take_along_axis(self.law.complement, self.classes, axis=1)
        np.put_along_axis(rows, self.classes[:, :, None], own[:, :, None], axis=2)
        return rows[:, :, :-1] if self.law.minimal else rows

    def own_diagonal(self) -> np.ndarray:
        """Return w_a (1 - p_a)^2 + (1 - w_a) p_a^2, shape (n, T)."""
        law, w = self.law, self.weights
        return law._kept(w * np.square(law.complement) + (1 - w) * np.square(law.p))


@dataclass(frozen=True)
class Categorical(Family):
    """One of C classes with logits h: t(y) = one-hot, F(h) = log sum_k e^h_k.

    Parameters
    ----------
    n_classes : int
        Number of classes C, at least 2.
    minimal : bool, default False
        False: C outputs, the overcomplete form of the papers, with I(h) 1 = 0. True: C - 1 outputs, the logit of the
        last class being 0, and I(h) non-singular.

    Notes
    -----
    Draws: counts of the classes; the cost does not grow with n_draws past 16, up to which labels are drawn one by one.

    Examples
    --------
    >>> import numpy as np
    >>> Categorical(2).information(np.zeros((1, 2)))
    array([[[ 0.25, -0.25],
            [-0.25,  0.25]]])
    """

    name: ClassVar[str] = "categorical"
    labels_are_classes: ClassVar[bool] = True
    n_classes: int
    minimal: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_classes", checks.n_classes(self.n_classes))
        object.__setattr__(self, "minimal", boolean("minimal", self.minimal))

    @property
    def n_outputs(self) -> int:
        """Number of natural parameters: C, or C - 1 if minimal."""
        return self.n_classes - self.minimal

    @property
    def shift_invariant(self) -> bool:
        """True for C outputs: softmax depends on differences of logits only."""
        return not self.minimal

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {
            "name": self.name,
            "n_outputs": self.n_outputs,
            "n_classes": self.n_classes,
            "minimal": self.minimal,
        }

    def at(self, h: np.ndarray) -> CategoricalLaw:
        """Return the law of t at logits h (n, T)."""
        return CategoricalLaw(checks.natural_parameters(h, self.n_outputs), self.minimal)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return the log probability of one class per input, shape (n,)."""
        law = self.at(h)
        return self.log_prob_at(law, self.check_labels(y, len(law.h)))

    def log_prob_at(self, law: Law, y: np.ndarray) -> np.ndarray:
        """Return the same at a law, from its cached quantities."""
        assert isinstance(law, CategoricalLaw)
        return np.take_along_axis(law.exact.log_p, y[:, None], axis=1)[:, 0]

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return class numbers, shape (n_draws, n), by inversion of the cumulative probabilities."""
        p = self.at(np.asarray(h, dtype=np.float64)).p
        n_draws, random = positive_integer("n_draws", n_draws), generator(rng)
        labels = np.empty((n_draws, len(p)), dtype=np.int64)
        cumulative = np.cumsum(p, axis=1)
        for row, edges in enumerate(cumulative / cumulative[:, -1:]):
            labels[:, row] = np.searchsorted(edges[:-1], random.random(n_draws), side="right")
        return labels

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as class numbers (n,) if all are from 0 to C - 1."""
        return checks.class_labels(y, n, self.n_classes)

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return the one-hot rows of class numbers y, shape (..., T)."""
        one_hot: np.ndarray = np.eye(self.n_classes)[np.asarray(y)]
        return one_hot[..., : self.n_outputs]

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        return class_scheme(n_draws)

    def rows_drawn(self, n_draws: int) -> int:
        """Return how many rows the root of a second moment of n_draws labels has."""
        return _rows_drawn(n_draws, self.n_classes)
