"""The law of a label as a finite list of labels and weights for every family, by enumeration or quadrature.

Counts and classes are enumerated. A continuous label is a smooth function of a coordinate on the whole line (its logarithm
where it is positive), in which the density decays exponentially or faster on both sides, so that the trapezoidal rule is exact to
rounding. Densities come from `log_prob`, and their sum is checked to be one.
"""

from __future__ import annotations

import itertools

import numpy as np

import fisherstats as fs

__all__ = ["labels_and_weights"]

F = fs.families
LINE = (-40.0, 40.0, 0.4)
LOGARITHM = (-32.0, 6.0, 0.14)
LOGARITHM_OF_SMALL_SHAPE = (-150.0, 6.0, 0.12)
LOG_RATIO = (-110.0, 110.0, 0.5)
LARGEST_COUNT = 150


def _axis(low, high, step):
    return np.arange(low, high + step / 2, step), step


def _one_output(family):
    """Labels of one output and the logarithm of the cell that each stands for."""
    if isinstance(family, F.Bernoulli | F.Binomial):
        labels = np.arange(getattr(family, "n_trials", 1) + 1.0)
        return labels, np.zeros(len(labels))
    if isinstance(family, F.Poisson | F.NegativeBinomial | F.Geometric):
        return np.arange(LARGEST_COUNT + 1.0), np.zeros(LARGEST_COUNT + 1)
    if isinstance(family, F.Gaussian | F.GaussianMeanVariance):
        y, step = _axis(*LINE)
        return y, np.full(len(y), np.log(step))
    s, step = _axis(*(LOGARITHM_OF_SMALL_SHAPE if isinstance(family, F.GammaShapeRate) else LOGARITHM))
    sides = 2 if isinstance(family, F.Laplace) else 1  # the statistic is even in y
    return np.exp(s), s + np.log(sides * step)


def _side_by_side(laws):
    labels = [np.concatenate(rows) for rows in itertools.product(*(y for y, _ in laws))]
    cells = [sum(logs) for logs in itertools.product(*(cell for _, cell in laws))]
    return np.array(labels), np.array(cells)


def _grid(family):
    """Labels (K, columns) and the logarithms of their cells (K,)."""
    if isinstance(family, F.Product):
        return _side_by_side([_grid(part) for part in family.families])
    if isinstance(family, F.Categorical):
        return np.arange(float(family.n_classes))[:, None], np.zeros(family.n_classes)
    if isinstance(family, F.Multinomial):
        counts = [c for c in itertools.product(range(family.n_trials + 1), repeat=family.n_classes) if sum(c) == family.n_trials]
        return np.array(counts, dtype=float), np.zeros(len(counts))
    if isinstance(family, F.Dirichlet):
        a, step = _axis(*LOG_RATIO)
        ratios = np.array([(*pair, 0.0) for pair in itertools.product(a, a)])
        logs = ratios - np.logaddexp.reduce(ratios, axis=1, keepdims=True)
        return np.exp(logs), logs.sum(axis=1) + 2 * np.log(step)
    columns = 1 if isinstance(family, F.GaussianMeanVariance | F.GammaShapeRate) else family.n_outputs
    y, cell = _one_output(family)
    return _side_by_side([(y[:, None], cell)] * columns)


def labels_and_weights(family, h):
    """Labels (K, columns), or class numbers (K,), and their weights (K,) at natural parameters h (T,)."""
    y, cell = _grid(family)
    if family.labels_are_classes:
        y = y[:, 0].astype(np.int64)
    weights = np.exp(family.log_prob(np.repeat(np.asarray(h)[None], len(y), axis=0), y) + cell)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-11)
    return y, weights
