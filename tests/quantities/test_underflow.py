"""Standard errors and variances of fourth order in tiny inputs and derivatives: the right value or a refusal, never 0."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from tests.refusals import pattern

F = fs.families
X = np.random.default_rng(3).normal(size=(7, 3))
KINDS = ("score", "hessian", "hutchinson_gaussian", "hutchinson_rademacher")
FAMILIES = [
    F.Gaussian(2),
    F.Poisson(),
    F.Exponential(),
    F.Categorical(3),
    F.Bernoulli(2),
    F.Product([F.Categorical(3), F.Poisson()]),
]
REFUSED = pattern("`x` must give variances within the range of float64, but that of the") + ".*underflows at parameter"


def network(family, hidden, exponent=0):
    """A network whose outputs are the same for x with the first column times 2^exponent."""
    made = fs.MLP.random([3, *hidden, family.n_outputs], activation="tanh" if hidden else [], family=family, rng=2)
    weights = [one.copy() for one in made.weights]
    weights[0][:, 0] = np.ldexp(weights[0][:, 0], -exponent)
    return fs.MLP(weights, activation=made.activations, family=family)


def inputs(exponent):
    x = X.copy()
    x[:, 0] = np.ldexp(x[:, 0], exponent)
    return x


@pytest.mark.parametrize("per_input", [False, True])
@pytest.mark.parametrize("hidden", [(), (2,)])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_errors_of_tiny_inputs_are_scaled(family, hidden, per_input):
    """A column in units of 2^-300 has the estimates and the errors of the same column in other units."""
    asked = {"estimator": KINDS, "n_draws": 3, "rng": 0, "per_input": per_input}
    wanted = fs.estimate_fisher(network(family, hidden), X, **asked)
    found = fs.estimate_fisher(network(family, hidden, -300), inputs(-300), **asked)
    units = np.zeros(wanted.sizes["param"], int)
    units[: network(family, hidden).weights[0].size : 4] = -600
    assert ((wanted.standard_error == 0) == (found.standard_error == 0)).all()
    np.testing.assert_allclose(np.ldexp(found.standard_error.values, -units), wanted.standard_error, rtol=1e-12)
    model, tiny = network(family, hidden, -300), inputs(-300)
    for call in (
        lambda: fs.estimator_variance(model, tiny, design="random"),
        lambda: fs.estimate_fisher(model, tiny, estimator="score", n_draws=2, rng=0, design="random"),
        lambda: fs.estimate_fisher(model, tiny, estimator="score", n_draws=2, rng=0, view="full", standard_error=True),
    ):
        with pytest.raises(ValueError, match=REFUSED):
            call()


def test_heads_of_very_different_size():
    """Errors of a Gaussian head of variance s: sqrt(2 / n) h^2 / s for inputs of one size."""
    for exponent in (-490, -266, 266, 490):
        family = F.Gaussian(2, covariance=np.diag([1.0, 2.0**exponent]))
        model = fs.MLP([[[0.3, 0.1], [0.2, 0.4]]], activation=[], family=family)
        x = np.array([[1.0], [-1.0], [1.0]])
        found = fs.estimate_fisher(model, x, estimator="score", n_draws=5, rng=0)
        right = np.sqrt(2 / 15) * np.ldexp(1.0, np.array([0, 0, -exponent, -exponent]))
        np.testing.assert_allclose(found.standard_error, right, rtol=1e-13)


def test_a_factor_that_underflows_beside_large_inputs():
    """h^4 = 2^1000 beside a derivative whose fourth power is 2^-1120: a variance of 2^-120 of what it is without both."""
    plain = fs.MLP([[[0.5, 0.2]], [[1.0, 0.3]]], activation="identity", family=F.Gaussian())
    scaled = fs.MLP([[[np.ldexp(0.5, -250), 0.2]], [[2.0**-280, 0.3]]], activation="identity", family=F.Gaussian())
    x = np.array([[1.0], [-1.5]])
    wanted = fs.estimate_fisher(plain, x, estimator="score", n_draws=2, rng=0).standard_error
    found = fs.estimate_fisher(scaled, np.ldexp(x, 250), estimator="score", n_draws=2, rng=0).standard_error
    np.testing.assert_allclose(np.ldexp(found[:2].values, [60, 560]), wanted[:2], rtol=1e-13)


def test_zeros_of_theory_stay():
    relu = fs.MLP([[[1.0, 0.5], [-1.0, -9.0]], [[2.0, 1.0, 0.0]]], activation="relu", family=F.Gaussian())
    x = np.array([[0.5], [1.5]])
    found = fs.estimator_variance(relu, x)
    assert (found.variance[1] == 0).all()
    np.testing.assert_array_equal(found.variance[0] > 0, [True, True, False, False, True, False, True])
    assert fs.variance_bounds(relu, x).exact[0, 2] == 0
    zero = np.column_stack([np.zeros(7), X[:, 1:]])
    for family in FAMILIES:
        model = network(family, (2,))
        assert (fs.estimator_variance(model, zero).variance[:, :6:4] == 0).all()
        estimate = fs.estimate_fisher(model, zero, estimator=KINDS, n_draws=2, rng=0)
        assert (estimate.standard_error[:, 0] == 0).all()
    half = fs.MLP([[[0.0, 0.0]]], activation=[], family=F.Bernoulli())  # (t - 1/2)^2 is 1/4 for either label
    for scale in (1.0, 2.0**-300):
        tiny = fs.estimate_fisher(half, x * scale, estimator="score", n_draws=2, rng=0)
        assert (tiny.standard_error == 0).all()
        assert (tiny > 0).all()
        assert (fs.estimator_variance(half, x * scale).variance == 0).all()
