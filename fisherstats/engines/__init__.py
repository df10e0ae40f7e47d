"""Engines: backends of the array kernels, the few contractions that are not plain matrix products.

`primitives` defines every contraction in numpy's functions, which also run on GPU arrays; `numba_kernels` has fused loops of the
same names where a benchmark shows a gain. The engine is resolved once in the public function and passed down as an object; a
requested engine that is not available is an error that says why, and the engine used is recorded in the result.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

from fisherstats.core import forks
from fisherstats.core.arrays import gpu_array, gpu_status, on_device
from fisherstats.core.validation import arguments, capacity
from fisherstats.engines import primitives

__all__ = ["ENGINES", "Engine", "resolve", "score_kernels"]

ENGINES = ("numpy", "numba", "cupy")


@dataclass(frozen=True)
class Engine:
    """A resolved engine: its name and the module with its kernels."""

    name: str
    contractions: Any
    device: Any = None
    """An array on the device that computes blocks; None on the host."""
    most_layers_without_chains: int = 3
    """Networks with more layers hold the Jacobians between hidden layers for all inputs of a block at once."""
    holds_classes: bool = True
    """Whether contractions create arrays over (inputs, classes, units) where they return fewer rows."""

    def __reduce__(self) -> Any:
        # Modules cannot be pickled, and another process loads its own.
        return resolve, (self.name,)


def resolve(engine: str | None, x: Any = None) -> Engine:
    """Return the engine for a request; None means cupy for an `x` on a GPU, and numba otherwise."""
    arguments.choice("engine", engine, (None, *ENGINES))
    if engine == "cupy" or (engine is None and on_device(x)):
        usable, reason = gpu_status()
        if not usable:
            capacity.engine_unavailable("cupy", reason)
        return Engine("cupy", primitives, gpu_array())
    return Engine("numpy", primitives) if engine == "numpy" else _with_kernels()


_loading = forks.lock()


@functools.cache
def _with_kernels() -> Engine:
    # numba takes a few tenths of a second to import, so it is loaded on first use. A child that was forked meanwhile could
    # never import it, nor compile.
    with _loading:
        kernels = importlib.import_module("fisherstats.engines.numba_kernels")
    # A kernel holds the Jacobian between two layers for one input at a time, unless it is needed again in a later step.
    return Engine("numba", kernels, most_layers_without_chains=4, holds_classes=False)


@functools.cache
def score_kernels() -> Any:
    """Return the module with the loop over per-example scores, loaded on first use as the others are."""
    with _loading:
        return importlib.import_module("fisherstats.engines.score_kernels")
