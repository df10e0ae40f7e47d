"""Blocks of inputs over threads, and their results combined in block order.

A free thread takes the next step: a pending task of the reduction, or else the next block. A group of consecutive blocks is
passed to the reduction as soon as all of them and all groups before it are done, so the order of summation does not depend on the
threads; and only a few groups are in progress, so memory does not grow with the inputs.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.progress import Bar
from fisherstats.core.validation import capacity
from fisherstats.execution.reductions import Reduction, Task, leaf_blocks
from fisherstats.execution.row_source import Cut, Rows

__all__ = ["BlockFunction", "Pipeline"]

Array = NDArray[np.floating]
BlockFunction = Callable[[Array, int], Any]


_TO_READ: tuple[int, Task] = (-1, lambda: None)
"""Placeholder for a step that is unknown until the next piece has been read."""

_LOOKS_UP = 0.1
"""Seconds after which a waiting thread checks whether all work is done: an interrupt may have prevented the notification."""


class Pipeline:
    """One pass over the inputs: `work` is what every thread runs."""

    def __init__(self, function: BlockFunction, rows_of: Rows, cut: Cut, reduction: Reduction, threads: int) -> None:
        self.n_blocks = rows_of.n_blocks(cut)
        self._function = function
        self._rows_of = rows_of
        # Plain sums are added at once, so that no more results of blocks than needed are held.
        self._group = cut.group if reduction.shared else 1
        self._whole = rows_of.whole
        self._leaf_blocks = leaf_blocks(reduction, cut.group)
        self._reduction = reduction
        self.bar = Bar()
        self._ahead = 2 * max(threads, cut.group)
        self._pieces: Iterator[tuple[Array, int]] = rows_of.pieces(cut)
        self._process = os.getpid()
        # An interrupt cannot come between taking a bare lock and the work done with it, as it can with a condition.
        self._lock = threading.RLock()
        self._state = threading.Condition(self._lock)
        self._reading = False
        self._read_all = self.n_blocks == 0
        self._started = 0
        self._results: dict[int, Any] = {}
        self._tasks: deque[Task] = deque()
        self._open_tasks = 0
        self._reduced = 0
        self._in_work = 0
        self._stopped = False
        self._failures: list[tuple[int, BaseException]] = []

    def work(self) -> None:
        """Run steps until there are none left."""
        try:
            while (step := self._next()) is not None:
                number, action = step
                try:
                    action()
                except BaseException as failure:
                    with self._lock:
                        self._failures.append((number, failure))
                        self._stop()
        except BaseException:  # an interrupt between two steps, or while the others are being notified of one
            self._stopped = True
            raise

    def finish(self) -> None:
        """Close the last leaf, or raise what the first failing block raised."""
        if self._failures:
            first = min(self._failures, key=lambda one: one[0])[1]
            # The error references the frames of its traceback: they must not reference it in turn, or x would outlive the call.
            self._failures.clear()
            try:
                raise first
            finally:
                del first
        self._reduction.close()

    def _next(self) -> tuple[int, Task] | None:
        while (due := self._due()) is _TO_READ:
            if (step := self._read()) is not None:
                return step
        return due

    def _due(self) -> tuple[int, Task] | None:
        """Return the next step, `_TO_READ` if the calling thread is to read the next piece first, None if all is done."""
        with self._lock:
            try:
                while not self._stopped:
                    if self._tasks:
                        return self._reduced, self._reduce(self._tasks.popleft())
                    if self._read_all and self._reduced == self._started:
                        return None
                    wanted = not self._read_all and self._started < self._reduced + self._ahead
                    if wanted and not self._reading:
                        self._reading = True
                        return _TO_READ
                    self._state.wait(_LOOKS_UP)
                    if os.getpid() != self._process:
                        raise capacity.forked_within_a_call()
            except BaseException:
                self._stop()
                raise
            return None

    def _stop(self) -> None:
        self._stopped = True
        self._state.notify_all()

    def _read(self) -> tuple[int, Task] | None:
        """Read the next piece of x, outside the lock as this may be slow; None if there is none."""
        try:
            found = next(self._pieces, None)
        except BaseException:
            with self._lock:
                self._stop()
            raise
        with self._lock:
            self._reading = False
            self._state.notify()
            return None if self._stopped else self._begun(found)

    def _begun(self, found: tuple[Array, int] | None) -> tuple[int, Task] | None:
        """Begin the block of a piece; end reading if there is none."""
        if found is None:
            self._read_all = True
            self._release()
            self._state.notify_all()
            return None
        piece, first = found
        number = self._started
        self._started += 1
        self._read_all = self._started == self.n_blocks

        def step() -> None:
            result = self._function(self._rows_of.block(piece, first), first)
            with self._lock:
                self._results[number] = result
                self.bar.update()
                self._release()

        return number, step

    def _reduce(self, task: Task) -> Task:
        def step() -> None:
            task()
            with self._lock:
                self._open_tasks -= 1
                ended = self._open_tasks == 0
            if ended:
                self._end_group()

        return step

    def _end_group(self) -> None:
        """Close the leaf if the group that was reduced is its last, and go on to the next group."""
        reduced = self._reduced + self._in_work
        if reduced % self._leaf_blocks == 0:
            self._reduction.close()
        with self._lock:
            self._reduced, self._in_work = reduced, 0
            self._release()
            self._state.notify_all()

    def _release(self) -> None:
        """Create the tasks of the next group, if it is complete and the one before it is done."""
        stop = min(self._reduced + self._group, self._started) if self._read_all else self._reduced + self._group
        due = range(self._reduced, stop)
        if due and not self._in_work and all(number in self._results for number in due):
            self._in_work = len(due)
            parts = [self._results.pop(number) for number in due]
            self._tasks.extend(self._reduction.tasks(parts, self._whole and stop == self.n_blocks))
            self._open_tasks = len(self._tasks)
            self._state.notify_all()
