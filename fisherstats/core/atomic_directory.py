"""Folders that are there as a whole or not at all, what in them is ours, and interrupts that wait while something is written.

One rule for all: only what carries a mark of this package is replaced or removed, and it is looked at again at that moment.
A finished folder has a mark that lists its files with their digests (`sign`). A folder in the making lies in a workshop, a
hidden folder beside its place with a random name and a mark that repeats it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fisherstats.core.validation import stores

fcntl: Any
try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

__all__ = ["contents", "intact", "interrupts_held", "locked", "others", "remove_files", "sign", "whole"]

MARK = ".fisherstats"
_FORMAT = "fisherstats folder 1"
_WORKSHOP = ".fisherstats-"

_GONE = 0.1
"""Seconds for which a folder that was removed has to stay away."""

_PATIENCE = 5.0
"""Seconds after which it is left to those who go on writing there."""

_working: set[Path] = set()
"""Workshops of this process: it can take its own locks."""


@contextlib.contextmanager
def whole(place: Path, *, replacing: bool = False) -> Iterator[Path]:
    """Yield a path in a workshop beside `place`; what is made there is moved to `place` when all is done, or removed.

    With `replacing`, a folder of ours that stands at `place` gives way at that moment if nothing else is in it, and comes back if
    the move fails. What runs that were killed have left of the same place is put back or cleared away first.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with interrupts_held():
        _clear(place)
    token = secrets.token_hex(8)
    workshop = place.with_name(_WORKSHOP + token)
    new = workshop / "new"
    workshop.mkdir()
    _working.add(workshop)
    try:
        mark = workshop / MARK
        mark.write_text(json.dumps({"format": _FORMAT, "token": token, "place": place.name}), encoding="utf-8")
        with locked(mark):
            try:
                yield new
                with interrupts_held():
                    _put(new, workshop / "earlier", place, replacing)
            except BaseException:
                with interrupts_held():
                    _remove_for_good(new)
                raise
    finally:
        with interrupts_held():
            _close(workshop)
            _working.discard(workshop)


def _put(new: Path, earlier: Path, place: Path, replacing: bool) -> None:
    if not replacing or not os.path.lexists(place):
        new.rename(place)
        return
    place.rename(earlier)
    try:
        if found := others(earlier):
            stores.not_ours(place, found)
        new.rename(place)
    except BaseException:
        try:
            earlier.rename(place)
        except OSError as error:
            stores.kept_aside(place, earlier, error)
        raise
    remove_files(earlier, [*_listed(earlier), MARK])


def _close(workshop: Path) -> None:
    """Remove an empty workshop; what is left in it that is not ours stays, and so does the workshop."""
    if [one.name for one in workshop.iterdir()] == [MARK]:
        (workshop / MARK).unlink()
        workshop.rmdir()


def _clear(place: Path) -> None:
    """Put back or clear away what runs that were killed have left of the same place."""
    if fcntl is None:  # nobody can tell who is at work
        return
    for workshop in place.parent.glob(f"{_WORKSHOP}*"):
        record = {} if workshop in _working else _record(workshop)
        if record.get("token") != workshop.name.removeprefix(_WORKSHOP) or record.get("place") != place.name:
            continue
        with contextlib.suppress(OSError), locked(workshop / MARK):
            earlier = workshop / "earlier"
            if earlier.exists() and not os.path.lexists(place):
                earlier.rename(place)
            elif earlier.exists():
                remove_files(earlier, [*_listed(earlier), MARK])
            _remove(workshop / "new")
            _close(workshop)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock of the system on a file; OSError where another process does."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def sign(folder: Path) -> None:
    """Write the mark of a finished folder: its files with their digests."""
    files = {name: _digest(folder / name) for name in contents(folder)}
    text = json.dumps({"format": _FORMAT, "files": files}, indent=1, sort_keys=True)
    (folder / MARK).write_text(text, encoding="utf-8")


def others(folder: Path) -> list[str]:
    """Return what is in a folder and is not ours, or is ours and was changed: files, links and empty folders."""
    listed = _listed(folder)
    if not listed:
        return list(contents(folder))
    return [name for name in contents(folder) if name != MARK and not _unchanged(folder, name, listed)]


def intact(folder: Path) -> bool:
    """Say whether a folder has a mark, and all files that it lists are there as they were written."""
    listed = _listed(folder)
    return bool(listed) and all(_unchanged(folder, name, listed) for name in listed)


def _unchanged(folder: Path, name: str, listed: dict[str, str]) -> bool:
    file = folder / name
    try:
        return not file.is_symlink() and file.is_file() and listed.get(name) == _digest(file)
    except OSError:
        return False


def _record(folder: Path) -> dict[str, Any]:
    """Return what the mark of a folder says, nothing where there is none."""
    mark = folder / MARK
    try:
        if folder.is_symlink() or mark.is_symlink() or not mark.is_file():
            return {}
        record = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) and record.get("format") == _FORMAT else {}


def _listed(folder: Path) -> dict[str, str]:
    files = _record(folder).get("files")
    return files if isinstance(files, dict) else {}


def contents(folder: Path, below: str = "") -> Iterator[str]:
    """Yield the names of all that is in a folder and is no folder with something in it, links not followed, in order."""
    for one in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = below + one.name
        inside = list(contents(Path(one.path), f"{name}/")) if one.is_dir(follow_symlinks=False) else []
        yield from inside or [name]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove these files, then the folders that are empty, and nothing else."""
    for name in names:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)


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
