"""Limits BLAS to one thread during calls, and restores the previous setting afterwards.

The threads with an active call form a set, changed in atomic steps that no interrupt can split. All other state follows from it
(`_Limit.settle`), can be recomputed after an interrupt at any moment, and is reset in a forked child.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from fisherstats.core import forks

__all__ = ["one_blas_thread"]

P = ParamSpec("P")
R = TypeVar("R")

_KEPT_BYTES = 2**25 - 2**16


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library keep the memory of freed arrays for the next ones.

    glibc returns arrays larger than any it has freed before directly to the system, so that every block would need fresh pages,
    up to a third of its time. One large array, freed without having been touched, raises that threshold to 32 MiB permanently.
    """
    np.empty(_KEPT_BYTES, dtype=np.uint8)


@functools.cache
def _libraries() -> list[Any]:
    """Return the loaded BLAS libraries; finding them takes about 30 times as long as setting limits."""
    return [one for one in ThreadpoolController().lib_controllers if one.user_api == "blas"]


class _Limit:
    """The limit of the process: the first thread with an active call sets it, the last one to finish removes it."""

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self.holds = False
        self._given: list[int] | None = None
        self._lock = forks.lock()

    def settle(self) -> None:
        """Apply the limit that the set of threads requires; after an interrupt it can be repeated safely."""
        with self._lock:
            if self.inside:
                if not self.holds:
                    _keep_freed_memory()
                    found = [one.num_threads for one in _libraries()]
                    # A signal handler that calls the package may have run this since.
                    self._given = self._given or found
                    self._set([1] * len(found))
                    self.holds = True
            elif (given := self._given) is not None:
                self.holds = False
                self._set(given)
                self._given = None

    def surely_settle(self) -> None:
        """Do so despite any number of interrupts."""
        try:
            self.settle()
        except BaseException:
            self.surely_settle()
            raise

    @staticmethod
    def _set(limits: list[int]) -> None:
        for library, limit in zip(_libraries(), limits, strict=True):
            # The public function obeys one thread alone as long as that lives, and the last one out may be another; and it holds
            # a lock for which a signal handler would wait for ever.
            getattr(library, "_real_set_num_threads", library.set_num_threads)(limit)

    def forget(self) -> None:
        """Reset in a child process, which is not limited, even where it was forked during a call."""
        self.inside.clear()
        self.settle()


_limit = _Limit()
forks.anew_in_child(_limit.forget)


def one_blas_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Let BLAS use one thread while a function runs.

    Threads over blocks replace those of BLAS, whose number would change last bits, and which wait for each other on a busy
    machine.
    """

    # No context manager: an interrupt as its `__exit__` begins would leave the limit behind.
    @functools.wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        thread, inside = threading.get_ident(), _limit.inside
        if thread in inside:  # within a call that holds the limit, unless a signal arrived while it was being set
            if not _limit.holds:
                _limit.settle()
            return function(*args, **kwargs)
        try:
            inside.add(thread)
            _limit.settle()
            return function(*args, **kwargs)
        finally:
            try:
                inside.discard(thread)
                _limit.settle()
            except BaseException:
                _limit.surely_settle()
                raise

    return limited
