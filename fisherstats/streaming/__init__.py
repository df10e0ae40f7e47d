"""Fixed blocks of inputs, mapped on threads and combined in block order: the only loop over inputs.

A block is the unit of work, of randomness and of summation. Its size depends on the kind of work and on the network, never on
the number of inputs, chunks or threads, so that none of these can change a bit of a result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.checks import arguments
from fisherstats.streaming import threads
from fisherstats.streaming.pipeline import BlockFunction, Pipeline, Reduction, Task
from fisherstats.streaming.rows import STREAM_ROWS, Rows, block_rows
from fisherstats.streaming.threads import one_blas_thread, thread_count

__all__ = [
    "STREAM_ROWS",
    "BlockFunction",
    "Reduction",
    "Rows",
    "Task",
    "block_rows",
    "mean",
    "one_blas_thread",
    "reduce",
    "stack",
    "thread_count",
]

Array = NDArray[np.floating]
Combine = Callable[[list[Array], list[Array]], None]


def reduce(
    function: BlockFunction,
    rows_of: Rows,
    rows: int,
    reduction: Reduction,
    *,
    group: int = 1,
    num_threads: int | None = None,
    progress: bool = False,
) -> None:
    """Hand what `function(block, first input)` returns to `reduction`, in order, `group` blocks at a time."""
    n_threads = thread_count(num_threads)
    pipeline = Pipeline(function, rows_of, rows, group, reduction, n_threads)
    with one_blas_thread(), _progress_bar(pipeline.n_blocks, progress) as pipeline.bar:
        # One block that is simply added up leaves nothing for a second thread.
        threads.run_together(pipeline.work, 1 if pipeline.n_blocks == group == 1 else n_threads)
        pipeline.finish()


def mean(
    function: BlockFunction,
    rows_of: Rows,
    rows: int,
    *,
    num_threads: int | None = None,
    progress: bool = False,
    combine: Combine | None = None,
) -> list[Array]:
    """Return (1/n) times the sum over blocks of the arrays that `function` returns, added in block order.

    `combine(total, part)` replaces the addition where partial results are not plain sums; nothing is divided then.
    """
    total = _Total(_add if combine is None else combine)
    reduce(function, rows_of, rows, total, num_threads=num_threads, progress=progress)
    if combine is None:
        for into in total.arrays:
            np.divide(into, rows_of.n_inputs, out=into)
    return total.arrays


def stack(
    function: BlockFunction, rows_of: Rows, rows: int, *, num_threads: int | None = None, progress: bool = False
) -> list[Array]:
    """Return the arrays that `function` returns for each block, joined along the first axis (one row per input)."""
    joined = _Joined(rows_of.n_inputs)
    reduce(function, rows_of, rows, joined, num_threads=num_threads, progress=progress)
    return joined.arrays


def _add(total: list[Array], part: list[Array]) -> None:
    for into, array in zip(total, part, strict=True):
        np.add(into, array, out=into)


class _Total:
    """Combines the results of blocks into those of the first one."""

    def __init__(self, combine: Combine) -> None:
        self.arrays: list[Array] = []
        self._combine = combine

    def tasks(self, parts: list[list[Array]]) -> list[Task]:
        def add() -> None:
            for part in parts:
                if self.arrays:
                    self._combine(self.arrays, part)
                else:
                    self.arrays = part

        return [add]


class _Joined:
    """Writes the results of blocks one below the other."""

    def __init__(self, n_inputs: int) -> None:
        self.arrays: list[Array] = []
        self._n_inputs = n_inputs
        self._first = 0

    def tasks(self, parts: list[list[Array]]) -> list[Task]:
        def write() -> None:
            for part in parts:
                if not self.arrays:
                    self.arrays = [np.empty((self._n_inputs, *array.shape[1:]), dtype=array.dtype) for array in part]
                for into, array in zip(self.arrays, part, strict=True):
                    into[self._first : self._first + len(array)] = array
                self._first += len(part[0])

        return [write]


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
