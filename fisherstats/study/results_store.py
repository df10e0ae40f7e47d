"""Storage of the results of a study's tasks: in memory, or in a zarr store from which a later run can be resumed.

A store is a zarr hierarchy that xarray opens as a tree. Every task is a whole group, or a region of one; a mark, the digest of
its results, is written after them. So whenever a run is killed, marked results are complete; the others are recomputed.
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
_CHANGED = "its content differs from what was written"
_TORN = re.compile(r"\.[0-9a-f]{32}\.partial$")
"""Names of zarr's temporary files."""
_CHUNK = re.compile(r"\d+(\.\d+)*")
_LOCK = b"fisherstats lock 1\n"
_FORMAT: Any = 2
"""Fixed-width text, used for the labels, is not specified in zarr format 3 yet."""


class Child(NamedTuple):
    """A group of results: one task, or one task for each position along a dim."""

    name: str
    dim: str = ""
    coords: Mapping[str, Any] = {}
    """Coordinates along the dim."""


class Slot(NamedTuple):
    """The place of the results of a task."""

    child: Child
    place: int = 0


class Results(Protocol):
    """Storage of task results."""

    done: NDArray[np.bool_]

    def write(self, piece: int, dataset: xr.Dataset) -> None:
        """Store the results of a task."""
        ...

    def read(self, child: Child) -> xr.Dataset:
        """Return a child whose tasks are all complete."""
        ...

    def finish(self) -> None:
        """Finalise the storage when all tasks are complete."""
        ...


class Memory:
    """Storage in memory, for the lifetime of the process."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.done = np.zeros(len(slots), bool)
        self._slots = slots
        self._parts: dict[str, dict[int, xr.Dataset]] = {}

    def write(self, piece: int, dataset: xr.Dataset) -> None:
        """Store the results of a task."""
        child, place = self._slots[piece]
        self._parts.setdefault(child.name, {})[place] = dataset
        self.done[piece] = True

    def read(self, child: Child) -> xr.Dataset:
        """Return a child whose tasks are all complete."""
        parts = self._parts[child.name]
        if not child.dim:
            return parts[0]
        return _along(child, parts[0], lambda name: np.concatenate([parts[place][name].values for place in sorted(parts)]))

    def finish(self) -> None:
        """Do nothing."""


def _along(child: Child, part: xr.Dataset, values: Callable[[str], Any]) -> xr.Dataset:
    """Return the dataset of which `part` is one position along the dim, with the given values of the variables over it."""
    variables = {
        name: (one.dims, values(str(name)), one.attrs) if child.dim in one.dims else one for name, one in part.data_vars.items()
    }
    others = {name: one for name, one in part.coords.items() if child.dim not in one.dims}
    return xr.Dataset(variables, {**others, **child.coords}, part.attrs)


class Store:
    """Storage in a zarr store; created atomically by `create`, resumed by `open`."""

    def __init__(self, path: Path, slots: Sequence[Slot], marks: NDArray[np.uint64]) -> None:
        self.path = path
        self.done = marks != 0
        self._slots = slots
        self._marks = marks

    @classmethod
    def create(
        cls, path: Path, provenance: Mapping[str, Any], children: Mapping[str, xr.Dataset], slots: Sequence[Slot]
    ) -> Store:
        """Create a store with the given children and no task complete, atomically."""
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
        """Return the record of the study that created the store at `path`, None if there is none."""
        if not path.exists() or not any(path.iterdir()):
            return None
        zarr = arguments.optional_module("zarr", extra="study")
        try:
            root = zarr.open_group(path, mode="r", zarr_format=_FORMAT, use_consolidated=False)
            record = json.loads(root.attrs["provenance"])
            root[f"{_PROGRESS}/mark"]
        except Exception as error:  # a folder can contain anything
            names = ", ".join(sorted(one.name for one in path.iterdir())[:3])
            stores.foreign(path, f"it contains {names} and is not a store: {type(error).__name__}")
        return dict(record)

    @classmethod
    def open(cls, path: Path, slots: Sequence[Slot], given: Mapping[str, xr.Dataset], provenance: Mapping[str, Any]) -> Store:
        """Resume a store: its settings and marked results are read and validated."""
        for leftover in path.rglob("*.partial"):  # left by a run that was killed while writing
            if _TORN.search(leftover.name) and (leftover.parent / ".zarray").exists():
                leftover.unlink()
        if cls.record(path) != json.loads(_labels.as_text(provenance)):
            stores.damaged(path, "the record of the study", "it differs from the one that was written")
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
        """Store the results of a task, then mark it as complete."""
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
        """Return a child; results of incomplete tasks are undefined."""
        return read(self.path, child.name)

    def finish(self) -> None:
        """Consolidate the metadata of all arrays in one file, as readers of finished stores expect."""
        zarr = arguments.optional_module("zarr", extra="study")
        try:
            zarr.consolidate_metadata(self.path, zarr_format=_FORMAT)
        except OSError as error:
            stores.not_written(self.path, error, len(self.done), len(self.done))


def _at(child: Child, place: int, dataset: xr.Dataset) -> xr.Dataset:
    """Return the results of a task with the coordinates that they have when read back."""
    if not child.dim:
        return dataset
    coords = {name: (dims, values[place : place + 1], attrs) for name, (dims, values, attrs) in child.coords.items()}
    return _along(child._replace(coords=coords), dataset, lambda name: dataset[name].values)


def read(path: Path, name: str) -> xr.Dataset:
    """Return a child of a store as it was before it was written."""
    try:
        with xr.open_zarr(path, group=name, zarr_format=_FORMAT, consolidated=False, chunks=None) as opened:
            dataset: xr.Dataset = opened.load().drop_encoding()
    except Exception as error:  # a damaged file can raise any exception
        stores.damaged(path, name, f"{type(error).__name__}: {error}")
    return dataset


def _marks(path: Path, n_pieces: int) -> NDArray[np.uint64]:
    """Return the marks; a partially written one counts as missing."""
    zarr = arguments.optional_module("zarr", extra="study")
    stored = zarr.open_array(path / _PROGRESS / "mark", mode="r", zarr_format=_FORMAT)
    if stored.shape != (n_pieces,):
        stores.damaged(path, _PROGRESS, f"it has {stored.shape[0]} pieces of work and not {n_pieces}")
    marks = np.zeros(n_pieces, np.uint64)
    for piece in range(n_pieces):
        with contextlib.suppress(Exception):  # a partially written file
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
        # A NaN may be read back with another sign.
        plain = np.where(np.isnan(values), np.nan, values) if values.dtype.kind == "f" else values
        digest.update(np.ascontiguousarray(plain).tobytes())
    return np.uint64(int.from_bytes(digest.digest(), "little") or 1)


def discard(path: Path, groups: Iterable[str]) -> list[str]:
    """Remove a store of these groups; return other files found there, which are kept."""
    with exclusive(Path(os.path.realpath(path))), atomic_directory.interrupts_held():
        names = atomic_directory.contents(path)
        # Without these two a folder is not a store: if the rest cannot be removed, it is not mistaken for one.
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
    """Lock a store for one run; the operating system releases the lock when the process ends, however it ends.

    Processes hold a POSIX lock on a file next to the store, which a forked child does not inherit. Its name is a digest of the
    store's, and its content identifies it as ours; a file with other content raises and is left unchanged. Threads of one process
    are excluded by a set of paths; on systems without POSIX locks this is the only protection.
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
        # The previous holder may have removed the file meanwhile: then this lock is ineffective.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(lock).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)
