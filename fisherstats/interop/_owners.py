"""The chain of layers of an object of any library, recognised by the modules of its type."""

from __future__ import annotations

from typing import Any

from fisherstats.core.validation import interop as checks
from fisherstats.interop import _torch_reading
from fisherstats.interop._chain import Chain

__all__ = ["chain_of", "libraries"]


def libraries(value: Any) -> set[str]:
    """Return the libraries that define the type of an object or one of its base classes."""
    return {str(one.__module__).partition(".")[0] for one in type(value).__mro__}


def chain_of(source: Any, head: str | None = None) -> Chain:
    """Return the layers of a network of another library, with the names of its parameters."""
    if "torch" in libraries(source):
        if head is None:
            return _torch_reading.read(source)
        return _torch_reading.read(_torch_reading.head_of(source, head), f"{head}.")
    checks.not_from("source", source, "a torch.nn.Module")
