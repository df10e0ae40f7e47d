"""Reading of a Keras model as a chain of dense layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import interop as checks
from fisherstats.interop._activations import IDENTITY, activation
from fisherstats.interop._chain import Chain, Dense, End, Hidden, Nothing, Scale, Step, chained

__all__ = ["is_keras", "read", "variables"]

_DOOR = "build the network with MLP.from_arrays"
_DEFAULTS: dict[str, dict[str, float]] = {"leaky_relu": {"slope": 0.2}}
"""Parameters of functions of `keras.activations` that differ from those of this package."""

_ENDS = {"softmax": "softmax", "log_softmax": "log_softmax", "exponential": "exp"}
_NOTHING = (
    "InputLayer",
    "Dropout",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "ActivityRegularization",
    "Identity",
)


def is_keras(model: Any) -> bool:
    """Return whether an object is of Keras, by the modules of its type."""
    return any(str(one.__module__).partition(".")[0] == "keras" for one in type(model).__mro__)


def read(model: Any) -> Chain:
    """Return the layers of a Sequential or of a Functional model without branches."""
    kinds = {one.__name__ for one in type(model).__mro__}
    if not is_keras(model) or not kinds & {"Sequential", "Functional"}:
        checks.not_from("model", model, "a keras.Sequential or a keras.Model of layers in one chain", f"; otherwise {_DOOR}")
    if not model.built:
        checks.not_from("model", model, "built", "; call it once, or give it a keras.Input")
    steps = [step for layer in _layers(model) for step in _steps(layer)]
    names = [name for step in steps if isinstance(step, Dense) for name in (step.kernel_name,)]
    for name in names:
        if names.count(name) > 1:
            checks.tied("model", name, "another call of its layer")
    return chained(steps, "model", IDENTITY)


def variables(model: Any) -> dict[str, Any]:
    """Return the variables that a chain names, by these names."""
    kinds = {"Dense": ("kernel", "bias"), "BatchNormalization": ("gamma", "beta")}
    return {
        f"{layer.name}/{name}": getattr(layer, name)
        for layer in _layers(model)
        for name in kinds.get(type(layer).__name__, ())
        if getattr(layer, name, None) is not None
    }


def _layers(model: Any) -> Iterator[Any]:
    """Yield the layers in order, those of nested models included; refuse a graph that is no chain."""
    kinds = {one.__name__ for one in type(model).__mro__}
    if "Functional" in kinds and "Sequential" not in kinds:
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            checks.unread("model", f"`{model.name}`", "a model with several inputs or outputs", _DOOR)
        before: str | None = None
        for described in model.get_config()["layers"]:
            inputs = list(_histories(described["inbound_nodes"]))
            if inputs != ([] if before is None else [before]) or len(described["inbound_nodes"]) > 1:
                checks.unread("model", f"`{described['name']}`", "a layer with other inputs than the layer before", _DOOR)
            before = described["name"]
    for layer in model.layers:
        if {one.__name__ for one in type(layer).__mro__} & {"Sequential", "Functional"}:
            yield from _layers(layer)
        else:
            yield layer


def _histories(node: Any) -> Iterator[str]:
    """Yield the names of the layers that a described call takes its inputs from."""
    if isinstance(node, dict):
        if "keras_history" in node:
            yield node["keras_history"][0]
        else:
            for one in node.values():
                yield from _histories(one)
    elif isinstance(node, list | tuple):
        for one in node:
            yield from _histories(one)


def _steps(layer: Any) -> list[Step]:
    kind, place = type(layer).__name__, f"`{layer.name}`"
    if not str(type(layer).__module__).startswith("keras."):
        checks.unread("model", place, f"a layer {kind} of one's own", _DOOR)
    if kind == "Dense":
        kernel = _array(layer.kernel).T
        bias = _array(layer.bias) if layer.use_bias else None
        if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
            checks.unread("model", place, "a Dense layer with LoRA or quantisation", "merge it first")
        checks.kernel_and_bias(place, kernel, bias, len(kernel))
        names = f"{layer.name}/kernel", None if bias is None else f"{layer.name}/bias"
        return [Dense(place, kernel, bias, *names, transposed=True), *_function(layer.activation, place)]
    if kind == "BatchNormalization":
        return [_scale(layer, place)]
    if kind in _NOTHING:
        return [Nothing(place)]
    if kind == "Flatten":
        return [Nothing(place, flattens=True)]
    if kind == "Activation":
        return _function(layer.activation, place)
    if kind == "Softmax" and layer.axis in (-1, 1):
        return [End(place, "softmax")]
    found = _activation_layer(layer, kind, place)
    return [found] if found is not None else checks.unread("model", place, f"a layer {kind}", _DOOR)


def _activation_layer(layer: Any, kind: str, place: str) -> Step | None:
    if kind == "LeakyReLU":
        return Hidden(place, activation(place, "leaky_relu", slope=float(layer.negative_slope)))
    if kind == "ELU":
        return Hidden(place, activation(place, "elu", alpha=float(layer.alpha)))
    if kind == "ReLU" and float(layer.threshold or 0) == 0:
        slope = float(layer.negative_slope or 0)
        if layer.max_value is None:
            return Hidden(place, activation(place, "leaky_relu", slope=slope))
        if slope == 0:
            return Hidden(place, activation(place, "hardtanh", low=0.0, high=float(layer.max_value)))
    return None


def _function(function: Any, place: str) -> list[Step]:
    """Return the step of an activation given as a function of Keras, or as a layer."""
    name = getattr(function, "__name__", type(function).__name__)
    if hasattr(function, "get_config") and hasattr(function, "name"):
        return _steps(function)
    if not str(getattr(function, "__module__", "")).startswith("keras."):
        checks.unread("model", place, f"the activation {name} of one's own", _DOOR)
    if name == "linear":
        return [Nothing(place)]
    if name in _ENDS:
        return [End(place, _ENDS[name])]
    return [Hidden(place, activation(place, name, **_DEFAULTS.get(name, {})))]


def _array(variable: Any) -> NDArray[Any]:
    value = variable.value
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.array(value)


def _scale(layer: Any, place: str) -> Scale:
    if layer.axis not in (-1, 1):
        checks.unread("model", place, f"a BatchNormalization along the axis {layer.axis}", _DOOR)
    mean, variance = _array(layer.moving_mean), _array(layer.moving_variance)
    gamma = _array(layer.gamma) if layer.scale else None
    beta = _array(layer.beta) if layer.center else None
    variance = variance.astype(np.float64) + layer.epsilon
    known = {"mean": mean, "variance": variance}
    known |= {what: one for what, one in (("gamma", gamma), ("beta", beta)) if one is not None}
    checks.statistics(place, known, len(mean))
    return Scale(
        place,
        mean.astype(np.float64),
        np.sqrt(variance),
        np.ones(len(mean)) if gamma is None else gamma.astype(np.float64),
        np.zeros(len(mean)) if beta is None else beta.astype(np.float64),
        None if gamma is None else f"{layer.name}/gamma",
        None if beta is None else f"{layer.name}/beta",
    )
