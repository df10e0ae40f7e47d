"""Checks of ONNX graphs and of the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from fisherstats.core.validation.arguments import shown

__all__ = ["not_readable", "one_input_and_output", "tensor_not_readable"]


def not_readable(model: Any, reason: str) -> NoReturn:
    """Refuse a file that is damaged or of another format."""
    raise ValueError(
        f"`model` must be a readable ONNX file, got {shown(model)} ({reason}); restore it from a copy, or export it again."
    )


def one_input_and_output(inputs: Sequence[str], outputs: Sequence[str]) -> NoReturn:
    """Refuse a graph that is no function of one array."""
    raise ValueError(
        f"`model` must have one input and one output, got the inputs {', '.join(inputs) or 'none'} and the outputs "
        f"{', '.join(outputs) or 'none'}; export the network without its post-processing."
    )


def tensor_not_readable(name: str, error: Exception) -> NoReturn:
    """Refuse a tensor whose data do not make its array."""
    raise ValueError(
        f"`model` must hold whole tensors, got {name!r}, which is not readable ({type(error).__name__}: {shown(str(error))}); "
        "export "
        "the network again."
    ) from error
