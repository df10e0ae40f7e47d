r"""Closed-form variances of the score and the Hessian estimator, and their covariance.

All of them are for one label; N independent labels divide them by N.  r = t(y) - E[t], G and S as in `models.derivatives`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.models.derivatives import Forward
from fisherstats.models.families import Law
from fisherstats.models.families.quadratic_forms import Squares, form_moments
from fisherstats.theory.fisher import unit_factors

__all__ = [
    "Group",
    "entry_factors",
    "group_moments",
    "hessian_variance_factors",
    "layer_groups",
    "score_variance_factors",
    "under_design",
    "unit_moments",
]

Array = NDArray[np.floating]


def score_variance_factors(law: Law, forward: Forward, G: Sequence[Array | None]) -> list[Array]:
    r"""Return :math:`M(g,g,g,g)=\mathrm{Var}((g^\top r)^2)`, g = G_l[:,o]: times :math:`\bar h^4` it is V_1 (Lemma 3.1).

    Without a link, G of the last layer is the identity, and may be None.
    """
    own = law.own_square_variance() if forward.own_outputs else law.square_variance(_given(G[-1]))
    return [*(law.square_variance(_given(G_l)) for G_l in G[:-1]), own]


def _given(G_l: Array | None) -> Array:
    assert G_l is not None
    return G_l


def hessian_variance_factors(law: Law, S: Sequence[Array | None]) -> list[Array | None]:
    r"""Return :math:`s^\top I(h)s`, s = S_l[:,o]: times :math:`\bar h^4` it is V_2 (Lemma 3.1); None where it is zero."""
    return [None if S_l is None else law.diagonal(S_l) for S_l in S]


def entry_factors(law: Law, G: Sequence[Array | None], S: Sequence[Array | None]) -> tuple[list[Array], ...]:
    r"""Return the factors of both variances and of the covariance of the two estimators, with the moments formed together.

    The variances are those of the two functions above; the covariance is :math:`-E[(g^\top r)^2\,s^\top r]` times
    :math:`\bar h^4`.
    """
    score: list[Any] = []
    hessian: list[Any] = []
    cross: list[Any] = []
    for G_l, S_l in zip(G, S, strict=True):
        if S_l is None:
            # Without a link S of the last layer is zero, and G the identity.
            score.append(law.own_square_variance() if G_l is None else law.square_variance(G_l))
            hessian.append(None)
            cross.append(None)
            continue
        variance, curved, third = law.joint_moments(_given(G_l), S_l)
        score.append(variance)
        hessian.append(curved)
        cross.append(np.subtract(0.0, third, out=third))
    return score, hessian, cross


@dataclass(frozen=True)
class Group:
    """A group of parameters: its information per input is r' A r with A = sum J_i J_i', about s = sum d2h/dtheta_i^2."""

    squares: Squares
    """A, given by the directions whose squares sum to r' A r."""
    linear: Array | None
    """s, (n, T), or (n, T - 1) of differences; None where it is zero."""
    size: int


def layer_groups(
    G: Sequence[Array | None], S: Sequence[Array | None], inputs: Sequence[Array], sizes: Sequence[int], whole_model: bool
) -> list[Group]:
    """Return each layer as a group, or all of them as one; G of the last layer may be None, for the identity."""
    groups = []
    for G_l, S_l, h_bar, size in zip(G, S, inputs, sizes, strict=True):
        norm = np.einsum("nd,nd->n", h_bar, h_bar)[:, None]
        groups.append(Group([(norm, G_l)], None if S_l is None else norm * S_l.sum(axis=2), size))
    if not whole_model:
        return groups
    curved = [one.linear for one in groups if one.linear is not None]
    total = np.stack(curved).sum(axis=0) if curved else None
    return [Group([pair for one in groups for pair in one.squares], total, sum(sizes))]


def group_moments(law: Law, groups: Sequence[Group]) -> tuple[Array, Array, Array, Array]:
    r"""Return I, V_1, V_2 and C_12 of the mean entry of each group, (n, g).

    Per input the mean score entry is :math:`r^\top A_gr/|g|` and the mean Hessian entry its information minus
    :math:`s_g^\top r/|g|` (Theorems 4 and 6 of 2021 contracted over the group).
    """
    moments = []
    for one in groups:
        mean, variance, third = form_moments(law, one.squares, one.linear)
        curved = np.zeros_like(mean) if one.linear is None else law.diagonal(one.linear[:, :, None])[:, 0]
        moments.append((mean / one.size, variance / one.size**2, curved / one.size**2, 0.0 - third / one.size**2))
    information, score, hessian, cross = (np.stack(one, axis=1) for one in zip(*moments, strict=True))
    return information, score, hessian, cross


def unit_moments(
    law: Law, of_labels: Law, forward: Forward, G: Sequence[Array | None], S: Sequence[Array | None]
) -> tuple[Array, Array, Array, Array]:
    r"""Return I, V_1, V_2 and C_12 of the mean entry of each unit's row of weights, (n, total units).

    A row's A_g is :math:`|\bar h_l|^2 g g^\top`, so the moments of single entries apply with the squared norm in place of the
    squared layer input. The variances are those of `of_labels`, which differs from the law where labels are stratified.
    """
    columns: tuple[list[Array], ...] = ([], [], [], [])
    own = unit_factors(law, forward, G), score_variance_factors(of_labels, forward, G)
    for information_l, score_l, G_l, S_l, h_bar in zip(*own, G, S, forward.inputs, strict=True):
        mean_square = (np.einsum("nd,nd->n", h_bar, h_bar) / h_bar.shape[1])[:, None]
        columns[0].append(information_l * mean_square)
        columns[1].append(score_l * mean_square**2)
        if S_l is None:
            columns[2].append(np.zeros_like(columns[0][-1]))
            columns[3].append(np.zeros_like(columns[0][-1]))
        else:
            columns[2].append(of_labels.diagonal(S_l) * mean_square**2)
            columns[3].append(0.0 - of_labels.third_moment(_given(G_l), S_l) * mean_square**2)
    information, score, hessian, cross = (np.concatenate(one, axis=1) for one in columns)
    return information, score, hessian, cross


def under_design(
    mean_variance: Array, spread: Array | None, n_draws: int, n_inputs: int, design: str, population: int | None
) -> Array:
    r"""Return the variance of the mean over inputs, from the mean single-label variance (Theorem 4.7 of 2024).

    `spread` is the variance over inputs of I(theta|x), ddof 1. Fixed inputs: :math:`E_xV/(nN)`. Random inputs:
    :math:`(s_x^2+E_xV/N)/n`. m of n_all inputs without replacement: :math:`(1-m/n_{all})s_x^2/m+E_xV/(Nm)`. Random inputs and
    exact labels (the information in closed form): :math:`s_x^2/n`, the Rao-Blackwell limit. The same holds for the covariance of
    the two estimators.
    """
    if design == "exact_labels" and spread is not None:
        return spread / n_inputs
    labels = mean_variance / (n_draws * n_inputs)
    if design == "fixed" or spread is None:
        return labels
    kept = 1.0 if population is None else 1.0 - n_inputs / population
    return labels + kept * spread / n_inputs
