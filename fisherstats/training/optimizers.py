"""Optimisers: their protocol, gradient descent and Adam.

An `Optimizer` holds settings only, so one object can be used in several fits. Its `start` creates the `Steps` of one fit, with
their state; `step` receives the gradient and the `Batch` it was computed on (an optimiser that preconditions by the information
of the batch needs both) and returns the parameter update.

The steps use ufuncs with `out=` on arrays created like the parameters, and so run on the device of the fit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import arguments, training
from fisherstats.models.network import MLP
from fisherstats.training.likelihood import Labelled

__all__ = ["SGD", "Adam", "Batch", "Optimizer", "Steps"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Batch:
    """The minibatch and network available to a step, in addition to the gradient.

    Parameters
    ----------
    model : MLP
        The network at the current parameters. It is updated in place by every step, so copy whatever must be kept. With
        normalisation it is folded at the mean and variance of the batch, and has fewer weights than there are parameters.
    data : Labelled
        All labelled inputs.
    rows : ndarray of int
        Row numbers of the batch; in a fit on a device all arrays are device arrays, these too if the inputs are there.
    number : int
        Number of steps before this one.
    rng : numpy.random.Generator
        Random stream of the optimiser, independent of that of the shuffling.
    """

    model: MLP
    data: Labelled
    rows: NDArray[np.int64]
    number: int
    rng: np.random.Generator

    @property
    def x(self) -> Array:
        """Inputs of the batch, (m, n_features)."""
        return self.data.inputs(self.rows)

    @property
    def y(self) -> NDArray[Any]:
        """Validated labels of the batch: class numbers (m,), else (m, T)."""
        return self.data.labels(self.rows)


class Steps(ABC):
    """The steps of one fit, with their state."""

    @abstractmethod
    def step(self, gradient: Array, batch: Batch) -> Array:
        """Return the parameter update; it may be an array that the next call overwrites.

        Parameters
        ----------
        gradient : ndarray, shape (P,)
            Gradient of the mean negative log-likelihood of the batch plus the penalties; must not be modified.
        batch : Batch
            The batch and the network.

        Returns
        -------
        ndarray, shape (P,)
            The update to add to the parameters.
        """

    def move(self, parameters: Array, gradient: Array, batch: Batch) -> None:
        """Update the parameters by a step, in place; the gradient may be overwritten.

        Parameters
        ----------
        parameters : ndarray, shape (P,)
            The parameter vector.
        gradient, batch
            As for `step`.
        """
        np.add(parameters, self.step(gradient, batch), out=parameters)


class _EntrywiseSteps(Steps):
    """Entrywise steps, which can be divided over threads by slices."""

    @abstractmethod
    def turn(self, change: Array, part: slice, taken: int) -> None:
        """Transform a slice of the gradient into the update, in place; `taken` is the number of steps before this one."""

    def step(self, gradient: Array, batch: Batch) -> Array:
        change = gradient.copy()
        batch.data.workers.entrywise(lambda part: self.turn(change[part], part, batch.number), len(change))
        return change

    def move(self, parameters: Array, gradient: Array, batch: Batch) -> None:
        def move(part: slice) -> None:
            change, theta = gradient[part], parameters[part]
            self.turn(change, part, batch.number)
            np.add(theta, change, out=theta)

        batch.data.workers.entrywise(move, len(gradient))


class Optimizer(ABC):
    """Settings of an optimiser."""

    @abstractmethod
    def start(self, model: MLP) -> Steps:
        """Return the steps of one fit.

        Parameters
        ----------
        model : MLP
            The network to be trained; `n_params` is the number of parameters, the scales of a normalisation included.

        Returns
        -------
        Steps
            New, without state from other fits.
        """


@dataclass(frozen=True)
class SGD(Optimizer):
    r"""Stochastic gradient descent: :math:`v\leftarrow\mu v+g`, :math:`\theta\leftarrow\theta-\eta v`.

    Parameters
    ----------
    learning_rate : float
        Step size eta, above 0.
    momentum : float, default 0.0
        Decay mu of the velocity v, in [0, 1). The velocity starts as the first gradient.
    nesterov : bool, default False
        Step along g + mu v instead of v; requires momentum.

    Raises
    ------
    ValueError
        If a setting is outside its range.

    Notes
    -----
    Equal to ``torch.optim.SGD`` without dampening. Its ``weight_decay`` is the penalty ``Frobenius(strength, biases=True)``.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.training.SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", arguments.positive_number("learning_rate", self.learning_rate))
        object.__setattr__(self, "momentum", training.decay("momentum", self.momentum))
        training.nesterov_momentum(arguments.boolean("nesterov", self.nesterov), self.momentum)

    def start(self, model: MLP) -> Steps:
        """Return the steps of one fit."""
        return _SGDSteps(self, model)


