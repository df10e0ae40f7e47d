"""What a message may advise: only arguments of the function that was called, which may be far above the one that refuses."""

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
    """Return the names of the arguments of the function that was called, None outside of calls."""
    return _taken.get()


@contextlib.contextmanager
def as_called(names: Collection[str] | None) -> Iterator[None]:
    """Let messages advise these arguments, unless this is part of another call."""
    if names is None or _taken.get() is not None:
        yield
        return
    token = _taken.set(names)
    try:
        yield
    finally:
        _taken.reset(token)


def advising(function: Callable[P, R]) -> Callable[P, R]:
    """Let messages of a function and of all that it calls advise its own arguments."""
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with as_called(names):
            return function(*args, **kwargs)

    return call


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function to be run elsewhere, in a thread or process of its own, as part of this call."""
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
"""The arguments with which a function does without second derivatives."""


def against_kinks(names: Collection[str] | None) -> str:
    """Return what to do about a pre-activation on a kink, for a function with arguments of these names."""
    names = names or ()
    advice = [
        f"{words}, which needs no second derivatives" for name, words in _WITHOUT_SECOND_DERIVATIVES.items() if name in names
    ]
    if "on_kink" in names:
        advice.append("`on_kink='ignore'`, which takes the left derivatives")
    advice.append("a smooth activation")
    return f"Use {', or '.join(advice)}; `fisherstats.kink_report` lists all such units."
