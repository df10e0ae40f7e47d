r"""The mean negative log-likelihood of labelled inputs and its gradient, for every family and link.

The gradient of :math:`\log p(y|x,\theta)` is :math:`J^\top(t(y)-\mathrm E[t])`, so one vector per input, pulled back layer by
layer (`derivatives.gradients`), gives :math:`\partial/\partial W_l=\sum_i g_{l,i}\bar h_{l,i}^\top`: one matrix product per
layer.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fisherstats import engines, execution
from fisherstats.core.arrays import device_numbers, like, on_device, vector
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import inputs
from fisherstats.models import derivatives
from fisherstats.models.families import Bernoulli, Categorical, Family
from fisherstats.models.families.base import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.network import MLP
from fisherstats.quantities._run import Call, prepare
from fisherstats.training.network import layer_views
from fisherstats.training.thread_shares import ALONE, Workers

__all__ = ["Fit", "Labelled", "labelled", "labelled_beside", "measures_accuracy", "sums"]

Array = NDArray[np.floating]

_SHARED_ROWS = 256
"""Rows of a minibatch up to which it is one block."""

_BLOCK_ROWS = 512
_BLOCKS = 16
"""Rows of a block, as long as there are not more blocks than this."""

_HELD_GRADIENTS = 4

_EVALUATED_ROWS = 512

# Overflow gives inf or nan, which stops the training.
_OVERFLOWING = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")


@dataclass(frozen=True)
class Fit:
    """Loss and accuracy of a network on labelled inputs."""

    loss: float
    """Mean negative log-likelihood."""
    accuracy: float
    """Fraction of correct labels; nan where labels are not classes."""


class _Sums(NamedTuple):
    """Sums over a part of a minibatch."""

    gradient: Array
    """Gradient of the mean negative log-likelihood of the whole minibatch, (P,)."""
    numbers: Array
    """Negative log-likelihood and number of correct labels, (2,)."""
    square: Any
    """Squared norm of the gradient; computed while it is in the cache."""


@dataclass(frozen=True)
class Labelled:
    """Inputs with their validated labels, read by row number; both are on the device that computes, or on the host."""

    x: Any
    y: NDArray[Any]
    dtype: np.dtype[np.floating]
    num_threads: int | None
    engine: engines.Engine | None = None
    """Backend; None selects automatically on the host."""
    device: Any = None
    """An array on the device that computes; None on the host."""
    block_rows: int | None = None
    """Rows in a block on a device; None on the host."""

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.y)

    @cached_property
    def workers(self) -> Workers:
        """The threads of the training."""
        return ALONE if self.device is not None else Workers(execution.thread_count(self.num_threads))

    def inputs(self, rows: NDArray[np.int64]) -> Array:
        """Return the inputs of some rows, in the precision and on the device of the computation."""
        gathered: Array = execution.rows_by_number(self.x, rows).astype(self.dtype, copy=False)
        return gathered if self.device is None else like(gathered, self.device)

    def labels(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the labels of some rows."""
        gathered: NDArray[Any] = self.y[rows]
        return gathered if self.device is None else like(gathered, self.device)

    def gradient(self, model: MLP, rows: NDArray[np.int64]) -> tuple[Array, Array, Any]:
        """Return loss and accuracy at the given rows, the gradient of their mean negative log-likelihood, (P,), and its square.

        For a small minibatch the threads share the large products; otherwise each thread processes blocks.
        """
        blocks = self._blocks(rows)
        if len(blocks) == 1:
            found = self._sums(model, rows, len(rows), self.workers)
        else:
            held: list[_Sums] = []
            group = max(_HELD_GRADIENTS, 2 * self.workers.threads)
            for start in range(0, len(blocks), group):
                held += self.workers.each(lambda part: self._sums(model, part, len(rows), ALONE), blocks[start : start + group])
                held = [self._added(held)]
            (found,) = held
        return found.numbers / len(rows), found.gradient, found.square

    def _added(self, blocks: list[_Sums]) -> _Sums:
        """Return the sums over blocks, in their order; accumulating in place into the first gradient."""
        first, *others = blocks

        def add(part: slice) -> Any:
            into = first.gradient[part]
            for one in others:
                np.add(into, one.gradient[part], out=into)
            return into @ into

        squares = self.workers.entrywise(add, len(first.gradient))
        return _Sums(first.gradient, sum((one.numbers for one in others), first.numbers), sum(squares))

    def _blocks(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the blocks of a minibatch, which depend on its size only, so that the number of threads changes no bit."""
        if self.block_rows is not None:
            size = self.block_rows
        elif len(rows) <= _SHARED_ROWS:
            size = len(rows)
        else:
            # An even number of equal size, so that two threads finish together.
            size = -(-len(rows) // min(_BLOCKS, 2 * -(-len(rows) // (2 * _BLOCK_ROWS))))
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    @_OVERFLOWING
    def _sums(self, model: MLP, rows: NDArray[np.int64], n: int, workers: Workers) -> _Sums:
        """Return the sums over the rows of a block, of a minibatch of n."""
        if self.device is None:
            x_bar = workers.gathered(self.x, rows, self.dtype, model.bias[0])
        else:
            x_bar = derivatives.with_one(self.inputs(rows)) if model.bias[0] else self.inputs(rows)
        y = self.labels(rows)
        forward = derivatives.forward_with_one(model, x_bar, product=workers.product, by_units=self.device is None)
        law = model.family.at(forward.natural)
        scores = derivatives.gradients(model, forward, law.residual(y) * (-1 / n), workers.product)
        gradient = np.empty_like(x_bar, shape=(model.n_params,))
        into = layer_views(model, gradient)

        def part(layer: int, units: slice) -> Any:
            flat = np.matmul(scores[layer][:, units].T, forward.inputs[layer], out=into[layer][units]).reshape(-1)
            return flat @ flat

        tasks: list[Callable[[], Any]] = [
            functools.partial(part, layer, units)
            for layer, weight in enumerate(model.weights)
            for units in workers.slices(len(weight), weight.size * len(rows))
        ]
        *squares, numbers = workers.each(operator.call, [*tasks, functools.partial(sums, model.family, law, y)])
        return _Sums(gradient, numbers, sum(squares))

    def fit(self, model: MLP) -> Fit:
        """Return loss and accuracy over all rows of a network on the host."""
        there = model.beside(self.device)

        @_OVERFLOWING
        def block(x: Array, first: int) -> list[Array]:
            natural = derivatives.forward(there, x).natural
            return [sums(model.family, model.family.at(natural), like(self.y[first : first + len(x)], natural))]

        source = execution.Rows(self.x, self.dtype)
        source.device = self.device
        (total,) = execution.at_once(
            execution.mean(block, source, self.block_rows or _EVALUATED_ROWS, num_threads=self.num_threads)
        )
        return Fit(*total.tolist())


def labelled(call: Call, y: Any, dtype: np.dtype[np.floating]) -> Labelled:
    """Return the inputs of a call with their validated labels, transferred to the device if the call runs on one.

    An array of more than half the memory of the device, or one in a file, stays on the host and is transferred minibatch by
    minibatch.
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
    """Return further inputs with their labels, on the device and in the precision of a call."""
    other = prepare(model, x, engine=call.engine.name, num_threads=call.num_threads)
    return labelled(other, y, call.rows.dtype)


def measures_accuracy(family: Family) -> bool:
    """Return whether predictions of the family's labels are correct or incorrect, so that accuracy is defined."""
    return isinstance(family, Bernoulli | Categorical)


def sums(family: Family, law: Law, y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums over inputs of the negative log-likelihood and of correct labels (a mean over binary outputs)."""
    right: Any = np.nan
    if isinstance(law, CategoricalLaw):
        right = np.count_nonzero(law.top == y)
    elif isinstance(family, Bernoulli):
        right = np.count_nonzero((law.h > 0) == (y > 0)) / family.n_outputs
    return vector([-family.log_prob_at(law, y).sum(dtype=np.float64), right], law.h)
