"""Times of one call and its peers, taken in turns in one run, their agreement, and the rate of the arithmetic beside them."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import NotInstalled

Array = np.ndarray
Contestant = tuple[Callable[[], Any], Callable[[Any], Array]]
"""What is timed, and what turns its result into one array to compare."""

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
ROUND_SECONDS = 0.1
SLOW_SECONDS = 5.0
PAUSE_SECONDS = 0.25
GEMM_SIZE = {"full": 2000, "tiny": 50, "device": 8192}


def relative(value: Array, reference: Array) -> float:
    """Return the largest difference over the largest entry."""
    return float(np.max(np.abs(np.asarray(value, np.float64) - reference)) / np.max(np.abs(reference)))


@dataclass(frozen=True)
class Peer:
    """Another package's way to the same numbers; `build` raises NotInstalled where it is not there."""

    name: str
    build: Callable[[], Contestant]


@dataclass(frozen=True)
class Case:
    """One row of the table: our public call, what it is compared with, and how much arithmetic it needs."""

    work: str
    setting: str
    dtype: str
    ours: Callable[[], Any] | None  # None: not in this version
    value: Callable[[Any], Array] | None = np.asarray  # to compare; None where there is nothing to compare with
    flops: float = 0.0
    target_ms: float | None = None
    peers: tuple[Peer, ...] = ()
    difference: Callable[[Array, Array], float] = relative  # of a result from ours; of ours from itself it checks ours
    tolerance: float | None = None
    unit: str = "relative"
    own_clock: bool = False  # `ours` returns the seconds it measured in a fresh process
    note: Callable[[float], str] | None = None  # of the best seconds


@dataclass(frozen=True)
class Row:
    """A measured case; times in seconds, an empty list for a peer that is not installed."""

    case: Case
    times: list[float]
    peers: dict[str, list[float]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    flops_per_second: float = 0.0
    note: str = ""

    def fastest_peer(self) -> str | None:
        """Return the installed peer with the least time."""
        return min((name for name, times in self.peers.items() if times), key=lambda name: min(self.peers[name]), default=None)


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def in_turns(calls: Sequence[Callable[[], Any]], counts: Sequence[int], once: Sequence[bool], rounds: int) -> list[list[float]]:
    """Return the times of calls that take turns, each a few times in a row so that its data are in the cache."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds):
        for call, count, only_once, taken in zip(calls, counts, once, times, strict=True):
            if turn and only_once:
                continue
            time.sleep(PAUSE_SECONDS)  # threads of the one before stop spinning
            taken.extend(seconds(call)[0] for _ in range(count))
    return times


@functools.cache
def gemm(size: int, dtype: str) -> Callable[[], Any]:
    """Return a square matrix product with all cores."""
    a, b = np.random.default_rng(0).standard_normal((2, size, size)).astype(dtype)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def measure(case: Case, rounds: int, size: str, product: Callable[[], Any] | None = None) -> Row:
    """Time a case and its peers in turns, after one call of each whose results are compared.

    `product` is the matrix product beside them, of square matrices of the size in `GEMM_SIZE`; on the host's cores if not given.
    """
    if case.ours is None:
        return Row(case, [])
    if case.own_clock:
        times = [case.ours() for _ in range(rounds)]
        return Row(case, times, note=case.note(min(times)) if case.note else "")
    first, result = seconds(case.ours)
    first, result = (first, result) if first > SLOW_SECONDS else seconds(case.ours)  # the first call may compile
    reference = np.asarray(case.value(result) if case.value else 1.0, np.float64)
    del result
    _agree(case, "ours", case.difference(reference, reference))
    product = gemm(GEMM_SIZE[size], case.dtype) if product is None else product
    product()
    calls, durations, names, differences = [product, case.ours], [ROUND_SECONDS, first], [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peers warn of what they deprecate
        for peer in case.peers:
            try:
                call, value = peer.build()
            except NotInstalled:
                continue
            first, result = seconds(call)
            differences[peer.name] = case.difference(value(result), reference)
            del result
            _agree(case, peer.name, differences[peer.name])
            durations.append(first if first > SLOW_SECONDS else seconds(call)[0])
            calls.append(call)
            names.append(peer.name)
        counts = [max(1, min(20, int(ROUND_SECONDS / duration))) if size != "tiny" else 1 for duration in durations]
        once = [False, False, *(duration > SLOW_SECONDS for duration in durations[2:])]
        rates, ours, *theirs = in_turns(calls, counts, once, rounds)
    timed = dict(zip(names, theirs, strict=True))
    return Row(
        case,
        ours,
        {peer.name: timed.get(peer.name, []) for peer in case.peers},
        differences,
        2 * GEMM_SIZE[size] ** 3 / min(rates),
        case.note(min(ours)) if case.note else "",
    )


def _agree(case: Case, name: str, difference: float) -> None:
    tolerance = TOLERANCE[case.dtype] if case.tolerance is None else case.tolerance
    if not difference <= tolerance:
        raise AssertionError(f"{case.work}, {case.setting}, {case.dtype}: {name} differs by {difference:.2e} ({case.unit})")


def fresh_process(code: str, settings: Mapping[str, str] | None = None) -> Any:
    """Run code in a new interpreter and return what it prints last, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **(settings or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
