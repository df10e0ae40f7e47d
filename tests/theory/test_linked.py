"""Families with a link: J_h = g' J_z, H_h = g' H_z + g'' J_z J_z', against index loops and the cumulant tensors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fisherstats as fs
from tests import naive

F = fs.families
LINKED = [
    F.NegativeBinomial(2.5, n_outputs=2),
    F.Geometric(2),
    F.Exponential(2),
    F.Gamma(1.7, n_outputs=2),
    F.Laplace(n_outputs=2),
    F.Weibull(1.5, n_outputs=2),
    F.InverseGaussian(2.0, n_outputs=2),
    F.GaussianMeanVariance(),
    F.GammaShapeRate(),
    F.Dirichlet(3),
    F.Product([F.Gaussian(1), F.Exponential(1)]),
]
UNLINKED = [F.Multinomial(4, 3), F.Product([F.Categorical(2), F.Poisson(1)])]
ACTIVATIONS = ["tanh", "softplus"]


def network(family, depth=2):
    """Weights small enough for every natural parameter to stay moderate."""
    rng = np.random.default_rng(5)
    widths = [*[2, 3, 2][: depth + 1], family.n_outputs]
    weights = [0.6 * rng.normal(size=(n_out, n_in + 1)) for n_in, n_out in itertools.pairwise(widths)]
    model = fs.MLP(weights, activation=ACTIVATIONS[:depth], family=family)
    return model, naive.Network.named(weights, ACTIVATIONS[:depth]), rng.normal(size=(3, 2))


@pytest.mark.parametrize("family", [F.Dirichlet(3), F.GammaShapeRate()], ids=repr)
@pytest.mark.parametrize("bias", [10.0, 30.0])
def test_large_outputs_in_single_precision(family, bias):
    """The fourth power of the slope of the link, e^(4 bias), is past the range of float32; the variance is within it."""
    model = fs.MLP([[[0.1, bias]] * family.n_outputs], activation=[], family=family)
    single, x = model.as_dtype(np.float32), np.array([[0.3], [-0.5]])
    of_single = [model.as_dtype(np.float32).weights[0].astype(np.float64)]
    double = fs.MLP(of_single, activation=[], family=family)
    for call in (
        lambda model, x: fs.estimator_variance(model, x, estimators=["score"]).variance,
        lambda model, x: fs.estimator_variance(model, x).variance.sel(estimator="score"),
        lambda model, x: fs.estimate_fisher(model, x, estimator="score", n_draws=3, rng=0).standard_error,
        lambda model, x: fs.fisher_information(model, x),
        lambda model, x: fs.trace_bounds(model, x).exact.sel(estimator="score"),
    ):
        found, wanted = call(single, x.astype(np.float32)), call(double, x.astype(np.float32).astype(np.float64))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-3)


def derivatives(model, plain, x):
    """J_h (T, P) and H_h (T, P, P) of one input by the chain rule."""
    states, _ = naive.forward(plain, x)
    J, H = naive.jacobian(plain, x), naive.hessian(plain, x)
    if model.family.link is None:
        return np.asarray(states[-1])[None], J, H
    h, slope, bend = model.family.link.evaluate(np.asarray(states[-1])[None], 2)
    linked = slope[0][:, None, None] * H + bend[0][:, None, None] * J[:, :, None] * J[:, None, :]
    return h, slope[0][:, None] * J, linked


def cumulants(model, h):
    return [model.family.cumulant(h, order)[0] for order in (2, 3, 4)]


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("family", LINKED + UNLINKED, ids=lambda one: one.name)
def test_information_variances_and_covariance(family, depth):
    model, plain, x = network(family, depth)
    information = fs.fisher_information(model, x, per_input=True, view="full").values
    variance = fs.estimator_variance(model, x, per_input=True)
    for at, row in enumerate(x):
        h, J, H = derivatives(model, plain, row)
        I, third, fourth = cumulants(model, h)
        expected = J.T @ I @ J
        np.testing.assert_allclose(information[at], expected, rtol=0, atol=1e-11 * np.abs(expected).max())
        M = fourth + np.einsum("ac,bd->abcd", I, I) + np.einsum("ad,bc->abcd", I, I)
        score = np.einsum("ai,bi,ci,di,abcd->i", J, J, J, J, M)
        bent = np.einsum("aii->ai", H)
        hessian = np.einsum("ai,bi,ab->i", bent, bent, I)
        cross = -np.einsum("ai,bi,ci,abc->i", J, J, bent, third)
        for found, wanted in (
            (variance.variance.sel(estimator="score"), score),
            (variance.variance.sel(estimator="hessian"), hessian),
            (variance.cross_covariance, cross),
        ):
            scale = np.sqrt(np.abs(score).max() * max(np.abs(hessian).max(), 1e-30)) + np.abs(wanted).max()
            np.testing.assert_allclose(found[at], wanted, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("family", LINKED, ids=lambda one: one.name)
def test_the_last_layer_is_not_exact_with_a_link(family):
    model, _, x = network(family)
    variance = fs.estimator_variance(model, x).variance.sel(estimator="hessian")
    last = variance.param_layer.values == model.n_layers - 1
    assert (variance.values[last] > 0).any()


@pytest.mark.parametrize("family", LINKED + UNLINKED, ids=lambda one: one.name)
def test_views_of_the_estimates_agree_and_are_unbiased(family):
    model, _, x = network(family)
    both = ("score", "hessian")
    repeated = np.repeat(x, 400, axis=0)
    full = fs.estimate_fisher(model, repeated, estimator=both, n_draws=8, rng=3, view="full").values
    diagonal = fs.estimate_fisher(model, repeated, estimator=both, n_draws=8, rng=3)
    np.testing.assert_allclose(np.diagonal(full, axis1=1, axis2=2), diagonal, rtol=1e-9, atol=1e-13)
    exact = fs.fisher_information(model, repeated)
    error = diagonal.standard_error.values
    z = np.where(error > 0, (diagonal.values - exact.values) / np.where(error > 0, error, 1), 0)
    # At most 60 entries and 13 families: below 1e-5 for the whole test if the errors were normal, heavy tails allowed for.
    assert np.abs(z).max() < 6.5


@pytest.mark.parametrize("family", LINKED + UNLINKED, ids=lambda one: one.name)
def test_matrix_of_the_hessian_estimate_is_made_of_the_right_second_derivatives(family):
    """With the labels of one draw, I-hat-2 = J'IJ - sum_a rbar_a H^a: its distance from J'IJ lies in the span of the H^a."""
    model, plain, x = network(family)
    estimate = fs.estimate_fisher(model, x[:1], estimator="hessian", n_draws=3, rng=1, view="full").values
    h, J, H = derivatives(model, plain, x[0])
    apart = J.T @ cumulants(model, h)[0] @ J - estimate
    basis = H.reshape(len(H), -1).T
    weights, *_ = np.linalg.lstsq(basis, apart.ravel(), rcond=None)
    np.testing.assert_allclose(basis @ weights, apart.ravel(), rtol=0, atol=1e-9 * max(np.abs(apart).max(), 1e-12))
    assert np.abs(apart).max() > 0


def test_output_information_in_both_coordinates():
    model, plain, x = network(F.Exponential(2))
    states, _ = naive.forward(plain, x[0])
    z = np.asarray(states[-1])
    # Var(t) = 1 / h^2 with h = -e^z, so the information of z is exactly one.
    np.testing.assert_allclose(fs.output_information(model, x[:1]).values[0], np.eye(2), atol=1e-14)
    natural = fs.output_information(model, x[:1], coordinates="natural").values[0]
    np.testing.assert_allclose(natural, np.diag(np.exp(-2 * z)), rtol=1e-13)
    with pytest.raises(ValueError, match="Did you mean 'natural'"):
        fs.output_information(model, x, coordinates="nature")


@pytest.mark.parametrize("family", LINKED + UNLINKED, ids=lambda one: one.name)
def test_bounds_hold_and_the_operator_agrees(family):
    model, _, x = network(family)
    bounds = fs.variance_bounds(model, x)
    assert (bounds.lower <= bounds.exact * (1 + 1e-9)).all()
    assert (bounds.exact <= bounds.upper * (1 + 1e-9)).all()
    full = fs.fisher_information(model, x, view="full").values
    v = np.random.default_rng(0).normal(size=model.n_params)
    np.testing.assert_allclose(fs.fisher_operator(model, x) @ v, full @ v, rtol=1e-10, atol=1e-12 * np.abs(full).max())
    np.testing.assert_allclose(
        fs.functional_variance(model, x, vector=v).variance,
        fs.functional_variance(model, x, matrix=np.outer(v, v)).variance,
        rtol=1e-8,
    )
