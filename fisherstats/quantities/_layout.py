"""Layouts: names, dims, coordinates and dtypes of a result, known from arguments and network before anything is computed."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from fisherstats.core.schema import VARIABLES
from fisherstats.quantities import _labels

__all__ = ["Entry", "Layout", "Slot", "array", "dataset", "dims_of", "given", "tree"]

R = TypeVar("R")

Entry = str | tuple[str, DTypeLike]
"""A schema key, with its dtype where that is not the one of the result."""

_GROUPS = (("param",), ("layer",), ("unit",))

_TOKENS = re.compile(r"\[([^]]*)\]|(\S+)")


@dataclass(frozen=True)
class Slot:
    """One array of a result."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    input_axis: int | None
    """The axis of the inputs, if there is one."""


@dataclass(frozen=True)
class Layout(Generic[R]):
    """A result without its values: what is known of each array, and how arrays in that order become the result."""

    slots: tuple[Slot, ...]
    filled: Callable[[Sequence[Any]], R]
    provenance: Mapping[str, Any]
    later: tuple[Any, ...] = ()
    """The `PassShape` of each pass after the first."""

    def answer(self) -> None:
        """Return nothing: a layout is for drivers that have to know it beforehand."""

    def check(self, values: Sequence[Any]) -> None:
        """Require values as announced, within the ranges that the schema declares."""
        self.announced(values)
        _labels.checked([(slot.key, one) for slot, one in zip(self.slots, values, strict=True)])

    def announced(self, values: Sequence[Any]) -> None:
        """Require values of the shapes and dtypes of the layout."""
        for slot, one in zip(self.slots, values, strict=True):
            if np.shape(one) != slot.shape or one.dtype != slot.dtype:
                raise AssertionError(
                    f"`{slot.key}` was announced as {slot.shape} of {slot.dtype}, not {np.shape(one)} of {one.dtype}"
                )

    def followed_by(self, *later: Any) -> Layout[R]:
        """Return the layout of a computation with further passes over the inputs."""
        return replace(self, later=later)


_AS_FIRST = "as the estimate"
"""Dims of an uncertainty, which are those of the first entry."""


@functools.cache
def _tokens(dims: str) -> tuple[tuple[bool, tuple[tuple[str, ...], ...]], ...]:
    """Return (optional, alternatives) of each part of the dims of a schema row."""
    found = []
    for optional, required in _TOKENS.findall(dims):
        alternatives = [tuple(one.split()) for one in (optional or required).split(" or ")]
        if optional:
            alternatives = [one for names in alternatives for one in (_GROUPS if names == ("group",) else (names,))]
        found.append((bool(optional), tuple(alternatives)))
    return tuple(found)


def dims_of(key: str, coords: Mapping[str, Any]) -> list[str]:
    """Return the dims of a variable: those of its schema row, and of the optional ones the first that have coordinates."""
    dims: list[str] = []
    for optional, alternatives in _tokens(VARIABLES[key].dims):
        chosen = [names for names in alternatives if not optional or all(name in coords for name in names)]
        dims += chosen[0] if chosen else ()
    return dims


def _slot(key: str, dims: Sequence[str], coords: Mapping[str, Any], dtype: DTypeLike) -> Slot:
    shape = tuple(len(coords[dim][1]) for dim in dims)
    return Slot(key, shape, np.dtype(dtype), dims.index("input") if "input" in dims else None)


def _split(entries: Sequence[Entry], dtype: DTypeLike) -> tuple[list[str], list[DTypeLike]]:
    pairs = [(one, dtype) if isinstance(one, str) else one for one in entries]
    return [key for key, _ in pairs], [kind for _, kind in pairs]


def array(
    key: str,
    coords: Mapping[str, Any],
    provenance: Mapping[str, Any],
    dtype: DTypeLike,
    companions: Sequence[Entry] = (),
) -> Layout[xr.DataArray]:
    """Return the layout of one quantity; `companions` (its standard error, say) have its dims and become coordinates."""
    dims = dims_of(key, coords)
    keys, kinds = _split(companions, dtype)
    slots = tuple(_slot(name, dims, coords, kind) for name, kind in zip((key, *keys), (dtype, *kinds), strict=True))

    def filled(values: Sequence[Any]) -> xr.DataArray:
        first, *rest = values
        beside = [(name, dims, one) for name, one in zip(keys, rest, strict=True)]
        return _labels.array(key, dims, first, coords, provenance, beside)

    return Layout(slots, filled, provenance)


def dataset(
    entries: Sequence[Entry], coords: Mapping[str, Any], provenance: Mapping[str, Any], dtype: DTypeLike
) -> Layout[xr.Dataset]:
    """Return the layout of several quantities that share coordinates."""
    keys, kinds = _split(entries, dtype)
    first = dims_of(keys[0], coords)
    dims = [first if VARIABLES[key].dims == _AS_FIRST else dims_of(key, coords) for key in keys]
    slots = tuple(_slot(key, own, coords, kind) for key, own, kind in zip(keys, dims, kinds, strict=True))

    def filled(values: Sequence[Any]) -> xr.Dataset:
        return _labels.dataset(list(zip(keys, dims, values, strict=True)), coords, provenance)

    return Layout(slots, filled, provenance)


def tree(
    children: Mapping[str, tuple[Sequence[Entry], Mapping[str, Any]]], provenance: Mapping[str, Any], dtype: DTypeLike
) -> Layout[xr.DataTree]:
    """Return the layout of one child per layer, each of (entries, coordinates); the values of one follow those of another."""
    parts = {name: dataset(entries, coords, provenance, dtype) for name, (entries, coords) in children.items()}

    def filled(values: Sequence[Any]) -> xr.DataTree:
        left = iter(values)
        return _labels.tree({name: one.filled([next(left) for _ in one.slots]) for name, one in parts.items()}, provenance)

    return Layout(tuple(slot for one in parts.values() for slot in one.slots), filled, provenance)


def given(result: R) -> Layout[R]:
    """Return the layout of a result that is complete, such as one in a store."""
    return Layout((), lambda values: result, {})
