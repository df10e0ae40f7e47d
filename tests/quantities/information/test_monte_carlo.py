"""The estimates are as exact as their closed-form variances say: means, variances and covariances over many replicates.

A replicate is one row of a call with `per_input=True` on repeated inputs (each input has labels of its own), under several seeds.
Every statement becomes a mean over replicates with a known expectation, and so a z-score: of z (unbiased), of z^2 - 1 (variance),
of z_1 z_2 - rho (covariance), each against its own standard error.

False alarms: this file looks at fewer than 30,000 z-scores and refuses |z| > 7.5, a chance of 6e-14 each for a normal law and
below 1e-11 for means of 1,000 values with a skewness below 1: below 1e-6 for the whole file. Squares and products of z-scores are
more skewed; there the standard error is at least that of normal z-scores, without which a small observed one would come together
with a small mean. Apart from it stand 10^9 draws, where |z| < 5 is the promise: 2e-3 for a change of seed. Seeds are fixed, so
what passes once passes again.
"""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import xarray as xr
from scipy.special import roots_hermitenorm

import fisherstats as fs
from fisherstats.theory import sampling

Array = np.ndarray

LARGEST_Z = 7.5
PAIR = ("score", "hessian")
SEEDS = 5
X = np.array([[0.8, -1.1], [-0.3, 0.6]])

FAMILIES = {
    "gaussian-1": fs.families.Gaussian(1),
    "gaussian-2": fs.families.Gaussian(2),
    "gaussian-3-covariance": fs.families.Gaussian(3, covariance=[[1.5, 0.4, 0.0], [0.4, 0.8, -0.2], [0.0, -0.2, 0.5]]),
    "bernoulli-1": fs.families.Bernoulli(1),
    "bernoulli-3": fs.families.Bernoulli(3),
    "binomial-1": fs.families.Binomial(6),
    "binomial-2": fs.families.Binomial(3, 2),
    "categorical-3": fs.families.Categorical(3),
    "categorical-4-minimal": fs.families.Categorical(4, minimal=True),
    "poisson-1": fs.families.Poisson(1),
    "poisson-2": fs.families.Poisson(2),
}
# Both ways of drawing: single labels, and counts over the support or over joint patterns.
N_DRAWS = (12, 100)
names = pytest.mark.parametrize("name", FAMILIES)
sizes = pytest.mark.parametrize("replicates", [2000, pytest.param(20000, marks=pytest.mark.validation)])


def model_of(name: str) -> fs.MLP:
    family = FAMILIES[name]
    return fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=20)


# The test of calibration, and of everything below


def z_of_mean(values: Array, expected: Array | float, least_variance: Array | float = 0.0) -> Array:
    """Return the z-scores of means over the first axis; where values do not vary they must be `expected` to rounding.

    `least_variance` is a lower limit of the variance of one value.
    """
    values = np.asarray(values, dtype=np.float64)
    expected = np.broadcast_to(expected, values.shape[1:])
    error = np.sqrt(np.maximum(values.var(axis=0, ddof=1), least_variance) / len(values))
    size = np.maximum(np.abs(expected), np.abs(values).max(axis=0))
    constant = error <= 1e-13 * size
    distance = values.mean(axis=0) - expected
    exact = np.where(np.abs(distance) <= 1e-11 * size, 0.0, np.inf)
    return np.where(constant, exact, distance / np.where(constant, 1.0, error))


def calibration(estimates: Array, information: Array, variance: Array, covariance: Array | None = None) -> Array:
    """Return all z-scores of replicates (R, [estimator,] ...) against mean, variance and the pair's covariance."""
    deviation = estimates - information
    error = np.sqrt(variance)
    random = error > 0
    exact = np.where(random, 0, np.abs(deviation).max(axis=0)) <= 1e-11 * np.abs(information)
    z = deviation / np.where(random, error, np.inf)
    # The mean against the closed-form error, not against the observed one.
    scores = [np.where(exact, 0.0, np.inf), np.sqrt(len(z)) * z.mean(axis=0)]
    scores.append(z_of_mean(z**2, np.where(random, 1.0, 0.0), np.where(random, 2.0, 0.0)))
    if covariance is not None:
        both = random.all(axis=0)
        correlation = np.where(both, covariance / np.where(both, error[0] * error[1], 1.0), 0.0)
        scores.append(z_of_mean(z[:, 0] * z[:, 1], correlation, np.where(both, 1 + correlation**2, 0.0)))
    return np.concatenate([np.ravel(one) for one in scores])


