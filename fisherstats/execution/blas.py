"""One BLAS thread while a call is under way, and what there was before as soon as none is.

Which threads have a call under way is a set, changed in single steps that no interrupt can split. All else follows from it
(`_Limit.settle`), can be done again after an interrupt at any moment, and is done anew in a forked child.
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

    glibc gives arrays larger than any it has freed before straight back to the system, so that every block would pay for fresh
    pages, up to a third of its time. One large array, freed without having been touched, moves that limit to 32 MiB for good.
    """
    np.empty(_KEPT_BYTES, dtype=np.uint8)


@functools.cache
def _libraries() -> list[Any]:
    """Return the loaded BLAS libraries; finding them takes about 30 times as long as setting limits."""
    return [one for one in ThreadpoolController().lib_controllers if one.user_api == "blas"]


class _Limit:
    """The limit of the process: the first thread with a call under way sets it, the last one out takes it away."""

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self.holds = False
        self._given: list[int] | None = None
        self._lock = forks.lock()

    def settle(self) -> None:
        """Make the limit what the set of threads asks for; whatever interrupts this, doing it again makes it right."""
        with self._lock:
            if self.inside:
                if not self.holds:
                    _keep_freed_memory()
                    found = [one.num_threads for one in _libraries()]
                    # A signal handler that calls the package may have been here since.
                    self._given = self._given or found
                    self._set([1] * len(found))
                    self.holds = True
            elif (given := self._given) is not None:
                self.holds = False
                self._set(given)
                self._given = None

    def surely_settle(self) -> None:
        """Do so whatever interrupts it, and however often."""
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
        """Begin anew in a child, which is to do what it likes, even where it was forked within a call."""
        self.inside.clear()
        self.settle()


_limit = _Limit()
forks.anew_in_child(_limit.forget)


def one_blas_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Let BLAS use one thread while a function runs.

    Threads over blocks take its place. Its own would change last bits with their number, and on a busy machine they wait for
    each other.
    """

    # No context manager: an interrupt as its `__exit__` begins would leave the limit behind.
    @functools.wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        thread, inside = threading.get_ident(), _limit.inside
        if thread in inside:  # within a call that holds the limit, unless a signal has come while it is set
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
