"""Checks of directions in the parameter space and of functionals of the information."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.errors import AssumptionError, SizeError
from fisherstats.core.validation.arguments import positive_integer, real_array, shown

__all__ = ["direction_rows", "few_parameters", "functional_object", "inverse_within_range", "n_eigenvalues", "simple_eigenvalues"]


def direction_rows(value: Any, n_params: int) -> NDArray[np.floating]:
    """Return directions as (k, P); one vector is one direction."""
    array = real_array("directions", value)
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 or rows.shape[1] != n_params or not len(rows):
        raise ValueError(
            f"`directions` must have shape ({n_params},) or (k, {n_params}), one number per parameter, got shape {array.shape}."
        )
    return rows


def functional_object(value: Any, functional_type: type) -> None:
    """Require one of the functionals of the package."""
    if not isinstance(value, functional_type):
        raise TypeError(
            "`functional` must be SolveWith(g, damping), LogDet(tau), EffectiveDimension(tau) or LeadingEigenvalues(k), got "
            f"{shown(value)}."
        )


def few_parameters(n_params: int, most: int) -> None:
    """Require a network whose information can be decomposed as a whole."""
    if n_params > most:
        raise SizeError(
            f"`propagate` decomposes the whole matrix of {8 * n_params**2:,} bytes and is offered up to {most:,} parameters, got "
            f"{n_params:,}; use `fisher_operator` for products and `functional_variance` for the variance of a linear functional."
        )


def n_eigenvalues(k: Any, n_params: int) -> int:
    """Return the number of leading eigenvalues, at most one per parameter."""
    number = positive_integer("k", k)
    if number > n_params:
        raise ValueError(f"`k` must be at most {n_params}, the number of parameters, got {number}.")
    return number


_LEAST_INVERTED = 1e-150
"""Smaller numbers have inverses whose squares nearly overflow."""


def inverse_within_range(tau: float, values: NDArray[np.floating]) -> None:
    """Require F + tau to have an inverse whose square is within the range of float64."""
    smallest = float(values.min()) + tau
    if smallest < _LEAST_INVERTED:
        raise ValueError(
            f"`tau` must be at least {_LEAST_INVERTED:g} where the information has eigenvalues below that, got {tau:g}; the "
            "square of the inverse of F + tau, which the error needs, overflows."
        )


def simple_eigenvalues(values: NDArray[np.floating], gaps: NDArray[np.floating], least: float) -> None:
    """Require each of the leading eigenvalues to be separated from all others by more than rounding error."""
    close = gaps <= least
    if close.any():
        position = int(np.argmax(close))
        raise AssumptionError(
            f"The expansion of an eigenvalue needs it to be simple, but eigenvalue {position}, {values[position]:.6g}, is within "
            f"{gaps[position]:.3g} of another one; functions of the whole spectrum, LogDet(tau) and EffectiveDimension(tau), are "
            "smooth there."
        )
