"""The gradient that a step is given, for every kind of family: finite differences of the mean negative log-likelihood."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.training.likelihood import Labelled
from fisherstats.training.network import Trainee, layer_views
from tests.training import peers

FAMILIES = {
    "categorical": (fs.families.Categorical(3), [0, 2, 1, 1, 0]),
    "minimal categorical": (fs.families.Categorical(3, minimal=True), [0, 2, 1, 1, 0]),
    "bernoulli": (fs.families.Bernoulli(2), [[0, 1], [1, 1], [0, 0], [1, 0], [1, 1]]),
    "binomial": (fs.families.Binomial(5), [0, 5, 2, 3, 1]),
    "poisson": (fs.families.Poisson(2), [[0, 3], [2, 2], [1, 0], [4, 1], [2, 7]]),
    "gaussian": (fs.families.Gaussian(2, covariance=[[2.0, 0.5], [0.5, 1.0]]), np.linspace(-2, 3, 10).reshape(5, 2)),
    "mean and variance": (fs.families.GaussianMeanVariance(), [0.3, -1.0, 2.0, 0.0, 1.5]),
    "gamma, linked": (fs.families.Gamma(2.5), [0.3, 1.0, 2.0, 0.1, 1.5]),
    "exponential, linked": (fs.families.Exponential(2), [[0.3, 1.0], [2.0, 0.1], [1.5, 1.0], [0.2, 0.7], [3.0, 0.4]]),
    "inverse gaussian, linked": (fs.families.InverseGaussian(1.5), [0.3, 1.0, 2.0, 0.1, 1.5]),
    "negative binomial, linked": (fs.families.NegativeBinomial(3), [0, 2, 5, 1, 1]),
    "product": (
        fs.families.Product([fs.families.Poisson(), fs.families.Gamma(1.5)]),
        [[0, 0.3], [1, 1.0], [4, 2.0], [2, 0.1], [1, 1.5]],
    ),
}


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_the_derivative_of_the_mean_negative_log_likelihood(name, activation):
    family, y = FAMILIES[name]
    model = fs.MLP.random([3, 4, 3, family.n_outputs], activation=activation, family=family, rng=1)
    x = np.random.default_rng(0).normal(size=(5, 3))
    data = Labelled(x, family.check_labels(y, 5), np.dtype(float), 1)
    rows = np.array([4, 0, 2])
    (found, _), gradient, _ = data.gradient(model, rows)
    theta = np.concatenate([weight.ravel() for weight in model.weights])

    def loss(vector):
        return peers.loss(layer_views(model, vector), model, x[rows], data.y[rows])

    step = 1e-3
    directions = np.eye(len(theta)) * step
    # Richardson: the error of the central difference of the 4th order is about 1e-13.
    expected = [
        (8 * (loss(theta + d) - loss(theta - d)) - (loss(theta + 2 * d) - loss(theta - 2 * d))) / (12 * step) for d in directions
    ]
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found, loss(theta), rtol=1e-14)


@pytest.mark.parametrize(
    ("width", "size"),
    # Products of the wide ones are shared.
    [(6, 1), (6, 256), (6, 257), (6, 600), (6, 5000), (900, 1), (900, 129), (900, 600)],
)
def test_blocks_add_up_and_threads_change_no_bit(width, size):
    model = fs.MLP.random([width, width // 10 + 5, 3], activation="sigmoid", family=fs.families.Categorical(3), rng=0)
    rng = np.random.default_rng(0)
    x, y, rows = rng.normal(size=(300, width)), rng.integers(0, 3, 300), rng.integers(0, 300, size)
    data = Labelled(x, y, np.dtype(float), 1)
    found = []
    for threads in (1, 2, 5):
        found.append(dataclasses.replace(data, num_threads=threads).gradient(model, rows))
    assert all(np.array_equal(one, first) for pair in found for one, first in zip(pair, found[0], strict=True))
    single = np.mean([data.gradient(model, np.array([row]))[1] for row in rows], axis=0)
    np.testing.assert_allclose(found[0][1], single, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(found[0][2], single @ single, rtol=1e-11)


def test_accuracy_counts_right_classes_and_binary_outputs():
    x = np.array([[1.0], [-1.0], [2.0], [-3.0]])
    binary = fs.MLP([[[1.0, 0.0], [-1.0, 0.0]]], activation=[], family=fs.families.Bernoulli(2))
    fit = Labelled(x, np.array([[1, 0], [1, 0], [1, 1], [0, 1.0]]), np.dtype(float), 1).fit(binary)
    assert fit.accuracy == (1 + 0 + 0.5 + 1) / 4
    minimal = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Categorical(2, minimal=True))
    assert Labelled(x, np.array([0, 1, 1, 1]), np.dtype(float), 1).fit(minimal).accuracy == 0.75
    counts = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
    assert np.isnan(Labelled(x, np.ones((4, 1)), np.dtype(float), 1).fit(counts).accuracy)


def test_a_trainee_is_a_network_whose_weights_follow_the_vector():
    model = fs.MLP.random([2, 3, 1], activation="tanh", family=fs.families.Bernoulli(), rng=0)
    trainee = Trainee(model)
    before = trainee.fingerprint
    assert before == model.fingerprint
    trainee.parameters[:] *= 2
    assert trainee.fingerprint != before
    assert all(np.array_equal(ours, 2 * theirs) for ours, theirs in zip(trainee.weights, model.weights, strict=True))
    assert type(trainee.frozen()) is fs.MLP
    trainee.parameters[:] = 0
    assert model.fingerprint == before
