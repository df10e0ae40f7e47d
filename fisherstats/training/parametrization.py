r"""Map from the trained parameters to the weights of the network, for optimisers that use the information.

Without normalisation they are the weights. With it the weights of a hidden layer are composed of the kernel V, the shifts b and
the scales s of its units, :math:`\tilde W[o]=\big[\tfrac{s_o}{\sigma_o}V[o]\,\big|\,b_o-\tfrac{s_o}{\sigma_o}\mu_o\big]`, at mean
:math:`\mu` and deviation :math:`\sigma` of the minibatch, which are held fixed: a reference, as the metric of 2017 has it. Then a
derivative by any parameter is still (a number per unit) x (an input): from the number :math:`u_o` of the folded network,
:math:`u_o\frac{s_o}{\sigma_o}\cdot h[d]` by the kernel, :math:`u_o\cdot1` by the shift and :math:`u_o\hat z_o\cdot1` by the
scale, where :math:`\hat z=(Vh-\mu)/\sigma`. These are the parts of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fisherstats.models.network import MLP
from fisherstats.training.network import layer_views

__all__ = ["FoldedNetwork", "FoldedParametrization", "Parametrization", "Part", "parametrization_of", "scale_views"]

Array = NDArray[np.floating]


class Part(NamedTuple):
    """Parameters of a layer whose derivatives have the same form."""

    layer: int
    """The layer."""
    multiplier: Array | None
    """Multiplier of the number per unit, (units,) or (n, units); None for 1."""
    inputs: Array
    """The input factor, (n, k)."""

    def scaled(self, factor: Array) -> Array:
        """Return the numbers per unit, (n, units) or (n, R, units), times the multiplier."""
        if self.multiplier is None:
            return factor
        between = self.multiplier.ndim == 2 and factor.ndim == 3
        return factor * (self.multiplier[:, None, :] if between else self.multiplier)


class Parametrization:
    """The parameters are the weights: one part per layer.

    Parameters
    ----------
    model : MLP
        The network.
    """

    def __init__(self, model: MLP) -> None:
        self.model = model
        self.size = model.n_params

    @property
    def names(self) -> list[str]:
        """Name of each part in error messages."""
        return [f"layer {layer}" for layer in range(self.model.n_layers)]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Units and inputs of every part."""
        return [matrix.shape for matrix in self.model.weights]

    def kept(self) -> Parametrization:
        """Return a copy that does not change when the network is updated."""
        return self

    def parts(self, inputs: Sequence[Array]) -> list[Part]:
        """Return the parts for the inputs of every layer, with the constant one appended, (n, n_l + 1)."""
        return [Part(layer, None, h_bar) for layer, h_bar in enumerate(inputs)]

    def views(self, vector: Array) -> list[Array]:
        """Return the views of a parameter vector for each part, (units, k), without a copy."""
        return layer_views(self.model, vector)

    def forward(self, direction: Array) -> Array:
        """Return the directional derivative of the weights of the network along a direction of the parameters."""
        return direction

    def back(self, rows: Array) -> Array:
        """Return derivatives by the parameters from those by the weights, along the last axis."""
        return rows

    def assembled(self, pieces: Array) -> Array:
        """Return the parameter vector from pieces concatenated part by part, each row-major."""
        return pieces


