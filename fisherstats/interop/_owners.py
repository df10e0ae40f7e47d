"""The chain of layers of an object of any library, recognised by the modules of its type."""

from __future__ import annotations

import os
from typing import Any

from fisherstats.core.validation import interop as checks
from fisherstats.interop import _keras_reading, _torch_reading
from fisherstats.interop._chain import Chain
from fisherstats.interop._files import tensors
from fisherstats.interop._trees import by_names, chain_of_tree, is_tree

__all__ = ["chain_of"]


def chain_of(source: Any, head: str | None = None) -> Chain:
    """Return the layers of a network of another library, with the names of its parameters."""
    libraries = {str(one.__module__).partition(".")[0] for one in type(source).__mro__}
    if "keras" in libraries:
        return _keras_reading.read(source)
    if "torch" in libraries:
        if head is None:
            return _torch_reading.read(source)
        return _torch_reading.read(_torch_reading.head_of(source, head), f"{head}.")
    if is_tree(source):
        return chain_of_tree(source)
    if isinstance(source, str | os.PathLike):
        return by_names("source", tensors(source)[0], None)
    checks.not_from(
        "source", source, "a module of torch, a model of Keras, a tree of parameters or the path of a safetensors file"
    )
