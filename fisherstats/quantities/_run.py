"""The common frame of public calls: validation of arguments, choice of engine and precision, streaming, provenance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats import engines, execution
from fisherstats._version import __version__
from fisherstats.core.arrays import common_dtype, device_numbers, on_host
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import arguments, capacity, distributions, inputs, networks, remedies
from fisherstats.execution import BLOCK_NUMBERS, BlockFunction, Part, Rows
from fisherstats.models import derivatives
from fisherstats.models.columns import columns_in_order, response_in_order
from fisherstats.models.derivatives import Forward, Outputs
from fisherstats.models.families import Law, SecondMoment
from fisherstats.models.families.base import RowProducts
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels
from fisherstats.theory import assembly, dense_blocks, fisher, kronecker, relative_information

__all__ = ["DENSE_ROWS", "Call", "prepare"]

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


def _overflowing() -> np.errstate:
    """Overflow in a block gives inf or nan in the results, which are checked; underflow gives the limit 0."""
    return np.errstate(over="ignore", invalid="ignore", under="ignore")


@dataclass(frozen=True)
class Call:
    """One validated call: the network in the precision of the call, the rows of x, and the execution settings."""

    model: MLP
    rows: Rows
    input_labels: NDArray[Any] | None
    engine: engines.Engine
    num_threads: int | None
    progress: bool
    name: str = "model"
    """Name of the network in messages."""
    index: NDArray[Any] | None = None
    """Input labels against which the labels of y are compared, including the default row numbers of a frame."""
    stated: np.dtype[np.floating] | None = None
    """The precision of the results if it differs from that of the computation."""
    taken: Collection[str] | None = None
    """The arguments of the public function called by the user: messages suggest no others."""

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
        return [matrix.size for matrix in self.model.weights]

    def mean(
        self,
        block: BlockFunction,
        rows: int,
        combine: Callable[[list[Array], list[Array]], None] | None = None,
        infinite: bool = False,
    ) -> list[Array]:
        """Return the mean over inputs of what `block` sums (see `execution.mean`); `infinite` says if inf may be a result."""
        with _overflowing():
            results = execution.mean(
                block, self.rows, rows, num_threads=self.num_threads, progress=self.progress, combine=combine
            )
        inputs.finite_results(results, self.rows.dtype, infinite)
        return results

    def stack(self, block: BlockFunction, rows: int, infinite: bool = False) -> list[Array]:
        """Return the per-input results of `block`, concatenated; `infinite` says if inf may be a result."""
        with _overflowing():
            results = execution.stack(block, self.rows, rows, num_threads=self.num_threads, progress=self.progress)
        inputs.finite_results(results, self.rows.dtype, infinite)
        return results

    def diagonal_mean(
        self,
        block: BlockFunction,
        second_order: bool = False,
        infinite: bool = False,
        preferred: int = 256,
        shapes: Sequence[tuple[int, int]] | None = None,
        weight: Callable[[], float] | None = None,
        n_rows: int | None = None,
    ) -> Array:
        """Return the means over inputs of (number per unit) x (power of the layer input), (quantities, P).

        See `assembly.DiagonalSum`.

        Few inputs of second order occupy two threads; the products of a group of blocks are formed together.
        `shapes` are those of other parameters than the weights. The means are multiplied by `weight`, which is called
        after all inputs are read; `n_rows` as for `block_rows`.
        """
        sums = assembly.DiagonalSum(self._shapes() if shapes is None else shapes)
        total: execution.Reduction
        if second_order and self.model.n_layers > 2 and self.rows.device is None:
            keeps_chains = self.model.n_layers > self.engine.most_layers_without_chains
            total, rows = sums, self.block_rows(_SECOND_ORDER_ROWS, keeps_chains)
            self._reduce(block, total, rows, least=_SECOND_ORDER_LEAST)
        else:
            total = execution.Total()
            rows = self.block_rows(preferred, second_order and self.rows.device is not None, n_rows)
            self._reduce(lambda x, first: sums.of_block(*block(x, first)), total, rows)
        means: Array = total.totals[0]
        # In a single pass, as they are larger than the caches.
        np.divide(means, self.n_inputs if weight is None else self.n_inputs / weight(), out=means)
        inputs.finite_results([means], self.rows.dtype, infinite)
        return means.astype(self.rows.dtype, copy=False)

    def _reduce(self, block: BlockFunction, total: execution.Reduction, rows: int, **cut: int) -> None:
        with _overflowing():
            execution.reduce(block, self.rows, rows, total, num_threads=self.num_threads, progress=self.progress, **cut)

    def pair_mean(self, block: BlockFunction, cross_layers: bool, n_quantities: int = 1) -> list[dict[tuple[int, int], Array]]:
        """Return the mean over inputs of matrices given by rows of unit factors, see `dense_blocks.PairSum`."""
        tiles = {} if self.rows.device is None else {"tile_pairs": dense_blocks.DEVICE_PAIRS}
        total = dense_blocks.PairSum(self._shapes(), n_quantities, cross_layers, self.rows.dtype, **tiles)
        self._dense(block, total)
        found = total.finish(self.n_inputs)
        self._finite_squares(found)
        return found

    def tile_sums(self, block: BlockFunction, total: dense_blocks.TileSum) -> None:
        """Sum up some tiles of such a matrix."""
        self._dense(block, total)

    def kronecker_mean(
        self, block: BlockFunction, shapes: Sequence[tuple[int, int]] | None = None
    ) -> list[dict[tuple[int, int], Array]]:
        """Return the mean factors of every layer in float64, see `kronecker.FactorSum`; `shapes` as for `diagonal_mean`."""
        total = kronecker.FactorSum(self._shapes() if shapes is None else shapes)
        self._dense(block, total)
        found = total.means(self.n_inputs)
        self._finite_squares(found)
        return found

    def _finite_squares(self, quantities: list[dict[tuple[int, int], Array]]) -> None:
        """Require finite matrices; as they are positive semi-definite, no entry is larger than the largest on the diagonal."""
        inputs.finite_results(
            [np.diagonal(one) for blocks in quantities for one in blocks.values()], self.rows.dtype, infinite=False
        )

    def neuron_mean(self, block: BlockFunction) -> list[Array]:
        """Return the mean metric of every neuron of every layer, see `relative.NeuronSum`."""
        total = relative_information.NeuronSum(self._shapes())
        self._dense(block, total)
        found = total.means(self.n_inputs)
        inputs.finite_results(found, self.rows.dtype, False)
        return [one.astype(self.rows.dtype, copy=False) for one in found]

    def _shapes(self) -> list[tuple[int, int]]:
        return [matrix.shape for matrix in self.model.weights]

    def _dense(self, block: BlockFunction, total: execution.Reduction) -> None:
        rows = self.block_rows(_ROOT_ROWS)
        if self.rows.device is not None:
            rows = min(rows, self.device_rows(dense_blocks.DEVICE_PAIRS))
        self._reduce(block, total, rows, group=max(1, _DENSE_GROUP // rows))

    def over_inputs(self, block: BlockFunction, rows: int, per_input: bool, infinite: bool = False) -> list[Array]:
        """Return the mean over inputs, or one row per input; in the precision of the call."""
        results = self.stack(block, rows, infinite) if per_input else self.mean(block, rows, infinite=infinite)
        return [result.astype(self.rows.dtype, copy=False) for result in results]

    def pass_through(self, x: Array, first_input: int, order: int = 1, by_units: bool = False) -> tuple[Forward, Law]:
        """Return the forward pass of a block and the response distribution there."""
        passed = derivatives.forward(self.model, x, order, by_units)
        inputs.finite_pass(passed.pre_activations, passed.natural, first_input, self.name, passed.hidden)
        self.model.family.check_domain(passed.natural, first_input)
        law = self.model.family.at(passed.natural)
        law.carried_out_by(self.engine.contractions)
        return passed, law

    def unit_jacobians(self, passed: Forward, differences: bool = True) -> list[Array | None]:
        """Return G for moments of the response distribution, with None for the identity (see `derivatives.unit_jacobians`)."""
        return derivatives.unit_jacobians(self.model, passed, self._directions(differences), self.engine.contractions)

    def unit_jacobians_and_curvatures(
        self, passed: Forward, differences: bool = True
    ) -> tuple[list[Array | None], list[Array | None]]:
        """Return G and S, as `unit_jacobians`."""
        return derivatives.unit_jacobians_and_curvatures(
            self.model, passed, self._directions(differences), self.engine.contractions
        )

    def jacobians(self, passed: Forward, differences: bool = True) -> list[Array]:
        """Return G; for moments of the response distribution, `differences` of outputs suffice if the family says so."""
        return derivatives.jacobians(self.model, passed, self._directions(differences), self.engine.contractions)

    def root_rows(self, passed: Forward, second: SecondMoment) -> list[Array]:
        """Return the rows of a root backpropagated through the network, see `fisher.root_rows`."""
        return fisher.root_rows(self.model, passed, second, self._directions(), self.engine.contractions)

    def root_products(self, passed: Forward, second: SecondMoment) -> list[RowProducts]:
        """Return the matrices over the units of every layer, see `fisher.root_products`."""
        return fisher.root_products(self.model, passed, second, self._directions(), self.engine.contractions)

    def root_unit_factors(self, passed: Forward, second: SecondMoment) -> list[Array]:
        """Return the sums of their squares, see `fisher.root_unit_factors`."""
        return fisher.root_unit_factors(self.model, passed, second, self._directions(), self.engine.contractions)

    def jacobians_and_curvatures(self, passed: Forward, differences: bool = True) -> tuple[list[Array], list[Array | None]]:
        """Return G and S, as `jacobians`."""
        return derivatives.jacobians_and_curvatures(
            self.model, passed, self._directions(differences), contractions=self.engine.contractions
        )

    def curvatures(self, passed: Forward, G: list[Array]) -> list[Array | None]:
        """Return S, see `derivatives.curvatures`."""
        return derivatives.curvatures(self.model, passed, G, self.engine.contractions)

    def curvature_along(self, passed: Forward, r: Array) -> list[Array | None]:
        """Return r . S for one vector of the outputs per input, see `derivatives.curvature_along`."""
        return derivatives.curvature_along(self.model, passed, r, self.engine.contractions)

    def hessian_blocks(
        self, passed: Forward, G: list[Array], r: Array | None = None, cross_layers: bool = True
    ) -> derivatives.HessianBlocks:
        """Return the layer blocks of weighted sums of Hessians, see `derivatives.hessian_blocks`."""
        return derivatives.hessian_blocks(self.model, passed, G, r, cross_layers)

    def _directions(self, differences: bool = True) -> Outputs:
        """Return the outputs, or their differences where the response distribution depends on these only."""
        seen = differences and self.model.family.shift_invariant
        if seen not in self._outputs:
            self._outputs[seen] = Outputs(self.model.kernels[-1], seen)
        return self._outputs[seen]

    @cached_property
    def _outputs(self) -> dict[bool, Outputs]:
        """The rows at the outputs, made once for all blocks."""
        return {}

    def of(self, model: MLP, name: str) -> Call:
        """Return this call for another network, in the same precision."""
        networks.same_names(name, model, self.name, self.model)
        return replace(self, model=model.as_dtype(self.rows.dtype).beside(self.engine.device), name=name)

    def refuse_kinks(self, passed: Forward, on_kink: str, first_input: int) -> None:
        """Require twice differentiable activations at every pre-activation of the block, unless told to ignore kinks."""
        if on_kink == "raise":
            chosen = self.model.activations
            kinks, names = [one.kinks for one in chosen], [one.name for one in chosen]
            inputs.kink_free(passed.pre_activations, kinks, names, first_input, self.taken)

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
            "widths": list(self.model.widths),
            **({} if all(self.model.bias) else {"bias": list(self.model.bias)}),
            "activations": [one.name for one in self.model.activations],
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
) -> Call:
    """Validate model, x and the common keywords; computation starts only after all checks.

    An x on a device stays there if the engine is that of the device, unless the work is for the host only. If a call only streams
    over x, it may be `read_once`: an x in memory is then validated block by block, like one in a file. With `in_double`
    everything is computed in float64, and the caller rounds to the `dtype` of the call.
    """
    networks.model_object(model, MLP)
    x = columns_in_order(x, model)
    source, input_labels = (x, x.input_labels) if isinstance(x, Part) else _labels.unlabelled(x)
    index = x.index.to_numpy() if hasattr(type(x), "iloc") and not hasattr(x, "__dask_graph__") else input_labels
    inputs.no_batches(source)
    if not isinstance(source, Part) and not inputs.read_by_slices(source):
        source = arguments.array_like("x", source)
    inputs.input_matrix(tuple(source.shape), source.dtype, model.widths[0])
    arguments.unmasked("x", source)
    chosen = engines.resolve(engine, None if host_only else source)
    if chosen.device is None:
        source = on_host(source)
    else:
        networks.runs_on_device(model.family, model.activations)
    if num_threads is not None:
        arguments.positive_integer("num_threads", num_threads)
    arguments.boolean("progress", progress)
    stated = common_dtype(model.weights[0], source)
    dtype = np.dtype(np.float64) if in_double else stated
    network = model.in_double() if in_double else model.as_dtype(dtype)
    if isinstance(source, Part):
        rows = Rows.of_part(source, dtype)
    else:
        rows = Rows(source.astype(source.dtype.newbyteorder("="), copy=False) if type(source) is np.ndarray else source, dtype)
        if not read_once:
            rows.look(num_threads)
    rows.device = chosen.device
    beside: dict[str, Any] = {"index": index, "stated": stated, "taken": remedies.taken()}
    return Call(network.beside(chosen.device), rows, input_labels, chosen, num_threads, progress, **beside)
