"""Networks read from generalized linear models of statsmodels give its means, and its covariance."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import from_statsmodels
from tests.refusals import pattern

sm = pytest.importorskip("statsmodels.api")
pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(200, 2)) * 0.5, columns=["age", "dose"])
ETA = 0.3 + X.to_numpy() @ [0.5, -0.4]
DESIGN = sm.add_constant(X)
families, links = sm.families, sm.families.links
CASES = {
    "binomial": (RNG.binomial(1, 1 / (1 + np.exp(-ETA))), families.Binomial()),
    "poisson": (RNG.poisson(np.exp(ETA)), families.Poisson()),
    "gaussian": (ETA + RNG.normal(size=200), families.Gaussian()),
    "gamma": (RNG.gamma(2.0, np.exp(ETA) / 2), families.Gamma(links.Log())),
    "negative binomial": (RNG.poisson(np.exp(ETA) * RNG.gamma(2.0, 0.5, size=200)), families.NegativeBinomial(alpha=0.5)),
    "inverse Gaussian": (RNG.wald(np.exp(ETA), 3.0), families.InverseGaussian(links.Log())),
}


@pytest.mark.parametrize("name", CASES)
def test_means_and_covariance(name):
    y, family = CASES[name]
    results = sm.GLM(y, DESIGN, family=family).fit()
    model = from_statsmodels(results)
    assert model.feature_names == ("age", "dose")
    h = model.natural_parameters(X)
    statistic_is_y = name not in ("gaussian", "inverse Gaussian")
    mean = h if name == "gaussian" else model.family.mean(h) if statistic_is_y else np.sqrt(model.family.shape / (-2 * h))
    np.testing.assert_allclose(mean.ravel(), results.fittedvalues, rtol=1e-10)
    information = fs.fisher_information(model, X, view="full").values * len(X)
    # The package's rows hold the bias last, and a multiple of the coefficients.
    factor = model.weights[0][0, 0] / results.params["age"]
    covariance = np.linalg.inv(information)[np.ix_([2, 0, 1], [2, 0, 1])] / factor**2
    np.testing.assert_allclose(covariance, results.cov_params(), rtol=1e-4, atol=1e-9)


@pytest.mark.skipif("bias" not in inspect.signature(fs.MLP.__init__).parameters, reason="this version has no layers without bias")
def test_without_a_constant():
    y, family = CASES["poisson"]
    results = sm.GLM(y, X, family=family).fit()
    model = from_statsmodels(results)
    assert model.n_params == 2
    np.testing.assert_allclose(model.family.mean(model.natural_parameters(X)).ravel(), results.fittedvalues, rtol=1e-12)


COUNTS = RNG.poisson(np.exp(ETA) * RNG.gamma(2.0, 0.5, size=200))
MODELS = {
    "ols": lambda: sm.OLS(CASES["gaussian"][0], DESIGN).fit(),
    "wls": lambda: sm.WLS(CASES["gaussian"][0], DESIGN, weights=np.full(200, 2.0)).fit(),
    "logit": lambda: sm.Logit(CASES["binomial"][0], DESIGN).fit(disp=0),
    "poisson": lambda: sm.Poisson(CASES["poisson"][0], DESIGN).fit(disp=0),
    "negative binomial": lambda: sm.NegativeBinomial(COUNTS, DESIGN).fit(disp=0),
}


@pytest.mark.parametrize("name", MODELS)
def test_linear_and_discrete_models(name):
    results = MODELS[name]()
    model = from_statsmodels(results)
    assert model.feature_names == ("age", "dose")
    h = model.natural_parameters(X)
    mean = h if name in ("ols", "wls") else model.family.mean(h)
    np.testing.assert_allclose(mean.ravel(), results.predict(DESIGN), rtol=1e-10)
    if name in ("logit", "poisson", "ols"):
        covariance = np.linalg.inv(fs.fisher_information(model, X, view="full").values * 200)[np.ix_([2, 0, 1], [2, 0, 1])]
        np.testing.assert_allclose(covariance, results.cov_params(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("design", [DESIGN, X], ids=["constant", "none"])
def test_a_multinomial_logit(design):
    y = RNG.integers(0, 3, 200)
    results = sm.MNLogit(y, design).fit(disp=0)
    model = from_statsmodels(results)
    np.testing.assert_allclose(model.family.mean(model.natural_parameters(X)), results.predict(design), rtol=1e-10)
    assert model.family == fs.families.Categorical(3)
    # The class numbers are those of the data.
    h = model.natural_parameters(X)
    np.testing.assert_allclose(model.family.log_prob(h, y).sum(), results.llf, rtol=1e-9)


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (
            lambda: sm.Probit(CASES["binomial"][0], DESIGN).fit(disp=0),
            r"`results` must be of one of the models .+, got Probit; refit",
        ),
        (lambda: sm.WLS(CASES["gaussian"][0], DESIGN, weights=np.arange(1, 201)).fit(), "got weights other than 1"),
        (lambda: sm.GLS(CASES["gaussian"][0], DESIGN, sigma=np.arange(1.0, 201)).fit(), "got a covariance `sigma` of the errors"),
        (lambda: sm.Poisson(CASES["poisson"][0], DESIGN, exposure=np.full(200, 2.0)).fit(disp=0), "got an exposure"),
        (lambda: sm.NegativeBinomial(COUNTS, DESIGN, loglike_method="nb1").fit(disp=0), "loglike_method='nb2'"),
    ],
)
def test_other_models_that_are_refused(fit, message):
    with pytest.raises(ValueError, match=message):
        from_statsmodels(fit())


def poisson(**given):
    y, family = CASES["poisson"]
    return sm.GLM(y, DESIGN, family=family, **given).fit()


REFUSED = [
    (lambda: poisson(offset=np.ones(200)), "`results` must be of a model whose .+, got an offset; refit it"),
    (lambda: poisson(exposure=np.full(200, 2.0)), "`results` must be of a model whose .+, got an exposure; refit it"),
    (lambda: poisson(freq_weights=np.full(200, 2.0)), "`results` must be of a model whose .+, got freq_weights other than 1"),
    (lambda: poisson(var_weights=np.full(200, 2.0)), "`results` must be of a model whose .+, got var_weights other than 1"),
    (
        lambda: sm.GLM(np.column_stack([CASES["poisson"][0], CASES["poisson"][0] + 1]), DESIGN, family=families.Binomial()).fit(),
        "`results` must be of a model whose .+, got several trials per response",
    ),
    (
        lambda: sm.GLM(CASES["binomial"][0], DESIGN, family=families.Binomial(links.Probit())).fit(),
        "`results` must be of one of the models Binomial with Logit, .+, got Binomial with Probit",
    ),
    (
        lambda: sm.GLM(CASES["poisson"][0], DESIGN, family=families.Poisson()).fit(scale="X2"),
        "`results` must be of a likelihood, got Poisson with the scale",
    ),
    (
        lambda: sm.GLM(CASES["gamma"][0], X, family=families.Gamma(links.Log())).fit(),
        "`results` must be of a model with a constant",
    ),
    (
        lambda: sm.GLM(CASES["poisson"][0], np.ones(200), family=families.Poisson()).fit(),
        "`results` must be of a model with a column",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=pattern(message)):
        from_statsmodels(make())


def test_other_objects():
    y, family = CASES["poisson"]
    for wrong in (None, sm.GLM(y, DESIGN, family=family), sm.tsa.AutoReg(np.arange(50.0) % 7, 1).fit()):
        with pytest.raises(TypeError, match="`results` must be the results of a statsmodels model such as"):
            from_statsmodels(wrong)
