"""Engines: who carries out the few contractions that are not plain matrix products.

`primitives` defines every contraction in numpy; `numba_kernels` has fused loops of the same names where a benchmark row shows the
win. The engine is resolved once at the border and passed down as an object; what was asked for and cannot be had is an error that
says why, and what ran is written on the result.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from fisherstats.arrays import gpu_status
from fisherstats.checks import arguments, capacity

__all__ = ["ENGINES", "Engine", "resolve"]

ENGINES = ("numpy", "numba", "cupy")


@dataclass(frozen=True)
class Engine:
    """A resolved engine: its name and the module that holds its contractions."""

    name: str
    contractions: Any


def resolve(engine: str | None, over_classes: bool) -> Engine:
    """Return the engine for a request.

    The kernels are contractions over classes, so None chooses numba for families whose moments are sums over classes and numpy
    for the others, where the namespace code is all there is (asking for numba gives it too, under its own name).
    """
    arguments.choice("engine", engine, (None, *ENGINES))
    if engine == "cupy":
        usable, reason = gpu_status()
        capacity.engine_unavailable("cupy", reason if not usable else "this version computes on the host only")
    if over_classes and engine != "numpy":
        # numba takes a few tenths of a second to import, so it is loaded on first use.
        return Engine("numba", importlib.import_module("fisherstats.engines.numba_kernels"))
    return Engine("numpy", importlib.import_module("fisherstats.engines.primitives"))
