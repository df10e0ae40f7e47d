r"""Random probes of the diagonal of the information, and the envelopes of the categorical information.

With :math:`\rho_k` the rows of a root of I(h) (:math:`\sum_k\rho_k\rho_k^\top=I(h)`) and :math:`R_k=\rho_k^\top J`, one probe
:math:`\xi` with independent entries of mean 0 and variance 1 gives :math:`\hat F_{ii}=(\sum_k\xi_kR_{ki})^2` with mean
:math:`\sum_kR_{ki}^2=I(\theta_i|x)`. Each input has its own probes and the aggregate is the mean over inputs. One probe over a
whole batch, :math:`(\sum_x\sum_k\xi_{xk}R_{xki})^2`, has the same mean up to the factor n, but the variance 2 (sum_x F_x)^2 where
separate ones have 2 sum_x F_x^2: its single backward pass per batch saves nothing here, where a backward pass returns the row of
each input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fisherstats.core import margins
from fisherstats.core.arrays import identity
from fisherstats.engines.primitives import pair_sum, sum_of_squares, weighted_square
from fisherstats.models.derivatives import Forward
from fisherstats.models.families import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.extremes import largest_eigenpairs
from fisherstats.models.families.quadratic_forms import white_norm, white_norm_apart
from fisherstats.theory.cancellation import uncancelled_variance
from fisherstats.theory.estimator_moments import Group, hessian_variance_factors, score_variance_factors
from fisherstats.theory.forward_rounding import SENSITIVITY

__all__ = ["class_envelopes", "group_variance", "label_variance_factors", "unit_variance", "variance_factors"]

Array = NDArray[np.floating]

_FEW_EIGENPAIRS = 16
"""Eigenpairs are computed one by one if the outputs outnumber them by at least this factor, as this is then faster."""


def variance_factors(law: Law, G: Sequence[Array | None], gaussian: bool) -> list[Array]:
    r"""Return the variance per unit of the squared probe: times :math:`\bar h^4` it is that of one probe (Sun 2026).

    Gaussian entries: :math:`2F_{ii}^2`. Rademacher entries: :math:`2(F_{ii}^2-\sum_kR_{ki}^4)=4\sum_{k<m}R_{ki}^2R_{mi}^2`, as
    the latter sum, which cannot cancel; it depends on the root. For a layer given as None the units are the outputs.
    """
    if gaussian:
        return [2 * np.square(law.own_diagonal() if G_l is None else law.diagonal(G_l)) for G_l in G]
    return [4 * (law.own_root_pairs() if G_l is None else pair_sum(np.square(law.rows(G_l)))) for G_l in G]


def unit_variance(law: Law, G: Sequence[Array | None], inputs: Sequence[Array], gaussian: bool) -> Array:
    """Return the variance of one probe of the mean entry of each unit's row of weights, (n, total units)."""
    factors = variance_factors(law, G, gaussian)
    means = [np.einsum("nd,nd->n", h_bar, h_bar) / h_bar.shape[1] for h_bar in inputs]
    return np.concatenate([factor * np.square(mean)[:, None] for factor, mean in zip(factors, means, strict=True)], axis=1)


def group_variance(law: Law, groups: Sequence[Group], gaussian: bool) -> Array:
    r"""Return the variance of one probe of the mean entry of each group, (n, g): :math:`\xi^\top W\xi/|g|`.

    With :math:`W_{km}=\rho_k^\top A_g\rho_m` it is :math:`2\|W\|_F^2` for Gaussian and that without the diagonal for Rademacher
    entries, over :math:`|g|^2`.
    """
    of_group = white_norm if gaussian else white_norm_apart
    return np.stack([2 * of_group(law, one.squares) / one.size**2 for one in groups], axis=1)


def label_variance_factors(
    estimator: str, law: Law, forward: Forward, G: Sequence[Array | None], S: Sequence[Array | None]
) -> Sequence[Array | None]:
    """Return the unit factors of the variance of one label, or of one probe, for any estimator of the diagonal."""
    if estimator == "score":
        return score_variance_factors(law, forward, G)
    if estimator == "hessian":
        return hessian_variance_factors(law, S)
    return variance_factors(law, G, estimator == "hutchinson_gaussian")


