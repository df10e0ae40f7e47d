"""The mean score at data labels: the gradient of the mean log-likelihood by the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.execution import Steps
from fisherstats.quantities._run import Call

__all__ = ["mean_score", "squared_batches"]

Array = NDArray[np.floating]


def mean_score(call: Call, data_labels: NDArray[Any]) -> Steps[NDArray[np.float64]]:
    """Return the mean over inputs of the scores at validated data labels, (P,)."""

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        residual = law.residual(data_labels[first_input : first_input + len(x)])
        units = [np.einsum("nt,nto->no", residual, G) for G in call.network.jacobians(forward, differences=False)]
        return [np.matmul(one.T, inputs).ravel() for one, inputs in zip(units, forward.inputs, strict=True)]

    layers = yield from call.mean(block, call.block_rows())
    return np.concatenate(layers).astype(np.float64)


def squared_batches(size: Any, n_inputs: int) -> tuple[Any, Any]:
    r"""Return the weights with which random batches of b of n inputs average their squared mean scores.

    Drawn without replacement, the expectation is :math:`\frac1b(1-\frac{b-1}{n-1})\,\overline{g^2}+\frac{(b-1)n}{b(n-1)}\,\bar
    g^2`: the empirical Fisher information at the first weight, the square of the mean score at the second.
    """
    if n_inputs == 1:
        return 1.0, 0.0
    return (1 - (size - 1) / (n_inputs - 1)) / size, (size - 1) * n_inputs / (size * (n_inputs - 1))
