"""The observed information at given labels and its z-score, one term per observation."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from tests import naive
from tests.theory.cases import CASES, assert_close, per_case
from tests.theory.test_empirical import observed_labels


def oracle(case, labels):
    """Observed and expected matrices (n, P, P) of every input."""
    observed = []
    for x, y, law in zip(case.x, labels, case.laws, strict=True):
        states, _ = naive.forward(case.network, x)
        points, probabilities = naive.law_of_statistic(case.family, case.params, states[-1])
        residual = naive.sufficient_statistic(case.family, case.params, y, len(states[-1])) - probabilities @ points
        observed.append(law.information - sum(r * h for r, h in zip(residual, law.hessian, strict=True)))
    return np.array(observed), np.array([law.information for law in case.laws])


@per_case()
@pytest.mark.parametrize("view", ["diagonal", "full"])
def test_observed_and_expected(case, view):
    labels = observed_labels(case)
    result = fs.observed_information(case.model, case.x, labels, view=view)
    observed, expected = (matrix.mean(axis=0) for matrix in oracle(case, labels))
    if view == "diagonal":
        observed, expected = np.diag(observed), np.diag(expected)
    scale = float(np.abs(observed).max() + np.abs(expected).max())
    assert_close(result["observed"], observed, scale=scale, rtol=1e-10)
    assert_close(result["expected"], expected, scale=scale, rtol=1e-10)


@per_case()
@pytest.mark.parametrize("per_input", [False, True])
def test_z_score(case, per_input):
    labels = observed_labels(case)
    result = fs.observed_information(case.model, case.x, labels, per_input=per_input)
    observed, expected = (np.array([np.diag(one) for one in matrix]) for matrix in oracle(case, labels))
    deviation, variance = observed - expected, case.variances["hessian"]
    if not per_input:
        deviation, variance = deviation.mean(axis=0), variance.sum(axis=0) / case.n_inputs**2
    random = variance > 1e-24 * max(float(variance.max()), 1e-300)
    z = result["z_score"].values
    size = np.abs(deviation).max() / np.sqrt(variance[random]) if random.any() else 1.0
    np.testing.assert_allclose((z[random] - (deviation[random] / np.sqrt(variance[random]))) / size, 0, atol=1e-10)
    np.testing.assert_array_equal(z[variance == 0], 0.0)


@per_case(CASES[::5])
def test_blocks_are_those_of_the_whole(case):
    labels = observed_labels(case)
    full = fs.observed_information(case.model, case.x, labels, view="full")
    tree = fs.observed_information(case.model, case.x, labels, view="block")
    for layer in range(case.n_layers):
        block = tree[f"layer_{layer}"]["observed"]
        assert_close(block, full["observed"].sel(param=block["param"].values, param2=block["param2"].values), rtol=1e-12)


@pytest.mark.parametrize("family", [fs.families.Categorical(4), fs.families.Bernoulli(2), fs.families.Exponential(1)])
def test_labels_of_the_model_have_standard_normal_scores(family):
    """400 inputs per replicate: mean 0 and variance 1 of the z-scores over 200 replicates, |z| < 5 for each parameter."""
    rng = np.random.default_rng(2)
    model = fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=2)
    x = rng.normal(size=(400, 2))
    h = model.natural_parameters(x)
    z = np.array([fs.observed_information(model, x, family.sample(h, rng, 1)[0])["z_score"].values for _ in range(200)])
    z = z[:, (z != 0).any(axis=0)]
    assert z.shape[1] >= 6
    assert np.abs(np.sqrt(200) * z.mean(axis=0)).max() < 5
    assert np.abs((z**2 - 1).mean(axis=0) * np.sqrt(200 / 2)).max() < 5
    # Power: labels of the data that the model does not expect are noticed.
    assert np.abs(np.sqrt(200) * (z + 0.5).mean(axis=0)).max() > 5


def test_an_impossible_label_is_infinitely_far():
    model = fs.MLP([[[1.0, 0.0]], [[1000.0, 0.0], [0.0, 0.0]]], activation="tanh", family=fs.families.Categorical(2))
    found = fs.observed_information(model, [[2.0]], [1])
    assert np.all(np.isinf(found["z_score"].values[:2]))
    assert fs.observed_information(model, [[2.0]], [0])["z_score"].values.tolist() == [0.0] * 6


def test_what_is_refused():
    model = fs.MLP([[[1.0, 0.0]], [[1.0, 0.5]]], activation="relu", family=fs.families.Bernoulli())
    with pytest.raises(fs.AssumptionError, match="input 0, layer 0, unit 0"):
        fs.observed_information(model, [[0.0]], [1])
    with pytest.raises(ValueError, match="view"):
        fs.observed_information(model, [[1.0]], [1], view="kfac")
