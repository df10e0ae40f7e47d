"""Degrees of freedom and Pearson dispersions of every family against 60-digit arithmetic, and variances below all floats."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import fisherstats as fs

ap, F, mpf = fs.applications, fs.families, mpmath.mpf
X = np.random.default_rng(0).normal(size=(20, 2))


def exact(array):
    return [[mpf(float(one)) for one in row] for row in np.atleast_2d(array)]


def counts(variance, mean):
    return lambda h, y: sum((b - mean(a)) ** 2 / variance(a) for a, b in zip(h, y, strict=True))


def classes(n_trials, minimal):
    def squares(h, y):
        h = [*h, mpf(0)] if minimal else h
        total = sum(mpmath.exp(one) for one in h)
        p = [mpmath.exp(one) / total for one in h]
        y = [mpf(int(y[0]) == k) for k in range(len(p))] if len(y) == 1 else y
        return sum((b - n_trials * a) ** 2 / (n_trials * a) for a, b in zip(p, y, strict=True))

    return squares


def mean_variance(h, y):
    precision = -2 * h[1]
    square = (y[0] - h[0] / precision) ** 2 * precision
    return square + (square - 1) ** 2 / 2


def inverse(covariance, residual):
    r = mpmath.matrix(residual)
    return (r.T * mpmath.matrix(covariance) ** -1 * r)[0]


def shape_rate(h, y):
    k, rate = h[0], -h[1]
    residual = [mpmath.log(y[0] * rate) - mpmath.psi(0, k), y[0] - k / rate]
    return inverse([[mpmath.psi(1, k), 1 / rate], [1 / rate, k / rate**2]], residual)


def dirichlet(h, y):
    total = sum(h)
    residual = [mpmath.log(b) - mpmath.psi(0, a) + mpmath.psi(0, total) for a, b in zip(h, y, strict=True)]
    rows = [[(mpmath.psi(1, a) if i == j else 0) - mpmath.psi(1, total) for j in range(len(h))] for i, a in enumerate(h)]
    return inverse(rows, residual)


def normal(h, y):
    return inverse([[mpf(2), mpf("0.3")], [mpf("0.3"), mpf("0.5")]], [b - a for a, b in zip(h, y, strict=True)])


LAWS = {
    "bernoulli": (
        F.Bernoulli(2),
        counts(lambda h: mpmath.exp(h) / (1 + mpmath.exp(h)) ** 2, lambda h: 1 / (1 + mpmath.exp(-h))),
        2,
    ),
    "poisson": (F.Poisson(), counts(mpmath.exp, mpmath.exp), 1),
    "negative binomial": (
        F.NegativeBinomial(3.0),
        counts(lambda h: 3 * mpmath.exp(h) / (1 - mpmath.exp(h)) ** 2, lambda h: 3 * mpmath.exp(h) / (1 - mpmath.exp(h))),
        1,
    ),
    "gamma": (F.Gamma(2.5), counts(lambda h: mpf(5) / 2 / h**2, lambda h: mpf(-5) / 2 / h), 1),
    "gaussian": (F.Gaussian(2, covariance=[[2.0, 0.3], [0.3, 0.5]]), normal, 2),
    "categorical": (F.Categorical(3), classes(1, False), 2),
    "minimal": (F.Categorical(3, minimal=True), classes(1, True), 2),
    "multinomial": (F.Multinomial(7, 3), classes(7, False), 2),
    "minimal multinomial": (F.Multinomial(7, 3, minimal=True), classes(7, True), 2),
    "mean and variance": (F.GaussianMeanVariance(), mean_variance, 2),
    "shape and rate": (F.GammaShapeRate(), shape_rate, 2),
    "dirichlet": (F.Dirichlet(3), dirichlet, 3),
}


def sum_of_squares(squares, model, x, y):
    with mpmath.workdps(60):
        y = np.asarray(y, float).reshape(len(x), -1)
        return sum(squares(h, one) for h, one in zip(exact(model.natural_parameters(x)), exact(y), strict=True))


@pytest.mark.parametrize("hidden", [[], [2]])
@pytest.mark.parametrize("name", LAWS)
def test_pearson_dispersion_and_degrees_of_freedom(name, hidden):
    """A label has as many numbers as its covariance has dimensions: a softmax loses one, and one per input of its layer."""
    family, squares, dimensions = LAWS[name]
    model = fs.MLP.random([2, *hidden, family.n_outputs], activation="tanh" if hidden else [], family=family, rng=1)
    y = family.sample(model.natural_parameters(X), 5, 1)[0]
    found = ap.asymptotic_covariance(model, X, y, dispersion="pearson")
    full = fs.MLP.random([2, *hidden, dimensions], activation="tanh" if hidden else [], family=F.Gaussian(dimensions), rng=1)
    assert int(found["information_rank"]) == full.n_params
    assert int(found.degrees_of_freedom) == len(X) * dimensions - full.n_params
    assert int(ap.asymptotic_covariance(model, X).degrees_of_freedom) == len(X) * dimensions - full.n_params
    total = sum_of_squares(squares, model, X, y)
    np.testing.assert_allclose(found.dispersion, float(total / int(found.degrees_of_freedom)), rtol=1e-12)


def test_a_product_counts_the_dimensions_of_its_parts():
    names = ["categorical", "poisson", "multinomial", "mean and variance", "gaussian"]
    family = F.Product([LAWS[name][0] for name in names])
    model = fs.MLP.random([2, family.n_outputs], activation=[], family=family, rng=3)
    y = family.sample(model.natural_parameters(X), 5, 1)[0]
    found = ap.asymptotic_covariance(model, X, y, dispersion="pearson")
    assert int(found.degrees_of_freedom) == 9 * (len(X) - 3)
    assert int(found["information_rank"]) == 27
    total, output, column = mpf(0), 0, 0
    for name in names:
        part, squares, _ = LAWS[name]
        columns = {"categorical": 1, "mean and variance": 1}.get(name, part.n_outputs)
        single = fs.MLP([model.weights[0][output : output + part.n_outputs]], activation=[], family=part)
        total += sum_of_squares(squares, single, X, y[:, column : column + columns])
        output, column = output + part.n_outputs, column + columns
    np.testing.assert_allclose(found.dispersion, float(total / (9 * (len(X) - 3))), rtol=1e-12)


def test_a_family_of_a_user_that_is_redundant():
    class Doubled(F.LogPartitionFamily):
        name, n_outputs, bounded = "doubled", 2, False

        def log_partition(self, h):
            return np.exp(h[..., 0] + h[..., 1])

        def statistic(self, y):
            return np.concatenate([y, y], axis=-1) * 1.0

        def sample(self, h, rng, n_draws):
            return np.random.default_rng(rng).poisson(np.exp(h.sum(axis=1)), (n_draws, len(h)))[:, :, None]

        def check_labels(self, y, n):
            return np.asarray(y, float).reshape(n, 1)

    weights = np.array([[0.3, 0.2, 0.5], [0.1, -0.4, 0.3]])
    model = fs.MLP([weights], activation=[], family=Doubled())
    single = fs.MLP([weights.sum(axis=0)[None]], activation=[], family=F.Poisson())
    y = single.family.sample(single.natural_parameters(X), 5, 1)[0]
    found, wanted = (ap.asymptotic_covariance(one, X, y, dispersion="pearson") for one in (model, single))
    assert int(found.degrees_of_freedom) == int(wanted.degrees_of_freedom) == 17
    np.testing.assert_allclose(found.dispersion, wanted.dispersion, rtol=1e-8)


@pytest.mark.parametrize("ratio", [3e7, 1e8, 1e10, 1e12])
def test_a_mean_far_above_its_deviation(ratio):
    model = fs.MLP([[[0.1, 0.2, ratio**2], [0.05, -0.1, 2 * np.log(ratio)]]], activation=[], family=F.GaussianMeanVariance())
    y = model.family.sample(model.natural_parameters(X), 5, 1)[0]
    found = ap.asymptotic_covariance(model, X, y, dispersion="pearson")
    assert int(found.degrees_of_freedom) == 34
    np.testing.assert_allclose(found.dispersion, float(sum_of_squares(mean_variance, model, X, y) / 34), rtol=1e-13)


@pytest.mark.parametrize("shape", [1e-3, 10.0, 1e4, 1e8, 1e12])
def test_a_shape_of_any_size(shape):
    model = fs.MLP([[[0.1, 0.2, np.log(shape)], [0.1, -0.1, 0.3]]], activation=[], family=F.GammaShapeRate())
    h = model.natural_parameters(X)
    y = np.maximum(np.random.default_rng(1).standard_gamma(h[:, 0]) / -h[:, 1], 1e-300)
    found = ap.asymptotic_covariance(model, X, y, dispersion="pearson")
    with mpmath.workdps(100):
        wanted = sum(shape_rate(a, b) for a, b in zip(exact(h), exact(y[:, None]), strict=True)) / 34
    np.testing.assert_allclose(found.dispersion, float(wanted), rtol=1e-12)


@pytest.mark.parametrize("slope", [30.0, 372.0, 500.0])
@pytest.mark.parametrize("x", [[-2, -1, 1, 2], [-4, -3, -2, -1, 1, 2, 3, 4], [-9, -1, 0.5, 3]])
def test_perfect_separation(x, slope):
    """The variance of an output with logit 745 is below all floats; its squared residual in these units is e^-745."""
    x = np.array(x, float)
    model = fs.MLP([[[slope, 0.0]]], activation=[], family=F.Bernoulli())
    found = ap.asymptotic_covariance(model, x[:, None], x > 0, dispersion="pearson")
    assert int(found.degrees_of_freedom) == len(x) - 2
    with mpmath.workdps(4000):  # odds of very different sizes
        dispersion = sum(mpmath.exp(-abs(mpf(slope) * mpf(float(one)))) for one in x) / (len(x) - 2)
        information = mpmath.zeros(2)
        for one in map(mpf, x.tolist()):
            odds = mpmath.exp(-abs(slope * one))
            information += odds / (1 + odds) ** 2 * mpmath.matrix([[one * one, one], [one, 1]])
        errors = [mpmath.sqrt(dispersion * (information**-1)[i, i]) for i in range(2)]
    np.testing.assert_allclose(found.dispersion, float(dispersion), rtol=1e-12)
    if len(set(np.abs(x))) < len(x):  # else all but one input are rounding beside it
        np.testing.assert_allclose(found.standard_error, [float(one) for one in errors], rtol=1e-12)


def test_a_cell_without_counts():
    x = np.repeat([[0.0, 0], [0, 1], [1, 0], [1, 1]], 3, axis=0)
    y = np.where(x[:, 0] == 1, 0, np.arange(12) % 5)
    model = fs.MLP([[[-760.0, 0.5, 1.0]]], activation=[], family=F.Poisson())
    found = ap.asymptotic_covariance(model, x, y, dispersion="pearson")
    rate = np.exp(1 + 0.5 * x[:6, 1])
    assert int(found.degrees_of_freedom) == 12 - 3
    np.testing.assert_allclose(found.dispersion, np.sum((y[:6] - rate) ** 2 / rate) / 9, rtol=1e-13)
    y[7] = 1
    with pytest.raises(ValueError, match=r"which underflows for input 7, output 0 \(natural parameter -759\)"):
        ap.asymptotic_covariance(model, x, y, dispersion="pearson")


IMPOSSIBLE = {
    "categorical": (F.Categorical(3), [-800.0, 0.0, 1.0], [1, 2, 0, 1]),
    "multinomial": (F.Multinomial(5, 3), [-800.0, 0.0, 1.0], [[0, 2, 3], [0, 1, 4], [1, 1, 3], [0, 5, 0]]),
    "binomial": (F.Binomial(4), [800.0], [4, 4, 3, 4]),
    "negative binomial": (F.NegativeBinomial(2.0), [-800.0], [0, 0, 1, 0]),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_label_that_is_impossible_is_named(name):
    family, bias, y = IMPOSSIBLE[name]
    bias = np.array(bias) if family.link is None else np.array([-800.0])
    model = fs.MLP([np.c_[np.linspace(0.1, 0.2, len(bias)), bias]], activation=[], family=family)
    x = np.linspace(-1, 1, 4)[:, None]
    with pytest.raises(ValueError, match="variance of each label, which underflows for input 2, output 0"):
        ap.asymptotic_covariance(model, x, np.array(y), dispersion="pearson")


def test_a_perfect_fit_has_no_dispersion():
    model = fs.MLP([[[1.0, 2.0]]], activation=[], family=F.Gaussian())
    x = np.arange(4.0)[:, None]
    found = ap.asymptotic_covariance(model, x, model.natural_parameters(x))
    assert float(found.dispersion) == float(found.score_statistic) == 0
    assert not found.covariance.any()
