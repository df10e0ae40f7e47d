"""Host and GPU arrays and their precision: the only module that imports cupy.

All code below the public functions is written in numpy's functions. On GPU arrays these are dispatched to the library of the
device, through numpy's protocols (NEP 13, 18 and 35); new arrays are created `like` an existing one.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

__all__ = [
    "all_held",
    "as_array",
    "checked_together",
    "cholesky",
    "cholesky_solve",
    "common_dtype",
    "device_numbers",
    "double",
    "finite_sum",
    "floats",
    "gpu_array",
    "gpu_status",
    "holds",
    "identity",
    "joined",
    "like",
    "noted_checks",
    "number",
    "numbers_and_checks",
    "on_device",
    "on_host",
    "overflow_is_inf",
    "power_of_two",
    "read_only",
    "top_eigenpair",
    "vector",
    "zeta",
]

Array = NDArray[np.floating]
Result = TypeVar("Result")


def common_dtype(*arrays: Any) -> np.dtype[np.floating]:
    """Return float32 when every array is float32, else float64."""
    return np.dtype(np.float32 if all(array.dtype.newbyteorder("=") == np.float32 for array in arrays) else np.float64)


def joined(arrays: Sequence[Any]) -> Array:
    """Return arrays concatenated along the first axis; a single one unchanged."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def read_only(array: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a read-only, C-ordered copy of `array`; GPU arrays are always writeable."""
    if on_device(array):
        return array.copy()
    copy = np.array(array, order="C", copy=True)
    copy.flags.writeable = False
    # A view of a read-only array cannot be made writeable again, the array itself could.
    return copy.view()


def on_device(array: Any) -> bool:
    """Return whether an array is on a device: it implements numpy's protocols, but its values need an explicit transfer."""
    return not isinstance(array, np.ndarray) and hasattr(array, "__array_function__") and hasattr(array, "get")


def as_array(values: Any) -> Any:
    """Return values as an array; a GPU array stays on its device."""
    return values if on_device(values) else np.asarray(values)


def on_host(array: Any) -> Any:
    """Return an array in host memory; a GPU array is synchronised and copied."""
    return array.get() if on_device(array) else array


def like(array: Any, other: Any) -> Any:
    """Return a host array on the device of `other`; unchanged if that is the host."""
    return array if isinstance(other, np.ndarray) or on_device(array) else np.asarray(array, like=other)


def double(array: Any) -> Any:
    """Return an array in float64."""
    return array.astype(np.float64, copy=False)


def finite_sum(values: Any) -> bool:
    """Return whether the sum is known to be finite: then every number is, and a sum is faster than testing each number."""
    if on_device(values):
        return False  # no synchronisation with the device
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(np.add.reduce(values, axis=None))


overflow_is_inf = np.errstate(over="ignore", invalid="ignore")
"""Values that overflow become infinite or nan in a result, which is then refused."""


def identity(size: int, other: Any) -> Any:
    """Return the identity matrix on the device of `other`, in its precision."""
    return like(np.eye(size, dtype=other.dtype), other)


def number(value: Any) -> Any:
    """Return an array of one number as a float; a GPU array stays on its device, as a float would need synchronisation."""
    return value if on_device(value) else float(value)


def vector(numbers: Sequence[Any], other: Any) -> Any:
    """Return numbers, each a float or an array of one number, as a float64 vector on the device of `other`."""
    if isinstance(other, np.ndarray):
        return np.array(numbers, dtype=np.float64)
    apart = [double(one) if on_device(one) else np.full_like(other, one, dtype=np.float64, shape=()) for one in numbers]
    return np.stack(apart)


def floats(numbers: Sequence[Any]) -> list[float]:
    """Return numbers as floats; those on a device are transferred together."""
    there = next((one for one in numbers if on_device(one)), None)
    return list(numbers) if there is None else on_host(vector(numbers, there)).tolist()


def cholesky(matrix: Any) -> Any:
    """Return the lower factor L of a symmetric matrix LL', which is overwritten; scipy's functions ignore numpy's protocols."""
    if on_device(matrix):
        return np.linalg.cholesky(matrix)
    return linalg.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)


def cholesky_solve(factor: Any, b: Any) -> Any:
    """Solve with LL' for a lower factor L."""
    if not on_device(factor):
        return linalg.cho_solve((factor, True), b, check_finite=False)
    solve = importlib.import_module("cupyx.scipy.linalg").solve_triangular
    upper = factor.T  # in the memory order of the library, which copies otherwise
    return solve(upper, solve(upper, b, trans="T"))


