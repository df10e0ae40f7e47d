"""Checks of weights and of the fit between the layers and the family."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.errors import EngineUnavailable
from fisherstats.core.validation.arguments import positive_integer, real_array, shown
from fisherstats.core.validation.external import perceptron_only
from fisherstats.core.validation.other_libraries import model_advice

__all__ = [
    "activation_count",
    "bias_flags",
    "biases_fit",
    "family_object",
    "frozen",
    "layer_index",
    "model_object",
    "names",
    "precision",
    "runs_on_device",
    "weight_matrices",
    "widths",
]


def bias_flags(bias: Any, n_layers: int) -> tuple[bool, ...]:
    """Return whether each layer has a bias."""
    given = (bias,) * n_layers if isinstance(bias, bool | np.bool_) else bias
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(one, bool | np.bool_) for one in given):
        raise TypeError(
            f"`bias` must be True, False, or a list with one of them for each of {n_layers} layers, got {shown(bias)}."
        )
    if len(given) != n_layers:
        raise ValueError(
            f"`bias` must say of each of the {n_layers} layers whether it has a bias, got {len(given)} entries; a single True or "
            "False applies to all of them."
        )
    return tuple(bool(one) for one in given)


def weight_matrices(weights: Any, bias: Any = True) -> tuple[list[NDArray[np.floating]], tuple[bool, ...]]:
    """Return the weight matrices as finite 2-D arrays whose shapes chain, and which have a bias in the last column."""
    if isinstance(weights, np.ndarray | str | dict) or not isinstance(weights, Sequence):
        raise TypeError(
            "`weights` must be a list of matrices, one per layer, each of shape (n_out, n_in + 1) with the bias in the "
            f"last column, got {shown(weights)}; "
            f"{'put a single matrix into a list' if isinstance(weights, np.ndarray) else model_advice('weights', weights)}."
        )
    if len(weights) == 0:
        raise ValueError("`weights` must hold at least one matrix, got an empty list.")
    matrices: list[NDArray[np.floating]] = []
    biased = bias_flags(bias, len(weights))
    for layer, matrix in enumerate(weights):
        array = real_array(f"weights[{layer}]", matrix)
        if not biased[layer]:
            _without_bias(layer, array.shape, matrices[-1].shape[0] if layer else None)
            matrices.append(array)
            continue
        if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
            apart = "; use MLP.from_arrays for separate kernels and biases" if layer and array.ndim == 1 else ""
            raise ValueError(
                f"`weights[{layer}]` must be a matrix of shape (n_out, n_in + 1) with n_out, n_in at least 1 and the "
                f"bias in the last column, got shape {array.shape}{apart}."
            )
        if layer and array.shape[1] != matrices[-1].shape[0] + 1:
            raise ValueError(
                f"`weights[{layer}]` must have {matrices[-1].shape[0] + 1} columns, the {matrices[-1].shape[0]} outputs of "
                f"weights[{layer - 1}] and one bias, got shape {array.shape}; use MLP.from_arrays for kernels without "
                "a bias column, and `bias=False` for a layer that has none."
            )
        matrices.append(array)
    return matrices, biased


def _without_bias(layer: int, shape: tuple[int, ...], n_below: int | None) -> None:
    """Require the shape of a matrix without a bias column."""
    if len(shape) != 2 or min(shape) < 1 or (n_below is not None and shape[1] != n_below):
        below = "" if n_below is None else f" with n_in = {n_below}, the outputs of weights[{layer - 1}]"
        raise ValueError(
            f"`weights[{layer}]` must be a matrix of shape (n_out, n_in){below}, as `bias` says that it has none, got "
            f"shape {shape}; a bias column is used with `bias=True`."
        )


def biases_fit(kernels: Any, biases: Any) -> list[NDArray[np.floating]]:
    """Return [kernel | bias] per layer for kernels of shape (n_out, n_in) and biases of shape (n_out,); the kernel for None."""
    for name, value in (("kernels", kernels), ("biases", biases)):
        if isinstance(value, np.ndarray | str | dict) or not isinstance(value, Sequence):
            raise TypeError(f"`{name}` must be a list with one array per layer, got {shown(value)}.")
    if len(kernels) != len(biases):
        raise ValueError(f"`biases` must hold one vector per kernel, got {len(kernels)} kernels and {len(biases)} biases.")
    joined = []
    for layer, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        matrix = real_array(f"kernels[{layer}]", kernel)
        vector = None if bias is None else real_array(f"biases[{layer}]", bias)
        if matrix.ndim != 2:
            raise ValueError(f"`kernels[{layer}]` must be a matrix of shape (n_out, n_in), got shape {matrix.shape}.")
        if vector is None:
            joined.append(matrix)
            continue
        if vector.shape != (matrix.shape[0],):
            raise ValueError(
                f"`biases[{layer}]` must have shape ({matrix.shape[0]},) to go with kernels[{layer}] of shape "
                f"{matrix.shape} (n_out, n_in), got shape {vector.shape}; transpose kernels stored as (n_in, n_out)."
            )
        joined.append(np.column_stack([matrix, vector]))
    return joined


def family_object(family: Any, family_type: type, n_outputs: int | None) -> None:
    """Require a family object with as many natural parameters as outputs of the last layer, if there is one."""
    if not isinstance(family, family_type):
        raise TypeError(
            "`family` must be a family object such as fisherstats.families.Categorical(3) or "
            f"fisherstats.families.Gaussian(1), got {shown(family)}."
        )
    if n_outputs is not None and family.n_outputs != n_outputs:  # type: ignore[attr-defined]
        raise ValueError(
            f"`weights[-1]` must have {family.n_outputs} rows, one per natural parameter of {family!r}, "  # type: ignore[attr-defined]
            f"got {n_outputs} rows; change the family's size or the last layer."
        )


def activation_count(activation: Sequence[Any], n_hidden: int) -> None:
    """Require one activation per hidden layer."""
    if len(activation) != n_hidden:
        raise ValueError(
            f"`activation` must name one activation for each of the {n_hidden} hidden layers, got {len(activation)}; "
            "a single name applies to all of them."
        )


def widths(value: Any) -> list[int]:
    """Return the layer widths (inputs, hidden units ..., outputs) as integers."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or len(value) < 2:
        raise ValueError(f"`widths` must list at least two layer widths (inputs, hidden units ..., outputs), got {shown(value)}.")
    return [positive_integer(f"widths[{position}]", width) for position, width in enumerate(value)]


