"""Alignment of labelled arrays to the parameter order of the network: labels are matched or rejected, never read by position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.validation import arguments, functionals, inputs
from fisherstats.core.validation import labelled_arrays as checks
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels

__all__ = [
    "direction_rows",
    "over_parameters",
    "parameter_vector",
    "square_matrices",
    "symmetric_matrix",
]

_DIMS = ("param", "param2")
_PLACE = ("_layer", "_unit_out", "_unit_in")
"""The coordinates that identify a parameter, apart from its number."""


def parameter_vector(name: str, value: Any, model: MLP) -> NDArray[np.floating]:
    """Return a finite vector over the parameters of the network."""
    return arguments.parameter_vector(name, over_parameters(name, value, model), model.n_params)


def symmetric_matrix(name: str, value: Any, model: MLP) -> NDArray[np.floating]:
    """Return a finite symmetric matrix over the parameters of the network."""
    return arguments.symmetric_matrix(name, over_parameters(name, value, model, 2), model.n_params)


def direction_rows(value: Any, model: MLP) -> NDArray[np.floating]:
    """Return directions as (k, P); one vector is one direction."""
    return functionals.direction_rows(over_parameters("directions", value, model), model.n_params)


def square_matrices(name: str, value: Any) -> Any:
    """Return labelled square matrices with their two dims last, d and d2 as in a result; unlabelled arrays unchanged."""
    found = _labelled_array(name, value) if isinstance(value, xr.DataArray | xr.Variable | xr.Dataset) else None
    if found is None:
        return value
    pairs = [dim for dim in found.dims if f"{dim}2" in found.dims]
    if len(pairs) != 1:
        checks.parameter_dims(name, found.dims, ["(..., d, d2)"])
    return found.transpose(..., pairs[0], f"{pairs[0]}2")


def over_parameters(name: str, value: Any, model: MLP, ndim: int = 1) -> Any:
    """Return a vector (`ndim` 1) or a matrix (2) over the parameters in the order of the network.

    Arrays labelled in another order are reordered, with all their coordinates; labels of another network are rejected. A vector
    may be one of several, rows of a matrix. Unlabelled arrays are returned unchanged.
    """
    found = _labelled_array(name, value)
    if found is None:
        return value
    over = [dim for dim in found.dims if dim in _DIMS]
    others = [dim for dim in found.dims if dim not in _DIMS]
    if ndim == 2 and (len(over) != 2 or others):
        checks.parameter_dims(name, found.dims, ["('param', 'param2')"])
    if ndim == 1 and (len(over) != 1 or len(others) > 1):
        checks.parameter_dims(name, found.dims, ["('param',)", "(..., 'param')"])
    for dim in over:
        order = _order(name, found, str(dim), model)
        if order is not None:
            found = found.isel({dim: order})
    return found.transpose(*others, *sorted(over, key=str))


def _labelled_array(name: str, value: Any) -> xr.DataArray | None:
    """Return a labelled object as a DataArray: from xarray, or from a pandas Series or DataFrame."""
    if isinstance(value, np.ndarray | list | tuple):
        return None
    if isinstance(value, xr.Dataset):
        inputs.one_array(name, value.data_vars)
    if isinstance(value, xr.DataArray):
        return value
    if isinstance(value, xr.Variable):
        return xr.DataArray(value)
    if not hasattr(type(value), "iloc"):
        return None
    axes = [value.index, value.columns] if value.ndim == 2 else [value.index]
    found = xr.DataArray(value.to_numpy(), dims=_DIMS[: value.ndim])
    for dim, index in zip(_DIMS, axes, strict=False):
        if index.nlevels > 1:
            levels = {str(level): index.get_level_values(level).to_numpy() for level in index.names if level is not None}
            found = found.assign_coords({level: (dim, one) for level, one in levels.items()})
        else:
            labels_of_axis = index.to_numpy()
            if labels_of_axis.dtype.kind not in "iu" and len(labels_of_axis):
                checks.unknown_index(name, labels_of_axis[0])
            found = found.assign_coords({dim: labels_of_axis})
    return found


def _order(name: str, given: xr.DataArray, dim: str, model: MLP) -> NDArray[np.int64] | None:
    """Return the positions of the network's parameters along a dim, or None if already in order or unlabelled."""
    wanted = {suffix: one[1] for suffix, one in _suffixes(_labels.param_coordinates(model, dim), dim).items()}
    n_params = len(wanted[""])
    if given.sizes[dim] != n_params:
        return None  # rejected later by its shape
    found = _suffixes(given.coords, dim)
    carried = {suffix: one.to_numpy() for suffix, one in found.items() if suffix in wanted and one.dims == (dim,)}
    if "" in carried and given.indexes[dim].nlevels > 1:
        del carried[""]
    if all(np.array_equal(one, wanted[suffix]) for suffix, one in carried.items()):
        return None
    key: tuple[str, ...] = ("",) if "" in carried else _PLACE if carried.keys() >= set(_PLACE) else ()
    order = _positions(name, dim, key, carried, wanted) if key else np.arange(n_params)
    for suffix, one in carried.items():
        different = np.flatnonzero(one[order] != wanted[suffix])
        if len(different):
            at = different[0]
            checks.other_parameter(name, dim + suffix, one[order][at], wanted[suffix][at])
    return order


def _suffixes(coordinates: Mapping[Any, Any], dim: str) -> dict[str, Any]:
    return {str(one)[len(dim) :]: coordinates[one] for one in coordinates if one == dim or str(one).startswith(f"{dim}_")}


def _positions(
    name: str, dim: str, key: tuple[str, ...], carried: dict[str, NDArray[Any]], wanted: dict[str, NDArray[Any]]
) -> NDArray[np.int64]:
    """Return the position of every parameter of the network among labels in another order."""
    coordinate = " and ".join(dim + suffix for suffix in key)
    given = list(zip(*[carried[suffix].tolist() for suffix in key], strict=True))
    places = {label: position for position, label in enumerate(given)}
    known = list(zip(*[wanted[suffix].tolist() for suffix in key], strict=True))
    if len(places) < len(given):
        checks.repeated_label(name, coordinate, _shown(next(label for at, label in enumerate(given) if places[label] != at)))
    if places.keys() != set(known):
        strange = places.keys() - set(known)
        checks.other_parameter(name, coordinate, _shown(next(one for one in given if one in strange)), None)
    return np.array([places[label] for label in known], dtype=np.int64)


def _shown(label: tuple[Any, ...]) -> Any:
    return label[0] if len(label) == 1 else label
