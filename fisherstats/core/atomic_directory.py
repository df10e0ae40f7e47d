"""Atomic creation of folders, recognition of the files this package wrote, and deferred interrupts while something is written.

One rule throughout: only folders that carry a marker file of this package are replaced or removed, and the marker is verified
again at that moment. A finished folder has a marker that lists its files with their digests (`sign`). A folder under construction
is kept in a workshop, a hidden folder next to its destination with a random name and a marker that repeats it.
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

__all__ = ["contents", "intact", "interrupts_held", "locked", "others", "remove_files", "sign", "whole", "whole_file"]

MARK = ".fisherstats"
_FORMAT = "fisherstats folder 1"
_WORKSHOP = ".fisherstats-"

_GONE = 0.1
"""Seconds for which a removed folder must not reappear."""

_PATIENCE = 5.0
"""Seconds after which it is left to the processes that keep writing there."""

_working: set[Path] = set()
"""Workshops of this process: it can take its own locks."""


@contextlib.contextmanager
def whole(place: Path, *, replacing: bool = False) -> Iterator[Path]:
    """Yield a path in a workshop next to `place`; what is created there is moved to `place` on success, or removed.

    With `replacing`, an existing folder of this package at `place` is replaced at that moment if it holds nothing else, and
    restored if the move fails. Leftovers of killed runs for the same place are restored or removed first.
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


@contextlib.contextmanager
def whole_file(place: Path, replaceable: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a path in a workshop next to `place`; the file that is written there is moved to `place` on success, or removed.

    A file at `place` is replaced in one step, if `replaceable` does not refuse it at that moment.
    """
    with whole(place) as new:
        if os.path.lexists(place):
            replaceable(place)
        yield new
        if os.path.lexists(place):
            replaceable(place)


def _put(new: Path, earlier: Path, place: Path, replacing: bool) -> None:
    if not replacing or not os.path.lexists(place):
        new.replace(place)
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
    """Remove a workshop if it is empty; files of others in it are kept, and so is the workshop then."""
    if [one.name for one in workshop.iterdir()] == [MARK]:
        (workshop / MARK).unlink()
        workshop.rmdir()


def _clear(place: Path) -> None:
    """Restore or remove what killed runs have left of the same place."""
    if fcntl is None:  # whether another process is writing cannot be determined
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
    """Hold an operating-system lock on a file; OSError if another process holds it."""
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
    """Write the marker of a finished folder: its files with their digests."""
    files = {name: _digest(folder / name) for name in contents(folder)}
    text = json.dumps({"format": _FORMAT, "files": files}, indent=1, sort_keys=True)
    (folder / MARK).write_text(text, encoding="utf-8")


def others(folder: Path) -> list[str]:
    """Return files, links and empty folders that this package did not write, or that were changed since."""
    listed = _listed(folder)
    if not listed:
        return list(contents(folder))
    return [name for name in contents(folder) if name != MARK and not _unchanged(folder, name, listed)]


def intact(folder: Path) -> bool:
    """Return whether a folder has a marker and all files it lists are present and unchanged."""
    listed = _listed(folder)
    return bool(listed) and all(_unchanged(folder, name, listed) for name in listed)


def _unchanged(folder: Path, name: str, listed: dict[str, str]) -> bool:
    file = folder / name
    try:
        return not file.is_symlink() and file.is_file() and listed.get(name) == _digest(file)
    except OSError:
        return False


def _record(folder: Path) -> dict[str, Any]:
    """Return the contents of a folder's marker, empty if there is none."""
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
    """Yield the names of all files, links and empty folders in a folder, in order; links are not followed."""
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
    if folder.is_file():
        folder.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_for_good(folder: Path) -> None:
    """Remove a folder, repeatedly if necessary: threads of a failed zarr store may go on writing for a moment."""
    _remove(folder)
    gone, until = 0.0, time.monotonic() + _PATIENCE
    while gone < _GONE and time.monotonic() < until:
        time.sleep(_GONE / 10)
        gone = 0.0 if folder.is_dir() else gone + _GONE / 10
        _remove(folder)


@contextlib.contextmanager
def interrupts_held() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C until it is requested or the block ends; only the main thread can be interrupted, if Ctrl-C is not ignored.

    Inside a library an interrupt can be swallowed by a callback, or abort a clean-up.
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
