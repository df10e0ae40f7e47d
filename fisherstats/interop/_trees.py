"""Parameters stored by name alone: trees of Flax, Equinox and Haiku, and files of safetensors."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import interop as checks
from fisherstats.core.validation import interop_trees as tree_checks
from fisherstats.core.validation.arguments import optional_module
from fisherstats.interop._chain import Chain, Dense, Layer

__all__ = ["by_names", "chain_of_tree", "is_tree", "replaced"]

_TREES = {"flax", "equinox", "haiku", "jax", "jaxlib"}

_KERNELS = {"kernel": ("bias", True), "w": ("b", True), "weight": ("bias", False)}
"""Name of a kernel -> name of the bias beside it, and whether the kernel is stored as (n_in, n_out)."""

_MOST_TRIED = 10_000
"""Beginnings of orders of layers that are tried where names have no numbers."""


def is_tree(params: Any) -> bool:
    """Return whether an object is a tree of parameters, by the modules of its type."""
    return isinstance(params, Mapping) or bool({one.__module__.partition(".")[0] for one in type(params).__mro__} & _TREES)


def chain_of_tree(params: Any, layers: Sequence[str] | None = None) -> Chain:
    """Return the dense layers of a tree."""
    if isinstance(params, type) or not is_tree(params) or hasattr(params, "shape"):
        tree_checks.no_tree(params)
    if hasattr(params, "setup") and hasattr(params, "apply") and hasattr(params, "init"):
        tree_checks.no_tree(params, "; a module of Linen holds no parameters, give what its `init` returns or its training made")
    arrays = _arrays(params)
    if any(np.dtype(object) == getattr(one, "dtype", None) for one in arrays.values()):
        tree_checks.no_tree(params, ", which holds arrays of objects")
    kept = {}
    for name, leaf in arrays.items():
        if name.startswith("batch_stats.") or name.endswith((".scale", ".mean", ".var")):
            tree_checks.mutable_statistics(name)
        if "rngs" not in name.split("."):
            kept[name] = np.asarray(leaf)
    return by_names("params", kept, layers)


def _arrays(tree: Any) -> dict[str, Any]:
    """Return the arrays of a tree by their path, joined by dots."""
    return {name: leaf for name, leaf in _leaves(tree) if hasattr(leaf, "shape") and hasattr(leaf, "dtype")}


def replaced(tree: Any, values: Mapping[str, NDArray[Any]]) -> Any:
    """Return a tree of the same structure with other arrays, in the precision of its own; other leaves are kept."""
    if _is_plain(tree):
        return _replaced_plain(tree, values, "")
    jax = optional_module("jax", extra="interop")
    leaves, structure = jax.tree_util.tree_flatten(tree)
    names = [name for name, _ in _leaves(tree)]
    made = [
        jax.numpy.asarray(values[name], dtype=leaf.dtype) if name in values else leaf
        for name, leaf in zip(names, leaves, strict=True)
    ]
    return jax.tree_util.tree_unflatten(structure, made)


def _replaced_plain(tree: Any, values: Mapping[str, NDArray[Any]], path: str) -> Any:
    if type(tree) is dict:
        return {key: _replaced_plain(one, values, f"{path}.{key}" if path else str(key)) for key, one in tree.items()}
    return values[path].astype(tree.dtype) if path in values else tree


def _is_plain(tree: Any) -> bool:
    """Return whether a tree is of dicts and arrays of numpy, which need no library."""
    if type(tree) is dict:
        return all(_is_plain(one) for one in tree.values())
    return isinstance(tree, np.ndarray)


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    if _is_plain(tree):
        return _plain_leaves(tree, "")
    jax = optional_module("jax", extra="interop")
    return [(".".join(_entries(path)), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]


def _plain_leaves(tree: Any, path: str) -> list[tuple[str, Any]]:
    if type(tree) is dict:
        return [one for key, below in tree.items() for one in _plain_leaves(below, f"{path}.{key}" if path else str(key))]
    return [(path, tree)]


def _entries(path: Sequence[Any]) -> list[str]:
    """Return the keys of a path of jax; variables of NNX hold their array as `value`."""
    found = []
    for entry in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(entry, attribute):
                found.append(str(getattr(entry, attribute)))
                break
    return found[:-1] if found[-1:] == ["value"] else found


def by_names(argument: str, arrays: Mapping[str, NDArray[Any]], layers: Sequence[str] | None) -> Chain:
    """Return the dense layers among named arrays, in the given order or in the only order that their names or shapes allow.

    Parameters
    ----------
    argument : str
        Its name in messages.
    arrays : mapping of str to array
        Kernels and biases; anything else is refused.
    layers : sequence of str, optional
        Names of the layers in order.

    Returns
    -------
    Chain
        Without activations.
    """
    found: dict[str, Dense] = {}
    used: set[str] = set()
    for name in arrays:
        place, kind = _split(name)
        if kind in _KERNELS:
            found[place] = _dense(arrays, name, place, *_KERNELS[kind])
            used |= {name, found[place].bias_name or name}
    strange = [name for name in arrays if name not in used]
    if strange:
        tree_checks.unknown_parameter(argument, strange[0])
    if not found:
        checks.no_layers(argument)
    places = _ordered(argument, found) if layers is None else tree_checks.given_order(layers, list(found))
    for before, place in itertools.pairwise(places):
        checks.sizes_chain(argument, place, found[place].kernel.shape[1], before, len(found[before].kernel))
    return Chain([Layer(found[place]) for place in places], None, False)


def _split(name: str) -> tuple[str, str]:
    """Return the name of a layer, and what is left of the name of its parameter."""
    parts = re.split(r"[./]", name)
    return name[: len(name) - len(parts[-1])].rstrip("./"), parts[-1]


def _dense(arrays: Mapping[str, NDArray[Any]], name: str, place: str, bias: str, transposed: bool) -> Dense:
    bias_name = name[: len(name) - len(_split(name)[1])] + bias
    kernel = np.asarray(arrays[name])
    if kernel.ndim != 2:
        tree_checks.no_matrix(name, kernel.shape)
    vector = np.asarray(arrays[bias_name]) if bias_name in arrays else None
    kernel = kernel.T if transposed else kernel
    checks.kernel_and_bias(place or name, kernel, vector, len(kernel))
    return Dense(place or name, kernel.copy(), vector, name, None if vector is None else bias_name, transposed)


def _ordered(argument: str, found: Mapping[str, Dense]) -> list[str]:
    """Return the layers in the order of their numbers, or in the only order in which their shapes chain."""
    places = list(found)
    if len({re.sub(r"\d+", "", place) for place in places}) == 1:
        return sorted(places, key=lambda place: [int(one) for one in re.findall(r"\d+", place)])
    orders: list[list[str]] = []
    tried = itertools.count()

    def extend(order: list[str]) -> None:
        if len(orders) > 1 or next(tried) > _MOST_TRIED:
            return
        if len(order) == len(places):
            orders.append(order)
            return
        for place in places:
            if place not in order and (not order or found[place].kernel.shape[1] == len(found[order[-1]].kernel)):
                extend([*order, place])

    extend([])
    if len(orders) != 1 or next(tried) > _MOST_TRIED:
        tree_checks.order_unknown(argument, places, len(orders))
    return orders[0]
