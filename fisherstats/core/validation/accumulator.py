"""Checks of per-example scores: their layout, their numbers, and what can be said from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import finite_sum
from fisherstats.core.validation import arguments, inputs, network_files
from fisherstats.core.validation.arguments import shown
from fisherstats.core.validation.network_files import Unreadable

__all__ = [
    "answerable",
    "arrays_in_file",
    "batch",
    "described",
    "layout",
    "mergeable",
    "numbers_in_file",
    "whole",
]

Layout = dict[str, tuple[int, ...]]

_LARGEST = 1e75
"""The fourth power is within the range of float64, with room for the sum over inputs."""

_HOST = (1, 3, 11, 13)
"""DLPack's devices whose memory the host reads: CPU, CUDAHost, ROCMHost, CUDAManaged."""

_FIELDS = {"digest": "str", "n_draws": "int or null", "n_inputs": "int", "package": "str", "shapes": "list or null"}

_PARTS = ("mean_square", "squared_deviations", "label_variances")


def layout(shapes: Any) -> Layout:
    """Return names and shapes of the arrays of parameters, if each name can be that of a node of a tree."""
    if not isinstance(shapes, Mapping) or not shapes:
        raise TypeError(f"`shapes` must be a mapping from names of arrays of parameters to their shapes, got {shown(shapes)}.")
    found: Layout = {}
    for name, shape in shapes.items():
        _named("shapes", name)
        sizes = isinstance(shape, Sequence) and not isinstance(shape, str | bytes)
        if not sizes or not all(isinstance(one, int | np.integer) and not isinstance(one, bool) and one > 0 for one in shape):
            raise ValueError(f"`shapes[{name!r}]` must be a tuple of positive integers, got {shown(shape)}.")
        found[name] = tuple(int(one) for one in shape)
    _apart("shapes", found)
    return found


def _named(argument: str, name: Any) -> None:
    if not isinstance(name, str) or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise ValueError(
            f"`{argument}` must have names such as 'conv1.weight' or 'params/Dense_0/kernel', with no empty part between "
            f"slashes, got {shown(name)}; give it another name."
        )


def _apart(argument: str, names: Mapping[str, Any]) -> None:
    """Require that no array of parameters is where the others of a group are."""
    for name in names:
        parts = name.split("/")
        above = next((one for end in range(1, len(parts)) if (one := "/".join(parts[:end])) in names), None)
        if above is not None:
            raise ValueError(
                f"`{argument}` must not have both an array and a group of one name, got {above!r} and {name!r}; give one another "
                "name."
            )


def batch(given: Any, known: Layout | None, n_draws: int | None) -> tuple[Layout, dict[str, NDArray[Any]]]:
    """Return the layout, and scores (n, draws, ...) on the host in its order; a refused batch has changed nothing."""
    if not isinstance(given, Mapping) or not given:
        raise TypeError(
            "`scores` must be a mapping from the names of arrays of parameters to per-example scores, such as "
            f"{{'fc.weight': array}}, got {shown(given)}."
        )
    if known is not None:
        _same_names(list(given), known)
    arrays = {name: _array(name, given[name], n_draws) for name in (known or given)}
    leading = 1 if n_draws is None else 2
    found = known
    if found is None:
        for name in arrays:
            _named("scores", name)
        _apart("scores", arrays)
        found = {name: one.shape[leading:] for name, one in arrays.items()}
    first = next(iter(arrays))
    n = arrays[first].shape[0]
    for name, one in arrays.items():
        wanted = (n, *(() if n_draws is None else (n_draws,)), *found[name])
        if one.shape != wanted:
            _other_shape(name, one.shape, wanted, n_draws, first)
        if 0 in one.shape:
            raise ValueError(
                f"`scores[{name!r}]` must have one example at least and no empty axis, got shape {one.shape}; leave it out."
            )
    for name, one in arrays.items():
        _within_range(name, one)
    return found, {name: one if n_draws is not None else one[:, np.newaxis] for name, one in arrays.items()}


def _same_names(names: Sequence[Any], known: Layout) -> None:
    missing = [name for name in known if name not in names]
    if missing:
        raise ValueError(
            f"`scores` must have all {len(known)} arrays of parameters in every batch, got none for {missing[0]!r}; give zeros "
            "where a parameter has no part in the batch."
        )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"`scores` must have the arrays {shown([*known])}, got {unknown[0]!r} as well; leave it out, or use an "
            "accumulator of its own."
        )


