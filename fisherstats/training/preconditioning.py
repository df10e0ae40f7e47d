r"""Optimisers that step along :math:`-M^{-1}g` for a damped matrix M that is recomputed every few steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fisherstats.models.network import MLP
from fisherstats.training.optimizers import Batch, Optimizer, Steps

__all__ = ["Preconditioner", "Solve"]

Array = NDArray[np.floating]
Solve = Callable[[Array], Array]


class Preconditioner(Optimizer):
    r"""Steps :math:`\theta\leftarrow\theta-\eta M^{-1}g` with the matrix M of the latest batch at which it was updated."""

    learning_rate: float
    update_every: int

    @abstractmethod
    def inverse(self, batch: Batch) -> Solve:
        """Return the function g -> M^-1 g for the matrix of a batch, on float64 vectors.

        Parameters
        ----------
        batch : Batch
            The batch and the network; copy whatever must be kept of the network.

        Returns
        -------
        callable
            Takes and returns an array (P,).
        """

    def start(self, model: MLP) -> Steps:
        """Return the steps of one fit."""
        return _PreconditionedSteps(self)


class _PreconditionedSteps(Steps):
    def __init__(self, settings: Preconditioner) -> None:
        self.settings = settings
        self.solve: Solve | None = None

    def step(self, gradient: Array, batch: Batch) -> Array:
        if self.solve is None or batch.number % self.settings.update_every == 0:
            self.solve = self.settings.inverse(batch)
        direction = self.solve(gradient.astype(np.float64))
        return (-self.settings.learning_rate * direction).astype(gradient.dtype)
