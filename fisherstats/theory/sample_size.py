"""Numbers of draws and inputs for a given relative standard error (Lemma 3.1 and Theorem 4.7 of 2024, solved for them)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["draws_needed", "inputs_needed", "optimal_draws", "relative_error"]

Array = NDArray[np.floating]


def draws_needed(variance: Array, floor: Array, allowed: Array) -> Array:
    r"""Return the smallest whole N >= 1 with floor + variance / N <= allowed; inf where there is none."""
    room = allowed - floor
    possible = (room > 0) | ((variance == 0) & (room >= 0))
    draws = np.where(room > 0, variance / np.where(room > 0, room, 1), 0)
    return np.where(possible, _whole(draws), np.inf)


def relative_error(variance: Array, information: Array) -> Array:
    """Return sqrt(variance) / information; 0 where both are 0, inf where only the information is."""
    error = np.sqrt(variance)
    empty = np.where(error > 0, np.inf, 0.0)
    informed = information > 0
    return np.where(informed, error / np.where(informed, information, 1), empty)


def optimal_draws(variance: Array, spread: Array, cost_input: float, cost_draw: float) -> Array:
    r"""Return :math:`N^*=\sqrt{c_x\,E_xV/(c_y\,\mathrm{Var}_xI)}`, which minimises (spread + variance / N)(c_x + c_y N).

    0 where a draw adds no variance (the fewest draws are best), inf where inputs add none.
    """
    empty = np.where(variance > 0, np.inf, np.zeros_like(variance))
    ratio = np.where(spread > 0, variance / np.where(spread > 0, spread, 1), empty)
    return np.sqrt(cost_input / cost_draw) * np.sqrt(ratio)


def inputs_needed(variance: Array, spread: Array, draws: Array, allowed: Array) -> Array:
    """Return the smallest whole number of inputs >= 1 with (spread + variance / draws) / inputs <= allowed; inf if none."""
    total = spread + variance / draws
    needed = np.where(allowed > 0, total / np.where(allowed > 0, allowed, 1), np.where(total > 0, np.inf, 0.0))
    return _whole(needed)


def _whole(number: Array) -> Array:
    """Return the next whole number, at least 1; a number above an integer by rounding error only gives that integer."""
    return np.maximum(np.ceil(number * (1 - 1e-12)), 1)
