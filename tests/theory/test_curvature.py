"""Curvature along directions as moments over all labels of the score and of the observed information."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest

import fisherstats as fs
from fisherstats.models import derivatives
from fisherstats.theory import covariance_tensors
from tests.refusals import pattern, refused
from tests.theory.cases import CASES, assert_close, per_case

SMALL = [case for case in CASES if case.n_inputs < 10 and case.model.n_params < 60]


def directions_of(case, count=3):
    return np.random.default_rng([case.seed, 9]).normal(size=(count, case.model.n_params))


def derivatives_along(law, v):
    """Return the first and second derivative of the log-likelihood along v, label by label."""
    return law.deltas @ (law.jacobian @ v), -np.einsum("kij,i,j->k", law.observed, v, v)


def moments(law, v):
    """Return Var(l'), Cov(l', l'') and Var(l'')."""
    first, second = derivatives_along(law, v)
    p = law.probabilities
    first, second = first - p @ first, second - p @ second
    return np.array([p @ first**2, p @ (first * second), p @ second**2])


@per_case(SMALL)
def test_all_labels(case):
    v = directions_of(case)
    expected = np.array([[moments(law, one) for one in v] for law in case.laws])
    result = fs.efron_curvature(case.model, case.x, v, per_input=True)
    total = fs.efron_curvature(case.model, case.x, v)
    for position, name in enumerate(("nu_20", "nu_11", "nu_02")):
        scale = float(np.max(np.abs(expected)))
        assert result[name].dims == ("input", "direction")
        assert_close(result[name], expected[..., position], scale=scale)
        assert_close(total[name], expected[..., position].sum(axis=0), scale=scale)
    for found, (a, b, c) in ((result, np.moveaxis(expected, -1, 0)), (total, np.moveaxis(expected.sum(axis=0), -1, 0))):
        squared = (a * c - b**2) / a**3
        # The form of the definition is right to the rounding of a c.
        np.testing.assert_allclose(found["curvature_squared"], squared, rtol=1e-8, atol=float(np.max(1e-11 * c / a**2)) + 1e-24)
        assert (found["curvature_squared"] >= 0).all()


@per_case(SMALL)
def test_third_moments_of_the_score(case):
    v = directions_of(case)
    expected = 0.0
    for law in case.laws:
        scores = np.array([derivatives_along(law, one)[0] for one in v])
        expected = expected + np.einsum("k,ak,bk,ck->abc", law.probabilities, scores, scores, scores) / case.n_inputs
    found = fs.amari_chentsov(case.model, case.x, v)
    assert found.dims == ("direction", "direction2", "direction3")
    sizes = [np.sqrt(np.mean([moments(law, one)[0] for law in case.laws])) for one in v]
    assert_close(found, expected, scale=float(max(sizes) ** 3), rtol=1e-9)
    for axes in itertools.permutations(range(3)):
        np.testing.assert_array_equal(found.values, found.values.transpose(axes))
    if case.family == "gaussian":
        assert (found == 0).all()


# Second derivatives along a direction

LINKED = {
    "gaussian": fs.families.Gaussian(2),
    "exponential": fs.families.Exponential(2),
    "mean and variance": fs.families.GaussianMeanVariance(),
}


@pytest.mark.parametrize("family", LINKED.values(), ids=LINKED)
def test_second_directional(family):
    model = fs.MLP.random([3, 4, 3, 2], activation=["tanh", "softplus"], family=family, rng=2)
    rng = np.random.default_rng(3)
    x, v = rng.normal(size=(5, 3)), rng.normal(size=model.n_params)
    forward = derivatives.forward(model, x, 2)
    found = derivatives.second_directional(model, forward, v)
    # From the dense Hessians.
    G = derivatives.jacobians(model, forward)
    every = np.broadcast_to(np.eye(2), (5, 2, 2))
    parts = [v[one].reshape(w.shape) for one, w in zip(model.layer_slices(), model.weights, strict=True)]
    blocks = derivatives.hessian_blocks(model, forward, G, every)
    dense = covariance_tensors.dense_hessians(blocks, forward.inputs, model.layer_slices())
    np.testing.assert_allclose(found, np.einsum("naij,i,j->na", dense, v, v), rtol=1e-11, atol=1e-12)

    # As a five-point second difference of the natural parameters.
    def natural(step):
        weights = [w + step * part for w, part in zip(model.weights, parts, strict=True)]
        return derivatives.forward(fs.MLP(weights, activation=model.activations, family=family), x).natural

    e = 1e-3
    difference = (-natural(2 * e) + 16 * natural(e) - 30 * natural(0.0) + 16 * natural(-e) - natural(-2 * e)) / (12 * e * e)
    np.testing.assert_allclose(found, difference, rtol=1e-5, atol=1e-6 * np.abs(found).max())


# What is exactly zero, and what nearly is

MODEL = fs.MLP.random([2, 3, 3], activation="tanh", family=fs.families.Categorical(3), rng=1)
X = np.random.default_rng(4).normal(size=(4, 2))


def test_the_last_layer_is_flat():
    v = np.zeros((2, MODEL.n_params))
    v[:, MODEL.layer_slices()[-1]] = np.random.default_rng(0).normal(size=(2, 12))
    for per_input in (True, False):
        result = fs.efron_curvature(MODEL, X, v, per_input=per_input)
        assert (result["curvature_squared"] == 0).all()
        assert (result["nu_02"] == 0).all()
        assert (result["nu_20"] > 0).all()


def test_one_output_is_flat_at_each_input_and_curved_over_several():
    model = fs.MLP.random([2, 3, 1], activation="tanh", family=fs.families.Poisson(), rng=1)
    v = np.random.default_rng(0).normal(size=(2, model.n_params))
    assert (fs.efron_curvature(model, X, v, per_input=True)["curvature_squared"] == 0).all()
    assert (fs.efron_curvature(model, X, v)["curvature_squared"] > 0).all()


def test_curvature_does_not_depend_on_the_length_of_a_direction():
    v = np.random.default_rng(0).normal(size=MODEL.n_params)
    short, long = (fs.efron_curvature(MODEL, X, c * v)["curvature_squared"] for c in (1e-3, 1e3))
    np.testing.assert_allclose(short, long, rtol=1e-10)


def test_directions_that_move_nothing():
    """A common shift of all logits: no velocity, no acceleration, no curvature."""
    v = np.zeros(MODEL.n_params)
    v[MODEL.layer_slices()[-1]] = np.tile([0.0, 0.0, 0.0, 1.0], 3)
    result = fs.efron_curvature(MODEL, X, v)
    assert result["nu_20"].item() == 0
    assert result["curvature_squared"].item() == 0


def test_a_nearly_straight_curve():
    """h = (tanh(a w), w) along w at w0: curvature of order a, where the printed form has nothing left but rounding."""
    slope = 1e-6
    weights = [[[slope, 0.0], [1.0, 0.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    model = fs.MLP(weights, activation="softplus", family=fs.families.Gaussian(2))
    v = np.zeros(model.n_params)
    v[0], v[2] = slope, 1.0
    result = fs.efron_curvature(model, [[1.0]], v)
    with mpmath.workdps(60):
        sigmoid = [1 / (1 + mpmath.exp(-mpmath.mpf(a))) for a in (slope, 1.0)]
        speeds = [mpmath.mpf(slope), mpmath.mpf(1)]
        first = [s * c for s, c in zip(sigmoid, speeds, strict=True)]
        second = [s * (1 - s) * c**2 for s, c in zip(sigmoid, speeds, strict=True)]
        numerator = (first[0] * second[1] - first[1] * second[0]) ** 2
        expected = float(numerator / (first[0] ** 2 + first[1] ** 2) ** 3)
    np.testing.assert_allclose(result["curvature_squared"].item(), expected, rtol=1e-9)


@refused(
    [
        (
            lambda: fs.efron_curvature(MODEL, X, [1.0]),
            ValueError,
            "`directions` must have shape (21,) or (k, 21), one number per parameter, got shape (1,).",
        ),
        (lambda: fs.amari_chentsov(MODEL, X, np.zeros((0, 21))), ValueError, "`directions` must have shape (21,) or (k, 21)"),
        (lambda: fs.amari_chentsov(MODEL, X, np.full(21, np.nan)), ValueError, "`directions` must be finite, got nan"),
        (
            lambda: fs.efron_curvature(
                fs.MLP([[[1.0, 0.0]], [[1.0, 0.0]]], activation="relu", family=fs.families.Poisson()), [[0.0]], np.ones(4)
            ),
            fs.AssumptionError,
            "Second derivatives need the network to be twice differentiable",
        ),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()
