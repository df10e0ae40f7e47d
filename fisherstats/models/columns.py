"""Named columns of x and of data labels, reordered to the names of the network."""

from __future__ import annotations

from typing import Any

import numpy as np

from fisherstats.core.validation import labelled_arrays as checks

__all__ = ["column_names", "columns_in_order", "response_in_order"]


def columns_in_order(x: Any, model: Any) -> Any:
    """Return x with its named columns in the order of the network; names that are not the network's are refused."""
    return _in_order("x", x, "feature", "feature_names", model.feature_names)


def response_in_order(y: Any, model: Any) -> Any:
    """Return data labels with their named columns in the order of the network's outputs."""
    return _in_order("y", y, "output", "output_names", model.output_names)


def column_names(x: Any) -> list[str] | None:
    """Return the names of the columns of x, if all have one."""
    found = _columns(x, "feature")
    return found if found and all(isinstance(one, str) for one in found) else None


def _columns(value: Any, dim: str) -> list[Any] | None:
    """Return the names of the columns; None where they have only positions."""
    # Types are compared, as a dask Delayed object has every attribute.
    if hasattr(type(value), "indexes"):
        found = value.indexes[dim].tolist() if dim in value.dims and dim in value.indexes else None
    elif isinstance(value, np.ndarray) or not hasattr(type(value), "columns") or getattr(value, "ndim", 2) != 2:
        return None
    else:
        found = list(value.columns)
        if not hasattr(value, "iloc") and found == [f"column_{place}" for place in range(len(found))]:
            return None  # polars uses this for missing names
    return None if found == list(range(len(found or []))) else found


def _in_order(name: str, value: Any, dim: str, what: str, wanted: tuple[str, ...] | None) -> Any:
    found = _columns(value, dim)
    if found is None:
        return value
    if wanted is None:
        if len(found) > 1 and set(found) == set(range(len(found))):
            checks.renumbered(name, found)
        return value
    if found == list(wanted):
        return value
    if len(found) != len(wanted) or set(found) != set(wanted):
        checks.other_names(name, what, found, wanted)
    if hasattr(type(value), "indexes"):
        return value.isel({dim: [found.index(one) for one in wanted]})
    return value[list(wanted)]
