"""Checks of the input of a figure: the right result, by its variables, their dims, its coordinates and its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from fisherstats.core.references import citation
from fisherstats.core.validation.arguments import positive_number, shown

__all__ = ["Drawn", "NotDrawable", "attribute", "drawable", "holds", "labelled_result", "library_figure", "no_figure"]


class NotDrawable(ValueError, TypeError):
    """A result of another kind than the figure is of: told apart from a fault of the drawing by its type."""


@dataclass(frozen=True)
class Drawn:
    """The requirements of a figure on its input.

    `made_by` names the function that returns it. `dims` has the dims of each variable, in the order in which they are passed on;
    one in `optional` may be absent, one of `either` is required. `beside` has the dim of each further coordinate that is read,
    `fewest` the minimal sizes of dims of which one entry is not enough, and `source` the source key that a single array must have
    if it has any.
    """

    argument: str
    made_by: str
    dims: Mapping[str, tuple[str, ...]]
    optional: frozenset[str] = frozenset()
    either: tuple[str, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)
    fewest: Mapping[str, int] = field(default_factory=dict)
    source: str | None = None

    def refuse(self, got: str) -> NoReturn:
        """Raise an error that names what is required and what was given."""
        required = [f"`{name}` ({', '.join(dims)})" for name, dims in self.dims.items() if name not in self.optional]
        required += [f"the coordinate `{name}` ({dim})" for name, dim in self.beside.items()]
        either = f" and one of {_listed(self.either)}" if self.either else ""
        raise NotDrawable(f"`{self.argument}` must be {self.made_by}, with {', '.join(required)}{either}, got {got}.")


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


def _dims(array: Any) -> str:
    return f"({', '.join(map(str, array.dims))})"


def _arrived(value: Any) -> str:
    """Describe the value received, a labelled object by its name or those of its variables."""
    kind = type(value).__name__
    if hasattr(value, "children") and hasattr(value, "data_vars"):
        return f"a {kind} with the children {_listed(value.children)}"
    if hasattr(value, "data_vars"):
        return f"a {kind} with {_listed(value.data_vars)}"
    if hasattr(value, "coords") and hasattr(value, "dims"):
        return f"a {kind} {'without a name' if value.name is None else f'`{value.name}`'} {_dims(value)}"
    return shown(value)


def drawable(value: Any, kind: type[Any], wanted: Drawn) -> Any:
    """Return the variables that a figure reads from a Dataset or one array, in memory, with dims in order; refuse all else."""
    if not isinstance(value, kind):
        wanted.refuse(_arrived(value))
    if hasattr(value, "data_vars"):
        absent = [name for name in wanted.dims if name not in value.data_vars and name not in wanted.optional]
        if absent or (wanted.either and not any(name in value.data_vars for name in wanted.either)):
            wanted.refuse(f"{_arrived(value)}, without {_listed(absent or wanted.either)}")
        value = value[[name for name in wanted.dims if name in value.data_vars]]
        variables = dict(value.data_vars)
    else:
        (name,) = wanted.dims
        _same_quantity(value, name, wanted)
        variables = {name: value}
    order: dict[str, None] = {}
    for name, array in variables.items():
        _variable(name, array, wanted)
        order |= dict.fromkeys(wanted.dims[name])
    for name, dim in wanted.beside.items():
        if name not in value.coords or value.coords[name].dims != (dim,):
            wanted.refuse(f"{_arrived(value)}, without that coordinate")
    value = value.transpose(*order).compute()
    for name in (*order, *wanted.beside):
        _entries(name, value[name].values, wanted)
    return value


def _same_quantity(array: Any, name: str, wanted: Drawn) -> None:
    """Refuse another quantity of the right shape, such as an estimate instead of an exact value; the name may be lost."""
    given = array.attrs.get("source")
    if array.name not in (None, name):
        wanted.refuse(_arrived(array))
    if wanted.source is not None and given is not None and given != citation(wanted.source):
        wanted.refuse(f"{_arrived(array)}, the {array.attrs.get('long_name', 'result')} by {given}")


def _variable(name: str, array: Any, wanted: Drawn) -> None:
    """Require the dims of a variable, and real numbers."""
    if set(array.dims) != set(wanted.dims[name]):
        wanted.refuse(f"`{name}` {_dims(array)}{_advice(array.dims, wanted.dims[name])}")
    if array.dtype.kind not in "iufb":
        wanted.refuse(f"`{name}` of dtype {array.dtype}, not of real numbers")


def _advice(given: tuple[Any, ...], wanted: tuple[str, ...]) -> str:
    """Return advice about extra or missing dims."""
    more, fewer = [dim for dim in given if dim not in wanted], [dim for dim in wanted if dim not in given]
    if "param2" in more:
        return "; a full matrix was given; compute its diagonal with `view='diagonal'`"
    if "input" in more:
        return "; the figure shows the mean over inputs, computed with `per_input=False`"
    if more and not fewer:
        return f"; choose one with `.isel({more[0]}=0)`"
    if fewer and not more:
        return f"; keep a single one with `.isel({fewer[0]}=[0])`"
    return ""


_WORDS = {"estimator": ("score", "hessian")}
"""Coordinates whose entries have a colour and a title of their own."""

_POSITIVE = ("n_draws", "scale", "step")
_NUMBERS = (*_POSITIVE, "epoch", "labels", "strength")
"""Coordinates that are an axis of a figure; the positive ones a logarithmic one."""

_SELECTED = ("estimator", "layer", "norm", "model", "gradient", "importance", "strategy", "diagonal")
"""Coordinates by whose entries a part of a result is chosen."""


def _entries(name: str, entries: np.ndarray, wanted: Drawn) -> None:
    """Require enough entries of a coordinate, of a type that the figure can place, colour or label."""
    fewest = wanted.fewest.get(name, 1)
    if entries.size < fewest:
        wanted.refuse(f"{entries.size} along `{name}`, where at least {fewest} are needed")
    got, listed = f"`{name}` {shown(entries.tolist())}", entries.tolist()
    if name in _WORDS and any(one not in _WORDS[name] for one in listed):
        wanted.refuse(f"{got}; choose from {_listed(_WORDS[name])} with `.sel({name}=[...])`")
    if name.endswith("layer") and (entries.dtype.kind not in "iu" or entries.min() < 0):
        wanted.refuse(f"{got}, where layer numbers are needed")
    if name in _NUMBERS and (entries.dtype.kind not in "iuf" or np.isnan(entries).any()):
        wanted.refuse(f"{got}, where numbers are needed")
    if name in _POSITIVE and not (np.isfinite(entries) & (entries > 0)).all():
        wanted.refuse(f"{got}, where finite numbers above 0 are needed")
    if name in _SELECTED and len({*map(str, listed)}) < len(listed):
        wanted.refuse(f"{got}, where each must occur once")


def holds(value: Any, dim: str, entry: float, wanted: Drawn) -> int:
    """Return the position of an entry that a figure needs."""
    found = np.flatnonzero(value[dim].values == entry)
    if not found.size:
        wanted.refuse(f"`{dim}` {shown(value[dim].values.tolist())}, without {entry:g}")
    return int(found[0])


def attribute(value: Any, name: str, wanted: Drawn) -> float:
    """Return a positive number among the attributes of a result."""
    if name not in value.attrs:
        wanted.refuse(f"{_arrived(value)} without the attribute {name!r}")
    return positive_number(f"{wanted.argument}.attrs[{name!r}]", value.attrs[name])


def library_figure(name: str, value: Any, kind: type[Any]) -> Any:
    """Return a figure of the plotting library."""
    if not isinstance(value, kind):
        raise TypeError(
            f"`{name}` must be a matplotlib Figure, as the functions of fisherstats.plotting return it, got {_arrived(value)}."
        )
    return value


def labelled_result(result: Any, kinds: Any) -> None:
    """Require a labelled result."""
    if not isinstance(result, kinds):
        raise TypeError(f"`result` must be a DataArray or a Dataset of this package, got {shown(result)}.")


def no_figure(result: Any, names: Iterable[str]) -> NoReturn:
    """Refuse a result that has no figure."""
    raise ValueError(
        f"`result` must be one of those that {_listed(names)} of `fisherstats.plotting` draw, got {_arrived(result)}."
    )
