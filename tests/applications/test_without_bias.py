"""Applications to networks with layers without bias."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from tests.without_bias import CASES, Pair

F, ap = fs.families, fs.applications
KINKS = {"on_kink": "ignore"}


@pytest.fixture(params=CASES)
def pair(request) -> Pair:
    return Pair.named(request.param)


def flat(model: fs.MLP) -> np.ndarray:
    return np.concatenate([one.ravel() for one in model.weights])


def test_scores_of_parameters(pair):
    both = pair.bare, pair.zero
    pair.agree(*(ap.importance(one, pair.x) for one in both))
    pair.agree(*(ap.importance(one, pair.x, pair.y, information="empirical") for one in both))
    found, wide = (ap.pruning_scores(one, pair.x) for one in both)
    # The parameters that are 0 rank first.
    pair.agree(found.drop_vars("pruning_rank"), wide.drop_vars("pruning_rank"))
    np.testing.assert_array_equal(found.pruning_rank, wide.pruning_rank.values[pair.kept] - (~pair.kept).sum())
    for name, found in ap.expected_gradient_length(pair.bare, pair.x).data_vars.items():
        # The squared norm is that over the own parameters.
        own = fs.fisher_information(pair.bare, pair.x, per_input=True).values.sum(axis=1)
        if name == "squared_norm":
            np.testing.assert_allclose(found, own, rtol=1e-11)


def test_lengths_of_steps(pair):
    delta = 0.1 * np.random.default_rng(0).normal(size=pair.bare.n_params)
    found, wide = ap.length_element(pair.bare, pair.x, delta), ap.length_element(pair.zero, pair.x, pair.widened(delta))
    for name in found.data_vars:
        np.testing.assert_allclose(found[name], wide[name], rtol=1e-9, atol=1e-15)
    found, wide = (ap.fisher_rao_norm(one, pair.x) for one in (pair.bare, pair.zero))
    for name in found.data_vars:
        np.testing.assert_allclose(found[name], wide[name], rtol=1e-9, atol=1e-15)
    other = pair.zero.with_weights([0.5 * one for one in pair.zero.weights])
    found, wide = (ap.output_divergence(one, other, pair.x) for one in (pair.bare, pair.zero))
    for name in found.data_vars:
        np.testing.assert_allclose(found[name], wide[name], rtol=1e-9, atol=1e-15)


def test_spectrum_and_volume(pair):
    full = fs.fisher_information(pair.bare, pair.x, view="full").values
    values = np.linalg.eigvalsh(full)[::-1]
    found = ap.leading_eigenpairs(pair.bare, pair.x, 2)
    np.testing.assert_allclose(found.eigenvalues, values[:2], rtol=1e-9)
    volume = ap.information_volume(pair.bare, pair.x, tau=0.1)
    np.testing.assert_allclose(volume.eigenvalues, np.maximum(values, 0), rtol=1e-7, atol=1e-14)
    volume = fs.propagate(fs.LogDet(0.1), pair.bare, pair.x, estimator="score", n_draws=100)
    np.testing.assert_allclose(volume.value, np.log(values + 0.1).sum(), rtol=1e-10)
    one = np.ones(len(full))
    solved = fs.propagate(fs.SolveWith(one, 0.1), pair.bare, pair.x, estimator="hessian", n_draws=100, **KINKS)
    expected = np.linalg.solve(full + 0.1 * np.eye(len(full)), one)
    np.testing.assert_allclose(solved.value, expected, rtol=1e-8)


def test_a_penalty_of_consolidation(pair):
    moved = pair.bare.with_weights([one + 0.1 for one in pair.bare.weights])
    ends = np.cumsum([one.size for one in pair.zero.weights])[:-1]
    steps = np.split(0.1 * pair.kept, ends)
    wide = pair.zero.with_weights([w + step.reshape(w.shape) for w, step in zip(pair.zero.weights, steps, strict=True)])
    found = ap.consolidation_penalty(moved, pair.bare, pair.x)
    expected = ap.consolidation_penalty(wide, pair.zero, pair.x)
    for name in found.data_vars:
        if not any(str(dim).startswith("param") for dim in found[name].dims):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-15)


def test_networks_that_differ_in_their_biases_are_not_alike():
    bare = fs.MLP.random([2, 3, 2], activation="tanh", family=F.Poisson(2), rng=0, bias=[False, True])
    pair = Pair.of(bare, np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"`model` must have the bias \[True, True\] of the other network, got \[False, True\]"):
        ap.consolidation_penalty(pair.bare, pair.zero, pair.x)
    with pytest.raises(ValueError, match=r"`models\[1\]` must have the widths, biases, activations and family"):
        ap.merge_networks([pair.bare, pair.zero], [np.ones(pair.bare.n_params)] * 2)
    merged = ap.merge_networks([pair.bare, pair.bare.with_weights([3 * w for w in pair.bare.weights])], [np.ones(14)] * 2)
    assert merged.model.bias == (False, True)
    np.testing.assert_allclose(flat(merged.model), 2 * flat(pair.bare), rtol=1e-14)


@pytest.mark.parametrize("scale", [1.0, 1e-120, 1e140])
@pytest.mark.parametrize("hessian", ["expected", "observed"])
def test_a_column_of_ones_is_a_bias(hessian, scale):
    """A first layer without bias that is given a column of ones has the parameters of one with bias, and their errors."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    truth = fs.MLP.random([2, 2, 1], activation="tanh", family=F.Gaussian(), rng=4, bias=[True, False])
    truth = truth.with_weights([3 * one for one in truth.weights])
    y = truth.natural_parameters(x)[:, 0] + 0.1 * rng.normal(size=60)
    settings = {"optimizer": fs.training.NaturalGradient(0.5, damping=1e-6), "epochs": 60, "batch_size": 60, "rng": 3}
    biased = fs.training.fit(truth, x, y, **settings).model
    columns = np.array([scale, 1.0, 1.0])
    weights = [biased.weights[0] / columns, biased.weights[1]]
    bare = fs.MLP(weights, activation="tanh", family=biased.family, bias=False)
    wide, x_one = ap.asymptotic_covariance(biased, x, y, hessian=hessian), np.column_stack([x, np.ones(60)]) * columns
    found = ap.asymptotic_covariance(bare, x_one, y, hessian=hessian)
    factor = np.concatenate([np.tile(columns, 2), np.ones(2)])
    np.testing.assert_allclose(found.standard_error * factor, wide.standard_error, rtol=1e-6)
    assert int(found.degrees_of_freedom) == int(wide.degrees_of_freedom)


def test_intervals_and_bounds_are_those_of_the_own_information():
    pair = Pair.named("bernoulli, last", 200)
    full = fs.fisher_information(pair.bare, pair.x, view="full").values * len(pair.x)
    bound = ap.cramer_rao_bound(pair.bare, pair.x)
    assert bound.sizes["param"] == pair.bare.n_params
    np.testing.assert_allclose(bound, np.diag(np.linalg.inv(full)), rtol=1e-7)
    intervals = ap.parameter_intervals(pair.bare, pair.x, pair.y)
    assert intervals.sizes["param"] == pair.bare.n_params
    np.testing.assert_allclose(intervals.standard_error**2, bound, rtol=1e-9)
