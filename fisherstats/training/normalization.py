"""Batch normalisation in training, folded into the weights of the returned network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import holds, on_host
from fisherstats.core.validation import arguments, training
from fisherstats.models.network import MLP, kernel_view
from fisherstats.training.likelihood import Labelled, sums
from fisherstats.training.network import Trainee, layer_views
from fisherstats.training.parametrization import FoldedNetwork, scale_views

__all__ = ["BatchNormalization", "NormalizedTrainee", "folded"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class BatchNormalization:
    r"""Batch normalisation of every hidden layer: :math:`a=s\,\frac{z-\mu}{\sqrt{v+\epsilon}}+b` with :math:`z=Vh`.

    In training :math:`\mu` and v are mean and variance of z over the minibatch, unit by unit, and the gradient takes into
    account that they depend on V and on the layers below (Ioffe & Szegedy 2015). Evaluation uses running means
    :math:`\bar\mu\leftarrow(1-\rho)\bar\mu+\rho\mu` and, from the unbiased variance of n inputs,
    :math:`\bar v\leftarrow(1-\rho)\bar v+\rho\frac n{n-1}v`. There it is linear in h, so that the network *is* the MLP with
    the kernel :math:`\frac s{\sqrt{\bar v+\epsilon}}V` and the bias :math:`b-\frac s{\sqrt{\bar v+\epsilon}}\bar\mu`: what
    `fit` returns, what callbacks see, and what every function of this package applies to.

    Parameters
    ----------
    momentum : float, default 0.1
        rho, above 0 and at most 1: the weight of the latest minibatch.
    epsilon : float, default 1e-5
        Added to variances, above 0.

    Raises
    ------
    ValueError
        If a setting is outside its range; in a fit, if a minibatch has a single input, the network has no hidden layer or a
        hidden layer without bias, or a penalty is a `SpectralProjection`, whose limit the folded kernels would not satisfy.

    Notes
    -----
    The conventions are those of ``torch.nn.BatchNorm1d`` between a linear layer and its activation. The scales s start at 1,
    running means at 0, running variances at 1, the shifts b as the biases of the given network: a bias in addition to
    a shift would have no effect, so there is none. The last layer is not normalised, and may have no bias.

    The trained parameters are those of the network, with shifts for the biases of hidden layers, and after them the
    scales, layer by layer: a gradient has that many numbers. Penalties act on the kernels before folding, and none on the
    scales. The result is a plain network; a further `fit` starts with scales of 1 again, not where this one ended.

    Natural gradients treat mean and variance of the minibatch as constants, as the relative Fisher information takes its
    reference:
    their information is that of the folded network, which has the outputs of the minibatch, in the parameters V, b, s. It is
    singular, as a change of s can be undone by V and b, so they need a damping. There are separate Kronecker factors for V,
    b and s. With ``information="hessian"`` the estimate is transformed from the folded weights, :math:`J^\top\hat I_2J`.

    Cost: a few passes more over the pre-activations of hidden layers and one over the weights per step; a minibatch is one
    block, in which threads share only the update of SGD and Adam.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> model = fs.MLP.random([1, 8, 1], activation="relu", family=fs.families.Gaussian(1), rng=0)
    >>> settings = {"optimizer": fs.training.Adam(0.01), "epochs": 20, "batch_size": 16, "rng": 0}
    >>> fitted = fs.training.fit(model, x, x[:, 0] ** 2, normalization=fs.training.BatchNormalization(), **settings)
    >>> fitted.model
    MLP(1-8-1, activation=relu, family=Gaussian(n_outputs=1, covariance=1.0), 25 parameters)
    >>> bool(fitted.history.loss[-1] < fitted.history.loss[0])
    True
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "momentum", training.weight_of_latest("momentum", self.momentum))
        object.__setattr__(self, "epsilon", arguments.positive_number("epsilon", self.epsilon))


