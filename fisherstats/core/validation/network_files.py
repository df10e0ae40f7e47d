"""Checks of the files that hold networks: every failure of a damaged file becomes a one-sentence error."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fisherstats.core.validation import arguments, stores
from fisherstats.core.validation.arguments import shown

__all__ = [
    "Unreadable",
    "destination",
    "existing",
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
    """Raised with a description of what a file holds instead of a network."""


def destination(given: Any) -> Path:
    """Return the resolved path of a file to write, in a folder that exists."""
    path = stores.real_path("path", arguments.path("path", given, "the path of a file"))
    if path.is_dir():
        raise ValueError(f"`path` must be that of a file, got {shown(path)}, which is a folder; add the name of a file to it.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"`path` must be in a writeable folder that exists, got {shown(path)}.")
    return path


def existing(given: Any) -> Path:
    """Return the path of a file that exists."""
    path = stores.real_path("path", arguments.path("path", given, "the path of a file"))
    if not path.is_file():
        why = "which is no file" if os.path.lexists(path) else "which does not exist"
        raise ValueError(f"`path` must be a file that `MLP.save` wrote, got {shown(path)}, {why}.")
    return path


def replaceable(path: Path, ours: bool) -> None:
    """Refuse to replace a file that does not hold a network of this package."""
    if not ours:
        raise ValueError(
            f"`path` must be a new file or one that `MLP.save` wrote, which is replaced, got {shown(path)}, another file; "
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
def reading(path: Path) -> Iterator[None]:
    """Return the error for a file that is no network or is damaged."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise errors of many types
        own = isinstance(error, Unreadable)
        reason = str(error) if own else f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(
            f"`path` must be a file that `MLP.save` wrote, got {shown(path)} ({reason}); save the network again, or restore the "
            "file from a copy."
        ) from error


def unknown_format(found: Any, known: str) -> NoReturn:
    """Refuse a file without the description of a network, or with one of another version."""
    if isinstance(found, str) and found.rpartition(" ")[0] == known.rpartition(" ")[0]:
        raise Unreadable(f"it has the format {found!r}, and this version of the package reads {known!r}")
    raise Unreadable("it does not hold a network of this package")


def parsed(text: Any) -> dict[str, Any]:
    """Return the description of a network: fields of the right kinds, none twice, no nan."""
    if not isinstance(text, str):
        raise Unreadable("the description of the network is missing")
    try:
        found = json.loads(text, parse_constant=_refused_constant, object_pairs_hook=_unique)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the description of the network is not JSON, {type(error).__name__}") from error
    if not isinstance(found, dict) or found.keys() != _FIELDS.keys():
        names = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise Unreadable(f"the description of the network has {shown(names)} instead of {sorted(_FIELDS)}")
    kinds = {"list": list, "dict": dict, "str": str}
    for name, kind in _FIELDS.items():
        wanted, _, null = kind.partition(" or ")
        if not (isinstance(found[name], kinds[wanted]) or (null and found[name] is None)):
            raise Unreadable(f"{name!r} of the network is {shown(found[name])} instead of a {kind}")
    if not all(isinstance(one, bool) for one in found["bias"]):
        raise Unreadable(f"'bias' of the network is {shown(found['bias'])} instead of a list of true and false")
    return found


def _refused_constant(constant: str) -> NoReturn:
    raise Unreadable(f"the description of the network has the number {constant}")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unreadable("the description of the network has a name twice")
    return found


def written_by_users(kind: str, name: str) -> NoReturn:
    """Refuse to save functions: a file holds numbers and names only."""
    raise ValueError(
        f"`MLP.save` writes the families and activations of the package, got the {kind} {name!r} with functions of its own; "
        "save the network with a family and activations of the package, and keep the definition beside it."
    )
