r"""Weighted means of parameters with estimated weights, :math:`\sum_kw_k\theta_k/\sum_kw_k`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["merged", "shrunk"]

Array = NDArray[np.floating]


def shrunk(information: Array, variance: Array) -> tuple[Array, Array]:
    r"""Return :math:`w=F^3/(F^2+V)` and :math:`\mathrm dw/\mathrm dF`: a standard error as large as F halves its weight."""
    square = np.square(information)
    nothing = (square == 0) & (variance == 0)
    total = np.where(nothing, 1, square + variance)
    return information * square / total, np.where(nothing, 1, (square**2 + 3 * square * variance) / total**2)


def merged(theta: Array, weights: Array, slopes: Array, variance: Array) -> tuple[Array, Array, Array]:
    r"""Return the merged parameters, the share of each network, and the variance by the delta method, for arrays (K, P).

    :math:`\partial\bar\theta/\partial w_k=(\theta_k-\bar\theta)/\sum_jw_j`. Where all weights are 0, networks count alike.
    """
    total = weights.sum(axis=0)
    known = total > 0
    shares = np.where(known, weights / np.where(known, total, 1), 1 / len(theta))
    mean = (shares * theta).sum(axis=0)
    pull = np.where(known, (theta - mean) / np.where(known, total, 1), 0)
    return mean, shares, (np.square(pull * slopes) * variance).sum(axis=0)
