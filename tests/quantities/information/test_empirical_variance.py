"""Variance of the empirical Fisher information under given label laws, and the signs of its bias, by enumeration."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from tests import naive
from tests.theory.cases import CASES, assert_close, per_case
from tests.theory.test_empirical import observed_labels


def is_listed(case):
    return case.family.startswith("categorical") or (case.family == "bernoulli" and case.widths[-1] == 1)


LISTED = [case for case in CASES if is_listed(case)]
SEVERAL = [case for case in LISTED if case.n_inputs > 1]


def distributions(case):
    """Label laws that have nothing to do with the model; the first leaves classes out."""
    rng = np.random.default_rng([case.seed, 5])
    q = rng.dirichlet(np.ones(len(case.laws[0].probabilities)), size=case.n_inputs)
    q[0] = np.eye(q.shape[1])[-1] * 0.75 + np.eye(q.shape[1])[0] * 0.25
    return q


def argument(case, q):
    """Bernoulli: the oracle lists 0 first."""
    return q[:, 1] if case.family == "bernoulli" else q


def moments(case, q):
    """Mean (n, P) and single-label variance (n, P) of the squared scores under q."""
    values = [law.diagonal("score") for law in case.laws]
    mean = np.array([weights @ value for weights, value in zip(q, values, strict=True)])
    variance = [naive.covariance(value, value, weights) for weights, value in zip(q, values, strict=True)]
    return mean, np.array(variance)


@per_case(LISTED)
def test_fixed_design_and_per_input(case):
    q = distributions(case)
    mean, variance = moments(case, q)
    given = argument(case, q)
    each = fs.empirical_variance(case.model, case.x, given, per_input=True, n_draws=3)
    assert_close(each["empirical"], mean, rtol=1e-11)
    assert_close(each["variance"], variance / 3, rtol=1e-11, floor=1e-28 * float(mean.max()) ** 2)
    whole = fs.empirical_variance(case.model, case.x, given, n_draws=3)
    assert_close(whole["empirical"], mean.mean(axis=0), rtol=1e-11)
    assert_close(whole["variance"], naive.combine_fixed(variance, 3), rtol=1e-11, floor=1e-28 * float(mean.max()) ** 2)
    assert_close(whole["expected"], case.information.mean(axis=0), rtol=1e-11)
    scale = float(mean.max() + case.information.max())
    assert_close(whole["bias"], (mean - case.information).mean(axis=0), rtol=1e-9, scale=scale)


@per_case(SEVERAL)
def test_random_design(case):
    q = distributions(case)
    mean, variance = moments(case, q)
    result = fs.empirical_variance(case.model, case.x, argument(case, q), design="random", n_draws=4)
    assert_close(result["variance"], naive.combine_random(mean, variance, 4), floor=1e-28 * float(mean.max()) ** 2)


@per_case(LISTED)
def test_labels_of_the_model_give_the_score_estimator(case):
    q = np.array([law.probabilities for law in case.laws])
    result = fs.empirical_variance(case.model, case.x, argument(case, q))
    closed = fs.estimator_variance(case.model, case.x, on_kink="ignore")["variance"].sel(estimator="score")
    # The two laws differ by rounding, and so do the moments, relative to the fourth moment.
    scale = float(closed.max() + case.information.max() ** 2)
    assert_close(result["variance"], closed, scale=scale, rtol=1e-10)


@per_case(LISTED[::2])
def test_certain_labels_are_the_data(case):
    if case.family == "bernoulli":
        labels = np.arange(case.n_inputs) % 2
        q = labels.astype(float)
    else:
        labels = observed_labels(case)
        q = np.eye(case.model.family.n_classes)[labels]
    result = fs.empirical_variance(case.model, case.x, q)
    data = fs.empirical_fisher(case.model, case.x, labels)
    np.testing.assert_array_equal(result["variance"], 0.0)
    assert_close(result["empirical"], data["empirical"], rtol=1e-12)


@per_case([case for case in CASES if case.widths[-1] <= 6])
def test_bias_signature(case):
    labels = observed_labels(case)
    result = fs.bias_signature(case.model, case.x, labels)
    total = result["n_positive"] + result["n_negative"] + result["n_zero"]
    assert np.all(total == case.widths[-1])
    assert np.all(result["n_positive"] <= 1)
    for row, (x, y, law) in enumerate(zip(case.x, labels, case.laws, strict=True)):
        states, _ = naive.forward(case.network, x)
        points, probabilities = naive.law_of_statistic(case.family, case.params, states[-1])
        r = naive.sufficient_statistic(case.family, case.params, y, len(states[-1])) - probabilities @ points
        information = naive.natural_information(law.deltas, law.probabilities)
        values = np.linalg.eigvalsh(np.outer(r, r) - information)
        np.testing.assert_allclose(result["smallest"].values[row], values[0], atol=1e-12 * np.abs(values).max())
        np.testing.assert_allclose(result["largest"].values[row], values[-1], atol=1e-12 * np.abs(values).max())
        # rr' - I has a positive eigenvalue where r' I^+ r > 1 (matrix determinant lemma), zeros on the null space of I.
        excess = r @ np.linalg.pinv(information) @ r
        if abs(excess - 1) > 1e-6:
            assert result["n_positive"].values[row] == (excess > 1)
            assert result["n_negative"].values[row] == np.linalg.matrix_rank(information) - (excess > 1)


def test_a_softmax_overstates_where_the_label_has_less_than_half():
    model = fs.MLP.random([3, 5, 6], activation="tanh", family=fs.families.Categorical(6), rng=1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 3)) * 3, rng.integers(6, size=300)
    h = model.natural_parameters(x)
    p = np.exp(h - h.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    found = fs.bias_signature(model, x, y)
    np.testing.assert_array_equal(found["n_positive"], p[np.arange(300), y] < 0.5)
    np.testing.assert_array_equal(found["n_zero"], 1)


@pytest.mark.parametrize(
    ("family", "q", "error", "named"),
    [
        (fs.families.Categorical(3), [[0.5, 0.5]], ValueError, "shape"),
        (fs.families.Categorical(3), [[0.5, 0.6, 0.1]], ValueError, "add up to 1"),
        (fs.families.Categorical(3), [[1.5, -0.5, 0.0]], ValueError, "at least 0"),
        (fs.families.Bernoulli(), [1.5], ValueError, "at most 1"),
        (fs.families.Bernoulli(), [[0.5, 0.5]], ValueError, "shape"),
        (fs.families.Bernoulli(2), [[0.5, 0.5]], fs.AssumptionError, "one Bernoulli output"),
        (fs.families.Gaussian(), [0.5], fs.AssumptionError, "Categorical"),
    ],
)
def test_what_is_refused(family, q, error, named):
    model = fs.MLP.random([2, 2, family.n_outputs], activation="tanh", family=family, rng=0)
    with pytest.raises(error, match=named):
        fs.empirical_variance(model, [[1.0, 2.0]], q)
