"""The Gaussian family with known covariance S: h = mu, t(y) = S^-1 y, I(h) = S^-1.

All cumulants past the second vanish, so the fourth moments are Isserlis' pairings. Every quadratic form is a sum of
squares through R = L^-1, where S = L L'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import solve_triangular

from fisherstats.core.arrays import like
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import families as checks
from fisherstats.core.validation.arguments import generator, positive_integer
from fisherstats.models.families.base import Draw, Family, Law, RowProducts, in_double
from fisherstats.models.families.draws import draw_gaussian

__all__ = ["Gaussian", "GaussianLaw"]


class GaussianLaw(Law):
    """Law of t = S^-1 y; `root` is R with S^-1 = R' R, a (T,) vector if S is diagonal, else a (T, T) matrix."""

    def __init__(self, h: np.ndarray, root: np.ndarray) -> None:
        self.h = h
        self.root = root

    def _information_matrix(self) -> np.ndarray:
        root = np.diag(self.root) if self.root.ndim == 1 else self.root
        return root.T @ root

    @cached_property
    def mean(self) -> np.ndarray:
        """S^-1 mu, shape (n, T)."""
        return self.product(self.h[:, :, None])[:, :, 0]

    def information(self) -> np.ndarray:
        """Return S^-1 for every input, shape (n, T, T)."""
        return np.repeat(self._information_matrix()[None], len(self.h), axis=0)

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return S^-1 z = R' R z, shape (n, T, k)."""
        white = self.rows(z)
        return self.root[:, None] * white if self.root.ndim == 1 else np.matmul(self.root.T, white)

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return Var(u.t) = |R u|^2, shape (n, k)."""
        white = self.rows(u)
        return np.einsum("nrk,nrk->nk", white, white)

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return R u, shape (n, T, k)."""
        return self.root[:, None] * u if self.root.ndim == 1 else np.matmul(self.root, u)

    def own_diagonal(self) -> np.ndarray:
        """Return the diagonal of S^-1 for every input, shape (n, T)."""
        own = np.square(self.root) if self.root.ndim == 1 else np.square(self.root).sum(axis=0)
        return np.repeat(own[None], len(self.h), axis=0)

    def own_square_variance(self) -> np.ndarray:
        """Return 2 Var(t_a)^2, shape (n, T)."""
        return 2 * np.square(self.own_diagonal())

    def own_products(self) -> RowProducts:
        """Return the diagonal and no rows if S is diagonal, else R."""
        if self.root.ndim > 1:
            return super().own_products()
        return self.h[:, None, :][:, :0], self.own_diagonal()

    def fourth_moment(self, u: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^4] = 3 Var(u.t)^2, shape (n, k)."""
        return 3 * self.diagonal(u) ** 2

    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return M(u,u,u,u) = 2 Var(u.t)^2, shape (n, k)."""
        return 2 * self.diagonal(u) ** 2

    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^2 (s.delta)] = 0, shape (n, k)."""
        return np.zeros_like(self.h, shape=(u.shape[0], u.shape[2]))

    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return M(u,v,u,v) = (u'Iu)(v'Iv) + (u'Iv)^2, shape (n, k, m)."""
        covariance = np.matmul(self.rows(u).transpose(0, 2, 1), self.rows(v))
        return self.diagonal(u)[:, :, None] * self.diagonal(v)[:, None, :] + covariance**2

    def _white_form(self, a: np.ndarray) -> np.ndarray:
        if self.root.ndim == 1:
            form: np.ndarray = self.root[:, None] * a * self.root
        else:
            form = np.matmul(np.matmul(self.root, a), self.root.T)
        return form

    def quadratic_mean(self, a: np.ndarray) -> np.ndarray:
        """Return tr(R a R'), shape (n,) or (n, g)."""
        return np.trace(self._white_form(a), axis1=-2, axis2=-1)

    def quadratic_variance(self, a: np.ndarray) -> np.ndarray:
        """Return Var(delta' a delta) = 2 |R a R'|_F^2, shape (n,) or (n, g)."""
        return 2 * (self._white_form(a) ** 2).sum(axis=(-2, -1))

    def quadratic_third_moment(self, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(delta' a delta)(s.delta)] = 0, shape (n,) or (n, g)."""
        return np.zeros_like(self.h, shape=a.shape[:-2])

    def cumulant(self, order: int) -> np.ndarray:
        """Return S^-1 mu, S^-1, or zeros for the orders 3 and 4."""
        order = checks.cumulant_order(order)
        if order == 1:
            return self.mean
        if order == 2:
            return self.information()
        n, outputs = self.h.shape
        return np.zeros_like(self.h, shape=(n, *(outputs,) * order))

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return S^-1 (y - mu), shape (n, T)."""
        return self.product((y - self.h).astype(self.h.dtype)[:, :, None])[:, :, 0]

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input, see `draws.draw_gaussian`."""
        return draw_gaussian(rng, self.root, self.h.shape[0], n_draws, second_moment, self.h.dtype)


@dataclass(frozen=True, eq=False)
class Gaussian(Family):
    """Gaussian outputs with mean h and known covariance S: t(y) = S^-1 y, I(h) = S^-1.

    Parameters
    ----------
    n_outputs : int, default 1
        Number of outputs T.
    covariance : None, float, array (T,) or array (T, T)
        Unit variance for None, a common variance, one variance per output, or a positive definite matrix. It is kept
        in its smallest form: a diagonal matrix as a vector, equal variances as a number.

    Notes
    -----
    Draws: the mean label is Gaussian, and the scatter of the labels about it an independent Wishart matrix; the cost does
    not grow with n_draws.

    Examples
    --------
    >>> import numpy as np
    >>> Gaussian(2, covariance=[1.0, 4.0]).information(np.zeros((1, 2)))
    array([[[1.  , 0.  ],
            [0.  , 0.25]]])
    """

    name: ClassVar[str] = "gaussian"
    bounded: ClassVar[bool] = False
    n_outputs: int = 1
    covariance: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_outputs", positive_integer("n_outputs", self.n_outputs))
        covariance = checks.covariance(self.covariance, self.n_outputs)
        if isinstance(covariance, np.ndarray):
            covariance.flags.writeable = False
        object.__setattr__(self, "covariance", covariance)

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same law."""
        return isinstance(other, Gaussian) and self.parameters() == other.parameters()

    def __hash__(self) -> int:
        """Return a hash that agrees with ==."""
        return hash((self.name, self.n_outputs))

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        covariance = self.covariance.tolist() if isinstance(self.covariance, np.ndarray) else self.covariance
        return {"name": self.name, "n_outputs": self.n_outputs, "covariance": covariance}

    @cached_property
    def _cholesky(self) -> np.ndarray:
        """L with S = L L': (T,) standard deviations, or a lower triangular (T, T) matrix."""
        if isinstance(self.covariance, np.ndarray) and self.covariance.ndim == 2:
            return np.linalg.cholesky(self.covariance)
        return np.sqrt(np.broadcast_to(self.covariance, self.n_outputs))

    @cached_property
    def _root(self) -> np.ndarray:
        """R = L^-1."""
        if self._cholesky.ndim == 1:
            return 1 / self._cholesky
        return solve_triangular(self._cholesky, np.eye(self.n_outputs), lower=True)

    def at(self, h: np.ndarray) -> GaussianLaw:
        """Return the law of t at means h (n, T)."""
        h = checks.natural_parameters(h, self.n_outputs)
        return GaussianLaw(h, like(self._root.astype(h.dtype), h))

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return the log density of y, shape (n,)."""
        law = in_double(self.at, h)
        deviation = self.check_labels(y, len(law.h)) - law.h
        squares = law.diagonal(deviation[:, :, None])[:, 0]
        log_volume = np.log(np.diagonal(self._cholesky) if self._cholesky.ndim == 2 else self._cholesky).sum()
        return -(squares + self.n_outputs * math.log(2 * math.pi)) / 2 - log_volume

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return labels mu + L z, shape (n_draws, n, T)."""
        h = checks.natural_parameters(h, self.n_outputs)
        z = generator(rng).standard_normal((positive_integer("n_draws", n_draws), *h.shape))
        labels: np.ndarray = h + (z * self._cholesky if self._cholesky.ndim == 1 else z @ self._cholesky.T)
        return labels.astype(h.dtype)

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as a float64 array (n, T) if all are finite."""
        return checks.label_array(y, n, self.n_outputs)

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) = S^-1 y, shape (..., T)."""
        white = y * self._root if self._root.ndim == 1 else y @ self._root.T
        return white * self._root if self._root.ndim == 1 else white @ self._root

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        return "normal_and_wishart" if second_moment else "normal_mean"
