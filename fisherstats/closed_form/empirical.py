r"""Empirical information under label distributions q other than the model's, its variance, and the signs of its bias.

r = t(y) - E[t] is taken about the mean under the *model*, so the moments under q are not central (Corollaries G.1, G.2). q is
given by the probabilities of finitely many labels, or as another law of the family. With :math:`\delta=t-E_q[t]` and
:math:`c=g^\top(E_q[t]-E[t])`, :math:`g^\top r=g^\top\delta+c`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fisherstats.arrays import like
from fisherstats.closed_form.fisher import unit_factors
from fisherstats.engines import primitives
from fisherstats.model.derivatives import Forward
from fisherstats.model.families import Law
from fisherstats.model.families.categorical import CategoricalLaw
from fisherstats.model.families.combined import combined_variance
from fisherstats.model.families.shifted import mean_shift

__all__ = ["bias_eigenvalues", "empirical_factors", "empirical_variance_factors", "signs"]

Array = NDArray[np.floating]


def _residuals_along(law: Law, u: Array) -> Array:
    """Return u.r for each label (classes, or 0 and 1) of a law with finitely many, (n, K, k)."""
    if isinstance(law, CategoricalLaw):
        return law.centred(u)
    labels = [np.full_like(law.h, label, shape=(len(law.h), 1)) for label in (0, 1)]
    along: Array = np.stack([law.residual(y) for y in labels], axis=1) * u
    return along


def empirical_factors(law: Law, q: Array | Law, passed: Forward, G: Sequence[Array]) -> list[Array]:
    r"""Return :math:`E_q[(g^\top r)^2]` per unit, (n, units): times :math:`\bar h^2` the diagonal of I_q (eq 17 of 2024).

    Under a law of the family it is :math:`g^\top I_qg+c^2`.
    """
    if isinstance(q, Law):
        return [own + mean_shift(law, q, G_l) ** 2 for own, G_l in zip(unit_factors(q, passed, G), G, strict=True)]
    return [primitives.weighted_square(like(q, law.h), _residuals_along(law, G_l)) for G_l in G]


def empirical_variance_factors(law: Law, q: Array | Law, G: Sequence[Array]) -> list[Array]:
    r"""Return :math:`\mathrm{Var}_q((g^\top r)^2)` per unit: times :math:`\bar h^4` the single-label variance (Corollary G.1).

    Under a law of the family it is :math:`\mathrm{Var}_q((g^\top\delta)^2+2c\,g^\top\delta)
    =M_q(g,g,g,g)+4c\,E_q[(g^\top\delta)^3]+4c^2\,g^\top I_qg`, of which no terms are subtracted.
    """
    if isinstance(q, Law):
        return [combined_variance(q, G_l, 2 * mean_shift(law, q, G_l)[:, None, :] * G_l) for G_l in G]
    return [primitives.weighted_square_variance(like(q, law.h), _residuals_along(law, G_l)) for G_l in G]


def bias_eigenvalues(law: Law, residual: Array) -> Array:
    r"""Return the eigenvalues of :math:`rr^\top-I(h)` (Lemma 6.1 of 2024 for a single label), ascending, (n, T)."""
    values: Array = np.linalg.eigvalsh(residual[:, :, None] * residual[:, None, :] - law.information())
    return values


def signs(eigenvalues: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return how many eigenvalues are positive, negative and, up to rounding, zero, (n,) each."""
    size = np.abs(eigenvalues).max(axis=1, keepdims=True)
    rounding = 16 * np.finfo(eigenvalues.dtype).eps * eigenvalues.shape[1] * size
    positive, negative = (eigenvalues > rounding).sum(axis=1), (eigenvalues < -rounding).sum(axis=1)
    return positive, negative, eigenvalues.shape[1] - positive - negative
