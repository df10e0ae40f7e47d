"""The threads of the process, the BLAS threads beside them, and the memory that blocks use again and again."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from fisherstats.checks import arguments

__all__ = ["keep_freed_memory", "one_blas_thread", "run_together", "share", "thread_count"]

_MOST_HELPERS = 256
"""Threads are made when they are first needed, so this costs nothing."""

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_KEPT_BYTES = 2**25 - 2**16


def thread_count(num_threads: int | None) -> int:
    """Return the threads to use: the argument, else FISHERSTATS_NUM_THREADS, else the cores given to this process."""
    if num_threads is not None:
        return arguments.positive_integer("num_threads", num_threads)
    setting = os.environ.get("FISHERSTATS_NUM_THREADS")
    if setting:
        return arguments.positive_integer("FISHERSTATS_NUM_THREADS", int(setting) if setting.isdigit() else setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed arrays for the next ones.

    glibc gives arrays larger than any it has freed before straight back to the system, so that every block would pay for fresh
    pages, up to a third of its time. One large array, freed without having been touched, moves that limit to 32 MiB for good.
    """
    np.empty(_KEPT_BYTES, dtype=np.uint8)


def _nothing() -> None:
    """Do nothing."""


class _Errand:
    """One run of some work by a helper, unless it is called off before it has begun."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        # numpy's error state lives in the context.
        self._context = contextvars.copy_context()
        # Whose it is, the helper's or the caller's: `setdefault` decides in one step, and says the same when asked again.
        self._owner: dict[str, str] = {}
        self._ended = threading.Lock()
        self._ended.acquire()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Do the work, unless it was called off."""
        if self._owner.setdefault("owner", "helper") == "caller":
            return
        try:
            self._context.run(self._work)
        except BaseException as failure:
            self._failure = failure
        finally:
            self._work = _nothing
            self._ended.release()

    def called_off(self) -> bool:
        """Return whether it has not begun, and never will."""
        off = self._owner.setdefault("owner", "caller") == "caller"
        if off:
            # It stays in the queue for a while; what it would have worked on is not to stay with it.
            self._work = _nothing
        return off

    def wait(self) -> BaseException | None:
        """Wait for its end; return what it raised."""
        with self._ended:
            return self._failure


class _Helpers:
    """Threads that live as long as the process and work beside whoever calls; made on first use, and anew after a fork.

    An executor takes longer to hand work over: a tenth of the steps of a training with small minibatches.
    """

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._errands: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
        self._threads = 0
        self._under_way: set[_Errand] = set()

    def start(self, errands: list[_Errand]) -> None:
        """Hand errands to further threads; as many are there for every call that runs at the same time."""
        with self._lock:
            self._under_way.update(errands)
            while self._threads < min(len(self._under_way), _MOST_HELPERS):
                try:
                    threading.Thread(target=self._serve, args=(self._errands,), name="fisherstats", daemon=True).start()
                except RuntimeError:  # the system has no more; whoever calls does the work alone
                    break
                self._threads += 1
        for errand in errands:
            self._errands.put(errand)

    def end(self, errands: list[_Errand]) -> None:
        """Call off what has not begun, wait for the rest, and raise the first of their errors; may be done again."""
        try:
            begun = [one for one in errands if not one.called_off()]
            failures = [failure for one in begun if (failure := one.wait()) is not None]
        finally:
            with self._lock:
                self._under_way.difference_update(errands)
        if failures:
            raise failures[0]

    @staticmethod
    def _serve(errands: queue.SimpleQueue[_Errand]) -> None:
        while True:
            errands.get().run()


_helpers = _Helpers()


def run_together(work: Callable[[], None], threads: int) -> None:
    """Run `work` in this thread and beside it in others, `threads` in all; return when all of them have returned."""
    errands = [_Errand(work) for _ in range(threads - 1)]
    try:
        if errands:
            _helpers.start(errands)
        work()
    finally:
        # All have ended before any of their errors is raised, so that none works on after the call.
        try:
            _helpers.end(errands)
        except KeyboardInterrupt:  # it often comes on the way in there, when a long piece of work has ended
            _helpers.end(errands)
            raise


def share(function: Callable[[Piece], Result], pieces: Sequence[Piece], threads: int) -> list[Result]:
    """Return what `function` returns for each piece; whoever of the threads is free takes the next one.

    Of several pieces that fail the first in order is raised.
    """
    if threads == 1 or len(pieces) < 2:
        return [function(piece) for piece in pieces]
    results: dict[int, Result] = {}
    failures: dict[int, Exception] = {}
    left, caller = deque(enumerate(pieces)), threading.get_ident()

    def work() -> None:
        # The caller begins in front and helpers at the end, so that each meets again what it has in its cache.
        take = left.popleft if threading.get_ident() == caller else left.pop
        while left:
            try:
                number, piece = take()
            except IndexError:
                return
            if number > min(failures, default=number):
                continue
            try:
                results[number] = function(piece)
            except Exception as failure:
                failures[number] = failure
            except BaseException:  # an interrupt, which is for the caller alone
                left.clear()
                raise

    run_together(work, min(threads, len(pieces)))
    if failures:
        first = failures[min(failures)]
        # The error knows this frame: what it knows is not to know the error, or the pieces would stay in memory.
        failures.clear()
        try:
            raise first
        finally:
            del first
    return [results[number] for number in range(len(pieces))]


class _BlasGuard(contextlib.ContextDecorator):
    """Holds BLAS at one thread while any call is under way: the first in sets the limit, the last one out restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                keep_freed_memory()
                self._before = [one.num_threads for one in _blas_libraries()]
                self._set([1] * len(self._before))
            self._depth += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._set(self._before)

    @staticmethod
    def _set(limits: list[int]) -> None:
        for library, limit in zip(_blas_libraries(), limits, strict=True):
            library.set_num_threads(limit)
            # Else no other thread could set a limit while this one lives, and the last one out may be another.
            clear = getattr(library, "clear_controlling_thread", None)
            if clear is not None:
                clear()


@functools.cache
def _blas_libraries() -> list[Any]:
    """Return the loaded BLAS libraries; finding them takes about 30 times as long as setting limits."""
    return [one for one in ThreadpoolController().lib_controllers if one.user_api == "blas"]


_guard = _BlasGuard()


def one_blas_thread() -> _BlasGuard:
    """Return the context, or decorator, in which BLAS calls use one thread each.

    Threads over blocks take its place. Its own would change last bits with their number, and on a busy machine they wait for
    each other.
    """
    return _guard
