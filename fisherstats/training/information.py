r"""Fisher information of a minibatch for optimisers: matrix, matrix-vector products, diagonal, Kronecker factors.

The closed forms are those of the public functions: exact, score and empirical information differ in the matrix between two
Jacobians only, and all are sums of squared rows :math:`R^\top R`. The Hessian estimate adds a term linear in the mean residual.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats import engines
from fisherstats.core.arrays import identity
from fisherstats.core.forks import cached_property
from fisherstats.execution import Rows, at_once
from fisherstats.models import derivatives
from fisherstats.models.derivatives import Forward
from fisherstats.models.families import Draw, Law, SecondMoment
from fisherstats.models.families.base import RowProducts
from fisherstats.models.network import MLP, kernel_view
from fisherstats.quantities._evaluation import Evaluation
from fisherstats.quantities._run import Call
from fisherstats.theory import assembly, fisher, sampling
from fisherstats.training.network import Trainee, layer_views
from fisherstats.training.optimizers import Batch
from fisherstats.training.parametrization import Parametrization, parametrization_of

__all__ = ["INFORMATION", "BatchInformation", "Product", "call_on"]

Array = NDArray[np.floating]
Product = Callable[[Array], Array]

INFORMATION = ("exact", "score", "hessian", "empirical")


def call_on(batch: Batch) -> Call:
    """Return a call that evaluates block functions over the inputs of a batch."""
    model = batch.model
    rows = Rows(batch.x, batch.data.dtype, known_finite=True)
    rows.device = batch.data.device
    rows.results_stay = rows.device is not None
    engine = batch.data.engine or engines.resolve(None)
    return Call(Evaluation(model, engine), rows, None, batch.data.num_threads, False)


@dataclass(frozen=True)
class BatchInformation:
    """The information of the network at the inputs of a batch, in the parameters that are trained.

    Parameters
    ----------
    batch : Batch
        The batch and the network. The seed of the labels is the next number of its stream.
    kind : {"exact", "score", "hessian", "empirical"}
        The matrix used as the information.
    n_draws : int or None
        Labels per input for score and hessian.
    """

    batch: Batch
    kind: str
    n_draws: int | None

    @cached_property
    def _call(self) -> Call:
        return call_on(self.batch)

    @cached_property
    def _seed(self) -> np.random.SeedSequence:
        return np.random.SeedSequence(int(self.batch.rng.integers(2**63)))

    @cached_property
    def _own(self) -> Parametrization:
        return parametrization_of(self.batch.model)

    def matrix(self) -> Array:
        """Return the symmetric matrix, (P, P)."""
        own = self._own
        if self.kind == "hessian":
            return own.back(own.back(self._hessian_matrix()).T)
        if self._call.rows.device is not None:
            return own.back(own.back(self._matrix_on_device()).T)
        (found,) = at_once(self._call.pair_mean(self._rows_and_inputs, cross_layers=True))
        return own.back(own.back(found[0, 0]).T)

    def diagonal(self) -> Array:
        """Return the diagonal, (P,)."""
        call, second_order = self._call, self.kind == "hessian"

        def block(x: Array, first: int) -> tuple[list[Any], list[Array]]:
            forward, law = call.network.forward(x, first, 1 + second_order)
            if second_order:
                S = call.network.curvature_along(forward, self._draw(law, first).mean)
                return by_part(fisher.hessian_factors(call.network.root_unit_factors(forward, law), S), forward.inputs)
            return by_part(call.network.root_unit_factors(forward, self._middle(law, first, len(x))), forward.inputs)

        def by_part(factors: list[Array], inputs: list[Array]) -> tuple[list[Any], list[Array]]:
            parts = self._own.parts(inputs)
            # The factors are of second order in derivatives.
            squares = [part.scaled(part.scaled(factors[part.layer])) for part in parts]
            return [(squares, 2)], [part.inputs for part in parts]

        (found,) = at_once(call.diagonal_mean(block, second_order, shapes=self._own.shapes))
        return self._own.assembled(found)

    def kronecker_factors(self) -> tuple[list[Array], list[Array]]:
        r"""Return the means of :math:`\bar h_l\bar h_l^\top` and of :math:`G_l^\top SG_l` per part, in float64."""

        def block(x: Array, first: int) -> tuple[list[RowProducts], list[Array]]:
            forward, law = self._call.network.forward(x, first)
            parts = self._own.parts(forward.inputs)
            layers = self._call.network.root_products(forward, self._middle(law, first, len(x)))
            # A diagonal second moment is that of the last layer, which has no multiplier.
            products = [(part.scaled(layers[part.layer][0]), layers[part.layer][1]) for part in parts]
            return products, [part.inputs for part in parts]

        A, G = at_once(self._call.kronecker_mean(block, self._own.shapes))
        return list(A.values()), list(G.values())

    def rows(self) -> tuple[list[Array], list[Array]]:
        r"""Return rows of a root by units, (n, R, units), and inputs, (n, k), of every part: :math:`I=\frac1nR^\top R`."""
        call = self._call

        def block(x: Array, first: int) -> list[Array]:
            (rows,), inputs = self._rows_by_part(x, first)
            return [*rows, *inputs]

        held: list[Array] = [array.astype(np.float64, copy=False) for array in at_once(call.stack(block, call.block_rows()))]
        return held[: len(held) // 2], held[len(held) // 2 :]

    def product(self) -> Product:
        """Return the function v -> I v, (P,) to (P,), at the current weights; in float64."""
        model = Trainee(self.batch.model, np.float64)
        x = self.batch.x.astype(np.float64, copy=False)
        forward, law = dataclasses.replace(self._call.network, model=model).forward(x, 0, 1 + (self.kind == "hessian"))
        if self.kind in ("exact", "hessian"):
            middle = law.product
        else:
            n, outputs = forward.natural.shape
            root = self._middle(law, 0, n).rows(np.broadcast_to(identity(outputs, forward.natural), (n, outputs, outputs)))
            middle = lambda z: np.matmul(root.transpose(0, 2, 1), np.matmul(root, z))  # noqa: E731
        residual = self._draw(law, 0).mean if self.kind == "hessian" else None
        parametrization = self._own.kept()

        def times(v: Array) -> Array:
            v = parametrization.forward(v)
            weighted = middle(derivatives.push_forward(model, forward, v)[:, :, None])[:, :, 0]
            result = np.empty_like(v, shape=model.n_params)
            into = layer_views(model, result)
            for own, back, h_bar in zip(into, derivatives.gradients(model, forward, weighted), forward.inputs, strict=True):
                np.matmul(back.T, h_bar, out=own)
            if residual is not None:
                _subtract_curvature(model, forward, residual, v, into)
            return parametrization.back(np.divide(result, len(x), out=result))

        return times

    def _middle(self, law: Law, first: int, count: int) -> SecondMoment:
        """Return the matrix between two Jacobians: Cov t, the mean of r r' over draws, or r r' at the data labels."""
        if self.kind == "exact":
            return law
        if self.kind == "empirical":
            return fisher.at_labels(law, self.batch.y[first : first + count])
        drawn = self._draw(law, first).second
        assert drawn is not None
        return drawn

    def _draw(self, law: Law, first: int) -> Draw:
        assert self.n_draws is not None
        return sampling.draw(self._call.model.family, law, self._seed, first, self.n_draws, self.kind == "score")

    def _rows_and_inputs(self, x: Array, first: int) -> tuple[list[list[Array]], list[Array]]:
        forward, law = self._call.network.forward(x, first)
        return [self._call.network.root_rows(forward, self._middle(law, first, len(x)))], forward.inputs

    def _rows_by_part(self, x: Array, first: int) -> tuple[list[list[Array]], list[Array]]:
        (rows,), inputs = self._rows_and_inputs(x, first)
        parts = self._own.parts(inputs)
        return [[part.scaled(rows[part.layer]) for part in parts]], [part.inputs for part in parts]

    def _hessian_matrix(self) -> Array:
        call = self._call

        def block(x: Array, first: int) -> fisher.Blocks:
            forward, law = call.network.forward(x, first, 2)
            G = call.network.jacobians(forward, differences=False)
            hessian = call.network.hessian_blocks(forward, G, self._draw(law, first).mean[:, None, :])
            return fisher.hessian_matrix_blocks(law, G, forward.inputs, hessian, True, False)

        return self._mean_of_blocks(block, call.block_rows(second_order=True))

    def _matrix_on_device(self) -> Array:
        """Return the matrix from its blocks; on a device no tiling for the cache is needed."""
        call = self._call

        def block(x: Array, first: int) -> fisher.Blocks:
            forward, law = call.network.forward(x, first)
            G = call.network.jacobians(forward, differences=False)
            return fisher.matrix_blocks(self._middle(law, first, len(x)), G, forward.inputs, True, False)

        return self._mean_of_blocks(block, call.device_rows(max(call.model.widths) ** 2))

    def _mean_of_blocks(self, block: Callable[[Array, int], fisher.Blocks], rows: int) -> Array:
        call = self._call
        pairs = assembly.layer_pairs(call.model.n_layers)

        def listed(x: Array, first: int) -> list[Array]:
            found = block(x, first)
            return [found[pair] for pair in pairs]

        means = at_once(call.mean(listed, rows))
        return assembly.full_matrix(dict(zip(pairs, means, strict=True)), call.model.layer_slices())


def _subtract_curvature(model: MLP, forward: Forward, residual: Array, v: Array, into: list[Array]) -> None:
    r"""Subtract :math:`\sum_i\sum_a r_aH^av` from the parts of a parameter vector, by one pass each way.

    The derivative along v of the gradient :math:`g_l\bar h_l^\top` of :math:`r^\top h_L`, with dots for derivatives along v:
    :math:`\dot g_l\bar h_l^\top+g_l\dot{\bar h}_l^\top`, where
    :math:`\dot g_l=\sigma'\circ(W^{-\top}\dot g_{l+1}+V^{-\top}g_{l+1})+\sigma''\circ W^{-\top}g_{l+1}\circ\dot a_{l+1}`.
    """
    directions = layer_views(model, v)
    tangents: list[Array] = []
    moved: list[Array] = [np.zeros_like(forward.inputs[0][:, : model.widths[0]])]
    for layer, direction in enumerate(directions):
        tangents.append(forward.inputs[layer] @ direction.T + moved[-1] @ kernel_view(model, layer).T)
        if layer < model.n_layers - 1:
            moved.append(forward.slopes[layer] * tangents[-1])
    g, g_dot = residual, np.zeros_like(residual)
    if forward.link_slope is not None and forward.link_bend is not None:
        g, g_dot = residual * forward.link_slope, residual * forward.link_bend * tangents[-1]
    for layer in range(model.n_layers - 1, -1, -1):
        into[layer] -= g_dot.T @ forward.inputs[layer]
        into[layer][:, : model.widths[layer]] -= g.T @ moved[layer]
        if layer > 0:
            kernel, slope = kernel_view(model, layer), forward.slopes[layer - 1]
            back = g @ kernel
            g_dot = (
                slope * (g_dot @ kernel + g @ directions[layer][:, : model.widths[layer]])
                + forward.bends[layer - 1] * back * tangents[layer - 1]
            )
            g = slope * back
