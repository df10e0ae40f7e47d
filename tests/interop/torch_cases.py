"""Random torch modules, and per-example scores of their own parameters by torch.func."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np

import fisherstats as fs

HAS_BIAS = "bias" in inspect.signature(fs.MLP.__init__).parameters
"""Whether this version has layers without bias; a normalisation after a layer gives it one in any version."""

# What this version of the package has; others arrive with their activations.
ACTIVATIONS = {
    "ReLU": {},
    "LeakyReLU": {"negative_slope": 0.3},
    "ELU": {"alpha": 0.7},
    "CELU": {"alpha": 1.0},
    "SELU": {},
    "GELU": {},
    "SiLU": {},
    "Mish": {},
    "Tanh": {},
    "Sigmoid": {},
    "LogSigmoid": {},
    "Softsign": {},
    "Softplus": {"beta": 2.0},
    "Hardtanh": {},
    "RReLU": {},
}
LATER = {
    "gelu_tanh": ("GELU", {"approximate": "tanh"}),
    "relu6": ("ReLU6", {}),
    "hard_swish": ("Hardswish", {}),
    "hard_sigmoid": ("Hardsigmoid", {}),
}
CASES = [(name, one) for name, one in ACTIVATIONS.items()] + [one for name, one in LATER.items() if name in fs.activations.NAMES]

# torch.func.vmap does not know RReLU, and the derivative of Hardsigmoid in torch is 1/6 in single precision.
TRANSFORMED = [one for one in CASES if one[0] not in ("RReLU", "Hardsigmoid")]


def settle(torch: Any, module: Any) -> Any:
    """Give every normalisation statistics and parameters of its own, and return the module in evaluation mode."""
    for one in module.modules():
        if isinstance(one, torch.nn.BatchNorm1d):
            if one.weight is not None:
                torch.nn.init.uniform_(one.weight, 0.5, 2.0)
                torch.nn.init.normal_(one.bias)
            torch.nn.init.normal_(one.running_mean)
            torch.nn.init.uniform_(one.running_var, 0.5, 2.0)
    return module.eval()


def random_module(torch: Any, seed: int, all_biases: bool = False) -> tuple[Any, int]:
    """Return a random perceptron in double precision, nested and normalised at random, and its number of inputs."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    nn = torch.nn
    widths = rng.integers(2, 7, size=rng.integers(2, 6)).tolist()
    layers: list[Any] = [nn.Flatten()]
    if rng.random() < 0.3:
        layers.append(nn.BatchNorm1d(widths[0]))
    for at, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        normalized = rng.random() < 0.4
        biased = all_biases or rng.random() < 0.7 or not (normalized or HAS_BIAS)
        inner = [nn.Linear(n_in, n_out, bias=bool(biased))]
        if normalized:
            inner.append(nn.BatchNorm1d(n_out, affine=bool(rng.random() < 0.8)))
        if at < len(widths) - 2:
            name, options = TRANSFORMED[rng.integers(len(TRANSFORMED))]
            inner += [getattr(nn, name)(**options), nn.Dropout(0.3)]
            if rng.random() < 0.3:
                inner.append(nn.BatchNorm1d(n_out))
        layers += inner if rng.random() < 0.5 else [nn.Sequential(*inner)]
    return settle(torch, nn.Sequential(*layers).double()), widths[0]


def owner_information(torch: Any, module: Any, model: fs.MLP, x: Any) -> dict[str, np.ndarray]:
    """Return the mean diagonal information of the parameters of a module, from Jacobians of every example on their own."""
    parameters = {name: one.detach() for name, one in module.named_parameters()}
    buffers = dict(module.named_buffers())

    def outputs(given: Any, row: Any) -> Any:
        return torch.func.functional_call(module, (given, buffers), (row[None],))[0]

    jacobians = torch.func.vmap(torch.func.jacrev(outputs), in_dims=(None, 0))(parameters, x)
    outputs_of_x = module(x).detach().numpy()
    link = model.family.link
    h, slope = (outputs_of_x, np.ones_like(outputs_of_x)) if link is None else link.evaluate(outputs_of_x, 1)
    information = torch.as_tensor(slope[:, :, None] * model.family.information(h) * slope[:, None, :]).to(x.dtype)
    return {
        name: torch.einsum("nabc,nad,nbd->d", information[..., None], J.flatten(2), J.flatten(2))
        .div(len(x))
        .reshape(parameters[name].shape)
        .numpy()
        for name, J in jacobians.items()
    }
