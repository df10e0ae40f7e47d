r"""Directional derivatives of a log-partition by Cauchy's integral on circles, or by central differences, with measured errors.

:math:`\partial_\epsilon^m F(h+\epsilon d)|_0=\frac{m!}{2\pi\rho^m}\int F(h+\rho e^{i\varphi}d)e^{-im\varphi}d\varphi`, which the
trapezoidal rule takes exponentially accurately while the circle stays where F is analytic. The radius is the one at which
neighbouring radii agree best; how well they agree there is the error that is reported.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

__all__ = ["cumulant_tensors", "directional_derivatives"]

LogPartition = Callable[[np.ndarray], np.ndarray]

POINTS = 64
RADII = 2.0 ** np.arange(6, -24, -1)
"""Radii tried along a coordinate axis, largest first, in units of h; further ones are in units of the best of these."""

RELATIVE_RADII = 2.0 ** np.arange(2, -7, -1)
STENCIL = 6
"""Central differences use 2 * 6 + 1 equidistant values: they are exact for polynomials of degree 12."""


@cache
def _circle() -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes on the unit circle and the weights (9, POINTS) of the orders 0 to 4 and -1 to -4."""
    nodes = np.exp(2j * np.pi * np.arange(POINTS) / POINTS)
    orders = [0, 1, 2, 3, 4, -1, -2, -3, -4]
    weights = np.stack([math.factorial(abs(order)) * nodes**-order / POINTS for order in orders])
    return nodes, weights


@cache
def _stencil() -> tuple[np.ndarray, np.ndarray]:
    """Return nodes from -1 to 1 and the weights (5, nodes) of the central differences of the orders 0 to 4."""
    steps = np.arange(-STENCIL, STENCIL + 1)
    vandermonde = np.vander(steps.astype(np.float64), increasing=True).T
    targets = np.zeros((2 * STENCIL + 1, 5))
    for order in range(5):
        targets[order, order] = math.factorial(order)
    weights = np.linalg.solve(vandermonde, targets).T * float(STENCIL) ** np.arange(5)[:, None]
    return steps / STENCIL, weights


