"""Answers how well a Fisher information matrix is known.

Exact and Monte Carlo Fisher information of exponential-family networks, the closed-form variances of the estimators and their
bounds, as labelled results.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

from fisherstats.bounds import variance_bounds
from fisherstats.errors import AssumptionError, EngineUnavailable, MissingExtra, SizeError
from fisherstats.estimators import empirical_fisher, estimate_fisher
from fisherstats.explanation import explain
from fisherstats.information import (
    fisher_information,
    fisher_operator,
    hidden_information,
    hidden_information_variance,
    output_information,
)
from fisherstats.model import activations, families
from fisherstats.model.network import MLP
from fisherstats.variances import estimator_variance

__all__ = [
    "MLP",
    "AssumptionError",
    "EngineUnavailable",
    "MissingExtra",
    "SizeError",
    "__version__",
    "activations",
    "empirical_fisher",
    "estimate_fisher",
    "estimator_variance",
    "explain",
    "families",
    "fisher_information",
    "fisher_operator",
    "hidden_information",
    "hidden_information_variance",
    "interop",
    "output_information",
    "study",
    "variance_bounds",
]

_ON_FIRST_USE = ("interop", "plotting", "study")


def __getattr__(name: str) -> ModuleType:
    """Import the parts that few calls need when they are first used."""
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"fisherstats.{name}")
    raise AttributeError(f"module 'fisherstats' has no attribute {name!r}")
