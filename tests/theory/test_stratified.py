"""Stratified labels: moments against slices that are summed one by one, the sampler, and every function that takes `sampling`."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.models.families.stratified import StratifiedLaw
from fisherstats.theory import sampling
from tests.theory.cases import assert_close

F = fs.families


def slices(p: np.ndarray, n_draws: int) -> np.ndarray:
    """Shares of the classes in each slice, (N, C); the most probable class comes last, in exchange for the last one."""
    order, top = list(range(len(p))), int(np.argmax(p))
    order[-1], order[top] = order[top], order[-1]
    shares, below = np.zeros((n_draws, len(p))), 0.0
    for label in order:
        for j in range(n_draws):
            common = min(below + p[label], (j + 1) / n_draws) - max(below, j / n_draws)
            shares[j, label] = max(0.0, common) * n_draws
        below += p[label]
    return shares


def covariance(shares: np.ndarray, left: np.ndarray, right: np.ndarray) -> float:
    """N times the covariance of the means of two functions of the labels."""
    total = 0.0
    for weights in shares:
        total += weights @ ((left - weights @ left) * (right - weights @ right))
    return total / len(shares)


@pytest.mark.parametrize("n_draws", [1, 2, 3, 4, 5, 16, 50])
@pytest.mark.parametrize("minimal", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_moments_are_sums_over_the_slices(n_classes: int, minimal: bool, n_draws: int) -> None:
    rng = np.random.default_rng([n_classes, n_draws])
    h = 1.5 * rng.normal(size=(3, n_classes - minimal))
    u, v, s = rng.normal(size=(3, 3, n_classes - minimal, 2))
    law = StratifiedLaw(h, minimal, n_draws)
    own = np.broadcast_to(np.eye(n_classes - minimal), (3, *[n_classes - minimal] * 2))
    squares, linear, third, products = law.square_variance(u), law.diagonal(s), law.third_moment(u, s), law.product_variance(u, v)
    rows = law.rows(u)
    for i in range(3):
        logits = np.append(h[i], 0.0) if minimal else h[i]
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        residual = (np.eye(n_classes) - p)[:, : n_classes - minimal]
        along, other, straight = residual @ u[i], residual @ v[i], residual @ s[i]
        shares = slices(p, n_draws)
        for k in range(2):
            assert_close(squares[i, k], covariance(shares, along[:, k] ** 2, along[:, k] ** 2))
            assert_close(linear[i, k], covariance(shares, straight[:, k], straight[:, k]))
            assert_close(third[i, k], covariance(shares, along[:, k] ** 2, straight[:, k]))
            for m in range(2):
                product = along[:, k] * other[:, m]
                assert_close(products[i, k, m], covariance(shares, product, product))
                assert_close((rows[i, :, k] * rows[i, :, m]).sum(), covariance(shares, along[:, k], along[:, m]))
    assert_close(law.own_square_variance(), law.square_variance(own))
    assert_close(law.own_diagonal(), law.diagonal(own))
    assert_close(law.own_third_moment(), law.third_moment(own, own))
    for one, together in zip((squares, linear, third), law.joint_moments(u, s), strict=True):
        np.testing.assert_array_equal(one, together)


def test_one_label_is_an_independent_one_and_more_never_vary_more() -> None:
    rng = np.random.default_rng(0)
    h, u = 2 * rng.normal(size=(20, 7)), rng.normal(size=(20, 7, 3))
    independent = F.Categorical(7).at(h).square_variance(u)
    assert_close(StratifiedLaw(h, False, 1).square_variance(u), independent)
    for n_draws in (2, 3, 10, 1000):
        assert (StratifiedLaw(h, False, n_draws).square_variance(u) <= independent * (1 + 1e-12)).all()


def test_classes_of_tiny_probability_keep_their_accuracy() -> None:
    h = np.array([[0.0, -40.0, -300.0]])
    for n_draws in (1, 4, 100):
        own = StratifiedLaw(h, False, n_draws).own_diagonal()
        # A class within one slice has there N times its probability.
        assert_close(own[0, 1:] / np.exp(h[0, 1:]), np.ones(2))


@pytest.mark.parametrize("family", [F.Categorical(4), F.Categorical(4, minimal=True), F.Bernoulli()], ids=str)
@pytest.mark.parametrize("n_draws", [1, 3, 25])
def test_the_estimates_are_those_of_the_labels(family: fs.families.Family, n_draws: int) -> None:
    h = np.random.default_rng(1).normal(size=(70, family.n_outputs))
    labels = fs.draw_labels(family, h, n_draws, rng=3, sampling="stratified").values
    n_outputs = family.n_outputs
    # A network without hidden layers whose outputs are its inputs: the block of the biases is the second moment of the residuals.
    model = fs.MLP([np.eye(n_outputs, n_outputs + 1)], activation=[], family=family)
    options = {"n_draws": n_draws, "rng": 3, "view": "full", "per_input": True, "sampling": "stratified"}
    score = fs.estimate_fisher(model, h, estimator="score", **options).values
    biases = slice(n_outputs, None, n_outputs + 1)
    residual = family.statistic(labels) - family.mean(h)[:, None, :]
    expected = np.einsum("nka,nkb->nab", residual, residual) / n_draws
    assert_close(score[:, biases, biases], expected)
    some = fs.estimate_fisher(model, h[:20], estimator="score", **options).values
    np.testing.assert_array_equal(some, score[:20])


def test_the_sampler_has_the_stated_moments() -> None:
    """40 z-scores beyond 5.5 with probability 2e-6; a variance 12 % off gives z = 16, that of independent labels as much."""
    n, n_draws = 60_000, 5
    h = np.repeat(np.array([[0.3, -1.0, 0.8, 0.0, -2.0]]), n, axis=0)
    family = F.Categorical(5)
    labels = sampling.labels(family, h, np.random.SeedSequence(0), 0, n_draws, "stratified")
    p = np.exp(h[0]) / np.exp(h[0]).sum()
    u = np.random.default_rng(1).normal(size=(1, 5, 4))
    law = StratifiedLaw(h[:1], False, n_draws)
    values = ((np.eye(5) - p) @ u[0]) ** 2
    means = values[labels].mean(axis=1)
    exact, variance = p @ values, law.square_variance(u)[0] / n_draws
    z = (means.mean(axis=0) - exact) / np.sqrt(variance / n)
    assert np.abs(z).max() < 5.5
    squares = (means - exact) ** 2
    spread = squares.std(axis=0) / np.sqrt(n)
    assert (np.abs(squares.mean(axis=0) - variance) < 5.5 * spread).all()
    assert (0.12 * variance > 16 * spread).all()
    independent = F.Categorical(5).at(h[:1]).square_variance(u)[0] / n_draws
    assert (np.abs(squares.mean(axis=0) - independent) > 16 * spread).all()


CLASSES = fs.MLP.random([3, 6, 4], activation="tanh", family=F.Categorical(4), rng=0)
X = np.random.default_rng(2).normal(size=(30, 3))


@pytest.mark.parametrize("n_draws", [1, 3, 40])
def test_every_function_states_the_same_error(n_draws: int) -> None:
    both = {"estimator": ["score", "hessian"], "n_draws": n_draws, "rng": 0, "sampling": "stratified"}
    estimate = fs.estimate_fisher(CLASSES, X, **both)
    variance = fs.estimator_variance(CLASSES, X, n_draws=n_draws, sampling="stratified")
    assert_close(estimate.standard_error.values**2, variance.variance.values)
    each = fs.estimator_variance(CLASSES, X, n_draws=n_draws, sampling="stratified", per_input=True)
    assert_close(each.variance.mean("input").values / len(X), variance.variance.values)
    assert_close(each.cross_covariance.mean("input").values / len(X), variance.cross_covariance.values)
    intervals = fs.confidence_intervals(CLASSES, X, **both)
    np.testing.assert_array_equal(intervals.standard_error, estimate.standard_error)
    full = fs.estimate_fisher(CLASSES, X, view="full", standard_error=True, **both)
    diagonal = np.diagonal(full.standard_error.values, axis1=1, axis2=2)
    np.testing.assert_allclose(diagonal, estimate.standard_error.values, rtol=1e-9, atol=1e-12)
    random = fs.estimator_variance(CLASSES, X, n_draws=n_draws, sampling="stratified", design="random").variance.values
    within = fs.estimator_variance(CLASSES, X, design="exact_labels").variance.values
    assert_close(random - within, variance.variance.values)


@pytest.mark.parametrize("group_by", ["unit", "layer", "model"])
def test_groups(group_by: str) -> None:
    """The mean entry of a group is a function of the label: its variance is summed over the slices."""
    n_draws = 3
    found = fs.estimator_variance(CLASSES, X, n_draws=n_draws, sampling="stratified", group_by=group_by, per_input=True)
    plain = fs.estimator_variance(CLASSES, X, n_draws=n_draws, group_by=group_by, per_input=True)
    np.testing.assert_allclose(found.information, plain.information, rtol=1e-13)
    layers = fs.fisher_information(CLASSES, X).param_layer.values
    units = layers * 100 + fs.fisher_information(CLASSES, X).param_unit_out.values
    index = {"unit": units, "layer": layers, "model": np.zeros_like(layers)}[group_by]
    p = CLASSES.family.mean(CLASSES.natural_parameters(X))
    # One label at each input at a time, by the empirical Fisher information.
    squares = np.stack(
        [fs.empirical_fisher(CLASSES, X, np.full(len(X), k), per_input=True).empirical.values for k in range(4)], 1
    )
    for place, group in enumerate(np.unique(index)):
        values = squares[:, :, index == group].mean(axis=2)
        expected = [covariance(slices(q, n_draws), f, f) / n_draws for q, f in zip(p, values, strict=True)]
        score = found.variance.sel(estimator="score").values.reshape(len(X), -1)[:, place]
        assert_close(score, np.array(expected))


def test_plans_are_reached_and_never_longer() -> None:
    for level in ("parameter", "layer", "trace"):
        independent = fs.plan_draws(CLASSES, X, target_cv=0.05, level=level).draws
        plan = fs.plan_draws(CLASSES, X, target_cv=0.05, level=level, sampling="stratified").draws
        assert (plan <= independent).all()
        assert (plan < independent).any()
    layers = fs.plan_draws(CLASSES, X, target_cv=0.05, level="layer", sampling="stratified").draws
    for estimator in ("score", "hessian"):
        for layer in range(2):
            n_draws = int(layers.sel(estimator=estimator, layer=layer))
            reached = fs.estimator_variance(CLASSES, X, n_draws=n_draws, sampling="stratified", group_by="layer")
            one = reached.sel(layer=layer)
            assert float(np.sqrt(one.variance.sel(estimator=estimator)) / one.information) <= 0.05 * (1 + 1e-12)


def test_streams_of_a_batch_and_of_dask_are_those_in_memory() -> None:
    dask_array = pytest.importorskip("dask.array")
    x = np.random.default_rng(3).normal(size=(700, 3))
    options = {"estimator": "score", "n_draws": 3, "rng": 0, "sampling": "stratified"}
    whole = fs.estimate_fisher(CLASSES, x, **options)
    np.testing.assert_array_equal(fs.estimate_fisher(CLASSES, (x[i : i + 90] for i in range(0, 700, 90)), **options), whole)
    np.testing.assert_array_equal(fs.estimate_fisher(CLASSES, dask_array.from_array(x, chunks=(123, 3)), **options), whole)


def test_what_has_no_strata_is_refused() -> None:
    poisson = fs.MLP.random([3, 2], activation=[], family=F.Poisson(2), rng=0)
    for call in (
        lambda: fs.estimate_fisher(poisson, X, estimator="score", n_draws=2, rng=0, sampling="stratified"),
        lambda: fs.estimator_variance(poisson, X, sampling="stratified"),
        lambda: fs.plan_draws(poisson, X, target_cv=0.1, sampling="stratified"),
        lambda: fs.confidence_intervals(poisson, X, estimator="score", n_draws=2, rng=0, sampling="stratified"),
        lambda: fs.draw_labels(F.Bernoulli(2), np.zeros((1, 2)), 3, rng=0, sampling="stratified"),
    ):
        with pytest.raises(ValueError, match="`sampling` must be 'iid' for this family"):
            call()
    with pytest.raises(ValueError, match="`sampling` must be one of 'iid', 'stratified'"):
        fs.estimator_variance(CLASSES, X, sampling="stratify")
    with pytest.raises(ValueError, match="which draws no labels"):
        fs.estimator_variance(CLASSES, X, estimators=["hutchinson_gaussian"], sampling="stratified")
    costs = {"cost_input": 1.0, "cost_draw": 1.0, "design": "random"}
    with pytest.raises(ValueError, match="`cost_input` and `cost_draw` need sampling='iid'"):
        fs.plan_draws(CLASSES, X, target_cv=0.1, sampling="stratified", **costs)
