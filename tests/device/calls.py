"""Every public function that takes an engine, as calls of (network, x, engine)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

import fisherstats as fs

__all__ = ["CALLS", "CORE", "NETWORKS", "WITHOUT_BIAS", "inputs", "numbers"]

applications, families = fs.applications, fs.families
Call = Callable[[Any, Any, str | None], Any]


def inputs(n: int = 18) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 3))


_LAWS: list[tuple[Any, list[Any]]] = [
    (families.Categorical(3), ["tanh", "relu", "gelu"]),
    (families.Binomial(4, 2), ["sigmoid", "softplus"]),
    (families.Gaussian(2, covariance=[[1.3, -0.5], [-0.5, 0.6]]), ["erf", "mish"]),
    (families.Dirichlet(3), ["selu", "arctan"]),
    (families.Product([families.Bernoulli(), families.Categorical(2)]), ["softsign", "hard_tanh"]),
    (families.Poisson(2), ["silu"]),
    (families.GammaShapeRate(), ["elu", "sin"]),
    (families.Categorical(3, minimal=True), []),
    (families.NegativeBinomial(2.0, 2), ["leaky_relu"]),
    (families.Multinomial(3, 3), ["log_sigmoid", "identity"]),
    (families.Gaussian(2, covariance=[0.5, 2.0]), [fs.activations.SmoothedReLU(0.1, 0.5)]),
    (families.GaussianMeanVariance(), ["tanh"]),
]

NETWORKS = [
    fs.MLP.random([3, *[4] * len(activation), family.n_outputs], activation=activation, family=family, rng=number)
    for number, (family, activation) in enumerate(_LAWS)
]
"""Most activations and families."""

WITHOUT_BIAS = [
    fs.MLP.random([3, 4, 4, 2], activation=["gelu_tanh", "celu"], family=families.Bernoulli(2), rng=20, bias=False),
    fs.MLP.random([3, 4, 2], activation="hard_sigmoid", family=families.Poisson(2), rng=21, bias=[False, True]),
    fs.MLP.random(
        [3, 4, 4, 3], activation=["hard_swish", "relu6"], family=families.Categorical(3), rng=22, bias=[True, True, False]
    ),
]
"""The other activations, in networks whose layers have no bias, or some of them."""


def data(model: Any, x: Any) -> np.ndarray:
    """Labels for inputs that may be on a device."""
    rows = x.get() if hasattr(x, "get") else x
    return model.family.sample(model.natural_parameters(rows), 5, 1)[0]


def direction(model: Any) -> np.ndarray:
    return np.linspace(-1, 1, model.n_params)


def directions(model: Any) -> np.ndarray:
    return np.stack([direction(model), direction(model) ** 2])


def form(model: Any) -> np.ndarray:
    one = np.cos(np.arange(model.n_params))
    return np.outer(one, one)


def small(model: Any) -> Any:
    """Refuse networks whose tensor over four parameters is large."""
    if model.n_params > 30:
        raise ValueError("P^4 numbers are too many for a test.")
    return model


VIEWS = ("diagonal", "block", "full")
DRAWN: dict[str, Any] = {"n_draws": 3, "rng": 1}

CORE: dict[str, Call] = {
    **{
        f"fisher_information {view}{' per input' * each}": lambda m, x, e, view=view, each=each: fs.fisher_information(
            m, x, view=view, per_input=each, engine=e
        )
        for view in (*VIEWS, "kfac")
        for each in (False, True)
    },
    **{
        f"estimate_fisher {estimator} {view}": lambda m, x, e, view=view, estimator=estimator: fs.estimate_fisher(
            m, x, estimator=estimator, view=view, **DRAWN, engine=e
        )
        for view in VIEWS
        for estimator in ("score", "hessian")
    },
    "estimate_fisher both": lambda m, x, e: fs.estimate_fisher(m, x, estimator=("score", "hessian"), **DRAWN, engine=e),
    "estimator_variance": lambda m, x, e: fs.estimator_variance(m, x, engine=e),
    "estimator_variance per input": lambda m, x, e: fs.estimator_variance(m, x, per_input=True, engine=e),
    "variance_bounds": lambda m, x, e: fs.variance_bounds(m, x, engine=e),
    "fisher_operator": lambda m, x, e: fs.fisher_operator(m, x, engine=e) @ direction(m),
}
"""What is asked of every network."""

CALLS: dict[str, Call] = {
    **CORE,
    **{f"empirical_fisher {v}": lambda m, x, e, v=v: fs.empirical_fisher(m, x, data(m, x), view=v, engine=e) for v in VIEWS},
    **{
        f"estimator_variance {design} {group}": lambda m, x, e, design=design, group=group: fs.estimator_variance(
            m, x, design=design, group_by=group, engine=e
        )
        for design in ("fixed", "random")
        for group in (None, "layer", "unit", "model")
    },
    "estimator_variance probes": lambda m, x, e: fs.estimator_variance(
        m, x, estimators=["hutchinson_gaussian", "hutchinson_rademacher"], engine=e
    ),
    **{
        f"estimator_variance probes {group}": lambda m, x, e, group=group: fs.estimator_variance(
            m, x, estimators=["score", "hutchinson_gaussian"], group_by=group, engine=e
        )
        for group in ("layer", "unit")
    },
    **{
        f"estimate_fisher {estimator} {view} errors": lambda m, x, e, view=view, estimator=estimator: fs.estimate_fisher(
            m, x, estimator=estimator, view=view, standard_error=True, **DRAWN, engine=e
        )
        for view in ("block", "full")
        for estimator in ("score", "hessian")
    },
    **{
        f"estimate_fisher {view} of a sample": lambda m, x, e, view=view: fs.estimate_fisher(
            m, x, estimator=("score", "hessian"), view=view, standard_error=True, design="random", **DRAWN, engine=e
        )
        for view in ("diagonal", "block", "full")
    },
    "applications.importance of a sample": lambda m, x, e: fs.applications.importance(m, x, design="random", engine=e),
    "estimate_fisher stratified": lambda m, x, e: fs.estimate_fisher(
        m, x, estimator=("score", "hessian"), sampling="stratified", **DRAWN, engine=e
    ),
    "estimator_variance stratified": lambda m, x, e: fs.estimator_variance(m, x, n_draws=3, sampling="stratified", engine=e),
    "estimate_fisher probes": lambda m, x, e: fs.estimate_fisher(m, x, estimator="hutchinson_rademacher", **DRAWN, engine=e),
    "variance_bounds per input": lambda m, x, e: fs.variance_bounds(m, x, per_input=True, engine=e),
    "output_information": lambda m, x, e: fs.output_information(m, x, engine=e),
    "hidden_information": lambda m, x, e: fs.hidden_information(m, x, layer=0, engine=e),
    "hidden_information score": lambda m, x, e: fs.hidden_information(m, x, layer=0, estimator="score", **DRAWN, engine=e),
    "hidden_information empirical": lambda m, x, e: fs.hidden_information(
        m, x, layer=0, estimator="empirical", y=data(m, x), engine=e
    ),
    "hidden_information_variance": lambda m, x, e: fs.hidden_information_variance(m, x, layer=0, engine=e),
    "amari_chentsov": lambda m, x, e: fs.amari_chentsov(m, x, directions=directions(m), engine=e),
    "bias_signature": lambda m, x, e: fs.bias_signature(m, x, data(m, x), engine=e),
    "combine_estimators": lambda m, x, e: fs.combine_estimators(m, x, **DRAWN, engine=e),
    "confidence_intervals": lambda m, x, e: fs.confidence_intervals(m, x, estimator="score", **DRAWN, engine=e),
    "covariance_bounds": lambda m, x, e: fs.covariance_bounds(m, x, engine=e),
    "covariance_norms": lambda m, x, e: fs.covariance_norms(m, x, engine=e),
    "covariance_product": lambda m, x, e: fs.covariance_product(m, x, matrix=form(m), estimator="score", engine=e),
    "covariance_product hessian": lambda m, x, e: fs.covariance_product(m, x, matrix=form(m), estimator="hessian", engine=e),
    "definiteness": lambda m, x, e: fs.definiteness(m, x, **DRAWN, n_replicates=3, engine=e),
    "derivative_bounds": lambda m, x, e: fs.derivative_bounds(m, x, engine=e),
    "derivative_bounds printed": lambda m, x, e: fs.derivative_bounds(m, x, form="printed", engine=e),
    "efron_curvature per input": lambda m, x, e: fs.efron_curvature(m, x, directions=directions(m), per_input=True, engine=e),
    "efron_curvature": lambda m, x, e: fs.efron_curvature(m, x, directions=directions(m), engine=e),
    "empirical_variance": lambda m, x, e: fs.empirical_variance(m, x, truth=m, engine=e),
    "empirical_variance classes": lambda m, x, e: fs.empirical_variance(
        m, x, probabilities=np.full((len(x), m.widths[-1]), 1 / m.widths[-1]), engine=e
    ),
    "estimator_covariance": lambda m, x, e: fs.estimator_covariance(small(m), x[:2], estimator="score", engine=e),
    "estimator_covariance hessian": lambda m, x, e: fs.estimator_covariance(small(m), x[:2], estimator="hessian", engine=e),
    "estimator_covariance cross": lambda m, x, e: fs.estimator_covariance(small(m), x[:2], estimator="cross", engine=e),
    "family_extremes": lambda m, x, e: fs.family_extremes(m, x, engine=e),
    "functional_variance": lambda m, x, e: fs.functional_variance(m, x, vector=direction(m), engine=e),
    "functional_variance matrix": lambda m, x, e: fs.functional_variance(m, x, matrix=form(m), engine=e),
    "information_envelopes": lambda m, x, e: fs.information_envelopes(m, x, rank=1, engine=e),
    "jacobian": lambda m, x, e: fs.jacobian(m, x, of="mean", engine=e),
    "kronecker_operator": lambda m, x, e: fs.kronecker_operator(m, x, engine=e) @ np.ones(m.n_params),
    "information_envelopes of classes": lambda m, x, e: fs.information_envelopes(m, x, n_classes_kept=1, engine=e),
    "input_variance_bounds": lambda m, x, e: fs.input_variance_bounds(m, x, engine=e),
    "kfac_error": lambda m, x, e: fs.kfac_error(m, x, engine=e),
    "layer_errors": lambda m, x, e: fs.layer_errors(m, x, engine=e),
    "learning_zone": lambda m, x, e: fs.learning_zone(m, x, engine=e),
    "norm_sweep": lambda m, x, e: fs.norm_sweep(m, x, scales=[0.5, 1.0, 2.0], layers=[0], engine=e),
    "observed_information": lambda m, x, e: fs.observed_information(m, x, data(m, x), engine=e),
    "observed_information full": lambda m, x, e: fs.observed_information(m, x, data(m, x), view="full", engine=e),
    "off_diagonal_bounds": lambda m, x, e: fs.off_diagonal_bounds(m, x, pairs=[(0, 1), (2, 5)], engine=e),
    "plan_draws": lambda m, x, e: fs.plan_draws(m, x, target_cv=0.1, engine=e),
    "plan_draws random": lambda m, x, e: fs.plan_draws(m, x, target_cv=0.1, design="random", engine=e),
    "propagate score": lambda m, x, e: fs.propagate(fs.LogDet(0.1), m, x, estimator="score", n_draws=3, engine=e),
    "propagate sampled inputs": lambda m, x, e: fs.propagate(
        fs.LogDet(0.1), m, x, estimator="score", n_draws=3, design="random", engine=e
    ),
    "propagate hessian": lambda m, x, e: fs.propagate(fs.LogDet(0.1), m, x, estimator="hessian", n_draws=3, engine=e),
    "propagate dimension": lambda m, x, e: fs.propagate(fs.EffectiveDimension(0.1), m, x, estimator="score", n_draws=3, engine=e),
    "propagate solution": lambda m, x, e: fs.propagate(
        fs.SolveWith(direction(m), 0.1), m, x, estimator="hessian", n_draws=3, engine=e
    ),
    "propagate solution score": lambda m, x, e: fs.propagate(
        fs.SolveWith(direction(m), 0.1), m, x, estimator="score", n_draws=3, engine=e
    ),
    "propagate eigenvalues": lambda m, x, e: fs.propagate(fs.LeadingEigenvalues(1), m, x, estimator="score", n_draws=3, engine=e),
    "propagate eigenvalues hessian": lambda m, x, e: fs.propagate(
        fs.LeadingEigenvalues(1), m, x, estimator="hessian", n_draws=3, engine=e
    ),
    "regularization_path": lambda m, x, e: fs.regularization_path(
        m,
        x,
        data(m, x),
        penalty=fs.training.Frobenius,
        strengths=[0.1],
        optimizer=fs.training.SGD(0.01),
        epochs=1,
        batch_size=4,
        rng=1,
        engine=e,
    ),
    "relative_fisher": lambda m, x, e: fs.relative_fisher(m, x, engine=e),
    "relative_fisher per input": lambda m, x, e: fs.relative_fisher(m, x, per_input=True, engine=e),
    "relative_fisher layers": lambda m, x, e: fs.relative_fisher(m, x, subsystem="layer", engine=e),
    "trace_bounds": lambda m, x, e: fs.trace_bounds(m, x, engine=e),
    "trace_bounds printed": lambda m, x, e: fs.trace_bounds(m, x, form="printed", engine=e),
    "applications.asymptotic_covariance": lambda m, x, e: applications.asymptotic_covariance(m, x, data(m, x), engine=e),
    "applications.asymptotic_covariance robust": lambda m, x, e: applications.asymptotic_covariance(
        m, x, data(m, x), robust=True, engine=e
    ),
    "applications.compare_fishers": lambda m, x, e: applications.compare_fishers(m, x, data(m, x), rng=0, batch_size=4, engine=e),
    "applications.laplace": lambda m, x, e: applications.laplace(m, x, data(m, x), engine=e).summary,
    "applications.consolidation_penalty": lambda m, x, e: applications.consolidation_penalty(m, m, x, strength=1.0, engine=e),
    "applications.cramer_rao_bound": lambda m, x, e: applications.cramer_rao_bound(m, x, engine=e),
    "applications.expected_gradient_length": lambda m, x, e: applications.expected_gradient_length(
        m, x, score="norm", **DRAWN, engine=e
    ),
    "applications.expected_gradient_length squared": lambda m, x, e: applications.expected_gradient_length(m, x, engine=e),
    "applications.fisher_rao_norm": lambda m, x, e: applications.fisher_rao_norm(m, x, engine=e),
    "applications.importance": lambda m, x, e: applications.importance(m, x, engine=e),
    "applications.information_volume": lambda m, x, e: applications.information_volume(m, x, tau=0.1, engine=e),
    "applications.leading_eigenpairs": lambda m, x, e: applications.leading_eigenpairs(m, x, k=2, engine=e),
    "applications.length_element": lambda m, x, e: applications.length_element(m, x, 0.01 * direction(m), engine=e),
    "applications.output_divergence": lambda m, x, e: applications.output_divergence(m, m, x, engine=e),
    "applications.parameter_intervals": lambda m, x, e: applications.parameter_intervals(m, x, data(m, x), engine=e),
    "applications.prediction_intervals": lambda m, x, e: applications.prediction_intervals(m, x, data(m, x), at=x[:3], engine=e),
    "applications.pruning_scores": lambda m, x, e: applications.pruning_scores(m, x, engine=e),
    "applications.select_batch": lambda m, x, e: applications.select_batch(m, x, size=4, engine=e),
}
"""What is asked of a few networks."""


def numbers(result: Any) -> dict[str, np.ndarray]:
    """Return the floating-point arrays of a result, its coordinates included."""
    if isinstance(result, np.ndarray):
        return {"": result}
    if isinstance(result, xr.DataTree):
        return {f"{node.path}/{name}": array for node in result.subtree for name, array in numbers(node.to_dataset()).items()}
    dataset = result if isinstance(result, xr.Dataset) else getattr(result, "variance", result)
    if isinstance(dataset, xr.DataArray):
        dataset = dataset.to_dataset(name="values")
    return {str(name): one.values for name, one in dataset.variables.items() if one.dtype.kind == "f"}
