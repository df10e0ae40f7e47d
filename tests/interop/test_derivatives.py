"""Modules and functions of any architecture by their derivatives, against per-example gradients of the libraries themselves."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import external_from_torch, from_jax, from_torch

F = fs.families
RNG = np.random.default_rng(0)
IMAGES, SERIES, TOKENS = RNG.normal(size=(12, 1, 5, 5)), RNG.normal(size=(10, 6, 3)), RNG.integers(0, 7, size=(9, 5))


def modules(torch):
    nn = torch.nn

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)
            self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
            self.hidden = nn.Linear(75, 6)
            self.out = nn.Linear(6, 3)

        def forward(self, x):
            h = torch.relu(self.norm(self.first(x)))
            h = h + torch.tanh(self.second(h))
            return self.out(torch.tanh(self.hidden(h.flatten(1))))

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRU(3, 4, batch_first=True)
            self.out = nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.cell(x)[0][:, -1])

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
            self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.out = nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.blocks(self.embed(x.long())).mean(1))

    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag = nn.EmbeddingBag(7, 4)
            self.out = nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.bag(x.long()))

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(5, 5)
            self.two = nn.Linear(5, 5)
            self.two.weight = self.one.weight
            self.out = nn.Linear(5, 3)

        def forward(self, x):
            return self.out(torch.tanh(self.two(torch.tanh(self.one(x.flatten(1)[:, :5])))))

    torch.manual_seed(0)
    found = {
        "residual": (Residual(), IMAGES, {"hidden.weight", "out.weight"}),
        "recurrent": (Recurrent(), SERIES, {"out.weight"}),
        "transformer": (Transformer(), TOKENS, {"out.weight"}),
        "bag": (Bag(), TOKENS, {"out.weight"}),
        "tied": (Tied(), IMAGES, {"out.weight"}),
    }
    norm = found["residual"][0].norm
    with torch.no_grad():
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    return {name: (module.double().eval(), x, factored) for name, (module, x, factored) in found.items()}


def by_gradients(torch, module, x) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact diagonal, and the variance of its estimate with one label per input, by all labels of all inputs."""
    parameters = list(module.parameters())
    mean = variance = 0.0
    for one in x:
        log_prob = torch.log_softmax(module(torch.tensor(one)[None])[0], 0)
        squares = []
        for value in log_prob:
            grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            parts = [np.zeros(p.numel()) if g is None else g.numpy().ravel() for g, p in zip(grads, parameters, strict=True)]
            squares.append(np.square(np.concatenate(parts)))
        p = log_prob.detach().exp().numpy()
        first = p @ squares
        mean, variance = mean + first, variance + p @ np.square(squares) - np.square(first)
    return mean / len(x), variance / len(x) ** 2


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["residual", "recurrent", "transformer", "bag", "tied"])
def test_torch_modules(name):
    torch = pytest.importorskip("torch")
    module, x, factored = modules(torch)[name]
    diagonal, variance = by_gradients(torch, module, x)
    with_example = external_from_torch(module, F.Categorical(3), x[:2])
    assert {one.name for one in with_example.layers if one.factored} == factored
    for network in (with_example, external_from_torch(module, F.Categorical(3))):
        assert [(one.name, one.shape) for one in network.layers] == [
            (key, tuple(p.shape)) for key, p in module.named_parameters()
        ]
        found = fs.fisher_information(network, x)
        np.testing.assert_allclose(found, diagonal, rtol=1e-10, atol=1e-13 * diagonal.max())
        found = fs.estimator_variance(network, x, estimators=["score"]).variance.sel(estimator="score")
        np.testing.assert_allclose(found, variance, rtol=1e-10, atol=1e-13 * variance.max())


def test_what_is_no_perceptron_falls_through():
    torch = pytest.importorskip("torch")
    module, x, _ = modules(torch)["residual"]
    assert isinstance(from_torch(module, family=F.Categorical(3), example=x[:2]), fs.ExternalNetwork)
    with pytest.raises(ValueError, match="module"):
        from_torch(module, family=F.Categorical(3))
    perceptron = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
    assert isinstance(from_torch(perceptron, family=F.Categorical(3), example=np.zeros((1, 2))), fs.MLP)


def test_a_perceptron_by_its_derivatives_and_in_single_precision():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Softplus(), torch.nn.Linear(5, 2, bias=False))
    x = RNG.normal(size=(40, 4)).astype(np.float32)
    exact = fs.fisher_information(from_torch(module, family=F.Gaussian(2)), x)
    found = fs.fisher_information(external_from_torch(module, F.Gaussian(2), x[:1]), x)
    assert found.dtype == np.float32
    assert found.sum() == pytest.approx(float(exact.sum()), rel=1e-5)


def test_refusals_of_modules():
    torch = pytest.importorskip("torch")
    module, x, _ = modules(torch)["residual"]
    with pytest.raises(ValueError, match="must be in evaluation mode, got BatchNorm2d at norm"):
        external_from_torch(module.train(), F.Categorical(3))
    half = torch.nn.Linear(2, 2).half()
    with pytest.raises(ValueError, match="all float32 or all float64, got float16 for 'weight'"):
        external_from_torch(half, F.Categorical(2))
    network = external_from_torch(module.eval(), F.Categorical(2), x[:2])
    with pytest.raises(ValueError, match="must return h of shape"):
        fs.fisher_information(network, x)


def test_functions_of_jax():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    params = {
        "kernel": RNG.normal(size=(3, 3, 1, 2)).astype(np.float32),
        "dense": {"w": RNG.normal(size=(18, 3)).astype(np.float32), "b": np.zeros(3, np.float32)},
    }

    def apply(params, x):
        h = jax.lax.conv_general_dilated(x, params["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.tanh(h).reshape(len(x), -1) @ params["dense"]["w"] + params["dense"]["b"]

    x = RNG.normal(size=(15, 5, 5, 1)).astype(np.float32)
    network = from_jax(apply, params, F.Categorical(3))
    assert [(one.name, one.shape) for one in network.layers] == [
        ("dense.b", (3,)),
        ("dense.w", (18, 3)),
        ("kernel", (3, 3, 1, 2)),
    ]
    expected = 0.0
    for one in x:
        p = np.asarray(jax.nn.softmax(apply(params, one[None])[0]), np.float64)
        for label in range(3):
            grads = jax.grad(lambda params, one=one, label=label: jax.nn.log_softmax(apply(params, one[None])[0])[label])(params)
            flat = np.concatenate([np.asarray(g, np.float64).ravel() for g in jax.tree_util.tree_leaves(grads)])
            expected = expected + p[label] * np.square(flat) / len(x)
    np.testing.assert_allclose(fs.fisher_information(network, x), expected, rtol=1e-3, atol=1e-5 * expected.max())
