"""Each numba kernel against its numpy definition: `python -m benchmarks.kernels` prints the table of the README."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fisherstats.engines import numba_kernels, primitives
from fisherstats.execution import one_blas_thread

SHAPES = ((128, 10, 80), (128, 4, 48), (16, 100, 80))
"""(inputs, classes, units) of a block."""


def best_seconds(function: Callable[[], Any], repeats: int) -> float:
    """Return the best time of several calls, after one that compiles and warms up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def rows(shapes: tuple[tuple[int, int, int], ...] = SHAPES, repeats: int = 200) -> Iterator[tuple[str, str, float, float]]:
    """Yield (kernel, shape, microseconds of the definition, microseconds of the kernel)."""
    for n, classes, units in shapes:
        rng = np.random.default_rng(0)
        given = {
            "p": rng.dirichlet(np.ones(classes), n),
            "w": rng.dirichlet(np.ones(classes), n),
            "u": rng.normal(size=(n, classes, units)),
            "s": rng.normal(size=(n, classes, units)),
            "kernel": rng.normal(size=(units, units)),
            "slopes": rng.random((n, units)),
            "chain": rng.normal(size=(1, units, units)),
            "above": rng.normal(size=(n, classes, units)),
            "scale": rng.random((n, units)),
            "rows": rng.normal(size=(n, classes, units)),
            "shift": np.zeros((0, classes)),
            "goes_on": False,
            "scales": [rng.random((n, units)) for _ in range(2)],
            "diagonals": rng.random((n, units)),
            "uniforms": rng.random((n, 10)),
            "counts": rng.multinomial(10**6, np.full(classes, 1 / classes), n),
            "n_draws": 10**6,
            "logits": rng.normal(size=(n, classes)),
            "classes": rng.integers(0, classes, (n, 2)),
            "roots": rng.random((n, 2)),
        }
        for name in numba_kernels.__all__:
            definition, kernel = getattr(primitives, name), getattr(numba_kernels, name)
            arguments = [given[word] for word in inspect.signature(definition).parameters]

            def call(function: Callable[..., Any], arguments: list[Any] = arguments) -> Callable[[], Any]:
                return lambda: function(*arguments)

            timed = one_blas_thread(best_seconds)
            microseconds = [1e6 * timed(call(one), repeats) for one in (definition, kernel)]
            yield name, f"{n} x {classes} x {units}", *microseconds  # type: ignore[misc]


def table(**settings: Any) -> str:
    """Return the rows as a Markdown table with the ratio definition / kernel."""
    lines = ["| kernel | inputs x classes x units | numpy, us | numba, us | ratio |", "|---|---|---:|---:|---:|"]
    for name, shape, slow, fast in rows(**settings):
        lines.append(f"| {name} | {shape} | {slow:.0f} | {fast:.0f} | {slow / fast:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
