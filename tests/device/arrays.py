"""A stand-in for arrays of a device, so that what runs on cupy arrays is tested where there is no GPU.

`DeviceArray` offers what cupy offers: numpy's protocols (NEP 13, 18 and 35) and methods. Every operation is carried out by
functions of the array standard, as `array_api_strict` has them, and what these cannot say is refused. As with cupy, host arrays
do not mix with it, and it never becomes a host array unless asked to by `get`. Each time a value leaves the device, `transfers`
grows by one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import array_api_strict as standard
import numpy as np

from tests.device.functions import FUNCTIONS, dtype_of, einsum, of_dtype, ufunc

__all__ = ["DeviceArray", "called", "fit_cupy", "no_transfers", "to_device", "transfers"]

MEMORY = 2**17
"""Bytes; so little that 16 inputs of a small network are a block."""

transfers: list[str] = []
"""What has left the device, one word per transfer."""

called: set[tuple[str, int, tuple[str, ...]]] = set()
"""Functions of numpy that have been called with arrays of the device: name, number of positional arguments, keywords."""

_refusing = [False]


@contextlib.contextmanager
def no_transfers() -> Iterator[None]:
    """Refuse every transfer to the host."""
    _refusing[0] = True
    try:
        yield
    finally:
        _refusing[0] = False


def fit_cupy(functions: set[tuple[str, int, tuple[str, ...]]]) -> None:
    """Require functions with these arguments in cupy, as `called` lists them; importing cupy needs no device."""
    cupy, special = importlib.import_module("cupy"), importlib.import_module("cupyx.scipy.special")
    for name, count, keywords in functions:
        function = functools.reduce(lambda owner, part: getattr(owner, part, None), name.split("."), cupy)
        function = getattr(special, name) if function is None else function
        if not isinstance(function, cupy.ufunc):
            inspect.signature(function).bind(*range(count), **dict.fromkeys(keywords))


def _leave(word: str) -> None:
    if _refusing[0]:
        raise AssertionError(f"{word} waits for the device")
    transfers.append(word)


def to_device(array: Any) -> DeviceArray:
    """Copy a host array, or anything that makes one, onto the device."""
    return array if isinstance(array, DeviceArray) else DeviceArray(standard.asarray(np.array(array)))


def _plain(value: Any) -> Any:
    """Return the standard's array, a Python scalar, or lists of them."""
    if isinstance(value, DeviceArray):
        return value.own
    if isinstance(value, list | tuple):
        return type(value)(_plain(one) for one in value)
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _put_along_axis(arr: DeviceArray, indices: DeviceArray, values: Any, axis: int) -> None:
    if indices.shape[axis] != 1:
        raise TypeError("one entry is put along an axis")
    shape = [arr.shape[axis] if k == axis % arr.ndim else 1 for k in range(arr.ndim)]
    places = np.reshape(to_device(np.arange(arr.shape[axis])), shape)
    arr[...] = np.where(places == indices, values, arr)


