"""The common frame of public calls: validation of arguments, choice of engine and precision, streaming, provenance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats import engines, execution
from fisherstats._version import __version__
from fisherstats.core.arrays import common_dtype, device_numbers, on_host
from fisherstats.core.validation import arguments, capacity, distributions, inputs, networks, remedies
from fisherstats.core.validation import external as external_checks
from fisherstats.core.validation import probes as probe_checks
from fisherstats.core.validation.families import few_classes
from fisherstats.execution import BLOCK_NUMBERS, BlockFunction, Part, Pass, PassShape, Reduction, Rows, Steps, Total
from fisherstats.execution.reductions import Joined
from fisherstats.models.columns import columns_in_order, response_in_order
from fisherstats.models.external import ExternalNetwork
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels
from fisherstats.quantities._evaluation import Evaluation, ExternalEvaluation
from fisherstats.theory import assembly, dense_blocks, kronecker, relative_information
from fisherstats.theory.sampling import SAMPLINGS, stratifiable

__all__ = ["DENSE_ROWS", "Call", "label_sampling", "prepare"]

Array = NDArray[np.floating]

_SECOND_ORDER_ROWS, _SECOND_ORDER_LEAST = 128, 24
"""Inputs in a block of work with second derivatives, and the fewest that justify a thread."""

DENSE_ROWS = 256
"""Inputs in a block of dense work."""

_ROOT_ROWS = 512
"""Inputs in a block of dense work on rows of a square root."""

_DENSE_GROUP = 2048

_DEVICE_ROWS = 2**17
"""Inputs in a block on a device, large enough for one product to occupy it."""

_DEVICE_SHARE = 64
"""The largest array of a block takes at most this fraction of device memory."""


def _nothing(x: Array, first_input: int) -> list[Array]:
    """Block function of a pass of which only the shape is asked."""
    raise AssertionError


@dataclass(frozen=True)
class Call:
    """One validated call: the network in the precision of the call, the rows of x, and the execution settings.

    Methods that pass over the inputs return steps: `yield from` them, or answer them `at_once`.
    """

    network: Evaluation
    rows: Rows
    input_labels: NDArray[Any] | None
    num_threads: int | None
    progress: bool
    index: NDArray[Any] | None = None
    """Input labels against which the labels of y are compared, including the default row numbers of a frame."""
    stated: np.dtype[np.floating] | None = None
    """The precision of the results if it differs from that of the computation."""

    @property
    def model(self) -> MLP:
        """The network in the precision of the call."""
        return self.network.model

    @property
    def engine(self) -> engines.Engine:
        """The backend of the array kernels."""
        return self.network.engine

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """The precision of the call."""
        return self.rows.dtype if self.stated is None else self.stated

    @property
    def n_inputs(self) -> int:
        """Number of rows of x."""
        return self.rows.n_inputs

    def terms(self, per_input: bool) -> int:
        """Return the largest number of sequential additions in a sum over inputs: those of a block, and one per leaf."""
        return 0 if per_input else min(self.n_inputs, 64 + self.n_inputs // 64)

    @property
    def n_present(self) -> int:
        """Number of rows of x that are present: all of them, unless the call is evaluated in parts."""
        return self.rows.n_inputs if self.rows.n_present is None else self.rows.n_present

    @property
    def sizes(self) -> list[int]:
        """Parameters per layer."""
        return [units * inputs for units, inputs in self.model.shapes]

    def mean(
        self,
        block: BlockFunction,
        rows: int,
        combine: Callable[[list[Array], list[Array]], None] | None = None,
        infinite: bool = False,
    ) -> Steps[list[Array]]:
        """Return the mean over inputs of what `block` sums (see `execution.mean`); `infinite` says if inf may be a result."""
        results = yield from execution.mean(block, self.rows, rows, combine=combine, **self._settings)
        inputs.finite_results(results, self.rows.dtype, infinite)
        return results

    def stack(self, block: BlockFunction, rows: int, infinite: bool = False) -> Steps[list[Array]]:
        """Return the per-input results of `block`, concatenated; `infinite` says if inf may be a result."""
        results = yield from execution.stack(block, self.rows, rows, **self._settings)
        inputs.finite_results(results, self.rows.dtype, infinite)
        return results

    def over_inputs(self, block: BlockFunction, rows: int, per_input: bool, infinite: bool = False) -> Steps[list[Array]]:
        """Return the mean over inputs, or one row per input; in the precision of the call."""
        results = yield from self.stack(block, rows, infinite) if per_input else self.mean(block, rows, infinite=infinite)
        return [result.astype(self.rows.dtype, copy=False) for result in results]

    def mean_shape(self, rows: int) -> PassShape:
        """Return the shape of the pass of a mean."""
        return self._pass(_nothing, Total(), rows).shape

    def stack_shape(self, rows: int) -> PassShape:
        """Return the shape of the pass of a stack."""
        return self._pass(_nothing, Joined(), rows).shape

    def _pass(self, block: BlockFunction, total: Reduction, rows: int, **cut: Any) -> Pass:
        return Pass(block, total, self.rows, rows, **cut, **self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        return {"num_threads": self.num_threads, "progress": self.progress}

    def diagonal_mean(
        self,
        block: BlockFunction,
        second_order: bool = False,
        infinite: bool = False,
        preferred: int = 256,
        shapes: Sequence[tuple[int, int]] | None = None,
        weight: Callable[[], float] | None = None,
        n_rows: int | None = None,
    ) -> Steps[Array]:
        """Return the means over inputs of (number per unit) x (power of the layer input), (quantities, P).

        See `assembly.DiagonalSum`.

        Few inputs of second order occupy two threads; the products of a group of blocks are formed together.
        `shapes` are those of other parameters than the weights. The means are multiplied by `weight`, which is called
        after all inputs are read; `n_rows` as for `block_rows`.
        """
        (means,) = yield self._diagonal(block, second_order, preferred, shapes, n_rows)
        # In a single pass, as they are larger than the caches.
        np.divide(means, self.n_inputs if weight is None else self.n_inputs / weight(), out=means)
        inputs.finite_results([means], self.rows.dtype, infinite)
        found: Array = means.astype(self.rows.dtype, copy=False)
        return found

    def _diagonal(
        self,
        block: BlockFunction,
        second_order: bool = False,
        preferred: int = 256,
        shapes: Sequence[tuple[int, int]] | None = None,
        n_rows: int | None = None,
    ) -> Pass:
        sums = assembly.DiagonalSum(self.model.shapes if shapes is None else shapes)
        if second_order and self.model.n_layers > 2 and self.rows.device is None:
            keeps_chains = self.model.n_layers > self.engine.most_layers_without_chains
            rows = self.block_rows(_SECOND_ORDER_ROWS, keeps_chains)
            return self._pass(block, sums, rows, least=_SECOND_ORDER_LEAST)

        def summed(x: Array, first_input: int) -> list[Array]:
            return sums.of_block(*block(x, first_input))

        return self._pass(summed, Total(), self.block_rows(preferred, second_order and self.rows.device is not None, n_rows))

    def diagonal_shape(self, second_order: bool = False, preferred: int = 256, n_rows: int | None = None) -> PassShape:
        """Return the shape of the pass of `diagonal_mean`."""
        return self._diagonal(_nothing, second_order, preferred, n_rows=n_rows).shape

    def pair_mean(
        self, block: BlockFunction, cross_layers: bool, n_quantities: int = 1
    ) -> Steps[list[dict[tuple[int, int], Array]]]:
        """Return the mean over inputs of matrices given by rows of unit factors, see `dense_blocks.PairSum`."""
        tiles = {} if self.rows.device is None else {"tile_pairs": dense_blocks.DEVICE_PAIRS}
        total = dense_blocks.PairSum(self.model.shapes, n_quantities, cross_layers, self.rows.dtype, **tiles)
        yield self.dense(block, total)
        found = total.finish(self.n_inputs)
        self._finite_squares(found)
        return found

    def kronecker_mean(
        self, block: BlockFunction, shapes: Sequence[tuple[int, int]] | None = None
    ) -> Steps[list[dict[tuple[int, int], Array]]]:
        """Return the mean factors of every layer in float64, see `kronecker.FactorSum`; `shapes` as for `diagonal_mean`."""
        total = kronecker.FactorSum(self.model.shapes if shapes is None else shapes)
        yield self.dense(block, total)
        found = total.means(self.n_inputs)
        self._finite_squares(found)
        return found

    def _finite_squares(self, quantities: list[dict[tuple[int, int], Array]]) -> None:
        """Require finite matrices; as they are positive semi-definite, no entry is larger than the largest on the diagonal."""
        inputs.finite_results(
            [np.diagonal(one) for blocks in quantities for one in blocks.values()], self.rows.dtype, infinite=False
        )

    def neuron_mean(self, block: BlockFunction) -> Steps[list[Array]]:
        """Return the mean metric of every neuron of every layer, see `relative.NeuronSum`."""
        total = relative_information.NeuronSum(self.model.shapes)
        yield self.dense(block, total)
        found = total.means(self.n_inputs)
        inputs.finite_results(found, self.rows.dtype, False)
        return [one.astype(self.rows.dtype, copy=False) for one in found]

    def dense(self, block: BlockFunction, total: Reduction) -> Pass:
        """Return a pass of dense work on rows of a square root."""
        rows = self.block_rows(_ROOT_ROWS)
        if self.rows.device is not None:
            rows = min(rows, self.device_rows(dense_blocks.DEVICE_PAIRS))
        return self._pass(block, total, rows, group=max(1, _DENSE_GROUP // rows))

    def dense_shape(self, total: Reduction) -> PassShape:
        """Return the shape of such a pass."""
        return self.dense(_nothing, total).shape

    def of(self, model: MLP, name: str) -> Call:
        """Return this call for another network, in the same precision."""
        networks.same_names(name, model, self.network.name, self.model)
        return replace(self, network=replace(self.network, model=self._like(model), name=name))

    def _like(self, model: MLP) -> MLP:
        return model.as_dtype(self.rows.dtype).beside(self.engine.device)

    def block_rows(self, preferred: int = 256, second_order: bool = False, n_rows: int | None = None) -> int:
        """Return the inputs per block for this network: fewer where the arrays per input are large.

        `n_rows` is the number of rows held at a time per input, if not one for each output.
        """
        widest = max(self.model.widths[1:])
        numbers = (self.model.widths[-1] if n_rows is None else n_rows) * max(self.model.widths)
        if second_order and self.model.n_layers > 2:
            numbers = max(numbers, widest**2)
        if self.rows.device is not None:
            return self.device_rows(numbers)
        return execution.block_rows(numbers, preferred)

    @property
    def block_numbers(self) -> int:
        """Numbers in the largest array of a block: it fits the cache, or leaves device memory for derived arrays."""
        return BLOCK_NUMBERS if self.rows.device is None else device_numbers(self.rows.device) // _DEVICE_SHARE

    def device_rows(self, numbers: int) -> int:
        """Return the most rows of a block on a device."""
        return execution.block_rows(numbers, _DEVICE_ROWS, self.block_numbers)

    def data_labels(self, y: Any) -> NDArray[Any]:
        """Return the data labels of all inputs, if there is one for each and all are in the support of the family."""
        return self._checked(y, self.model.family.check_labels)

    def label_distributions(self, probabilities: Any) -> NDArray[np.float64]:
        """Return the probabilities of every label at all inputs, if each input has a distribution."""
        return self._checked(probabilities, lambda given, n: distributions.label_distributions(given, self.model.family, n))

    def _checked(self, given: Any, check: Callable[[Any, int], NDArray[Any]]) -> NDArray[Any]:
        """Return a validated argument with an entry per input; a call in parts has validated it when it was made."""
        if self.rows.checked is not None and self.rows.checked is given:
            return self.rows.checked
        given = response_in_order(given, self.model)
        return check(on_host(_labels.unlabelled_response(given, self.index)), self.n_inputs)

    def input_coordinate(self) -> dict[str, Any]:
        """Return the coordinate of the inputs: the user's labels where x carries them."""
        present = slice(self.rows.first, self.rows.first + self.n_present)
        if self.input_labels is not None:
            return _labels.coordinates(input=self.input_labels[present])
        return _labels.coordinates(input=np.arange(present.start, present.stop) if present.start else self.n_present)

    def fits(self, what: str, numbers: int, copies: float, remedy: str, itemsize: int = 8) -> None:
        """Require a result of so many numbers and its working copies to fit in memory."""
        capacity.fits(what, numbers * itemsize, int(numbers * itemsize * copies), remedy)

    def provenance(self, **more: Any) -> dict[str, Any]:
        """Return the provenance of a result; it contains nothing that differs between identical runs."""
        return {
            "package": f"fisherstats {__version__}",
            "model": self.model.fingerprint,
            **self.model.record(),
            "family": self.model.family.parameters(),
            "n_inputs": self.n_inputs,
            "dtype": str(self.dtype),
            "engine": self.engine.name,
            **more,
        }


