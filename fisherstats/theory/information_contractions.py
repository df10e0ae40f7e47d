r"""Contractions of the information over all parameters for the applications: penalties, lengths of gradients and of steps.

Nothing here has the size inputs x parameters: sums over :math:`W_l[o,d]` split into sums over units and over layer inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import like, power_of_two
from fisherstats.models.families import Law
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.quadratic_forms import class_squares, form_moments

__all__ = ["gradient_lengths", "mean_class_length", "mean_square_length", "square_length_deviation", "weighted_diagonal"]

Array = NDArray[np.floating]


def weighted_diagonal(
    G: Sequence[Array], S: Sequence[Array | None], inputs: Sequence[Array], moved: Sequence[Array]
) -> tuple[Array, Array]:
    r"""Return :math:`A=\sum_iw_iJ_iJ_i^\top`, (n, T, T), and :math:`s=\sum_iw_i\,\partial_i^2h`, (n, T), for w = delta^2.

    Then :math:`\sum_iw_iI_{ii}=\mathrm{tr}(A\,I(h))`, and the label noise of its estimates is :math:`\mathrm{Var}(r^\top Ar)` for
    the score and :math:`\mathrm{Var}(s^\top r)` for the Hessian (Theorems 4 and 6 of 2021, contracted with diag(w)). Every column
    of `moved`, delta, is squared in units of its own, and so is the corresponding layer input.
    """
    n, outputs = G[0].shape[:2]
    A, s = np.zeros_like(G[0], shape=(n, outputs, outputs)), np.zeros_like(G[0], shape=(n, outputs))
    for G_l, S_l, h_bar, delta in zip(G, S, inputs, moved, strict=True):
        unit = power_of_two(np.abs(delta).max(axis=0)).astype(h_bar.dtype)
        own = like(np.square(delta / unit).astype(h_bar.dtype), h_bar)
        per_unit = (np.square(h_bar * like(unit, h_bar)) @ own.T)[:, None, :]
        A += np.matmul(G_l * per_unit, G_l.transpose(0, 2, 1))
        if S_l is not None:
            s += (S_l * per_unit).sum(axis=2)
    return A, s


def mean_square_length(law: Law, G: Sequence[Array | None], inputs: Sequence[Array]) -> Array:
    r"""Return :math:`\mathrm E\|\partial\ell\|^2=\mathrm{tr}\,I(\theta|x)`, the sum of all :math:`|\bar h|^2g^\top I(h)g`.

    Here and below G of the last layer may be None, for the identity.
    """
    parts = [
        (law.own_diagonal() if G_l is None else law.diagonal(G_l)).sum(axis=1) * _square(h_bar)
        for G_l, h_bar in zip(G, inputs, strict=True)
    ]
    return np.stack(parts).sum(axis=0)


def square_length_deviation(law: Law, G: Sequence[Array | None], inputs: Sequence[Array]) -> Array:
    r"""Return the standard deviation of :math:`\|\partial\ell\|^2=r^\top JJ^\top r` over labels of the model, (n,).

    The form is scaled by its size, as its square may overflow or underflow where its root does not.
    """
    norms = [_square(h_bar) for h_bar in inputs]
    largest = [
        norm if G_l is None else norm * np.square(np.abs(G_l).max(axis=(1, 2))) for norm, G_l in zip(norms, G, strict=True)
    ]
    unit = power_of_two(np.stack(largest).max(axis=0))
    squares = [((norm / unit)[:, None], G_l) for norm, G_l in zip(norms, G, strict=True)]
    return np.sqrt(form_moments(law, squares, None)[1]) * unit


def gradient_lengths(residuals: Array, G: Sequence[Array | None], inputs: Sequence[Array]) -> Array:
    r"""Return :math:`\|J^\top r_k\|` for K residuals per input, (n, K, T) to (n, K)."""
    squares = np.zeros_like(residuals, shape=residuals.shape[:2])
    unit = _unit(inputs)
    for G_l, h_bar in zip(G, inputs, strict=True):
        along = residuals if G_l is None else np.matmul(residuals, G_l)
        squares += np.square(along).sum(axis=2) * _square(h_bar / unit[:, None])[:, None]
    return np.sqrt(squares) * unit[:, None]


def mean_class_length(law: CategoricalLaw, G: Sequence[Array | None], inputs: Sequence[Array]) -> Array:
    r"""Return :math:`\mathrm E\|\partial\ell\|` over the classes, (n,), without a residual of every class."""
    unit = _unit(inputs)
    squares = [(_square(h_bar / unit[:, None])[:, None], G_l) for G_l, h_bar in zip(G, inputs, strict=True)]
    return (law.p * np.sqrt(class_squares(law, squares))).sum(axis=1) * unit


def _unit(inputs: Sequence[Array]) -> Array:
    return power_of_two(np.stack([np.abs(h_bar).max(axis=1) for h_bar in inputs]).max(axis=0))


def _square(h_bar: Array) -> Array:
    return np.einsum("nd,nd->n", h_bar, h_bar)
