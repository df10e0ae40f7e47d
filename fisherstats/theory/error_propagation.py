r"""Error propagation from an estimated information to a functional: the delta method to second order.

With :math:`E=\hat F-F`, :math:`\phi(\hat F)=\phi(F)+D\phi[E]+\tfrac12D^2\phi[E,E]+\dots`, so to leading order the variance is
that of the linear functional :math:`D\phi[E]=\mathrm{tr}(XE)` and the bias :math:`\tfrac12\mathrm{E}[D^2\phi[E,E]]`.  Both need
second moments of E only.  E is a mean of independent terms, one per input and label, each of which has the second moments of
:math:`\sum_rz_rN_r` with uncorrelated z of variance 1: :math:`N_r=J^\top R_rJ` for the score (R_r the root of M), and
:math:`N_r=-\rho_r^\top H` for the Hessian estimator (:math:`\rho_r` the root of I(h)).  Where inputs are a sample, the deviation
:math:`F_i-F` of the information of an input is a further part of E, not correlated with the others, so that its moments add to
theirs.  All computations use the basis of eigenvectors of F, in which the functionals are diagonal; for the score, all matrices
have the size of the outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from fisherstats.core.arrays import like, on_device, power_of_two
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import arguments, functionals
from fisherstats.models.families import Law
from fisherstats.models.families.extremes import quartic_root
from fisherstats.theory.maximum_likelihood import jacobi_svd

__all__ = [
    "EffectiveDimension",
    "Fluctuation",
    "Functional",
    "HessianFluctuation",
    "InputFluctuation",
    "LeadingEigenvalues",
    "LogDet",
    "ScoreFluctuation",
    "SolveWith",
    "Spectrum",
    "graded_eigenpairs",
]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of F, the largest first, and eigenvectors in columns."""

    values: Array
    vectors: Array

    @classmethod
    def of(cls, matrix: Array) -> Spectrum:
        """Decompose a symmetric positive semi-definite matrix; eigenvalues within rounding error of 0 are set to 0.

        For a definite matrix with rows and columns of different scales, small eigenvalues and small entries of eigenvectors are
        computed to high relative accuracy.
        """
        graded = None if on_device(matrix) else graded_eigenpairs(matrix)
        if graded is not None:
            return cls(*graded)
        values, vectors = np.linalg.eigh(matrix)
        beyond = values > len(values) * np.finfo(values.dtype).eps * values[-1]
        return cls((values * beyond)[::-1], vectors[:, ::-1])

    def beside(self, other: Array) -> Spectrum:
        """Return it on the device of `other`."""
        return Spectrum(like(self.values, other), like(self.vectors, other))

    def along(self, jacobian: Array) -> Array:
        """Return J Q, set to zero in directions without information, where only rounding errors would remain."""
        return np.matmul(jacobian, self.vectors) * (self.values > 0)


_MOST_APART = 2.0**16
"""Diagonal entries that differ by no more than this factor need no special treatment."""


def graded_eigenpairs(matrix: Array) -> tuple[Array, Array] | None:
    r"""Return eigenvalues and vectors of D M D, D of powers of two, from the SVD of L'D with Cholesky's L of M.

    None where the diagonal entries are of similar size, or M is not definite beyond rounding. With L'D = U S V' an entry of V
    is that of :math:`D^{-1}L^{-\top}US` or of :math:`DLUS^{-1}`, whichever is small by its factor rather than by cancellation.
    """
    diagonal = np.diag(matrix)
    if not diagonal.all() or diagonal.max() <= _MOST_APART * diagonal.min():
        return None
    unit = power_of_two(np.sqrt(diagonal))
    scaled = matrix / unit[:, None] / unit
    try:
        L = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return None
    if (np.square(np.diag(L)) <= 64 * len(L) * np.finfo(L.dtype).eps * np.diag(scaled)).any():
        return None
    values, left, _ = jacobi_svd(L.T * unit)
    small, large = linalg.solve_triangular(L.T, left) * (values / unit[:, None]), (L @ left) * (unit[:, None] / values)
    return np.square(values), np.where(unit[:, None] > values, small, large)


