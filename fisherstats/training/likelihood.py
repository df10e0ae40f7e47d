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

from fisherstats import engines, streaming
from fisherstats.arrays import device_numbers, like, on_device, vector
from fisherstats.calls import Call, prepare
from fisherstats.checks import inputs
from fisherstats.model import derivatives
from fisherstats.model.families import Bernoulli, Categorical, Family
from fisherstats.model.network import MLP
from fisherstats.training.network import layer_views

__all__ = ["Fit", "Labelled", "Workers", "labelled", "labelled_beside", "measures_accuracy", "sums"]

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

    def total(
        self, block: Callable[[NDArray[np.int64]], tuple[Array, ...]], rows: NDArray[np.int64], size: int | None = None
    ) -> tuple[Array, ...]:
        """Return the sums over blocks of rows of what `block` returns, added in the order of the blocks.

        Parameters
        ----------
        block : callable
            Takes row numbers; returns arrays that are its own.
        rows : ndarray of int
            Row numbers of a minibatch.
        size : int, optional
            Rows in a block on a device, where one block follows the other.

        Returns
        -------
        tuple of ndarray
            The sums.
        """
        one_by_one = self.threads == 1 or size is not None
        size = max(_SMALLEST_BLOCK, -(-len(rows) // _BLOCKS)) if size is None else size
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        total: tuple[Array, ...] = ()
        for part in map(block, parts) if len(parts) == 1 or one_by_one else self._ahead(block, parts):
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
    """Inputs with their checked labels, read by row number; both lie on the device that computes, or else on the host."""

    x: Any
    y: NDArray[Any]
    dtype: np.dtype[np.floating]
    num_threads: int | None
    engine: engines.Engine | None = None
    """Who computes; None lets the package choose on the host."""
    device: Any = None
    """An array of the device that computes; None on the host."""
    block_rows: int | None = None
    """Rows in a block on a device; None on the host."""

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.y)

    def inputs(self, rows: NDArray[np.int64]) -> Array:
        """Return the inputs of some rows, as they are computed with."""
        gathered: Array = self.x[rows].astype(self.dtype, copy=False)
        return gathered if self.device is None else like(gathered, self.device)

    def labels(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the labels of some rows."""
        gathered: NDArray[Any] = self.y[rows]
        return gathered if self.device is None else like(gathered, self.device)

    def gradient(self, model: MLP, rows: NDArray[np.int64], workers: Workers) -> tuple[Array, Array]:
        """Return loss and accuracy at the given rows, and the gradient of their mean negative log-likelihood, (P,)."""

        @_OVERFLOWING
        def block(part: NDArray[np.int64]) -> tuple[Array, ...]:
            x, y = self.inputs(part), self.labels(part)
            passed = derivatives.forward(model, x)
            scores = derivatives.gradients(model, passed, -model.family.at(passed.natural).residual(y))
            gradient = np.empty_like(x, shape=(model.n_params,))
            for score, h_bar, into in zip(scores, passed.inputs, layer_views(model, gradient), strict=True):
                np.matmul(score.T, h_bar, out=into)
            return gradient, sums(model.family, passed.natural, y)

        gradient, total = workers.total(block, rows, self.block_rows)
        np.divide(gradient, len(rows), out=gradient)
        return total / len(rows), gradient

    def fit(self, model: MLP) -> Fit:
        """Return the fit of a network of the host to all rows."""
        there = model.beside(self.device)

        @_OVERFLOWING
        def block(x: Array, first: int) -> list[Array]:
            natural = derivatives.forward(there, x).natural
            return [sums(model.family, natural, like(self.y[first : first + len(x)], natural))]

        source = streaming.Rows(self.x, self.dtype)
        source.device = self.device
        (total,) = streaming.mean(block, source, self.block_rows or _EVALUATED_ROWS, num_threads=self.num_threads)
        return Fit(*total.tolist())


def labelled(call: Call, y: Any, dtype: np.dtype[np.floating]) -> Labelled:
    """Return the inputs of a call with their labels, checked, and moved to a device where the call is carried out on one.

    An array of more than half the memory of the device, or one in a file, stays on the host, minibatch by minibatch.
    """
    x: Any = call.rows.source
    given, device = call.data_labels(y), call.rows.device
    if device is None:
        return Labelled(x, given, dtype, call.num_threads, call.engine)
    if type(x) is np.ndarray and 2 * x.nbytes <= 8 * device_numbers(device):
        x = like(x, device)
    if on_device(x):
        inputs.finite_block(x, 0)
        given = like(given, device)
    return Labelled(x, given, dtype, call.num_threads, call.engine, device, call.device_rows(max(call.model.widths)))


def labelled_beside(call: Call, model: MLP, x: Any, y: Any) -> Labelled:
    """Return other inputs with their labels, where a call is carried out and in its precision."""
    other = prepare(model, x, engine=call.engine.name, num_threads=call.num_threads)
    return labelled(other, y, call.rows.dtype)


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
    found: NDArray[np.float64] = vector([-family.log_prob(natural, y).sum(dtype=np.float64), right], natural)
    return found
