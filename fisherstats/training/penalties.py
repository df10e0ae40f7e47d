"""Penalties and constraints on the weights, with exact gradients. Kernels are the weights without the bias column.

A `Penalty` holds settings only; its `start` creates the `Restraint` of one fit, which may keep state between steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import floats, number
from fisherstats.core.validation import arguments, training
from fisherstats.models.network import MLP

__all__ = ["Frobenius", "GroupWise", "Penalty", "Restraint", "Spectral", "SpectralProjection"]

Array = NDArray[np.floating]


class Restraint:
    """A penalty during one fit; subclasses override either or both of its methods."""

    def penalise(self, weights: Sequence[Array], gradients: Sequence[Array]) -> Any:
        """Return the penalty at the weights and add its gradient to `gradients` in place.

        Parameters
        ----------
        weights, gradients : sequence of ndarray, shape (n_out, n_in + 1)
            One matrix per layer, the bias in the last column if the layer has one; device arrays in a fit on a device.

        Returns
        -------
        float
            The value added to the mean negative log-likelihood; on a device it may be a device array of one number.
        """
        return 0.0

    def project(self, weights: Sequence[Array], exact: bool) -> None:
        """Project the weights onto the constraint in place after a step.

        Parameters
        ----------
        weights : sequence of ndarray, shape (n_out, n_in + 1)
            One matrix per layer, the bias in the last column if the layer has one.
        exact : bool
            True at the end of an epoch, where an exact projection is affordable.
        """


class Penalty(ABC):
    """Settings of a penalty or constraint."""

    @abstractmethod
    def start(self, model: MLP) -> Restraint:
        """Return the restraint for one fit.

        Parameters
        ----------
        model : MLP
            The network to be trained.

        Returns
        -------
        Restraint
            New, without state from other fits.
        """


@dataclass(frozen=True)
class Frobenius(Penalty):
    r"""Weight decay: :math:`\sum_l\frac{\lambda_l}2\|W_l^-\|_F^2`.

    Parameters
    ----------
    strength : float or sequence of float
        lambda, at least 0: one number for all layers, or one per layer.
    biases : bool, default False
        Whether the biases are penalised too.

    Raises
    ------
    ValueError
        If a strength is negative or not finite.

    Notes
    -----
    The gradient is lambda W. In a fit with Adam it passes through Adam's moments as any gradient does (not decoupled).

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.training.Frobenius([1e-3, 1e-4])
    Frobenius(strength=(0.001, 0.0001), biases=False)
    """

    strength: float | Sequence[float]
    biases: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", training.strengths("strength", self.strength))
        object.__setattr__(self, "biases", arguments.boolean("biases", self.biases))

    def start(self, model: MLP) -> Restraint:
        """Return the restraint for one fit."""
        strengths = training.per_layer("strength", self.strength, model.n_layers)
        return _Frobenius(strengths, [None if self.biases else n_in for n_in in model.widths[:-1]])


class _Frobenius(Restraint):
    def __init__(self, strengths: list[float], columns: Sequence[int | None]) -> None:
        self.strengths = strengths
        self.columns = columns

    def penalise(self, weights: Sequence[Array], gradients: Sequence[Array]) -> Any:
        value: Any = 0.0
        for strength, count, weight, gradient in zip(self.strengths, self.columns, weights, gradients, strict=True):
            if strength:
                penalised, into = weight[:, :count], gradient[:, :count]
                value += strength / 2 * _square(penalised)
                np.add(into, strength * penalised, out=into)
        return value


@dataclass(frozen=True)
class GroupWise(Penalty):
    r"""Group lasso: :math:`\sum_l\lambda_l\sum_g\sqrt{|g|}\,\|w_g\|_2` over groups g of a kernel.

    Unlike weight decay it drives whole groups to zero: inactive units, unused inputs.

    Parameters
    ----------
    strength : float or sequence of float
        lambda, at least 0: one number for all layers, or one per layer.
    by : {"unit", "feature", "layer"}, default "unit"
        Definition of a group: the weights into a unit (a row of the kernel), out of a unit or input (a column), or the whole
        kernel.

    Raises
    ------
    ValueError
        If a strength is negative or not finite, or `by` is not one of the listed values.

    Notes
    -----
    The factor is the root of the number of weights in the group (Yuan & Lin 2006). At a group that is exactly 0 the gradient
    is taken as 0, one of the subgradients. Gradient steps approach zero without reaching it exactly.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.training.GroupWise(1e-4, by="feature")
    GroupWise(strength=0.0001, by='feature')
    """

    strength: float | Sequence[float]
    by: str = "unit"

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", training.strengths("strength", self.strength))
        arguments.choice("by", self.by, ("unit", "feature", "layer"))

    def start(self, model: MLP) -> Restraint:
        """Return the restraint for one fit."""
        axes = {"unit": (1,), "feature": (0,), "layer": (0, 1)}
        return _GroupWise(training.per_layer("strength", self.strength, model.n_layers), model.widths[:-1], axes[self.by])


class _GroupWise(Restraint):
    def __init__(self, strengths: list[float], columns: Sequence[int], axes: tuple[int, ...]) -> None:
        self.strengths = strengths
        self.columns = columns
        self.axes = axes

    def penalise(self, weights: Sequence[Array], gradients: Sequence[Array]) -> Any:
        value: Any = 0.0
        for strength, count, weight, gradient in zip(self.strengths, self.columns, weights, gradients, strict=True):
            if strength:
                kernel, into = weight[:, :count], gradient[:, :count]
                norms = np.sqrt(np.square(kernel).sum(axis=self.axes, keepdims=True))
                factor = strength * (kernel.size / norms.size) ** 0.5
                value += factor * number(norms.sum(dtype=np.float64))
                np.add(into, factor * kernel / np.where(norms > 0, norms, 1), out=into)
        return value


@dataclass(frozen=True)
class Spectral(Penalty):
    r"""Penalty on the largest singular value: :math:`\sum_l\frac{\lambda_l}2 s_{\max}(W_l^-)^2`.

    Parameters
    ----------
    strength : float or sequence of float
        lambda, at least 0: one number for all layers, or one per layer.
    iterations : int, default 2
        Power iterations per step.

    Raises
    ------
    ValueError
        If a setting is outside its range.

    Notes
    -----
    The gradient is :math:`\lambda s\,uv^\top`. The first singular vectors are exact, and each step starts the iteration from
    those of the previous step; then the value is :math:`\|W^\top u\|\le s_{\max}`, with an error of second order in that of u.
    Cost: two products with a vector per iteration and layer.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.training.Spectral(0.01)
    Spectral(strength=0.01, iterations=2)
    """

    strength: float | Sequence[float]
    iterations: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", training.strengths("strength", self.strength))
        object.__setattr__(self, "iterations", arguments.positive_integer("iterations", self.iterations))

    def start(self, model: MLP) -> Restraint:
        """Return the restraint for one fit."""
        return _Spectral(training.per_layer("strength", self.strength, model.n_layers), model, self.iterations)


class _Spectral(Restraint):
    def __init__(self, strengths: list[float], model: MLP, iterations: int) -> None:
        self.strengths = strengths
        self.iterations = iterations
        self.top = [TopSingular(kernel) if strength else None for strength, kernel in zip(strengths, model.kernels, strict=True)]

    def penalise(self, weights: Sequence[Array], gradients: Sequence[Array]) -> Any:
        value: Any = 0.0
        for strength, top, weight, gradient in zip(self.strengths, self.top, weights, gradients, strict=True):
            if top is not None:
                top.follow(weight[:, : len(top.right)], self.iterations)
                value += strength / 2 * top.value**2
                into = gradient[:, : len(top.right)]
                np.add(into, (strength * top.value * top.left)[:, None] * top.right, out=into)
        return value


@dataclass(frozen=True)
class SpectralProjection(Penalty):
    r"""Keep the largest singular value at a limit: after each step :math:`W_l^-\leftarrow W_l^-\min(1,c/s_{\max}(W_l^-))`.

    Spectral normalisation of the kernels as a constraint; no term is added to the loss.

    Parameters
    ----------
    limit : float or sequence of float
        c, above 0: one number for all layers, or one per layer (inf leaves a layer unconstrained).
    iterations : int, default 100
        Maximum number of power iterations after a step; they stop earlier when the singular value has converged.

    Raises
    ------
    ValueError
        If a setting is outside its range.

    Notes
    -----
    After a step the singular value is found by power iteration, warm-started from the previous step and stopped when the relative
    change is below 1e-9; at the end of an epoch it is computed exactly, so that callbacks and the fitted network have kernels
    within the limit. A device is synchronised once per step, and once per iteration.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.training.SpectralProjection(1.5)
    SpectralProjection(limit=1.5, iterations=100)
    """

    limit: float | Sequence[float]
    iterations: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", training.limits("limit", self.limit))
        object.__setattr__(self, "iterations", arguments.positive_integer("iterations", self.iterations))

    def start(self, model: MLP) -> Restraint:
        """Return the restraint for one fit."""
        return _SpectralProjection(training.per_layer("limit", self.limit, model.n_layers), model, self.iterations)


class _SpectralProjection(Restraint):
    def __init__(self, limits: list[float], model: MLP, iterations: int) -> None:
        self.limits = limits
        self.iterations = iterations
        self.top = [TopSingular(kernel) if limit < np.inf else None for limit, kernel in zip(limits, model.kernels, strict=True)]

    def project(self, weights: Sequence[Array], exact: bool) -> None:
        limited = zip(self.limits, self.top, weights, strict=True)
        held = [(limit, top, weight[:, : len(top.right)]) for limit, top, weight in limited if top is not None]
        squares = [] if exact else floats([_square(kernel) for _, _, kernel in held])
        for position, (limit, top, kernel) in enumerate(held):
            if exact:
                top.exact(kernel)
            # No singular value is above the Frobenius norm.
            elif squares[position] > limit**2:
                top.follow(kernel, self.iterations, settled=1e-9)
            if top.value > limit:
                # Slightly less, so that rounding cannot exceed the limit.
                shrinkage = limit / top.value * (1 - 4 * float(np.finfo(kernel.dtype).eps))
                np.multiply(kernel, shrinkage, out=kernel)
                top.value *= shrinkage


class TopSingular:
    """The largest singular value of a slowly changing matrix, with its two singular vectors.

    Parameters
    ----------
    matrix : ndarray, shape (m, k)
        The initial matrix, for which all values are exact.
    """

    value: Any
    left: Array
    right: Array

    def __init__(self, matrix: Array) -> None:
        self.exact(matrix)

    def exact(self, matrix: Array) -> None:
        """Recompute value and vectors exactly.

        Parameters
        ----------
        matrix : ndarray, shape (m, k)
            The current matrix.
        """
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        self.value, self.left, self.right = float(values[0]), left[:, 0].copy(), right[0].copy()

    def follow(self, matrix: Array, iterations: int, settled: float = 0.0) -> None:
        """Iterate from the previous vectors, until the relative change of the value is at most `settled`.

        Parameters
        ----------
        matrix : ndarray, shape (m, k)
            The current matrix.
        iterations : int
            Maximum number of iterations.
        settled : float, default 0.0
            Relative change at which to stop; only if it is above 0, a device is synchronised in every iteration.
        """
        before = np.nan
        for _ in range(iterations):
            left, _ = _unit(matrix @ self.right)
            right, value = _unit(left @ matrix)
            if not settled and not isinstance(value, float):
                self.value, self.left, self.right = value, left, np.where(value > 0, right, self.right)
                continue
            value = float(value)
            if not value:  # orthogonal to all rows: the iteration cannot leave such a vector
                self.exact(matrix)
                return
            self.value, self.left, self.right = value, left, right
            if abs(value - before) <= settled * value:
                return
            before = value


def _unit(vector: Array) -> tuple[Array, Any]:
    length = _square(vector) ** 0.5
    if isinstance(length, float):
        return (vector / length if length else vector), length
    return vector / np.where(length > 0, length, 1.0).astype(vector.dtype), length


def _square(array: Array) -> Any:
    """Return the sum of squares, added in float64."""
    total: Any = np.square(array).sum(dtype=np.float64)
    return float(total) if isinstance(total, float) else total
