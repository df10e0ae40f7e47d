r"""Certified spectra: limits of the eigenvalues of I(h), and of M = Cov(delta delta') on symmetric matrices.

An eigenvalue of a dense matrix is known to a few eps of the largest one, so a small one is lost where the statistics are nearly
dependent. The structure of the family preserves it: independent statistics have their own eigenvalues, two dependent ones are
W' e in a well-conditioned basis e, and the smallest eigenvalue of a matrix is the reciprocal of the *largest* one of its inverse.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from fisherstats.core.arrays import like
from fisherstats.core.margins import EPS, above, below, power_of_two, spectrum
from fisherstats.models.families.base import Law
from fisherstats.models.families.block_moments import EqualBlocks
from fisherstats.models.families.dirichlet import DirichletLaw
from fisherstats.models.families.gaussian import GaussianLaw
from fisherstats.models.families.independent import IndependentLaw
from fisherstats.models.families.moments import CumulantMoments, MomentLaw
from fisherstats.models.families.polygamma import polygamma, polygamma_remainder
from fisherstats.models.families.product import ProductLaw
from fisherstats.models.families.user import LogPartitionLaw

__all__ = ["Pair", "information_spectrum", "quartic_matrix", "quartic_spectrum", "svec_basis"]

Pair = tuple[np.ndarray, np.ndarray]

_BISECTIONS = 200


def svec_basis(outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and weights of an orthonormal basis of the symmetric matrices."""
    rows, columns = np.triu_indices(outputs)
    return rows, columns, np.where(rows == columns, 1.0, np.sqrt(2.0))


def quartic_matrix(law: Law) -> np.ndarray:
    """Return M on symmetric matrices in an orthonormal basis, (n, k, k), k = T (T + 1) / 2, from the cumulants."""
    fourth, information = law.cumulant(4), law.information()
    unfolded = fourth + 2 * np.einsum("nac,nbd->nabcd", information, information)
    unfolded = (unfolded + unfolded.swapaxes(1, 2)) / 2
    rows, columns, weight = svec_basis(law.h.shape[1])
    return unfolded[:, rows, columns][:, :, rows, columns] * like(np.outer(weight, weight), unfolded)


@singledispatch
def information_spectrum(law: Law) -> Pair:
    """Return lower and upper limits of the eigenvalues of I(h) in ascending order, (n, T) each."""
    return spectrum(law.information())


@information_spectrum.register
def _(law: IndependentLaw) -> Pair:
    values = np.sort(law.variance, axis=1)
    return below(values), above(values)


@information_spectrum.register
def _(law: GaussianLaw) -> Pair:
    if law.root.ndim == 1:
        values = np.sort(np.square(law.root))
        lower, upper = below(values), above(values)
    else:
        # A singular value of the root is off by a few eps of the largest, which is less than its square would be.
        singular = np.linalg.svd(law.root, compute_uv=False)[::-1]
        # The covariance is known to a few eps of its largest eigenvalue as well, which stands in the smallest of the inverse.
        covariance = np.square(singular / np.where(singular[0] > 0, singular[0], 1))
        margin = EPS * ((16 + len(singular)) * singular[-1] + (4 + len(singular)) * singular * covariance)
        lower, upper = np.square(np.maximum(singular - margin, 0)), np.square(singular + margin)
    shape = (len(law.h), len(values) if law.root.ndim == 1 else len(singular))
    return np.broadcast_to(lower, shape), np.broadcast_to(upper, shape)


@information_spectrum.register
def _(law: ProductLaw) -> Pair:
    """Return those of all parts: I(h) is block-diagonal."""
    ends = zip(*(information_spectrum(part) for part in law.parts), strict=True)
    lower, upper = (np.sort(np.concatenate(one, axis=1), axis=1) for one in ends)
    return lower, upper


@information_spectrum.register
def _(law: MomentLaw) -> Pair:
    W = _two_coordinates(law)
    if W is None:
        return spectrum(law.information())
    basis, coordinates = W
    root = np.matmul(basis.rows(np.broadcast_to(like(np.eye(2), coordinates), coordinates.shape)), coordinates)
    # Of two eigenvalues the larger is that of the matrix, and the smaller is det / larger.
    largest = spectrum(np.matmul(root.swapaxes(1, 2), root))
    product, error = _determinant(root)
    smallest = np.square(np.stack([np.maximum(product - error, 0), product + error], axis=1))
    low = below(smallest[:, 0] / np.where(largest[1][:, 1] > 0, largest[1][:, 1], 1))
    high = above(smallest[:, 1] / np.where(largest[0][:, 1] > 0, largest[0][:, 1], 1))
    return (
        np.stack([np.maximum(low, largest[0][:, 0]), np.maximum(low, largest[0][:, 1])], axis=1),
        np.stack([np.minimum(high, largest[1][:, 0]), largest[1][:, 1]], axis=1),
    )


