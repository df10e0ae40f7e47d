"""Facts of information geometry: natural gradient as mirror descent, one length for all f-divergences, sufficient statistics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize, stats

import fisherstats as fs
from fisherstats import training

ap = fs.applications
X = np.random.default_rng(0).normal(size=(9, 2))


def flat(model):
    return np.concatenate([w.ravel() for w in model.weights])


def with_parameters(model, theta):
    cuts = np.cumsum([w.size for w in model.weights])[:-1]
    parts = [part.reshape(w.shape) for part, w in zip(np.split(theta, cuts), model.weights, strict=True)]
    return fs.MLP(parts, activation=model.activations, family=model.family)


# --- the metric of the roots of probabilities ------------------------------------------------------------------------


@pytest.mark.parametrize("family", [fs.families.Categorical(3), fs.families.Bernoulli(2)], ids=lambda one: one.name)
def test_the_information_is_four_times_the_metric_of_the_roots_of_probabilities(family):
    """I = 4 sum_y d sqrt(p) d sqrt(p)', by differences of order four of the probabilities of all labels."""
    model = fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=0)
    labels = [np.array([k]) for k in range(3)] if family.labels_are_classes else list(itertools.product((0.0, 1.0), repeat=2))

    def roots(theta):
        h = with_parameters(model, theta).natural_parameters(X)
        rows = [np.repeat(np.asarray(y)[None], len(X), axis=0) for y in labels]
        return np.exp(np.stack([family.log_prob(h, row[:, 0] if family.labels_are_classes else row) for row in rows]) / 2)

    theta, step = flat(model), 1e-3
    columns = []
    for unit in np.eye(len(theta)) * step:
        near, far = (roots(theta + k * unit) - roots(theta - k * unit) for k in (1, 2))
        columns.append(((8 * near - far) / (12 * step)).ravel())
    expected = 4 * np.array(columns) @ np.array(columns).T / len(X)
    np.testing.assert_allclose(fs.fisher_information(model, X, view="full"), expected, atol=1e-9)


# --- mirror descent -------------------------------------------------------------------------------------------------

CANONICAL = [fs.families.Poisson(), fs.families.Bernoulli(2), fs.families.Categorical(3, minimal=True), fs.families.Gaussian(2)]


def dual(model):
    """Return the gradient of the log-partition function: given X, one layer is an exponential family in its weights."""
    mean = model.family.at(model.natural_parameters(X)).mean
    return (mean.T @ np.hstack([X, np.ones((len(X), 1))]) / len(X)).ravel()


@pytest.mark.parametrize("family", CANONICAL, ids=lambda one: one.name)
def test_natural_gradient_in_dual_coordinates_is_mirror_descent(family):
    """The minimum of rate <gradient, theta'> + KL[theta || theta'], by a minimiser that sees divergences only."""
    rate = 0.3
    model = fs.MLP([np.random.default_rng(3).normal(size=(family.n_outputs, 3)) / 2], activation=[], family=family)
    y = family.sample(np.zeros((len(X), family.n_outputs)), 3, 1)[0]
    y = y if family.name != "categorical" else np.asarray(y).ravel()
    settings = {"epochs": 1, "batch_size": len(X), "rng": 0}
    gradient = flat(model) - flat(training.fit(model, X, y, optimizer=training.SGD(1.0), **settings).model)

    information = fs.fisher_information(model, X, view="full").values
    slopes = np.linalg.inv(information)  # derivatives of theta by the dual coordinates
    metric = fs.pullback(information, slopes)
    expected = dual(model) - rate * np.linalg.solve(metric, slopes @ gradient)

    def objective(theta):
        there = with_parameters(model, theta)
        return rate * gradient @ theta + float(ap.output_divergence(model, there, X).divergence)

    found = optimize.minimize(objective, flat(model), jac="3-point", tol=1e-9).x
    np.testing.assert_allclose(dual(with_parameters(model, found)), expected, atol=2e-6)
    natural = training.NaturalGradient(rate, damping=0.0)
    other = dual(training.fit(model, X, y, optimizer=natural, **settings).model)
    # In the natural coordinates the step is another one, but for a Gaussian, whose coordinates are linear in each other.
    assert (np.abs(other - expected).max() < 1e-8) == (family.name == "gaussian")


