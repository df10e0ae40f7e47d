r"""Exact Kullback-Leibler divergence between two members of a family: the Bregman divergence of its log-partition function."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from fisherstats.arrays import like, on_device, on_host
from fisherstats.model.families import Family, Law

__all__ = ["bregman"]

Array = NDArray[np.floating]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_CANCELLED = 1e-4
"""Below this fraction of its terms the difference of log-likelihoods has lost too many digits."""


def bregman(family: Family, law: Law, other: Array) -> Array:
    r"""Return :math:`\mathrm{KL}[p_h\|p_{h'}]=F(h')-F(h)-(h'-h)^\top\eta(h)`, (n,), for h' in `other` (n, T).

    F enters by the log-likelihood of one label, whichever it is. Where that cancels, it is
    :math:`\int_0^1(1-t)\,s^\top I(h+ts)\,s\,dt` with s = h' - h, which has no sign to lose.
    """
    if on_device(law.h):
        # Labels are drawn, and read, on the host: one number per input goes back.
        found = bregman(family, family.at(on_host(law.h)), on_host(other))
        return cast(Array, like(found, law.h))
    step = other - law.h
    label = family.check_labels(family.sample(law.h, 0, 1)[0], len(step))
    terms = np.stack([family.log_prob(law.h, label), -family.log_prob(other, label), (law.residual(label) * step).sum(axis=1)])
    difference: Array = terms.sum(axis=0)
    close = difference <= _CANCELLED * np.abs(terms).sum(axis=0)
    if close.any():
        difference[close] = _integrated(family, law.h[close], step[close])
    return difference


def _integrated(family: Family, h: Array, step: Array) -> Array:
    total = np.zeros_like(h[:, 0])
    for node, weight in zip((1 + _NODES) / 2, _WEIGHTS / 2, strict=True):
        total += weight * (1 - node) * family.at(h + node * step).diagonal(step[:, :, None])[:, 0]
    return total
