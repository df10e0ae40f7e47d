r"""Bounds of the covariance tensors: their norms, their traces and single entries, for one label and input by input.

Each quantity combines a matrix D of the derivatives of h with a matrix R of the distribution of t, as a trace
:math:`\mathrm{tr}(DR)` or a norm of :math:`R^{1/2}DR^{1/2}` of two positive semi-definite matrices:

==================================  ==========================================  ==============================
quantity                            D, from the derivatives                     R, from the law
==================================  ==========================================  ==============================
trace of the information            :math:`K=JJ^\top`                           I(h)
norms of Cov(I-hat-1)               :math:`K\otimes K`                          M
norms of Cov(I-hat-2)               :math:`Q_{ab}=\langle H^a,H^b\rangle`       I(h)
summed variances of diag I-hat-1    :math:`\sum_iw_iw_i^\top`, w = svec(dh dh')  M on symmetric matrices
summed variances of diag I-hat-2    :math:`\sum_i\partial_i^2h\,\partial_i^2h^\top`  I(h)
==================================  ==========================================  ==============================

Every eigenvalue in a bound is computed from a full matrix, with a margin of a few eps of the largest; none comes from an
iteration on a tensor. Every form has a margin for its own rounding and that of the exact value it bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fisherstats.core import margins
from fisherstats.core.arrays import double, like
from fisherstats.core.margins import power_of_two, spectrum
from fisherstats.models.derivatives import HessianBlocks
from fisherstats.models.families import Law
from fisherstats.models.families.extremes import information_extremes, quartic_extremes, quartic_root
from fisherstats.models.families.independent import IndependentLaw
from fisherstats.models.families.spectra import Pair, information_spectrum, quartic_spectrum
from fisherstats.models.families.standardised import at_unit_variance
from fisherstats.theory import covariance_tensors, tensor_norms
from fisherstats.theory.cancellation import fourth_rounding, uncancelled_variance
from fisherstats.theory.forward_rounding import SENSITIVITY
from fisherstats.theory.variance_inequalities import Bounds

__all__ = [
    "COVARIANCE_FORMS",
    "NORMS",
    "PAIR_FORMS",
    "TRACE_FORMS",
    "curvature_gram",
    "hessian_entry_bounds",
    "hessian_norm_bounds",
    "hessian_norms",
    "hessian_response",
    "implied_norm_bounds",
    "information_trace_bounds",
    "own_inner_products",
    "own_jacobian_products",
    "printed_trace_bounds",
    "score_entry_bounds",
    "score_gram_svec",
    "score_norm_bounds",
    "score_norms",
    "score_response",
    "score_trace_bounds",
    "summed_pairs",
    "tightness",
]

Array = NDArray[np.floating]

NORMS = ("frobenius", "spectral", "trace")

COVARIANCE_FORMS = ("theorem", "gram", "derivative", "response")
"""Theorems 7 and 8; Cauchy-Schwarz; the largest eigenvalue of D with the norm of R; that of R with the norm of D."""

TRACE_FORMS = ("derivative", "response", "spectrum", "svec")
"""First and second term of the minima of Corollary 4.6; Theorem D.1 on T^2 and on T (T + 1) / 2 eigenvalues."""

_FEW = 16
"""Units of rounding in a standard deviation without cancellation."""

PAIR_FORMS = ("theorem", "symmetric", "moments")
"""Theorem C.1; the same for the symmetric part of u v'; Cauchy-Schwarz on the fourth moments."""


def tightness(exact: Array, upper: Array) -> Array:
    """Return upper / exact, 1 where both are 0 and inf where only exact is."""
    nothing = exact == 0
    with np.errstate(over="ignore"):  # inf where the ratio overflows
        ratio: Array = np.where(nothing, np.where(upper == 0, 1.0, np.inf), upper / np.where(nothing, 1, exact))
    return ratio


# --- norms of the covariance tensors ---------------------------------------------------------------------------------


