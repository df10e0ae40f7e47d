"""Passes over the inputs as objects, so that each can be run elsewhere: block function, reduction, and how inputs are divided.

A computation is a generator of steps: it yields each pass and is sent its totals, and yields work between passes that is too
expensive to repeat. A driver answers the steps: `at_once` runs each pass over its own rows; a scheduler runs the leaves of a pass
as tasks, and resumes the computation with the answers recorded so far.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import all_held, noted_checks, on_host
from fisherstats.core.progress import progress_bar
from fisherstats.execution import thread_pool
from fisherstats.execution.blas import one_blas_thread
from fisherstats.execution.reductions import Combine, Joined, Reduction, Total, add_arrays, leaf_blocks
from fisherstats.execution.row_source import Cut, Rows
from fisherstats.execution.scheduler import BlockFunction, Pipeline

__all__ = ["Pass", "PassShape", "Step", "Steps", "Work", "at_once", "mean", "stack"]

Array = NDArray[np.floating]
R = TypeVar("R")

_LEAST = 96
"""Inputs for which a thread pays off, without second derivatives."""


@dataclass(frozen=True)
class PassShape:
    """How a pass is divided: inputs per group, inputs per leaf, and whether leaves are joined or added."""

    rows: int
    leaf_rows: int
    joins: bool = False


class Step(Protocol):
    """What a computation asks of its driver."""

    def answer(self) -> Any:
        """Return the answer at once."""


Steps = Generator[Step, Any, R]
"""A computation that asks for steps and returns a result."""


@dataclass(frozen=True)
class Work:
    """Expensive work between passes: done once, not for every part of the computation that uses its result."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()

    def answer(self) -> Any:
        """Return the result of the function."""
        return self.function(*self.arguments)


@dataclass(frozen=True)
class Pass:
    """One pass over the inputs, answered by the totals of its reduction.

    The results of `block(rows of x, first input)` go to the reduction in order; `rows`, `group` and `least` as in `Cut`. A
    `shared` reduction receives the blocks of a group together, any other each separately.
    """

    block: BlockFunction
    reduction: Reduction
    over: Rows
    rows: int
    group: int = 2
    least: int = _LEAST
    num_threads: int | None = None
    progress: bool = False

    def answer(self) -> list[Any]:
        """Return the totals over the rows of the pass."""
        self.reduction.begin(self.over.n_present, self.over.results_stay)
        _run(self)
        self.over.forward()
        return self.reduction.totals

    def of_leaf(self, rows: Rows) -> Reduction:
        """Return the reduction over the rows of a leaf."""
        leaf = replace(self, over=rows, reduction=copy.deepcopy(self.reduction))
        leaf.answer()
        return leaf.reduction

    def sum_of(self, leaves: list[list[Any]]) -> list[Any]:
        """Return the totals of consecutive leaves, added in order; the leaves stay as they are."""
        first, *others = leaves
        reduction = copy.deepcopy(self.reduction)
        reduction.add(copy.deepcopy(first))
        for one in others:
            reduction.add(one)
        return reduction.totals

    def resume(self, totals: list[Any]) -> list[Any]:
        """Return totals that are known from elsewhere."""
        self.reduction.add(totals)
        return self.reduction.totals

    @property
    def cut(self) -> Cut:
        """How inputs are divided; on a device one block follows the other."""
        return Cut(self.rows, self.group if self.over.device is None else 1, self.least)

    @property
    def shape(self) -> PassShape:
        """How inputs are divided into leaves."""
        blocks = leaf_blocks(self.reduction, self.cut.group)
        return PassShape(self.cut.span, self.rows * blocks, self.reduction.joins)


# Overflow in a block gives inf or nan in the results, which are checked; underflow gives the limit 0.
@np.errstate(over="ignore", invalid="ignore", under="ignore")
@one_blas_thread
def _run(one: Pass) -> None:
    rows_of, cut = one.over, one.cut
    if rows_of.device is not None:
        _reduce_on_device(one.block, rows_of, cut, one.reduction, one.progress)
        return
    n_threads = thread_pool.thread_count(one.num_threads)
    pipeline = Pipeline(one.block, rows_of, cut, one.reduction, n_threads)
    with progress_bar(pipeline.n_blocks, one.progress, "block") as pipeline.bar:
        alone = pipeline.n_blocks == 1 and not one.reduction.shared
        thread_pool.run_together(pipeline.work, 1 if alone else n_threads)
        pipeline.finish()


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
    block: BlockFunction,
    over: Rows,
    rows: int,
    *,
    num_threads: int | None = None,
    progress: bool = False,
    combine: Combine | None = None,
) -> Steps[list[Array]]:
    """Return (1/n) times the sum over blocks of the arrays that `block` returns, added in block order.

    `combine(total, part)` replaces the addition where partial results are not plain sums; nothing is divided then.
    """
    total = Total(add_arrays if combine is None else combine)
    totals: list[Array] = yield Pass(block, total, over, rows, num_threads=num_threads, progress=progress)
    if combine is None:
        for into in totals:
            np.divide(into, over.n_inputs, out=into)
    return totals


def stack(
    block: BlockFunction, over: Rows, rows: int, *, num_threads: int | None = None, progress: bool = False
) -> Steps[list[Array]]:
    """Return the arrays that `block` returns for each block, joined along the first axis (one row per input)."""
    joined = Joined()
    yield Pass(block, joined, over, rows, num_threads=num_threads, progress=progress)
    return joined.arrays


def at_once(steps: Steps[R]) -> R:
    """Answer every step as it comes, and return the result."""
    answer: Any = None
    try:
        while True:
            answer = steps.send(answer).answer()
    except StopIteration as end:
        result: R = end.value
        return result