class Fluctuation(ABC):
    """Second moments of the error of one label at each of n inputs, in the basis of eigenvectors of F."""

    @abstractmethod
    def linear(self, weights: Array) -> Array:
        r"""Return :math:`\mathrm{Var}(\sum_m w_mE_{mm})`, (n,)."""

    @abstractmethod
    def square(self, left: Array, right: Array) -> Array:
        r"""Return :math:`\mathrm{E}[\mathrm{tr}(E\,\mathrm{diag}(a)E\,\mathrm{diag}(b))]` for a, b >= 0, (n,)."""

    @abstractmethod
    def times(self, matrix: Array, vector: Array) -> Array:
        r"""Return the variances of the entries of :math:`XEv` for X (k, P), (n, k)."""

    @abstractmethod
    def twice(self, weights: Array, vector: Array) -> Array:
        r"""Return :math:`\mathrm{E}[E\,\mathrm{diag}(w)E]v` for w >= 0, (n, P)."""

    @abstractmethod
    def columns(self, count: int) -> Array:
        r"""Return :math:`\mathrm{Var}(E_{mj})` for the first columns j, (n, P, count)."""


class ScoreFluctuation(Fluctuation):
    r"""The score estimator: moments of T x T forms :math:`J\,\mathrm{diag}(w)J^\top`; `jacobian` is J Q, (n, T, P)."""

    def __init__(self, law: Law, jacobian: Array) -> None:
        self.law = law
        self.jacobian = jacobian

    @cached_property
    def _root(self) -> Array:
        return quartic_root(self.law)

    def _form(self, weights: Array) -> Array:
        return np.matmul(self.jacobian * weights, self.jacobian.swapaxes(1, 2))

    def linear(self, weights: Array) -> Array:
        """Return Var(r' J diag(w) J' r)."""
        return self.law.quadratic_variance(self._form(weights))

    def square(self, left: Array, right: Array) -> Array:
        """Return the sum over r of |K' R_r L|^2, with K K' = J diag(a) J' and L L' = J diag(b) J'."""
        K, L = (self._half(weights)[:, None] for weights in (left, right))
        return np.square(np.matmul(np.matmul(K, self._root), L.swapaxes(-1, -2))).sum(axis=(1, 2, 3))

    def _half(self, weights: Array) -> Array:
        """Return the transpose of a root of J diag(w) J', at most T rows."""
        return cast(Array, np.linalg.qr((self.jacobian * np.sqrt(weights)).swapaxes(1, 2), mode="r"))

    def times(self, matrix: Array, vector: Array) -> Array:
        """Return M(JX', Jv, JX', Jv)."""
        left, right = np.matmul(self.jacobian, matrix.T), np.matmul(self.jacobian, vector[:, None])
        return self.law.product_variance(left, right)[:, :, 0]

    def twice(self, weights: Array, vector: Array) -> Array:
        """Return the sum over r of J' R_r J diag(w) J' R_r J v."""
        moved = np.matmul(self._root, np.matmul(self.jacobian, vector)[:, None, :, None])
        pulled = np.matmul(self._root, np.matmul(self._form(weights)[:, None], moved)).sum(axis=1)
        return np.matmul(self.jacobian.swapaxes(1, 2), pulled)[:, :, 0]

    def columns(self, count: int) -> Array:
        """Return M(J_m, J_j, J_m, J_j)."""
        return self.law.product_variance(self.jacobian, self.jacobian[:, :, :count])


class HessianFluctuation(Fluctuation):
    r"""The Hessian estimator; `roots` are :math:`Q^\top(\rho_r^\top H)Q`, (n, r, P, P)."""

    def __init__(self, roots: Array) -> None:
        self.roots = roots

    def linear(self, weights: Array) -> Array:
        """Return the sum over r of tr(diag(w) N_r)^2."""
        return np.square(np.diagonal(self.roots, axis1=2, axis2=3) @ weights).sum(axis=1)

    def square(self, left: Array, right: Array) -> Array:
        """Return the sum over r and entries of a_m N_r[m,p]^2 b_p."""
        squares = np.square(self.roots).sum(axis=1)
        return np.matmul(squares, right) @ left

    def times(self, matrix: Array, vector: Array) -> Array:
        """Return the sum over r of (X N_r v)^2."""
        return np.square(np.matmul(self.roots, vector) @ matrix.T).sum(axis=1)

    def twice(self, weights: Array, vector: Array) -> Array:
        """Return the sum over r of N_r diag(w) N_r v."""
        moved = weights * np.matmul(self.roots, vector)
        return np.matmul(self.roots, moved[..., None])[..., 0].sum(axis=1)

    def columns(self, count: int) -> Array:
        """Return the sum over r of N_r[m,j]^2."""
        return np.square(self.roots[..., :count]).sum(axis=1)


class InputFluctuation(HessianFluctuation):
    r"""Sampled inputs: :math:`N=F_i-F`, one matrix per input; `root` is that of F_i in the eigenbasis of F, (n, r, P)."""

    def __init__(self, root: Array, values: Array) -> None:
        deviation = np.matmul(root.swapaxes(1, 2), root)
        own = np.arange(len(values))
        deviation[:, own, own] -= values
        super().__init__(deviation[:, None])


