"""The table of docs/benchmarks.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Row

PACKAGES = (
    *("fisherstats", "numpy", "scipy", "numba", "xarray"),
    *("torch", "backpack-for-pytorch", "curvlinops-for-pytorch", "nngeometry", "asdfghjkl", "jax"),
)
HEAD = (
    *("work", "setting", "numbers", "ours, ms", "median", "fastest peer", "its ms", "peer / ours"),
    *("floor, ms", "ours / floor", "target, ms", "largest difference", "other peers, ms; notes"),
)
TEXT = """# Benchmarks

{seen}. Every number is of one run, the calls taking turns; a time is the best of several (the median beside it), of the
public call with its checks and labels. The floor is the operation count of `benchmarks/` over the rate of a product of two
square matrices measured in the same run with all cores: {rates}. The largest difference of a peer is
relative to the largest entry unless stated; the run stops at a peer that does not agree. `python -m benchmarks --write` makes
this page.

{table}

Versions: {versions}.
"""


def milliseconds(value: float) -> str:
    return f"{1e3 * value:.3g}" if value < 1 else f"{1e3 * value:.0f}"


def rates(rows: Sequence[Row]) -> dict[str, float]:
    """Return the best rate of matrix products in the run, per precision."""
    found: dict[str, float] = {}
    for row in rows:
        if row.flops_per_second:
            found[row.case.dtype] = max(found.get(row.case.dtype, 0.0), row.flops_per_second)
    return found


def cells(row: Row, rate: dict[str, float]) -> list[str]:
    case, others = row.case, []
    if not row.times:
        return [case.work, case.setting, case.dtype, "not in this version", *[""] * 9]
    best, fastest = min(row.times), row.fastest_peer()
    floor = case.flops / rate[case.dtype] if case.flops and case.dtype in rate else None
    for name, times in row.peers.items():
        if name != fastest:
            others.append(f"{name} {milliseconds(min(times)) if times else 'not installed'}")
    return [
        case.work,
        case.setting,
        case.dtype,
        milliseconds(best),
        milliseconds(statistics.median(row.times)),
        fastest or "",
        milliseconds(min(row.peers[fastest])) if fastest else "",
        f"{min(row.peers[fastest]) / best:.1f}" if fastest else "",
        milliseconds(floor) if floor else "",
        f"{best / floor:.2f}" if floor else "",
        f"{case.target_ms:g}" if case.target_ms else "",
        f"{max(row.differences.values()):.1e}" + ("" if case.unit == "relative" else f" {case.unit}") if row.differences else "",
        "; ".join([*others, row.note] if row.note else others),
    ]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    rate = rates(rows)
    align = ["---:" if head.endswith((", ms", "median", "its ms", "ours", "floor")) else "---" for head in HEAD]
    lines = [HEAD, align, *(cells(row, rate) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def processor() -> str:
    """Return the processor and the cores given to this process."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{cores} cores of {name}"


def page(rows: Sequence[Row]) -> str:
    """Return the whole page."""
    rate = ", ".join(f"{1e-9 * value:.0f} GFLOP/s in {dtype}" for dtype, value in sorted(rates(rows).items(), reverse=True))
    return TEXT.format(seen=processor(), rates=rate, table=table(rows), versions=versions())
