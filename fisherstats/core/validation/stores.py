"""Checks of the store for the intermediate results of a running study, and its errors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fisherstats.core.validation import arguments
from fisherstats.core.validation.arguments import shown

__all__ = [
    "begun",
    "damaged",
    "foreign",
    "foreign_lock",
    "in_use",
    "kept_aside",
    "not_ours",
    "not_written",
    "real_path",
    "results_not_written",
    "same_study",
    "store_path",
    "unfinished",
]

_MOST_CHANGES = 4


def store_path(store: Any, out: Path | None) -> Path | None:
    """Return the resolved path of the store, or None without a store; it may not be the output directory."""
    if store is None:
        return None
    path = real_path("store", arguments.path("store", store, "the path of a folder, or None to keep nothing"))
    if out is not None:
        results = Path(os.path.realpath(out))
        if path == results or results in path.parents or path in results.parents:
            raise ValueError(f"`store` must be separate from `out`, got {shown(Path(store))} with out={shown(out)}.")
    if path.exists() and not path.is_dir():
        raise ValueError(f"`store` must be a folder, or a path that does not exist, got {shown(path)}, which is a file.")
    parent = next(place for place in path.parents if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"`store` must be in a writeable directory, got {shown(path)}.")
    return path


def foreign(path: Path, reason: str) -> NoReturn:
    """Refuse a folder that was not created by a study."""
    raise ValueError(
        f"`store` must be a new folder, or that of a study that can be resumed, got {shown(path)} ({reason}); give another path."
    )


def damaged(path: Path, what: str, reason: str) -> NoReturn:
    """Refuse a store whose results were changed after they were written."""
    raise ValueError(
        f"`store` must hold what the study wrote, got {shown(path)}, in which {what} is damaged ({reason}); restore it "
        "from a copy, or remove it to start again."
    )


def real_path(name: str, path: Path) -> Path:
    """Return a path with links resolved; refuse a broken link or a path that not every library can open."""
    try:
        real = Path(os.path.realpath(path))
        str(real).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"`{name}` must be a path in UTF-8, got {shown(path)}; use another name.") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"`{name}` must be a path that the system can open, got {shown(path)} ({error}).") from error
    try:
        lost = path.is_symlink() and not path.exists()
    except OSError as error:
        raise ValueError(f"`{name}` must be a path that the system can open, got {shown(path)} ({error.strerror}).") from error
    if lost:
        raise ValueError(f"`{name}` must not be a broken link, got {shown(path)}; remove the link, or create its target.")
    return real


def begun(path: Path) -> bool:
    """Return whether a folder holds a store that can be resumed, by the files that every store has."""
    return (path / ".zgroup").is_file() and (path / "progress").is_dir()


def unfinished(path: Path) -> None:
    """Refuse to start a new study where an unfinished one is stored, or anything else."""
    if begun(path):
        raise ValueError(
            f"`--resume` must be given to resume the unfinished study in {shown(path)}; to start again, remove that folder."
        )
    if path.is_dir() and (names := sorted(os.listdir(path))):
        raise ValueError(
            f"`--out` must leave {shown(path)} for unfinished results, got that folder with {names[0]!r} in it, which does not "
            "belong to a study; move it away, or give another directory."
        )


def not_ours(out: Path, names: Sequence[str]) -> NoReturn:
    """Refuse to replace a folder with contents that were not written by a study."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    raise ValueError(
        f"`out` must be empty or hold an earlier study, which is replaced, got {shown(out)} with {names[0]!r}{more} in it, which "
        "was not written by a study or was changed since; move it away, or give a new directory."
    )


def kept_aside(out: Path, earlier: Path, error: OSError) -> NoReturn:
    """Return the error that names the location of a replaced folder that could not be restored."""
    raise OSError(
        f"`out` must be a folder that can be renamed, got {shown(out)} ({error.strerror or error}): its previous contents are "
        "now in "
        f"{shown(earlier)}."
    ) from error


def foreign_lock(lock: Path) -> NoReturn:
    """Refuse a file at the path of the lock that is not a lock."""
    raise ValueError(f"`store` must leave {shown(lock)} for its lock, got a file there that is not a lock; move it away.")


def in_use(path: Path) -> NoReturn:
    """Refuse a store that another run is writing."""
    raise ValueError(f"`store` must not be in use, got {shown(path)}, which another run is writing; wait until it ends.")


def not_written(path: Path, error: OSError, done: int, total: int) -> NoReturn:
    """Return the error for results that cannot be written, and name what is kept."""
    kept = f"the {done} of {total} pieces of work that were done before are kept" if done else "nothing was kept yet"
    raise OSError(
        f"`store` must be a folder that can be written to, got {shown(path)} ({error.strerror or error}): {kept}; make room "
        "or give permission, and run the same study with the same store to resume (on the command line: --resume)."
    ) from error


def results_not_written(place: Path, error: Exception, kept: Path | None, tree: Any) -> NoReturn:
    """Return the error for files of a study that cannot be written, with the location of everything computed so far."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    if not isinstance(error, OSError | RuntimeError | ValueError):
        reason = f"{type(error).__name__}: {reason}"
    if type(error) is RuntimeError and "HDF" in reason:  # it does not say why
        reason += f"; {shutil.disk_usage(place.parent).free / 2**20:.1f} MiB are free there"
    where = "in the attribute `tree` of this exception"
    if kept is not None:
        where = f"in {shown(kept)}, from where the same study with the same store resumes (on the command line: --resume)"
    raised = OSError(
        f"`out` must be a folder that can be written to, got {shown(place)} ({reason}). Everything is computed, and kept "
        f"{where}; make room or give permission."
    )
    raised.tree = tree  # type: ignore[attr-defined]
    raise raised from error


def same_study(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Require the settings, data, network and versions that the store was made with."""
    old, new = _flat(then), _flat(now)
    changes = [
        f"{key} was {_plain(old, key)} and is {_plain(new, key)} now"
        for key in sorted(old.keys() | new.keys())
        if _plain(old, key) != _plain(new, key)
    ]
    if changes:
        more = f"; and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
        raise ValueError(
            f"`store` must hold results of the same study, got {shown(path)}, but "
            f"{'; '.join(changes[:_MOST_CHANGES])}{more}. Restore the earlier settings, give another store, or remove this one "
            "to start again."
        )


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables flattened, with dotted keys; the tables of the configuration are named as in its file."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, "" if key == "settings" else f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _plain(record: Mapping[str, Any], key: str) -> str:
    return repr(record[key]) if key in record else "not given"
