"""Conversion of ONNX graphs to networks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import arguments
from fisherstats.core.validation import interop as checks
from fisherstats.core.validation import interop_onnx as onnx_checks
from fisherstats.core.validation.arguments import optional_module
from fisherstats.interop._activations import IDENTITY, activation
from fisherstats.interop._chain import Chain, Dense, End, Hidden, Nothing, Scale, Step, chained
from fisherstats.interop._families import family_of
from fisherstats.models.families import Family
from fisherstats.models.network import MLP

__all__ = ["from_onnx"]

_DOOR = "export the part that is a perceptron, or build the network with MLP.from_arrays"
_ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "HardSwish": "hardswish",
    "Mish": "mish",
    "Sin": "sin",
    "Erf": "erf",
    "Atan": "atan",
}
_ENDS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Exp": "exp"}


def from_onnx(model: Any, *, family: Family | None = None) -> MLP:
    """Convert an ONNX graph that is a multilayer perceptron to the equivalent exponential-family network.

    Read are Gemm, MatMul with or without a following Add, BatchNormalization, activations that this package has, Flatten,
    Reshape to rows, Dropout, Identity, and a Softmax, LogSoftmax, Sigmoid or Exp at the end.

    Parameters
    ----------
    model : path or onnx.ModelProto
        The graph, with one input and one output.
    family : Family, optional
        The family whose natural parameters the last dense layer gives. Needed where no softmax at the end says it.

    Returns
    -------
    MLP
        The network; its weights are those of the graph, float32 is kept.

    Raises
    ------
    TypeError
        If `model` is neither a path nor a ModelProto.
    ValueError
        If the file is damaged, a node is no part of a perceptron (its name and type are given), or the family is not said.
    MissingExtra
        If onnx is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import onnx
    >>> from fisherstats.interop import from_onnx
    >>> weights = [onnx.numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in (("w", (2, 3)), ("b", (2,)))]
    >>> nodes = [onnx.helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1), onnx.helper.make_node("Softmax", ["z"], ["p"])]
    >>> x, p = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", s]) for n, s in (("x", 3), ("p", 2)))
    >>> from_onnx(onnx.helper.make_model(onnx.helper.make_graph(nodes, "net", [x], [p], weights)))
    MLP(3-2, activation=none, family=Categorical(n_classes=2, minimal=False), 8 parameters)
    """
    chain = _Graph(_loaded(model)).chain()
    return chain.network(family_of(chain.n_outputs, None if chain.end is None else chain.end.function, None, family))


def _loaded(model: Any) -> Any:
    """Return a ModelProto, from a file where a path is given."""
    library = optional_module("onnx", extra="interop")
    if isinstance(model, library.ModelProto):
        return model
    if not isinstance(model, str | os.PathLike):
        checks.not_from("model", model, "the path of an ONNX file, or an onnx.ModelProto")
    path = Path(arguments.path("model", model, "the path of a file"))
    if not path.is_file():
        onnx_checks.not_readable(model, "there is no file")
    try:
        found = library.load(path)
    except Exception as error:  # protobuf, numpy and the file system raise errors of many types
        onnx_checks.not_readable(model, f"{type(error).__name__}: {' '.join(str(error).split())}")
    if not found.graph.node:
        onnx_checks.not_readable(model, "it holds no graph")
    return found


class _Graph:
    """The nodes of a graph, read in order as one chain from its input."""

    def __init__(self, model: Any) -> None:
        library = optional_module("onnx", extra="interop")
        self._to_array = library.numpy_helper.to_array
        self._value_of = library.helper.get_attribute_value
        self._graph = model.graph
        self._constants: dict[str, Any] = {one.name: one for one in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = self._attributes(node).get("value")

    def chain(self) -> Chain:
        """Return the layers."""
        inputs = [one.name for one in self._graph.input if one.name not in self._constants]
        outputs = [one.name for one in self._graph.output]
        if len(inputs) != 1 or len(outputs) != 1:
            onnx_checks.one_input_and_output(inputs, outputs)
        current = before = inputs[0]
        steps: list[Step] = []
        for node in self._graph.node:
            if node.op_type == "Constant":
                continue
            place = f"`{node.name or node.output[0]}`"
            arrays = [name for name in node.input if name and name in self._constants]
            others = [name for name in node.input if name and name not in self._constants]
            if node.op_type == "Mul" and sorted(others) == sorted([before, current]) and _is_sigmoid(steps):
                steps[-1] = Hidden(place, activation(place, "silu"))
                before, current = current, node.output[0]
                continue
            if others != [current] or node.domain not in ("", "ai.onnx"):
                checks.unread("model", place, f"a node {node.op_type} with other inputs than the output before it", _DOOR)
            if node.op_type == "Add" and steps and isinstance(steps[-1], Dense) and steps[-1].bias is None and len(arrays) == 1:
                steps[-1] = self._with_bias(steps[-1], arrays[0])
            else:
                steps.append(self._step(node, place, arrays, node.input[0] == current))
            before, current = current, node.output[0]
        if current != outputs[0]:
            checks.unread("model", f"`{outputs[0]}`", "an output that is not that of the last node", _DOOR)
        names = [one.kernel_name for one in steps if isinstance(one, Dense)]
        for name in names:
            if names.count(name) > 1:
                checks.tied("model", name, "another node")
        return chained(steps, "model", IDENTITY)

    def _attributes(self, node: Any) -> dict[str, Any]:
        return {one.name: self._value_of(one) for one in node.attribute}

    def _array(self, name: str) -> NDArray[Any]:
        try:
            return np.array(self._to_array(self._constants[name]))
        except Exception as error:  # a damaged tensor raises errors of many types
            onnx_checks.tensor_not_readable(name, error)

    def _with_bias(self, dense: Dense, name: str) -> Dense:
        bias = self._array(name)
        bias = bias[0] if bias.ndim == 2 and len(bias) == 1 else bias
        checks.kernel_and_bias(dense.place, dense.kernel, bias, len(dense.kernel))
        return Dense(dense.place, dense.kernel, bias, dense.kernel_name, name, dense.transposed)

    def _step(self, node: Any, place: str, arrays: list[str], first: bool) -> Step:
        kind, given = node.op_type, self._attributes(node)
        if kind == "Gemm" and arrays and first:
            return self._gemm(given, place, arrays)
        if kind == "MatMul" and len(arrays) == 1 and first:
            return self._dense(place, arrays[0], None, transposed=True)
        if kind == "BatchNormalization" and len(arrays) == 4 and not given.get("training_mode"):
            return self._scale(place, arrays, given.get("epsilon", 1e-5))
        if kind == "Identity" or (kind == "Dropout" and not (len(arrays) > 1 and self._array(arrays[1]).any())):
            return Nothing(place)
        if kind == "Cast" and given.get("to") in (1, 11):  # float32, float64
            return Nothing(place)
        if kind == "Flatten" and given.get("axis", 1) == 1:
            return Nothing(place, flattens=True)
        if kind == "Reshape" and (shape := self._shape_of_rows(arrays)) is not None:
            return Nothing(place, flattens=True, columns=shape if shape > 0 else None)
        if kind in _ENDS and given.get("axis", -1) in (-1, 1):
            return End(place, _ENDS[kind])
        found = self._activation(kind, given, place, arrays)
        return found if found is not None else checks.unread("model", place, f"a node {kind}", _DOOR)

    def _shape_of_rows(self, arrays: list[str]) -> int | None:
        """Return the number of columns of a Reshape to rows, -1 if it is what they have, None for another shape."""
        shape = self._array(arrays[0]).tolist() if arrays else []
        return int(shape[1]) if len(shape) == 2 and ((shape[0] == -1 and shape[1] > 0) or shape[0] == 0) else None

    def _gemm(self, given: dict[str, Any], place: str, arrays: list[str]) -> Dense:
        if given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1 or given.get("transA", 0):
            checks.unread("model", place, "a Gemm with alpha, beta or transA", _DOOR)
        return self._dense(place, arrays[0], arrays[1] if len(arrays) > 1 else None, transposed=not given.get("transB", 0))

    def _dense(self, place: str, kernel_name: str, bias_name: str | None, transposed: bool) -> Dense:
        kernel = self._array(kernel_name)
        kernel = kernel.T if transposed else kernel
        dense = Dense(place, kernel.copy(), None, kernel_name, None, transposed)
        checks.kernel_and_bias(place, kernel, None, 0)
        return dense if bias_name is None else self._with_bias(dense, bias_name)

    def _scale(self, place: str, arrays: list[str], epsilon: float) -> Scale:
        gamma, beta, mean, variance = (self._array(name) for name in arrays)
        variance = variance.astype(np.float64) + epsilon
        checks.statistics(place, {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta}, len(mean))
        mean, deviation, gamma, beta = (one.astype(np.float64) for one in (mean, np.sqrt(variance), gamma, beta))
        return Scale(place, mean, deviation, gamma, beta, arrays[0], arrays[1])

    def _activation(self, kind: str, given: dict[str, Any], place: str, arrays: list[str]) -> Hidden | None:
        parameters: dict[str, float] = {}
        name = _ACTIVATIONS.get(kind)
        if kind == "LeakyRelu":
            name, parameters = "leaky_relu", {"slope": _decimal(given.get("alpha", 0.01))}
        elif kind in ("Elu", "Celu"):
            name, parameters = kind.lower(), {"alpha": _decimal(given.get("alpha", 1.0))}
        elif (
            kind == "Selu"
            and abs(given.get("alpha", 1.67326) - 1.67326) < 1e-5
            and abs(given.get("gamma", 1.0507) - 1.0507) < 1e-5
        ):
            name = "selu"
        elif kind == "Gelu":
            name = "gelu_tanh" if given.get("approximate", b"none") == b"tanh" else "gelu"
        elif kind == "HardSigmoid" and abs(given.get("alpha", 0.2) - 1 / 6) < 1e-7 and given.get("beta", 0.5) == 0.5:
            name = "hardsigmoid"
        elif kind == "Clip" and len(arrays) == 2:
            low, high = (float(self._array(one)) for one in arrays)
            name, parameters = "hardtanh", {"low": low, "high": high}
        return None if name is None else Hidden(place, activation(place, name, **parameters))


def _is_sigmoid(steps: list[Step]) -> bool:
    """Return whether the last step is a sigmoid, whose product with its own input is the activation silu."""
    return bool(steps) and isinstance(steps[-1], Hidden) and steps[-1].activation.name == "sigmoid"


def _decimal(number: float) -> float:
    """Return the shortest decimal number with the float32 value that a graph stores for an attribute."""
    return float(str(np.float32(number)))
