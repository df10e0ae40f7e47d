"""A multilayer perceptron as its owner stores it: dense layers with what is folded into them, and the names of the parameters.

A reader turns the object of a library into a list of steps; `chained` groups them into layers, and `Chain.network` folds them
into an `MLP`. The chain also says how each parameter of the owner enters the folded weights, so that results go back by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import interop as checks
from fisherstats.models.activations import Activation, get
from fisherstats.models.families import Family
from fisherstats.models.network import MLP

__all__ = ["Chain", "Dense", "End", "Hidden", "Layer", "Nothing", "Scale", "Step", "chained"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Scale:
    r"""A normalisation at fixed statistics, :math:`y=\gamma(x-\mu)/\sigma+\beta` per unit, with the names of gamma and beta."""

    place: str
    mean: Array
    deviation: Array
    gamma: Array
    beta: Array
    gamma_name: str | None = None
    beta_name: str | None = None

    @property
    def factor(self) -> Array:
        """What the unit is multiplied by."""
        return self.gamma / self.deviation

    @property
    def shift(self) -> Array:
        """What is added to the unit."""
        return self.beta - self.factor * self.mean


@dataclass(frozen=True)
class Dense:
    """A dense layer: its kernel (n_out, n_in), its bias if it has one, and their names; `transposed` if stored (n_in, n_out)."""

    place: str
    kernel: Array
    bias: Array | None
    kernel_name: str
    bias_name: str | None = None
    transposed: bool = False


@dataclass(frozen=True)
class Hidden:
    """An activation."""

    place: str
    activation: Activation


@dataclass(frozen=True)
class End:
    """A function at the end that makes means of natural parameters: "softmax", "log_softmax", "sigmoid" or "exp"."""

    place: str
    function: str


@dataclass(frozen=True)
class Nothing:
    """A step that does nothing to a matrix of inputs; `flattens` if it makes one, of so many columns if that is said."""

    place: str
    flattens: bool = False
    columns: int | None = None


Step = Scale | Dense | Hidden | End | Nothing


@dataclass
class Layer:
    """A dense layer with the normalisations of its inputs and of its pre-activations, and its activation."""

    dense: Dense
    before: Scale | None = None
    after: Scale | None = None
    activation: Activation | None = None

    @property
    def has_bias(self) -> bool:
        """Whether the folded layer adds something: its own bias, or the shift of a normalisation."""
        return self.dense.bias is not None or self.before is not None or self.after is not None

    @property
    def normalized(self) -> bool:
        """Whether a normalisation is folded into the layer."""
        return self.before is not None or self.after is not None

    def folded(self) -> Array:
        """Return the weights (n_out, n_in + 1), or (n_out, n_in) without a bias, in the precision of the kernel."""
        kernel, bias = self.dense.kernel, self.dense.bias
        if not self.normalized:
            return kernel if bias is None else np.column_stack([kernel, bias])
        weight = kernel.astype(np.float64)
        shift = np.zeros(len(weight)) if bias is None else bias.astype(np.float64)
        if self.before is not None:
            shift = shift + weight @ self.before.shift
            weight = weight * self.before.factor
        if self.after is not None:
            shift = self.after.factor * shift + self.after.shift
            weight = self.after.factor[:, None] * weight
        return np.column_stack([weight, shift]).astype(kernel.dtype)


@dataclass(frozen=True)
class Chain:
    """The layers of a perceptron, the function at its end, and whether it flattens its inputs."""

    layers: list[Layer]
    end: End | None
    flattens: bool

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the last layer."""
        return len(self.layers[-1].dense.kernel)

    @property
    def normalized(self) -> bool:
        """Whether a normalisation is folded into any layer."""
        return any(layer.normalized for layer in self.layers)

    def network(self, family: Family, activation: Any = None, **names: Any) -> MLP:
        """Return the folded network, with the activations of the layers unless others are given."""
        has_bias = [layer.has_bias for layer in self.layers]
        biases: dict[str, Any] = {} if all(has_bias) else {"bias": has_bias}
        if biases and "bias" not in inspect.signature(MLP.__init__).parameters:
            checks.bias_needed([layer.dense.place for layer in self.layers if not layer.has_bias])
        return MLP(
            [layer.folded() for layer in self.layers],
            activation=[layer.activation or get("identity") for layer in self.layers[:-1]] if activation is None else activation,
            family=family,
            **biases,
            **names,
        )

    def parameters(self) -> Iterator[tuple[str, Array]]:
        """Yield the names of the owner's parameters with their values, in the order of the chain, in the owner's shapes."""
        for layer in self.layers:
            dense = layer.dense
            if layer.before is not None:
                yield from _named(layer.before)
            yield dense.kernel_name, dense.kernel.T if dense.transposed else dense.kernel
            if dense.bias is not None and dense.bias_name is not None:
                yield dense.bias_name, dense.bias
            if layer.after is not None:
                yield from _named(layer.after)


def _named(scale: Scale) -> Iterator[tuple[str, Array]]:
    for name, values in ((scale.gamma_name, scale.gamma), (scale.beta_name, scale.beta)):
        if name is not None:
            yield name, values


def chained(steps: Sequence[Step], argument: str, identity: Activation) -> Chain:
    """Group steps into layers: normalisations are folded into the dense layer before or after them.

    `identity` is the activation of a layer that has none.
    """
    layers: list[Layer] = []
    end: End | None = None
    flattens = False
    waiting: Scale | None = None
    for step in steps:
        if isinstance(step, Nothing):
            if layers and step.columns not in (None, len(layers[-1].dense.kernel)):
                checks.sizes_chain(argument, step.place, step.columns or 0, layers[-1].dense.place, len(layers[-1].dense.kernel))
            flattens = flattens or (step.flattens and not layers)
            continue
        if end is not None:
            checks.after_the_end(argument, step.place, end.function, end.place)
        if isinstance(step, Dense):
            if layers:
                checks.sizes_chain(
                    argument, step.place, step.kernel.shape[1], layers[-1].dense.place, len(layers[-1].dense.kernel)
                )
                layers[-1].activation = layers[-1].activation or identity
            if waiting is not None:
                checks.sizes_chain(argument, step.place, step.kernel.shape[1], waiting.place, len(waiting.mean))
            layers.append(Layer(step, before=waiting))
            waiting = None
        elif isinstance(step, Scale):
            last = layers[-1] if layers else None
            if last is not None and last.activation is None and last.after is None and waiting is None:
                checks.sizes_chain(argument, step.place, len(step.mean), last.dense.place, len(last.dense.kernel))
                last.after = step
            elif waiting is None:
                waiting = step
            else:
                checks.nothing_to_fold_into(argument, step.place)
        elif waiting is not None or not layers or layers[-1].activation is not None:
            checks.no_layer_before(argument, step.place)
        elif isinstance(step, Hidden):
            layers[-1].activation = step.activation
        else:
            end = step
    if not layers:
        checks.no_layers(argument)
    if waiting is not None:
        checks.nothing_to_fold_into(argument, waiting.place)
    last_activation = layers[-1].activation
    if last_activation is not None and last_activation.name == "sigmoid" and end is None:
        end, layers[-1].activation = End(layers[-1].dense.place, "sigmoid"), None
    elif last_activation is not None:
        checks.activation_at_the_end(argument, last_activation.name)
    return Chain(layers, end, flattens)
