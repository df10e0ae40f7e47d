"""Planned draws against the enumerated variances: enough draws, and not one too many."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from tests import naive
from tests.theory.cases import CASES, SEVERAL_INPUTS, per_case

SMALL = [case for case in CASES if case.n_inputs < 100][::2]
SEVERAL = [case for case in SEVERAL_INPUTS if case.n_inputs < 100][::2]
ESTIMATORS = ("score", "hessian")


def quantities(case, level):
    """Information (n, k) and single-draw variances by estimator, of each input."""
    if level == "parameter":
        return case.information, case.variances
    found = case.group_quantities({"layer": "layer", "trace": "model"}[level])
    return found["information"], found


def relative(variance, information):
    return np.sqrt(variance) / np.where(information > 0, information, 1)


def check_smallest(draws, error_at, target, information):
    """With `draws` the target is met, with one less it is not; where it is never met the draws are inf."""
    finite = np.isfinite(draws)
    informed = information > 1e-12 * information.max()
    assert np.all(draws >= 1)
    assert np.all(draws[finite] == np.round(draws[finite]))
    assert np.all((error_at(draws) <= target * (1 + 1e-9)) | ~finite | ~informed)
    fewer = np.where(finite & (draws > 1), draws - 1, 1.0)
    assert np.all((error_at(fewer) > target * (1 - 1e-9)) | (draws == 1) | ~finite | ~informed)
    assert np.all((error_at(np.full_like(draws, 1e14)) > target * (1 - 1e-6)) | finite | ~informed)


@per_case(SMALL)
@pytest.mark.parametrize("level", ["parameter", "layer", "trace"])
def test_fixed_design(case, level):
    information, variances = quantities(case, level)
    plan = fs.plan_draws(case.model, case.x, target_cv=0.07, level=level)
    mean = information.mean(axis=0)
    for name in ESTIMATORS:
        draws = np.atleast_1d(plan["draws"].sel(estimator=name).values)
        single = variances[name].sum(axis=0) / case.n_inputs**2
        check_smallest(draws, lambda n, v=single: relative(v / n, mean), 0.07, mean)
    assert "floor_cv" not in plan


@per_case(SEVERAL)
@pytest.mark.parametrize("level", ["parameter", "layer", "trace"])
def test_random_design(case, level):
    information, variances = quantities(case, level)
    mean = information.mean(axis=0)
    spread = information.var(axis=0, ddof=1)
    plan = fs.plan_draws(case.model, case.x, target_cv=0.2, level=level, design="random", n_inputs=50)
    np.testing.assert_allclose(np.atleast_1d(plan["floor_cv"]), relative(spread / 50, mean), rtol=1e-9, atol=1e-12)
    for name in ESTIMATORS:
        draws = np.atleast_1d(plan["draws"].sel(estimator=name).values)
        single = variances[name].mean(axis=0)
        check_smallest(draws, lambda n, v=single: relative((spread + v / n) / 50, mean), 0.2, mean)


@per_case(SEVERAL)
def test_the_given_inputs_are_the_plan_unless_told_otherwise(case):
    plan = fs.plan_draws(case.model, case.x, target_cv=0.5, design="random")
    same = fs.plan_draws(case.model, case.x, target_cv=0.5, design="random", n_inputs=case.n_inputs)
    assert plan.identical(same)


@per_case(SMALL)
def test_the_best_estimator_has_the_smaller_variance(case):
    plan = fs.plan_draws(case.model, case.x, target_cv=0.1)
    score, hessian = (naive.combine_fixed(case.variances[name], 1) for name in ESTIMATORS)
    best, size = plan["best"].values, np.maximum(score, hessian)
    assert set(best) <= {"score", "hessian", "either"}
    assert np.all(score[best == "score"] < hessian[best == "score"] + 1e-9 * size[best == "score"])
    assert np.all(hessian[best == "hessian"] < score[best == "hessian"] + 1e-9 * size[best == "hessian"])
    layers, draws = plan["param_layer"].values, plan["draws"].values
    informed = case.information.mean(axis=0) > 0
    for layer in range(case.n_layers):
        mine = draws[:, (layers == layer) & informed]
        if mine.size:
            assert np.all((mine <= plan["median_draws"].values[:, [layer]]).mean(axis=1) >= 0.5)
            assert np.all((mine >= plan["median_draws"].values[:, [layer]]).mean(axis=1) >= 0.5)


@per_case(SEVERAL)
def test_no_split_of_the_budget_is_better(case):
    """N* minimises (spread + variance / N)(c_x + c_y N), here against a grid of N."""
    cost_input, cost_draw = 7.0, 0.3
    plan = fs.plan_draws(case.model, case.x, target_cv=0.1, design="random", cost_input=cost_input, cost_draw=cost_draw)
    spread = case.information.var(axis=0, ddof=1)
    mean = case.information.mean(axis=0)
    for name in ESTIMATORS:
        variance = case.variances[name].mean(axis=0)
        optimal = plan["optimal_draws"].sel(estimator=name).values
        usual = (variance > 1e-12 * spread) & (spread > 1e-12 * mean**2)
        expected = np.sqrt(cost_input * variance[usual] / (cost_draw * spread[usual]))
        np.testing.assert_allclose(optimal[usual], expected, rtol=1e-9)

        def cost(n, v=variance, kept=usual):
            return (spread[kept] + v[kept] / n) * (cost_input + cost_draw * n)

        for factor in (0.3, 0.9, 0.999, 1.001, 1.1, 4.0):
            assert np.all(cost(optimal[usual] * factor) >= cost(optimal[usual]) * (1 - 1e-12))
        inputs = plan["optimal_inputs"].sel(estimator=name).values
        at = np.maximum(optimal[usual], 1)
        assert np.all(
            (spread + variance / np.maximum(optimal, 1))[usual] / inputs[usual] <= (0.1 * mean[usual]) ** 2 * (1 + 1e-9)
        )
        fewer = np.maximum(inputs[usual] - 1, 1)
        enough = (spread[usual] + variance[usual] / at) / fewer <= (0.1 * mean[usual]) ** 2 * (1 - 1e-9)
        assert not np.any(enough & (inputs[usual] > 1))


def test_whole_numbers_are_not_rounded_up():
    """A Gaussian response of one output has the squared relative error 2 / N for every score entry of one input."""
    model = fs.MLP.random([3, 4, 1], activation="tanh", family=fs.families.Gaussian(), rng=1)
    for target, expected in ((0.1, 200), (0.05, 800), (0.02, 5000), (1.0, 2), (10.0, 1)):
        plan = fs.plan_draws(model, [[0.3, -0.2, 0.9]], target_cv=target)
        assert plan["draws"].sel(estimator="score").values.tolist() == [expected] * model.n_params


def test_what_has_no_information_or_no_variance():
    model = fs.MLP([[[1.0, -5.0], [1.0, 5.0]], [[1.0, 1.0, 0.0]]], activation="relu", family=fs.families.Poisson())
    plan = fs.plan_draws(model, [[1.0]], target_cv=0.1)
    assert plan["draws"].sel(estimator="hessian").values.tolist() == [1.0] * 7
    assert plan["best"].values.tolist() == ["either", "either", "hessian", "hessian", "either", "hessian", "hessian"]
    assert plan["draws"].sel(estimator="score").values[[0, 1, 4]].tolist() == [1.0] * 3
    floor = fs.plan_draws(model, [[1.0], [2.0]], target_cv=1e-6, design="random")
    assert np.all(np.isinf(floor["draws"].values[:, 2]))
    assert not np.any(np.isnan(floor["floor_cv"]))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"target_cv": 0}, "target_cv"),
        ({"level": "unit"}, "level"),
        ({"design": "subsample"}, "design"),
        ({"n_inputs": 5}, "n_inputs"),
        ({"design": "random", "n_inputs": 0}, "n_inputs"),
        ({"design": "random", "cost_input": 1.0}, "cost_draw"),
        ({"design": "random", "cost_input": 1.0, "cost_draw": -1.0}, "cost_draw"),
        ({"cost_input": 1.0, "cost_draw": 1.0}, "design"),
    ],
)
def test_what_is_refused(arguments, named):
    model = fs.MLP.random([2, 2, 1], activation="tanh", family=fs.families.Bernoulli(), rng=0)
    with pytest.raises(ValueError, match=named):
        fs.plan_draws(model, [[1.0, 2.0], [0.5, 0.1]], **{"target_cv": 0.1, **arguments})


def test_one_input_is_too_few_for_the_random_design():
    model = fs.MLP.random([2, 2, 1], activation="tanh", family=fs.families.Bernoulli(), rng=0)
    with pytest.raises(ValueError, match="two inputs"):
        fs.plan_draws(model, [[1.0, 2.0]], target_cv=0.1, design="random")
