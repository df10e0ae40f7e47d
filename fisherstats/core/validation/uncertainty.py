"""Checks of standard errors that accompany the values they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation.arguments import array_like, real_array, real_dtype, shown

__all__ = [
    "errors_belong",
    "errors_given",
    "factor_dims",
    "factor_shape",
    "labelled_estimate",
    "one_design",
    "paired_errors",
    "same_labels",
    "scale_factor",
    "scaled_range",
]

_REMEDIES = (
    "scale values and errors together with `scale_estimate(estimate, factor)`, attach errors of the new values with "
    "`with_standard_error(values, standard_error)`, or continue without errors after "
    "`.drop_vars(['standard_error', 'standard_error_of'], errors='ignore')`."
)


def errors_belong(name: str, values: NDArray[Any], of: NDArray[Any]) -> None:
    """Require values that are still those that a standard error was computed for, to the last bit of the coarser precision."""
    if values.shape == of.shape:
        coarse = min((values, of), key=lambda one: one.dtype.itemsize).dtype if values.dtype.kind == of.dtype.kind else of.dtype
        with np.errstate(over="ignore"):
            now, then = values.astype(coarse, copy=False), of.astype(coarse, copy=False)
        changed = (now != then) & ~(np.isnan(now) & np.isnan(then))
        if not changed.any():
            return
        index = tuple(int(i) for i in np.argwhere(changed)[0])
        place = f" at index {index[0] if len(index) == 1 else index}" if index else ""
        arrived = (
            f"{changed.sum()} of {values.size} differ, the first is {now[index]}{place} where the errors belong to {then[index]}"
        )
    else:
        arrived = f"shape {values.shape} where the errors belong to shape {of.shape}"
    raise ValueError(
        f"`{name}` must hold the values that its coordinate 'standard_error' belongs to, but they have been changed since: "
        f"{arrived}; {_REMEDIES}"
    )


def paired_errors(name: str, is_own: bool) -> None:
    """Require a computed standard error to name its estimate: arithmetic of two estimates may keep the error only."""
    if not is_own:
        raise ValueError(
            f"`{name}` must say which values its coordinate 'standard_error' belongs to, in a coordinate 'standard_error_of', "
            f"got the error alone, as arithmetic of several estimates or a store of an earlier version leaves it; "
            f"{_REMEDIES}"
        )


def labelled_estimate(name: str, is_labelled: bool, value: Any) -> None:
    """Require one labelled quantity."""
    if not is_labelled:
        raise TypeError(
            f"`{name}` must be a DataArray, such as `estimate_fisher` or `importance` return, got {shown(value)}; of a "
            "block view or a Dataset choose one variable."
        )


def scale_factor(value: Any) -> NDArray[np.floating]:
    """Return finite factors."""
    return real_array("factor", value)


def factor_dims(dims: tuple[Any, ...], allowed: tuple[Any, ...]) -> None:
    """Require labelled factors over dims of the estimate, or over its layers."""
    unknown = [dim for dim in dims if dim not in allowed]
    if unknown:
        raise ValueError(f"`factor` must have dims among {allowed}, got {tuple(dims)}; rename them with `.rename(...)`.")


def factor_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Require one factor, or one for each value, where they have no dims."""
    if shape and shape != wanted:
        raise ValueError(
            f"`factor` must be one number, an array of the shape {wanted} of `estimate`, or a DataArray whose dims say what it "
            f"is for, got shape {shape}."
        )


def same_labels(name: str, dim: str, has_all: bool, other: str) -> None:
    """Require labels for all values to be scaled, or for which errors are given."""
    if not has_all:
        raise ValueError(f"`{name}` must have every label that `{other}` has along {dim!r}; select or reindex it first.")


def scaled_range(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Require products within the range of their dtype."""
    if not np.isfinite(values).all():
        raise ValueError(f"`factor` must keep the scaled estimate within the range of {values.dtype}, got a product beyond it.")
    return values


def errors_given(value: Any, shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Return standard errors: one number of at least 0, or one for each value; nan says that an error is not known."""
    array = array_like("standard_error", value)
    real_dtype("standard_error", array.dtype)
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    if array.shape not in ((), shape):
        raise ValueError(f"`standard_error` must be one number or have the shape {shape} of `values`, got shape {array.shape}.")
    if not np.all((array >= 0) | np.isnan(array)):
        bad = array[~((array >= 0) | np.isnan(array))].flat[0]
        raise ValueError(f"`standard_error` must be at least 0, or nan where it is not known, got {bad}.")
    return array


def one_design(designs: dict[str, str]) -> None:
    """Require errors of one design: labels at given inputs, or sampled inputs as well."""
    if len(set(designs.values())) > 1:
        listed = ", ".join(f"{design!r} for `{name}`" for name, design in designs.items())
        raise ValueError(
            f"`importances` must have standard errors of one design, got {listed}; compute them with one `design`, or continue "
            "without errors after `.drop_vars(['standard_error', 'standard_error_of'])`."
        )
