"""Advice in messages: only arguments of the public function that was called, which may be far above the one that raises."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any, ParamSpec, TypeVar

__all__ = ["advising", "against_kinks", "as_called", "called", "carried", "taken"]

P = ParamSpec("P")
R = TypeVar("R")

_taken: contextvars.ContextVar[Collection[str] | None] = contextvars.ContextVar("taken", default=None)


def taken() -> Collection[str] | None:
    """Return the argument names of the public function that was called, None outside of calls."""
    return _taken.get()


@contextlib.contextmanager
def as_called(names: Collection[str] | None) -> Iterator[None]:
    """Restrict the advice in messages to these arguments, unless this is part of another call."""
    if names is None or _taken.get() is not None:
        yield
        return
    token = _taken.set(names)
    try:
        yield
    finally:
        _taken.reset(token)


def advising(function: Callable[P, R]) -> Callable[P, R]:
    """Restrict the advice in messages of a function, and of all it calls, to its own arguments."""
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with as_called(names):
            return function(*args, **kwargs)

    return call


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function wrapped to run in another thread or process as part of this call."""
    return functools.partial(called, taken(), function)


def called(names: Collection[str] | None, function: Callable[..., Any], *args: Any) -> Any:
    """Run a function as part of a call with these arguments."""
    with as_called(names):
        return function(*args)


_WITHOUT_SECOND_DERIVATIVES = {
    "estimator": "`estimator='score'`",
    "estimators": "`estimators='score'`",
    "information": "`information='score'`",
    "hessian": "`hessian='expected'`",
}
"""Arguments with which a function needs no second derivatives."""


def against_kinks(names: Collection[str] | None) -> str:
    """Return advice about a pre-activation on a kink, for a function with arguments of these names."""
    names = names or ()
    advice = [
        f"{words}, which needs no second derivatives" for name, words in _WITHOUT_SECOND_DERIVATIVES.items() if name in names
    ]
    if "on_kink" in names:
        advice.append("`on_kink='ignore'`, which takes the left derivatives")
    advice.append("a smooth activation")
    return f"Use {', or '.join(advice)}; `fisherstats.kink_report` lists all such units."