def prepare(
    model: Any,
    x: Any,
    *,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    host_only: bool = False,
    read_once: bool = False,
    in_double: bool = False,
    any_network: bool = False,
) -> Call:
    """Validate model, x and the common keywords; computation starts only after all checks.

    An x on a device stays there if the engine is that of the device, unless the work is for the host only. If a call only streams
    over x, it may be `read_once`: an x in memory is then validated block by block, like one in a file. With `in_double`
    everything is computed in float64, and the caller rounds to the `dtype` of the call. With `any_network` the network may be an
    `ExternalNetwork`, for what needs natural parameters and derivatives alone.
    """
    external = isinstance(model, ExternalNetwork)
    if external and not any_network:
        external_checks.perceptron_only()
    if not external:
        networks.model_object(model, MLP)
    x = x if external else columns_in_order(x, model)
    source, input_labels = (x, x.input_labels) if isinstance(x, Part) else _labels.unlabelled(x, external)
    index = x.index.to_numpy() if hasattr(type(x), "iloc") and not hasattr(x, "__dask_graph__") else input_labels
    inputs.no_batches(source)
    if not isinstance(source, Part) and not inputs.read_by_slices(source):
        source = arguments.array_like("x", source)
    if external:
        inputs.input_array(tuple(source.shape), source.dtype)
    else:
        inputs.input_matrix(tuple(source.shape), source.dtype, model.widths[0])
    arguments.unmasked("x", source)
    chosen = engines.resolve(engine, None if host_only or external else source)
    if chosen.device is None:
        source = on_host(source)
    else:
        networks.runs_on_device(model.family, model.activations)
    if num_threads is not None:
        arguments.positive_integer("num_threads", num_threads)
    arguments.boolean("progress", progress)
    stated = model.dtype if external else common_dtype(model.weights[0], source)
    dtype = np.dtype(np.float64) if in_double else stated
    network = model.in_double() if in_double else model.as_dtype(dtype)
    if isinstance(source, Part):
        rows = Rows.of_part(source, dtype)
    else:
        rows = Rows(source.astype(source.dtype.newbyteorder("="), copy=False) if type(source) is np.ndarray else source, dtype)
        if not read_once:
            rows.look(num_threads)
    rows.device = chosen.device
    evaluate = ExternalEvaluation if external else Evaluation
    evaluation = evaluate(network.beside(chosen.device), chosen, taken=remedies.taken())
    return Call(evaluation, rows, input_labels, num_threads, progress, index=index, stated=stated)


def label_sampling(call: Call, sampling: str, probing: Sequence[str] = ()) -> str:
    """Return how labels are drawn, validated for the family and for the estimators that draw none."""
    word: str = arguments.choice("sampling", sampling, SAMPLINGS)
    if word == "stratified":
        few_classes(stratifiable(call.model.family), str(call.model.family))
        probe_checks.labels_only(probing)
    return word
