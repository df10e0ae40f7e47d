"""Confidence intervals: what they are made of, and that they cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

import fisherstats as fs

X = np.array([[0.8, -1.1], [-0.3, 0.6], [0.2, 0.2]])


def model(family):
    return fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=4)


@pytest.mark.parametrize("estimator", ["score", "hessian", ("hessian", "score")])
@pytest.mark.parametrize("per_input", [False, True])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_they_are_the_estimate_and_its_closed_form_error(estimator, per_input, level):
    net = model(fs.families.Categorical(3))
    found = fs.confidence_intervals(net, X, estimator=estimator, n_draws=7, rng=3, level=level, per_input=per_input)
    estimate = fs.estimate_fisher(net, X, estimator=estimator, n_draws=7, rng=3, per_input=per_input)
    closed = fs.estimator_variance(net, X, n_draws=7, per_input=per_input)["variance"].sel(
        estimator=list(np.atleast_1d(estimator))
    )
    error = np.sqrt(closed.values if not isinstance(estimator, str) else closed.squeeze("estimator").values)
    assert found["estimate"].dims == estimate.dims
    np.testing.assert_array_equal(found["estimate"], estimate)
    np.testing.assert_allclose(found["standard_error"], error, rtol=1e-12)
    half = norm.ppf((1 + level) / 2) * error
    np.testing.assert_allclose(found["upper"], estimate.values + half, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found["lower"], estimate.values - half, rtol=1e-12, atol=1e-15)


def test_what_is_exact_has_an_interval_of_length_zero():
    net = fs.MLP.random([2, 3, 2], activation="relu", family=fs.families.Poisson(2), rng=0)
    found = fs.confidence_intervals(net, X, estimator="hessian", n_draws=3, rng=0)
    np.testing.assert_array_equal(found["lower"], found["upper"])
    np.testing.assert_allclose(found["estimate"], fs.fisher_information(net, X), rtol=1e-13)


def test_they_cover():
    """2,000 replicates of 1,000 draws, coverage within 4.5 binomial standard errors of 0.9 plus what skewness moves (0.5 %)."""
    net, replicates = model(fs.families.Gaussian(2)), 2000
    exact = fs.fisher_information(net, X[:1]).values
    found = fs.confidence_intervals(
        net, np.tile(X[:1], (replicates, 1)), estimator="score", n_draws=1000, rng=5, level=0.9, per_input=True
    )
    inside = ((found["lower"] <= exact) & (exact <= found["upper"])).mean("input").values
    slack = 4.5 * np.sqrt(0.09 / replicates) + 0.005
    assert np.all(np.abs(inside - 0.9) < slack)
    # Power: intervals of level 0.8 or 0.97 would be noticed.
    for wrong in (0.8, 0.97):
        missed = binom.cdf([(0.9 + slack) * replicates, (0.9 - slack) * replicates], replicates, wrong)
        assert missed[0] - missed[1] < 1e-3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"level": 1.0}, "level"),
        ({"level": "0.9"}, "level"),
        ({"view": "block"}, "view"),
        ({"estimator": "empirical"}, "estimator"),
        ({"n_draws": 0}, "n_draws"),
    ],
)
def test_what_is_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        fs.confidence_intervals(model(fs.families.Bernoulli()), X, **{"estimator": "score", "n_draws": 1, "rng": 0, **arguments})
