r"""Block-diagonal matrices that are diagonal in the product of two eigenbases per layer: K-FAC and its eigenvalue correction.

With :math:`G=U\,\mathrm{diag}(\gamma)U^\top` and :math:`A=V\,\mathrm{diag}(\alpha)V^\top` the block of a layer is
:math:`(U\otimes V)\,\mathrm{diag}(s)\,(U\otimes V)^\top`, parameters row-major. K-FAC has :math:`s_{od}=\gamma_o\alpha_d`.
EK-FAC has the second moments of the gradient in this basis (George et al. 2018),

.. math:: s_{od}=\frac1n\sum_i(U^\top M_iU)_{oo}\,(V^\top\bar h_i)_d^2,\qquad M_i=G_i^\top I(h_i)G_i,

which are the diagonal of the exact block there, and so the closest to it in Frobenius norm of all choices of s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import double, like
from fisherstats.models.families import Law

__all__ = ["Eigenbasis", "corrected_moments", "eigenbases"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Eigenbasis:
    """A block of a layer, diagonal in a product of bases."""

    units: Array
    """U, (n_out, n_out)."""
    inputs: Array
    """V, (n_in, n_in)."""
    moments: Array
    """s, (n_out, n_in)."""

    def apply(self, function: Callable[[Array], Array], vectors: Array) -> Array:
        """Return (U x V) diag(f(s)) (U x V)' v for vectors (k, n_out n_in)."""
        matrices = vectors.reshape(-1, *self.moments.shape)
        turned = self.units.T @ matrices @ self.inputs
        found: Array = (self.units @ (turned * function(self.moments)) @ self.inputs.T).reshape(len(matrices), -1)
        return found

    def dense(self) -> Array:
        """Return the block itself."""
        basis = np.kron(self.units, self.inputs)
        return (basis * self.moments.ravel()) @ basis.T


def eigenbases(factors: Sequence[tuple[Array, Array]]) -> list[Eigenbasis]:
    """Return K-FAC of every layer from its factors (G, A)."""
    found = []
    for G, A in factors:
        (gamma, U), (alpha, V) = np.linalg.eigh(double(G)), np.linalg.eigh(double(A))
        found.append(Eigenbasis(U, V, np.outer(np.maximum(gamma, 0), np.maximum(alpha, 0))))
    return found


def corrected_moments(law: Law, G: Sequence[Array | None], inputs: Sequence[Array], bases: Sequence[Eigenbasis]) -> list[Array]:
    """Return what a block of inputs adds to n s of every layer, (n_out, n_in).

    G of the last layer may be None, for the identity.
    """
    found = []
    for G_l, h_bar, basis in zip(G, inputs, bases, strict=True):
        U, V = (like(one.astype(h_bar.dtype), h_bar) for one in (basis.units, basis.inputs))
        along = np.broadcast_to(U, (len(h_bar), *U.shape)) if G_l is None else np.matmul(G_l, U)
        found.append(double(law.diagonal(along)).T @ double(np.square(h_bar @ V)))
    return found
