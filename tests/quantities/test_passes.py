"""Computations: layout, passes, work between passes and values, under every driver."""

from __future__ import annotations

import tracemalloc

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.execution import Pass, PassShape, Total, Work, at_once
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._computation import Computation, resumed, steps_of
from fisherstats.quantities._streams import streamed

N_INPUTS = 700


@pytest.fixture(scope="module")
def model() -> fs.MLP:
    return fs.MLP.random([3, 5, 3], activation="tanh", family=fs.families.Categorical(3), rng=3)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(N_INPUTS, 3))


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch):
    monkeypatch.setattr(fs.execution.Reduction, "leaf_blocks", 2)


class Batches:
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(np.array_split(self.x, 9))


DRIVERS = {
    "in memory": lambda function, model, x: function(model, x),
    "batches": lambda function, model, x: function(model, Batches(x)),
    "threads": lambda function, model, x: function(model, dask.array.from_array(x, chunks=(90, 2))).compute(scheduler="threads"),
    "one thread": lambda function, model, x: function(model, dask.array.from_array(x, chunks=(90, 2))).compute(scheduler="sync"),
}


def central_moments(done, rows=16, announced=(16, 16), dtype=np.float64, log=lambda what: None):
    """Return a public quantity of three passes, each of which uses the work done with the totals of the one before."""

    @streamed()
    def function(model, x) -> Computation[xr.DataArray]:
        log("begun")
        call = _run.prepare(model, x)
        coords = _labels.param_coordinates(model)
        layout = _layout.array("information", coords, call.provenance(), dtype)
        yield (layout := layout.followed_by(*map(call.mean_shape, announced)))
        centre = np.zeros(model.n_params)
        for power in (1, 2, 3):

            def block(x, first_input, centre=centre, power=power):
                log("block")
                return [np.power(np.resize(x.sum(axis=1), (len(x), model.n_params)) - centre, power).sum(axis=0)]

            (moment,) = yield from call.mean(block, rows)
            moment *= 2  # totals may be changed in place
            centre = yield Work(lambda moment, power=power: (done.append(power), np.tanh(moment))[1], (moment,))
        return layout, [centre]

    return function


@pytest.mark.parametrize("driver", DRIVERS)
def test_work_between_passes_is_done_once(driver, model, x):
    done = []
    function = central_moments(done)
    expected = function(model, x)
    done.clear()
    found = DRIVERS[driver](function, model, x)
    xr.testing.assert_identical(found, expected)
    assert done == [1, 2, 3]


def test_a_leaf_does_its_block_and_nothing_else(model, x):
    log = []
    lazy = central_moments([], log=log.append)(model, dask.array.from_array(x, chunks=(90, 2)))
    assert log == ["begun"]  # for the layout
    lazy.compute(scheduler="sync")
    # Once before and once after each of the three passes, never in a leaf.
    assert log.count("begun") == 5
    assert log.count("block") == 3 * -(-N_INPUTS // 16)


def test_the_graph_names_function_and_pass(model, x):
    lazy = fs.fisher_information(model, dask.array.from_array(x, chunks=(90, 2)))
    keys = [str(key) for key in lazy.__dask_graph__()]
    assert any("fisher_information-pass-0-" in key for key in keys)
    assert lazy.__dask_keys__() == fs.fisher_information(model, dask.array.from_array(x, chunks=(90, 2))).__dask_keys__()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"announced": (16,)}, "as the next pass"),
        ({"announced": (16, 32)}, "as the next pass"),
        ({"announced": (16, 16, 16)}, "a further pass"),
        ({"dtype": np.float32}, r"was announced as .* float32"),
    ],
)
def test_what_is_not_as_announced_is_an_error(given, message, model, x):
    lazy = central_moments([], **given)(model, dask.array.from_array(x, chunks=(90, 2)))
    with pytest.raises(AssertionError, match=message):
        lazy.compute(scheduler="sync")


def test_a_wrong_layout_is_an_error_in_memory_too(model, x):
    with pytest.raises(AssertionError, match=r"was announced as .* float32"):
        central_moments([], dtype=np.float32)(model, x)


def test_recorded_answers_are_not_changed(model, x):
    def computation():
        call = _run.prepare(model, x)
        (mean,) = yield from call.mean(lambda x, first: [x.sum(axis=0)], 16)
        mean *= np.nan
        yield Pass(lambda x, first: [x.sum(axis=0)], Total(), call.rows, 16)
        return None, []

    totals = at_once(first_totals(model, x))
    kept = [totals[0].copy()]
    for _ in range(3):
        step = resumed(computation(), [totals])
        assert isinstance(step, Pass)
        assert step.shape == PassShape(32, 32)
        np.testing.assert_array_equal(totals[0], kept[0])


def first_totals(model, x):
    call = _run.prepare(model, x)
    totals = yield Pass(lambda x, first: [x.sum(axis=0)], Total(), call.rows, 16)
    return totals


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_quantity_made_of_others(driver, model, x):
    @streamed()
    def bias(model, x) -> Computation[xr.DataArray]:
        call = _run.prepare(model, x)
        layout = _layout.array("information", _labels.param_coordinates(model), call.provenance(), np.float64)
        yield (layout := layout.followed_by(call.diagonal_shape()))
        estimate = yield from steps_of(fs.estimate_fisher, model, x, estimator="score", n_draws=2, rng=0, standard_error=False)
        exact = yield from steps_of(fs.fisher_information, model, x)
        return layout, [estimate.values - exact.values]

    expected = fs.estimate_fisher(model, x, estimator="score", n_draws=2, rng=0, standard_error=False) - fs.fisher_information(
        model, x
    )
    np.testing.assert_array_equal(DRIVERS[driver](bias, model, x).values, expected.values)


def test_a_lazy_result_is_built_without_reading_x_or_room_for_its_values():
    model = fs.MLP.random([70, 60, 40], activation="tanh", family=fs.families.Categorical(40), rng=0)
    size = model.n_params**2 * 8
    assert size > 3e8

    def unread(block):
        raise AssertionError("x was read")

    x = dask.array.zeros((10_000, 70), chunks=(500, 70)).map_blocks(unread, dtype=np.float64, meta=np.zeros((0, 0)))
    fs.fisher_information(model, x[:, :])  # imports what is imported on first use
    tracemalloc.start()
    try:
        lazy = fs.fisher_information(model, x, view="full")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert lazy.nbytes == size
    assert peak < 3e7


def test_dims_are_those_of_the_schema(model):
    param = _labels.param_coordinates(model)
    layers, estimators = _labels.layer_coordinates(2), _labels.coordinates(estimator=["score"])
    assert _layout.dims_of("information", param) == ["param"]
    assert _layout.dims_of("information", param | _labels.coordinates(input=3)) == ["input", "param"]
    assert _layout.dims_of("plan_best", param | layers | estimators) == ["param"]
    assert _layout.dims_of("plan_best", layers | estimators) == ["layer"]
    assert _layout.dims_of("plan_best", estimators) == []
    assert _layout.dims_of("plan_median", param | layers | estimators) == ["estimator", "layer"]
    with pytest.raises(KeyError, match="output2"):
        _layout.array("output_information", _labels.coordinates(input=3, output=2), {}, np.float64)
