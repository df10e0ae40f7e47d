"""Labels of an input depend on the seed and the input's number: inputs that follow change none of them, whatever is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.models import derivatives
from fisherstats.theory import sampling

F = fs.families
FAMILIES = [
    F.Gaussian(2),
    F.Gaussian(2, covariance=[[2.0, 0.5], [0.5, 1.0]]),
    F.GaussianMeanVariance(),
    F.Bernoulli(1),
    F.Bernoulli(3),
    F.Binomial(7),
    F.Binomial(100, 2),
    F.Binomial(2**44, 2),
    F.Categorical(4),
    F.Categorical(4, minimal=True),
    F.Multinomial(1, 3),
    F.Multinomial(50, 3),
    F.Multinomial(7, 3, minimal=True),
    F.Poisson(1),
    F.Poisson(3),
    F.NegativeBinomial(2.5, 2),
    F.Geometric(2),
    F.Exponential(2),
    F.Gamma(0.4, 2),
    F.Gamma(1e20, 2),
    F.GammaShapeRate(),
    F.InverseGaussian(2.0, 2),
    F.Laplace(0.0, 2),
    F.Weibull(1.5, 2),
    F.Dirichlet(3),
    F.Product([F.Poisson(2)]),
    F.Product([F.Categorical(3), F.Poisson()]),
    F.Product([F.Poisson(), F.Gamma(0.5)]),
    F.Product([F.Gaussian(2), F.NegativeBinomial(3.0)]),
    F.Product([F.Dirichlet(3), F.Multinomial(5, 3)]),
    F.Product([F.Product([F.Poisson(2), F.Bernoulli(2)]), F.Exponential()]),
]
families = pytest.mark.parametrize("family", FAMILIES, ids=repr)

INPUTS, KEPT = 40, (1, 5, 20, 33)
"""More than two groups of 16 inputs that share a stream, and prefixes that end within groups."""


def network(family: Any) -> fs.MLP:
    return fs.MLP.random([3, 4, family.n_outputs], activation="tanh", family=family, rng=2)


def inputs() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(INPUTS, 3))


@families
@pytest.mark.parametrize("n_draws", [1, 3, 25])
def test_draws_of_the_estimators(family: Any, n_draws: int) -> None:
    h = derivatives.forward(network(family), inputs(), 1).natural
    seed = np.random.SeedSequence(4)
    for second_moment in (False, True):
        every = sampling.draw(family, family.at(h), seed, 0, n_draws, second_moment)
        for kept in KEPT:
            alone = sampling.draw(family, family.at(h[:kept]), seed, 0, n_draws, second_moment)
            np.testing.assert_array_equal(alone.mean, every.mean[:kept])
            if alone.second is not None and every.second is not None:
                np.testing.assert_array_equal(alone.second.own_rows(), every.second.own_rows()[:kept])


@families
@pytest.mark.parametrize("n_draws", [1, 7])
def test_residuals_of_single_labels(family: Any, n_draws: int) -> None:
    h = derivatives.forward(network(family), inputs(), 1).natural
    every = sampling.residuals(family, family.at(h), np.random.SeedSequence(4), 0, n_draws)
    for kept in KEPT:
        alone = sampling.residuals(family, family.at(h[:kept]), np.random.SeedSequence(4), 0, n_draws)
        np.testing.assert_array_equal(alone, every[:kept])


def estimates(estimator: str) -> Callable[[fs.MLP, np.ndarray], Any]:
    def call(model: fs.MLP, x: np.ndarray) -> Any:
        return fs.estimate_fisher(model, x, estimator=estimator, n_draws=3, rng=5, per_input=True, standard_error=False)

    return call


def intervals(model: fs.MLP, x: np.ndarray) -> Any:
    found = fs.confidence_intervals(model, x, estimator=("score", "hessian"), n_draws=3, rng=5, per_input=True)
    return found["estimate"].transpose("input", ...)


def hidden(model: fs.MLP, x: np.ndarray) -> Any:
    return fs.hidden_information(model, x, layer=1, estimator="score", n_draws=3, rng=5)


def lengths(model: fs.MLP, x: np.ndarray) -> Any:
    return fs.applications.expected_gradient_length(model, x, score="norm", n_draws=3, rng=5)["norm"]


DRAWING = {
    "score": estimates("score"),
    "hessian": estimates("hessian"),
    "hutchinson_gaussian": estimates("hutchinson_gaussian"),
    "hutchinson_rademacher": estimates("hutchinson_rademacher"),
    "confidence_intervals": intervals,
    "hidden_information": hidden,
    "expected_gradient_length": lengths,
}


@families
@pytest.mark.parametrize("name", DRAWING)
def test_every_function_that_draws_per_input(family: Any, name: str) -> None:
    """Up to rounding: a block of other inputs is another matrix product."""
    model, x = network(family), inputs()
    every = np.asarray(DRAWING[name](model, x))
    for kept in (5, 20):
        alone = np.asarray(DRAWING[name](model, x[:kept]))
        scale = np.abs(every[:kept]).max() + 1e-300
        np.testing.assert_allclose(alone / scale, every[:kept] / scale, rtol=0, atol=1e-12)


def test_a_sampler_that_shares_a_stream_is_caught() -> None:
    """Power: all labels of a block from one stream, draw by draw, as a rejection sampler does it."""
    h = np.full((INPUTS, 1), 3.0)
    every = F.Poisson().sample(h, 1, 3)
    assert (every[:, :5] != F.Poisson().sample(h[:5], 1, 3)).any()


def test_a_chosen_batch_by_chance_is_the_start_of_one_order() -> None:
    model, x = network(F.Poisson()), inputs()
    scores = fs.applications.select_batch(model, x, INPUTS, score="random", rng=6)
    value = dict(zip(scores["position"].values.tolist(), scores["score"].values.tolist(), strict=True))
    alone = fs.applications.select_batch(model, x[:5], 5, score="random", rng=6)
    for position, score in zip(alone["position"].values.tolist(), alone["score"].values.tolist(), strict=True):
        assert value[position] == score
