"""Rows of x in blocks, independent of its container and chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import as_array, joined, like, on_device
from fisherstats.core.validation import inputs
from fisherstats.execution.thread_pool import share, thread_count

__all__ = ["BLOCK_NUMBERS", "STREAM_ROWS", "Batches", "Cut", "Part", "Rows", "Source", "block_rows", "rows_by_number"]

Array = NDArray[np.floating]

STREAM_ROWS = 16
"""Inputs that share one random stream; every block is a whole number of them."""

BLOCK_NUMBERS = 2**22
"""A block's largest per-input array is kept below this many numbers, so that it stays near the cache."""

_READ_ROWS = 1024
"""Rows read at a time from a source outside memory with unknown chunks."""

_READ_BYTES = 2**27
"""Largest amount read at a time, regardless of the chunks of a file."""

_LOOKED_AT = 2**18
"""Numbers that a thread validates at once."""


class Source(Protocol):
    """What x must offer: a shape, and rows by slicing (an ndarray, a memory map, a dask, zarr or HDF5 array)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    @property
    def dtype(self) -> Any:
        """Type of the entries."""

    def __getitem__(self, rows: slice, /) -> Any: ...


@dataclass
class Batches:
    """Rows from an iterable of batches, read once and in order; their number is known once all have been read.

    Where there are data labels, there may be `n_labels` rows at most.
    """

    batches: Iterable[Any]
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_labels: int | None = None
    n_read: int = 0


@dataclass(frozen=True)
class Part:
    """An x of which only some rows are available: `source` holds those from the row `first` on, out of `n_inputs`.

    A call that is divided into parts receives one in place of x, with validated data that belong to all inputs, data labels or
    probabilities of labels, if there are any.
    """

    source: Source | Batches | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    first: int = 0
    n_present: int | None = None
    input_labels: NDArray[Any] | None = None
    checked: NDArray[Any] | None = None


def block_rows(numbers_per_input: int, preferred: int = 128, largest: int = BLOCK_NUMBERS) -> int:
    """Return the rows of a block: `preferred`, halved while `numbers_per_input` would make the block larger than `largest`."""
    rows = preferred
    while rows > STREAM_ROWS and rows * numbers_per_input > largest:
        rows //= 2
    return rows


@dataclass(frozen=True)
class Cut:
    """How inputs are divided: into groups of a fixed number of blocks of `rows` inputs each; the last group is divided evenly.

    A last group that is not full becomes an even number of blocks (if the group has room for it), so that two threads finish at
    the same time; inputs that fit into a single block stay one block if fewer than twice `least`. Blocks begin at a random
    stream.
    """

    rows: int
    group: int = 1
    least: int = STREAM_ROWS

    @property
    def span(self) -> int:
        """Inputs in a full group."""
        return self.rows * self.group

    def sizes(self, n: int) -> list[int]:
        """Return the blocks of the last n inputs, a group of them at most."""
        stream = math.gcd(self.rows, STREAM_ROWS)
        streams = -(-n // stream)
        alone = n <= self.rows and (self.group == 1 or n < 2 * self.least)
        count = 1 if alone else min(2 * -(-n // (2 * self.rows)), self.group, streams)
        borders = [min(n, stream * (number * streams // count)) for number in range(count + 1)]
        return [stop - start for start, stop in itertools.pairwise(borders)]

    def n_blocks(self, n: int) -> int:
        """Return the blocks of n inputs."""
        left = n % self.span
        return n // self.span * self.group + (len(self.sizes(left)) if left else 0)


def as_announced(lazy: Any) -> Any:
    """Return a dask array that refuses blocks without the shape and dtype that it declares.

    dask's slicing and concatenation would drop surplus rows, and a result could be divided by the number of rows that do not
    exist.
    """
    return lazy.map_blocks(_announced_block, dtype=lazy.dtype, meta=lazy._meta)


def _announced_block(block: Any, block_info: Any = None) -> Any:
    announced = block_info[None]
    inputs.announced_rows(block, tuple(announced["chunk-shape"]), announced["dtype"], announced["array-location"][0][0])
    return block


class Rows:
    """Reads a matrix in C-ordered, finite blocks of one dtype, for any memory layout or chunks.

    `device` is an array on the device that blocks are moved to; results are copied back unless `results_stay`.
    """

    def __init__(self, source: Source | Batches | None, dtype: np.dtype[np.floating], known_finite: bool = False) -> None:
        self.source = source
        self.dtype = dtype
        self.known_finite = known_finite
        self.first = 0
        self.device: Any = None
        self.results_stay = False
        self.whole = True
        """Whether no further rows follow, as they do after a leaf."""
        self.checked: NDArray[Any] | None = None
        self.n_present: int | None = None if source is None or isinstance(source, Batches) else int(source.shape[0])
        self.n_inputs = self.n_present or 0

    @classmethod
    def of_part(cls, part: Part, dtype: np.dtype[np.floating]) -> Rows:
        """Return the rows that are available."""
        rows = cls(part.source, dtype)
        rows.first, rows.n_inputs = part.first, part.shape[0]
        rows.n_present, rows.checked = part.n_present, part.checked
        return rows

    def leaf(self, source: Source, first: int) -> Rows:
        """Return some of the rows, which others follow."""
        rows = Rows(source, self.dtype)
        rows.first, rows.n_inputs, rows.device, rows.whole = first, self.n_inputs, self.device, False
        return rows

    def look(self, num_threads: int | None) -> None:
        """Validate that an array in memory is finite before it is used; the threads share it."""
        source = self.source
        if type(source) is np.ndarray and not self.known_finite:
            rows = max(1, _LOOKED_AT // max(1, math.prod(source.shape[1:])))

            def piece(first: int) -> None:
                inputs.finite_block(source[first : first + rows], first)

            share(piece, range(0, len(source), rows), thread_count(num_threads))
            self.known_finite = True

    def forward(self) -> None:
        """Record that every block has been validated; a file may have changed when it is read again."""
        self.known_finite |= type(self.source) is np.ndarray

    def n_blocks(self, cut: Cut) -> int | None:
        """Return the number of blocks, if the number of rows is known."""
        return None if self.n_present is None else cut.n_blocks(self.n_present)

    def block(self, piece: Array, first: int) -> Array:
        """Return a piece as the array used in the computation; raise if it is not finite."""
        block = piece.astype(self.dtype, copy=False) if on_device(piece) else np.ascontiguousarray(piece, dtype=self.dtype)
        if not self.known_finite:
            inputs.finite_block(block, first)
        return block if self.device is None else like(block, self.device)

    def pieces(self, cut: Cut) -> Iterator[tuple[Array, int]]:
        """Yield (the rows of a block in their memory layout, index of the first one)."""
        first, held, n_held = self.first, list[Array](), 0
        for part in self._parts(cut):
            held.append(part)
            n_held += len(part)
            if n_held < cut.span:
                continue
            rows = joined(held)
            whole = n_held - n_held % cut.span
            for start in range(0, whole, cut.rows):
                yield rows[start : start + cut.rows], first + start
            first += whole
            n_held -= whole
            held = [rows[whole:]] if n_held else []
        if n_held == 0:
            return
        rows, start = joined(held), 0
        for size in cut.sizes(n_held):
            yield rows[start : start + size], first + start
            start += size

    def _parts(self, cut: Cut) -> Iterator[Array]:
        """Yield consecutive pieces: batch by batch, a chunk at a time for a chunked source, else a group of blocks at a time."""
        source = self.source
        if source is None:
            return
        if isinstance(source, Batches):
            yield from _checked_batches(source)
            return
        if hasattr(source, "__dask_graph__"):
            source = as_announced(source)
        # A reader may reuse one buffer, while earlier rows are still being processed.
        stays = isinstance(source, np.ndarray) or on_device(source) or hasattr(source, "__dask_graph__")
        start = 0
        for size in _sizes(source, cut):
            part = source[start : start + size]
            inputs.unmasked_rows(part, start)
            part = as_array(part)
            inputs.announced_rows(part, (size, *source.shape[1:]), source.dtype, start)
            yield part if stays else np.array(part)
            start += size


def rows_by_number(source: Any, numbers: NDArray[np.int64]) -> Array:
    """Return rows by their numbers, in that order; rows that are only read now are validated like blocks."""
    rows: Array
    if type(source) is np.ndarray or on_device(source):
        rows = source[numbers]
        return rows
    with inputs.rows_refused():
        order = np.argsort(numbers, kind="stable")  # HDF5 reads in increasing order only
        part = source[numbers[order]]
        inputs.unmasked_rows(part, int(numbers[order[0]]))
        part = as_array(part)
        inputs.announced_rows(part, (len(numbers), *source.shape[1:]), source.dtype, int(numbers[order[0]]))
        inputs.finite_block(part, numbers[order])
        rows = np.empty_like(part)
        rows[order] = part
    return rows


def _sizes(source: Source, cut: Cut) -> Iterator[int]:
    """Yield the numbers of rows to read at a time."""
    n_inputs = source.shape[0]
    chunks = getattr(source, "chunks", None)
    if chunks and isinstance(chunks[0], tuple):  # dask: the sizes of all chunks
        yield from chunks[0]
        return
    if isinstance(source, np.ndarray) or on_device(source):
        step = cut.span
    else:  # zarr, HDF5: the size of one chunk, or nothing
        chunk = int(chunks[0]) if chunks else _READ_ROWS
        rows = cut.rows
        most = _READ_BYTES // (math.prod(source.shape[1:]) * np.dtype(source.dtype).itemsize) // rows * rows
        step = max(rows, min(-(-rows // chunk) * chunk, most))
    for start in range(0, n_inputs, step):
        yield min(step, n_inputs - start)


def _checked_batches(source: Batches) -> Iterator[Array]:
    source.n_read = 0
    for number, batch in enumerate(source.batches):
        array = inputs.batch_of_rows(batch, number, source.row_shape, source.dtype)
        source.n_read += len(array)
        inputs.labelled_rows(source.n_read, source.n_labels)
        yield np.array(array)  # a reader may reuse one buffer, while earlier batches are still being processed
