"""Checks of memory and engines."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from fisherstats.core.arrays import device_numbers
from fisherstats.core.errors import EngineUnavailable, SizeError
from fisherstats.core.validation.arguments import path, shown
from fisherstats.core.validation.memory import available_bytes

__all__ = [
    "available_bytes",
    "engine_unavailable",
    "fits",
    "forked_within_a_call",
    "joined",
    "kernels_not_kept",
    "new_store",
    "readable_bytes",
    "stored_view",
    "within",
    "writing",
]


def readable_bytes(count: int) -> str:
    """Return a number of bytes as text, in the largest unit in which it is at least one."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def fits(what: str, result_bytes: int, working_bytes: int, remedy: str, device: Any = None) -> None:
    """Require a result and its working copies to fit in the available memory, or in that of the device of an array."""
    limit = available_bytes(result_bytes + working_bytes) if device is None else 8 * device_numbers(device)
    if result_bytes + working_bytes > limit:
        raise SizeError(
            f"{what} needs {result_bytes:,} bytes ({readable_bytes(result_bytes)}) and {readable_bytes(working_bytes)} "
            f"of working memory, but {readable_bytes(limit)} are available; {remedy}"
        )


def joined(held: int) -> None:
    """Require results with one row per input, whose number is known only after the last batch, to fit while they are joined."""
    fits("`per_input=True`, over the batches of `x` read so far,", held, 0, "use per_input=False, or fewer batches at a time.")


def within(what: str, result_bytes: int, max_bytes: int) -> None:
    """Require a result within a stated limit."""
    if result_bytes > max_bytes:
        raise SizeError(
            f"{what} needs {result_bytes:,} bytes ({readable_bytes(result_bytes)}), more than `max_bytes`={max_bytes:,}; use "
            "covariance_norms, covariance_product or functional_variance, which work for any number of parameters."
        )


def new_store(store: Any, needed: int) -> Path:
    """Return the path of a store to be created, on a disk with enough space."""
    place = path("store", store, "the path of a zarr store to create").absolute()
    if os.path.lexists(place):
        raise ValueError(f"`store` must be a path that does not exist, got {shown(place)}; remove it or choose another.")
    parent = next(one for one in place.parents if one.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"`store` must be in a writeable directory, got {shown(place)}.")
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise SizeError(
            f"`store` needs {needed:,} bytes ({readable_bytes(needed)}) on its disk, but {readable_bytes(free)} are free; choose "
            "another disk, view='block', or fisher_operator for products with vectors."
        )
    return place


def stored_view(view: str, per_input: bool) -> None:
    """Require a view that can be written to a store."""
    if view not in ("block", "full") or per_input:
        raise ValueError(
            f"`store` goes with view='block' or view='full' and per_input=False, got view={view!r} and per_input={per_input}; "
            "leave it out."
        )


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Return the error for a store that could not be written."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"`store` could not be written, {error.strerror or error}; no partial store is left. Got", str(place)
        ) from error


def engine_unavailable(engine: str, reason: str) -> NoReturn:
    """Return the error that says why the requested engine is not available."""
    raise EngineUnavailable(
        f"`engine={engine!r}` is not available: {reason}. Use engine=None to let the package choose, 'numpy' or 'numba'."
    )


def kernels_not_kept(place: str | None, error: Exception) -> None:
    """Warn once per process that kernels must be compiled, which takes seconds, as their cache files cannot be used."""
    if _warned_of_kernels.setdefault("warned", error) is error:
        where = "there is no writeable folder for them" if place is None else f"those in {place} cannot be read or written"
        warnings.warn(
            f"Kernels are recompiled, as {where} ({type(error).__name__}: {error}). Results are not affected; to save the "
            "seconds this takes in every process, set the environment variable NUMBA_CACHE_DIR to a writeable folder.",
            RuntimeWarning,
            stacklevel=2,
        )


_warned_of_kernels: dict[str, Exception] = {}


def forked_within_a_call() -> RuntimeError:
    """Return the error that ends a call in a forked child, which lacks the threads that worked on it."""
    return RuntimeError(
        "The process was forked while this call ran, which cannot continue in the child process; call again there."
    )