class Functional(ABC):
    """A smooth function of the information matrix; `dim` names the dim of its value, if it is not a single number."""

    dim: ClassVar[str | None] = None

    @property
    def size(self) -> int:
        """The entries of its value, where these are neither one nor one for each parameter."""
        return 1

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return the parameters that define the functional, in plain values."""

    def in_order(self, order: Callable[[str, Any], Any]) -> Functional:
        """Return the functional with its parameter vectors reordered to those of a network, by `order(name, vector)`."""
        return self

    def fits(self, n_params: int) -> None:  # noqa: B027
        """Require a functional that matches the number of parameters."""

    def defined_at(self, spectrum: Spectrum) -> None:  # noqa: B027
        """Require a spectrum at which the functional is twice differentiable."""

    @abstractmethod
    def value(self, spectrum: Spectrum) -> Array:
        """Return the value at F, (k,); one number for k = 1."""

    @abstractmethod
    def moments(self, spectrum: Spectrum, error: Fluctuation) -> list[Array]:
        """Return variance and second-order bias of one label, summed over the inputs of a block."""


@dataclass(frozen=True, eq=False)
class SolveWith(Functional):
    r"""The solution :math:`w=(F+\lambda)^{-1}g`, a damped natural-gradient step.

    With :math:`A=(F+\lambda)^{-1}`: :math:`D\phi[E]=-AEw`, :math:`\tfrac12D^2\phi[E,E]=AEAEw`.

    Parameters
    ----------
    g : array_like, shape (P,)
        The right-hand side.
    damping : float
        :math:`\lambda>0`.

    Examples
    --------
    >>> SolveWith([1.0, 0.0], damping=0.1).parameters()["damping"]
    0.1
    """

    dim: ClassVar[str | None] = "param"
    g: Any
    damping: float

    def __post_init__(self) -> None:
        labelled = self.g.copy() if hasattr(self.g, "dims") or hasattr(self.g, "iloc") else None
        g = arguments.real_array("g", self.g).astype(np.float64)
        g.flags.writeable = False
        object.__setattr__(self, "_labelled", labelled)
        object.__setattr__(self, "g", g)
        object.__setattr__(self, "damping", arguments.positive_number("damping", self.damping))

    def parameters(self) -> dict[str, Any]:
        """Return the name, right-hand side and damping."""
        return {"name": "solve_with", "g": self.g.tolist(), "damping": self.damping}

    def in_order(self, order: Callable[[str, Any], Any]) -> SolveWith:
        """Return it with the right-hand side reordered to the parameters of a network, by its labels."""
        labelled: Any = self.__dict__["_labelled"]
        return self if labelled is None else replace(self, g=order("g", labelled).to_numpy())

    def fits(self, n_params: int) -> None:
        """Require one number per parameter."""
        arguments.parameter_vector("g", self.g, n_params)

    def _solved(self, spectrum: Spectrum) -> tuple[Array, Array]:
        """Return the eigenvalues of A and w in the eigenbasis."""
        inverse = 1 / (spectrum.values + self.damping)
        return inverse, inverse * (spectrum.vectors.T @ like(self.g, inverse))

    def value(self, spectrum: Spectrum) -> Array:
        """Return w."""
        return spectrum.vectors @ self._solved(spectrum)[1]

    def moments(self, spectrum: Spectrum, error: Fluctuation) -> list[Array]:
        """Return the sums of Var(A E w) and of A E[E A E] w."""
        inverse, solution = self._solved(spectrum)
        second = error.twice(inverse, solution).sum(axis=0)
        return [error.times(spectrum.vectors * inverse, solution).sum(axis=0), spectrum.vectors @ (inverse * second)]


@dataclass(frozen=True)
class LogDet(Functional):
    r"""The log-determinant :math:`\log\det(F+\tau)`.

    With :math:`A=(F+\tau)^{-1}`: :math:`D\phi[E]=\mathrm{tr}(AE)`, :math:`D^2\phi[E,E]=-\mathrm{tr}(AEAE)`; its bias is never
    positive.

    Parameters
    ----------
    tau : float
        :math:`\tau>0`.

    Examples
    --------
    >>> LogDet(0.5)
    LogDet(tau=0.5)
    """

    tau: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "tau", arguments.positive_number("tau", self.tau))

    def parameters(self) -> dict[str, Any]:
        """Return the name and tau."""
        return {"name": "log_det", "tau": self.tau}

    def defined_at(self, spectrum: Spectrum) -> None:
        """Require F + tau to be invertible within the range of float64."""
        functionals.inverse_within_range(self.tau, spectrum.values)

    def value(self, spectrum: Spectrum) -> Array:
        """Return the sum of log(lambda + tau)."""
        return np.log(spectrum.values + self.tau).sum(keepdims=True)

    def moments(self, spectrum: Spectrum, error: Fluctuation) -> list[Array]:
        """Return the sums of Var(tr AE) and of -E[tr AEAE] / 2."""
        inverse = 1 / (spectrum.values + self.tau)
        return [error.linear(inverse).sum(keepdims=True), 0.0 - error.square(inverse, inverse).sum(keepdims=True) / 2]


@dataclass(frozen=True)
class EffectiveDimension(Functional):
    r"""The effective dimension :math:`\mathrm{tr}\,F(F+\tau)^{-1}`.

    With :math:`A=(F+\tau)^{-1}`: :math:`D\phi[E]=\tau\,\mathrm{tr}(A^2E)`, :math:`D^2\phi[E,E]=-2\tau\,\mathrm{tr}(A^2EAE)`; its
    bias is never positive.

    Parameters
    ----------
    tau : float
        :math:`\tau>0`.

    Examples
    --------
    >>> EffectiveDimension(0.5)
    EffectiveDimension(tau=0.5)
    """

    tau: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "tau", arguments.positive_number("tau", self.tau))

    def parameters(self) -> dict[str, Any]:
        """Return the name and tau."""
        return {"name": "effective_dimension", "tau": self.tau}

    def defined_at(self, spectrum: Spectrum) -> None:
        """Require F + tau to be invertible within the range of float64."""
        functionals.inverse_within_range(self.tau, spectrum.values)

    def value(self, spectrum: Spectrum) -> Array:
        """Return the sum of lambda / (lambda + tau)."""
        return (spectrum.values / (spectrum.values + self.tau)).sum(keepdims=True)

    def moments(self, spectrum: Spectrum, error: Fluctuation) -> list[Array]:
        """Return the sums of Var(tau tr A^2 E) and of -tau E[tr A^2 E A E]."""
        inverse = 1 / (spectrum.values + self.tau)
        once = self.tau * np.square(inverse)
        return [error.linear(once).sum(keepdims=True), 0.0 - error.square(once, inverse).sum(keepdims=True)]


@dataclass(frozen=True)
class LeadingEigenvalues(Functional):
    r"""The k largest eigenvalues of F.

    With unit eigenvectors q: :math:`D\lambda_j[E]=q_j^\top Eq_j`,
    :math:`\tfrac12D^2\lambda_j[E,E]=\sum_{m\ne j}(q_m^\top Eq_j)^2/(\lambda_j-\lambda_m)`; the bias of the largest is never
    negative.

    Parameters
    ----------
    k : int
        Number of eigenvalues.

    Examples
    --------
    >>> LeadingEigenvalues(2)
    LeadingEigenvalues(k=2)
    """

    dim: ClassVar[str | None] = "eigenvalue"
    k: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", arguments.positive_integer("k", self.k))

    @property
    def size(self) -> int:
        """The number of eigenvalues."""
        return self.k

    def parameters(self) -> dict[str, Any]:
        """Return the name and k."""
        return {"name": "leading_eigenvalues", "k": self.k}

    def fits(self, n_params: int) -> None:
        """Require at most one eigenvalue per parameter."""
        functionals.n_eigenvalues(self.k, n_params)

    def _gaps(self, spectrum: Spectrum) -> Array:
        """Return lambda_j - lambda_m, (P, k), inf for m = j."""
        gaps: Array = spectrum.values[: self.k] - spectrum.values[:, None]
        gaps[np.arange(self.k), np.arange(self.k)] = np.inf
        return gaps

    def defined_at(self, spectrum: Spectrum) -> None:
        """Require simple eigenvalues."""
        rounding = 64 * len(spectrum.values) * np.finfo(np.float64).eps * spectrum.values[0]
        functionals.simple_eigenvalues(spectrum.values, np.abs(self._gaps(spectrum)).min(axis=0), rounding)

    def value(self, spectrum: Spectrum) -> Array:
        """Return the eigenvalues, the largest first."""
        return spectrum.values[: self.k]

    def moments(self, spectrum: Spectrum, error: Fluctuation) -> list[Array]:
        """Return the sums of Var(E_jj) and of Var(E_mj) / (lambda_j - lambda_m)."""
        variances = error.columns(self.k).sum(axis=0)
        own = np.arange(self.k)
        return [variances[own, own], (variances / self._gaps(spectrum)).sum(axis=0)]