def worst(z: Array) -> float:
    return float(np.abs(z).max())


def replicated(
    model: fs.MLP, x: Array, n_draws: int, replicates: int, seeds: int = SEEDS, first_seed: int = 0, **more: object
) -> Array:
    """Return estimates (R, n, ...) of each input, R replicates from `seeds` different seeds."""
    each = replicates // seeds
    rows = np.tile(x, (each, 1))
    parts = [
        fs.estimate_fisher(model, rows, n_draws=n_draws, rng=first_seed + k, per_input=True, **{"estimator": PAIR, **more}).values
        for k in range(seeds)
    ]
    return np.concatenate([part.reshape(each, len(x), *part.shape[1:]) for part in parts])


def closed_form(model: fs.MLP, x: Array, n_draws: int, **more: object) -> tuple[Array, Array]:
    closed = fs.estimator_variance(model, x, n_draws=n_draws, **more)
    return closed.variance.values, closed.cross_covariance.values


@sizes
@pytest.mark.parametrize("n_draws", N_DRAWS)
@names
def test_fixed_design(name: str, n_draws: int, replicates: int) -> None:
    model = model_of(name)
    estimates = replicated(model, X, n_draws, replicates)
    information = fs.fisher_information(model, X, per_input=True).values
    closed = fs.estimator_variance(model, X, n_draws=n_draws, per_input=True)
    variance = closed.variance.transpose("estimator", "input", "param").values
    z = calibration(estimates.swapaxes(1, 2), information, variance, closed.cross_covariance.values)
    assert worst(z) < LARGEST_Z
    # The mean over inputs, which adds what the inputs' streams might share.
    z = calibration(estimates.mean(axis=1), information.mean(axis=0), *closed_form(model, X, n_draws))
    assert worst(z) < LARGEST_Z
    # The groups' means.
    for group_by, columns in groups(model).items():
        grouped = fs.estimator_variance(model, X, n_draws=n_draws, group_by=group_by)
        means = np.stack([estimates.mean(axis=1)[:, :, one].mean(axis=2) for one in columns], axis=2)
        z = calibration(
            means,
            np.array([information.mean(axis=0)[one].mean() for one in columns]),
            np.atleast_2d(grouped.variance.values.reshape(2, -1)),
            grouped.cross_covariance.values.reshape(-1),
        )
        assert worst(z) < LARGEST_Z, group_by


def groups(model: fs.MLP) -> dict[str, list[Array]]:
    """Return the parameters of each layer, of each unit and of the model."""
    coords = fs.fisher_information(model, X).coords
    layer, unit = coords["param_layer"].values, coords["param_unit_out"].values
    pairs = dict.fromkeys(zip(layer.tolist(), unit.tolist(), strict=True))
    return {
        "layer": [np.flatnonzero(layer == l) for l in range(model.n_layers)],
        "unit": [np.flatnonzero((layer == l) & (unit == o)) for l, o in pairs],
        "model": [np.arange(model.n_params)],
    }


@names
def test_estimates_of_separate_calls(name: str) -> None:
    """One seed per replicate, the mean over inputs as the package forms it, and its standard_error coordinate."""
    model = model_of(name)
    runs = [fs.estimate_fisher(model, X, estimator=PAIR, n_draws=20, rng=1000 + k) for k in range(100)]
    variance, _ = closed_form(model, X, 20)
    np.testing.assert_allclose(runs[0].standard_error.values, np.sqrt(variance), rtol=1e-12)
    # 100 replicates are too few for the squares: mean only.
    z = calibration(np.stack([run.values for run in runs]), fs.fisher_information(model, X).values, variance)
    assert worst(z[: 2 * variance.size]) < LARGEST_Z


