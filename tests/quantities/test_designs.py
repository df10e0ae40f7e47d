"""What an error is of: sampled inputs by enumeration of all samples, and intervals that hold the value of all inputs."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from tests.refusals import pattern, refused

ap = fs.applications
ALL = np.random.default_rng(3).normal(size=(6, 2))
SAMPLE = ALL[[0, 2, 5]]
FAMILIES = [fs.families.Categorical(3), fs.families.Gaussian(2), fs.families.Poisson(), fs.families.Bernoulli(2)]
KINDS = ("score", "hessian", "hutchinson_gaussian", "hutchinson_rademacher")


def network(family, rng=1):
    return fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=rng)


def samples(model, m, n_draws, kind):
    """All samples of m of the inputs: exact means, mean variances of their labels, and the squared errors that are estimated."""
    per_input = fs.fisher_information(model, ALL, per_input=True).values
    labels = fs.estimator_variance(model, ALL, per_input=True, n_draws=n_draws, estimators=[kind]).variance.values[:, 0]
    for chosen in itertools.combinations(range(len(ALL)), m):
        rows = list(chosen)
        estimate = fs.estimate_fisher(
            model, ALL[rows], estimator=kind, n_draws=n_draws, rng=0, design="subsample", population=len(ALL)
        )
        yield per_input[rows].mean(axis=0), labels[rows].mean(axis=0) / m, estimate.standard_error.values**2


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_squared_error_of_a_subsample_is_unbiased(family, kind):
    """The law of total variance over all 20 samples: the variance of their means plus the mean variance of their labels."""
    model = network(family)
    means, labels, squares = (np.array(one) for one in zip(*samples(model, 3, 5, kind), strict=True))
    np.testing.assert_allclose(squares.mean(axis=0), means.var(axis=0) + labels.mean(axis=0), rtol=1e-11, atol=1e-30)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_errors_are_those_of_the_variances(family):
    model = network(family)
    for design, population in (("random", None), ("subsample", 11), ("subsample", 6), ("fixed", None)):
        asked = {"design": design, "population": population}
        variance = fs.estimator_variance(model, ALL, n_draws=3, estimators=KINDS, **asked).variance
        found = fs.estimate_fisher(model, ALL, estimator=KINDS, n_draws=3, rng=0, **asked)
        np.testing.assert_allclose(found.standard_error, np.sqrt(variance), rtol=1e-10, atol=1e-15)
        # The design is no matter of the estimate.
        np.testing.assert_array_equal(found, fs.estimate_fisher(model, ALL, estimator=KINDS, n_draws=3, rng=0))
        assert json.loads(found.standard_error.attrs["provenance"])["design"] == design
        both = fs.combine_estimators(model, ALL, n_draws=3, rng=0, **asked)
        cross = fs.estimator_variance(model, ALL, n_draws=3, **asked)
        w = both.weight
        total = w**2 * cross.variance[0] + (1 - w) ** 2 * cross.variance[1] + 2 * w * (1 - w) * cross.cross_covariance
        np.testing.assert_allclose(both.variance, total, rtol=1e-7, atol=1e-9 * float(cross.variance.max()))
    whole = fs.estimate_fisher(model, ALL, estimator="score", n_draws=3, rng=0, design="subsample", population=6)
    assert np.isinf(whole.degrees_of_freedom).all()


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_dense_views(family):
    model = network(family)
    asked = {"n_draws": 3, "rng": 0, "standard_error": True, "design": "subsample", "population": 20}
    full = fs.estimate_fisher(model, ALL, estimator=("score", "hessian"), view="full", **asked)
    per_input = fs.fisher_information(model, ALL, view="full", per_input=True).values
    fixed = fs.estimate_fisher(
        model, ALL, estimator=("score", "hessian"), view="full", n_draws=3, rng=0, standard_error=True
    ).standard_error.values
    variance = fixed**2 + (1 - 6 / 20) * per_input.var(axis=0, ddof=1) / 6
    np.testing.assert_allclose(full.standard_error, np.sqrt(variance), rtol=1e-10, atol=1e-15)
    tree = fs.estimate_fisher(model, ALL, estimator="score", view="block", **asked)
    for layer, part in enumerate(model.layer_slices()):
        np.testing.assert_allclose(tree[f"layer_{layer}"].standard_error, full.standard_error[0, part, part], rtol=1e-12)


def test_degrees_of_freedom_by_index():
    model, n, population, n_draws = network(FAMILIES[0]), 6, 20, 3
    found = fs.estimate_fisher(
        model, ALL, estimator="score", n_draws=n_draws, rng=0, design="subsample", population=population
    ).degrees_of_freedom.values
    information = fs.fisher_information(model, ALL, per_input=True).values
    labels = fs.estimator_variance(model, ALL, per_input=True, estimators=["score"]).variance.values[:, 0]
    kept = 1 - n / population
    squares = (information - information.mean(axis=0)) ** 2
    u = kept * squares + labels / n_draws
    own = 2 * u.mean(axis=0) ** 2 / (kept * u.var(axis=0) / (n - 1))
    normal = (n - 1) * (u.mean(axis=0) / (kept * squares.mean(axis=0))) ** 2
    np.testing.assert_allclose(found, np.minimum(own, normal), rtol=1e-9)
    hessian = fs.estimate_fisher(
        model, ALL, estimator="hessian", n_draws=n_draws, rng=0, design="subsample", population=population
    )
    share = hessian.sampling_share.values
    fixed = fs.estimate_fisher(model, ALL, estimator="hessian", n_draws=n_draws, rng=0).standard_error.values
    sampled = kept * squares.mean(axis=0) / n
    np.testing.assert_allclose(share, sampled / (sampled + fixed**2), rtol=1e-10)
    own = 2 * squares.mean(axis=0) ** 2 / (kept * squares.var(axis=0) / (n - 1))
    np.testing.assert_allclose(hessian.degrees_of_freedom, np.minimum(own, n - 1) / share**2, rtol=1e-9)


def test_importances_of_a_sample():
    model = network(FAMILIES[0])
    y = np.array([0, 1, 2, 0, 1, 1])
    per_input = {
        "exact": fs.fisher_information(model, ALL, per_input=True).values,
        "empirical": fs.empirical_fisher(model, ALL, y, per_input=True).empirical.values,
    }
    for information, given in (("exact", {}), ("empirical", {"y": y})):
        for asked, kept in (({"design": "random"}, 1), ({"design": "subsample", "population": 9}, 1 / 3)):
            found = ap.importance(model, ALL, information=information, **given, **asked)
            np.testing.assert_array_equal(found, ap.importance(model, ALL, information=information, **given))
            expected = np.sqrt(kept * per_input[information].var(axis=0, ddof=1) / 6)
            np.testing.assert_allclose(found.standard_error, expected, rtol=1e-11)
            scores = ap.pruning_scores(model, ALL, information=information, **given, **asked)
            flat = np.concatenate([w.ravel() for w in model.weights])
            np.testing.assert_allclose(scores.standard_error, flat**2 / 2 * expected, rtol=1e-11)
    drawn = ap.importance(model, ALL, information="score", n_draws=2, rng=0, design="random")
    xr.testing.assert_identical(drawn, fs.estimate_fisher(model, ALL, estimator="score", n_draws=2, rng=0, design="random"))


def test_merged_errors_are_of_one_design():
    models = [network(FAMILIES[0], rng) for rng in (1, 2)]
    random = [ap.importance(one, ALL, design="random") for one in models]
    found = ap.merge_networks(models, random)
    assert json.loads(found.parameters.attrs["provenance"])["designs"] == ["random", "random"]
    assert (found.parameters.standard_error > 0).all()
    fixed = ap.importance(models[0], ALL, information="score", n_draws=2, rng=0)
    with pytest.raises(ValueError, match=pattern("`importances` must have standard errors of one design, got 'fixed' for")):
        ap.merge_networks(models, [fixed, random[1]])


def test_the_penalty_of_a_subsample():
    old, new = network(FAMILIES[0]), network(FAMILIES[0], 2)
    delta = np.concatenate([(a - b).ravel() for a, b in zip(new.weights, old.weights, strict=True)])
    spread = (fs.fisher_information(old, ALL, per_input=True).values @ delta**2).var(ddof=1)
    found = ap.consolidation_penalty(new, old, ALL, design="subsample", population=8)
    np.testing.assert_allclose(found.standard_error, np.sqrt(spread / 4 / 6) / 2, rtol=1e-11)


def test_plans_of_a_subsample():
    model = network(FAMILIES[1])
    asked = {"target_cv": 0.3, "level": "layer"}
    variance = fs.estimator_variance(model, ALL, group_by="layer", design="subsample", population=9)
    plan = fs.plan_draws(model, ALL, design="subsample", population=9, cost_input=2.0, cost_draw=1.0, **asked)
    labels = fs.estimator_variance(model, ALL, group_by="layer").variance * 6
    spread = (variance.variance - labels / 6) / (1 / 6 - 1 / 9)
    allowed = (0.3 * variance.information) ** 2
    draws = np.ceil(labels / 6 / (allowed - spread * (1 / 6 - 1 / 9)) * (1 - 1e-9))
    np.testing.assert_array_equal(plan.draws, np.maximum(draws, 1).where(allowed > spread * (1 / 6 - 1 / 9), np.inf))
    whole = fs.plan_draws(model, ALL, design="subsample", population=6, **asked)
    np.testing.assert_array_equal(whole.draws, fs.plan_draws(model, ALL, **asked).draws)
    n = np.maximum(plan.optimal_draws, 1)
    needed = np.ceil((spread + labels / n) / (allowed + spread / 9) * (1 - 1e-9))
    np.testing.assert_array_equal(plan.optimal_inputs, needed.where(needed <= 9, np.inf))


def test_empirical_variances_of_a_subsample():
    model, truth = network(FAMILIES[0]), network(FAMILIES[0], 5)
    fixed = fs.empirical_variance(model, ALL, truth=truth, n_draws=2)
    random = fs.empirical_variance(model, ALL, truth=truth, n_draws=2, design="random")
    found = fs.empirical_variance(model, ALL, truth=truth, n_draws=2, design="subsample", population=12)
    np.testing.assert_allclose(found.variance, (fixed.variance + random.variance) / 2, rtol=1e-11)


def coverage(estimator, n_draws, population, samples, design):
    """How often intervals from samples of 100 inputs hold the information of the population, over all parameters."""
    x = np.random.default_rng(0).normal(size=(population, 4))
    model = fs.MLP.random([4, 5, 3], activation="tanh", family=fs.families.Categorical(3), rng=1)
    truth = fs.fisher_information(model, x)
    given = {"population": population} if design == "subsample" else {}
    held = []
    for rng in range(samples):
        rows = np.random.default_rng(rng).permutation(population)[:100]
        asked = {"estimator": estimator, "n_draws": n_draws, "rng": rng}
        found = fs.confidence_intervals(model, x[rows], **asked, design=design, **given)
        held.append(((found.lower <= truth) & (truth <= found.upper)).values)
    return np.mean(held)


@pytest.mark.parametrize("estimator", ["score", "hessian"])
def test_intervals_of_a_subsample_hold_the_value_of_half_the_population(estimator):
    """100 out of 200 inputs, where the factor 1 - 1/2 of the sampling variance matters: 80 samples have a coverage with a
    standard deviation of 0.006. Intervals without the factor would cover 0.97 (hessian) and 0.985 (score), those for the given
    inputs 0.52 and 0.67."""
    assert 0.93 < coverage(estimator, 10, 200, 80, "subsample") < 0.965
    assert coverage(estimator, 10, 200, 40, "random") > 0.965
    assert coverage(estimator, 10, 200, 20, "fixed") < 0.8


@pytest.mark.validation
@pytest.mark.parametrize("n_draws", [1, 10, 100])
@pytest.mark.parametrize("estimator", ["score", "hessian"])
def test_intervals_of_a_subsample_hold_the_value_of_the_population(n_draws, estimator):
    """300 samples of 100 out of 1000 inputs; those for the given inputs do not, where labels are many."""
    assert 0.94 < coverage(estimator, n_draws, 1000, 300, "subsample") < 0.96
    if n_draws > 1:
        assert coverage(estimator, n_draws, 1000, 300, "fixed") < 0.9


def test_intervals():
    model = network(FAMILIES[0])
    asked = {"estimator": "score", "n_draws": 4, "rng": 0}
    whole = fs.confidence_intervals(model, ALL, design="subsample", population=6, **asked)
    fixed = fs.confidence_intervals(model, ALL, **asked)
    np.testing.assert_allclose(whole.lower, fixed.lower, rtol=1e-12, atol=1e-15)
    dark = np.c_[ALL[:, 0], np.zeros(6)]
    found = fs.confidence_intervals(model, dark, design="random", **asked)
    unseen = found.param_unit_in.values == 1
    unseen &= found.param_layer.values == 0
    assert np.isinf(found.upper[unseen]).all()
    assert not found.lower[unseen].any()
    assert np.isfinite(found.upper[~unseen]).all()
    assert (found.lower[~unseen] > 0).all()
    wider = fs.confidence_intervals(model, ALL, design="random", level=0.99, **asked)
    narrow = fs.confidence_intervals(model, ALL, design="random", **asked)
    assert ((wider.lower < narrow.lower) & (narrow.upper < wider.upper)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lazy_and_in_batches(dtype, tmp_path):
    from dask import array as da

    x = np.random.default_rng(0).normal(size=(50, 2)).astype(dtype)
    model = network(FAMILIES[0]).as_dtype(np.dtype(dtype))
    asked = {"estimator": ("score", "hessian"), "n_draws": 3, "rng": 0, "design": "subsample", "population": 80}
    for function in (fs.estimate_fisher, fs.confidence_intervals):
        found = function(model, x, **asked)
        xr.testing.assert_identical(function(model, da.from_array(x, chunks=9), **asked).compute(), found)
        xr.testing.assert_identical(function(model, _Batches(x), **asked), found)
        xr.testing.assert_identical(function(model, x, **asked, num_threads=1), found)
        found.to_netcdf(tmp_path / "a.nc")
    for information in ("exact", "score"):
        more = {} if information == "exact" else {"n_draws": 2, "rng": 0}
        one = ap.importance(model, x, information=information, design="random", **more)
        lazy = ap.importance(model, da.from_array(x, chunks=9), information=information, design="random", **more)
        xr.testing.assert_identical(lazy.compute(), one)


class _Batches:
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter([self.x[:20], self.x[20:23], self.x[23:]])


MODEL = network(FAMILIES[0])
DRAWN = {"estimator": "score", "n_draws": 2, "rng": 0}


@refused(
    [
        (
            lambda one=one, more=more: one(MODEL, ALL, **more, design="subsample"),
            ValueError,
            "`population` must be given with design='subsample', got None.",
        )
        for one, more in (
            (fs.estimate_fisher, DRAWN),
            (fs.confidence_intervals, DRAWN),
            (fs.combine_estimators, {"n_draws": 2, "rng": 0}),
            (fs.plan_draws, {"target_cv": 0.1}),
            (ap.importance, {}),
            (ap.pruning_scores, {}),
        )
    ]
    + [
        (
            lambda: fs.estimate_fisher(MODEL, ALL, **DRAWN, design="subsample", population=5),
            ValueError,
            "`population` must be at least the 6 inputs sampled from it, got 5.",
        ),
        (
            lambda: fs.estimate_fisher(MODEL, ALL[:1], **DRAWN, design="random"),
            ValueError,
            "`design='random'` needs at least two",
        ),
        (
            lambda: fs.confidence_intervals(MODEL, ALL, **DRAWN, design="random", per_input=True),
            ValueError,
            "`per_input` must be False with design='random'",
        ),
        (lambda: fs.estimate_fisher(MODEL, ALL, **DRAWN, design="rnd"), ValueError, "`design` must be one of 'fixed', 'random',"),
        (lambda: ap.importance(MODEL, ALL, population=5), ValueError, "`population` goes with design='subsample' only"),
        (
            lambda: fs.plan_draws(MODEL, ALL, target_cv=0.1, design="subsample", population=8, n_inputs=9),
            ValueError,
            "`n_inputs` must be at most the `population` of 8 inputs, got 9.",
        ),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()