def own_jacobian_products(G: Sequence[Array], inputs: Sequence[Array]) -> tuple[Array, Array]:
    r"""Return :math:`K=JJ^\top=\sum_l|\bar h_l|^2G_lG_l^\top` of each input at size one, (n, T, T), and its size, (n,).

    The quantities are of degree two in K: fourth powers of derivatives underflow or overflow long before the result does.
    """
    largest = np.stack([np.abs(G_l).max(axis=(1, 2)) * np.abs(h_bar).max(axis=1) for G_l, h_bar in zip(G, inputs, strict=True)])
    size = power_of_two(largest.max(axis=0))
    total: Array = np.stack(tensor_norms.own_layer_products([G_l / size[:, None, None] for G_l in G], inputs)).sum(axis=0)
    return total, size * size


def own_inner_products(hessian: HessianBlocks, inputs: Sequence[Array]) -> Array:
    r"""Return :math:`Q_{ab}=\langle H^a,H^b\rangle_F` of each input, (n, T, T)."""
    return summed_pairs(tensor_norms.own_pair_products(hessian, inputs))


def summed_pairs(pairs: Mapping[tuple[int, int], Array]) -> Array:
    """Return Q from its blocks l <= m, (n, T, T): those off the diagonal count twice."""
    return np.stack([block if left == right else 2 * block for (left, right), block in pairs.items()]).sum(axis=0)


def score_norms(law: Law, K: Array, size: Array) -> Array:
    """Return the norms `NORMS` of each input's Cov(I-hat-1) for one label, (n, 3), exact (Theorem 4 of 2021)."""
    root = quartic_root(law)
    # K divided by its size s scales the covariance by s^2: s is a factor of either root.
    scale = power_of_two(np.abs(root).max(axis=(1, 2, 3)))
    root = root / scale[:, None, None, None]
    own = [tensor_norms.score_gram(root[row : row + 1], K[row : row + 1, :, None]).each()[0] for row in range(len(K))]
    return np.stack(own) * np.square(scale * size)[:, None]


def hessian_norms(law: Law, Q: Array) -> Array:
    """Return the norms `NORMS` of each input's Cov(I-hat-2) for one label, (n, 3), exact (Theorem 6 of 2021)."""
    root = covariance_tensors.information_root(law)
    own = [tensor_norms.hessian_gram(root[row : row + 1], Q[row : row + 1, :, None]).each()[0] for row in range(len(Q))]
    return np.stack(own)


def score_norm_bounds(law: Law, K: Array, size: Array) -> Array:
    r"""Return upper bounds of the norms of Cov(I-hat-1) by form, (n, 4, 3), for K (n, T, T) over its size (n,).

    Theorem 7 of 2021: :math:`\|\mathrm{Cov}\|_F\le\|J\|_F^4\|M\|_F`. Sharper: :math:`\|JJ^\top\|_F^2\|M\|_F`, also a bound of the
    trace by Cauchy-Schwarz; :math:`s_{max}(J)^4\|M\|` for each norm of M; and :math:`\lambda_{max}(M)` times the norm of
    :math:`K\otimes K` on symmetric matrices, whose eigenvalues are the products :math:`k_ak_b`, a <= b.
    """
    M = score_response(law) * size[:, None] * size[:, None]
    frobenius, largest, trace = _psd_norms(K).T
    # Relative to the trace, a fourth power underflows only if it is negligible.
    safe = np.where(trace > 0, trace, 1)
    relative, share = K / safe[:, None, None], frobenius / safe
    fourth = np.square(np.matmul(relative, relative)).sum(axis=(1, 2))
    pairs = np.stack([np.sqrt((share**4 + fourth) / 2), np.full_like(trace, np.inf), (1 + share**2) / 2], axis=1)
    return _norm_forms(trace**2, frobenius**2, largest**2, pairs * np.square(trace)[:, None], M)


