"""The digests of `validation.digests`: the same for the same calls, others for a changed bit, attribute, dim or message."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from validation.digests import parts, run

FEW = "fisher_information|Categorical(3)|tanh|batches|float64|"


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    model = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Poisson(2), rng=1)
    return fs.estimator_variance(model, np.random.default_rng(0).normal(size=(9, 3)))


def change(result: xr.Dataset, what: str) -> xr.Dataset:
    changed = result.copy(deep=True)
    if what == "values":
        changed.variance.values.view(np.uint64)[0, 0] ^= 1
    elif what == "attrs":
        changed.variance.attrs["units"] = "other"
    elif what == "dtype":
        changed["variance"] = changed.variance.astype(np.float32)
    elif what == "dims":
        changed["variance"] = changed.variance.transpose()
    return changed


@pytest.mark.parametrize("what", ["values", "attrs", "dtype", "dims"])
def test_a_change_is_seen_and_named(what, result):
    before = parts.of(result)
    assert parts.of(change(result, "nothing")) == before
    (said,) = parts.differences(before, parts.of(change(result, what)))
    assert said.startswith("variance: ")
    assert what in said


def test_what_varies_between_versions_is_left_out(result):
    other = result.copy()
    record = json.loads(other.attrs["provenance"])
    other.attrs["provenance"] = json.dumps(record | {"package": "fisherstats 9.9"})
    assert parts.of(other) == parts.of(result)
    other.attrs["provenance"] = json.dumps(record | {"n_inputs": 8})
    assert parts.differences(parts.of(result), parts.of(other)) == ["attrs: attrs"]


def test_trees_arrays_and_errors():
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"a": 1}), "/one": xr.Dataset({"v": ("p", [1.0, -0.0])})})
    other = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"a": 1}), "/one": xr.Dataset({"v": ("p", [1.0, 0.0])})})
    assert parts.differences(parts.of(tree), parts.of(other)) == ["/one/v: values"]
    assert parts.of(np.zeros(3)) != parts.of(np.zeros(3, np.float32))
    assert parts.of(np.zeros((2, 3))) != parts.of(np.zeros((3, 2)))

    def fail():
        raise fs.SizeError("too large")

    assert parts.of_call(fail) == {"<error>": "type=SizeError message=too large"}


def test_record_and_compare(tmp_path, capsys):
    file = tmp_path / "digests.json"
    assert run.main(["record", str(file), "--only", FEW]) == 0
    assert run.main(["compare", str(file), "--only", FEW]) == 0
    assert "no difference" in capsys.readouterr().out
    record = json.loads(file.read_text())
    assert len(record["calls"]) >= 8
    first, second, *_ = record["calls"]
    record["calls"][first]["type"] = "type=Dataset"
    del record["calls"][second]
    file.write_text(json.dumps(record))
    assert run.main(["compare", str(file), "--only", FEW]) == 1
    said = capsys.readouterr().out
    assert f"different  {first}\n           - type: type" in said
    assert f"new        {second}" in said


def test_every_public_function_is_called(tmp_path):
    """A function of (model, x) stands in the table; all others are called by name."""
    keys = {key.split("|")[0] for key, _ in run.calls(tmp_path, False)}
    for prefix, module in (("", fs), ("applications.", fs.applications), ("training.", fs.training)):
        functions = {f"{prefix}{name}" for name in module.__all__ if inspect.isfunction(getattr(module, name))}
        assert functions <= keys
