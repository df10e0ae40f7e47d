"""Reading of a torch module as a chain of dense layers: its forward is traced by torch.fx, and every call in it is one step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import interop as checks
from fisherstats.core.validation import interop_torch as torch_checks
from fisherstats.core.validation.arguments import optional_module
from fisherstats.interop._activations import IDENTITY, activation
from fisherstats.interop._chain import Chain, Dense, End, Hidden, Nothing, Scale, Step, chained

__all__ = ["head_of", "host", "read"]

_DOOR = "read the part that is a perceptron with `head=...`, or build the network with MLP.from_arrays"

#: layers without parameters -> (name of the activation, its parameters from those of the layer)
_ACTIVATIONS: dict[str, tuple[str, Callable[[Any], dict[str, float]]]] = {
    "ReLU": ("relu", lambda _: {}),
    "ReLU6": ("relu6", lambda _: {}),
    "LeakyReLU": ("leaky_relu", lambda one: {"slope": float(one.negative_slope)}),
    "RReLU": ("leaky_relu", lambda one: {"slope": (one.lower + one.upper) / 2}),
    "ELU": ("elu", lambda one: {"alpha": float(one.alpha)}),
    "CELU": ("celu", lambda one: {"alpha": float(one.alpha)}),
    "SELU": ("selu", lambda _: {}),
    "SiLU": ("silu", lambda _: {}),
    "Mish": ("mish", lambda _: {}),
    "Tanh": ("tanh", lambda _: {}),
    "Sigmoid": ("sigmoid", lambda _: {}),
    "LogSigmoid": ("log_sigmoid", lambda _: {}),
    "Softsign": ("softsign", lambda _: {}),
    "Softplus": ("softplus", lambda one: {"beta": float(one.beta)}),
    "Hardtanh": ("hardtanh", lambda one: {"low": float(one.min_val), "high": float(one.max_val)}),
    "Hardswish": ("hardswish", lambda _: {}),
    "Hardsigmoid": ("hardsigmoid", lambda _: {}),
}

#: functions and methods -> (name of the activation, names of its further arguments with their defaults)
_FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("relu", {}),
    "relu_": ("relu", {}),
    "relu6": ("relu6", {}),
    "leaky_relu": ("leaky_relu", {"negative_slope": 0.01}),
    "elu": ("elu", {"alpha": 1.0}),
    "celu": ("celu", {"alpha": 1.0}),
    "selu": ("selu", {}),
    "silu": ("silu", {}),
    "mish": ("mish", {}),
    "tanh": ("tanh", {}),
    "tanh_": ("tanh", {}),
    "sigmoid": ("sigmoid", {}),
    "sigmoid_": ("sigmoid", {}),
    "logsigmoid": ("log_sigmoid", {}),
    "log_sigmoid": ("log_sigmoid", {}),
    "softsign": ("softsign", {}),
    "softplus": ("softplus", {"beta": 1.0, "threshold": 20.0}),
    "hardtanh": ("hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    "hardswish": ("hardswish", {}),
    "hardsigmoid": ("hardsigmoid", {}),
    "gelu": ("gelu", {"approximate": "none"}),
    "sin": ("sin", {}),
    "erf": ("erf", {}),
    "atan": ("arctan", {}),
    "arctan": ("arctan", {}),
}
_OWN_NAMES = {"negative_slope": "slope", "min_val": "low", "max_val": "high"}

_DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")


def host(tensor: Any) -> NDArray[Any]:
    """Return a tensor as an array on the host."""
    copied = tensor.detach().cpu()
    return np.array(copied.double().numpy() if str(copied.dtype) == "torch.bfloat16" else copied.numpy())


def head_of(module: Any, head: str) -> Any:
    """Return the part of a module with the given name."""
    names = dict(module.named_modules())
    if not isinstance(head, str) or not head or head not in names:
        torch_checks.head_found(head, [name for name, _ in module.named_children()])
    return names[head]


def read(module: Any, prefix: str = "") -> Chain:
    """Return the layers of a module, with the names that its parameters have in the state of the whole network."""
    torch_checks.module_object(module)
    if not _is_leaf(module) and (module._forward_hooks or module._forward_pre_hooks):
        torch_checks.no_hooks("the module itself", type(module).__name__)
    steps = [_of_module(module, "the module itself", prefix)] if _is_leaf(module) else _traced(module, prefix)
    _refuse_tied(module, prefix, steps)
    return chained(steps, "module", IDENTITY)


def _is_leaf(module: Any) -> bool:
    return type(module).__module__.startswith("torch.nn.modules.") and type(module).__module__ != "torch.nn.modules.container"


def _refuse_tied(module: Any, prefix: str, steps: list[Step]) -> None:
    """Refuse a parameter, or memory of parameters, that is used in two places."""
    used = {name for step in steps for name in _names(step)}
    seen: dict[tuple[Any, int], str] = {}
    for name, parameter in module.named_parameters(prefix=prefix.removesuffix("."), remove_duplicate=False):
        if name not in used or parameter.numel() == 0:
            continue
        memory = (parameter.untyped_storage().data_ptr(), parameter.storage_offset())
        if memory in seen:
            checks.tied("module", name, seen[memory])
        seen[memory] = name
    names = [name for step in steps for name in _names(step)]
    for name in names:
        if names.count(name) > 1:
            checks.tied("module", name, "another call of its layer")


def _names(step: Step) -> list[str]:
    if isinstance(step, Dense):
        return [one for one in (step.kernel_name, step.bias_name) if one is not None]
    return [one for one in (step.gamma_name, step.beta_name) if one is not None] if isinstance(step, Scale) else []


def _traced(module: Any, prefix: str) -> list[Step]:
    """Return the steps of a module whose forward is traced."""
    fx = optional_module("torch.fx", extra="interop")
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:  # a forward of one's own may fail on symbolic values in any way
        torch_checks.untraceable(type(module).__name__, error)
    steps: list[Step] = []
    current: Any = None
    for node in _needed(graph):
        if node.op == "placeholder" and current is None:
            current = node
        elif node.op == "output":
            if node.args[0] is not current:
                checks.unread("module", "its end", "an output that is not the value of the last step", _DOOR)
        elif _is_size(node):
            continue
        else:
            others = [one for one in node.all_input_nodes if one is not current and not _is_size(one)]
            if others or node.op in ("placeholder", "get_attr") or not node.args or node.args[0] is not current:
                checks.unread(
                    "module",
                    _place(node),
                    f"{_what(module, node)}, which takes other values than those of the step before",
                    _DOOR,
                )
            steps.append(_step(module, node, prefix))
            current = node
    return steps


def _needed(graph: Any) -> list[Any]:
    """Return the nodes on which the output depends, in order."""
    nodes = list(graph.nodes)
    found = {nodes[-1]}
    for node in reversed(nodes):
        if node in found:
            found.update(node.all_input_nodes)
        elif node.op.startswith("call") and not _is_size(node):  # it may change its input in place
            checks.unread("module", _place(node), "a call whose result is not passed on", "pass it on, or leave the call out")
    return [node for node in nodes if node in found]


def _is_size(node: Any) -> bool:
    """Return whether a node is the size of a batch, or an entry of it."""
    if node.op == "call_method" and node.target == "size":
        return True
    name = getattr(node.target, "__name__", "")
    if node.op == "call_function" and name == "getattr":
        return bool(node.args[1] == "shape")
    return node.op == "call_function" and name == "getitem" and _is_size(node.args[0])


def _place(node: Any) -> str:
    return f"`{node.target}`" if node.op == "call_module" else f"`{node.name}` in its forward"


def _what(module: Any, node: Any) -> str:
    if node.op == "call_module":
        return f"a layer {type(module.get_submodule(node.target)).__name__}"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return {"placeholder": f"the further input {name}", "get_attr": f"the parameter {name}"}.get(node.op, f"a call of {name}")


def _step(module: Any, node: Any, prefix: str) -> Step:
    if node.op == "call_module":
        return _of_module(module.get_submodule(node.target), _place(node), f"{prefix}{node.target}.")
    return _of_function(node)


def _of_module(layer: Any, place: str, prefix: str) -> Step:
    """Return the step of one layer of torch.nn."""
    kind = type(layer).__name__
    ours = type(layer).__module__.startswith("torch.nn.modules.")
    if kind.startswith("Lazy"):
        torch_checks.not_uninitialised(place, kind)
    if layer._forward_hooks or layer._forward_pre_hooks:
        torch_checks.no_hooks(place, kind)
    if ours and kind == "Linear":
        return _dense(layer, place, prefix)
    if ours and kind in ("BatchNorm1d", "SyncBatchNorm"):
        return _scale(layer, place, prefix)
    if ours and kind in _DROPOUTS:
        if layer.training and layer.p > 0:
            torch_checks.in_evaluation(place, kind)
        return Nothing(place)
    if ours and kind == "Identity":
        return Nothing(place)
    if ours and kind == "Flatten" and (layer.start_dim, layer.end_dim) == (1, -1):
        return Nothing(place, flattens=True)
    if ours and kind in ("Softmax", "LogSoftmax") and layer.dim in (1, -1, None):
        return End(place, "softmax" if kind == "Softmax" else "log_softmax")
    if ours and kind == "GELU":
        return Hidden(place, activation(place, "gelu_tanh" if layer.approximate == "tanh" else "gelu"))
    if ours and kind in _ACTIVATIONS:
        if kind == "RReLU" and layer.training:
            torch_checks.in_evaluation(place, kind)
        name, parameters = _ACTIVATIONS[kind]
        return Hidden(place, activation(place, name, **parameters(layer)))
    checks.unread("module", place, f"a layer {kind}", _DOOR)


def _parameter(layer: Any, what: str, place: str) -> NDArray[Any] | None:
    """Return a parameter of a layer, None if it has none of that name."""
    tensor = layer._parameters.get(what, layer._buffers.get(what, ...))
    if tensor is None:
        return None
    if tensor is ... or tensor.is_meta or "Uninitialized" in type(tensor).__name__:
        torch_checks.not_uninitialised(place, type(layer).__name__)
    return host(tensor)


def _dense(layer: Any, place: str, prefix: str) -> Dense:
    kernel, bias = _parameter(layer, "weight", place), _parameter(layer, "bias", place)
    assert kernel is not None
    checks.kernel_and_bias(place, kernel, bias, len(kernel))
    return Dense(place, kernel, bias, f"{prefix}weight", None if bias is None else f"{prefix}bias")


def _scale(layer: Any, place: str, prefix: str) -> Scale:
    if layer.running_mean is None:
        torch_checks.batch_normalizes(place)
    if layer.training:
        torch_checks.in_evaluation(place, type(layer).__name__)
    mean, variance, gamma, beta = (_parameter(layer, one, place) for one in ("running_mean", "running_var", "weight", "bias"))
    assert mean is not None
    assert variance is not None
    variance = variance.astype(np.float64) + layer.eps
    known = {"mean": mean, "variance": variance}
    known |= {what: one for what, one in (("gamma", gamma), ("beta", beta)) if one is not None}
    checks.statistics(place, known, layer.num_features)
    return Scale(
        place,
        mean.astype(np.float64),
        np.sqrt(variance),
        np.ones(len(mean)) if gamma is None else gamma.astype(np.float64),
        np.zeros(len(mean)) if beta is None else beta.astype(np.float64),
        None if gamma is None else f"{prefix}weight",
        None if beta is None else f"{prefix}bias",
    )


def _of_function(node: Any) -> Step:
    """Return the step of one function or method that a forward calls."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    place, args, kwargs = _place(node), list(node.args[1:]), {key: one for key, one in node.kwargs.items() if key != "inplace"}
    if name in ("flatten", "view", "reshape"):
        if _flattens(name, args, kwargs):
            columns = args[-1] if name != "flatten" and len(args) == 2 else args[0][-1] if name != "flatten" else -1
            return Nothing(place, flattens=True, columns=columns if columns > 0 else None)
        checks.unread("module", place, f"a call of {name} that does more than make rows of a batch", _DOOR)
    if name in ("dropout", "alpha_dropout", "feature_alpha_dropout"):
        given = dict(zip(("p", "training"), args, strict=False)) | kwargs
        if given.get("training", name == "dropout") and given.get("p", 0.5) > 0:
            torch_checks.in_evaluation(place, name)
        return Nothing(place)
    if name in ("contiguous", "squeeze_"):
        return Nothing(place)
    if name in ("softmax", "log_softmax"):
        if (dict(zip(("dim",), args, strict=False)) | kwargs).get("dim") in (1, -1, None):
            return End(place, name)
        checks.unread("module", place, f"a {name} along another dimension than the last", _DOOR)
    if name in ("exp", "exp_"):
        return End(place, "exp")
    if name in _FUNCTIONS:
        own, defaults = _FUNCTIONS[name]
        options = defaults | dict(zip(defaults, args, strict=False)) | {key: kwargs[key] for key in kwargs if key in defaults}
        if options.pop("approximate", "none") == "tanh":
            own = "gelu_tanh"
        options.pop("threshold", None)
        parameters = {_OWN_NAMES.get(str(key), str(key)): float(one) for key, one in options.items()}
        return Hidden(place, activation(place, own, **parameters))
    checks.unread("module", place, f"a call of {name}", _DOOR)


def _flattens(name: str, args: list[Any], kwargs: dict[str, Any]) -> bool:
    """Return whether a call makes one row of every input of a batch."""
    if name == "flatten":
        given = {"start_dim": 0, "end_dim": -1} | dict(zip(("start_dim", "end_dim"), args, strict=False)) | kwargs
        return given == {"start_dim": 1, "end_dim": -1}
    shape = list(args[0]) if len(args) == 1 and isinstance(args[0], tuple | list) else args
    if kwargs or len(shape) != 2:
        return False
    rows, columns = shape
    counted = hasattr(rows, "op")  # the size of the batch
    known = isinstance(columns, int) and not math.isnan(columns)
    return (counted and known) or (isinstance(rows, int) and rows == -1 and known and columns > 0)
