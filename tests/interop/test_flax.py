"""Networks read from trees of Flax, NNX, Equinox and Haiku give their outputs, and results go back as trees."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import from_flax, load_into, to_flax
from tests.refusals import pattern

jax = pytest.importorskip("jax")
linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
equinox = pytest.importorskip("equinox")
numpy = jax.numpy
GAUSSIAN = fs.families.Gaussian
no_bias = pytest.mark.skipif(
    "bias" not in inspect.signature(fs.MLP.__init__).parameters, reason="this version has no layers without bias"
)


@pytest.fixture(autouse=True)
def double():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(7, 4))


class Linen(linen.Module):
    widths: tuple[int, ...]
    use_bias: bool = True

    @linen.compact
    def __call__(self, x):
        for width in self.widths[:-1]:
            x = linen.tanh(linen.Dense(width, param_dtype=float, use_bias=self.use_bias)(x))
        return linen.Dense(self.widths[-1], param_dtype=float)(x)


class NNX(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.hidden = nnx.Linear(4, 6, param_dtype=float, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.apart = nnx.Linear(6, 3, param_dtype=float, rngs=rngs)

    def __call__(self, x):
        return self.apart(jax.nn.silu(self.hidden(x)))


def close(model, x, wanted):
    np.testing.assert_allclose(model.natural_parameters(x), np.asarray(wanted), rtol=1e-12, atol=1e-12)


def test_linen(x):
    # Twelve layers of equal width: their order is that of the numbers, 2 before 10.
    module = Linen((4,) * 12)
    params = module.init(jax.random.key(0), x)
    params = jax.tree_util.tree_map(lambda one: one + 0.1, params)
    model = from_flax(params, activation="tanh", family=GAUSSIAN(4))
    close(model, x, module.apply(params, x))
    assert from_flax(params["params"], activation="tanh", family=GAUSSIAN(4)) == model
    host = jax.tree_util.tree_map(np.asarray, params)
    assert from_flax(host, activation="tanh", family=GAUSSIAN(4)) == model


def test_nnx(x):
    module = NNX()
    for given in (module, nnx.state(module), nnx.state(module, nnx.Param), nnx.to_pure_dict(nnx.state(module, nnx.Param))):
        close(from_flax(given, activation="silu", family=GAUSSIAN(3)), x, module(x))


def test_equinox(x):
    module = equinox.nn.MLP(4, 2, 5, 2, activation=jax.nn.softplus, key=jax.random.key(1), dtype=float)
    close(from_flax(module, activation="softplus", family=GAUSSIAN(2)), x, jax.vmap(module)(x))


def test_haiku(x):
    rng = np.random.default_rng(1)
    tree = {f"mlp/~/linear_{at}": {"w": rng.normal(size=s), "b": rng.normal(size=s[1])} for at, s in enumerate([(4, 3), (3, 2)])}
    wanted = np.tanh(x @ tree["mlp/~/linear_0"]["w"] + tree["mlp/~/linear_0"]["b"])
    close(
        from_flax(tree, activation="tanh", family=GAUSSIAN(2)),
        x,
        wanted @ tree["mlp/~/linear_1"]["w"] + tree["mlp/~/linear_1"]["b"],
    )


@no_bias
def test_layers_without_bias(x):
    module = Linen((5, 3, 2), use_bias=False)
    params = module.init(jax.random.key(0), x)
    close(from_flax(params, activation="tanh", family=GAUSSIAN(2)), x, module.apply(params, x))


def test_results_are_trees_of_the_same_structure(x):
    module = Linen((5, 3))
    params = module.init(jax.random.key(0), x)
    model = from_flax(params, activation="tanh", family=fs.families.Poisson(3))
    found = to_flax(fs.fisher_information(model, x), params)

    def outputs(given, row):
        return module.apply(given, row[None])[0]

    jacobian = jax.vmap(jax.jacrev(outputs), in_axes=(None, 0))(params, x)
    variance = numpy.exp(module.apply(params, x))
    wanted = jax.tree_util.tree_map(lambda J: numpy.einsum("na,na...->...", variance, J**2) / len(x), jacobian)
    assert jax.tree_util.tree_structure(found) == jax.tree_util.tree_structure(params)
    jax.tree_util.tree_map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-10), found, wanted)
    estimate = fs.estimate_fisher(model, x, estimator="score", n_draws=3, rng=0)
    errors = to_flax(estimate, params, "standard_errors")
    in_order = estimate.standard_error.values
    np.testing.assert_array_equal(errors["params"]["Dense_0"]["kernel"], in_order[: 5 * 5].reshape(5, 5)[:, :-1].T)
    np.testing.assert_array_equal(errors["params"]["Dense_1"]["bias"], in_order[5 * 5 :].reshape(3, 6)[:, -1])


def test_results_for_modules_keep_what_is_no_parameter(x):
    module = equinox.nn.MLP(4, 2, 5, 1, key=jax.random.key(1), dtype=float)
    model = from_flax(module, activation="relu", family=GAUSSIAN(2))
    found = to_flax(fs.fisher_information(model, x), module)
    assert found.activation is module.activation
    assert found.layers[0].weight.shape == (5, 4)
    np.testing.assert_allclose(found.layers[1].bias, [1.0, 1.0])


def test_weights_go_back(x):
    module = Linen((5, 3))
    params = module.init(jax.random.key(0), x)
    model = from_flax(params, activation="tanh", family=GAUSSIAN(3))
    other = model.with_weights([weight * 0.5 + 0.1 for weight in model.weights])
    loaded = load_into(params, other)
    close(other, x, module.apply(loaded, x))
    with pytest.raises(ValueError, match=r"`model` must have the layers of `source`, widths \(4, 5, 3\), got \(4, 3\)"):
        load_into(params, fs.MLP.random([4, 3], activation="tanh", family=GAUSSIAN(3), rng=0))


def dense(n_in, n_out):
    return {"kernel": np.ones((n_in, n_out)), "bias": np.zeros(n_out)}


REFUSED = [
    (lambda: Linen((3, 2)), TypeError, "`params` must be a tree of arrays: .+; a module of Linen holds no parameters"),
    (lambda: np.ones((3, 3)), TypeError, "`params` must be a tree of arrays"),
    (lambda: None, TypeError, "`params` must be a tree of arrays"),
    (lambda: {}, ValueError, "`params` must have at least one dense layer"),
    (
        lambda: {"a": {"kernel": np.array([[None]])}},
        TypeError,
        "`params` must be a tree of arrays: .+, which holds arrays of objects",
    ),
    (lambda: {"a": {"kernel": np.ones((3, 3, 1, 2))}}, ValueError, "`a.kernel` must be the matrix of a dense layer, got shape"),
    (
        lambda: {"a": {**dense(2, 3), "bias": np.ones(2)}},
        ValueError,
        "`a (bias)` must have shape (3,) to go with its kernel, got shape (2,)",
    ),
    (
        lambda: {"a": {**dense(2, 3), "kernel": np.full((2, 3), np.nan)}},
        ValueError,
        "`a (kernel)` must hold finite numbers, got nan",
    ),
    (lambda: {"a": {"kernel": np.ones((2, 3), int)}}, TypeError, "`a (kernel)` must hold float32 or float64, got dtype int64"),
    (
        lambda: {"a": dense(2, 3), "b": {"embedding": np.ones((3, 3))}},
        ValueError,
        "`params` must hold the kernels .+, got 'b.embedding'",
    ),
    (
        lambda: {"params": {"Dense_0": dense(2, 3), "BatchNorm_0": {"scale": np.ones(3), "bias": np.ones(3)}}},
        ValueError,
        "`params` must hold dense layers only, got 'params.BatchNorm_0.scale'",
    ),
    (
        lambda: {"a": dense(3, 3), "out": dense(3, 3)},
        ValueError,
        "`params` must tell the order .+, got 'a', 'out', which chain in several",
    ),
    (
        lambda: {"a": dense(3, 4), "out": dense(5, 2)},
        ValueError,
        "`params` must tell the order .+, which chain in no order that was found",
    ),
    (
        lambda: {"d_0": dense(3, 4), "d_1": dense(5, 3)},
        ValueError,
        "`params` must be a chain, got 5 inputs at d_1 after 4 outputs at d_0",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=pattern(message)):
        from_flax(make(), activation="tanh", family=GAUSSIAN(3))


def test_the_order_is_given():
    tree = {"out": dense(3, 3), "a": dense(3, 3)}
    tree["a"]["kernel"] = np.arange(9.0).reshape(3, 3)
    model = from_flax(tree, activation="tanh", family=GAUSSIAN(3), layers=["a", "out"])
    np.testing.assert_array_equal(model.kernels[0], tree["a"]["kernel"].T)
    with pytest.raises(ValueError, match=r"`layers` must hold 'out', 'a' in order, each once, got \['a'\]"):
        from_flax(tree, activation="tanh", family=GAUSSIAN(3), layers=["a"])
    with pytest.raises(TypeError, match="`family` must be a family object"):
        from_flax(tree, activation="tanh", family="gaussian")
