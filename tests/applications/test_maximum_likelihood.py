"""Covariances and intervals against pseudo-inverses, 60-digit arithmetic, and finite differences of the network."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import stats

import fisherstats as fs
from fisherstats.core.errors import AssumptionError
from tests.refusals import pattern, refused

ap = fs.applications
X = np.random.default_rng(0).normal(size=(60, 3))


def linear(family, rng=1):
    return fs.MLP.random([3, family.n_outputs], activation=[], family=family, rng=rng)


def labels_of(model, x, rng=5):
    return model.family.sample(model.natural_parameters(x), rng, 1)[0]


MODELS = {
    "Poisson": fs.MLP.random([3, 2, 1], activation="tanh", family=fs.families.Poisson(), rng=1),
    "Gaussian": fs.MLP.random([3, 2, 2], activation="tanh", family=fs.families.Gaussian(2, covariance=[2.0, 0.5]), rng=2),
    "linked": fs.MLP.random([3, 2, 1], activation="tanh", family=fs.families.Exponential(), rng=3),
    "classes": fs.MLP.random([3, 2, 3], activation="tanh", family=fs.families.Categorical(3), rng=4),
    "dead": fs.MLP([[[0.1, 0.2, 0.3, -50.0], [0.4, -0.3, 0.2, 9.0]], [[1.0, 0.5, 0.2]]], activation="relu",
                   family=fs.families.Bernoulli()),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_covariance_is_the_pseudo_inverse_of_the_information_of_all_labels(name):
    model = MODELS[name]
    information = len(X) * fs.fisher_information(model, X, view="full").values
    found = ap.asymptotic_covariance(model, X)
    inverse = np.linalg.pinv(information, rcond=1e-11, hermitian=True)
    np.testing.assert_allclose(found.covariance, inverse, rtol=1e-6, atol=1e-8 * np.abs(inverse).max())
    values, vectors = np.linalg.eigh(information)
    null = vectors[:, values < 1e-11 * values[-1]]
    estimable = np.linalg.norm(null, axis=1) < 1e-5
    np.testing.assert_array_equal(found.estimable, estimable)
    np.testing.assert_array_equal(np.isinf(found.standard_error), ~estimable)
    assert int(found["information_rank"]) == model.n_params - null.shape[1]
    assert (null.shape[1] == 0) == (name not in ("classes", "dead"))
    bound = ap.cramer_rao_bound(model, X)
    np.testing.assert_allclose(bound[estimable], np.diag(inverse)[estimable], rtol=1e-6)
    assert np.isinf(bound[~estimable]).all()


def test_directions_in_the_range_are_estimable_where_parameters_are_not():
    model = linear(fs.families.Categorical(3))
    contrast = np.zeros(model.n_params)
    contrast[0], contrast[4] = 1, -1
    single = np.zeros(model.n_params)
    single[0] = 1
    found = ap.cramer_rao_bound(model, X, directions=[contrast, single], dispersion=2.0)
    inverse = np.linalg.pinv(len(X) * fs.fisher_information(model, X, view="full").values, rcond=1e-11, hermitian=True)
    np.testing.assert_allclose(found[0], 2 * contrast @ inverse @ contrast, rtol=1e-10)
    assert np.isinf(found[1])


def test_a_badly_scaled_design_keeps_its_digits():
    """Polynomials to the sixth degree of a year: the information has the condition number 1e30."""
    years = np.linspace(1.0, 2.0, 20)
    x = np.stack([years**power * 10.0 ** (3 * power) for power in range(1, 7)], axis=1)
    model = fs.MLP([np.zeros((1, 7))], activation=[], family=fs.families.Gaussian())
    with mpmath.workdps(60):
        A = mpmath.matrix([[*map(mpmath.mpf, row), 1] for row in x.tolist()])
        inverse = (A.T * A) ** -1
        exact = np.array([float(mpmath.sqrt(inverse[i, i])) for i in range(7)])
    error = ap.asymptotic_covariance(model, x).standard_error
    np.testing.assert_allclose(error, exact, rtol=1e-8)
    information = len(x) * fs.fisher_information(model, x, view="full").values
    naive = np.sqrt(np.abs(np.diag(np.linalg.pinv(information))))
    assert np.abs(naive / exact - 1).max() > 1e-3


@pytest.mark.parametrize("hessian", ["expected", "observed"])
@pytest.mark.parametrize("name", ["Poisson", "Gaussian", "linked"])
def test_the_sandwich_and_the_observed_information(name, hessian):
    model, n = MODELS[name], len(X)
    y = labels_of(model, X)
    meat = n * fs.empirical_fisher(model, X, y, view="full").empirical.values
    both = fs.observed_information(model, X, y, view="full")
    H = n * both[hessian].values
    if np.linalg.eigvalsh(H)[0] < 0:
        with pytest.raises(AssumptionError, match="must be positive semi-definite"):
            ap.asymptotic_covariance(model, X, y, hessian=hessian)
        return
    inverse = np.linalg.inv(H)
    robust = ap.asymptotic_covariance(model, X, y, hessian=hessian, robust=True)
    np.testing.assert_allclose(robust.covariance, inverse @ meat @ inverse, rtol=1e-6, atol=1e-9)
    plain = ap.asymptotic_covariance(model, X, y, hessian=hessian, dispersion=1.5)
    np.testing.assert_allclose(plain.covariance, 1.5 * inverse, rtol=1e-6, atol=1e-9)


def test_the_observed_information_of_a_fitted_curve():
    x = np.linspace(-2, 2, 30)[:, None]
    model = fs.MLP([[[1.3, 0.2]], [[2.0, 0.5]]], activation="tanh", family=fs.families.Gaussian())
    y = model.natural_parameters(x) + 0.01 * np.cos(9 * x)
    H = 30 * fs.observed_information(model, x, y, view="full").observed.values
    found = ap.asymptotic_covariance(model, x, y, hessian="observed", dispersion=1.0)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(H), rtol=1e-8)


@pytest.mark.parametrize("family", [fs.families.Poisson(), fs.families.Exponential(), fs.families.Geometric()])
def test_the_end_of_an_interval_may_be_past_the_range_of_the_family(family):
    """Far from all data the outputs may be anything; the intervals of other inputs are what they are without it."""
    x = np.linspace(-1, 1, 8)[:, None] / 100
    model = fs.MLP([[[0.5, -1.0]]], activation=[], family=family)
    y = family.sample(model.natural_parameters(x), 3, 1)[0]
    at = np.array([[0.01], [40.0], [0.0], [-40.0]])
    found = ap.prediction_intervals(model, x, y, at)
    near = ap.prediction_intervals(model, x, y, at[[0, 2]])
    for name in near.data_vars:
        np.testing.assert_array_equal(found[name][[0, 2]], near[name])
        assert np.isfinite(near[name]).all()
    assert np.isposinf(found.mean_upper[[1, 3]]).all()
    assert (found.mean_lower <= found.predicted_mean).all()
    assert (found.predicted_mean <= found.mean_upper).all()


def test_labels_that_cannot_vary_are_of_no_use_and_no_harm():
    """Probabilities of exactly 1: nothing can be estimated, and only a dispersion from such labels is refused."""
    model = fs.MLP([[[800.0, 900.0]]], activation=[], family=fs.families.Bernoulli())
    x, y = np.ones((3, 1)), np.ones(3)
    found = ap.asymptotic_covariance(model, x, y)
    assert not found.estimable.any()
    assert np.isposinf(found.standard_error).all()
    assert not found.covariance.any()
    assert int(found["information_rank"]) == 0
    with pytest.raises(ValueError, match="variance of the label underflows, first for input 0, output 0"):
        ap.asymptotic_covariance(model, x, y, dispersion="pearson")


def test_dispersion_and_score_statistic():
    rng = np.random.default_rng(3)
    family = fs.families.Gaussian(2, covariance=[[2.0, 0.3], [0.3, 0.5]])
    model = linear(family)
    y = rng.normal(size=(60, 2))
    found = ap.asymptotic_covariance(model, X, y)
    residual = y - model.natural_parameters(X)
    squares = np.einsum("it,ts,is", residual, np.linalg.inv([[2.0, 0.3], [0.3, 0.5]]), residual)
    assert int(found.degrees_of_freedom) == 120 - 8
    np.testing.assert_allclose(found.dispersion, squares / 112, rtol=1e-12)
    score = np.einsum("it,ts,id->sd", residual, np.linalg.inv([[2.0, 0.3], [0.3, 0.5]]), np.c_[X, np.ones(60)]).ravel()
    information = 60 * fs.fisher_information(model, X, view="full").values
    np.testing.assert_allclose(found.score_statistic, score @ np.linalg.solve(information, score) / (squares / 112), rtol=1e-9)
    assert np.isnan(ap.asymptotic_covariance(model, X).score_statistic)
    assert float(ap.asymptotic_covariance(model, X).dispersion) == 1


@pytest.mark.parametrize("minimal", [True, False])
def test_pearson_dispersion_of_classes(minimal):
    model = linear(fs.families.Categorical(3, minimal=minimal))
    y = labels_of(model, X)
    logits = model.natural_parameters(X)
    logits = np.c_[logits, np.zeros(60)] if minimal else logits
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = ap.asymptotic_covariance(model, X, y, dispersion="pearson")
    np.testing.assert_allclose(found.dispersion, (1 / p[np.arange(60), y] - 1).sum() / (120 - 8), rtol=1e-10)


@pytest.mark.parametrize("reference", ["normal", "t"])
def test_intervals_of_parameters(reference):
    model = linear(fs.families.Gaussian())
    y = np.random.default_rng(3).normal(size=60)
    quantile = stats.norm.ppf(0.95) if reference == "normal" else stats.t.ppf(0.95, 56)
    found = ap.parameter_intervals(model, X, y, level=0.9, reference=reference)
    A = np.c_[X, np.ones(60)]
    sigma2 = np.sum((y - model.natural_parameters(X)[:, 0]) ** 2) / 56
    error = np.sqrt(sigma2 * np.diag(np.linalg.inv(A.T @ A)))
    np.testing.assert_allclose(found.upper, model.weights[0][0] + quantile * error, rtol=1e-11)
    np.testing.assert_allclose(found.estimate - found.lower, quantile * error, rtol=1e-11)


@pytest.mark.parametrize("name", ["Poisson", "linked", "classes"])
def test_intervals_of_predictions(name):
    model = MODELS[name]
    y, at = labels_of(model, X), X[:4]
    found = ap.prediction_intervals(model, X, y, at)
    covariance = ap.asymptotic_covariance(model, X, y).covariance.values
    theta = np.concatenate([w.ravel() for w in model.weights])

    def mean(vector):
        parts = np.split(vector, np.cumsum([w.size for w in model.weights])[:-1])
        moved = fs.MLP([p.reshape(w.shape) for p, w in zip(parts, model.weights, strict=True)],
                       activation="tanh", family=model.family)  # fmt: skip
        return model.family.mean(moved.natural_parameters(at))

    step = 1e-5
    J = np.stack([(mean(theta + step * e) - mean(theta - step * e)) / (2 * step) for e in np.eye(theta.size)], axis=-1)
    error = np.sqrt(np.einsum("itp,pq,itq->it", J, covariance, J))
    np.testing.assert_allclose(found.mean_standard_error, error, rtol=1e-6)
    np.testing.assert_allclose(found.predicted_mean, mean(theta), rtol=1e-12)
    if name == "classes":
        assert np.isinf(found.predictor_standard_error).all()
        np.testing.assert_allclose(found.mean_upper - found.predicted_mean, 1.959963984540054 * error, rtol=1e-5)
    else:
        assert (found.mean_lower < found.predicted_mean).all()
        ends = []
        for z in (found.predictor_lower.values, found.predictor_upper.values):
            h = z if model.family.link is None else model.family.link.evaluate(z, 0)[0]
            ends.append(model.family.mean(h))
        np.testing.assert_allclose(found.mean_lower, np.minimum(*ends), rtol=1e-12)
        np.testing.assert_allclose(found.mean_upper, np.maximum(*ends), rtol=1e-12)


def test_float32_is_computed_in_float64():
    model = fs.MLP([w.astype(np.float32) for w in MODELS["Poisson"].weights], activation="tanh", family=fs.families.Poisson())
    exact = fs.MLP([w.astype(np.float64) for w in model.weights], activation="tanh", family=fs.families.Poisson())
    x = X.astype(np.float32)
    same = ap.asymptotic_covariance(exact, x.astype(np.float64))
    np.testing.assert_array_equal(ap.asymptotic_covariance(model, x).covariance, same.covariance)


def test_many_blocks_and_threads_give_one_result():
    x = np.random.default_rng(1).normal(size=(1500, 3))
    one = ap.asymptotic_covariance(MODELS["Poisson"], x, num_threads=1)
    assert one.identical(ap.asymptotic_covariance(MODELS["Poisson"], x, num_threads=2))
    information = len(x) * fs.fisher_information(MODELS["Poisson"], x, view="full").values
    np.testing.assert_allclose(one.covariance, np.linalg.inv(information), rtol=1e-8)


POISSON, Y = MODELS["Poisson"], np.ones(60)


@refused(
    [
        (
            lambda: ap.asymptotic_covariance(POISSON, X, robust=True),
            ValueError,
            "`y` must be given with robust=True, got None; pass the data labels that the network was fitted to.",
        ),
        (
            lambda: ap.asymptotic_covariance(POISSON, X, hessian="observed"),
            ValueError,
            "`y` must be given with hessian='observed'",
        ),
        (lambda: ap.asymptotic_covariance(POISSON, X, dispersion="pearson"), ValueError, "`y` must be given with dispersion="),
        (
            lambda: ap.asymptotic_covariance(POISSON, X, dispersion="deviance"),
            ValueError,
            "`dispersion` must be None, 'pearson' or a finite number above 0, got 'deviance'.",
        ),
        (lambda: ap.asymptotic_covariance(POISSON, X, dispersion=-1), ValueError, "`dispersion` must be a finite number above 0"),
        (lambda: ap.asymptotic_covariance(POISSON, X, hessian="exact"), ValueError, "`hessian` must be one of 'expected', 'obs"),
        (lambda: ap.parameter_intervals(POISSON, X, None), ValueError, "`y` must be given with `parameter_intervals`, got None"),
        (lambda: ap.parameter_intervals(POISSON, X, Y, level=1.0), ValueError, "`level` must be a number between 0 and 1"),
        (lambda: ap.parameter_intervals(POISSON, X, Y, reference="z"), ValueError, "`reference` must be one of 'normal', 't'"),
        (lambda: ap.cramer_rao_bound(POISSON, X, directions=[1.0]), ValueError, "`directions` must have shape (11,) or (k, 11)"),
        (lambda: ap.asymptotic_covariance(None, X), TypeError, "`model` must be a fisherstats.MLP, got None"),
        (
            lambda: ap.asymptotic_covariance(POISSON, X[:3], Y[:3], dispersion="pearson"),
            AssumptionError,
            "An estimated dispersion needs more label values (3) than the rank of the information (3); give the",
        ),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()
