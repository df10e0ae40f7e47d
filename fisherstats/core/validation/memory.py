"""Memory available to this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_bytes"]

_UNNOTICED = 2**24
"""Bytes, fewer than Python and its libraries use; for these, checking more than the free memory would take longer than a call."""

_CGROUPS = Path("/sys/fs/cgroup")
_PROCESS = Path("/proc/self")


def available_bytes(needed: int = 0) -> int:
    """Return the minimum of the memory left by the machine, the limits of the process and its control groups.

    If little is needed and the machine has that much free memory, it is returned at once: reading files takes longer than most
    calls on a small network.
    """
    free = _free_bytes()
    if 0 < needed <= min(free, _UNNOTICED):
        return free
    machine = free if 0 < needed <= free else _machine_bytes()
    return max(0, min([machine, *_left_by_limits(), *_left_by_groups()]))


def _free_bytes() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _machine_bytes() -> int:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _left_by_limits() -> Iterator[int]:
    """Yield the memory left by `ulimit -v` and `ulimit -d`."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    # The fields of `statm` are in pages: the first is the total size, the one at index 5 data and stack.
    taken = next((line.split() for line in _lines(_PROCESS / "statm")), [])
    for limit, field in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            yield most - (int(taken[field]) * os.sysconf("SC_PAGE_SIZE") if taken else 0)


def _left_by_groups() -> Iterator[int]:
    """Yield the memory left by the control groups of the process, of version 1 or 2, and by their ancestors."""
    for line in _lines(_PROCESS / "cgroup"):
        _, controllers, path = line.rstrip("\n").split(":", 2)
        if not controllers:
            base, most, taken, reclaimable = _CGROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, most, taken = _CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            reclaimable = "total_inactive_file"
        else:
            continue
        # In a container the path may be that of the host; then only its ancestors are visible.
        group = Path(os.path.normpath(f"{base}/{path}"))
        for folder in (group, *group.parents) if group.is_relative_to(base) else (base,):
            if not folder.is_relative_to(base):
                break
            limit = _number(folder / most)
            used = None if limit is None else _number(folder / taken)
            if limit is not None and used is not None:
                yield limit - used + _file_cache(folder, reclaimable)


def _file_cache(folder: Path, name: str) -> int:
    """Return the bytes of the file cache that the system can reclaim."""
    for line in _lines(folder / "memory.stat"):
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return 0


def _number(file: Path) -> int | None:
    """Return the number in a file; None if there is none, as for "max"."""
    text = "".join(_lines(file)).strip()
    return int(text) if text.isdecimal() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines(keepends=True)
    except OSError:
        return []
