"""What is labelled is put into the order of the network or refused, and what is read is what was announced."""

from __future__ import annotations

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.core.validation import study as study_checks
from tests.refusals import pattern

ap = fs.applications
MODEL = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)
SAME_SIZE = fs.MLP.random([2, 4, 2, 2, 1], activation="tanh", family=fs.families.Bernoulli(), rng=0)
X = np.random.default_rng(0).normal(size=(6, 3))
SHUFFLE = np.random.default_rng(1).permutation(MODEL.n_params)
IMPORTANCE = ap.importance(MODEL, X)
MATRIX = fs.fisher_information(MODEL, X, view="full")

#: what takes a number per parameter
CALLS = {
    "functional_variance": ("vector", lambda v: fs.functional_variance(MODEL, X, vector=v).variance),
    "length_element": ("delta", lambda v: ap.length_element(MODEL, X, v).squared_length),
    "propagate": ("g", lambda v: fs.propagate(fs.SolveWith(v, 0.1), MODEL, X, estimator="score", n_draws=3).value),
    "amari_chentsov": ("directions", lambda v: fs.amari_chentsov(MODEL, X, v)),
    "efron_curvature": ("directions", lambda v: fs.efron_curvature(MODEL, X, v).nu_20),
    "cramer_rao_bound": (
        "directions",
        lambda v: ap.cramer_rao_bound(MODEL, X, directions=v),
    ),
    "Consolidation": ("importance", lambda v: ap.Consolidation(MODEL, v).importance),
    "Consolidation.online": ("importance", lambda v: ap.Consolidation(MODEL, IMPORTANCE).online(MODEL, v).importance),
    "merge_networks": ("importances[1]", lambda v: ap.merge_networks([MODEL, MODEL], [IMPORTANCE, v]).parameters.share),
    "operator": ("vector", lambda v: fs.fisher_operator(MODEL, X) @ v),
    "operator.matvec": ("vector", lambda v: fs.fisher_operator(MODEL, X).matvec(v)),
}
SORTED = IMPORTANCE.isel(param=SHUFFLE)
#: the same numbers with the same labels in another order
ORDERS = {
    "DataArray": SORTED,
    "Series": SORTED.to_series(),
    "by layer and units": SORTED.drop_vars("param"),
    "MultiIndex": SORTED.drop_vars("param").set_index(param=["param_layer", "param_unit_out", "param_unit_in"]),
    "Series by layer and units": SORTED.drop_vars("param")
    .set_index(param=["param_layer", "param_unit_out", "param_unit_in"])
    .to_series(),
}


@pytest.mark.parametrize("form", ORDERS)
@pytest.mark.parametrize("name", CALLS)
def test_numbers_of_parameters_in_another_order_are_put_in_order(name, form):
    call = CALLS[name][1]
    assert np.array_equal(np.asarray(call(ORDERS[form])), np.asarray(call(IMPORTANCE.values)))


def test_the_shuffle_would_be_seen():
    for _, call in CALLS.values():
        if call is not CALLS["cramer_rao_bound"][1]:  # infinite either way
            assert not np.allclose(np.asarray(call(SORTED.values)), np.asarray(call(IMPORTANCE.values)))


