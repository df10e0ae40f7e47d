"""Columns of x in any units: what a power of two does to a result is its scale, in every use of the information."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import fisherstats as fs

ap, F, mpf = fs.applications, fs.families, mpmath.mpf
X = np.random.default_rng(3).normal(size=(30, 3))
X[0, 0] = 1e-5
EXPONENTS = (-500, -61, 300, 500)
FAMILIES = {
    "gaussian": F.Gaussian(),
    "poisson": F.Poisson(),
    "exponential": F.Exponential(),
    "classes": F.Categorical(3),
    "product": F.Product([F.Categorical(3), F.Poisson()]),
}


def network(family, hidden=(), exponent=0, stretch=1.0):
    """Return a network whose outputs are the same for x with the first column times 2^exponent."""
    made = fs.MLP.random([3, *hidden, family.n_outputs], activation="tanh" if hidden else [], family=family, rng=2)
    weights = [one * stretch for one in made.weights]
    weights[0][:, 0] = np.ldexp(weights[0][:, 0], -exponent)
    return fs.MLP(weights, activation=made.activations, family=family)


def inputs(exponent):
    x = X.copy()
    x[:, 0] = np.ldexp(x[:, 0], exponent)
    return x


def in_units(model, values, exponent):
    """Return values over the parameters, each times 2^exponent where it belongs to the first column."""
    first = np.zeros(model.n_params, int)
    first[: model.weights[0].size : model.weights[0].shape[1]] = exponent
    return np.ldexp(values, first) if values.ndim == 1 else np.ldexp(values, first[:, None] + first)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("hidden", [(), (2,)])
@pytest.mark.parametrize("name", FAMILIES)
def test_errors_and_intervals(name, hidden, exponent):
    family = FAMILIES[name]
    one, other = network(family, hidden), network(family, hidden, exponent)
    y = family.sample(one.natural_parameters(X), 1, 1)[0]
    for more in ({}, {"robust": True}, {"dispersion": "pearson"}):
        wanted = ap.asymptotic_covariance(one, X, y, **more)
        found = ap.asymptotic_covariance(other, inputs(exponent), y, **more)
        np.testing.assert_array_equal(in_units(one, found.standard_error.values, exponent), wanted.standard_error)
        for key in ("estimable", "information_rank", "degrees_of_freedom", "dispersion", "score_statistic"):
            np.testing.assert_array_equal(found[key], wanted[key])
        if wanted.estimable.all():
            np.testing.assert_array_equal(in_units(one, found.covariance.values, exponent), wanted.covariance)
    found, wanted = ap.parameter_intervals(other, inputs(exponent), y), ap.parameter_intervals(one, X, y)
    np.testing.assert_array_equal(in_units(one, found.lower.values, exponent), wanted.lower)
    found = ap.prediction_intervals(other, inputs(exponent), y, inputs(exponent)[:4])
    assert found.drop_attrs().identical(ap.prediction_intervals(one, X, y, X[:4]).drop_attrs())
    bounds = in_units(one, ap.cramer_rao_bound(other, inputs(exponent)).values, 2 * exponent)
    np.testing.assert_array_equal(bounds, ap.cramer_rao_bound(one, X))


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_the_covariance_of_classes(exponent):
    """The Moore-Penrose inverse of what a softmax layer cannot tell: the null directions of features do not mix."""
    family = F.Multinomial(4, 3)
    found = ap.asymptotic_covariance(network(family, (), exponent), inputs(exponent)).covariance.values
    wanted = ap.asymptotic_covariance(network(family), X).covariance.values
    scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
    assert np.abs((in_units(network(family), found, exponent) - wanted) / scale).max() < 1e-12


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("hidden", [(), (2,)])
@pytest.mark.parametrize("family", [F.Gaussian(), F.Exponential(), F.InverseGaussian(2.0)], ids=lambda one: one.name)
def test_the_observed_information(family, hidden, exponent):
    one, other = network(family, hidden), network(family, hidden, exponent)
    mean = family.at(one.natural_parameters(X)).mean
    y = mean * (1 + 1e-3 * np.cos(np.arange(30.0)))[:, None]
    options = {"hessian": "observed", "dispersion": 1.0}
    wanted, found = (
        ap.asymptotic_covariance(one, X, y, **options),
        ap.asymptotic_covariance(other, inputs(exponent), y, **options),
    )
    np.testing.assert_array_equal(in_units(one, found.standard_error.values, exponent), wanted.standard_error)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_the_volume(exponent):
    one, other = network(F.Poisson()), network(F.Poisson(), (), exponent)
    found, wanted = (ap.information_volume(model, x, tau=0.5) for model, x in ((other, inputs(exponent)), (one, X)))
    assert int(found["information_rank"]) == int(wanted["information_rank"]) == 4
    np.testing.assert_allclose(found.log_volume, wanted.log_volume + exponent * np.log(2), rtol=1e-14)
    with mpmath.workdps(400):
        rate = np.exp(X @ one.weights[0][0, :3] + one.weights[0][0, 3])
        rows = [[mpf(float(value)) for value in [*row, 1.0]] for row in inputs(exponent)]
        A = mpmath.matrix([[mpmath.sqrt(mpf(float(w)) / 30) * value for value in row] for w, row in zip(rate, rows, strict=True)])
        values = sorted((one**2 for one in mpmath.svd_r(A, compute_uv=False)), reverse=True)
        np.testing.assert_allclose(found.eigenvalues, [float(one) for one in values], rtol=1e-12)
        dimension, volume = (sum(v / (v + mpf("0.5")) for v in values), sum(mpmath.log(1 + 2 * v) for v in values) / 2)
    np.testing.assert_allclose([found.effective_dimension, found.log_det], [float(dimension), float(volume)], rtol=1e-12)


def test_one_small_column_keeps_its_rank():
    x = np.stack([np.array([1.0, -1.0, 2.0, 0.5]) * 1e-16], axis=1)
    model = fs.MLP([[[1e15, 0.2]]], activation=[], family=F.Gaussian())
    found = ap.information_volume(model, x, tau=1.0)
    assert int(found["information_rank"]) == int(ap.asymptotic_covariance(model, x)["information_rank"]) == 2
    determinant = np.mean((x[:, 0] * 1e16) ** 2) - np.mean(x[:, 0] * 1e16) ** 2
    np.testing.assert_allclose(found.log_volume, (np.log(determinant) - 32 * np.log(10)) / 2, rtol=1e-12)


def test_a_rank_is_not_lost_beside_large_columns_that_agree():
    x = np.c_[X[:, 0] * 2.0**400, X[:, 0] * 2.0**401, X[:, 1]]
    model = fs.MLP([[[0.0, 0.0, 0.5, 0.1]]], activation=[], family=F.Gaussian())
    found = ap.information_volume(model, x, tau=1.0)
    assert int(found["information_rank"]) == 3
    with mpmath.workdps(500):
        A = mpmath.matrix([[mpf(float(value)) for value in [*row, 1.0]] for row in x.tolist()])
        values = sorted((one**2 / 30 for one in mpmath.svd_r(A, compute_uv=False)), reverse=True)
    np.testing.assert_allclose(found.eigenvalues[:3], [float(one) for one in values[:3]], rtol=1e-11)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("hidden", [(), (2,)])
@pytest.mark.parametrize("name", FAMILIES)
def test_penalties_and_lengths(name, hidden, exponent):
    """What does not depend on the units does not change by a bit."""
    family, x = FAMILIES[name], inputs(exponent)
    one, other = network(family, hidden), network(family, hidden, exponent)
    to, there = network(family, hidden, 0, 1.25), network(family, hidden, exponent, 1.25)
    pairs = [(ap.pruning_scores(other, x), ap.pruning_scores(one, X))]
    for more in ({}, {"information": "score", "n_draws": 2, "rng": 0}):
        kept = ["exact", "penalty"]
        found, wanted = ap.consolidation_penalty(there, other, x, **more), ap.consolidation_penalty(to, one, X, **more)
        pairs.append((found[kept], wanted[kept]))
        np.testing.assert_array_equal(found.standard_error, wanted.standard_error)
    pairs.append((ap.fisher_rao_norm(other, x), ap.fisher_rao_norm(one, X)))
    for found, wanted in pairs:
        assert found.drop_attrs().identical(wanted.drop_attrs())
    if exponent < 0:  # large columns have variances, of fourth order, beyond the range
        drawn = {"information": "score", "n_draws": 2, "rng": 0}
        small, usual = ap.importance(other, x, **drawn), ap.importance(one, X, **drawn)
        np.testing.assert_array_equal(in_units(other, small, -2 * exponent), usual)
        np.testing.assert_allclose(in_units(other, small.standard_error, -2 * exponent), usual.standard_error, rtol=1e-14)
    held = ap.Consolidation(other, ap.importance(other, x)).value(there)
    assert held == ap.Consolidation(one, ap.importance(one, X)).value(to)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("family", [F.Poisson(), F.Categorical(3)], ids=lambda one: one.name)
def test_lengths_of_gradients(family, exponent):
    """One input and one feature that is all there is: lengths are as large as the feature, their spread is that of the square."""
    model = fs.MLP([np.c_[np.ldexp(np.linspace(0.1, 0.4, family.n_outputs), -exponent), np.zeros(family.n_outputs)]],
                   activation=[], family=family)  # fmt: skip
    x = np.array([[2.0**exponent * 1.5]])
    more = {"n_draws": 4, "rng": 0} if family.name == "poisson" else {}
    found = ap.expected_gradient_length(model, x, score=("squared_norm", "norm"), **more)
    flat = fs.MLP([model.weights[0] * [2.0**exponent, 1]], activation=[], family=family)
    wanted = ap.expected_gradient_length(flat, np.array([[1.5]]), score=("squared_norm", "norm"), **more)
    with mpmath.workdps(400):
        ratio = (mpf(1.5) ** 2 * mpf(2) ** (2 * exponent) + 1) / (mpf(1.5) ** 2 + 1)
        root = mpmath.sqrt(ratio)
    for key, factor in (("squared_norm", ratio), ("squared_norm_deviation", ratio), ("norm", root)):
        np.testing.assert_allclose(found[key], wanted[key] * float(factor), rtol=1e-13)


@pytest.mark.parametrize("exponent", [0, *EXPONENTS])
@pytest.mark.parametrize("column", [0, 1])
def test_functionals(column, exponent):
    """Values and standard errors from the matrix in 800 digits: log-determinant, effective dimension, a damped solution."""
    x, weights = X[:12, :2].copy(), np.array([0.3, 0.2, 0.1])
    x[:, column], weights[column] = np.ldexp(x[:, column], exponent), np.ldexp(weights[column], -exponent)
    model = fs.MLP([weights[None]], activation=[], family=F.Poisson())
    rates = [mpf(float(one)) for one in np.exp(model.natural_parameters(x)[:, 0])]
    with mpmath.workdps(800):
        rows = [mpmath.matrix([mpf(float(value)) for value in [*row, 1.0]]) for row in x]
        matrix = mpmath.zeros(3)
        for rate, row in zip(rates, rows, strict=True):
            matrix += rate * row * row.T / 12
        tau = mpf(0.1)
        inverse = (matrix + tau * mpmath.eye(3)) ** -1
        solution, squared = inverse * mpmath.matrix([1, 1, 1]), inverse * inverse
        values = [[-mpmath.log(mpmath.det(inverse))], [3 - tau * sum(inverse[i, i] for i in range(3))], list(solution)]
        variances = [[mpf(0)], [mpf(0)], [mpf(0)] * 3]
        for rate, row in zip(rates, rows, strict=True):
            spread = (rate + 2 * rate**2) / (12 * 12 * 5)
            variances[0][0] += spread * (row.T * inverse * row)[0] ** 2
            variances[1][0] += spread * (tau * (row.T * squared * row)[0]) ** 2
            variances[2] = [
                old + spread * ((inverse * row)[i] * (row.T * solution)[0]) ** 2 for i, old in enumerate(variances[2])
            ]
        errors = [[float(mpmath.sqrt(one)) for one in some] for some in variances]
    functionals = (fs.LogDet(0.1), fs.EffectiveDimension(0.1), fs.SolveWith(np.ones(3), 0.1))
    for functional, value, error in zip(functionals, values, errors, strict=True):
        found = fs.propagate(functional, model, x, estimator="score", n_draws=5)
        np.testing.assert_allclose(np.ravel(found.value), [float(one) for one in value], rtol=1e-12)
        np.testing.assert_allclose(np.ravel(found.standard_error), error, rtol=1e-12)


def test_small_eigenvalues_keep_their_digits():
    x = X[:, :2] * [1.0, 2.0**70]
    model = fs.MLP([[[0.1, 0.2 / 2.0**70, 0.3]]], activation=[], family=F.Gaussian())
    found = ap.leading_eigenpairs(model, x, 3)
    with mpmath.workdps(100):
        A = mpmath.matrix([[mpf(float(value)) for value in [*row, 1.0]] for row in x.tolist()])
        exact = sorted((one**2 / 30 for one in mpmath.svd_r(A, compute_uv=False)), reverse=True)
    np.testing.assert_allclose(found.eigenvalues, [float(one) for one in exact], rtol=1e-12)
    vectors = found.eigenvectors.values
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-12)


def test_the_error_of_a_large_eigenvalue():
    family, size = F.Gaussian(), 2.0**500
    model = fs.MLP([[[0.5 / size, 0.0]]], activation=[], family=family)
    x = np.array([[1.0], [-1.0], [2.0], [-2.0]]) * size
    found = ap.leading_eigenpairs(model, x, 1)
    np.testing.assert_allclose(found.eigenvalues, 2.5 * size**2, rtol=1e-14)
    np.testing.assert_allclose(found.standard_error, size**2 * np.sqrt(2 * (1 + 1 + 16 + 16) / 16), rtol=1e-13)


@pytest.mark.parametrize("solver", ["dense", "cg"])
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_natural_gradient_without_damping(exponent, solver):
    family = F.Poisson()
    y = family.sample(network(family).natural_parameters(X), 1, 1)[0]
    newton = fs.training.NaturalGradient(0.5, damping=0, solver=solver)

    def fitted(exponent):
        settings = {"optimizer": newton, "epochs": 2, "batch_size": 30, "rng": 0}
        return fs.training.fit(network(family, (), exponent), inputs(exponent), y, **settings).model.weights[0][0]

    found = fitted(exponent)
    np.testing.assert_allclose(np.ldexp(found, [exponent, 0, 0, 0]), fitted(0), rtol=1e-14 if solver == "dense" else 1e-6)


@pytest.mark.parametrize("size", [1e155, 1e-155, 1e300])
def test_inputs_of_any_size(size):
    x, model = X[:, :1] * size, fs.MLP([[[0.5 / size, 0.2]]], activation=[], family=F.Gaussian())
    A = np.c_[X[:, 0], np.ones(30)]
    error = np.sqrt(np.diag(np.linalg.inv(A.T @ A))) / [size, 1]
    y = np.cos(np.arange(30.0))
    found = ap.parameter_intervals(model, x, y, dispersion=1.0)
    np.testing.assert_allclose(found.standard_error, error, rtol=1e-9)
    if size == 1e-155:
        with pytest.raises(ValueError, match="the variance overflows at parameter 0"):
            ap.asymptotic_covariance(model, x, y)
    elif size == 1e300:
        with pytest.raises(ValueError, match="the variance underflows at parameter 0"):
            ap.asymptotic_covariance(model, x, y)
        with pytest.raises(ValueError, match="the bound underflows at position 0"):
            ap.cramer_rao_bound(model, x)
        with pytest.raises(ValueError, match="an eigenvalue overflows at position 0"):
            ap.information_volume(model, x, tau=1.0)


DESIGN = np.linspace(-9.0, -3.0, 82)


@pytest.mark.parametrize(
    "family", [F.Gaussian(), F.Bernoulli(), F.Exponential(), F.InverseGaussian(2.0)], ids=lambda one: one.name
)
@pytest.mark.parametrize("hessian", ["expected", "observed"])
def test_a_polynomial_of_degree_eight(family, hessian):
    """The observed information of one layer has roots as well, so its condition number, 1e15, is not met (NIST's Filip)."""
    x = np.stack([DESIGN**power for power in range(1, 9)], axis=1)
    model = fs.MLP([[[0.05, 0, 0, 0, 0, 0, 0, 0, 0.3]]], activation=[], family=family)
    y = family.sample(model.natural_parameters(x), 1, 1)[0]
    law = family.at(model.natural_parameters(x))
    z = x @ model.weights[0][0, :-1] + 0.3
    weights = [mpf(float(v)) for v in np.einsum("naa->n", law.information())]
    if family.link is not None:
        slope, bend = (list(map(mpf, one[:, 0].tolist())) for one in family.link.evaluate(z[:, None], 2)[1:])
        residual = map(mpf, law.residual(y)[:, 0].tolist())
        weights = [v * g * g - (hessian == "observed") * r * b for v, g, r, b in zip(weights, slope, residual, bend, strict=True)]
    with mpmath.workdps(60):
        rows = [[mpf(float(value)) for value in [*row, 1.0]] for row in x]
        H = mpmath.zeros(9)
        for weight, row in zip(weights, rows, strict=True):
            H += weight * mpmath.matrix(row) * mpmath.matrix(row).T
        exact = [float(mpmath.sqrt((H**-1)[i, i])) for i in range(9)]
    found = ap.asymptotic_covariance(model, x, y, hessian=hessian, dispersion=1.0)
    assert found.estimable.all()
    np.testing.assert_allclose(found.standard_error, exact, rtol=5e-9)


def test_what_cannot_be_decided_is_said_to_be_so():
    """Two units that nearly agree: what the labels add to the expected information is as large as its rounding."""
    x = np.linspace(-2, 2, 40)[:, None]
    model = fs.MLP([[[1.0, 0.3], [1.003, 0.301]], [[1.0, 1.0, 0.1]]], activation="tanh", family=F.Gaussian())
    expected = ap.asymptotic_covariance(model, x, model.natural_parameters(x), dispersion=1.0)
    same = ap.asymptotic_covariance(model, x, model.natural_parameters(x), dispersion=1.0, hessian="observed")
    np.testing.assert_allclose(same.standard_error, expected.standard_error, rtol=1e-12)
    y = model.natural_parameters(x) + 1e-10 * np.cos(5 * x)
    with pytest.raises(fs.AssumptionError, match=r"cannot be decided at this precision|must be positive semi-definite"):
        ap.asymptotic_covariance(model, x, y, hessian="observed", dispersion=1.0)
