"""The parts of the comparison exactly, and its claims on a small run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from validation.adam_second_moment import run

MODEL = fs.MLP.random([3, 4, 3], activation="tanh", family=fs.families.Categorical(3), rng=0)
X = np.random.default_rng(1).normal(size=(6, 3))
Y = np.array([0, 1, 2, 1, 0, 2])


def steepest(rows):
    """Return the gradient of the mean log-likelihood of some inputs: what a step of length one moves."""
    rows = list(rows)
    fitted = training.fit(MODEL, X[rows], Y[rows], optimizer=training.SGD(1.0), epochs=1, batch_size=6, rng=0)
    return np.concatenate([(w - v).ravel() for w, v in zip(fitted.model.weights, MODEL.weights, strict=True)])


def test_the_mean_gradient_is_that_of_a_step():
    np.testing.assert_allclose(run.mean_gradient(MODEL, X, Y), steepest(range(6)), atol=1e-14)


@pytest.mark.parametrize("batch", [1, 2, 4, 6])
def test_the_expected_square_is_the_mean_over_all_batches(batch):
    empirical = fs.empirical_fisher(MODEL, X, Y).empirical.values
    squares = [steepest(rows) ** 2 for rows in itertools.combinations(range(6), batch)]
    expected = run.expected_square(empirical, run.mean_gradient(MODEL, X, Y), 6, batch)
    np.testing.assert_allclose(np.mean(squares, axis=0), expected, atol=1e-15)


def test_the_watched_moment_is_corrected_for_its_start():
    """Steps too short to move anything: every gradient is the same, and its square is the corrected moment at once."""
    adam = run.WatchedAdam(training.Adam(1e-300))
    training.fit(MODEL, X, Y, optimizer=adam, epochs=3, batch_size=6, rng=0)
    assert adam.taken == 3
    np.testing.assert_allclose(adam.second_moment(), steepest(range(6)) ** 2, rtol=1e-10, atol=1e-18)
    # With batches of two inputs it goes near its expectation: 3,600 steps, of which it remembers a thousand.
    adam = run.WatchedAdam(training.Adam(1e-300, (0.9, 0.999)))
    training.fit(MODEL, X, Y, optimizer=adam, epochs=1200, batch_size=2, rng=0)
    expected = run.expected_square(fs.empirical_fisher(MODEL, X, Y).empirical.values, steepest(range(6)), 6, 2)
    ratio = adam.second_moment().sum() / expected.sum()
    assert abs(ratio - 1) < 0.05
    assert abs(adam.second_moment().sum() / np.sum(steepest(range(6)) ** 2) - 1) > 0.2


def test_ratio_and_correlation_by_layer():
    second, diagonal = np.array([1.0, 2.0, 4.0, 3.0, 6.0, 0.0]), np.array([2.0, 4.0, 8.0, 1.0, 0.25, 1.0])
    ratio, correlation = run.compared(second, diagonal, np.array([0, 0, 0, 1, 1, 1]))
    np.testing.assert_allclose(ratio, [0.5, 7.2])
    np.testing.assert_allclose(correlation, [1.0, -1.0])


@pytest.mark.validation
def test_small_batches_see_the_empirical_diagonal_and_large_ones_the_mean_gradient():
    settings = {"epochs": 20, "widths": (64, 16, 10), "learning_rate": 3e-3}
    small, large = (run.watch(0, batch, 0.99, **settings).isel(epoch=slice(5, None)) for batch in (16, 512))
    for history in (small, large):
        predicted = history.sel(diagonal="predicted")
        assert (predicted.correlation > 0.7).all()
        # The prediction is nearer than the empirical diagonal, and that one nearer than the exact one to the pattern of v.
        assert (abs(np.log(predicted.ratio)) <= abs(np.log(history.ratio.sel(diagonal="empirical"))) + 0.05).all()
    assert float(large.ratio.sel(diagonal="empirical").mean()) > 2 * float(small.ratio.sel(diagonal="empirical").mean())
    # What is fitted has an empirical diagonal below the exact one, and v follows the former.
    assert float(small.empirical_over_exact.isel(epoch=-1).max()) < 0.8
    found = {(16, 0.99): small.assign_coords(replicate=0).expand_dims("replicate")}
    for lines in (run.table(found, "ratio", (6, 20)), run.bias_table(found, (6, 20))):
        assert len({line.count("|") for line in lines}) == 1
