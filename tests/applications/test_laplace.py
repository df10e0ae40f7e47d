"""Laplace's approximation against dense matrices, simulations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import fisherstats as fs
from fisherstats.applications import laplace
from tests.theory.cases import assert_close

F = fs.families
RNG = np.random.default_rng(0)
X, AT = RNG.normal(size=(60, 3)), RNG.normal(size=(7, 3))
MODELS = {
    "categorical": fs.MLP.random([3, 4, 3], activation="tanh", family=F.Categorical(3), rng=1),
    "gaussian": fs.MLP.random([3, 4, 2], activation="tanh", family=F.Gaussian(2, covariance=0.5), rng=2),
    "poisson": fs.MLP.random([3, 4, 1], activation="softplus", family=F.Poisson(), rng=3),
    "gamma": fs.MLP.random([3, 4, 1], activation="tanh", family=F.Gamma(2.0), rng=4),
    "no bias": fs.MLP.random([3, 4, 3], activation="tanh", family=F.Categorical(3), rng=1, bias=False),
}
LABELS = {
    "categorical": RNG.integers(0, 3, 60),
    "gaussian": RNG.normal(size=(60, 2)),
    "poisson": RNG.poisson(1.0, 60),
    "gamma": RNG.gamma(2.0, size=60),
    "no bias": RNG.integers(0, 3, 60),
}
names = pytest.mark.parametrize("name", MODELS)
STRUCTURES = ("full", "kfac", "diagonal", "last_layer")


def jacobian(model, x):
    """Derivatives of the natural parameters by central differences with complex steps of no size: by the network's own blocks."""
    from fisherstats.models import derivatives
    from fisherstats.theory.covariance_tensors import dense_jacobian

    forward = derivatives.forward(model, x)
    return dense_jacobian(derivatives.jacobians(model, forward), forward.inputs)


def precision(model, structure, prior):
    """n I + Lambda as a dense matrix over all parameters, and over those that are uncertain."""
    sizes = [one.size for one in model.weights]
    own = np.repeat(np.broadcast_to(prior, len(sizes)), sizes)
    information = len(X) * fs.fisher_information(model, X, view="full").values
    if structure == "full":
        return information + np.diag(own), own
    if structure == "diagonal":
        return np.diag(np.diag(information) + own), own
    if structure == "last_layer":
        last = slice(-sizes[-1], None)
        return information[last, last] + np.diag(own[last]), own[last]
    tree = fs.fisher_information(model, X, view="kfac")
    blocks = [len(X) * np.kron(tree[one]["G"].values, tree[one]["A"].values) for one in tree.children]
    matrix, start = np.diag(own), 0
    for block in blocks:
        matrix[start : start + len(block), start : start + len(block)] += block
        start += len(block)
    return matrix, own


@pytest.mark.parametrize("prior", [0.7, [0.3, 2.0]], ids=["one", "layers"])
@pytest.mark.parametrize("structure", STRUCTURES)
@names
def test_it_equals_the_dense_solution(name, structure, prior):
    model, y = MODELS[name], LABELS[name]
    posterior = laplace(model, X, y, structure=structure, prior_precision=prior)
    dense, own = precision(model, structure, prior)
    covariance = np.linalg.inv(dense)
    J = jacobian(model, AT)[:, :, -len(own) :]
    if model.family.link is not None:
        z = np.column_stack([np.tanh(np.column_stack([AT, np.ones(7)]) @ model.weights[0].T), np.ones(7)]) @ model.weights[1].T
        J = J / model.family.link.evaluate(z, 1)[1][:, :, None]
    found = posterior.predict(AT)
    np.testing.assert_allclose(found.covariance, J @ covariance @ J.swapaxes(1, 2), rtol=1e-9, atol=1e-13)
    deviations = posterior.standard_deviations().values
    np.testing.assert_allclose(deviations[-len(own) :], np.sqrt(np.diag(covariance)), rtol=1e-10)
    assert (deviations[: -len(own)] == 0).all()
    theta = np.concatenate([one.ravel() for one in model.weights])[-len(own) :]
    likelihood = model.family.log_prob(model.natural_parameters(X), y).sum()
    evidence = likelihood - 0.5 * (own * theta**2).sum() - 0.5 * np.linalg.slogdet(dense)[1] + 0.5 * np.log(own).sum()
    np.testing.assert_allclose(posterior.log_evidence, evidence, rtol=1e-11)
    effective = len(own) - (own * np.diag(covariance)).sum()
    np.testing.assert_allclose(posterior.summary["effective_parameters"], effective, rtol=1e-9)


