"""Networks of any architecture by their derivatives: PyTorch modules through torch.func, functions of JAX through jax.jacrev."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.core.validation import interop_results as result_checks
from fisherstats.core.validation import interop_torch as torch_checks
from fisherstats.models.external import ExternalNetwork, Layer
from fisherstats.models.families import Family
from fisherstats.quantities import _labels

__all__ = ["PRECISIONS", "by_name", "external_from_torch", "from_jax", "learned", "refuse_training"]

PRECISIONS = {"float32": np.float32, "float64": np.float64}


def external_from_torch(module: Any, family: Family, example: Any = None) -> ExternalNetwork:
    r"""Make a network of any architecture from a PyTorch module, by its derivatives.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode, on the host; ``module(x)`` gives natural parameters (n, T) for a batch, and treats its examples
        independently. Parameters that require a gradient are those of the network (all, if none does).
    family : Family
        Response distribution.
    example : array or tensor, optional
        A few inputs. With them, each Linear that acts once on every example is given by factors instead of a Jacobian, which is
        faster, and enables its Kronecker factors.

    Returns
    -------
    ExternalNetwork
        With the names and shapes of the module's parameters.

    Raises
    ------
    TypeError
        If `module` is no torch.nn.Module.
    ValueError
        If it is in training mode where that matters, or its parameters are not all float32 or all float64.

    Notes
    -----
    Cost per block: one forward pass, and one backward pass for each of the T outputs, over all examples of the block at once
    (example by example where torch.func cannot, as for recurrent layers). The module is copied once per thread. Second
    derivatives are not taken, so that the Hessian estimator is refused.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import fisherstats as fs
    >>> from fisherstats.interop import external_from_torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 3)).eval()
    >>> network = external_from_torch(net, fs.families.Categorical(3), example=np.zeros((1, 1, 4, 4)))
    >>> [(one.name, one.shape, one.factored) for one in network.layers]
    [('0.weight', (2, 1, 3, 3), False), ('0.bias', (2,), False), ('2.weight', (3, 8), True), ('2.bias', (3,), False)]
    """
    torch = arguments.optional_module("torch", extra="interop-test")
    torch_checks.module_object(module)
    refuse_training(torch, module)
    named, chosen = dict(module.named_parameters()), learned(module)
    dtype = torch_checks.one_precision({name: str(one.dtype).removeprefix("torch.") for name, one in chosen.items()}, PRECISIONS)
    factored = _factored(torch, module, chosen, example)
    digest = hashlib.sha256()
    for name, one in (*named.items(), *module.named_buffers()):
        digest.update(name.encode() + one.detach().cpu().numpy().tobytes())
    layers = [Layer(name, tuple(one.shape) or (1,), name in factored) for name, one in chosen.items()]
    evaluate = _TorchDerivatives(module, list(chosen), factored)
    return ExternalNetwork(evaluate, family=family, layers=layers, dtype=PRECISIONS[dtype], fingerprint=digest.hexdigest())


def refuse_training(torch: Any, module: Any) -> None:
    """Require evaluation mode of every part of a module for which it matters."""
    nn = torch.nn
    acting = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RReLU)
    for name, part in module.named_modules():
        if part.training and isinstance(part, acting):
            torch_checks.in_evaluation(name or "the top", type(part).__name__)


def learned(module: Any) -> dict[str, Any]:
    """Return the parameters that require a gradient by name; all, if none does."""
    named = dict(module.named_parameters())
    return {name: one for name, one in named.items() if one.requires_grad} or named


def by_name(result: Any, network: ExternalNetwork, what: str = "values") -> dict[str, NDArray[Any]]:
    """Split a result over the parameters of an external network into arrays under the owner's names.

    Parameters
    ----------
    result : DataArray, dims (param,)
        A result of this package for the network, such as a diagonal information.
    network : ExternalNetwork
        The network.
    what : {"values", "standard_errors"}, default "values"
        The values, or the standard errors that the result carries.

    Returns
    -------
    dict of str to ndarray
        By the names, and in the shapes, of ``network.layers``.

    Raises
    ------
    ValueError
        If `result` has no standard errors, or is not over the parameters of the network.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> from fisherstats.interop import by_name
    >>> network = fs.ExternalNetwork(
    ...     lambda x: (x.sum(axis=1, keepdims=True), [x[:, None, :].reshape(len(x), 1, 2, 1)]),
    ...     family=fs.families.Poisson(),
    ...     layers=[fs.Layer("rates", (2, 1))],
    ... )
    >>> by_name(fs.fisher_information(network, np.zeros((3, 2)) + [0.0, 1.0]), network)["rates"].round(3).tolist()
    [[0.0], [2.718]]
    """
    arguments.choice("what", what, ("values", "standard_errors"))
    values, errors = _labels.values_and_error("result", result)
    if what == "standard_errors" and errors is None:
        result_checks.no_errors()
    vector = arguments.real_array("result", values if what == "values" else errors)
    if vector.shape != (network.n_params,):
        result_checks.one_per_parameter(result, network.n_params, vector.shape)
    pieces = zip(network.layers, network.layer_slices(), strict=True)
    return {layer.name: vector[piece].reshape(layer.shape).copy() for layer, piece in pieces}


def _factored(torch: Any, module: Any, chosen: dict[str, Any], example: Any) -> dict[str, str]:
    """Return {name of a weight: name of its Linear} for those that act once on every example."""
    if example is None:
        return {}
    names = {id(one): name for name, one in chosen.items()}
    calls: dict[str, list[int]] = {}
    handles = [
        part.register_forward_hook(lambda _, args, __, place=place: calls.setdefault(place, []).append(args[0].ndim))
        for place, part in module.named_modules()
        if type(part) is torch.nn.Linear
    ]
    try:
        with torch.no_grad():
            module(_tensor(torch, example, next(iter(chosen.values()))))
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for place, ndims in calls.items():
        weight = module.get_submodule(place).weight
        shared = sum(one is weight for part in module.modules() for one in part._parameters.values()) > 1
        if ndims == [2] and not shared and id(weight) in names:
            found[names[id(weight)]] = place
    return found


def _tensor(torch: Any, x: Any, like: Any) -> Any:
    """Return inputs as a tensor in the precision of the module; a tensor of integers, as embeddings take, stays one."""
    found = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x))
    return found.to(like.dtype) if found.is_floating_point() else found


class _TorchDerivatives:
    """Natural parameters and their derivatives by a module's parameters, for a block of inputs."""

    def __init__(self, module: Any, names: list[str], factored: dict[str, str]) -> None:
        self._module = module
        self._names = names
        self._factored = factored
        self._own = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return _TorchDerivatives, (self._module, self._names, self._factored)

    def __call__(self, x: NDArray[Any]) -> tuple[Any, list[Any]]:
        torch = arguments.optional_module("torch", extra="interop-test")
        if not hasattr(self._own, "module"):
            # torch.func exchanges the parameters of the module that it calls, so each thread has its own.
            self._own.module = copy.deepcopy(self._module)
            self._own.inputs = {}
            for place in self._factored.values():
                self._own.module.get_submodule(place).register_forward_hook(self._hook(place))
        module, inputs = self._own.module, self._own.inputs
        parameters = {name: one.detach() for name, one in module.named_parameters()}
        buffers = {name: one.detach() for name, one in module.named_buffers()}
        at = {name: parameters.pop(name) for name in self._names if name not in self._factored}
        moved = {place: parameters[name].new_zeros(len(parameters[name])) for name, place in self._factored.items()}

        def outputs(at: dict[str, Any], moved: dict[str, Any], one: Any) -> tuple[Any, Any]:
            self._own.moved = moved
            h = torch.func.functional_call(module, ({**parameters, **at}, buffers), (one[None],))[0]
            return h, (h, dict(inputs))

        jacobian = torch.func.jacrev(outputs, argnums=(0, 1), has_aux=True)
        block = _tensor(torch, x, next(iter(module.parameters())))
        try:
            (by_name, by_place), (h, seen) = torch.func.vmap(jacobian, in_dims=(None, None, 0))(at, moved, block)
        except RuntimeError:
            # Recurrent layers, for one, have no rule for batches of examples.
            singles = [jacobian(at, moved, one) for one in block]
            (by_name, by_place), (h, seen) = torch.utils._pytree.tree_map(lambda *same: torch.stack(same), *singles)
        parts: list[Any] = []
        for name in self._names:
            at_linear = self._factored.get(name)
            parts.append(by_name[name] if at_linear is None else (by_place[at_linear], seen[at_linear]))
        return h, parts

    def _hook(self, place: str) -> Callable[..., Any]:
        def moves(part: Any, args: Any, output: Any) -> Any:
            self._own.inputs[place] = args[0][0]
            return output + self._own.moved[place]

        return moves


