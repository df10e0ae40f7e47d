"""Fisher information of neural networks, exact and estimated, with its statistical uncertainty.

Exact and Monte Carlo Fisher information of exponential-family networks, the closed-form variances of the estimators and their
bounds, as labelled results.
"""

from __future__ import annotations

import importlib
from typing import Any

from fisherstats import activations, families
from fisherstats._version import __version__
from fisherstats.core.errors import AssumptionError, EngineUnavailable, MissingExtra, SizeError, TrainingDiverged, WorkerLost
from fisherstats.models.external import ExternalNetwork, Layer
from fisherstats.models.network import MLP
from fisherstats.quantities.accessor import FisherAccessor
from fisherstats.quantities.bounds.covariance import covariance_bounds, off_diagonal_bounds, trace_bounds
from fisherstats.quantities.bounds.derivatives import derivative_bounds, weight_norms
from fisherstats.quantities.bounds.envelopes import information_envelopes
from fisherstats.quantities.bounds.inputs import family_extremes, input_variance_bounds
from fisherstats.quantities.bounds.norm_sweep import norm_sweep
from fisherstats.quantities.bounds.variance import variance_bounds
from fisherstats.quantities.geometry.curvature import amari_chentsov, efron_curvature
from fisherstats.quantities.geometry.relative import learning_zone, pullback, relative_fisher, subsystem_metric
from fisherstats.quantities.information.accumulator import ScoreAccumulator
from fisherstats.quantities.information.empirical import bias_signature, empirical_variance
from fisherstats.quantities.information.estimates import empirical_fisher, estimate_fisher
from fisherstats.quantities.information.exact import (
    fisher_information,
    hidden_information,
    hidden_information_variance,
    output_information,
)
from fisherstats.quantities.information.explain import explain
from fisherstats.quantities.information.jacobian import jacobian
from fisherstats.quantities.information.kinks import kink_report
from fisherstats.quantities.information.kronecker_error import kfac_error
from fisherstats.quantities.information.kronecker_operator import KroneckerOperator, kronecker_operator
from fisherstats.quantities.information.labels import draw_labels
from fisherstats.quantities.information.observed import observed_information
from fisherstats.quantities.information.operators import fisher_operator
from fisherstats.quantities.uncertainty.combination import combine_estimators
from fisherstats.quantities.uncertainty.covariances import (
    covariance_norms,
    covariance_product,
    estimator_covariance,
    functional_variance,
)
from fisherstats.quantities.uncertainty.definiteness import definiteness
from fisherstats.quantities.uncertainty.error_propagation import (
    EffectiveDimension,
    LeadingEigenvalues,
    LogDet,
    SolveWith,
    propagate,
)
from fisherstats.quantities.uncertainty.intervals import confidence_intervals
from fisherstats.quantities.uncertainty.sample_size import plan_draws
from fisherstats.quantities.uncertainty.scaling import scale_estimate, with_standard_error
from fisherstats.quantities.uncertainty.variances import estimator_variance
from fisherstats.training.regularization_path import layer_errors, regularization_path

__all__ = [
    "MLP",
    "AssumptionError",
    "EffectiveDimension",
    "EngineUnavailable",
    "ExternalNetwork",
    "FisherAccessor",
    "KroneckerOperator",
    "Layer",
    "LeadingEigenvalues",
    "LogDet",
    "MissingExtra",
    "ScoreAccumulator",
    "SizeError",
    "SolveWith",
    "TrainingDiverged",
    "WorkerLost",
    "__version__",
    "activations",
    "amari_chentsov",
    "applications",
    "bias_signature",
    "combine_estimators",
    "confidence_intervals",
    "covariance_bounds",
    "covariance_norms",
    "covariance_product",
    "definiteness",
    "derivative_bounds",
    "draw_labels",
    "efron_curvature",
    "empirical_fisher",
    "empirical_variance",
    "estimate_fisher",
    "estimator_covariance",
    "estimator_variance",
    "explain",
    "families",
    "family_extremes",
    "fisher_information",
    "fisher_operator",
    "functional_variance",
    "hidden_information",
    "hidden_information_variance",
    "information_envelopes",
    "input_variance_bounds",
    "interop",
    "jacobian",
    "kfac_error",
    "kink_report",
    "kronecker_operator",
    "layer_errors",
    "learning_zone",
    "norm_sweep",
    "observed_information",
    "off_diagonal_bounds",
    "output_information",
    "plan_draws",
    "propagate",
    "pullback",
    "regularization_path",
    "relative_fisher",
    "scale_estimate",
    "study",
    "subsystem_metric",
    "trace_bounds",
    "training",
    "variance_bounds",
    "weight_norms",
    "with_standard_error",
]

_ON_FIRST_USE = ("applications", "interop", "plotting", "study", "testing", "training")


def __getattr__(name: str) -> Any:
    """Import the parts that few calls need when they are first used."""
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"fisherstats.{name}")
    if name == "plot":
        return importlib.import_module("fisherstats.plotting").plot
    raise AttributeError(f"module 'fisherstats' has no attribute {name!r}")
