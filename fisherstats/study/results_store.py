"""What keeps the results of the pieces of a study: memory, or a zarr store that a later run can go on with.

A store is a zarr hierarchy that xarray opens as a tree. Every piece is a whole group, or a region of one; a mark, the digest of
its results, is written after them. So whatever moment a run is killed at, what is marked is complete; the rest is computed again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core import atomic_directory, forks
from fisherstats.core.validation import arguments, stores
from fisherstats.quantities import _labels

__all__ = ["Child", "Memory", "Results", "Slot", "Store", "discard", "exclusive"]

_PROGRESS = "progress"
_CHANGED = "it is not what was written"
_TORN = re.compile(r"\.[0-9a-f]{32}\.partial$")
"""What zarr calls a file until it is written."""
_CHUNK = re.compile(r"\d+(\.\d+)*")
_LOCK = b"fisherstats lock 1\n"
_FORMAT: Any = 2
"""Text of fixed width, which the labels are, has no specification in format 3 of zarr yet."""


class Child(NamedTuple):
    """A group of results: one piece, or one piece for each place along a dim."""

    name: str
    dim: str = ""
    coords: Mapping[str, Any] = {}
    """Coordinates along the dim."""


class Slot(NamedTuple):
    """Where the results of a piece go."""

    child: Child
    place: int = 0


class Results(Protocol):
    """Keeps the results of pieces."""

    done: NDArray[np.bool_]

    def write(self, piece: int, dataset: xr.Dataset) -> None:
        """Keep the results of a piece."""
        ...

    def read(self, child: Child) -> xr.Dataset:
        """Return a child of which all pieces are done."""
        ...

    def finish(self) -> None:
        """Do what is left when all pieces are done."""
        ...


class Memory:
    """Keeps results as long as the process lives."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.done = np.zeros(len(slots), bool)
        self._slots = slots
        self._parts: dict[str, dict[int, xr.Dataset]] = {}

    def write(self, piece: int, dataset: xr.Dataset) -> None:
        """Keep the results of a piece."""
        child, place = self._slots[piece]
        self._parts.setdefault(child.name, {})[place] = dataset
        self.done[piece] = True

    def read(self, child: Child) -> xr.Dataset:
        """Return a child of which all pieces are done."""
        parts = self._parts[child.name]
        if not child.dim:
            return parts[0]
        return _along(child, parts[0], lambda name: np.concatenate([parts[place][name].values for place in sorted(parts)]))

    def finish(self) -> None:
        """Do nothing."""


def _along(child: Child, part: xr.Dataset, values: Callable[[str], Any]) -> xr.Dataset:
    """Return the dataset of which `part` is one place along the dim, with these values of the variables that have it."""
    variables = {
        name: (one.dims, values(str(name)), one.attrs) if child.dim in one.dims else one for name, one in part.data_vars.items()
    }
    others = {name: one for name, one in part.coords.items() if child.dim not in one.dims}
    return xr.Dataset(variables, {**others, **child.coords}, part.attrs)


