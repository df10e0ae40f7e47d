"""A standard error belongs to its values: kept with them, scaled with them, and refused when they have been changed."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from tests.refusals import pattern, refused

ap = fs.applications
X = np.random.default_rng(0).normal(size=(40, 2))
MODELS = [fs.MLP.random([2, 3, 3], activation="tanh", family=fs.families.Categorical(3), rng=rng) for rng in (1, 2)]


def drawn(k=0, n_draws=4, **asked):
    return fs.estimate_fisher(MODELS[k], X, estimator="score", n_draws=n_draws, rng=k, **asked)


ESTIMATE, OTHER = drawn(), drawn(1)
SAME_ERROR = fs.estimate_fisher(MODELS[0], X, estimator="score", n_draws=4, rng=7)
USES = {
    "merge_networks": lambda one: ap.merge_networks(MODELS, [one, OTHER]),
    "shrink": lambda one: ap.merge_networks(MODELS, [one, OTHER], shrink=True),
    "Consolidation": lambda one: ap.Consolidation(MODELS[0], one),
    "online": lambda one: ap.Consolidation(MODELS[0], OTHER).online(MODELS[1], one),
    "scale_estimate": lambda one: fs.scale_estimate(one, 3),
}


def netcdf(one, tmp_path):
    one.to_netcdf(tmp_path / "a.nc")
    return xr.load_dataarray(tmp_path / "a.nc")


def zarr(one, tmp_path):
    one.to_zarr(tmp_path / "a.zarr", zarr_format=2)
    return xr.open_dataarray(tmp_path / "a.zarr", engine="zarr")


KEPT = {
    "as it is": lambda one, _: one,
    "reordered and back": lambda one, _: one.isel(param=slice(None, None, -1)).sortby("param"),
    "in single precision": lambda one, _: one.astype(np.float32),
    "pickled": lambda one, _: pickle.loads(pickle.dumps(one)),
    "netcdf": netcdf,
    "zarr": zarr,
    "lazy": lambda one, _: one.chunk(param=5),
    "a piece of a pair": lambda one, _: drawn(per_input=False) if one is None else one.expand_dims("k").isel(k=0),
    "without errors": lambda one, _: one.drop_vars(["standard_error", "standard_error_of"]) * 3,
    "errors of one's own": lambda one, _: fs.with_standard_error(one * 3, 3 * one.standard_error),
    "scaled": lambda one, _: fs.scale_estimate(one, 3),
    "made by hand": lambda one, _: (one.drop_vars("standard_error_of") * 3).assign_coords(standard_error=("param", one.values)),
}


def in_place(one):
    one = one.copy(deep=True)
    one *= 2
    return one


def one_entry(one):
    one = one.copy(deep=True)
    one.values[7] = np.nextafter(one.values[7], 1)
    return one


STALE = {
    "a multiple": lambda one: one * len(X),
    "a quotient": lambda one: one / 2,
    "a root": np.sqrt,
    "a shift": lambda one: one + 1e-12,
    "cut": lambda one: one.clip(max=float(one.max()) * 0.9),
    "changed in place": in_place,
    "one bit": one_entry,
    "other data": lambda one: one.copy(data=OTHER.values),
    "the mean of two": lambda one: (one + SAME_ERROR) / 2,
    "lazily": lambda one: one.chunk(param=5) * 2,
    "the mean along a dim": lambda one: xr.concat([one, SAME_ERROR], "k").mean("k"),
    "the error alone": lambda one: (2 * one).drop_vars("standard_error_of"),
    "whole numbers": lambda one: (one * 1000).astype(int),
    "shuffled values": lambda one: one.copy(data=one.values[::-1]),
}


def test_an_estimate_carries_its_error_and_what_it_is_of():
    assert not np.shares_memory(ESTIMATE.values, ESTIMATE.standard_error_of.values)
    np.testing.assert_array_equal(ESTIMATE, ESTIMATE.standard_error_of)
    full = drawn(view="full", standard_error=True)
    assert full.standard_error_of.dims == full.dims
    pair = fs.estimate_fisher(MODELS[0], X, estimator=("score", "hessian"), n_draws=4, rng=0, per_input=True)
    np.testing.assert_array_equal(pair, pair.standard_error_of)
    hidden = fs.hidden_information(MODELS[0], X, layer=1, estimator="score", n_draws=2, rng=0)
    np.testing.assert_array_equal(hidden, hidden.standard_error_of)
    assert "standard_error_of" not in drawn(standard_error=False).coords


@pytest.mark.parametrize("how", KEPT)
@pytest.mark.parametrize("use", USES)
def test_errors_that_belong_are_accepted(use, how, tmp_path):
    USES[use](KEPT[how](ESTIMATE, tmp_path))


@pytest.mark.parametrize("how", STALE)
@pytest.mark.parametrize("use", USES)
def test_stale_errors_are_refused(use, how):
    name = "importances[0]" if use in ("merge_networks", "shrink") else "estimate" if use == "scale_estimate" else "importance"
    with pytest.raises(ValueError, match=pattern(f"`{name}` must")) as refusal:
        fs.scale_estimate(USES[use](STALE[how](ESTIMATE)), 1).compute() if use == "scale_estimate" else USES[use](
            STALE[how](ESTIMATE)
        )
    for remedy in ("scale_estimate(", "with_standard_error(", ".drop_vars("):
        assert remedy in str(refusal.value)


@pytest.mark.parametrize("shrink", [False, True])
def test_merged_errors_do_not_change_with_the_unit_of_the_importances(shrink):
    found = ap.merge_networks(MODELS, [ESTIMATE, OTHER], shrink=shrink)
    scaled = ap.merge_networks(MODELS, [fs.scale_estimate(one, 300) for one in (ESTIMATE, OTHER)], shrink=shrink)
    for name in ("merged", "standard_error", "share"):
        np.testing.assert_allclose(scaled.parameters[name], found.parameters[name], rtol=1e-13)
    apart = ap.merge_networks(MODELS, [fs.scale_estimate(ESTIMATE, 300), fs.scale_estimate(OTHER, 100)], shrink=shrink)
    expected = ap.merge_networks(MODELS, [fs.scale_estimate(ESTIMATE, 3), OTHER], shrink=shrink)
    np.testing.assert_allclose(apart.parameters.standard_error, expected.parameters.standard_error, rtol=1e-13)


def test_merged_errors_are_those_of_replicates():
    """200 replicates of two importances, times numbers of inputs: standard deviation and coverage of the merged weights."""
    truth = ap.merge_networks(MODELS, [ap.importance(MODELS[0], X) * 300, ap.importance(MODELS[1], X) * 100]).parameters.merged
    merged, errors = [], []
    for rng in range(200):
        both = [fs.estimate_fisher(one, X, estimator="score", n_draws=50, rng=2 * rng + k) for k, one in enumerate(MODELS)]
        found = ap.merge_networks(MODELS, [fs.scale_estimate(one, n) for one, n in zip(both, (300, 100), strict=True)])
        merged.append(found.parameters.merged.values)
        errors.append(found.parameters.standard_error.values)
    merged, errors = np.array(merged), np.array(errors)
    # The standard deviation of 200 has a relative error of 5 %.
    np.testing.assert_allclose(merged.std(axis=0, ddof=1), errors.mean(axis=0), rtol=0.25)
    covered = (np.abs(merged - truth.values) < 1.96 * errors).mean()
    assert 0.94 < covered < 0.96
    assert (np.abs(merged - truth.values) < 1.96 * errors / 300).mean() < 0.1  # what stale errors would cover


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaling(dtype):
    one = (
        drawn()
        .astype(dtype)
        .assign_coords(
            standard_error=ESTIMATE.standard_error.astype(dtype), standard_error_of=ESTIMATE.standard_error_of.astype(dtype)
        )
    )
    for factor in (3, -0.5, 1 / 7, np.float32(2), xr.DataArray(4.0)):
        found = fs.scale_estimate(one, factor)
        assert found.dtype == found.standard_error.dtype == dtype
        np.testing.assert_array_equal(found, one.values * dtype(factor))
        np.testing.assert_array_equal(found.standard_error, one.standard_error.values * abs(dtype(factor)))
        np.testing.assert_array_equal(found.standard_error_of, found)
        assert not np.shares_memory(found.values, found.standard_error_of.values)
        assert json.loads(found.attrs["provenance"])["scaled_by"] == [float(factor)]
        assert json.loads(found.standard_error.attrs["provenance"])["scaled_by"] == [float(factor)]
    twice = fs.scale_estimate(fs.scale_estimate(one, 2), 3)
    assert json.loads(twice.attrs["provenance"])["scaled_by"] == [2.0, 3.0]
    assert twice.attrs["long_name"] == "score estimate of the Fisher information, scaled"


def test_factors_are_matched_by_their_labels():
    each = np.arange(1.0, 22)
    found = fs.scale_estimate(ESTIMATE, xr.DataArray(each[::-1], dims="param", coords={"param": ESTIMATE.param.values[::-1]}))
    np.testing.assert_array_equal(found, ESTIMATE.values * each)
    np.testing.assert_array_equal(found, fs.scale_estimate(ESTIMATE, each))
    layers = xr.DataArray([5.0, 7.0], dims="layer")
    found = fs.scale_estimate(ESTIMATE.isel(param=slice(None, None, -1)), layers)
    np.testing.assert_array_equal(found, ESTIMATE.values[::-1] * np.where(ESTIMATE.param_layer == 0, 5, 7)[::-1])
    np.testing.assert_array_equal(found.standard_error, ESTIMATE.standard_error[::-1] * np.where(found.param_layer == 0, 5, 7))
    named = xr.DataArray([7.0, 5.0], dims="layer", coords={"layer": [1, 0]})
    np.testing.assert_array_equal(fs.scale_estimate(ESTIMATE.isel(param=slice(None, None, -1)), named), found)
    pair = fs.estimate_fisher(MODELS[0], X, estimator=("score", "hessian"), n_draws=4, rng=0)
    found = fs.scale_estimate(pair, xr.DataArray([3.0, 2.0], dims="estimator", coords={"estimator": ["hessian", "score"]}))
    np.testing.assert_array_equal(found.standard_error, pair.standard_error * np.array([[2.0], [3.0]]))
    full = drawn(view="full", standard_error=True)
    found = fs.scale_estimate(full, xr.DataArray(each, dims="param2"))
    np.testing.assert_array_equal(found.standard_error, full.standard_error * each)


def test_what_has_no_error_is_scaled_alone():
    exact = fs.fisher_information(MODELS[0], X)
    found = fs.scale_estimate(exact, 4)
    np.testing.assert_array_equal(found, 4 * exact)
    assert set(found.coords) == set(exact.coords)


def test_lazy_estimates_stay_lazy():
    from dask import array as da

    lazy = fs.estimate_fisher(MODELS[0], da.from_array(X, chunks=7), estimator="score", n_draws=4, rng=0)
    found = fs.scale_estimate(lazy, 3)
    assert found.chunks is not None
    assert found.standard_error.chunks is not None
    xr.testing.assert_equal(found.compute(), fs.scale_estimate(ESTIMATE, 3))
    loaded = fs.scale_estimate(lazy, 3).load()
    loaded *= 2
    with pytest.raises(ValueError, match="have been changed"):
        fs.scale_estimate(loaded, 1)


def test_errors_of_ones_own():
    root = fs.with_standard_error(np.sqrt(ESTIMATE), ESTIMATE.standard_error / (2 * np.sqrt(ESTIMATE)))
    np.testing.assert_allclose(root.standard_error / root, ESTIMATE.standard_error / ESTIMATE / 2, rtol=1e-13)
    back = fs.with_standard_error(ESTIMATE, ESTIMATE.standard_error[::-1])
    np.testing.assert_array_equal(back.standard_error, ESTIMATE.standard_error)
    assert fs.with_standard_error(ESTIMATE, 2).standard_error.values.tolist() == [2.0] * 21
    assert np.isnan(fs.with_standard_error(ESTIMATE, np.full(21, np.nan)).standard_error).all()


@refused(
    [
        (lambda: fs.scale_estimate(ESTIMATE.values, 2), TypeError, "`estimate` must be a DataArray, such as"),
        (lambda: fs.scale_estimate(ESTIMATE, np.nan), ValueError, "`factor` must be finite, got nan"),
        (lambda: fs.scale_estimate(ESTIMATE, np.ones(3)), ValueError, "`factor` must be one number, an array of the shape (21,)"),
        (
            lambda: fs.scale_estimate(ESTIMATE, xr.DataArray(np.ones(3), dims="unit")),
            ValueError,
            "`factor` must have dims among ('param', 'layer'), got ('unit',)",
        ),
        (
            lambda: fs.scale_estimate(ESTIMATE, xr.DataArray([1.0], dims="layer")),
            ValueError,
            "`factor` must have every label that `estimate` has along 'layer'",
        ),
        (
            lambda: fs.scale_estimate(ESTIMATE, xr.DataArray(np.ones(3), dims="param")),
            ValueError,
            "`factor` must have every label that `estimate` has along 'param'",
        ),
        (lambda: fs.scale_estimate(fs.scale_estimate(ESTIMATE, 1e300), 1e300), ValueError, "`factor` must keep the scaled"),
        (lambda: fs.with_standard_error(ESTIMATE, -1), ValueError, "`standard_error` must be at least 0, or nan"),
        (
            lambda: fs.with_standard_error(ESTIMATE, np.ones(3)),
            ValueError,
            "`standard_error` must be one number or have the shape",
        ),
        (lambda: fs.with_standard_error(3.0, 1), TypeError, "`values` must be a DataArray"),
        (
            lambda: fs.with_standard_error(ESTIMATE, ESTIMATE.standard_error[:4]),
            ValueError,
            "`standard_error` must have every label that `values` has along 'param'",
        ),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()
