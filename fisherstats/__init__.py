"""Answers how well a Fisher information matrix is known.

Exact and Monte Carlo Fisher information of exponential-family networks, the closed-form variances of the estimators and their
bounds, as labelled results.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

from fisherstats import activations, families
from fisherstats.bounds import variance_bounds
from fisherstats.combination import combine_estimators
from fisherstats.covariances import (
    covariance_norms,
    covariance_product,
    estimator_covariance,
    functional_variance,
)
from fisherstats.curvature import amari_chentsov, efron_curvature
from fisherstats.empirical import bias_signature, empirical_variance
from fisherstats.errors import AssumptionError, EngineUnavailable, MissingExtra, SizeError, TrainingDiverged, WorkerLost
from fisherstats.estimators import empirical_fisher, estimate_fisher
from fisherstats.explanation import explain
from fisherstats.information import (
    fisher_information,
    hidden_information,
    hidden_information_variance,
    output_information,
)
from fisherstats.input_bounds import family_extremes, input_variance_bounds
from fisherstats.intervals import confidence_intervals
from fisherstats.kfac import kfac_error
from fisherstats.kinks import kink_report
from fisherstats.model.network import MLP
from fisherstats.observed import observed_information
from fisherstats.operators import fisher_operator
from fisherstats.planning import plan_draws
from fisherstats.positivity import definiteness
from fisherstats.probes import information_envelopes
from fisherstats.propagation import EffectiveDimension, LeadingEigenvalues, LogDet, SolveWith, propagate
from fisherstats.regularization import layer_errors, regularization_path
from fisherstats.relative import learning_zone, pullback, relative_fisher, subsystem_metric
from fisherstats.sweeps import norm_sweep
from fisherstats.tensor_bounds import covariance_bounds, off_diagonal_bounds, trace_bounds
from fisherstats.uncertainty import scale_estimate, with_standard_error
from fisherstats.variances import estimator_variance
from fisherstats.weights import derivative_bounds, weight_norms

__all__ = [
    "MLP",
    "AssumptionError",
    "EffectiveDimension",
    "EngineUnavailable",
    "LeadingEigenvalues",
    "LogDet",
    "MissingExtra",
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
    "kfac_error",
    "kink_report",
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


def __getattr__(name: str) -> ModuleType:
    """Import the parts that few calls need when they are first used."""
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"fisherstats.{name}")
    raise AttributeError(f"module 'fisherstats' has no attribute {name!r}")