def top_eigenpair(matrix: Any) -> tuple[Any, Any]:
    """Return the largest eigenvalue of a symmetric matrix and its eigenvector; on the host no other is computed."""
    if on_device(matrix):
        values, vectors = np.linalg.eigh(matrix)
    else:
        last = len(matrix) - 1
        values, vectors = linalg.eigh(matrix, subset_by_index=[last, last], check_finite=False)
        if not values.size:  # where a number is not finite
            raise np.linalg.LinAlgError("Eigenvalues did not converge")
    return values[-1], vectors[:, -1]


def zeta(order: int, x: Any) -> Any:
    """Return Hurwitz' zeta function; unlike scipy's other functions, its zeta ignores numpy's protocols."""
    library = importlib.import_module("cupyx.scipy.special") if on_device(x) else special
    return library.zeta(order, x)


def power_of_two(size: Any) -> Any:
    """Return the largest power of two not above each number >= 0, and 1 for 0: to divide by it changes no bit of a mantissa.

    On a device it may be half of that.
    """
    known = np.where(size > 0, size, 1)
    if on_device(size):
        return np.power(2.0, np.floor(np.log(known) / math.log(2)))
    return np.ldexp(np.ones_like(known), np.frexp(known)[1] - 1)


def device_numbers(other: Any) -> int:
    """Return how many float64 numbers fit in the memory of the device of `other`."""
    return int(other.device.mem_info[1]) // 8


_notes: contextvars.ContextVar[list[Any] | None] = contextvars.ContextVar("notes", default=None)


def holds(condition: Any) -> bool:
    """Return whether a condition holds everywhere, for a check that raises otherwise.

    Reading the result would synchronise with the device at every check. Within `noted_checks` the condition is recorded instead
    and assumed to hold until it is evaluated.
    """
    noted = _notes.get()
    if noted is None or isinstance(condition, np.ndarray | np.bool_):
        return bool(condition.all())
    noted.append(condition.all())
    return True


@contextlib.contextmanager
def noted_checks() -> Iterator[list[Any]]:
    """Record the conditions passed to `holds` on a device in the given list, each as an array of one truth value."""
    noted: list[Any] = []
    token = _notes.set(noted)
    try:
        yield noted
    finally:
        _notes.reset(token)


def all_held(noted: Sequence[Any]) -> bool:
    """Return whether all recorded conditions held; synchronises with the device once."""
    return not noted or bool(on_host(np.stack(noted)).all())


def numbers_and_checks(numbers: Any, noted: Sequence[Any]) -> tuple[list[float], bool]:
    """Return a vector of numbers, and whether all recorded conditions held; synchronises with the device once."""
    if noted:
        numbers = np.concatenate([numbers, double(np.stack(noted).all()).reshape(1)])
    found = on_host(numbers).tolist()
    return (found[:-1], bool(found[-1])) if noted else (found, True)


def checked_together(function: Callable[[], Result]) -> Result:
    """Return the result of a function; its checks on a device are evaluated together, and one by one only if one has failed."""
    try:
        with noted_checks() as noted:
            result = function()
    except Exception:
        # An error may be a consequence of a condition that a check would have refused earlier.
        if all_held(noted):
            raise
        return function()
    return result if all_held(noted) else function()


@functools.cache
def gpu_array() -> Any:
    """Return an empty array of the device that cupy uses."""
    import cupy

    return cupy.empty(0)


@functools.cache
def gpu_status() -> tuple[bool, str]:
    """Return whether a CUDA device can be used from cupy, and the device's name or the reason why not."""
    if os.environ.get("FISHERSTATS_DISABLE_GPU"):
        return False, "it is disabled by the environment variable FISHERSTATS_DISABLE_GPU"
    try:
        import cupy
    except ImportError as error:
        return False, f"cupy is not installed ({error}); install 'fisherstats[gpu-cuda12]' or 'fisherstats[gpu-cuda13]'"
    # Importing cupy succeeds on machines without a device, so the device is asked for separately.
    if not cupy.cuda.is_available():
        return False, "cupy is installed but finds no usable CUDA device or driver"
    try:
        cupy.arange(2).sum().item()  # compiles a kernel, which a broken installation cannot
    except Exception as error:  # whatever the failure, the device cannot be used
        return False, f"cupy finds a CUDA device that it cannot use ({error})"
    return True, str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
