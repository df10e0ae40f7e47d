"""Elastic weight consolidation: value and gradient by loops, the standard error by the whole covariance tensor and by draws."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from fisherstats.core.errors import AssumptionError
from tests.refusals import pattern, refused

ap = fs.applications
X = np.random.default_rng(0).normal(size=(7, 2))


def networks(family, activation="tanh", widths=(2, 3)):
    shape = [*widths, family.n_outputs]
    old = fs.MLP.random(shape, activation=activation, family=family, rng=1)
    return old, fs.MLP.random(shape, activation=activation, family=family, rng=2)


FAMILIES = [fs.families.Categorical(3), fs.families.Poisson(), fs.families.Gaussian(2), fs.families.Exponential()]
flat = lambda model: np.concatenate([w.ravel() for w in model.weights])  # noqa: E731


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
@pytest.mark.parametrize("estimator", ["score", "hessian"])
def test_the_standard_error_is_that_of_the_whole_covariance_tensor(family, estimator):
    old, new = networks(family)
    delta2 = (flat(new) - flat(old)) ** 2
    tensor = fs.estimator_covariance(old, X, estimator=estimator, n_draws=3).values
    variance = sum(
        delta2[i] * delta2[j] * tensor[i, i, j, j] for i in range(delta2.size) for j in range(delta2.size)
    )  # fmt: skip
    found = ap.consolidation_penalty(new, old, X, strength=0.7, information=estimator, n_draws=3, rng=0)
    np.testing.assert_allclose(found.standard_error, 0.35 * np.sqrt(variance), rtol=1e-11, atol=1e-14)
    functional = fs.functional_variance(old, X, matrix=np.diag(delta2), n_draws=3)
    np.testing.assert_allclose(
        found.standard_error, 0.35 * np.sqrt(functional.variance.sel(estimator=estimator)), rtol=1e-11, atol=1e-14
    )
    np.testing.assert_allclose(found.exact, 0.35 * functional.information, rtol=1e-12)
    weights = fs.estimate_fisher(old, X, estimator=estimator, n_draws=3, rng=0).values
    np.testing.assert_allclose(found.penalty, 0.35 * delta2 @ weights, rtol=1e-12)


def test_replicates_spread_as_the_standard_error_says():
    """500 replicates: the sample variance of the z-scores is 1 within 5 standard errors; without the covariances it is not."""
    old, new = networks(fs.families.Gaussian())
    found = [
        ap.consolidation_penalty(new, old, X, information="score", n_draws=50, rng=seed) for seed in range(500)
    ]  # fmt: skip
    z = np.array([float((one.penalty - one.exact) / one.standard_error) for one in found])
    assert abs(z.mean()) < 5 / np.sqrt(500)
    kurtosis = np.mean(z**4)
    assert abs(np.mean(z**2) - 1) < 5 * np.sqrt((kurtosis - 1) / 500)
    delta2 = (flat(new) - flat(old)) ** 2
    independent = np.sqrt(delta2**2 @ fs.estimator_variance(old, X, n_draws=50).variance.sel(estimator="score").values) / 2
    assert abs(np.mean((z * float(found[0].standard_error) / independent) ** 2) - 1) > 5 * np.sqrt((kurtosis - 1) / 500)


@pytest.mark.parametrize("information", ["exact", "score", "empirical"])
def test_random_inputs(information):
    family = fs.families.Poisson()
    old, new = networks(family)
    y = family.sample(old.natural_parameters(X), 3, 1)[0]
    more = {"score": {"n_draws": 5, "rng": 0}, "empirical": {"y": y}}.get(information, {})
    found = ap.consolidation_penalty(new, old, X, information=information, design="random", **more)
    delta2 = (flat(new) - flat(old)) ** 2
    if information == "empirical":
        single = fs.empirical_fisher(old, X, y, per_input=True).empirical.values @ delta2
        variance = single.var(ddof=1)
        np.testing.assert_allclose(found.penalty, single.mean() / 2, rtol=1e-12)
    else:
        variance = (fs.fisher_information(old, X, per_input=True).values @ delta2).var(ddof=1)
        if information == "score":
            noise = fs.functional_variance(old, X, matrix=np.diag(delta2), n_draws=5, per_input=True)
            variance += float(noise.variance.sel(estimator="score").mean())
    np.testing.assert_allclose(found.standard_error, np.sqrt(variance / 7) / 2, rtol=1e-11)
    if information == "exact":
        assert float(ap.consolidation_penalty(new, old, X).standard_error) == 0


def test_value_and_gradient_by_differences():
    old, new = networks(fs.families.Categorical(3))
    weights = ap.importance(old, X)
    penalty = ap.Consolidation(old, weights, strength=2.5)
    assert isinstance(penalty, training.Penalty)
    theta, anchor = flat(new), flat(old)
    expected = sum(1.25 * weights.values[i] * (theta[i] - anchor[i]) ** 2 for i in range(theta.size))
    np.testing.assert_allclose(penalty.value(new), expected, rtol=1e-13)
    np.testing.assert_allclose(penalty.gradient(new), 2.5 * weights.values * (theta - anchor), rtol=1e-13)
    assert penalty.value(old) == 0


def test_online_merge():
    old, new = networks(fs.families.Categorical(3))
    first, second = ap.importance(old, X), ap.importance(new, X)
    merged = ap.Consolidation(old, first, strength=2.0).online(new, second, decay=0.9)
    third = networks(fs.families.Categorical(3))[0]
    expected = ap.Consolidation(new, 0.9 * first + second, strength=2.0)
    np.testing.assert_allclose(merged.gradient(third), expected.gradient(third), rtol=1e-14)
    assert merged.value(new) == 0


@pytest.mark.parametrize("information", ["score", "hessian"])
def test_the_error_of_an_online_merge_is_that_of_its_tasks_about_the_newest_weights(information):
    first, second = networks(fs.families.Poisson())
    model = fs.MLP([w + 0.3 for w in second.weights], activation="tanh", family=second.family)
    others = np.random.default_rng(5).normal(size=(4, 2))
    drawn = {"information": information, "n_draws": 3}
    old = ap.consolidation_penalty(model, first, X, centre=second, strength=2.0, rng=0, **drawn)
    new = ap.consolidation_penalty(model, second, others, strength=2.0, rng=1, **drawn)
    weights = [ap.importance(first, X, rng=0, **drawn), ap.importance(second, others, rng=1, **drawn)]
    merged = ap.Consolidation(first, weights[0], strength=2.0).online(second, weights[1], decay=0.8)
    np.testing.assert_allclose(0.8 * old.penalty + new.penalty, merged.value(model), rtol=1e-12)
    matrix = np.diag((flat(model) - flat(second)) ** 2)
    parts = [fs.functional_variance(*one, matrix=matrix, n_draws=3) for one in ((first, X), (second, others))]
    errors = [np.sqrt(float(one.variance.sel(estimator=information))) for one in parts]
    np.testing.assert_allclose([old.standard_error, new.standard_error], errors, rtol=1e-11)
    np.testing.assert_allclose([old.exact, new.exact], [float(one.information) for one in parts], rtol=1e-12)


def test_a_fit_is_held_and_several_tasks_add():
    """With one linear Gaussian task held exactly, the fit of the second one has the mean of both as its minimum."""
    family = fs.families.Gaussian()
    old = fs.MLP([[[1.0, 0.0]]], activation=[], family=family)
    x = np.array([[1.0], [-1.0]])
    held = ap.Consolidation(old, ap.importance(old, x))
    start = fs.MLP([[[2.0, 2.0]]], activation=[], family=family)
    y = np.array([4.0, -2.0])
    optimizer = training.SGD(0.2)
    settings = {"optimizer": optimizer, "epochs": 200, "batch_size": 2, "rng": 0}
    one = training.fit(start, x, y, penalty=held, **settings).model
    np.testing.assert_allclose(one.weights[0], [[2.0, 0.5]], atol=1e-9)
    two = training.fit(start, x, y, penalty=[held, held], **settings).model
    np.testing.assert_allclose(two.weights[0], [[5 / 3, 1 / 3]], atol=1e-9)


def test_float32_training_stays_in_float32():
    old, new = (
        fs.MLP([w.astype(np.float32) for w in model.weights], activation="tanh", family=model.family)
        for model in networks(fs.families.Categorical(3))
    )
    gradients = [np.zeros_like(w) for w in new.weights]
    value = ap.Consolidation(old, np.ones(old.n_params)).start(new).penalise(new.weights, gradients)
    assert gradients[0].dtype == np.float32
    np.testing.assert_allclose(value, 0.5 * np.sum((flat(new) - flat(old)) ** 2), rtol=1e-5)


OLD, NEW = networks(fs.families.Categorical(3))
OTHER = networks(fs.families.Categorical(3), widths=(2, 4))[0]
Y = np.zeros(7, dtype=int)


@refused(
    [
        (lambda: ap.importance(OLD, X, information="fisher"), ValueError, "`information` must be one of 'exact', 'score', "),
        (
            lambda: ap.importance(OLD, X, information="score", rng=0),
            ValueError,
            "`n_draws` must be given with information='score'",
        ),
        (
            lambda: ap.importance(OLD, X, information="score", n_draws=1),
            ValueError,
            "`rng` must be given with information='score'",
        ),
        (lambda: ap.importance(OLD, X, information="empirical"), ValueError, "`y` must be given with information='empirical'"),
        (
            lambda: ap.importance(OLD, X, n_draws=3),
            ValueError,
            "`n_draws` goes with information='score' or information='hessian' only, got n_draws=3 with information='exact'",
        ),
        (lambda: ap.Consolidation(OLD, [1.0]), ValueError, "`importance` must have shape (21,), one number per parameter"),
        (lambda: ap.Consolidation(OLD, np.ones(21), -1), ValueError, "`strength` must be a finite number of at least 0"),
        (
            lambda: ap.Consolidation(OLD, np.ones(21)).value(OTHER),
            ValueError,
            "`model` must have the widths [2, 3, 3] of the other network, got [2, 4, 3].",
        ),
        (
            lambda: ap.consolidation_penalty(NEW, OLD, X, centre=OTHER),
            ValueError,
            "`centre` must have the widths [2, 3, 3] of the other network, got [2, 4, 3].",
        ),
        (
            lambda: ap.Consolidation(OLD, np.ones(21)).online(NEW, np.ones(21), decay=1.5),
            ValueError,
            "`decay` must be a number above 0 and at most 1, got 1.5.",
        ),
        (
            lambda: ap.consolidation_penalty(NEW, OLD, X, Y, information="empirical"),
            ValueError,
            "`design` must be 'random' with information='empirical', got 'fixed': its labels are data",
        ),
        (lambda: ap.consolidation_penalty(NEW, OLD, X[:1], design="random"), ValueError, "`design='random'` needs at least two"),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()


def test_a_kink_is_refused():
    old, new = networks(fs.families.Poisson(), "relu")
    old = fs.MLP([np.zeros((3, 3)), old.weights[1]], activation="relu", family=old.family)
    with pytest.raises(AssumptionError, match="kink"):
        ap.consolidation_penalty(new, old, X, information="hessian", n_draws=1, rng=0)
