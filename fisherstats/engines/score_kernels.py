"""Fused loop over per-example scores, compiled on first use: every score is read once.

Its functions are compiled into each other, and numba's cache does not notice changes in functions of another file.
"""

from __future__ import annotations

import numpy as np

from fisherstats.engines.kernel_cache import compiled

__all__ = ["add_leaf"]


@compiled
def _squared(row: np.ndarray, z: np.ndarray) -> None:  # pragma: no cover
    for j in range(len(row)):
        score = np.float64(row[j])
        z[j] = score * score


@compiled
def _squared_from(
    row: np.ndarray, first: np.ndarray, z: np.ndarray, sums: np.ndarray, squares: np.ndarray
) -> None:  # pragma: no cover
    """Fill z with the squares of a row, and add the powers of their differences from the first."""
    for j in range(len(row)):
        score = np.float64(row[j])
        z[j] = score * score
        apart = score * score - first[j]
        sums[j] += apart
        squares[j] += apart * apart


@compiled
def _added_from(z: np.ndarray, first: np.ndarray, sums: np.ndarray, squares: np.ndarray, count: int) -> None:  # pragma: no cover
    for j in range(count):
        apart = z[j] - first[j]
        sums[j] += apart
        squares[j] += apart * apart


@compiled
def _folded(z: np.ndarray, halves: np.ndarray, count: int) -> float:  # pragma: no cover
    """Return the sum of a power of two of numbers, of which those from `count` on are set to 0, by halving: it is vectorised."""
    half = len(halves)
    for j in range(count, 2 * half):
        z[j] = 0.0
    for j in range(half):
        halves[j] = z[j] + z[j + half]
    while half > 1:
        half //= 2
        for j in range(half):
            halves[j] += halves[j + half]
    return halves[0]


@compiled
def add_leaf(  # pragma: no cover
    scores: np.ndarray, n_before: int, mean: np.ndarray, deviations: np.ndarray, labels: np.ndarray, totals: np.ndarray
) -> None:
    """Merge the squared scores of a few inputs, (rows, draws, size), into their moments; add their sums to (rows, draws).

    Sums of squares are of differences from the first input (or draw). As that is one of the numbers, its squared difference from
    their mean is at most their sum of squared deviations, so the condition of the subtraction at the end is at most the number of
    rows (or draws).
    """
    rows, draws, size = scores.shape
    width = 512
    first, sums, squares, within = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    draw, draw_sums, draw_squares = np.empty(width), np.empty(width), np.empty(width)
    z, halves = np.empty(width), np.empty(width // 2)
    share, between = rows / (n_before + rows), n_before * rows / (n_before + rows)
    for start in range(0, size, width):
        count = min(width, size - start)
        sums[:] = 0.0
        squares[:] = 0.0
        within[:] = 0.0
        for i in range(rows):
            row = scores[i, 0, start : start + count]
            if draws == 1 and i > 0:
                _squared_from(row, first, z, sums, squares)
                totals[i, 0] += _folded(z, halves, count)
                continue
            _squared(row, z)
            totals[i, 0] += _folded(z, halves, count)
            if draws > 1:
                draw[:] = z
                draw_sums[:] = 0.0
                draw_squares[:] = 0.0
                for k in range(1, draws):
                    _squared_from(scores[i, k, start : start + count], draw, z, draw_sums, draw_squares)
                    totals[i, k] += _folded(z, halves, count)
                for j in range(count):
                    z[j] = draw[j] + draw_sums[j] / draws
                    within[j] += max(draw_squares[j] - draw_sums[j] * draw_sums[j] / draws, 0.0) / (draws - 1)
            if i > 0:
                _added_from(z, first, sums, squares, count)
            else:
                first[:] = z
        into_mean, into_deviations = mean[start : start + count], deviations[start : start + count]
        for j in range(count):
            shift = first[j] + sums[j] / rows - into_mean[j]
            into_mean[j] += shift * share
            own = max(squares[j] - sums[j] * sums[j] / rows, 0.0)
            into_deviations[j] += own + shift * shift * between
        if draws > 1:
            labels[start : start + count] += within[:count]
