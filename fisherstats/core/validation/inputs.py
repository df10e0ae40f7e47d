"""Checks of the data matrix x and of its blocks while they are read."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import finite_sum, holds, on_device, on_host
from fisherstats.core.errors import AssumptionError
from fisherstats.core.validation.arguments import positive_integer, positive_number, real_dtype, reworded, shown
from fisherstats.core.validation.other_libraries import batch_advice
from fisherstats.core.validation.remedies import against_kinks

__all__ = [
    "aggregated",
    "announced_rows",
    "at_least_two_inputs",
    "batch_labels",
    "batch_of_rows",
    "costs",
    "errors_within_range",
    "finite_block",
    "finite_pass",
    "finite_results",
    "fixed_inputs",
    "input_labels",
    "input_matrix",
    "kink_free",
    "labelled_input",
    "labelled_response",
    "no_batches",
    "no_costs_with_stratified",
    "one_array",
    "overflow_named",
    "planned_inputs",
    "population_size",
    "reachable_target",
    "same_inputs",
    "underflows",
    "variances_within_range",
]

_SLAB = 2**20
"""Numbers checked at once, so that a check takes little memory compared to the array."""


def labelled_input(dims: tuple[Any, ...], any_shape: bool = False) -> None:
    """Require the dims of a labelled x to be input and feature, in either order, or input and any others."""
    if any_shape and "input" not in dims:
        raise ValueError(f"`x` must have the dim 'input', got {tuple(dims)}; rename it with `.rename(...)`.")
    if not any_shape and set(dims) != {"input", "feature"}:
        raise ValueError(f"`x` must have the dims ('input', 'feature'), got {tuple(dims)}; rename them with `.rename(...)`.")


def one_array(name: str, variables: Any) -> NoReturn:
    """Refuse a collection of labelled arrays."""
    raise TypeError(
        f"`{name}` must be one array, got a Dataset of {shown(list(variables))}; choose a variable, or join them with "
        "`.to_dataarray(...)`."
    )


def input_labels(labels: NDArray[Any], n_levels: int) -> None:
    """Require labels of the inputs that a file can hold: numbers, dates or text, one label per input."""
    if n_levels > 1:
        raise ValueError(
            f"`x` must have one label per input in its coordinate 'input', got a MultiIndex of {n_levels} levels; turn the "
            "levels into plain coordinates with `x.reset_index('input')`."
        )
    text = labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels)
    if labels.dtype.kind not in "biufMmUS" and not text:
        position = next((at for at, label in enumerate(labels) if not isinstance(label, str)), 0)
        raise TypeError(
            f"`x` must have numbers, dates without a time zone or text as labels in its coordinate 'input', got "
            f"{shown(labels[position])} at input {position}; convert them, or leave them out with "
            "`x.drop_vars('input')`."
        )


_LABEL_KINDS = {"b": "booleans", "M": "dates", "m": "durations", "O": "text", "U": "text", "S": "text"}


def batch_labels(parts: Sequence[NDArray[Any]], n_inputs: int) -> NDArray[Any] | None:
    """Return the labels of the inputs of all batches, or None if none has any; `parts` are those of batches that have."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return None
    n_labels = sum(map(len, parts))
    if n_labels != n_inputs:
        raise ValueError(
            f"`x` must have labels in the coordinate 'input' of all its batches or of none, got labels of {n_labels} out of "
            f"{n_inputs} inputs; give the others labels too, or leave them out with `.drop_vars('input')`."
        )
    kinds = list(dict.fromkeys(_LABEL_KINDS.get(part.dtype.kind, "numbers") for part in parts))
    if len(kinds) > 1:
        raise TypeError(
            f"`x` must have labels of one kind in the coordinate 'input' of its batches, got {kinds[1]} after {kinds[0]}; "
            "convert them, or leave them out with `.drop_vars('input')`."
        )
    return np.concatenate(parts)


