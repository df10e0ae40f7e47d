r"""Statistical curvature along directions of the parameter space, and the Amari-Chentsov tensor of directions.

Along :math:`\theta+\epsilon v` the natural parameters of one input trace a curve with velocity :math:`h'=Jv` and acceleration
:math:`h''=H[v,v]` in the metric I(h). All quantities here are functions of these T-vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fisherstats.models import derivatives
from fisherstats.models.derivatives import Forward
from fisherstats.models.families import Law
from fisherstats.models.network import MLP

__all__ = ["CurveMoments", "curve_moments", "curve_sums", "third_cumulants"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class CurveMoments:
    r"""Velocity and acceleration of the natural parameters in the metric I(h), (n, k) each; sums over inputs are (k,).

    :math:`h''=c\,h'+e` with e orthogonal to h', so that :math:`\nu_{11}=c\,\nu_{20}` and
    :math:`\nu_{20}\nu_{02}-\nu_{11}^2=\nu_{20}\|e\|^2`, which cannot cancel.
    """

    speed: Array
    """nu_20."""
    acceleration: Array
    """nu_02."""
    projection: Array
    """c, 0 where the velocity is 0."""
    residual: Array
    """Squared norm of e."""

    @property
    def mixed(self) -> Array:
        """nu_11."""
        return self.projection * self.speed

    def curvature_squared(self) -> Array:
        r"""Return :math:`\gamma^2=\|e\|^2/\nu_{20}^2` (Efron 1975), 0 without acceleration and inf without velocity."""
        still = self.speed == 0
        root = np.sqrt(self.residual) / np.where(still, 1, self.speed)
        return np.where(still & (self.residual > 0), np.inf, np.square(root))


def curve_moments(model: MLP, forward: Forward, law: Law, directions: Array) -> CurveMoments:
    """Return the moments along each direction (k, P) at each input; `forward` is a forward pass with second derivatives.

    One output is always a full exponential family: the residual is exactly 0.
    """
    velocity = np.stack([derivatives.push_forward(model, forward, one) for one in directions], axis=2)
    acceleration = np.stack([derivatives.second_directional(model, forward, one) for one in directions], axis=2)
    rows, bent = law.rows(velocity), law.rows(acceleration)
    speed = np.square(rows).sum(axis=1)
    projection = _quotient((rows * bent).sum(axis=1), speed)
    apart = bent - projection[:, None, :] * rows
    residual = np.square(apart).sum(axis=1) if velocity.shape[1] > 1 else np.where(speed > 0, 0, np.square(bent).sum(axis=1))
    return CurveMoments(speed, np.square(bent).sum(axis=1), projection, residual)


def curve_sums(moments: CurveMoments) -> CurveMoments:
    r"""Return the moments of the joint law of one label at every input, (k,): I(h) is block diagonal over inputs.

    Its residual is :math:`\sum_i\|e_i\|^2+\sum_i\nu_{20,i}(c_i-c)^2` with c the mean of c_i weighted by nu_20.
    """
    speed = moments.speed.sum(axis=0)
    projection = _quotient((moments.speed * moments.projection).sum(axis=0), speed)
    spread = (moments.speed * np.square(moments.projection - projection)).sum(axis=0)
    return CurveMoments(speed, moments.acceleration.sum(axis=0), projection, moments.residual.sum(axis=0) + spread)


def third_cumulants(law: Law, tangents: Array) -> Array:
    r"""Return :math:`E[(u_i\cdot r)(u_j\cdot r)(u_k\cdot r)]` of all triples of columns of u = Jv (n, T, k), (n, k, k, k)."""
    n, _, count = tangents.shape
    cumulants = np.empty_like(tangents, shape=(n, count, count, count))
    for third in range(count):
        pairs = [(i, j) for j in range(third + 1) for i in range(j + 1)]
        first, second = (tangents[:, :, [pair[side] for pair in pairs]].swapaxes(1, 2) for side in (0, 1))
        forms = first[..., :, None] * second[..., None, :]
        values = law.quadratic_third_moment(
            (forms + forms.swapaxes(-1, -2)) / 2, np.repeat(tangents[:, None, :, third], len(pairs), axis=1)
        )
        for column, (i, j) in enumerate(pairs):
            for a, b, c in ((i, j, third), (i, third, j), (j, i, third), (j, third, i), (third, i, j), (third, j, i)):
                cumulants[:, a, b, c] = values[:, column]
    return cumulants


def _quotient(numerator: Array, denominator: Array) -> Array:
    return np.where(denominator == 0, 0, numerator / np.where(denominator == 0, 1, denominator))
