"""Steps equal to their formulas, and to PyTorch's optimisers on the same weights and batches."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from tests.training import peers

X = np.random.default_rng(5).normal(size=(40, 6))
Y = np.random.default_rng(6).integers(0, 3, 40)
MODEL = fs.MLP.random([6, 5, 4, 3], activation="tanh", family=fs.families.Categorical(3), rng=2)
CASES = {
    "sgd": (training.SGD(0.3), peers.sgd(0.3)),
    "momentum": (training.SGD(0.1, momentum=0.9), peers.sgd(0.1, 0.9)),
    "nesterov": (training.SGD(0.1, momentum=0.8, nesterov=True), peers.sgd(0.1, 0.8, nesterov=True)),
    "adam": (training.Adam(0.01), peers.adam(0.01)),
    "adam, other decays": (training.Adam(0.02, betas=(0.5, 0.9), epsilon=1e-4), peers.adam(0.02, 0.5, 0.9, 1e-4)),
}


def curve(optimizer, epochs, batch_size, **settings):
    """Return the loss of every step (one batch per epoch) or epoch, and the last weights."""
    fitted = training.fit(MODEL, X, Y, optimizer=optimizer, epochs=epochs, batch_size=batch_size, rng=3, **settings)
    return fitted.history.loss.values, fitted.model.weights


@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_the_formulas(name):
    ours, theirs = CASES[name]
    n_epochs = 6
    order = [rows for epoch in range(1, n_epochs + 1) for rows in training.batches(40, 15, rng=3, epoch=epoch)]
    expected, weights = peers.descend(MODEL.weights, order, X, Y, theirs, penalty=0.01)
    losses, ended = curve(ours, n_epochs, 15, penalty=training.Frobenius(0.01))
    sizes = [len(rows) for rows in order[:3]]
    assert sizes == [15, 15, 10]
    np.testing.assert_allclose(losses, np.average(expected.reshape(-1, 3), axis=1, weights=sizes), rtol=1e-11)
    for ours_now, theirs_now in zip(ended, weights, strict=True):
        np.testing.assert_allclose(ours_now, theirs_now, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adam, other decays"])
def test_loss_curves_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(
        torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)
    ).double()
    peers.into_pytorch([layer for layer in network if hasattr(layer, "weight")], MODEL.weights)
    parameters = network.parameters()
    optimizer = {
        "sgd": lambda: torch.optim.SGD(parameters, lr=0.3, weight_decay=1e-3),
        "momentum": lambda: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3),
        "nesterov": lambda: torch.optim.SGD(parameters, lr=0.1, momentum=0.8, nesterov=True, weight_decay=1e-3),
        "adam": lambda: torch.optim.Adam(parameters, lr=0.01, weight_decay=1e-3),
        "adam, other decays": lambda: torch.optim.Adam(parameters, lr=0.02, betas=(0.5, 0.9), eps=1e-4, weight_decay=1e-3),
    }[name]()
    expected = peers.pytorch_losses(network, optimizer, X, Y, epochs=70, batch_size=15, rng=3)
    losses, _ = curve(CASES[name][0], 70, 15, penalty=training.Frobenius(1e-3, biases=True))
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-6 if "adam" in name else 1e-8)


def test_one_optimizer_serves_several_fits():
    optimizer = training.SGD(0.1, momentum=0.9)
    first, second = curve(optimizer, 3, 40), curve(optimizer, 3, 40)
    assert np.array_equal(first[0], second[0])


def test_a_step_sees_its_batch_and_the_network():
    class Signs(training.Optimizer):
        def start(self, model):
            assert model.n_params == MODEL.n_params
            return SignSteps()

    class SignSteps(training.Steps):
        def step(self, gradient, batch):
            assert batch.number == len(seen)
            assert batch.x.shape == (len(batch.rows), 6)
            assert np.array_equal(batch.y, Y[batch.rows])
            seen.append((batch.rows, batch.model.fingerprint, batch.rng.random()))
            return -0.01 * np.sign(gradient)

    seen = []
    fitted = training.fit(MODEL, X, Y, optimizer=Signs(), epochs=2, batch_size=25, rng=3)
    wanted = [rows for epoch in (1, 2) for rows in training.batches(40, 25, rng=3, epoch=epoch)]
    assert all(np.array_equal(one[0], rows) for one, rows in zip(seen, wanted, strict=True))
    assert seen[0][1] == MODEL.fingerprint
    assert len({one[1] for one in seen}) == len({one[2] for one in seen}) == 4
    moved = np.abs(fitted.model.weights[0] - MODEL.weights[0])
    assert np.all(np.isclose(moved % 0.02, 0, atol=1e-12) | np.isclose(moved % 0.02, 0.02, atol=1e-12))
