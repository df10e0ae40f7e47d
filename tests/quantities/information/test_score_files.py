"""Accumulated scores written to files and read again, and files that are damaged."""

from __future__ import annotations

import json
import os
import pickle
import sys

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.core.errors import MissingExtra

safetensors = pytest.importorskip("safetensors")
numbers = pytest.importorskip("safetensors.numpy")


def accumulated(n_draws=None, n=7, seed=0):
    found = fs.ScoreAccumulator(n_draws=n_draws)
    lead = (n,) if n_draws is None else (n, n_draws)
    rng = np.random.default_rng(seed)
    found.update({"totals/w": rng.normal(size=(*lead, 2, 3)), "é b": rng.normal(size=lead)})
    return found


def bits(found):
    moments = found._moments
    return [one.tobytes() for one in [*(one for kept in moments.parameters for one in kept), *moments.totals]]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "scores.safetensors"


@pytest.mark.parametrize("n_draws", [None, 1, 4])
def test_it_returns_and_goes_on(n_draws, file):
    wanted = accumulated(n_draws)
    wanted.save(file)
    found = fs.ScoreAccumulator.load(str(file))
    assert (found.shapes, found.n_draws, found.n_inputs) == (wanted.shapes, n_draws, 7)
    assert list(found.shapes) == list(wanted.shapes)
    assert bits(found) == bits(wanted)
    for one in (found, wanted):
        one.merge(accumulated(n_draws, seed=1))
        lead = (3,) if n_draws is None else (3, n_draws)
        one.update({"é b": np.ones(lead), "totals/w": np.ones((*lead, 2, 3))})
    xr.testing.assert_identical(found.result(), wanted.result())


@pytest.mark.parametrize("shapes", [None, {"w": (2,)}])
def test_an_empty_one_returns(shapes, file):
    fs.ScoreAccumulator(shapes, n_draws=3).save(file)
    found = fs.ScoreAccumulator.load(file)
    assert (found.shapes, found.n_draws, found.n_inputs) == (shapes, 3, 0)
    found.update({"w": np.ones((4, 3, 2))})
    assert found.n_inputs == 4


def test_other_programs_read_the_tensors(file):
    found = accumulated(4)
    found.save(file)
    tensors = numbers.load_file(file)
    assert {name: one.shape for name, one in tensors.items()} == {
        "mean_square/totals/w": (2, 3),
        "squared_deviations/totals/w": (2, 3),
        "label_variances/totals/w": (2, 3),
        "mean_square/é b": (),
        "squared_deviations/é b": (),
        "label_variances/é b": (),
        "totals/mean_square": (2,),
        "totals/squared_deviations": (2, 2),
        "totals/label_variances": (2, 2),
    }
    assert np.array_equal(tensors["mean_square/totals/w"], found.result()["parameters/totals/w"].mean_square)


def test_an_earlier_file_is_replaced_and_another_is_not(tmp_path):
    file = tmp_path / "scores"
    accumulated().save(file)
    accumulated(2).save(file)
    assert fs.ScoreAccumulator.load(file).n_draws == 2
    model = tmp_path / "network"
    fs.MLP.random([2, 1], activation=[], family=fs.families.Poisson(), rng=0).save(model)
    before = model.read_bytes()
    with pytest.raises(
        ValueError, match=r"`path` must be a new file or one that `ScoreAccumulator.save` wrote, .* another file;"
    ):
        accumulated().save(model)
    assert model.read_bytes() == before
    with pytest.raises(ValueError, match=r"`path` must be a new file or one that `MLP.save` wrote"):
        fs.MLP.load(model).save(file)
    with pytest.raises(ValueError, match=r"it does not hold scores of this package\); save the scores again"):
        fs.ScoreAccumulator.load(model)
    with pytest.raises(
        ValueError, match=r"`path` must be a file that `ScoreAccumulator.save` wrote, got .*, which does not exist"
    ):
        fs.ScoreAccumulator.load(tmp_path / "missing")
    assert sorted(os.listdir(tmp_path)) == ["network", "scores"]


