"""Division of the work of a training step over threads.

Work is divided by its size only and sums are added in order, so the number of threads changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats import execution

__all__ = ["ALONE", "Workers"]

Array = NDArray[np.floating]

_SHARED_PRODUCT = 3 * 10**6
"""Multiplications above which a product is shared; below, waking a thread takes longer than half of the product."""

_SHARED_VECTOR = 2**15
_PIECES = 2
_GATHERED_ROWS = 64
_ENTRIES = 2**16
"""Rows, and entries of vectors, that fit the cache of a core."""


@dataclass(frozen=True)
class Workers:
    """The threads of one training run.

    Parameters
    ----------
    threads : int
        Number of threads.
    sharing : bool, default True
        Whether they share single products and updates; False while each processes its own block, and on a device.
    """

    threads: int
    sharing: bool = True

    def slices(self, size: int, multiplications: int) -> list[slice]:
        """Return the slices of an axis over which a product is divided."""
        shared = self.sharing and multiplications >= _SHARED_PRODUCT
        return _cut(size, -(-size // _PIECES) if shared else size)

    def product(self, left: Array, right: Array, out: Array) -> Array:
        """Return the product of two matrices; a large one is shared by columns."""

        def piece(columns: slice) -> None:
            np.matmul(left, right[:, columns], out=out[:, columns])

        self.each(piece, self.slices(right.shape[1], left.size * right.shape[1]))
        return out

    def gathered(self, x: Any, rows: NDArray[np.int64], dtype: np.dtype[np.floating], with_one: bool) -> Array:
        """Return rows of the inputs in a precision, with the constant one appended if it is wanted."""
        n_in = x.shape[1]
        x_bar = np.empty((len(rows), n_in + with_one), dtype)
        x_bar[:, n_in:] = 1

        def piece(part: slice) -> None:
            x_bar[part, :n_in] = execution.rows_by_number(x, rows[part])

        self.each(piece, _cut(len(rows), min(_GATHERED_ROWS, -(-len(rows) // _PIECES))))
        return x_bar

    def entrywise(self, update: Callable[[slice], Any], size: int) -> list[Any]:
        """Apply an entrywise update of vectors of a given size, divided over slices where it is shared; return its results."""
        shared = self.sharing and size >= _SHARED_VECTOR
        return self.each(update, _cut(size, min(_ENTRIES, -(-size // _PIECES)) if shared else size))

    def each(self, function: Callable[[Any], Any], pieces: Sequence[Any]) -> list[Any]:
        """Return the results of a function for each piece."""
        return execution.share(function, pieces, self.threads)


ALONE = Workers(1, sharing=False)
"""A thread that processes its own block, or submits work to a device."""


def _cut(size: int, piece: int) -> list[slice]:
    return [slice(start, min(start + piece, size)) for start in range(0, size, piece)]
