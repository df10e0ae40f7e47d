"""The functions of (model, x) with their options: which arguments they are called with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import fisherstats as fs

__all__ = ["NEEDS", "OPTIONS", "arguments", "function", "text"]


class Of:
    """An argument that is made for the network at hand."""

    of_network = True

    def __init__(self, name: str, make: Callable[[Any], Any]) -> None:
        self.name, self.make = name, make

    def __call__(self, given: Any) -> Any:
        return self.make(given)

    def __repr__(self) -> str:
        return self.name


LABELS = Of("labels", lambda given: given.labels)
MODEL = Of("model", lambda given: given.model)
OTHER = Of("other", lambda given: given.other)
DIRECTION = Of("direction", lambda given: given.direction)
DIRECTIONS = Of("directions", lambda given: given.directions)
FORM = Of("form", lambda given: given.form)
STEP = Of("step", lambda given: 0.01 * given.direction)
HEAD = Of("head", lambda given: given.x[:3])
PROBABILITIES = Of("probabilities", lambda given: given.probabilities)
SOLUTION = Of("SolveWith(direction,0.1)", lambda given: fs.SolveWith(given.direction, 0.1))

VIEWS = ("diagonal", "block", "full")
TWO = ("score", "hessian")
PROBES = ("hutchinson_gaussian", "hutchinson_rademacher")
DRAWN: dict[str, Any] = {"n_draws": 3, "rng": 1}
SUBSAMPLE: dict[str, Any] = {"design": "subsample", "population": 5000}
RANDOM: dict[str, Any] = {"design": "random"}
Options = dict[str, Any]


def grid(**axes: Any) -> list[Options]:
    """Return all combinations."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


PLAIN: list[Options] = [{}]
PER_INPUT = grid(per_input=(False, True))
IGNORE: list[Options] = [{"on_kink": "ignore"}]
DRAWS: list[Options] = [{"n_draws": 4}]
SOURCES: list[Options] = [
    {},
    {"information": "score", **DRAWN},
    {"information": "hessian", **DRAWN},
    {"information": "empirical", "y": LABELS},
    {"design": "random"},
    {"information": "score", **DRAWN, **RANDOM},
    {"information": "hessian", **DRAWN, **SUBSAMPLE},
]
LIKELIHOOD: list[Options] = [
    *grid(robust=(False, True), hessian=("expected", "observed")),
    {"dispersion": 2.0},
    {"dispersion": "pearson"},
    {"dispersion": "pearson", "robust": True},
]

