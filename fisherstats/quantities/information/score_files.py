"""Accumulated scores in files: safetensors with the sums as tensors in the shapes of the parameters, the rest as JSON.

`mean_square/NAME` and `squared_deviations/NAME` (`label_variances/NAME` with several draws), float64, can be read by other
programs; `totals/mean_square` and so on are those of the totals.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats._version import __version__
from fisherstats.core import atomic_directory
from fisherstats.core.validation import accumulator as checks
from fisherstats.core.validation import network_files as files
from fisherstats.core.validation.arguments import optional_module
from fisherstats.models.network_files import of_format
from fisherstats.theory.score_accumulation import Moments

__all__ = ["load", "save"]

_FORMAT = "fisherstats scores 1"
_WRITER = "ScoreAccumulator.save"

Layout = dict[str, tuple[int, ...]]


def save(given: Any, shapes: Layout | None, n_draws: int | None, moments: Moments) -> None:
    """Write moments to a file, which replaces an earlier one of this kind."""
    library = optional_module("safetensors.numpy", extra="interop")
    path = files.destination(given)
    wanted = checks.arrays_in_file(shapes or {}, (n_draws or 1) > 1)
    arrays = [*(one for kept in moments.parameters for one in kept), *moments.totals]
    tensors = {name: one.reshape(shape) for (name, shape), one in zip(wanted.items(), arrays, strict=True)}
    description = {
        "digest": _digest(shapes, n_draws, moments.n_inputs, arrays),
        "n_draws": n_draws,
        "n_inputs": moments.n_inputs,
        "package": f"fisherstats {__version__}",
        "shapes": None if shapes is None else [[name, [*shape]] for name, shape in shapes.items()],
    }
    metadata = {"format": _FORMAT, "scores": json.dumps(description, sort_keys=True)}
    with (
        files.writing(path),
        atomic_directory.whole_file(path, lambda there: files.replaceable(there, of_format(there, _FORMAT), _WRITER)) as new,
    ):
        library.save_file(tensors, str(new), metadata=metadata)


def load(given: Any) -> tuple[Layout | None, int | None, Moments]:
    """Return shapes, number of draws and moments from a file."""
    library = optional_module("safetensors", extra="interop")
    path = files.existing(given, _WRITER)
    with files.reading(path, "scores", _WRITER), library.safe_open(str(path), framework="numpy") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            files.unknown_format(metadata.get("format"), _FORMAT, "scores")
        shapes, n_draws, n_inputs, digest = checks.described(metadata.get("scores"))
        n_kept = 3 if (n_draws or 1) > 1 else 2
        wanted = checks.arrays_in_file(shapes or {}, n_kept == 3)
        arrays = checks.numbers_in_file(file, wanted)
        if _digest(shapes, n_draws, n_inputs, arrays) != digest:
            raise files.Unreadable("its numbers are not those that were saved")
    flat: list[NDArray[np.float64]] = [one.reshape(-1) for one in arrays[:-n_kept]]
    parameters = [flat[start : start + n_kept] for start in range(0, len(flat), n_kept)]
    return shapes, n_draws, Moments(n_inputs, parameters, arrays[-n_kept:])


def _digest(shapes: Layout | None, n_draws: int | None, n_inputs: int, arrays: Iterable[NDArray[np.float64]]) -> str:
    counted = json.dumps([None if shapes is None else [*shapes.items()], n_draws, n_inputs])
    found = hashlib.sha256(counted.encode())
    for one in arrays:
        found.update(one.data if one.size else b"")
    return found.hexdigest()
