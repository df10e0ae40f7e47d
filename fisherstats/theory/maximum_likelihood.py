r"""Asymptotic covariance of a maximum likelihood estimate, from an orthogonal factorisation of :math:`A=I^{1/2}J`.

The information of all labels together is :math:`A^\top A`. It is never formed: its condition number is the square of that of A.
Columns of A are stored in units of powers of two, so that the scale of the inputs does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from fisherstats.core.arrays import like, power_of_two
from fisherstats.theory import covariance_tensors

__all__ = [
    "Inverse",
    "change_of_label",
    "corrected",
    "inverse_of_triangle",
    "jacobi_svd",
    "merge_triangles",
    "moore_penrose_root",
    "singular_values",
    "triangle",
    "triangle_of",
]

Array = NDArray[np.floating]


def triangle(rows: Sequence[Array], inputs: Sequence[Array]) -> list[Array]:
    r"""Return R, (P, P), and units u, (P,), with :math:`(RD_u)^\top RD_u=A^\top A`, for rows of unit factors and layer inputs."""
    A = covariance_tensors.dense_jacobian(rows, inputs)
    return triangle_of(A.reshape(-1, A.shape[-1]))


def triangle_of(rows: Array) -> list[Array]:
    """Return a square R and units of its columns for the rows of a matrix."""
    size = np.abs(rows).max(axis=0)
    unit = np.where(size > 0, power_of_two(size), np.finfo(np.float64).tiny)
    R = cast(Array, np.linalg.qr(rows / unit, mode="r"))
    missing = R.shape[1] - R.shape[0]
    return [np.concatenate([R, np.zeros_like(R, shape=(missing, R.shape[1]))]) if missing > 0 else R, unit]


def merge_triangles(total: list[Array], part: list[Array]) -> None:
    """Replace R and its units by those of both blocks of rows, stacked; the other arrays are added."""
    unit = np.maximum(total[1], part[1])
    both = np.concatenate([R * (own / unit) for R, own in (total[:2], part[:2])])
    total[0][...] = np.linalg.qr(both, mode="r")
    total[1][...] = unit
    for into, array in zip(total[2:], part[2:], strict=True):
        np.add(into, array, out=into)


@dataclass(frozen=True)
class Inverse:
    r"""A generalised inverse :math:`WW^\top` of a positive semi-definite matrix, and its null space."""

    root: Array
    """W, (P, rank)."""
    null: Array
    """A basis of the null space in units of `scale`, (P, P - rank): orthonormal once its rows are multiplied by it."""
    scale: Array
    """Norms of the columns, (P,), of a root of the matrix; 1 where a column is zero."""

    @property
    def rank(self) -> int:
        """Number of independent directions identified by the data."""
        return int(self.root.shape[1])

    def estimable(self, directions: Array) -> NDArray[np.bool_]:
        """Return whether each row v (..., P) lies in the range of the matrix, up to rounding."""
        if not self.null.shape[1]:
            return np.ones_like(directions, dtype=bool, shape=directions.shape[:-1])
        outside = np.linalg.norm(directions @ like(self.null, directions), axis=-1)
        length = np.linalg.norm(directions / like(self.scale, directions), axis=-1)
        return outside <= np.sqrt(np.finfo(self.root.dtype).eps) * length

    def standard_errors(self, directions: Array) -> Array:
        """Return |W'v| for each row v (..., P), infinite where it is not estimable."""
        error = _norm(directions @ like(self.root, directions))
        return np.where(self.estimable(directions), error, np.inf)

    def own_errors(self) -> tuple[NDArray[np.bool_], Array]:
        """Return which parameters are estimable, and their standard errors, (P,) each."""
        outside = np.linalg.norm(self.null * self.scale[:, None], axis=1)
        estimable: NDArray[np.bool_] = outside <= np.sqrt(np.finfo(np.float64).eps)
        return estimable, np.where(estimable, _norm(self.root), np.inf)


def _norm(rows: Array) -> Array:
    """Return the norm over the last axis, without overflow or underflow."""
    if not rows.shape[-1]:
        return np.zeros_like(rows, shape=rows.shape[:-1])
    unit = power_of_two(np.abs(rows).max(axis=-1))
    return np.linalg.norm(rows / unit[..., None], axis=-1) * unit


def inverse_of_triangle(R: Array, unit: Array) -> Inverse:
    """Return the inverse of the matrix with root R D_u, from the singular values of R with columns scaled to norm one."""
    norm = np.linalg.norm(R, axis=0)
    _, values, right = np.linalg.svd(R / np.where(norm > 0, norm, 1))
    rank = _rank(values)
    scale = np.where(norm > 0, norm * unit, 1)
    return Inverse(right[:rank].T / values[:rank] / scale[:, None], right[rank:].T / scale[:, None], scale)


def _rank(values: Array) -> int:
    """Return how many singular values are above rounding."""
    return int((values > len(values) * np.finfo(values.dtype).eps * values[0]).sum())