OPTIONS: dict[str, list[Options]] = {
    "fisher_information": grid(view=(*VIEWS, "kfac"), per_input=(False, True)),
    "estimate_fisher": [
        *grid(estimator=(*TWO, TWO), view=VIEWS, per_input=(False, True)),
        *grid(estimator=(*TWO, TWO), view=VIEWS, design=("fixed", "random"), standard_error=(True,)),
        *grid(estimator=(TWO,), view=("diagonal", "full"), n_draws=(1, 100), design=("subsample",), population=(5000,)),
        *grid(estimator=(*TWO, TWO), n_draws=(1, 17, 1000)),
        *grid(estimator=(*PROBES, (*TWO, *PROBES))),
        {"estimator": PROBES[0], "view": "full"},
        *grid(estimator=PROBES, per_input=(True,), standard_error=(False, True)),
        {"estimator": TWO, "on_kink": "ignore"},
        {"estimator": TWO, "standard_error": False},
    ],
    "empirical_fisher": grid(view=VIEWS, per_input=(False, True)),
    "observed_information": [*grid(view=VIEWS, per_input=(False, True)), *IGNORE],
    "estimator_variance": [
        *grid(design=("fixed", "random"), group_by=(None, "layer", "unit", "model")),
        *grid(per_input=(True,), group_by=(None, "layer", "unit", "model")),
        *grid(estimators=(PROBES, ("score", *PROBES[:1]), (*TWO, *PROBES)), group_by=(None, "layer", "unit")),
        {**SUBSAMPLE},
        {**SUBSAMPLE, "group_by": "layer", "n_draws": 2},
        {"n_draws": 7, "on_kink": "ignore"},
    ],
    "variance_bounds": [*PER_INPUT, {"estimators": ("score",)}, *DRAWS, *IGNORE],
    "output_information": [{}, *grid(coordinates=("output", "natural"))],
    "hidden_information": [
        {},
        {"estimator": "score", **DRAWN},
        {"estimator": "empirical", "y": LABELS},
        {"layer": 1},
        {"layer": 1, "estimator": "score", **DRAWN},
    ],
    "hidden_information_variance": [{}, {"layer": 1, "n_draws": 3}],
    "amari_chentsov": PLAIN,
    "bias_signature": PLAIN,
    "jacobian": [{}, {"of": "mean"}],
    "combine_estimators": [*PER_INPUT, RANDOM, SUBSAMPLE, {"n_draws": 100}, *IGNORE],
    "confidence_intervals": [
        *grid(estimator=(*TWO, TWO), design=("fixed", "random")),
        *grid(estimator=(TWO,), view=VIEWS, level=(0.9,)),
        {"estimator": TWO, **SUBSAMPLE},
        {"estimator": TWO, "per_input": True},
        {"estimator": PROBES[0]},
    ],
    "covariance_bounds": [*PER_INPUT, *DRAWS, *IGNORE],
    "covariance_norms": [*PER_INPUT, *DRAWS, *IGNORE],
    "covariance_product": [*grid(estimator=TWO), {"estimator": "score", "n_draws": 4}, {"estimator": "hessian", **IGNORE[0]}],
    "definiteness": [{}, {"delta": 0.2, "on_kink": "ignore"}],
    "derivative_bounds": [*PER_INPUT, {"form": "printed"}, {"covariance": False}, *DRAWS, *IGNORE],
    "efron_curvature": [*PER_INPUT, *IGNORE],
    "empirical_variance": [
        {"truth": MODEL},
        {"truth": OTHER, "per_input": True},
        {"probabilities": PROBABILITIES},
        {"probabilities": PROBABILITIES, "per_input": True, "n_draws": 3},
        {"truth": OTHER, **RANDOM},
        {"truth": OTHER, **SUBSAMPLE},
    ],
    "estimator_covariance": [*grid(estimator=("score", "hessian", "cross")), {"estimator": "score", "n_draws": 4}],
    "family_extremes": PLAIN,
    "fisher_operator": PLAIN,
    "functional_variance": [
        *grid(vector=(DIRECTION,), per_input=(False, True)),
        *grid(matrix=(FORM,), per_input=(False, True)),
        {"vector": DIRECTION, "n_draws": 4},
    ],
    "information_envelopes": [*grid(rank=(1, 2), per_input=(False, True))],
    "input_variance_bounds": PLAIN,
    "kfac_error": PLAIN,
    "kink_report": [{}, {"tolerance": 0.1}],
    "layer_errors": [{}, {"n_draws": 4, "target_cv": 0.3}, {"estimators": ("score", PROBES[0])}, *IGNORE],
    "learning_zone": [{}, *grid(response=("paper", "gaussian"), variance=(1.0, 2.0))],
    "norm_sweep": [{}, *grid(by=("frobenius", "spectral"), mode=("rescale", "project")), {"layers": None}],
    "off_diagonal_bounds": [*PER_INPUT, *DRAWS],
    "plan_draws": [
        *grid(level=("parameter", "layer", "trace"), design=("fixed", "random")),
        {**SUBSAMPLE},
        {"design": "random", "n_inputs": 1000},
        {"design": "random", "cost_input": 3.0, "cost_draw": 1.0},
        {"estimators": ("score", PROBES[1])},
    ],
    "propagate": [
        *grid(functional=(fs.LogDet(0.1), fs.EffectiveDimension(0.1), SOLUTION), estimator=(*TWO, TWO)),
        *grid(functional=(fs.LeadingEigenvalues(1), fs.LeadingEigenvalues(4)), estimator=(*TWO, TWO)),
        *grid(functional=(fs.LogDet(1e-9), fs.LeadingEigenvalues(4), SOLUTION), estimator=(TWO,), **{"design": ("random",)}),
        {"functional": fs.LeadingEigenvalues(4), "estimator": TWO, **SUBSAMPLE},
    ],
    "regularization_path": [{}, {"warm_start": True, "validation": Of("pair", lambda given: (given.x[:9], given.labels[:9]))}],
    "relative_fisher": [
        *grid(subsystem=("neuron", "layer", "two_layers", "system"), per_input=(False, True)),
        *grid(subsystem=("neuron", "layer", "two_layers"), response=("paper", "gaussian"), variance=(2.0,)),
    ],
    "trace_bounds": [*PER_INPUT, {"form": "printed"}, {"form": "printed", "per_input": True}, *DRAWS, *IGNORE],
    "applications.asymptotic_covariance": [{"y": None}, *LIKELIHOOD],
    "applications.consolidation_penalty": [*SOURCES, {"centre": MODEL, "strength": 0.5}],
    "applications.cramer_rao_bound": [{}, {"directions": DIRECTIONS}, {"dispersion": 2.0}],
    "applications.expected_gradient_length": [{}, {"score": "norm", **DRAWN}, {"score": ("squared_norm", "norm"), **DRAWN}],
    "applications.fisher_rao_norm": [{}, *DRAWS],
    "applications.importance": SOURCES,
    "applications.information_volume": [{}, {"tau": 1e-9}],
    "applications.leading_eigenpairs": [{}, {"k": 4, "n_draws": 3}],
    "applications.length_element": [{}, *DRAWS],
    "applications.output_divergence": PER_INPUT,
    "applications.parameter_intervals": [{}, {"reference": "t", "level": 0.9}, *LIKELIHOOD[1:]],
    "applications.prediction_intervals": [{}, {"reference": "t", "level": 0.9}, *LIKELIHOOD[1:]],
    "applications.pruning_scores": SOURCES,
    "applications.select_batch": [{}, {"score": "norm", **DRAWN}, {"score": "entropy"}, {"score": "random", "rng": 1}],
}
"""By function, the options it is called with; the first are the ordinary ones."""

