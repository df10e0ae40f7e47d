"""Relative natural gradient steps, neuron by neuron, with metrics summed over the responses of each neuron."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from fisherstats.core.errors import SizeError
from tests.training.test_natural import batch_of, step

F = fs.families
RNG = np.random.default_rng(8)
X = RNG.normal(size=(6, 3))


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def binary(probability, slope):
    """Information of a binary response about a: the score squared, summed over its two values."""
    return sum(p * (s * slope / p) ** 2 for p, s in ((probability, 1), (1 - probability, -1)))


RESPONSES = {
    "tanh": lambda a: binary((1 + math.tanh(a)) / 2, (1 - math.tanh(a) ** 2) / 2),
    "sigmoid": lambda a: binary(sigmoid(a), sigmoid(a) * (1 - sigmoid(a))),
    "relu": lambda a: float(a > 0),
    "elu": lambda a: 1.0 if a > 0 else math.exp(a) ** 2,
    "softplus": lambda a: sigmoid(a) ** 2,
}
VALUES = {
    "tanh": math.tanh,
    "sigmoid": sigmoid,
    "relu": lambda a: max(a, 0.0),
    "elu": lambda a: a if a > 0 else math.exp(a) - 1,
    "softplus": lambda a: math.log1p(math.exp(a)),
}


def categorical(h):
    """Each output's own entry of the information, summed over the classes."""
    p = np.exp(h) / np.exp(h).sum()
    return [sum(p[y] * ((y == a) - p[a]) ** 2 for y in range(len(p))) for a in range(len(p))]


FAMILIES = {
    "categorical": (F.Categorical(3), categorical, lambda n: RNG.integers(0, 3, n)),
    "poisson": (F.Poisson(3), np.exp, lambda n: RNG.poisson(1.0, (n, 3))),
    "gaussian": (F.Gaussian(3), lambda h: [1.0] * 3, lambda n: RNG.normal(size=(n, 3))),
    # The rate is minus the natural parameter, h = -exp(z): I(h) = 1 / h^2 times (dh/dz)^2 = h^2.
    "exponential": (F.Exponential(3), lambda h: [1.0] * 3, lambda n: RNG.exponential(size=(n, 3))),
}


def expected_step(model, x, activations, outputs, gradient, rate, damping):
    metrics = [np.zeros((*weight.shape, weight.shape[1])) for weight in model.weights]
    for one in x:
        h = list(one)
        for layer, weight in enumerate(model.weights):
            h_bar = np.array([*h, 1.0])
            a = weight @ h_bar
            if layer < len(activations):
                nu = [RESPONSES[activations[layer]](value) for value in a]
                h = [VALUES[activations[layer]](value) for value in a]
            else:
                nu = outputs(a)
            for unit in range(len(a)):
                metrics[layer][unit] += nu[unit] * np.outer(h_bar, h_bar) / len(x)
    change = []
    start = 0
    for weight, metric in zip(model.weights, metrics, strict=True):
        for unit in range(len(weight)):
            own = gradient[start : start + weight.shape[1]]
            change.append(-rate * np.linalg.solve(metric[unit] + damping * np.eye(len(own)), own))
            start += len(own)
    return np.concatenate(change)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activations", [["tanh", "relu"], ["sigmoid", "elu"], ["softplus"]], ids="-".join)
@pytest.mark.parametrize("n_inputs", [2, 5, 6])
def test_steps_are_those_of_each_neuron_alone(family, activations, n_inputs):
    law, outputs, draw = FAMILIES[family]
    widths = [3, *[5] * len(activations), 3]
    model = fs.MLP.random(widths, activation=activations, family=law, rng=1)
    if law.link is not None:
        probe = law.link.evaluate(np.array([[0.3] * 3]), 1)
        np.testing.assert_allclose(np.abs(probe[1] / probe[0]), 1)
    gradient = np.random.default_rng(2).normal(size=model.n_params)
    x, y = X[:n_inputs], draw(n_inputs)
    change = step(training.RelativeNaturalGradient(0.3, damping=0.02), model, y, gradient, x=x)
    expected = expected_step(model, x, activations, outputs, gradient, 0.3, 0.02)
    np.testing.assert_allclose(change, expected, rtol=1e-10, atol=1e-11)


def test_a_neuron_alone_is_its_own_natural_gradient():
    """With one binary output and no hidden layer the relative metric is the information."""
    model = fs.MLP.random([3, 1], activation=[], family=F.Bernoulli(), rng=1)
    gradient = RNG.normal(size=4)
    y = RNG.integers(0, 2, 6)
    relative = step(training.RelativeNaturalGradient(0.3, damping=0), model, y, gradient, x=X)
    natural = step(training.NaturalGradient(0.3, damping=0), model, y, gradient, x=X)
    np.testing.assert_allclose(relative, natural, rtol=1e-11)


def test_many_outputs_and_inputs_are_taken_in_pieces(monkeypatch):
    model = fs.MLP.random([3, 4, 3], activation="tanh", family=F.Categorical(3), rng=1)
    gradient, y = RNG.normal(size=model.n_params), RNG.integers(0, 3, 6)
    whole = step(training.RelativeNaturalGradient(0.3, damping=0.1), model, y, gradient, x=X)
    monkeypatch.setattr("fisherstats.training.relative._TILE", 1)
    np.testing.assert_allclose(
        step(training.RelativeNaturalGradient(0.3, damping=0.1), model, y, gradient, x=X), whole, rtol=1e-14
    )


def test_inverses_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr("fisherstats.core.validation.capacity.available_bytes", lambda needed=0: 1000)
    model = fs.MLP.random([3, 4, 1], activation="tanh", family=F.Bernoulli(), rng=1)
    with pytest.raises(SizeError, match=r"`RelativeNaturalGradient` needs .* use batches smaller than the layers"):
        step(training.RelativeNaturalGradient(0.3), model, RNG.integers(0, 2, 6), np.ones(model.n_params), x=X)


def test_inverses_serve_for_as_many_steps_as_asked():
    model = fs.MLP.random([3, 4, 1], activation="tanh", family=F.Bernoulli(), rng=1)
    gradient, y = RNG.normal(size=model.n_params), RNG.integers(0, 2, 6)
    batch = batch_of(model, y, x=X)
    steps = training.RelativeNaturalGradient(0.3, damping=0.1, update_every=2).start(batch.model)
    changes = []
    for number in range(3):
        numbered = training.Batch(batch.model, batch.data, batch.rows, number, batch.rng)
        changes.append(np.array(steps.step(gradient, numbered)))
        batch.model.parameters[:] *= 1.2
    np.testing.assert_array_equal(changes[0], changes[1])
    assert not np.allclose(changes[0], changes[2], rtol=1e-3)
