r"""Closed-form variances of the score and the Hessian estimator, and their covariance.

All of them are for one label; N independent labels divide them by N.  r = t(y) - E[t], G and S as in `model.derivatives`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.arrays import like
from fisherstats.closed_form.fisher import unit_factors
from fisherstats.model.derivatives import Forward
from fisherstats.model.families import Law

__all__ = [
    "Groups",
    "entry_factors",
    "group_moments",
    "hessian_variance_factors",
    "layer_groups",
    "score_variance_factors",
    "under_design",
    "unit_moments",
]

Array = NDArray[np.floating]


def score_variance_factors(law: Law, passed: Forward, G: Sequence[Array]) -> list[Array]:
    r"""Return :math:`M(g,g,g,g)=\mathrm{Var}((g^\top r)^2)`, g = G_l[:,o]: times :math:`\bar h^4` it is V_1 (Lemma 3.1).

    Without a link, G of the last layer is the identity.
    """
    own = law.own_square_variance() if passed.link_slope is None else law.square_variance(G[-1])
    return [*(law.square_variance(G_l) for G_l in G[:-1]), own]


def hessian_variance_factors(law: Law, S: Sequence[Array | None]) -> list[Array | None]:
    r"""Return :math:`s^\top I(h)s`, s = S_l[:,o]: times :math:`\bar h^4` it is V_2 (Lemma 3.1); None where it is zero."""
    return [None if S_l is None else law.diagonal(S_l) for S_l in S]


def entry_factors(law: Law, G: Sequence[Array], S: Sequence[Array | None]) -> tuple[list[Array], ...]:
    r"""Return the factors of both variances and of the covariance of the two estimators, with the moments formed together.

    The variances are those of the two functions above; the covariance is :math:`-E[(g^\top r)^2\,s^\top r]` times
    :math:`\bar h^4`.
    """
    score: list[Any] = []
    hessian: list[Any] = []
    cross: list[Any] = []
    for layer, (G_l, S_l) in enumerate(zip(G, S, strict=True)):
        if S_l is None:
            # S of the last layer is zero without a link, and G then the identity.
            score.append(law.own_square_variance() if layer == len(G) - 1 else law.square_variance(G_l))
            hessian.append(None)
            cross.append(None)
            continue
        variance, curved, third = law.joint_moments(G_l, S_l)
        score.append(variance)
        hessian.append(curved)
        cross.append(np.subtract(0.0, third, out=third))
    return score, hessian, cross


@dataclass(frozen=True)
class Groups:
    """Sums over groups of parameters, per input: A_g = sum J_i J_i', s_g = sum d2h/dtheta_i^2, and the group sizes."""

    quadratic: Array
    """A_g, (n, g, T, T)."""
    linear: Array
    """s_g, (n, g, T)."""
    sizes: NDArray[np.int64]


def layer_groups(
    G: Sequence[Array], S: Sequence[Array | None], inputs: Sequence[Array], sizes: Sequence[int], whole_model: bool
) -> Groups:
    """Return the sums over each layer's parameters, or over all of them."""
    quadratic, linear = [], []
    for G_l, S_l, h_bar in zip(G, S, inputs, strict=True):
        norm = np.einsum("nd,nd->n", h_bar, h_bar)
        quadratic.append(norm[:, None, None] * np.matmul(G_l, G_l.transpose(0, 2, 1)))
        linear.append(np.zeros_like(G_l, shape=G_l.shape[:2]) if S_l is None else norm[:, None] * S_l.sum(axis=2))
    A, s, counts = np.stack(quadratic, axis=1), np.stack(linear, axis=1), np.asarray(sizes)
    if whole_model:
        return Groups(A.sum(axis=1, keepdims=True), s.sum(axis=1, keepdims=True), counts.sum(keepdims=True))
    return Groups(A, s, counts)


def group_moments(law: Law, groups: Groups) -> tuple[Array, Array, Array, Array]:
    r"""Return I, V_1, V_2 and C_12 of the mean entry of each group, (n, g).

    Per input the mean score entry is :math:`r^\top A_gr/|g|` and the mean Hessian entry its information minus
    :math:`s_g^\top r/|g|` (Theorems 4 and 6 of 2021 contracted over the group).
    """
    sizes = like(groups.sizes.astype(groups.linear.dtype), groups.linear)
    curved = groups.linear.transpose(0, 2, 1)
    return (
        law.quadratic_mean(groups.quadratic) / sizes,
        law.quadratic_variance(groups.quadratic) / sizes**2,
        law.diagonal(curved) / sizes**2,
        0.0 - law.quadratic_third_moment(groups.quadratic, groups.linear) / sizes**2,
    )


def unit_moments(law: Law, passed: Forward, G: Sequence[Array], S: Sequence[Array | None]) -> tuple[Array, Array, Array, Array]:
    r"""Return I, V_1, V_2 and C_12 of the mean entry of each unit's row of weights, (n, total units).

    A row's A_g is :math:`|\bar h_l|^2 g g^\top`, so the moments of single entries serve with the squared norm in place of
    the squared layer input.
    """
    columns: tuple[list[Array], ...] = ([], [], [], [])
    own = unit_factors(law, passed, G), score_variance_factors(law, passed, G)
    for information_l, score_l, G_l, S_l, h_bar in zip(*own, G, S, passed.inputs, strict=True):
        mean_square = (np.einsum("nd,nd->n", h_bar, h_bar) / h_bar.shape[1])[:, None]
        columns[0].append(information_l * mean_square)
        columns[1].append(score_l * mean_square**2)
        if S_l is None:
            columns[2].append(np.zeros_like(columns[0][-1]))
            columns[3].append(np.zeros_like(columns[0][-1]))
        else:
            columns[2].append(law.diagonal(S_l) * mean_square**2)
            columns[3].append(0.0 - law.third_moment(G_l, S_l) * mean_square**2)
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
