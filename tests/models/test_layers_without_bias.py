"""Construction of networks whose layers have no bias, and of the networks that they are turned into."""

from __future__ import annotations

import copy
import hashlib
import pickle
from typing import Any

import numpy as np
import pytest

import fisherstats as fs
from tests.without_bias import CASES, Pair

F = fs.families


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_zero_biases(name):
    pair = Pair.named(name)
    np.testing.assert_allclose(pair.bare.natural_parameters(pair.x), pair.zero.natural_parameters(pair.x), rtol=1e-13, atol=1e-15)
    assert pair.bare.n_params == pair.kept.sum() < pair.zero.n_params
    assert pair.bare.widths == pair.zero.widths
    for own, wide in zip(pair.bare.kernels, pair.zero.kernels, strict=True):
        assert np.array_equal(own, wide)
        assert not own.flags.writeable
    assert [part.stop - part.start for part in pair.bare.layer_slices()] == [one.size for one in pair.bare.weights]


def test_shapes_and_repr():
    model = fs.MLP.random([3, 4, 2], activation="tanh", family=F.Categorical(2), rng=0, bias=[False, True])
    assert [one.shape for one in model.weights] == [(4, 3), (2, 5)]
    assert model.bias == (False, True)
    assert repr(model) == (
        "MLP(3-4-2, activation=tanh, family=Categorical(n_classes=2, minimal=False), bias=[False, True], 22 parameters)"
    )
    plain = fs.MLP([[[1.0, 2.0]]], activation=[], family=F.Poisson(), bias=False)
    assert repr(plain) == "MLP(2-1, activation=none, family=Poisson(n_outputs=1), bias=False, 2 parameters)"
    assert fs.MLP([[[1.0, 2.0]]], activation=[], family=F.Poisson()).widths == (1, 1)
    # A single feature and no bias: one parameter.
    assert fs.MLP([[[1.0]]], activation=[], family=F.Poisson(), bias=False).n_params == 1


def test_random_weights_have_the_variance_of_their_inputs():
    model = fs.MLP.random([400, 500, 1], activation="tanh", family=F.Poisson(), rng=0, bias=[False, True])
    assert model.weights[0].std() == pytest.approx(1 / np.sqrt(400), rel=0.01)
    both = [fs.MLP.random([3, 2], activation=[], family=F.Poisson(2), rng=5, bias=bias) for bias in (True, [True])]
    assert both[0] == both[1] == fs.MLP.random([3, 2], activation=[], family=F.Poisson(2), rng=5)


def test_kernels_and_missing_biases():
    kernels = [np.ones((2, 3)), np.full((1, 2), 2.0)]
    model = fs.MLP.from_arrays(kernels, [None, [0.5]], activation="tanh", family=F.Poisson())
    assert model.bias == (False, True)
    assert [one.tolist() for one in model.weights] == [[[1, 1, 1]] * 2, [[2, 2, 0.5]]]
    assert fs.MLP.from_arrays(kernels, [None, None], activation="tanh", family=F.Poisson()).bias == (False, False)


def test_every_copy_keeps_the_layers():
    model = fs.MLP.random([2, 3, 2], activation="tanh", family=F.Poisson(2), rng=0, bias=[True, False]).named(["a", "b"])
    copies = [
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        model.with_weights(model.weights),
        model.named(["a", "b"]),
        model.as_dtype(np.dtype(np.float32)).as_dtype(np.dtype(np.float64)),
    ]
    for one in copies:
        assert one.bias == (True, False)
    assert all(one == model for one in copies[:4])
    assert model.in_double().fingerprint == model.fingerprint


def test_fingerprints():
    """Those of networks with biases are what they were; the same numbers without a bias are another network."""
    weights = [np.ones((1, 2)), np.ones((1, 2))]
    digest = hashlib.sha256()
    for matrix in weights:
        digest.update(repr(((1, 2), "<f8")).encode() + matrix.tobytes())
    digest.update(b"[('tanh', {})]{'name': 'gaussian', 'n_outputs': 1, 'covariance': 1.0}")
    given: tuple[dict[str, Any], ...] = ({}, {"bias": True}, {"bias": [True] * 2})
    made = [fs.MLP(weights, activation="tanh", family=F.Gaussian(), **more) for more in given]
    assert {one.fingerprint for one in made} == {digest.hexdigest()}
    first = fs.MLP(weights, activation="tanh", family=F.Gaussian(), bias=[False, True])
    assert first != made[0]
    assert first.widths == (2, 1, 1)


@pytest.mark.parametrize(
    ("weights", "bias", "error", "message"),
    [
        ([np.ones((2, 3))], "none", TypeError, r"`bias` must be True, False, or a list .* got 'none'\."),
        ([np.ones((2, 3))], [1], TypeError, r"`bias` must be True, False, or a list .* got \[1\]\."),
        ([np.ones((2, 3))], None, TypeError, r"`bias` must be True, False, or a list"),
        ([np.ones((2, 3))], [True, False], ValueError, r"`bias` must say of each of the 1 layers .* got 2 entries"),
        ([np.ones((2, 0))], False, ValueError, r"`weights\[0\]` must be a matrix of shape \(n_out, n_in\).* got shape \(2, 0\)"),
        ([np.ones(2)], False, ValueError, r"`weights\[0\]` must be a matrix of shape \(n_out, n_in\).* got shape \(2,\)"),
        (
            [np.ones((3, 2)), np.ones((2, 4))],
            False,
            ValueError,
            r"`weights\[1\]` .* n_in = 3, the outputs of weights\[0\], .* got shape \(2, 4\); .* `bias=True`",
        ),
        (
            [np.ones((3, 2)), np.ones((2, 3))],
            [False, True],
            ValueError,
            r"`weights\[1\]` must have 4 columns, .* `bias=False` for a layer that has none",
        ),
    ],
)
def test_refusals(weights, bias, error, message):
    with pytest.raises(error, match=message):
        fs.MLP(weights, activation="tanh", family=F.Gaussian(2), bias=bias)