def hessian_norm_bounds(law: Law, Q: Array) -> Array:
    r"""Return upper bounds of the norms of Cov(I-hat-2) by form, (n, 4, 3).

    Theorem 8 of 2021: :math:`\|\mathrm{Cov}\|_F\le\|H\|_F^2\|I\|_F`. Sharper: :math:`\|Q\|_F\|I\|_F`,
    :math:`s_{max}(\mathrm{mat}_1H)^2\|I\|` for each norm of I, and :math:`\lambda_{max}(I)` times the norm of Q.
    """
    own = _psd_norms(Q)
    frobenius, largest, trace = own.T
    pairs = own.copy()
    pairs[:, 1] = np.inf
    return _norm_forms(trace, frobenius, largest, pairs, hessian_response(law))


def score_response(law: Law) -> Array:
    """Return the norms `NORMS` of M, (n, 3), the spectral one certified."""
    root = quartic_root(law)
    scale = power_of_two(np.abs(root).max(axis=(1, 2, 3)))
    rows = (root / scale[:, None, None, None]).reshape(*root.shape[:2], -1)
    M = _psd_norms(np.matmul(rows, rows.swapaxes(1, 2))) * np.square(scale)[:, None]
    M[:, 1] = quartic_extremes(law)[1]
    return M


def hessian_response(law: Law) -> Array:
    """Return the norms `NORMS` of I(h), (n, 3), the spectral one certified."""
    information = _psd_norms(double(law.information()))
    information[:, 1] = information_extremes(law)[1]
    return information


def implied_norm_bounds(response: Array, jacobian: Array, hessian: Array) -> Array:
    r"""Return bounds of the Frobenius and spectral norms of both covariances from bounds of those of J and H, (n, 2, 2).

    `response` (n, 2, 3) holds the norms `NORMS` of M and I, `jacobian` and `hessian` (n, 2) bounds of squared norms: Frobenius
    (Theorems 7 and 8 of 2021) and spectral with the outputs for rows (:math:`s_{max}(J)^4\lambda_{max}(M)`,
    :math:`s_{max}(\mathrm{mat}_1H)^2\lambda_{max}(I)`).
    """
    unused = np.zeros_like(jacobian[:, 0])
    bounds = []
    for derivative, own in ((np.square(jacobian), response[:, 0]), (hessian, response[:, 1])):
        forms = _norm_forms(derivative[:, 0], unused, derivative[:, 1], np.full_like(own, np.inf), own)
        by_name = dict(zip(COVARIANCE_FORMS, forms.swapaxes(0, 1), strict=True))
        bounds.append(np.stack([by_name["theorem"][:, 0], by_name["derivative"][:, 1]], axis=1))
    return np.stack(bounds, axis=1)


def _norm_forms(theorem: Array, gram: Array, derivative: Array, pairs: Array, response: Array) -> Array:
    """Return the forms `COVARIANCE_FORMS` of the norms `NORMS`, (n, 4, 3), each with a margin for its rounding."""
    nothing = np.full_like(theorem, np.inf)
    schwarz = gram * response[:, 0]
    with np.errstate(invalid="ignore"):  # 0 times a missing bound
        output = np.where(np.isinf(pairs), np.inf, response[:, 1:2] * pairs)
    forms = [
        np.stack([theorem * response[:, 0], nothing, nothing], axis=1),
        np.stack([schwarz, nothing, schwarz], axis=1),
        derivative[:, None] * response,
        output,
    ]
    stacked = np.stack(forms, axis=1)
    return np.where(np.isnan(stacked), np.inf, margins.above(stacked, 8 * response.shape[1]))


def _psd_norms(matrices: Array) -> Array:
    """Return Frobenius norm, upper limit of the largest eigenvalue and trace of psd matrices (n, k, k), (n, 3) in float64."""
    trace = np.trace(matrices, axis1=1, axis2=2, dtype=np.float64)
    # No entry exceeds the trace: relative to it the squares of far-tail variances do not underflow.
    size = np.where(trace > 0, trace, 1)
    relative = matrices / size[:, None, None]
    largest = spectrum(relative)[1][:, -1]
    return np.stack([np.linalg.norm(relative, axis=(1, 2)) * size, largest * size, trace], axis=1)


# --- traces: the information, and the variances of the diagonal entries ------------------------------------------------


