"""Blocks of inputs over threads, and their results combined in block order.

Whoever is free takes the next step: a task of the reduction that is due, or else the next block. A group of consecutive blocks
goes to the reduction as soon as all of them and all groups before it are done, so what is combined, and in which order, does not
depend on the threads; and no more than a few groups are under way, so memory does not grow with the inputs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fisherstats.streaming.rows import Rows, block_sizes

__all__ = ["BlockFunction", "Pipeline", "Reduction", "Task"]

Array = NDArray[np.floating]
BlockFunction = Callable[[Array, int], Any]
Task = Callable[[], None]


class Reduction(Protocol):
    """What becomes of the results of blocks."""

    def tasks(self, parts: list[Any]) -> list[Task]:
        """Return what is to be done with the results of the next group of blocks; the tasks may run at the same time."""
        ...


class Pipeline:
    """One pass over the inputs: `work` is what every thread runs."""

    def __init__(self, function: BlockFunction, rows_of: Rows, rows: int, group: int, reduction: Reduction, threads: int) -> None:
        sizes = block_sizes(rows_of.n_inputs, rows)
        self.n_blocks = len(sizes)
        self._function = function
        self._rows_of = rows_of
        self._ends = _group_ends(sizes, rows * group)
        self._reduction = reduction
        self.bar: Any = None
        self._ahead = 2 * max(threads, group)
        self._pieces: Iterator[tuple[Array, int]] = rows_of.pieces(sizes)
        self._state = threading.Condition()
        self._reading = False
        self._started = 0
        self._results: dict[int, Any] = {}
        self._tasks: deque[Task] = deque()
        self._open_tasks = 0
        self._reduced = 0
        self._stopped = False
        self._failures: list[tuple[int, BaseException]] = []

    def work(self) -> None:
        """Take steps until there are none left."""
        while (step := self._next()) is not None:
            number, action = step
            try:
                action()
            except BaseException as failure:
                with self._state:
                    self._failures.append((number, failure))
                    self._stop()

    def finish(self) -> None:
        """Raise what the first failing block raised, if any did."""
        if self._failures:
            raise min(self._failures, key=lambda one: one[0])[1]

    def _next(self) -> tuple[int, Task] | None:
        with self._state:
            try:
                while not self._stopped:
                    if self._tasks:
                        return self._reduced, self._reduce(self._tasks.popleft())
                    if self._reduced == self.n_blocks:
                        return None
                    due = self._started < min(self.n_blocks, self._reduced + self._ahead)
                    if due and not self._reading:
                        return self._started, self._read()
                    self._state.wait()
            except BaseException:
                self._stop()
                raise
            return None

    def _stop(self) -> None:
        self._stopped = True
        self._state.notify_all()

    def _read(self) -> Task:
        """Take the next piece of x, outside the lock as it may be slow to come."""
        self._reading = True
        self._state.release()
        try:
            piece, first = next(self._pieces)
        finally:
            self._state.acquire()
            self._reading = False
            self._state.notify()
        number = self._started
        self._started += 1

        def step() -> None:
            result = self._function(self._rows_of.block(piece, first), first)
            with self._state:
                self._results[number] = result
                self.bar.update()
                self._release()

        return step

    def _reduce(self, task: Task) -> Task:
        def step() -> None:
            task()
            with self._state:
                self._open_tasks -= 1
                if self._open_tasks == 0:
                    self._reduced = self._ends.popleft()
                    self._release()
                    self._state.notify_all()

        return step

    def _release(self) -> None:
        """Make the tasks of the next group, if it is complete and the one before it is done."""
        due = range(self._reduced, self._ends[0]) if self._ends else ()
        if due and self._open_tasks == 0 and all(number in self._results for number in due):
            self._tasks.extend(self._reduction.tasks([self._results.pop(number) for number in due]))
            self._open_tasks = len(self._tasks)
            self._state.notify_all()


def _group_ends(sizes: list[int], rows: int) -> deque[int]:
    """Return the numbers of the blocks with which the groups of so many rows end, plus one."""
    read = np.cumsum(sizes)
    ends = np.flatnonzero((read % rows == 0) | (read == read[-1])) + 1
    return deque(ends.tolist())
