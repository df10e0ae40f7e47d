"""Checks of activations: their names, their inputs, and the consistency of user-defined ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fisherstats.core.validation.arguments import choice, non_negative_number, real_number, shown

__all__ = ["activation_name", "consistent_description", "derivative_order", "interval", "leak", "pre_activation_dtype"]

_SMOOTHNESS = ("C0", "C1", "C2", "smooth")


def activation_name(value: Any, names: Sequence[str]) -> str:
    """Return `value` if it names an activation, else say which name was probably meant."""
    if not isinstance(value, str):
        advice = f"; call the class, {value.__name__}(), for an object" if isinstance(value, type) else ""
        raise TypeError(
            f"`activation` must be one of {', '.join(map(repr, names))} or an Activation object such as "
            f"LeakyReLU(0.2), got {shown(value)}{advice}."
        )
    return str(choice("activation", value, names))


def derivative_order(order: Any) -> None:
    """Refuse an order of derivatives other than 0, 1 and 2."""
    if isinstance(order, bool) or order not in (0, 1, 2):
        raise ValueError(f"`order` must be 0, 1 or 2, the highest derivative to compute, got {shown(order)}.")


def pre_activation_dtype(a: Any) -> None:
    """Refuse pre-activations that are not a float32 or float64 array."""
    dtype = getattr(a, "dtype", None)
    if dtype not in (np.float32, np.float64):
        arrived = shown(a) if dtype is None else f"dtype {dtype}"
        raise TypeError(f"`a` must be an array of float32 or float64, got {arrived}; convert it with np.asarray(a, float).")


def consistent_description(
    smoothness: Any, kinks: tuple[float, ...], sup_first: Any, sup_second: Any, piecewise_linear: bool
) -> None:
    """Refuse a description of an activation that contradicts itself; the bounds and the kink guard rely on it."""
    choice("smoothness", smoothness, _SMOOTHNESS)
    if (smoothness in ("C0", "C1")) != bool(kinks):
        raise ValueError(
            "`kinks` must hold the points without a second derivative, which C0 and C1 activations have and C2 and smooth ones "
            f"do not, got kinks={kinks} with smoothness={smoothness!r}."
        )
    for name, bound in (("sup_first", sup_first), ("sup_second", sup_second)):
        if not (math.isfinite(bound) and bound >= 0):
            raise ValueError(
                f"`{name}` must be a finite bound of at least 0, got {shown(bound)}; an activation with an unbounded "
                "derivative cannot be used in the bounds."
            )
    if piecewise_linear and sup_second != 0:
        raise ValueError(f"`sup_second` must be 0 for a piecewise linear activation, got {shown(sup_second)}.")


def interval(lower: Any, upper: Any) -> tuple[float, float]:
    """Return two finite numbers, the first below the second."""
    low, high = real_number(lower), real_number(upper)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"`lower` must be below `upper`, both finite numbers, got {shown(lower)} and {shown(upper)}.")
    return low, high


def leak(name: str, value: Any) -> float:
    """Return a slope on the left of 0 that is smaller than the slope 1 on the right."""
    number = non_negative_number(name, value)
    if number >= 1:
        raise ValueError(f"`{name}` must be at least 0 and below 1, the slope on the right, got {shown(value)}.")
    return number
