"""The design of a standard error: labels at fixed inputs, or inputs that are themselves a sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import like
from fisherstats.core.validation import arguments, inputs
from fisherstats.execution import PassShape, Steps, block_rows
from fisherstats.quantities import _views
from fisherstats.quantities._run import DENSE_ROWS, Call
from fisherstats.theory import assembly, estimator_moments, sampled_inputs

__all__ = ["DESIGNS", "Design"]

Array = NDArray[np.floating]
Factors = Sequence[Array | None]
FactorsBlock = Callable[[Array, int], tuple[Factors, Sequence[Factors], list[Array]]]
"""Block function: information per unit, single-label variances per unit of each estimator, layer inputs."""
MatrixBlock = Callable[[Array, int, bool], dict[tuple[int, int], Array]]
"""Block function of (x, first input, per input): blocks of the information."""

_SMALLEST_SHARE = 1e-100
"""The smallest share considered; its square is still a normal number."""

DESIGNS = ("fixed", "random", "subsample")


@dataclass(frozen=True)
class Design:
    """The sampling design of the inputs, validated against the call."""

    call: Call
    word: str
    population: int | None
    n_draws: int

    @classmethod
    def of(
        cls, call: Call, design: str, population: Any, n_draws: int = 1, per_input: bool = False, allowed: Sequence[str] = DESIGNS
    ) -> Design:
        """Validate the arguments of a public function; they are named as in `estimator_variance`."""
        arguments.choice("design", design, allowed)
        arguments.only_with("population", population, "design", design, "subsample")
        if design != "fixed":
            inputs.aggregated("per_input", per_input, design)
            inputs.at_least_two_inputs(call.n_inputs, design)
        if population is not None:
            population = inputs.population_size(population, call.n_inputs)
        return cls(call, design, population, n_draws)

    @property
    def fixed(self) -> bool:
        """Whether the design is fixed: inference is for the given inputs alone."""
        return self.word == "fixed"

    @property
    def kept(self) -> float:
        """The finite-population correction: the fraction of the variance over inputs that remains, 0 for a whole population."""
        return 1.0 if self.population is None else 1.0 - self.call.n_inputs / self.population

    @property
    def key(self) -> str:
        """The schema row of a standard error."""
        return "standard_error" if self.fixed else f"standard_error_{self.word}"

    @property
    def record(self) -> dict[str, Any]:
        """The entries of the provenance."""
        return {"design": self.word} | ({} if self.population is None else {"population": self.population})

    def error(self, variance: Array, spread: Array | None) -> Array:
        """Return the standard error of a mean over inputs, from the mean variance of one label and the variance over inputs."""
        return np.sqrt(self.variance(variance, spread))

    def variance(self, variance: Array, spread: Array | None) -> Array:
        """Return its square, or any other quantity proportional to second moments of a mean over inputs."""
        return estimator_moments.under_design(variance, spread, self.n_draws, self.call.n_inputs, self.word, self.population)

    def diagonal_shapes(self, second_order: bool = False) -> tuple[PassShape, PassShape]:
        """Return the shapes of the two passes of `diagonal`."""
        call = self.call
        return call.mean_shape(call.block_rows()), call.mean_shape(call.block_rows(second_order=second_order))

    def diagonal(
        self,
        information: FactorsBlock,
        block: FactorsBlock,
        variances: Sequence[Array],
        second_order: bool = False,
        known: Sequence[bool] | None = None,
    ) -> Steps[list[tuple[Array, Array, Array]]]:
        """Return standard error, degrees of freedom and the sampled part of the variance, per estimator, in two passes.

        `information` gives the quantity that varies over inputs; `block` gives it together with the variances of one label, whose
        means are `variances`. Where these are taken as `known`, they do not count for the degrees of freedom: the labels of a
        Hessian estimate enter linearly, those of squares are as uneven over inputs as the information itself.
        """
        call, n = self.call, self.call.n_inputs
        known = [False] * len(variances) if known is None else known

        def summed(x: Array, first_input: int) -> list[Array]:
            factors, _, layer_inputs = information(x, first_input)
            return [assembly.diagonal(factors, layer_inputs, 2, call.sizes, False)]

        (mean,) = yield from call.mean(summed, call.block_rows())
        by_layer = [mean[part].reshape(shape) for part, shape in zip(call.model.layer_slices(), call.model.shapes, strict=True)]

        def deviations(x: Array, first_input: int) -> list[Array]:
            factors, labels, layer_inputs = block(x, first_input)
            counted = [[None] * len(factors) if sure else one for one, sure in zip(labels, known, strict=True)]
            centres = [like(one, x) for one in by_layer]
            return sampled_inputs.deviations(factors, counted, layer_inputs, centres, self.kept, self.n_draws)

        squares, *fourths = yield from call.mean(deviations, call.block_rows(second_order=second_order))
        sampled = self.kept * squares
        found: list[tuple[Array, Array, Array]] = []
        for variance, fourth, sure in zip(variances, fourths, known, strict=True):
            labels = variance.astype(np.float64) / self.n_draws
            u = sampled if sure else sampled + labels
            total = sampled + labels
            share = sampled / np.where(total > 0, total, 1)
            freedom = sampled_inputs.degrees_of_freedom(u, fourth, sampled, n, self.kept)
            if sure:
                freedom = freedom / np.square(np.maximum(share, _SMALLEST_SHARE))
            error = self.error(variance.astype(np.float64), squares * (n / (n - 1)))
            found.append((error, freedom, share))
        return found

    def variance_of_exact(self) -> Steps[Array]:
        """Return the variance of the exact diagonal over samples of inputs, which adds to the label variance of an estimate."""

        def exact(x: Array, first_input: int) -> tuple[Factors, Sequence[Factors], list[Array]]:
            forward, law = self.call.network.forward(x, first_input)
            factors = self.call.network.root_unit_factors(forward, law)
            return factors, [[None] * len(factors)], forward.inputs

        ((error, _, _),) = yield from self.diagonal(exact, exact, [np.zeros(self.call.model.n_params)])
        return np.square(error)

    def entries_shapes(self, view: str) -> tuple[PassShape, PassShape]:
        """Return the shapes of the two passes of `entries`."""
        return self.call.mean_shape(self.call.block_rows(DENSE_ROWS)), self.call.mean_shape(self._rows_of_matrices(view))

    def _rows_of_matrices(self, view: str) -> int:
        return min(self.call.block_rows(DENSE_ROWS), block_rows(_views.numbers(self.call, view), DENSE_ROWS))

    def entries(
        self, view: str, matrix: MatrixBlock, variances: Sequence[dict[tuple[int, int], Array]]
    ) -> Steps[list[list[dict[tuple[int, int], Array]]]]:
        """Return the same for every entry of a dense view, per estimator, in two passes over the inputs.

        `matrix` gives the blocks of the information, summed over a block of inputs or per input; `variances` are the mean
        variances of one label. The degrees of freedom are those of normal values over inputs (Welch and Satterthwaite).
        """
        call, slices, n = self.call, self.call.model.layer_slices(), self.call.n_inputs
        pairs = assembly.layer_pairs(len(slices), view == "full")

        def summed(x: Array, first_input: int) -> list[Array]:
            blocks = matrix(x, first_input, False)
            return [blocks[pair] for pair in pairs]

        means = yield from call.mean(summed, call.block_rows(DENSE_ROWS))

        def deviations(x: Array, first_input: int) -> list[Array]:
            blocks = matrix(x, first_input, True)
            return [
                np.square(blocks[pair] - like(mean, x)).sum(axis=0, dtype=np.float64)
                for pair, mean in zip(pairs, means, strict=True)
            ]

        squares = dict(zip(pairs, (yield from call.mean(deviations, self._rows_of_matrices(view))), strict=True))
        if view == "full":
            squares = {(0, 0): assembly.full_matrix(squares, slices)}
        spreads = {pair: (assembly.symmetric(one) if view == "block" else one) * (n / (n - 1)) for pair, one in squares.items()}
        return [self._of_entries(one, spreads) for one in variances]

    def _of_entries(
        self, variance: dict[tuple[int, int], Array], spreads: dict[tuple[int, int], Array]
    ) -> list[dict[tuple[int, int], Array]]:
        n = self.call.n_inputs
        errors: dict[tuple[int, int], Array] = {}
        freedom: dict[tuple[int, int], Array] = {}
        share: dict[tuple[int, int], Array] = {}
        for pair, spread in spreads.items():
            errors[pair] = self.error(variance[pair].astype(np.float64), spread)
            total = np.square(errors[pair])
            freedom[pair] = sampled_inputs.freedom_of_normal(total, self.kept * spread / n, n)
            share[pair] = self.kept * spread / n / np.where(total > 0, total, 1)
        return [errors, freedom, share]
