"""Unusual but legitimate input works, and says the same as the plain form of it."""

from __future__ import annotations

import copy
import pickle

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import fisherstats as fs
from fisherstats.quantities import _run
from fisherstats.quantities.information import operators

X = np.random.default_rng(0).normal(size=(5, 3))
Y = [0, 1, 1, 0, 1]
WEIGHTS = [np.random.default_rng(1).normal(size=shape) for shape in ((4, 4), (2, 5))]
MODEL = fs.MLP(WEIGHTS, activation="tanh", family=fs.families.Categorical(2))
NORMAL = fs.MLP(WEIGHTS, activation="tanh", family=fs.families.Gaussian(2))
COINS = fs.MLP([WEIGHTS[0], WEIGHTS[1][:1]], activation="tanh", family=fs.families.Bernoulli())
RECTIFIER = fs.MLP([[[1.0, 1, 0], [1, -1, 0]], [[1.0, 2, 0]]], activation="relu", family=fs.families.Bernoulli())
AT_KINK = np.array([[1.0, 2.0], [0.0, 0.0]])


def labelled(values, *dims, **coords):
    return xr.DataArray(values, dims=dims, coords=coords)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "lists": lambda x: x.tolist(),
    "tuples": lambda x: tuple(map(tuple, x.tolist())),
    "rows": lambda x: list(x),
    "Fortran order": np.asfortranarray,
    "read-only": read_only,
    "strided": lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "matrix": lambda x: x.view(np.matrix),
    "nothing masked": lambda x: np.ma.masked_array(x, mask=False),
    "frame": pd.DataFrame,
    "DataArray": lambda x: labelled(x, "input", "feature"),
    "transposed DataArray": lambda x: labelled(x.T, "feature", "input"),
    "more coordinates": lambda x: labelled(x, "input", "feature", site=("input", list("abcde")), feature=list("xyz")),
    "dask": lambda x: dask.array.from_array(x, chunks=(2, 2)),
    "dask of other byte order": lambda x: dask.array.from_array(x.astype(x.dtype.newbyteorder()), chunks=2),
    "dask DataArray": lambda x: labelled(dask.array.from_array(x, chunks=2), "input", "feature"),
    "transposed dask DataArray": lambda x: labelled(dask.array.from_array(x.T, chunks=2), "feature", "input"),
    "zarr": zarr.array,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_any_form_of_x_gives_the_same_bits(form):
    x = form(X)
    xr.testing.assert_identical(fs.fisher_information(MODEL, x), fs.fisher_information(MODEL, X))
    same_labels = [fs.estimate_fisher(MODEL, one, estimator="score", n_draws=4, rng=0) for one in (x, X)]
    xr.testing.assert_identical(*same_labels)


@pytest.mark.parametrize("form", [form for name, form in FORMS.items() if name in ("lists", "frame", "transposed DataArray")])
def test_natural_parameters_read_x_as_the_functions_do(form):
    np.testing.assert_array_equal(MODEL.natural_parameters(form(X)), MODEL.natural_parameters(X))


def test_labelled_square_x_is_read_by_its_dims():
    square = X[:3]
    np.testing.assert_array_equal(
        MODEL.natural_parameters(labelled(square.T, "feature", "input")), MODEL.natural_parameters(square)
    )


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, ">f4", ">i2"])
def test_other_dtypes_are_taken_as_float64(dtype):
    x = np.array([[1, 0, 1], [0, 0, 1]]).astype(dtype)
    xr.testing.assert_identical(fs.fisher_information(MODEL, x), fs.fisher_information(MODEL, x.astype(np.float64)))


@pytest.mark.parametrize("order", ["=", ">"])
def test_float32_is_kept_where_weights_and_x_are_float32(order):
    weights = [matrix.astype(np.dtype(np.float32).newbyteorder(order)) for matrix in WEIGHTS]
    single = fs.MLP(weights, activation="tanh", family=fs.families.Categorical(2))
    assert single.dtype == np.float32
    x = X.astype(np.dtype(np.float32).newbyteorder(order))
    assert fs.fisher_information(single, x).dtype == np.float32
    assert fs.fisher_information(MODEL, x).dtype == np.float64
    assert fs.fisher_information(single, X).dtype == np.float64


def test_one_row_and_one_feature():
    model = fs.MLP([[[2, 1]]], activation=[], family=fs.families.Gaussian())
    np.testing.assert_array_equal(fs.fisher_information(model, [[3]], view="full"), [[9, 3], [3, 1]])


def test_no_call_changes_x():
    x = X.copy()
    fs.estimate_fisher(MODEL, x, estimator=("score", "hessian"), n_draws=3, rng=0, view="full")
    fs.estimator_variance(MODEL, x, design="random", group_by="unit")
    fs.variance_bounds(MODEL, x)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("n_draws", [np.int64(4), np.uint8(4), np.array(4)], ids=repr)
def test_whole_numbers_of_any_type(n_draws):
    drawn = [fs.estimate_fisher(MODEL, X, estimator="score", n_draws=one, rng=0) for one in (n_draws, 4)]
    xr.testing.assert_identical(*drawn)


