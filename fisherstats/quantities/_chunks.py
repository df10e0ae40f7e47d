"""Driver of public quantities over the chunks of a dask array: leaves of inputs are tasks, and so is the work between passes.

Layout and passes are known when the graph is built. A leaf evaluates the block function of its pass on its rows; leaves are added
in order, so the result is bitwise that of x in memory. After each pass one task resumes the computation with the answers recorded
so far, up to its next pass or its values.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fisherstats.core.validation import arguments, inputs
from fisherstats.execution import Part, Pass, PassShape, as_announced, at_once
from fisherstats.models.columns import columns_in_order
from fisherstats.models.external import ExternalNetwork
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _run
from fisherstats.quantities._computation import BESIDE_X, Asked, resumed, within
from fisherstats.quantities._layout import Layout, Slot

__all__ = ["over_chunks"]

_CHUNK_BYTES = 2**27
"""A chunk of a result with one row per input is halved while it is larger, but has at least one group of blocks."""

_SUMMED = 32
"""Leaves that one task adds, while their totals are small: a graph of fewer layers is faster to build."""

_SUMMED_BYTES = 2**27


@dataclass(frozen=True)
class _Lazy:
    """A call over a dask array, as sent to every task between passes."""

    asked: Asked
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    input_labels: np.ndarray | None
    checked: np.ndarray | None = None

    def part(self, source: Any, first: int, n_present: int) -> Part:
        """Return the x of one part of the call."""
        return Part(source, self.shape, self.dtype, first, n_present, self.input_labels, self.checked)

    def absent(self) -> Part:
        """Return the x of the parts that do not need its rows."""
        return self.part(None, 0, self.shape[0] if self.shape else 0)

    def with_checked(self, name: str) -> _Lazy:
        """Return the same call with one further argument marked as validated, so that tasks skip its check."""
        given = self.asked.given
        checked = BESIDE_X[name](_run.prepare(given["model"], self.part(None, 0, 0), any_network=True), given[name])
        return replace(self, asked=replace(self.asked, given=given | {name: checked}), checked=checked)

    def planned(self) -> tuple[Layout[Any], Pass]:
        """Return the layout of the result and the first pass."""
        return within(self.asked.taken, self._planned)

    def _planned(self) -> tuple[Layout[Any], Pass]:
        computation = self.asked.steps(self.absent())
        layout = next(computation)
        assert isinstance(layout, Layout)
        first = computation.send(None)
        assert isinstance(first, Pass)
        return layout, first


def over_chunks(asked: Asked, x: Any, per_input: bool) -> Any:
    """Return the lazy result over a dask-backed x."""
    dask = arguments.optional_module("dask", extra="distributed")
    model = asked.given["model"]
    ordered = columns_in_order(x, model) if isinstance(model, MLP) else x
    data, input_labels = _labels.unlabelled(ordered, isinstance(model, ExternalNetwork))
    arguments.unmasked("x", data)
    data = as_announced(data)
    lazy = _Lazy(asked, data.shape, data.dtype, input_labels)
    name = asked.function.__name__
    given = {key: one.fingerprint if isinstance(one, MLP) else one for key, one in asked.given.items()}
    token = dask.base.tokenize(name, given, data.name, input_labels)
    for beside in BESIDE_X:
        if given.get(beside) is not None:
            lazy = lazy.with_checked(beside)
    layout, first = lazy.planned()
    graph = _Graph(name, token, lazy, data)
    return graph.rows(layout, first.shape) if per_input else graph.result(layout, first)


class _Graph:
    """The tasks of one call; their keys name the function, the pass and the inputs."""

    def __init__(self, name: str, token: str, lazy: _Lazy, data: Any) -> None:
        self._array = arguments.optional_module("dask.array", extra="distributed")
        self._delayed = arguments.optional_module("dask", extra="distributed").delayed
        self._name = name
        self._token = token
        self._sent = self._constant("call", lazy)
        self._lazy = lazy
        self._data = data

    def _key(self, what: str) -> str:
        return f"{self._name}-{what}-{self._token}"

    def _constant(self, what: str, value: Any) -> Any:
        return self._delayed(value, name=self._key(what), traverse=False)

    def _task(self, what: str, function: Any, *args: Any, nout: int | None = None) -> Any:
        return self._delayed(function, pure=True, nout=nout, traverse=False)(*args, dask_key_name=self._key(what))

    def _blocks(self, what: str, cut: Any, function: Any, *given: Any) -> Any:
        """Return an array with one block per leaf: whatever the function returns for its rows."""
        nothing, others = np.empty(0, object), list(range(1, cut.ndim))
        return self._array.map_blocks(function, cut, *given, name=self._key(what), drop_axis=others, dtype=object, meta=nothing)

    def _cut(self, rows: int) -> Any:
        return self._data.rechunk({0: rows} | dict.fromkeys(range(1, self._data.ndim), -1))

    def result(self, layout: Layout[Any], first: Pass) -> Any:
        """Return the lazy result computed from the totals of all passes."""
        shapes = (first.shape, *layout.later)
        summed = max(1, min(_SUMMED, _SUMMED_BYTES // max(1, _bytes(layout))))
        # The first pass is made by a task too: its block function is a closure, which only dask can send.
        stage = self._task("before-pass-0", _resume, self._sent, None, None, first.shape)
        for number, shape in enumerate(shapes):
            totals = self._totals(number, shape, stage, summed)
            stage = self._task(f"after-pass-{number}", _resume, self._sent, stage, totals, (*shapes, None)[number + 1])
        arrays = []
        for number, slot in enumerate(layout.slots):
            value = self._task(f"value-{number}", _value, stage, number)
            arrays.append(self._array.from_delayed(value, slot.shape, slot.dtype, name=self._key(f"array-{number}")))
        return layout.filled(arrays)

    def _totals(self, number: int, shape: PassShape, stage: Any, summed: int) -> Any:
        """Return the task that holds the totals of a pass over all inputs."""
        cut = self._cut(shape.leaf_rows)
        leaves = self._blocks(f"pass-{number}", cut, _leaf, self._lazy.asked.taken, stage, shape.leaf_rows)
        found = list(leaves.to_delayed(optimize_graph=False))
        if shape.joins:
            return self._task(f"pass-{number}-total", _joined, found)
        total, begun = found[0], 1
        while begun < len(found):
            total = self._task(f"pass-{number}-sum-{begun}", _added, stage, total, found[begun : begun + summed])
            begun += summed
        return total

    def rows(self, layout: Layout[Any], shape: PassShape) -> Any:
        """Return the lazy result with one chunk of rows per chunk of inputs."""
        n_inputs = self._data.shape[0]
        bytes_per_input = sum(
            math.prod(one.shape) * one.dtype.itemsize // n_inputs for one in layout.slots if one.input_axis is not None
        )
        rows = _chunk_rows(shape, bytes_per_input)
        cut = self._cut(rows)
        done = self._blocks("rows", cut, _rows, self._sent, rows)
        return layout.filled([self._values(number, slot, done, cut.chunks[0]) for number, slot in enumerate(layout.slots)])

    def _values(self, number: int, slot: Slot, done: Any, sizes: tuple[int, ...]) -> Any:
        """Return one array of the result, in the chunks of its inputs if it has any."""
        axis = slot.input_axis
        if axis is None:
            value = self._task(f"value-{number}", _value, done.to_delayed(optimize_graph=False)[0], number)
            return self._array.from_delayed(value, slot.shape, slot.dtype, name=self._key(f"array-{number}"))
        others = {place: size for place, size in enumerate(slot.shape) if place != axis}
        return self._array.blockwise(
            _value,
            tuple(range(len(slot.shape))),
            done,
            (axis,),
            number,
            None,
            name=self._key(f"array-{number}"),
            new_axes=others,
            adjust_chunks={axis: sizes},
            dtype=slot.dtype,
            meta=np.empty((0,) * len(slot.shape), slot.dtype),
        )


def _bytes(layout: Layout[Any]) -> int:
    return sum(math.prod(one.shape) * one.dtype.itemsize for one in layout.slots)


def _chunk_rows(shape: PassShape, bytes_per_input: int) -> int:
    """Return the inputs in a chunk of a result per input: whole groups of blocks."""
    rows = shape.leaf_rows
    while rows % (2 * shape.rows) == 0 and rows * bytes_per_input > _CHUNK_BYTES:
        rows //= 2
    return rows


# --- tasks: module-level functions, so that they can be pickled -------------------------------------------------------------


@dataclass(frozen=True)
class _Stage:
    """Where a computation stands: the answers so far, and its next pass or its values."""

    answers: list[Any]
    step: Pass | None
    values: Sequence[Any]

    @property
    def to_run(self) -> Pass:
        """The next pass."""
        assert self.step is not None
        return self.step


def _leaf(
    rows: np.ndarray, taken: Collection[str] | None, stage: _Stage, leaf_rows: int, block_id: tuple[int, ...] = (0,)
) -> list[Any]:
    """Return the totals of a pass over the rows of a leaf."""
    step, block, first = stage.to_run, block_id[0], block_id[0] * leaf_rows
    with inputs.naming_block(block, first, len(rows)):
        return within(taken, lambda: step.of_leaf(step.over.leaf(rows, first)).totals)


def _added(stage: _Stage, total: list[Any], leaves: list[list[Any]]) -> list[Any]:
    return stage.to_run.sum_of([total, *leaves])


def _joined(leaves: list[list[Any]]) -> list[Any]:
    return [one for totals in leaves for one in totals]


def _resume(lazy: _Lazy, stage: _Stage | None, totals: list[Any] | None, shape: PassShape | None) -> _Stage:
    """Advance the computation by the totals of one more pass; `shape` is that of the next, as the layout announced it."""
    answers = [] if stage is None else [*stage.answers, totals]

    def advanced() -> _Stage:
        step = resumed(lazy.asked.steps(lazy.absent()), answers)
        if isinstance(step, Pass):
            if step.shape != shape:
                raise AssertionError(f"the layout announced {shape} as the next pass, not {step.shape}")
            return _Stage(answers, step, ())
        layout, values = step
        if shape is not None:
            raise AssertionError(f"the layout announced a further pass, {shape}")
        layout.check(values)
        return _Stage(answers, None, values)

    return within(lazy.asked.taken, advanced)


def _rows(rows: np.ndarray, lazy: _Lazy, chunk_rows: int, block_id: tuple[int, ...] = (0,)) -> Sequence[Any]:
    """Return the values for some inputs, one row for each."""
    block, first = block_id[0], block_id[0] * chunk_rows

    def values() -> Sequence[Any]:
        layout, found = at_once(lazy.asked.steps(lazy.part(rows, first, len(rows))))
        layout.check(found)
        return found

    with inputs.naming_block(block, first, len(rows)):
        return within(lazy.asked.taken, values)


def _value(stage: _Stage | Sequence[Any], number: int) -> Any:
    return (stage.values if isinstance(stage, _Stage) else stage)[number]