def labelled_response(dims: tuple[Any, ...]) -> None:
    """Require the dim of the inputs in labelled data labels."""
    if "input" not in dims:
        raise ValueError(f"`y` must have the dim 'input', got {tuple(dims)}; rename it with `.rename(...)`.")


def same_inputs(labels: NDArray[Any], wanted: NDArray[Any], remedy: str) -> None:
    """Require the data labels to be for the inputs of x, in the same order."""
    place = "index" if "index" in remedy else "coordinate 'input'"
    if len(labels) == len(wanted):
        different = np.flatnonzero(labels.astype(object) != wanted.astype(object))
        if len(different):
            position = int(different[0])
            raise ValueError(
                f"`y` must have the inputs of `x` in its {place}, in the same order, got "
                f"{shown(labels[position])} for {shown(wanted[position])} at position {position}; align them with `{remedy}`."
            )


def input_matrix(shape: tuple[int, ...], dtype: np.dtype[Any], n_features: int) -> None:
    """Require a real matrix with at least one row and the model's number of columns."""
    if shape != (0,):  # an empty list has no dtype
        real_dtype("x", dtype)
    if len(shape) != 2:
        advice = "; use x[None, :] for a single input." if len(shape) == 1 and shape[0] > 0 else "."
        raise ValueError(f"`x` must be 2-D (input, feature), got shape {shape}{advice}")
    if any(size != size for size in shape):  # dask uses nan for an unknown length
        raise ValueError(f"`x` must have a known number of rows, got shape {shape}; call `x.compute_chunk_sizes()` first.")
    if shape[0] < 1:
        raise ValueError(f"`x` must have at least one row, got shape {shape}.")
    if shape[1] != n_features:
        raise ValueError(f"`x` must have {n_features} columns, the inputs of the first layer, got shape {shape}.")


def input_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Require real numbers with at least one row, of any shape per input."""
    real_dtype("x", dtype)
    if not shape or not all(size >= 1 for size in shape):
        known = all(size == size for size in shape)  # dask uses nan for an unknown length
        advice = "" if known else "; call `x.compute_chunk_sizes()` first"
        raise ValueError(f"`x` must have the inputs on its first axis, one at least, got shape {shape}{advice}.")


def read_by_slices(x: Any) -> bool:
    """Return whether x is an array whose rows are read by slicing, block by block: in memory, on disk or lazy."""
    if isinstance(x, np.ndarray):
        return type(x) in (np.ndarray, np.memmap)
    if on_device(x):
        return True
    if hasattr(x, "__cuda_array_interface__") or hasattr(x, "toarray"):  # of another library for devices, or sparse
        return False
    return isinstance(getattr(x, "dtype", None), np.dtype) and hasattr(x, "shape") and hasattr(x, "__getitem__")


def unmasked_rows(part: Any, first_input: int) -> None:
    """Refuse masked entries among rows that were read from a file."""
    if isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part):
        row, column = (int(i) for i in np.argwhere(np.ma.getmaskarray(part))[0])
        raise ValueError(
            f"`x` must have no masked entries, got one at index ({first_input + row}, {column}); fill them, or leave them out."
        )


def announced_rows(part: Any, shape: tuple[int, ...], dtype: np.dtype[Any], first_input: int) -> None:
    """Require the rows that were read to have the number and dtype declared by x."""
    if part.shape == shape and part.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("="):
        return
    raise ValueError(
        f"`x` must return the rows that it declares, shape {shape} and dtype {dtype} from input {first_input} on, got shape "
        f"{part.shape} and dtype {part.dtype}; correct its `shape` and `dtype`, or read it into an array first."
    )


def rows_alone(batch: Any, number: int) -> None:
    """Refuse a batch that holds more than the rows, such as labels."""
    known = batch_advice(batch)
    if known is not None:
        got, advice = known
        raise TypeError(
            f"`x` must yield batches of rows only, got {got} in batch {number}; give `({advice})`, or an object whose `__iter__` "
            "returns that, and labels as `y` where they are taken."
        )


def batch_of_rows(batch: Any, number: int, row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a batch of rows as an array; all batches have the same columns and dtype."""
    rows_alone(batch, number)
    if isinstance(batch, np.ma.MaskedArray) and np.ma.is_masked(batch):
        raise ValueError(f"`x` must have no masked entries, got some in batch {number}; fill them, or leave them out.")
    array = np.asarray(batch)
    if array.ndim == 0 or array.shape[1:] != row_shape:
        rows = (
            f"2-D with {row_shape[0]} columns, the inputs of the first layer" if len(row_shape) == 1 else f"of shape {row_shape}"
        )
        raise ValueError(f"`x` must give batches of rows, {rows}, got shape {array.shape} in batch {number}.")
    if array.dtype != dtype:
        raise ValueError(f"`x` must give batches of one dtype, got {array.dtype} in batch {number} after {dtype}.")
    return array


