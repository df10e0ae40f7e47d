"""Array namespaces and precision: the only module that names cupy."""

from __future__ import annotations

import functools
import os

import numpy as np
from numpy.typing import NDArray

__all__ = ["common_dtype", "gpu_status", "read_only"]


def common_dtype(*arrays: NDArray[np.floating]) -> np.dtype[np.floating]:
    """Return float32 when every array is float32, else float64."""
    return np.dtype(np.float32 if all(array.dtype == np.float32 for array in arrays) else np.float64)


def read_only(array: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a C-ordered copy of `array` that cannot be written to."""
    copy = np.array(array, order="C", copy=True)
    copy.flags.writeable = False
    # A view of a read-only array cannot be made writeable again, the array itself could.
    return copy.view()


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
    return True, str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
