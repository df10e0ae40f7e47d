"""Positive definiteness of the Hessian estimate: its bound by enumeration, its probability over all label combinations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom, binomtest

import fisherstats as fs
from fisherstats.theory.definiteness import binomial_interval
from tests import naive
from tests.theory.cases import CASES, per_case

ONE_UNIT = fs.MLP([[[1.0, 0.3]], [[2.0, 0.2]]], activation="tanh", family=fs.families.Bernoulli())
X = np.array([[-1.5], [-0.5], [0.3], [0.8], [2.0], [0.1]])


@per_case([case for case in CASES if case.n_inputs < 100 and case.model.n_params < 60])
def test_eigenvalue_total_variance_and_sufficient_draws(case):
    found = fs.definiteness(case.model, case.x, n_draws=3, rng=0, n_replicates=1, delta=0.2)
    eigenvalues = np.linalg.eigvalsh(sum(law.information for law in case.laws) / case.n_inputs)
    total = sum(law.variance("hessian").sum() for law in case.laws) / case.n_inputs
    assert float(found["smallest_eigenvalue"]) == pytest.approx(eigenvalues[0], abs=1e-13 * eigenvalues[-1])
    assert float(found["total_variance"]) == pytest.approx(total, rel=1e-10)
    smallest = float(found["smallest_eigenvalue"])
    if smallest <= 0:
        assert smallest == 0.0
        assert np.isinf(found["sufficient_draws"])
        assert float(found["probability"]) == 0.0
    else:
        assert float(found["sufficient_draws"]) == max(np.ceil(total / (case.n_inputs * 0.2 * smallest**2)), 1)


def test_the_probability_is_that_of_all_label_combinations():
    """Six inputs with one binary label each: 64 estimates. The count over 600 replicates misses its 1e-6 range by chance 1e-6."""
    laws = naive.input_laws(naive.Network.named(ONE_UNIT.weights, ["tanh"]), "bernoulli", {}, X)
    exact = 0.0
    for labels in itertools.product((0, 1), repeat=len(X)):
        estimate = sum(law.observed[label] for law, label in zip(laws, labels, strict=True)) / len(X)
        chance = np.prod([law.probabilities[label] for law, label in zip(laws, labels, strict=True)])
        exact += chance * (np.linalg.eigvalsh(estimate)[0] > 0)
    assert 0.05 < exact < 0.95
    found = fs.definiteness(ONE_UNIT, X, n_draws=1, rng=3, n_replicates=600)
    low, high = binom.interval(1 - 1e-6, 600, exact)
    assert low <= 600 * float(found["probability"]) <= high
    assert not low <= 600 * (exact + 0.15) <= high  # power: an error of 0.15 is seen


def test_the_sufficient_number_of_draws_is_sufficient():
    draws = int(fs.definiteness(ONE_UNIT, X, n_draws=1, rng=0, n_replicates=1, delta=0.05)["sufficient_draws"])
    assert draws < 10**9
    found = fs.definiteness(ONE_UNIT, X, n_draws=draws, rng=1, n_replicates=100)
    assert float(found["probability"]) >= 0.95
    assert float(fs.definiteness(ONE_UNIT, X, n_draws=1, rng=1, n_replicates=100)["probability"]) < 0.95


def test_replicates_are_reproducible_and_different():
    first = fs.definiteness(ONE_UNIT, X, n_draws=1, rng=3, n_replicates=50)
    assert first.identical(fs.definiteness(ONE_UNIT, X, n_draws=1, rng=3, n_replicates=50))
    assert 0 < float(first["probability"]) < 1


def test_the_softmax_over_all_classes_is_never_positive_definite():
    model = fs.MLP.random([1, 2, 3], activation="tanh", family=fs.families.Categorical(3), rng=0)
    x = np.linspace(-2, 2, 30)[:, None]
    found = fs.definiteness(model, x, n_draws=10**6, rng=0, n_replicates=5)
    assert float(found["smallest_eigenvalue"]) == 0.0
    assert float(found["probability"]) == 0.0


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (3, 17), (199, 200)])
def test_the_interval_is_that_of_clopper_and_pearson(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert binomial_interval(successes, trials, 0.95) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "named"), [({"n_draws": 0}, "n_draws"), ({"n_replicates": 0}, "n_replicates"), ({"delta": 1.0}, "delta")]
)
def test_what_is_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        fs.definiteness(ONE_UNIT, X, **{"n_draws": 1, "rng": 0, **arguments})
