r"""The information of a classifier from its most probable classes, the others taken as one.

Let :math:`P` be the probability of the classes that are not kept and q their distribution given that it is one of them. Then

.. math::

    I(h)=\sum_{c\ \mathrm{kept}}p_c(e_c-p)(e_c-p)^\top+P(q-p)(q-p)^\top+P\,\mathrm{Cov}_q(e),

whose first two parts are a root of k + 1 rows, and the last one is bounded: along the columns of G it is
:math:`P\,\mathrm{Var}_q(G_{\cdot o})`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fisherstats.core import margins
from fisherstats.models.derivatives import Forward
from fisherstats.models.families import MatrixRoot
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.network import MLP
from fisherstats.theory.forward_rounding import SENSITIVITY

__all__ = ["lumped", "tail_bounds", "with_margins"]

Array = NDArray[np.floating]


def lumped(law: CategoricalLaw, n_kept: int) -> tuple[MatrixRoot, Array]:
    """Return the root of k + 1 rows for the k most probable classes, and P q, the probabilities of the others, (n, C)."""
    order = np.argsort(-law.logits, axis=1, kind="stable")[:, :n_kept]
    kept = np.take_along_axis(law.p, order, axis=1)
    classes = np.arange(law.p.shape[1], like=law.p)
    others = np.where((classes == order[:, :, None]).any(axis=1), 0, law.p)
    mass = others.sum(axis=1, keepdims=True)
    # At a class itself 1 - p is the sum of the other probabilities.
    own = np.where(classes == order[:, :, None], law.complement[:, None, :], -law.p[:, None, :])
    share = others / np.where(mass > 0, mass, 1)
    rest = np.where(others > 0, share * kept.sum(axis=1, keepdims=True), -law.p)
    rows = np.concatenate([np.sqrt(kept)[:, :, None] * own, (np.sqrt(mass) * rest)[:, None, :]], axis=1)
    return MatrixRoot(rows[:, :, :-1] if law.minimal else rows), others


def tail_bounds(model: MLP, forward: Forward, law: CategoricalLaw, others: Array) -> tuple[list[Array], list[Array]]:
    r"""Return lower and upper bounds of :math:`P\,\mathrm{Var}_q(G_{\cdot o})` for the units of every layer, (n, units) each.

    In the last layer it is :math:`Pq_a(1-q_a)`. In the layer before it G is a column of the last weights times the slope of the
    unit, so the variance of each column over the classes is enough. Further below,
    :math:`\mathrm{Var}_q(w\cdot Du)\le\sum_h\sigma_h'^2\mathrm{Var}_q(w_h)\,|u|^2`, with u the derivative of the last
    hidden pre-activations, whose norm is bounded by the slopes and the largest singular values of the weights between; the lower
    bound is 0 there.
    """
    mass = others.sum(axis=1, keepdims=True)
    share = others / np.where(mass > 0, mass, 1)
    own = others * (1 - share)
    upper: list[Array] = [own[:, :-1] if law.minimal else own]
    lower = [*upper]
    if not forward.slopes:
        return lower, upper
    kernels = model.kernels
    last = kernels[-1]
    if law.minimal:
        last = np.concatenate([last, np.zeros_like(last[:1])])
    centred = last - last.mean(axis=0)
    mean = share @ centred
    terms = last.shape[0]
    # A difference of two means of squares: its rounding errors are relative to the first of them.
    squares = share @ np.square(centred)
    variance, off = squares - np.square(mean), 4 * (terms + 8) * margins.EPS * squares
    scale = mass * np.square(forward.slopes[-1])
    through = scale * (np.maximum(variance, 0) + off)
    upper.insert(0, through)
    lower.insert(0, scale * np.maximum(variance - off, 0))
    norm = through.sum(axis=1, keepdims=True)
    reach = np.ones_like(norm)
    for layer in range(len(kernels) - 3, -1, -1):
        kernel = kernels[layer + 1]
        columns = np.square(forward.slopes[layer]) * np.square(kernel).sum(axis=0)
        upper.insert(0, norm * reach * columns)
        lower.insert(0, np.zeros_like(upper[0]))
        reach = reach * np.square(forward.slopes[layer]).max(axis=1, keepdims=True) * np.linalg.norm(kernel, ord=2) ** 2
    return [margins.below(one, 8 * terms) for one in lower], [margins.above(one, 8 * terms) for one in upper]


def with_margins(
    kept: list[Array], tails: tuple[list[Array], list[Array]], rounding: Array, terms: int
) -> tuple[list[Array], list[Array]]:
    """Return lower and upper ends per unit, with margins for the rounding of the parts and of the network's outputs."""
    room = SENSITIVITY * rounding[:, None]
    lower, upper = [], []
    for inside, least, most in zip(kept, *tails, strict=True):
        whole = margins.above(inside + most, terms)
        few = (16 * margins.EPS + room) * np.sqrt(whole)
        lower.append(np.square(np.maximum(np.sqrt(margins.below(inside + least, terms)) - few, 0)))
        upper.append(np.square(np.sqrt(whole) + few))
    return lower, upper