@pytest.mark.parametrize("structure", ["full", "diagonal"])
def test_a_prior_for_each_parameter(structure):
    model, y = MODELS["gaussian"], LABELS["gaussian"]
    prior = RNG.uniform(0.1, 3.0, model.n_params)
    found = laplace(model, X, y, structure=structure, prior_precision=prior).predict(AT).covariance
    information = len(X) * fs.fisher_information(model, X, view="full").values
    information = information if structure == "full" else np.diag(np.diag(information))
    J = jacobian(model, AT)
    np.testing.assert_allclose(found, J @ np.linalg.inv(information + np.diag(prior)) @ J.swapaxes(1, 2), rtol=1e-9)


def test_a_linear_model_has_the_exact_evidence():
    """Gaussian regression without hidden layers: the marginal distribution of the labels is known."""
    x, family = RNG.normal(size=(20, 3)), F.Gaussian(1, covariance=0.3)
    bar = np.column_stack([x, np.ones(20)])
    y = bar @ [1.0, -0.5, 0.2, 0.1] + RNG.normal(size=20) * np.sqrt(0.3)
    alpha = 0.8
    mode = np.linalg.solve(bar.T @ bar / 0.3 + alpha * np.eye(4), bar.T @ y / 0.3)
    model = fs.MLP([mode[None]], activation=[], family=family)
    exact = scipy.stats.multivariate_normal(np.zeros(20), bar @ bar.T / alpha + 0.3 * np.eye(20)).logpdf(y)
    for structure in ("full", "last_layer", "kfac"):
        found = laplace(model, x, y, structure=structure, prior_precision=alpha)
        assert_close(found.log_evidence, exact)
    best = laplace(model, x, y, structure="full", prior_precision="evidence")
    for factor in (0.9, 1.1):
        other = laplace(model, x, y, structure="full", prior_precision=float(best.prior_precision[0]) * factor)
        assert other.log_evidence < best.log_evidence


@pytest.mark.parametrize("structure", STRUCTURES)
@names
def test_the_evidence_is_at_its_maximum(name, structure):
    model, y = MODELS[name], LABELS[name]
    best = laplace(model, X, y, structure=structure, prior_precision="evidence")
    alpha = float(best.prior_precision[0])
    for factor in (0.8, 1.25):
        assert laplace(model, X, y, structure=structure, prior_precision=alpha * factor).log_evidence < best.log_evidence


@pytest.mark.parametrize("structure", STRUCTURES)
def test_samples_have_the_stated_covariance(structure):
    """4000 networks: variances have a standard error of 2.2 %; 31 z-scores beyond 5.5 with probability 1e-6, 15 % off gives "
    "6.7."""
    model, y = MODELS["categorical"], LABELS["categorical"]
    posterior = laplace(model, X, y, structure=structure, prior_precision=2.0)
    networks = posterior.sample(4000, 0)
    theta = np.stack([np.concatenate([one.ravel() for one in network.weights]) for network in networks])
    centre = np.concatenate([one.ravel() for one in model.weights])
    deviation = posterior.standard_deviations().values
    uncertain = deviation > 0
    squares = (np.square(theta - centre)[:, uncertain] / np.square(deviation[uncertain])).mean(axis=0)
    assert (np.abs(squares - 1) < 5.5 * np.sqrt(2 / 4000)).all()
    assert (theta[:, ~uncertain] == centre[~uncertain]).all()


