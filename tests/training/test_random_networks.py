"""Steps on random networks of every activation and many families, against dense matrices from index loops."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from tests import naive
from tests.naive_network import ACTIVATIONS
from tests.training.test_natural import step

F = fs.families
RATE = 0.37


def labels(family, rng, n):
    return {
        "Categorical": lambda: rng.integers(0, family.n_outputs, n),
        "Bernoulli": lambda: rng.integers(0, 2, (n, family.n_outputs)),
        "Poisson": lambda: rng.poisson(1.0, (n, family.n_outputs)),
        "Gaussian": lambda: rng.normal(size=(n, family.n_outputs)),
        "Gamma": lambda: rng.gamma(2.0, size=(n, 1)),
        "NegativeBinomial": lambda: rng.poisson(1.0, (n, 1)),
    }[type(family).__name__]()


class Situation:
    """A random network, inputs, a gradient and a damping, with what index loops say of its information."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        families = [
            F.Categorical(4),
            F.Bernoulli(3),
            F.Poisson(2),
            F.Gaussian(2, covariance=[[1.0, 0.4], [0.4, 0.5]]),
            F.Gamma(2.0),
            F.NegativeBinomial(3),
        ]
        self.family = families[seed % len(families)]
        depth = int(rng.integers(0, 5))
        widths = [int(rng.integers(1, 8)) for _ in range(depth + 1)]
        self.activations = [sorted(ACTIVATIONS)[(seed + 5 * layer) % len(ACTIVATIONS)] for layer in range(depth)]
        self.model = fs.MLP.random(
            [*widths, self.family.n_outputs], activation=self.activations, family=self.family, rng=int(rng.integers(2**31))
        )
        self.x = rng.normal(size=(int(rng.integers(1, 30)), widths[0]))
        self.y = labels(self.family, rng, len(self.x))
        self.gradient = rng.normal(size=self.model.n_params)
        self.damping = float(10 ** rng.uniform(-2, 0))
        self.plain = naive.Network.named(self.model.weights, self.activations)
        self.middles = fs.output_information(self.model, self.x).values

    def matrix(self):
        """The mean of J' I J, with J by the output of the network from index loops."""
        jacobians = [naive.jacobian(self.plain, x) for x in self.x]
        return np.mean([J.T @ I @ J for J, I in zip(jacobians, self.middles, strict=True)], axis=0)

    def metrics(self):
        """The relative metric of every neuron, in the order of the parameters."""
        found = [np.zeros((*weight.shape, weight.shape[1])) for weight in self.model.weights]
        for x, I in zip(self.x, self.middles, strict=True):
            states, pre_activations = naive.forward(self.plain, x)
            for layer, state in enumerate(states[:-1]):
                h_bar = np.append(state, 1.0)
                for unit in range(len(found[layer])):
                    if layer == len(self.activations):
                        nu = I[unit, unit]
                    else:
                        name = self.activations[layer]
                        slope = ACTIVATIONS[name].first(pre_activations[layer][unit])
                        nu = slope if name in ("tanh", "sigmoid") else slope**2
                    found[layer][unit] += nu * np.outer(h_bar, h_bar) / len(self.x)
        return [metric for layer in found for metric in layer]

    def solved(self, matrix, part):
        return -RATE * np.linalg.solve(matrix + self.damping * np.eye(len(matrix)), self.gradient[part])

    def step(self, optimizer):
        return step(optimizer, self.model, self.y, self.gradient, x=self.x)


@pytest.mark.parametrize("seed", range(36))
def test_natural_gradient_steps(seed):
    here = Situation(seed)
    expected = here.solved(here.matrix(), slice(None))
    scale = {"rtol": 1e-8, "atol": 1e-10 * np.abs(expected).max()}
    for settings in ({}, {"solver": "cg", "tolerance": 1e-12}):
        np.testing.assert_allclose(here.step(training.NaturalGradient(RATE, damping=here.damping, **settings)), expected, **scale)


@pytest.mark.parametrize("seed", range(36))
def test_relative_natural_gradient_steps(seed):
    here = Situation(seed)
    found = here.step(training.RelativeNaturalGradient(RATE, damping=here.damping))
    start = 0
    for metric in here.metrics():
        own = slice(start, start + len(metric))
        expected = here.solved(metric, own)
        np.testing.assert_allclose(found[own], expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
        start += len(metric)
    assert start == here.model.n_params


def test_the_networks_differ():
    made = [Situation(seed) for seed in range(36)]
    used = {name for here in made for name in here.activations}
    assert used == set(ACTIVATIONS)
    rows = [len(here.x) * here.family.n_outputs < here.model.n_params for here in made]
    assert 8 < sum(rows) < 28  # both ways of solving
