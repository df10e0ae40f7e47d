"""Checkpoints of safetensors give networks, and results are written under their names; damaged files are refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import from_safetensors, read_safetensors, to_safetensors
from tests.refusals import pattern

safetensors = pytest.importorskip("safetensors.numpy")
CATEGORICAL = fs.families.Categorical(3)
RNG = np.random.default_rng(0)
TORCH = {"0.weight": (5, 4), "0.bias": (5,), "2.weight": (6, 5), "2.bias": (6,), "10.weight": (3, 6), "10.bias": (3,)}
ARRAYS = {name: RNG.normal(size=shape) for name, shape in TORCH.items()}
X = RNG.normal(size=(20, 4))


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.save_file(ARRAYS, path)
    return path


def read(path, **given):
    return from_safetensors(path, activation="tanh", family=CATEGORICAL, **given)


def test_the_network(checkpoint, tmp_path):
    model = read(checkpoint)
    wanted = [np.column_stack([ARRAYS[f"{at}.weight"], ARRAYS[f"{at}.bias"]]) for at in (0, 2, 10)]
    assert all(np.array_equal(*pair) for pair in zip(model.weights, wanted, strict=True))
    flax = {f"params/Dense_{n}/kernel": np.ascontiguousarray(ARRAYS[f"{at}.weight"].T) for n, at in enumerate((0, 2, 10))}
    flax |= {f"params/Dense_{n}/bias": ARRAYS[f"{at}.bias"] for n, at in enumerate((0, 2, 10))}
    safetensors.save_file(flax, tmp_path / "flax.safetensors")
    assert read(tmp_path / "flax.safetensors") == model
    assert read(str(checkpoint), layers=["0", "2", "10"]) == model


@pytest.mark.parametrize("kind", ["exact", "estimate"])
def test_a_result_under_the_names_of_the_checkpoint(checkpoint, tmp_path, kind):
    model = read(checkpoint)
    if kind == "exact":
        result = fs.fisher_information(model, X)
    else:
        result = fs.estimate_fisher(model, X, estimator="score", n_draws=5, rng=0)
    path = tmp_path / "fisher.safetensors"
    to_safetensors(result, path, checkpoint)
    stored = safetensors.load_file(path)
    errors = kind == "estimate"
    assert set(stored) == set(ARRAYS) | ({f"{name}.standard_error" for name in ARRAYS} if errors else set())
    assert all(stored[name].shape == ARRAYS[name].shape for name in ARRAYS)
    found = read_safetensors(path)
    assert found.provenance == json.loads(result.attrs["provenance"])
    assert found.provenance["n_inputs"] == 20
    assert found.provenance["family"]["name"] == "categorical"
    rows = result.values[: 5 * 5].reshape(5, 5)
    np.testing.assert_array_equal(found.values["0.weight"], rows[:, :-1])
    np.testing.assert_array_equal(found.values["0.bias"], rows[:, -1])
    assert (found.standard_errors is None) == (not errors)
    if errors:
        np.testing.assert_array_equal(found.standard_errors["10.bias"], result.standard_error.values[-21:].reshape(3, 7)[:, -1])
    again = tmp_path / "again.safetensors"
    to_safetensors(found, again, checkpoint)
    assert {name: one.tobytes() for name, one in safetensors.load_file(again).items()} == {
        name: one.tobytes() for name, one in stored.items()
    }
    assert sorted(one.name for one in tmp_path.iterdir()) == ["again.safetensors", "fisher.safetensors", "model.safetensors"]


def test_two_writings_are_the_same_bytes(checkpoint, tmp_path):
    exact = fs.fisher_information(read(checkpoint), X)
    for name in "ab":
        to_safetensors(exact, tmp_path / name, checkpoint)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# --- damaged files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 4, 8, 40, 200, 600])
def test_truncated_files(checkpoint, size):
    checkpoint.write_bytes(checkpoint.read_bytes()[:size])
    for function in (read, read_safetensors):
        with pytest.raises(ValueError, match="`path` must be a readable safetensors file, got") as caught:
            function(checkpoint)
        assert str(caught.value).endswith("Pickled files are not opened.")


@pytest.mark.parametrize("at", range(0, 200, 7))
def test_flipped_bytes_of_the_header(checkpoint, at):
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
    with pytest.raises((ValueError, TypeError), match=r"^`"):
        read(checkpoint)


def test_pickles_are_not_opened(tmp_path):
    class Loud:
        def __reduce__(self):
            return print, ("unpickled",)

    path = tmp_path / "model.bin"
    path.write_bytes(pickle.dumps({"0.weight": Loud()}))
    with pytest.raises(ValueError, match="Pickled files are not opened"):
        read(path)


def changed(**more):
    return {name: one for name, one in (ARRAYS | more).items() if one is not None}


REFUSED = [
    (changed(**{"0.weight": None}), ValueError, "`path` must hold the kernels and biases of dense layers only, got '0.bias'"),
    (
        changed(**{"conv.weight": np.ones((3, 3, 1, 1))}),
        ValueError,
        "`conv.weight` must be the matrix of a dense layer, got shape",
    ),
    (changed(**{"1.running_mean": np.ones(5)}), ValueError, "`path` must hold the kernels .+, got '1.running_mean'"),
    (
        changed(**{"2.weight": None, "2.bias": None}),
        ValueError,
        "`path` must be a chain, got 6 inputs at 10 after 5 outputs at 0",
    ),
    (changed(**{"0.bias": np.ones(4)}), ValueError, "`0 (bias)` must have shape (5,) to go with its kernel, got shape (4,)"),
    (
        changed(**{"0.weight": np.ones((5, 4), np.float16)}),
        TypeError,
        "`0 (kernel)` must hold float32 or float64, got dtype float16",
    ),
    (changed(**{"0.weight": np.ones((5, 4), int)}), TypeError, "`0 (kernel)` must hold float32 or float64, got dtype int64"),
    (
        changed(**{"0.weight": np.full((5, 4), np.inf)}),
        ValueError,
        "`0 (kernel)` must hold finite numbers, got inf at index (0, 0)",
    ),
    ({"x": np.ones(3)}, ValueError, "`path` must hold the kernels .+, got 'x'"),
]


@pytest.mark.parametrize(("arrays", "error", "message"), REFUSED)
def test_other_tensors(tmp_path, arrays, error, message):
    safetensors.save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(error, match=pattern(message)):
        read(tmp_path / "model.safetensors")


def test_other_precisions(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    library.save_file({"0.weight": torch.ones(3, 2, dtype=torch.bfloat16)}, tmp_path / "half.safetensors")
    with pytest.raises((ValueError, TypeError), match=r"^`"):
        read(tmp_path / "half.safetensors")


def test_results_of_other_kinds(checkpoint, tmp_path):
    with pytest.raises(
        ValueError, match=r"`path` must be a file that `fisherstats.interop.to_safetensors` wrote, got .+its format is not"
    ):
        read_safetensors(checkpoint)
    with pytest.raises(ValueError, match=r"got .+ \(there is no file\)"):
        read_safetensors(tmp_path / "none")
    with pytest.raises(ValueError, match="`result` must hold one number for each of the"):
        to_safetensors(np.ones(3), tmp_path / "fisher", checkpoint)
    with pytest.raises(TypeError, match="`source` must be a module of torch, a model of Keras, a tree of parameters or the path"):
        to_safetensors(np.ones(3), tmp_path / "fisher", 3)
    assert not (tmp_path / "fisher").exists()
