"""What Fisher information is used for, each use with its uncertainty.

Maximum likelihood: `asymptotic_covariance`, `cramer_rao_bound`, `parameter_intervals`, `prediction_intervals`.
"""

from __future__ import annotations

from fisherstats.applications.maximum_likelihood import (
    asymptotic_covariance,
    cramer_rao_bound,
    parameter_intervals,
    prediction_intervals,
)

__all__ = ["asymptotic_covariance", "cramer_rao_bound", "parameter_intervals", "prediction_intervals"]
