"""Relative natural gradient: every neuron is a subsystem with a metric of its own, given the layer below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import checked_together
from fisherstats.core.validation import arguments, capacity
from fisherstats.theory.relative_information import Responses, coefficients
from fisherstats.training.information import call_on
from fisherstats.training.optimizers import Batch
from fisherstats.training.parametrization import Part, parametrization_of
from fisherstats.training.preconditioning import Preconditioner, Solve
from fisherstats.training.solvers import Place, above_rounding, inverses

__all__ = ["RelativeNaturalGradient"]

Array = NDArray[np.floating]
Solver = Callable[[Sequence[Array]], list[Array]]

_TILE = 2**22
"""Numbers in a temporary over (units, inputs, weights)."""


@dataclass(frozen=True)
class RelativeNaturalGradient(Preconditioner):
    r"""Relative natural gradient: :math:`w\leftarrow w-\eta\,(\bar g+\lambda\,1)^{-1}\partial L/\partial w` for each neuron.

    :math:`\bar g=\frac1nX^\top\mathrm{diag}(\nu)X` is the relative Fisher information of the neuron's weights w (Sun & Nielsen
    2017), X the n inputs :math:`\bar h_l` of its layer over the minibatch and :math:`\nu` its effective learning zone there.

    Parameters
    ----------
    learning_rate : float
        Step size eta, above 0.
    damping : float, default 1e-3
        lambda, at least 0.
    update_every : int, default 100
        Number of steps that reuse the inverses computed at the first of them.

    Raises
    ------
    ValueError
        If a setting is outside its range.
    SizeError
        In a fit, if the inverses of a layer would not fit in memory.
    AssumptionError
        In a fit, if the metric of a neuron plus the damping is not positive definite: a batch smaller than the inputs of a layer,
        or a dead unit, needs a damping.

    Notes
    -----
    A hidden unit has :math:`\nu=\sigma'(a)` for tanh and sigmoid, whose response is binary, and
    :math:`\nu=\sigma'(a)^2` for all others, whose response is Gaussian with unit variance. For an output the family determines
    :math:`\nu=I(h)_{aa}`, times the square of the link's slope; for softmax that is :math:`\eta_a(1-\eta_a)`, the block of the
    neuron in the metric of the layer. There is no backward pass.

    Cost for a layer of a neurons and b inputs: a n b^2 + a b^3 for the metrics of n inputs and their inverses by batched
    Cholesky factors, a b^2 per step and in memory. Where n < b and the damping is above 0 they are solved in the span of the
    inputs: a n^2 (b + n) once, 2 a n b per step, a n^2 + n b numbers in memory, and the same result.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.training.RelativeNaturalGradient(0.01, damping=0.1)
    RelativeNaturalGradient(learning_rate=0.01, damping=0.1, update_every=100)
    """

    learning_rate: float
    damping: float = 1e-3
    update_every: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", arguments.positive_number("learning_rate", self.learning_rate))
        object.__setattr__(self, "damping", arguments.non_negative_number("damping", self.damping))
        object.__setattr__(self, "update_every", arguments.positive_integer("update_every", self.update_every))

    def inverse(self, batch: Batch) -> Solve:
        """Return the function that solves with the damped metrics of a batch, neuron by neuron."""
        own = parametrization_of(batch.model)
        solvers = checked_together(lambda: self._solvers(batch))

        def solve(gradient: Array) -> Array:
            direction = np.empty_like(gradient)
            given, into = own.views(gradient), own.views(direction)
            for chosen, solver in solvers:
                for view, solution in zip(into[chosen], solver(given[chosen]), strict=True):
                    view[...] = solution
            return direction

        return solve

    def _solvers(self, batch: Batch) -> list[tuple[slice, Solver]]:
        """Return which parts belong to a layer and the function that solves with the damped metrics of its neurons."""
        model, own = batch.model, parametrization_of(batch.model)
        forward, law = call_on(batch).network.forward(batch.x, 0)
        all_parts = own.parts(forward.inputs)
        solvers: list[tuple[slice, Solver]] = []
        for layer, nu in enumerate(coefficients(model, forward, law, Responses())):
            places = [number for number, part in enumerate(all_parts) if part.layer == layer]
            chosen = slice(places[0], places[-1] + 1)
            place = Place(f"relative information of layer {layer}", self.damping, batch.number + 1)
            solvers.append((chosen, _neuron_solver(all_parts[chosen], nu, self.damping, place, batch.data.device)))
        return solvers


def _fits(units: int, size: int, device: Any) -> None:
    """Require four times the size of a layer's inverses to fit in memory."""
    needed, remedy = 8 * units * size**2, "use batches smaller than the layers, with a damping above 0."
    capacity.fits("`RelativeNaturalGradient`", needed, 3 * needed, remedy, device)


def _neuron_solver(parts: Sequence[Part], nu: Array, damping: float, place: Place, device: Any) -> Solver:
    r"""Return the function that solves with :math:`\frac1nX^\top\mathrm{diag}(\nu_o)X+\lambda1` for every neuron o.

    The inputs X of a neuron are those of the parts side by side, each times its multiplier for the neuron. With
    :math:`S=\mathrm{diag}(\sqrt{\nu/n})X` the inverse is also :math:`\frac1\lambda(1-S^\top(SS^\top+\lambda1)^{-1}S)`.
    """
    n, units = nu.shape
    inputs = [part.inputs.astype(np.float64) for part in parts]
    root = np.sqrt(nu.astype(np.float64) / n)
    roots = [part.scaled(root).T.copy() for part in parts]
    sizes = [X.shape[1] for X in inputs]
    n_in = sum(sizes)
    if n >= n_in or damping == 0:
        _fits(units, n_in, device)
        metrics = np.empty_like(root, shape=(units, n_in, n_in))
        step = max(1, _TILE // (n * n_in))
        for start in range(0, units, step):
            tile = slice(start, start + step)
            scaled = [own[tile, :, None] * X for own, X in zip(roots, inputs, strict=True)]
            S = scaled[0] if len(scaled) == 1 else np.concatenate(scaled, axis=2)
            np.matmul(S.transpose(0, 2, 1), S, out=metrics[tile])
        inverse = inverses(metrics, damping, place, float(np.finfo(nu.dtype).eps))
        ends = np.cumsum(sizes).tolist()

        def solve(rows: Sequence[Array]) -> list[Array]:
            solved = np.matmul(inverse, np.concatenate(rows, axis=1)[:, :, None])[:, :, 0]
            return [solved[:, end - size : end] for size, end in zip(sizes, ends, strict=True)]

        return solve
    _fits(units, n, device)
    products = np.zeros_like(root, shape=(units, n, n))
    for own, X in zip(roots, inputs, strict=True):
        products += own[:, :, None] * (X @ X.T) * own[:, None, :]
    above_rounding(damping, products, n_in, place)
    middle = inverses(products, damping, place, 0.0)

    def solve_in_span(rows: Sequence[Array]) -> list[Array]:
        along = np.zeros_like(rows[0], shape=(units, n))
        for own, row, X in zip(roots, rows, inputs, strict=True):
            along += own * (row @ X.T)
        weights = np.matmul(middle, along[:, :, None])[:, :, 0]
        return [(row - (own * weights) @ X) / damping for own, row, X in zip(roots, rows, inputs, strict=True)]

    return solve_in_span
