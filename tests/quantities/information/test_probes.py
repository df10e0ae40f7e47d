"""Estimates from random probes: calibrated, apart from the labels, bounded in memory; and what is refused."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import fisherstats as fs
from tests.quantities.information.test_monte_carlo import FAMILIES, LARGEST_Z, calibration, model_of, worst
from tests.refusals import pattern, refused

WORDS = ("hutchinson_gaussian", "hutchinson_rademacher")
X = np.array([[0.8, -1.1], [-0.3, 0.6]])
names = pytest.mark.parametrize("name", FAMILIES)


def replicates(name, n_draws, count, **more):
    model = model_of(name)
    rows = np.tile(X, (count, 1))
    found = fs.estimate_fisher(model, rows, estimator=WORDS, n_draws=n_draws, rng=7, per_input=True, **more).values
    return found.reshape(count, len(X), len(WORDS), -1).mean(axis=1)


def closed_form(name, n_draws):
    return fs.estimator_variance(model_of(name), X, estimators=WORDS, n_draws=n_draws).variance.values


@pytest.mark.parametrize("n_draws", [1, 12])
@names
def test_calibration(name, n_draws):
    information = fs.fisher_information(model_of(name), X).values
    estimates = replicates(name, n_draws, 3000)
    independent = np.zeros_like(information)
    z = calibration(estimates, information, closed_form(name, n_draws), independent)
    assert worst(z) < LARGEST_Z


@names
def test_power(name):
    """Half as many probes again, or the variance of Gaussian probes for signs, and the same test refuses."""
    information = fs.fisher_information(model_of(name), X).values
    estimates = replicates(name, 12, 3000)
    assert worst(calibration(estimates, information, closed_form(name, 18))) > LARGEST_Z
    swapped = closed_form(name, 12)[[0, 0]]
    assert worst(calibration(estimates, information, swapped)) > LARGEST_Z


def test_standard_error_is_the_closed_form():
    model = model_of("categorical-3")
    estimate = fs.estimate_fisher(model, X, estimator=WORDS, n_draws=9, rng=0)
    np.testing.assert_allclose(estimate.standard_error, np.sqrt(closed_form("categorical-3", 9)), rtol=1e-13)
    assert "2505.13614" in estimate.attrs["source"]
    assert "2505.13614" in estimate.standard_error.attrs["source"]


def test_one_root_row_and_signs_are_exact():
    """A single output has one row, and the square of a sign is 1."""
    model = model_of("bernoulli-1")
    estimate = fs.estimate_fisher(model, X, estimator="hutchinson_rademacher", n_draws=1, rng=0)
    np.testing.assert_allclose(estimate, fs.fisher_information(model, X), rtol=1e-13)
    assert (estimate.standard_error == 0).all()


def test_probes_leave_the_labels_alone():
    model = model_of("categorical-3")
    pair = fs.estimate_fisher(model, X, estimator=("score", "hessian"), n_draws=5, rng=3)
    four = fs.estimate_fisher(model, X, estimator=("score", *WORDS, "hessian"), n_draws=5, rng=3)
    np.testing.assert_array_equal(four.sel(estimator=["score", "hessian"]), pair)
    alone = fs.estimate_fisher(model, X, estimator=WORDS[0], n_draws=5, rng=3)
    np.testing.assert_array_equal(four.sel(estimator=WORDS[0]), alone)
    assert np.any(four.sel(estimator=WORDS[0]).values != four.sel(estimator=WORDS[1]).values)


def test_blocks_and_threads_do_not_matter():
    model = model_of("categorical-3")
    x = np.random.default_rng(0).normal(size=(300, 2))
    one, two = (fs.estimate_fisher(model, x, estimator=WORDS, n_draws=4, rng=0, num_threads=n) for n in (1, 2))
    assert one.identical(two)
    some = fs.estimate_fisher(model, x[:37], estimator=WORDS, n_draws=4, rng=0, per_input=True)
    every = fs.estimate_fisher(model, x, estimator=WORDS, n_draws=4, rng=0, per_input=True)
    np.testing.assert_allclose(some, every[:37], rtol=1e-12)


def test_many_probes_take_no_more_memory():
    model = model_of("categorical-3")
    tracemalloc.start()
    estimate = fs.estimate_fisher(model, X, estimator=WORDS, n_draws=300_000, rng=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    z = (estimate - fs.fisher_information(model, X)) / estimate.standard_error
    assert np.abs(z).max() < 5


def test_cross_covariance_comes_with_both_label_estimators():
    model = model_of("categorical-3")
    assert "cross_covariance" not in fs.estimator_variance(model, X, estimators=WORDS)
    four = fs.estimator_variance(model, X, estimators=("hessian", *WORDS, "score"))
    two = fs.estimator_variance(model, X)
    np.testing.assert_array_equal(four.cross_covariance, two.cross_covariance)
    np.testing.assert_array_equal(four.variance.sel(estimator=["score", "hessian"]), two.variance)


def test_signs_are_never_worse_than_gaussian_probes():
    for name in FAMILIES:
        gaussian, signs = closed_form(name, 1)
        assert (signs <= gaussian).all()
        np.testing.assert_allclose(np.sqrt(fs.estimator_variance(model_of(name), X[:1], estimators=WORDS).variance.values[0]),
                                   np.sqrt(2) * fs.fisher_information(model_of(name), X[:1]).values, rtol=1e-12)  # fmt: skip


MODEL = model_of("categorical-3")


def estimate(**words):
    return fs.estimate_fisher(MODEL, X, **({"estimator": WORDS[0], "n_draws": 2, "rng": 0} | words))


@refused(
    [
        (lambda: estimate(view="full"), ValueError, "`view` must be 'diagonal' with estimator='hutchinson_gaussian', which"),
        (
            lambda: estimate(estimator=("score", WORDS[1]), view="block"),
            ValueError,
            "`view` must be 'diagonal' with estimator='hutc",
        ),
        (lambda: estimate(estimator="hutchinson"), ValueError, "`estimator` must be one of 'score', 'hessian', 'hutchinson_gau"),
        (
            lambda: fs.information_envelopes(MODEL, X, rank=4),
            ValueError,
            "`rank` must be at most 3, the number of outputs, got 4.",
        ),
        (lambda: fs.information_envelopes(MODEL, X, rank=0), ValueError, "`rank` must be a positive integer, got 0."),
        (
            lambda: fs.information_envelopes(model_of("poisson-1"), X),
            ValueError,
            "`model` must have the categorical family, whose information is diag(p) - p p', got poisson;",
        ),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()


# Envelopes far from the middle


def test_envelopes_of_a_saturated_softmax():
    gap = 700.0
    model = fs.MLP([[[0.0, gap], [0.0, 0.0], [0.0, 0.0]]], activation=[], family=fs.families.Categorical(3))
    result = fs.information_envelopes(model, [[1.0]], rank=2)
    assert np.isfinite(result.to_dataarray()).all()
    assert (result.information_lower <= result.information_exact).all()
    np.testing.assert_allclose(result.lower_ratio, 1, rtol=1e-9)
    assert result.upper_ratio[0] > 1e300
    np.testing.assert_allclose(result.upper_ratio[2:], 1, rtol=1e-11)