class Store:
    """Keeps results in a zarr store; made whole by `create`, gone on with by `open`."""

    def __init__(self, path: Path, slots: Sequence[Slot], marks: NDArray[np.uint64]) -> None:
        self.path = path
        self.done = marks != 0
        self._slots = slots
        self._marks = marks

    @classmethod
    def create(
        cls, path: Path, provenance: Mapping[str, Any], children: Mapping[str, xr.Dataset], slots: Sequence[Slot]
    ) -> Store:
        """Make a store with some children and no piece done; it is there as a whole or not at all."""
        marks = np.zeros(len(slots), np.uint64)
        progress = _labels.dataset([("piece_mark", ["piece"], marks)], _labels.coordinates(piece=len(slots)), provenance)
        try:
            with atomic_directory.interrupts_held(), atomic_directory.whole(path) as partial:
                made = _labels.tree({**children, _PROGRESS: progress}, provenance)
                one_by_one = {"mark": {"chunks": (1,), "compressors": None}}
                made.to_zarr(partial, encoding={f"/{_PROGRESS}": one_by_one}, zarr_format=_FORMAT, consolidated=False)
        except OSError as error:
            stores.not_written(path, error, 0, len(slots))
        return cls(path, slots, marks)

    @staticmethod
    def record(path: Path) -> dict[str, Any] | None:
        """Return what is recorded of the study that made the store at `path`, None where nothing is."""
        if not path.exists() or not any(path.iterdir()):
            return None
        zarr = arguments.optional_module("zarr", extra="study")
        try:
            root = zarr.open_group(path, mode="r", zarr_format=_FORMAT, use_consolidated=False)
            record = json.loads(root.attrs["provenance"])
            root[f"{_PROGRESS}/mark"]
        except Exception as error:  # there is no end of what a folder can hold
            names = ", ".join(sorted(one.name for one in path.iterdir())[:3])
            stores.foreign(path, f"it holds {names}, and is no store: {type(error).__name__}")
        return dict(record)

    @classmethod
    def open(cls, path: Path, slots: Sequence[Slot], given: Mapping[str, xr.Dataset], provenance: Mapping[str, Any]) -> Store:
        """Go on with a store: what it was made with and what is marked is read, and compared with what it must be."""
        for leftover in path.rglob("*.partial"):  # of a file that was being written when a run was killed
            if _TORN.search(leftover.name) and (leftover.parent / ".zarray").exists():
                leftover.unlink()
        if cls.record(path) != json.loads(_labels.as_text(provenance)):
            stores.damaged(path, "the record of the study", "it is not the one that was written")
        for name, dataset in given.items():
            if _digest(read(path, name)) != _digest(dataset):
                stores.damaged(path, name, _CHANGED)
        store = cls(path, slots, _marks(path, len(slots)))
        for child in {slot.child.name: slot.child for slot in slots}.values():
            pieces = [piece for piece, slot in enumerate(slots) if slot.child.name == child.name and store.done[piece]]
            if not pieces:
                continue
            dataset = store.read(child)
            for piece in pieces:
                one = dataset.isel({child.dim: [slots[piece].place]}) if child.dim else dataset
                if _digest(one) != store._marks[piece]:
                    stores.damaged(path, child.name, _CHANGED)
        return store

    def write(self, piece: int, dataset: xr.Dataset) -> None:
        """Keep the results of a piece, then mark it as done."""
        child, place = self._slots[piece]
        try:
            with atomic_directory.interrupts_held():
                if not child.dim:
                    self._write(dataset, group=child.name, mode="w")
                else:
                    self._write_region(child, place, dataset)
                self._mark(piece, _digest(_at(child, place, dataset)))
        except OSError as error:
            stores.not_written(self.path, error, int(self.done.sum()), len(self.done))

    def _write(self, dataset: xr.Dataset, **where: Any) -> None:
        dataset.to_zarr(self.path, zarr_format=_FORMAT, consolidated=False, **where)

    def _write_region(self, child: Child, place: int, dataset: xr.Dataset) -> None:
        begun = any(self.done[number] for number, slot in enumerate(self._slots) if slot.child.name == child.name)
        if not begun:
            zeros = arguments.optional_module("dask.array", extra="study").zeros
            length = sum(slot.child.name == child.name for slot in self._slots)

            def empty(name: str) -> Any:
                one = dataset[name]
                return zeros((length, *one.shape[1:]), dtype=one.dtype, chunks=(1, *one.shape[1:]))

            self._write(_along(child, dataset, empty), group=child.name, mode="w", compute=False)
        numbers = dataset.drop_vars([name for name, one in dataset.variables.items() if child.dim not in one.dims])
        self._write(numbers.drop_vars(list(numbers.coords)), group=child.name, region={child.dim: slice(place, place + 1)})

    def _mark(self, piece: int, digest: np.uint64) -> None:
        zarr = arguments.optional_module("zarr", extra="study")
        zarr.open_array(self.path / _PROGRESS / "mark", mode="r+", zarr_format=_FORMAT)[piece] = digest
        self._marks[piece] = digest
        self.done[piece] = True

    def read(self, child: Child) -> xr.Dataset:
        """Return a child; what is not done yet is undefined."""
        return read(self.path, child.name)

    def finish(self) -> None:
        """Gather the descriptions of all arrays in one file, as readers of finished stores expect."""
        zarr = arguments.optional_module("zarr", extra="study")
        try:
            zarr.consolidate_metadata(self.path, zarr_format=_FORMAT)
        except OSError as error:
            stores.not_written(self.path, error, len(self.done), len(self.done))


def _at(child: Child, place: int, dataset: xr.Dataset) -> xr.Dataset:
    """Return the results of a piece with the coordinates that they have when they are read."""
    if not child.dim:
        return dataset
    coords = {name: (dims, values[place : place + 1], attrs) for name, (dims, values, attrs) in child.coords.items()}
    return _along(child._replace(coords=coords), dataset, lambda name: dataset[name].values)


