"""Natural gradients with the full Fisher information of the minibatch, its diagonal, or Kronecker factors of each layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import checked_together, floats, holds, power_of_two
from fisherstats.core.validation import arguments, capacity, training
from fisherstats.training.information import INFORMATION, BatchInformation
from fisherstats.training.optimizers import Batch
from fisherstats.training.parametrization import parametrization_of
from fisherstats.training.preconditioning import Preconditioner, Solve
from fisherstats.training.solvers import Place, cholesky_solver, conjugate_gradients, span_solver

__all__ = ["DiagonalNaturalGradient", "KroneckerNaturalGradient", "NaturalGradient"]

Array = NDArray[np.floating]

_MOST_APART = 2.0**8
"""Scores are rescaled only if their magnitudes differ by more than this factor."""


@dataclass(frozen=True)
class NaturalGradient(Preconditioner):
    r"""Natural gradient descent: :math:`\theta\leftarrow\theta-\eta\,(\hat I(\theta)+\lambda\,1)^{-1}g`.

    :math:`\hat I` is the Fisher information at the inputs of the minibatch, exact or estimated.

    Parameters
    ----------
    learning_rate : float
        Step size eta, above 0; 1 is a full step.
    information : {"exact", "score", "hessian", "empirical"}, default "exact"
        ``exact``: the closed form (2021, eq 6). ``score``, ``hessian``: the estimators of 2024, eqs (2) and (3), from labels
        drawn from the model. ``empirical``: the data labels instead (2024, eq 17), not an estimate of the information.
    n_draws : int, optional
        Labels per input, N; required for ``score`` and ``hessian``, not allowed otherwise.
    damping : float, default 1e-3
        lambda, at least 0.
    solver : {"dense", "cg"}, default "dense"
        ``dense``: Cholesky factor of the matrix. ``cg``: conjugate gradients by products with vectors.
    update_every : int, default 1
        Number of steps that reuse the information computed at the first of them.
    tolerance : float, default 1e-8
        For ``cg``: norm of the residual at which to stop, as a fraction of that of the gradient.

    Raises
    ------
    ValueError
        If a setting is outside its range.
    SizeError
        In a fit, if the matrix would not fit in memory.
    AssumptionError
        In a fit, if information and damping together are not positive definite; the message names an eigenvalue or, for
        ``cg``, the curvature along a direction. Eigenvalues are not clipped.

    Notes
    -----
    Cost: ``dense`` n P^2 operations for the matrix of n inputs, plus one Jacobian pass (T backward passes), P^3 / 3 for its
    factor, and 2 P^2 per step that uses it; memory of 2 P^2 numbers. Where n T < P and the damping is above 0 (not for
    ``hessian``) the same step is found in the span of n T rows: (n T)^2 (units + inputs) for their products, (n T)^3 / 3 for
    a factor, 2 T n P per step at most, memory of 2 (n T)^2 numbers. ``cg`` takes about one gradient of the minibatch per
    iteration, two for ``hessian``, in each step; P iterations at most in theory, fewer where eigenvalues cluster; memory of a
    forward pass. Without damping and with a rank-deficient exact information it is the minimum-norm solution; if scores also
    differ in magnitude by more than 2^8, the minimum norm is in units of their magnitude.

    The information of n inputs has a rank of n T at most (n min(N, T) for ``score``, n for ``empirical``): smaller batches
    need a damping. The Hessian estimate is indefinite in general where there are hidden layers, and then needs a damping
    above its most negative eigenvalue, or more draws; at a kink it takes left derivatives. Labels come from the optimiser's
    own stream: the ``rng`` of `fit` decides them, and shuffling does not depend on them.

    Penalties are part of the gradient, not of the information. On a GPU everything stays on the device, except the natural
    parameters for which labels are drawn: samplers run on the host.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.array([[0.0], [1.0], [3.0]])
    >>> model = fs.MLP([[[0.0, 0.0]]], activation=[], family=fs.families.Gaussian(1))
    >>> newton = fs.training.NaturalGradient(1.0, damping=0)
    >>> fitted = fs.training.fit(model, x, 2 * x[:, 0] + 1, optimizer=newton, epochs=1, batch_size=3, rng=0)
    >>> fitted.model.weights[0].round(12)
    array([[2., 1.]])
    """

    learning_rate: float
    information: str = "exact"
    n_draws: int | None = None
    damping: float = 1e-3
    solver: str = "dense"
    update_every: int = 1
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        _check(self, INFORMATION)
        arguments.choice("solver", self.solver, ("dense", "cg"))
        object.__setattr__(self, "tolerance", arguments.fraction("tolerance", self.tolerance))

    def inverse(self, batch: Batch) -> Solve:
        """Return the function that solves with the damped information of a batch."""
        information = BatchInformation(batch, self.information, self.n_draws)
        place = _place(self, batch)
        if self.solver == "dense":
            return checked_together(lambda: self._dense(information, batch, place))
        product = checked_together(information.product)
        unit = self._units(information)
        if unit is None:
            return lambda gradient: conjugate_gradients(product, gradient, self.damping, place, self.tolerance)

        def scaled(v: Array) -> Array:
            return product(v / unit) / unit

        return lambda gradient: conjugate_gradients(scaled, gradient / unit, self.damping, place, self.tolerance) / unit

    def _units(self, information: BatchInformation) -> Array | None:
        """Return powers of two of the size of the parameters' scores, if these differ much and there is no damping."""
        if self.damping or information.batch.data.device is not None:
            return None
        size = np.sqrt(np.abs(information.diagonal()).astype(np.float64))
        if not size.all() or size.max() <= _MOST_APART * size.min():
            return None
        return power_of_two(size)

    def _dense(self, information: BatchInformation, batch: Batch, place: Place) -> Solve:
        own = parametrization_of(batch.model)
        n_rows = len(batch.rows) * batch.model.family.n_outputs
        in_span = self.information != "hessian" and self.damping > 0 and n_rows < own.size
        size = 8 * n_rows**2 if in_span else 8 * own.size**2
        remedy = "use solver='cg', smaller batches with a damping, KroneckerNaturalGradient or RelativeNaturalGradient."
        capacity.fits("`NaturalGradient` with solver='dense'", size, size, remedy, batch.data.device)
        if in_span:
            return span_solver(*information.rows(), own.views, self.damping, place)
        return cholesky_solver(information.matrix(), self.damping, place, _precision(batch))