def test_averages_over_the_posterior():
    """A Poisson mean is a log-normal mean; a Gaussian response adds its own variance."""
    model, y = MODELS["poisson"], LABELS["poisson"]
    posterior = laplace(model, X, y, structure="full", prior_precision=1.0)
    found = posterior.predict(AT, n_samples=20_000)
    h, variance = found.predictor.values[:, 0], found.covariance.values[:, 0, 0]
    expected = np.exp(h + variance / 2)
    error = expected * np.sqrt(np.expm1(variance) / 20_000)
    assert (np.abs(found["response_mean"].values[:, 0] - expected) < 5 * error).all()
    response = posterior.predict(AT, kind="response", n_samples=20_000)
    total = expected + expected**2 * np.expm1(variance)
    np.testing.assert_allclose(response.response_variance.values[:, 0], total, rtol=0.1)
    model, y = MODELS["gaussian"], LABELS["gaussian"]
    posterior = laplace(model, X, y, structure="full")
    found = posterior.predict(AT, kind="response", n_samples=4000)
    total = (np.diagonal(found.covariance.values, axis1=1, axis2=2) + 0.5) / 0.25  # the statistic is y / 0.5
    reach = found.response_upper.values - found.response_lower.values
    np.testing.assert_allclose(reach, 2 * 1.96 * np.sqrt(np.diagonal(found.covariance.values, axis1=1, axis2=2) + 0.5), rtol=0.12)
    assert found.response_variance.shape == total.shape


def test_predictions_do_not_depend_on_the_other_inputs():
    posterior = laplace(MODELS["categorical"], X, LABELS["categorical"])
    whole, some = posterior.predict(AT), posterior.predict(AT[:3])
    for key in whole.data_vars:
        np.testing.assert_allclose(some[key].values, whole[key].values[:3], rtol=1e-12)


@pytest.mark.parametrize("information", ["score", "hessian", "empirical"])
@pytest.mark.parametrize("structure", ["full", "diagonal", "last_layer"])
def test_other_information(structure, information):
    model, y = MODELS["categorical"], LABELS["categorical"]
    drawn = {} if information == "empirical" else {"n_draws": 2000, "rng": 0}
    found = laplace(model, X, y, structure=structure, information=information, prior_precision=5.0, **drawn)
    exact = laplace(model, X, y, structure=structure, prior_precision=5.0)
    ratio = found.standard_deviations() / exact.standard_deviations()
    assert abs(float(ratio.median()) - 1) < (0.3 if information == "empirical" else 0.02)


def test_refusals():
    model, y = MODELS["categorical"], LABELS["categorical"]
    for prior in (0.0, -1.0, [1.0, 0.0]):
        with pytest.raises(ValueError, match="`prior_precision` must be positive and finite: an improper prior"):
            laplace(model, X, y, prior_precision=prior)
    with pytest.raises(ValueError, match=r"`prior_precision` must be one number, 2 \(one for each layer\), got shape"):
        laplace(model, X, y, prior_precision=np.ones(5))
    with pytest.raises(ValueError, match="`prior_precision` must be positive numbers or 'evidence'"):
        laplace(model, X, y, prior_precision="evident")
    with pytest.raises(ValueError, match="`information` must be 'exact' with structure='kfac'"):
        laplace(model, X, y, information="empirical")
    with pytest.raises(ValueError, match="`n_draws` and `rng` must be given"):
        laplace(model, X, y, structure="full", information="score")
    with pytest.raises(ValueError, match="`n_draws` and `rng` go with"):
        laplace(model, X, y, n_draws=3, rng=0)
    with pytest.raises(ValueError, match="leave the posterior precision positive"):
        laplace(model, X, y, structure="full", information="hessian", n_draws=1, rng=0, prior_precision=1e-4)
    with pytest.raises(ValueError, match="`structure` must be one of"):
        laplace(model, X, y, structure="kron")
    with pytest.raises(ValueError, match="`y` must"):
        laplace(model, X, y[:5])
