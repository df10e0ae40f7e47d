"""The only builder of labelled objects: bare arrays in, schema rows and provenance attached once, xarray out."""

from __future__ import annotations

import functools
import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.checks import inputs
from fisherstats.schema import COORDINATES, VARIABLES
from fisherstats.sources import SOURCES, citation

__all__ = [
    "Entry",
    "array",
    "attributes",
    "coordinates",
    "dataset",
    "factor_coordinates",
    "layer_coordinates",
    "param_coordinates",
    "tree",
    "unit_coordinates",
    "unlabelled",
    "unlabelled_response",
]

Entry = tuple[str, Sequence[str], NDArray[Any]]
"""(schema key, dims, values)."""


@functools.lru_cache(maxsize=32)
def _param_arrays(widths: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    layers, rows, columns = [], [], []
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        layers.append(np.full(n_out * (n_in + 1), layer))
        rows.append(np.repeat(np.arange(n_out), n_in + 1))
        columns.append(np.tile(np.append(np.arange(n_in), -1), n_out))
    unit_in = np.concatenate(columns)
    arrays = {
        "": np.arange(unit_in.size),
        "_layer": np.concatenate(layers),
        "_unit_out": np.concatenate(rows),
        "_unit_in": unit_in,
        "_kind": np.where(unit_in < 0, "bias", "weight"),
    }
    for values in arrays.values():
        values.flags.writeable = False
    return arrays


def param_coordinates(widths: tuple[int, ...], dim: str = "param", layer: int | None = None) -> dict[str, Any]:
    """Return the coordinates of a parameter dim (of one layer's parameters where `layer` is given)."""
    arrays = _param_arrays(widths)
    if layer is not None:
        kept = arrays["_layer"] == layer
        arrays = {suffix: values[kept] for suffix, values in arrays.items()}
    return {dim + suffix: (dim, values, {"long_name": COORDINATES["param" + suffix]}) for suffix, values in arrays.items()}


def unit_coordinates(widths: tuple[int, ...]) -> dict[str, Any]:
    """Return the coordinates of the dim that runs over all rows of all weight matrices."""
    layers = np.repeat(np.arange(len(widths) - 1), widths[1:])
    rows = np.concatenate([np.arange(width) for width in widths[1:]])
    return {
        "unit": ("unit", np.arange(layers.size), {"long_name": COORDINATES["unit"]}),
        "unit_layer": ("unit", layers, {"long_name": COORDINATES["unit_layer"]}),
        "unit_out": ("unit", rows, {"long_name": COORDINATES["unit_out"]}),
    }


def factor_coordinates(widths: tuple[int, ...], layer: int) -> dict[str, Any]:
    """Return the coordinates of the Kronecker factors of a layer: its inputs with the bias last, and its units."""
    features, units = np.append(np.arange(widths[layer]), -1), np.arange(widths[layer + 1])
    return coordinates(feature=features, feature2=features, unit=units, unit2=units)


def layer_coordinates(n_layers: int) -> dict[str, Any]:
    """Return the coordinate of the layers."""
    return {"layer": ("layer", np.arange(n_layers), {"long_name": COORDINATES["layer"]})}


def coordinates(**dims: int | Sequence[str] | NDArray[Any]) -> dict[str, Any]:
    """Return index coordinates: an integer gives 0..size-1, a sequence gives its words."""
    return {
        dim: (
            dim,
            values if isinstance(values, np.ndarray) else _index(values if isinstance(values, int) else tuple(values)),
            {"long_name": COORDINATES.get(dim.rstrip("2"), dim)},
        )
        for dim, values in dims.items()
    }


@functools.lru_cache(maxsize=32)
def _index(values: int | tuple[str, ...]) -> NDArray[Any]:
    index = np.arange(values) if isinstance(values, int) else np.asarray(values)
    index.flags.writeable = False
    return index


_built: OrderedDict[tuple[Any, ...], tuple[xr.Coordinates, list[NDArray[Any]]]] = OrderedDict()
_building = threading.Lock()
_MOST_BUILT = 16


def _coordinates_of(coords: Mapping[str, Any]) -> xr.Coordinates:
    """Return coordinates with their indexes, the same ones for the same arrays: making them takes longer than all the rest."""
    key = tuple((name, one[0], id(one[1])) for name, one in coords.items())
    with _building:
        if key not in _built:
            # The arrays are kept, so that no other array can have the identity of one of them.
            _built[key] = xr.Coordinates(dict(coords)), [one[1] for one in coords.values()]
            if len(_built) > _MOST_BUILT:
                _built.popitem(last=False)
        return _built[key][0]


def attributes(key: str, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of a schema variable: netCDF-safe text, equal for equal work."""
    variable = VARIABLES[key]
    source = SOURCES[variable.source]
    described = {
        "long_name": variable.long_name,
        "units": variable.units,
        "symbol": variable.symbol,
        "source": citation(variable.source),
        "assumptions": source.assumptions,
    }
    if source.erratum:
        described["erratum"] = source.erratum
    return described | {"provenance": json.dumps(provenance, sort_keys=True)}


def dataset(entries: Sequence[Entry], coords: Mapping[str, Any], provenance: Mapping[str, Any]) -> xr.Dataset:
    """Return a Dataset of schema variables that share coordinates."""
    variables = {VARIABLES[key].name: (tuple(dims), values, attributes(key, provenance)) for key, dims, values in entries}
    return xr.Dataset(variables, coords=_coordinates_of(coords), attrs={"provenance": json.dumps(provenance, sort_keys=True)})


def array(
    key: str,
    dims: Sequence[str],
    values: NDArray[Any],
    coords: Mapping[str, Any],
    provenance: Mapping[str, Any],
    companions: Sequence[Entry] = (),
) -> xr.DataArray:
    """Return one labelled quantity; `companions` (its standard error, say) become coordinates beside it."""
    beside = {VARIABLES[name].name: (tuple(d), v, attributes(name, provenance)) for name, d, v in companions}
    name = VARIABLES[key].name
    # Through a Dataset: the DataArray constructor would deep-copy the coordinates and lose their read-only flag.
    built = xr.Dataset({name: (tuple(dims), values, attributes(key, provenance)), **beside}, coords=_coordinates_of(coords))
    return built.set_coords(list(beside))[name]


def tree(children: Mapping[str, xr.Dataset], provenance: Mapping[str, Any]) -> xr.DataTree:
    """Return a DataTree with one child per layer."""
    root = xr.Dataset(attrs={"provenance": json.dumps(provenance, sort_keys=True)})
    return xr.DataTree.from_dict({"/": root, **children})


def unlabelled(x: Any) -> tuple[Any, NDArray[Any] | None]:
    """Return the array inside a labelled x as (input, feature), and its labels of the inputs if it carries any."""
    if isinstance(x, xr.Dataset):
        inputs.one_array("x", x.data_vars)
    if not isinstance(x, xr.DataArray):
        return x, None
    inputs.labelled_input(x.dims)
    x = x.transpose("input", "feature")
    if "input" not in x.indexes:
        return x.data, None
    index = x.indexes["input"]
    inputs.input_labels(index.to_numpy(), index.nlevels)
    return x.data, index.to_numpy()


def unlabelled_response(y: Any, input_labels: NDArray[Any] | None = None) -> Any:
    """Return the array inside labelled data labels, outputs last; both x and y labelled, they must be for the same inputs."""
    if isinstance(y, xr.Dataset):
        inputs.one_array("y", y.data_vars)
    if not isinstance(y, xr.DataArray):
        return y
    inputs.labelled_response(y.dims)
    if input_labels is not None and "input" in y.indexes:
        inputs.same_inputs(y.indexes["input"].to_numpy(), input_labels)
    return y.transpose("input", ...).to_numpy()
