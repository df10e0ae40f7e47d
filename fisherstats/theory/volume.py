r"""Volume, rank and effective dimensions from the spectrum of an information matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import power_of_two

__all__ = ["of_spectrum"]

Array = NDArray[np.floating]


def of_spectrum(values: Array, rank: int, tau: float) -> dict[str, float]:
    r"""Return rank, log volume, effective rank and dimension, and log det, for eigenvalues and a tau of any size.

    :math:`\tfrac12\sum\log\lambda`, :math:`(\sum\lambda)^2/\sum\lambda^2`, :math:`\sum\lambda/(\lambda+\tau)` and
    :math:`\tfrac12\sum\log(1+\lambda/\tau)`. Eigenvalues beyond the rank are rounding errors, which a small tau would count as
    directions.
    """
    values = values[:rank]
    relative = values / power_of_two(values.max(initial=0))
    total = relative.sum()
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        ratio, both = values / tau, values + tau
        shares = np.where(np.isfinite(both), values / both, 1 / (1 + tau / values))
        logs = np.where(np.isfinite(ratio), np.log1p(ratio), np.log(values) - np.log(tau))
    return {
        "rank": rank,
        "log_volume": np.log(values).sum() / 2,
        "effective_rank": total**2 / np.square(relative).sum() if total else 0.0,
        "effective_dimension": shares.sum(),
        "log_det": logs.sum() / 2,
    }