def _call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    called.add((name, len(args), tuple(sorted(kwargs))))
    if name == "einsum":
        return DeviceArray(einsum(*[_plain(one) for one in args], **kwargs))
    if name == "put_along_axis":
        return _put_along_axis(*args, **kwargs)
    if name not in FUNCTIONS:
        raise TypeError(f"numpy's function {name} is not available on a device")
    if name in ("asarray", "array"):
        found = FUNCTIONS[name](args[0].own if isinstance(args[0], DeviceArray) else args[0], *args[1:], **kwargs)
    else:
        plain = [value if name == "zeros" else _plain(value) for value in args]
        found = FUNCTIONS[name](
            *plain, **{key: value if key in ("dtype", "shape") else _plain(value) for key, value in kwargs.items()}
        )
    if isinstance(found, tuple):
        return tuple(DeviceArray(one) for one in found)
    return DeviceArray(found)


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the device."""

    def __init__(self, own: Any) -> None:
        self.own = own

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.own.shape)

    @property
    def ndim(self) -> int:
        return int(self.own.ndim)

    @property
    def size(self) -> int:
        return int(self.own.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return dtype_of(self.own)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def device(self) -> Any:
        """As cupy's: free and total bytes of its memory."""
        return SimpleNamespace(mem_info=(MEMORY, MEMORY))

    @property
    def strides(self) -> tuple[int, ...]:
        return np.asarray(self.own).strides

    @property
    def T(self) -> DeviceArray:
        return self.transpose()

    @property
    def mT(self) -> DeviceArray:
        return DeviceArray(self.own.mT)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            raise TypeError(f"{function.__name__}.{method} with {sorted(kwargs)} is not available on a device")
        called.add((function.__name__, len(inputs), () if out is None else ("out",)))
        for value in inputs:
            if isinstance(value, np.ndarray):
                raise TypeError(f"Unsupported type {type(value)}")
        found = DeviceArray(ufunc(function.__name__, tuple(map(_plain, inputs))))
        if out is None:
            return found
        (target,) = out
        target[...] = found
        return target

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        del types
        module = func.__module__.removeprefix("numpy").removeprefix(".")
        return _call(f"{module}.{func.__name__}" if module else func.__name__, args, kwargs)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[DeviceArray]:
        return (self[k] for k in range(len(self)))

    def _key(self, key: Any) -> tuple[Any, list[Any]]:
        """Return the key with an ellipsis, slices within the array, and its index arrays."""
        parts = list(key) if isinstance(key, tuple) else [key]
        parts = [int(part) if isinstance(part, np.integer) else part for part in parts]
        parts = [np.asarray(part) if isinstance(part, list | range) else part for part in parts]
        arrays = [part for part in parts if isinstance(part, np.ndarray | DeviceArray)]
        if not any(part is Ellipsis for part in parts):
            parts.append(Ellipsis)
        if any(isinstance(part, slice) for part in parts):
            ends = next(at for at, part in enumerate(parts) if part is Ellipsis)
            axis = 0
            for at, part in enumerate(parts):
                if at == ends:
                    axis = self.ndim - sum(one is not None for one in parts[at + 1 :])
                elif part is not None:
                    parts[at] = self._within(part, self.shape[axis]) if isinstance(part, slice) else part
                    axis += 1
        return tuple(parts), arrays

    @staticmethod
    def _within(part: slice, size: int) -> slice:
        """Return a slice whose ends lie within an axis, as the standard wants them."""
        start, stop, step = part.indices(size)
        return slice(start, None if stop < 0 else stop, step)

    def __getitem__(self, key: Any) -> DeviceArray:
        if isinstance(key, DeviceArray) and key.dtype.kind == "b":
            _leave("boolean index")
            return DeviceArray(self.own[key.own])
        parts, arrays = self._key(key)
        if not arrays:
            return DeviceArray(self.own[parts])
        if any(array.dtype.kind == "b" for array in arrays):
            raise TypeError("a mask has to be the whole index")
        added = []
        for at, part in enumerate(parts):
            if part is None:
                before = [one for one in parts[:at] if one is not Ellipsis]
                own = [one for one in before if isinstance(one, np.ndarray | DeviceArray)]
                added.append(len(before) - len(own) + (own[0].ndim if own else 0))
        taken = self._taken(self._spelled(tuple(part for part in parts if part is not None)))
        for axis in added:
            taken = DeviceArray(standard.expand_dims(taken.own, axis=axis))
        return taken

    def _taken(self, parts: list[Any]) -> DeviceArray:
        """Return the entries at arrays of integers in adjacent axes, all other axes whole, by one `take`."""
        axes = [axis for axis, part in enumerate(parts) if not isinstance(part, slice)]
        whole = all(
            part.indices(size) == (0, size, 1) for part, size in zip(parts, self.shape, strict=True) if isinstance(part, slice)
        )
        if axes != list(range(axes[0], axes[-1] + 1)) or not whole:
            raise TypeError("only adjacent arrays of integers may index")
        arrays = [
            part.own if isinstance(part, DeviceArray) else standard.asarray(np.asarray(part)) for part in (parts[k] for k in axes)
        ]
        flat = arrays[0]
        for axis, array in zip(axes[1:], arrays[1:], strict=True):
            flat = flat * self.shape[axis] + array
        before, after = self.shape[: axes[0]], self.shape[axes[-1] + 1 :]
        merged = standard.reshape(self.own, (*before, -1, *after))
        taken = standard.take(merged, standard.reshape(flat, (-1,)), axis=len(before))
        return DeviceArray(standard.reshape(taken, (*before, *flat.shape, *after)))

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError(f"Unsupported type {type(value)}")
        plain = value.item() if isinstance(value, np.ndarray) else _plain(value)
        if isinstance(value, DeviceArray):
            plain = standard.astype(value.own, self.own.dtype)
        if isinstance(key, DeviceArray) and key.dtype.kind == "b":
            if isinstance(value, DeviceArray) and value.ndim:
                raise TypeError("a mask takes one number")
            self.own[key.own] = plain
            return
        parts, arrays = self._key(key)
        if arrays:
            self._put(self._spelled(parts), value)
        else:
            self.own[parts] = plain

    def _spelled(self, parts: tuple[Any, ...]) -> list[Any]:
        """Return a key with one part per axis."""
        at = next(number for number, part in enumerate(parts) if part is Ellipsis)
        return [*parts[:at], *[slice(None)] * (self.ndim - len(parts) + 1), *parts[at + 1 :]]

    def _put(self, parts: list[Any], value: Any) -> None:
        """Assign to the entries at arrays of integers of the host in adjacent axes, one after the other."""
        axes = [axis for axis, part in enumerate(parts) if not isinstance(part, slice)]
        if axes != list(range(axes[0], axes[-1] + 1)):
            raise TypeError("only adjacent arrays of integers may index")
        places = np.broadcast_arrays(*(np.asarray(parts[axis]) for axis in axes))
        whole = np.broadcast_to(value, self[tuple(parts)].shape) if isinstance(value, DeviceArray) else value
        for number in range(places[0].size):
            key = tuple(int(places[axis - axes[0]].flat[number]) if axis in axes else part for axis, part in enumerate(parts))
            one = whole[(*[slice(None)] * axes[0], number)] if isinstance(whole, DeviceArray) else whole
            self[key] = one

    def reshape(self, *shape: Any) -> DeviceArray:
        whole = shape[0] if len(shape) == 1 else shape
        return np.reshape(self, whole)

    def transpose(self, *axes: Any) -> DeviceArray:
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def astype(self, dtype: Any, copy: bool = True) -> DeviceArray:
        return DeviceArray(standard.astype(self.own, of_dtype(dtype), copy=copy))

    def copy(self) -> DeviceArray:
        return DeviceArray(standard.asarray(self.own, copy=True))

    def fill(self, value: float) -> None:
        self[...] = value

    def get(self) -> np.ndarray[Any, Any]:
        _leave("get")
        return np.array(self.own)

    def item(self) -> Any:
        _leave("item")
        return np.array(self.own).item()

    def __bool__(self) -> bool:
        _leave("bool")
        return bool(self.own)

    def __float__(self) -> float:
        _leave("float")
        return float(self.own)

    def __int__(self) -> int:
        _leave("int")
        return int(self.own)


def _method(name: str) -> Callable[..., Any]:
    def method(self: DeviceArray, *args: Any, **kwargs: Any) -> Any:
        return _call(name, (self, *args), kwargs)

    return method


for _name in (
    "sum",
    "prod",
    "mean",
    "max",
    "min",
    "any",
    "all",
    "argmax",
    "argmin",
    "std",
    "swapaxes",
    "ravel",
    "trace",
    "diagonal",
    "cumsum",
):
    setattr(DeviceArray, _name, _method(_name))
