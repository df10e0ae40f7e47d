"""Checks of `testing.calibrate`: of a function of the user's, and of what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation.arguments import positive_integer, positive_number, real_array, shown

__all__ = [
    "callable_function",
    "false_alarm",
    "finite_estimate",
    "n_calls",
    "one_number_per_parameter",
    "same_names",
    "same_shapes",
]

_FEWEST_CALLS = 20


def callable_function(function: Any) -> None:
    """Require a function of a generator."""
    if not callable(function):
        raise TypeError(
            f"`function` must be callable: it takes a numpy Generator and returns an estimate, got {shown(function)}; pass the "
            "function itself and not its result."
        )


def n_calls(value: Any) -> int:
    """Return the number of calls, enough for a standard deviation."""
    number = positive_integer("n_calls", value)
    if number < _FEWEST_CALLS:
        raise ValueError(f"`n_calls` must be at least {_FEWEST_CALLS}, from which a spread is estimated, got {number}.")
    return number


def false_alarm(value: Any) -> float:
    """Return a probability below one half."""
    number = positive_number("false_alarm", value)
    if number >= 0.5:
        raise ValueError(f"`false_alarm` must be a probability below 0.5, got {number}.")
    return number


def one_number_per_parameter(value: Any, n_params: int) -> NDArray[np.float64]:
    """Return the estimate of a function as a vector with one number per parameter."""
    array = real_array("function(rng)", value)
    if array.shape != (n_params,):
        raise ValueError(
            f"`function` must return {n_params} numbers, one per parameter in the order of `fisher_information`, or a mapping "
            f"together with `by`, got an array of shape {array.shape}."
        )
    return finite_estimate(array.astype(np.float64))


def finite_estimate(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Require finite numbers."""
    if not np.isfinite(array).all():
        raise ValueError("`function` must return finite numbers, got nan or inf.")
    return array


def same_names(value: Any, names: Sequence[str]) -> None:
    """Require a mapping with the names that `by` gives."""
    if not isinstance(value, Mapping):
        raise TypeError(f"`function` must return a mapping from names to arrays where `by` is given, got {shown(value)}.")
    if set(value) != set(names):
        missing, other = sorted(set(names) - set(value)), sorted(map(str, set(value) - set(names)))
        raise ValueError(
            f"`function` must return the names that `by` gives; missing are {missing}, and not among them are {other}."
        )


def same_shapes(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Require arrays of the shapes that `by` gives."""
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise ValueError(f"`function` must return an array of shape {shape} for {name!r}, as `by` does, got {shapes[name]}.")
