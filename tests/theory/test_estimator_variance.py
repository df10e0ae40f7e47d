"""Variances of the score and the Hessian estimator and their covariance, in every design and grouping."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from tests import naive
from tests.theory.cases import SEVERAL_INPUTS, Case, assert_close, per_case

ESTIMATORS = ("score", "hessian")


def assert_quantities(result, expected, information=0.0):
    """Compare a result with arrays by the names score, hessian and cross.

    A variance over inputs that should be zero is the square of a rounding error of the information.
    """
    floor = float(1e-15 * np.max(information)) ** 2
    for name in ESTIMATORS:
        assert_close(result["variance"].sel(estimator=name), expected[name], floor=floor)
    scale = float(np.sqrt(np.max(expected["score"]) * np.max(expected["hessian"])))
    assert_close(result["cross_covariance"], expected["cross"], scale=scale, floor=floor)


@per_case()
@pytest.mark.parametrize("n_draws", [1, 7])
def test_fixed_design(case, n_draws):
    result = fs.estimator_variance(case.model, case.x, n_draws=n_draws)
    assert result["variance"].dims == ("estimator", "param")
    assert result["estimator"].values.tolist() == list(ESTIMATORS)
    expected = {name: naive.combine_fixed(values, n_draws) for name, values in case.variances.items()}
    assert_quantities(result, expected)


@per_case()
@pytest.mark.parametrize("n_draws", [1, 7])
def test_per_input(case, n_draws):
    result = fs.estimator_variance(case.model, case.x, n_draws=n_draws, per_input=True)
    assert result["variance"].dims == ("input", "estimator", "param")
    assert result["cross_covariance"].dims == ("input", "param")
    assert_quantities(result, {name: values / n_draws for name, values in case.variances.items()})


@per_case(SEVERAL_INPUTS)
@pytest.mark.parametrize("n_draws", [1, 7])
def test_random_design(case, n_draws):
    result = fs.estimator_variance(case.model, case.x, n_draws=n_draws, design="random")
    expected = {name: naive.combine_random(case.information, values, n_draws) for name, values in case.variances.items()}
    assert_quantities(result, expected, case.information)


@per_case(SEVERAL_INPUTS)
@pytest.mark.parametrize(("extra", "n_draws"), [(0, 1), (3, 2), (1000, 5)])
def test_subsample_design(case, extra, n_draws):
    population = case.n_inputs + extra
    result = fs.estimator_variance(case.model, case.x, n_draws=n_draws, design="subsample", population=population)
    expected = {
        name: naive.combine_subsample(case.information, values, population, n_draws) for name, values in case.variances.items()
    }
    assert_quantities(result, expected, case.information)


@per_case(SEVERAL_INPUTS[::5])
def test_subsample_of_everything_is_the_fixed_design(case):
    whole = fs.estimator_variance(case.model, case.x, design="subsample", population=case.n_inputs, n_draws=3)
    fixed = fs.estimator_variance(case.model, case.x, n_draws=3)
    assert_close(whole["variance"], fixed["variance"], rtol=1e-12)


@per_case()
@pytest.mark.parametrize("group_by", ["layer", "unit", "model"])
def test_group_mean_in_the_fixed_design(case, group_by):
    result = fs.estimator_variance(case.model, case.x, n_draws=3, group_by=group_by)
    quantities = case.group_quantities(group_by)
    expected = {name: naive.combine_fixed(quantities[name], 3) for name in ("score", "hessian", "cross")}
    if group_by == "model":
        expected = {name: values[0] for name, values in expected.items()}
    else:
        assert result["variance"].dims == ("estimator", group_by)
    assert_quantities(result, expected)


@per_case()
@pytest.mark.parametrize("group_by", ["layer", "unit", "model"])
def test_group_mean_per_input(case, group_by):
    result = fs.estimator_variance(case.model, case.x, n_draws=2, group_by=group_by, per_input=True)
    quantities = case.group_quantities(group_by)
    expected = {name: quantities[name] / 2 for name in ("score", "hessian", "cross")}
    if group_by == "model":
        expected = {name: values[:, 0] for name, values in expected.items()}
    assert_quantities(result, expected)


@per_case(SEVERAL_INPUTS)
@pytest.mark.parametrize("group_by", ["layer", "unit", "model"])
@pytest.mark.parametrize("design", ["random", "subsample"])
def test_group_mean_in_the_other_designs(case, group_by, design):
    population = {"population": 2 * case.n_inputs} if design == "subsample" else {}
    result = fs.estimator_variance(case.model, case.x, n_draws=2, group_by=group_by, design=design, **population)
    quantities = case.group_quantities(group_by)
    combine = {
        "random": lambda values: naive.combine_random(quantities["information"], values, 2),
        "subsample": lambda values: naive.combine_subsample(quantities["information"], values, 2 * case.n_inputs, 2),
    }[design]
    expected = {name: combine(quantities[name]) for name in ("score", "hessian", "cross")}
    if group_by == "model":
        expected = {name: values[0] for name, values in expected.items()}
    assert_quantities(result, expected, quantities["information"])


def test_units_are_labelled_by_layer_and_row():
    case = Case((2, 3, 2), ("tanh",), "bernoulli", 2, 7)
    result = fs.estimator_variance(case.model, case.x, group_by="unit")
    assert result["unit_layer"].values.tolist() == [0, 0, 0, 1, 1]
    assert result["unit_out"].values.tolist() == [0, 1, 2, 0, 1]


@per_case()
def test_what_is_zero_in_theory_is_exactly_zero(case):
    """No second derivative: the last layer, and every layer of a piecewise linear network."""
    result = fs.estimator_variance(case.model, case.x, per_input=True)
    curvature = np.array([[[h[i, i] for i in range(len(h))] for h in law.hessian] for law in case.laws])
    flat = np.all(curvature == 0.0, axis=1)
    last = [place.layer == case.n_layers - 1 for place in naive.parameters(case.network)]
    assert np.all(flat[:, last])
    assert np.all(result["variance"].sel(estimator="hessian").values[flat] == 0.0)
    assert np.all(result["cross_covariance"].values[flat] == 0.0)


def test_a_kink_is_refused_for_the_hessian_estimator_and_can_be_ignored():
    weights = [np.array([[1.0, -1.0, 0.0], [0.5, 0.25, 0.5]]), np.array([[1.0, -2.0, 0.3], [0.2, 0.1, -0.4]])]
    x = np.array([[1.0, 0.5], [1.0, 1.0]])
    model = fs.MLP(weights, activation="relu", family=fs.families.Poisson(2))
    with pytest.raises(ValueError, match="input 1") as refusal:
        fs.estimator_variance(model, x)
    assert type(refusal.value).__name__ == "AssumptionError"
    result = fs.estimator_variance(model, x, on_kink="ignore", per_input=True)
    laws = naive.input_laws(naive.Network.named(weights, ["relu"]), "poisson", {}, x)
    expected = {name: np.array([np.diag(law.variance(name)) for law in laws]) for name in ESTIMATORS}
    assert_quantities(result, expected | {"cross": np.array([np.diag(law.cross_covariance) for law in laws])})


@per_case()
def test_hidden_score_estimator(case):
    """The closed-form variance of the score estimate of the information of hidden states."""
    for layer in range(case.n_layers + 1):
        result = fs.hidden_information_variance(case.model, case.x, layer=layer, n_draws=4)
        expected = np.array([naive.hidden_information(*case.setting, x, layer)[1] for x in case.x]) / 4
        assert_close(result, expected)


def test_exact_labels_leave_the_variance_over_inputs():
    model = fs.MLP.random([3, 4, 3], activation="tanh", family=fs.families.Categorical(3), rng=0)
    x = np.random.default_rng(0).normal(size=(20, 3))
    own = fs.fisher_information(model, x, per_input=True).values
    exact = fs.estimator_variance(model, x, design="exact_labels", n_draws=7)
    for values in (*exact.variance.values, exact.cross_covariance.values):
        np.testing.assert_allclose(values, own.var(axis=0, ddof=1) / 20, rtol=1e-12)
    many = fs.estimator_variance(model, x, design="random", n_draws=10**12)
    np.testing.assert_allclose(many.variance, exact.variance, rtol=1e-6)
    for group in ("layer", "unit", "model"):
        groups = fs.estimator_variance(model, x, design="exact_labels", group_by=group)
        assert (groups.variance > 0).all()
    with pytest.raises(ValueError, match="at least two inputs"):
        fs.estimator_variance(model, x[:1], design="exact_labels")
