"""Calls in separate passes: the results of earlier passes over the inputs, so that each pass can run elsewhere.

Every public quantity is one or more passes over the inputs with some arithmetic before, between and after them. A pass can be run
separately: called with the results of the earlier passes, the function runs up to the pass, which runs over the available rows
and ends the call with `PassEnded`. Called with the results of all passes it returns its usual result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["PassEnded", "PassShape", "Passes", "RecordedPasses", "Reduction", "Task"]

Task = Callable[[], None]

LEAF_BLOCKS = 32


def add_arrays(totals: list[Any], leaf: list[Any]) -> None:
    """Add arrays one by one, in place."""
    for into, array in zip(totals, leaf, strict=True):
        into += array


class Reduction:
    """Reduction of the results of blocks: groups of blocks are summed into leaves, and leaves into totals, in order.

    A leaf is a fixed number of blocks, so that any free thread or another process can sum it with bitwise identical results.
    """

    leaf_blocks = LEAF_BLOCKS
    """Blocks in a leaf; at least one group."""

    shared = False
    """Whether the blocks of a group are processed together, by several threads."""

    def __init__(self, combine: Callable[[list[Any], list[Any]], None] = add_arrays) -> None:
        self.combine = combine
        self.leaf: list[Any] = []
        self.totals: list[Any] = []

    def tasks(self, parts: list[Any], last: bool) -> list[Task]:
        """Return the tasks for the results of the next group of blocks; they may run in parallel.

        Their results go into `leaf`, or directly into `totals` where the order of summation is the same. `last` says that no
        further group follows; where that is not known, it stays False.
        """
        raise NotImplementedError

    def add(self, leaf: list[Any]) -> None:
        """Add a leaf to the totals of all before it."""
        if self.totals:
            self.combine(self.totals, leaf)
        else:
            self.totals = leaf

    def close(self) -> None:
        """Add the leaf to the totals, and begin the next one."""
        if self.leaf:
            leaf, self.leaf = self.leaf, []
            self.add(leaf)


class PassEnded(BaseException):  # not an Exception: no code between the pass and its caller may catch it
    """A pass over the available rows is done; `totals` are its results and `combine` adds those of further rows."""

    def __init__(self, reduction: Reduction) -> None:
        super().__init__("a single pass over the inputs was requested")
        self.combine = reduction.combine
        self.totals = reduction.totals


class Passes:
    """The results of a call's first passes; the next one ends the call."""

    def __init__(self, known: Sequence[list[Any]]) -> None:
        self._known = known
        self._next = 0

    def reduce(self, reduction: Reduction, run: Callable[[], None], rows: int, leaf_rows: int) -> None:
        """Pass known results of this pass to the reduction, or run it and end the call.

        A pass takes blocks, or groups of them, of `rows` inputs, and leaves of `leaf_rows`.
        """
        if self._next == len(self._known):
            run()
            raise PassEnded(reduction)
        # A copy, as callers divide their sums in place.
        reduction.add(copy.deepcopy(self._known[self._next]))
        self._next += 1


@dataclass(frozen=True)
class PassShape:
    """How a pass is divided: inputs per group, inputs per leaf, and whether leaves are joined or added."""

    rows: int
    leaf_rows: int
    joins: bool


class RecordedPasses(Passes):
    """Runs every pass over the available rows and records how each is divided."""

    def __init__(self) -> None:
        super().__init__([])
        self.shapes: list[PassShape] = []

    def reduce(self, reduction: Reduction, run: Callable[[], None], rows: int, leaf_rows: int) -> None:
        """Run the pass."""
        self.shapes.append(PassShape(rows, leaf_rows, reduction.combine is list.extend))
        run()
