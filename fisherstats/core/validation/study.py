"""Checks of the study's configuration, data files and output directory."""

from __future__ import annotations

import difflib
import itertools
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import arguments, capacity, stores
from fisherstats.core.validation.arguments import positive_integer, real_array, shown
from fisherstats.core.validation.data_files import Array

__all__ = [
    "all_known",
    "configuration_path",
    "data_arrays",
    "data_source",
    "draw_counts",
    "enough_inputs",
    "hidden_widths",
    "image_missing",
    "labels_for_task",
    "network_fits",
    "non_negative_integer",
    "output_directory",
    "output_path",
    "parsed_toml",
    "work_fits",
]

#: from here on, different integers can be equal in float64
_TOO_LARGE = 2.0**53

#: largest number of replicates that a study can store
_MOST_REPLICATES = 10**7

#: largest size of a configuration in bytes; hundreds suffice
_MOST_BYTES = 2**20

#: rows that exclude most of the columns of x at once
_FIRST_ROWS = 64


def parsed_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError as error:
        raise ValueError(f"`config` must be an existing TOML file, got {shown(path)}, which does not exist.") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"`config` must be a readable TOML file, got {shown(path)} ({error}).") from error
    if len(data) > _MOST_BYTES:
        raise ValueError(f"`config` must be a TOML file of at most {_MOST_BYTES:,} bytes, got {shown(path)}, which is larger.")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`config` must be valid TOML, got {shown(path)} ({error}).") from error


def configuration_path(config: Any) -> Path:
    """Return the path of a configuration."""
    return arguments.path("config", config, "None, the path of a TOML file or a mapping with the same keys")


def all_known(table: str, given: Any, known: Iterable[str]) -> None:
    """Refuse a key that the configuration does not have, and say which was probably meant."""
    words = list(known)
    where = f"[{table}]" if table else "the top level"
    if not isinstance(given, Mapping):
        raise ValueError(f"`{table}` must be a table with the keys {', '.join(words)}, got {shown(given)}.")
    for key in given:
        if key not in words:
            near = difflib.get_close_matches(str(key).lower(), words, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"`config` must have only the keys {', '.join(words)} in {where}, got {key!r}.{hint}")


def non_negative_integer(name: str, value: Any) -> int:
    """Return `value` as an int of at least zero."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"`{name}` must be an integer of at least 0, got {shown(value)}.")
    if value >= 2**128:  # the number of bits of a numpy seed
        raise ValueError(f"`{name}` must be below 2**128, got {shown(value)}.")
    return int(value)


def _integers(name: str, value: Any, what: str) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"`{name}` must be a list of {what}, got {shown(value)}; write a single one as [{value!r}].")
    return tuple(positive_integer(f"{name}[{position}]", one) for position, one in enumerate(value))


def hidden_widths(name: str, value: Any) -> tuple[int, ...]:
    """Return the widths of at least one hidden layer."""
    widths = _integers(name, value, "hidden layer widths")
    if not widths:
        raise ValueError(f"`{name}` must list at least one hidden layer width, got [].")
    return widths


def network_fits(hidden: Sequence[int], n_features: int, n_outputs: int) -> None:
    """Require that training a network fits in memory: its weights, their gradient and the state of Adam and line searches."""
    widths = [n_features, *hidden, n_outputs]
    n_params = sum((before + 1) * after for before, after in itertools.pairwise(widths))
    capacity.fits(
        f"The network of `model.hidden` = {shown(list(hidden))} with its {n_params:,} parameters",
        8 * n_params,
        40 * n_params,
        "give narrower layers.",
    )


def work_fits(n_draws: Sequence[int], replicates: int) -> None:
    """Require numbers of draws and replicates that a study can process and store."""
    if replicates > _MOST_REPLICATES:
        raise ValueError(f"`analysis.replicates` must be at most {_MOST_REPLICATES:,}, got {shown(replicates)}.")
    if max(n_draws) >= _TOO_LARGE:
        raise ValueError(f"`analysis.n_draws` must be below 2**53, got {shown(max(n_draws))}.")


def draw_counts(name: str, value: Any) -> tuple[int, ...]:
    """Return increasing numbers of draws per input, without repeats."""
    counts = _integers(name, value, "numbers of draws per input")
    if not counts or list(counts) != sorted(set(counts)):
        raise ValueError(f"`{name}` must list increasing numbers of draws per input, got {shown(value)}.")
    return counts


def data_source(data: Mapping[str, Any]) -> None:
    """Require one source: a named data set, one file with x and y, or one file for each."""
    for key in data:
        if key == "header":
            arguments.boolean("data.header", data[key])
        elif not isinstance(data[key], str) or any("\ud800" <= character <= "\udfff" for character in data[key]):
            raise ValueError(f"`data.{key}` must be text in UTF-8, got {shown(data[key])}.")
    if "source" in data and ("x" in data or "y" in data):
        raise ValueError("`data` must have either `source`, or `x` and `y`, got both; remove one of them.")
    if ("x" in data) != ("y" in data):
        present, absent = ("x", "y") if "x" in data else ("y", "x")
        raise ValueError(f"`data.{absent}` must name a file too when `data.{present}` does, got only {present}.")
    source = data.get("source", "digits")
    if source != "digits" and not source.lower().endswith(".npz"):
        near = difflib.get_close_matches(source.lower(), ["digits"], n=1, cutoff=0.5)
        hint = " Did you mean 'digits'?" if near else " For .npy or .csv files give `x` and `y`."
        raise ValueError(f"`data.source` must be 'digits' or the path of an .npz file with x and y, got {source!r}.{hint}")
    if "header" in data and not any(data.get(entry, "").lower().endswith(".csv") for entry in "xy"):
        raise ValueError("`data.header` goes with .csv files only, got none in `data.x` and `data.y`; leave it out.")


def data_arrays(x: Array, y: Array) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return x as a float64 matrix and y with one row per input, none of whose columns is a column of x."""
    matrix = real_array("x", x.values).astype(np.float64)
    if matrix.ndim != 2 or matrix.shape[0] < 8 or matrix.shape[1] < 1:
        raise ValueError(f"`x` must be a matrix (input, feature) with at least 8 rows, got shape {matrix.shape}.")
    labels = np.asarray(y.values)
    if labels.ndim not in (1, 2) or labels.shape[0] != matrix.shape[0]:
        hint = ""
        if (x.names is None) != (y.names is None):
            named, other = ("x", "y") if y.names is None else ("y", "x")
            hint = (
                f"; the first line of {named} was read as names, that of {other} as numbers: data.header = true or false says "
                "which they are"
            )
        raise ValueError(f"`y` must have one row for each of the {matrix.shape[0]} rows of x, got shape {labels.shape}{hint}.")
    _target_apart(x, y)
    return matrix, labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _target_apart(x: Array, y: Array) -> None:
    """Refuse a target among its own features, by its name or by its numbers in the coarser precision of the two."""
    remedy = "the target would be among its own features; remove it from x."
    for column, name in enumerate(y.names or ()):
        if name in (x.names or ()):
            raise ValueError(f"`y` must not share a column with x, got {name!r} (column {column}) in both: {remedy}")
    features, targets = np.asarray(x.values), real_array("y", y.values)
    dtype = np.float32 if np.float32 in (features.dtype.newbyteorder("="), targets.dtype) else np.float64
    features, targets = features.astype(dtype), targets.reshape(len(targets), -1).astype(dtype)
    for column, target in enumerate(targets.T):
        if (target == target[0]).all():
            continue
        alike = np.flatnonzero((features[:_FIRST_ROWS] == target[:_FIRST_ROWS, None]).all(axis=0))
        for feature in alike:
            if np.array_equal(features[:, feature], target):
                raise ValueError(
                    f"`y` must not share a column with x, got column {column} of y equal to column {feature} of x: {remedy}"
                )


