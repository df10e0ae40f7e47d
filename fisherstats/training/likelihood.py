r"""The mean negative log-likelihood of labelled inputs and its gradient, for every family and link.

The gradient of :math:`\log p(y|x,\theta)` is :math:`J^\top(t(y)-\mathrm E[t])`, so one vector per input, pulled back layer by
layer (`derivatives.gradients`), gives :math:`\partial/\partial W_l=\sum_i g_{l,i}\bar h_{l,i}^\top`: one matrix product per
layer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats import streaming
from fisherstats.model import derivatives
from fisherstats.model.families import Bernoulli, Categorical, Family
from fisherstats.model.network import MLP
from fisherstats.training.network import layer_views

__all__ = ["Fit", "Labelled", "Workers", "measures_accuracy", "sums"]

Array = NDArray[np.floating]

_SMALLEST_BLOCK = 256
_BLOCKS = 16
"""A minibatch is cut into blocks by its own size alone, so that the number of threads changes no bit; a small one is a block."""

_EVALUATED_ROWS = 512

# What overflows is infinite or nan, and stops the training.
_OVERFLOWING = np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Workers:
    """The threads of one training, which live as long as it does: making them costs as much as a step.

    Parameters
    ----------
    num_threads : int or None
        Threads over blocks of a minibatch; None for the cores given to the process.
    """

    def __init__(self, num_threads: int | None) -> None:
        self.threads = streaming.thread_count(num_threads)

    def __enter__(self) -> Workers:
        self._pool = ThreadPoolExecutor(max_workers=self.threads)
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def total(self, block: Callable[[NDArray[np.int64]], tuple[Array, ...]], rows: NDArray[np.int64]) -> tuple[Array, ...]:
        """Return the sums over blocks of rows of what `block` returns, added in the order of the blocks.

        Parameters
        ----------
        block : callable
            Takes row numbers; returns arrays that are its own.
        rows : ndarray of int
            Row numbers of a minibatch.

        Returns
        -------
        tuple of ndarray
            The sums.
        """
        size = max(_SMALLEST_BLOCK, -(-len(rows) // _BLOCKS))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        total: tuple[Array, ...] = ()
        for part in map(block, parts) if len(parts) == 1 or self.threads == 1 else self._ahead(block, parts):
            if not total:
                total = part
                continue
            for into, array in zip(total, part, strict=True):
                np.add(into, array, out=into)
        return total

    def _ahead(self, block: Callable[..., tuple[Array, ...]], parts: list[NDArray[np.int64]]) -> Iterator[tuple[Array, ...]]:
        """Yield the results in order, a few blocks ahead at most, so that few gradients are held."""
        running: deque[Future[tuple[Array, ...]]] = deque()
        for part in parts:
            running.append(self._pool.submit(block, part))
            if len(running) > self.threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


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

    def gradient(self, model: MLP, rows: NDArray[np.int64], workers: Workers) -> tuple[Fit, Array]:
        """Return the fit to the given rows and the gradient of their mean negative log-likelihood, (P,)."""

        @_OVERFLOWING
        def block(part: NDArray[np.int64]) -> tuple[Array, ...]:
            x, y = self.x[part].astype(self.dtype, copy=False), self.y[part]
            passed = derivatives.forward(model, x)
            scores = derivatives.gradients(model, passed, -model.family.at(passed.natural).residual(y))
            gradient = np.empty_like(x, shape=(model.n_params,))
            for score, h_bar, into in zip(scores, passed.inputs, layer_views(model, gradient), strict=True):
                np.matmul(score.T, h_bar, out=into)
            return gradient, sums(model.family, passed.natural, y)

        gradient, total = workers.total(block, rows)
        np.divide(gradient, len(rows), out=gradient)
        return Fit(*(total / len(rows)).tolist()), gradient

    def fit(self, model: MLP) -> Fit:
        """Return the fit to all rows."""

        @_OVERFLOWING
        def block(x: Array, first: int) -> list[Array]:
            natural = derivatives.forward(model, x).natural
            return [sums(model.family, natural, self.y[first : first + len(x)])]

        source = streaming.Rows(self.x, self.dtype)
        (total,) = streaming.mean(block, source, _EVALUATED_ROWS, num_threads=self.num_threads)
        return Fit(*total.tolist())


def measures_accuracy(family: Family) -> bool:
    """Return whether a label is right or wrong."""
    return isinstance(family, Bernoulli | Categorical)


def sums(family: Family, natural: Array, y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums over inputs of the negative log-likelihood and of the right labels (a mean over binary outputs)."""
    right: Any = np.nan
    if isinstance(family, Categorical):
        # The minimal form leaves out the last class, whose logit is 0.
        logits = np.pad(natural, ((0, 0), (0, 1))) if family.minimal else natural
        right = np.count_nonzero(np.argmax(logits, axis=1) == y)
    elif isinstance(family, Bernoulli):
        right = np.count_nonzero((natural > 0) == (y > 0)) / family.n_outputs
    return np.array([-family.log_prob(natural, y).sum(dtype=np.float64), right])
