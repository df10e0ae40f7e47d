"""What a fork waits for, and what the child makes anew.

A child has one thread, the one that forked. A lock that another thread held at that moment would stay locked in the child for
ever, so that a fork waits for the locks that are made here: they are held for moments, but for those of loading and compiling
kernels, and are re-entrant, as a signal handler may call again.
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
    """Let forks wait until no other thread holds a re-entrant lock; of several, the last named is waited for first."""
    _waited_for.insert(0, held)


def anew_in_child(function: Function) -> Function:
    """Call a function in every forked child."""
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
        """The one of Python 3.12: the older one holds a lock while it computes."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            """Return the value, of several threads that compute it the one of the first to end."""
            if instance is None:
                return self
            return instance.__dict__.setdefault(self.attrname, self.func(instance))
