"""Applications of Fisher information, each with its statistical uncertainty.

Maximum likelihood: `asymptotic_covariance`, `cramer_rao_bound`, `parameter_intervals`, `prediction_intervals`.
Elastic weight consolidation: `importance`, the penalty `Consolidation`, `consolidation_penalty` with its standard error,
and `compare_fishers` for the five definitions in use.
Active learning: `expected_gradient_length`, `select_batch`.
Geometry: `length_element`, `output_divergence`, `fisher_rao_norm`, `information_volume`, `leading_eigenpairs`.
Bayesian prediction: `laplace`.
Compression: `pruning_scores`, `merge_networks`.
"""

from __future__ import annotations

from fisherstats.applications.acquisition import expected_gradient_length, select_batch
from fisherstats.applications.bayesian import Laplace, laplace
from fisherstats.applications.compression import Merged, merge_networks, pruning_scores
from fisherstats.applications.consolidation import Consolidation, consolidation_penalty, importance
from fisherstats.applications.five_fishers import compare_fishers
from fisherstats.applications.geometry import (
    fisher_rao_norm,
    information_volume,
    leading_eigenpairs,
    length_element,
    output_divergence,
)
from fisherstats.applications.maximum_likelihood import (
    asymptotic_covariance,
    cramer_rao_bound,
    parameter_intervals,
    prediction_intervals,
)

__all__ = [
    "Consolidation",
    "Laplace",
    "Merged",
    "asymptotic_covariance",
    "compare_fishers",
    "consolidation_penalty",
    "cramer_rao_bound",
    "expected_gradient_length",
    "fisher_rao_norm",
    "importance",
    "information_volume",
    "laplace",
    "leading_eigenpairs",
    "length_element",
    "merge_networks",
    "output_divergence",
    "parameter_intervals",
    "prediction_intervals",
    "pruning_scores",
    "select_batch",
]
