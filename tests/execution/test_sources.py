"""Inputs that are not in memory: files and batches give the bits of the array in memory, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

import fisherstats as fs
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._streams import plan_of, steps_of, streamed
from tests.memory import peak_kib

N_INPUTS = 5000


@pytest.fixture(scope="module")
def model() -> fs.MLP:
    return fs.MLP.random([6, 9, 4], activation="tanh", family=fs.families.Categorical(4), rng=3)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(N_INPUTS, 6))


def memory_map(x: np.ndarray, folder: Path) -> Any:
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def zarr_array(x: np.ndarray, folder: Path) -> Any:
    stored = zarr.create_array(folder / "x.zarr", shape=x.shape, chunks=(300, 4), dtype=x.dtype)
    stored[:] = x
    return zarr.open_array(folder / "x.zarr", mode="r")


def netcdf_variable(x: np.ndarray, folder: Path) -> Any:
    xr.DataArray(x, dims=("input", "feature"), name="x").to_netcdf(folder / "x.nc")
    return netCDF4.Dataset(folder / "x.nc")["x"]


def hdf5_dataset(x: np.ndarray, folder: Path) -> Any:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = x
    return h5py.File(folder / "x.h5")["x"]


def labelled_in_netcdf(x: np.ndarray, folder: Path) -> Any:
    xr.DataArray(x, dims=("input", "feature"), name="x").to_netcdf(folder / "y.nc")
    return xr.open_dataarray(folder / "y.nc")


def labelled_in_zarr(x: np.ndarray, folder: Path) -> Any:
    xr.Dataset({"x": (("feature", "input"), x.T)}).to_zarr(folder / "y.zarr", zarr_format=2)
    return xr.open_zarr(folder / "y.zarr", chunks=None)["x"]


SOURCES = [memory_map, zarr_array, netcdf_variable, hdf5_dataset, labelled_in_netcdf, labelled_in_zarr]


@pytest.mark.parametrize("store", SOURCES)
def test_files_change_no_bit(store, model, x, tmp_path):
    source = store(x, tmp_path)
    xr.testing.assert_identical(fs.fisher_information(model, source), fs.fisher_information(model, x))
    estimate = [fs.estimate_fisher(model, one, estimator=("score", "hessian"), n_draws=3, rng=0) for one in (source, x)]
    xr.testing.assert_identical(*estimate)
    rows = [fs.fisher_information(model, one, per_input=True) for one in (source, x)]
    xr.testing.assert_identical(*rows)


@pytest.mark.parametrize("store", SOURCES)
def test_a_file_with_a_hole_is_refused_with_its_row(store, model, x, tmp_path):
    broken = x.copy()
    broken[4321, 2] = np.nan
    source = store(broken, tmp_path)
    with pytest.raises(ValueError, match=r"got (nan|one) at index \(4321, 2\)"):
        fs.fisher_information(model, source)


def test_long_chunks_of_a_file_are_read_in_parts(model, x, monkeypatch, tmp_path):
    read = []

    class Columns:
        shape, dtype, chunks = x.shape, x.dtype, (N_INPUTS, 1)

        def __getitem__(self, rows):
            read.append(rows.stop - rows.start)
            return x[rows]

    expected = fs.fisher_information(model, x)
    monkeypatch.setattr(fs.execution.row_source, "_READ_BYTES", 1300 * 6 * 8)
    xr.testing.assert_identical(fs.fisher_information(model, Columns()), expected)
    assert read == [1280, 1280, 1280, 1160]


def test_masked_entries_in_a_file_are_refused(model, x, tmp_path):
    with netCDF4.Dataset(tmp_path / "masked.nc", "w") as file:
        file.createDimension("input", N_INPUTS)
        file.createDimension("feature", 6)
        variable = file.createVariable("x", "f8", ("input", "feature"))
        variable[:] = np.ma.masked_greater(x, 3.0)
    first = np.argwhere(x > 3.0)[0]
    with netCDF4.Dataset(tmp_path / "masked.nc") as file, pytest.raises(ValueError, match=rf"masked .*{first[0]}, {first[1]}\)"):
        fs.fisher_information(model, file["x"])


def test_integers_in_a_file_are_computed_with_in_float64(model, x, tmp_path):
    whole = np.rint(x).astype(np.int16)
    source = memory_map(whole, tmp_path)
    xr.testing.assert_identical(fs.fisher_information(model, source), fs.fisher_information(model, whole.astype(float)))


# --- batches -------------------------------------------------------------------------------------------------------------------


def batches(x, rows):
    return (x[start : start + rows] for start in range(0, len(x), rows))


class Again:
    """Batches that can be read again."""

    def __init__(self, x, rows):
        self.x, self.rows = x, rows

    def __iter__(self):
        return batches(self.x, self.rows)


Y = np.random.default_rng(1).integers(0, 4, N_INPUTS)
TABLE = np.random.default_rng(2).dirichlet(np.ones(4), N_INPUTS)
CALLS = {
    "information": fs.fisher_information,
    "full": lambda m, x: fs.fisher_information(m, x, view="full"),
    "kfac": lambda m, x: fs.fisher_information(m, x, view="kfac"),
    "per input": lambda m, x: fs.fisher_information(m, x, per_input=True),
    "estimate": lambda m, x: fs.estimate_fisher(m, x, estimator=("score", "hessian"), n_draws=3, rng=np.random.default_rng(5)),
    "empirical": lambda m, x: fs.empirical_fisher(m, x, Y),
    "table": lambda m, x: fs.empirical_variance(m, x, TABLE),
    "random": lambda m, x: fs.estimator_variance(m, x, design="random"),
    "subsample": lambda m, x: fs.estimator_variance(m, x, design="subsample", population=N_INPUTS),
}


@pytest.mark.parametrize("rows", [1, 333, 4096, 5000])
@pytest.mark.parametrize("name", CALLS)
def test_batches_change_no_bit(name, rows, model, x):
    xr.testing.assert_identical(CALLS[name](model, batches(x, rows)), CALLS[name](model, x))


def test_what_needs_several_passes_reads_batches_again(model, x):
    expected = fs.layer_errors(model, x[:300])
    xr.testing.assert_identical(fs.layer_errors(model, Again(x[:300], 70)), expected)


def test_an_iterator_is_not_read_twice(model, x, monkeypatch):
    @streamed()
    def twice(model, x) -> Computation[xr.DataArray]:
        yield (layout := plan_of(fs.fisher_information, model, x))
        first = yield from steps_of(fs.fisher_information, model, x)
        second = yield from steps_of(fs.fisher_information, model, x)
        return layout, [first.values + second.values]

    with pytest.raises(TypeError, match="`twice` passes over the inputs several times"):
        twice(model, batches(x, 100))
    np.testing.assert_array_equal(twice(model, Again(x, 100)), 2 * fs.fisher_information(model, x))


def test_batches_of_lists_and_labelled_batches(model, x, tmp_path):
    labelled = (xr.DataArray(one.T, dims=("feature", "input")) for one in batches(x, 700))
    xr.testing.assert_identical(fs.fisher_information(model, labelled), fs.fisher_information(model, x))
    lists = (one.tolist() for one in batches(x, 700))
    on_disk = labelled_in_netcdf(x, tmp_path)
    parts = (on_disk[start : start + 700] for start in range(0, N_INPUTS, 700))
    xr.testing.assert_identical(fs.fisher_information(model, parts), fs.fisher_information(model, x))
    xr.testing.assert_identical(fs.fisher_information(model, lists), fs.fisher_information(model, x))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda x: iter([]), "`x` must give at least one batch of rows"),
        (lambda x: iter([x[:3], x[:3, :5]]), r"2-D with 6 columns, the inputs of the first layer, got shape \(3, 5\) in batch 1"),
        (lambda x: iter([x[:3, :5]]), "`x` must have 6 columns"),
        (lambda x: iter([x[:3], x[:3].astype(np.float32)]), "one dtype, got float32 in batch 1 after float64"),
        (lambda x: iter([x[:3], np.full((2, 6), np.inf)]), r"`x` must be finite, got inf at index \(3, 0\)"),
        (lambda x: iter([x[:3], np.ma.masked_less(x[3:5], 0.0)]), "masked entries, got some in batch 1"),
        (lambda x: iter(x), r"use x\[None, :\] for a single input"),
        (lambda x: iter([x[:0], x[:0]]), r"`x` must have at least one row, got shape \(0, 6\)"),
    ],
)
def test_bad_batches_are_refused(given, message, model, x):
    with pytest.raises(ValueError, match=message):
        fs.fisher_information(model, given(x))


def test_empty_batches_change_nothing(model, x):
    parts = [x[:0], x[:3], x[:0], x[3:2000], x[:0], x[2000:], x[:0]]
    xr.testing.assert_identical(fs.fisher_information(model, iter(parts)), fs.fisher_information(model, x))


def test_labelled_labels_beside_batches():
    two = fs.MLP.random([6, 4, 2], activation="tanh", family=fs.families.Gaussian(2), rng=3)
    x, y = np.random.default_rng(0).normal(size=(300, 6)), np.random.default_rng(1).normal(size=(300, 2))
    expected = fs.empirical_fisher(two, x, y)
    for given in (xr.DataArray(y.T, dims=("output", "input")), xr.DataArray(y, dims=("input", "output")).chunk(input=70)):
        xr.testing.assert_identical(fs.empirical_fisher(two, batches(x, 70), given), expected)
    for given, error in ((3.0, ValueError), (iter(y), TypeError)):
        with pytest.raises(error, match="`y` must"):
            fs.empirical_fisher(two, batches(x, 70), given)


# --- labels of the inputs in batches -------------------------------------------------------------------------------------------


def labelled(x, index):
    return xr.DataArray(x, dims=("input", "feature"), coords={"input": index})


def parts(whole, rows):
    return (whole.isel(input=slice(start, start + rows)) for start in range(0, whole.sizes["input"], rows))


INDEXES = {
    "integers": np.arange(N_INPUTS)[::-1].copy(),
    "dates": np.datetime64("2001-01-01", "ns") + np.arange(N_INPUTS) * np.timedelta64(1, "m"),
    "text": np.array([f"image {number}" for number in range(N_INPUTS)]),
    "repeated": np.arange(N_INPUTS) // 2 / 2,
}
PER_INPUT = {
    "output": fs.output_information,
    "information": lambda m, x: fs.fisher_information(m, x, per_input=True),
    "block": lambda m, x: fs.fisher_information(m, x, view="block", per_input=True),
    "variance": lambda m, x: fs.estimator_variance(m, x, per_input=True),
    "signature": lambda m, x: fs.bias_signature(m, x, Y),
}


@pytest.mark.parametrize("name", PER_INPUT)
def test_labels_of_batches_are_those_of_the_whole(name, model, x):
    whole = labelled(x, INDEXES["integers"])
    xr.testing.assert_identical(PER_INPUT[name](model, parts(whole, 700)), PER_INPUT[name](model, whole))


@pytest.mark.parametrize("name", INDEXES)
def test_labels_of_any_kind(name, model, x, tmp_path):
    whole = labelled(x, INDEXES[name])
    expected = fs.output_information(model, whole)
    some = [part.transpose() for part in parts(whole, 1300)]
    some.insert(2, xr.DataArray(x[:0], dims=("input", "feature")))
    xr.testing.assert_identical(fs.output_information(model, iter(some)), expected)
    whole.rename("x").to_netcdf(tmp_path / "x.nc")
    with xr.open_dataarray(tmp_path / "x.nc") as on_disk:
        xr.testing.assert_identical(fs.output_information(model, parts(on_disk, 1300)), expected)


def test_numbers_among_labels_become_of_one_type(model, x):
    found = fs.output_information(model, iter([labelled(x[:2], [5, 6]), labelled(x[2:4], [0.5, 5.0])]))
    np.testing.assert_array_equal(found.input, [5.0, 6.0, 0.5, 5.0])


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        (lambda x: x, ValueError, "of all its batches or of none, got labels of 3 out of 5 inputs"),
        (lambda x: labelled(x, ["a", "b"]), TypeError, "labels of one kind .* got text after numbers; convert them, or leave"),
        (lambda x: labelled(x, np.array([1, 2], "M8[ns]")), TypeError, "labels of one kind .* got dates after numbers"),
        (lambda x: labelled(x, [True, False]), TypeError, "labels of one kind .* got booleans after numbers"),
        (lambda x: labelled(x, [1j, 2j]), TypeError, "must have numbers, dates without a time zone or text as labels"),
    ],
)
def test_labels_that_do_not_go_together(second, error, message, model, x):
    def both():
        return iter([labelled(x[:3], [5, 6, 7]), second(x[3:5])])

    with pytest.raises(error, match=message):
        fs.output_information(model, both())
    if "must have numbers" not in message:  # a mean over inputs has no labels
        xr.testing.assert_identical(fs.fisher_information(model, both()), fs.fisher_information(model, x[:5]))


def test_labels_of_x_and_of_y_go_together(model, x):
    whole, y = labelled(x, INDEXES["integers"]), xr.DataArray(Y, dims="input", coords={"input": INDEXES["integers"]})
    expected = fs.empirical_fisher(model, whole, y)
    xr.testing.assert_identical(fs.empirical_fisher(model, parts(whole, 700), y), expected)
    xr.testing.assert_identical(fs.empirical_fisher(model, parts(whole, 700), y.drop_vars("input")), expected)
    xr.testing.assert_identical(fs.empirical_fisher(model, batches(x, 700), y), expected)
    for given in (whole, parts(whole, 700)):
        with pytest.raises(ValueError, match="`y` must have the inputs of `x` in its coordinate 'input', in the same order, got"):
            fs.empirical_fisher(model, given, y[::-1])


def test_labels_for_another_number_of_inputs_are_refused(model, x):
    with pytest.raises(ValueError, match="`x` must have as many rows as there are labels, got 5000 or more for 4999 labels"):
        fs.empirical_fisher(model, batches(x, 1000), Y[:-1])
    with pytest.raises(ValueError, match=r"`y` must .*4000"):
        fs.empirical_fisher(model, batches(x[:4000], 1000), Y)


PEAK = """
import sys
import numpy as np
import fisherstats as fs
model = fs.MLP.random([784, 80, 80, 80, 10], activation="tanh", family=fs.families.Categorical(10), rng=0)
rng = np.random.default_rng(0)
n = int(sys.argv[1])
fs.fisher_information(model, (rng.random((1000, 784)) for _ in range(n // 1000)))
"""


def test_memory_is_flat_in_the_number_of_generated_inputs():
    # 50,000 further inputs are 306,000 KiB.
    assert peak_kib(PEAK, 60_000) - peak_kib(PEAK, 10_000) < 60_000


LABELLED_PEAK = """
import sys
import numpy as np
import xarray as xr
import fisherstats as fs
model = fs.MLP.random([784, 80, 1], activation="tanh", family=fs.families.Poisson(), rng=0)
rng = np.random.default_rng(0)
n = int(sys.argv[1])
dims = ("input", "feature")
x = (xr.DataArray(rng.random((1000, 784)), {"input": np.arange(first, first + 1000)}, dims) for first in range(0, n, 1000))
assert fs.output_information(model, x).input[-1] == n - 1
"""


def test_labels_are_kept_without_the_inputs():
    # 50,000 further inputs are 306,000 KiB, their results and labels 800 KiB.
    assert peak_kib(LABELLED_PEAK, 60_000) - peak_kib(LABELLED_PEAK, 10_000) < 60_000


@pytest.mark.validation
def test_ten_million_generated_inputs_take_less_than_a_gigabyte():
    assert peak_kib(PEAK, 10_000_000) < 1_000_000
