"""Checks of the data files of a study: every failure of a damaged file becomes a one-sentence error."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import arguments, capacity, tables
from fisherstats.core.validation.arguments import shown

__all__ = ["Array", "apart", "read"]

_SUFFIXES = (".npy", ".npz", ".csv")


class Array(NamedTuple):
    """The array in a file, and the names of its columns if the file has them."""

    values: NDArray[Any]
    names: tuple[str, ...] | None = None


class _Unreadable(ValueError):
    """Raised with a description of what a file holds instead of the array."""


def read(name: str, given: str, folder: Path, entry: str, header: bool | None = None) -> Array:
    """Return the array in a .npy or .csv file, or under `entry` in an .npz file; pickled objects are refused."""
    path = _existing(name, given, folder)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"`{name}` must be an .npy, .npz or .csv file, got {shown(path)}.")
    try:
        if suffix == ".csv":
            table = tables.read(name, path, header)
            return Array(table.values[:, 0] if table.values.shape[1] == 1 else table.values, table.names)
        with path.open("rb") as stream:
            return Array(_entry(stream, entry) if suffix == ".npz" else _array(stream, os.fstat(stream.fileno()).st_size))
    except ValueError as error:
        if str(error).startswith(f"`{name}`"):
            raise
        _refuse(name, path, error)
    except Exception as error:  # damaged files raise errors of many types
        _refuse(name, path, error)


def _refuse(name: str, path: Path, error: Exception) -> NoReturn:
    reason = str(error) if isinstance(error, _Unreadable) else f"{type(error).__name__}: {' '.join(str(error).split())}"
    raise ValueError(
        f"`{name}` must be a readable file of numbers, got {shown(path)} ({reason}); save the numbers again, or restore the file "
        "from a copy."
    ) from error


def _existing(name: str, given: str, folder: Path) -> Path:
    """Return the path of an existing file."""
    path = folder / arguments.path(name, given, "the path of a file")
    try:
        there, file = os.path.lexists(path), path.is_file()
    except (OSError, ValueError) as error:
        raise ValueError(f"`{name}` must be an existing file, got {shown(path)} ({error}).") from error
    if not file:
        why = "which is no file" if there else "which does not exist"
        raise ValueError(f"`{name}` must be an existing file, got {shown(path)}, {why}.")
    return path


def _array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """Return the array of a .npy file or a member of an .npz file; trailing bytes are refused."""
    if not size:
        raise _Unreadable("it is empty")
    values = np.lib.format.read_array(stream, allow_pickle=False)
    left = size - stream.tell()
    if left:
        raise _Unreadable(f"{left} bytes follow its array, as when two arrays are saved to one file")
    return np.asarray(values)


def _entry(stream: IO[bytes], entry: str) -> NDArray[Any]:
    """Return an array of an .npz file; its checksum is verified."""
    with zipfile.ZipFile(stream) as archive:
        held = [(info.filename.removesuffix(".npy"), info) for info in archive.infolist()]
        wanted = [info for name, info in held if name == entry]
        if not wanted:
            raise _Unreadable(f"it holds {', '.join(name for name, _ in held) or 'nothing'}, and no array named {entry}")
        if len(wanted) > 1:
            raise _Unreadable(f"it holds {len(wanted)} arrays named {entry}")
        capacity.fits(f"The array {entry} of an .npz file", wanted[0].file_size, wanted[0].file_size, "use a smaller one")
        data = archive.read(wanted[0])
    return _array(io.BytesIO(data), len(data))


def apart(data: Mapping[str, Any], folder: Path) -> None:
    """Refuse the same file for x and y, also under different names: the target would be among its own features."""
    paths = [folder / arguments.path(f"data.{entry}", data[entry], "the path of a file") for entry in "xy"]
    if paths[0].suffix.lower() == ".npz" or not all(path.is_file() for path in paths):
        return
    if os.path.samefile(*paths):
        raise ValueError(
            f"`data.y` must be a different file from `data.x`, got {shown(paths[1])} for both: the target would be among its own "
            "features; put features and target into two files, or into an .npz file with arrays x and y."
        )
