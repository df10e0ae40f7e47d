"""The report of units on a kink, against a loop, and against what the Hessian estimator refuses."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs


def quantised(n=300, seed=0):
    rng = np.random.default_rng(seed)
    weights = [rng.integers(-2, 3, size=shape) / 2 for shape in ((4, 4), (3, 5), (2, 4))]
    return weights, rng.integers(-3, 4, size=(n, 3)).astype(float)


ACTIVATIONS = {"relu": (0.0,), "hard_tanh": (-1.0, 1.0), "tanh": (), "softsign": (0.0,)}


@pytest.mark.parametrize("first", ACTIVATIONS)
@pytest.mark.parametrize("second", ACTIVATIONS)
@pytest.mark.parametrize("tolerance", [1e-9, 0.3])
def test_the_report_is_that_of_a_loop(first, second, tolerance):
    weights, x = quantised()
    functions = {
        "relu": lambda a: np.maximum(a, 0),
        "hard_tanh": lambda a: np.clip(a, -1, 1),
        "tanh": np.tanh,
        "softsign": lambda a: a / (1 + np.abs(a)),
    }
    expected = []
    for row, h in enumerate(x):
        for layer, name in enumerate((first, second)):
            a = weights[layer] @ np.append(h, 1)
            expected += [
                (row, layer, unit, value, min(ACTIVATIONS[name], key=lambda kink, v=value: abs(v - kink)))
                for unit, value in enumerate(a)
                if any(abs(value - kink) <= tolerance for kink in ACTIVATIONS[name])
            ]
            h = functions[name](a)
    model = fs.MLP(weights, activation=[first, second], family=fs.families.Poisson(2))
    report = fs.kink_report(model, x, tolerance=tolerance)
    assert report["value"].dims == ("kink",)
    found = list(zip(*(report[name].values.tolist() for name in ("input", "layer", "unit", "value", "at")), strict=True))
    assert [one[:3] for one in found] == [one[:3] for one in expected]
    np.testing.assert_allclose(np.array(found).reshape(-1, 5)[:, 3:], np.array(expected).reshape(-1, 5)[:, 3:], atol=1e-14)


def test_it_reports_what_the_hessian_estimator_refuses():
    weights, x = quantised()
    model = fs.MLP(weights, activation="relu", family=fs.families.Poisson(2))
    report = fs.kink_report(model, x)
    on_kink = set(report["input"].values.tolist())
    assert 0 < len(on_kink) < len(x)
    for row in range(40):
        if row in on_kink:
            with pytest.raises(fs.AssumptionError):
                fs.estimator_variance(model, x[[row]])
        else:
            fs.estimator_variance(model, x[[row]])


def test_inputs_keep_their_labels_and_smooth_networks_have_an_empty_report(tmp_path):
    weights, x = quantised(n=5)
    model = fs.MLP(weights, activation="relu", family=fs.families.Poisson(2))
    labelled = xr.DataArray(np.zeros((2, 3)), dims=("input", "feature"), coords={"input": ["first", "second"]})
    zero = fs.MLP(
        [w * (np.arange(w.shape[1]) < w.shape[1] - 1) for w in weights], activation="relu", family=fs.families.Poisson(2)
    )
    assert set(fs.kink_report(zero, labelled)["input"].values) == {"first", "second"}
    smooth = fs.MLP(weights, activation="gelu", family=fs.families.Poisson(2))
    empty = fs.kink_report(smooth, x)
    assert empty.sizes["kink"] == 0
    empty.to_netcdf(tmp_path / "empty.nc")
    assert xr.load_dataset(tmp_path / "empty.nc").identical(empty)
    assert fs.kink_report(model, x, num_threads=2).identical(fs.kink_report(model, x, num_threads=1))


@pytest.mark.parametrize("tolerance", [-1.0, np.nan, np.inf, "0", True])
def test_what_is_refused(tolerance):
    weights, x = quantised(n=2)
    model = fs.MLP(weights, activation="relu", family=fs.families.Poisson(2))
    with pytest.raises(ValueError, match="tolerance"):
        fs.kink_report(model, x, tolerance=tolerance)