def directional_derivatives(
    log_partition: LogPartition, h: np.ndarray, directions: np.ndarray, radii: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the derivatives of orders 1 to 4 of F along directions, their errors, and the radii used for order 2.

    Parameters
    ----------
    log_partition : callable
        F of an array (..., T), real or complex.
    h : numpy.ndarray
        Points (n, T).
    directions : numpy.ndarray
        Directions (n, D, T).
    radii : numpy.ndarray
        Radii to be tried, decreasing by factors of 2.

    Returns
    -------
    tuple of numpy.ndarray
        Derivatives and errors (4, n, D), infinite errors where no radius was usable, and radii (n, D).
    """
    values = _tried(log_partition, h, directions, radii, complex_nodes=True)
    if values is None:
        values = _tried(log_partition, h, directions, radii, complex_nodes=False)
    elif not (values[1] < 1e-6 * np.abs(values[0]) + 1e-9).all():
        # F may take complex arguments without being analytic in them, or be analytic on small circles only.
        other = _tried(log_partition, h, directions, radii, complex_nodes=False)
        if other is not None:
            better = other[1] < values[1]
            values = (
                np.where(better, other[0], values[0]),
                np.where(better, other[1], values[1]),
                np.where(better[1], other[2], values[2]),
            )
    if values is None:
        empty = np.full((4, *directions.shape[:2]), np.inf)
        return empty, empty, np.ones(directions.shape[:2])
    return values


def _tried(
    log_partition: LogPartition, h: np.ndarray, directions: np.ndarray, radii: np.ndarray, complex_nodes: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    nodes, weights = _circle() if complex_nodes else _stencil()
    estimates = []
    for radius in radii:
        points = h[:, None, None, :] + radius * nodes[:, None] * directions[:, :, None, :]
        with np.errstate(all="ignore"):  # a circle that leaves the domain is not used
            try:
                values = np.asarray(log_partition(points))
            except (TypeError, ValueError, ArithmeticError):
                return None
            if complex_nodes and values.dtype.kind != "c":
                return None
            centre = values.mean(axis=2, keepdims=True) if complex_nodes else values[:, :, STENCIL, None]
            spectrum = np.einsum("ndp,mp->mnd", values - centre, weights)
            scale = radius ** np.arange(1.0, 5.0)[:, None, None]
            # Neighbouring radii may agree by chance: the rounding errors of both are included.
            rounded = np.abs(values).max(axis=2) * np.finfo(np.float64).eps * np.abs(weights).sum(axis=1)[1:5, None, None]
            defect = (np.abs(spectrum[5:]) if complex_nodes else rounded) / scale
            estimates.append((spectrum[1:5].real / scale, defect))
    derivatives = np.stack([estimate for estimate, _ in estimates])
    defects = np.stack([np.broadcast_to(defect, derivatives.shape[1:]) for _, defect in estimates])
    with np.errstate(invalid="ignore"):
        change = np.abs(np.diff(derivatives, axis=0))
        errors = np.maximum(np.maximum(change[:-1], change[1:]), defects[1:-1])
    errors[~np.isfinite(errors)] = np.inf
    best = errors.argmin(axis=0)[None]
    chosen = np.take_along_axis(derivatives[1:-1], best, axis=0)[0]
    error = np.take_along_axis(errors, best, axis=0)[0]
    return np.where(np.isfinite(error), chosen, 0.0), error, radii[1:-1][best[0, 1]]


def cumulant_tensors(log_partition: LogPartition, h: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the derivatives of F of orders 1 to 4 as tensors (n, T, ..., T), and the errors of their entries.

    Mixed derivatives are computed from directional ones by polarisation:
    F_abcd = sum over signs of s_2 s_3 s_4 D^4 F(e_a + s_2 e_b + s_3 e_c + s_4 e_d) / (8 * 4!), and so on.
    """
    n, outputs = h.shape
    axes = np.broadcast_to(np.eye(outputs), (n, outputs, outputs))
    _, errors, unit = directional_derivatives(log_partition, h, axes, RADII)
    unit = np.where(np.isfinite(errors[1]), unit, 1.0)
    plan, rows = _polarisation(outputs)
    directions = rows[None] * unit[:, None, :]
    derivatives, errors = directional_derivatives(log_partition, h, directions, RELATIVE_RADII)[:2]
    tensors, bounds = [], []
    for order in range(1, 5):
        tensor, bound = (np.zeros((n, *(outputs,) * order)) for _ in range(2))
        for index, terms in plan[order].items():
            scale = np.prod(unit[:, index], axis=1)
            value = sum(weight * derivatives[order - 1, :, row] for row, weight in terms) / scale
            error = sum(abs(weight) * errors[order - 1, :, row] for row, weight in terms) / scale
            for permuted in set(itertools.permutations(index)):
                entry: tuple[Any, ...] = (slice(None), *permuted)
                tensor[entry], bound[entry] = value, error
        tensors.append(tensor)
        bounds.append(bound)
    return tensors, bounds


Plan = dict[int, dict[tuple[int, ...], list[tuple[int, float]]]]


@cache
def _polarisation(outputs: int) -> tuple[Plan, np.ndarray]:
    """Return the directions (row, weight) that determine each entry, and the directions (D, T)."""
    rows: dict[tuple[int, ...], int] = {}
    plan: Plan = {order: {} for order in range(1, 5)}
    for order in range(1, 5):
        for index in itertools.combinations_with_replacement(range(outputs), order):
            terms: dict[int, float] = {}
            for signs in itertools.product((1, -1), repeat=order - 1):
                direction = np.zeros(outputs, dtype=int)
                for axis, sign in zip(index, (1, *signs), strict=True):
                    direction[axis] += sign
                weight = math.prod(signs) / (2 ** (order - 1) * math.factorial(order))
                key = tuple(direction.tolist())
                opposite = tuple((-direction).tolist())
                if not any(key):
                    continue
                if opposite in rows:
                    key, weight = opposite, weight * (-1) ** order
                row = rows.setdefault(key, len(rows))
                terms[row] = terms.get(row, 0.0) + weight
            plan[order][index] = [(row, weight) for row, weight in terms.items() if weight]
    return plan, np.array(list(rows), dtype=np.float64)