@sizes
@names
def test_full_view(name: str, replicates: int) -> None:
    """All entries unbiased; the diagonal is that of the diagonal view, a block that of the block view, at the same seed."""
    model = model_of(name)
    rows = np.tile(X[:1], (replicates // 2, 1))
    arguments = {"estimator": PAIR, "n_draws": 12, "rng": 3, "per_input": True}
    full = fs.estimate_fisher(model, rows, view="full", **arguments).values
    diagonal = fs.estimate_fisher(model, rows[:50], **arguments).values
    np.testing.assert_allclose(np.diagonal(full, axis1=2, axis2=3)[:50], diagonal, rtol=1e-10, atol=1e-14)
    np.testing.assert_array_equal(full, full.swapaxes(2, 3))
    information = fs.fisher_information(model, X[:1], view="full").values
    assert worst(z_of_mean(full, information)) < LARGEST_Z
    blocks = fs.estimate_fisher(model, rows[:50], view="block", **arguments)
    for l, one in enumerate(model.layer_slices()):
        (block,) = blocks[f"layer_{l}"].data_vars.values()
        np.testing.assert_allclose(block.values, full[:50, :, one, one], rtol=1e-10, atol=1e-14)


@sizes
@names
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_hidden_information(name: str, layer: int, replicates: int) -> None:
    model = model_of(name)
    rows = np.tile(X[:1], (replicates, 1))
    for n_draws in N_DRAWS if layer == 1 else N_DRAWS[:1]:
        estimate = fs.hidden_information(model, rows, layer=layer, estimator="score", n_draws=n_draws, rng=8)
        exact = fs.hidden_information(model, X[:1], layer=layer).values[0]
        variance = fs.hidden_information_variance(model, X[:1], layer=layer, n_draws=n_draws).values[0]
        np.testing.assert_allclose(estimate.standard_error.values[0], np.sqrt(variance), rtol=1e-12)
        assert worst(calibration(estimate.values, exact, variance)) < LARGEST_Z


# Random inputs

POOL = np.random.default_rng(5).normal(size=(5, 2))


def pool_truth(model: fs.MLP, n_draws: int) -> tuple[Array, Array, Array, Array, Array]:
    """Return I(x), mean I, mean V and mean C12 over the pool, and the sum of squared deviations of I(x)."""
    information = fs.fisher_information(model, POOL, per_input=True).values
    closed = fs.estimator_variance(model, POOL, n_draws=n_draws, per_input=True).mean("input")
    squares = ((information - information.mean(axis=0)) ** 2).sum(axis=0)
    return information, information.mean(axis=0), closed.variance.values, closed.cross_covariance.values, squares


@pytest.mark.parametrize("name", ["gaussian-2", "bernoulli-3", "categorical-3", "poisson-1"])
def test_random_design_is_unbiased_over_all_samples(name: str) -> None:
    """The mean of the closed form over all 25 ordered samples of 2 from the pool is the true variance, without Monte Carlo."""
    model, n_draws = model_of(name), 3
    _, _, noise, shared, squares = pool_truth(model, n_draws)
    samples = [POOL[list(one)] for one in itertools.product(range(5), repeat=2)]
    forms = [closed_form(model, sample, n_draws, design="random") for sample in samples]
    np.testing.assert_allclose(np.mean([v for v, _ in forms], axis=0), (squares / 5 + noise) / 2, rtol=1e-11)
    np.testing.assert_allclose(np.mean([c for _, c in forms], axis=0), (squares / 5 + shared) / 2, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["gaussian-2", "bernoulli-3", "categorical-3", "poisson-1"])
def test_subsample_is_unbiased_over_all_samples(name: str) -> None:
    model, n_draws, m = model_of(name), 3, 3
    _, _, noise, shared, squares = pool_truth(model, n_draws)
    samples = [POOL[list(one)] for one in itertools.combinations(range(5), m)]
    forms = [closed_form(model, sample, n_draws, design="subsample", population=5) for sample in samples]
    spread = (1 - m / 5) * squares / 4 / m
    np.testing.assert_allclose(np.mean([v for v, _ in forms], axis=0), spread + noise / m, rtol=1e-11)
    np.testing.assert_allclose(np.mean([c for _, c in forms], axis=0), spread + shared / m, rtol=1e-9, atol=1e-14)


@sizes
@pytest.mark.parametrize("design", ["random", "subsample"])
@pytest.mark.parametrize("name", ["gaussian-2", "bernoulli-3", "categorical-3", "poisson-1"])
def test_random_inputs(name: str, design: str, replicates: int) -> None:
    """Inputs really drawn from the pool: the observed variance is the truth that the two tests above tie the closed form to."""
    model, n_draws, m = model_of(name), 6, 3
    rng = np.random.default_rng(6)
    replace = design == "random"
    chosen = np.stack([rng.choice(5, m, replace=replace) for _ in range(replicates)])
    estimates = fs.estimate_fisher(model, POOL[chosen.ravel()], estimator=PAIR, n_draws=n_draws, rng=9, per_input=True).values
    estimates = estimates.reshape(replicates, m, 2, -1).mean(axis=1)
    _, mean, noise, shared, squares = pool_truth(model, n_draws)
    spread = squares / 5 / m if replace else (1 - m / 5) * squares / 4 / m
    assert worst(calibration(estimates, mean, spread + noise / m, spread + shared / m)) < LARGEST_Z
    # Power: without the spread of the inputs, and without the correction for a finite population, the same test refuses.
    wrong = np.zeros_like(spread) if replace else squares / 4 / m
    assert worst(calibration(estimates, mean, wrong + noise / m, wrong + shared / m)) > LARGEST_Z


# Power: each defect is caught by the function that passes the estimates above


def with_claimed_draws(name: str, n_draws: int, n_draws_claimed: int) -> float:
    model = model_of(name)
    estimates = replicated(model, X, n_draws, 2000).mean(axis=1)
    return worst(calibration(estimates, fs.fisher_information(model, X).values, *closed_form(model, X, n_draws_claimed)))


@names
def test_power_against_one_draw_more_or_less(name: str) -> None:
    assert with_claimed_draws(name, 2, 2) < LARGEST_Z
    assert with_claimed_draws(name, 2, 3) > LARGEST_Z
    assert with_claimed_draws(name, 3, 2) > LARGEST_Z


@names
def test_power_against_unrelated_labels(name: str) -> None:
    """A score and a Hessian estimate from labels of their own have no covariance; where there is one, that is caught."""
    model = model_of(name)
    variance, covariance = closed_form(model, X, 12)
    scores = replicated(model, X, 12, 2000, estimator="score").mean(axis=1)
    hessians = replicated(model, X, 12, 2000, estimator="hessian", first_seed=500).mean(axis=1)
    apart = np.stack([scores, hessians], axis=1)
    information = fs.fisher_information(model, X).values
    assert worst(calibration(apart, information, variance, np.zeros_like(covariance))) < LARGEST_Z
    if not name.startswith("gaussian"):  # third moments are 0
        assert worst(calibration(apart, information, variance, covariance)) > LARGEST_Z


@names
def test_power_against_wrong_labels_and_a_wrong_centre(name: str) -> None:
    """The last biases have the score r, so their score estimate can be rebuilt from labels: rightly and wrongly.

    Wrong are labels whose natural parameter is off by 0.2 (by 0.5 for a Gaussian, where only the mean moves), and residuals about
    the sample mean instead of E[t].
    """
    model, n_draws, replicates = model_of(name), 15, 4000
    h = np.tile(model.natural_parameters(X[:1]), (replicates, 1))
    exact = fs.fisher_information(model, X[:1])
    biases = ((exact.param_kind == "bias") & (exact.param_layer == 1)).values
    information = exact.values[biases]
    variance = fs.estimator_variance(model, X[:1], n_draws=n_draws, estimators=["score"]).variance.values[0, biases]

    def residuals(shift: float) -> Array:
        shifts = np.zeros(h.shape[1])
        shifts[0] = shift
        y = model.family.sample(h + shifts, np.random.default_rng(4), n_draws)
        return model.family.statistic(y) - model.family.mean(h)

    shift = 0.5 if name.startswith("gaussian") else 0.2
    assert worst(calibration(np.mean(residuals(0.0) ** 2, axis=0), information, variance)) < LARGEST_Z
    assert worst(calibration(np.mean(residuals(shift) ** 2, axis=0), information, variance)) > LARGEST_Z
    assert worst(calibration(np.var(residuals(0.0), axis=0), information, variance)) > LARGEST_Z


# Many draws


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        *[(name, PAIR) for name in FAMILIES if name not in ("binomial-2", "poisson-2")],
        ("binomial-2", "hessian"),
        ("poisson-2", "hessian"),
        ("binomial-2", PAIR),
    ],
)
def test_a_thousand_million_draws(name: str, estimator: str | tuple[str, ...]) -> None:
    """z-scores below 5, and no array that could hold the labels."""
    model, n_draws = model_of(name), 10**9
    rows = np.tile(X, (3, 1))
    fs.estimate_fisher(model, X, estimator=estimator, n_draws=10, rng=0)
    tracemalloc.start()
    estimate = fs.estimate_fisher(model, rows, estimator=estimator, n_draws=n_draws, rng=31, per_input=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    information = fs.fisher_information(model, rows, per_input=True)
    difference, information = xr.broadcast(estimate - information, information)
    error = estimate.standard_error
    certain = (error == 0).transpose(*difference.dims).values
    assert np.all(np.abs(difference.values[certain]) <= 1e-11 * information.values[certain])
    z = (difference / error.where(error > 0)).transpose(*difference.dims).values[~certain]
    assert np.abs(z).max() < 5
    assert np.sqrt(np.mean(z**2)) > 0.5  # it does vary


# Seeds


def estimate(rng: object, **more: object) -> xr.DataArray:
    return fs.estimate_fisher(model_of("categorical-3"), X, estimator="score", n_draws=10, rng=rng, **more)


def test_a_seed_says_everything() -> None:
    xr.testing.assert_identical(estimate(4), estimate(4))
    xr.testing.assert_identical(estimate(np.random.SeedSequence(4)), estimate(4))
    assert np.any(estimate(4).values != estimate(5).values)
    assert np.any(estimate(np.random.SeedSequence(4, spawn_key=(1,))).values != estimate(4).values)


def test_a_generator_advances() -> None:
    first, second = np.random.default_rng(4), np.random.default_rng(4)
    one, two = estimate(first), estimate(first)
    assert np.any(one.values != two.values)
    np.testing.assert_array_equal(one.values, estimate(second).values)
    np.testing.assert_array_equal(two.values, estimate(second).values)


# Golden sums over all entries, theory of the toy experiment of the 2024 paper


@pytest.mark.parametrize(
    ("family", "theta", "score", "hessian", "tolerance", "order"),
    [
        (fs.families.Gaussian(1), (1.0, 1.0), 22.0, 6.0, 1e-9, 8),
        (fs.families.Bernoulli(1), (0.0, 0.0), 0.375, 0.375, 1e-9, 8),
        (fs.families.Bernoulli(1), (1.0, 1.0), 0.415282, 0.111369, 1e-6, 24),
    ],
)
def test_sums_of_all_variances_of_the_toy_models(
    family: object, theta: tuple[float, float], score: float, hessian: float, tolerance: float, order: int
) -> None:
    """One label at one x ~ N(0, I), h = theta'x: law of total variance, quadrature over x.

    dh/dtheta = x is what dh/dx is for the network with weights x at the input theta, so that network's `hidden_information` of
    layer 0 is I(theta | x) and its variance that of every entry of the score estimate. The Hessian estimate is I(theta | x).
    """
    nodes, weights = roots_hermitenorm(order)
    mean, square, noise = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2))
    for (i, a), (j, b) in itertools.product(enumerate(nodes), repeat=2):
        mass = weights[i] * weights[j] / (2 * np.pi)
        swapped = fs.MLP([[[a, b, 0.0]]], activation=[], family=family)
        information = fs.hidden_information(swapped, [theta], layer=0).values[0]
        noise += mass * fs.hidden_information_variance(swapped, [theta], layer=0).values[0]
        mean += mass * information
        square += mass * information**2
    assert abs((square - mean**2).sum() - hessian) < tolerance
    assert abs((noise + square - mean**2).sum() - score) < tolerance


@pytest.mark.parametrize("count", [1, 4, 5, 16])
def test_every_input_has_its_own_uniform_numbers(count: int) -> None:
    seed = np.random.SeedSequence(3)
    every = sampling._uniforms((96, count), seed, 0)
    assert every.shape == (96, count)
    assert len(np.unique(every)) == every.size
    for first, n in ((0, 1), (16, 80), (48, 5)):
        np.testing.assert_array_equal(sampling._uniforms((n, count), seed, first), every[first : first + n])


def test_streams_of_labels_probes_and_residuals_are_apart() -> None:
    seed = np.random.SeedSequence(0)
    words = [0, *(1 + sampling.PROBES.index(one) for one in sampling.PROBES), sampling._RESIDUAL_WORD]
    assert len({*words, sampling._UNIFORM_WORD}) == len(words) + 1
    uniform = sampling._uniforms((16, 4), seed, 0)
    for word in words:
        ((generator, _, _),) = sampling._groups(np.zeros((16, 1)), seed, 0, word)
        assert not np.isin(generator.random(1000), uniform).any()
