"""Reading of safetensors files: named arrays and text, nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fisherstats.core.validation import arguments
from fisherstats.core.validation import interop_trees as tree_checks
from fisherstats.core.validation.arguments import optional_module

__all__ = ["tensors"]


def tensors(path: Any) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the arrays of a safetensors file by name, and its metadata."""
    library = optional_module("safetensors", extra="interop")
    given = Path(arguments.path("path", path, "the path of a file"))
    if not given.is_file():
        tree_checks.not_readable(path, "there is no file")
    found: dict[str, NDArray[Any]] = {}
    try:
        with library.safe_open(given, framework="np") as stored:
            metadata = dict(stored.metadata() or {})
            for name in stored.keys():  # noqa: SIM118
                found[name] = stored.get_tensor(name)
    except Exception as error:  # the library and numpy raise errors of many types
        tree_checks.not_readable(path, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return found, metadata
