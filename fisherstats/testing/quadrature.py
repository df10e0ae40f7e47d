"""Weighted labels that represent a family's distribution: the support if countable, a quadrature rule for a real label."""

from __future__ import annotations

import itertools

import numpy as np

from fisherstats.models.families import Family

__all__ = ["weighted_labels"]

MOST_LABELS = 200_000
NEGLIGIBLE = -80.0
"""Labels whose log probability is this far below the largest are omitted."""

MOST_PANELS = 2_000
HIGHEST = 200.0
"""Larger log densities are assumed to be wrong, and clipped so that their sums stay finite."""

# Lobatto's nodes include both ends, so that no kink hides between the last node and the end of a panel.
_POLYNOMIAL = np.polynomial.legendre.Legendre.basis(15)
NODES = np.concatenate([[-1.0], np.sort(_POLYNOMIAL.deriv().roots().real), [1.0]])
WEIGHTS = 2 / (16 * 15 * _POLYNOMIAL(NODES) ** 2)


def weighted_labels(family: Family, h: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return labels and weights p(y | h) dy of one input, starting from the labels `sample`; None if there is no rule.

    Parameters
    ----------
    family : Family
        The family.
    h : numpy.ndarray
        Natural parameters (1, T).
    sample : numpy.ndarray
        Labels (n_draws, columns), or (n_draws,) for class numbers.

    Returns
    -------
    tuple of numpy.ndarray or None
        Labels as `check_labels` returns them, and their weights; None for several columns of real numbers.
    """
    if (sample == np.floor(sample)).all():
        return _countable(family, h, sample)
    if sample.ndim == 2 and sample.shape[1] == 1:
        return _quadrature(family, h, sample[:, 0])
    return None


def _log_prob(family: Family, h: np.ndarray, labels: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):  # a label far outside the bulk may overflow on the way to a log probability of -inf
        return np.asarray(family.log_prob(np.repeat(h, len(labels), axis=0), labels), dtype=np.float64)


def _accepted(family: Family, labels: np.ndarray) -> np.ndarray:
    """Return which labels the family's check accepts, by bisecting rejected sets."""
    try:
        family.check_labels(labels, len(labels))
    except ValueError:
        if len(labels) == 1:
            return np.zeros(1, bool)
        half = len(labels) // 2
        return np.concatenate([_accepted(family, labels[:half]), _accepted(family, labels[half:])])
    return np.ones(len(labels), bool)


def _countable(family: Family, h: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return all labels reachable from the sample by unit steps in a column, or opposite unit steps in two."""
    columns = 1 if sample.ndim == 1 else sample.shape[1]
    units = np.eye(columns, dtype=np.int64)
    exchanges = [units[a] - units[b] for a, b in itertools.permutations(range(columns), 2)]
    steps = np.concatenate([units, -units, *[one[None] for one in exchanges]])

    def shaped(labels: np.ndarray) -> np.ndarray:
        return labels[:, 0] if sample.ndim == 1 else labels

    frontier = np.unique(sample.reshape(len(sample), columns).astype(np.int64), axis=0)
    known = {tuple(label) for label in frontier.tolist()}
    labels, logs = [frontier], [_log_prob(family, h, shaped(frontier))]
    while len(frontier):
        near = (frontier[:, None] + steps).reshape(-1, columns)
        new = [label for label in dict.fromkeys(map(tuple, near.tolist())) if label not in known]
        known.update(new)
        if len(known) > MOST_LABELS:
            return None
        frontier = np.array(new, dtype=np.int64).reshape(-1, columns)
        if len(frontier):
            frontier = frontier[_accepted(family, shaped(frontier))]
        if len(frontier):
            log_prob = _log_prob(family, h, shaped(frontier))
            kept = log_prob > max(log.max(initial=-np.inf) for log in logs) + NEGLIGIBLE
            frontier = frontier[kept]
            labels.append(frontier)
            logs.append(log_prob[kept].reshape(-1))
    return shaped(np.concatenate(labels)), np.exp(np.concatenate(logs))


def _quadrature(family: Family, h: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of adaptive Lobatto quadrature over the real line, or over log y > -700."""
    positive = not _accepted(family, np.array([[-1.0]]))[0]
    x = np.log(sample) if positive else sample
    # Panels grow away from the middle of the sample, as far as a distribution with a fourth moment can have mass.
    edges = np.median(x) + np.std(x) * np.sinh(np.linspace(-10, 10, 81))
    if positive:
        edges = np.clip(edges, -700.0, 700.0)
    panels = np.stack([edges[:-1], edges[1:]], axis=1)
    panels = panels[panels[:, 1] > panels[:, 0]]
    labels, weights = [], []
    for _ in range(60):
        y, mass = _panel_rule(family, h, panels, positive)
        halves = np.stack([panels, panels], axis=1)
        halves[:, 0, 1] = halves[:, 1, 0] = panels.mean(axis=1)
        _, finer = _panel_rule(family, h, halves.reshape(-1, 2), positive)
        error = np.abs(mass.sum(axis=1) - finer.reshape(len(panels), -1).sum(axis=1))
        # A density that is not normalised may be rough everywhere; its sum is then wrong, and the test fails.
        rough = (error > 1e-15) & (len(panels) < MOST_PANELS)
        labels.append(y[~rough].ravel())
        weights.append(mass[~rough].ravel())
        panels = halves[rough].reshape(-1, 2)
        if not len(panels):
            break
    found, mass = np.concatenate(labels), np.concatenate(weights)
    return found[mass > 0][:, None], mass[mass > 0]


def _panel_rule(family: Family, h: np.ndarray, panels: np.ndarray, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and weights p dy of every panel, shape (panels, nodes)."""
    width = (panels[:, 1] - panels[:, 0])[:, None] / 2
    x = panels.mean(axis=1)[:, None] + width * NODES
    y = np.exp(x) if positive else x
    log_density = _log_prob(family, h, y.reshape(-1, 1)).reshape(y.shape)
    if positive:
        log_density = log_density + x
    return y, np.exp(np.minimum(log_density, HIGHEST)) * width * WEIGHTS