def class_envelopes(
    law: CategoricalLaw, G: Sequence[Array | None], rank: int, rounding: Array
) -> tuple[list[Array], list[Array], list[Array]]:
    r"""Return lower envelope, exact information and upper envelope per unit: times :math:`\bar h^2` they are the diagonals.

    :math:`\sum_{k\le r}\lambda_kv_kv_k^\top\preceq I(h)=\mathrm{diag}(p)-pp^\top\preceq\mathrm{diag}(p)` with the largest r
    eigenpairs of I(h) (Sun 2026), each with a margin for its rounding and that of the exact value. For a layer given as None the
    units are the outputs.

    Numerical eigenpairs are exact for a perturbed matrix, so the size of the perturbation times |u|^2 is subtracted; u is a
    direction minus its mean over the classes where only differences matter.
    """
    root, off = _root_of_largest(law, rank)
    outputs = law.h.shape[1]
    room = SENSITIVITY * rounding[:, None]
    exact = [law.own_diagonal() if G_l is None else law.diagonal(G_l) for G_l in G]
    lower: list[Array] = []
    upper: list[Array] = []
    square: Array | float
    for G_l, own in zip(G, exact, strict=True):
        if G_l is None:
            rows = root if law.minimal else root - root.mean(axis=2, keepdims=True)
            along, square = sum_of_squares(rows), 1 - (0 if law.minimal else 1 / outputs)
            spread, highest = own, law.mean
        else:
            u = G_l if law.minimal else G_l - G_l.mean(axis=1, keepdims=True)
            along, square = sum_of_squares(np.matmul(root, u)), sum_of_squares(u)
            spread, highest = uncancelled_variance(law, G_l), weighted_square(law.mean, G_l)
        few = (16 * margins.EPS + room) * np.sqrt(spread)
        found = np.maximum(margins.below(along) * (1 - room) - off * square, 0)
        lower.append(np.square(np.maximum(np.sqrt(found) - few, 0)))
        upper.append(margins.above(highest, outputs) * (1 + room))
    return lower, exact, upper


def _root_of_largest(law: CategoricalLaw, rank: int) -> tuple[Array, Array]:
    r"""Return the rows :math:`\sqrt{\lambda_k}v_k^\top` of the largest eigenpairs of I(h), (n, r, T), and a margin (n, 1).

    A few are roots of the secular equation. With V of unit columns, :math:`R=I(h)V-V\Lambda` and :math:`D=V^\top V-1` they are
    eigenpairs of a matrix within :math:`3\|R\|+5\lambda_{max}\|D\|` of I(h), to first order. If many are needed, LAPACK's are
    used, which are exact for a matrix within a few eps of the largest eigenvalue.
    """
    outputs = law.h.shape[1]
    if _FEW_EIGENPAIRS * rank > outputs:
        values, vectors = np.linalg.eigh(law.information())
        values, vectors = np.maximum(values[:, -rank:], 0), vectors[:, :, -rank:]
        off = np.zeros_like(values[:, -1:])
        largest = values[:, -1:]
    else:
        missing = law.p[:, -1] if law.minimal else np.zeros_like(law.p[:, -1])
        values, vectors = largest_eigenpairs(law.mean, missing, rank)
        largest = values[:, :1]
        apart = law.product(vectors) - values[:, None] * vectors
        across = np.matmul(vectors.swapaxes(1, 2), vectors) * (1 - identity(rank, vectors))
        off = 4 * np.sqrt(np.square(apart).sum(axis=(1, 2)))[:, None]
        off = off + 8 * largest * np.sqrt(np.square(across).sum(axis=(1, 2)))[:, None]
    root: Array = np.sqrt(values)[:, :, None] * vectors.swapaxes(1, 2)
    return root, off + (16 + outputs) * margins.EPS * largest
