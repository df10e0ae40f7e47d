"""Expected gradient lengths by explicit gradients of every label, and by quadrature and truncated sums."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats

import fisherstats as fs
from tests.refusals import pattern, refused

ap = fs.applications
X = np.random.default_rng(0).normal(size=(6, 2))
BOTH = ("squared_norm", "norm")


def network(family):
    return fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=1)


def gradient(model, x, y):
    """Return the gradient of log p(y|x) by central differences of the log-likelihood."""
    theta = np.concatenate([w.ravel() for w in model.weights])
    cuts = np.cumsum([w.size for w in model.weights])[:-1]

    def log_prob(vector):
        parts = [p.reshape(w.shape) for p, w in zip(np.split(vector, cuts), model.weights, strict=True)]
        moved = fs.MLP(parts, activation="tanh", family=model.family)
        return moved.family.log_prob(moved.natural_parameters(x[None]), y)[0]

    step = 1e-4
    return np.array(
        [
            (8 * (log_prob(theta + step * e) - log_prob(theta - step * e))
             - (log_prob(theta + 2 * step * e) - log_prob(theta - 2 * step * e))) / (12 * step)
            for e in np.eye(theta.size)
        ]
    )  # fmt: skip


def labels_and_probabilities(family, h):
    if family.name == "categorical":
        every = [np.array([k]) for k in range(3)]
    elif family.name == "bernoulli":
        every = [np.array([pattern]) for pattern in itertools.product((0.0, 1.0), repeat=family.n_outputs)]
    elif family.name == "poisson":
        every = [np.array([[float(k)]]) for k in range(60)]
    return [(y, float(np.exp(family.log_prob(h[None], y)[0]))) for y in every]


@pytest.mark.parametrize(
    "family",
    [fs.families.Categorical(3), fs.families.Categorical(3, minimal=True), fs.families.Bernoulli(2), fs.families.Poisson()],
    ids=["classes", "minimal", "binary", "poisson"],
)
def test_both_scores_over_all_labels(family):
    model = network(family)
    h = model.natural_parameters(X)
    found = ap.expected_gradient_length(model, X, score=BOTH)
    for i, x in enumerate(X):
        pairs = [(gradient(model, x, y), p) for y, p in labels_and_probabilities(family, h[i])]
        squares = np.array([g @ g for g, _ in pairs])
        p = np.array([p for _, p in pairs])
        np.testing.assert_allclose(found.norm[i], p @ np.sqrt(squares), rtol=1e-8)
        np.testing.assert_allclose(found.squared_norm[i], p @ squares, rtol=1e-8)
        np.testing.assert_allclose(found.squared_norm_deviation[i], np.sqrt(p @ (squares - p @ squares) ** 2), rtol=1e-7)
    assert not found.norm_standard_error.any()
    trace = fs.fisher_information(model, X, per_input=True).sum("param")
    np.testing.assert_allclose(found.squared_norm, trace, rtol=1e-12)


def test_one_gaussian_output():
    model = network(fs.families.Gaussian(covariance=0.3))
    found = ap.expected_gradient_length(model, X, score=BOTH)
    # |dl| = |y - mu| sqrt(K) / 0.3, K the squared length of the gradient of mu
    K = found.squared_norm.values * 0.3
    np.testing.assert_allclose(found.norm, np.sqrt(2 * 0.3 / np.pi) * np.sqrt(K) / 0.3, rtol=1e-12)


@pytest.mark.parametrize("family", [fs.families.Categorical(3), fs.families.Poisson(), fs.families.Gaussian()])
def test_draws_agree_with_the_exact_norm(family):
    """36 z-scores of 16000 draws: false alarms one in 10^5; the square root of the squared norm would be found out."""
    model = network(family)
    exact = ap.expected_gradient_length(model, X, score=BOTH)
    drawn = ap.expected_gradient_length(model, X, score="norm", n_draws=16_000, rng=0)
    z = (drawn.norm - exact.norm) / drawn.norm_standard_error
    bound = stats.norm.isf(1e-5 / 36)
    assert abs(z).max() < bound
    assert abs((drawn.norm - np.sqrt(exact.squared_norm)) / drawn.norm_standard_error).max() > bound
    again = ap.expected_gradient_length(model, X, score="norm", n_draws=16_000, rng=0, num_threads=1)
    assert drawn.identical(again)
    assert np.isinf(ap.expected_gradient_length(model, X, score="norm", n_draws=1, rng=0).norm_standard_error).all()


def test_appended_inputs_change_nothing():
    model = network(fs.families.Gaussian(2))
    pool = np.random.default_rng(1).normal(size=(300, 2))
    whole = ap.expected_gradient_length(model, pool, score=BOTH, n_draws=20, rng=0)
    part = ap.expected_gradient_length(model, pool[:201], score=BOTH, n_draws=20, rng=0)
    np.testing.assert_array_equal(whole.norm[:201], part.norm)
    np.testing.assert_allclose(whole.squared_norm[:201], part.squared_norm, rtol=1e-13)


def peak(run):
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("words", [{"score": BOTH}, {"score": "norm", "n_draws": 5, "rng": 0}], ids=["exact", "drawn"])
def test_nothing_of_the_size_of_pool_times_parameters(words):
    """Gradients of 2,000 inputs would take 356 MB; every further input takes its place in the result and 100 bytes at most."""
    model = fs.MLP.random([100, 200, 10], activation="tanh", family=fs.families.Categorical(10), rng=0)
    pool = np.random.default_rng(0).normal(size=(4000, 100))

    def score(n):
        return ap.expected_gradient_length(model, pool[:n], num_threads=1, **words)

    score(2000)  # compiles, and makes the labels
    small, large = peak(lambda: score(2000)), peak(lambda: score(4000))
    assert small < 8 * 2000 * model.n_params / 20
    assert large - small < 2000 * (8 * 4 + 100)
    whole = peak(lambda: fs.fisher_information(model, pool[:200], per_input=True, num_threads=1))
    assert whole > 8 * 200 * model.n_params  # what the measure makes of an array per input and parameter


def test_selection():
    model = network(fs.families.Categorical(3))
    pool = np.random.default_rng(1).normal(size=(50, 2))
    lengths = ap.expected_gradient_length(model, pool, score=BOTH)
    for score in BOTH:
        chosen = ap.select_batch(model, pool, 5, score=score)
        np.testing.assert_array_equal(chosen.position, np.argsort(-lengths[score].values)[:5])
        np.testing.assert_array_equal(chosen.score, lengths[score].values[chosen.position])
    h = model.natural_parameters(pool)
    p = np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)
    entropy = stats.entropy(p, axis=1)
    chosen = ap.select_batch(model, pool, 50, score="entropy")
    np.testing.assert_array_equal(chosen.position, np.argsort(-entropy))
    np.testing.assert_allclose(chosen.score, np.sort(entropy)[::-1], rtol=1e-12)
    random = ap.select_batch(model, pool, 10, score="random", rng=3)
    assert len(set(random.position.values)) == 10
    assert random.identical(ap.select_batch(model, pool, 10, score="random", rng=3))
    assert not random.equals(ap.select_batch(model, pool, 10, score="random", rng=4))


def test_ties_go_to_the_earlier_row():
    model = network(fs.families.Categorical(3))
    chosen = ap.select_batch(model, np.ones((4, 2)), 3)
    np.testing.assert_array_equal(chosen.position, [0, 1, 2])


MODEL, GAUSSIAN = network(fs.families.Categorical(3)), network(fs.families.Gaussian(2))


@refused(
    [
        (
            lambda: ap.expected_gradient_length(MODEL, X, score="length"),
            ValueError,
            "`score` must be one of 'squared_norm', 'norm'",
        ),
        (
            lambda: ap.expected_gradient_length(MODEL, X, n_draws=3, rng=0),
            ValueError,
            "`n_draws` and `rng` go with score='norm' only, got score='squared_norm', which is exact; leave them out.",
        ),
        (
            lambda: ap.expected_gradient_length(GAUSSIAN, X, score="norm"),
            ValueError,
            "`n_draws` and `rng` must be given for score='norm' with the family gaussian, which has no closed form here; use",
        ),
        (
            lambda: ap.expected_gradient_length(MODEL, X, score="norm", n_draws=0, rng=0),
            ValueError,
            "`n_draws` must be a positive",
        ),
        (lambda: ap.expected_gradient_length(MODEL, X, score="norm", n_draws=3), ValueError, "`rng` must be a non-negative int"),
        (lambda: ap.select_batch(MODEL, X, 7), ValueError, "`size` must be at most 6, the inputs of the pool, got 7."),
        (lambda: ap.select_batch(MODEL, X, 0), ValueError, "`size` must be a positive integer, got 0."),
        (lambda: ap.select_batch(MODEL, X, 1, score="random"), ValueError, "`rng` must be a non-negative int"),
        (
            lambda: ap.select_batch(MODEL, X, 1, score="entropy", n_draws=2),
            ValueError,
            "`n_draws` and `rng` go with score='norm'",
        ),
        (
            lambda: ap.select_batch(GAUSSIAN, X, 1, score="entropy"),
            ValueError,
            "`score='entropy'` needs classes or up to eight binary outputs, got the family gaussian; use score='squared_norm'.",
        ),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()