def _other_shape(name: str, got: tuple[int, ...], wanted: tuple[int, ...], n_draws: int | None, first: str) -> NoReturn:
    if got[:1] != wanted[:1]:
        raise ValueError(
            f"`scores` must have the same number of examples in every array, got {wanted[0]} for {first!r} and {got[0]} for "
            f"{name!r}."
        )
    if n_draws is not None and got[1] != n_draws:
        raise ValueError(
            f"`scores[{name!r}]` must have {n_draws} draws on its second axis, shape {wanted}, got {got}; the number of draws is "
            "that of `n_draws` in every batch."
        )
    axes = "(examples, *shape)" if n_draws is None else "(examples, draws, *shape)"
    several = "; several draws per example need `n_draws`" if n_draws is None and len(got) == len(wanted) + 1 else ""
    raise ValueError(f"`scores[{name!r}]` must have shape {wanted}, {axes}, got {got}{several}.")


def _array(name: str, given: Any, n_draws: int | None) -> NDArray[Any]:
    """Return an array of any library as one of numpy, without a copy where that is possible."""
    what = f"scores[{name!r}]"
    arguments.unmasked(what, given)
    if hasattr(given, "detach"):  # torch refuses arrays that record gradients
        given = given.detach()
    if not isinstance(given, np.ndarray):
        _on_host(what, given)
    try:
        found = _converted(given)
    except Exception as error:  # libraries raise errors of many types
        raise TypeError(
            f"`{what}` must be an array of float32 or float64 on the host, got {shown(given)}, which numpy cannot read: {error}; "
            "convert it first, in PyTorch with `.float().cpu()`."
        ) from error
    if not (found.dtype.kind in "iu" or (found.dtype.kind == "f" and found.dtype.itemsize <= 8)):
        raise TypeError(f"`{what}` must hold float64, float32, float16 or integers, got dtype {found.dtype}; convert it first.")
    leading = 1 if n_draws is None else 2
    if found.ndim < leading:
        axes = "an axis of examples" if n_draws is None else "an axis of examples and one of draws"
        raise ValueError(f"`{what}` must have {axes}, got shape {found.shape}.")
    return found


def _on_host(what: str, given: Any) -> None:
    place = getattr(given, "__dlpack_device__", None)
    if place is None:
        return
    try:
        there = int(place()[0]) not in _HOST
    except Exception:  # an array that cannot say where it is cannot be read either
        return
    if there:
        remedy = next((f"`.{one}()`" for one in ("cpu", "get") if hasattr(given, one)), "`jax.device_get`")
        raise TypeError(f"`{what}` must be on the host, got {shown(given)} on a device; copy it with {remedy}.")


def _converted(given: Any) -> NDArray[Any]:
    foreign = hasattr(given, "__dlpack__") and not isinstance(given, np.ndarray)
    return np.from_dlpack(given) if foreign else np.asarray(given)


def _within_range(name: str, scores: NDArray[Any]) -> None:
    """Require finite scores whose squares have squares within the range of float64."""
    if scores.dtype != np.float64:
        if finite_sum(scores):
            return
    elif scores.min() > -_LARGEST and scores.max() < _LARGEST:  # false for nan
        return
    for example, one in enumerate(scores):
        fine = _fine(one)
        if fine.all():
            continue
        index = tuple(int(i) for i in np.argwhere(~fine)[0])
        required = f"smaller than {_LARGEST:g} in magnitude" if np.isfinite(one[index]) else "finite"
        raise ValueError(
            f"`scores[{name!r}]` must be {required}, got {one[index]} at index {(example, *index)}; leave the example out, or "
            "look at the network there. Nothing of the batch was added."
        )


def _fine(values: NDArray[Any]) -> NDArray[np.bool_]:
    fine: NDArray[np.bool_] = np.isfinite(values) & (np.abs(values.astype(np.float64)) < _LARGEST)
    return fine


