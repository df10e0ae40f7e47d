"""Accumulated per-example scores: against two passes, all labels and closed forms; order, merging, memory and refusals.

z-scores are of fixed seeds; the limit of 5 alarms falsely once in 1.7 million comparisons.
"""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.core.schema import VARIABLES
from fisherstats.theory.score_accumulation import LEAF, pairwise_probability, variance_of_mean
from tests.refusals import masked, pattern, refused
from tests.theory.cases import Case

SHAPES = {"a/w": (3, 7), "a/b": (), "c": (1100,)}
SCALES = {"a/w": 1e-3, "a/b": 1.0, "c": 30.0}


def scores(n, n_draws=None, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    lead = (n,) if n_draws is None else (n, n_draws)
    size = rng.exponential(size=(n,) + (1,) * (len(lead) - 1))
    return {
        name: (SCALES[name] * size.reshape(size.shape + (1,) * len(shape)) * rng.normal(size=lead + shape)).astype(dtype)
        for name, shape in SHAPES.items()
    }


def accumulated(given, n_draws=None, batch=None):
    found = fs.ScoreAccumulator(n_draws=n_draws)
    n = len(next(iter(given.values())))
    for start in range(0, n, batch or n):
        found.update({name: one[start : start + (batch or n)] for name, one in given.items()})
    return found


def two_passes(given, n_draws, design, population):
    """Return mean squares, their standard errors, totals and the covariance of the totals, from all numbers at once."""
    squares = {name: np.square(one.astype(np.longdouble)) for name, one in given.items()}
    if n_draws is None:
        squares = {name: one[:, None] for name, one in squares.items()}
    n, draws = next(iter(squares.values())).shape[:2]
    share = {"random": 0, "fixed": 1, "subsample": n / (population or 1)}[design]

    def covariance(z):
        between = np.atleast_2d(np.cov(z.mean(axis=1), rowvar=False).astype(np.longdouble)) * (1 - share)
        if share:
            apart = z - z.mean(axis=1, keepdims=True)
            between = between + share * np.einsum("nka,nkb->ab", apart, apart) / (draws - 1) / n / draws
        return between / n

    means = {name: one.mean(axis=(0, 1)) for name, one in squares.items()}
    errors = {}
    for name, one in squares.items():
        spread = one.mean(axis=1).var(axis=0, ddof=1) * (1 - share)
        labels = share * one.var(axis=1, ddof=1).mean(axis=0) / draws if share else 0
        errors[name] = np.sqrt((spread + labels) / n)
    totals = np.stack([one.reshape(n, draws, -1).sum(axis=2) for one in squares.values()], axis=2)
    return means, errors, totals.mean(axis=(0, 1)), covariance(totals)


def close(found, wanted, rtol=1e-12):
    wanted = np.asarray(wanted, dtype=np.float64)
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


DESIGNS = [("random", None), ("fixed", None), ("subsample", 900)]


@pytest.mark.parametrize("dtype", ["f8", "f4", ">f4", "f2", "i4"])
@pytest.mark.parametrize(("n_draws", "design", "population"), [(None, *DESIGNS[0]), *((3, *one) for one in DESIGNS)])
def test_two_passes(n_draws, design, population, dtype):
    given = scores(600, n_draws, dtype)
    found = accumulated(given, n_draws, batch=170).result(design=design, population=population)
    means, errors, totals, covariance = two_passes(given, n_draws, design, population)
    for name, shape in SHAPES.items():
        own = found[f"parameters/{name}"]
        assert own.mean_square.shape == own.standard_error.shape == shape
        close(own.mean_square, means[name])
        close(own.standard_error, errors[name])
    layers = found["layers"]
    assert layers.layer.values.tolist() == list(SHAPES)
    close(layers.total, totals)
    close(layers.covariance, covariance)
    close(layers.standard_error, np.sqrt(np.diag(covariance)))
    assert layers.position.values.tolist() == [int((totals > one).sum()) for one in totals]


@pytest.mark.parametrize("first", [0, 299])
def test_an_outlier_takes_no_digits_from_the_others(first):
    given = np.random.default_rng(1).normal(size=(300, 3, 5))
    given[first] *= 1e12
    given[:, :, 1] = 1e20  # no spread at all
    found = accumulated({"w": given}, 3).result(design="fixed")["parameters/w"]
    _, errors, *_ = two_passes({"w": given}, 3, "fixed", None)
    np.testing.assert_allclose(found.standard_error, np.float64(errors["w"]), rtol=1e-12)
    assert found.standard_error[1] == 0


# --- what the standard errors are of ----------------------------------------------------------------------------------

CASE = Case((2, 2, 3), ("tanh",), "categorical", 3, 7)
ARRAYS = {"first": slice(0, 6), "second": slice(6, 15)}


def of_labels(inputs, labels):
    """Return the scores of the labels, (n, draws, size) for each layer, from the Jacobians of the oracle."""
    rows = np.array([[CASE.laws[i].deltas[k] @ CASE.laws[i].jacobian for k in ks] for i, ks in zip(inputs, labels, strict=True)])
    return {name: rows[:, :, part] for name, part in ARRAYS.items()}


def outcomes(inputs, n_draws):
    """Yield all labels of the inputs with their probabilities."""
    one = [[*itertools.product(range(len(CASE.laws[i].probabilities)), repeat=n_draws)] for i in inputs]
    for labels in itertools.product(*one):
        chances = [CASE.laws[i].probabilities[k] for i, ks in zip(inputs, labels, strict=True) for k in ks]
        yield float(np.prod(chances)), labels


def samples(design):
    """Yield samples of two inputs from the three with their probabilities."""
    if design == "fixed":
        return [(1.0, (0, 1))]
    if design == "subsample":
        return [(1 / 3, pair) for pair in itertools.combinations(range(3), 2)]
    return [(1 / 9, pair) for pair in itertools.product(range(3), repeat=2)]


@pytest.mark.parametrize(("design", "population"), [("random", None), ("fixed", None), ("subsample", 3)])
def test_variances_are_unbiased_over_all_labels_and_samples(design, population):
    weights, values, variances, totals, covariances = [], [], [], [], []
    word = 2, 2, design, population
    for chance, inputs in samples(design):
        for weight, labels in outcomes(inputs, 2):
            # The numbers behind `result`, which takes longer to label them than to compute them.
            found = accumulated(of_labels(inputs, labels), 2)._moments
            weights.append(chance * weight)
            values.append(np.concatenate([one[0] for one in found.parameters]))
            variances.append(np.concatenate([variance_of_mean(one, *word) for one in found.parameters]))
            totals.append(found.totals[0])
            covariances.append(variance_of_mean(found.totals, *word))
    weights, values, totals = np.array(weights), np.array(values), np.array(totals)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    exact = CASE.information[:2] if design == "fixed" else CASE.information
    mean = weights @ values
    close(mean, exact.mean(axis=0))
    close(weights @ np.array(variances), weights @ np.square(values - mean))
    apart = totals - weights @ totals
    close(np.tensordot(weights, np.array(covariances), 1), np.einsum("s,sa,sb->ab", weights, apart, apart))
    # The closed form is of the same variance: exactly for fixed inputs, in the mean over samples otherwise.
    x, same = CASE.x, dict(n_draws=2, design=design, population=population, estimators=["score"])
    closed = [chance * fs.estimator_variance(CASE.model, x[[*one]], **same).variance.values[0] for chance, one in samples(design)]
    close(weights @ np.array(variances), sum(closed))


@pytest.mark.parametrize("design", ["fixed", "random"])
def test_standard_errors_of_estimate_fisher(design):
    """The mean over repeated labels of the estimated variance is the closed form, at given inputs in both designs."""
    rng = np.random.default_rng(3)
    case, n_draws = Case((2, 3, 3), ("tanh",), "categorical", 30, 11), 4
    wanted = fs.estimate_fisher(case.model, case.x, estimator="score", n_draws=n_draws, rng=0, design=design).standard_error
    found = []
    for _ in range(150):
        labels = [rng.choice(3, size=n_draws, p=law.probabilities) for law in case.laws]
        rows = np.array([law.deltas[ks] @ law.jacobian for law, ks in zip(case.laws, labels, strict=True)])
        found.append(accumulated({"all": rows}, n_draws).result(design=design)["parameters/all"].standard_error.values ** 2)
    # Student's law of 149 degrees of freedom: a false alarm among 21 parameters in one of 30 000 runs.
    z = (np.mean(found, axis=0) - wanted.values**2) / (np.std(found, axis=0, ddof=1) / np.sqrt(len(found)))
    assert np.abs(z).max() < 5


# --- the order of the arrays --------------------------------------------------------------------------------------------


def test_probabilities_of_the_order_against_simulation():
    rng = np.random.default_rng(5)
    given = {name: size * rng.normal(size=(300, 2)) for name, size in {"a": 1.0, "b": 1.02, "c": 1.05, "d": 1.03}.items()}
    layers = accumulated(given).result()["layers"]
    drawn = rng.multivariate_normal(layers.total, layers.covariance, size=200_000)
    for a, b in itertools.permutations(range(4), 2):
        p = float(layers.probability_larger[a, b])
        assert abs((drawn[:, a] > drawn[:, b]).mean() - p) < 5 * np.sqrt(p * (1 - p) / len(drawn))
        assert p + float(layers.probability_larger[b, a]) == pytest.approx(1, abs=1e-12)
    order = np.argsort(layers.position.values)
    right = np.all(np.diff(drawn[:, order], axis=1) < 0, axis=1).mean()
    slack = 5 * np.sqrt(right * (1 - right) / len(drawn))
    assert float(layers.order_probability_lower) - slack < right < float(layers.order_probability_upper) + slack
    assert 0.01 < right < 0.99


def test_the_probability_is_calibrated():
    """Equal totals of correlated arrays: the probability is above 0.95 in one of twenty repetitions."""
    rng = np.random.default_rng(6)
    found = []
    for _ in range(1500):
        size = rng.exponential(size=(400, 1))
        totals = accumulated({name: size * rng.normal(size=(400, 2)) for name in "ab"})._moments.totals
        found.append(pairwise_probability(totals[0], variance_of_mean(totals, 400, 1, "random", None))[0, 1])
    for level in (0.5, 0.9, 0.95):
        share = np.mean(np.array(found) > level)
        assert abs(share - (1 - level)) < 5 * np.sqrt(level * (1 - level) / len(found))


def test_certain_and_equal_totals():
    layers = accumulated({"a": np.ones((5, 1)), "b": np.ones((5, 1)), "c": np.full((5, 1), 2.0)}).result()["layers"]
    assert layers.probability_larger.values.tolist() == [[0.5, 0.5, 0], [0.5, 0.5, 0], [1, 1, 0.5]]
    assert (float(layers.order_probability_lower), float(layers.order_probability_upper)) == (0.5, 0.5)
    alone = accumulated({"a": np.ones((5, 1))}).result()["layers"]
    assert (float(alone.order_probability_lower), float(alone.order_probability_upper)) == (1, 1)


# --- bits, merging, memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_draws", [None, 2])
@pytest.mark.parametrize("batch", [LEAF, 2 * LEAF, 10_000])
def test_batches_of_whole_leaves_change_no_bit(batch, n_draws):
    given = scores(3 * LEAF + 17, n_draws, np.float32)
    xr.testing.assert_identical(accumulated(given, n_draws, batch).result(), accumulated(given, n_draws, 3 * LEAF).result())


def test_memory_order_changes_no_bit():
    given = scores(40)
    other = {name: np.asfortranarray(given[name]) for name in reversed(given)}
    found = fs.ScoreAccumulator(SHAPES)
    found.update(other)
    xr.testing.assert_identical(found.result(), accumulated(given).result())


@pytest.mark.parametrize("n_draws", [None, 2])
def test_merging(n_draws):
    given = scores(500, n_draws)
    parts = [{name: one[start:end] for name, one in given.items()} for start, end in [(0, 3), (3, 300), (300, 500)]]
    first, second, third = (accumulated(part, n_draws) for part in parts)
    before = second.result()
    other = fs.ScoreAccumulator({name: SHAPES[name] for name in reversed(SHAPES)}, n_draws=n_draws)
    other.merge(third)
    other.merge(first)
    second.merge(other)
    second.merge(fs.ScoreAccumulator(n_draws=n_draws))
    assert second.n_inputs == 500
    design = "random" if n_draws is None else "fixed"
    found, wanted = second.result(design=design), accumulated(given, n_draws).result(design=design)
    for name in SHAPES:
        for variable in ("mean_square", "standard_error"):
            close(found[f"parameters/{name}"][variable], wanted[f"parameters/{name}"][variable])
    close(found["layers"].covariance, wanted["layers"].covariance)
    empty = fs.ScoreAccumulator(n_draws=n_draws)
    empty.merge(accumulated(parts[1], n_draws))
    xr.testing.assert_identical(empty.result(), before)


@pytest.mark.parametrize("n_draws", [None, 2])
def test_memory(n_draws):
    size, n = 400_000, 4
    batch = np.ones((n, size) if n_draws is None else (n, n_draws, size), dtype=np.float32)
    tracemalloc.start()
    try:
        found = fs.ScoreAccumulator(n_draws=n_draws)
        found.update({"w": batch})
        assert tracemalloc.get_traced_memory()[1] < 4 * size * 8
        other = fs.ScoreAccumulator(n_draws=n_draws)
        other.update({"w": batch})
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        found.merge(other)
        assert tracemalloc.get_traced_memory()[1] - before < size * 8
    finally:
        tracemalloc.stop()


def test_the_result_is_a_copy():
    found = accumulated(scores(5))
    result = found.result()
    before = result.copy(deep=True)
    found.update(scores(5, seed=1))
    xr.testing.assert_identical(result, before)


def test_labels():
    found = accumulated(scores(9, 2), 2).result(design="subsample", population=20)
    names = {row.name for row in VARIABLES.values()}
    for node in found.leaves:
        for name, one in node.to_dataset().data_vars.items():
            assert name in names
            assert {"long_name", "units", "symbol", "source", "assumptions", "provenance"} <= set(one.attrs)
            assert '"population": 20' in one.attrs["provenance"]


def test_round_trip_of_a_result(tmp_path):
    found = accumulated(scores(9)).result()
    found.to_netcdf(tmp_path / "a.nc")
    with xr.open_datatree(tmp_path / "a.nc") as read:
        xr.testing.assert_identical(read.load(), found)


def test_an_interrupted_update_is_remembered(monkeypatch):
    found = accumulated(scores(5))

    def interrupted(scores):
        raise KeyboardInterrupt

    monkeypatch.setattr(found._moments, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found.update(scores(5))
    for call in (found.result, lambda: found.update(scores(5)), lambda: fs.ScoreAccumulator().merge(found)):
        with pytest.raises(RuntimeError, match="must have finished its last update or merge, which was interrupted"):
            call()


# --- refusals -----------------------------------------------------------------------------------------------------------


class OnDevice:
    """An array on a GPU, as far as DLPack tells."""

    shape, dtype = (3, 2), "float32"

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **_):
        raise BufferError


class OfTorch(OnDevice):
    def detach(self):
        return self

    def cpu(self):
        return self


class OfCupy(OnDevice):
    def get(self):
        return self


def begun(n_draws=None):
    found = fs.ScoreAccumulator(n_draws=n_draws)
    lead = (3,) if n_draws is None else (3, n_draws)
    found.update({"w": np.ones((*lead, 2)), "b": np.ones(lead)})
    return found


def with_one(value, dtype=np.float64):
    given = np.ones((3, 2), dtype)
    given[1, 0] = value
    return {"w": given, "b": np.ones(3)}


W, B = np.ones((3, 2)), np.ones(3)
UPDATES = [
    ([W], TypeError, "`scores` must be a mapping from the names of arrays of parameters to per-example scores"),
    ({}, TypeError, "`scores` must be a mapping from the names of arrays of parameters"),
    ({"w": W}, ValueError, "`scores` must have all 2 arrays of parameters in every batch, got none for 'b'; give zeros"),
    ({"w": W, "b": B, "c": B}, ValueError, "`scores` must have the arrays ['w', 'b'], got 'c' as well; leave it out"),
    ({"w": W.T, "b": B}, ValueError, "`scores['w']` must have shape (2, 2), (examples, *shape), got (2, 3)"),
    ({"w": np.ones((3, 2, 2)), "b": B}, ValueError, "`scores['w']` must have shape (3, 2), .*; several draws per example need"),
    (
        {"w": W, "b": np.ones(4)},
        ValueError,
        "`scores` must have the same number of examples in every array, got 3 for 'w' and 4 ",
    ),
    ({"w": W[:0], "b": B[:0]}, ValueError, "`scores['w']` must have one example at least and no empty axis, got shape (0, 2)"),
    ({"w": W, "b": 1.0}, ValueError, "`scores['b']` must have an axis of examples, got shape ()."),
    (with_one(np.nan), ValueError, "`scores['w']` must be finite, got nan at index (1, 0); leave the example out"),
    (with_one(-np.inf, np.float32), ValueError, "`scores['w']` must be finite, got -inf at index (1, 0); leave the example out"),
    (with_one(-1e80), ValueError, "`scores['w']` must be smaller than 1e+75 in magnitude, got -1e+80 at index (1, 0)"),
    ({"w": W + 0j, "b": B}, TypeError, "`scores['w']` must hold float64, float32, float16 or integers, got dtype complex128"),
    (
        {"w": W.astype(object), "b": B},
        TypeError,
        "`scores['w']` must hold float64, float32, float16 or integers, got dtype object",
    ),
    ({"w": masked(W, (1, 1)), "b": B}, ValueError, "`scores['w']` must have no masked entries"),
    ({"w": [[1], [2, 3]], "b": B}, TypeError, "`scores['w']` must be an array of float32 or float64 on the host"),
    ({"w": OfTorch(), "b": B}, TypeError, "`scores['w']` must be on the host, got .* on a device; copy it with `.cpu()`."),
    ({"w": OfCupy(), "b": B}, TypeError, "`scores['w']` must be on the host, got .* on a device; copy it with `.get()`."),
    (
        {"w": OnDevice(), "b": B},
        TypeError,
        "`scores['w']` must be on the host, got .* on a device; copy it with `jax.device_get`.",
    ),
]


@pytest.mark.parametrize(("given", "error", "message"), [pytest.param(*one, id=one[2][:70]) for one in UPDATES])
def test_a_refused_batch_changes_nothing(given, error, message):
    found = begun()
    before = found.result()
    with pytest.raises(error, match=pattern(message)):
        found.update(given)
    xr.testing.assert_identical(found.result(), before)


def test_large_finite_numbers_are_taken():
    for one in (np.full((4, 2), 3e38, np.float32), np.full((4, 2), 9e74), np.full((4, 2), 6e4, np.float16)):
        found = accumulated({"w": one}).result()["parameters/w"]
        close(found.mean_square, np.square(one[0].astype(np.float64)))


@refused(
    [
        (
            lambda: begun(2).update({"w": np.ones((3, 3, 2)), "b": np.ones((3, 3))}),
            ValueError,
            "`scores['w']` must have 2 draws on",
        ),
        (
            lambda: begun(2).update({"w": W, "b": B}),
            ValueError,
            "`scores['b']` must have an axis of examples and one of draws, got",
        ),
        (lambda: fs.ScoreAccumulator(n_draws=0), ValueError, "`n_draws` must be a positive integer, got 0."),
        (lambda: fs.ScoreAccumulator([3]), TypeError, "`shapes` must be a mapping from names of arrays of parameters"),
        (lambda: fs.ScoreAccumulator({"w": 3}), ValueError, "`shapes['w']` must be a tuple of positive integers, got 3."),
        (lambda: fs.ScoreAccumulator({"w": (0,)}), ValueError, "`shapes['w']` must be a tuple of positive integers, got (0,)."),
        (lambda: fs.ScoreAccumulator({3: (1,)}), ValueError, "`shapes` must have names such as 'conv1.weight'"),
        (lambda: fs.ScoreAccumulator().update({"a//b": B}), ValueError, "`scores` must have names such as 'conv1.weight'"),
        (
            lambda: fs.ScoreAccumulator().update({"a": B, "a/b/c": B}),
            ValueError,
            "`scores` must not have both an array and a group of one name, got 'a' and 'a/b/c'; give one another name.",
        ),
        (lambda: fs.ScoreAccumulator().result(), ValueError, "`result` needs scores of at least two examples, got none;"),
        (lambda: accumulated({"b": B[:1]}).result(), ValueError, "`design='random'` needs at least two inputs"),
        (lambda: begun().result(design="fixed"), ValueError, "`design='fixed'` needs at least two draws per example"),
        (
            lambda: begun(1).result(design="subsample", population=9),
            ValueError,
            "`design='subsample'` needs at least two draws per example to estimate the variance over labels, got 1;",
        ),
        (
            lambda: begun(2).result(design="subsample"),
            ValueError,
            "`population` must be given with design='subsample', got None.",
        ),
        (lambda: begun(2).result(design="subsample", population=2), ValueError, "`population` must be at least the 3 inputs"),
        (lambda: begun().result(population=9), ValueError, "`population` goes with design='subsample' only"),
        (lambda: begun().result(design="fix"), ValueError, "`design` must be one of 'random', 'fixed', 'subsample', got 'fix'."),
        (lambda: begun().merge(begun(2)), ValueError, "`other` must have n_draws=None, as this accumulator, got n_draws=2."),
        (
            lambda: begun().merge(accumulated({"w": W, "b": W})),
            ValueError,
            "`other` must have the same arrays of parameters in the same shapes, got (2,) for 'b', which is () here.",
        ),
        (
            lambda: begun().merge(accumulated({"w": W})),
            ValueError,
            "`other` must have the same arrays of parameters in the same shapes, got none for 'b', which is () here.",
        ),
        (lambda: (one := begun()).merge(one), TypeError, "`other` must be another ScoreAccumulator, got the accumulator itself."),
        (lambda: begun().merge(3), TypeError, "`other` must be another ScoreAccumulator, got 3."),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()


def test_one_example_has_an_error_over_labels():
    assert accumulated({"b": np.array([[1.0, 3.0]])}, 2).result(design="fixed")["parameters/b"].standard_error == 4.0
