"""Pruning scores against the loss itself, merged networks against loops and numerical derivatives."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from tests.refusals import pattern, refused

ap = fs.applications
X = np.random.default_rng(0).normal(size=(8, 2))


def network(rng, family=None):
    return fs.MLP.random([2, 3, 3], activation="tanh", family=family or fs.families.Categorical(3), rng=rng)


flat = lambda model: np.concatenate([w.ravel() for w in model.weights])  # noqa: E731


def test_pruning_scores():
    model = network(1)
    theta = flat(model)
    exact = fs.fisher_information(model, X).values
    found = ap.pruning_scores(model, X)
    np.testing.assert_allclose(found.score, theta**2 * exact / 2, rtol=1e-14)
    assert not found.standard_error.any()
    np.testing.assert_array_equal(np.argsort(found.pruning_rank), np.argsort(found.score))
    drawn = ap.pruning_scores(model, X, information="score", n_draws=5, rng=0)
    estimate = fs.estimate_fisher(model, X, estimator="score", n_draws=5, rng=0)
    np.testing.assert_allclose(drawn.score, theta**2 * estimate.values / 2, rtol=1e-14)
    np.testing.assert_allclose(drawn.standard_error, theta**2 * estimate.standard_error.values / 2, rtol=1e-14)
    empirical = ap.pruning_scores(model, X, np.zeros(8, int), information="empirical")
    assert np.isnan(empirical.standard_error).all()


def test_the_score_is_the_divergence_without_the_parameter_where_it_is_small():
    model = network(1)
    weights = [w.copy() for w in model.weights]
    weights[0][1, 0] = 1e-3
    model = fs.MLP(weights, activation="tanh", family=model.family)
    weights[0][1, 0] = 0
    without = fs.MLP(weights, activation="tanh", family=model.family)
    score = float(ap.pruning_scores(model, X).score[3])
    np.testing.assert_allclose(score, ap.output_divergence(model, without, X).divergence, rtol=1e-2)


@pytest.mark.parametrize("shrink", [False, True])
def test_merging(shrink):
    models = [network(rng) for rng in (1, 2, 3)]
    importances = [ap.importance(one, X, information="score", n_draws=3, rng=k) for k, one in enumerate(models)]
    found = ap.merge_networks(models, importances, shrink=shrink)
    F = np.stack([one.values for one in importances])
    V = np.stack([one.standard_error.values for one in importances]) ** 2
    theta = np.stack([flat(one) for one in models])

    def mean(F):
        w = F**3 / (F**2 + V) if shrink else F
        return (w * theta).sum(axis=0) / w.sum(axis=0)

    np.testing.assert_allclose(flat(found.model), mean(F), rtol=1e-12)
    np.testing.assert_allclose(found.parameters.merged, mean(F), rtol=1e-12)
    np.testing.assert_allclose(found.parameters.share.sum("network"), 1, rtol=1e-12)
    variance = np.zeros(theta.shape[1])
    for k in range(3):
        step = np.zeros_like(F)
        step[k] = 1e-6 * F[k]
        variance += ((mean(F + step) - mean(F - step)) / (2 * step[k])) ** 2 * V[k]
    np.testing.assert_allclose(found.parameters.standard_error, np.sqrt(variance), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("exponent", [-1074, -1000, -540, -400, 0, 500, 1000, 1023])
@pytest.mark.parametrize("shrink", [False, True])
def test_importances_of_any_size_merge_alike(exponent, shrink):
    """Units of the importances change neither the merged parameters nor their standard errors."""
    one, two = (fs.MLP([[value]], activation=[], family=fs.families.Gaussian()) for value in ([1.0, -2.0], [2.0, 5.0]))
    unit = 2.0**exponent
    exact = ap.merge_networks([one, two], [[unit, unit], [unit, unit]], shrink=shrink).parameters
    np.testing.assert_array_equal(exact.merged, [1.5, 1.5])
    assert not exact.standard_error.any()
    if exponent < -1000 or exponent > 1000:
        return

    def estimated(value, error):
        coords = {"standard_error": ("param", [error * unit] * 2)}
        return xr.DataArray([value * unit] * 2, dims="param", coords=coords)

    found = ap.merge_networks([one, two], [estimated(3.0, 1.0), estimated(1.0, 2.0)], shrink=shrink).parameters
    w = [Fraction(27, 10), Fraction(1, 5)] if shrink else [Fraction(3), Fraction(1)]
    slopes = [Fraction(81 + 27, 100), Fraction(1 + 12, 25)] if shrink else [Fraction(1), Fraction(1)]
    errors = [Fraction(1), Fraction(2)]
    for index, (a, b) in enumerate([(1, 2), (-2, 5)]):
        mean = (w[0] * a + w[1] * b) / sum(w)
        pulls = [(theta - mean) / sum(w) * slope * error for theta, slope, error in zip((a, b), slopes, errors, strict=True)]
        np.testing.assert_allclose(found.merged[index], float(mean), rtol=1e-15)
        np.testing.assert_allclose(found.standard_error[index], float(sum(p * p for p in pulls)) ** 0.5, rtol=1e-14)


def test_exact_importances_of_linear_models_give_the_joint_fit():
    """Least squares on orthogonal designs: merging the two fits is the fit to all data, and its error is 0."""
    family = fs.families.Gaussian()
    one, two = np.array([[1.0], [-1.0]]), np.array([[3.0], [-3.0]])
    y1, y2 = np.array([2.0, 0.0]), np.array([5.0, 1.0])
    fits = []
    for x, y in ((one, y1), (two, y2)):
        fits.append(fs.MLP([np.linalg.lstsq(np.c_[x, np.ones(2)], y, rcond=None)[0][None]], activation=[], family=family))
    merged = ap.merge_networks(fits, [ap.importance(fits[0], one), ap.importance(fits[1], two)])
    joint = np.linalg.lstsq(np.c_[np.r_[one, two], np.ones(4)], np.r_[y1, y2], rcond=None)[0]
    np.testing.assert_allclose(merged.model.weights[0][0], joint, rtol=1e-13)
    assert not merged.parameters.standard_error.any()


def test_networks_count_alike_where_nothing_is_known():
    models = [network(1), network(2)]
    zero = np.zeros(models[0].n_params)
    for shrink in (False, True):
        found = ap.merge_networks(models, [zero, zero], shrink=shrink)
        np.testing.assert_allclose(flat(found.model), (flat(models[0]) + flat(models[1])) / 2, rtol=1e-14)


def test_a_merged_weight_is_not_less_certain_than_its_range():
    """The delta method alone would give (3 / 1e-3) * 1e-2 / 2 here and more."""
    networks = [fs.MLP([[[value, 0.0]]], activation=[], family=fs.families.Gaussian()) for value in (3.0, 0.0)]
    importances = [fs.with_standard_error(xr.DataArray([1e-3, 1.0], dims="param"), [1e-2, 1e-4]) for _ in networks]
    found = fs.applications.merge_networks(networks, importances).parameters
    assert found.standard_error[0] == 1.5
    assert found.standard_error[1] == 0


def test_what_is_not_known_counts_for_less():
    models = [network(1), network(2)]
    sure = ap.importance(models[0], X)
    rough = ap.importance(models[1], X, information="score", n_draws=1, rng=0)
    plain = ap.merge_networks(models, [sure, rough]).parameters.share.sel(network=1)
    shrunk = ap.merge_networks(models, [sure, rough], shrink=True).parameters.share.sel(network=1)
    assert (shrunk < plain).all()


ONE, TWO, ONES = network(1), network(2), np.ones(21)


@refused(
    [
        (lambda: ap.merge_networks([ONE], [ONES]), TypeError, "`models` must be a list of at least two networks, got [MLP("),
        (
            lambda: ap.merge_networks([ONE, network(1, fs.families.Gaussian(3))], [ONES, ONES]),
            ValueError,
            "`models[1]` must have the widths, biases, activations and family of `models[0]`",
        ),
        (
            lambda: ap.merge_networks([ONE, TWO], [ONES]),
            ValueError,
            "`importances` must be one for each of the 2 networks, got 1.",
        ),
        (
            lambda: ap.merge_networks([ONE, TWO], [ONES, -ONES]),
            ValueError,
            "`importances[1]` must have no negative entries, got -1 at index 0; a Hessian estimate may be negative",
        ),
        (lambda: ap.merge_networks([ONE, TWO], [ONES, ONES[:3]]), ValueError, "`importances[1]` must have shape (21,)"),
        (lambda: ap.merge_networks([ONE, TWO], [ONES, ONES], shrink=1), ValueError, "`shrink` must be True or False"),
        (lambda: ap.pruning_scores(ONE, X, information="score"), ValueError, "`n_draws` must be given with information='score'"),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()