@pytest.mark.parametrize("rng", [np.int32(3), np.random.SeedSequence(3), np.array(3)], ids=lambda rng: type(rng).__name__)
def test_equal_seeds_of_any_type(rng):
    drawn = [fs.estimate_fisher(MODEL, X, estimator="hessian", n_draws=4, rng=one) for one in (rng, 3)]
    xr.testing.assert_identical(*drawn)


def test_generators_and_large_seeds_are_seeds():
    first, second, other = (
        fs.estimate_fisher(MODEL, X, estimator="score", n_draws=4, rng=rng)
        for rng in (np.random.default_rng(0), np.random.default_rng(0), 2**200)
    )
    xr.testing.assert_identical(first, second)
    assert not np.array_equal(first, other)


LABELS = {
    "array": np.array,
    "floats": lambda y: [float(one) for one in y],
    "bool": lambda y: np.array(y, dtype=bool),
    "series": lambda y: pd.Series(y, index=list("vwxyz")),
    "DataArray": lambda y: labelled(y, "input"),
    "dask": lambda y: dask.array.from_array(np.array(y), chunks=2),
    "other byte order": lambda y: np.array(y, dtype=">i4"),
    "nothing masked": np.ma.masked_array,
}


@pytest.mark.parametrize("form", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("model", [MODEL, COINS], ids=["classes", "coins"])
def test_any_form_of_labels_gives_the_same_bits(form, model):
    xr.testing.assert_identical(fs.empirical_fisher(model, X, form(Y)), fs.empirical_fisher(model, X, Y))


def test_labels_in_a_column_and_by_dims():
    column = np.array(Y)[:, None]
    xr.testing.assert_identical(fs.empirical_fisher(COINS, X, column), fs.empirical_fisher(COINS, X, Y))
    responses = X[:, :2]
    by_dims = labelled(responses.T, "output", "input")
    xr.testing.assert_identical(fs.empirical_fisher(NORMAL, X, by_dims), fs.empirical_fisher(NORMAL, X, responses))


def test_x_and_y_with_the_same_input_coordinate():
    x, y = labelled(X, "input", "feature", input=list("abcde")), labelled(Y, "input", input=list("abcde"))
    xr.testing.assert_identical(fs.empirical_fisher(MODEL, x, y), fs.empirical_fisher(MODEL, X, Y))
    shuffled = y.isel(input=[4, 2, 0, 1, 3])
    with pytest.raises(ValueError, match="in the same order, got 'e' for 'a' at position 0"):
        fs.empirical_fisher(MODEL, x, shuffled)
    aligned = fs.hidden_information(MODEL, x, layer=0, estimator="empirical", y=shuffled.sel(input=x.input))
    xr.testing.assert_identical(aligned, fs.hidden_information(MODEL, x, layer=0, estimator="empirical", y=y))


COORDINATES = {
    "text": list("abcde"),
    "repeated text": list("aabbb"),
    "empty and accented text": ["", "é", "ß", "a b", "1"],
    "categories": pd.CategoricalIndex(list("ababa")),
    "repeated numbers": [3, 3, 1, 1, 1],
    "fractions": [0.1, 0.2, np.nan, 0.4, 0.5],
    "bool": [True, False, True, False, True],
    "dates": pd.date_range("2020-01-31", periods=5),
    "durations": pd.timedelta_range("1h", periods=5),
}


@pytest.mark.filterwarnings("ignore:The data type:", "ignore:Consolidated metadata")
@pytest.mark.parametrize("store", ["netcdf", "zarr"])
@pytest.mark.parametrize("values", COORDINATES.values(), ids=COORDINATES)
def test_input_labels_survive_files(values, store, tmp_path):
    x = labelled(X, "input", "feature", input=values)
    result = fs.fisher_information(MODEL, x, per_input=True).to_dataset()
    np.testing.assert_array_equal(result.input, x.input)
    if store == "netcdf":
        result.to_netcdf(tmp_path / "result.nc")
        with xr.open_dataset(tmp_path / "result.nc") as again:
            xr.testing.assert_identical(again.load(), result)
    else:
        result.to_zarr(tmp_path / "result.zarr")
        with xr.open_zarr(tmp_path / "result.zarr") as again:
            xr.testing.assert_identical(again.load(), result)


def test_two_labels_per_input_go_as_plain_coordinates():
    pair = labelled(X, "input", "feature", p=("input", [0, 0, 0, 1, 1]), q=("input", [0, 1, 2, 0, 1]))
    plain = pair.set_index(input=["p", "q"]).reset_index("input")
    assert fs.fisher_information(MODEL, plain, per_input=True).input.values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "activation",
    [["tanh"], ("tanh",), fs.activations.get("tanh"), [fs.activations.get("tanh")], np.str_("tanh")],
    ids=["list", "tuple", "object", "list of an object", "numpy word"],
)
def test_activations_of_any_form(activation):
    assert fs.MLP(WEIGHTS, activation=activation, family=fs.families.Categorical(2)) == MODEL


