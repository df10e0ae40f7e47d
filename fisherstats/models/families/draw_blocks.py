"""Draws of individual labels, in slabs of bounded memory, for distributions without a sampler of sufficient statistics."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from fisherstats.core.validation.families import draw_count
from fisherstats.models.families.base import Draw, MatrixRoot

__all__ = ["SLAB", "DrawsLabels", "draw_labels", "row_slabs"]

# Numbers held at once while iterating over labels or patterns.
SLAB = 2**18


@runtime_checkable
class DrawsLabels(Protocol):
    """A law that draws residuals of single labels."""

    h: np.ndarray

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta = t(y) - E[t] of `count` labels of one input, float64, shape (count, T)."""
        ...


def draw_labels(rng: np.random.Generator, law: DrawsLabels, n_draws: int, second_moment: bool) -> Draw:
    """Return the means of delta and delta delta' over n_draws labels of every input.

    The second moment is kept as the triangular factor of a QR decomposition, updated slab by slab. Householder reflections are
    accurate column by column, so an output of tiny variance keeps its relative accuracy.
    """
    draw_count(n_draws)
    n, outputs = law.h.shape
    mean, root = np.zeros((n, outputs)), np.zeros((n, min(n_draws, outputs), outputs))
    # As many inputs at once as fit in a slab.
    step = max(1, SLAB // (n_draws * outputs))
    for start in range(0, n, step):
        rows = range(start, min(start + step, n))
        factor: np.ndarray = np.empty((len(rows), 0, outputs))
        for count in row_slabs(n_draws, outputs):
            delta = np.stack([law.labels(rng, row, count) for row in rows])
            mean[start : rows.stop] += delta.sum(axis=1)
            if second_moment:
                stacked = np.concatenate([factor, delta], axis=1)
                factor = stacked if stacked.shape[1] <= outputs else np.asarray(np.linalg.qr(stacked, mode="r"))
        if second_moment:
            root[start : rows.stop] = factor / np.sqrt(n_draws)
    dtype = law.h.dtype
    return Draw((mean / n_draws).astype(dtype), MatrixRoot(root.astype(dtype)) if second_moment else None)


def row_slabs(n_draws: int, numbers: int) -> list[int]:
    """Return the number of labels per slab, for labels of the given size."""
    step = max(1, SLAB // numbers)
    whole, rest = divmod(n_draws, step)
    return [step] * whole + [rest] * (rest > 0)
