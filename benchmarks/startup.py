"""Startup: importing the package beyond its dependencies, and the first call of a fresh process, compiled anew and from cache."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator

from benchmarks.harness import Case, fresh_process

IMPORTED = """
import json, sys
import fisherstats
own = {"fisherstats", "numba", "llvmlite", "__main__", *sys.stdlib_module_names}
print(json.dumps([name for name in sys.modules if name.partition(".")[0] not in own and "__mp_main__" not in name]))
"""
IMPORT = """
import contextlib, importlib, json, time
for name in {names!r}:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
start = time.perf_counter()
import fisherstats
print(json.dumps(time.perf_counter() - start))
"""
FIRST_CALL = """
import json, time
import fisherstats as fs
import numpy as np
model = fs.MLP.random((784, 80, 80, 80, 10), activation="tanh", family=fs.families.Categorical(10), rng=0)
x = np.random.default_rng(1).standard_normal((1000, 784))
start = time.perf_counter()
fs.fisher_information(model, x)
print(json.dumps(time.perf_counter() - start))
"""


@functools.cache
def dependencies() -> tuple[str, ...]:
    """Return the modules of other packages that importing this one brings; numba is not to be among them, so it counts."""
    return tuple(fresh_process(IMPORTED))


def import_seconds() -> float:
    return float(fresh_process(IMPORT.format(names=dependencies())))


def first_call_seconds(cache: str) -> float:
    return float(fresh_process(FIRST_CALL, {"NUMBA_CACHE_DIR": cache}))


def cold_seconds() -> float:
    with tempfile.TemporaryDirectory() as cache:
        return first_call_seconds(cache)


def cases(size: str) -> Iterator[Case]:
    yield Case("Startup: import beyond dependencies", "", "", import_seconds, own_clock=True, target_ms=350.0)
    yield Case("Startup: first call, nothing compiled", "W1", "float64", cold_seconds, own_clock=True, target_ms=3000.0)
    with tempfile.TemporaryDirectory() as cache:  # is there until the next case is asked for
        first_call_seconds(cache)
        warm_seconds = functools.partial(first_call_seconds, cache)
        yield Case("Startup: first call, from cache", "W1", "float64", warm_seconds, own_clock=True, target_ms=500.0)
