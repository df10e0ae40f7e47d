"""Computations: public quantities as steps (layout, passes, values), how one uses another, and how they resume from answers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

from fisherstats.core.arrays import overflow_is_inf
from fisherstats.core.validation import arguments, inputs, remedies
from fisherstats.execution import Part, Pass, Steps, at_once, one_blas_thread
from fisherstats.quantities._layout import Layout
from fisherstats.quantities._run import Call

__all__ = [
    "BESIDE_X",
    "Asked",
    "Computation",
    "computation_of",
    "filled",
    "plan_of",
    "resumed",
    "steps_of",
    "within",
    "without_layout",
]

P = ParamSpec("P")
R = TypeVar("R")

Computation = Steps[tuple[Layout[R], Sequence[Any]]]
"""The steps of a public quantity: it yields its layout first, and returns it with the values."""

BESIDE_X = {"y": Call.data_labels, "probabilities": Call.label_distributions}
"""Arguments with an entry per input, and their validators."""


def filled(computation: Computation[R]) -> R:
    """Return the labelled result of a computation, each of whose steps is answered at once."""
    layout, values = at_once(computation)
    layout.announced(values)
    return layout.filled(values)


def computation_of(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Computation[R]:
    """Return the computation behind a call of a public quantity."""
    return cast("Computation[R]", function.__wrapped__(*args, **kwargs))  # type: ignore[attr-defined]


def steps_of(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Steps[R]:
    """Return the labelled result of another public quantity, as steps of the computation that uses it."""
    layout, values = yield from without_layout(computation_of(function, *args, **kwargs))
    return layout.filled(values)


def plan_of(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Layout[R]:
    """Return the layout of another public quantity."""
    computation = computation_of(function, *args, **kwargs)
    layout = next(computation)
    computation.close()
    return cast("Layout[R]", layout)


def without_layout(computation: Computation[R], first: list[Any] | None = None) -> Computation[R]:
    """Return the steps of a computation for a driver that needs no layout; its first pass may have been answered already."""
    answer: Any = None
    try:
        while True:
            step = computation.send(answer)
            if isinstance(step, Layout):
                answer = None
            elif first is not None and isinstance(step, Pass):
                answer, first = step.resume(first), None
            else:
                answer = yield step
    except StopIteration as end:
        result: tuple[Layout[R], Any] = end.value
        return result


def within(taken: Collection[str] | None, function: Callable[[], R]) -> R:
    """Run a part of a call as the call itself would be run; `taken` are the arguments of the public function."""
    with inputs.overflow_named(), arguments.answered(), remedies.as_called(taken):
        return overflow_is_inf(one_blas_thread(function))()  # BLAS has one thread between the passes too


@dataclass(frozen=True)
class Asked:
    """A call without its x."""

    function: Callable[..., Any]
    given: dict[str, Any]
    taken: Collection[str] | None = None
    """The arguments of the public function that makes this call, see `remedies`."""

    def steps(self, part: Part) -> Computation[Any]:
        """Return the computation for the given rows."""
        return computation_of(self.function, **self.given, x=part)


def resumed(computation: Computation[R], answers: list[Any]) -> Pass | tuple[Layout[R], Any]:
    """Advance a computation by recorded answers to its passes and its work; return the next pass, or layout and values.

    Answers to further work are recorded.
    """
    recorded = iter([*answers])
    answer: Any = None
    try:
        while True:
            step = computation.send(answer)
            if isinstance(step, Layout):
                answer = None
                continue
            answer = next(recorded, _MISSING)
            if isinstance(step, Pass):
                if answer is _MISSING:
                    return step
                # A copy, as computations divide their sums in place.
                answer = step.resume(copy.deepcopy(answer))
            elif answer is _MISSING:
                answer = step.answer()
                answers.append(answer)
    except StopIteration as end:
        result: tuple[Layout[R], Any] = end.value
        return result


_MISSING = object()
