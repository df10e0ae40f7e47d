"""Checks of results that go back to the parameters of another library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation.arguments import shown

__all__ = [
    "needs_unfolding",
    "no_errors",
    "one_per_parameter",
    "rows_in_memory",
    "same_layers",
    "same_names",
    "same_network",
    "same_shape",
    "scale_divides",
    "shift_has_a_place",
]

_UNFOLD = "`fisherstats.interop.unfolded_information(model, source, x)` computes them from the inputs"


def rows_in_memory(x: Any) -> None:
    """Refuse a lazy x."""
    if hasattr(x, "__dask_graph__"):
        raise TypeError(f"`x` must be an array or batches here, got {shown(x)}; give `x.compute()`, or its blocks as batches.")


def same_network(model: Any, weights: Sequence[NDArray[Any]]) -> None:
    """Require the network to have the weights that are now read from its source."""
    own = model.weights
    if len(own) != len(weights) or any(a.shape != b.shape for a, b in zip(own, weights, strict=False)):
        raise ValueError(
            f"`model` must be the network of `source`, got widths {model.widths} for another number or size of layers; read it "
            "from the source."
        )
    for layer, (one, other) in enumerate(zip(own, weights, strict=True)):
        if not np.array_equal(one, other):
            raise ValueError(
                f"`model` must have the weights of `source`, got others in layer {layer}; read it again after every change of "
                "the source."
            )


def needs_unfolding(name: str) -> NoReturn:
    """Refuse a diagonal of the folded network as numbers for the parameters of its source."""
    raise ValueError(
        "`result` must be of the parameters of the source, which its batch normalisations fold into fewer, got one of the "
        "folded "
        f"network: {name} is not determined by it; {_UNFOLD}."
    )


def one_per_parameter(result: Any, n_params: int, shape: tuple[int, ...]) -> NoReturn:
    """Refuse a result that is not one number for each parameter."""
    raise ValueError(
        f"`result` must hold one number for each of the {n_params} parameters, got shape {shape}; choose one with `.sel(...)`, "
        "and "
        "the view 'diagonal'."
    )


def no_errors() -> NoReturn:
    """Refuse to give standard errors that a result does not carry."""
    raise ValueError(
        "`result` must carry a standard error for what='standard_errors', got one without; estimate it with "
        "`fisherstats.estimate_fisher`, or attach one with `fisherstats.with_standard_error`."
    )


def same_names(argument: str, given: Sequence[str], wanted: Sequence[str]) -> None:
    """Require the same names of parameters."""
    missing, strange = [one for one in wanted if one not in given], [one for one in given if one not in wanted]
    if missing or strange:
        what = f"{missing[0]!r} missing" if missing else f"{strange[0]!r}, which it does not have"
        raise ValueError(f"`{argument}` must have the parameters of the network, got {what}.")


def same_shape(name: str, wanted: tuple[int, ...], got: tuple[int, ...]) -> None:
    """Require a parameter to have the same shape on both sides."""
    if wanted != got:
        raise ValueError(f"`{name}` must have shape {wanted}, as in the network, got {got}.")


def scale_divides(place: str, factor: NDArray[Any]) -> None:
    """Require a normalisation whose fold can be undone."""
    zeros = np.flatnonzero(factor == 0)
    if len(zeros):
        raise ValueError(
            "`source` must have a gamma other than 0 in every batch normalisation to hold other weights, got 0 for unit "
            f"{zeros[0]} at "
            f"{place}, whose outputs no weight can change."
        )


def shift_has_a_place(place: str) -> NoReturn:
    """Refuse weights whose bias nothing in the source can hold."""
    raise ValueError(
        f"`source` must have a bias, or a batch normalisation with beta, where the network has one, got neither at {place}; "
        "make the "
        "layer with a bias."
    )


def same_layers(model: Any, shapes: Sequence[tuple[int, ...]], activations: Sequence[Any] | None) -> None:
    """Require the layers of a network and, where they are known, its activations, to be those of the source."""
    if not hasattr(model, "weights"):
        raise TypeError(f"`model` must be a fisherstats.MLP, got {shown(model)}.")
    widths = tuple([shapes[0][1], *(shape[0] for shape in shapes)])
    if tuple(model.widths) != widths:
        raise ValueError(f"`model` must have the layers of `source`, widths {widths}, got {tuple(model.widths)}.")
    for layer, (own, given) in enumerate(zip(model.activations, activations or (), strict=False)):
        if given is not None and (own.name, dict(own.parameters)) != (given.name, dict(given.parameters)):
            raise ValueError(f"`model` must have the activations of `source`, got {own!r} for {given!r} in layer {layer}.")