class FoldedParametrization(Parametrization):
    """The parameters are those of the network, with the biases of hidden layers for shifts, then the scales, layer by layer.

    Parameters
    ----------
    model : MLP
        The folded network.
    kernels : sequence of ndarray, shape (units, n_in)
        Those of the hidden layers, before folding.
    scales, means, deviations : sequence of ndarray, shape (units,)
        Of the hidden layers; means and deviations are those of the minibatch.
    """

    def __init__(
        self,
        model: MLP,
        kernels: Sequence[Array],
        scales: Sequence[Array],
        means: Sequence[Array],
        deviations: Sequence[Array],
    ) -> None:
        super().__init__(model)
        self.kernels, self.scales, self.means, self.deviations = kernels, scales, means, deviations
        self.size = model.n_params + sum(map(len, scales))

    @property
    def names(self) -> list[str]:
        """Name of each part in error messages."""
        hidden = [f"{word} of layer {layer}" for layer in range(len(self.kernels)) for word in ("kernel", "shift", "scale")]
        return [*hidden, f"layer {len(self.kernels)}"]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Units and inputs of every part: kernel, shift and scale of each hidden layer, the whole of the last."""
        hidden = [shape for kernel in self.kernels for shape in (kernel.shape, (len(kernel), 1), (len(kernel), 1))]
        return [*hidden, self.model.weights[-1].shape]

    def kept(self) -> FoldedParametrization:
        """Return a copy that does not change when the network is updated."""
        kernels, scales = ([one.copy() for one in arrays] for arrays in (self.kernels, self.scales))
        return FoldedParametrization(self.model, kernels, scales, self.means, self.deviations)

    def parts(self, inputs: Sequence[Array]) -> list[Part]:
        """Return the parts for the inputs of every layer, with the constant one appended, (n, n_l + 1)."""
        found = []
        for layer, (kernel, scale, mean, deviation) in enumerate(self._hidden()):
            h, one = inputs[layer][:, :-1], inputs[layer][:, -1:]
            normal = ((h @ kernel.T - mean) / deviation).astype(h.dtype, copy=False)
            factor = (scale / deviation).astype(h.dtype, copy=False)
            found += [Part(layer, factor, h), Part(layer, None, one), Part(layer, normal, one)]
        return [*found, Part(len(self.kernels), None, inputs[-1])]

    def views(self, vector: Array) -> list[Array]:
        """Return the views of a parameter vector for each part, (units, k), without a copy."""
        *hidden, last = layer_views(self.model, vector)
        found = []
        for own, scale in zip(hidden, scale_views(self.model, vector), strict=True):
            found += [own[:, :-1], own[:, -1:], scale[:, None]]
        return [*found, last]

    def forward(self, direction: Array) -> Array:
        """Return the directional derivative of the weights of the network along a direction of the parameters."""
        change = direction[: self.model.n_params].copy()
        hidden = zip(layer_views(self.model, change), scale_views(self.model, direction), self._hidden(), strict=False)
        for own, of_scale, (kernel, scale, mean, deviation) in hidden:
            own[:, :-1] *= (scale / deviation)[:, None]
            own[:, :-1] += (of_scale / deviation)[:, None] * kernel
            own[:, -1] -= of_scale / deviation * mean
        return change

    def back(self, rows: Array) -> Array:
        """Return derivatives by the parameters from those by the weights, along the last axis."""
        shape, n_params = rows.shape[:-1], self.model.n_params
        found = np.empty_like(rows, dtype=np.float64, order="C", shape=(*shape, self.size))
        found[..., :n_params] = rows
        start = n_params
        for part, (kernel, scale, mean, deviation) in zip(self.model.layer_slices(), self._hidden(), strict=False):
            own = found[..., part].reshape(*shape, len(kernel), -1)
            along = np.einsum("...od,od->...o", own[..., :-1], kernel) - own[..., -1] * mean
            found[..., start : start + len(kernel)] = along / deviation
            own[..., :-1] *= (scale / deviation)[:, None]
            found[..., part] = own.reshape(*shape, -1)
            start += len(kernel)
        return found

    def assembled(self, pieces: Array) -> Array:
        """Return the parameter vector from pieces concatenated part by part, each row-major."""
        vector = np.empty_like(pieces)
        start = 0
        for view in self.views(vector):
            view[...] = pieces[start : start + view.size].reshape(view.shape)
            start += view.size
        return vector

    def _hidden(self) -> zip[tuple[Array, Array, Array, Array]]:
        return zip(self.kernels, self.scales, self.means, self.deviations, strict=True)


class FoldedNetwork(MLP):
    """The network evaluated on a minibatch in training with normalisation: folded at the minibatch's mean and deviation.

    Parameters
    ----------
    model : MLP
        The source of activations and family.
    weights : sequence of ndarray
        The folded weights; not copied.
    kernels, scales, means, deviations : sequence of ndarray
        As for `FoldedParametrization`.
    """

    parametrization: Parametrization

    def __init__(
        self,
        model: MLP,
        weights: Sequence[Array],
        kernels: Sequence[Array],
        scales: Sequence[Array],
        means: Sequence[Array],
        deviations: Sequence[Array],
    ) -> None:
        self.__dict__["weights"] = tuple(weights)
        self.__dict__["activations"] = model.activations
        self.__dict__["family"] = model.family
        self.__dict__["bias"] = model.bias
        self.__dict__["parametrization"] = FoldedParametrization(self, kernels, scales, means, deviations)


def parametrization_of(model: MLP) -> Parametrization:
    """Return the map from the trained parameters to the weights of the network passed to an optimiser."""
    return model.parametrization if isinstance(model, FoldedNetwork) else Parametrization(model)


def scale_views(model: MLP, vector: Array) -> list[Array]:
    """Return the scales of each hidden layer in a vector of all parameters, without a copy."""
    sizes = [len(matrix) for matrix in model.weights[:-1]]
    starts = sum(matrix.size for matrix in model.weights) + np.cumsum([0, *sizes])
    return [vector[start : start + size] for start, size in zip(starts.tolist(), sizes, strict=False)]
