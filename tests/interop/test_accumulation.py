"""Scores of torch modules, accumulated over loaders: against gradients of single examples, the exact diagonal, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import accumulate, by_name, external_from_torch

torch = pytest.importorskip("torch")

F = fs.families
X = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 1, 5, 5)))
Y = np.random.default_rng(1).integers(0, 3, 50)


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = torch.nn.GRU(5, 3, batch_first=True)
        self.out = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.out(self.cell(x[:, 0])[0][:, -1])


def modules():
    torch.manual_seed(0)
    convolution = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.Tanh(), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(18, 3)
    )
    return {"convolution": convolution.double().eval(), "recurrent": Recurrent().double().eval()}


MODULES = modules()
names = pytest.mark.parametrize("name", MODULES)


def by_hand(module, labels):
    """Mean squared scores over the examples and their labels (n, N), one gradient at a time."""
    total = {key: torch.zeros_like(one) for key, one in module.named_parameters()}
    for x, drawn in zip(X, labels, strict=True):
        for label in drawn:
            loss = torch.nn.functional.cross_entropy(module(x[None]), torch.tensor([int(label)]))
            for (key, _), g in zip(module.named_parameters(), torch.autograd.grad(loss, list(module.parameters())), strict=True):
                total[key] += g**2 / labels.size
    return total


def mean_squares(accumulator):
    found = accumulator.result()
    return {key: found[f"parameters/{key}"].mean_square.values for key in accumulator.shapes}


@names
@pytest.mark.parametrize("sampling", ["iid", "stratified"])
@pytest.mark.parametrize("n_draws", [1, 3])
def test_the_labels_are_those_of_draw_labels_whatever_the_batches(name, n_draws, sampling):
    module = MODULES[name]
    with torch.no_grad():
        h = module(X).numpy()
    labels = fs.draw_labels(F.Categorical(3), h, n_draws, rng=5, sampling=sampling).values
    expected = by_hand(module, labels)
    options = {"n_draws": n_draws, "rng": 5, "sampling": sampling}
    for batches in (X.split(50), X.split(7), [(one, None) for one in X.split(16)], [X.numpy()]):
        found = mean_squares(accumulate(module, batches, F.Categorical(3), **options, max_bytes=40_000))
        for key, one in expected.items():
            np.testing.assert_allclose(found[key], one.numpy(), rtol=1e-9, atol=1e-14)


@names
def test_labels_of_the_data(name):
    module = MODULES[name]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, torch.from_numpy(Y)), batch_size=9)
    found = mean_squares(accumulate(module, loader, F.Categorical(3), labels="data"))
    for key, one in by_hand(module, Y[:, None]).items():
        np.testing.assert_allclose(found[key], one.numpy(), rtol=1e-9, atol=1e-14)


def test_the_estimate_is_within_its_error_of_the_exact_diagonal():
    """70 z-scores, beyond 6 with probability 1e-7; labels of another distribution go beyond."""
    module = MODULES["convolution"]
    exact = by_name(fs.fisher_information(network := external_from_torch(module, F.Categorical(3)), X.numpy()), network)
    accumulator = accumulate(module, X.split(20), F.Categorical(3), n_draws=200, rng=0)
    found = accumulator.result(design="fixed")
    z = [(found[f"parameters/{key}"].mean_square - one) / found[f"parameters/{key}"].standard_error for key, one in exact.items()]
    assert max(float(abs(one).max()) for one in z) < 6
    wrong = accumulate(module, [(X, torch.from_numpy(Y))], F.Categorical(3), labels="data").result()
    far = [
        (wrong[f"parameters/{key}"].mean_square - one) / found[f"parameters/{key}"].standard_error for key, one in exact.items()
    ]
    assert max(float(abs(one).max()) for one in far) > 6


def test_other_families_and_frozen_parameters():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(25, 2)).double()
    module[1].bias.requires_grad_(False)
    accumulator = accumulate(module, X.split(10), F.Poisson(2), rng=0)
    assert list(accumulator.shapes) == ["1.weight"]
    y = np.random.default_rng(0).poisson(1.0, size=(50, 2))
    found = mean_squares(accumulate(module, [(X, y)], F.Poisson(2), labels="data"))["1.weight"]
    with torch.no_grad():
        residual = y - np.exp(module(X).numpy())
    expected = np.einsum("na,nd->ad", residual**2, X.numpy().reshape(50, -1) ** 2) / 50
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_merged_parts_and_float32():
    module = MODULES["convolution"]
    parts = [
        accumulate(module, [(X[rows], torch.from_numpy(Y[rows]))], F.Categorical(3), labels="data")
        for rows in (slice(20), slice(20, 50))
    ]
    parts[0].merge(parts[1])
    whole = accumulate(module, [(X, torch.from_numpy(Y))], F.Categorical(3), labels="data")
    for key, one in mean_squares(whole).items():
        np.testing.assert_allclose(mean_squares(parts[0])[key], one, rtol=1e-12)
    single = accumulate(modules()["convolution"].float(), X.split(20), F.Categorical(3), n_draws=2, rng=0)
    double = accumulate(module, X.split(20), F.Categorical(3), n_draws=2, rng=0)
    for key, one in mean_squares(double).items():
        np.testing.assert_allclose(mean_squares(single)[key], one, rtol=1e-3, atol=1e-7)


def test_refusals():
    module = MODULES["convolution"]
    with pytest.raises(TypeError, match=r"`module` must be a torch.nn.Module"):
        accumulate(lambda x: x, [X], F.Categorical(3), rng=0)
    with pytest.raises(ValueError, match=r"evaluation|eval"):
        accumulate(modules()["convolution"].train(), [X], F.Categorical(3), rng=0)
    with pytest.raises(ValueError, match=r"natural parameters of Categorical\(n_classes=4"):
        accumulate(module, [X], F.Categorical(4), rng=0)
    with pytest.raises(ValueError, match="`rng` must be given"):
        accumulate(module, [X], F.Categorical(3))
    with pytest.raises(ValueError, match="go with labels='model'"):
        accumulate(module, [(X, Y)], F.Categorical(3), labels="data", n_draws=2)
    with pytest.raises(ValueError, match="`batches` must be pairs"):
        accumulate(module, [X], F.Categorical(3), labels="data")
    with pytest.raises(ValueError, match="at least one example"):
        accumulate(module, [], F.Categorical(3), rng=0)
    with pytest.raises(ValueError, match="`sampling` must be 'iid' for this family"):
        accumulate(module, [X], F.Poisson(3), rng=0, sampling="stratified")
    with pytest.raises(ValueError, match="whole numbers from 0 to 2"):
        accumulate(module, [(X, Y + 5)], F.Categorical(3), labels="data")
