"""The network at a block of inputs: forward pass, response distribution, and derivatives by the engine of the call."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.forks import cached_property
from fisherstats.core.validation import external as checks
from fisherstats.core.validation import inputs
from fisherstats.engines import Engine
from fisherstats.models import derivatives
from fisherstats.models.derivatives import Forward, Outputs
from fisherstats.models.families import Law, SecondMoment
from fisherstats.models.families.base import RowProducts
from fisherstats.models.network import MLP
from fisherstats.theory import fisher
from fisherstats.theory.forward_rounding import forward_rounding

__all__ = ["Evaluation"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Evaluation:
    """A network in the precision of a call, evaluated at blocks of inputs, of which it holds none: it can be sent anywhere."""

    model: MLP
    engine: Engine
    name: str = "model"
    """Name of the network in messages."""
    taken: Collection[str] | None = None
    """The arguments of the public function called by the user: messages suggest no others."""

    def forward(self, x: Array, first_input: int, order: int = 1, by_units: bool = False) -> tuple[Forward, Law]:
        """Return the forward pass of a block and the response distribution there."""
        forward = derivatives.forward(self.model, x, order, by_units)
        inputs.finite_pass(forward.pre_activations, forward.natural, first_input, self.name, forward.hidden)
        self.model.family.check_domain(forward.natural, first_input)
        law = self.model.family.at(forward.natural)
        law.carried_out_by(self.engine.contractions)
        return forward, law

    def unit_jacobians(self, forward: Forward, differences: bool = True) -> list[Array | None]:
        """Return G for moments of the response distribution, with None for the identity (see `derivatives.unit_jacobians`)."""
        return derivatives.unit_jacobians(self.model, forward, self._directions(differences), self.engine.contractions)

    def unit_jacobians_and_curvatures(
        self, forward: Forward, differences: bool = True
    ) -> tuple[list[Array | None], list[Array | None]]:
        """Return G and S, as `unit_jacobians`."""
        return derivatives.unit_jacobians_and_curvatures(
            self.model, forward, self._directions(differences), self.engine.contractions
        )

    def jacobians(self, forward: Forward, differences: bool = True) -> list[Array]:
        """Return G; for moments of the response distribution, `differences` of outputs suffice if the family says so."""
        return derivatives.jacobians(self.model, forward, self._directions(differences), self.engine.contractions)

    def push_forward(self, forward: Forward, direction: Array) -> Array:
        """Return Jv for a parameter vector v, (n, T)."""
        return derivatives.push_forward(self.model, forward, direction)

    def gradients(self, forward: Forward, z: Array) -> list[Array]:
        """Return z'G for one vector of the outputs per input, see `derivatives.gradients`."""
        return derivatives.gradients(self.model, forward, z)

    def root_rows(self, forward: Forward, second: SecondMoment) -> list[Array]:
        """Return the rows of a root backpropagated through the network, see `fisher.root_rows`."""
        return fisher.root_rows(self.model, forward, second, self._directions(), self.engine.contractions)

    def root_products(self, forward: Forward, second: SecondMoment) -> list[RowProducts]:
        """Return the matrices over the units of every layer, see `fisher.root_products`."""
        return fisher.root_products(self.model, forward, second, self._directions(), self.engine.contractions)

    def root_unit_factors(self, forward: Forward, second: SecondMoment) -> list[Array]:
        """Return the sums of their squares, see `fisher.root_unit_factors`."""
        return fisher.root_unit_factors(self.model, forward, second, self._directions(), self.engine.contractions)

    def jacobians_and_curvatures(self, forward: Forward, differences: bool = True) -> tuple[list[Array], list[Array | None]]:
        """Return G and S, as `jacobians`."""
        return derivatives.jacobians_and_curvatures(
            self.model, forward, self._directions(differences), contractions=self.engine.contractions
        )

    def curvatures(self, forward: Forward, G: list[Array]) -> list[Array | None]:
        """Return S, see `derivatives.curvatures`."""
        return derivatives.curvatures(self.model, forward, G, self.engine.contractions)

    def curvature_along(self, forward: Forward, r: Array) -> list[Array | None]:
        """Return r . S for one vector of the outputs per input, see `derivatives.curvature_along`."""
        return derivatives.curvature_along(self.model, forward, r, self.engine.contractions)

    def hessian_blocks(
        self, forward: Forward, G: list[Array], r: Array | None = None, cross_layers: bool = True
    ) -> derivatives.HessianBlocks:
        """Return the layer blocks of weighted sums of Hessians, see `derivatives.hessian_blocks`."""
        return derivatives.hessian_blocks(self.model, forward, G, r, cross_layers)

    def product_factors(self, forward: Forward, law: Law, direction: Array) -> list[Array]:
        """Return the factors of the product of the information with a vector, see `fisher.product_factors`."""
        return fisher.product_factors(self.model, forward, law, direction)

    def rounding(self, forward: Forward) -> Array:
        """Return an estimate of the rounding of the natural parameters of each input, (n,)."""
        return forward_rounding(self.model, forward)

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

    def refuse_kinks(self, forward: Forward, on_kink: str, first_input: int) -> None:
        """Require twice differentiable activations at every pre-activation of the block, unless told to ignore kinks."""
        if on_kink == "raise":
            chosen = self.model.activations
            kinks, names = [one.kinks for one in chosen], [one.name for one in chosen]
            inputs.kink_free(forward.pre_activations, kinks, names, first_input, self.taken)


