r"""Asymptotic covariance of a maximum likelihood estimate, from an orthogonal factorisation of :math:`A=I^{1/2}J`.

The information of all labels together is :math:`A^\top A`. It is never formed: its condition number is the square of that of A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fisherstats.arrays import like
from fisherstats.closed_form import tensors
from fisherstats.model.families import Law

__all__ = ["Inverse", "inverse_of_matrix", "inverse_of_triangle", "merge_triangles", "pearson", "triangle", "triangle_of"]

Array = NDArray[np.floating]


def triangle(rows: Sequence[Array], inputs: Sequence[Array]) -> Array:
    r"""Return R, (P, P), with :math:`R^\top R=A^\top A`, for the rows of A given by rows of unit factors and layer inputs."""
    A = tensors.dense_jacobian(rows, inputs)
    return triangle_of(A.reshape(-1, A.shape[-1]))


def triangle_of(rows: Array) -> Array:
    """Return the square R with R'R = rows' rows."""
    R = cast(Array, np.linalg.qr(rows, mode="r"))
    missing = R.shape[1] - R.shape[0]
    return np.concatenate([R, np.zeros_like(R, shape=(missing, R.shape[1]))]) if missing > 0 else R


def merge_triangles(total: list[Array], part: list[Array]) -> None:
    """Replace R by that of both blocks of rows, one below the other; the other arrays are added."""
    total[0][...] = np.linalg.qr(np.concatenate([total[0], part[0]]), mode="r")
    for into, array in zip(total[1:], part[1:], strict=True):
        np.add(into, array, out=into)


@dataclass(frozen=True)
class Inverse:
    r"""The Moore-Penrose inverse :math:`WW^\top` of a positive semi-definite matrix, and what it cannot invert."""

    root: Array
    """W, (P, rank)."""
    null: Array
    """A basis of the null space in units of `scale`, (P, P - rank): orthonormal once its rows are multiplied by it."""
    scale: Array
    """Norms of the columns, (P,); 1 where a column is zero."""

    @property
    def rank(self) -> int:
        """Number of independent directions that the data inform of."""
        return int(self.root.shape[1])

    def estimable(self, directions: Array) -> NDArray[np.bool_]:
        """Return whether each row v (..., P) lies in the range of the matrix, up to rounding."""
        if not self.null.shape[1]:
            return np.ones_like(directions, dtype=bool, shape=directions.shape[:-1])
        outside = np.linalg.norm(directions @ like(self.null, directions), axis=-1)
        length = np.linalg.norm(directions / like(self.scale, directions), axis=-1)
        inside: NDArray[np.bool_] = outside <= np.sqrt(np.finfo(self.root.dtype).eps) * length
        return inside

    def standard_errors(self, directions: Array) -> Array:
        """Return |W'v| for each row v (..., P), infinite where it is not estimable."""
        error = np.linalg.norm(directions @ like(self.root, directions), axis=-1)
        found: Array = np.where(self.estimable(directions), error, np.inf)
        return found


def inverse_of_triangle(R: Array) -> Inverse:
    """Return the inverse of R'R from the singular values of R with columns scaled to norm one."""
    scale = np.linalg.norm(R, axis=0)
    scale[scale == 0] = 1
    _, values, right = np.linalg.svd(R / scale)
    kept = values > len(R) * np.finfo(R.dtype).eps * values[0]
    return _inverse(right, np.where(kept, values, 0), scale)


def inverse_of_matrix(H: Array) -> tuple[Inverse, float]:
    """Return the inverse of a symmetric matrix scaled to a unit diagonal, and its smallest scaled eigenvalue."""
    scale = np.sqrt(np.abs(np.diag(H)))
    scale[scale == 0] = 1
    values, vectors = np.linalg.eigh(H / scale[:, None] / scale)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > len(H) * np.finfo(H.dtype).eps * max(float(values[0]), 0)
    return _inverse(vectors.T, np.sqrt(np.where(kept, values, 0)), scale), float(values[-1])


def _inverse(right: Array, values: Array, scale: Array) -> Inverse:
    """Return the inverse of D V S^2 V'D, D = diag(scale), with the rows of V' in `right`."""
    rank = int((values > 0).sum())
    root = right[:rank].T / values[:rank] / scale[:, None]
    if rank < len(scale):
        # D^-1 (.)^+ D^-1 is one of many generalised inverses; between projectors on the range it is that of Moore and Penrose.
        basis = np.linalg.qr(right[:rank].T * scale[:, None])[0]
        root = basis @ (basis.T @ root)
    return Inverse(root, right[rank:].T / scale[:, None], scale)


def pearson(law: Law, residual: Array, shift_invariant: bool) -> Array:
    r"""Return :math:`r^\top I(h)^+r` per input, (n,): the squared residuals in units of their variance."""
    kept = residual.shape[1] - shift_invariant
    r, matrix = residual[:, :kept], law.information()[:, :kept, :kept]
    deviation = np.sqrt(np.diagonal(matrix, axis1=1, axis2=2))
    with np.errstate(invalid="ignore", divide="ignore"):  # what cannot vary gives nan, which is refused
        r = r / deviation
        matrix = matrix / deviation[:, :, None] / deviation[:, None, :]
    solved = np.linalg.solve(matrix, r[:, :, None])[:, :, 0]
    statistic: Array = np.einsum("nt,nt->n", r, solved)
    return statistic
