"""What Fisher information is used for, each use with its uncertainty.

Maximum likelihood: `asymptotic_covariance`, `cramer_rao_bound`, `parameter_intervals`, `prediction_intervals`.
Elastic weight consolidation: `importance`, the penalty `Consolidation`, `consolidation_penalty` with its standard error.
Active learning: `expected_gradient_length`, `select_batch`.
"""

from __future__ import annotations

from fisherstats.applications.acquisition import expected_gradient_length, select_batch
from fisherstats.applications.consolidation import Consolidation, consolidation_penalty, importance
from fisherstats.applications.maximum_likelihood import (
    asymptotic_covariance,
    cramer_rao_bound,
    parameter_intervals,
    prediction_intervals,
)

__all__ = [
    "Consolidation",
    "asymptotic_covariance",
    "consolidation_penalty",
    "cramer_rao_bound",
    "expected_gradient_length",
    "importance",
    "parameter_intervals",
    "prediction_intervals",
    "select_batch",
]
