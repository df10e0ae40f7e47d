"""Digests of what every public function returns, before and after a change that must change no bit.

``python -m validation.digests record FILE.json`` makes the calls and writes the digests; ``compare FILE.json`` makes them again
and prints what differs, call by call and part by part. Both take ``--only NAME`` for the calls whose key has NAME in it.
"""

from __future__ import annotations

import argparse
import inspect
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from validation.digests import others, parts, table, ways
from validation.digests.networks import MAIN, NETWORKS, Given, inputs

__all__ = ["calls", "compared", "main", "recorded"]

Record = dict[str, dict[str, str]]
FIRST = "Categorical(3)|tanh"


class Round(NamedTuple):
    """Calls of all functions of (model, x) in one way: with a network each, and one in `step` of all options."""

    way: str
    networks: Iterable[str]
    dtype: str = "float64"
    step: int = 1
    n: int = 24
    more: tuple[tuple[str, Any], ...] = ()
    processes: bool = False


ROUNDS = [
    Round("memory", MAIN),
    Round("memory", NETWORKS, step=5),
    Round("memory", list(MAIN)[:3], "float32"),
    Round("memory", NETWORKS, "float32", step=15),
    Round("memory", [FIRST, "Categorical(3)|deep"], more=(("engine", "numpy"),), step=2),
    Round("memory", [FIRST], more=(("engine", "cupy"),), step=10),
    Round("batches", [FIRST]),
    Round("batches", NETWORKS, step=40),
    Round("batches", list(MAIN)[:4], "float32", step=12),
    Round("generator", [FIRST], step=3),
    Round("dask", [FIRST]),
    Round("dask", list(MAIN), step=10),
    Round("dask", NETWORKS, step=60),
    Round("dask", [FIRST, "Poisson(2)|gelu"], "float32", step=6),
    Round("dask columns", [FIRST], step=8),
    Round("dask labelled", [FIRST, "Product|named"], step=6),
    Round("dask zarr", [FIRST], step=4),
    Round("zarr", [FIRST], step=4),
    Round("zarr", [FIRST], "float32", step=9),
    Round("labelled", [FIRST, "Product|named"], step=2),
    Round("frame", ["Product|named"], step=3),
    Round("fortran", [FIRST], step=6),
    Round("list", [FIRST], step=9),
    Round("big-endian", [FIRST], step=9),
    *[
        Round("memory", [FIRST, "Gaussian(2,full)|relu", "Categorical(3)|deep"], n=700, step=2, more=(("num_threads", threads),))
        for threads in (1, 2)
    ],
    Round("dask", [FIRST], n=700, step=7),
    Round("batches", [FIRST], n=700, step=7),
    Round("dask", [FIRST], step=40, processes=True),
]
"""In memory all options with some networks and a part of them with all; dearer ways with fewer."""

_FEW_INPUTS = {
    "covariance_bounds": 40,
    "covariance_norms": 40,
    "covariance_product": 100,
    "derivative_bounds": 100,
    "estimator_covariance": 6,
}
"""Functions whose cost per input is large."""


def _rows(name: str, n: int) -> int:
    return min(n, _FEW_INPUTS.get(name, n))


def _of_round(one: Round, place: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    networks = {**MAIN, **NETWORKS}
    for number, key in enumerate(one.networks):
        model = networks[key].as_dtype(np.dtype(one.dtype))
        given: dict[int, Given] = {}
        counter = 0
        for name, every in table.OPTIONS.items():
            call = table.function(name)
            for options in every:
                counter += 1
                if (counter + number) % one.step or (name == "norm_sweep" and one.way != "memory" and options != every[0]):
                    continue
                n = _rows(name, one.n)
                if n not in given:
                    given[n] = Given(model, inputs(model, n).astype(one.dtype))

                def made(name: str = name, options: Any = options, call: Any = call, at: Given = given[n]) -> Any:
                    more = {key: value for key, value in one.more if not (key == "engine" and name == "kink_report")}
                    x = ways.WAYS[one.way](at.x, at.model, place)
                    beside = {"model": at.model, "x": x, **table.arguments(name, options, at), **more}
                    # By position up to x, as users do.
                    taken = list(inspect.signature(call).parameters)
                    first = [beside.pop(argument) for argument in taken[: taken.index("x") + 1]]
                    return call(*first, **beside)

                said = table.text({**options, **dict(one.more)}) + ("" if one.n == 24 else f" n={n}")
                yield f"{name}|{key}|{one.way}{' processes' * one.processes}|{one.dtype}|{said}", made


def calls(place: Path, processes: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield all calls by key: those whose lazy results are computed in processes, or all others."""
    if not processes:
        yield from others.everything(place)
    for one in ROUNDS:
        if one.processes is processes:
            yield from _of_round(one, place)


def recorded(only: str = "", progress: bool = False, seconds: dict[str, float] | None = None) -> Record:
    """Return the digests of the parts of every result by the key of its call."""
    found: Record = {}
    with ways.folder() as place:
        for processes, computed in ((False, ways.lazily), (True, ways.one_process)):
            wanted = ((key, call) for key, call in calls(place, processes) if only in key)
            with computed():
                for key, call in wanted:
                    if key in found:
                        continue  # another round has it
                    started = time.perf_counter()
                    found[key] = parts.of_call(call)
                    if seconds is not None:
                        seconds[key] = time.perf_counter() - started
                    if progress and len(found) % 500 == 0:
                        print(f"{len(found)} calls", file=sys.stderr, flush=True)
    return found


def compared(before: Record, after: Record) -> list[str]:
    """Return a line for every call that is missing, new or has another result."""
    said = []
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            said.append(f"missing    {key}")
        elif key not in before:
            said.append(f"new        {key}")
        elif before[key] != after[key]:
            said.append(f"different  {key}")
            said += [f"           - {one}" for one in parts.differences(before[key], after[key])]
    return said


def _environment() -> dict[str, str]:
    names = ("numpy", "scipy", "numba", "xarray", "dask", "zarr", "scikit-learn", "matplotlib")
    return {"python": platform.python_version(), "machine": platform.machine()} | {one: metadata.version(one) for one in names}


def main(words: list[str] | None = None) -> int:
    """Record or compare, and return the exit code: 1 on any difference."""
    parser = argparse.ArgumentParser(prog="python -m validation.digests", description=__doc__)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", metavar="NAME", help="only the calls whose key has NAME in it")
    parser.add_argument("--slowest", type=int, default=0, metavar="N", help="print the N calls that took longest")
    parsed = parser.parse_args(words)
    before = json.loads(parsed.file.read_text(encoding="utf-8")) if parsed.what == "compare" else None
    seconds: dict[str, float] = {}
    started, used = time.perf_counter(), time.process_time()
    found = recorded(parsed.only, progress=True, seconds=seconds)
    took = f"{time.perf_counter() - started:.0f} s, {time.process_time() - used:.0f} s of CPU"
    for key in sorted(seconds, key=lambda one: -seconds[one])[: parsed.slowest]:
        print(f"{seconds[key]:8.3f} s  {key}", file=sys.stderr)
    refused = sum("<error>" in one for one in found.values())
    print(f"{len(found)} calls, {refused} of which raise; {took}", file=sys.stderr)
    if before is None:
        record = {"environment": _environment(), "calls": found}
        parsed.file.write_text(json.dumps(record, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    if before["environment"] != _environment():
        print(f"another environment: {before['environment']}, now {_environment()}", file=sys.stderr)
    differing = compared({key: one for key, one in before["calls"].items() if parsed.only in key}, found)
    print("\n".join(differing) or "no difference")
    return 1 if differing else 0
