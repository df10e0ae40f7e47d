"""Tables of refused calls: rows (call, exception, message), and arrays with something wrong in one place."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

Refusal = tuple[Callable[[], Any], type[Exception], str]

DTYPE = " must hold float64, float32, integers or bool, got dtype {}; convert it with `.astype(float)` if that loses nothing."
MASKED = " must have no masked entries, got one at index {}; fill them, or leave them out."
SPARSE = " must be an array of real numbers, got a csr_array of shape {} and dtype float64; make a sparse matrix dense with {}."
SEED = "`rng` must be a non-negative int, a numpy SeedSequence or a numpy Generator, got {}; pass an int such as rng=0"


def refused(rows: Sequence[Refusal]) -> pytest.MarkDecorator:
    """Run a test of (call, error, message) on every row."""
    return pytest.mark.parametrize(("call", "error", "message"), [pytest.param(*row, id=row[2][:60]) for row in rows])


def pattern(message: str) -> str:
    """Return a regular expression for the start of a message in which only .* and .+ stand for anything."""
    return "^" + re.escape(message).replace(r"\.\*", ".*").replace(r"\.\+", ".+")


def changed(array: Any, value: Any, index: tuple[int, ...] = (2, 1)) -> np.ndarray:
    """Return a copy with `value` in one place."""
    copy = np.array(array, dtype=np.result_type(np.asarray(array), type(value)))
    copy[index] = value
    return copy


def masked(array: Any, index: tuple[int, ...]) -> np.ma.MaskedArray:
    """Return the array with one entry masked."""
    return np.ma.masked_array(array, mask=changed(np.zeros(np.shape(array), dtype=bool), True, index))
