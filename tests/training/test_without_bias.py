"""Training of networks with layers without bias: the steps of the network with biases of 0, and no parameter besides."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from fisherstats.training.likelihood import Labelled
from fisherstats.training.network import Trainee
from tests.without_bias import CASES, Pair

F = fs.families
OPTIMIZERS = {
    "sgd": training.SGD(0.05, momentum=0.9),
    "adam": training.Adam(0.01),
    "diagonal": training.DiagonalNaturalGradient(0.1, damping=0.1),
    "kronecker": training.KroneckerNaturalGradient(0.1, damping=0.1),
    "natural": training.NaturalGradient(0.1, damping=0.1),
    "relative": training.RelativeNaturalGradient(0.1, damping=0.1),
    "hessian": training.NaturalGradient(0.1, information="hessian", n_draws=3, damping=30.0),
    "score": training.KroneckerNaturalGradient(0.1, information="score", n_draws=3, damping=1.0),
}
PENALTIES = [
    training.Frobenius(0.1),
    training.Frobenius(0.1, biases=True),
    training.GroupWise(0.05),
    training.GroupWise(0.05, by="feature"),
    training.Spectral(0.1),
    training.SpectralProjection(0.5),
]


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    pair = Pair.named(name)
    rows = np.arange(len(pair.x))

    def gradient(model: fs.MLP) -> np.ndarray:
        data = Labelled(pair.x, model.family.check_labels(pair.y, len(pair.x)), model.dtype, 1)
        return data.gradient(Trainee(model), rows)[1]

    found = gradient(pair.bare)
    assert len(found) == pair.bare.n_params
    np.testing.assert_allclose(found, gradient(pair.zero)[pair.kept], rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
@pytest.mark.parametrize("name", CASES)
def test_one_step_under_a_penalty(name, penalty):
    pair = Pair.named(name)
    settings = {"optimizer": training.SGD(0.05), "epochs": 1, "batch_size": len(pair.x), "rng": 0, "penalty": penalty}
    found, wide = (training.fit(one, pair.x, pair.y, **settings) for one in (pair.bare, pair.zero))
    assert found.model.bias == pair.bare.bias
    assert found.model.n_params == pair.bare.n_params
    np.testing.assert_allclose(flat(found.model), flat(wide.model)[pair.kept], rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(found.history.loss, wide.history.loss, rtol=1e-11)


@pytest.mark.parametrize("optimizer", ["adam", "diagonal"])
@pytest.mark.parametrize("name", CASES)
def test_one_entrywise_step(name, optimizer):
    pair = Pair.named(name)
    settings = {"optimizer": OPTIMIZERS[optimizer], "epochs": 1, "batch_size": len(pair.x), "rng": 0}
    found, wide = (training.fit(one, pair.x, pair.y, **settings).model for one in (pair.bare, pair.zero))
    # Adam divides by the size of a gradient: where that is rounding, its sign is.
    np.testing.assert_allclose(flat(found), flat(wide)[pair.kept], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("n", [24, 700])
def test_a_column_of_ones_is_a_bias(optimizer, n):
    """Without a bias of the first layer and with a column of ones in x the parameters and all their steps are the same."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 3)), rng.integers(0, 3, n)
    biased = fs.MLP.random(
        [3, 4, 3, 3], activation=["tanh", "softplus"], family=F.Categorical(3), rng=1, bias=[True, False, True]
    )
    bare = fs.MLP(biased.weights, activation=biased.activations, family=biased.family, bias=[False, False, True])
    settings = {"optimizer": OPTIMIZERS[optimizer], "epochs": 2, "batch_size": 600 if n > 600 else 8, "rng": 3}
    wide = training.fit(biased, x, y, **settings)
    found = training.fit(bare, np.column_stack([x, np.ones(n)]), y, **settings)
    assert found.model.bias == (False, False, True)
    np.testing.assert_allclose(flat(found.model), flat(wide.model), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(found.history.loss, wide.history.loss, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_a_natural_step_solves_with_the_information_of_the_own_parameters(name):
    pair = Pair.named(name)
    full = fs.fisher_information(pair.bare, pair.x, view="full").values
    settings = {"epochs": 1, "batch_size": len(pair.x), "rng": 0}
    start = flat(pair.bare)
    gradient = start - flat(training.fit(pair.bare, pair.x, pair.y, optimizer=training.SGD(1.0), **settings).model)
    natural = training.NaturalGradient(1.0, damping=0.1, tolerance=1e-12)
    step = start - flat(training.fit(pair.bare, pair.x, pair.y, optimizer=natural, **settings).model)
    expected = np.linalg.solve(full + 0.1 * np.eye(len(full)), gradient)
    np.testing.assert_allclose(step, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("optimizer", ["adam", "natural", "kronecker", "hessian"])
def test_normalisation_with_a_last_layer_without_bias(optimizer):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 3)), rng.integers(0, 3, 32)
    model = fs.MLP.random([3, 4, 3], activation="tanh", family=F.Categorical(3), rng=1, bias=[True, False])
    settings = {"optimizer": OPTIMIZERS[optimizer], "epochs": 4, "batch_size": 32, "rng": 3}
    found = training.fit(model, x, y, normalization=training.BatchNormalization(), **settings)
    assert found.model.bias == (True, False)
    assert found.model.n_params == model.n_params
    assert found.history.loss[-1] < found.history.loss[0]


def test_the_gradient_with_normalisation():
    """One step on the shared parameters is that of the network with a last bias of 0."""
    pair = Pair.of(
        fs.MLP.random([3, 4, 3], activation="tanh", family=F.Categorical(3), rng=1, bias=[True, False]),
        np.random.default_rng(0).normal(size=(16, 3)),
    )
    settings = {"optimizer": training.SGD(0.1), "epochs": 1, "batch_size": 16, "rng": 3}
    settings["normalization"] = training.BatchNormalization()
    found, wide = (training.fit(one, pair.x, pair.y, **settings) for one in (pair.bare, pair.zero))
    np.testing.assert_allclose(flat(found.model), flat(wide.model)[pair.kept], rtol=1e-10, atol=1e-14)


def test_normalisation_of_a_hidden_layer_needs_its_bias():
    model = fs.MLP.random([3, 4, 3], activation="tanh", family=F.Categorical(3), rng=1, bias=[False, True])
    message = (
        r"`model` must have a bias in every hidden layer with `normalization`, .* `bias=\[False, True\]`; give layer 0 a bias"
    )
    with pytest.raises(ValueError, match=message):
        training.fit(
            model,
            np.ones((8, 3)),
            np.zeros(8, int),
            optimizer=training.SGD(0.1),
            epochs=1,
            batch_size=8,
            rng=0,
            normalization=training.BatchNormalization(),
        )


def test_a_regularisation_path_keeps_the_layers():
    pair = Pair.named("categorical, none", 24)
    path = fs.regularization_path(
        pair.bare,
        pair.x,
        pair.y,
        penalty=training.Frobenius,
        strengths=[0.0, 0.1],
        optimizer=training.Adam(0.01),
        epochs=1,
        batch_size=8,
        rng=0,
        on_kink="ignore",
    )
    assert path is not None


def flat(model: fs.MLP) -> np.ndarray:
    return np.concatenate([one.ravel() for one in model.weights])
