"""Calls in pieces: what their passes over the inputs gave, so that each pass can run elsewhere and the call go on from there.

Every public quantity is one or more passes over the inputs with some arithmetic before, between and after them. A pass can be
taken out of the call: run again with the results of the passes before, the call gets as far as the pass, which runs over the rows
that are at hand and ends the call with `PassEnded`. Run with the results of all passes it returns what it always returns.
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
    """What becomes of the results of blocks: groups of blocks are summed into leaves, and leaves into totals, in order.

    A leaf is a fixed number of blocks, so that it can be summed by whoever is free, in another process too, with the same bits.
    """

    leaf_blocks = LEAF_BLOCKS
    """Blocks in a leaf; at least a group."""

    shared = False
    """Whether the blocks of a group are worked on together, by several threads."""

    def __init__(self, combine: Callable[[list[Any], list[Any]], None] = add_arrays) -> None:
        self.combine = combine
        self.leaf: list[Any] = []
        self.totals: list[Any] = []

    def tasks(self, parts: list[Any], last: bool) -> list[Task]:
        """Return what is to be done with the results of the next group of blocks; the tasks may run at the same time.

        What they make goes into `leaf`, or at once into `totals` where sums run on in the same order anyway. `last` says that
        no further group comes; where that is not known, it stays False.
        """
        raise NotImplementedError

    def add(self, leaf: list[Any]) -> None:
        """Add a leaf to the totals of all before it."""
        if self.totals:
            self.combine(self.totals, leaf)
        else:
            self.totals = leaf

    def close(self) -> None:
        """Add what the leaf holds to the totals, and begin the next one."""
        if self.leaf:
            leaf, self.leaf = self.leaf, []
            self.add(leaf)


class PassEnded(BaseException):  # no Exception: nothing between the pass and who asked for it is to catch it
    """A pass over the rows at hand is done; `totals` is what it gave and `combine` how to add those of further rows."""

    def __init__(self, reduction: Reduction) -> None:
        super().__init__("a pass over the inputs was asked for alone")
        self.combine = reduction.combine
        self.totals = reduction.totals


class Passes:
    """The results of a call's first passes; the next one ends the call."""

    def __init__(self, known: Sequence[list[Any]]) -> None:
        self._known = known
        self._next = 0

    def reduce(self, reduction: Reduction, run: Callable[[], None], rows: int, leaf_rows: int) -> None:
        """Give the reduction what is known of this pass, or run it and end the call.

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
    """How a pass is cut: inputs that are worked on together, inputs in a leaf, and whether leaves are joined or added."""

    rows: int
    leaf_rows: int
    joins: bool


class RecordedPasses(Passes):
    """Runs every pass over the rows at hand and notes how each is cut."""

    def __init__(self) -> None:
        super().__init__([])
        self.shapes: list[PassShape] = []

    def reduce(self, reduction: Reduction, run: Callable[[], None], rows: int, leaf_rows: int) -> None:
        """Run the pass."""
        self.shapes.append(PassShape(rows, leaf_rows, reduction.combine is list.extend))
        run()