def test_without_the_library(file, monkeypatch):
    accumulated().save(file)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: accumulated().save(file), lambda: fs.ScoreAccumulator.load(file)):
        with pytest.raises(MissingExtra, match=r"pip install 'fisherstats\[interop\]'"):
            call()


# --- damaged files ------------------------------------------------------------------------------------------------------


def parts(file):
    accumulated().save(file)
    with safetensors.safe_open(str(file), framework="numpy") as stream:
        metadata = stream.metadata()
    return numbers.load_file(file), json.loads(metadata["scores"])


def rewrite(file, tensors, described, form="fisherstats scores 1", text=None):
    text = json.dumps(described) if text is None else text
    numbers.save_file(tensors, str(file), metadata={"format": form, "scores": text})


def refused(file):
    with pytest.raises(
        ValueError, match=r"^`path` must be a file that `ScoreAccumulator.save` wrote, got .* \(.+\); save the scores again"
    ) as caught:
        fs.ScoreAccumulator.load(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_cut_anywhere_or_with_a_changed_byte(file):
    wanted = accumulated()
    wanted.save(file)
    whole = file.read_bytes()
    for cut in [0, 1, 7, 8, 9, *range(10, len(whole), 37), len(whole) - 1]:
        file.write_bytes(whole[:cut])
        refused(file)
    for place in [*range(0, len(whole), 23), len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        file.write_bytes(bytes(changed))
        try:
            # Some bytes name what the digest does not cover: the version of the package.
            found = fs.ScoreAccumulator.load(file)
        except ValueError:
            refused(file)
        else:
            assert bits(found) == bits(wanted)
    for content in (whole + b"more", pickle.dumps(3), b"\x00" * 64, b"{}"):
        file.write_bytes(content)
        refused(file)


@pytest.mark.parametrize(
    ("tensor", "value", "reason"),
    [
        ("mean_square/é b", np.ones(()), "its numbers are not those that were saved"),
        ("mean_square/é b", np.ones(1), "is F64 of shape (1,) instead of F64 of ()"),
        ("totals/mean_square", np.ones(2, np.float32), "is F32 of shape (2,) instead of F64 of (2,)"),
        ("totals/mean_square", None, "it holds the tensors"),
        ("more", np.ones(1), "it holds the tensors"),
    ],
)
def test_other_tensors(file, tensor, value, reason):
    tensors, described = parts(file)
    tensors.pop(tensor, None)
    if value is not None:
        tensors[tensor] = value
    rewrite(file, tensors, described)
    assert reason in refused(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_inputs": -1}, "it has -1 inputs with None draws"),
        ({"n_inputs": True}, "'n_inputs' of the accumulated scores is True instead of a int"),
        ({"n_inputs": 8}, "its numbers are not those that were saved"),
        ({"n_draws": 0}, "it has 7 inputs with 0 draws"),
        ({"n_draws": 2}, "it holds the tensors"),
        ({"shapes": None}, "it has 7 inputs"),
        ({"shapes": [["w"]]}, "instead of pairs of a name and a shape"),
        ({"shapes": [["w", [2]], ["w", [2]]]}, "its shapes have a name twice"),
        ({"shapes": [["w", [-2]]]}, "must be a tuple of positive integers"),
        ({"shapes": [["a//b", [2]]]}, "must have names such as"),
        ({"shapes": 3}, "'shapes' of the accumulated scores is 3"),
        ({"digest": "0"}, "its numbers are not those that were saved"),
        ({"more": 3}, "instead of ['digest', 'n_draws'"),
    ],
    ids=repr,
)
def test_other_descriptions(file, change, reason):
    tensors, described = parts(file)
    rewrite(file, tensors, described | change)
    assert reason in refused(file)


def test_other_formats(file):
    tensors, described = parts(file)
    rewrite(file, tensors, described, "fisherstats scores 2")
    assert "it has the format 'fisherstats scores 2', and this version of the package reads 'fisherstats scores 1'" in refused(
        file
    )
    accumulated().save(file)  # a file of a later version is one of this package
    rewrite(file, tensors, None, text='{"n_inputs": NaN}')
    assert "the description has the number NaN" in refused(file)
