"""Linear systems with a damped information, and what to do where it is not positive definite: refuse."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, cg

from fisherstats.checks import training
from fisherstats.training.information import Product

__all__ = ["Place", "cholesky_solver", "conjugate_gradients", "damped", "inverses"]

Array = NDArray[np.floating]


class Place(NamedTuple):
    """What a refusal names: the matrix, the damping given, and the number of the step, from 1."""

    what: str
    damping: float
    step: int


def damped(matrix: Array, damping: float) -> NDArray[np.float64]:
    """Return matrices plus a multiple of the identity, in float64, as a new array."""
    total = np.array(matrix, dtype=np.float64)
    diagonal = np.arange(total.shape[-1])
    total[..., diagonal, diagonal] += damping
    return total


def cholesky_solver(matrix: Array, damping: float, place: Place, precision: float) -> Product:
    """Return the function b -> (matrix + damping identity)^-1 b; see `inverses` for what is refused."""
    total = damped(matrix, damping)
    size = np.diagonal(total).copy()
    try:
        factor = linalg.cholesky(total, lower=True, overwrite_a=True, check_finite=False)
        definite = _definite(factor, size, precision)
    except linalg.LinAlgError:
        definite = False
    if not definite:
        training.indefinite(*place, float(np.linalg.eigvalsh(matrix)[0]))

    def solve(b: Array) -> Array:
        solution: Array = linalg.cho_solve((factor, True), b, check_finite=False)
        return solution

    return solve


def inverses(matrices: Array, damping: float, place: Place, precision: float) -> NDArray[np.float64]:
    """Return the inverses of (matrix + damping identity), one for each of the leading axis, by Cholesky factors.

    Refused is what has no Cholesky factor, and what has one by rounding only: where a pivot is lost against its diagonal entry.
    """
    total = damped(matrices, damping)
    try:
        factors = np.linalg.cholesky(total)
        definite = _definite(factors, np.diagonal(total, axis1=-2, axis2=-1), precision)
    except np.linalg.LinAlgError:
        definite = False
    if not definite:
        training.indefinite(*place, float(np.linalg.eigvalsh(matrices)[..., 0].min()))
    roots = np.linalg.inv(factors)
    found: NDArray[np.float64] = np.matmul(np.swapaxes(roots, -1, -2), roots)
    return found


def _definite(factors: Array, size: Array, precision: float) -> bool:
    """Return whether each squared pivot is more than rounding: as a part of the diagonal it does not depend on scales."""
    pivots = np.square(np.diagonal(factors, axis1=-2, axis2=-1))
    return bool(np.all(pivots > factors.shape[-1] * precision * size))


def conjugate_gradients(product: Product, b: Array, damping: float, place: Place, tolerance: float) -> Array:
    """Return (I + damping identity)^-1 b to a residual of `tolerance` times that of 0.

    Each product is with a search direction, so a direction of no positive curvature is met if it matters, and refused.
    """

    def times(v: Array) -> Array:
        direction = np.ravel(v)
        result = product(direction) + damping * direction
        square = direction @ direction
        if direction @ result <= 0 < square:
            training.indefinite(*place, float(direction @ result / square) - damping)
        return result

    operator = LinearOperator((len(b), len(b)), matvec=times, dtype=np.float64)
    solution, unsolved = cg(operator, b, rtol=tolerance)
    if unsolved:
        training.unsolved(place.what, place.step, tolerance)
    found: Array = solution
    return found
