"""The sweep over weight norms: exact exponents where there is a theorem, known derivatives, the numbers of other functions."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs

X = np.random.default_rng(0).normal(size=(5, 3))
SCALES = [0.25, 1.0, 3.0]


def gaussian(**more) -> fs.MLP:
    return fs.MLP.random([3, 5, 4, 2], activation=["tanh", "gelu"], family=fs.families.Gaussian(2, **more), rng=1)


def averaged(model: fs.MLP, values) -> np.ndarray:
    """Means over the entries of each layer."""
    return np.stack([values.sel(param=values.param_layer == layer).mean("param").values for layer in range(model.n_layers)], -1)


@pytest.mark.parametrize("covariance", [None, [[2.0, 0.5], [0.5, 1.0]]])
@pytest.mark.parametrize("by", ["frobenius", "spectral"])
def test_four_and_two_below_a_last_kernel_that_alone_is_scaled(covariance, by) -> None:
    sweep = fs.norm_sweep(gaussian(covariance=covariance), X, scales=SCALES, layers=[2], by=by)
    below = sweep.isel(layer=slice(0, 2))
    np.testing.assert_allclose(below.exponent.sel(estimator="score"), 4, atol=1e-9)
    np.testing.assert_allclose(below.exponent.sel(estimator="hessian"), 2, atol=1e-9)
    np.testing.assert_allclose(below.information_exponent, 2, atol=1e-9)
    np.testing.assert_array_equal(below.predicted_exponent, [[4, 4], [2, 2]])
    # The relative error of the score estimator does not depend on the scale, that of the Hessian estimator falls as 1 / s.
    relative = below.relative_variance
    np.testing.assert_allclose(
        relative.sel(estimator="score"),
        relative.sel(estimator="score", scale=1.0).values[None] + 0 * relative.sel(estimator="score"),
        rtol=1e-10,
    )
    np.testing.assert_allclose(
        relative.sel(estimator="hessian") * below.scale**2,
        relative.sel(estimator="hessian", scale=1.0).values[None] + 0 * relative.sel(estimator="hessian"),
        rtol=1e-10,
    )
    last = sweep.sel(layer=2)
    np.testing.assert_allclose(last.exponent.sel(estimator="score"), 0, atol=1e-9)
    assert np.isnan(last.exponent.sel(estimator="hessian")).all()  # V_2 = 0
    assert np.isnan(last.predicted_exponent).all()  # fmt: skip


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (gaussian(), {}),
        (gaussian(), {"layers": [1]}),
        (gaussian(), {"layers": [2], "mode": "project"}),
        (fs.MLP.random([3, 4, 3], activation="tanh", family=fs.families.Categorical(3), rng=0), {"layers": [1]}),
        (fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.GaussianMeanVariance(), rng=0), {"layers": [1]}),
    ],
    ids=["all layers", "hidden layer", "projected", "categorical", "mean and variance"],
)
def test_no_exponent_is_predicted_elsewhere(model, more) -> None:
    sweep = fs.norm_sweep(model, X, scales=[1.5], **more)
    assert np.isnan(sweep.predicted_exponent).all()
    earlier = sweep.exponent.sel(estimator="score").values[0, :-1]
    if more != {"layers": [2], "mode": "project"}:
        assert np.abs(earlier - 4).max() > 1e-3


def test_the_exponent_is_a_derivative() -> None:
    """One Poisson unit at one input: V_1 = (lambda + 2 lambda^2) hbar^4 with lambda = exp(s w x + b)."""
    w, b, x = 0.8, 0.3, 1.7
    model = fs.MLP([[[w, b]]], activation=[], family=fs.families.Poisson())
    sweep = fs.norm_sweep(model, np.array([[x]]), scales=SCALES)
    slope = w * x * np.array(SCALES)  # d log lambda / d log s
    rate = np.exp(slope + b)
    expected = slope * (1 + 4 * rate) / (1 + 2 * rate)
    np.testing.assert_allclose(sweep.exponent.sel(estimator="score").values[:, 0], expected, rtol=1e-8)
    np.testing.assert_allclose(sweep.information_exponent.values[:, 0], slope, rtol=1e-9)


@pytest.mark.parametrize("mode", ["rescale", "project"])
@pytest.mark.parametrize("by", ["frobenius", "spectral"])
def test_the_numbers_are_those_of_the_changed_network(mode, by) -> None:
    model = gaussian()
    sweep = fs.norm_sweep(model, X, scales=SCALES, layers=[0, 1], by=by, mode=mode, n_draws=3)
    for scale in SCALES:
        weights = [np.array(weight) for weight in model.weights]
        for layer in (0, 1):
            kernel = weights[layer][:, :-1]
            if mode == "rescale" or by == "frobenius":
                kernel *= scale if mode == "rescale" else min(1, scale)
            else:
                u, s, v = np.linalg.svd(kernel, full_matrices=False)
                kernel[:] = u @ np.diag(np.minimum(s, scale * s.max())) @ v
        changed = fs.MLP(weights, activation=model.activations, family=model.family)
        one = sweep.sel(scale=scale)
        np.testing.assert_allclose(one.information, averaged(model, fs.fisher_information(changed, X)), rtol=1e-12)
        variance = averaged(model, fs.estimator_variance(changed, X, n_draws=3).variance)
        np.testing.assert_allclose(one.variance, variance, rtol=1e-12)
        np.testing.assert_allclose(one.upper, averaged(model, fs.variance_bounds(changed, X, n_draws=3).upper), rtol=1e-12)
        np.testing.assert_allclose(one.relative_variance, variance / one.information.values**2, rtol=1e-12)
        assert (one.upper >= one.variance).all()
        norms = fs.weight_norms(changed)
        np.testing.assert_allclose(one.frobenius, norms.frobenius, rtol=1e-12)
        np.testing.assert_allclose(one.spectral, norms.spectral, rtol=1e-12)
        before = fs.weight_norms(model)[by].values[:2]
        limit = scale * before if mode == "rescale" else np.minimum(1, scale) * before
        np.testing.assert_allclose(one[by].values[:2], limit, rtol=1e-12)


def test_layers_are_all_by_default_and_in_any_order() -> None:
    model = gaussian()
    all_layers = fs.norm_sweep(model, X, scales=[2.0])
    assert all_layers.identical(fs.norm_sweep(model, X, scales=np.array([2]), layers=(2, 0, 1)))
    np.testing.assert_array_equal(all_layers.frobenius.values[0], 2 * fs.weight_norms(model).frobenius.values)