@dataclass(frozen=True)
class DiagonalNaturalGradient(Preconditioner):
    r"""Natural gradient by the diagonal of the information: :math:`\theta_i\leftarrow\theta_i-\eta\,g_i/(\hat I_{ii}+\lambda)`.

    Parameters
    ----------
    learning_rate : float
        Step size eta, above 0.
    information : {"exact", "score", "hessian", "empirical"}, default "exact"
        The matrix used as the information, as for `NaturalGradient`.
    n_draws : int, optional
        Labels per input, N; required for ``score`` and ``hessian``, not allowed otherwise.
    damping : float, default 1e-3
        lambda, at least 0.
    update_every : int, default 1
        Number of steps that reuse the information.

    Raises
    ------
    ValueError
        If a setting is outside its range.
    AssumptionError
        In a fit, if an entry of the diagonal plus the damping is not above 0: an estimate by ``hessian``, or a dead unit.

    Notes
    -----
    Cost: one Jacobian pass (T backward passes) of the minibatch and one product per layer; P per step that uses it. ``hessian``
    adds one pass of second derivatives. Unlike Adam, no square root is taken.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.training.DiagonalNaturalGradient(0.1, "score", n_draws=1)
    DiagonalNaturalGradient(learning_rate=0.1, information='score', n_draws=1, damping=0.001, update_every=1)
    """

    learning_rate: float
    information: str = "exact"
    n_draws: int | None = None
    damping: float = 1e-3
    update_every: int = 1

    def __post_init__(self) -> None:
        _check(self, INFORMATION)

    def inverse(self, batch: Batch) -> Solve:
        """Return the function that divides by the damped diagonal of a batch."""
        information = BatchInformation(batch, self.information, self.n_draws)

        def damped_diagonal() -> Array:
            diagonal = information.diagonal().astype(np.float64)
            total: Array = diagonal + self.damping
            if not holds(total > 0):
                training.indefinite(*_place(self, batch), float(diagonal.min()))
            return total

        total = checked_together(damped_diagonal)
        return lambda gradient: gradient / total


