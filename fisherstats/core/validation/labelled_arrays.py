"""Checks of labelled arrays: their dims, and whether their labels match those of the network and of the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from fisherstats.core.validation.arguments import shown

__all__ = ["other_names", "other_parameter", "parameter_dims", "renumbered", "repeated_label", "unknown_index"]


def parameter_dims(name: str, dims: tuple[Any, ...], wanted: Sequence[str]) -> NoReturn:
    """Refuse a labelled array whose dims do not say which of them are the parameters."""
    listed = " or ".join(wanted)
    raise ValueError(f"`{name}` must have the dims {listed}, got {dims}; rename them with `.rename(...)`.")


def other_parameter(name: str, coordinate: str, got: Any, wanted: Any) -> NoReturn:
    """Refuse labels that are not those of the parameters of the network."""
    found = (
        f"{shown(got)} where the network has {shown(wanted)}" if wanted is not None else f"{shown(got)}, which it does not have"
    )
    raise ValueError(
        f"`{name}` must be for the parameters of the network, by its coordinate {coordinate!r}, got {found}; it belongs to "
        f"another network or to a part of one, or pass its numbers alone, in the network's order, as `{name}.to_numpy()`."
    )


def other_names(name: str, what: str, got: Sequence[Any], wanted: Sequence[Any]) -> NoReturn:
    """Refuse columns that are not those of the network."""
    missing = next((one for one in wanted if one not in got), None)
    strange = next((one for one in got if one not in wanted), None)
    if strange is not None:
        found = f"{shown(strange)}, which is none of them"
    elif missing is not None:
        found = f"no {shown(missing)}"
    else:
        found = f"{shown(next(one for one in got if list(got).count(one) > 1))} twice"
    raise ValueError(
        f"`{name}` must have the columns {shown(list(wanted))}, the `{what}` of the network, got {found}; choose and rename its "
        "columns, or pass the numbers alone, in the network's order."
    )


def renumbered(name: str, got: Sequence[Any]) -> NoReturn:
    """Refuse columns whose numbers are not in their order of position."""
    raise ValueError(
        f"`{name}` must have its columns in the order of the network, got the numbers {shown(list(got))} for names, which may "
        "mean their positions or these numbers; sort the columns, or pass the numbers alone, in the network's order."
    )


def repeated_label(name: str, coordinate: str, label: Any) -> NoReturn:
    """Refuse two numbers for one parameter."""
    raise ValueError(
        f"`{name}` must have one number for each parameter, by its coordinate {coordinate!r}, got {shown(label)} more than once."
    )


def unknown_index(name: str, label: Any) -> NoReturn:
    """Refuse an index that does not identify parameters."""
    raise ValueError(
        f"`{name}` must be indexed by numbers of parameters, as in the coordinate 'param' of a result, got {shown(label)}; pass "
        f"its numbers alone, in the order of the parameters, as `{name}.to_numpy()`."
    )
