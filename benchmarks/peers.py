"""The same network in other packages. None of them is needed: what is not installed is reported as such.

Their parameters are the weights and then the biases of each layer; ours have the bias last in each row of the weights.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fisherstats as fs

Array = np.ndarray


class NotInstalled(Exception):
    """A peer is not installed."""


def load(*names: str) -> list[Any]:
    """Import peers; an installed one that fails to import is an error."""
    for name in names:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            raise NotInstalled(name)
    return [importlib.import_module(name) for name in names]


def load_jax() -> tuple[Any, Any]:
    """Import JAX with float64 allowed."""
    jax, jnp = load("jax", "jax.numpy")
    jax.config.update("jax_enable_x64", True)
    return jax, jnp


def order(widths: Sequence[int], layers: slice = slice(None)) -> Array:
    """Return where each of our parameters stands in torch's order, of some layers alone if asked."""
    parts, start = [], 0
    for n_in, n_out in list(itertools.pairwise(widths))[layers]:
        weights = start + np.arange(n_out * n_in).reshape(n_out, n_in)
        biases = start + n_out * n_in + np.arange(n_out)[:, None]
        parts.append(np.hstack([weights, biases]).ravel())
        start += n_out * (n_in + 1)
    return np.concatenate(parts)


def joined(widths: Sequence[int]) -> Callable[[Sequence[Any]], Array]:
    """Return what turns a list of torch tensors, one per parameter, into one vector in our order."""
    places = order(widths)
    return lambda tensors: np.concatenate([tensor.detach().cpu().numpy().ravel() for tensor in tensors])[places]


def flat(arrays: Sequence[Any]) -> Array:
    """Join arrays that are in our layout already."""
    return np.concatenate([np.asarray(array).ravel() for array in arrays])


def torch_network(model: fs.MLP, x: Array) -> tuple[Any, Any, Any, Any]:
    """Return torch, the network, the inputs, and labels where an interface wants some (the information has none)."""
    (torch,) = load("torch")
    dtype = torch.float64 if model.dtype == np.float64 else torch.float32
    torch.set_default_dtype(dtype)  # NNGeometry makes arrays of the default
    torch.manual_seed(0)  # of the labels that a peer draws
    layers = []
    for matrix in model.weights:
        linear = torch.nn.Linear(matrix.shape[1] - 1, matrix.shape[0], dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(matrix[:, :-1]))
            linear.bias.copy_(torch.tensor(matrix[:, -1]))
        layers += [linear, torch.nn.Tanh()]
    return torch, torch.nn.Sequential(*layers[:-1]), torch.tensor(x), torch.zeros(len(x), dtype=torch.long)


def backpack(model: fs.MLP, x: Array, extension: str, field: str, y: Array | None = None, **settings: Any) -> Callable[[], Any]:
    """Return a BackPACK backward pass of the mean cross entropy; it gives one result per parameter."""
    library, extensions = load("backpack", "backpack.extensions")
    torch, network, data, labels = torch_network(model, x)
    labels = labels if y is None else torch.tensor(y)
    network, loss = library.extend(network), library.extend(torch.nn.CrossEntropyLoss())

    def call() -> list[Any]:
        network.zero_grad()
        value = loss(network(data), labels)
        with library.backpack(getattr(extensions, extension)(**settings)):
            value.backward()
        return [getattr(parameter, field) for parameter in network.parameters()]

    return call


def nngeometry(model: fs.MLP, x: Array, representation: str, n_draws: int | None = None) -> Callable[[], Any]:
    """Return the making of an NNGeometry matrix: exact, or from `n_draws` labels per input."""
    metrics, objects = load("nngeometry.metrics", "nngeometry.object")
    torch, network, data, labels = torch_network(model, x)
    inputs = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data, labels), batch_size=len(x))
    kind = getattr(objects, representation)
    if n_draws is None:
        return lambda: metrics.FIM(network, inputs, kind, variant="classif_logits")
    return lambda: metrics.FIM_MonteCarlo(network, inputs, kind, variant="classif_logits", trials=n_draws)


def asdl(model: fs.MLP, x: Array, shape: str) -> Callable[[], Any]:
    """Return an ASDL pass for the exact information; it gives one SymMatrix per layer (one in all for the full shape)."""
    (library,) = load("asdl")
    torch, network, data, labels = torch_network(model, x)
    config = library.FisherConfig(library.FISHER_EXACT, [shape], loss_type=library.LOSS_CROSS_ENTROPY, data_size=len(x))
    maker = library.get_fisher_maker(network, config)
    logits = maker.setup_model_call(network, data)
    maker.setup_loss_call(torch.nn.functional.cross_entropy, logits, labels)

    def call() -> list[Any]:
        maker.forward_and_backward()
        return [module.fisher for module in network.modules() if hasattr(module, "fisher")]

    return call


def jax_logits(jnp: Any, weights: Sequence[Any], x: Any, shifts: Sequence[Any] | None = None) -> Any:
    """Return the natural parameters in JAX; `shifts` are added to the pre-activations of the hidden layers."""
    h = x
    for layer, matrix in enumerate(weights):
        a = h @ matrix[:, :-1].T + matrix[:, -1]
        if layer == len(weights) - 1:
            return a
        h = jnp.tanh(a if shifts is None else a + shifts[layer])
    return h


def jax_layer_inputs(jnp: Any, weights: Sequence[Any], x: Any) -> list[Any]:
    """Return the inputs of all layers, each with its 1 for the bias."""
    h, found = x, []
    for matrix in weights:
        found.append(jnp.append(h, jnp.ones_like(h[..., :1]), axis=-1))
        h = jnp.tanh(found[-1] @ matrix.T)
    return found
