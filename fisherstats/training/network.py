"""The network while it is trained: its weights are views of one parameter vector that changes in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import on_host
from fisherstats.models.network import MLP, kernel_view

__all__ = ["Trainee", "layer_views"]

Array = NDArray[np.floating]


class Trainee(MLP):
    """A copy of a network, made once and then trained in place.

    An `MLP` is immutable: constructing one copies and validates every weight, and its fingerprint hashes them. At every step this
    would cost more than the step. Here an update of the flat vector `parameters` updates the network, and every function of an
    `MLP` (the forward pass, its derivatives, the closed forms) can be evaluated between two updates. It is internal to training:
    `frozen` returns the public network.

    Parameters
    ----------
    model : MLP
        The network to copy; it is not changed.
    dtype : dtype, optional
        Precision of the copy; by default that of the network.
    """

    parameters: Array
    """The parameter vector that the weights are views of: layer by layer, row-major, bias last in each row."""

    def __init__(self, model: MLP, dtype: Any = None) -> None:
        parameters = np.concatenate([matrix.ravel() for matrix in model.weights])
        if dtype is not None:
            parameters = parameters.astype(dtype, copy=False)
        self.__dict__["parameters"] = parameters
        self.__dict__["weights"] = tuple(layer_views(model, parameters))
        self.__dict__["activations"] = model.activations
        self.__dict__["family"] = model.family
        self.__dict__["bias"] = model.bias
        self.__dict__["feature_names"] = model.feature_names
        self.__dict__["output_names"] = model.output_names

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the current weights; not cached, as they change."""
        return self.frozen().fingerprint

    @property
    def kernels(self) -> tuple[Array, ...]:
        """Current weight matrices without the bias column, as views."""
        return tuple(kernel_view(self, layer) for layer in range(self.n_layers))

    def frozen(self) -> MLP:
        """Return the current network as an immutable `MLP` on the host."""
        return self.with_weights(layer_views(self, on_host(self.parameters)))


def layer_views(model: MLP, vector: Array) -> list[Array]:
    """Return the part of a parameter vector that belongs to each layer, in the shape of its weight matrix, without a copy."""
    return [vector[part].reshape(matrix.shape) for part, matrix in zip(model.layer_slices(), model.weights, strict=True)]
