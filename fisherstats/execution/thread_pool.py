"""Helper threads of the process that work alongside the caller."""

from __future__ import annotations

import contextlib
import contextvars
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from fisherstats.core import forks
from fisherstats.core.validation import arguments, capacity

__all__ = ["run_together", "share", "thread_count"]

_NOT_TO_GO_ON = 70
"""Exit code of a child process that was forked by a helper and returned from the work."""

_MOST_HELPERS = 256
"""Threads are created when they are first needed, so this has no cost."""

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def thread_count(num_threads: int | None) -> int:
    """Return the threads to use: the argument, else FISHERSTATS_NUM_THREADS, else the cores of this process, and never more."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name, asked = "num_threads", num_threads
    if num_threads is None:
        name, setting = "FISHERSTATS_NUM_THREADS", os.environ.get("FISHERSTATS_NUM_THREADS")
        try:
            asked = int(setting) if setting else cores
        except ValueError:  # not a number, which is refused with the name of the variable
            asked = cast(Any, setting)
    return min(arguments.positive_integer(name, asked), cores)


def _nothing() -> None:
    """Do nothing."""


class _Errand:
    """One run of a function by a helper thread, unless it is cancelled before it starts."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        # numpy's error state lives in the context.
        self._context = contextvars.copy_context()
        # Whether the helper or the caller owns it: `setdefault` decides atomically, and consistently when repeated.
        self._owner: dict[str, str] = {}
        self._ended = threading.Lock()
        self._ended.acquire()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Run the work, unless it was cancelled."""
        if self._owner.setdefault("owner", "helper") == "caller":
            return
        try:
            self._context.run(self._work)
        except BaseException as failure:
            self._failure = failure
        finally:
            self._work = _nothing
            with contextlib.suppress(RuntimeError):  # it was abandoned
                self._ended.release()

    def called_off(self) -> bool:
        """Return whether it has not started, and never will."""
        off = self._owner.setdefault("owner", "caller") == "caller"
        if off:
            # It stays in the queue for a while, and must release the data it would have worked on.
            self._work = _nothing
        return off

    def abandon(self) -> None:
        """Mark it as ended in a child process, which has no helper threads."""
        self._failure = self._failure or capacity.forked_within_a_call()
        with contextlib.suppress(RuntimeError):  # it had ended
            self._ended.release()

    def wait(self) -> BaseException | None:
        """Wait for its end; return its error, once: an error kept after being raised would keep x in memory."""
        with self._ended:
            failure, self._failure = self._failure, None
            return failure


class _Helpers:
    """Threads that live as long as the process and work alongside the caller; created on first use, and again after a fork.

    An executor takes longer to pass on work: a tenth of the time of a training with small minibatches.
    """

    def __init__(self) -> None:
        self._lock = forks.lock()
        self._under_way: set[_Errand] = set()
        self._begin()
        forks.anew_in_child(self._begin)

    def _begin(self) -> None:
        # A call during which the process was forked cannot continue in the child.
        for errand in self._under_way:
            errand.abandon()
        self._under_way.clear()
        self._errands: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
        self._threads = 0

    def start(self, errands: list[_Errand]) -> None:
        """Pass errands to further threads; each concurrent call gets its own number of them."""
        with self._lock:
            self._under_way.update(errands)
            while self._threads < min(len(self._under_way), _MOST_HELPERS):
                try:
                    threading.Thread(target=self._serve, args=(self._errands,), name="fisherstats", daemon=True).start()
                except RuntimeError:  # the system has no more threads; the caller does the work alone
                    break
                self._threads += 1
        for errand in errands:
            self._errands.put(errand)

    def end(self, errands: list[_Errand]) -> None:
        """Cancel what has not started, wait for the rest, and raise the first of their errors; may be repeated."""
        try:
            begun = [one for one in errands if not one.called_off()]
            failures = [failure for one in begun if (failure := one.wait()) is not None]
        finally:
            with self._lock:
                self._under_way.difference_update(errands)
        if failures:
            first = failures[0]
            failures.clear()
            try:
                raise first
            finally:
                del first

    @staticmethod
    def _serve(errands: queue.SimpleQueue[_Errand]) -> None:
        process = os.getpid()
        while True:
            errands.get().run()
            if os.getpid() != process:  # forked during the errand: no caller is waiting for it
                os._exit(_NOT_TO_GO_ON)


_helpers = _Helpers()


def run_together(work: Callable[[], None], threads: int) -> None:
    """Run `work` in this thread and in others, `threads` in all; return when all of them have returned."""
    errands = [_Errand(work) for _ in range(threads - 1)]
    try:
        if errands:
            _helpers.start(errands)
        work()
    finally:
        # All have ended before any of their errors is raised, so that none goes on after the call.
        try:
            _helpers.end(errands)
        except BaseException:  # an interrupt often arrives on entering it, after a long piece of work has ended
            _helpers.end(errands)
            raise


def share(function: Callable[[Piece], Result], pieces: Sequence[Piece], threads: int) -> list[Result]:
    """Return the result of `function` for each piece; the next free thread takes the next one.

    If several pieces fail, the error of the first in order is raised.
    """
    if threads == 1 or len(pieces) < 2:
        return [function(piece) for piece in pieces]
    results: dict[int, Result] = {}
    failures: dict[int, Exception] = {}
    left, caller = deque(enumerate(pieces)), threading.get_ident()

    def work() -> None:
        # The caller starts at the front and helpers at the end, so that each reuses what is in its cache.
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
            except BaseException:  # an interrupt, which only concerns the caller
                left.clear()
                raise

    run_together(work, min(threads, len(pieces)))
    if failures:
        first = failures[min(failures)]
        # The error references this frame, which must not reference the error in turn, or the pieces would stay in memory.
        failures.clear()
        try:
            raise first
        finally:
            del first
    return [results[number] for number in range(len(pieces))]
