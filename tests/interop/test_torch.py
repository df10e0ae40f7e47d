"""Networks read from PyTorch give PyTorch's own outputs; what cannot be read is refused by its name and place."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import from_torch, to_torch, torch_batches
from tests.interop.torch_cases import CASES, owner_information, random_module, settle
from tests.refusals import pattern

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
GAUSSIAN = fs.families.Gaussian


def natural(model, x):
    return model.natural_parameters(x.reshape(len(x), -1).numpy())


@pytest.mark.parametrize("seed", range(40))
def test_random_modules(seed):
    module, n_in = random_module(torch, seed)
    x = torch.randn(9, n_in, dtype=torch.float64)
    wanted = module(x).detach().numpy()
    model = from_torch(module, family=GAUSSIAN(wanted.shape[1]))
    np.testing.assert_allclose(natural(model, x), wanted, rtol=1e-12, atol=1e-12)
    single = from_torch(module.float(), family=GAUSSIAN(wanted.shape[1]))
    assert single.dtype == np.float32
    np.testing.assert_allclose(natural(single, x.float()), wanted, rtol=1e-6, atol=1e-6 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_activation(name, options):
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(3, 50), getattr(nn, name)(**options), nn.Linear(50, 2)).double().eval()
    x = torch.randn(20, 3, dtype=torch.float64) * 3
    model = from_torch(module, family=GAUSSIAN(2))
    # torch rounds its own ELU, SELU and softplus by more than an ulp; softplus is linear above its threshold
    np.testing.assert_allclose(
        natural(model, x), module(x).detach().numpy(), rtol=1e-12, atol=1e-12 if name != "Softplus" else 2e-9
    )


def test_the_information_is_that_of_the_module():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)).double()
    x = torch.randn(11, 4, dtype=torch.float64)
    model = from_torch(module, loss=nn.CrossEntropyLoss())
    found = fs.fisher_information(model, x.numpy()).values
    wanted = owner_information(torch, module, model, x)
    rows = [np.column_stack([wanted[f"{at}.weight"], wanted[f"{at}.bias"]]).ravel() for at in (0, 2)]
    np.testing.assert_allclose(found, np.concatenate(rows), rtol=1e-10, atol=0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.blocks = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)])
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        x = x.view(x.size(0), -1)
        x = F.leaky_relu(self.norm(self.first(x)), negative_slope=0.2)
        for block in self.blocks:
            x = torch.tanh(block(x))
        x = F.dropout(F.softplus(x, 2.0), 0.5, self.training) if False else self.drop(x)
        return F.log_softmax(self.last(x), dim=1)


def test_a_forward_of_ones_own():
    torch.manual_seed(0)
    module = settle(torch, Net().double())
    x = torch.randn(8, 2, 3, dtype=torch.float64)
    model = from_torch(module, loss=nn.NLLLoss())
    assert [one.name for one in model.activations] == ["leaky_relu", "tanh", "tanh"]
    np.testing.assert_allclose(model.family.mean(natural(model, x)), module(x).detach().exp().numpy(), rtol=1e-12)


CALLS = {
    "method": lambda x: x.tanh(),
    "sigmoid": lambda x: torch.sigmoid(x),
    "gelu": lambda x: F.gelu(x),
    "elu": lambda x: F.elu(x, 0.5),
    "hardtanh": lambda x: F.hardtanh(x, -1.0, 1.0),
    "softplus": lambda x: F.softplus(x, beta=3.0),
    "in place": lambda x: F.relu(x, inplace=True),
    "sine": lambda x: torch.sin(x),
    "silu": lambda x: F.silu(x),
    "reshaped": lambda x: F.relu(x.reshape(x.shape[0], -1)),
    "flattened": lambda x: F.selu(torch.flatten(x, 1)),
}


def own(call, n_out=2):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, n_out)

        def forward(self, x):
            return self.b(call(self.a(x)))

    torch.manual_seed(1)
    return Own().double()


@pytest.mark.parametrize("name", CALLS)
def test_functions_in_a_forward(name):
    module, x = own(CALLS[name]), torch.randn(9, 3, dtype=torch.float64)
    np.testing.assert_allclose(
        natural(from_torch(module, family=GAUSSIAN(2)), x), module(x).detach().numpy(), rtol=1e-12, atol=1e-13
    )


# --- which family ------------------------------------------------------------------------------------------------------------

linear = nn.Linear(2, 3)
ENDS = {"none": [], "softmax": [nn.Softmax(1)], "log-softmax": [nn.LogSoftmax(-1)], "sigmoid": [nn.Sigmoid()]}
families = fs.families
GIVEN = families.Gaussian(3, covariance=np.diag([1.0, 2.0, 3.0]))
TAKEN = [
    ("none", {"loss": nn.CrossEntropyLoss()}, families.Categorical(3)),
    ("log-softmax", {"loss": nn.CrossEntropyLoss()}, families.Categorical(3)),
    ("log-softmax", {"loss": nn.NLLLoss()}, families.Categorical(3)),
    ("softmax", {}, families.Categorical(3)),
    ("log-softmax", {}, families.Categorical(3)),
    ("softmax", {"family": families.Multinomial(5, 3)}, families.Multinomial(5, 3)),
    ("none", {"loss": nn.BCEWithLogitsLoss()}, families.Bernoulli(3)),
    ("sigmoid", {"loss": nn.BCELoss()}, families.Bernoulli(3)),
    ("sigmoid", {"family": families.Bernoulli(3)}, families.Bernoulli(3)),
    ("none", {"loss": nn.MSELoss()}, families.Gaussian(3)),
    ("none", {"loss": nn.MSELoss(reduction="sum"), "family": GIVEN}, GIVEN),
    ("none", {"loss": nn.GaussianNLLLoss(), "family": GIVEN}, GIVEN),
    ("none", {"loss": nn.PoissonNLLLoss()}, families.Poisson(3)),
    ("none", {"family": families.Exponential(3)}, families.Exponential(3)),
]


@pytest.mark.parametrize(("end", "given", "wanted"), TAKEN)
def test_the_family(end, given, wanted):
    assert from_torch(nn.Sequential(linear, *ENDS[end]), **given).family == wanted


REFUSED = [
    ("none", {}, "`family` must be said where neither a loss nor a softmax at the end says it, got neither"),
    ("sigmoid", {}, "`family` must be said where .+, got a sigmoid at the end alone"),
    (
        "softmax",
        {"loss": nn.CrossEntropyLoss()},
        "`loss` must fit the end of the network: torch.nn.CrossEntropyLoss takes logits",
    ),
    ("none", {"loss": nn.NLLLoss()}, "`loss` must fit the end .+ after a log_softmax at the end, got none"),
    ("softmax", {"loss": nn.NLLLoss()}, "`loss` must fit the end of the network"),
    ("sigmoid", {"loss": nn.BCEWithLogitsLoss()}, "`loss` must fit the end of the network"),
    ("none", {"loss": nn.BCELoss()}, "`loss` must fit the end of the network"),
    ("softmax", {"loss": nn.MSELoss()}, "`loss` must fit the end of the network"),
    ("softmax", {"family": families.Gaussian(3)}, "`family` must be a Categorical or a Multinomial"),
    ("softmax", {"family": families.Categorical(4, minimal=True)}, "`family` must be a Categorical or a Multinomial"),
    (
        "none",
        {"loss": nn.MSELoss(), "family": families.Poisson(3)},
        "`family` must be a Gaussian for torch.nn.MSELoss, got Poisson",
    ),
    ("none", {"loss": nn.GaussianNLLLoss()}, "`family` must be given with torch.nn.GaussianNLLLoss"),
    ("none", {"loss": nn.L1Loss()}, "`loss` must be one of an instance of torch.nn.CrossEntropyLoss"),
    ("none", {"loss": nn.PoissonNLLLoss(log_input=False)}, "`loss` must be the negative log-likelihood of a label"),
    ("none", {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, "`loss` must be the negative log-likelihood of a label"),
    ("none", {"loss": nn.CrossEntropyLoss(weight=torch.ones(3))}, "`loss` must be the negative log-likelihood of a label"),
    ("none", {"family": families.Gaussian(2)}, "`weights[-1]` must have 2 rows"),
]


@pytest.mark.parametrize(("end", "given", "message"), REFUSED)
def test_families_that_contradict(end, given, message):
    with pytest.raises(ValueError, match=pattern(message)):
        from_torch(nn.Sequential(linear, *ENDS[end]), **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": nn.MSELoss}, "`loss` must be one of an instance of"),
        ({"loss": "mse"}, "`loss` must be one of an instance of"),
    ],
)
def test_losses_that_are_none(given, message):
    with pytest.raises(ValueError, match=pattern(message)):
        from_torch(linear, **given)


def test_a_family_is_an_object():
    with pytest.raises(TypeError, match="`family` must be a family object"):
        from_torch(linear, family=families.Categorical)


# --- what cannot be read -------------------------------------------------------------------------------------------------------


def seq(*layers):
    return nn.Sequential(*layers)


def broken(value):
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight[1, 2] = value
    return layer


def tied():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return seq(first, nn.Tanh(), second)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.a(x)


class Branching(Residual):
    def forward(self, x):
        return self.a(x) if x.sum() > 0 else x


class Shared(Residual):
    def forward(self, x):
        return self.a(torch.tanh(self.a(x)))


class Lost(Residual):
    def forward(self, x):
        x = self.a(x)
        F.relu(x, inplace=True)
        return x


class LostLayer(Residual):
    def __init__(self):
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.a(x)
        self.act(x)
        return x


def hooked():
    layer = nn.Linear(3, 2)
    layer.register_forward_hook(lambda *_: None)
    return layer


UNREAD = [
    (lambda: nn.Linear, TypeError, "`module` must be a torch.nn.Module, got the class Linear"),
    (lambda: linear.state_dict(), TypeError, "`module` must be a torch.nn.Module, got .+; load the state into its module"),
    (lambda: None, TypeError, "`module` must be a torch.nn.Module, got None."),
    (lambda: seq(nn.Conv2d(1, 2, 3), nn.Linear(3, 2)), ValueError, "`module` must be a chain .+, got a layer Conv2d at `0`"),
    (
        lambda: seq(linear, seq(nn.ReLU(), nn.LayerNorm(3))),
        ValueError,
        "`module` must be a chain .+, got a layer LayerNorm at `1.1`",
    ),
    (lambda: seq(linear, nn.PReLU(), nn.Linear(3, 2)), ValueError, "`module` must be a chain .+, got a layer PReLU at `1`"),
    (
        lambda: seq(linear, nn.Hardshrink(), nn.Linear(3, 2)),
        ValueError,
        "`module` must be a chain .+, got a layer Hardshrink at `1`",
    ),
    (
        lambda: seq(linear, nn.Dropout(0.5)),
        ValueError,
        "`module` must be in evaluation mode, got Dropout at `1` in training mode",
    ),
    (lambda: seq(linear, nn.BatchNorm1d(3)), ValueError, "`module` must be in evaluation mode, got BatchNorm1d at `1`"),
    (lambda: seq(linear, nn.BatchNorm1d(3, track_running_stats=False)).eval(), ValueError, "`module` must normalise by running"),
    (
        lambda: seq(nn.BatchNorm1d(2), nn.ReLU(), linear).eval(),
        ValueError,
        "`module` must have a dense layer before every activation",
    ),
    (
        lambda: seq(linear, nn.ReLU(), nn.BatchNorm1d(3)).eval(),
        ValueError,
        "`module` must have a dense layer next to every batch",
    ),
    (lambda: seq(linear, nn.ReLU()), ValueError, "`module` must end with a dense layer, a softmax"),
    (
        lambda: seq(linear, nn.Softmax(1), nn.Linear(3, 2)),
        ValueError,
        "`module` must end with its softmax at `1`, got `2` after it",
    ),
    (lambda: seq(linear, nn.Softmax(0)), ValueError, "`module` must be a chain .+, got a layer Softmax at `1`"),
    (lambda: seq(nn.Flatten(0), linear), ValueError, "`module` must be a chain .+, got a layer Flatten at `0`"),
    (lambda: seq(), ValueError, "`module` must have at least one dense layer"),
    (
        lambda: seq(linear, nn.ReLU(), nn.Linear(4, 2)),
        ValueError,
        "`module` must be a chain, got 4 inputs at `2` after 3 outputs",
    ),
    (lambda: broken(float("nan")), ValueError, "`the module itself (kernel)` must hold finite numbers, got nan at index (1, 2)"),
    (lambda: nn.Linear(2, 2).half(), TypeError, "`the module itself (kernel)` must hold float32 or float64, got dtype float16"),
    (lambda: nn.LazyLinear(3), ValueError, "`module` must have numbers for weights, got LazyLinear"),
    (lambda: nn.Linear(2, 3, device="meta"), ValueError, "`module` must have numbers for weights, got Linear"),
    (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), ValueError, "`module` must"),
    (tied, ValueError, "`module` must have different parameters in different layers, got one for 0.weight and 2.weight"),
    (Shared, ValueError, "`module` must have different parameters in different layers, got one for another call"),
    (Residual, ValueError, "`module` must be a chain .+, got a call of add, which takes other values"),
    (Branching, ValueError, "`module` must have a forward that torch.fx can trace, got Branching"),
    (Lost, ValueError, "`module` must be a chain .+, got a call whose result is not passed on"),
    (LostLayer, ValueError, "`module` must be a chain .+, got a call whose result is not passed on"),
    (hooked, ValueError, "`module` must have no forward hooks on its layers"),
    (
        lambda: own(lambda x: F.dropout(x, 0.5)),
        ValueError,
        "`module` must be in evaluation mode, got dropout at `dropout` in its",
    ),
    (
        lambda: seq(linear, own(lambda x: x.view(-1, 2))),
        ValueError,
        "`module` must be a chain, got 2 inputs at `view` in its forward",
    ),
    (
        lambda: own(lambda x: torch.cumsum(x, 1)),
        ValueError,
        "`module` must be a chain .+, got a call of cumsum at `cumsum` in its",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), UNREAD)
def test_what_cannot_be_read(make, error, message):
    with pytest.raises(error, match=pattern(message)) as caught:
        from_torch(make(), family=families.Gaussian(2))
    assert str(caught.value).endswith(".")


# --- heads and batches ---------------------------------------------------------------------------------------------------------


class Large(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 3))

    def forward(self, x):
        return {"logits": self.classifier(self.body(x))}


def test_the_head_of_a_larger_network():
    torch.manual_seed(0)
    module = Large().double().eval()
    features, model = from_torch(module, loss=nn.CrossEntropyLoss(), head="classifier")
    x = np.random.default_rng(0).normal(size=(10, 1, 6, 6))
    wanted = module(torch.as_tensor(x))["logits"].detach().numpy()
    np.testing.assert_allclose(model.natural_parameters(features(x)), wanted, rtol=1e-12)
    loader = torch.utils.data.DataLoader(list(zip(x, range(10), strict=True)), batch_size=4)
    batches = torch_batches(loader, features=features)
    exact = fs.fisher_information(model, batches)
    np.testing.assert_array_equal(exact.values, fs.fisher_information(model, features(x)).values)
    np.testing.assert_array_equal(batches.labels, np.arange(10))


def test_heads_that_are_none():
    module = Large().eval()
    with pytest.raises(
        ValueError, match=r"`head` must be the name of a part of the module \('body', 'classifier'\), got 'clasifier'"
    ):
        from_torch(module, loss=nn.CrossEntropyLoss(), head="clasifier")
    features, _ = from_torch(seq(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)), family=GAUSSIAN(3), head="0")
    with pytest.raises(ValueError, match="`head` must give the output of the module"):
        features(np.zeros((2, 3)))
    features, _ = from_torch(module, loss=nn.CrossEntropyLoss(), head="classifier")
    module.train()
    with pytest.raises(ValueError, match="`module` must be in evaluation mode, got Dropout"):
        features(np.zeros((2, 1, 6, 6)))


def test_batches_of_pairs():
    x, y = torch.randn(10, 2, 2), torch.arange(10) % 3
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    model = from_torch(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), loss=nn.CrossEntropyLoss())
    batches = torch_batches(loader)
    flat = x.reshape(10, -1).numpy()
    found = fs.empirical_fisher(model, batches, y=batches.labels)
    assert found.identical(fs.empirical_fisher(model, flat, y=y.numpy()))
    rows = torch_batches(torch.utils.data.DataLoader(x, batch_size=4))
    np.testing.assert_array_equal(fs.fisher_information(model, rows).values, fs.fisher_information(model, flat).values)
    with pytest.raises(TypeError, match="`batches` must give pairs"):
        _ = rows.labels
    with pytest.raises(ValueError, match="`batches` must give the same rows in every pass, got a loader with a RandomSampler"):
        torch_batches(torch.utils.data.DataLoader(x, shuffle=True))
    with pytest.raises(TypeError, match=r"`batches` must give pairs \(x, y\) or rows, got a dict of 1 in batch 0"):
        list(torch_batches([{"x": x}]))


def test_hooks_on_the_whole():
    module = seq(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    handle = module.register_forward_hook(lambda *given: given[-1] * 2)
    with pytest.raises(ValueError, match="`module` must have no forward hooks on its layers"):
        from_torch(module, family=GAUSSIAN(2))
    handle.remove()
    module[1].register_forward_pre_hook(lambda *_: None)
    with pytest.raises(ValueError, match="got some on Tanh at `1`"):
        from_torch(module, family=GAUSSIAN(2))


@pytest.mark.skipif("bias" in inspect.signature(fs.MLP.__init__).parameters, reason="this version has layers without bias")
def test_layers_without_bias_are_refused_where_the_network_has_none():
    with pytest.raises(ValueError, match=r"^`2` must have a bias, got a dense layer without one"):
        from_torch(seq(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2, bias=False)), family=GAUSSIAN(2))


@pytest.mark.skipif("bias" not in inspect.signature(fs.MLP.__init__).parameters, reason="this version has no layers without bias")
def test_layers_without_bias():
    torch.manual_seed(0)
    module = seq(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
    x = torch.randn(9, 3, dtype=torch.float64)
    model = from_torch(module, family=GAUSSIAN(2))
    assert model.n_params == sum(one.numel() for one in module.parameters())
    np.testing.assert_allclose(natural(model, x), module(x).detach().numpy(), rtol=1e-12)
    found = to_torch(fs.fisher_information(model, x.numpy()), module)
    for name, one in owner_information(torch, module, model, x).items():
        np.testing.assert_allclose(found[name].numpy(), one, rtol=1e-10, atol=1e-14)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("wrap", "inside"), [(torch.compile, "_orig_mod"), (torch.nn.DataParallel, "module")])
def test_a_wrapper_names_the_module_inside(wrap, inside):
    net = torch.nn.Sequential(torch.nn.Linear(3, 2))
    wrapped = wrap(net)
    with pytest.raises(TypeError, match=rf"give the one inside, `module\.{inside}`"):
        from_torch(wrapped, loss=torch.nn.CrossEntropyLoss())
    assert from_torch(getattr(wrapped, inside), loss=torch.nn.CrossEntropyLoss()).n_params == 8
