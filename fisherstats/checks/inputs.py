"""Checks of the data matrix x and of its blocks as they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.checks.arguments import positive_integer
from fisherstats.errors import AssumptionError

__all__ = [
    "aggregated",
    "at_least_two_inputs",
    "finite_block",
    "finite_natural",
    "input_matrix",
    "kink_free",
    "labelled_input",
    "population_size",
]


def labelled_input(dims: tuple[Any, ...]) -> None:
    """Require the dims of a labelled x to be input and feature, in either order."""
    if set(dims) != {"input", "feature"}:
        raise ValueError(f"`x` must have the dims ('input', 'feature'), got {tuple(dims)}; rename them with `.rename(...)`.")


def input_matrix(shape: tuple[int, ...], dtype: np.dtype[Any], n_features: int) -> None:
    """Require a real matrix with at least one row and the model's number of columns."""
    if len(shape) != 2:
        advice = "; use x[None, :] for a single input." if len(shape) == 1 else "."
        raise ValueError(f"`x` must be 2-D (input, feature), got shape {shape}{advice}")
    if shape[0] < 1:
        raise ValueError(f"`x` must have at least one row, got shape {shape}.")
    if shape[1] != n_features:
        raise ValueError(f"`x` must have {n_features} columns, the inputs of the first layer, got shape {shape}.")
    if dtype.kind not in "iub" and dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(
            f"`x` must hold float64, float32, integers or bool, got dtype {dtype}; convert it with `.astype(float)` if "
            "that loses nothing."
        )


def finite_block(block: NDArray[np.floating], first_input: int) -> None:
    """Require finite numbers, and name the first that is not."""
    finite = np.isfinite(block)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"`x` must be finite, got {block[row, column]} at index ({first_input + row}, {column}); remove or impute it "
            "before the call."
        )


def finite_natural(h: NDArray[np.floating], first_input: int) -> None:
    """Require the network's output to stay within the float range."""
    finite = np.isfinite(h)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"`model` must give finite natural parameters, got {h[row, column]} for input {first_input + row}, output "
            f"{column}; the weights or the inputs are too large for their dtype {h.dtype}."
        )


def at_least_two_inputs(n_inputs: int, design: str) -> None:
    """Require two inputs where a variance over inputs is estimated."""
    if n_inputs < 2:
        raise ValueError(
            f"`design='{design}'` needs at least two inputs to estimate the variance over inputs, got {n_inputs}; use "
            "design='fixed' for the given inputs alone."
        )


def kink_free(
    pre_activations: list[NDArray[np.floating]], kinks: list[tuple[float, ...]], names: list[str], first_input: int
) -> None:
    """Require that no pre-activation sits exactly on a kink of its activation (2021, smoothness theorem)."""
    for layer, (values, points, name) in enumerate(zip(pre_activations, kinks, names, strict=True)):
        if not points:
            continue
        at_kink = np.isin(values, np.asarray(points, dtype=values.dtype))
        if at_kink.any():
            row, unit = (int(i) for i in np.argwhere(at_kink)[0])
            raise AssumptionError(
                f"The Hessian estimator needs the network to be twice differentiable in the parameters (Soen & Sun 2021, "
                f"smoothness theorem), but the pre-activation of input {first_input + row}, layer {layer}, unit {unit} is "
                f"{values[row, unit]}, a kink of {name} ({int(at_kink.sum())} such units in this block). Use the score "
                "estimator alone, or on_kink='ignore' to take the left derivatives."
            )


def aggregated(name: str, value: bool, design: str) -> None:
    """Refuse quantities per input where the inputs themselves are random."""
    if value:
        raise ValueError(
            f"`{name}` must be False with design='{design}', which describes the mean over random inputs, got True; use "
            "design='fixed' for each input's own variance."
        )


def population_size(population: Any, n_inputs: int) -> int:
    """Return the size of the finite population that the inputs were sampled from."""
    size = positive_integer("population", population)
    if size < n_inputs:
        raise ValueError(f"`population` must be at least the {n_inputs} inputs sampled from it, got {size}.")
    return size
