"""Functions of numpy, by name, as functions of the array standard's calls on `array_api_strict` arrays.

What cupy offers and the standard has in other words is spelled out; what the standard cannot say is missing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import array_api_strict as standard
import numpy as np
import scipy.special

__all__ = ["FUNCTIONS", "dtype_of", "einsum", "of_dtype", "ufunc"]

_Array: Any = type(standard.asarray(0.0))


@functools.cache
def _numpys(dtype: Any) -> np.dtype[Any]:
    return np.dtype(str(dtype).rpartition(".")[2])


def dtype_of(array: Any) -> np.dtype[Any]:
    """Return numpy's word for the dtype of an array of the standard."""
    return array.dtype if isinstance(array.dtype, np.dtype) else _numpys(array.dtype)


def of_dtype(dtype: Any) -> Any:
    return None if dtype is None else getattr(standard, np.dtype(dtype).name)


def _common(values: tuple[Any, ...], real: bool = False) -> list[Any]:
    """Return arrays of one dtype by numpy's rules; floating-point ones if `real`."""
    dtypes = [value.dtype if isinstance(value, _Array) else None for value in values]
    if dtypes[0] is not None and dtypes.count(dtypes[0]) == len(dtypes) and not (real and _numpys(dtypes[0]).kind != "f"):
        return list(values)  # the usual case, in which the rules would cost more than the operation
    dtype = np.result_type(*[dtype_of(value) if hasattr(value, "__array_namespace__") else value for value in values])
    if real and dtype.kind != "f":
        dtype = np.dtype(np.float64)
    wanted = of_dtype(dtype)
    return [
        (value if dtype_of(value) == dtype else standard.astype(value, wanted))
        if hasattr(value, "__array_namespace__")
        else standard.asarray(value, dtype=wanted)
        for value in (one.item() if isinstance(one, np.generic) else one for one in values)
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
_SPECIAL = {"expit", "log_expit", "gammaln", "psi", "xlogy", "betaln", "erf", "ndtr", "zeta", "log_ndtr", "logit", "erfcx"}
"""Universal functions of scipy.special that cupyx.scipy.special has as well."""


def ufunc(name: str, values: tuple[Any, ...]) -> Any:
    if name == "ldexp":  # exact, and offered by cupy; the standard has no word for it
        return standard.asarray(np.ldexp(*[np.asarray(value) for value in values]))
    if name in _SPECIAL:
        host = [np.asarray(value) if hasattr(value, "__array_namespace__") else value for value in values]
        return standard.asarray(getattr(scipy.special, name)(*host))
    if name in _LOGICAL:
        if any(dtype_of(value).kind != "b" for value in values if hasattr(value, "__array_namespace__")):
            raise TypeError(f"{name} is for truth values")
        return getattr(standard, _LOGICAL[name])(*_common(values))
    if name in _REAL or name in _PLAIN:
        return getattr(standard, _NAMES.get(name, name))(*_common(values, name in _REAL))
    raise TypeError(f"the universal function {name} is not available on a device")


def einsum(subscripts: str, *operands: Any, optimize: bool = False, dtype: Any = None) -> Any:
    del optimize
    operands = tuple(operands if dtype is None else (standard.astype(one, of_dtype(dtype)) for one in operands))
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
    return standard.linalg.trace(moved, offset=offset, dtype=moved.dtype if dtype is None else of_dtype(dtype))


def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return standard.linalg.diagonal(standard.moveaxis(a, (axis1, axis2), (-2, -1)), offset=offset)


def _pad(a: Any, pad_width: Any) -> Any:
    for axis, (before, after) in enumerate(pad_width):
        shapes = [tuple(size if k == axis else length for k, length in enumerate(a.shape)) for size in (before, after)]
        a = standard.concat([standard.zeros(shapes[0], dtype=a.dtype), a, standard.zeros(shapes[1], dtype=a.dtype)], axis=axis)
    return a


def _like(make: Callable[..., Any]) -> Callable[..., Any]:
    def function(a: Any, *value: Any, dtype: Any = None, order: str = "K", shape: Any = None) -> Any:
        if order not in "CK":
            raise TypeError("arrays of the standard have no other order than C")
        shape = a.shape if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        return make(shape, *value, dtype=a.dtype if dtype is None else of_dtype(dtype))

    return function


def _new(make: Callable[..., Any]) -> Callable[..., Any]:
    def function(shape: Any, dtype: Any = np.float64) -> Any:
        return make((shape,) if isinstance(shape, int | np.integer) else tuple(map(int, shape)), dtype=of_dtype(dtype))

    return function


def _arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
    return standard.arange(start, stop, step, dtype=of_dtype(dtype))


def _reduced(name: str) -> Callable[..., Any]:
    def function(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, **none: Any) -> Any:
        if none:
            raise TypeError(f"{name} takes no {sorted(none)} on a device")
        if name in ("any", "all", "max", "min"):
            return getattr(standard, name)(a, axis=axis, keepdims=keepdims)
        if name == "mean":
            a = a if str(a.dtype).endswith(("float32", "float64")) else standard.astype(a, standard.float64)
            return standard.mean(a if dtype is None else standard.astype(a, of_dtype(dtype)), axis=axis, keepdims=keepdims)
        if str(a.dtype).endswith("bool"):
            a = standard.astype(a, standard.int64)
        return getattr(standard, name)(a, axis=axis, dtype=a.dtype if dtype is None else of_dtype(dtype), keepdims=keepdims)

    return function


def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    return standard.repeat(a, repeats, axis=axis)


def _asarray(a: Any, dtype: Any = None, copy: Any = None) -> Any:
    a = standard.asarray(np.asarray(a)) if isinstance(a, np.ndarray | list | tuple | float | int) else a
    return a if dtype is None else standard.astype(a, of_dtype(dtype))


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
        return join(_common(tuple(arrays)), axis=axis)

    return function


def _where(condition: Any, x: Any, y: Any) -> Any:
    return standard.where(condition, *_common((x, y)))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _reduced(name) for name in ("sum", "prod", "mean", "max", "min", "any", "all")},
    **{
        name: _like(getattr(standard, name.removesuffix("_like")))
        for name in ("zeros_like", "ones_like", "empty_like", "full_like")
    },
    **{name: _new(getattr(standard, name)) for name in ("zeros", "empty")},
    "arange": _arange,
    "argmax": lambda a, axis=None: standard.argmax(a, axis=axis),
    "argsort": lambda a, axis=-1, kind=None: standard.argsort(a, axis=axis),
    "argmin": lambda a, axis=None: standard.argmin(a, axis=axis),
    "array": _asarray,
    "asarray": _asarray,
    "broadcast_arrays": lambda *arrays: tuple(standard.broadcast_arrays(*arrays)),
    "broadcast_to": lambda a, shape: standard.broadcast_to(a, tuple(shape)),
    "clip": _clip,
    "concatenate": _joined(standard.concat),
    "count_nonzero": lambda a: standard.count_nonzero(a),
    "cumsum": lambda a, axis=None: standard.cumulative_sum(a, axis=axis),
    "diagonal": _diagonal,
    "diff": lambda a, axis=-1: standard.diff(a, axis=axis),
    "diag": lambda v: standard.linalg.diagonal(v) if v.ndim == 2 else standard.eye(v.shape[0], dtype=v.dtype) * v,
    "expand_dims": lambda a, axis: standard.expand_dims(a, axis=axis),
    "linalg.cholesky": standard.linalg.cholesky,
    "linalg.eigh": lambda a: tuple(standard.linalg.eigh(a)),
    "linalg.eigvalsh": standard.linalg.eigvalsh,
    "linalg.inv": standard.linalg.inv,
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
    "triu": lambda m, k=0: standard.triu(m, k=k),
    "vdot": lambda a, b: standard.sum(a * b),
    "where": _where,
}
"""By name, as functions of the standard's arrays; `einsum` besides."""
