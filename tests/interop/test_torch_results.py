"""Results go back to the parameters of a module by name, through folds of batch normalisation exactly."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import from_torch, to_torch, torch_batches, unfolded_information
from tests.interop.torch_cases import owner_information, random_module, settle

torch = pytest.importorskip("torch")
nn = torch.nn


def family_for(seed, n_outputs):
    some = [fs.families.Gaussian, fs.families.Poisson, fs.families.Bernoulli, fs.families.Exponential]
    return fs.families.Categorical(n_outputs) if seed % 2 else some[seed // 2 % 4](n_outputs)


@pytest.mark.parametrize("seed", range(40))
def test_the_information_of_every_parameter(seed):
    module, n_in = random_module(torch, seed)
    x = torch.randn(13, n_in, dtype=torch.float64)
    n_outputs = module(x).shape[1]
    model = from_torch(module, family=family_for(seed, n_outputs))
    wanted = owner_information(torch, module, model, x)
    exact = unfolded_information(model, module, x.numpy())
    assert list(exact.values) == [name for name, _ in module.named_parameters()]
    found = to_torch(exact, module)
    for name, one in wanted.items():
        np.testing.assert_allclose(found[name].numpy(), one, rtol=1e-10, atol=1e-13 * max(1, one.max()), err_msg=name)
    if not any(isinstance(one, nn.BatchNorm1d) for one in module.modules()):
        diagonal = to_torch(fs.fisher_information(model, x.numpy()), module)
        for name, one in wanted.items():
            np.testing.assert_allclose(diagonal[name].numpy(), one, rtol=1e-10, atol=1e-13 * max(1, one.max()), err_msg=name)


def normalized():
    torch.manual_seed(5)
    layers = [nn.BatchNorm1d(3), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 3)]
    return settle(torch, nn.Sequential(*layers).double()), torch.randn(20, 3, dtype=torch.float64).numpy()


def test_the_score_estimate_is_that_of_the_folded_network_and_has_its_errors():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = np.random.default_rng(0).normal(size=(30, 3))
    model = from_torch(module, loss=nn.CrossEntropyLoss())
    estimate = fs.estimate_fisher(model, x, estimator="score", n_draws=6, rng=1)
    unfolded = unfolded_information(model, module, x, estimator="score", n_draws=6, rng=1)
    for what in ("values", "standard_errors"):
        one, other = to_torch(estimate, module, what), to_torch(unfolded, module, what)
        assert list(one) == list(module.state_dict())
        for name, values in one.items():
            assert values.shape == module.state_dict()[name].shape
            np.testing.assert_allclose(other[name].numpy(), values.numpy(), rtol=1e-10, err_msg=f"{what} {name}")


def test_the_errors_through_a_fold_are_those_of_repeated_draws():
    module, x = normalized()
    model = from_torch(module, loss=nn.CrossEntropyLoss())
    exact = unfolded_information(model, module, x)
    draws = [unfolded_information(model, module, x, estimator="score", n_draws=2, rng=seed) for seed in range(150)]
    for name, values in exact.values.items():
        errors = draws[0].standard_errors[name]
        estimates = np.array([one.values[name] for one in draws])
        z = (estimates.mean(axis=0) - values) / (errors / np.sqrt(len(draws)))
        assert np.abs(z).max() < 5, name
        ratio = estimates.var(axis=0, ddof=1) / errors**2
        assert (np.abs(ratio - 1) < 0.8).all(), name


def test_the_empirical_information_through_a_fold():
    module, x = normalized()
    y = np.arange(len(x)) % 3
    model = from_torch(module, loss=nn.CrossEntropyLoss())
    found = unfolded_information(model, module, x, estimator="empirical", y=y)
    parameters = {name: one.detach() for name, one in module.named_parameters()}

    def loss(given, row, label):
        outputs = torch.func.functional_call(module, (given, dict(module.named_buffers())), (row[None],))
        return nn.functional.cross_entropy(outputs, label[None])

    scores = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, torch.as_tensor(x), torch.as_tensor(y))
    for name, one in scores.items():
        np.testing.assert_allclose(found.values[name], one.square().mean(axis=0).numpy(), rtol=1e-10, atol=1e-14, err_msg=name)


def test_batches_give_the_same_bits():
    module, x = normalized()
    model = from_torch(module, loss=nn.CrossEntropyLoss())
    whole = unfolded_information(model, module, x)
    parts = unfolded_information(model, module, torch_batches([x[:7], x[7:]]))
    assert all(np.array_equal(parts.values[name], one) for name, one in whole.values.items())
    assert parts.provenance == whole.provenance


def test_single_precision_and_heads():
    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Conv1d(1, 2, 2), nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

        def forward(self, x):
            return self.head(self.body(x))

    module = Large()
    features, model = from_torch(module, loss=nn.CrossEntropyLoss(), head="head")
    rows = features(np.ones((5, 1, 3)))
    found = to_torch(fs.fisher_information(model, rows), module, head="head")
    assert {name: (one.shape, one.dtype) for name, one in found.items()} == {
        "head.1.weight": ((3, 4), torch.float32),
        "head.1.bias": ((3,), torch.float32),
    }
    assert list(unfolded_information(model, module, rows, head="head").values) == list(found)


class TestRefusals:
    def test_a_diagonal_of_a_folded_network(self):
        module, x = normalized()
        model = from_torch(module, loss=nn.CrossEntropyLoss())
        with pytest.raises(
            ValueError, match=r"`result` must be of the parameters of the source.+0\.weight is not determined by it; `f"
        ):
            to_torch(fs.fisher_information(model, x), module)

    def test_another_shape_or_no_error(self):
        module, x = nn.Linear(3, 2).double(), np.ones((4, 3))
        model = from_torch(module, loss=nn.CrossEntropyLoss())
        exact = fs.fisher_information(model, x)
        with pytest.raises(ValueError, match="`result` must carry a standard error for what='standard_errors'"):
            to_torch(exact, module, "standard_errors")
        with pytest.raises(ValueError, match="`what` must be one of 'values', 'standard_errors', got 'errors'"):
            to_torch(exact, module, "errors")
        with pytest.raises(ValueError, match=r"`result` must hold one number for each of the 8 parameters, got shape \(7,\)"):
            to_torch(exact.values[:7], module)
        with pytest.raises(ValueError, match="the view 'diagonal'"):
            to_torch(fs.fisher_information(model, x, per_input=True), module)

    def test_a_module_that_has_changed(self):
        module, x = normalized()
        model = from_torch(module, loss=nn.CrossEntropyLoss())
        with torch.no_grad():
            module[1].weight[0, 0] += 1
        with pytest.raises(ValueError, match="`model` must have the weights of `source`, got others in layer 0"):
            unfolded_information(model, module, x)

    def test_sources_of_no_known_library(self):
        model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
        with pytest.raises(TypeError, match="`source` must be "):
            unfolded_information(model, object(), [[1.0]])
