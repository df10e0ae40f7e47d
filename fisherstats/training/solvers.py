"""Linear systems with a damped information; raises if it is not positive definite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import cholesky, cholesky_solve, floats, holds
from fisherstats.core.validation import training
from fisherstats.training.information import Product

__all__ = ["Place", "above_rounding", "cholesky_solver", "conjugate_gradients", "damped", "inverses", "span_solver"]

Array = NDArray[np.floating]

_MOST_ITERATIONS = 10
"""Maximum iterations of conjugate gradients per parameter; 1 would suffice without rounding."""


class Place(NamedTuple):
    """Context for error messages: the matrix, the damping given, and the number of the step, from 1."""

    what: str
    damping: float
    step: int


def damped(matrix: Array, damping: float) -> NDArray[np.float64]:
    """Return matrices plus a multiple of the identity, in float64, as a new array."""
    total: NDArray[np.float64] = matrix.astype(np.float64)
    diagonal = np.arange(total.shape[-1])
    total[..., diagonal, diagonal] += damping
    return total


def cholesky_solver(matrix: Array, damping: float, place: Place, precision: float) -> Product:
    """Return the function b -> (matrix + damping identity)^-1 b; see `inverses` for the errors."""
    total = damped(matrix, damping)
    size = np.diagonal(total).copy()
    try:
        factor = cholesky(total)
        definite = _definite(factor, size, precision)
    except np.linalg.LinAlgError:
        definite = False
    if not definite:
        training.indefinite(*place, float(np.linalg.eigvalsh(matrix)[0]))

    def solve(b: Array) -> Array:
        return cholesky_solve(factor, b)

    return solve


def span_solver(
    rows: Sequence[Array], inputs: Sequence[Array], views: Callable[[Array], list[Array]], damping: float, place: Place
) -> Product:
    r"""Return the function that solves with :math:`\frac1nR^\top R+\lambda1`, in the span of the rows.

    The inverse is :math:`\frac1\lambda(1-\frac1nR^\top(\frac1nRR^\top+\lambda1)^{-1}R)`. The rows are factored over units and
    inputs of each layer, so :math:`RR^\top` is a sum over layers of products of two small Gram matrices; R is never built.
    """
    n, count, _ = rows[0].shape
    gram = np.zeros_like(rows[0], shape=(n, count, n, count))
    for R, h_bar in zip(rows, inputs, strict=True):
        flat = R.reshape(n * count, -1)
        gram += (flat @ flat.T).reshape(gram.shape) * (h_bar @ h_bar.T)[:, None, :, None]
    gram /= n
    middle = gram.reshape(n * count, -1)
    above_rounding(damping, middle, sum(R.shape[2] * h_bar.shape[1] for R, h_bar in zip(rows, inputs, strict=True)), place)
    solve_span = cholesky_solver(middle, damping, place, 0.0)

    def solve(b: Array) -> Array:
        along = np.zeros_like(b, shape=(n, count))
        for R, h_bar, part in zip(rows, inputs, views(b), strict=True):
            along += np.matmul(R, (h_bar @ part.T)[:, :, None])[:, :, 0]
        weights = solve_span(along.ravel()).reshape(n, 1, count) / n
        solution = b.copy()
        for R, h_bar, part in zip(rows, inputs, views(solution), strict=True):
            part -= np.matmul(weights, R)[:, 0].T @ h_bar
        return np.divide(solution, damping, out=solution)

    return solve


def inverses(matrices: Array, damping: float, place: Place, precision: float) -> NDArray[np.float64]:
    """Return the inverses of (matrix + damping identity), one for each of the leading axis, by Cholesky factors.

    Raises for a matrix without a Cholesky factor, or with one due to rounding only: where a pivot is negligible against its
    diagonal entry.
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
    return np.matmul(np.swapaxes(roots, -1, -2), roots)


def above_rounding(damping: float, matrices: Array, size: int, place: Place) -> None:
    """Require a damping above the rounding of size x size matrices that have these positive eigenvalues, and else 0."""
    rounding = size * np.finfo(np.float64).eps * np.diagonal(matrices, axis1=-2, axis2=-1).max()
    if not holds(rounding < damping):
        training.indefinite(*place, 0.0)


def _definite(factors: Array, size: Array, precision: float) -> bool:
    """Return whether each squared pivot is more than rounding: as a part of the diagonal it does not depend on scales."""
    pivots = np.square(np.diagonal(factors, axis1=-2, axis2=-1))
    return holds(pivots > factors.shape[-1] * precision * size)


def conjugate_gradients(product: Product, b: Array, damping: float, place: Place, tolerance: float) -> Array:
    """Return (I + damping identity)^-1 b to a residual of `tolerance` times that of 0.

    Each product is with a search direction, so a direction without positive curvature is detected if it matters, and raises. A
    device is synchronised once per iteration.
    """
    solution, residual, direction = np.zeros_like(b), b.copy(), b.copy()
    square = residual @ residual
    (length,) = floats([square])
    if not length:
        return solution
    for _ in range(_MOST_ITERATIONS * len(b)):
        result = product(direction) + damping * direction
        curvature = direction @ result
        with np.errstate(divide="ignore", invalid="ignore"):  # a curvature of 0 raises below, at the synchronisation
            step = square / curvature
            solution += step * direction
            residual -= step * result
            before, square = square, residual @ residual
        found, remaining = floats([curvature, square])
        if found <= 0:
            training.indefinite(*place, found / floats([direction @ direction])[0] - damping)
        if math.sqrt(remaining) < tolerance * math.sqrt(length):
            return solution
        direction *= square / before
        direction += residual
    training.unsolved(place.what, place.step, tolerance)
