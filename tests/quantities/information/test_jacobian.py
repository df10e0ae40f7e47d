"""Jacobians against complex steps, and with the information that they give."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest

import fisherstats as fs
from tests.models.test_external import external

F = fs.families
X = np.random.default_rng(0).normal(size=(23, 3))
MODELS = {
    "categorical": fs.MLP.random([3, 4, 3], activation="tanh", family=F.Categorical(3), rng=1),
    "poisson": fs.MLP.random([3, 4, 2], activation="sigmoid", family=F.Poisson(2), rng=2),
    "gamma": fs.MLP.random([3, 4, 1], activation="tanh", family=F.Gamma(2.0), rng=3),
    "no bias": fs.MLP.random([3, 4, 2], activation="tanh", family=F.Gaussian(2), rng=4, bias=False),
}
names = pytest.mark.parametrize("name", MODELS)


def by_differences(model, x):
    """Central differences of the natural parameters."""
    columns, step = [], 1e-6
    for layer, weights in enumerate(model.weights):
        for place in np.ndindex(weights.shape):
            ends = []
            for sign in (1, -1):
                moved = [one.copy() for one in model.weights]
                moved[layer][place] += sign * step
                ends.append(model.with_weights(moved).natural_parameters(x))
            columns.append((ends[0] - ends[1]) / (2 * step))
    return np.stack(columns, axis=2)


@names
def test_derivatives(name):
    model = MODELS[name]
    found = fs.jacobian(model, X)
    np.testing.assert_allclose(found, by_differences(model, X), rtol=1e-7, atol=1e-8)
    information = model.family.information(model.natural_parameters(X))
    np.testing.assert_allclose(fs.jacobian(model, X, of="mean"), information @ found.values, rtol=1e-12, atol=1e-15)
    full = np.einsum("nai,nab,nbj->ij", found, information, found) / len(X)
    np.testing.assert_allclose(full, fs.fisher_information(model, X, view="full"), rtol=1e-11, atol=1e-14)
    assert found.dims == ("input", "output", "param")


@names
def test_drivers_and_external_networks(name):
    model = MODELS[name]
    whole = fs.jacobian(model, X)
    lazy = fs.jacobian(model, dask.array.from_array(X, chunks=(7, 3)))
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy, whole)
    np.testing.assert_array_equal(fs.jacobian(model, iter(np.array_split(X, 4))), whole)
    if model.family.link is None and all(model.bias):
        found = fs.jacobian(external(model, (True, False)), X)
        np.testing.assert_allclose(found, whole, rtol=1e-12, atol=1e-15)
    single = fs.jacobian(model.as_dtype(np.float32), X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, whole, rtol=1e-4, atol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="`of` must be one of 'natural', 'mean'"):
        fs.jacobian(MODELS["poisson"], X, of="output")