def gives_batches(x: Any) -> bool:
    """Return whether x is an iterable of batches of rows: neither an array nor a list, but iterable."""
    if isinstance(x, np.ndarray | list | tuple | str | bytes | Mapping | Set):
        return False
    looks_like_an_array = any(hasattr(x, name) for name in ("__array__", "__array_interface__", "shape", "dtype", "dims"))
    return not looks_like_an_array and hasattr(x, "__iter__")


def no_batches(x: Any) -> None:
    """Refuse batches where rows must be read repeatedly or kept in memory."""
    if gives_batches(x):
        raise TypeError(
            f"`x` must be one array here, in memory, on disk or of dask, got {shown(x)}; join rows or batches with "
            "`np.vstack(list(x))`, and leave labels out with `np.vstack([batch[0] for batch in x])`."
        )


def some_batch(batches: Sequence[Any]) -> None:
    """Require a first batch."""
    if not batches:
        raise ValueError("`x` must give at least one batch of rows, got an iterable that is empty.")


def labelled_rows(n_read: int, n_labels: int | None) -> None:
    """Require a data label for every row that was read."""
    if n_labels is not None and n_read > n_labels:
        raise ValueError(f"`x` must have as many rows as there are labels, got {n_read} or more for {n_labels} labels.")


def read_again(caller: str) -> NoReturn:
    """Refuse to read an iterator twice."""
    raise TypeError(
        f"`x` must be re-iterable, got an iterator, which yields its batches once, and `{caller}` passes over the inputs "
        "several times; give an object whose `__iter__` starts again, a dask array or a memory-mapped file."
    )


@contextlib.contextmanager
def naming_block(block: int, first_input: int, n_inputs: int) -> Iterator[None]:
    """Add the block of inputs to the message of an error; its type is kept."""
    try:
        yield
    except Exception as error:
        raise reworded(error, f"In block {block}, inputs {first_input} to {first_input + n_inputs - 1}: {error}") from error


class RowsRefused(ValueError):
    """Rows read during a training are invalid; the training has not diverged."""


@contextlib.contextmanager
def rows_refused() -> Iterator[None]:
    """Distinguish errors of the rows that were read from errors of the network."""
    try:
        yield
    except ValueError as error:
        raise RowsRefused(str(error)) from error


def finite_block(block: NDArray[np.floating], first_input: int | NDArray[np.int64]) -> None:
    """Require finite numbers, and name the first that is not; rows are consecutive from the first, or given by their numbers."""
    if finite_sum(block):
        return
    finite = np.isfinite(block)
    if not holds(finite):
        block, finite = on_host(block), on_host(finite)
        row, *others = (int(i) for i in np.argwhere(~finite)[0])
        number = int(first_input[row]) if isinstance(first_input, np.ndarray) else first_input + row
        index = ", ".join(str(one) for one in (number, *others))
        raise ValueError(
            f"`x` must be finite, got {block[row, *others]} at index ({index}); remove or impute it before the call."
        )