def read(path: Path, name: str) -> xr.Dataset:
    """Return a child of a store as it was before it was written."""
    try:
        with xr.open_zarr(path, group=name, zarr_format=_FORMAT, consolidated=False, chunks=None) as opened:
            dataset: xr.Dataset = opened.load().drop_encoding()
    except Exception as error:  # as many kinds as there are ways to damage a file
        stores.damaged(path, name, f"{type(error).__name__}: {error}")
    return dataset


def _marks(path: Path, n_pieces: int) -> NDArray[np.uint64]:
    """Return the marks; one that was being written when a run was killed is not there."""
    zarr = arguments.optional_module("zarr", extra="study")
    stored = zarr.open_array(path / _PROGRESS / "mark", mode="r", zarr_format=_FORMAT)
    if stored.shape != (n_pieces,):
        stores.damaged(path, _PROGRESS, f"it has {stored.shape[0]} pieces of work and not {n_pieces}")
    marks = np.zeros(n_pieces, np.uint64)
    for piece in range(n_pieces):
        with contextlib.suppress(Exception):  # a torn file
            marks[piece] = stored[piece]
    return marks


def _digest(dataset: xr.Dataset) -> np.uint64:
    """Return 64 bits that depend on all of a dataset, never 0: numbers, names, dims, coordinates, attributes and types."""
    digest = hashlib.blake2b(_labels.as_text(dataset.attrs).encode(), digest_size=8)
    for name in sorted(map(str, dataset.variables)):
        variable, kind = dataset.variables[name], "coordinate" if name in dataset.coords else "data"
        values = variable.values
        described = [name, kind, variable.dims, values.shape, values.dtype.str, _labels.as_text(variable.attrs)]
        digest.update(json.dumps(described).encode())
        # A NaN may come back with another sign.
        plain = np.where(np.isnan(values), np.nan, values) if values.dtype.kind == "f" else values
        digest.update(np.ascontiguousarray(plain).tobytes())
    return np.uint64(int.from_bytes(digest.digest(), "little") or 1)


def discard(path: Path, groups: Iterable[str]) -> list[str]:
    """Remove a store of these groups; return what else is there, which stays."""
    with exclusive(Path(os.path.realpath(path))), atomic_directory.interrupts_held():
        names = atomic_directory.contents(path)
        # Without these two a folder is no store: if the rest cannot be removed, nobody takes it for one.
        ours = sorted((name for name in names if _is_ours(path, name, set(groups))), key=lambda name: (name != ".zgroup", name))
        atomic_directory.remove_files(path, ours)
    return sorted(set(atomic_directory.contents(path)) - set(ours)) if path.is_dir() else []


def _is_ours(path: Path, name: str, groups: set[str]) -> bool:
    """Return whether a file is one that zarr writes for a store of these groups."""
    *above, last = name.split("/")
    if not above:
        return last in (".zattrs", ".zgroup", ".zmetadata")
    if above[0] not in groups or len(above) > 2:
        return False
    if len(above) == 1:
        return last in (".zattrs", ".zgroup")
    return last in (".zarray", ".zattrs") or bool(_CHUNK.fullmatch(last) and (path / above[0] / above[1] / ".zarray").is_file())


_held: dict[Path, object] = {}
forks.anew_in_child(_held.clear)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep every other run away from a store; the system lets go of it when the process ends, in whatever way.

    Processes hold a lock of POSIX on a file beside the store, which a forked child does not inherit. Its name is a digest of the
    store's, and its text says that it is ours; a file that says something else is refused and left alone. Threads of one process
    are kept apart by a set of paths; on systems without such locks, only they are.
    """
    own = object()
    if _held.setdefault(path, own) is not own:
        stores.in_use(path)
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_name(f".fisherstats-lock-{hashlib.blake2b(os.fsencode(path.name), digest_size=8).hexdigest()}")
            descriptor = _locked(path, lock)
        except OSError as error:
            stores.not_written(path, error, 0, 0)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            os.close(descriptor)
    finally:
        _held.pop(path, None)


def _locked(path: Path, lock: Path) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if atomic_directory.fcntl is not None:
                atomic_directory.fcntl.lockf(descriptor, atomic_directory.fcntl.LOCK_EX | atomic_directory.fcntl.LOCK_NB)
            text = os.read(descriptor, len(_LOCK) + 1)
            if text not in (b"", _LOCK):
                stores.foreign_lock(lock)
            if not text:
                os.write(descriptor, _LOCK)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EAGAIN):
                stores.in_use(path)
            raise
        # Whoever held it before may have removed the file in between: then this lock keeps nobody away.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(lock).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)