def labels_for_task(y: NDArray[Any], task: str) -> NDArray[Any]:
    """Return labels that match the task: class numbers, real numbers or counts."""
    labels: NDArray[Any] = real_array("y", y)
    if task == "regression":
        return labels
    remedy = "'regression'" if task == "count" else "'regression' for real responses"
    whole = labels == np.round(labels)
    if task == "count":
        whole &= labels >= 0
    if not whole.all():
        index = tuple(int(i) for i in np.argwhere(~whole)[0])
        wanted = "whole numbers of at least 0" if task == "count" else "class numbers"
        raise ValueError(
            f"`y` must hold {wanted} for data.task = {task!r}, got {labels[index]} at index "
            f"{index if len(index) > 1 else index[0]}; set data.task to {remedy}."
        )
    if (large := np.abs(labels) >= _TOO_LARGE).any():
        raise ValueError(
            f"`y` must hold whole numbers below 2**53 for data.task = {task!r}, got {shown(labels[large][0])}: "
            "larger ones cannot be distinguished in float64; renumber them."
        )
    if task == "count":
        return labels
    if labels.ndim == 2 and not np.isin(labels, (0, 1)).all():
        index = tuple(int(i) for i in np.argwhere(~np.isin(labels, (0, 1)))[0])
        raise ValueError(
            f"`y` must hold class numbers, one column, or zeros and ones, a column per label, got {labels[index]} at "
            f"index {index} of shape {labels.shape}."
        )
    if y.dtype.kind in "iu" and y.max() < 2**63:
        labels = y  # without conversion: floats do not distinguish large integers
    elif np.abs(labels).max() >= 2**53:
        raise ValueError(
            f"`y` must hold class numbers below 2**53, as larger ones are not told apart, got {np.abs(labels).max():.17g}; "
            "number the classes with `np.unique(y, return_inverse=True)[1]`."
        )
    if labels.ndim == 1 and len(np.unique(labels)) < 2:
        raise ValueError(f"`y` must hold at least two classes, got only the class {labels[0]:g}.")
    return labels.astype(np.int64)


def enough_inputs(name: str, wanted: int, held_out: int) -> None:
    """Require at least this many inputs among those held out of the training."""
    if wanted > held_out:
        raise ValueError(
            f"`{name}` must be at most {held_out}, the inputs held out of the training, got {wanted}; "
            "a quarter of the data is held out."
        )


def output_path(out: Any) -> Path | None:
    """Return the resolved path for the results, or None where nothing is written."""
    if out is None:
        return None
    return stores.real_path("out", arguments.path("out", out, "the path of a directory, or None to write nothing"))


def output_directory(out: Path) -> None:
    """Require a location for the results: a free path, or a directory that can be renamed."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` must be a directory or a path that does not exist, got {shown(out)}, which is a file.")
    if out.is_dir() and os.path.ismount(out):
        raise ValueError(f"`out` must be a directory that can be replaced, got {shown(out)}, the root of a disk; name one in it.")
    parent = next(place for place in out.parents if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"`out` must be in a writeable directory, got {shown(out)}.")


def image_missing(name: str) -> NoReturn:
    """Refuse to render a report without one of its figures."""
    raise ValueError(f"`figures` must hold the figure {name!r} of the report, which is missing.")
