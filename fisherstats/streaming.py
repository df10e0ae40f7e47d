"""Fixed blocks of inputs, mapped on a thread pool and added in block order: the only loop over inputs.

A block is the unit of work, of randomness and of summation. Its size depends on the kind of work and on the network, never on
the number of inputs, chunks or threads, so that none of these can change a bit of a result.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from fisherstats.checks import arguments, inputs

__all__ = ["STREAM_ROWS", "Rows", "block_rows", "mean", "stack"]

Array = NDArray[np.floating]
BlockFunction = Callable[[Array, int], list[Array]]

STREAM_ROWS = 16
"""Inputs that share one random stream; every block is a whole number of them."""

_BLOCK_NUMBERS = 2**22
"""A block's largest per-input array is kept below this many numbers, so that it stays near the cache."""


class Source(Protocol):
    """What x must offer: a shape, and rows by slicing (an ndarray, a memory map or a dask array)."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> Any: ...


def block_rows(numbers_per_input: int, preferred: int = 128) -> int:
    """Return the rows of a block: `preferred`, halved while `numbers_per_input` would make the block too large."""
    rows = preferred
    while rows > STREAM_ROWS and rows * numbers_per_input > _BLOCK_NUMBERS:
        rows //= 2
    return rows


class Rows:
    """Reads a matrix in C-ordered, finite blocks of one dtype, whatever its memory layout or chunks."""

    def __init__(self, source: Source, dtype: np.dtype[np.floating], known_finite: bool = False) -> None:
        self.source = source
        self.dtype = dtype
        self.known_finite = known_finite
        self.n_inputs = int(source.shape[0])

    def blocks(self, rows: int) -> Iterator[tuple[Array, int]]:
        """Yield (block, index of its first input)."""
        held: list[Array] = []
        n_held, first = 0, 0
        for part in self._parts(rows):
            held.append(part)
            n_held += len(part)
            while n_held >= rows or (n_held and first + n_held == self.n_inputs):
                joined = held[0] if len(held) == 1 else np.concatenate(held)
                block = np.array(joined[:rows], dtype=self.dtype, order="C")
                if not self.known_finite:
                    inputs.finite_block(block, first)
                yield block, first
                first += len(block)
                n_held -= len(block)
                held = [joined[rows:]] if n_held else []

    def _parts(self, rows: int) -> Iterator[Array]:
        """Yield consecutive pieces: a chunk at a time for a chunked source, else a block at a time."""
        chunks = getattr(self.source, "chunks", None)
        sizes: Iterable[int] = chunks[0] if chunks else [rows] * (-(-self.n_inputs // rows))
        start = 0
        for size in sizes:
            yield np.asarray(self.source[start : start + size])
            start += size


def mean(
    block_function: BlockFunction,
    rows_of: Rows,
    rows: int,
    *,
    num_threads: int | None = None,
    progress: bool = False,
    combine: Callable[[list[Array], list[Array]], None] | None = None,
) -> list[Array]:
    """Return (1/n) times the sum over blocks of what `block_function` returns, added in block order.

    `combine(total, part)` replaces the addition where partial results are not plain sums; nothing is divided then.
    """
    # Closing the generator gives the BLAS threads back even when this loop is interrupted.
    with contextlib.closing(_in_order(block_function, rows_of, rows, num_threads, progress)) as results:
        total = next(results)
        for part in results:
            if combine is not None:
                combine(total, part)
                continue
            for into, array in zip(total, part, strict=True):
                np.add(into, array, out=into)
    if combine is None:
        for into in total:
            np.divide(into, rows_of.n_inputs, out=into)
    return total


def stack(
    block_function: BlockFunction,
    rows_of: Rows,
    rows: int,
    *,
    num_threads: int | None = None,
    progress: bool = False,
) -> list[Array]:
    """Return what `block_function` returns for each block, joined along the first axis (one row per input)."""
    results: list[Array] = []
    first = 0
    with contextlib.closing(_in_order(block_function, rows_of, rows, num_threads, progress)) as blocks:
        for part in blocks:
            if not results:
                results = [np.empty((rows_of.n_inputs, *array.shape[1:]), dtype=array.dtype) for array in part]
            for into, array in zip(results, part, strict=True):
                into[first : first + len(array)] = array
            first += len(part[0])
    return results


def _in_order(
    block_function: BlockFunction, rows_of: Rows, rows: int, num_threads: int | None, progress: bool
) -> Generator[list[Array], None, None]:
    """Yield the results in block order, a few blocks ahead at most, so that memory does not grow with the inputs."""
    threads = _thread_count(num_threads)
    n_blocks = -(-rows_of.n_inputs // rows)
    with _one_blas_thread(), _progress_bar(n_blocks, progress) as bar:
        blocks = rows_of.blocks(rows)
        if threads == 1 or n_blocks == 1:
            for block, first in blocks:
                yield block_function(block, first)
                bar.update()
            return
        pool = ThreadPoolExecutor(max_workers=threads)
        try:
            running: deque[Future[list[Array]]] = deque()
            for block, first in blocks:
                running.append(pool.submit(block_function, block, first))
                if len(running) > threads:
                    yield running.popleft().result()
                    bar.update()
            while running:
                yield running.popleft().result()
                bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _thread_count(num_threads: int | None) -> int:
    """Return the threads to use: the argument, else FISHERSTATS_NUM_THREADS, else the cores given to this process."""
    if num_threads is not None:
        return arguments.positive_integer("num_threads", num_threads)
    setting = os.environ.get("FISHERSTATS_NUM_THREADS")
    if setting:
        return arguments.positive_integer("FISHERSTATS_NUM_THREADS", int(setting) if setting.isdigit() else setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _NoBar:
    """Stands in for a progress bar that was not asked for."""

    def update(self) -> None:
        """Do nothing."""


@contextlib.contextmanager
def _progress_bar(n_blocks: int, progress: bool) -> Iterator[Any]:
    if not progress:
        yield _NoBar()
        return
    tqdm = arguments.optional_module("tqdm", "study")
    with tqdm.tqdm(total=n_blocks, unit="block", leave=False) as bar:
        yield bar


class _BlasGuard:
    """Holds BLAS at one thread while any call is streaming: the first in sets the limit, the last one out restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._limiter: Any = None
        self._controller: ThreadpoolController | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                # Finding the loaded libraries costs about 30 times the limit itself, so the controller is kept.
                if self._controller is None:
                    self._controller = ThreadpoolController()
                self._limiter = self._controller.limit(limits=1, user_api="blas")
                self._limiter.__enter__()
            self._depth += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._limiter.__exit__(None, None, None)
                self._limiter = None


_guard = _BlasGuard()


def _one_blas_thread() -> _BlasGuard:
    return _guard