REFUSED = {
    "another network of as many parameters": (
        ap.importance(SAME_SIZE, X[:, :2]).isel(param=slice(0, MODEL.n_params)),
        " must be for the parameters of the network, by its coordinate '.+', got .+ where the network has .+",
    ),
    "twice": (IMPORTANCE.isel(param=[0] * MODEL.n_params), " must have one number for each parameter, by its coordinate 'param'"),
    "other numbers": (
        IMPORTANCE.assign_coords(param=IMPORTANCE.param + 1),
        " must be for the parameters of the network, by its coordinate 'param', got 26, which it does not have",
    ),
    "kinds alone in another order": (
        SORTED.drop_vars(["param", "param_layer", "param_unit_in", "param_unit_out"]),
        " must be for the parameters of the network, by its coordinate 'param_kind', got ",
    ),
    "other dims": (xr.DataArray(IMPORTANCE.values), " must have the dims ('param',) or (..., 'param'), got ('dim_0',)"),
    "dims of a Variable": (xr.Variable(("unit",), IMPORTANCE.values), " must have the dims ('param',)"),
    "words": (
        pd.Series(IMPORTANCE.values, index=list("abcdefghijklmnopqrstuvwxyz")),
        " must be indexed by numbers of parameters",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
@pytest.mark.parametrize("name", CALLS)
def test_labels_of_other_parameters_are_refused(name, form):
    value, message = REFUSED[form]
    argument, call = CALLS[name]
    assert value.shape == (MODEL.n_params,)
    with pytest.raises(ValueError, match=pattern(f"`{argument}`{message}")):
        call(value)


def test_matrices_are_put_in_order():
    mixed = MATRIX.isel(param=SHUFFLE, param2=SHUFFLE[::-1])
    for one in (mixed, mixed.T, mixed.to_pandas()):
        for call in (
            lambda X_: fs.covariance_product(MODEL, X, X_, estimator="score"),
            lambda X_: fs.functional_variance(MODEL, X, matrix=X_).variance,
        ):
            assert np.allclose(call(one), call(MATRIX.values), rtol=1e-13, atol=0)
    with pytest.raises(ValueError, match=pattern("`matrix` must have the dims ('param', 'param2'), got ('param', 'q')")):
        fs.covariance_product(MODEL, X, MATRIX.rename(param2="q"), estimator="score")


def test_directions_are_put_in_order_whatever_the_order_of_their_dims():
    vectors = ap.leading_eigenpairs(MODEL, X, 3).eigenvectors
    right = fs.amari_chentsov(MODEL, X, vectors.values)
    for one in (vectors.isel(param=SHUFFLE), vectors.isel(param=SHUFFLE).T):
        assert np.array_equal(fs.amari_chentsov(MODEL, X, one), right)
        assert np.array_equal(fs.fisher_operator(MODEL, X) @ one, fs.fisher_operator(MODEL, X) @ vectors.values.T)


def test_standard_errors_go_with_their_importances():
    estimate = fs.estimate_fisher(MODEL, X, estimator="score", n_draws=5, rng=0)
    mixed = ap.merge_networks([MODEL, MODEL], [estimate, estimate.isel(param=SHUFFLE)], shrink=True)
    assert mixed.parameters.identical(ap.merge_networks([MODEL, MODEL], [estimate, estimate], shrink=True).parameters)


# --- what is read ----------

LONG = np.random.default_rng(2).normal(size=(700, 3))
EXACT = fs.fisher_information(MODEL, LONG)


class Refilled:
    """Batches that are all the same buffer."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __iter__(self):
        buffer = np.empty((self.rows, 3))
        for start in range(0, len(LONG), self.rows):
            part = LONG[start : start + self.rows]
            buffer[: len(part)] = part
            yield buffer[: len(part)]


class Reader:
    """Rows by slicing, all in the same buffer, and not always as they were announced."""

    shape, dtype = LONG.shape, LONG.dtype

    def __init__(self, give=lambda rows: rows) -> None:
        self.give, self.buffer = give, np.empty_like(LONG)

    def __getitem__(self, rows):
        part = LONG[rows]
        self.buffer[: len(part)] = part
        return self.give(self.buffer[: len(part)])


@pytest.mark.parametrize("x", [Refilled(7), Refilled(100), Refilled(350), Reader()], ids=["7", "100", "350", "slices"])
def test_a_reader_that_refills_one_buffer(x):
    assert np.array_equal(fs.fisher_information(MODEL, x), EXACT)
    assert np.array_equal(fs.fisher_information(MODEL, x, per_input=True), fs.fisher_information(MODEL, LONG, per_input=True))


WRONG = {
    "fewer rows": lambda rows: rows[: len(rows) - 1],
    "more rows": lambda rows: np.concatenate([rows, rows]),
    "float32": lambda rows: rows.astype(np.float32),
    "integers": lambda rows: rows.astype(int),
    "fewer columns": lambda rows: rows[:, :2],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "call",
    [
        lambda x: fs.fisher_information(MODEL, x),
        lambda x: fs.fisher_information(MODEL, x, per_input=True),
        lambda x: fs.fisher_operator(MODEL, x) @ np.ones(MODEL.n_params),
        lambda x: ap.leading_eigenpairs(MODEL, x, 1),
    ],
)
def test_rows_that_are_not_as_announced_are_refused(call, wrong):
    message = r"must return the rows that it declares, shape \(\d+, 3\) and dtype float64 from input \d+ on, got shape"
    with pytest.raises(ValueError, match=message):
        call(Reader(WRONG[wrong]))
    whole = dask.array.from_array(LONG, chunks=(100, 3))
    lazy = whole.map_blocks(lambda rows: WRONG[wrong](rows) if rows.size else rows, dtype=float, chunks=whole.chunks)
    lazy._meta = whole._meta
    with pytest.raises(ValueError, match=message):
        call(lazy).compute()


def test_dims_of_a_variable():
    assert np.array_equal(fs.fisher_information(MODEL, xr.Variable(("feature", "input"), LONG.T)), EXACT)
    assert np.array_equal(MODEL.natural_parameters(xr.Variable(("feature", "input"), X.T)), MODEL.natural_parameters(X))
    with pytest.raises(ValueError, match=pattern("`x` must have the dims ('input', 'feature'), got ('row', 'column')")):
        fs.fisher_information(MODEL, xr.Variable(("row", "column"), LONG))
    square = fs.MLP.random([3, 6], activation=[], family=fs.families.Gaussian(6), rng=0)
    y = np.random.default_rng(3).normal(size=(6, 6))
    assert fs.empirical_fisher(square, X, xr.Variable(("output", "input"), y.T)).equals(fs.empirical_fisher(square, X, y))


# --- numbers that would be cut off ----------


@pytest.mark.parametrize("dtype", [int, bool, np.float16, np.longdouble, complex, None, "integer"])
def test_weights_stay_floats(dtype):
    with pytest.raises(ValueError, match=pattern("`dtype` must be float64 or float32, the precisions of a network, got ")):
        MODEL.as_dtype(dtype)


def test_large_class_numbers_are_refused():
    near = np.array([2**62, 2**62 + 1])
    for y in (near, near.astype(np.uint64) * 2, near.astype(float), np.array([1e300, 2e300])):
        with pytest.raises(ValueError, match=pattern("`y` must hold whole numbers below 2**53 for data.task = 'classification'")):
            study_checks.labels_for_task(y, "classification")
