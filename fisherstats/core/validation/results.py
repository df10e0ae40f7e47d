"""Check of returned results: every number is finite, or a value that the schema allows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import finite_sum
from fisherstats.core.schema import VARIABLES
from fisherstats.core.schema.values import INFINITE, UNDEFINED

__all__ = ["meaningful"]

_SLAB = 2**20
"""Numbers checked at once, so that a check takes little memory compared to the array."""


def meaningful(key: str, values: NDArray[np.floating]) -> None:
    """Require finite numbers; inf and nan where the schema gives them a meaning."""
    if finite_sum(values):
        return
    flat = values.reshape(-1)
    for start in range(0, flat.size, _SLAB):
        part = flat[start : start + _SLAB]
        accepted = np.isfinite(part)
        if key in INFINITE:
            accepted |= np.isinf(part)
        if key in UNDEFINED:
            accepted |= np.isnan(part)
        if accepted.all():
            continue
        at = start + int(np.argmin(accepted))
        index = tuple(int(i) for i in np.unravel_index(at, values.shape))
        place = f" at index {index}" if index else ""
        raise ValueError(
            f"`{VARIABLES[key].name}` of the result must be finite{' or inf' if key in INFINITE else ''}, got {flat[at]}{place}: "
            f"an intermediate value exceeds the range of {values.dtype}; scale the inputs, the weights, or an argument "
            "that is very large or very small."
        )
