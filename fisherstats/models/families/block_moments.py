"""Moments of several independent blocks: sums over blocks and over pairs of blocks, all terms non-negative."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fisherstats.core.arrays import like
from fisherstats.engines.primitives import pair_sum
from fisherstats.models.families.moments import CumulantMoments, Moments

__all__ = ["BlockMoments", "EqualBlocks", "ListedBlocks"]


class BlockMoments(ABC):
    """Moments of several independent blocks: sums over blocks and over pairs of blocks, of non-negative terms."""

    @abstractmethod
    def each(self, moment: Callable[..., np.ndarray], *directions: np.ndarray) -> np.ndarray:
        """Return moment(block, directions of the block) of every block, shape (n, B, ...)."""

    @abstractmethod
    def each_form(self, moment: Callable[..., np.ndarray], a: np.ndarray, s: np.ndarray | None = None) -> np.ndarray:
        """Return moment(block, a_bb[, s_b]) of every block for forms a (n, T, T) or (n, g, T, T), shape (n, B[, g])."""

    @abstractmethod
    def numbered_rows(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of all blocks, one block after the other, (n, R, k), and the block of each row, (R,)."""

    @abstractmethod
    def product(self, z: np.ndarray) -> np.ndarray:
        """Return the covariance times z, shape (n, T, k)."""

    def rows(self, u: np.ndarray) -> np.ndarray:
        """Return a root of the covariance times u, shape (n, R, k)."""
        return self.numbered_rows(u)[0]

    def diagonal(self, u: np.ndarray) -> np.ndarray:
        """Return Var(u.e) = sum_b z_b, shape (n, k)."""
        return self._variances(u).sum(axis=1)

    def _variances(self, u: np.ndarray) -> np.ndarray:
        return self.each(lambda block, u_b: block.diagonal(u_b), u)

    def fourth_moment(self, u: np.ndarray) -> np.ndarray:
        """Return E[(u.e)^4] = sum_b E[(u_b.e_b)^4] + 6 sum_{b<c} z_b z_c, shape (n, k)."""
        own = self.each(lambda block, u_b: block.fourth_moment(u_b), u)
        return own.sum(axis=1) + 6 * pair_sum(self._variances(u))

    def square_variance(self, u: np.ndarray) -> np.ndarray:
        """Return Var((u.e)^2) = sum_b Var((u_b.e_b)^2) + 4 sum_{b<c} z_b z_c, shape (n, k)."""
        own = self.each(lambda block, u_b: block.square_variance(u_b), u)
        return own.sum(axis=1) + 4 * pair_sum(self._variances(u))

    def third_moment(self, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(u.e)^2 (s.e)], the sum over blocks, shape (n, k)."""
        return self.each(lambda block, u_b, s_b: block.third_moment(u_b, s_b), u, s).sum(axis=1)

    def product_variance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return Var((u.e)(v.e)) for all pairs of columns, shape (n, k, m).

        A block b and all blocks before it, P, add E[(u_P.e v_b.e + u_b.e v_P.e)^2] = z(u_P) z(v_b) + z(u_b) z(v_P) + 2 c_P c_b,
        with c the covariances of u.e and v.e.
        """
        own = self.each(lambda block, u_b, v_b: block.product_variance(u_b, v_b), u, v)
        covariance = self.each(lambda block, u_b, v_b: np.matmul(block.rows(u_b).swapaxes(1, 2), block.rows(v_b)), u, v)
        z_u, z_v = self._variances(u)[..., None], self._variances(v)[:, :, None, :]
        total, before = own[:, 0].copy(), covariance[:, 0].copy()
        before_u, before_v = z_u[:, 0].copy(), z_v[:, 0].copy()
        for block in range(1, own.shape[1]):
            mixed = before_u * z_v[:, block] + z_u[:, block] * before_v + 2 * before * covariance[:, block]
            # The mean of a square: rounding alone takes it below 0, where the square vanishes almost surely.
            total += own[:, block] + np.maximum(mixed, 0)
            before += covariance[:, block]
            before_u += z_u[:, block]
            before_v += z_v[:, block]
        return total

    def quadratic_mean(self, a: np.ndarray) -> np.ndarray:
        """Return E[e' a e], the sum over diagonal blocks of a, shape (n,) or (n, g)."""
        return self.each_form(lambda block, a_b: block.quadratic_mean(a_b), a).sum(axis=1)

    def quadratic_variance(self, a: np.ndarray) -> np.ndarray:
        """Return Var(e' a e) = sum_b Var(e_b' a_bb e_b) + 2 sum_{b != c} |R_b a_bc R_c'|^2, shape (n,) or (n, g)."""
        own: np.ndarray = self.each_form(lambda block, a_b: block.quadratic_variance(a_b), a).sum(axis=1)
        groups = a[:, None] if a.ndim == 3 else a
        n, g, size, _ = groups.shape
        half, blocks = self.numbered_rows(groups.transpose(0, 2, 1, 3).reshape(n, size, g * size))
        turned = half.reshape(n, -1, g, size).transpose(0, 3, 2, 1).reshape(n, size, -1)
        white = self.rows(turned).reshape(n, half.shape[1], g, half.shape[1])
        apart = like((blocks[:, None] != blocks).astype(a.dtype), a)
        pairs = np.einsum("nrgs,rs->ng", white * white, apart)
        return own + 2 * (pairs[:, 0] if a.ndim == 3 else pairs)

    def quadratic_third_moment(self, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return E[(e' a e)(s.e)], the sum over diagonal blocks of a, shape (n,) or (n, g)."""
        return self.each_form(lambda block, a_b, s_b: block.quadratic_third_moment(a_b, s_b), a, s).sum(axis=1)


class ListedBlocks(BlockMoments):
    """Blocks of different laws, with the slice of components of each."""

    def __init__(self, parts: Sequence[Moments], slices: Sequence[slice]) -> None:
        self.parts, self.slices = parts, slices

    def _pieces(self, *arrays: np.ndarray) -> list[tuple[Any, ...]]:
        return [(part, *(one[:, piece] for one in arrays)) for part, piece in zip(self.parts, self.slices, strict=True)]

    def each(self, moment: Callable[..., np.ndarray], *directions: np.ndarray) -> np.ndarray:
        """Return moment(block, directions of the block) of every block, shape (n, B, ...)."""
        return np.stack([moment(*piece) for piece in self._pieces(*directions)], axis=1)

    def each_form(self, moment: Callable[..., np.ndarray], a: np.ndarray, s: np.ndarray | None = None) -> np.ndarray:
        """Return moment(block, a_bb[, s_b]) of every block, shape (n, B[, g])."""
        values = []
        for part, piece in zip(self.parts, self.slices, strict=True):
            own = a[..., piece, piece]
            values.append(moment(part, own) if s is None else moment(part, own, s[..., piece]))
        return np.stack(values, axis=1)

    def numbered_rows(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of all blocks, (n, R, k), and the block of each row."""
        rows = [part.rows(u_b) for part, u_b in self._pieces(u)]
        return np.concatenate(rows, axis=1), np.repeat(np.arange(len(rows)), [one.shape[1] for one in rows])

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return the covariance times z, shape (n, T, k)."""
        return np.concatenate([part.product(z_b) for part, z_b in self._pieces(z)], axis=1)


class EqualBlocks(BlockMoments):
    """B blocks of one size R for each of n inputs, held as the moments of n * B rows."""

    def __init__(self, blocks: CumulantMoments, n_blocks: int) -> None:
        self.blocks, self.n_blocks = blocks, n_blocks

    def _stacked(self, u: np.ndarray) -> np.ndarray:
        return u.reshape(len(u) * self.n_blocks, -1, u.shape[2])

    def each(self, moment: Callable[..., np.ndarray], *directions: np.ndarray) -> np.ndarray:
        """Return moment(block, directions of the block) of every block, shape (n, B, ...)."""
        values = moment(self.blocks, *(self._stacked(u) for u in directions))
        return values.reshape(-1, self.n_blocks, *values.shape[1:])

    def each_form(self, moment: Callable[..., np.ndarray], a: np.ndarray, s: np.ndarray | None = None) -> np.ndarray:
        """Return moment(block, a_bb[, s_b]) of every block, shape (n, B[, g])."""
        n, *groups, size, _ = a.shape
        block = size // self.n_blocks
        cut = a.reshape(n, *groups, self.n_blocks, block, self.n_blocks, block)
        own = np.moveaxis(np.diagonal(cut, axis1=-4, axis2=-2), -1, 1).reshape(n * self.n_blocks, *groups, block, block)
        if s is None:
            values = moment(self.blocks, own)
        else:
            pieces = np.moveaxis(s.reshape(n, *groups, self.n_blocks, block), -2, 1)
            values = moment(self.blocks, own, pieces.reshape(n * self.n_blocks, *groups, block))
        return values.reshape(n, self.n_blocks, *groups)

    def numbered_rows(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of all blocks, (n, R, k), and the block of each row."""
        block = np.repeat(np.arange(self.n_blocks), u.shape[1] // self.n_blocks)
        return self.blocks.rows(self._stacked(u)).reshape(u.shape), block

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return the covariance times z, shape (n, T, k)."""
        return self.blocks.product(self._stacked(z)).reshape(z.shape)