@documented
def from_jax(apply: Callable[[Any, Any], Any], params: Any, family: Family) -> ExternalNetwork:
    r"""Make a network of any architecture from a function of JAX, by its derivatives.

    Parameters
    ----------
    apply : callable
        ``apply(params, x)`` gives natural parameters (n, T) for a batch x (n, ...), and treats its examples independently, such
        as the ``apply`` of Flax with dropout off.
    params : pytree
        Parameters, all float32 or all float64.
    family : Family
        Response distribution.

    Returns
    -------
    ExternalNetwork
        With one array of parameters per leaf, named by its path, in the order of ``jax.tree_util.tree_flatten_with_path``.

    Raises
    ------
    ValueError
        If the leaves are not all of one precision.
    MissingExtra
        If JAX is not installed.

    Notes
    -----
    Cost per block: one forward pass, and one backward pass for each of the T outputs over all examples of the block, compiled
    once per size of a block.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> from fisherstats.interop import from_jax
    >>> params = {"w": np.ones((2, 1), np.float32)}
    >>> network = from_jax(lambda params, x: x @ params["w"], params, fs.families.Bernoulli())
    >>> fs.fisher_information(network, np.ones((3, 2))).values.round(3)
    array([0.105, 0.105], dtype=float32)
    """
    jax = arguments.optional_module("jax", extra="interop-test")
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    arrays = [np.asarray(one) for _, one in leaves]
    dtype = torch_checks.one_precision(dict(zip(names, (str(one.dtype) for one in arrays), strict=True)), PRECISIONS)
    digest = hashlib.sha256()
    for name, one in zip(names, arrays, strict=True):
        digest.update(name.encode() + one.tobytes())

    def outputs(params: Any, one: Any) -> tuple[Any, Any]:
        h = apply(params, one[None])[0]
        return h, h

    jacobians = jax.jit(jax.vmap(jax.jacrev(outputs, has_aux=True), in_axes=(None, 0)))

    def evaluate(x: NDArray[Any]) -> tuple[Any, list[Any]]:
        found, h = jacobians(params, x.astype(dtype, copy=False) if x.dtype.kind == "f" else x)
        return np.asarray(h), [np.asarray(one) for one in jax.tree_util.tree_leaves(found)]

    layers = [Layer(name, one.shape or (1,)) for name, one in zip(names, arrays, strict=True)]
    return ExternalNetwork(evaluate, family=family, layers=layers, dtype=PRECISIONS[dtype], fingerprint=digest.hexdigest())
