"""Networks read from Keras give its predictions."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import (
    from_keras,
    from_torch,
    load_into,
    read_safetensors,
    to_safetensors,
    to_torch,
    unfolded_information,
)
from tests.refusals import pattern

pytest.importorskip("torch")
keras = pytest.importorskip("keras")
layers = keras.layers
GAUSSIAN = fs.families.Gaussian


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(9, 4))


def built(*steps, n_in=4):
    model = keras.Sequential([keras.Input((n_in,)), *[one() for one in steps]])
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(rng.normal(size=variable.shape))
    for layer in model.layers:
        if hasattr(layer, "moving_variance"):
            layer.moving_variance.assign(rng.uniform(0.5, 2.0, size=layer.moving_variance.shape))
    return model


def close(found, model, x):
    """Compare with Keras, which computes products in single precision with the backend of torch whatever the dtype."""
    wanted = model(x, training=False).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6 * max(1, np.abs(wanted).max()))


ACTIVATIONS = [
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "softsign",
    "tanh",
    "sigmoid",
    "log_sigmoid",
]
ACTIVATIONS += [
    name
    for name, own in (("relu6", "relu6"), ("hard_silu", "hard_swish"), ("hard_sigmoid", "hard_sigmoid"))
    if own in fs.activations.NAMES
]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(x, name):
    model = built(lambda: layers.Dense(6, activation=name), lambda: layers.Dense(3))
    found = from_keras(model, family=GAUSSIAN(3)).natural_parameters(x)
    close(found, model, x)


LAYERS = [lambda: layers.ReLU(), lambda: layers.LeakyReLU(0.25), lambda: layers.ELU(0.5), lambda: layers.Activation("tanh")]


@pytest.mark.parametrize("make", LAYERS)
def test_layers_and_normalisations(x, make):
    model = built(
        layers.BatchNormalization,
        lambda: layers.Dense(5),
        lambda: layers.BatchNormalization(scale=False),
        make,
        lambda: layers.Dropout(0.5),
        lambda: layers.Dense(4),
        make,
        layers.BatchNormalization,
        lambda: layers.Dense(3, activation="softmax"),
    )
    found = from_keras(model)
    close(found.family.mean(found.natural_parameters(x)), model, x)


def test_functional_models_and_flatten(x):
    inputs = keras.Input((2, 2))
    outputs = layers.Dense(2)(layers.Dense(3, activation="tanh")(layers.Flatten()(inputs)))
    model = keras.Model(inputs, outputs)
    found = from_keras(model, family=GAUSSIAN(2))
    assert found.dtype == np.float32
    close(found.natural_parameters(x), model, x.reshape(-1, 2, 2))


def test_results_under_the_names_of_keras(x, tmp_path):
    model = built(
        lambda: layers.Dense(5, name="hidden"),
        lambda: layers.BatchNormalization(name="norm"),
        lambda: layers.Dense(3, name="out"),
    )
    network = from_keras(model, family=GAUSSIAN(3))
    exact = unfolded_information(network, model, x)
    to_safetensors(exact, tmp_path / "fisher.safetensors", model)
    found = read_safetensors(tmp_path / "fisher.safetensors")
    assert set(found.values) == {"hidden/kernel", "hidden/bias", "norm/gamma", "norm/beta", "out/kernel", "out/bias"}
    assert found.values["hidden/kernel"].shape == (4, 5)
    np.testing.assert_array_equal(found.values["norm/gamma"], exact.values["norm/gamma"])


LOSSES = [
    ("softmax", "sparse_categorical_crossentropy", fs.families.Categorical(3)),
    ("linear", keras.losses.SparseCategoricalCrossentropy(from_logits=True), fs.families.Categorical(3)),
    ("sigmoid", "binary_crossentropy", fs.families.Bernoulli(3)),
    ("linear", keras.losses.BinaryCrossentropy(from_logits=True), fs.families.Bernoulli(3)),
    ("linear", "mse", GAUSSIAN(3)),
    ("exponential", "poisson", fs.families.Poisson(3)),
]


@pytest.mark.parametrize(("end", "loss", "family"), LOSSES)
@pytest.mark.parametrize("compiled", [True, False])
def test_the_family(x, end, loss, family, compiled):
    model = built(lambda: layers.Dense(3, activation=end))
    if compiled:
        model.compile(loss=loss)
    found = from_keras(model) if compiled else from_keras(model, loss=loss)
    assert found.family == family
    if end != "linear":
        close(found.family.mean(found.natural_parameters(x)), model, x)


def branching():
    inputs = keras.Input((4,))
    one = layers.Dense(4)(inputs)
    return keras.Model(inputs, layers.Add()([one, inputs]))


REFUSED = [
    (lambda: None, {}, TypeError, "`model` must be a keras.Sequential or a keras.Model of layers in one chain, got None"),
    (lambda: keras.Sequential([layers.Dense(2)]), {}, TypeError, "`model` must be built"),
    (lambda: built(lambda: layers.Dense(3)), {}, ValueError, "`family` must be said"),
    (lambda: built(lambda: layers.Dense(3)), {"loss": "mae"}, ValueError, "`loss` must be one of 'sparse_categorical"),
    (
        lambda: built(lambda: layers.Dense(3)),
        {"loss": "binary_crossentropy"},
        ValueError,
        "`loss` must fit the end of the network",
    ),
    (
        lambda: built(lambda: layers.Dense(3)),
        {"loss": keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)},
        ValueError,
        "`loss` must be the negative log-likelihood of a label",
    ),
    (
        lambda: built(lambda: layers.Dense(3), layers.LayerNormalization),
        {},
        ValueError,
        "`model` must be a chain .+, got a layer LayerN",
    ),
    (
        lambda: built(lambda: layers.Dense(3, activation=lambda z: z**2)),
        {},
        ValueError,
        "`model` must be a chain .+, got the activation",
    ),
    (branching, {}, ValueError, "`model` must be a chain .+, got a layer with other inputs than the layer before"),
]


@pytest.mark.parametrize(("make", "given", "error", "message"), REFUSED)
def test_what_is_refused(make, given, error, message):
    with pytest.raises(error, match=pattern(message)):
        from_keras(make(), **given)


def test_it_is_no_module_of_torch():
    model = built(lambda: layers.Dense(3))
    network = from_keras(model, family=GAUSSIAN(3))
    for call in (
        lambda: from_torch(model, family=GAUSSIAN(3)),
        lambda: to_torch(fs.fisher_information(network, np.ones((2, 4), np.float32)), model),
    ):
        with pytest.raises(
            TypeError, match=r"`module` must be a torch\.nn\.Module of one's own layers, got the Keras model Sequential"
        ):
            call()


@pytest.mark.parametrize(
    "steps",
    [
        [lambda: layers.Dense(5, activation="tanh"), lambda: layers.Dense(3)],
        [lambda: layers.Dense(5), lambda: layers.BatchNormalization(), lambda: layers.ReLU(), lambda: layers.Dense(3)],
        [lambda: layers.BatchNormalization(), lambda: layers.Dense(5, activation="gelu"), lambda: layers.Dense(3)],
        [
            lambda: layers.Dense(5, use_bias=False),
            lambda: layers.BatchNormalization(),
            lambda: layers.Activation("tanh"),
            lambda: layers.Dense(3),
        ],
    ],
    ids=["plain", "after", "before", "without bias"],
)
def test_weights_go_back_into_the_model(steps, x):
    keras_model = built(*steps)
    model = from_keras(keras_model, family=GAUSSIAN(3))
    rng = np.random.default_rng(2)
    other = model.with_weights([one + (0.3 * rng.normal(size=one.shape)).astype(one.dtype) for one in model.weights])
    assert load_into(keras_model, other) is keras_model
    found = np.asarray(keras_model(x.astype(np.float32)).detach())
    np.testing.assert_allclose(found, other.natural_parameters(x.astype(np.float32)), rtol=2e-4, atol=2e-4)
    again = from_keras(keras_model, family=GAUSSIAN(3))
    for one, wanted in zip(again.weights, other.weights, strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="`model` must have the layers of `source`"):
        load_into(keras_model, fs.MLP.random([4, 6, 3], activation="tanh", family=GAUSSIAN(3), rng=0))
