"""Folders that are there as a whole or not at all, and interrupts that wait while something is written."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["interrupts_held", "whole"]

_GONE = 0.1
"""Seconds for which a folder that was removed has to stay away."""

_PATIENCE = 5.0
"""Seconds after which it is left to those who go on writing there."""


@contextlib.contextmanager
def whole(place: Path, *, alone: bool = False, replacing: bool = False) -> Iterator[Path]:
    """Yield a hidden path beside `place`; what is made there is moved to `place` when all is done, and removed if that fails.

    With `replacing`, what stands at `place` gives way at that moment, and comes back if the move fails. Who is `alone`, as no
    other process makes the same folder, uses names that are always the same: what a run leaves when it is killed is then taken
    away by the next one, or put back.
    """
    token = "" if alone else f"-{secrets.token_hex(4)}"
    partial, earlier = (place.with_name(f".{place.name}.{word}{token}") for word in ("partial", "earlier"))
    place.parent.mkdir(parents=True, exist_ok=True)
    if replacing and earlier.exists() and not place.exists():
        earlier.rename(place)
    _remove(partial)
    if replacing:
        _remove(earlier)
    try:
        yield partial
        with interrupts_held():
            if replacing and place.exists():
                place.rename(earlier)
            try:
                partial.rename(place)
            except OSError:
                if replacing and earlier.exists():
                    earlier.rename(place)
                raise
    except BaseException:
        with interrupts_held():
            _remove_for_good(partial)
        raise
    finally:
        with interrupts_held():
            if replacing and place.exists():
                _remove(earlier)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _remove_for_good(folder: Path) -> None:
    """Remove a folder until it stays away: threads of a zarr store that has failed may write for another moment."""
    _remove(folder)
    gone, until = 0.0, time.monotonic() + _PATIENCE
    while gone < _GONE and time.monotonic() < until:
        time.sleep(_GONE / 10)
        gone = 0.0 if folder.is_dir() else gone + _GONE / 10
        _remove(folder)


@contextlib.contextmanager
def interrupts_held() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C wait until it is asked for or the block ends; only the main thread can be interrupted, if Ctrl-C is not ignored.

    Inside a library it can be swallowed by a callback, or stop a clean-up.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield lambda: None
        return
    waiting: list[int] = []

    def stop_if_interrupted() -> None:
        if waiting:
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield stop_if_interrupted
    finally:
        signal.signal(signal.SIGINT, previous if previous is not None else signal.SIG_DFL)
    if waiting:
        signal.raise_signal(signal.SIGINT)
