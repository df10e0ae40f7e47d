"""Names of inputs, outputs and rows are kept, put in order or refused; they are never taken by position when they disagree."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import fisherstats as fs
from tests.refusals import pattern, refused

ap = fs.applications
NAMES = ["age", "bmi", "sex"]
PLAIN = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)
MODEL = PLAIN.named(NAMES, ["no", "yes"])
PAIR = fs.MLP.random([3, 2], activation=[], family=fs.families.Gaussian(2), rng=0).named(output_names=["u", "v"])
X = np.random.default_rng(0).normal(size=(6, 3))
Y = np.array([0, 1, 0, 1, 1, 0])
RESPONSES = np.random.default_rng(1).normal(size=(6, 2))
FRAME = pd.DataFrame(X, columns=NAMES)
ARRAY = xr.DataArray(X, dims=("input", "feature"), coords={"feature": NAMES})
OTHER = ["sex", "age", "bmi"]
INDEXED = FRAME.set_index(pd.Index(list("abcdef")))
SERIES = pd.Series(Y, index=list("abcdef"))


def fit(model, x, y=Y):
    return fs.training.fit(model, x, y, optimizer=fs.training.SGD(0.1), epochs=1, batch_size=3, rng=0).model


ORDERS = {
    "DataFrame": FRAME[OTHER],
    "DataArray": ARRAY.sel(feature=OTHER),
    "transposed DataArray": ARRAY.sel(feature=OTHER).T,
    "dask DataArray": ARRAY.sel(feature=OTHER).chunk(input=2),
}


@pytest.mark.parametrize("form", ORDERS)
def test_named_columns_in_another_order_are_put_in_order(form):
    x = ORDERS[form]
    xr.testing.assert_identical(fs.fisher_information(MODEL, x).compute(), fs.fisher_information(MODEL, X))
    assert np.array_equal(MODEL.natural_parameters(x), MODEL.natural_parameters(X))


def test_a_frame_of_polars():
    polars = pytest.importorskip("polars")
    x = polars.DataFrame({name: FRAME[name].to_numpy() for name in OTHER})
    assert np.array_equal(fs.fisher_information(MODEL, x), fs.fisher_information(MODEL, X))
    assert np.array_equal(fs.fisher_information(MODEL, polars.DataFrame(X)), fs.fisher_information(MODEL, X))
    with pytest.raises(ValueError, match=pattern("`x` must have the columns ['age', 'bmi', 'sex'], the `feature_names` of the")):
        fs.fisher_information(MODEL, x.rename({"sex": "smoker"}))


def test_batches_in_different_orders():
    batches = [FRAME[OTHER].iloc[:2], FRAME.iloc[2:5], ARRAY.sel(feature=OTHER)[5:]]
    assert np.array_equal(fs.fisher_information(MODEL, iter(batches)), fs.fisher_information(MODEL, X))


@refused(
    [
        (lambda: fs.fisher_information(MODEL, FRAME.rename(columns={"sex": "smoker"})), ValueError, "'smoker', which is none of"),
        (lambda: fs.fisher_information(MODEL, FRAME.rename(columns={"sex": "age"})), ValueError, "no 'sex'; choose"),
        (lambda: fs.fisher_information(MODEL, FRAME[["age", "bmi"]]), ValueError, "no 'sex'; choose"),
        (lambda: fs.fisher_information(MODEL, ARRAY.assign_coords(feature=["a", "b", "c"])), ValueError, "'a', which is none"),
        (
            lambda: MODEL.natural_parameters(FRAME.rename(columns={"sex": "smoker"})),
            ValueError,
            "'smoker', which is none of them",
        ),
        (
            lambda: fs.fisher_information(PLAIN, pd.DataFrame(X)[[2, 0, 1]]),
            ValueError,
            "the numbers [2, 0, 1] for names, which may",
        ),
        (
            lambda: fs.empirical_fisher(PAIR, X, pd.DataFrame(RESPONSES, columns=["u", "w"])),
            ValueError,
            "'w', which is none of them",
        ),
        (
            lambda: fs.empirical_fisher(MODEL, INDEXED, SERIES.iloc[::-1]),
            ValueError,
            "'f' for 'a' at position 0; align them with",
        ),
        (
            lambda: fs.empirical_fisher(MODEL, FRAME, pd.Series(Y).iloc[::-1]),
            ValueError,
            "5 for 0 at position 0; align them with",
        ),
        (
            lambda: fs.empirical_fisher(MODEL, FRAME.iloc[::-1], pd.Series(Y)),
            ValueError,
            "0 for 5 at position 0; align them with",
        ),
        (
            lambda: fs.empirical_fisher(MODEL, INDEXED, xr.DataArray(Y, dims="input", coords={"input": list("fedcba")})),
            ValueError,
            "'f' for 'a' at position 0; align them with `y.sel(input=x.input)`.",
        ),
        (lambda: PLAIN.named("abc"), TypeError, "'abc'."),
        (lambda: PLAIN.named([1, 2, 3]), TypeError, "[1, 2, 3]."),
        (lambda: PLAIN.named(["a", "b"]), ValueError, "2."),
        (lambda: PLAIN.named(["a", "a", "b"]), ValueError, "twice 'a'."),
        (lambda: PLAIN.named(output_names=["a"]), ValueError, "1."),
    ]
)
def test_names_that_disagree_are_refused(call, error, message):
    with pytest.raises(error, match="^`.+` must .+, got " + pattern(message)[1:]):
        call()


def test_rows_without_labels_of_their_own_go_by_position():
    expected = fs.empirical_fisher(MODEL, X, Y)
    for x, y in [(X, SERIES.iloc[::-1]), (FRAME, SERIES), (INDEXED, pd.Series(Y)), (INDEXED, SERIES), (FRAME, pd.Series(Y))]:
        right = Y[::-1] if x is X else Y
        assert fs.empirical_fisher(MODEL, x, y).equals(fs.empirical_fisher(MODEL, X, right))
    assert expected.equals(fs.empirical_fisher(MODEL, INDEXED, Y))


def test_labels_of_rows_are_those_of_the_result():
    assert fs.fisher_information(MODEL, INDEXED, per_input=True).input.values.tolist() == list("abcdef")
    assert fs.fisher_information(MODEL, FRAME, per_input=True).input.values.tolist() == list(range(6))


def test_named_outputs_are_put_in_order():
    frame = pd.DataFrame(RESPONSES, columns=["u", "v"])[["v", "u"]]
    array = xr.DataArray(RESPONSES, dims=("input", "output"), coords={"output": ["u", "v"]}).sel(output=["v", "u"])
    for y in (frame, array):
        assert fs.empirical_fisher(PAIR, X, y).equals(fs.empirical_fisher(PAIR, X, RESPONSES))


def test_results_carry_the_names(tmp_path):
    full = fs.fisher_information(MODEL, X, view="full")
    first = full.isel(param=slice(0, 5)).param_name.values.tolist()
    assert first == [*NAMES, "bias", "age"]
    assert full.param_name.values[-5:].tolist() == ["unit 0", "unit 1", "unit 2", "unit 3", "bias"]
    assert full.param2_name.values.tolist() == full.param_name.values.tolist()
    full.to_netcdf(tmp_path / "full.nc")
    xr.testing.assert_identical(xr.load_dataarray(tmp_path / "full.nc"), full)
    assert fs.fisher_information(MODEL, X, view="kfac")["layer_0"].feature_name.values.tolist() == [*NAMES, "bias"]
    assert fs.output_information(PAIR, X).output_name.values.tolist() == ["u", "v"]
    assert "param_name" not in fs.fisher_information(PLAIN, FRAME).coords


def test_names_stay_with_the_network():
    copies = [pickle.loads(pickle.dumps(MODEL)), copy.deepcopy(MODEL), MODEL.as_dtype(np.dtype(np.float32)), fit(MODEL, X)]
    copies.append(MODEL.with_weights([2 * matrix for matrix in MODEL.weights]))
    copies.append(ap.merge_networks([MODEL, MODEL], [np.ones(MODEL.n_params)] * 2).model)
    for one in copies:
        assert one.feature_names == tuple(NAMES)
        assert one.output_names == ("no", "yes")
    assert copies[0] == MODEL != PLAIN
    assert fit(PLAIN, FRAME).feature_names == tuple(NAMES)
    assert np.array_equal(fit(MODEL, FRAME[OTHER]).weights[0], fit(PLAIN, X).weights[0])


def test_numbers_per_parameter_of_other_names_are_refused():
    with pytest.raises(ValueError, match=pattern("`importance` must be for the parameters of the network, by its coordinate '")):
        ap.Consolidation(PLAIN.named(["p", "q", "r"]), ap.importance(MODEL, X))


@pytest.mark.filterwarnings("ignore")
def test_names_of_an_estimator():
    neural = pytest.importorskip("sklearn.neural_network")
    several = neural.MLPClassifier((2,), max_iter=2).fit(FRAME, np.array(["x", "y", "z", "x", "y", "z"]))
    two = neural.MLPClassifier((2,), max_iter=2).fit(X, np.array(["no", "yes"])[Y])
    model = fs.interop.from_sklearn(several)
    assert (model.feature_names, model.output_names) == (tuple(NAMES), ("x", "y", "z"))
    assert (fs.interop.from_sklearn(two).feature_names, fs.interop.from_sklearn(two).output_names) == (None, ("yes",))


NAMED_PAIR = (
    fs.MLP.random([3, 1], activation="tanh", family=fs.families.Bernoulli(), rng=0).named(["a", "b", "c"]),
    fs.MLP.random([3, 1], activation="tanh", family=fs.families.Bernoulli(), rng=1).named(["b", "c", "a"]),
)


@pytest.mark.parametrize(
    "call",
    [
        lambda one, other, x: fs.applications.merge_networks([one, other], [np.ones(4)] * 2),
        lambda one, other, x: fs.applications.output_divergence(one, other, x),
        lambda one, other, x: fs.applications.consolidation_penalty(one, other, x),
        lambda one, other, x: fs.applications.Consolidation(other, np.ones(4)).online(one, np.ones(4)),
        lambda one, other, x: fs.empirical_variance(one, x, truth=other),
    ],
)
def test_networks_with_names_in_another_order_are_refused(call):
    x = np.random.default_rng(0).normal(size=(6, 3))
    with pytest.raises(
        ValueError, match=r"must have the `feature_names` of .* in the same order, got '[abc]' for '[abc]' at position 0"
    ):
        call(*NAMED_PAIR, x)
    call(NAMED_PAIR[0], NAMED_PAIR[1].named(["a", "b", "c"]), x)


def test_predictions_take_columns_by_their_names():
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).normal(size=(60, 3))
    frame, y = pandas.DataFrame(x, columns=list("abc")), (x[:, 0] > 0).astype(int)
    model = fs.MLP.random([3, 1], activation="tanh", family=fs.families.Bernoulli(), rng=0)
    expected = fs.applications.prediction_intervals(model, x, y, x)
    found = fs.applications.prediction_intervals(model, frame, y, frame[["c", "a", "b"]])
    np.testing.assert_array_equal(found.to_dataarray().values, expected.to_dataarray().values)
    with pytest.raises(ValueError, match="`x`"):
        fs.applications.prediction_intervals(model, frame, y, frame.rename(columns={"a": "d"}))
