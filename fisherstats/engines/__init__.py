"""Engines: who carries out the few contractions that are not plain matrix products.

`primitives` defines every contraction in numpy's functions, which is also what runs on arrays of a device; `numba_kernels` has
fused loops of the same names where a benchmark row shows the win. The engine is resolved once at the border and passed
down as an object; what was asked for and cannot be had is an error that says why, and what ran is written on the result.
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

__all__ = ["ENGINES", "Engine", "resolve"]

ENGINES = ("numpy", "numba", "cupy")


@dataclass(frozen=True)
class Engine:
    """A resolved engine: its name and the module that holds its contractions."""

    name: str
    contractions: Any
    device: Any = None
    """An array of the device that blocks are computed on; None on the host."""
    most_layers_without_chains: int = 3
    """Networks of more layers have Jacobians between hidden layers held for all inputs of a block at once."""
    holds_classes: bool = True
    """Whether contractions hold arrays over (inputs, classes, units) where they return fewer rows."""


def resolve(engine: str | None, x: Any = None) -> Engine:
    """Return the engine for a request; None is cupy for an `x` that lives on a device, and numba for any other."""
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
    # A kernel holds the Jacobian between two layers of one input at a time, unless it is needed again further up.
    return Engine("numba", kernels, most_layers_without_chains=4, holds_classes=False)
