"""Engines: who carries out the few contractions that are not plain matrix products.

The engine is resolved once at the border; what was asked for and cannot be had is an error that says why.
"""

from __future__ import annotations

from dataclasses import dataclass

from fisherstats.arrays import gpu_status
from fisherstats.checks import arguments, capacity

__all__ = ["ENGINES", "Engine", "resolve"]

ENGINES = ("numpy", "numba", "cupy")


@dataclass(frozen=True)
class Engine:
    """A resolved engine."""

    name: str


def resolve(engine: str | None) -> Engine:
    """Return the engine for a request; None chooses numpy."""
    arguments.choice("engine", engine, (None, *ENGINES))
    if engine == "cupy":
        usable, reason = gpu_status()
        capacity.engine_unavailable("cupy", reason if not usable else "this version computes on the host only")
    return Engine(engine or "numpy")