def test_weights_of_any_form():
    for weights in ([matrix.tolist() for matrix in WEIGHTS], tuple(WEIGHTS), [np.asfortranarray(one) for one in WEIGHTS]):
        assert fs.MLP(weights, activation="tanh", family=fs.families.Categorical(2)) == MODEL
    kernels, biases = [one[:, :-1] for one in WEIGHTS], [one[:, -1] for one in WEIGHTS]
    assert fs.MLP.from_arrays(kernels, biases, activation="tanh", family=fs.families.Categorical(2)) == MODEL
    assert fs.MLP.random(np.array([3, 4]), activation=[], family=fs.families.Poisson(4), rng=0).widths == (3, 4)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_equal_and_frozen(again):
    model = fs.MLP(
        WEIGHTS, activation=fs.activations.LeakyReLU(0.2), family=fs.families.Gaussian(2, covariance=[[1, 0.5], [0.5, 1]])
    )
    twin = again(model)
    assert twin == model
    assert hash(twin) == hash(model)
    xr.testing.assert_identical(fs.estimator_variance(twin, X), fs.estimator_variance(model, X))
    with pytest.raises(ValueError, match="read-only"):
        twin.weights[0][0, 0] = 1
    with pytest.raises(AttributeError, match="an MLP is frozen"):
        twin.family = fs.families.Gaussian(2)


def test_model_keeps_its_own_weights():
    weights = [matrix.copy() for matrix in WEIGHTS]
    model = fs.MLP(weights, activation="tanh", family=fs.families.Categorical(2))
    weights[0][:] = 0
    assert model == MODEL


def test_whole_population_has_no_variance_over_inputs():
    everything = fs.estimator_variance(MODEL, X, design="subsample", population=len(X))
    np.testing.assert_allclose(everything.variance, fs.estimator_variance(MODEL, X).variance, rtol=1e-14)


def test_operator_takes_lists_and_integers():
    operator, full = fs.fisher_operator(MODEL, X), fs.fisher_information(MODEL, X, view="full").values
    vector = [1, -2] * (MODEL.n_params // 2)
    np.testing.assert_allclose(operator @ vector, full @ vector, rtol=1e-12)


@pytest.mark.parametrize("kept", [True, False])
def test_operator_takes_columns_a_few_at_a_time(kept, monkeypatch):
    matrix = np.random.default_rng(0).normal(size=(MODEL.n_params, 7))
    whole = fs.fisher_operator(MODEL, X) @ matrix
    monkeypatch.setattr(_run.Call, "block_numbers", 3 * 512 * sum(MODEL.widths[1:]))
    if not kept:
        monkeypatch.setattr(operators, "_KEPT_BYTES", 0)
    at_a_time = []
    products = operators._InformationOperator._products
    monkeypatch.setattr(
        operators._InformationOperator, "_products", lambda self, some: at_a_time.append(some.shape[1]) or products(self, some)
    )
    np.testing.assert_array_equal(fs.fisher_operator(MODEL, X) @ matrix, whole)
    assert at_a_time == [3, 3, 1]
    assert (fs.fisher_operator(MODEL, X) @ matrix[:, :0]).shape == (MODEL.n_params, 0)


def test_large_but_representable_values_pass():
    model = fs.MLP([[[1e-70, 0.0]]], activation=[], family=fs.families.Bernoulli())
    assert float(fs.estimator_variance(model, [[1e70]]).variance.sel(estimator="score", param=0)) > 1e278


def test_score_and_information_proceed_at_a_kink():
    """At the kink relu' is 0 on the left, so the all-zero input tells of the last bias alone."""
    information = fs.fisher_information(RECTIFIER, AT_KINK, per_input=True).sel(input=1)
    np.testing.assert_array_equal(information, [0, 0, 0, 0, 0, 0, 0, 0, 0.25])
    score = fs.estimate_fisher(RECTIFIER, AT_KINK, estimator="score", n_draws=7, rng=0, per_input=True).sel(input=1)
    np.testing.assert_array_equal(score[:-1], 0)
    np.testing.assert_allclose(score[-1], 0.25, rtol=1e-14)
    variance = fs.estimator_variance(RECTIFIER, AT_KINK, estimators=["score"]).variance
    assert np.isfinite(variance).all()


def test_ignored_kinks_take_the_left_derivatives():
    """relu is piecewise linear, so from the left the Hessian estimate of a Bernoulli network is its information."""
    ignored = fs.estimate_fisher(RECTIFIER, AT_KINK, estimator="hessian", n_draws=7, rng=0, on_kink="ignore")
    np.testing.assert_allclose(ignored, fs.fisher_information(RECTIFIER, AT_KINK), rtol=1e-14)
    assert (fs.estimator_variance(RECTIFIER, AT_KINK, on_kink="ignore").variance.sel(estimator="hessian") == 0).all()
    assert (fs.variance_bounds(RECTIFIER, AT_KINK, on_kink="ignore").upper.sel(estimator="hessian") == 0).all()