@dataclass(frozen=True)
class KroneckerNaturalGradient(Preconditioner):
    r"""Natural gradient by Kronecker factors of each layer's block (K-FAC): :math:`\Delta W_l=-\eta\,G_l^{-1}\,g_l\,A_l^{-1}`.

    :math:`A_l` is the mean of :math:`\bar h_l\bar h_l^\top` and :math:`G_l` that of :math:`(\partial h_L/\partial a_{l+1})^\top
    S\,(\partial h_L/\partial a_{l+1})` over the minibatch, S = I(h) or its estimate. The damping is split between the factors:
    :math:`A_l+\pi_l\sqrt\lambda\,1` and :math:`G_l+\sqrt\lambda/\pi_l\,1` with
    :math:`\pi_l^2=\frac{\mathrm{tr}A_l/\dim A_l}{\mathrm{tr}\,G_l/\dim G_l}` (Martens & Grosse 2015, Section 6.3).

    Parameters
    ----------
    learning_rate : float
        Step size eta, above 0.
    information : {"exact", "score", "empirical"}, default "exact"
        The matrix used as the information, as for `NaturalGradient`; ``score`` with one draw is the original method.
    n_draws : int, optional
        Labels per input, N; required for ``score``, not allowed otherwise.
    damping : float, default 1e-3
        lambda, at least 0.
    update_every : int, default 1
        Number of steps that reuse the factors.

    Raises
    ------
    ValueError
        If a setting is outside its range.
    AssumptionError
        In a fit, if a damped factor is not positive definite.

    Notes
    -----
    Cost for a layer of a units and b inputs: n (R a^2 + b^2) for the factors of n inputs (R = T rows, or min(N, T) or 1; at most
    1 for exact ones of the last layer where outputs are classes or independent), (a^3 + b^3) / 3 for their Cholesky factors,
    2 a b (a + b) per step that uses them. The factors are those of the latest batch alone, without the running averages, the
    momentum and the adaptive damping of Martens & Grosse. Where pi is undefined because a factor is 0, it is set to 1.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.training.KroneckerNaturalGradient(0.1, damping=0.01, update_every=20)
    KroneckerNaturalGradient(learning_rate=0.1, information='exact', n_draws=None, damping=0.01, update_every=20)
    """

    learning_rate: float
    information: str = "exact"
    n_draws: int | None = None
    damping: float = 1e-3
    update_every: int = 1

    def __post_init__(self) -> None:
        _check(self, tuple(word for word in INFORMATION if word != "hessian"))

    def inverse(self, batch: Batch) -> Solve:
        """Return the function that solves with the damped factors of a batch."""
        information = BatchInformation(batch, self.information, self.n_draws)
        own = parametrization_of(batch.model)
        solvers = checked_together(lambda: self._solvers(information, own.names, batch))

        def solve(gradient: Array) -> Array:
            direction = np.empty_like(gradient)
            for (inputs, units), given, part in zip(solvers, own.views(gradient), own.views(direction), strict=True):
                part[...] = units(inputs(given.T).T)
            return direction

        return solve

    def _solvers(self, information: BatchInformation, names: list[str], batch: Batch) -> list[tuple[Solve, Solve]]:
        """Return the functions that solve with the damped factors A and G of every part."""
        A, G = information.kronecker_factors()
        means = floats([np.trace(factor) / len(factor) for factors in zip(A, G, strict=True) for factor in factors])
        precision, root, found = _precision(batch), math.sqrt(self.damping), []
        for name, A_l, G_l, mean_A, mean_G in zip(names, A, G, means[::2], means[1::2], strict=True):
            place = _place(self, batch, f"Kronecker factors of {name} of the ")
            pi = math.sqrt(mean_A / mean_G) if mean_A > 0 and mean_G > 0 else 1.0
            found.append((cholesky_solver(A_l, pi * root, place, precision), cholesky_solver(G_l, root / pi, place, precision)))
        return found


def _check(settings: Any, allowed: tuple[str, ...]) -> None:
    """Validate and convert the settings common to these optimisers."""
    object.__setattr__(settings, "learning_rate", arguments.positive_number("learning_rate", settings.learning_rate))
    arguments.choice("information", settings.information, allowed)
    object.__setattr__(settings, "n_draws", training.draws_of(settings.information, settings.n_draws))
    object.__setattr__(settings, "damping", arguments.non_negative_number("damping", settings.damping))
    object.__setattr__(settings, "update_every", arguments.positive_integer("update_every", settings.update_every))


def _place(settings: Any, batch: Batch, part: str = "") -> Place:
    return Place(f"{part}{settings.information} information", settings.damping, batch.number + 1)


def _precision(batch: Batch) -> float:
    return float(np.finfo(batch.data.dtype).eps)
