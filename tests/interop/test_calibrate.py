"""What estimators of other libraries, and loops as they are found in much code, are found to estimate."""

from __future__ import annotations

import numpy as np
import pytest

from fisherstats.interop import from_torch, to_torch
from fisherstats.testing import calibrate

torch = pytest.importorskip("torch")
functional = torch.nn.functional

N = 40
X = np.random.default_rng(0).normal(size=(N, 4))
Y = np.random.default_rng(1).integers(0, 3, N)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()


NET = network()
MODEL = from_torch(NET, loss=torch.nn.CrossEntropyLoss())
INPUTS, LABELS = torch.from_numpy(X), torch.from_numpy(Y)


def by(result):
    return to_torch(result, NET)


def seeded(rng):
    torch.manual_seed(int(rng.integers(2**31)))


def named(values, net):
    return {name: one.detach() for (name, _), one in zip(net.named_parameters(), values, strict=True)}


def squared_gradients(labels, size, reduction="mean"):
    """The loop of much code for elastic weight consolidation: squared gradients of batches, added up."""
    total = [torch.zeros_like(one) for one in NET.parameters()]
    for rows in torch.arange(N).split(size):
        loss = functional.cross_entropy(NET(INPUTS[rows]), labels[rows], reduction=reduction)
        for one, g in zip(total, torch.autograd.grad(loss, list(NET.parameters())), strict=True):
            one += g**2 * len(rows) / N
    return named(total, NET)


def drawn():
    return torch.distributions.Categorical(logits=NET(INPUTS)).sample()


def verdict(function, **options):
    return calibrate(function, MODEL, X, Y, by=by, **options).attrs["verdict"]


def test_a_loop_over_single_examples_with_labels_of_the_model():
    def function(rng):
        seeded(rng)
        return squared_gradients(drawn(), 1)

    found = verdict(function, n_calls=60)
    assert "An unbiased estimate of the exact Fisher information" in found
    assert "Its spread is that of 1 draw" in found


def test_a_loop_over_batches():
    """The mistake of squaring the gradient of a batch."""

    def function(rng):
        seeded(rng)
        return squared_gradients(drawn(), 8)

    assert "squared gradients of batches of 8" in verdict(function)


def test_a_loop_over_the_data_labels():
    assert "The empirical Fisher information at the data labels itself" in verdict(
        lambda rng: squared_gradients(LABELS, 1), n_calls=20
    )


@pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:Using a non-full backward hook")
def test_backpack():
    backpack = pytest.importorskip("backpack")
    from backpack.extensions import DiagGGNExact, DiagGGNMC

    net, loss = backpack.extend(network()), backpack.extend(torch.nn.CrossEntropyLoss())

    def call(extension, field):
        def function(rng):
            seeded(rng)
            net.zero_grad()
            value = loss(net(INPUTS), LABELS)
            with backpack.backpack(extension):
                value.backward()
            return named([getattr(one, field) for one in net.parameters()], net)

        return function

    found = verdict(call(DiagGGNMC(mc_samples=3), "diag_ggn_mc"), n_draws=3)
    assert "An unbiased estimate of the exact Fisher information" in found
    assert "Its spread is that of 3 draws" in found
    assert "The exact Fisher information itself" in verdict(call(DiagGGNExact(), "diag_ggn_exact"), n_calls=20)


def test_nngeometry():
    metrics, objects = pytest.importorskip("nngeometry.metrics"), pytest.importorskip("nngeometry.object")
    net = network()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(INPUTS, LABELS), batch_size=N)

    def function(rng):
        seeded(rng)
        torch.set_default_dtype(torch.float64)
        try:
            found = metrics.FIM_MonteCarlo(net, loader, objects.PMatDiag, variant="classif_logits", trials=2)
        finally:
            torch.set_default_dtype(torch.float32)
        flat, parts, start = found.get_diag(), {}, 0
        for name, one in net.named_parameters():
            parts[name] = flat[start : start + one.numel()].reshape(one.shape).detach()
            start += one.numel()
        return parts

    found = verdict(function, n_draws=2)
    assert "An unbiased estimate of the exact Fisher information" in found
    assert "Its spread is that of 2 draws" in found


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_asdl_divides_by_the_number_of_draws():
    """ASDL 0.1a5: the loss is divided by the number of samples before its gradient is squared."""
    asdl = pytest.importorskip("asdl")
    net = network()
    config = asdl.FisherConfig(asdl.FISHER_MC, ["diag"], loss_type=asdl.LOSS_CROSS_ENTROPY, data_size=N, n_mc_samples=5)
    maker = asdl.get_fisher_maker(net, config)

    def function(rng):
        seeded(rng)
        maker.setup_loss_call(functional.cross_entropy, maker.setup_model_call(net, INPUTS), LABELS)
        maker.forward_and_backward()
        found = {}
        for place, module in net.named_modules():
            if hasattr(module, "fisher"):
                found[f"{place}.weight"] = module.fisher.diag.weight.clone()
                found[f"{place}.bias"] = module.fisher.diag.bias.clone()
        return found

    found = verdict(function, n_draws=5)
    assert "times the exact Fisher information" in found
    assert "a division by the number of draws twice, or before squaring" in found
