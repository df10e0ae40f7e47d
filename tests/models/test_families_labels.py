"""Labels and parameters of the families: supports, log probabilities, the plain sampler, values."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from scipy import special, stats

from fisherstats.models.families import Bernoulli, Binomial, Categorical, Gaussian, Poisson

COVARIANCE = np.array([[2.0, 0.6], [0.6, 1.0]])
FAMILIES = [
    Bernoulli(2),
    Binomial(5, 2),
    Poisson(2),
    Categorical(3),
    Categorical(3, minimal=True),
    Gaussian(2),
    Gaussian(2, covariance=[0.5, 2.0]),
    Gaussian(2, covariance=COVARIANCE),
]


def test_log_prob_equals_scipy():
    rng = np.random.default_rng(0)
    h = rng.normal(size=(40, 2))
    p, rate = special.expit(h), np.exp(h)
    y = rng.integers(0, 2, (40, 2))
    np.testing.assert_allclose(Bernoulli(2).log_prob(h, y), stats.bernoulli.logpmf(y, p).sum(axis=1), rtol=1e-12)
    y = rng.integers(0, 31, (40, 2))
    np.testing.assert_allclose(Binomial(30, 2).log_prob(h, y), stats.binom.logpmf(y, 30, p).sum(axis=1), rtol=1e-11)
    np.testing.assert_allclose(Poisson(2).log_prob(h, y), stats.poisson.logpmf(y, rate).sum(axis=1), rtol=1e-12)
    y = rng.normal(size=(40, 2))
    for covariance in (None, 0.3, [0.5, 2.0], COVARIANCE):
        full = COVARIANCE if covariance is COVARIANCE else np.diag(np.broadcast_to(covariance or 1.0, 2))
        wanted = [stats.multivariate_normal(mean, full).logpdf(label) for mean, label in zip(h, y, strict=True)]
        np.testing.assert_allclose(Gaussian(2, covariance=covariance).log_prob(h, y), wanted, rtol=1e-12)
    y = rng.integers(0, 3, 40)
    padded = np.pad(h, ((0, 0), (0, 1)))
    wanted = special.log_softmax(padded, axis=1)[np.arange(40), y]
    np.testing.assert_allclose(Categorical(3, minimal=True).log_prob(h, y), wanted, rtol=1e-12)
    np.testing.assert_allclose(Categorical(3).log_prob(padded, y), wanted, rtol=1e-12)


def test_log_prob_of_nearly_certain_labels():
    h = np.array([[40.0], [-40.0], [700.0]])
    wanted = -np.exp([-40.0, -40.0, -700.0])
    np.testing.assert_allclose(Bernoulli().log_prob(h, [1, 0, 1]), wanted, rtol=1e-12)
    np.testing.assert_allclose(Categorical(2, minimal=True).log_prob(h, [0, 1, 0]), wanted, rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_log_prob_is_the_exponential_form(family):
    """The gain log p(y | h1) - log p(y | h0) is t'(h1 - h0) - (F(h1) - F(h0)); between two labels F drops out."""
    rng = np.random.default_rng(1)
    h0, h1 = rng.normal(size=(2, 6, family.n_outputs))
    y = family.sample(h0, rng, 2)
    gain = [family.log_prob(h1, label) - family.log_prob(h0, label) for label in y]
    t = family.statistic(y)
    np.testing.assert_allclose(gain[0] - gain[1], ((t[0] - t[1]) * (h1 - h0)).sum(axis=1), atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_sampler_has_the_right_mean_and_covariance(family):
    rng = np.random.default_rng(2)
    h = rng.normal(size=(2, family.n_outputs))
    n_draws = 40_000
    y = family.sample(h, rng, n_draws)
    assert y.shape == ((n_draws, 2) if family.labels_are_classes else (n_draws, 2, family.n_outputs))
    law = family.at(h)
    for label in y[:5]:
        assert family.check_labels(label, 2).shape == label.shape
    delta = family.statistic(y) - law.mean
    np.testing.assert_allclose(delta[7], law.residual(family.check_labels(y[7], 2)), atol=1e-14)
    u = rng.normal(size=(2, family.n_outputs, 3))
    along = np.einsum("dnt,ntk->dnk", delta, u)
    # 12 z-scores per family; 5.5 is exceeded by one in 25 million.
    assert (np.abs(along.mean(axis=0)) < 5.5 * np.sqrt(law.diagonal(u) / n_draws)).all()
    excess = (along**2).mean(axis=0) - law.diagonal(u)
    assert (np.abs(excess) < 5.5 * np.sqrt(law.square_variance(u) / n_draws)).all()
    # Power: a scale that is wrong by 5 % is seen, at least in one direction.
    biased = 1.05 * (along**2).mean(axis=0) - law.diagonal(u)
    assert (np.abs(biased) > 5.5 * np.sqrt(law.square_variance(u) / n_draws)).any()


def test_classes_without_probability_are_not_drawn():
    h = np.array([[0.0, -800.0, 0.5, -800.0]])
    drawn = Categorical(4).sample(h, np.random.default_rng(0), 5000)
    assert set(np.unique(drawn)) == {0, 2}


@pytest.mark.parametrize(
    ("family", "y", "message"),
    [
        (Bernoulli(), [0, 2, 1], r"`y` must hold whole numbers from 0 to 1 .*got 2.0 at index \(1, 0\)"),
        (Bernoulli(), [0, 0.5, 1], r"got 0.5 at index \(1, 0\)"),
        (Bernoulli(2), [0, 1, 1], r"`y` must have shape \(3, 2\).*got shape \(3,\)"),
        (Bernoulli(), [0, 1], r"`y` must have shape \(3, 1\) or \(3,\).*got shape \(2,\)"),
        (Bernoulli(), [0, np.nan, 1], r"`y` must be finite, got nan at index \(1,\)"),
        (Binomial(4), [0, 4, 5], r"whole numbers from 0 to 4 for the binomial family, got 5.0 at index \(2, 0\)"),
        (Poisson(), [0, -1, 5], r"whole numbers of at least 0 for the poisson family, got -1.0 at index \(1, 0\)"),
        (Categorical(3), [0, 1, 3], r"from 0 to 2 for the categorical family, got 3.0 at index \(2,\)"),
        (Categorical(3), [0.5, 1, 2], r"got 0.5 at index \(0,\)"),
        (Categorical(3), np.eye(3), r"`y` must have shape \(3,\).*argmax"),
        (Gaussian(), [0.0, np.inf, 1.0], r"`y` must be finite, got inf"),
    ],
)
def test_labels_outside_the_support_are_refused(family, y, message):
    with pytest.raises(ValueError, match=message):
        family.check_labels(y, 3)


def test_labels_inside_the_support_are_kept():
    np.testing.assert_array_equal(Bernoulli().check_labels([True, False], 2), [[1.0], [0.0]])
    np.testing.assert_array_equal(Binomial(4).check_labels([[4], [0]], 2), [[4.0], [0.0]])
    classes = Categorical(3).check_labels([2.0, 0.0], 2)
    assert classes.dtype == np.int64
    np.testing.assert_array_equal(classes, [2, 0])
    assert Categorical(3, minimal=True).check_labels(np.array([2, 1], dtype=np.uint8), 2).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Bernoulli(0), "`n_outputs` must be a positive integer, got 0"),
        (lambda: Bernoulli(True), "`n_outputs` must be a positive integer"),
        (lambda: Poisson(1.5), "`n_outputs` must be a positive integer, got 1.5"),
        (lambda: Binomial(0), "`n_trials` must be a positive integer"),
        (lambda: Categorical(1), "`n_classes` must be at least 2, got 1"),
        (lambda: Categorical(3, minimal=1), "`minimal` must be True or False"),
        (lambda: Gaussian(2, covariance=-1.0), "`covariance` must be a finite number above 0"),
        (lambda: Gaussian(2, covariance=[1.0, 0.0]), "variances above 0, got 0.0 at output 1"),
        (lambda: Gaussian(2, covariance=[1.0, 1.0, 1.0]), r"shape \(2,\) or \(2, 2\).*got shape \(3,\)"),
        (lambda: Gaussian(2, covariance=[[1.0, 0.5], [0.4, 1.0]]), r"must be symmetric, got 0.5 at \(0, 1\) but 0.4"),
        (
            lambda: Gaussian(2, covariance=[[1.0, 2.0], [2.0, 1.0]]),
            "positive definite, got a smallest eigenvalue of -1",
        ),
    ],
)
def test_parameters_are_checked(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_families_are_frozen_values(family):
    assert family == pickle.loads(pickle.dumps(family))
    assert hash(family) == hash(pickle.loads(pickle.dumps(family)))
    parameters = json.loads(json.dumps(family.parameters()))
    assert parameters == family.parameters()
    assert parameters["name"] == family.name
    assert parameters["n_outputs"] == family.n_outputs
    with pytest.raises(AttributeError):
        family.n_outputs = 7
    assert sum(family == other for other in FAMILIES) == 1


def test_equal_covariances_are_equal_families():
    assert Gaussian(2) == Gaussian(2, covariance=1) == Gaussian(2, covariance=[1.0, 1.0])
    assert Gaussian(2) == Gaussian(2, covariance=np.eye(2))
    assert Gaussian(2) != Gaussian(3)
    covariance = COVARIANCE.copy()
    family = Gaussian(2, covariance=covariance)
    covariance[0, 0] = 9.0
    assert family == Gaussian(2, covariance=COVARIANCE)
    with pytest.raises(ValueError, match="read-only"):
        family.covariance[0, 0] = 1.0
