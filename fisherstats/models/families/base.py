"""Base classes: a family of response distributions (`Family`), one distribution at natural parameters h (`Law`), draws.

The model is p(y | h) = pi(y) exp(t(y)' h - F(h)), with log-partition F, t = t(y) in R^T and h the output of the
network. A `Family` is a small frozen value; `family.at(h)` is the distribution of t for a block of inputs, which caches
quantities that depend on h only and computes every moment of t along directions, so that no T^4 tensor is ever built. Notation:
delta = t - E[t], and u, v, s are (n, T, k) arrays with one direction in R^T per input and column.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from fisherstats.core.arrays import double, identity
from fisherstats.engines import primitives

__all__ = ["Draw", "Family", "Law", "MatrixRoot", "RootRows", "RowProducts", "SecondMoment", "in_double"]


RowProducts = tuple[np.ndarray, np.ndarray | None]
"""Rows R (n, r, T) of a matrix R'R; or, with a diagonal d (n, T), rows of a matrix with this diagonal and -R'R off it."""


class SecondMoment(Protocol):
    """A (n, T, T) positive semi-definite matrix A given by a root: A = sum_r rho_r rho_r'."""

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return u' A u for each column of u (n, T, k), shape (n, k)."""
        ...

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return rho_r . u, shape (n, R, k); sum_r rows(u)_r rows(v)_r = u' A v."""
        ...

    def compact_rows(self, u: np.ndarray) -> np.ndarray:
        """Return the same for the root with the fewest rows that the family provides."""
        ...

    def scaled_rows(self, u: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `compact_rows` times diagonals (n, k), and the sums over rows of their squares, (n, k)."""
        ...

    def own_rows(self) -> np.ndarray:
        """Return the rows rho_r of the compact root themselves, shape (n, R, T)."""
        ...

    def own_diagonal(self) -> np.ndarray:
        """Return the diagonal of A, shape (n, T)."""
        ...

    def own_products(self) -> RowProducts:
        """Return A as products of the fewest rows that the family provides."""
        ...


class RootRows(ABC):
    """A second moment defined by the rows of one root, from which everything else is computed."""

    @abstractmethod
    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return rho_r . u, shape (n, R, k)."""

    @abstractmethod
    def own_rows(self) -> np.ndarray:
        """Return the rows rho_r, shape (n, R, T)."""

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return the sums of squared rows, shape (n, k): never negative."""
        return primitives.sum_of_squares(self.rows(u))

    def compact_rows(self, u: np.ndarray) -> np.ndarray:
        """Return `rows`."""
        return self.rows(u)

    def scaled_rows(self, u: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `rows` times diagonals (n, k), and the sums over rows of their squares, (n, k)."""
        return primitives.squared_products(self.rows(u), None, scale)

    def own_diagonal(self) -> np.ndarray:
        """Return the sums of squares of the rows rho_r, shape (n, T)."""
        return primitives.sum_of_squares(self.own_rows())

    def own_products(self) -> RowProducts:
        """Return the rows rho_r."""
        return self.own_rows(), None


@dataclass(frozen=True)
class MatrixRoot(RootRows):
    """A second moment given by the rows of a root.

    Parameters
    ----------
    root : numpy.ndarray
        Array (n, R, T); the matrix is root' root.
    """

    root: np.ndarray

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return root @ u, shape (n, R, k); rows that sum to zero serve directions given as differences (T - 1 rows) as well."""
        return np.matmul(self.root[:, :, : u.shape[1]], u)

    def own_rows(self) -> np.ndarray:
        """Return the root, shape (n, R, T)."""
        return self.root


@dataclass(frozen=True)
class Draw:
    """The means over N labels per input that the two estimators need, both from the same labels.

    Parameters
    ----------
    mean : numpy.ndarray
        (1/N) sum_k delta_k, shape (n, T).
    second : SecondMoment or None
        (1/N) sum_k delta_k delta_k' about the known mean (never about the sample mean); None if not requested.
    """

    mean: np.ndarray
    second: SecondMoment | None


class Law(ABC):
    """The law of t(y) for a block of n inputs, given their natural parameters h (n, T).

    Directions u, v, s have shape (n, T, k). A law is itself a `SecondMoment`: that of I(h) = Cov(t).
    """

    h: np.ndarray
    contractions: Any = primitives
    """Backend of the contractions: `engines.primitives` or a faster module with the same names."""

    def carried_out_by(self, contractions: Any) -> None:
        """Use a module as backend of the contractions, also for the component laws."""
        self.contractions = contractions

    @property
    @abstractmethod
    def mean(self) -> np.ndarray:
        """E[t] = grad F(h), shape (n, T)."""

    @abstractmethod
    def information(self) -> np.ndarray:
        """Return I(h) = Cov(t), shape (n, T, T)."""

    @abstractmethod
    def product(self, z: np.ndarray) -> np.ndarray:
        """Return I(h) z, shape (n, T, k)."""

    @abstractmethod
    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return Var(u.t) = u' I u, shape (n, k)."""

    @abstractmethod
    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return the rows of a root of I times u, shape (n, R, k): sum_r rows(u)_r rows(v)_r = u' I v; probes are along these."""

    def compact_rows(self, u: np.ndarray) -> np.ndarray:
        """Return the same for the root with the fewest rows that the family provides."""
        return self.rows(u)

    def scaled_rows(self, u: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `compact_rows` times diagonals (n, k), and the sums over rows of their squares, (n, k)."""
        return primitives.squared_products(self.compact_rows(u), None, scale)

    def own_rows(self) -> np.ndarray:
        """Return the rows of the compact root themselves, shape (n, R, T)."""
        return self.compact_rows(self._outputs)

    def own_diagonal(self) -> np.ndarray:
        """Return Var(t_a), shape (n, T)."""
        return self.diagonal(self._outputs)

    def own_square_variance(self) -> np.ndarray:
        """Return Var(delta_a^2), shape (n, T)."""
        return self.square_variance(self._outputs)

    def own_product_variance(self) -> np.ndarray:
        """Return Var(delta_a delta_b), shape (n, T, T)."""
        return self.product_variance(self._outputs, self._outputs)

    def own_third_moment(self) -> np.ndarray:
        """Return E[delta_a^3], shape (n, T)."""
        return self.third_moment(self._outputs, self._outputs)

    def own_products(self) -> RowProducts:
        """Return I(h) as products of the fewest rows that the family provides."""
        return self.own_rows(), None

    def own_root_pairs(self) -> np.ndarray:
        """Return the sum over pairs of rows of `rows` of the products of their squared entries, shape (n, T)."""
        return primitives.pair_sum(np.square(self.rows(self._outputs)))

    @property
    def _outputs(self) -> np.ndarray:
        """The directions of the outputs, shape (n, T, T)."""
        n, outputs = self.h.shape
        return np.broadcast_to(identity(outputs, self.h), (n, outputs, outputs))

    @abstractmethod
    def fourth_moment(self, u: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^4], shape (n, k)."""

    @abstractmethod
    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return M(u,u,u,u) = Var((u.delta)^2), shape (n, k), without subtracting two moments."""

    @abstractmethod
    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^2 (s.delta)], shape (n, k)."""

    def joint_moments(self, u: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `square_variance` of u, `diagonal` of s and `third_moment` of both, (n, k) each."""
        return self.square_variance(u), self.diagonal(s), self.third_moment(u, s)

    @abstractmethod
    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return M(u,v,u,v) = Var((u.delta)(v.delta)) for all pairs of columns, shape (n, k, m)."""

    @abstractmethod
    def quadratic_mean(self, a: np.ndarray) -> np.ndarray:
        """Return E[delta' a delta] = tr(a I) for symmetric a (n, T, T) or (n, g, T, T), shape (n,) or (n, g)."""

    @abstractmethod
    def quadratic_variance(self, a: np.ndarray) -> np.ndarray:
        """Return Var(delta' a delta) for symmetric a (n, T, T) or (n, g, T, T), shape (n,) or (n, g)."""

    @abstractmethod
    def quadratic_third_moment(self, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(delta' a delta)(s.delta)] for s (n, T) or (n, g, T), shape (n,) or (n, g)."""

    @abstractmethod
    def cumulant(self, order: int) -> np.ndarray:
        """Return the derivatives of F of the given order, 1 to 4, shape (n, T, ..., T); for small T only."""

    @abstractmethod
    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return delta = t(y) - E[t], shape (n, T), for one checked label per input."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over exact labels that the two estimators need.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness; an input's draw does not depend on the inputs that follow it in the block.
        n_draws : int
            Labels per input, N.
        second_moment : bool
            Whether the second moment of delta is needed in addition to its mean.
        first_input : int, default 0
            Number of the block's first input, for messages.

        Returns
        -------
        Draw
            (1/N) sum_k delta_k and (1/N) sum_k delta_k delta_k' of the same labels.

        Raises
        ------
        ValueError
            If n_draws, or a sum of n_draws labels, is past the range of the integer samplers.
        """

    def second_moment_of(self, delta: np.ndarray, weights: np.ndarray | None = None) -> SecondMoment:
        """Return sum_r w_r delta_r delta_r' for delta (n, R, T) and weights (n, R); weights of 1 for None."""
        return MatrixRoot(delta if weights is None else np.sqrt(weights)[:, :, None] * delta)


AnyLaw = TypeVar("AnyLaw", bound=Law)


def in_double(at: Callable[[np.ndarray], AnyLaw], h: np.ndarray) -> AnyLaw:
    """Return the law in float64 at natural parameters of either precision, validated as in `at`."""
    law = at(h)
    return law if law.h.dtype == np.float64 else at(double(law.h))


class Family(ABC):
    """An exponential family of response distributions; a frozen value that holds its parameters only.

    Attributes
    ----------
    name : str
        Name used in messages and provenance.
    n_outputs : int
        T, the number of natural parameters, that is, of network outputs.
    labels_are_classes : bool
        True where a label is one class number per input instead of one number per output.
    bounded : bool
        Whether t(y) has a bounded support.
    link : Link or None
        Maps the network's output to natural parameters, output by output; None where they are the same.
    """

    name: ClassVar[str]
    labels_are_classes: ClassVar[bool] = False
    link: Any = None
    bounded: ClassVar[bool] = True

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of natural parameters T."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values that can be written as JSON."""

    @property
    def shift_invariant(self) -> bool:
        """Whether the entries of t(y) have a constant sum, so that u.t - E[u.t] depends on differences of the entries of u only.

        The law's moments then take directions with T - 1 rows, differences from the last row, as well.
        """
        return False

    def check_domain(self, h: np.ndarray, first_input: int = 0) -> None:  # noqa: B027
        """Raise for natural parameters outside the domain; `first_input` numbers the inputs in the message."""

    @abstractmethod
    def at(self, h: np.ndarray) -> Law:
        """Return the law of t at natural parameters h.

        Parameters
        ----------
        h : numpy.ndarray
            Natural parameters (n, T), float32 or float64; all computations use that type.

        Returns
        -------
        Law
            The moments of t and its draws, for n inputs.

        Raises
        ------
        ValueError
            If h has another shape, is not finite, or gives moments past the range of its type.
        """

    @abstractmethod
    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return log p(y | h), base measure included.

        Parameters
        ----------
        h : numpy.ndarray
            Natural parameters (n, T).
        y : array_like
            One label per input, as `check_labels` takes them.

        Returns
        -------
        numpy.ndarray
            Log mass or log density, shape (n,), computed and given in float64 for natural parameters of either precision.

        Raises
        ------
        ValueError
            If a label is outside the support.
        """

    def log_prob_at(self, law: Law, y: np.ndarray) -> np.ndarray:
        """Return log p(y | h), shape (n,), at a law of this family and for one checked label per input."""
        return self.log_prob(law.h, y)

    @abstractmethod
    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return plain labels from the law at h.

        Parameters
        ----------
        h : numpy.ndarray
            Natural parameters (n, T).
        rng : numpy.random.Generator
            Source of randomness.
        n_draws : int
            Labels per input.

        Returns
        -------
        numpy.ndarray
            Labels (n_draws, n, T), or class numbers (n_draws, n).
        """

    @abstractmethod
    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs if all lie in the support.

        Parameters
        ----------
        y : array_like
            Labels (n, T), or (n,) if there is one output; class numbers (n,) where `labels_are_classes`.
        n : int
            Number of inputs.

        Returns
        -------
        numpy.ndarray
            Labels (n, T) as float64, or class numbers (n,) as int64.

        Raises
        ------
        ValueError
            If the shape does not fit, or a label is not in the support; the message names its value and index.
        """

    @abstractmethod
    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return the sufficient statistic t(y), shape (..., T)."""

    @abstractmethod
    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the scheme used by `Law.draw`, as a key of the table `DRAW_SCHEMES` of descriptions.

        Parameters
        ----------
        second_moment : bool
            Whether the second moment is drawn (the score estimator) or the mean alone (the Hessian estimator).
        n_draws : int
            Labels per input.

        Returns
        -------
        str
            Key in `DRAW_SCHEMES`.
        """

    def rows_drawn(self, n_draws: int) -> int:
        """Return how many rows the root of a second moment of n_draws labels has, for choosing block sizes."""
        return self.n_outputs

    def mean(self, h: np.ndarray) -> np.ndarray:
        """Return E[t] at h, shape (n, T)."""
        return self.at(h).mean

    def information(self, h: np.ndarray) -> np.ndarray:
        """Return I(h) = Cov(t), shape (n, T, T)."""
        return self.at(h).information()

    def cumulant(self, h: np.ndarray, order: int) -> np.ndarray:
        """Return the cumulant tensor of t of the given order, 1 to 4, shape (n, T, ..., T)."""
        return self.at(h).cumulant(order)
