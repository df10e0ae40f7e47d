"""Advice on objects of other libraries, recognised by the module of their type: no library is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["array_advice", "batch_advice", "model_advice"]

_REST = "activation=..., family=..."
_LAYERS = "with the kernel, shape (n_out, n_in), and the bias of each dense layer"

_READERS = {
    ".npy": "numpy.load({}, mmap_mode='r')",
    ".npz": "numpy.load({})['x']",
    ".csv": "pandas.read_csv({})",
    ".parquet": "pandas.read_parquet({})",
    ".nc": "xarray.open_dataarray({})",
    ".zarr": "xarray.open_dataarray({}, engine='zarr')",
}


def _libraries(value: Any) -> set[str]:
    """Return the libraries that define the type of an object or one of its base classes."""
    return {str(one.__module__).partition(".")[0] for one in type(value).__mro__}


def _n_dims(value: Any) -> int:
    """Return the number of dimensions of an array of any library, -1 for anything else."""
    try:
        return len(value.shape)
    except (AttributeError, TypeError):
        return -1


def model_advice(name: str, model: Any) -> str:
    """Return how to make an MLP from a network of another library, or from its weights, passed as `name`."""
    libraries = _libraries(model)
    if "sklearn" in libraries:
        return _of_sklearn(name, model)
    if "statsmodels" in libraries:
        return (
            "a generalized linear model is `MLP.from_arrays([slopes], [intercepts], activation=[], family=...)`, with slopes of "
            f"shape (n_out, n_in) and intercepts among `{name}.params`, once fitted, {_whole('statsmodels')}"
        )
    if "keras" in libraries or "tensorflow" in libraries:
        return f"{_of_keras(f'{name}.get_weights()')}, {_whole('keras')}"
    if "torch" in libraries and not isinstance(model, Mapping) and hasattr(model, "modules"):
        return (
            "take the dense layers of the module in order, "
            "`MLP.from_arrays([layer.weight.detach().cpu().numpy() for layer in layers], "
            f"[layer.bias.detach().cpu().numpy() for layer in layers], {_REST})`, {_whole('torch')}"
        )
    if isinstance(model, Mapping):
        return _of_tree(name, model)
    if isinstance(model, Sequence) and not isinstance(model, str | bytes) and model:
        return _of_list(name, model)
    if libraries & {"flax", "haiku", "equinox", "jax", "jaxlib"}:
        return f"take the arrays of its parameters, `MLP.from_arrays(kernels, biases, {_REST})`, {_LAYERS}"
    return f"build one with `MLP(weights, {_REST})` or `MLP.from_arrays(kernels, biases, {_REST})`"


def _whole(library: str) -> str:
    return f"or read it whole with `fisherstats.interop.from_{library}`"


def _of_sklearn(name: str, model: Any) -> str:
    if hasattr(model, "named_steps"):
        return f"read the last step with `fisherstats.interop.from_sklearn({name}[-1])`, and transform `x` by those before it"
    if hasattr(model, "best_estimator_"):
        return f"read its best with `fisherstats.interop.from_sklearn({name}.best_estimator_)`"
    if hasattr(model, "out_activation_") or hasattr(model, "hidden_layer_sizes"):
        return f"read it with `fisherstats.interop.from_sklearn({name})`, fitted"
    if hasattr(model, "coef_"):
        return (
            f"a linear model is `MLP.from_arrays([numpy.atleast_2d({name}.coef_)], [numpy.atleast_1d({name}.intercept_)], "
            "activation=[], family=...)`"
        )
    return "of scikit-learn, `fisherstats.interop.from_sklearn` reads a fitted MLPClassifier or MLPRegressor"


def _of_keras(weights: str) -> str:
    return (
        f"with `weights = {weights}`, kernels of shape (n_in, n_out) alternating with biases, it is "
        f"`MLP.from_arrays([one.T for one in weights[::2]], weights[1::2], {_REST})`"
    )


def _of_tree(name: str, tree: Mapping[Any, Any]) -> str:
    """Return advice for parameters by name: nested by layer (Flax, Haiku), or flat (PyTorch)."""
    if any(str(key).endswith(".weight") for key in tree):
        return (
            "take the arrays of the dense layers in order, `MLP.from_arrays([state[layer + '.weight'].cpu().numpy() for layer in "
            f"layers], [state[layer + '.bias'].cpu().numpy() for layer in layers], {_REST})` with `state = {name}`"
        )
    path = name
    while isinstance(tree, Mapping) and "params" in tree and isinstance(tree["params"], Mapping):
        tree, path = tree["params"], f"{path}['params']"
    kernel, bias = "kernel", "bias"
    if any(isinstance(layer, Mapping) and "w" in layer for layer in tree.values()):
        kernel, bias = "w", "b"
    return (
        f"with the dense layers of `{path}` in order, whose kernels have shape (n_in, n_out), it is "
        f"`MLP.from_arrays([layer[{kernel!r}].T for layer in layers], [layer[{bias!r}] for layer in layers], {_REST})`"
    )


def _of_list(name: str, weights: Sequence[Any]) -> str:
    if all(isinstance(one, tuple | list) and len(one) == 2 for one in weights):
        return f"of pairs of a kernel and a bias it is `MLP.from_arrays(kernels, biases, {_REST})`, {_LAYERS}"
    if len(weights) % 2 == 0 and [_n_dims(one) for one in weights] == [2, 1] * (len(weights) // 2):
        return _of_keras(name)
    return f"of matrices with the bias in the last column it is `MLP(weights, {_REST})`"


def array_advice(name: str, value: Any) -> str:
    """Return how to convert an object to an array, or an empty text."""
    if isinstance(value, str | os.PathLike):
        ending = os.path.splitext(os.fsdecode(value))[1].lower()
        if ending in _READERS:
            return f"; read the file first, `{_READERS[ending].format(name)}`"
        return "; read a file into an array first" if ending or isinstance(value, os.PathLike) else ""
    if isinstance(value, Mapping):
        return f"; choose one of its arrays, `{name}[{next(iter(value), 'x')!r}]`"
    if hasattr(value, "toarray"):
        return f"; make a sparse matrix dense with `{name}.toarray()`"
    libraries = _libraries(value)
    if "torch" in libraries and hasattr(value, "detach"):
        dense = ".to_dense()" if "sparse" in str(getattr(value, "layout", "")) else ""
        precision = ".float()" if "bfloat16" in str(getattr(value, "dtype", "")) else ""
        return f"; take `{name}.detach(){dense}{precision}.cpu().numpy()`"
    if "torch" in libraries and hasattr(value, "__getitem__"):
        return "; give the inputs of the data set as one array, or load it in batches of rows only"
    if hasattr(value, "__next__"):
        return f"; collect an iterator with `list({name})`"
    return ""


def batch_advice(batch: Any) -> tuple[str, str] | None:
    """Describe a batch that holds more than rows, and how to pass the rows alone; None if it may be rows."""
    if isinstance(batch, Mapping):
        return f"a mapping with the keys {', '.join(map(repr, batch))}", f"batch[{next(iter(batch), 'x')!r}] for batch in x"
    if isinstance(batch, tuple | list) and batch and _n_dims(batch[0]) >= 2:
        return f"a {type(batch).__name__} whose first entry has shape {tuple(batch[0].shape)}", "batch[0] for batch in x"
    return None