class NormalizedTrainee(Trainee):
    """A network with normalised hidden layers while it is trained.

    As an MLP it is the network without the normalisation, for the penalties; `frozen` returns the public network.

    Parameters
    ----------
    model : MLP
        The network to copy; it is not changed.
    settings : BatchNormalization
        Momentum and epsilon.
    """

    settings: BatchNormalization
    scales: list[Array]
    """Views of the parameter vector, (units,) per hidden layer."""
    running: Array
    """Running means of all units and then their running variances, in float64."""
    means: list[Array]
    """Views of the running means, (units,) per hidden layer."""
    variances: list[Array]
    """Views of the running variances."""
    work: list[Array]
    """Buffers for the folded weights of hidden layers: allocating them in every step would take as long as the folding."""

    def __init__(self, model: MLP, settings: BatchNormalization) -> None:
        super().__init__(model)
        sizes = [len(matrix) for matrix in model.weights[:-1]]
        parameters = np.concatenate([self.parameters, np.ones_like(self.parameters, shape=sum(sizes))])
        running = np.zeros_like(parameters, dtype=np.float64, shape=2 * sum(sizes))
        running[sum(sizes) :] = 1
        self.__dict__["parameters"] = parameters
        self.__dict__["weights"] = tuple(layer_views(model, parameters))
        self.__dict__["scales"] = scale_views(model, parameters)
        self.__dict__["settings"] = settings
        self.__dict__["work"] = [np.empty_like(matrix) for matrix in self.weights[:-1]]
        self.__dict__["running"] = running
        self.__dict__["means"], self.__dict__["variances"] = _means_and_variances(running, sizes)

    @property
    def n_params(self) -> int:
        """Length of the parameter vector, scales included."""
        return len(self.parameters)

    def frozen(self) -> MLP:
        """Return the current network in evaluation mode, on the host, with the running means and variances folded in."""
        parameters, running = on_host(self.parameters), on_host(self.running)
        means, variances = _means_and_variances(running, [len(scale) for scale in self.scales])
        deviations = [np.sqrt(variance + self.settings.epsilon) for variance in variances]
        weights = folded(layer_views(self, parameters), scale_views(self, parameters), means, deviations)
        return self.with_weights(weights)

    def is_finite(self) -> bool:
        """Return whether the running means and variances are within the float range."""
        return holds(np.isfinite(self.running))

    def differentiate(self, data: Labelled, rows: NDArray[np.int64]) -> tuple[FoldedNetwork, Array, Array]:
        """Return the network of a minibatch, loss and accuracy there, and the gradient of the loss by all parameters.

        The running means and variances are updated.
        """
        x, y = data.inputs(rows), data.labels(rows)
        inputs, slopes, normals = [x], [], []
        means: list[Array] = []
        deviations: list[Array] = []
        for layer, (weight, scale, activation) in enumerate(zip(self.weights, self.scales, self.activations, strict=False)):
            z = inputs[-1] @ kernel_view(self, layer).T
            mean = z.mean(axis=0, dtype=np.float64)
            z -= mean
            variance = np.square(z).mean(axis=0, dtype=np.float64)
            self._follow(layer, mean, variance * (len(rows) / (len(rows) - 1)))
            means.append(mean)
            deviations.append(np.sqrt(variance + self.settings.epsilon))
            normals.append(np.divide(z, deviations[-1].astype(z.dtype), out=z))
            h, slope = activation.evaluate(scale * normals[-1] + weight[:, -1], 1)
            inputs.append(h)
            slopes.append(slope)
        output = inputs[-1] @ kernel_view(self, self.n_layers - 1).T
        if self.bias[-1]:
            output = output + self.weights[-1][:, -1]
        link = self.family.link
        natural, link_slope = (output, None) if link is None else link.evaluate(output, 1)
        # The division by the minibatch size is done here, so that all layers below are sums.
        law = self.family.at(natural)
        back: Array = law.residual(y) * (-1 / len(rows))
        if link_slope is not None:
            back = back * link_slope
        gradient = np.empty_like(self.parameters)
        into, into_scales = layer_views(self, gradient), scale_views(self, gradient)
        np.matmul(back.T, inputs[-1], out=into[-1][:, : self.widths[-2]])
        if self.bias[-1]:
            into[-1][:, -1] = back.sum(axis=0)
        for layer in range(self.n_layers - 2, -1, -1):
            back = (back @ kernel_view(self, layer + 1)) * slopes[layer]
            into[layer][:, -1] = back.sum(axis=0)
            into_scales[layer][...] = (back * normals[layer]).sum(axis=0)
            back = _through_normalization(back, normals[layer], self.scales[layer] / deviations[layer])
            np.matmul(back.T, inputs[layer], out=into[layer][:, :-1])
        weights = folded(self.weights, self.scales, means, deviations, self.work)
        kernels = [matrix[:, :-1] for matrix in self.weights[:-1]]
        network = FoldedNetwork(self, weights, kernels, self.scales, means, deviations)
        return network, sums(self.family, law, y) / len(rows), gradient

    def _follow(self, layer: int, mean: Array, variance: Array) -> None:
        """Update the running mean and variance of a layer with those of a minibatch."""
        for running, latest in ((self.means[layer], mean), (self.variances[layer], variance)):
            running += self.settings.momentum * (latest - running)


def _means_and_variances(running: Array, sizes: Sequence[int]) -> tuple[list[Array], list[Array]]:
    """Return the views of the means and of the variances of each hidden layer."""
    ends = np.cumsum(sizes).tolist()
    parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    means, variances = running[: sum(sizes)], running[sum(sizes) :]
    return [means[part] for part in parts], [variances[part] for part in parts]


def _through_normalization(back: Array, normal: Array, factor: Array) -> Array:
    r"""Return the derivative by z from that by :math:`a=s\hat z+b`: orthogonal to the ones and to :math:`\hat z`.

    :math:`\frac s\sigma\big(g-\bar g-\hat z\,\overline{g\hat z}\big)`, with means over the minibatch.
    """
    along = (back * normal).mean(axis=0)
    return factor.astype(back.dtype, copy=False) * (back - back.mean(axis=0) - normal * along)


def folded(
    weights: Sequence[Array],
    scales: Sequence[Array],
    means: Sequence[Array],
    deviations: Sequence[Array],
    out: Sequence[Array] | None = None,
) -> list[Array]:
    """Return the weights of the network with a given mean and deviation of every hidden pre-activation folded in.

    Parameters
    ----------
    weights : sequence of ndarray, shape (units, n_in + 1)
        Kernels with the shifts in the last column, and the last layer.
    scales, means, deviations : sequence of ndarray, shape (units,)
        Of the hidden layers.
    out : sequence of ndarray, optional
        Output arrays for the hidden layers.

    Returns
    -------
    list of ndarray, shape (units, n_in + 1)
        In the precision of the weights; the last layer is unchanged.
    """
    found = [np.empty_like(weight) for weight in weights[:-1]] if out is None else list(out)
    for own, weight, scale, mean, deviation in zip(found, weights, scales, means, deviations, strict=False):
        factor = scale / deviation
        np.multiply(weight, factor[:, None], out=own)
        own[:, -1] = weight[:, -1] - factor * mean
    return [*found, weights[-1]]
