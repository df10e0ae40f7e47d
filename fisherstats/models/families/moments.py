"""Moments of dependent statistics along directions, from the cumulant tensors of a small basis.

A statistic whose components depend on each other is written delta = W' e in a basis e chosen so that its cumulants are free of
cancellation; u.delta is then (W u).e. Variances of squares are sums of squares through a root of Cov(e e'), never differences.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fisherstats.core.arrays import identity
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import families as checks
from fisherstats.models.families.base import Law
from fisherstats.models.families.draws import _root as matrix_root

__all__ = ["CumulantMoments", "MomentLaw", "Moments"]


class Moments(Protocol):
    """The moments of a centred statistic along directions, as defined in `Law`."""

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return Var(u.e), shape (n, k)."""
        ...

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return a root of the covariance times u, shape (n, R, k)."""
        ...

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return the covariance times z, shape (n, T, k)."""
        ...

    def fourth_moment(self, u: np.ndarray) -> np.ndarray:
        """Return E[(u.e)^4], shape (n, k)."""
        ...

    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return Var((u.e)^2), shape (n, k)."""
        ...

    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(u.e)^2 (s.e)], shape (n, k)."""
        ...

    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return Var((u.e)(v.e)) for all pairs of columns, shape (n, k, m)."""
        ...

    def quadratic_mean(self, a: np.ndarray) -> np.ndarray:
        """Return E[e' a e], shape (n,) or (n, g)."""
        ...

    def quadratic_variance(self, a: np.ndarray) -> np.ndarray:
        """Return Var(e' a e), shape (n,) or (n, g)."""
        ...

    def quadratic_third_moment(self, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(e' a e)(s.e)], shape (n,) or (n, g)."""
        ...


class CumulantMoments:
    """Moments of a centred statistic e in R^R from its cumulant tensors of order two, three and four.

    Parameters
    ----------
    second, third, fourth : numpy.ndarray
        Symmetric tensors (n, R, R), (n, R, R, R) and (n, R, R, R, R).
    rounding : float, default 0.0
        Error of the covariance, relative to a unit diagonal: smaller eigenvalues are those of a singular matrix.

    Notes
    -----
    Cost R^4 per direction, so for small R. Errors are relative to Var(u.e) and E[(u.e)^4] times the condition of the basis.
    """

    def __init__(self, second: np.ndarray, third: np.ndarray, fourth: np.ndarray, *, rounding: float = 0.0) -> None:
        self.second, self.third, self.fourth, self.rounding = second, third, fourth, rounding

    @cached_property
    def _root(self) -> np.ndarray:
        """R with R' R = Cov(e)."""
        return matrix_root(self.second, self.rounding)

    @cached_property
    def quartic_forms(self) -> np.ndarray:
        """Symmetric B_r (n, S, R, R) with Cov(e' a e, e' b e) = sum_r <B_r, a> <B_r, b>, S = R (R + 1) / 2."""
        size = self.second.shape[1]
        rows, columns = np.triu_indices(size)
        second = self.second
        mixed = np.einsum("nac,nbd->nabcd", second, second)
        covariance = (self.fourth + mixed + mixed.swapaxes(3, 4))[:, rows, columns][:, :, rows, columns]
        root = matrix_root(covariance)
        forms = np.empty_like(root, shape=(*root.shape[:2], size, size))
        # A form e' a e counts each mixed product twice, as a_rc and a_cr, so the root's entry stands in both places.
        forms[:, :, rows, columns] = root
        forms[:, :, columns, rows] = root
        return forms

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return Var(u.e), shape (n, k)."""
        rows = self.rows(u)
        return np.einsum("nrk,nrk->nk", rows, rows)

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return R u, shape (n, R, k)."""
        return np.matmul(self._root, u)

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return Cov(e) z, shape (n, R, k)."""
        return np.matmul(self.second, z)

    def fourth_moment(self, u: np.ndarray) -> np.ndarray:
        """Return E[(u.e)^4] = Var((u.e)^2) + Var(u.e)^2, shape (n, k)."""
        return self.square_variance(u) + self.diagonal(u) ** 2

    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return Var((u.e)^2) = sum_r (u' B_r u)^2, shape (n, k)."""
        forms = np.einsum("nrak,nak->nrk", np.matmul(self.quartic_forms, u[:, None]), u)
        return np.einsum("nrk,nrk->nk", forms, forms)

    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(u.e)^2 (s.e)] = kappa3(u, u, s), shape (n, k)."""
        along = np.einsum("nabc,nck->nabk", self.third, s)
        return np.einsum("nabk,nak,nbk->nk", along, u, u) + 0.0  # + 0.0 turns -0.0 into 0.0

    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return Var((u.e)(v.e)) = sum_r (u' B_r v)^2, shape (n, k, m)."""
        total = np.zeros_like(u, shape=(u.shape[0], u.shape[2], v.shape[2]))
        for form in range(self.quartic_forms.shape[1]):
            total += np.matmul(np.matmul(self.quartic_forms[:, form], u).swapaxes(1, 2), v) ** 2
        return total

    def quadratic_mean(self, a: np.ndarray) -> np.ndarray:
        """Return tr(a Cov(e)), shape (n,) or (n, g)."""
        return np.einsum("n...ab,nab->n...", a, self.second)

    def quadratic_variance(self, a: np.ndarray) -> np.ndarray:
        """Return Var(e' a e) = sum_r <B_r, a>^2, shape (n,) or (n, g)."""
        return (np.einsum("n...ab,nrab->n...r", a, self.quartic_forms) ** 2).sum(axis=-1)

    def quadratic_third_moment(self, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(e' a e)(s.e)] = sum_abc kappa3_abc a_ab s_c, shape (n,) or (n, g)."""
        return np.einsum("n...ab,nabc,n...c->n...", a, self.third, s) + 0.0


class MomentLaw(Law):
    """A law whose residual is delta = W' e: its moments along u are those of e along W u.

    Parameters
    ----------
    h : numpy.ndarray
        Natural parameters (n, T).
    moments : Moments
        Moments of e.
    coordinates : numpy.ndarray or None
        W, shape (n, R, T); None for the identity.
    """

    def __init__(self, h: np.ndarray, moments: Moments, coordinates: np.ndarray | None) -> None:
        self.h, self.moments, self.coordinates = h, moments, coordinates

    def _along(self, u: np.ndarray) -> np.ndarray:
        return u if self.coordinates is None else np.matmul(self.coordinates, u)

    def _form(self, a: np.ndarray) -> np.ndarray:
        if self.coordinates is None:
            return a
        w = self.coordinates if a.ndim == 3 else self.coordinates[:, None]
        return np.matmul(np.matmul(w, a), w.swapaxes(-1, -2))

    def _form_direction(self, s: np.ndarray) -> np.ndarray:
        columns = self._along(s[:, :, None] if s.ndim == 2 else s.swapaxes(1, 2))
        return columns[:, :, 0] if s.ndim == 2 else columns.swapaxes(1, 2)

    def information(self) -> np.ndarray:
        """Return I(h) = Cov(t), shape (n, T, T)."""
        n, outputs = self.h.shape
        rows = self.rows(np.broadcast_to(identity(outputs, self.h), (n, outputs, outputs)))
        return np.matmul(rows.swapaxes(1, 2), rows)

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return I(h) z = W' Cov(e) W z, shape (n, T, k)."""
        product = self.moments.product(self._along(z))
        return product if self.coordinates is None else np.matmul(self.coordinates.swapaxes(1, 2), product)

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return Var(u.t), shape (n, k)."""
        return self.moments.diagonal(self._along(u))

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return a root of I(h) times u, shape (n, R, k)."""
        return self.moments.rows(self._along(u))

    def fourth_moment(self, u: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^4], shape (n, k)."""
        return self.moments.fourth_moment(self._along(u))

    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return M(u,u,u,u) = Var((u.delta)^2), shape (n, k)."""
        return self.moments.square_variance(self._along(u))

    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(u.delta)^2 (s.delta)], shape (n, k)."""
        return self.moments.third_moment(self._along(u), self._along(s))

    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return M(u,v,u,v) = Var((u.delta)(v.delta)) for all pairs of columns, shape (n, k, m)."""
        return self.moments.product_variance(self._along(u), self._along(v))

    def quadratic_mean(self, a: np.ndarray) -> np.ndarray:
        """Return E[delta' a delta], shape (n,) or (n, g)."""
        return self.moments.quadratic_mean(self._form(a))

    def quadratic_variance(self, a: np.ndarray) -> np.ndarray:
        """Return Var(delta' a delta), shape (n,) or (n, g)."""
        return self.moments.quadratic_variance(self._form(a))

    def quadratic_third_moment(self, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(delta' a delta)(s.delta)], shape (n,) or (n, g)."""
        return self.moments.quadratic_third_moment(self._form(a), self._form_direction(s))

    def cumulant(self, order: int) -> np.ndarray:
        """Return the cumulant tensor of t of the given order, 1 to 4, shape (n, T, ..., T)."""
        order = checks.cumulant_order(order)
        if order <= 2:
            return self.mean if order == 1 else self.information()
        tensor: np.ndarray = getattr(self.moments, ("third", "fourth")[order - 3])
        if self.coordinates is not None:
            for axis in range(1, order + 1):
                tensor = np.moveaxis(np.einsum("n...r,nrt->n...t", np.moveaxis(tensor, axis, -1), self.coordinates), -1, axis)
        return tensor
