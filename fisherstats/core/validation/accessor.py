"""Checks of the accessor ``result.fisher``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fisherstats.core.validation.arguments import shown

__all__ = ["layer_number", "no_matrix", "one_dim", "over_parameters"]


def over_parameters(result: Any) -> None:
    """Require a result over the parameters of a network."""
    if "param" not in result.dims or "param_layer" not in result.coords:
        raise ValueError(
            "`.fisher` is for results over the parameters of a network, with the dim `param` and its coordinate "
            f"`param_layer`, got the dims {tuple(result.dims)}."
        )


def no_matrix(result: Any) -> None:
    """Require a vector over the parameters."""
    if "param2" in result.dims:
        raise ValueError("`as_weights` is for one number per parameter, got a matrix; take its diagonal with `view='diagonal'`.")


def one_dim(result: Any) -> None:
    """Require the dim of the parameters alone."""
    if tuple(result.dims) != ("param",):
        more = [dim for dim in result.dims if dim != "param"]
        raise ValueError(
            f"`.fisher` needs the dim `param` alone here, got {tuple(result.dims)}; choose one with `.isel({more[0]}=0)`."
        )


def layer_number(number: Any, known: Sequence[int]) -> None:
    """Require the number of a layer of the result."""
    if isinstance(number, bool | np.bool_) or not isinstance(number, int | np.integer) or number not in known:
        raise ValueError(f"`number` must be one of the layers {list(known)}, got {shown(number)}.")