@information_spectrum.register
def _(law: LogPartitionLaw) -> Pair:
    """Return those of the matrix, minus the error of the differentiation of F."""
    lower, upper = spectrum(law.information())
    margin = law.h.shape[1] * law.accuracy[2] * law.own_diagonal().max(axis=1, keepdims=True)
    return np.maximum(lower - margin, 0), upper + margin


@information_spectrum.register
def _(law: DirichletLaw) -> Pair:
    lower, upper = spectrum(law.information())
    return np.maximum(lower, _dirichlet_smallest(law)[:, None]), upper


@singledispatch
def quartic_spectrum(law: Law) -> Pair:
    """Return lower and upper limits of the eigenvalues of M on symmetric matrices, ascending, (n, T (T + 1) / 2) each."""
    return spectrum(quartic_matrix(law))


@quartic_spectrum.register
def _(law: IndependentLaw) -> Pair:
    """Return M_a, and 2 I_a I_b over pairs: on symmetric matrices M is diagonal."""
    rows, columns = np.triu_indices(law.h.shape[1], 1)
    pairs = 2 * law.variance[:, rows] * law.variance[:, columns]
    values = np.sort(np.concatenate([law.variance_of_square, pairs], axis=1), axis=1)
    return below(values), above(values)


@quartic_spectrum.register
def _(law: GaussianLaw) -> Pair:
    """Return 2 lambda_a lambda_b over a <= b: M maps a symmetric X to 2 I X I."""
    rows, columns = np.triu_indices(law.h.shape[1])
    lower, upper = (np.sort(2 * one[:, rows] * one[:, columns], axis=1) for one in information_spectrum(law))
    return lower, upper


@quartic_spectrum.register
def _(law: ProductLaw) -> Pair:
    """Return those of all parts, and twice the products of eigenvalues of I(h) of two parts."""
    own, information = [quartic_spectrum(part) for part in law.parts], [information_spectrum(part) for part in law.parts]
    ends = []
    for side in (0, 1):
        every = [one[side] for one in own]
        for right in range(len(information)):
            for left in range(right):
                products = 2 * information[left][side][:, :, None] * information[right][side][:, None, :]
                every.append(products.reshape(len(law.h), -1))
        ends.append(np.sort(np.concatenate(every, axis=1), axis=1))
    return ends[0], ends[1]


@quartic_spectrum.register
def _(law: MomentLaw) -> Pair:
    lower, upper = spectrum(quartic_matrix(law))
    W = _two_coordinates(law)
    if W is None:
        return lower, upper
    smallest = _smallest_of_two(*W)[:, None]
    return np.maximum(lower, smallest), upper


@quartic_spectrum.register
def _(law: LogPartitionLaw) -> Pair:
    lower, upper = spectrum(quartic_matrix(law))
    accuracy = law.accuracy[4] + 8 * law.accuracy[2]
    margin = lower.shape[1] * accuracy * np.square(law.own_diagonal().max(axis=1, keepdims=True))
    return np.maximum(lower - margin, 0), upper + margin


def _two_coordinates(law: MomentLaw) -> tuple[CumulantMoments, np.ndarray] | None:
    """Return the moments of e and W (n, 2, 2) of a law of two statistics W' e, None for any other law."""
    moments, W = law.moments, law.coordinates
    if isinstance(moments, EqualBlocks) and moments.n_blocks == 1:
        moments = moments.blocks
    if not isinstance(moments, CumulantMoments) or W is None or W.shape[1:] != (2, 2):
        return None
    return moments, W


def _determinant(matrices: np.ndarray) -> Pair:
    """Return the absolute determinants of matrices (n, 2, 2), and their rounding errors."""
    first, second = matrices[:, 0, 0] * matrices[:, 1, 1], matrices[:, 0, 1] * matrices[:, 1, 0]
    return np.abs(first - second), 64 * EPS * (np.abs(first) + np.abs(second))


