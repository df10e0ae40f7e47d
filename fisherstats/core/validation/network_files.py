"""Checks of files of numbers with a description: networks and accumulated scores. What is wrong is told in one sentence."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fisherstats.core.validation import arguments, stores
from fisherstats.core.validation.arguments import shown

__all__ = [
    "Unreadable",
    "destination",
    "existing",
    "flags",
    "parsed",
    "reading",
    "replaceable",
    "unknown_format",
    "writing",
    "written_by_users",
]

_FIELDS = {
    "activations": "list",
    "bias": "list",
    "family": "dict",
    "feature_names": "list or null",
    "fingerprint": "str",
    "output_names": "list or null",
    "package": "str",
}


class Unreadable(ValueError):
    """Raised with a description of what a file holds instead."""


def destination(given: Any) -> Path:
    """Return the resolved path of a file to write, in a folder that exists."""
    path = stores.real_path("path", arguments.path("path", given, "the path of a file"))
    if path.is_dir():
        raise ValueError(f"`path` must be that of a file, got {shown(path)}, which is a folder; add the name of a file to it.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"`path` must be in a writeable folder that exists, got {shown(path)}.")
    return path


def existing(given: Any, writer: str = "MLP.save") -> Path:
    """Return the path of a file that exists."""
    path = stores.real_path("path", arguments.path("path", given, "the path of a file"))
    if not path.is_file():
        why = "which is no file" if os.path.lexists(path) else "which does not exist"
        raise ValueError(f"`path` must be a file that `{writer}` wrote, got {shown(path)}, {why}.")
    return path


def replaceable(path: Path, ours: bool, writer: str = "MLP.save") -> None:
    """Refuse to replace a file of another kind."""
    if not ours:
        raise ValueError(
            f"`path` must be a new file or one that `{writer}` wrote, which is replaced, got {shown(path)}, another file; "
            "move it away, or give another path."
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Return the error for a file that could not be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OSError(error.errno, f"`path` could not be written, {reason}; no partial file is left. Got", str(path)) from error


@contextlib.contextmanager
def reading(path: Path, what: str = "network", writer: str = "MLP.save") -> Iterator[None]:
    """Return the error for a file that holds something else or is damaged."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise errors of many types
        own = isinstance(error, Unreadable)
        reason = str(error) if own else f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(
            f"`path` must be a file that `{writer}` wrote, got {shown(path)} ({reason}); save the {what} again, or restore the "
            "file from a copy."
        ) from error


def unknown_format(found: Any, known: str, what: str = "a network") -> NoReturn:
    """Refuse a file without a description, or with one of another version."""
    if isinstance(found, str) and found.rpartition(" ")[0] == known.rpartition(" ")[0]:
        raise Unreadable(f"it has the format {found!r}, and this version of the package reads {known!r}")
    raise Unreadable(f"it does not hold {what} of this package")


def parsed(text: Any, what: str = "network", fields: Mapping[str, str] = _FIELDS) -> dict[str, Any]:
    """Return a description: fields of the right kinds, none twice, no nan."""
    if not isinstance(text, str):
        raise Unreadable(f"the description of the {what} is missing")
    try:
        found = json.loads(text, parse_constant=_refused_constant, object_pairs_hook=_unique)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the description of the {what} is not JSON, {type(error).__name__}") from error
    if not isinstance(found, dict) or found.keys() != fields.keys():
        names = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise Unreadable(f"the description of the {what} has {shown(names)} instead of {sorted(fields)}")
    kinds = {"list": list, "dict": dict, "str": str, "int": int}
    for name, kind in fields.items():
        wanted, _, null = kind.partition(" or ")
        right = isinstance(found[name], kinds[wanted]) and not isinstance(found[name], bool)
        if not (right or (null and found[name] is None)):
            raise Unreadable(f"{name!r} of the {what} is {shown(found[name])} instead of a {kind}")
    return found


def flags(name: str, values: Any) -> None:
    """Require a list of truth values in the description of a network."""
    if not all(isinstance(one, bool) for one in values):
        raise Unreadable(f"{name!r} of the network is {shown(values)} instead of a list of true and false")


def _refused_constant(constant: str) -> NoReturn:
    raise Unreadable(f"the description has the number {constant}")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unreadable("the description has a name twice")
    return found


def written_by_users(kind: str, name: str) -> NoReturn:
    """Refuse to save functions: a file holds numbers and names only."""
    raise ValueError(
        f"`MLP.save` writes the families and activations of the package, got the {kind} {name!r} with functions of its own; "
        "save the network with a family and activations of the package, and keep the definition beside it."
    )
