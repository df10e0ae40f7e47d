"""A stand-in for arrays of a device, so that what runs on cupy arrays is tested where there is no GPU.

`DeviceArray` offers what cupy offers: numpy's protocols (NEP 13, 18 and 35) and methods. Every operation is carried out by
functions of the array standard, as `array_api_strict` has them, and what these cannot say is refused. As with cupy, host arrays
do not mix with it, and it never becomes a host array unless asked to by `get`. Each time a value leaves the device, `transfers`
grows by one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import array_api_strict as standard
import numpy as np
import scipy.special

__all__ = ["DeviceArray", "called", "no_transfers", "to_device", "transfers"]

MEMORY = 2**17
"""Bytes; so little that 16 inputs of a small network are a block."""

transfers: list[str] = []
"""What has left the device, one word per transfer."""

called: set[str] = set()
"""Functions of numpy that have been called with arrays of the device."""

_refusing = [False]


@contextlib.contextmanager
def no_transfers() -> Iterator[None]:
    """Refuse every transfer to the host."""
    _refusing[0] = True
    try:
        yield
    finally:
        _refusing[0] = False


def _leave(word: str) -> None:
    if _refusing[0]:
        raise AssertionError(f"{word} waits for the device")
    transfers.append(word)


def to_device(array: Any) -> DeviceArray:
    """Copy a host array, or anything that makes one, onto the device."""
    return array if isinstance(array, DeviceArray) else DeviceArray(standard.asarray(np.array(array)))


def _dtype(dtype: Any) -> Any:
    return None if dtype is None else getattr(standard, np.dtype(dtype).name)


def _plain(value: Any) -> Any:
    """Return the standard's array, a Python scalar, or lists of them."""
    if isinstance(value, DeviceArray):
        return value.own
    if isinstance(value, list | tuple):
        return type(value)(_plain(one) for one in value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _common(values: tuple[Any, ...], real: bool = False) -> list[Any]:
    """Return arrays of one dtype by numpy's rules; floating-point ones if `real`."""
    known = [value.dtype if isinstance(value, DeviceArray) else value for value in values]
    dtype = np.result_type(*known)
    if real and dtype.kind != "f":
        dtype = np.dtype(np.float64)
    return [
        standard.astype(value.own, _dtype(dtype))
        if isinstance(value, DeviceArray)
        else standard.asarray(_plain(value), dtype=_dtype(dtype))
        for value in values
    ]


_NAMES = {"absolute": "abs", "arctan": "atan", "power": "pow", "rint": "round", "invert": "logical_not"}
_REAL = {
    "divide",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sin",
    "cos",
    "tanh",
    "sinh",
    "cosh",
    "arctan",
    "sqrt",
    "copysign",
    "nextafter",
}
_REAL |= {"reciprocal", "logaddexp", "hypot", "cbrt", "tan"}
_PLAIN = {"add", "subtract", "multiply", "negative", "positive", "square", "maximum", "minimum", "greater", "greater_equal"}
_PLAIN |= {"less", "less_equal", "equal", "not_equal", "isfinite", "isinf", "isnan", "floor", "ceil", "rint", "sign", "matmul"}
_PLAIN |= {"absolute", "power", "invert", "floor_divide", "remainder", "signbit", "trunc"}
_LOGICAL = {"bitwise_and": "logical_and", "bitwise_or": "logical_or", "bitwise_xor": "logical_xor"}
_LOGICAL |= {name: name for name in ("logical_and", "logical_or", "logical_not", "logical_xor")}
_SPECIAL = {"expit", "log_expit", "gammaln", "psi", "xlogy", "betaln", "erf", "ndtr", "zeta", "log_ndtr", "logit"}
"""Universal functions of scipy.special that cupyx.scipy.special has as well."""


def _ufunc(name: str, values: tuple[Any, ...]) -> Any:
    if name in _SPECIAL:
        host = [np.asarray(value.own) if isinstance(value, DeviceArray) else value for value in values]
        return standard.asarray(getattr(scipy.special, name)(*host))
    if name in _LOGICAL:
        if any(value.dtype.kind != "b" for value in values if isinstance(value, DeviceArray)):
            raise TypeError(f"{name} is for truth values")
        return getattr(standard, _LOGICAL[name])(*_common(values))
    if name in _REAL or name in _PLAIN:
        return getattr(standard, _NAMES.get(name, name))(*_common(values, name in _REAL))
    raise TypeError(f"the universal function {name} is not available on a device")


def _einsum(subscripts: str, *operands: Any, optimize: bool = False, dtype: Any = None) -> Any:
    del optimize
    operands = tuple(operands if dtype is None else (one.astype(dtype) for one in operands))
    words, output = subscripts.replace(" ", "").split("->")
    spelled = []
    for own, array in zip(words.split(","), operands, strict=True):
        spelled.append(own.replace("...", "XYZ"[: array.ndim - len(own) + 3] if "..." in own else ""))
    most = max(("".join(letter for letter in own if letter in "XYZ") for own in spelled), key=len)
    inputs, output = ",".join(spelled), output.replace("...", most)
    arrays = _common(operands)
    letters = output + "".join(sorted(set(inputs) - set(output) - {","}))
    product = None
    for own, array in zip(inputs.split(","), arrays, strict=True):
        for letter in sorted(set(own)):
            while own.count(letter) > 1:
                first = own.index(letter)
                second = own.index(letter, first + 1)
                rest = [axis for axis in range(len(own)) if axis not in (first, second)]
                array = standard.linalg.diagonal(standard.permute_dims(array, (*rest, first, second)))
                own = "".join(own[axis] for axis in rest) + letter
        order = sorted(range(len(own)), key=lambda axis, own=own: letters.index(own[axis]))
        shape = [array.shape[own.index(letter)] if letter in own else 1 for letter in letters]
        spread = standard.reshape(standard.permute_dims(array, tuple(order)), tuple(shape))
        product = spread if product is None else product * spread
    contracted = tuple(range(len(output), len(letters)))
    return standard.sum(product, axis=contracted) if contracted else product


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if isinstance(axis, tuple) or (axis is None and x.ndim == 2):
        if axis not in (None, (-2, -1), (x.ndim - 2, x.ndim - 1)):
            raise TypeError("matrices lie in the last two axes")
        return standard.linalg.matrix_norm(x, ord="fro" if ord is None else ord, keepdims=keepdims)
    return standard.linalg.vector_norm(x, ord=2 if ord is None else ord, axis=axis, keepdims=keepdims)


def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
    moved = standard.moveaxis(a, (axis1, axis2), (-2, -1))
    return standard.linalg.trace(moved, offset=offset, dtype=moved.dtype if dtype is None else _dtype(dtype))


def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return standard.linalg.diagonal(standard.moveaxis(a, (axis1, axis2), (-2, -1)), offset=offset)


def _pad(a: Any, pad_width: Any) -> Any:
    for axis, (before, after) in enumerate(pad_width):
        shapes = [tuple(size if k == axis else length for k, length in enumerate(a.shape)) for size in (before, after)]
        a = standard.concat([standard.zeros(shapes[0], dtype=a.dtype), a, standard.zeros(shapes[1], dtype=a.dtype)], axis=axis)
    return a


def _like(make: Callable[..., Any]) -> Callable[..., Any]:
    def function(a: Any, *value: Any, dtype: Any = None, shape: Any = None) -> Any:
        shape = a.shape if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        return make(shape, *value, dtype=a.dtype if dtype is None else _dtype(dtype))

    return function


def _new(make: Callable[..., Any]) -> Callable[..., Any]:
    def function(shape: Any, dtype: Any = np.float64) -> Any:
        return make((shape,) if isinstance(shape, int | np.integer) else tuple(map(int, shape)), dtype=_dtype(dtype))

    return function


def _arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
    return standard.arange(start, stop, step, dtype=_dtype(dtype))


def _reduced(name: str) -> Callable[..., Any]:
    def function(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, **none: Any) -> Any:
        if none:
            raise TypeError(f"{name} takes no {sorted(none)} on a device")
        if name in ("any", "all", "max", "min"):
            return getattr(standard, name)(a, axis=axis, keepdims=keepdims)
        if name == "mean":
            a = a if str(a.dtype).endswith(("float32", "float64")) else standard.astype(a, standard.float64)
            return standard.mean(a if dtype is None else standard.astype(a, _dtype(dtype)), axis=axis, keepdims=keepdims)
        if str(a.dtype).endswith("bool"):
            a = standard.astype(a, standard.int64)
        return getattr(standard, name)(a, axis=axis, dtype=a.dtype if dtype is None else _dtype(dtype), keepdims=keepdims)

    return function


def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    return standard.repeat(a, repeats, axis=axis)


def _asarray(a: Any, dtype: Any = None, copy: Any = None) -> Any:
    a = standard.asarray(np.asarray(a)) if isinstance(a, np.ndarray | list | tuple | float | int) else a
    return a if dtype is None else standard.astype(a, _dtype(dtype))


def _reshape(a: Any, shape: Any, order: str = "C") -> Any:
    return standard.reshape(a, (shape,) if isinstance(shape, int | np.integer) else tuple(map(int, shape)))


def _transpose(a: Any, axes: Any = None) -> Any:
    return standard.permute_dims(a, tuple(reversed(range(a.ndim))) if axes is None else tuple(axes))


def _swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    axes = list(range(a.ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return standard.permute_dims(a, tuple(axes))


def _sort(a: Any, axis: int = -1) -> Any:
    return standard.sort(a, axis=axis)


def _clip(a: Any, a_min: Any, a_max: Any) -> Any:
    return standard.clip(a, a_min, a_max)


def _joined(join: Callable[..., Any]) -> Callable[..., Any]:
    def function(arrays: Any, axis: int = 0) -> Any:
        return join(_common(tuple(DeviceArray(array) for array in arrays)), axis=axis)

    return function


def _where(condition: Any, x: Any, y: Any) -> Any:
    wrapped = tuple(value if isinstance(value, bool | int | float) else DeviceArray(value) for value in (x, y))
    return standard.where(condition, *_common(wrapped))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _reduced(name) for name in ("sum", "prod", "mean", "max", "min", "any", "all")},
    **{
        name: _like(getattr(standard, name.removesuffix("_like")))
        for name in ("zeros_like", "ones_like", "empty_like", "full_like")
    },
    **{name: _new(getattr(standard, name)) for name in ("zeros", "empty")},
    "arange": _arange,
    "argmax": lambda a, axis=None: standard.argmax(a, axis=axis),
    "argmin": lambda a, axis=None: standard.argmin(a, axis=axis),
    "array": _asarray,
    "asarray": _asarray,
    "broadcast_arrays": lambda *arrays: tuple(standard.broadcast_arrays(*arrays)),
    "broadcast_to": lambda a, shape: standard.broadcast_to(a, tuple(shape)),
    "clip": _clip,
    "concatenate": _joined(standard.concat),
    "cumsum": lambda a, axis=None: standard.cumulative_sum(a, axis=axis),
    "diagonal": _diagonal,
    "diff": lambda a, axis=-1: standard.diff(a, axis=axis),
    "diag": lambda v: standard.eye(v.shape[0], dtype=v.dtype) * v,
    "expand_dims": lambda a, axis: standard.expand_dims(a, axis=axis),
    "linalg.cholesky": standard.linalg.cholesky,
    "linalg.eigh": lambda a: tuple(standard.linalg.eigh(a)),
    "linalg.eigvalsh": standard.linalg.eigvalsh,
    "linalg.norm": _norm,
    "linalg.qr": lambda a, mode="reduced": standard.linalg.qr(a, mode="reduced")[1 if mode == "r" else slice(None)],
    "linalg.solve": standard.linalg.solve,
    "linalg.svd": lambda a, full_matrices=True, compute_uv=True: (
        tuple(standard.linalg.svd(a, full_matrices=full_matrices)) if compute_uv else standard.linalg.svdvals(a)
    ),
    "moveaxis": standard.moveaxis,
    "outer": standard.linalg.outer,
    "pad": _pad,
    "repeat": _repeat,
    "reshape": _reshape,
    "ravel": lambda a: standard.reshape(a, (-1,)),
    "sort": _sort,
    "std": lambda a, axis=None, ddof=0: standard.std(a, axis=axis, correction=ddof),
    "stack": _joined(standard.stack),
    "swapaxes": _swapaxes,
    "take_along_axis": lambda a, indices, axis: standard.take_along_axis(a, indices, axis=axis),
    "tensordot": lambda a, b, axes=2: standard.tensordot(a, b, axes=axes),
    "trace": _trace,
    "transpose": _transpose,
    "vdot": lambda a, b: standard.sum(a * b),
    "where": _where,
}
"""By name, as functions of the standard's arrays; `einsum` besides."""


def _put_along_axis(arr: DeviceArray, indices: DeviceArray, values: Any, axis: int) -> None:
    if indices.shape[axis] != 1:
        raise TypeError("one entry is put along an axis")
    shape = [arr.shape[axis] if k == axis % arr.ndim else 1 for k in range(arr.ndim)]
    places = np.reshape(to_device(np.arange(arr.shape[axis])), shape)
    arr[...] = np.where(places == indices, values, arr)


def _call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    called.add(name)
    if name == "einsum":
        return DeviceArray(_einsum(*args, **kwargs))
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
        return np.dtype(str(self.own.dtype).rpartition(".")[2])

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

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            raise TypeError(f"{ufunc.__name__}.{method} with {sorted(kwargs)} is not available on a device")
        called.add(ufunc.__name__)
        for value in inputs:
            if isinstance(value, np.ndarray):
                raise TypeError(f"Unsupported type {type(value)}")
        found = DeviceArray(_ufunc(ufunc.__name__, inputs))
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
        return DeviceArray(standard.astype(self.own, _dtype(dtype), copy=copy))

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