class _SGDSteps(_EntrywiseSteps):
    def __init__(self, settings: SGD, model: MLP) -> None:
        self.settings = settings
        self.velocity = _zeros(model)

    def turn(self, change: Array, part: slice, taken: int) -> None:
        settings, v = self.settings, self.velocity[part]
        direction = change
        if settings.momentum:
            direction = np.add(np.multiply(v, settings.momentum, out=v), change, out=v)
        if settings.nesterov:
            direction = np.add(change, settings.momentum * v, out=change)
        np.multiply(direction, -settings.learning_rate, out=change)


@dataclass(frozen=True)
class Adam(Optimizer):
    r"""Adam: :math:`\theta\leftarrow\theta-\eta\,\hat m/(\sqrt{\hat v}+\epsilon)` with bias-corrected running moments.

    :math:`m\leftarrow\beta_1m+(1-\beta_1)g`, :math:`v\leftarrow\beta_2v+(1-\beta_2)g^2`, :math:`\hat m=m/(1-\beta_1^k)`,
    :math:`\hat v=v/(1-\beta_2^k)` at step k.

    Parameters
    ----------
    learning_rate : float, default 0.001
        Step size eta, above 0.
    betas : tuple of two floats, default (0.9, 0.999)
        Decays of the two moments, each in [0, 1).
    epsilon : float, default 1e-8
        Added to the square root of the second moment, above 0.

    Raises
    ------
    ValueError
        If a setting is outside its range.

    Notes
    -----
    Equal to ``torch.optim.Adam``. Its ``weight_decay`` is the penalty ``Frobenius(strength, biases=True)``.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.training.Adam()
    Adam(learning_rate=0.001, betas=(0.9, 0.999), epsilon=1e-08)
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", arguments.positive_number("learning_rate", self.learning_rate))
        object.__setattr__(self, "betas", training.two_decays("betas", self.betas))
        object.__setattr__(self, "epsilon", arguments.positive_number("epsilon", self.epsilon))

    def start(self, model: MLP) -> Steps:
        """Return the steps of one fit."""
        return _AdamSteps(self, model)


class _AdamSteps(_EntrywiseSteps):
    def __init__(self, settings: Adam, model: MLP) -> None:
        self.settings = settings
        # The moments without the factors 1 - beta: this saves passes over the parameters, which dominate the cost of a step.
        self.first, self.second = _zeros(model), _zeros(model)

    def second_moment(self, taken: int) -> Array:
        """Return the estimate of the mean squared gradient after some steps, with bias correction."""
        beta = self.settings.betas[1]
        return self.second * ((1 - beta) / (1 - beta**taken))

    def turn(self, change: Array, part: slice, taken: int) -> None:
        (beta_1, beta_2), m, v = self.settings.betas, self.first[part], self.second[part]
        size = math.sqrt((1 - beta_2) / (1 - beta_2 ** (taken + 1)))
        rate = self.settings.learning_rate * (1 - beta_1) / (1 - beta_1 ** (taken + 1)) / size
        np.add(np.multiply(m, beta_1, out=m), change, out=m)
        np.add(np.multiply(v, beta_2, out=v), np.multiply(change, change, out=change), out=v)
        np.add(np.sqrt(v, out=change), self.settings.epsilon / size, out=change)
        np.multiply(np.divide(m, change, out=change), -rate, out=change)


def _zeros(model: MLP) -> Array:
    """Return a parameter vector of zeros on the device of the weights."""
    return np.zeros_like(model.weights[0], shape=(model.n_params,))
