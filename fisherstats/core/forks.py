"""Fork safety: locks that a fork waits for, and state that the child process recreates.

A child process has one thread, the one that forked. A lock held by another thread at that moment would stay locked in the child
for ever, so a fork waits for the locks created here: they are held briefly, except while kernels are loaded or compiled, and are
re-entrant, as a signal handler may acquire them again.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["anew_in_child", "cached_property", "lock", "waits_for"]

Function = TypeVar("Function", bound=Callable[[], Any])

_waited_for: list[Any] = []
_taken: list[Any] = []


def lock() -> Any:
    """Return a re-entrant lock that no other thread holds while the process forks."""
    made = threading.RLock()
    waits_for(made)
    return made


def waits_for(held: Any) -> None:
    """Make forks wait until no other thread holds a re-entrant lock; of several, the last registered is acquired first."""
    _waited_for.insert(0, held)


def anew_in_child(function: Function) -> Function:
    """Register a function that runs in every forked child process."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


def _take() -> None:
    for one in _waited_for:
        one.acquire()
        _taken.append(one)


def _give_back() -> None:
    while _taken:
        _taken.pop().release()


if hasattr(os, "register_at_fork"):
    # In the child too the locks belong to the thread that forked.
    os.register_at_fork(before=_take, after_in_parent=_give_back, after_in_child=_give_back)


if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property(functools.cached_property):
        """The implementation of Python 3.12: older ones hold a lock during the computation."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            """Return the value; if several threads compute it, the result of the first to finish."""
            if instance is None:
                return self
            return instance.__dict__.setdefault(self.attrname, self.func(instance))