NEEDS: dict[str, Options] = {
    "estimate_fisher": DRAWN,
    "empirical_fisher": {"y": LABELS},
    "observed_information": {"y": LABELS},
    "hidden_information": {"layer": 0},
    "hidden_information_variance": {"layer": 0},
    "amari_chentsov": {"directions": DIRECTIONS},
    "bias_signature": {"y": LABELS},
    "combine_estimators": DRAWN,
    "confidence_intervals": DRAWN,
    "covariance_product": {"matrix": FORM},
    "definiteness": {**DRAWN, "n_replicates": 3},
    "efron_curvature": {"directions": DIRECTIONS},
    "estimator_covariance": {"max_bytes": 8 * 10**6},
    "norm_sweep": {"scales": [0.5, 2.0], "layers": [0]},
    "off_diagonal_bounds": {"pairs": [(0, 1), (2, 5)]},
    "plan_draws": {"target_cv": 0.1},
    "propagate": {"n_draws": 3},
    "regularization_path": {
        "y": LABELS,
        "penalty": fs.training.Frobenius,
        "strengths": [0.1, 0.2],
        "optimizer": fs.training.SGD(0.01),
        "epochs": 1,
        "batch_size": 8,
        "rng": 1,
    },
    "applications.asymptotic_covariance": {"y": LABELS},
    "applications.consolidation_penalty": {"anchor": OTHER, "strength": 1.0},
    "applications.information_volume": {"tau": 0.1},
    "applications.leading_eigenpairs": {"k": 2},
    "applications.length_element": {"delta": STEP},
    "applications.output_divergence": {"other": OTHER},
    "applications.parameter_intervals": {"y": LABELS},
    "applications.prediction_intervals": {"y": LABELS, "at": HEAD},
    "applications.select_batch": {"size": 4},
}
"""What a function is always called with, unless its options say otherwise."""


def function(name: str) -> Callable[..., Any]:
    found: Any = fs
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def arguments(name: str, options: Options, given: Any) -> dict[str, Any]:
    """Return the arguments of a call beside model and x."""
    return {key: given.of(one) for key, one in {**NEEDS.get(name, {}), **options}.items()}


def text(options: Options) -> str:
    """Return options as they stand in a key."""

    def word(one: Any) -> str:
        return "+".join(one) if isinstance(one, tuple) and one and isinstance(one[0], str) else "".join(str(one).split())

    return " ".join(f"{key}={word(one)}" for key, one in options.items())