def score_gram_svec(G: Sequence[Array], inputs: Sequence[Array]) -> Array:
    r"""Return :math:`\sum_iw_iw_i^\top`, :math:`w_i=\mathrm{svec}(\partial_ih\,\partial_ih^\top)`: vJac'vJac, symmetric part.

    In a layer it is :math:`|\bar h_l|_4^4\sum_ow_ow_o^\top` over the units, so nothing of the size of P^2 appears.
    """
    outputs = G[0].shape[1]
    rows, columns, weight = _svec_basis(outputs)
    total = np.zeros_like(G[0], dtype=np.float64, shape=(len(G[0]), len(rows), len(rows)))
    for G_l, h_bar in zip(G, inputs, strict=True):
        doubled = double(G_l)
        w = doubled[:, rows] * doubled[:, columns] * like(weight, doubled)[:, None]
        total += _fourth_powers(h_bar)[:, None, None] * np.matmul(w, w.swapaxes(1, 2))
    return total


def curvature_gram(S: Sequence[Array | None], inputs: Sequence[Array], outputs: int) -> Array:
    r"""Return :math:`\sum_i\partial_i^2h\,\partial_i^2h^\top=\sum_l|\bar h_l|_4^4S_lS_l^\top`, (n, T, T)."""
    total = np.zeros_like(inputs[0], dtype=np.float64, shape=(len(inputs[0]), outputs, outputs))
    for S_l, h_bar in zip(S, inputs, strict=True):
        if S_l is not None:
            total += _fourth_powers(h_bar)[:, None, None] * np.matmul(S_l, S_l.swapaxes(1, 2))
    return total


def information_trace_bounds(law: Law, exact: Array, gram: Array, rounding: Array) -> Bounds:
    r"""Bound :math:`\mathrm{tr}(DI)`: (13) of 2024 with D = J J', (15) with D = dHes'dHes, and (22), (24) of Theorem D.1.

    `rounding` (n,) is that of the exact number, relative to it.
    """
    lower, upper = _trace_forms(spectrum(gram), information_spectrum(law))
    return _with_rounding(exact, lower, upper, rounding)