def finite_pass(
    pre_activations: Sequence[NDArray[np.floating]],
    natural: NDArray[np.floating],
    first_input: int,
    name: str = "model",
    hidden: NDArray[np.floating] | None = None,
) -> None:
    """Require everything from the first pre-activation to the natural parameters to stay within the float range.

    `hidden` holds all pre-activations in one array, if available.
    """
    if hidden is not None and finite_sum(hidden) and finite_sum(natural):
        return
    for layer, values in enumerate([*pre_activations, natural]):
        if finite_sum(values):
            continue
        finite = np.isfinite(values)
        if not holds(finite):
            values, finite = on_host(values), on_host(finite)
            row, unit = (int(i) for i in np.argwhere(~finite)[0])
            last = layer == len(pre_activations)
            what = "natural parameters" if last else "pre-activations"
            place = f"output {unit}" if last else f"layer {layer}, unit {unit}"
            raise ValueError(
                f"`{name}` must give finite {what}, got {values[row, unit]} for input {first_input + row}, {place}; the "
                f"weights or the inputs are too large for their dtype {values.dtype}."
            )


def finite_results(results: Sequence[NDArray[np.floating]], dtype: np.dtype[np.floating], infinite: bool = False) -> None:
    """Require results within the range of the dtype; where `infinite`, inf is a valid value and only nan is refused."""
    largest = np.finfo(dtype).max
    for array in results:
        if on_device(array) and holds(np.abs(array) <= largest):
            continue
        array = on_host(array)
        if array.dtype == dtype == np.float64 and finite_sum(array):
            continue
        step = max(1, _SLAB // max(1, array[:1].size))
        for start in range(0, len(array), step):
            part = array[start : start + step]
            if -largest <= part.min(initial=0) and part.max(initial=0) <= largest:  # false for nan
                continue
            size = np.abs(part)
            accepted = (size <= largest) | np.isinf(part) if infinite else size <= largest
            if not accepted.all():
                overflow(str(dtype), f"{part[~accepted][0]:g}")


def overflow(dtype: str, got: str) -> NoReturn:
    """Refuse numbers past the range of the dtype."""
    raise ValueError(
        f"`x` must give results within the range of {dtype}, got {got}: powers of the inputs of a layer, up to the fourth, or of "
        "its derivatives overflow; scale the inputs or the weights."
    )


def variances_within_range(estimator: str, lost: NDArray[np.bool_], dtype: str) -> None:
    """Refuse variances that are not 0 and below the normal range of the dtype."""
    if lost.any():
        raise ValueError(
            f"`x` must give variances within the range of {dtype}, but that of the {estimator} estimate underflows at parameter "
            f"{int(np.argwhere(lost)[0][-1])}: fourth powers of the inputs of a layer or of its derivatives are below the "
            "smallest number; scale the inputs or the weights (powers of two change no digit)."
        )


_SQUARED = 1e-150
"""Smaller numbers have squares below the normal range of float64."""


def underflows(values: NDArray[np.floating], error: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return where the square of a standard error is below the range of float64 and the estimate is not 0."""
    return (values.dtype == np.float64) & (np.abs(values) < _SQUARED) & (values != 0) & (error < _SQUARED)


def errors_within_range(estimator: str, values: NDArray[np.floating], error: NDArray[np.floating]) -> None:
    """Refuse standard errors whose squares are below the range of float64, where the estimate is not 0."""
    variances_within_range(estimator, underflows(values, error), "float64")


@contextlib.contextmanager
def overflow_named() -> Iterator[None]:
    """Turn the failure of a decomposition into an error that names the overflow; its inputs are finite otherwise."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        if "converge" not in str(error) and "infs or NaNs" not in str(error):
            raise
        overflow("floating-point numbers", "numbers that have no eigenvalues")


def at_least_two_inputs(n_inputs: int, design: str) -> None:
    """Require two inputs where a variance over inputs is estimated."""
    if n_inputs < 2:
        raise ValueError(
            f"`design='{design}'` needs at least two inputs to estimate the variance over inputs, got {n_inputs}; use "
            "design='fixed' for the given inputs alone."
        )


def kink_free(
    pre_activations: list[NDArray[np.floating]],
    kinks: list[tuple[float, ...]],
    names: list[str],
    first_input: int,
    arguments: Collection[str] | None,
) -> None:
    """Require that no pre-activation sits exactly on a kink of its activation (2021, smoothness theorem).

    `arguments` are the parameter names of the public function.
    """
    for layer, (values, points, name) in enumerate(zip(pre_activations, kinks, names, strict=True)):
        if not points:
            continue
        smooth = functools.reduce(np.logical_and, [values != values.dtype.type(point) for point in points])
        if not holds(smooth):
            values, at_kink = on_host(values), ~on_host(smooth)
            row, unit = (int(i) for i in np.argwhere(at_kink)[0])
            raise AssumptionError(
                f"Second derivatives need the network to be twice differentiable in the parameters (Soen & Sun 2021, "
                f"smoothness theorem), but the pre-activation of input {first_input + row}, layer {layer}, unit {unit} is "
                f"{values[row, unit]}, a kink of {name} ({int(at_kink.sum())} such units in this block). "
                f"{against_kinks(arguments)}"
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


def no_costs_with_stratified(stratified: bool, with_costs: bool) -> None:
    """Require independent labels where a split between inputs and draws is asked for."""
    if stratified and with_costs:
        raise ValueError(
            "`cost_input` and `cost_draw` need sampling='iid', for which the error falls as one over the number of draws, got "
            "sampling='stratified'."
        )


def costs(cost_input: Any, cost_draw: Any, design: str) -> tuple[float, float] | None:
    """Return both costs or None; they go together, and with random inputs."""
    if cost_input is None and cost_draw is None:
        return None
    if cost_input is None or cost_draw is None:
        missing = "cost_input" if cost_input is None else "cost_draw"
        raise ValueError(f"`cost_input` and `cost_draw` must be given together, got None for `{missing}`.")
    if design == "fixed":
        raise ValueError(
            "`cost_input` and `cost_draw` go with design='random' or 'subsample' only, where inputs can be added, got "
            "design='fixed'."
        )
    input_cost, draw_cost = positive_number("cost_input", cost_input), positive_number("cost_draw", cost_draw)
    if abs(math.log10(input_cost) - math.log10(draw_cost)) > 200:
        raise ValueError(
            f"`cost_input` and `cost_draw` must be within a factor of 1e200 of each other, got {input_cost:g} and {draw_cost:g}."
        )
    return input_cost, draw_cost


def reachable_target(
    target: float, allowed: NDArray[np.floating], information: NDArray[np.floating], variance: NDArray[np.floating]
) -> None:
    """Require a relative error whose square times that of the information is representable, as it determines the draws."""
    lost = (information > 0) & (allowed < np.finfo(np.float64).tiny) & (variance > 0).any(axis=0)
    if lost.any():
        raise ValueError(
            f"`target_cv` must be so large that its square times that of the information is a number of float64, got {target:g} "
            f"with an information of {information[lost].flat[0]:g}; no number of draws can be told."
        )


def planned_inputs(n_inputs: int, population: int | None) -> None:
    """Require a sample no larger than its population."""
    if population is not None and n_inputs > population:
        raise ValueError(f"`n_inputs` must be at most the `population` of {population} inputs, got {n_inputs}.")


def fixed_inputs(n_inputs: Any) -> NoReturn:
    """Refuse a planned number of inputs where the inputs are fixed."""
    raise ValueError(
        f"`n_inputs` goes with design='random' or 'subsample' only, got {shown(n_inputs)} with design='fixed', which uses "
        "every row of `x`; leave it out."
    )
