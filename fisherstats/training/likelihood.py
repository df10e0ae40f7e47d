r"""The mean negative log-likelihood of labelled inputs and its gradient, for every family and link.

The gradient of :math:`\log p(y|x,\theta)` is :math:`J^\top(t(y)-\mathrm E[t])`, so one vector per input, pulled back layer by
layer (`derivatives.gradients`), gives :math:`\partial/\partial W_l=\sum_i g_{l,i}\bar h_{l,i}^\top`: one matrix product per
layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats import streaming
from fisherstats.model import derivatives
from fisherstats.model.families import Bernoulli, Categorical, Family
from fisherstats.model.network import MLP
from fisherstats.training.network import layer_views

__all__ = ["BLOCK_ROWS", "Fit", "Labelled", "measures_accuracy"]

Array = NDArray[np.floating]

BLOCK_ROWS = 512
"""Inputs in a block: a minibatch is mostly one, and a large one is shared by the threads without changing a bit."""


@dataclass(frozen=True)
class Fit:
    """How well a network fits labelled inputs."""

    loss: float
    """Mean negative log-likelihood."""
    accuracy: float
    """Fraction of right labels; nan where labels are not classes."""


@dataclass(frozen=True)
class Labelled:
    """Inputs with their checked labels, read by row number."""

    x: Any
    y: NDArray[Any]
    dtype: np.dtype[np.floating]
    num_threads: int | None

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.y)

    def gradient(self, model: MLP, rows: NDArray[np.int64]) -> tuple[Fit, Array]:
        """Return the fit to the given rows and the gradient of their mean negative log-likelihood, (P,)."""

        def block(x: Array, first: int) -> list[Array]:
            y = self.y[rows[first : first + len(x)]]
            passed = derivatives.forward(model, x)
            scores = derivatives.gradients(model, passed, -model.family.at(passed.natural).residual(y))
            total = np.empty(model.n_params, dtype=x.dtype)
            for score, h_bar, into in zip(scores, passed.inputs, layer_views(model, total), strict=True):
                np.matmul(score.T, h_bar, out=into)
            return [total, _sums(model.family, passed.natural, y)]

        source = streaming.Rows(_Chosen(self.x, rows), self.dtype, known_finite=True)
        gradient, sums = streaming.mean(block, source, BLOCK_ROWS, num_threads=self.num_threads)
        return Fit(*sums.tolist()), gradient

    def fit(self, model: MLP) -> Fit:
        """Return the fit to all rows."""

        def block(x: Array, first: int) -> list[Array]:
            natural = derivatives.forward(model, x).natural
            return [_sums(model.family, natural, self.y[first : first + len(x)])]

        source = streaming.Rows(self.x, self.dtype)
        (sums,) = streaming.mean(block, source, BLOCK_ROWS, num_threads=self.num_threads)
        return Fit(*sums.tolist())


class _Chosen:
    """Rows of x in a given order, gathered a block at a time."""

    def __init__(self, x: Any, rows: NDArray[np.int64]) -> None:
        self.x = x
        self.rows = rows
        self.shape = (len(rows), *x.shape[1:])

    def __getitem__(self, part: slice) -> Any:
        return self.x[self.rows[part]]


def measures_accuracy(family: Family) -> bool:
    """Return whether a label is right or wrong."""
    return isinstance(family, Bernoulli | Categorical)


def _sums(family: Family, natural: Array, y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums over inputs of the negative log-likelihood and of the right labels (a mean over binary outputs)."""
    right: Any = np.nan
    if isinstance(family, Categorical):
        # The minimal form leaves out the last class, whose logit is 0.
        logits = np.pad(natural, ((0, 0), (0, 1))) if family.minimal else natural
        right = np.count_nonzero(np.argmax(logits, axis=1) == y)
    elif isinstance(family, Bernoulli):
        right = np.count_nonzero((natural > 0) == (y > 0)) / family.n_outputs
    return np.array([-family.log_prob(natural, y).sum(dtype=np.float64), right])