def score_trace_bounds(law: Law, exact: Array, gram: Array, rounding: Array) -> Bounds:
    r"""Bound :math:`\mathrm{tr}(DM)` of `score_gram_svec`: (14) of 2024 corrected, and (23) of Theorem D.1.

    :math:`\min\{s_{max}^2(\mathrm{vJac})\,\mathrm{tr}M,\ \sum_i\|\partial_ih\|^4\lambda_{max}(M)\}`. Unfolded to T^2 x T^2 both
    matrices have T (T - 1) / 2 zero eigenvalues more, on antisymmetric matrices, which weaken the lower bound; svec avoids them.
    """
    s, values = spectrum(gram), quartic_spectrum(law)
    lower, upper = _trace_forms(s, values)
    lower["svec"], upper["svec"] = lower["spectrum"], upper["spectrum"]
    zeros = ((0, 0), (law.h.shape[1] * (law.h.shape[1] - 1) // 2, 0))
    padded = _trace_forms(*(cast(Pair, tuple(np.pad(one, zeros) for one in ends)) for ends in (s, values)))
    lower["spectrum"], upper["spectrum"] = padded[0]["spectrum"], padded[1]["spectrum"]
    return _with_rounding(exact, lower, upper, rounding)


def _with_rounding(exact: Array, lower: dict[str, Array], upper: dict[str, Array], rounding: Array) -> Bounds:
    """Return bounds with margins for the rounding of their sums, and of the exact value."""
    kept = np.maximum(1 - rounding, 0)
    return Bounds(
        exact,
        {form: margins.below(bound, 64) * kept for form, bound in lower.items()},
        {form: margins.above(bound, 64) * (1 + rounding) for form, bound in upper.items()},
    )


class _Printed(Bounds):
    """Printed statements that are not bounds: being on the wrong side is not counted as a failure of the form."""

    def failed(self) -> dict[str, Array]:
        """Return that none has failed."""
        return {form: np.zeros_like(self.exact, dtype=bool) for form in (*self.lower, *self.upper)}


def printed_trace_bounds(law: Law, exact: Sequence[Array], K: Array, vectors: Array, curvature: Array) -> list[Bounds]:
    r"""Return (13), (14), (15) and (22), (23), (24) of 2024 exactly as printed, which are not bounds.

    The first terms carry :math:`\|\partial h\|_F`, :math:`\|\partial h\|_F^2` and :math:`\|\mathrm{dHes}\|_F` where the proofs
    need the squares of largest singular values, and the sum in (23) stops after T of the T^2 eigenvalues.
    """
    information, values = (_descending(one(law)) for one in (information_spectrum, quartic_spectrum))
    trace, largest = information.sum(axis=1), information[:, 0]
    first, curved = (np.trace(gram, axis1=1, axis2=2) for gram in (K, curvature))
    outputs = law.h.shape[1]
    minima = [
        (np.sqrt(first) * trace, first * largest),
        (first * values.sum(axis=1), first**2 * values[:, 0]),
        (np.sqrt(curved) * trace, curved * largest),
    ]
    spectra = [
        (_descending(spectrum(K)), information),
        (_descending(spectrum(vectors))[:, :outputs], values[:, :outputs]),
        (_descending(spectrum(curvature)), information),
    ]
    printed: list[Bounds] = []
    for one, (derivative, response), (s, eigenvalues) in zip(exact, minima, spectra, strict=True):
        lower = {"spectrum": (s * eigenvalues[:, ::-1]).sum(axis=1)}
        upper = {"derivative": derivative, "response": response, "spectrum": (s * eigenvalues).sum(axis=1)}
        printed.append(_Printed(one, lower, upper))
    return printed


def _trace_forms(s: Pair, values: Pair) -> tuple[dict[str, Array], dict[str, Array]]:
    r"""Return bounds of tr(DR) from the limits of the ascending spectra s of D and `values` of R, (n, k) each: lower, upper.

    Theorem D.2: :math:`\sum_ts_t\lambda_{n-t+1}\le\mathrm{tr}(DR)\le\sum_ts_t\lambda_t`.
    """
    lower = {
        "derivative": s[0][:, 0] * values[0].sum(axis=1),
        "response": values[0][:, 0] * s[0].sum(axis=1),
        "spectrum": (s[0] * values[0][:, ::-1]).sum(axis=1),
    }
    upper = {
        "derivative": s[1][:, -1] * values[1].sum(axis=1),
        "response": values[1][:, -1] * s[1].sum(axis=1),
        "spectrum": (s[1] * values[1]).sum(axis=1),
    }
    return lower, upper


def _descending(ends: Pair) -> Array:
    """Return a spectrum in descending order, half-way between its limits."""
    return (ends[0] + ends[1])[:, ::-1] / 2


def _svec_basis(outputs: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    rows, columns = (one.astype(np.int64) for one in np.triu_indices(outputs))
    return rows, columns, np.where(rows == columns, 1.0, np.sqrt(2.0))


def _fourth_powers(h_bar: Array) -> Array:
    return np.square(np.square(double(h_bar))).sum(axis=1)


# --- single entries ----------------------------------------------------------------------------------------------------


def score_entry_bounds(law: Law, u: Array, v: Array, rounding: Array) -> Bounds:
    r"""Bound :math:`M(u,v,u,v)`, the variance of the entry with derivatives u and v (n, T, k) of the score estimator.

    Appendix C of 2024: :math:`\|u\|^2\|v\|^2\tilde\gamma_{max}(M)`, with the certified :math:`\lambda_{max}` of M on symmetric
    matrices for :math:`\tilde\gamma_{max}`. As only the symmetric part of :math:`uv^\top` enters,
    :math:`(\|u\|^2\|v\|^2+(u^\top v)^2)/2` serves as well. By Cauchy-Schwarz :math:`\sqrt{K(u,u,u,u)K(v,v,v,v)}-I(u,v)^2`.
    """
    largest = quartic_extremes(law)[1][:, None]
    # Everything is of degree two in u and in v: at size one the fourth powers of small derivatives do not underflow.
    (u, size_u), (v, size_v) = _at_size_one(u), _at_size_one(v)
    size = size_u * size_v
    square, product = _columns(u, u) * _columns(v, v), _columns(u, v)
    upper: dict[str, Array] = {"theorem": largest * square, "symmetric": largest * (square + np.square(product)) / 2}
    # Heads of very different variance: with unit variances no power of theirs underflows, at size one again.
    law, (u, v) = at_unit_variance(law, u, v)
    (u, own_u), (v, own_v) = _at_size_one(u), _at_size_one(v)
    own = own_u * own_v
    moments = np.sqrt(law.fourth_moment(u)) * np.sqrt(law.fourth_moment(v))
    covariance, exact = np.abs(_columns(law.rows(u), law.rows(v))), _product_variance(law, u, v)
    few = margins.EPS * _FEW + rounding[:, None]
    above_by: Array | float = fourth_rounding(law, few, u, v)
    # A difference of two nearly equal numbers, each with its own rounding error.
    least = np.maximum(covariance - above_by, 0)
    schwarz = np.maximum(np.square(np.sqrt(moments) + above_by) - np.square(least), 0)
    if isinstance(law, IndependentLaw):  # the exact number has every digit, so that a 0 is one
        schwarz, above_by = np.where((moments - np.square(covariance) <= 0) & (exact == 0), 0, schwarz), 0.0
    upper["moments"] = schwarz * own * own
    wide = Bounds(exact * own * own, {}, upper).widened(0.0, above_by * own, relative=SENSITIVITY * rounding[:, None])
    return wide.times(size).times(size)


def hessian_entry_bounds(law: Law, s: Array, rounding: Array) -> Bounds:
    r"""Bound :math:`s^\top I s`, the variance of the entry with second derivative s (n, T, k) of the Hessian estimator.

    Appendix C of 2024: :math:`\|\partial^2_{ij}h\|^2s_{max}(I)`.
    """
    s, size = _at_size_one(s)
    upper: dict[str, Array] = {"theorem": information_extremes(law)[1][:, None] * _columns(s, s)}
    above_by = (margins.EPS * _FEW + rounding[:, None]) * np.sqrt(uncancelled_variance(law, s))
    wide = Bounds(law.diagonal(s), {}, upper).widened(0.0, above_by, relative=SENSITIVITY * rounding[:, None])
    return wide.times(size).times(size)


def _at_size_one(u: Array) -> tuple[Array, Array]:
    """Return the directions over a power of two near their largest entry, and that power, (n, k); a direction of 0 stays."""
    size = power_of_two(np.abs(u).max(axis=1))
    return u / size[:, None, :], size


def _columns(u: Array, v: Array) -> Array:
    """Return u . v column by column, (n, k)."""
    return np.einsum("ntk,ntk->nk", u, v)


def _product_variance(law: Law, u: Array, v: Array, tile: int = 2**22, columns: int = 4) -> Array:
    """Return Var((u.r)(v.r)) column by column.

    For independent heads it is the variance of the form r' sym(u v') r; else that of all pairs of a few columns, which removes
    the common part of the directions where only their differences matter.
    """
    n, outputs, k = u.shape
    variance = np.empty_like(u, shape=(n, k))
    if not isinstance(law, IndependentLaw):
        for start in range(0, k, columns):
            part = slice(start, start + columns)
            variance[:, part] = np.diagonal(law.product_variance(u[:, :, part], v[:, :, part]), axis1=1, axis2=2)
        return variance
    step = max(1, tile // (n * outputs**2))
    for start in range(0, k, step):
        left, right = (one[:, :, start : start + step].swapaxes(1, 2) for one in (u, v))
        form = left[..., :, None] * right[..., None, :]
        variance[:, start : start + step] = law.quadratic_variance((form + form.swapaxes(2, 3)) / 2)
    return variance
