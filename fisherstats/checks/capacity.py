"""Checks of memory and of engines."""

from __future__ import annotations

import os
from typing import NoReturn

from fisherstats.errors import EngineUnavailable, SizeError

__all__ = ["available_bytes", "engine_unavailable", "fits", "readable_bytes", "within"]


def available_bytes(needed: int = 0) -> int:
    """Return the bytes of memory that this machine can still give out, or what lies free if that is as much as `needed`."""
    try:
        # Reading the file takes longer than most calls on a small network.
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if 0 < needed <= free:
            return free
    except (OSError, ValueError):
        pass
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def readable_bytes(count: int) -> str:
    """Return a count of bytes in the largest unit that keeps it above one."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def fits(what: str, result_bytes: int, working_bytes: int, remedy: str) -> None:
    """Require a result and its working copies to fit in the memory that is left."""
    limit = available_bytes(result_bytes + working_bytes)
    if result_bytes + working_bytes > limit:
        raise SizeError(
            f"{what} needs {result_bytes:,} bytes ({readable_bytes(result_bytes)}) and {readable_bytes(working_bytes)} "
            f"of working memory, but {readable_bytes(limit)} are available; {remedy}"
        )


def within(what: str, result_bytes: int, max_bytes: int) -> None:
    """Require a result within a stated limit."""
    if result_bytes > max_bytes:
        raise SizeError(
            f"{what} needs {result_bytes:,} bytes ({readable_bytes(result_bytes)}), more than `max_bytes`={max_bytes:,}; use "
            "covariance_norms, covariance_product or functional_variance, which work for any number of parameters."
        )


def engine_unavailable(engine: str, reason: str) -> NoReturn:
    """Say why the requested engine cannot be had."""
    raise EngineUnavailable(
        f"`engine={engine!r}` is not available: {reason}. Use engine=None to let the package choose, 'numpy' or 'numba'."
    )
