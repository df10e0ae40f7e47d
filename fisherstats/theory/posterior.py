r"""Gaussian posteriors around a fitted network: :math:`\Sigma=(n\hat I+\Lambda)^{-1}` by spectra, never inverted as a whole.

With :math:`\Lambda^{-1/2}n\hat I\Lambda^{-1/2}=U\,\mathrm{diag}(\lambda)\,U^\top` the covariance has the root
:math:`\Lambda^{-1/2}U(1+\lambda)^{-1/2}`, and :math:`\log\det(n\hat I+\Lambda)-\log\det\Lambda=\sum\log(1+\lambda)`. A diagonal
has this entry by entry, a Kronecker product :math:`nG\otimes A` in the product of the eigenbases of its factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fisherstats.theory.covariance_tensors import dense_jacobian

__all__ = ["DensePosterior", "DiagonalPosterior", "KroneckerPosterior", "Posterior"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class DensePosterior:
    """A covariance over consecutive layers, the last ones or all."""

    root: Array
    """S, with the covariance S S', (k, k)."""
    spectrum: Array
    """Eigenvalues of the information of all labels relative to the prior, (k,)."""
    first_layer: int = 0

    @classmethod
    def of(cls, information: Array, prior: Array, first_layer: int = 0) -> DensePosterior:
        """Return it for the information of all labels (k, k) and prior precisions (k,)."""
        scale = 1 / np.sqrt(prior)
        values, vectors = np.linalg.eigh(information * scale[:, None] * scale)
        values = np.maximum(values, 0)
        return cls(scale[:, None] * vectors / np.sqrt(1 + values), values, first_layer)

    def output_covariance(self, G: Sequence[Array], inputs: Sequence[Array]) -> Array:
        """Return J Sigma J' of each input, (n, T, T)."""
        along = dense_jacobian(G[self.first_layer :], inputs[self.first_layer :]) @ self.root
        return np.matmul(along, along.swapaxes(1, 2))

    def variances(self) -> Array:
        """Return the diagonal of the covariance, (k,)."""
        return np.square(self.root).sum(axis=1)

    def draws(self, normal: Array) -> Array:
        """Return deviations with this covariance from standard normal numbers (m, k)."""
        return normal @ self.root.T


@dataclass(frozen=True)
class DiagonalPosterior:
    """Independent parameters."""

    variance: list[Array]
    """Variances of each layer's matrix of weights, (units, inputs)."""
    spectrum: Array

    @classmethod
    def of(cls, information: Array, prior: Array, shapes: Sequence[tuple[int, int]]) -> DiagonalPosterior:
        """Return it for the diagonal information of all labels, possibly estimated, and prior precisions, (P,) each."""
        precision = information + prior
        ends = np.cumsum([0, *(one * other for one, other in shapes)])
        pieces = zip(ends[:-1], ends[1:], shapes, strict=True)
        return cls([(1 / precision[start:end]).reshape(shape) for start, end, shape in pieces], precision / prior - 1)

    def output_covariance(self, G: Sequence[Array], inputs: Sequence[Array]) -> Array:
        """Return J Sigma J' of each input, (n, T, T)."""
        return _summed(G, [np.square(h_bar) @ one.T for h_bar, one in zip(inputs, self.variance, strict=True)])

    def variances(self) -> Array:
        """Return the diagonal of the covariance, (P,)."""
        return np.concatenate([one.ravel() for one in self.variance])

    def draws(self, normal: Array) -> Array:
        """Return deviations with this covariance from standard normal numbers (m, P)."""
        return normal * np.sqrt(self.variances())


@dataclass(frozen=True)
class KroneckerPosterior:
    """A Kronecker product plus a multiple of the identity, per layer."""

    units: list[Array]
    """Eigenvectors of G, (units, units)."""
    columns: list[Array]
    """Eigenvectors of A, (inputs, inputs)."""
    variance: list[Array]
    """Variances in the product of the eigenbases, (units, inputs)."""
    spectrum: Array

    @classmethod
    def of(cls, factors: Sequence[tuple[Array, Array]], n_labels: int, prior: Array) -> KroneckerPosterior:
        """Return it for the factors (G, A) of every layer, means over the inputs, and a prior precision for each layer."""
        units, columns, variance, spectra = [], [], [], []
        for (G, A), precision in zip(factors, prior, strict=True):
            (of_units, U), (of_columns, V) = np.linalg.eigh(G), np.linalg.eigh(A)
            relative = n_labels * np.outer(np.maximum(of_units, 0), np.maximum(of_columns, 0)) / precision
            units.append(U)
            columns.append(V)
            variance.append(1 / (precision * (1 + relative)))
            spectra.append(relative.ravel())
        return cls(units, columns, variance, np.concatenate(spectra))

    def output_covariance(self, G: Sequence[Array], inputs: Sequence[Array]) -> Array:
        """Return J Sigma J' of each input, (n, T, T)."""
        turned = [np.matmul(one, U) for one, U in zip(G, self.units, strict=True)]
        weights = [np.square(h @ V) @ one.T for h, V, one in zip(inputs, self.columns, self.variance, strict=True)]
        return _summed(turned, weights)

    def variances(self) -> Array:
        """Return the diagonal of the covariance, (P,)."""
        layers = zip(self.units, self.columns, self.variance, strict=True)
        return np.concatenate([(np.square(U) @ one @ np.square(V).T).ravel() for U, V, one in layers])

    def draws(self, normal: Array) -> Array:
        """Return deviations with this covariance from standard normal numbers (m, P)."""
        parts, start = [], 0
        for U, V, one in zip(self.units, self.columns, self.variance, strict=True):
            numbers = normal[:, start : start + one.size].reshape(-1, *one.shape) * np.sqrt(one)
            parts.append(np.matmul(np.matmul(U, numbers), V.T).reshape(len(normal), -1))
            start += one.size
        return np.concatenate(parts, axis=1)


Posterior = DensePosterior | DiagonalPosterior | KroneckerPosterior


def _summed(G: Sequence[Array], weights: Sequence[Array]) -> Array:
    """Return the sum over layers of G diag(w) G', (n, T, T), for w (n, units)."""
    total: Array = np.zeros_like(G[0], shape=(len(G[0]), G[0].shape[1], G[0].shape[1]))
    for one, weight in zip(G, weights, strict=True):
        total = total + np.matmul(one * weight[:, None, :], one.swapaxes(1, 2))
    return total