def answerable(design: Any, population: Any, n_inputs: int, n_draws: int) -> int | None:
    """Return the size of the population, if the standard errors of the design can be estimated."""
    arguments.choice("design", design, ("random", "fixed", "subsample"))
    arguments.only_with("population", population, "design", design, "subsample")
    if n_inputs == 0:
        raise ValueError("`result` needs scores of at least two examples, got none; add them with `update` or `merge`.")
    if design != "random" and n_draws < 2:
        raise ValueError(
            f"`design={design!r}` needs at least two draws per example to estimate the variance over labels, got {n_draws}; "
            "accumulate scores with `n_draws=2` or more, or use design='random', which covers both sources in one."
        )
    if design != "fixed":
        inputs.at_least_two_inputs(n_inputs, design)
    return None if population is None else inputs.population_size(population, n_inputs)


def mergeable(other: Any, kind: type, own: Any) -> None:
    """Require another accumulator of the same arrays of parameters and the same number of draws."""
    another = isinstance(other, kind) and other is not own
    if not another:
        got = "the accumulator itself" if other is own else shown(other)
        raise TypeError(f"`other` must be another ScoreAccumulator, got {got}.")
    if other.n_draws != own.n_draws:
        raise ValueError(f"`other` must have n_draws={own.n_draws}, as this accumulator, got n_draws={other.n_draws}.")
    if own.shapes is None or other.shapes is None or own.shapes == other.shapes:
        return
    differ = [name for name in {**own.shapes, **other.shapes} if own.shapes.get(name) != other.shapes.get(name)]
    name = differ[0]
    raise ValueError(
        f"`other` must have the same arrays of parameters in the same shapes, got {other.shapes.get(name, 'none')} for {name!r}, "
        f"which is {own.shapes.get(name, 'none')} here."
    )


def whole(unfinished: bool) -> None:
    """Refuse to go on after an interrupt that left part of a batch in the sums."""
    if unfinished:
        raise RuntimeError(
            "`ScoreAccumulator` must have finished its last update or merge, which was interrupted: part of the numbers are in "
            "the sums. Start again, or from a copy that `ScoreAccumulator.save` wrote."
        )


# --- files ---------------------------------------------------------------------------------------------------------------


def described(text: Any) -> tuple[Layout | None, int | None, int, str]:
    """Return shapes, number of draws, number of inputs and digest from the description in a file."""
    found = network_files.parsed(text, "accumulated scores", _FIELDS)
    n_draws, n_inputs, pairs = found["n_draws"], found["n_inputs"], found["shapes"]
    if n_inputs < 0 or (n_draws is not None and n_draws < 1) or (pairs is None and n_inputs):
        raise Unreadable(f"it has {n_inputs} inputs with {n_draws} draws")
    if pairs is None:
        return None, n_draws, n_inputs, found["digest"]
    if not all(isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) for one in pairs):
        raise Unreadable(f"its shapes are {shown(pairs)} instead of pairs of a name and a shape")
    shapes = layout(dict(pairs))
    if len(shapes) < len(pairs):
        raise Unreadable("its shapes have a name twice")
    return shapes, n_draws, n_inputs, found["digest"]


def arrays_in_file(shapes: Layout, several_draws: bool) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the tensors in a file: those of parameters, then those of the totals."""
    parts = _PARTS if several_draws else _PARTS[:2]
    square = (len(shapes), len(shapes))
    of_parameters = {f"{part}/{name}": shape for name, shape in shapes.items() for part in parts}
    return of_parameters | {f"totals/{part}": square if at else square[:1] for at, part in enumerate(parts)}


def numbers_in_file(file: Any, wanted: Mapping[str, tuple[int, ...]]) -> list[NDArray[np.float64]]:
    """Return the tensors of a file, if it has these and no others, in float64 and of these shapes."""
    found = sorted(file.keys())
    if found != sorted(wanted):
        raise Unreadable(f"it holds the tensors {shown(found)} instead of {shown(sorted(wanted))}")
    for name, shape in wanted.items():
        there = file.get_slice(name)
        dtype, found_shape = there.get_dtype(), tuple(there.get_shape())
        if dtype != "F64" or found_shape != shape:
            raise Unreadable(f"its tensor {name!r} is {dtype} of shape {found_shape} instead of F64 of {shape}")
    return [np.array(file.get_tensor(name)) for name in wanted]
