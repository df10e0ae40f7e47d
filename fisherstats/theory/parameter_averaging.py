r"""Weighted means of parameters with estimated weights, :math:`\sum_kw_k\theta_k/\sum_kw_k`.

Importances may have any scale, so quantities are divided by a power of two of their size before they are squared or summed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import power_of_two

__all__ = ["merged", "shrunk"]

Array = NDArray[np.floating]


def shrunk(information: Array, error: Array) -> tuple[Array, Array]:
    r"""Return :math:`w=F^3/(F^2+V)` and :math:`\mathrm dw/\mathrm dF` for standard errors :math:`\sqrt V`.

    A standard error as large as F halves its weight.
    """
    unit = power_of_two(np.maximum(information, error))
    square, variance = np.square(information / unit), np.square(error / unit)
    nothing = (information == 0) & (error == 0)
    total = np.where(nothing, 1, square + variance)
    return information * (square / total), np.where(nothing, 1, (square**2 + 3 * square * variance) / total**2)


def merged(theta: Array, weights: Array, slopes: Array, error: Array) -> tuple[Array, Array, Array]:
    r"""Return the merged parameters, the share of each network, and the standard error by the delta method, for arrays (K, P).

    :math:`\partial\bar\theta/\partial w_k=(\theta_k-\bar\theta)/\sum_jw_j`. Where all weights are 0, the networks have equal
    shares. A mean lies between its parts, so its standard deviation is at most half of their range (Popoviciu), which the delta
    method exceeds where the weights are smaller than their errors.
    """
    unit = power_of_two(weights.max(axis=0))
    total = (weights / unit).sum(axis=0)
    known = total > 0
    shares = np.where(known, weights / unit / np.where(known, total, 1), 1 / len(theta))
    mean = (shares * theta).sum(axis=0)
    pull = np.where(known, (theta - mean) / np.where(known, total, 1), 0)
    spread = _norm(pull * slopes * (error / unit))
    return mean, shares, np.minimum(spread, (theta.max(axis=0) - theta.min(axis=0)) / 2)


def _norm(values: Array) -> Array:
    """Return the root of the sum of squares over the first axis."""
    unit = power_of_two(np.abs(values).max(axis=0))
    return np.sqrt(np.square(values / unit).sum(axis=0)) * unit
