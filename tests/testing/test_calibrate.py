"""`calibrate`: estimators that are right, and ones with a known mistake each, are told apart."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.testing import calibrate

N, DRAWS = 50, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = RNG.integers(0, 4, N)
MODEL = fs.MLP.random([3, 6, 4], activation="tanh", family=fs.families.Categorical(4), rng=1)


def scores(labels):
    """Scores of single examples, (n, P), by hand."""
    x_bar = np.column_stack([X, np.ones(N)])
    h = np.tanh(x_bar @ MODEL.weights[0].T)
    h_bar = np.column_stack([h, np.ones(N)])
    residual = np.eye(4)[labels] - probabilities()
    back = (residual @ MODEL.weights[1][:, :-1]) * (1 - h**2)
    first, second = back[:, :, None] * x_bar[:, None, :], residual[:, :, None] * h_bar[:, None, :]
    return np.concatenate([first.reshape(N, -1), second.reshape(N, -1)], axis=1)


def probabilities():
    return MODEL.family.mean(MODEL.natural_parameters(X))


def drawn(rng):
    return (probabilities().cumsum(axis=1) < rng.random((N, 1))).sum(axis=1)


def monte_carlo(rng):
    return np.mean([(scores(drawn(rng)) ** 2).mean(axis=0) for _ in range(DRAWS)], axis=0)


def batches(labels, size, rng):
    order, g = rng.permutation(N), scores(labels)
    return np.mean([g[order[start : start + size]].mean(axis=0) ** 2 for start in range(0, N, size)], axis=0)


def recentred(rng):
    g = np.stack([scores(drawn(rng)) for _ in range(DRAWS)])
    return np.square(g - g.mean(axis=0)).mean(axis=(0, 1))


def of_package(**options):
    return lambda rng: fs.estimate_fisher(MODEL, X, rng=rng, standard_error=False, **options).values


CASES = {
    "scores": (monte_carlo, DRAWS, {}, "An unbiased estimate of the exact", "Its spread is that of 4 draws"),
    "hessians": (
        of_package(estimator="hessian", n_draws=2),
        2,
        {"estimator": "hessian"},
        "An unbiased estimate of the exact",
        "Its spread is that of 2 draws",
    ),
    "probes": (
        of_package(estimator="hutchinson_rademacher", n_draws=3),
        3,
        {"estimator": "hutchinson_rademacher"},
        "An unbiased estimate of the exact",
        "Its spread is that of 3 draws",
    ),
    "exact": (lambda rng: fs.fisher_information(MODEL, X), 1, {}, "The exact Fisher information itself", ""),
    "divided before squaring": (
        lambda rng: monte_carlo(rng) / DRAWS,
        DRAWS,
        {},
        "times the exact Fisher information",
        "a division by the number of draws twice",
    ),
    "sum over inputs": (lambda rng: N * monte_carlo(rng), DRAWS, {}, "times the exact", "a sum over the inputs"),
    "sum over draws": (lambda rng: DRAWS * monte_carlo(rng), DRAWS, {}, "times the exact", "a sum over the draws"),
    "empirical": (
        lambda rng: (scores(Y) ** 2).mean(axis=0),
        1,
        {},
        "The empirical Fisher information at the data labels itself",
        "",
    ),
    "square of the mean": (
        lambda rng: scores(Y).mean(axis=0) ** 2,
        1,
        {},
        "The square of the mean gradient at the data labels itself",
        "",
    ),
    "square of the mean of drawn scores": (
        lambda rng: scores(drawn(rng)).mean(axis=0) ** 2,
        1,
        {},
        "times the exact",
        "the square of the mean gradient over all inputs",
    ),
    "batches of drawn scores": (
        lambda rng: batches(drawn(rng), 10, rng),
        1,
        {},
        "times the exact",
        "squared gradients of batches of 10",
    ),
    "batches of data scores": (
        lambda rng: batches(Y, 10, rng),
        1,
        {},
        "An unbiased estimate of the squared gradients of batches of 10 inputs at the data labels",
        "",
    ),
    "about the sample mean": (recentred, DRAWS, {}, "times the exact", "deviations from the mean of the drawn scores"),
    "labels that are not the model's": (
        lambda rng: (scores(rng.integers(0, 4, N)) ** 2).mean(axis=0),
        1,
        {},
        "None of the candidates",
        "",
    ),
    "one label instead of four": (
        lambda rng: (scores(drawn(rng)) ** 2).mean(axis=0),
        DRAWS,
        {},
        "An unbiased estimate of the exact",
        "times that of 4 independent draws per input",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_estimator_is_recognised(name):
    function, n_draws, options, start, rest = CASES[name]
    found = calibrate(function, MODEL, X, Y, n_draws=n_draws, rng=1, **options)
    verdict = found.attrs["verdict"]
    assert start in verdict
    assert rest in verdict
    if "unbiased estimate of the exact" in start:
        assert float(found["detectable"].sel(candidate="exact")) < 0.1


def test_a_spread_that_is_too_large_is_measured():
    found = calibrate(CASES["one label instead of four"][0], MODEL, X, n_draws=DRAWS)
    assert abs(float(found["spread"]) - 4) < 4 * float(found["spread_error"])


def test_right_estimators_are_rarely_doubted():
    """15 right estimators at a false-alarm rate of 1e-5: all pass with probability 0.9998."""
    for seed in range(15):
        found = calibrate(of_package(estimator="score", n_draws=2), MODEL, X, n_draws=2, n_calls=60, false_alarm=1e-5, rng=seed)
        assert "unbiased" in found.attrs["verdict"]
        assert "Its spread is that of 2 draws" in found.attrs["verdict"]


@pytest.mark.validation
def test_the_false_alarm_rate():
    """1,000 right estimators at a rate of 1 %: 10 alarms are expected, more than 30 have a probability of 1e-7."""
    alarms = 0
    for seed in range(1000):
        found = calibrate(of_package(estimator="score", n_draws=2), MODEL, X, n_draws=2, n_calls=100, false_alarm=0.01, rng=seed)
        verdict = found.attrs["verdict"]
        alarms += "unbiased" not in verdict or "Its spread is that of 2 draws" not in verdict
    assert alarms <= 30


def test_a_factor_of_a_squared_error():
    model = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Gaussian(2), rng=0)

    def doubled(rng):
        return 4 * fs.estimate_fisher(model, X, estimator="score", n_draws=1, rng=rng, standard_error=False)

    assert "a squared error without the factor 1/2, by scores" in calibrate(doubled, model, X).attrs["verdict"]


def test_arrays_by_the_names_of_their_owner():
    """Two arrays for each layer, biases apart."""
    layer, unit_in = (fs.fisher_information(MODEL, X)[f"param_{name}"].values for name in ("layer", "unit_in"))

    def by(result):
        values = result.values
        return {
            (kind, index): values[(layer == index) & ((unit_in < 0) == (kind == "bias"))]
            for kind in ("weight", "bias")
            for index in (0, 1)
        }

    estimate = of_package(estimator="score", n_draws=2)

    def function(rng):
        return by(fs.fisher_information(MODEL, X).copy(data=estimate(rng)))

    assert "An unbiased estimate" in calibrate(function, MODEL, X, n_draws=2, by=by).attrs["verdict"]
    with pytest.raises(ValueError, match="missing are"):
        calibrate(lambda rng: {("weight", 0): 1}, MODEL, X, by=by)
    with pytest.raises(ValueError, match="array of shape"):
        calibrate(lambda rng: {name: one[:1] for name, one in function(rng).items()}, MODEL, X, by=by)
    with pytest.raises(TypeError, match="mapping from names"):
        calibrate(estimate, MODEL, X, by=by)


def test_bad_arguments():
    right = of_package(estimator="score", n_draws=1)
    with pytest.raises(TypeError, match="`function` must be callable"):
        calibrate(right(0), MODEL, X)
    with pytest.raises(ValueError, match="52 numbers"):
        calibrate(lambda rng: right(rng)[:5], MODEL, X)
    with pytest.raises(ValueError, match=r"`function\(rng\)` must be finite"):
        calibrate(lambda rng: right(rng) * np.nan, MODEL, X)
    with pytest.raises(ValueError, match="`n_calls` must be at least 20"):
        calibrate(right, MODEL, X, n_calls=3)
    with pytest.raises(ValueError, match="`false_alarm` must be a probability"):
        calibrate(right, MODEL, X, false_alarm=0.7)
    with pytest.raises(ValueError, match="`estimator` must be one of"):
        calibrate(right, MODEL, X, estimator="scores")