def model_object(model: Any, model_type: type, name: str = "model") -> None:
    """Require an MLP."""
    if not isinstance(model, model_type):
        if type(model).__name__ == "ExternalNetwork":
            perceptron_only(name)
        raise TypeError(f"`{name}` must be a fisherstats.MLP, got {shown(model)}; {model_advice(name, model)}.")


def layer_index(layer: Any, n_layers: int) -> int:
    """Return `layer` as an index of h_l, 0 (the input) to L (the natural parameters)."""
    if isinstance(layer, bool | np.bool_) or not isinstance(layer, int | np.integer) or not 0 <= layer <= n_layers:
        raise ValueError(
            f"`layer` must be an integer from 0 (the input) to {n_layers} (the natural parameters), got {shown(layer)}."
        )
    return int(layer)


def frozen(name: str) -> NoReturn:
    """Refuse in-place changes of a network."""
    raise AttributeError(
        f"`{name}` cannot be set: an MLP is frozen; build another with MLP(weights, activation=..., family=...)."
    )


def names(name: str, value: Any, count: int) -> tuple[str, ...] | None:
    """Return different names, one for each input or output of a network."""
    if value is None:
        return None
    given = None if isinstance(value, str | bytes) or not isinstance(value, Iterable) else tuple(value)
    if given is None or not all(isinstance(one, str) for one in given):
        raise TypeError(f"`{name}` must be a list of {count} names, each of them text, got {shown(value)}.")
    if len(given) != count or len(set(given)) != count:
        what = "twice " + repr(next(one for one in given if given.count(one) > 1)) if len(set(given)) < len(given) else len(given)
        raise ValueError(f"`{name}` must hold {count} different names, one for each, got {what}.")
    return tuple(str(one) for one in given)


def same_names(name: str, given: Any, other: str, wanted: Any) -> None:
    """Require two networks with names to have the same ones, in the same order."""
    for which in ("feature_names", "output_names"):
        own, theirs = getattr(given, which), getattr(wanted, which)
        if own is not None and theirs is not None and own != theirs:
            at = next(place for place, pair in enumerate(zip(own, theirs, strict=False)) if pair[0] != pair[1])
            raise ValueError(
                f"`{name}` must have the `{which}` of `{other}` in the same order, got {own[at]!r} for {theirs[at]!r} at "
                f"position {at}; put its weights into that order, or declare the names equivalent with `.named(...)`."
            )


def precision(dtype: Any) -> np.dtype[Any]:
    """Return one of the two dtypes that weights have."""
    for known in (np.dtype(np.float32), np.dtype(np.float64)):
        try:
            if dtype is not None and np.dtype(dtype).newbyteorder("=") == known:
                return known
        except TypeError:
            break
    raise ValueError(f"`dtype` must be float64 or float32, the precisions of a network, got {shown(dtype)}.")


def runs_on_device(family: Any, activations: Sequence[Any]) -> None:
    """Require the package's own family and activations: user-defined functions work on host arrays."""
    kinds = [("family", type(one).__module__, one.name) for one in (family, *getattr(family, "families", ()))]
    kinds += [("activation", one.formula.__module__, one.name) for one in activations]
    for kind, module, name in kinds:
        if not module.startswith("fisherstats.models."):
            raise EngineUnavailable(
                f"`engine='cupy'` computes with the families and activations of the package, got the {kind} {name!r}, whose "
                "functions work on host arrays; use engine='numpy' and an `x` on the host."
            )
