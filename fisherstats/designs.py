"""What an error is of: the labels at the given inputs, or inputs that are a sample as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats import views
from fisherstats.arrays import like
from fisherstats.calls import DENSE_ROWS, Call
from fisherstats.checks import arguments, inputs
from fisherstats.closed_form import assembly, covariance, designs
from fisherstats.streaming import block_rows

__all__ = ["DESIGNS", "Design"]

Array = NDArray[np.floating]
Factors = Sequence[Array | None]
FactorsBlock = Callable[[Array, int], tuple[Factors, Sequence[Factors], list[Array]]]
"""Block function: information per unit, single-label variances per unit of each estimator, layer inputs."""
MatrixBlock = Callable[[Array, int, bool], dict[tuple[int, int], Array]]
"""Block function of (x, first input, per input): blocks of the information."""

DESIGNS = ("fixed", "random", "subsample")


@dataclass(frozen=True)
class Design:
    """How the inputs came about, checked against the call."""

    call: Call
    word: str
    population: int | None
    n_draws: int

    @classmethod
    def of(
        cls, call: Call, design: str, population: Any, n_draws: int = 1, per_input: bool = False, allowed: Sequence[str] = DESIGNS
    ) -> Design:
        """Check what a public function is given, in the words of `estimator_variance`."""
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
        """Whether the given inputs are all there is."""
        return self.word == "fixed"

    @property
    def kept(self) -> float:
        """The part of the variance over inputs that is left: none is where all of a population is given."""
        return 1.0 if self.population is None else 1.0 - self.call.n_inputs / self.population

    @property
    def key(self) -> str:
        """The schema row of a standard error."""
        return "standard_error" if self.fixed else f"standard_error_{self.word}"

    @property
    def record(self) -> dict[str, Any]:
        """What the provenance says."""
        return {"design": self.word} | ({} if self.population is None else {"population": self.population})

    def error(self, variance: Array, spread: Array | None) -> Array:
        """Return the standard error of a mean over inputs, from the mean variance of one label and the variance over inputs."""
        found: Array = np.sqrt(
            covariance.under_design(variance, spread, self.n_draws, self.call.n_inputs, self.word, self.population)
        )
        return found

    def diagonal(
        self, information: FactorsBlock, block: FactorsBlock, variances: Sequence[Array], second_order: bool = False
    ) -> list[tuple[Array, Array]]:
        """Return standard error and degrees of freedom of the diagonal, per estimator, in two passes over the inputs.

        `information` gives what varies over inputs, alone; `block` beside it the variances of one label, whose means are
        `variances`.
        """
        call, n = self.call, self.call.n_inputs

        def summed(x: Array, first_input: int) -> list[Array]:
            factors, _, layer_inputs = information(x, first_input)
            return [assembly.diagonal(factors, layer_inputs, 2, call.sizes, False)]

        (mean,) = call.mean(summed, call.block_rows())
        by_layer = [mean[part].reshape(w.shape) for part, w in zip(call.model.layer_slices(), call.model.weights, strict=True)]

        def deviations(x: Array, first_input: int) -> list[Array]:
            factors, labels, layer_inputs = block(x, first_input)
            centres = [like(one, x) for one in by_layer]
            return designs.deviations(factors, labels, layer_inputs, centres, self.kept, self.n_draws)

        squares, *fourths = call.mean(deviations, call.block_rows(second_order=second_order))
        spread = squares * (n / (n - 1))
        found = []
        for variance, fourth in zip(variances, fourths, strict=True):
            u = self.kept * squares + variance.astype(np.float64) / self.n_draws
            freedom = designs.degrees_of_freedom(u, fourth, self.kept * squares, n, self.kept)
            found.append((self.error(variance.astype(np.float64), spread), freedom))
        return found

    def entries(
        self, view: str, matrix: MatrixBlock, variance: dict[tuple[int, int], Array]
    ) -> list[dict[tuple[int, int], Array]]:
        """Return standard errors and degrees of freedom of every entry of a dense view, in two passes over the inputs.

        `matrix` gives the blocks of the information, summed over a block of inputs or per input; `variance` is the mean variance
        of one label. The degrees of freedom are those of normal values over inputs (Welch and Satterthwaite).
        """
        call, slices, n = self.call, self.call.model.layer_slices(), self.call.n_inputs
        pairs = [(row, col) for row in range(len(slices)) for col in range(row, len(slices) if view == "full" else row + 1)]

        def summed(x: Array, first_input: int) -> list[Array]:
            blocks = matrix(x, first_input, False)
            return [blocks[pair] for pair in pairs]

        means = call.mean(summed, call.block_rows(DENSE_ROWS))

        def deviations(x: Array, first_input: int) -> list[Array]:
            blocks = matrix(x, first_input, True)
            return [
                np.square(blocks[pair] - like(mean, x)).sum(axis=0, dtype=np.float64)
                for pair, mean in zip(pairs, means, strict=True)
            ]

        rows = min(call.block_rows(DENSE_ROWS), block_rows(views.numbers(call, view), DENSE_ROWS))
        squares = dict(zip(pairs, call.mean(deviations, rows), strict=True))
        if view == "full":
            squares = {(0, 0): assembly.full_matrix(squares, slices)}
        errors, freedom = {}, {}
        for pair, one in squares.items():
            spread = (assembly.symmetric(one) if view == "block" else one) * (n / (n - 1))
            errors[pair] = self.error(variance[pair].astype(np.float64), spread)
            freedom[pair] = designs.freedom_of_normal(np.square(errors[pair]), self.kept * spread / n, n)
        return [errors, freedom]
