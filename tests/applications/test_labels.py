"""Every result of an application is labelled, survives netCDF, and is the same again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.core.references import PAPERS

ap = fs.applications
FAMILY = fs.families.Categorical(3)
MODEL, OTHER = (fs.MLP.random([2, 3, 3], activation="tanh", family=FAMILY, rng=rng) for rng in (0, 1))
X = np.random.default_rng(0).normal(size=(20, 2))
Y = FAMILY.sample(MODEL.natural_parameters(X), 1, 1)[0]

RESULTS = {
    "asymptotic_covariance": lambda: ap.asymptotic_covariance(MODEL, X, Y),
    "sandwich": lambda: ap.asymptotic_covariance(MODEL, X, Y, robust=True),
    "cramer_rao_bound": lambda: ap.cramer_rao_bound(MODEL, X, directions=np.eye(2, 21)).to_dataset(),
    "parameter_intervals": lambda: ap.parameter_intervals(MODEL, X, Y),
    "prediction_intervals": lambda: ap.prediction_intervals(MODEL, X, Y, X[:2]),
    "consolidation_penalty": lambda: ap.consolidation_penalty(OTHER, MODEL, X, information="score", n_draws=2, rng=0),
    "expected_gradient_length": lambda: ap.expected_gradient_length(MODEL, X, score=("squared_norm", "norm")),
    "select_batch": lambda: ap.select_batch(MODEL, X, 3),
    "length_element": lambda: ap.length_element(MODEL, X, np.full(21, 0.1)),
    "output_divergence": lambda: ap.output_divergence(MODEL, OTHER, X, per_input=True),
    "fisher_rao_norm": lambda: ap.fisher_rao_norm(MODEL, X),
    "information_volume": lambda: ap.information_volume(MODEL, X, tau=0.1),
    "leading_eigenpairs": lambda: ap.leading_eigenpairs(MODEL, X, 2),
    "pruning_scores": lambda: ap.pruning_scores(MODEL, X),
    "compare_fishers": lambda: ap.compare_fishers(MODEL, X, Y, rng=0, batch_size=5),
    "laplace": lambda: ap.laplace(MODEL, X, Y).predict(X[:3]),
    "merge_networks": lambda: ap.merge_networks([MODEL, OTHER], [ap.importance(MODEL, X), ap.importance(OTHER, X)]).parameters,
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_variable_is_labelled_and_survives_storage(name, tmp_path):
    found = RESULTS[name]()
    for array in found.data_vars.values():
        assert {"long_name", "units", "symbol", "source", "assumptions", "provenance"} <= set(array.attrs)
        assert array.attrs["units"] in ("1", "nat")
        assert any(paper in array.attrs["source"] for paper in PAPERS.values())
        assert all(isinstance(value, str) for value in array.attrs.values())
        assert json.loads(array.attrs["provenance"])["package"].startswith("fisherstats")
        assert all(dim in array.indexes for dim in array.dims)
    assert found.identical(RESULTS[name]())
    found.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as read:
        assert read.load().identical(found)


def test_every_function_has_a_case():
    functions = {name for name in ap.__all__ if name.islower()}
    assert functions - set(RESULTS) == {"importance"}
