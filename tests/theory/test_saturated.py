"""Networks so certain of their labels that double precision cancels: the moments of the label from 60 digits."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest

import fisherstats as fs
from tests import naive
from tests.theory.cases import FAMILIES, assert_close

DIGITS = 400
"""Enough for 1 - p where p differs from one by exp(-700)."""


def _scalar_law(family, params, h):
    """Support and probabilities of one output, in many digits."""
    if family == "poisson":
        rate = mpmath.exp(h)
        count = int(rate + 40 * mpmath.sqrt(rate) + 60)
        return list(range(count)), [mpmath.exp(-rate + k * h) / mpmath.factorial(k) for k in range(count)]
    trials = params.get("n_trials", 1)
    success, failure = 1 / (1 + mpmath.exp(-h)), 1 / (1 + mpmath.exp(h))
    chances = [mpmath.binomial(trials, k) * success**k * failure ** (trials - k) for k in range(trials + 1)]
    return list(range(trials + 1)), chances


def precise_law(family, params, h):
    """Points and probabilities of ``t`` in many digits."""
    if family.startswith("categorical"):
        logits = list(h) if family == "categorical" else [*h, mpmath.mpf(0)]
        weights = [mpmath.exp(z) for z in logits]
        points = [[mpmath.mpf(k == a) for a in range(len(h))] for k in range(len(logits))]
        return points, [weight / sum(weights) for weight in weights]
    laws = [_scalar_law(family, params, z) for z in h]
    points = itertools.product(*(values for values, _ in laws))
    chances = (mpmath.fprod(choice) for choice in itertools.product(*(law for _, law in laws)))
    return [list(map(mpmath.mpf, point)) for point in points], list(chances)


def precise_quantities(network, family, params, x):
    """Information, both variances and the cross-covariance of every diagonal entry at one input."""
    states, _ = naive.forward(network, x)
    slopes, curvatures = naive.jacobian(network, x), naive.hessian(network, x)
    with mpmath.workdps(DIGITS):
        points, chances = precise_law(family, params, [mpmath.mpf(float(z)) for z in states[-1]])
        n_outputs = len(states[-1])
        mean = [mpmath.fdot(chances, [point[a] for point in points]) for a in range(n_outputs)]
        deltas = [[point[a] - mean[a] for a in range(n_outputs)] for point in points]

        def projected(direction):
            return [mpmath.fdot([mpmath.mpf(float(d)) for d in direction], delta) for delta in deltas]

        rows = []
        for i in range(slopes.shape[1]):
            q = projected(slopes[:, i])
            s = projected(curvatures[:, i, i])
            information = mpmath.fdot(chances, [v**2 for v in q])
            score = mpmath.fdot(chances, [(v**2 - information) ** 2 for v in q])
            hessian = mpmath.fdot(chances, [v**2 for v in s])
            cross = -mpmath.fdot(chances, [v**2 * w for v, w in zip(q, s, strict=True)])
            rows.append([float(value) for value in (information, score, hessian, cross)])
    return np.array(rows).T


SATURATED = [
    ("bernoulli", {}, 2, [-690.0, -420.0, -300.0, -40.0, -18.0, 18.0, 40.0, 300.0, 690.0]),
    ("binomial", {"n_trials": 4}, 1, [-600.0, -37.0, 37.0, 600.0]),
    ("poisson", {}, 1, [-600.0, -27.0, 3.0]),
    ("categorical", {}, 3, [-600.0, -50.0, -20.0, 20.0, 50.0, 600.0]),
    ("categorical_minimal", {}, 2, [-600.0, -50.0, -20.0, 20.0, 50.0, 600.0]),
]
TINY = float(np.finfo(float).tiny)
"""Below it numbers lose digits, and are compared no more."""


def saturated_networks(family, params, n_outputs, offsets):
    """The first output is pushed to each offset in turn."""
    rng = np.random.default_rng(31)
    hidden, top, x = rng.normal(size=(2, 3)), rng.normal(size=(n_outputs, 3)), rng.normal(size=(2, 2))
    for offset in offsets:
        pushed = top.copy()
        pushed[0, -1] += offset
        model = fs.MLP([hidden, pushed], activation="tanh", family=FAMILIES[family](n_outputs, params))
        yield naive.Network.named([hidden, pushed], ["tanh"]), model, x


@pytest.mark.parametrize(("family", "params", "n_outputs", "offsets"), SATURATED)
def test_exact_quantities_where_labels_are_nearly_certain(family, params, n_outputs, offsets):
    for network, model, x in saturated_networks(family, params, n_outputs, offsets):
        expected = np.array([precise_quantities(network, family, params, row) for row in x])
        variance = fs.estimator_variance(model, x, per_input=True)
        found = [
            fs.fisher_information(model, x, per_input=True),
            variance["variance"].sel(estimator="score"),
            variance["variance"].sel(estimator="hessian"),
            variance["cross_covariance"],
        ]
        for index, values in enumerate(found):
            assert_close(values, expected[:, index], scale=0.0, floor=TINY)


@pytest.mark.parametrize(("family", "params", "n_outputs", "offsets"), SATURATED)
def test_bounds_where_labels_are_nearly_certain(family, params, n_outputs, offsets):
    for _, model, x in saturated_networks(family, params, n_outputs, offsets):
        result = fs.variance_bounds(model, x, per_input=True)
        for lower, exact, upper in (
            ("lower", "exact", "upper"),
            ("information_lower", "information_exact", "information_upper"),
        ):
            values = result[exact].values
            assert np.all(result[lower].values <= values * (1 + 1e-9) + TINY)
            assert np.all(result[upper].values >= values * (1 - 1e-9) - TINY)


@pytest.mark.parametrize("p", [0.5 - 1e-6, 0.5 + 1e-9, 0.5 - 1e-12])
def test_score_variance_of_a_nearly_fair_coin(p):
    """``V = u^4 v (1 - 2p)^2``, which is lost if written as a fourth moment minus a square."""
    logit = float(mpmath.log(mpmath.mpf(p) / (1 - mpmath.mpf(p))))
    x = np.array([[2.0]])
    model = fs.MLP([np.array([[0.0, logit]])], activation=[], family=fs.families.Bernoulli(1))
    with mpmath.workdps(60):
        chance = 1 / (1 + mpmath.exp(-mpmath.mpf(logit)))
        variance = chance * (1 - chance) * (1 - 2 * chance) ** 2
    found = fs.estimator_variance(model, x)["variance"].sel(estimator="score")
    assert_close(found, [16 * float(variance), float(variance)], rtol=1e-11)
