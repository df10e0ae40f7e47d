"""Networks written to files and read again, and files that are damaged in every way that we know."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.core.errors import MissingExtra
from tests.without_bias import CASES, Pair

safetensors = pytest.importorskip("safetensors")
numbers = pytest.importorskip("safetensors.numpy")

F, A = fs.families, fs.activations
FAMILIES = [
    F.Gaussian(2, covariance=[[1.3, -0.5], [-0.5, 0.6]]),
    F.Gaussian(2, covariance=[0.1, 2.0]),
    F.Gaussian(2, covariance=0.3),
    F.Categorical(3),
    F.Categorical(3, minimal=True),
    F.Bernoulli(2),
    F.Binomial(5, 2),
    F.Poisson(3),
    F.NegativeBinomial(2.5, 2),
    F.Geometric(2),
    F.Multinomial(4, 3),
    F.Dirichlet(3),
    F.Exponential(),
    F.Gamma(1.5, 2),
    F.GammaShapeRate(),
    F.GaussianMeanVariance(),
    F.InverseGaussian(0.7),
    F.Laplace(0.25, 2),
    F.Weibull(1.25),
    F.Product([F.Bernoulli(), F.Product([F.Categorical(2), F.Gamma(0.1)])]),
]
ACTIVATIONS = [*map(A.get, A.NAMES), A.CELU(0.1), A.ELU(0.3), A.HardTanh(-0.1, 7), A.LeakyReLU(0.7), A.Softplus(3.1)]
ACTIVATIONS += [A.SmoothedReLU(0.1, 0.3)]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "network.safetensors"


def returned(model, file):
    model.save(file)
    found = fs.MLP.load(file)
    assert found == model
    assert found.fingerprint == model.fingerprint
    assert repr(found) == repr(model)
    assert (found.bias, found.activations, found.feature_names, found.output_names, found.dtype) == (
        model.bias,
        model.activations,
        model.feature_names,
        model.output_names,
        model.dtype,
    )
    for own, wanted in zip(found.weights, model.weights, strict=True):
        assert own.tobytes() == wanted.tobytes()
        assert not own.flags.writeable
    return found


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_every_family_returns(family, file):
    model = fs.MLP.random([3, 2, family.n_outputs], activation="tanh", family=family, rng=0)
    found = returned(model, file)
    assert type(found.family) is type(family)
    assert found.family.parameters() == family.parameters()
    h = model.natural_parameters(np.eye(3))
    assert np.array_equal(found.natural_parameters(np.eye(3)), h)


def test_every_family_of_the_package_is_tried():
    public = {one for one in vars(F).values() if isinstance(one, type) and issubclass(one, F.Family)}
    assert public - {F.Family, F.LogPartitionFamily} == {type(one) for one in FAMILIES}


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_every_activation_returns(activation, file):
    model = fs.MLP.random([2, 3, 3, 1], activation=[activation, "relu"], family=F.Poisson(), rng=0)
    assert type(returned(model, file).activations[0]) is type(activation)


@pytest.mark.parametrize("name", CASES)
def test_layers_without_bias_names_and_single_precision(name, file):
    model = Pair.named(name).bare
    named = model.named([f"a{number}é" for number in range(model.widths[0])], [f"{n}" for n in range(model.widths[-1])])
    for one in (model, named, named.as_dtype(np.dtype(np.float32))):
        returned(one, file)


def test_odd_numbers_return(file):
    weights = [np.array([[-0.0, 5e-324, 1.7976931348623157e308], [np.nextafter(1, 2), -1e-300, 0.1]])]
    returned(fs.MLP(weights, activation=[], family=F.Gaussian(2)), file)


def test_a_network_in_double_returns_as_itself(file):
    single = fs.MLP.random([2, 1], activation=[], family=F.Poisson(), rng=0).as_dtype(np.dtype(np.float32))
    single.in_double().save(file)
    found = fs.MLP.load(file)
    assert found.dtype == np.float64
    assert np.array_equal(found.weights[0], single.weights[0])


def test_other_programs_read_the_tensors(file):
    model = fs.MLP.random([3, 4, 2], activation="tanh", family=F.Categorical(2), rng=0, bias=[True, False])
    model.save(file)
    tensors = numbers.load_file(file)
    assert {name: one.shape for name, one in tensors.items()} == {
        "layers.0.weight": (4, 3),
        "layers.0.bias": (4,),
        "layers.1.weight": (2, 4),
    }
    assert np.array_equal(tensors["layers.0.bias"], model.weights[0][:, -1])
    assert b"pickle" not in file.read_bytes()


def test_an_earlier_file_is_replaced_and_another_is_not(tmp_path):
    first, second = (fs.MLP.random([2, 1], activation=[], family=F.Poisson(), rng=rng) for rng in (0, 1))
    file = tmp_path / "network"
    first.save(file)
    second.save(str(file))
    assert fs.MLP.load(str(file)) == second
    others = {"text": b"mine", "pickle": pickle.dumps([1]), "foreign": numbers.save({"a": np.ones(2)}), "empty": b""}
    for name, content in others.items():
        place = tmp_path / name
        place.write_bytes(content)
        with pytest.raises(ValueError, match=r"`path` must be a new file or one that `MLP.save` wrote, .* another file;"):
            first.save(place)
        assert place.read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "network"])


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    model = fs.MLP.random([2, 1], activation=[], family=F.Poisson(), rng=0)
    model.save(tmp_path / "network")
    before = (tmp_path / "network").read_bytes()

    def broken(tensors, name, metadata):
        with open(name, "wb") as stream:
            stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numbers, "save_file", broken)
    for place in (tmp_path / "network", tmp_path / "new"):
        with pytest.raises(OSError, match="`path` could not be written, No space left on device; no partial file is left"):
            model.with_weights([2 * one for one in model.weights]).save(place)
    assert os.listdir(tmp_path) == ["network"]
    assert (tmp_path / "network").read_bytes() == before


@pytest.mark.parametrize("place", ["", "missing/network"])
def test_places_that_cannot_be_written(tmp_path, place):
    model = fs.MLP.random([2, 1], activation=[], family=F.Poisson(), rng=0)
    with pytest.raises(ValueError, match=r"`path` must be (that of a file|in a writeable folder)"):
        model.save(tmp_path / place)
    with pytest.raises(
        ValueError, match=r"`path` must be a file that `MLP.save` wrote, got .*, which (is no file|does not exist)\."
    ):
        fs.MLP.load(tmp_path / place)
    with pytest.raises(TypeError, match=r"`path` must be the path of a file, got 3\."):
        model.save(3)


def test_what_users_define_is_refused(file):
    own = A.Activation("own", A.get("sin").formula, sup_first=1.0, sup_second=1.0)
    disguised = A.Activation("tanh", A.get("sin").formula, sup_first=1.0, sup_second=1.0)
    for one in (own, disguised):
        model = fs.MLP.random([2, 2, 1], activation=one, family=F.Poisson(), rng=0)
        with pytest.raises(ValueError, match=f"`MLP.save` writes .* got the activation '{one.name}' with functions of its own"):
            model.save(file)

    class Mine(F.Poisson):
        """A family of a user."""

    for family in (Mine(), F.Product([Mine(), F.Bernoulli()])):
        model = fs.MLP.random([2, family.n_outputs], activation=[], family=family, rng=0)
        with pytest.raises(ValueError, match=r"`MLP.save` writes .* got the family '(poisson|product)' with functions"):
            model.save(file)
    assert not file.exists()


def test_without_the_library(file, monkeypatch):
    model = fs.MLP.random([2, 1], activation=[], family=F.Poisson(), rng=0)
    model.save(file)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: model.save(file), lambda: fs.MLP.load(file)):
        with pytest.raises(MissingExtra, match=r"pip install 'fisherstats\[interop\]'"):
            call()


# --- damaged files ------------------------------------------------------------------------------------------------------

MODEL = fs.MLP.random([2, 3, 2], activation=["leaky_relu"], family=F.Gaussian(2), rng=0, bias=[True, False])


def parts(file):
    MODEL.save(file)
    with safetensors.safe_open(str(file), framework="numpy") as stream:
        metadata = stream.metadata()
    return numbers.load_file(file), json.loads(metadata["network"])


def rewrite(file, tensors, described, form="fisherstats network 1", text=None):
    text = json.dumps(described) if text is None else text
    numbers.save_file(tensors, str(file), metadata={"format": form, "network": text})


def refused(file):
    with pytest.raises(
        ValueError, match=r"^`path` must be a file that `MLP.save` wrote, got .* \(.+\); save the network again"
    ) as caught:
        fs.MLP.load(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_cut_anywhere_or_with_a_changed_byte(file):
    MODEL.save(file)
    whole = file.read_bytes()
    for cut in [0, 1, 7, 8, 9, *range(10, len(whole), 37), len(whole) - 1]:
        file.write_bytes(whole[:cut])
        refused(file)
    for place in [*range(0, len(whole), 23), len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        file.write_bytes(bytes(changed))
        try:
            # Some bytes name what the fingerprint does not cover: the version of the package that wrote the file.
            assert fs.MLP.load(file) == MODEL
        except ValueError:
            refused(file)
    file.write_bytes(whole + b"more")
    refused(file)


@pytest.mark.parametrize(
    ("tensor", "value", "reason"),
    [
        ("layers.0.weight", np.full((3, 2), np.nan), "must be finite"),
        ("layers.0.bias", np.array([0, np.inf, 0]), "must be finite"),
        ("layers.0.weight", np.ones((3, 2), np.float16), "has the type F16 instead of F32 or F64"),
        ("layers.0.weight", np.ones((3, 2), np.int64), "has the type I64 instead of F32 or F64"),
        ("layers.0.weight", np.ones((3, 2)), "its numbers are not those that were saved"),
        ("layers.0.weight", np.ones((2, 3)), "got shape"),
        ("layers.0.weight", np.ones(6), "must be a matrix"),
        ("layers.0.weight", np.ones((0, 2)), "must have shape"),
        ("layers.1.bias", np.ones(2), "it holds the tensors"),
        ("layers.0.bias", None, "it holds the tensors"),
        ("layers.1.weight", None, "it holds the tensors"),
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
        ({"bias": []}, "it holds the tensors"),
        ({"bias": True}, "'bias' of the network is True instead of a list"),
        ({"bias": [1, 0]}, "'bias' of the network is [1, 0] instead of a list of true and false"),
        ({"bias": None}, "'bias' of the network is None instead of a list"),
        ({"activations": []}, "`activation` must name one activation"),
        ({"activations": ["tanh"]}, "an activation is 'tanh' instead of a name and parameters"),
        ({"activations": [{"name": "posh", "parameters": {}}]}, "has the activation 'posh', which this version"),
        ({"activations": [{"name": "tanh", "parameters": {"slope": 1.0}}]}, "the activation 'tanh' has the parameters"),
        ({"activations": [{"name": "leaky_relu", "parameters": {"slope": -1}}]}, "`slope` must be a finite number above 0"),
        ({"activations": [{"name": "leaky_relu", "parameters": {"lower": 1}}]}, "TypeError"),
        ({"activations": [{"name": "leaky_relu", "parameters": [1]}]}, "the activation 'leaky_relu' has the parameters"),
        ({"activations": [{"name": ["x"], "parameters": {}}]}, "an activation is"),
        ({"family": {"name": "poisson", "n_outputs": 2}}, "its numbers are not those that were saved"),
        ({"family": {"name": "gaussian", "n_outputs": 2}}, "its family 'gaussian' has no 'covariance'"),
        ({"family": {"name": "gaussian", "n_outputs": 2, "covariance": -1}}, "`covariance`"),
        ({"family": {"name": "gaussian", "n_outputs": 2, "covariance": 1.0, "more": 1}}, "has the parameters"),
        ({"family": {"name": "os.system", "n_outputs": 2}}, "has the family 'os.system', which this version"),
        ({"family": {"name": "product", "n_outputs": 2, "families": {}}}, "the families of a product are"),
        ({"family": {"name": "product", "n_outputs": 2, "families": [3]}}, "a family is 3 instead of"),
        ({"family": {"name": "product", "n_outputs": 2, "families": []}}, "families"),
        ({"family": {}}, "a family is"),
        ({"family": []}, "'family' of the network is"),
        ({"feature_names": ["a"]}, "`feature_names` must hold 2 different names"),
        ({"feature_names": "ab"}, "'feature_names' of the network is"),
        ({"feature_names": ["a", 3]}, "`feature_names` must be a list of 2 names"),
        ({"output_names": ["a", "b"]}, "its numbers are not those that were saved"),
        ({"fingerprint": "0" * 64}, "its numbers are not those that were saved"),
        ({"fingerprint": 3}, "'fingerprint' of the network is 3 instead of a str"),
        ({"more": 3}, "instead of ['activations', 'bias'"),
    ],
    ids=repr,
)
def test_other_descriptions(file, change, reason):
    tensors, described = parts(file)
    rewrite(file, tensors, described | change)
    assert reason in refused(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "has 'list' instead of"),
        ("[" * 100_000, "is not JSON, RecursionError"),
        ('{"bias": NaN}', "has the number NaN"),
        ('{"bias": [], "bias": []}', "has a name twice"),
        ('{"bias": ' + "9" * 5000 + "}", "is not JSON"),
    ],
    ids=lambda text: text[:20],
)
def test_descriptions_that_are_no_description(file, text, reason):
    tensors, _ = parts(file)
    rewrite(file, tensors, None, text=text)
    assert reason in refused(file)


def test_other_formats(file):
    tensors, described = parts(file)
    rewrite(file, tensors, described, "fisherstats network 2")
    assert "it has the format 'fisherstats network 2', and this version of the package reads 'fisherstats network 1'" in refused(
        file
    )
    MODEL.save(file)  # a file of a later version is one of this package
    rewrite(file, tensors, described, "pt")
    assert "it does not hold a network of this package" in refused(file)
    for content in (numbers.save(tensors), pickle.dumps(MODEL), b"\x00" * 64, struct.pack("<Q", 2**62) + b"{}", b"{}"):
        file.write_bytes(content)
        refused(file)
    numbers.save_file(tensors, str(file), metadata={"format": "fisherstats network 1"})
    assert "the description of the network is missing" in refused(file)
