"""Every public result carries its labels, survives netCDF and zarr unchanged, and records equal work equally."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.core import schema
from fisherstats.core.references import PAPERS, SOURCES
from fisherstats.quantities import _labels

MODEL = fs.MLP.random([3, 4, 3], activation="tanh", family=fs.families.Categorical(3), rng=0)
X = np.random.default_rng(0).normal(size=(6, 3))
Y = np.array([0, 1, 2, 0, 1, 2])

RESULTS = {
    "output_information": lambda: fs.output_information(MODEL, X),
    "hidden_information": lambda: fs.hidden_information(MODEL, X, layer=1),
    "hidden_information score": lambda: fs.hidden_information(MODEL, X, layer=1, estimator="score", n_draws=3, rng=0),
    "hidden_information empirical": lambda: fs.hidden_information(MODEL, X, layer=2, estimator="empirical", y=Y),
    "hidden_information_variance": lambda: fs.hidden_information_variance(MODEL, X, layer=0),
    "fisher_information": lambda: fs.fisher_information(MODEL, X),
    "fisher_information full": lambda: fs.fisher_information(MODEL, X, view="full"),
    "fisher_information block": lambda: fs.fisher_information(MODEL, X, view="block"),
    "fisher_information kfac": lambda: fs.fisher_information(MODEL, X, view="kfac"),
    "fisher_information kfac per input": lambda: fs.fisher_information(MODEL, X, view="kfac", per_input=True),
    "kfac_error": lambda: fs.kfac_error(MODEL, X),
    "fisher_information per input": lambda: fs.fisher_information(MODEL, X, per_input=True),
    "fisher_information block per input": lambda: fs.fisher_information(MODEL, X, view="block", per_input=True),
    "estimate_fisher": lambda: fs.estimate_fisher(MODEL, X, estimator="score", n_draws=3, rng=0),
    "estimate_fisher pair": lambda: fs.estimate_fisher(MODEL, X, estimator=("score", "hessian"), n_draws=3, rng=0),
    "estimate_fisher block": lambda: fs.estimate_fisher(MODEL, X, estimator=("score", "hessian"), n_draws=3, rng=0, view="block"),
    "estimate_fisher full per input": lambda: fs.estimate_fisher(
        MODEL, X, estimator="hessian", n_draws=3, rng=0, view="full", per_input=True
    ),
    "empirical_fisher": lambda: fs.empirical_fisher(MODEL, X, Y),
    "empirical_fisher block": lambda: fs.empirical_fisher(MODEL, X, Y, view="block"),
    "estimator_variance": lambda: fs.estimator_variance(MODEL, X),
    "estimator_variance random": lambda: fs.estimator_variance(MODEL, X, design="random", n_draws=4),
    "estimator_variance subsample": lambda: fs.estimator_variance(MODEL, X, design="subsample", population=60),
    "estimator_variance layer": lambda: fs.estimator_variance(MODEL, X, group_by="layer"),
    "estimator_variance unit": lambda: fs.estimator_variance(MODEL, X, group_by="unit", per_input=True),
    "estimator_variance model": lambda: fs.estimator_variance(MODEL, X, group_by="model"),
    "variance_bounds": lambda: fs.variance_bounds(MODEL, X),
    "variance_bounds per input": lambda: fs.variance_bounds(MODEL, X, per_input=True),
    "estimate_fisher probes": lambda: fs.estimate_fisher(
        MODEL, X, estimator=("score", "hutchinson_gaussian", "hutchinson_rademacher"), n_draws=3, rng=0
    ),
    "estimator_variance probes": lambda: fs.estimator_variance(MODEL, X, estimators=["hutchinson_rademacher"], group_by="layer"),
    "information_envelopes": lambda: fs.information_envelopes(MODEL, X, per_input=True),
    "efron_curvature": lambda: fs.efron_curvature(MODEL, X, np.ones(MODEL.n_params), per_input=True),
    "amari_chentsov": lambda: fs.amari_chentsov(MODEL, X, np.eye(2, MODEL.n_params)),
    "relative_fisher": lambda: fs.relative_fisher(MODEL, X),
    "relative_fisher per input": lambda: fs.relative_fisher(MODEL, X, per_input=True),
    "relative_fisher layer": lambda: fs.relative_fisher(MODEL, X, subsystem="layer"),
    "learning_zone": lambda: fs.learning_zone(MODEL, X),
    "weight_norms": lambda: fs.weight_norms(MODEL),
    "derivative_bounds": lambda: fs.derivative_bounds(MODEL, X, per_input=True),
    "norm_sweep": lambda: fs.norm_sweep(MODEL, X, scales=[0.5, 2.0]),
    "layer_errors": lambda: fs.layer_errors(MODEL, X),
    "propagate": lambda: fs.propagate(fs.LogDet(0.1), MODEL, X, estimator=("score", "hessian"), n_draws=3),
    "propagate solve": lambda: fs.propagate(fs.SolveWith(np.ones(MODEL.n_params), 0.1), MODEL, X, estimator="score", n_draws=3),
    "propagate eigenvalues": lambda: fs.propagate(fs.LeadingEigenvalues(2), MODEL, X, estimator="hessian", n_draws=3),
}

DIMS = {
    "output_information": ("input", "output", "output2"),
    "hidden_information": ("input", "unit", "unit2"),
    "fisher_information": ("param",),
    "fisher_information full": ("param", "param2"),
    "fisher_information per input": ("input", "param"),
    "estimate_fisher": ("param",),
    "estimate_fisher pair": ("estimator", "param"),
    "estimate_fisher full per input": ("input", "param", "param2"),
}


def arrays(result):
    """Return every variable of a result, whatever its container."""
    if isinstance(result, xr.DataTree):
        return [array for node in result.leaves for array in node.to_dataset().data_vars.values()]
    if isinstance(result, xr.Dataset):
        return list(result.data_vars.values())
    companion = [result.coords["standard_error"]] if "standard_error" in result.coords else []
    return [result, *companion]


@pytest.mark.parametrize("name", RESULTS)
def test_every_variable_is_labelled(name):
    for array in arrays(RESULTS[name]()):
        assert {"long_name", "units", "symbol", "source", "assumptions", "provenance"} <= set(array.attrs)
        assert array.attrs["units"] == "1"
        assert any(paper in array.attrs["source"] for paper in PAPERS.values())
        assert all(isinstance(value, str) for value in array.attrs.values())
        assert json.loads(array.attrs["provenance"])["model"] == MODEL.fingerprint
        assert len(set(array.dims)) == array.ndim
        for dim in array.dims:
            assert dim in array.indexes
            assert dim in ("estimator", "bound", "side", "norm", "scale") or array.indexes[dim].dtype == np.int64


@pytest.mark.parametrize("name", DIMS)
def test_dims(name):
    assert RESULTS[name]().dims == DIMS[name]


@pytest.mark.parametrize("name", RESULTS)
def test_round_trips(name, tmp_path):
    result = RESULTS[name]()
    if isinstance(result, xr.DataTree):
        result.to_netcdf(tmp_path / "a.nc")
        result.to_zarr(tmp_path / "a.zarr", zarr_format=2)
        with xr.open_datatree(tmp_path / "a.nc") as nc, xr.open_datatree(tmp_path / "a.zarr", engine="zarr") as zarr:
            xr.testing.assert_identical(nc.load(), result)
            xr.testing.assert_identical(zarr.load(), result)
    elif isinstance(result, xr.Dataset):
        result.to_netcdf(tmp_path / "a.nc")
        result.to_zarr(tmp_path / "a.zarr", zarr_format=2)
        with xr.open_dataset(tmp_path / "a.nc") as nc, xr.open_zarr(tmp_path / "a.zarr") as zarr:
            xr.testing.assert_identical(nc.load(), result)
            xr.testing.assert_identical(zarr.load(), result)
    else:
        result.to_netcdf(tmp_path / "a.nc")
        result.to_zarr(tmp_path / "a.zarr", zarr_format=2)
        with xr.open_dataarray(tmp_path / "a.nc") as nc, xr.open_dataarray(tmp_path / "a.zarr", engine="zarr") as zarr:
            xr.testing.assert_identical(nc.load(), result)
            xr.testing.assert_identical(zarr.load(), result)


@pytest.mark.parametrize("name", RESULTS)
def test_equal_work_gives_identical_results(name):
    xr.testing.assert_identical(RESULTS[name](), RESULTS[name]())


def test_param_coordinates_point_into_the_weights():
    information = fs.fisher_information(MODEL, X)
    flat = np.concatenate([matrix.ravel() for matrix in MODEL.weights])
    for position in range(MODEL.n_params):
        one = information.isel(param=position)
        column = int(one.param_unit_in)
        weight = MODEL.weights[int(one.param_layer)][int(one.param_unit_out), column]
        assert weight == flat[position]
        assert str(one.param_kind.values) == ("bias" if column == -1 else "weight")


def test_block_children_keep_the_index_of_the_whole_vector():
    blocks = fs.fisher_information(MODEL, X, view="block")
    full = fs.fisher_information(MODEL, X, view="full")
    for layer in range(MODEL.n_layers):
        block = blocks[f"layer_{layer}"].information
        np.testing.assert_array_equal(block.param_layer, layer)
        np.testing.assert_allclose(block, full.sel(param=block.param, param2=block.param2), rtol=1e-13)


def test_labels_of_the_inputs_are_kept():
    x = xr.DataArray(X, dims=("input", "feature"), coords={"input": list("abcdef")})
    information = fs.fisher_information(MODEL, x, per_input=True)
    assert information.indexes["input"].tolist() == list("abcdef")
    np.testing.assert_array_equal(information, fs.fisher_information(MODEL, X, per_input=True))


def test_shared_coordinates_cannot_be_written_to():
    information = fs.fisher_information(MODEL, X)
    with pytest.raises(ValueError, match="read-only"):
        information.param_layer.values[0] = 7
    assert int(fs.fisher_information(MODEL, X).param_layer[0]) == 0


def test_attributes_of_one_result_do_not_leak_into_another():
    first = fs.fisher_information(MODEL, X)
    first.attrs["units"] = "mine"
    first.param_layer.attrs["long_name"] = "mine"
    second = fs.fisher_information(MODEL, X)
    assert second.attrs["units"] == "1"
    assert second.param_layer.attrs["long_name"] != "mine"


def test_every_schema_row_has_a_source_and_every_source_a_paper():
    for variable in schema.VARIABLES.values():
        assert variable.source in SOURCES
    for source in SOURCES.values():
        assert source.paper in PAPERS
        assert source.statement
        assert source.formula
        assert source.assumptions


def test_labelled_data_labels_are_read_by_name():
    y = xr.DataArray(Y[:, None], dims=("input", "replicate")).isel(replicate=0)
    xr.testing.assert_identical(fs.empirical_fisher(MODEL, X, y), fs.empirical_fisher(MODEL, X, Y))
    assert _labels.unlabelled_response(Y) is Y
