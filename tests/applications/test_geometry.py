"""Lengths and divergences by enumeration and 40-digit arithmetic, spectra by dense decompositions."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import fisherstats as fs
from tests.refusals import pattern, refused

ap = fs.applications
X = np.random.default_rng(0).normal(size=(9, 2))

FAMILIES = [
    fs.families.Categorical(3),
    fs.families.Poisson(),
    fs.families.Gaussian(2, covariance=[0.5, 2.0]),
    fs.families.Exponential(),
    fs.families.GaussianMeanVariance(),
    fs.families.Bernoulli(2),
    fs.families.Product([fs.families.Bernoulli(), fs.families.Poisson()]),
]


def network(family, rng=1):
    return fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=rng)


def naive_divergence(family, h, other):
    """Return KL with 40 digits from the textbook form of each family."""
    with mpmath.workdps(40):
        h, other = ([mpmath.mpf(float(one)) for one in row] for row in (h, other))
        if family.name == "categorical":
            p, q = ([mpmath.exp(z) / sum(map(mpmath.exp, row)) for z in row] for row in (h, other))
            return float(sum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True)))
        if family.name == "bernoulli":
            total = mpmath.mpf(0)
            for one, two in zip(h, other, strict=True):
                p, q = (1 / (1 + mpmath.exp(-z)) for z in (one, two))
                total += p * mpmath.log(p / q) + (1 - p) * mpmath.log((1 - p) / (1 - q))
            return float(total)
        if family.name == "poisson":
            a, b = mpmath.exp(h[0]), mpmath.exp(other[0])
            return float(a * mpmath.log(a / b) - a + b)
        if family.name == "exponential":
            a, b = -h[0], -other[0]
            return float(mpmath.log(a / b) + b / a - 1)
        if family.name == "gaussian":
            return float(sum((a - b) ** 2 / s for a, b, s in zip(h, other, (mpmath.mpf("0.5"), 2), strict=True)) / 2)
        (m1, v1), (m2, v2) = ((-a / b / 2, -1 / b / 2) for a, b in (h, other))
        return float((mpmath.log(v2 / v1) + (v1 + (m1 - m2) ** 2) / v2 - 1) / 2)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-7])
@pytest.mark.parametrize("family", FAMILIES[:-1], ids=lambda one: one.name)
def test_divergences_keep_their_digits(family, scale):
    model = network(family)
    shift = scale * np.random.default_rng(5).normal(size=model.weights[1].shape)
    other = fs.MLP([model.weights[0], model.weights[1] + shift], activation="tanh", family=family)
    found = ap.output_divergence(model, other, X, per_input=True)
    h, away = model.natural_parameters(X), other.natural_parameters(X)
    expected = np.array([naive_divergence(family, *pair) for pair in zip(h, away, strict=True)])
    reverse = np.array([naive_divergence(family, *pair) for pair in zip(away, h, strict=True)])
    # h itself carries rounding, which a divergence of order scale^2 sees to 1e-16 / scale
    rtol = 1e-10 + 1e-14 / scale
    np.testing.assert_allclose(found.divergence, expected, rtol=rtol)
    np.testing.assert_allclose(found.reverse, reverse, rtol=rtol)
    np.testing.assert_allclose(found.jeffreys, expected + reverse, rtol=max(rtol, 1e-14 / scale**1.2))
    if scale < 1e-2:
        np.testing.assert_allclose(found.quadratic, expected, rtol=30 * scale)
    mean = ap.output_divergence(model, other, X)
    np.testing.assert_allclose(mean.divergence, expected.mean(), rtol=rtol)


def test_the_same_network_and_saturated_classes():
    model = network(fs.families.Categorical(3))
    same = ap.output_divergence(model, model, X)
    assert float(same.divergence) == 0
    far = fs.MLP([np.array([[0.0, 40.0], [0.0, 0.0]])], activation=[], family=fs.families.Categorical(2))
    away = fs.MLP([np.array([[0.0, 20.0], [0.0, 0.0]])], activation=[], family=fs.families.Categorical(2))
    found = float(ap.output_divergence(far, away, np.zeros((1, 1))).divergence)
    np.testing.assert_allclose(found, naive_divergence(fs.families.Categorical(2), [40.0, 0.0], [20.0, 0.0]), rtol=1e-10)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_length_elements(family):
    model = network(family)
    delta = 1e-3 * np.random.default_rng(2).normal(size=model.n_params)
    information = fs.fisher_information(model, X, view="full").values
    found = ap.length_element(model, X, delta, n_draws=4)
    np.testing.assert_allclose(found.total_squared_length, delta @ information @ delta, rtol=1e-11)
    np.testing.assert_allclose(found.total_divergence, delta @ information @ delta / 2, rtol=2e-2)
    variance = fs.functional_variance(model, X, vector=delta, n_draws=4).variance.sel(estimator="score")
    np.testing.assert_allclose(found.total_standard_error, np.sqrt(variance), rtol=1e-10, atol=1e-20)
    for layer, piece in enumerate(model.layer_slices()):
        alone = np.zeros_like(delta)
        alone[piece] = delta[piece]
        np.testing.assert_allclose(found.squared_length[layer], alone @ information @ alone, rtol=1e-11)
        variance = fs.functional_variance(model, X, vector=alone, n_draws=4).variance.sel(estimator="score")
        np.testing.assert_allclose(found.standard_error[layer], np.sqrt(variance), rtol=1e-10, atol=1e-20)
        weights = [w + alone[s].reshape(w.shape) for w, s in zip(model.weights, model.layer_slices(), strict=True)]
        moved = fs.MLP(weights, activation="tanh", family=family)
        np.testing.assert_allclose(found.divergence[layer], ap.output_divergence(model, moved, X).divergence, rtol=1e-9)


def test_the_length_is_invariant_under_reparametrisation():
    """A hidden unit of a ReLU network scaled up and its outgoing weights down: another vector, the same step of the mapping."""
    family = fs.families.Categorical(3)
    model = fs.MLP.random([2, 4, 3], activation="relu", family=family, rng=1)
    c = np.array([0.5, 2.0, 3.0, 0.1])
    up, down = c[:, None], np.append(1 / c, 1.0)
    scaled = fs.MLP([model.weights[0] * up, model.weights[1] * down], activation="relu", family=family)
    first, second = (np.random.default_rng(2).normal(size=w.shape) for w in model.weights)
    one = ap.length_element(model, X, np.r_[first.ravel(), second.ravel()])
    two = ap.length_element(scaled, X, np.r_[(first * up).ravel(), (second * down).ravel()])
    np.testing.assert_allclose(one.squared_length, two.squared_length, rtol=1e-12)
    assert abs(float(ap.length_element(scaled, X, np.r_[first.ravel(), second.ravel()]).total_squared_length)
               / float(one.total_squared_length) - 1) > 0.01  # fmt: skip


def test_fisher_rao_norm():
    model = network(fs.families.Categorical(3))
    theta = np.concatenate([w.ravel() for w in model.weights])
    found = ap.fisher_rao_norm(model, X, n_draws=3)
    expected = theta @ fs.fisher_information(model, X, view="full").values @ theta
    np.testing.assert_allclose([found.squared, found.norm**2], expected, rtol=1e-12)
    variance = fs.functional_variance(model, X, vector=theta, n_draws=3).variance.sel(estimator="score")
    np.testing.assert_allclose(found.standard_error, np.sqrt(variance), rtol=1e-11)


@pytest.mark.parametrize("family", FAMILIES[:3], ids=lambda one: one.name)
def test_volume(family):
    model = network(family)
    x = np.random.default_rng(1).normal(size=(40, 2))
    values = np.linalg.eigvalsh(fs.fisher_information(model, x, view="full").values)[::-1]
    found = ap.information_volume(model, x, tau=0.1)
    np.testing.assert_allclose(found.eigenvalues, values, rtol=1e-8, atol=1e-14)
    rank = int((values > 1e-13).sum())
    assert int(found["information_rank"]) == rank
    assert (rank < model.n_params) == (family.name == "categorical")
    np.testing.assert_allclose(found.log_volume, np.log(values[:rank]).sum() / 2, rtol=1e-6)
    np.testing.assert_allclose(found.effective_rank, values.sum() ** 2 / (values**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(found.effective_dimension, (values / (values + 0.1)).sum(), rtol=1e-10)
    np.testing.assert_allclose(found.log_det, np.log1p(values / 0.1).sum() / 2, rtol=1e-10)


@pytest.mark.parametrize("widths", [[2, 3, 3], [12, 16, 3]], ids=["dense", "lanczos"])
def test_eigenpairs(widths):
    model = fs.MLP.random(widths, activation="tanh", family=fs.families.Categorical(3), rng=1)
    x = np.random.default_rng(1).normal(size=(30, widths[0]))
    found = ap.leading_eigenpairs(model, x, 3, n_draws=2)
    information = fs.fisher_information(model, x, view="full").values
    values, vectors = np.linalg.eigh(information)
    np.testing.assert_allclose(found.eigenvalues, values[::-1][:3], rtol=1e-10)
    for position in range(3):
        q = found.eigenvectors[position].values
        np.testing.assert_allclose(abs(q @ vectors[:, -1 - position]), 1, rtol=1e-9)
        assert q[np.abs(q).argmax()] > 0
        variance = fs.functional_variance(model, x, vector=q, n_draws=2).variance.sel(estimator="score")
        np.testing.assert_allclose(found.standard_error[position], np.sqrt(variance), rtol=1e-9)
    assert (found.residual < 1e-8).all()
    assert found.identical(ap.leading_eigenpairs(model, x, 3, n_draws=2))


MODEL = network(fs.families.Categorical(3))


@refused(
    [
        (lambda: ap.length_element(MODEL, X, [1.0]), ValueError, "`delta` must have shape (21,), one number per parameter"),
        (lambda: ap.length_element(MODEL, X, np.ones(21), n_draws=0), ValueError, "`n_draws` must be a positive integer, got 0."),
        (
            lambda: ap.output_divergence(MODEL, network(fs.families.Poisson()), X),
            ValueError,
            "`other` must take 2 features and have the family of `model`, .*, got 2 features and .*poisson",
        ),
        (lambda: ap.output_divergence(MODEL, None, X), TypeError, "`other` must be a fisherstats.MLP"),
        (lambda: ap.information_volume(MODEL, X, tau=0), ValueError, "`tau` must be a finite number above 0, got 0."),
        (lambda: ap.leading_eigenpairs(MODEL, X, 22), ValueError, "`k` must be at most 21, the number of parameters, got 22."),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()
