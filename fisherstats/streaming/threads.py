"""The threads of the process, the BLAS threads beside them, and the memory that blocks use again and again."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from fisherstats.checks import arguments

__all__ = ["keep_freed_memory", "one_blas_thread", "run_together", "thread_count"]

_MOST_HELPERS = 256
"""Threads are made when they are first needed, so this costs nothing."""

_KEPT_BYTES = 2**25 - 2**16


def thread_count(num_threads: int | None) -> int:
    """Return the threads to use: the argument, else FISHERSTATS_NUM_THREADS, else the cores given to this process."""
    if num_threads is not None:
        return arguments.positive_integer("num_threads", num_threads)
    setting = os.environ.get("FISHERSTATS_NUM_THREADS")
    if setting:
        return arguments.positive_integer("FISHERSTATS_NUM_THREADS", int(setting) if setting.isdigit() else setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed arrays for the next ones.

    glibc gives arrays larger than any it has freed before straight back to the system, so that every block would pay for fresh
    pages, up to a third of its time. One large array, freed without having been touched, moves that limit to 32 MiB for good.
    """
    np.empty(_KEPT_BYTES, dtype=np.uint8)


class _Helpers:
    """Threads that live as long as the process and work beside whoever calls; made on first use, and anew after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._pool = None

    def submit(self, work: Callable[[], None], count: int) -> list[Future[None]]:
        """Start `work` in `count` further threads, each in the caller's context (numpy's error state lives there)."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_MOST_HELPERS, thread_name_prefix="fisherstats")
            return [self._pool.submit(contextvars.copy_context().run, work) for _ in range(count)]


_helpers = _Helpers()


def run_together(work: Callable[[], None], threads: int) -> None:
    """Run `work` in this thread and beside it in others, `threads` in all; return when all of them have returned."""
    helping = _helpers.submit(work, threads - 1) if threads > 1 else []
    try:
        work()
    finally:
        # All have ended before any of their errors is raised, so that none works on after the call.
        begun = [one for one in helping if not one.cancel()]
        wait(begun)
        for one in begun:
            one.result()


class _BlasGuard(contextlib.ContextDecorator):
    """Holds BLAS at one thread while any call is under way: the first in sets the limit, the last one out restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._limiter: Any = None
        self._controller: ThreadpoolController | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                # Finding the loaded libraries costs about 30 times the limit itself, so the controller is kept.
                if self._controller is None:
                    self._controller = ThreadpoolController()
                    keep_freed_memory()
                self._limiter = self._controller.limit(limits=1, user_api="blas")
                self._limiter.__enter__()
            self._depth += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._limiter.__exit__(None, None, None)
                self._limiter = None


_guard = _BlasGuard()


def one_blas_thread() -> _BlasGuard:
    """Return the context, or decorator, in which BLAS calls use one thread each.

    Threads over blocks take its place. Its own would change last bits with their number, and on a busy machine they wait for
    each other.
    """
    return _guard
