"""Reductions of the results of blocks: summed in a fixed order, or joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import on_host
from fisherstats.core.validation import capacity

__all__ = ["Combine", "Joined", "Reduction", "Task", "Total", "add_arrays", "leaf_blocks"]

Array = NDArray[np.floating]
Combine = Callable[[list[Any], list[Any]], None]
Task = Callable[[], None]

_LEAF_BLOCKS = 32

_UNCHECKED_BYTES = 2**24
"""Size of results of batches that fits in any case."""


def add_arrays(totals: list[Any], leaf: list[Any]) -> None:
    """Add arrays one by one, in place."""
    for into, array in zip(totals, leaf, strict=True):
        into += array


class Reduction:
    """Reduction of the results of blocks: groups of blocks are summed into leaves, and leaves into totals, in order.

    A leaf is a fixed number of blocks, so that any free thread or another process can sum it with bitwise identical results.
    """

    leaf_blocks = _LEAF_BLOCKS
    """Blocks in a leaf; at least one group."""

    shared = False
    """Whether the blocks of a group are processed together, by several threads."""

    joins = False
    """Whether leaves are joined in order instead of added."""

    def __init__(self, combine: Combine = add_arrays) -> None:
        self.combine = combine
        self.leaf: list[Any] = []
        self.totals: list[Any] = []

    def begin(self, n_rows: int | None, stays: bool) -> None:
        """Prepare for a number of rows, if it is known, whose results stay on a device or not."""

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


class Joined(Reduction):
    """Concatenates the results of blocks; collects them where the number of rows is not known, or they stay on the device."""

    joins = True

    def __init__(self) -> None:
        super().__init__(list.extend)
        self._n_rows: int | None = None
        self._stays = False
        self._first = 0
        self._held = self._checked = 0

    def begin(self, n_rows: int | None, stays: bool) -> None:
        """Prepare for a number of rows, if it is known, whose results stay on a device or not."""
        self._n_rows, self._stays = n_rows, stays

    def tasks(self, parts: list[list[Array]], last: bool) -> list[Task]:
        """Return the one task of writing them."""
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


def leaf_blocks(reduction: Reduction, group: int) -> int:
    """Return the blocks of a leaf: whole groups."""
    return max(1, reduction.leaf_blocks // group) * group
