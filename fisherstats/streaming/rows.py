"""Rows of x in fixed blocks, whatever its memory layout or chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fisherstats.checks import inputs

__all__ = ["STREAM_ROWS", "Rows", "block_rows", "block_sizes"]

Array = NDArray[np.floating]

STREAM_ROWS = 16
"""Inputs that share one random stream; every block is a whole number of them."""

_BLOCK_NUMBERS = 2**22
"""A block's largest per-input array is kept below this many numbers, so that it stays near the cache."""


class Source(Protocol):
    """What x must offer: a shape, and rows by slicing (an ndarray, a memory map or a dask array)."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> Any: ...


def block_rows(numbers_per_input: int, preferred: int = 128) -> int:
    """Return the rows of a block: `preferred`, halved while `numbers_per_input` would make the block too large."""
    rows = preferred
    while rows > STREAM_ROWS and rows * numbers_per_input > _BLOCK_NUMBERS:
        rows //= 2
    return rows


def block_sizes(n_inputs: int, rows: int) -> list[int]:
    """Return the sizes of the blocks: `rows` each, and what is left."""
    whole, rest = divmod(n_inputs, rows)
    return [rows] * whole + [rest] * bool(rest)


class Rows:
    """Reads a matrix in C-ordered, finite blocks of one dtype, whatever its memory layout or chunks."""

    def __init__(self, source: Source, dtype: np.dtype[np.floating], known_finite: bool = False) -> None:
        self.source = source
        self.dtype = dtype
        self.known_finite = known_finite
        self.n_inputs = int(source.shape[0])

    def blocks(self, rows: int) -> Iterator[tuple[Array, int]]:
        """Yield (block, index of its first input)."""
        for piece, first in self.pieces(block_sizes(self.n_inputs, rows)):
            yield self.block(piece, first), first

    def block(self, piece: Array, first: int) -> Array:
        """Return a piece as what is computed with; raise if it is not finite."""
        block = np.ascontiguousarray(piece, dtype=self.dtype)
        if not self.known_finite:
            inputs.finite_block(block, first)
        return block

    def pieces(self, sizes: Sequence[int]) -> Iterator[tuple[Array, int]]:
        """Yield (rows of x as they lie in memory, index of the first one)."""
        parts = self._parts(sizes)
        held: list[Array] = []
        n_held, first = 0, 0
        for size in sizes:
            while n_held < size:
                held.append(next(parts))
                n_held += len(held[-1])
            joined = held[0] if len(held) == 1 else np.concatenate(held)
            yield joined[:size], first
            first += size
            n_held -= size
            held = [joined[size:]] if n_held else []

    def _parts(self, sizes: Sequence[int]) -> Iterator[Array]:
        """Yield consecutive pieces: a chunk at a time for a chunked source, else a block at a time."""
        chunks = getattr(self.source, "chunks", None)
        start = 0
        for size in chunks[0] if chunks else sizes:
            yield np.asarray(self.source[start : start + size])
            start += size
