"""The multinomial family: counts of C classes in n trials, the sum of n independent categorical statistics.

Cumulants are n times those of one trial. A fourth moment is that of one trial n times plus pairs of trials, all non-negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import gammaln

from fisherstats.core.forks import cached_property
from fisherstats.core.validation import arguments
from fisherstats.core.validation import families as checks
from fisherstats.core.validation.arguments import boolean, positive_integer
from fisherstats.models.families.base import Draw, Family, Law, MatrixRoot, RowProducts, in_double
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.deviance import MODERATE, multinomial_log_mass
from fisherstats.models.families.draw_blocks import draw_labels
from fisherstats.models.families.draws import class_counts, class_scheme, draw_class_weights

__all__ = ["Multinomial", "MultinomialLaw"]

MOST_WHOLE = 2**53
"""Up to this limit float64 represents every integer."""


class MultinomialLaw(Law):
    """Law of the counts of n trials; `minimal` drops the last class, whose logit is then 0."""

    def __init__(self, h: np.ndarray, n_trials: int, minimal: bool) -> None:
        self.h = h
        self.n_trials = n_trials
        self.one = CategoricalLaw(h, minimal)

    def carried_out_by(self, contractions: Any) -> None:
        """Use a module as backend of the contractions."""
        super().carried_out_by(contractions)
        self.one.carried_out_by(contractions)

    @cached_property
    def mean(self) -> np.ndarray:
        """Expected counts n p of the outputs, shape (n, T)."""
        return self.n_trials * self.one.mean

    def information(self) -> np.ndarray:
        """Return n (diag(p) - p p'), shape (n, T, T)."""
        return self.n_trials * self.one.information()

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return I z, shape (n, T, k)."""
        return self.n_trials * self.one.product(z)

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return Var(u.t) = n v, v that of one trial, shape (n, k)."""
        return self.n_trials * self.one.diagonal(u)

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return sqrt(n p_k) q_k, shape (n, C, k)."""
        return np.sqrt(self.h.dtype.type(self.n_trials)) * self.one.rows(u)

    def own_diagonal(self) -> np.ndarray:
        """Return n p_a (1 - p_a), shape (n, T)."""
        return self.n_trials * self.one.own_diagonal()

    def own_square_variance(self) -> np.ndarray:
        """Return n M_a + 2 n (n - 1) (p_a (1 - p_a))^2, M_a that of one trial, shape (n, T)."""
        pairs = 2 * self._pairs * np.square(self.one.own_diagonal())
        return self.n_trials * self.one.own_square_variance() + pairs

    def own_third_moment(self) -> np.ndarray:
        """Return n times that of one trial, shape (n, T)."""
        return self.n_trials * self.one.own_third_moment()

    def own_product_variance(self) -> np.ndarray:
        """Return n times that of one trial and n (n - 1) (v_a v_b + I_ab^2), v = diag(I) that of one trial, shape (n, T, T)."""
        v = self.one.own_diagonal()
        pairs = v[:, :, None] * v[:, None, :] + np.square(self.one.information())
        return self.n_trials * self.one.own_product_variance() + self._pairs * pairs

    def own_products(self) -> RowProducts:
        """Return sqrt(n) p, one row, and n p_a (1 - p_a)."""
        return np.sqrt(self.h.dtype.type(self.n_trials)) * self.one.mean[:, None, :], self.own_diagonal()

    def own_root_pairs(self) -> np.ndarray:
        """Return n^2 times that of one trial, shape (n, T)."""
        return self.h.dtype.type(self.n_trials) ** 2 * self.one.own_root_pairs()

    @property
    def _pairs(self) -> int:
        """Ordered pairs of different trials."""
        return self.n_trials * (self.n_trials - 1)

    def fourth_moment(self, u: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^4] = n mu4 + 3 n (n - 1) v^2, mu4 and v those of one trial, shape (n, k)."""
        return self.n_trials * self.one.fourth_moment(u) + 3 * self._pairs * self.one.diagonal(u) ** 2

    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return M(u,u,u,u) = n Var(q^2) + 2 n (n - 1) v^2, shape (n, k)."""
        return self.n_trials * self.one.square_variance(u) + 2 * self._pairs * self.one.diagonal(u) ** 2

    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^2 (s.delta)], n times that of one trial, shape (n, k)."""
        return self.n_trials * self.one.third_moment(u, s)

    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return M(u,v,u,v) = n Var(q_u q_v) + n (n - 1) (v_u v_v + c_uv^2), shape (n, k, m)."""
        rows_u, rows_v = self.one.rows(u), self.one.rows(v)
        covariance = np.matmul(rows_u.swapaxes(1, 2), rows_v)
        pairs = self.one.diagonal(u)[:, :, None] * self.one.diagonal(v)[:, None, :] + covariance**2
        return self.n_trials * self.one.product_variance(u, v) + self._pairs * pairs

    def quadratic_mean(self, a: np.ndarray) -> np.ndarray:
        """Return E[delta' a delta] = tr(a I), shape (n,) or (n, g)."""
        return self.n_trials * self.one.quadratic_mean(a)

    def quadratic_variance(self, a: np.ndarray) -> np.ndarray:
        """Return Var(delta' a delta) = n Var(f) + 2 n (n - 1) |R a R'|^2, with f and R' R = I of one trial, (n,) or (n, g)."""
        variance: np.ndarray = self.n_trials * self.one.quadratic_variance(a)
        if self.n_trials == 1:
            return variance
        groups = a[:, None] if a.ndim == 3 else a
        norms: np.ndarray = np.stack([self._white_norm(groups[:, group]) for group in range(groups.shape[1])], axis=1)
        return variance + 2 * self._pairs * (norms[:, 0] if a.ndim == 3 else norms)

    def _white_norm(self, a: np.ndarray) -> np.ndarray:
        white = self.one.rows(self.one.rows(a).swapaxes(1, 2))
        return (white * white).sum(axis=(1, 2))

    def quadratic_third_moment(self, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(delta' a delta)(s.delta)], n times that of one trial, shape (n,) or (n, g)."""
        return self.n_trials * self.one.quadratic_third_moment(a, s)

    def cumulant(self, order: int) -> np.ndarray:
        """Return the cumulant tensor of t, n times that of one trial, shape (n, T, ..., T)."""
        return self.n_trials * self.one.cumulant(order)

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return y - n p, taken as n (1 - p) - (n - y) where p > 1/2, shape (n, T)."""
        p, rest, n = self.one.p, self.one.complement, self.n_trials
        delta: np.ndarray = np.where(p <= 0.5, y - n * p, n * rest - (n - y))[:, : self.h.shape[1]]
        return delta.astype(self.h.dtype)

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta of `count` labels of one input, shape (count, T)."""
        p = self.one.exact.p[row]
        every = np.broadcast_to(p, (count, len(p)))
        _, excess = draw_class_weights(rng, every, self.n_trials, self.contractions)
        return self.n_trials * excess[:, : self.h.shape[1]]

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input: from the counts of all trials, or label by label."""
        if second_moment and self.n_trials > 1:
            return draw_labels(rng, self, n_draws, second_moment)
        checks.draw_count(n_draws)
        checks.sampler_range(n_draws, np.full((len(self.h), 1), float(self.n_trials)), first_input, "number of trials")
        weights, excess = draw_class_weights(rng, self.one.exact.p, n_draws * self.n_trials)
        mean = (self.n_trials * excess[:, : self.h.shape[1]]).astype(self.h.dtype)
        if not second_moment:
            return Draw(mean, None)
        outputs = np.broadcast_to(np.eye(self.h.shape[1]), (len(self.h), self.h.shape[1], self.h.shape[1]))
        rows = np.sqrt(weights)[:, :, None] * self.one.exact.centred(outputs)
        return Draw(mean, MatrixRoot(rows.astype(self.h.dtype)))


@dataclass(frozen=True)
class Multinomial(Family):
    """Counts of C classes in n trials with logits h: t(y) = y, F(h) = n log sum_k e^h_k.

    Parameters
    ----------
    n_trials : int
        Number of trials.
    n_classes : int
        Number of classes C, at least 2.
    minimal : bool, default False
        False: C outputs, the overcomplete form, with I(h) 1 = 0. True: C - 1 outputs, the logit of the last class being 0.

    Notes
    -----
    Labels are the counts of all C classes, (n, C), also in the minimal form. Draws: the mean alone needs the counts over all
    trials of all labels; the second moment needs all labels, in slabs of bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> Multinomial(8, 2).mean(np.zeros((1, 2)))
    array([[4., 4.]])
    """

    name: ClassVar[str] = "multinomial"
    n_trials: int
    n_classes: int
    minimal: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_trials", positive_integer("n_trials", self.n_trials))
        object.__setattr__(self, "n_classes", checks.n_classes(self.n_classes))
        object.__setattr__(self, "minimal", boolean("minimal", self.minimal))

    @property
    def n_outputs(self) -> int:
        """Number of natural parameters: C, or C - 1 if minimal."""
        return self.n_classes - self.minimal

    @property
    def n_label_columns(self) -> int:
        """Number of columns of a label, C."""
        return self.n_classes

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {
            "name": self.name,
            "n_outputs": self.n_outputs,
            "n_trials": self.n_trials,
            "n_classes": self.n_classes,
            "minimal": self.minimal,
        }

    def at(self, h: np.ndarray) -> MultinomialLaw:
        """Return the law of t at logits h (n, T)."""
        return MultinomialLaw(checks.natural_parameters(h, self.n_outputs), self.n_trials, self.minimal)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return log(n! / prod_k y_k!) + sum_k y_k log p_k, shape (n,)."""
        law, labels = in_double(self.at, h), self.check_labels(y, len(h))
        if self.n_trials > MODERATE:
            with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
                return multinomial_log_mass(law.one.logits, law.one.log_p, labels, self.n_trials)
        choose = gammaln(self.n_trials + 1) - gammaln(labels + 1).sum(axis=1)
        return choose + (labels * law.one.log_p).sum(axis=1)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return counts, shape (n_draws, n, C)."""
        generator = arguments.generator(rng)
        p = self.at(np.asarray(h, dtype=np.float64)).one.p
        n_draws = positive_integer("n_draws", n_draws)
        labels = np.empty((n_draws, *p.shape), dtype=np.int64)
        for row, chances in enumerate(p):
            every = np.broadcast_to(chances, (n_draws, len(chances)))
            if self.n_trials > MOST_WHOLE:  # frequencies would round the counts
                labels[:, row] = class_counts(generator, self.n_trials, every)
            else:
                labels[:, row] = np.rint(draw_class_weights(generator, every, self.n_trials)[0] * self.n_trials)
        return labels

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as a float64 array (n, C) if all are counts that sum to n_trials."""
        return checks.count_vectors(checks.label_array(y, n, self.n_classes), self.n_trials)

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return the counts of the outputs, shape (..., T)."""
        return np.asarray(y, dtype=np.float64)[..., : self.n_outputs]

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        return "labels" if second_moment and self.n_trials > 1 else class_scheme(n_draws * self.n_trials)
