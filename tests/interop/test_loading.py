"""Weights of networks of this package go back into modules, through folds of batch normalisation."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import from_torch, load_into
from tests.interop.torch_cases import random_module, settle

torch = pytest.importorskip("torch")
nn = torch.nn
GAUSSIAN = fs.families.Gaussian


@pytest.mark.parametrize("seed", range(30))
def test_outputs_are_those_of_the_network(seed):
    module, n_in = random_module(torch, seed, all_biases=True)
    x = torch.randn(9, n_in, dtype=torch.float64)
    model = from_torch(module, family=GAUSSIAN(module(x).shape[1]))
    rng = np.random.default_rng(seed)
    other = model.with_weights([weight + 0.3 * rng.normal(size=weight.shape) for weight in model.weights])
    statistics = {name: one.clone() for name, one in module.named_buffers()}
    assert load_into(module, other) is module
    np.testing.assert_allclose(module(x).detach().numpy(), other.natural_parameters(x.numpy()), rtol=1e-10, atol=1e-10)
    assert all(torch.equal(one, statistics[name]) for name, one in module.named_buffers())
    again = from_torch(module, family=other.family)
    for one, wanted in zip(again.weights, other.weights, strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-10, atol=1e-12)


def test_a_layer_without_bias_before_a_normalisation():
    module = settle(torch, nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double())
    model = from_torch(module, family=GAUSSIAN(2))
    other = model.with_weights([weight + 0.25 for weight in model.weights])
    gamma = module[1].weight.clone()
    load_into(module, other)
    x = torch.randn(6, 3, dtype=torch.float64)
    np.testing.assert_allclose(module(x).detach().numpy(), other.natural_parameters(x.numpy()), rtol=1e-12)
    assert torch.equal(gamma, module[1].weight)


def test_training_and_back():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    model = from_torch(module, loss=nn.CrossEntropyLoss())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    adam = fs.training.Adam(0.01)
    trained = fs.training.fit(model, x, np.arange(40) % 2, optimizer=adam, epochs=2, batch_size=10, rng=0).model
    load_into(module, trained)
    np.testing.assert_allclose(module(torch.as_tensor(x)).detach().numpy(), trained.natural_parameters(x), rtol=1e-12, atol=1e-14)


def test_what_cannot_hold_the_weights():
    module = settle(torch, nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 2)).double())
    model = from_torch(module, family=GAUSSIAN(2))
    with pytest.raises(ValueError, match="`model` must have the activations of `source`, got <Activation relu>"):
        load_into(module, fs.MLP(model.weights, activation="relu", family=GAUSSIAN(2)))
    with pytest.raises(TypeError, match=r"`model` must be a fisherstats.MLP"):
        load_into(module, module)
    before = {name: one.clone() for name, one in module.state_dict().items()}
    with torch.no_grad():
        module[2].weight[1] = 0
    with pytest.raises(ValueError, match=r"`source` must have a gamma other than 0 .+ got 0 for unit 1 at `2`"):
        load_into(module, model)
    changed = [name for name, one in module.state_dict().items() if not torch.equal(one, before[name])]
    assert changed == ["2.weight"]
    bare = settle(torch, nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)).double())
    model = from_torch(bare, family=GAUSSIAN(2))
    load_into(bare, model)
    with pytest.raises(ValueError, match="`source` must have a bias, or a batch normalisation with beta"):
        load_into(bare, model.with_weights([weight + 1 for weight in model.weights]))