# --- f-divergences --------------------------------------------------------------------------------------------------

# Each with f(1) = f'(1) = 0 and f''(1) = 1; D_f = E_p[f(q / p)].
F = {
    "Kullback-Leibler": lambda u: u - 1 - np.log(u),
    "reverse": lambda u: u * np.log(u) - u + 1,
    "Hellinger": lambda u: 2 * (np.sqrt(u) - 1) ** 2,
    "chi-squared": lambda u: (u - 1) ** 2 / 2,
    "Jensen-Shannon": lambda u: 2 * (u * np.log(u) - (1 + u) * np.log((1 + u) / 2)),
    "alpha": lambda u: (u**3 - 3 * u + 2) / 6,
}


def log_probabilities(family, h, labels):
    return family.log_prob(np.repeat(h[None], len(labels), axis=0), labels[:, 0] if family.name == "categorical" else labels)


def label_weights(family, h):
    """Return labels and their probabilities at the natural parameters h, or nodes and weights of a quadrature."""
    if family.name == "gaussian":
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        return (h[0] + nodes)[:, None], weights / weights.sum()
    every = {
        "categorical": np.arange(3)[:, None],
        "bernoulli": np.array(list(itertools.product((0.0, 1.0), repeat=2))),
        "poisson": np.arange(60.0)[:, None],
    }
    labels = every[family.name]
    return labels, np.exp(log_probabilities(family, h, labels))


def f_divergence(f, model, other):
    total = 0.0
    for h, away in zip(model.natural_parameters(X), other.natural_parameters(X), strict=True):
        labels, p = label_weights(model.family, h)
        total += p @ f(np.exp(log_probabilities(model.family, away, labels) - log_probabilities(model.family, h, labels)))
    return total / len(X)


@pytest.mark.parametrize(
    "family",
    [fs.families.Categorical(3), fs.families.Bernoulli(2), fs.families.Poisson(), fs.families.Gaussian()],
    ids=lambda one: one.name,
)
def test_every_f_divergence_is_half_the_squared_length_to_second_order(family):
    model = fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=1)
    direction = np.random.default_rng(2).normal(size=model.n_params)
    half = float(ap.length_element(model, X, direction).total_squared_length) / 2
    found = {}
    for name, f in F.items():
        # Both signs of a step: the third order cancels and the error falls as its square.
        ratios = [
            sum(f_divergence(f, model, with_parameters(model, flat(model) + sign * step * direction)) for sign in (1, -1))
            / (2 * step**2 * half)
            for step in (2e-2, 1e-2)
        ]
        found[name] = (4 * ratios[1] - ratios[0]) / 3
    np.testing.assert_allclose(list(found.values()), 1, rtol=1e-4)
    exact = float(ap.length_element(model, X, 1e-2 * direction).total_divergence)
    kl = f_divergence(F["Kullback-Leibler"], model, with_parameters(model, flat(model) + 1e-2 * direction))
    np.testing.assert_allclose(exact, kl, rtol=1e-6)


@pytest.mark.parametrize("f", F.values(), ids=F)
def test_a_sufficient_statistic_keeps_every_divergence_and_another_one_does_not(f):
    """Six throws of one coin, and how many heads: the same information and divergences; whether there were any heads: less."""
    n, (p, q) = 6, (0.3, 0.45)
    heads = np.array([sum(pattern) for pattern in itertools.product((0, 1), repeat=n)])
    patterns = [r**heads * (1 - r) ** (n - heads) for r in (p, q)]
    counts = [stats.binom.pmf(np.arange(n + 1), n, r) for r in (p, q)]
    any_heads = [np.array([(1 - r) ** n, 1 - (1 - r) ** n]) for r in (p, q)]
    whole, counted, less = (one[0] @ f(one[1] / one[0]) for one in (patterns, counts, any_heads))
    np.testing.assert_allclose(counted, whole, rtol=1e-12)
    assert less < 0.9 * whole
    weights = [[[0.4, np.log(p / (1 - p))]]]
    coins, count = (fs.MLP(weights, activation=[], family=one) for one in (fs.families.Bernoulli(), fs.families.Binomial(n)))
    informations = [fs.fisher_information(one, X[:, :1], view="full").values for one in (coins, count)]
    np.testing.assert_allclose(n * informations[0], informations[1], rtol=1e-12)
