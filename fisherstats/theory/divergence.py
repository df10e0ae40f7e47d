r"""Exact Kullback-Leibler divergence between two members of a family: the Bregman divergence of its log-partition function."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import like, on_device, on_host
from fisherstats.models.families import Family, Law
from fisherstats.models.families.divergences import divergence

__all__ = ["bregman"]

Array = NDArray[np.floating]


def bregman(family: Family, law: Law, other: Array) -> Array:
    r"""Return :math:`\mathrm{KL}[p_h\|p_{h'}]=F(h')-F(h)-(h'-h)^\top\eta(h)`, (n,), for h' in `other` (n, T).

    It is a function of the two distributions only: no label is drawn.
    """
    if on_device(law.h):
        # Some families integrate adaptively on the host: only one number per input is copied back.
        found = bregman(family, family.at(on_host(law.h)), on_host(other))
        return cast(Array, like(found, law.h))
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        return divergence(law, family, other)