@dataclass(frozen=True)
class ExternalEvaluation(Evaluation):
    """An external network at blocks of inputs: its function gives natural parameters and derivatives together."""

    model: Any

    def forward(self, x: Array, first_input: int, order: int = 1, by_units: bool = False) -> tuple[Any, Law]:
        """Return what the network's function gives, and the response distribution there."""
        forward = self.model.forward(x)
        if order > 1 and forward.curvatures is None:
            checks.first_order_only()
        self.model.family.check_domain(forward.natural, first_input)
        law = self.model.family.at(forward.natural)
        law.carried_out_by(self.engine.contractions)
        return forward, law

    def jacobians(self, forward: Any, differences: bool = True) -> list[Array]:
        """Return G."""
        found: list[Array] = forward.jacobians
        return found

    def unit_jacobians(self, forward: Any, differences: bool = True) -> list[Array | None]:
        """Return G."""
        return [*forward.jacobians]

    def curvatures(self, forward: Any, G: list[Array]) -> list[Array | None]:
        """Return S."""
        found: list[Array | None] = forward.curvatures
        return found

    def jacobians_and_curvatures(self, forward: Any, differences: bool = True) -> tuple[list[Array], list[Array | None]]:
        """Return G and S."""
        return forward.jacobians, forward.curvatures

    def unit_jacobians_and_curvatures(
        self, forward: Any, differences: bool = True
    ) -> tuple[list[Array | None], list[Array | None]]:
        """Return G and S."""
        return [*forward.jacobians], forward.curvatures

    def curvature_along(self, forward: Any, r: Array) -> list[Array | None]:
        """Return r . S."""
        return [None if S is None else derivatives.contracted(r, S) for S in forward.curvatures]

    def gradients(self, forward: Any, z: Array) -> list[Array]:
        """Return z'G for one vector of the outputs per input."""
        return [np.matmul(z[:, None, :], G)[:, 0] for G in forward.jacobians]

    def root_rows(self, forward: Any, second: SecondMoment) -> list[Array]:
        """Return the products of the rows of a root with G."""
        return [second.compact_rows(G) for G in forward.jacobians]

    def root_products(self, forward: Any, second: SecondMoment) -> list[RowProducts]:
        """Return the same as matrices over the units."""
        return [(rows, None) for rows in self.root_rows(forward, second)]

    def root_unit_factors(self, forward: Any, second: SecondMoment) -> list[Array]:
        """Return the sums of their squares."""
        return [second.diagonal(G) for G in forward.jacobians]

    def push_forward(self, forward: Any, direction: Array) -> Array:
        """Return Jv for a parameter vector v, (n, T)."""
        tangent = np.zeros_like(forward.natural)
        layers = zip(forward.jacobians, forward.inputs, self.model.layer_slices(), self.model.shapes, strict=True)
        for G, h_bar, piece, shape in layers:
            moved = h_bar @ direction[piece].reshape(shape).T
            tangent += np.matmul(G, moved[:, :, None])[:, :, 0]
        return tangent

    def product_factors(self, forward: Any, law: Law, direction: Array) -> list[Array]:
        """Return G'I(h)Jv per unit."""
        weighted = law.product(self.push_forward(forward, direction)[:, :, None])
        return [np.matmul(G.transpose(0, 2, 1), weighted)[:, :, 0] for G in forward.jacobians]

    def rounding(self, forward: Any) -> Array:
        """Return 0: the natural parameters are taken as given."""
        return np.zeros_like(forward.natural[:, 0])

    def refuse_kinks(self, forward: Any, on_kink: str, first_input: int) -> None:
        """Accept every input: the network's function answers for its derivatives."""
