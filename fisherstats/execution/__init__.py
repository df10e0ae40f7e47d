"""Blocks of inputs, mapped on threads and combined in block order: the only loop over inputs.

A block is the unit of work, of randomness and of summation. Its size depends on the kind of work and on the network, and for the
last group of blocks on the number of inputs, never on chunks or threads, so that none of these can change a bit of a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import all_held, noted_checks, on_host
from fisherstats.core.progress import progress_bar
from fisherstats.core.validation import capacity
from fisherstats.execution import thread_pool
from fisherstats.execution.blas import one_blas_thread
from fisherstats.execution.passes import PassEnded, Passes, PassShape, RecordedPasses, Reduction, Task, add_arrays
from fisherstats.execution.row_source import (
    BLOCK_NUMBERS,
    STREAM_ROWS,
    Batches,
    Cut,
    Part,
    Rows,
    as_announced,
    block_rows,
    rows_by_number,
)
from fisherstats.execution.scheduler import BlockFunction, Pipeline, leaf_blocks
from fisherstats.execution.thread_pool import share, thread_count

__all__ = [
    "BLOCK_NUMBERS",
    "STREAM_ROWS",
    "Batches",
    "BlockFunction",
    "Cut",
    "Part",
    "PassEnded",
    "PassShape",
    "Passes",
    "RecordedPasses",
    "Reduction",
    "Rows",
    "Task",
    "Total",
    "as_announced",
    "block_rows",
    "mean",
    "one_blas_thread",
    "reduce",
    "rows_by_number",
    "share",
    "stack",
    "thread_count",
]

Array = NDArray[np.floating]
Combine = Callable[[list[Array], list[Array]], None]

_UNCHECKED_BYTES = 2**24
"""Size of results of batches that fits in any case."""

_LEAST = 96
"""Inputs for which a thread pays off, without second derivatives."""


def reduce(
    function: BlockFunction,
    rows_of: Rows,
    rows: int,
    reduction: Reduction,
    *,
    group: int = 2,
    least: int = _LEAST,
    num_threads: int | None = None,
    progress: bool = False,
) -> None:
    """Pass the results of `function(block, first input)` to `reduction`, in order; `group` and `least` as in `Cut`.

    A `shared` reduction receives the blocks of a group together, any other each separately.
    """
    # On a device one block follows the other.
    cut = Cut(rows, group if rows_of.device is None else 1, least)

    @one_blas_thread
    def run() -> None:
        if rows_of.device is not None:
            _reduce_on_device(function, rows_of, cut, reduction, progress)
            return
        n_threads = thread_count(num_threads)
        pipeline = Pipeline(function, rows_of, cut, reduction, n_threads)
        with progress_bar(pipeline.n_blocks, progress, "block") as pipeline.bar:
            alone = pipeline.n_blocks == 1 and not reduction.shared
            thread_pool.run_together(pipeline.work, 1 if alone else n_threads)
            pipeline.finish()

    if rows_of.passes is None:
        run()
        rows_of.passed()
    else:
        rows_of.passes.reduce(reduction, run, cut.span, rows * leaf_blocks(reduction, cut.group))


def _reduce_on_device(function: BlockFunction, rows_of: Rows, cut: Cut, reduction: Reduction, progress: bool) -> None:
    """Do the same block by block on a device; the sums stay there until all blocks have been added.

    Checks of a block are evaluated after the next one has been submitted, so that the device is never idle.
    """
    held: deque[tuple[list[Any], Array, int]] = deque()

    def settle() -> None:
        noted, piece, first = held.popleft()
        if not all_held(noted):
            # In the repeated run every check is evaluated at once, and the one that fails raises its error.
            function(rows_of.block(piece, first), first)

    with progress_bar(rows_of.n_blocks(cut), progress, "block") as bar:
        for number, (piece, first) in enumerate(rows_of.pieces(cut), 1):
            with noted_checks() as noted:
                result = function(rows_of.block(piece, first), first)
            held.append((noted, piece, first))
            if len(held) > 1:
                settle()
            for task in reduction.tasks([result], False):
                task()
            if number % reduction.leaf_blocks == 0:
                reduction.close()
            bar.update()
        while held:
            settle()
    reduction.close()
    if not rows_of.results_stay:
        reduction.totals = [on_host(one) for one in reduction.totals]


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
    total = Total(add_arrays if combine is None else combine)
    reduce(function, rows_of, rows, total, num_threads=num_threads, progress=progress)
    if combine is None:
        for into in total.totals:
            np.divide(into, rows_of.n_inputs, out=into)
    return total.totals


def stack(
    function: BlockFunction, rows_of: Rows, rows: int, *, num_threads: int | None = None, progress: bool = False
) -> list[Array]:
    """Return the arrays that `function` returns for each block, joined along the first axis (one row per input)."""
    joined = _Joined(rows_of.n_present, rows_of.results_stay)
    reduce(function, rows_of, rows, joined, num_threads=num_threads, progress=progress)
    return joined.arrays


class Total(Reduction):
    """Adds the results of blocks in place to those of the first one."""

    def tasks(self, parts: list[list[Array]], last: bool) -> list[Task]:
        """Return the one task of adding them."""

        def add() -> None:
            for part in parts:
                if self.leaf:
                    self.combine(self.leaf, part)
                else:
                    self.leaf = part

        return [add]


class _Joined(Reduction):
    """Concatenates the results of blocks; collects them where the number of rows is not known, or they stay on the device."""

    def __init__(self, n_rows: int | None, stays: bool) -> None:
        super().__init__(list.extend)
        self._n_rows = n_rows
        self._stays = stays
        self._first = 0
        self._held = self._checked = 0

    def tasks(self, parts: list[list[Array]], last: bool) -> list[Task]:
        return [lambda: self._write(parts)]

    def _write(self, parts: list[list[Array]]) -> None:
        if not self._stays:
            parts = [[on_host(array) for array in part] for part in parts]
        if self._n_rows is None or self._stays:
            self.totals.extend(parts)
            if not self._stays:
                self._grown(parts)
            return
        for part in parts:
            if not self.totals:
                self.totals = [[np.empty((self._n_rows, *array.shape[1:]), dtype=array.dtype) for array in part]]
            for into, array in zip(self.totals[0], part, strict=True):
                into[self._first : self._first + len(array)] = array
            self._first += len(part[0])

    def _grown(self, parts: list[list[Array]]) -> None:
        """Require the collected results to fit twice, as when they are joined; checked again after every growth by a tenth."""
        self._held += sum(array.nbytes for part in parts for array in part)
        if self._held > self._checked + self._checked // 10:
            capacity.joined(self._held)
            self._checked = max(self._held, _UNCHECKED_BYTES)

    @property
    def arrays(self) -> list[Array]:
        """The joined arrays."""
        if len(self.totals) == 1:
            return self.totals[0]
        return [np.concatenate(column) for column in zip(*self.totals, strict=True)]
