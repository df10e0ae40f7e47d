"""Compiled kernels on disk: what is damaged is compiled anew, and where nothing can be kept nothing is."""

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
    """Compile a kernel when it is first called, with a cache on disk where one can be kept."""
    function: Callable[..., Any] = numba.njit(kernel, nogil=True, error_model="numpy")
    if hasattr(function, "enable_caching"):  # NUMBA_DISABLE_JIT leaves the kernel as it is
        try:
            function._cache = _KernelCache(kernel)  # type: ignore[attr-defined]
        except Exception as error:  # no folder that can be written to
            capacity.kernels_not_kept(None, error)
    return function


class _Digested(CompileResultCacheImpl):  # type: ignore[misc]
    """Machine code goes to disk with its digest: a damaged file may unpickle, and would then be executed."""

    # Without a home directory, numba would make a folder called "~" wherever the process runs.
    if os.path.expanduser("~") == "~":
        _locator_classes = [one for one in CompileResultCacheImpl._locator_classes if "UserWide" not in one.__name__]

    def reduce(self, result: Any) -> tuple[bytes, bytes]:
        """Return the digest and the pickle of what is to be kept."""
        pickled = dumps(super().reduce(result))
        return hashlib.blake2b(pickled).digest(), pickled

    def rebuild(self, target_context: Any, reduced: tuple[bytes, bytes]) -> Any:
        """Return what was kept."""
        digest, pickled = reduced
        if hashlib.blake2b(pickled).digest() != digest:
            raise ValueError("a file of it is damaged")
        return super().rebuild(target_context, pickle.loads(pickled))


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """numba's cache of a function, whose failures cost a compilation and no more."""

    _impl_class = _Digested

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return what is kept for a signature, or None."""
        try:
            found = super().load_overload(signature, target_context)
            if found is None or tuple(found.signature.args) == tuple(sigutils.normalize_signature(signature)[0]):
                return found
            # Two processes that write at the same time may exchange their files.
        except Exception as error:
            self._begin_anew(error)
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep what was compiled for a signature, if the disk lets it."""
        try:
            super().save_overload(signature, result)
        except Exception as error:
            self._do_without(error)

    def _begin_anew(self, error: Exception) -> None:
        capacity.kernels_not_kept(self.cache_path, error)
        try:
            self.flush()
        except Exception:  # what is there can neither be read nor replaced
            self.disable()

    def _do_without(self, error: Exception) -> None:
        self.disable()
        capacity.kernels_not_kept(self.cache_path, error)
