"""Weights of a network back into the object of the library that it was read from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import interop_results as checks
from fisherstats.core.validation.arguments import optional_module
from fisherstats.core.validation.interop_torch import module_object
from fisherstats.interop import _keras_reading
from fisherstats.interop._chain import Layer
from fisherstats.interop._owners import chain_of
from fisherstats.interop._trees import is_tree, replaced
from fisherstats.models.network import MLP

__all__ = ["load_into"]

Array = NDArray[np.floating]


def load_into(source: Any, model: MLP, *, head: str | None = None) -> Any:
    r"""Write the weights of a network into the module, the model or the tree of parameters that it was read from.

    A normalisation that was folded keeps its statistics and its gamma, and the fold is undone: the row of unit o becomes
    :math:`W_{od}=W'_{od}/(s_of_d)`, where s and f are gamma over the deviation, after and before the layer. What is left of the
    bias goes into the bias of the layer if it has one, else into the beta of the normalisation after it. So the outputs of the
    source are those of the network, up to rounding.

    Parameters
    ----------
    source : torch.nn.Module, Keras model or tree of parameters
        Layers as those of the network. A module or model is changed in place.
    model : MLP
        The network: merged, pruned or trained in this package.
    head : str, optional
        The part of a module that holds the network.

    Returns
    -------
    torch.nn.Module, Keras model or tree of parameters
        The module or model itself, or a new tree.

    Raises
    ------
    TypeError
        If `source` is neither a module nor a model nor a tree.
    ValueError
        If its layers or activations are others, a gamma is 0, or nothing in it can hold a bias of the network. Nothing is
        changed.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> tree = {"Dense_0": {"kernel": np.ones((2, 1)), "bias": np.zeros(1)}}
    >>> model = fs.MLP([[[3.0, 4.0, 5.0]]], activation=[], family=fs.families.Poisson())
    >>> fs.interop.load_into(tree, model)
    {'Dense_0': {'kernel': array([[3.],
           [4.]]), 'bias': array([5.])}}
    """
    tree, of_keras = is_tree(source), _keras_reading.is_keras(source)
    if not tree and not of_keras:
        module_object(source)
    chain = chain_of(source, head)
    checks.same_layers(
        model,
        [layer.dense.kernel.shape for layer in chain.layers],
        None if tree else [one.activation for one in chain.layers[:-1]],
    )
    values = {
        name: one for layer, weight in zip(chain.layers, model.weights, strict=True) for name, one in _unfolded(layer, weight)
    }
    if tree:
        return replaced(source, values)
    if of_keras:
        variables = _keras_reading.variables(source)
        for name, one in values.items():
            variables[name].assign(one.astype(variables[name].dtype))
        return source
    torch = optional_module("torch", extra="interop")
    parameters = dict(source.named_parameters())
    with torch.no_grad():
        for name, one in values.items():
            parameters[name].copy_(torch.as_tensor(one))
    return source


def _unfolded(layer: Layer, weight: Array) -> list[tuple[str, Array]]:
    """Return the owner's kernel and bias (or beta) with which the layer computes what the weights do."""
    dense, before, after = layer.dense, layer.before, layer.after
    n_out, n_in = dense.kernel.shape
    kernel = weight[:, :n_in].astype(np.float64)
    shift = weight[:, n_in].astype(np.float64) if weight.shape[1] > n_in else np.zeros(n_out)
    scale: Array = np.ones(n_out)
    for one in (before, after):
        if one is not None:
            checks.scale_divides(one.place, one.factor)
    if after is not None:
        scale = after.factor
        kernel = kernel / scale[:, None]
    if before is not None:
        kernel = kernel / before.factor
        shift = shift - scale * (kernel @ before.shift)
    found: list[tuple[str, Array]] = [(dense.kernel_name, kernel.T if dense.transposed else kernel)]
    if dense.bias_name is not None:
        return [*found, (dense.bias_name, shift if after is None else (shift - after.shift) / scale)]
    if after is not None and after.beta_name is not None:
        return [*found, (after.beta_name, shift + after.factor * after.mean)]
    fixed = np.zeros(n_out) if after is None else after.shift
    tolerance = 256 * np.finfo(weight.dtype).eps * max(1.0, float(np.abs(weight).max()))
    if np.abs(shift - fixed).max() > tolerance:
        checks.shift_has_a_place(dense.place)
    return found
