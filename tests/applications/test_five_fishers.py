"""The five definitions of the diagonal Fisher information: by enumeration of labels, subsets and batches."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.applications import compare_fishers

N = 6
X = np.random.default_rng(0).normal(size=(N, 2))
Y = np.array([0, 1, 2, 0, 1, 1])
MODEL = fs.MLP.random([2, 3, 3], activation="tanh", family=fs.families.Categorical(3), rng=1)


def scores(labels):
    """Scores of single examples by the square root of their squares and the signs of differences of the log-likelihood."""
    base = [one.copy() for one in MODEL.weights]
    found = np.zeros((N, MODEL.n_params))
    place = 0
    for layer, matrix in enumerate(base):
        for at in np.ndindex(matrix.shape):
            step = [one.copy() for one in base]
            step[layer][at] += 1e-6
            up = MODEL.family.log_prob(MODEL.with_weights(step).natural_parameters(X), labels)
            step[layer][at] -= 2e-6
            down = MODEL.family.log_prob(MODEL.with_weights(step).natural_parameters(X), labels)
            found[:, place] = (up - down) / 2e-6
            place += 1
    return found


def test_each_definition():
    found = compare_fishers(MODEL, X, Y, rng=0, n_subset=3, n_draws=2, batch_size=2)
    exact = fs.fisher_information(MODEL, X).values
    g = scores(Y)
    np.testing.assert_array_equal(found.information.sel(definition="exact"), exact)
    np.testing.assert_allclose(found.information.sel(definition="empirical"), (g**2).mean(axis=0), rtol=1e-6, atol=1e-12)
    # Every way to take two inputs is equally probable.
    batched = np.mean([g[list(pair)].mean(axis=0) ** 2 for pair in itertools.combinations(range(N), 2)], axis=0)
    np.testing.assert_allclose(found.information.sel(definition="batched"), batched, rtol=1e-6, atol=1e-12)
    # The exact information of a subset, its mean and its variance over all subsets.
    each = fs.fisher_information(MODEL, X, per_input=True).values
    subsets = np.array([each[list(rows)].mean(axis=0) for rows in itertools.combinations(range(N), 3)])
    assert any(np.allclose(found.information.sel(definition="exact_subset"), one, rtol=1e-12) for one in subsets)
    np.testing.assert_allclose(subsets.mean(axis=0), exact, rtol=1e-12)
    # The squared error is estimated from the subset, without bias: its mean over the subsets is the variance.
    squares = []
    for rows in itertools.combinations(range(N), 3):
        squares.append((1 - 3 / N) * each[list(rows)].var(axis=0, ddof=1) / 3)
    np.testing.assert_allclose(np.mean(squares, axis=0), subsets.var(axis=0), rtol=1e-12)
    chosen = next(
        rows for rows in itertools.combinations(range(N), 3) if np.allclose(found.information[1], each[list(rows)].mean(0))
    )
    np.testing.assert_allclose(found.standard_error[1] ** 2, (1 - 3 / N) * each[list(chosen)].var(axis=0, ddof=1) / 3, rtol=1e-10)
    variance = fs.estimator_variance(MODEL, X, n_draws=2, estimators=["score"]).variance[0]
    np.testing.assert_allclose(found.standard_error.sel(definition="sampled") ** 2, variance, rtol=1e-12)
    np.testing.assert_array_equal(found.bias.sel(definition=["exact", "exact_subset", "sampled"]), 0)
    np.testing.assert_allclose(found.bias.sel(definition="batched"), found.information[4] - exact, rtol=1e-12)
    np.testing.assert_array_equal(found.backward_passes, [12, 6, 12, 6, 3])
    np.testing.assert_allclose(found.trace_ratio, found.information.sum("param") / exact.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.distance, np.linalg.norm(found.information - exact, axis=1) / np.linalg.norm(exact))


def test_containers_and_one_batch_of_everything():
    frame = pd.DataFrame(X, columns=["a", "b"])
    labelled = xr.DataArray(X, dims=["input", "feature"])
    plain = compare_fishers(MODEL, X, Y, rng=0, n_subset=3, batch_size=N)
    for x in (frame, labelled):
        found = compare_fishers(MODEL, x, Y, rng=0, n_subset=3, batch_size=N)
        np.testing.assert_array_equal(found.information, plain.information)
    np.testing.assert_allclose(plain.information[4], scores(Y).mean(axis=0) ** 2, rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_subset": 7}, "`n_subset` must be from 2 to 6, the number of inputs, got 7"),
        ({"n_subset": 1}, "`n_subset` must be from 2 to 6"),
        ({"batch_size": 7}, "`batch_size` must be from 1 to 6"),
        ({"n_draws": 0}, "`n_draws` must be a positive integer"),
    ],
)
def test_refusals(keywords, message):
    with pytest.raises(ValueError, match=message):
        compare_fishers(MODEL, X, Y, rng=0, **({"n_subset": 3, "batch_size": 2} | keywords))
