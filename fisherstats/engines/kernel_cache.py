"""Disk cache of compiled kernels: damaged entries are recompiled, and without a writeable folder nothing is cached."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from typing import Any

import numba
from numba.core import sigutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps

from fisherstats.core import forks
from fisherstats.core.validation import capacity

__all__ = ["compiled"]

# A child that was forked while another thread compiles could never compile.
forks.waits_for(global_compiler_lock)


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel when it is first called, with a disk cache where possible."""
    function: Callable[..., Any] = numba.njit(kernel, nogil=True, error_model="numpy")
    if hasattr(function, "enable_caching"):  # with NUMBA_DISABLE_JIT the kernel is the Python function
        try:
            function._cache = _KernelCache(kernel)  # type: ignore[attr-defined]
        except Exception as error:  # no writeable folder
            capacity.kernels_not_kept(None, error)
    return function


class _Digested(CompileResultCacheImpl):  # type: ignore[misc]
    """Machine code is stored with its digest: a damaged file may unpickle without error, and would then be executed."""

    # Without a home directory, numba would make a folder called "~" wherever the process runs.
    if os.path.expanduser("~") == "~":
        _locator_classes = [one for one in CompileResultCacheImpl._locator_classes if "UserWide" not in one.__name__]

    def reduce(self, result: Any) -> tuple[bytes, bytes]:
        """Return the digest and the pickle of the object to be stored."""
        pickled = dumps(super().reduce(result))
        return hashlib.blake2b(pickled).digest(), pickled

    def rebuild(self, target_context: Any, reduced: tuple[bytes, bytes]) -> Any:
        """Return the stored object."""
        digest, pickled = reduced
        if hashlib.blake2b(pickled).digest() != digest:
            raise ValueError("a file of it is damaged")
        return super().rebuild(target_context, pickle.loads(pickled))


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """numba's cache of a function, in which a failure only causes a recompilation."""

    _impl_class = _Digested

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return the stored kernel of a signature, or None."""
        try:
            found = super().load_overload(signature, target_context)
            if found is None or tuple(found.signature.args) == tuple(sigutils.normalize_signature(signature)[0]):
                return found
            # Two processes that write at the same time may exchange their files.
        except Exception as error:
            self._begin_anew(error)
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Store the compiled kernel of a signature, if the disk allows it."""
        try:
            super().save_overload(signature, result)
        except Exception as error:
            self._do_without(error)

    def _begin_anew(self, error: Exception) -> None:
        capacity.kernels_not_kept(self.cache_path, error)
        try:
            self.flush()
        except Exception:  # the existing file can neither be read nor replaced
            self.disable()

    def _do_without(self, error: Exception) -> None:
        self.disable()
        capacity.kernels_not_kept(self.cache_path, error)
