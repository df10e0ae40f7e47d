"""Dense views on disk: the same numbers as in memory, whole stores or none, bounded memory."""

from __future__ import annotations

import errno
import itertools

import numpy as np
import pytest
import xarray as xr
import zarr

import fisherstats as fs
from fisherstats.quantities import _tiles
from fisherstats.theory import dense_blocks
from tests.memory import peak_kib


@pytest.fixture(scope="module")
def model() -> fs.MLP:
    return fs.MLP.random([20, 30, 25, 4], activation="tanh", family=fs.families.Categorical(4), rng=0)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2500, 20))


def agree(found, expected) -> None:
    largest = float(abs(expected).max())
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-12, atol=1e-14 * largest)
    np.testing.assert_array_equal(found.values, found.values.T)
    assert found.attrs == expected.attrs
    for name in expected.coords:
        assert expected[name].equals(found[name])
        assert expected[name].attrs == found[name].attrs


@pytest.mark.parametrize("numbers", [2**18, 2**8, 1])
@pytest.mark.parametrize("view", ["full", "block"])
def test_a_stored_view_equals_the_one_in_memory(view, numbers, x, tmp_path, monkeypatch):
    """In one tile, in many, and in one per pair of units; 20,449 numbers in three passes."""
    monkeypatch.setattr(_tiles, "_TILE_NUMBERS", numbers)
    monkeypatch.setattr(_tiles, "_PASS_NUMBERS", 2**13)
    model = fs.MLP.random([6, 8, 7, 3], activation="tanh", family=fs.families.Categorical(3), rng=0)
    assert model.n_params == 143
    found = fs.fisher_information(model, x[:300, :6], view=view, store=tmp_path / "it.zarr")
    expected = fs.fisher_information(model, x[:300, :6], view=view)
    assert type(found) is type(expected)
    if view == "full":
        assert found.chunks is not None
        agree(found, expected)
    else:
        assert list(found.children) == list(expected.children)
        for name in expected.children:
            agree(found[name]["information"], expected[name]["information"])
    assert [path.name for path in tmp_path.iterdir()] == ["it.zarr"]


def test_several_groups_of_inputs_and_single_precision(model, x, tmp_path):
    narrow = model.as_dtype(np.dtype(np.float32))
    for own, inputs, tolerance in ((model, x, 1e-12), (narrow, x.astype(np.float32), 2e-6)):
        found = fs.fisher_information(own, inputs, view="full", store=tmp_path / f"{tolerance}")
        expected = fs.fisher_information(own, inputs, view="full")
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=tolerance * float(abs(expected).max()))


def test_the_store_can_be_opened_by_anyone(model, x, tmp_path):
    found = fs.fisher_information(model, x[:50], view="full", store=tmp_path / "f")
    again = xr.open_zarr(tmp_path / "f")["information"]
    xr.testing.assert_identical(again.compute(), found.compute())
    assert again.attrs["units"] == "1"


def test_a_lazy_x_is_read_chunk_by_chunk(model, x, tmp_path):
    lazy = xr.DataArray(x[:300], dims=("input", "feature")).chunk(input=70)
    found = fs.fisher_information(model, lazy, view="block", store=tmp_path / "f")
    expected = fs.fisher_information(model, x[:300], view="block")
    for name in expected.children:
        agree(found[name]["information"], expected[name]["information"])


@pytest.mark.parametrize("view", ["full", "block"])
def test_what_overflows_is_refused_as_in_memory(view, tmp_path):
    narrow = fs.MLP([np.full((2, 4), 1e-25, np.float32)], activation=[], family=fs.families.Gaussian(2))
    large = np.full((5, 3), 1e25, np.float32)
    for store in (None, tmp_path / "f"):
        with pytest.raises(ValueError, match="`x` must give results within the range of float32"):
            fs.fisher_information(narrow, large, view=view, store=store)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("numbers", [1, 100, 10**6])
@pytest.mark.parametrize("cross_layers", [True, False])
@pytest.mark.parametrize("units", [1, 3])
def test_tiles_cover_every_pair_of_units_once(numbers, cross_layers, units):
    shapes = [(7, 4), (5, 8), (2, 6)]
    covered = []
    for tile in dense_blocks.small_tiles(shapes, cross_layers, numbers, lambda layer: units):
        for o, p in itertools.product(range(shapes[tile.left][0])[tile.units], range(shapes[tile.right][0])[tile.others]):
            if tile.left != tile.right or o <= p:
                covered.append((tile.left, tile.right, o, p))
    layers = [(left, right) for left in range(3) for right in range(left, 3 if cross_layers else left + 1)]
    every = [
        (left, right, o, p)
        for left, right in layers
        for o in range(shapes[left][0])
        for p in range(o if left == right else 0, shapes[right][0])
    ]
    assert sorted(covered) == every


def test_refusals(model, x, tmp_path):
    (tmp_path / "file").write_text("")
    large = fs.MLP.random([784, 2000, 10], activation="tanh", family=fs.families.Gaussian(10), rng=0)
    calls = [
        (lambda: fs.fisher_information(model, x, store=tmp_path / "f"), ValueError, "`store` goes with view='block'"),
        (lambda: fs.fisher_information(model, x, view="full", per_input=True, store="f"), ValueError, "`store` goes with"),
        (lambda: fs.fisher_information(model, x, view="full", store=3), TypeError, "`store` must be the path"),
        (lambda: fs.fisher_information(model, x, view="full", store=tmp_path), ValueError, "a path that does not exist"),
        (
            lambda: fs.fisher_information(model, x, view="full", store=tmp_path / "file" / "f"),
            ValueError,
            "must be in a writeable directory",
        ),
        (
            lambda: fs.fisher_information(large, x[:, :1].repeat(784, 1), view="full", store=tmp_path / "f"),
            fs.SizeError,
            "are free",
        ),
        (
            lambda: fs.fisher_information(model, iter([x]), view="block", store=tmp_path / "f"),
            TypeError,
            r"`x` must be one array here.*np\.vstack\(list\(x\)\)",
        ),
    ]
    for call, error, message in calls:
        with pytest.raises(error, match=message):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_store_that_could_not_be_finished(failure, model, x, tmp_path, monkeypatch):
    written = []
    original = zarr.Array.__setitem__

    def fail(self, *given):
        written.append(1)
        if len(written) == 5:
            raise failure
        original(self, *given)

    monkeypatch.setattr(zarr.Array, "__setitem__", fail)
    with pytest.raises(type(failure)) as raised:
        fs.fisher_information(model, x[:100], view="full", store=tmp_path / "f")
    assert isinstance(failure, KeyboardInterrupt) or "`store` could not be written, No space left on device" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


PEAK = """
import sys
import numpy as np
import fisherstats as fs
model = fs.MLP.random([784, 12, 10], activation="tanh", family=fs.families.Categorical(10), rng=0)
x = np.random.default_rng(0).random((64, 784))
fs.fisher_information(model, x, view="block", store=sys.argv[1])
"""


def test_memory_is_bounded(tmp_path):
    # The first block alone is 693,000 KiB.
    assert peak_kib(PEAK, tmp_path / "f") < 690_000
