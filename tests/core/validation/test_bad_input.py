"""Calls that cannot be answered are refused at the border: the right exception, the argument, what arrived, what to do."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import dask.array
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr

import fisherstats as fs
from fisherstats.core.validation import capacity
from fisherstats.core.validation.arguments import shown
from fisherstats.models import derivatives
from tests.refusals import DTYPE, MASKED, SEED, SPARSE, changed, masked, pattern, refused

Bernoulli, Categorical, Gaussian, Poisson = (
    getattr(fs.families, name) for name in ("Bernoulli", "Categorical", "Gaussian", "Poisson")
)
X = np.random.default_rng(0).normal(size=(5, 3))
MODEL = fs.MLP.random([3, 4, 2], activation="tanh", family=Categorical(2), rng=0)
COUNTS = fs.MLP.random([3, 4, 1], activation="tanh", family=Poisson(), rng=0)
COINS = fs.MLP.random([3, 4, 1], activation="tanh", family=Bernoulli(), rng=0)
NORMAL = fs.MLP.random([3, 4, 2], activation="tanh", family=Gaussian(2), rng=0)
LARGE = fs.MLP.random([784, 80, 80, 80, 10], activation="tanh", family=Categorical(10), rng=0)


def labelled(array, *dims, **coords):
    return xr.DataArray(array, dims=dims, coords=coords)


def information(x=X, model=MODEL, **words):
    return fs.fisher_information(model, x, **words)


def estimate(x=X, model=MODEL, **words):
    return fs.estimate_fisher(model, x, **({"estimator": "score", "n_draws": 3, "rng": 0} | words))


def empirical(y, model=MODEL, x=X):
    return fs.empirical_fisher(model, x, y)


def hidden(layer=0, **words):
    return fs.hidden_information(MODEL, X, layer=layer, **words)


def variance(x=X, model=MODEL, **words):
    return fs.estimator_variance(model, x, **words)


def bounds(x=X, model=MODEL, **words):
    return fs.variance_bounds(model, x, **words)


ROWS = "`y` must have shape (5,), one class number per input, got shape "
SUPPORT = "`y` must hold whole numbers from 0 to 1 for the {} family, got {}."
ARRAY = "`x` must be an array of real numbers, got "
DESIGN = "`design` must be one of 'fixed', 'random', 'subsample', 'exact_labels', got "
VIEW = "`view` must be one of 'diagonal', 'block', 'full', got "
ENGINE = "`engine` must be one of None, 'numpy', 'numba', 'cupy', got "
ESTIMATOR = "`estimator` must be one of 'score', 'hessian', got "
PROBED = "'score', 'hessian', 'hutchinson_gaussian', 'hutchinson_rademacher'"
ON_KINK = "`on_kink` must be one of 'raise', 'ignore', got "
GROUPS = "`group_by` must be one of None, 'layer', 'unit', 'model', got "

# The call, the exception, the message or its beginning.
INPUTS = [
    (lambda: information(X[0]), ValueError, "`x` must be 2-D (input, feature), got shape (3,); use x[None, :]"),
    (lambda: information([]), ValueError, "`x` must be 2-D (input, feature), got shape (0,)."),
    (lambda: information(X[None]), ValueError, "`x` must be 2-D (input, feature), got shape (1, 5, 3)."),
    (lambda: information(X[:0]), ValueError, "`x` must have at least one row, got shape (0, 3)."),
    (lambda: information(X[:, :2]), ValueError, "`x` must have 3 columns, the inputs of the first layer, got shape (5, 2)."),
    (lambda: information(changed(X, np.nan)), ValueError, "`x` must be finite, got nan at index (2, 1);"),
    (lambda: information(pd.DataFrame(changed(X, np.nan))), ValueError, "`x` must be finite, got nan at index (2, 1)"),
    (lambda: information(X * 1j), TypeError, "`x`" + DTYPE.format("complex128")),
    (lambda: information(X.astype(object)), TypeError, "`x`" + DTYPE.format("object")),
    (lambda: information(X.astype(str)), TypeError, "`x`" + DTYPE.format("<U32")),
    (lambda: information(np.zeros((5, 3), "M8[s]")), TypeError, "`x`" + DTYPE.format("datetime64[s]")),
    (lambda: information(X.astype(np.float16)), TypeError, "`x`" + DTYPE.format("float16")),
    (lambda: information(X.astype("g")), TypeError, "`x`" + DTYPE.format(np.dtype("g"))),
    (lambda: information(pd.DataFrame({"a": [1.0], "b": ["u"], "c": [1]})), TypeError, "`x`" + DTYPE.format("object")),
    (
        lambda: information([[1, 2, 3], [1, 2]]),
        ValueError,
        "`x` must be a rectangular array of real numbers, got [[1, 2, 3], [1, 2]].",
    ),
    (lambda: information(None), TypeError, ARRAY + "None."),
    (lambda: information(iter(X)), ValueError, "`x` must be 2-D (input, feature), got shape (3,); use x[None, :] for a single"),
    (lambda: information(iter([])), ValueError, "`x` must give at least one batch of rows, got an iterable that is empty."),
    (lambda: information(scipy.sparse.csr_array(X)), TypeError, "`x`" + SPARSE.format("(5, 3)", "`x.toarray()`")),
    (lambda: information(masked(X, (3, 1))), ValueError, "`x`" + MASKED.format("(3, 1)")),
    (lambda: information([X[0], masked(X[1], (2,))]), ValueError, "`x`" + MASKED.format("(1, 2)")),
    (
        lambda: information(dask.array.ma.masked_greater(dask.array.from_array(X), 0.5)),
        ValueError,
        "`x` must have no masked entries, got a dask array of masked arrays",
    ),
    (
        lambda: information(dask.array.from_array(X)[dask.array.from_array(X[:, 0] > 0)]),
        ValueError,
        "`x` must have a known number of rows, got shape (nan, 3); call `x.compute_chunk_sizes()` first.",
    ),
    (
        lambda: information(labelled(X, "row", "feature")),
        ValueError,
        "`x` must have the dims ('input', 'feature'), got ('row', 'feature'); rename them with `.rename(...)`.",
    ),
    (
        lambda: information(labelled(X, "input", "feature").to_dataset(name="a")),
        TypeError,
        "`x` must be one array, got a Dataset of ['a']; choose",
    ),
    (
        lambda: information(
            labelled(X[:4], "input", "feature", p=("input", [0, 0, 1, 1]), q=("input", [0, 1, 0, 1])).set_index(input=["p", "q"])
        ),
        ValueError,
        "`x` must have one label per input in its coordinate 'input', got a MultiIndex of 2 levels; "
        "turn the levels into plain coordinates with `x.reset_index('input')`.",
    ),
    (
        lambda: information(labelled(X[:2], "input", "feature", input=np.array(["a", 1], dtype=object))),
        TypeError,
        "`x` must have numbers, dates without a time zone or text as labels in its coordinate 'input', got 1 at input 1; convert",
    ),
    (lambda: MODEL.natural_parameters(masked(X, (0, 0))), ValueError, "`x`" + MASKED.format("(0, 0)")),
    (
        lambda: fs.fisher_information(X, MODEL),
        TypeError,
        "`model` must be a fisherstats.MLP, got an array of shape (5, 3) and dtype float64; build",
    ),
    (
        lambda: fs.fisher_operator(MODEL, X) @ np.full(MODEL.n_params, np.nan),
        ValueError,
        "`vector` must be finite, got nan at index (0, 0)",
    ),
    (lambda: fs.fisher_operator(MODEL, X) @ np.full(MODEL.n_params, 1j), TypeError, "`vector`" + DTYPE.format("complex128")),
]
WORDS = [
    (lambda: information(view="diag"), ValueError, VIEW.replace("'full'", "'full', 'kfac'") + "'diag'. Did you mean 'diagonal'?"),
    (lambda: estimate(view=None), ValueError, VIEW + "None."),
    (lambda: information(per_input=1), ValueError, "`per_input` must be True or False, got 1."),
    (lambda: information(engine="nunpy"), ValueError, ENGINE + "'nunpy'. Did you mean 'numpy'?"),
    (lambda: information(num_threads=0), ValueError, "`num_threads` must be a positive integer, got 0."),
    (lambda: information(progress="yes"), ValueError, "`progress` must be True or False, got 'yes'."),
    (
        lambda: estimate(estimator="hesian"),
        ValueError,
        f"`estimator` must be one of {PROBED}, got 'hesian'. Did you mean 'hessian'?",
    ),
    (lambda: estimate(estimator=[]), ValueError, f"`estimator` must name at least one of {PROBED}, got []."),
    (lambda: estimate(estimator=["score"] * 2), ValueError, "`estimator` must not repeat a word, got ['score', 'score']."),
    (
        lambda: estimate(estimator={"score"}),
        TypeError,
        f"`estimator` must be one of {PROBED} or a list of them, got {{'score'}}.",
    ),
    (lambda: estimate(on_kink="ingore"), ValueError, ON_KINK + "'ingore'. Did you mean 'ignore'?"),
    (lambda: estimate(standard_error=1), ValueError, "`standard_error` must be True or False, got 1."),
    *[
        (lambda wrong=wrong: estimate(n_draws=wrong), ValueError, f"`n_draws` must be a positive integer, got {wrong!r}.")
        for wrong in (0, -3, 2.5, 3.0, True, None, "3", np.nan)
    ],
    (lambda: variance(n_draws=10**30), ValueError, f"`n_draws` must be a positive integer below 2**63, got {10**30}."),
    (lambda: estimate(rng=None), ValueError, SEED.format("None")),
    (lambda: variance(design="randon"), ValueError, DESIGN + "'randon'. Did you mean 'random'?"),
    (
        lambda: variance(X[:1], design="random"),
        ValueError,
        "`design='random'` needs at least two inputs to estimate the variance over inputs, got 1; use design='fixed'",
    ),
    (
        lambda: variance(design="random", per_input=True),
        ValueError,
        "`per_input` must be False with design='random', which .* over random inputs, got True; use design='fixed'",
    ),
    (lambda: variance(design="subsample"), ValueError, "`population` must be given with design='subsample', got None."),
    (
        lambda: variance(population=9),
        ValueError,
        "`population` goes with design='subsample' only, got population=9 with design='fixed'; leave `population` out.",
    ),
    (
        lambda: variance(design="subsample", population=4),
        ValueError,
        "`population` must be at least the 5 inputs sampled from it, got 4.",
    ),
    (lambda: variance(design="subsample", population=9.5), ValueError, "`population` must be a positive integer, got 9.5."),
    (lambda: variance(group_by="layers"), ValueError, GROUPS + "'layers'. Did you mean 'layer'?"),
    (lambda: variance(group_by=["layer"]), ValueError, GROUPS + "['layer']."),
    (lambda: variance(estimators=["empirical"]), ValueError, f"`estimators` must be one of {PROBED}, got 'empirical'."),
    (lambda: bounds(n_draws=-1), ValueError, "`n_draws` must be a positive integer, got -1."),
    (lambda: bounds(on_kink=None), ValueError, ON_KINK + "None."),
    *[
        (
            lambda wrong=wrong: hidden(wrong),
            ValueError,
            f"`layer` must be an integer from 0 (the input) to 2 (the natural parameters), got {wrong!r}.",
        )
        for wrong in (-1, 3, 0.5, True, None)
    ],
    (
        lambda: hidden(n_draws=3),
        ValueError,
        "`n_draws` goes with estimator='score' only, got n_draws=3 with estimator=None; leave `n_draws` out.",
    ),
    (lambda: hidden(estimator="score", n_draws=3), ValueError, "`rng` must be given with estimator='score', got None."),
    (lambda: hidden(estimator="empirical"), ValueError, "`y` must be given with estimator='empirical', got None."),
    (
        lambda: hidden(estimator="socre"),
        ValueError,
        "`estimator` must be one of None, 'score', 'empirical', got 'socre'. Did you mean 'score'?",
    ),
    (lambda: fs.explain(MODEL, estimator="scor"), ValueError, ESTIMATOR + "'scor'. Did you mean 'score'?"),
    (lambda: fs.explain(MODEL, engine="cupy"), fs.EngineUnavailable, "`engine='cupy'` is not available: .+. Use engine=None"),
    (
        lambda: information(engine="cupy"),
        fs.EngineUnavailable,
        "`engine='cupy'` is not available: .+. Use engine=None to let the package choose, 'numpy' or 'numba'.",
    ),
]
LABELS = [
    (lambda: empirical([0, 1, 2, 0, 1]), ValueError, SUPPORT.format("categorical", "2.0 at index (2,)")),
    (lambda: hidden(estimator="empirical", y=[0, 1, 0, 0, -1]), ValueError, SUPPORT.format("categorical", "-1.0 at index (4,)")),
    (lambda: empirical([0, 1, 0.5, 0, 1], COINS), ValueError, SUPPORT.format("bernoulli", "0.5 at index (2, 0)")),
    (
        lambda: empirical([0, 1, -1, 0, 1], COUNTS),
        ValueError,
        "`y` must hold whole numbers of at least 0 for the poisson family, got -1.0 at index (2, 0).",
    ),
    (lambda: empirical(changed(np.zeros((5, 2)), np.nan), NORMAL), ValueError, "`y` must be finite, got nan at index (2, 1)"),
    (lambda: empirical([0, 1]), ValueError, ROWS + "(2,)."),
    (
        lambda: empirical(np.eye(2)[[0, 1, 0, 1, 0]]),
        ValueError,
        ROWS + "(5, 2); pass class numbers, for one-hot rows `y.argmax(axis=1)`.",
    ),
    (lambda: empirical(np.zeros((5, 1))), ValueError, ROWS + "(5, 1); pass `y[:, 0]`."),
    (lambda: empirical(np.zeros(5), NORMAL), ValueError, "`y` must have shape (5, 2), one label per input, got shape (5,)."),
    (
        lambda: empirical(list("ababa")),
        TypeError,
        "`y` must hold class numbers, got dtype <U1; number the classes with `np.unique(y, return_inverse=True)[1]`",
    ),
    (lambda: empirical(list("01234"), COUNTS), TypeError, "`y`" + DTYPE.format("<U1")),
    (lambda: empirical(masked([0, 1, 0, 1, 0], (2,))), ValueError, "`y`" + MASKED.format("(2,)")),
    (lambda: empirical(None), TypeError, "`y` must be an array of real numbers, got None."),
    (
        lambda: empirical(labelled([0, 1, 0, 1, 0], "row")),
        ValueError,
        "`y` must have the dim 'input', got ('row',); rename it with `.rename(...)`.",
    ),
    (
        lambda: empirical(
            labelled([0, 1, 0], "input", input=list("abd")), x=labelled(X[:3], "input", "feature", input=list("abc"))
        ),
        ValueError,
        "`y` must have the inputs of `x` in its coordinate 'input', in the same order, got 'd' for 'c' at "
        "position 2; align them with `y.sel(input=x.input)`.",
    ),
]
MANY = np.broadcast_to(0.0, (10**6, 784))
SIZES = [
    (
        lambda: information(np.ones((1, 784)), LARGE, view="full"),
        fs.SizeError,
        "`view='full'` needs 46,903,719,200 bytes (43.7 GiB) and 15.3 GiB of working memory, but 8.0 GiB are available; "
        "use `store` to write it to disk, view='diagonal' or view='block', or fisher_operator for products with vectors.",
    ),
    (
        lambda: estimate(np.ones((1, 784)), LARGE, view="full"),
        fs.SizeError,
        "`view='full'` needs 46,903,719,200 bytes (43.7 GiB)",
    ),
    (
        lambda: information(np.ones((1, 784)), LARGE, view="block"),
        fs.SizeError,
        "`view='block'` needs 32,.* use `store` to write it to disk, view='diagonal', or fisher_operator",
    ),
    (
        lambda: information(MANY, LARGE, per_input=True),
        fs.SizeError,
        "`view='diagonal'` with `per_input=True` needs 612,560,000,000 bytes (570.5 GiB) .* use per_input=False, fewer inputs or",
    ),
    (lambda: bounds(MANY, LARGE, per_input=True), fs.SizeError, "`view='diagonal'` with `per_input=True` needs .* bytes"),
    (
        lambda: fs.hidden_information(LARGE, MANY, layer=0),
        fs.SizeError,
        "`hidden_information` needs 4,917,248,000,000 bytes (4.5 TiB) .* use fewer inputs at a time.",
    ),
    (
        lambda: fs.output_information(
            fs.MLP.random([1, 300], activation=[], family=fs.families.Gaussian(300), rng=0), MANY[:, :1]
        ),
        fs.SizeError,
        "`output_information` needs 720,000,000,000 bytes",
    ),
]


def line(slope, family, dtype=np.float64):
    """Return the network h = slope * x."""
    return fs.MLP([np.array([[slope, 0.0]], dtype=dtype)], activation=[], family=family)


RECTIFIER = fs.MLP([[[1.0, 1, 0], [1, -1, 0]], [[1.0, 1, 0]]], activation="relu", family=Bernoulli())
AT_KINK = np.array([[1.0, 2.0]] * 200 + [[0.0, 0.0]])
KINK = (
    ".*the pre-activation of input 200, layer 0, unit 0 is 0.0, a kink of relu (2 such units in this block). Use .*"
    "`on_kink='ignore'`"
)
RESULTS = "`x` must give results within the range of {}, got {}: .* overflow; scale the inputs or the weights."
NATURAL = "`model` must give finite natural parameters, got inf for input {}, output 0; .* too large for their dtype {}."
# These show only in the forward pass or in what follows it.
INSIDE = [
    (lambda: estimate(AT_KINK, RECTIFIER, estimator="hessian"), fs.AssumptionError, KINK),
    (lambda: estimate(AT_KINK, RECTIFIER, estimator=["score", "hessian"]), fs.AssumptionError, KINK),
    (lambda: variance(AT_KINK, RECTIFIER), fs.AssumptionError, KINK),
    (lambda: bounds(AT_KINK, RECTIFIER), fs.AssumptionError, KINK),
    (
        lambda: information(dask.array.from_array(changed(X, np.nan), chunks=2)).compute(),
        ValueError,
        "In block 0, inputs 0 to 4: `x` must be finite, got nan at index (2, 1); remove",
    ),
    (lambda: information([[1.0], [1e300]], line(1e300, Gaussian())), ValueError, NATURAL.format(1, "float64")),
    (
        lambda: information(np.full((1, 1), 1e30, np.float32), line(1e30, Gaussian(), np.float32)),
        ValueError,
        NATURAL.format(0, "float32"),
    ),
    (
        lambda: bounds([[1e300]], fs.MLP([[[1.0, 0], [1e300, 0]], [[1.0, 1.0, 0.0]]], activation="tanh", family=Bernoulli())),
        ValueError,
        "`model` must give finite pre-activations, got inf for input 0, layer 0, unit 1; the weights",
    ),
    (lambda: line(1e300, Gaussian()).natural_parameters([[1e300]]), ValueError, NATURAL.format(0, "float64")),
    (lambda: information([[1e200]], line(1e-200, Bernoulli())), ValueError, RESULTS.format("float64", "inf")),
    (lambda: information([[1e200]], line(1e-200, Bernoulli()), view="full"), ValueError, RESULTS.format("float64", "inf")),
    (lambda: information([[1e200]], line(1e-200, Bernoulli()), view="block"), ValueError, RESULTS.format("float64", "inf")),
    (lambda: information([[1e200]], line(1e-200, Bernoulli()), view="kfac"), ValueError, RESULTS.format("float64", "inf")),
    (lambda: variance([[1e100]], line(1e-100, Bernoulli())), ValueError, RESULTS.format("float64", "inf")),
    (lambda: bounds([[1e100]], line(1e-100, Bernoulli())), ValueError, RESULTS.format("float64", "inf")),
    (
        lambda: variance(np.full((1, 1), 10000000000.0, np.float32), line(1e-10, Bernoulli(), np.float32)),
        ValueError,
        RESULTS.format("float32", "4.19869e+38"),
    ),
    (
        lambda: information([[400.0]], line(1.0, Poisson())),
        ValueError,
        "`h` must stay below 353.9 for the Poisson family in float64, .* got 400.0 at index (0, 0).",
    ),
    (
        lambda: estimate([[0.0], [30.0]], line(1.0, Poisson()), estimator="hessian", n_draws=10**8),
        ValueError,
        "`n_draws` times the rate must be at most 2**63 - 2**35, the range of the sampler, got 100000000 draws and rate "
        "1.06865e+13 at input 1, output 0; use at most 863088 draws.",
    ),
    (
        lambda: estimate([[44.0]], line(1.0, Poisson()), n_draws=1),
        ValueError,
        "`model` must stay .*: the rate of a label must be at most 2**63 - 2**35, got rate 1.28516e+19 at input 0, output 0.",
    ),
]


@refused([*INPUTS, *WORDS, *LABELS])
def test_refused_before_any_work(call, error, message, monkeypatch):
    monkeypatch.setattr(derivatives, "forward", lambda *_: pytest.fail("a forward pass was made before the refusal"))
    with pytest.raises(error, match=pattern(message)) as refusal:
        call()
    assert refusal.type is error


@pytest.mark.parametrize("call", [information, estimate, variance, bounds, lambda x: empirical(np.zeros(len(x), int), x=x)])
def test_a_number_in_a_late_block_is_refused_by_its_place(call):
    with pytest.raises(ValueError, match=pattern("`x` must be finite, got inf at index (4999, 2); remove")):
        call(changed(np.ones((5000, 3)), np.inf, (4999, 2)))


@pytest.mark.parametrize("estimator", ["score", "hessian"])
def test_a_refused_call_does_not_advance_a_generator(estimator):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="`x` must be finite"):
        estimate(changed(X, np.nan), estimator=estimator, rng=rng)
    xr.testing.assert_identical(
        estimate(estimator=estimator, rng=rng), estimate(estimator=estimator, rng=np.random.default_rng(0))
    )


@refused(SIZES)
def test_refused_before_memory_is_taken(call, error, message, monkeypatch):
    monkeypatch.setattr(capacity, "available_bytes", lambda *needed: 2**33)
    monkeypatch.setattr(derivatives, "forward", lambda *_: pytest.fail("a forward pass was made before the refusal"))
    with pytest.raises(error, match=pattern(message)):
        call()


@pytest.mark.parametrize("num_threads", [1, 2])
@refused(INSIDE)
def test_refused_in_the_forward_pass(call, error, message, num_threads, monkeypatch):
    monkeypatch.setenv("FISHERSTATS_NUM_THREADS", str(num_threads))
    with pytest.raises(error, match=pattern(message)) as refusal:
        call()
    assert refusal.type is error


@pytest.mark.parametrize(
    "function", [fs.output_information, fs.fisher_information, fs.fisher_operator, fs.estimator_variance, fs.variance_bounds]
)
@pytest.mark.parametrize(
    ("arguments", "words", "message"),
    [
        ((MODEL, X[0]), {}, "`x` must be 2-D (input, feature), got shape (3,); use x[None, :]"),
        ((MODEL, changed(X, np.nan)), {}, "`x` must be finite, got nan at index (2, 1)"),
        (("model", X), {}, "`model` must be a fisherstats.MLP, got 'model'; build one"),
        (
            (MODEL, X),
            {"engine": "Numba"},
            ENGINE + "'Numba'. Did you mean 'numba'?",
        ),
        ((MODEL, X), {"num_threads": 1.5}, "`num_threads` must be a positive integer, got 1.5."),
    ],
    ids=["vector", "nan", "model", "engine", "threads"],
)
def test_every_function_checks_the_common_arguments(function, arguments, words, message):
    with pytest.raises((TypeError, ValueError), match=pattern(message)):
        function(*arguments, **words)


def test_check_of_x_is_cheap():
    """The check reads x once, in slabs: no slower than ten reductions of x, and little memory beside it."""
    x = np.ones((200_000, 50))
    started = time.perf_counter()
    for _ in range(10):
        np.square(x).sum()
    reductions = time.perf_counter() - started
    model = fs.MLP([np.ones((1, 51))], activation=[], family=Bernoulli())
    tracemalloc.start()
    started = time.perf_counter()
    fs.fisher_operator(model, x)
    assert time.perf_counter() - started < reductions
    assert tracemalloc.get_traced_memory()[1] < x.nbytes / 8
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.int64(3), "3"),
        (np.float32(0.1), "0.1"),
        (np.array(2.5), "2.5"),
        (np.bool_(False), "False"),
        (np.str_("a"), "'a'"),
        (np.array(b"a"), "b'a'"),
        ("a", "'a'"),
        (np.zeros(3), "an array of shape (3,) and dtype float64"),
        ("a" * 100, f"'{'a' * 76}..."),
        (Path("a" * 100), f"'{'a' * 100}'"),
    ],
    ids=repr,
)
def test_what_arrived_is_shown_in_short_and_a_path_in_full(value, text):
    assert shown(value) == text