def _smallest_of_two(basis: CumulantMoments, W: np.ndarray) -> np.ndarray:
    """Return a lower bound of the smallest eigenvalue of M for two statistics W' e, (n,).

    X -> W X W' carries M to the M of e, which is a diagonal times a well-conditioned matrix C times it. The inverse is that of C
    between what the inverse of W makes of symmetric matrices, and its largest eigenvalue is known to a few eps.
    """
    n = len(W)
    rows, columns, weight = svec_basis(2)
    own = basis.quartic_forms[:, :, rows, columns] * like(weight, W)
    size = np.linalg.norm(own, axis=1)
    usable = (size > 0).all(axis=1) & np.isfinite(size).all(axis=1)
    size = np.where(usable[:, None], size, 1)
    scaled = np.where(usable[:, None, None], own / size[:, None, :], like(np.eye(3), own))
    values, vectors = np.linalg.eigh(np.matmul(scaled.swapaxes(1, 2), scaled))
    least = np.maximum(values[:, 0], EPS)
    whitening = vectors.swapaxes(1, 2) / np.sqrt(np.maximum(values, least[:, None]))[:, :, None]
    # The inverse of W at size one, and that size.
    determinant, error = _determinant(W)
    usable = usable & (determinant > error)
    safe = np.where(usable, determinant, 1)
    a, b, c, d = W[:, 1, 1], -W[:, 0, 1], -W[:, 1, 0], W[:, 0, 0]
    scale = power_of_two(np.maximum(np.maximum(np.abs(a), np.abs(b)), np.maximum(np.abs(c), np.abs(d))))
    a, b, c, d = (one / scale for one in (a, b, c, d))
    two = np.sqrt(2.0)
    moved = [a * a, two * a * b, b * b, two * a * c, a * d + b * c, two * b * d, c * c, two * c * d, d * d]
    inverse = np.stack(moved, axis=1).reshape(n, 3, 3).swapaxes(1, 2) / size[:, :, None]
    product = np.matmul(whitening, inverse)
    # Relative to the condition of C, the whitening is off by a few eps of its norm.
    room = 64 * EPS / np.sqrt(least) * (values[:, -1] / least) * np.linalg.norm(inverse, axis=(1, 2))
    norm = np.sqrt(np.maximum(spectrum(np.matmul(product.swapaxes(1, 2), product))[1][:, -1], 0)) + room
    # |X| >= |W X W'| / |inverse|, with the determinant and the size of the inverse taken out one at a time.
    factor = safe / scale * (1 - error / safe) / np.sqrt(np.where(norm > 0, norm, 1))
    return np.where(usable & (norm > 0), below(np.square(np.square(factor))), 0)


def _dirichlet_smallest(law: DirichletLaw) -> np.ndarray:
    r"""Return a lower bound of the smallest eigenvalue of :math:`\mathrm{diag}(d)-\rho11'`, d = psi_1(alpha), (n,).

    It is the root below all d_a of :math:`\sum_a1/(d_a-\lambda)=1/\rho`. With f = 1 / psi_1 and f(x) = x - q(x), the parts that
    cancel at :math:`\lambda=0` are the concentrations themselves: what remains is
    :math:`\sum_a\lambda f(\alpha_a)/(d_a-\lambda)=\sum_aq(\alpha_a)-q(\alpha_0)`, increasing in :math:`\lambda`.
    """
    alpha = law.alpha
    d = polygamma(1, alpha)
    parts, whole = _shortfall(alpha), _shortfall(alpha.sum(axis=1, keepdims=True))[:, 0]
    together = parts.sum(axis=1)
    apart = np.maximum(together - whole - 64 * EPS * (together + whole), 0)
    f, least = 1 / d, d.min(axis=1)
    low, high = np.zeros_like(least), least
    for _ in range(_BISECTIONS):
        middle = np.where(low > 0, np.sqrt(low) * np.sqrt(high), high / 2**64)
        inside = (low < middle) & (middle < high)
        gap = d - middle[:, None]
        rising = (middle[:, None] * f / np.where(gap > 0, gap, 1)).sum(axis=1)
        under = inside & (rising < apart)
        low, high = np.where(under, middle, low), np.where(inside & ~under, middle, high)
    return below(low, alpha.shape[1])


def _shortfall(x: np.ndarray) -> np.ndarray:
    """Return q(x) = x - 1 / psi_1(x) = x^2 e / (1 + x e), e = psi_1(x) - 1 / x, without that subtraction."""
    scaled = x * polygamma_remainder(1, x)
    return x * scaled / (1 + scaled)
