"""Checks of parameters stored by name alone, and of the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from fisherstats.core.validation.arguments import shown

__all__ = [
    "given_order",
    "mutable_statistics",
    "no_matrix",
    "no_result_file",
    "no_tree",
    "not_readable",
    "order_unknown",
    "unknown_parameter",
]


def no_tree(params: Any, advice: str = "") -> NoReturn:
    """Refuse an object that is no tree of parameters."""
    raise TypeError(
        "`params` must be a tree of arrays: nested dicts of Flax or Haiku, a state or module of NNX, or a module of Equinox, got "
        f"{shown(params)}{advice}."
    )


def mutable_statistics(name: str) -> NoReturn:
    """Refuse statistics of a normalisation, whose place among the layers a tree does not tell."""
    raise ValueError(
        f"`params` must hold dense layers only, got {name!r}: a tree does not tell where its normalisation stands; fold it "
        "into a dense "
        "layer, and give the tree without it."
    )


def unknown_parameter(argument: str, name: str) -> NoReturn:
    """Refuse an array that is neither a kernel nor a bias beside one."""
    raise ValueError(
        f"`{argument}` must hold the kernels and biases of dense layers only, got {name!r}, which is neither a kernel, weight "
        "or w nor "
        "the bias beside one; give the part of it that is a perceptron."
    )


def no_matrix(name: str, shape: tuple[int, ...]) -> NoReturn:
    """Refuse a kernel of another layer than a dense one."""
    raise ValueError(f"`{name}` must be the matrix of a dense layer, got shape {shape}; give the part that is a perceptron.")


def order_unknown(argument: str, places: Sequence[str], count: int) -> NoReturn:
    """Refuse layers whose order neither their names nor their shapes tell."""
    why = ("in no order that was found", "in more orders than were tried")[count] if count < 2 else "in several orders"
    raise ValueError(
        f"`{argument}` must tell the order of its layers by numbers or shapes, got {', '.join(map(repr, places))}, which chain "
        f"{why}; "
        "give their names in order, `layers=[...]`."
    )


def given_order(layers: Any, known: Sequence[str]) -> list[str]:
    """Return the names of the layers in the given order: every layer once."""
    if isinstance(layers, str) or not isinstance(layers, Sequence) or sorted(map(str, layers)) != sorted(known):
        raise ValueError(f"`layers` must hold {', '.join(map(repr, known))} in order, each once, got {shown(layers)}.")
    return [str(one) for one in layers]


def not_readable(path: Any, reason: str) -> NoReturn:
    """Refuse a file that is damaged or of another format."""
    raise ValueError(
        f"`path` must be a readable safetensors file, got {shown(path)} ({reason}); restore it from a copy, or save the "
        "tensors again. "
        "Pickled files are not opened."
    )


def no_result_file(path: Any, reason: str) -> NoReturn:
    """Refuse a safetensors file that is no result of this package."""
    raise ValueError(
        f"`path` must be a file that `fisherstats.interop.to_safetensors` wrote, got {shown(path)} ({reason}); read weights with "
        "`fisherstats.interop.from_safetensors`."
    )
