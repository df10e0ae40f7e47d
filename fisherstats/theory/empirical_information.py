r"""Empirical information under label distributions q other than the model's, its variance, and the signs of its bias.

r = t(y) - E[t] is taken about the mean under the *model*, so the moments under q are not central (Corollaries G.1, G.2). q is
given by the probabilities of finitely many labels, or as another distribution of the family. With :math:`\delta=t-E_q[t]` and
:math:`c=g^\top(E_q[t]-E[t])`, :math:`g^\top r=g^\top\delta+c`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import like
from fisherstats.engines import primitives
from fisherstats.models.derivatives import Forward
from fisherstats.models.families import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.mean_shift import mean_shift
from fisherstats.models.families.quadratic_and_linear import combined_variance
from fisherstats.theory.fisher import unit_factors

__all__ = ["bias_eigenvalues", "empirical_factors", "empirical_variance_factors", "signs"]

Array = NDArray[np.floating]


def _residuals_along(law: Law, u: Array) -> Array:
    """Return u.r for each label (classes, or 0 and 1) of a law with finitely many, (n, K, k)."""
    if isinstance(law, CategoricalLaw):
        return law.centred(u)
    labels = [np.full_like(law.h, label, shape=(len(law.h), 1)) for label in (0, 1)]
    return np.stack([law.residual(y) for y in labels], axis=1) * u


def empirical_factors(law: Law, q: Array | Law, forward: Forward, G: Sequence[Array | None]) -> list[Array]:
    r"""Return :math:`E_q[(g^\top r)^2]` per unit, (n, units): times :math:`\bar h^2` the diagonal of I_q (eq 17 of 2024).

    Under a law of the family it is :math:`g^\top I_qg+c^2`. For a layer given as None the units are the outputs.
    """
    if isinstance(q, Law):
        shifts = [_own_shift(law, q) if G_l is None else mean_shift(law, q, G_l) for G_l in G]
        return [own + shift**2 for own, shift in zip(unit_factors(q, forward, G), shifts, strict=True)]
    weights = like(q, law.h)
    means = []
    for G_l in G:
        if G_l is None and isinstance(law, CategoricalLaw):
            own, others = _shares(weights)
            means.append(law._kept(own * np.square(law.complement) + others * np.square(law.p)))
        else:
            means.append(primitives.weighted_square(weights, _residuals_along(law, law._outputs if G_l is None else G_l)))
    return means


def empirical_variance_factors(law: Law, q: Array | Law, G: Sequence[Array | None]) -> list[Array]:
    r"""Return :math:`\mathrm{Var}_q((g^\top r)^2)` per unit: times :math:`\bar h^4` the single-label variance (Corollary G.1).

    Under a law of the family it is :math:`\mathrm{Var}_q((g^\top\delta)^2+2c\,g^\top\delta)
    =M_q(g,g,g,g)+4c\,E_q[(g^\top\delta)^3]+4c^2\,g^\top I_qg`, without subtraction of terms. Along the output a of a softmax
    r is 1 - p_a or -p_a, whose squares are 1 - 2 p_a apart.
    """
    variances = []
    for G_l in G:
        if G_l is None and isinstance(law, CategoricalLaw):
            own, others = (q.p, q.complement) if isinstance(q, CategoricalLaw) else _shares(like(q, law.h))
            variances.append(law._kept(own * others * np.square(law.apart)))
            continue
        g = law._outputs if G_l is None else G_l
        if isinstance(q, Law):
            variances.append(combined_variance(q, g, 2 * mean_shift(law, q, g)[:, None, :] * g))
        else:
            variances.append(primitives.weighted_square_variance(like(q, law.h), _residuals_along(law, g)))
    return variances


def _own_shift(law: Law, q: Law) -> Array:
    """Return E_q[t_a] - E[t_a] of every output, (n, T): for classes, at the most probable one as the sum of the others."""
    if not (isinstance(law, CategoricalLaw) and isinstance(q, CategoricalLaw)):
        return mean_shift(law, q, law._outputs)
    others = np.where(law._are(law.top), 0, q.p - law.p)
    return law._kept(np.where(law._are(law.top), -others.sum(axis=1, keepdims=True), others))


def _shares(q: Array) -> tuple[Array, Array]:
    """Return probabilities (n, C), and those of all other classes together, at the most probable one as their sum."""
    top = np.argmax(q, axis=1)[:, None]
    others = q.sum(axis=1, keepdims=True) - q
    rest = q.copy()
    np.put_along_axis(rest, top, 0, axis=1)
    np.put_along_axis(others, top, rest.sum(axis=1, keepdims=True), axis=1)
    return q, others


def bias_eigenvalues(law: Law, residual: Array) -> Array:
    r"""Return the eigenvalues of :math:`rr^\top-I(h)` (Lemma 6.1 of 2024 for a single label), ascending, (n, T)."""
    return np.linalg.eigvalsh(residual[:, :, None] * residual[:, None, :] - law.information())


def signs(eigenvalues: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return how many eigenvalues are positive, negative and, up to rounding, zero, (n,) each."""
    size = np.abs(eigenvalues).max(axis=1, keepdims=True)
    rounding = 16 * np.finfo(eigenvalues.dtype).eps * eigenvalues.shape[1] * size
    positive, negative = (eigenvalues > rounding).sum(axis=1), (eigenvalues < -rounding).sum(axis=1)
    return positive, negative, eigenvalues.shape[1] - positive - negative