def moore_penrose_root(inverse: Inverse) -> Array:
    r"""Return the root of the Moore-Penrose inverse: W minus its part in the null space, :math:`N(N^\top N)^{-1}N^\top W`.

    The rows of W and N are as small as the columns of the matrix are large. In a basis N with few non-zero entries, columns of
    different sizes are combined only where they are linearly dependent.
    """
    if not inverse.null.shape[1] or not inverse.rank:
        return inverse.root
    pivots, others, G = _dependence(inverse)
    null = np.zeros_like(inverse.null)
    null[pivots] = np.diag(1 / inverse.scale[pivots])
    null[others] = G.T / inverse.scale[others, None]
    null /= power_of_two(np.abs(null).max(axis=0))
    return inverse.root - null @ linalg.solve(null.T @ null, null.T @ inverse.root, assume_a="pos")


def _dependence(inverse: Inverse) -> tuple[NDArray[np.integer], NDArray[np.integer], Array]:
    """Return which columns p of a matrix depend on which others o, and G (p, o): scaled to norm one, A_p = -A_o G'.

    Coefficients that are rounding are 0: in units of a much larger column they would be more than a smaller one holds.
    """
    count = inverse.null.shape[1]
    rows, order = linalg.qr((inverse.null * inverse.scale[:, None]).T, mode="r", pivoting=True)
    G = linalg.solve_triangular(rows[:, :count], rows[:, count:])
    coefficients: Array = np.where(np.abs(G) > 64 * len(order) * np.finfo(G.dtype).eps, G, 0)
    return order[:count], order[count:], coefficients


def change_of_label(inverse: Inverse, change: Array, rounding: float) -> tuple[Array, Array]:
    r"""Return :math:`B^\top CB`, B = [W, N], for a symmetric C in units of `scale` on both sides, and its rounding error.

    `rounding` is that of an entry of C.
    """
    basis = np.concatenate([inverse.root, inverse.null], axis=1) * inverse.scale[:, None]
    size = np.linalg.norm(basis, axis=0)
    return basis.T @ change @ basis, rounding * size[:, None] * size


def corrected(inverse: Inverse, change: Array, rounding: Array) -> tuple[Inverse, float, float]:
    r"""Return the inverse of H = M + C from that of M, the smallest eigenvalue of H, and how much of it may be rounding.

    In the basis B = [W, N] of `change_of_label`, where W' M W = 1, :math:`B^\top HB=\mathrm{diag}(1,0)+B^\top CB`: directions
    that M determines well keep the accuracy of M's root. Eigenvalues are those of this matrix, scaled to a unit diagonal. Null
    directions of M on which C vanishes stay null.
    """
    rank = inverse.rank
    told: NDArray[np.bool_] = np.concatenate([np.ones(rank, bool), (np.abs(change) > rounding)[rank:].any(axis=1)])
    basis = np.concatenate([inverse.root, inverse.null], axis=1)[:, told]
    middle, rounding = change[told][:, told], rounding[told][:, told]
    middle = (middle + middle.T) / 2
    own = np.arange(rank)
    middle[own, own] += 1
    size = np.sqrt(np.maximum(np.abs(np.diag(middle)), np.diag(rounding)))
    values, vectors = np.linalg.eigh(middle / size[:, None] / size)
    precision = float(np.linalg.norm(rounding / size[:, None] / size)) + len(size) * np.finfo(np.float64).eps
    smallest = float(values[0]) if len(values) else 1.0
    with np.errstate(invalid="ignore", divide="ignore"):  # refused by the caller
        root = (basis / size) @ (vectors / np.sqrt(values))
    return replace(inverse, root=root, null=inverse.null[:, ~told[rank:]]), smallest, precision


_FEW_BITS = 8
"""Columns whose sizes differ by at most this many binary digits need no special treatment for singular values."""


def singular_values(R: Array, unit: Array) -> tuple[Array, int]:
    r"""Return the singular values of R D_u, the largest first, and their number above rounding, with columns of norm one.

    For columns of different sizes, the values have the relative accuracy of equally scaled columns, by one-sided Jacobi rotations
    (Drmac and Veselic).
    """
    norm = np.linalg.norm(R, axis=0)
    rank = _rank(np.linalg.svd(R / np.where(norm > 0, norm, 1), compute_uv=False))
    size = np.where(norm > 0, norm * unit, np.nan)
    if not rank or np.nanmax(size) <= 2.0**_FEW_BITS * np.nanmin(size):
        return np.linalg.svd(R * unit, compute_uv=False), rank
    graded = R * unit
    if rank < len(R):
        inverse = inverse_of_triangle(R, unit)
        pivots, others, G = _dependence(inverse)
        rows = np.concatenate([np.diag(inverse.scale[others]), -inverse.scale[pivots, None] * G])
        order = np.argsort(-np.abs(rows).max(axis=1), kind="stable")
        T, columns = linalg.qr(rows[order], mode="r", pivoting=True)
        scaled = (R * (unit / inverse.scale))[:, others[columns]]
        graded = np.linalg.qr(scaled, mode="r") @ T[:rank].T
    values = np.zeros(len(R))
    values[:rank], *_ = jacobi_svd(graded, vectors=False)
    return values, rank


def jacobi_svd(matrix: Array, vectors: bool = True) -> tuple[Array, Array, Array]:
    """Return singular values, the largest first, and left and right vectors of a square matrix, e.g. with graded columns."""
    job = 0 if vectors else 3
    values, left, right, work, _, failed = linalg.lapack.dgejsv(matrix, joba=0, jobu=job, jobv=job, jobr=0, jobt=0, jobp=0)
    if failed:
        raise np.linalg.LinAlgError("SVD did not converge")
    return values * (work[0] / work[1]), left, right
