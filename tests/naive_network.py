"""Index-loop derivatives of a multilayer perceptron, for tests only: slow, obvious, one statement per function.

Notation of Soen & Sun (2021): ``h_0 = x``, ``hbar_l = (h_l, 1)``, ``a_{l+1} = W_l hbar_l`` and, below the last layer,
``h_{l+1} = sigma(a_{l+1})``, while ``h_L = a_L``.  ``B_l = dh_L/dh_l``, ``D_l = diag sigma'(a_{l+1})`` (the identity at
the top) and ``A_{k,l} = da_{k+1}/da_{l+1}``.  Parameters run layer by layer, row by row, the bias last in each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Network",
    "Parameter",
    "forward",
    "hessian",
    "jacobian",
    "output_slopes",
    "parameters",
    "preactivation_chain",
    "state_jacobians",
]


class Activation(NamedTuple):
    """An activation function as three callables of one number: the value and the first two derivatives."""

    value: Callable[[float], float]
    first: Callable[[float], float]
    second: Callable[[float], float]


def _logistic(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


def _softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def _logistic_slope(z: float) -> float:
    return _logistic(z) * _logistic(-z)


def _normal_density(z: float) -> float:
    return math.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi)


def _normal_distribution(z: float) -> float:
    return math.erfc(-z / math.sqrt(2.0)) / 2.0


def _exponential_linear(scale: float, alpha: float) -> Activation:
    return Activation(
        lambda z: scale * (z if z > 0 else alpha * math.expm1(z)),
        lambda z: scale * (1.0 if z > 0 else alpha * math.exp(z)),
        lambda z: scale * (0.0 if z > 0 else alpha * math.exp(z)),
    )


def _tanh_gate(z: float) -> tuple[float, float, float]:
    """``(1 + tanh(u)) / 2`` with ``u = sqrt(2/pi) (z + 0.044715 z^3)`` and two derivatives."""
    c = math.sqrt(2 / math.pi)
    w, first, second = 2 * c * (z + 0.044715 * z**3), 2 * c * (1 + 3 * 0.044715 * z**2), 12 * c * 0.044715 * z
    s = _logistic_slope(w)
    return _logistic(w), s * first, s * (second - (2 * _logistic(w) - 1) * first**2)


def _mish_gate(z: float) -> tuple[float, float, float]:
    """``w = tanh(softplus(z))`` with its first two derivatives; mish is ``z w``."""
    w, s = math.tanh(_softplus(z)), _logistic(z)
    return w, (1 - w * w) * s, (1 - w * w) * (_logistic_slope(z) - 2 * w * s * s)


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda z: z, lambda z: 1.0, lambda z: 0.0),
    "tanh": Activation(math.tanh, lambda z: 1 - math.tanh(z) ** 2, lambda z: -2 * math.tanh(z) * (1 - math.tanh(z) ** 2)),
    "sigmoid": Activation(_logistic, _logistic_slope, lambda z: _logistic_slope(z) * (1 - 2 * _logistic(z))),
    "softplus": Activation(_softplus, _logistic, _logistic_slope),
    "log_sigmoid": Activation(lambda z: -_softplus(-z), lambda z: _logistic(-z), lambda z: -_logistic_slope(z)),
    "relu": Activation(lambda z: max(z, 0.0), lambda z: float(z > 0), lambda z: 0.0),
    "leaky_relu": Activation(lambda z: z if z > 0 else 0.01 * z, lambda z: 1.0 if z > 0 else 0.01, lambda z: 0.0),
    "hard_tanh": Activation(lambda z: min(max(z, -1.0), 1.0), lambda z: float(-1.0 < z <= 1.0), lambda z: 0.0),
    "elu": _exponential_linear(1.0, 1.0),
    "selu": _exponential_linear(1.0507009873554804934193349852946, 1.6732632423543772848170429916717),
    "gelu": Activation(
        lambda z: z * _normal_distribution(z),
        lambda z: _normal_distribution(z) + z * _normal_density(z),
        lambda z: (2 - z * z) * _normal_density(z),
    ),
    "gelu_tanh": Activation(
        lambda z: z * _tanh_gate(z)[0],
        lambda z: _tanh_gate(z)[0] + z * _tanh_gate(z)[1],
        lambda z: 2 * _tanh_gate(z)[1] + z * _tanh_gate(z)[2],
    ),
    "relu6": Activation(lambda z: min(max(z, 0.0), 6.0), lambda z: float(0.0 < z <= 6.0), lambda z: 0.0),
    "hard_sigmoid": Activation(
        lambda z: min(max(z + 3, 0.0), 6.0) / 6, lambda z: 1 / 6 if -3.0 < z <= 3.0 else 0.0, lambda z: 0.0
    ),
    "hard_swish": Activation(
        lambda z: z * min(max(z + 3, 0.0), 6.0) / 6,
        lambda z: (2 * z + 3) / 6 if -3.0 < z <= 3.0 else float(z > 3.0),
        lambda z: 1 / 3 if -3.0 < z <= 3.0 else 0.0,
    ),
    "celu": _exponential_linear(1.0, 1.0),
    "silu": Activation(
        lambda z: z * _logistic(z),
        lambda z: _logistic(z) + z * _logistic_slope(z),
        lambda z: _logistic_slope(z) * (2 + z * (1 - 2 * _logistic(z))),
    ),
    "mish": Activation(
        lambda z: z * _mish_gate(z)[0],
        lambda z: _mish_gate(z)[0] + z * _mish_gate(z)[1],
        lambda z: 2 * _mish_gate(z)[1] + z * _mish_gate(z)[2],
    ),
    "erf": Activation(
        math.erf,
        lambda z: 2 / math.sqrt(math.pi) * math.exp(-z * z),
        lambda z: -4 * z / math.sqrt(math.pi) * math.exp(-z * z),
    ),
    "arctan": Activation(math.atan, lambda z: 1 / (1 + z * z), lambda z: -2 * z / (1 + z * z) ** 2),
    "softsign": Activation(
        lambda z: z / (1 + abs(z)),
        lambda z: 1 / (1 + abs(z)) ** 2,
        lambda z: -2 * math.copysign(1, z) / (1 + abs(z)) ** 3,
    ),
    "sin": Activation(math.sin, math.cos, lambda z: -math.sin(z)),
}


@dataclass(frozen=True)
class Network:
    """Weights ``W_l`` of shape (n_{l+1}, n_l + 1), bias last, and one activation per hidden layer."""

    weights: Sequence[Array]
    activations: Sequence[Activation]

    @classmethod
    def named(cls, weights: Sequence[Any], names: Sequence[str]) -> Network:
        return cls([np.asarray(weight, dtype=float) for weight in weights], [ACTIVATIONS[name] for name in names])

    @property
    def n_layers(self) -> int:
        return len(self.weights)


class Parameter(NamedTuple):
    """The place of one parameter; ``unit_in`` is -1 for the bias."""

    layer: int
    unit_out: int
    unit_in: int


def parameters(network: Network) -> list[Parameter]:
    """Every parameter in its order: layer by layer, row by row, bias last in each row."""
    places = []
    for layer, weight in enumerate(network.weights):
        n_out, n_columns = weight.shape
        for unit_out in range(n_out):
            for column in range(n_columns):
                places.append(Parameter(layer, unit_out, column if column < n_columns - 1 else -1))
    return places


def _extended(state: Array) -> Array:
    return np.append(state, 1.0)


def forward(network: Network, x: Any) -> tuple[list[Array], list[Array]]:
    """The states ``h_0 .. h_L`` and the pre-activations, entry ``l`` being ``a_{l+1}``."""
    states = [np.asarray(x, dtype=float)]
    preactivations = []
    for layer, weight in enumerate(network.weights):
        extended = _extended(states[-1])
        total = np.array([sum(row[d] * extended[d] for d in range(len(extended))) for row in weight])
        preactivations.append(total)
        if layer < network.n_layers - 1:
            total = np.array([network.activations[layer].value(z) for z in total])
        states.append(total)
    return states, preactivations


def _slopes(network: Network, preactivations: list[Array], layer: int) -> Array:
    """The diagonal of ``D_l``."""
    if layer == network.n_layers - 1:
        return np.ones(len(preactivations[layer]))
    return np.array([network.activations[layer].first(z) for z in preactivations[layer]])


def state_jacobians(network: Network, x: Any) -> list[Array]:
    """``B_0 .. B_L``: ``B_L = 1`` and ``B_l = B_{l+1} D_l W_l^-``."""
    _, preactivations = forward(network, x)
    n_outputs = network.weights[-1].shape[0]
    jacobians = [np.eye(n_outputs)]
    for layer in reversed(range(network.n_layers)):
        weight, slopes, above = network.weights[layer], _slopes(network, preactivations, layer), jacobians[0]
        n_out, n_in = weight.shape[0], weight.shape[1] - 1
        below = np.zeros((n_outputs, n_in))
        for a in range(n_outputs):
            for d in range(n_in):
                below[a, d] = sum(above[a, o] * slopes[o] * weight[o, d] for o in range(n_out))
        jacobians.insert(0, below)
    return jacobians


def output_slopes(network: Network, x: Any) -> list[Array]:
    """``B_{l+1} D_l = dh_L / da_{l+1}`` for every layer."""
    _, preactivations = forward(network, x)
    jacobians = state_jacobians(network, x)
    return [jacobians[layer + 1] * _slopes(network, preactivations, layer) for layer in range(network.n_layers)]


def preactivation_chain(network: Network, x: Any) -> dict[tuple[int, int], Array]:
    """``A_{l,l} = 1`` and ``A_{k,l} = W_k^- D_{k-1} A_{k-1,l}`` for every ``k > l``."""
    _, preactivations = forward(network, x)
    chain = {}
    for bottom in range(network.n_layers):
        chain[bottom, bottom] = np.eye(network.weights[bottom].shape[0])
        for top in range(bottom + 1, network.n_layers):
            weight, slopes = network.weights[top], _slopes(network, preactivations, top - 1)
            below = chain[top - 1, bottom]
            product = np.zeros((weight.shape[0], below.shape[1]))
            for o in range(weight.shape[0]):
                for i in range(below.shape[1]):
                    product[o, i] = sum(weight[o, r] * slopes[r] * below[r, i] for r in range(len(slopes)))
            chain[top, bottom] = product
    return chain


def jacobian(network: Network, x: Any) -> Array:
    """``J[a, i] = dh_L^a / dtheta_i``; within a layer ``(B_{l+1} D_l)[a, o] hbar_l[d]``."""
    states, _ = forward(network, x)
    slopes = output_slopes(network, x)
    places = parameters(network)
    result = np.zeros((network.weights[-1].shape[0], len(places)))
    for i, place in enumerate(places):
        extended = _extended(states[place.layer])
        for a in range(result.shape[0]):
            result[a, i] = slopes[place.layer][a, place.unit_out] * extended[place.unit_in]
    return result


def _curvature(network: Network, x: Any, lower: int, upper: int) -> Array:
    """``sum_k sum_r B_{k+1}[a,r] sigma''(a_{k+1,r}) A_{k,l}[r,i] A_{k,m}[r,p]`` over ``k = m .. L-2``, as (a, i, p)."""
    _, preactivations = forward(network, x)
    jacobians, chain = state_jacobians(network, x), preactivation_chain(network, x)
    n_outputs = network.weights[-1].shape[0]
    result = np.zeros((n_outputs, network.weights[lower].shape[0], network.weights[upper].shape[0]))
    for k in range(upper, network.n_layers - 1):
        for r, z in enumerate(preactivations[k]):
            bend = network.activations[k].second(z)
            for a, i, p in np.ndindex(result.shape):
                result[a, i, p] += jacobians[k + 1][a, r] * bend * chain[k, lower][r, i] * chain[k, upper][r, p]
    return result


def hessian(network: Network, x: Any) -> Array:
    """``H[a, i, j] = d^2 h_L^a / dtheta_i dtheta_j``, every pair of layers, from the closed form for ``l <= m``."""
    states, preactivations = forward(network, x)
    slopes, chain, places = output_slopes(network, x), preactivation_chain(network, x), parameters(network)
    pairs = [(lower, upper) for upper in range(network.n_layers) for lower in range(upper + 1)]
    curvature = {pair: _curvature(network, x, *pair) for pair in pairs}
    extended = [_extended(state) for state in states]
    result = np.zeros((network.weights[-1].shape[0], len(places), len(places)))
    for first, (lower, i, j) in enumerate(places):
        for second, (upper, p, q) in enumerate(places):
            if lower > upper:
                continue
            for a in range(result.shape[0]):
                entry = extended[lower][j] * extended[upper][q] * curvature[lower, upper][a, i, p]
                if lower < upper and q != -1:  # h_m[q] itself depends on W_l; the constant 1 of the bias does not
                    state_slope = _slopes(network, preactivations, upper - 1)[q] * chain[upper - 1, lower][q, i]
                    entry += slopes[upper][a, p] * state_slope * extended[lower][j]
                result[a, first, second] = result[a, second, first] = entry
    return result
