"""Rounding error of the forward pass: the accuracy of the natural parameters that enter the bounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.margins import EPS
from fisherstats.models.derivatives import Forward
from fisherstats.models.network import MLP

__all__ = ["SENSITIVITY", "forward_rounding"]

Array = NDArray[np.floating]

SENSITIVITY = 8
"""The relative change of moments of order four is at most about this factor times the change of an output."""


def forward_rounding(model: MLP, forward: Forward) -> Array:
    r"""Return a running estimate of the rounding of the network's outputs, the largest of each input, (n,).

    The error of a pre-activation is a few eps of :math:`|W_l||\bar h_l|`, plus :math:`|W_l|` times the errors of the units below,
    each its slope times the error of its own pre-activation.
    """
    error, worst = np.zeros_like(forward.inputs[0]), np.zeros_like(forward.natural[:, 0])
    for layer, (weight, h_bar) in enumerate(zip(model.weights, forward.inputs, strict=True)):
        size = np.abs(weight).T
        own = EPS * (4 + float(np.sqrt(size.shape[0])))
        before = np.matmul(error + own * np.abs(h_bar), size)
        worst = np.maximum(worst, before.max(axis=1))
        if layer < len(forward.slopes):
            after = np.abs(forward.slopes[layer]) * before + EPS * np.abs(forward.inputs[layer + 1][:, : before.shape[1]])
            error = np.concatenate([after, np.zeros_like(after[:, :1])], axis=1) if model.bias[layer + 1] else after
    return worst
