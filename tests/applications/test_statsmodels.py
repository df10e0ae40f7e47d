"""Generalised linear models on the data sets that statsmodels carries: the same standard errors and intervals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fisherstats as fs

ap = fs.applications

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sm = pytest.importorskip("statsmodels.api")

CASES = {
    "randhie": (fs.families.Poisson(), lambda: sm.families.Poisson()),
    "spector": (fs.families.Bernoulli(), lambda: sm.families.Binomial()),
    "longley": (fs.families.Gaussian(), lambda: sm.families.Gaussian()),
}


@pytest.fixture(scope="module", params=[(name, intercept) for name in CASES for intercept in (True, False)], ids=str)
def fitted(request):
    name, intercept = request.param
    family, make = CASES[name]
    data = getattr(sm.datasets, name).load()
    x, y = np.asarray(data.exog, float), np.asarray(data.endog, float)
    design = sm.add_constant(x, prepend=False) if intercept else x
    glm = sm.GLM(y, design, family=make())
    theirs = glm.fit(tol=1e-14, maxiter=200)
    model = fs.MLP([theirs.params[None]], activation=[], family=family, bias=intercept)
    return model, x, y, design, glm, theirs


def test_covariance_dispersion_and_intervals(fitted):
    model, x, y, _, _, theirs = fitted
    found = ap.asymptotic_covariance(model, x, y)
    np.testing.assert_allclose(found.covariance, theirs.cov_params(), rtol=1e-7)
    np.testing.assert_allclose(found.standard_error, theirs.bse, rtol=1e-7)
    np.testing.assert_allclose(found.dispersion, theirs.scale, rtol=1e-9)
    assert int(found.degrees_of_freedom) == theirs.df_resid
    assert float(found.score_statistic) < 1e-12
    intervals = ap.parameter_intervals(model, x, y)
    np.testing.assert_allclose(np.stack([intervals.lower, intervals.upper], 1), theirs.conf_int(), rtol=1e-7)


def test_the_observed_information_of_a_canonical_link_is_the_expected_one(fitted):
    model, x, y, _, _, theirs = fitted
    found = ap.asymptotic_covariance(model, x, y, hessian="observed")
    np.testing.assert_allclose(found.covariance, theirs.cov_params(), rtol=1e-6)


def test_sandwich(fitted):
    model, x, y, _, glm, _ = fitted
    theirs = glm.fit(tol=1e-14, maxiter=200, cov_type="HC0")
    found = ap.asymptotic_covariance(model, x, y, robust=True)
    np.testing.assert_allclose(found.covariance, theirs.cov_params(), rtol=1e-6)


def test_predictions(fitted):
    model, x, y, design, _, theirs = fitted
    found = ap.prediction_intervals(model, x, y, x[:7])
    frame = theirs.get_prediction(design[:7]).summary_frame()
    for name, column in (("predicted_mean", "mean"), ("mean_standard_error", "mean_se"), ("mean_lower", "mean_ci_lower"),
                         ("mean_upper", "mean_ci_upper")):  # fmt: skip
        np.testing.assert_allclose(found[name][:, 0], frame[column], rtol=1e-6)


def test_a_link_that_is_not_canonical():
    """Gamma with log link on the votes of Scottish districts: statsmodels' sandwich has the observed information there."""
    data = sm.datasets.scotland.load()
    x, y = np.asarray(data.exog, float) / 100, np.asarray(data.endog, float)
    design = sm.add_constant(x, prepend=False)
    glm = sm.GLM(y, design, family=sm.families.Gamma(sm.families.links.Log()))
    shape = 2.0
    # The mean is shape e^-z, so signs change and the constant takes the logarithm of the shape.
    theirs = glm.fit(tol=1e-14, scale=1 / shape)
    weights = -theirs.params
    weights[-1] += np.log(shape)
    model = fs.MLP([weights[None]], activation=[], family=fs.families.Gamma(shape))
    np.testing.assert_allclose(ap.asymptotic_covariance(model, x, y).covariance, theirs.cov_params(), rtol=1e-6)
    pearson = ap.asymptotic_covariance(model, x, y, dispersion="pearson")
    free = glm.fit(tol=1e-14)
    np.testing.assert_allclose(pearson.dispersion / shape, free.scale, rtol=1e-7)
    np.testing.assert_allclose(pearson.covariance, free.cov_params(), rtol=1e-6)
    robust = glm.fit(tol=1e-14, scale=1 / shape, cov_type="HC0").cov_params()
    sandwich = {one: ap.asymptotic_covariance(model, x, y, robust=True, hessian=one) for one in ("observed", "expected")}
    np.testing.assert_allclose(sandwich["observed"].covariance, robust, rtol=1e-6)
    assert not np.allclose(sandwich["expected"].covariance, robust, rtol=1e-3)
    predicted, frame = ap.prediction_intervals(model, x, y, x), theirs.get_prediction(design).summary_frame()
    np.testing.assert_allclose(predicted["predicted_mean"][:, 0], frame["mean"], rtol=1e-9)
    np.testing.assert_allclose(predicted.mean_lower[:, 0], frame.mean_ci_lower, rtol=1e-7)
    np.testing.assert_allclose(predicted.mean_upper[:, 0], frame.mean_ci_upper, rtol=1e-7)
