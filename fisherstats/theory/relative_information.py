r"""The relative Fisher information of subsystems (2017): what the response of a few layers tells about the parameters below.

A subsystem passes its input :math:`\bar h` through the weights W of its first layer, and its response is the output of some layer
above. Its metric in the row-major weights is :math:`(R^\top R)\otimes\bar h\bar h^\top`, where the rows of R are a root of the
information of the response, propagated back to the pre-activations of the first layer. For one layer of neurons with independent
responses :math:`R^\top R` is the diagonal matrix of their coefficients :math:`\nu_f(a)`, which lie between 0 in the tails of the
activation and their largest value in its effective learning zone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import identity
from fisherstats.execution import Reduction
from fisherstats.models import activation_formulas, derivatives
from fisherstats.models.activations import Activation
from fisherstats.models.derivatives import Forward
from fisherstats.models.families import Law
from fisherstats.models.network import MLP
from fisherstats.theory.assembly import symmetric

__all__ = ["NeuronSum", "Responses", "coefficients", "is_binary", "neuron_metrics", "pulled_back", "rows"]

Array = NDArray[np.floating]

_TILE_PAIRS = 1024
"""Pairs of features in a tile of a sum."""


@dataclass(frozen=True)
class Responses:
    """Response distributions of hidden neurons: binary for tanh and sigmoid if `binary`, Gaussian for all others."""

    binary: bool = True
    variance: float = 1.0

    def coefficient(self, activation: Activation, slope: Array) -> Array:
        r"""Return :math:`\nu_f(a)=\mathrm{E}[(\partial_a\log p(y|a))^2]` from the slope of the activation (2017, table).

        A binary response with mean tanh(a) in {-1, 1}, or sigm(a) in {0, 1}, has :math:`\nu_f=f'(a)`, that is sech^2(a) and
        sigm(a) sigm(-a); a Gaussian one with mean f(a) and variance s^2 has :math:`\nu_f=f'(a)^2/s^2`.
        """
        if self.binary and is_binary(activation):
            return slope
        return np.square(slope) / self.variance

    def largest(self, activation: Activation) -> float:
        """Return the supremum of the coefficient over all pre-activations."""
        if self.binary and is_binary(activation):
            return activation.sup_first
        return activation.sup_first**2 / self.variance


def is_binary(activation: Activation) -> bool:
    """Return whether the value of the activation is the mean of a binary variable in the table of 2017."""
    return activation.formula in (activation_formulas.tanh, activation_formulas.sigmoid)


def coefficients(model: MLP, forward: Forward, law: Law, responses: Responses) -> list[Array]:
    r"""Return :math:`\nu_f(w_o,h_l)` of every unit o of every layer l, (n, units); in the last layer :math:`I(h)_{oo}`."""
    hidden = [responses.coefficient(*one) for one in zip(model.activations, forward.slopes, strict=True)]
    return [*hidden, law.diagonal(_output_slopes(forward))]


def rows(model: MLP, forward: Forward, law: Law, responses: Responses, above: int) -> list[Array]:
    r"""Return R of every layer, (n, rows, units), for the response `above` layers higher, or the output where there are fewer.

    The units between are deterministic. With none above, R'R is the diagonal matrix of the coefficients (non-linear layer) or
    :math:`I(h)` (softmax layer); with one, :math:`[\sum_k\nu(c_k,h)c_{ki}c_{kj}]f'(a_i)f'(a_j)` (two layers); with all, it is the
    middle of the Fisher information of the whole network.
    """
    found = []
    last = model.n_layers - 1
    for layer in range(model.n_layers):
        top = min(layer + above, last)
        if top == last:
            R = law.rows(_output_slopes(forward))
        else:
            R = _diagonal(np.sqrt(responses.coefficient(model.activations[top], forward.slopes[top])))
        for k in range(top, layer, -1):
            R = derivatives.pull_back(model, R, k) * forward.slopes[k - 1][:, None, :]
        found.append(R)
    return found


def _output_slopes(forward: Forward) -> Array:
    """Return the derivative of the natural parameters by the network's output, (n, T, T)."""
    n, n_outputs = forward.natural.shape
    every = np.broadcast_to(identity(n_outputs, forward.natural), (n, n_outputs, n_outputs))
    return every if forward.link_slope is None else every * forward.link_slope[:, None, :]


def _diagonal(values: Array) -> Array:
    n, n_units = values.shape
    matrices = np.zeros_like(values, shape=(n, n_units, n_units))
    matrices[:, np.arange(n_units), np.arange(n_units)] = values
    return matrices


def neuron_metrics(coefficient: Array, h_bar: Array) -> Array:
    r"""Return :math:`\nu_f(w_o,h)\,\bar h\bar h^\top` of every neuron and input, (n, units, features, features)."""
    products = h_bar[:, :, None] * h_bar[:, None, :]
    return coefficient[:, :, None, None] * products[:, None]


class NeuronSum(Reduction):
    r"""Sums over inputs of :math:`\nu_f(w_o,h)\,\bar h\bar h^\top`, (units, features, features) per layer.

    One product per layer of the coefficients with the Khatri-Rao square of the layer's inputs, in tiles of pairs of features d <=
    q that may be computed in parallel, and copied below the diagonal. Blocks are ([coefficients], inputs). A leaf is one group,
    so its products are added to the totals at once, and no second array of their size exists.
    """

    leaf_blocks = 1
    shared = True

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self._shapes = shapes

    def tasks(self, parts: list[tuple[list[Array], list[Array]]], last: bool) -> list[Callable[[], None]]:
        """Return the tiles of all layers for a group of blocks."""
        if not self.totals:
            self.totals = [
                np.zeros_like(parts[0][1][0], dtype=np.float64, shape=(n_out, n_in, n_in)) for n_out, n_in in self._shapes
            ]
        tasks: list[Callable[[], None]] = []
        for layer, total in enumerate(self.totals):
            coefficient = np.concatenate([one[layer] for one, _ in parts])
            h_bar = np.concatenate([inputs[layer] for _, inputs in parts])
            n_in, start = total.shape[1], 0
            while start < n_in:
                stop = min(n_in, start + max(1, _TILE_PAIRS // (n_in - start)))
                tasks.append(partial(_add_tile, total, coefficient, h_bar, start, stop))
                start = stop
        return tasks

    def means(self, n_inputs: int) -> list[Array]:
        """Return the mean metric of every neuron, exactly symmetric."""
        for total in self.totals:
            np.divide(total, n_inputs, out=total)
            symmetric(total)
        return self.totals


def _add_tile(total: Array, coefficient: Array, h_bar: Array, start: int, stop: int) -> None:
    pairs = h_bar[:, start:stop, None] * h_bar[:, None, start:]
    product = coefficient.T @ pairs.reshape(len(pairs), -1)
    total[:, start:stop, start:] += product.reshape(len(total), stop - start, -1)


def pulled_back(metric: Array, jacobian: Array) -> Array:
    r"""Return :math:`J^\top gJ`, the metric in other coordinates, exactly symmetric."""
    product = np.matmul(np.swapaxes(jacobian, -1, -2), np.matmul(metric, jacobian))
    return (product + np.swapaxes(product, -1, -2)) / 2
