"""Exceptions raised by fisherstats; all derive from a built-in so that ordinary handlers catch them."""

from __future__ import annotations

from typing import Any

__all__ = ["AssumptionError", "EngineUnavailable", "MissingExtra", "SizeError", "TrainingDiverged", "WorkerLost"]


class AssumptionError(ValueError):
    """A hypothesis of a numbered statement fails for the given model or input."""


class SizeError(ValueError):
    """A result would not fit in memory; the message names the size in bytes and a smaller view."""


class EngineUnavailable(ImportError):
    """The requested engine is not available on this machine; the message says why."""


class MissingExtra(ImportError):
    """An optional library is not installed; the message names the extra that installs it."""


class TrainingDiverged(ArithmeticError):
    """A loss, gradient or weight is no longer finite; `fitted` holds the network and history of the last whole epoch."""

    fitted: Any


class WorkerLost(RuntimeError):
    """The workers of a client died while running a task; the message names the task."""
