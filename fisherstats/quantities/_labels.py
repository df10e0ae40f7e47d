"""Construction of labelled results: attaches schema attributes and provenance to plain arrays and returns xarray objects."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core import forks
from fisherstats.core.arrays import on_device
from fisherstats.core.references import SOURCES, citation
from fisherstats.core.schema import COORDINATES, VARIABLES
from fisherstats.core.validation import inputs, results, uncertainty
from fisherstats.models.external import ExternalNetwork
from fisherstats.models.network import MLP

__all__ = [
    "ERROR",
    "ERROR_OF",
    "Entry",
    "array",
    "as_text",
    "attributes",
    "checked",
    "coordinates",
    "dataset",
    "error_design",
    "error_given",
    "error_is_own",
    "factor_coordinates",
    "layer_coordinates",
    "output_coordinates",
    "param_coordinates",
    "tree",
    "unit_coordinates",
    "unlabelled",
    "unlabelled_response",
    "values_and_error",
]

ERROR, ERROR_OF = "standard_error", "standard_error_of"
"""The coordinates of an estimate: its standard error, and a copy of the values that the error belongs to."""

Entry = tuple[str, Sequence[str], NDArray[Any]]
"""(schema key, dims, values)."""


def _frozen(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    for values in arrays.values():
        values.flags.writeable = False
    return arrays


@functools.lru_cache(maxsize=128)
def _param_arrays(widths: tuple[int, ...], biased: tuple[bool, ...], layer: int | None) -> dict[str, NDArray[Any]]:
    if layer is not None:
        every = _param_arrays(widths, biased, None)
        kept = every["_layer"] == layer
        return _frozen({suffix: values[kept] for suffix, values in every.items()})
    layers, rows, columns = [], [], []
    for number, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        senders = _index(n_in, bias=biased[number])
        layers.append(np.full(n_out * len(senders), number))
        rows.append(np.repeat(np.arange(n_out), len(senders)))
        columns.append(np.tile(senders, n_out))
    unit_in = np.concatenate(columns)
    return _frozen(
        {
            "": np.arange(unit_in.size),
            "_layer": np.concatenate(layers),
            "_unit_out": np.concatenate(rows),
            "_unit_in": unit_in,
            "_kind": np.where(unit_in < 0, "bias", "weight"),
        }
    )


@functools.lru_cache(maxsize=32)
def _unit_arrays(widths: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    layers = np.repeat(np.arange(len(widths) - 1), widths[1:])
    rows = np.concatenate([np.arange(width) for width in widths[1:]])
    return _frozen({"unit": np.arange(layers.size), "unit_layer": layers, "unit_out": rows})


@functools.lru_cache(maxsize=32)
def _index(values: int | tuple[str, ...], bias: bool = False) -> NDArray[Any]:
    index = np.arange(values) if isinstance(values, int) else np.asarray(values)
    return _frozen({"": np.append(index, -1) if bias else index})[""]


@functools.lru_cache(maxsize=32)
def _names(widths: tuple[int, ...], biased: tuple[bool, ...], features: tuple[str, ...], layer: int | None) -> NDArray[Any]:
    """Return a name for each parameter: that of the input, "unit k" for the output of a hidden unit, or "bias"."""
    arrays = _param_arrays(widths, biased, layer)
    senders = np.array([*features, "bias"])
    units = np.array([*(f"unit {number}" for number in range(max(widths))), "bias"])
    return _frozen(
        {"": np.where(arrays["_layer"] == 0, senders.take(arrays["_unit_in"], mode="wrap"), units[arrays["_unit_in"]])}
    )[""]


def param_coordinates(model: MLP | ExternalNetwork, dim: str = "param", layer: int | None = None) -> dict[str, Any]:
    """Return the coordinates of a parameter dim (of one layer's parameters where `layer` is given)."""
    if isinstance(model, ExternalNetwork):
        names = _external_arrays(tuple((one.name, one.size) for one in model.layers), layer)
        return {dim + suffix: (dim, values, {"long_name": COORDINATES["param" + suffix]}) for suffix, values in names.items()}
    arrays = _param_arrays(model.widths, model.bias, layer)
    if model.feature_names is not None:
        arrays = arrays | {"_name": _names(model.widths, model.bias, model.feature_names, layer)}
    return {dim + suffix: (dim, values, {"long_name": COORDINATES["param" + suffix]}) for suffix, values in arrays.items()}


@functools.lru_cache(maxsize=32)
def _external_arrays(layers: tuple[tuple[str, int], ...], layer: int | None) -> dict[str, NDArray[Any]]:
    """Return for each parameter its layer, the name of the array that it is in, and its place there."""
    if layer is not None:
        every = _external_arrays(layers, None)
        kept = every["_layer"] == layer
        return _frozen({suffix: values[kept] for suffix, values in every.items()})
    sizes = [size for _, size in layers]
    return _frozen(
        {
            "": np.arange(sum(sizes)),
            "_layer": np.repeat(np.arange(len(sizes)), sizes),
            "_array": np.repeat(np.array([name for name, _ in layers]), sizes),
            "_entry": np.concatenate([np.arange(size) for size in sizes]),
        }
    )


def unit_coordinates(widths: tuple[int, ...]) -> dict[str, Any]:
    """Return the coordinates of the dim that runs over all rows of all weight matrices."""
    return {name: ("unit", values, {"long_name": COORDINATES[name]}) for name, values in _unit_arrays(widths).items()}


def factor_coordinates(model: MLP | ExternalNetwork, layer: int) -> dict[str, Any]:
    """Return the coordinates of the Kronecker factors of a layer: its inputs with the bias last, if it has one, and its units."""
    if isinstance(model, ExternalNetwork):
        n_units, n_inputs = model.shapes[layer]
        return coordinates(feature=n_inputs, feature2=n_inputs, unit=n_units, unit2=n_units)
    features, units = _index(model.widths[layer], bias=model.bias[layer]), _index(model.widths[layer + 1])
    found = coordinates(feature=features, feature2=features, unit=units, unit2=units)
    if layer == 0 and model.feature_names is not None:
        names = _index((*model.feature_names, "bias") if model.bias[0] else model.feature_names)
        found |= {f"{dim}_name": (dim, names, {"long_name": COORDINATES["feature_name"]}) for dim in ("feature", "feature2")}
    return found


def output_coordinates(model: MLP, *dims: str) -> dict[str, Any]:
    """Return the coordinates of the outputs along the given dims."""
    found = coordinates(**dict.fromkeys(dims, model.widths[-1]))
    if model.output_names is not None:
        attrs = {"long_name": COORDINATES["output_name"]}
        found |= {f"{dim}_name": (dim, _index(model.output_names), attrs) for dim in dims}
    return found


def layer_coordinates(n_layers: int) -> dict[str, Any]:
    """Return the coordinate of the layers."""
    return coordinates(layer=n_layers)


def coordinates(**dims: int | Sequence[str] | NDArray[Any]) -> dict[str, Any]:
    """Return index coordinates: an integer gives 0..size-1, a sequence gives its entries."""
    return {
        dim: (
            dim,
            values if isinstance(values, np.ndarray) else _index(values if isinstance(values, int) else tuple(values)),
            {"long_name": COORDINATES.get(dim.rstrip("2"), dim)},
        )
        for dim, values in dims.items()
    }


_templates: OrderedDict[tuple[Any, ...], tuple[Any, list[NDArray[Any]]]] = OrderedDict()
_MOST_TEMPLATES = 64

_loading = forks.lock()
"""xarray imports optional array libraries with its first Dataset; a child forked during that import would deadlock."""


def _template(entries: Sequence[Entry], coords: Mapping[str, Any], alone: bool = False) -> Any:
    """Return an empty Dataset of such entries, or its only array, cached by coordinates.

    Building the coordinates takes ten times as long as filling in values.
    """
    shapes = {VARIABLES[key].name: (tuple(dims), values.shape) for key, dims, values in entries}
    key = alone, tuple(shapes.items()), tuple((name, one[0], id(one[1])) for name, one in coords.items())
    # Atomic steps instead of a lock: two threads may build the same template twice.
    found = _templates.get(key)
    if found is None:
        empty = {name: (dims, np.broadcast_to(0.0, shape)) for name, (dims, shape) in shapes.items()}
        with _loading:
            made = xr.Dataset(empty, coords=dict(coords))
        # The arrays are kept alive, so that no other array can reuse the id of one of them.
        found = made[next(iter(shapes))] if alone else made, [one[1] for one in coords.values()]
        _templates[key] = found
        if len(_templates) > _MOST_TEMPLATES:
            with contextlib.suppress(KeyError):
                _templates.popitem(last=False)
    return found[0]


def checked(entries: Iterable[tuple[str, Any]]) -> None:
    """Raise if a value of a schema key is outside the range that the schema declares."""
    for key, values in entries:
        if isinstance(values, np.ndarray | np.floating) and values.dtype.kind == "f":
            results.meaningful(key, np.asarray(values))


def _filled(entries: Sequence[Entry], coords: Mapping[str, Any], provenance: str) -> xr.Dataset:
    checked((key, values) for key, _, values in entries)
    values = {VARIABLES[key].name: values for key, _, values in entries}
    filled: xr.Dataset = _template(entries, coords).copy(deep=False, data=values)
    for key, _, _ in entries:
        filled.variables[VARIABLES[key].name].attrs = attributes(key, provenance)
    return filled


def attributes(key: str, provenance: str) -> dict[str, str]:
    """Return the attributes of a schema variable: netCDF-safe text, identical for identical calls."""
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
    return described | {"provenance": provenance}


def error_design(given: xr.DataArray) -> str | None:
    """Return the design of a standard error from its provenance, or None if the provenance does not record it."""
    return json.loads(given.coords[ERROR].attrs.get("provenance", "{}")).get("design")


def error_is_own(given: xr.DataArray) -> bool:
    """Return whether a standard error without a copy of its values was supplied by the caller: ours carry a provenance."""
    return "provenance" not in given.coords[ERROR].attrs


def error_given() -> dict[str, str]:
    """Return the attributes of a standard error supplied by the user, whose design is unknown to the package."""
    return {
        "long_name": "standard error as given by the caller",
        "symbol": VARIABLES[ERROR].symbol,
        "provenance": as_text({"given": True}),
    }


as_text = json.JSONEncoder(sort_keys=True, default=lambda number: number.item()).encode
"""JSON encoder of the provenance."""


def dataset(entries: Sequence[Entry], coords: Mapping[str, Any], provenance: Mapping[str, Any]) -> xr.Dataset:
    """Return a Dataset of schema variables that share coordinates."""
    text = as_text(provenance)
    filled = _filled(entries, coords, text)
    filled.attrs = {"provenance": text}
    return filled


def array(
    key: str,
    dims: Sequence[str],
    values: NDArray[Any],
    coords: Mapping[str, Any],
    provenance: Mapping[str, Any],
    companions: Sequence[Entry] = (),
) -> xr.DataArray:
    """Return one labelled quantity; `companions` (its standard error, say) become coordinates.

    A standard error is accompanied by a copy of the values that it belongs to (see `values_and_error`).
    """
    entry, text = (key, dims, values), as_text(provenance)
    if companions:
        beside = [*companions]
        if any(VARIABLES[name].name == ERROR for name, _, _ in companions):
            beside.append((ERROR_OF, dims, values.copy()))
        filled = _filled([entry, *beside], coords, text).set_coords([VARIABLES[name].name for name, _, _ in beside])
        if ERROR_OF in filled.coords:
            filled.variables[ERROR_OF].attrs = attributes(key, text) | {"long_name": VARIABLES[ERROR_OF].long_name}
        return filled[VARIABLES[key].name]
    checked([(key, values)])
    labelled: xr.DataArray = _template([entry], coords, alone=True).copy(deep=False, data=values)
    labelled.attrs = attributes(key, text)
    return labelled


def values_and_error(name: str, given: Any) -> tuple[Any, NDArray[Any] | None]:
    """Return the values of what may be an estimate, and their standard errors or None; every use of a standard error passes here.

    xarray keeps coordinates through arithmetic, so the coordinate that is the standard error would outlive a change of the
    values. A copy of the values is stored in the coordinate `ERROR_OF`: where the two differ the error is rejected. An error of
    this package that has lost the copy is rejected too; one constructed by the caller never had a copy, and is accepted.
    """
    if not isinstance(given, xr.DataArray):
        values = getattr(given, "values", given)
        return (given if callable(values) else values), None  # a tensor has a method of that name
    if ERROR not in given.coords:
        return given.values, None
    given = given.compute()  # values and coordinates of a lazy array in one computation
    if ERROR_OF not in given.coords:
        uncertainty.paired_errors(name, error_is_own(given))
        return given.values, np.broadcast_to(
            given.coords[ERROR].transpose(*given.dims, missing_dims="ignore").values, given.shape
        )
    error, of = (given.coords[one].transpose(*given.dims, missing_dims="ignore") for one in (ERROR, ERROR_OF))
    uncertainty.errors_belong(name, given.values, of.values)
    return given.values, np.broadcast_to(error.values, given.shape)


def tree(children: Mapping[str, xr.Dataset], provenance: Mapping[str, Any]) -> xr.DataTree:
    """Return a DataTree with one child per layer."""
    root = xr.DataTree(xr.Dataset(attrs={"provenance": as_text(provenance)}))
    # `from_dict` and children passed to the constructor would each copy every child again.
    root.children = {name: xr.DataTree(child) for name, child in children.items()}
    return root


def unlabelled(x: Any, any_shape: bool = False) -> tuple[Any, NDArray[Any] | None]:
    """Return the array inside a labelled x as (input, feature) or (input, ...), and its labels of the inputs if it has any."""
    if isinstance(x, np.ndarray):
        return x, None
    if isinstance(x, xr.Dataset):
        inputs.one_array("x", x.data_vars)
    if isinstance(x, xr.Variable):
        x = xr.DataArray(x)
    if hasattr(type(x), "iloc") and not hasattr(x, "__dask_graph__"):
        return x, _row_labels(x.index)
    if not isinstance(x, xr.DataArray):
        return x, None
    inputs.labelled_input(x.dims, any_shape)
    x = x.transpose("input", ...) if any_shape else x.transpose("input", "feature")
    # Data in a file or on a device must not be loaded; xarray has no public API for this.
    here = x.variable._in_memory or x.chunks is not None or on_device(x.variable._data)
    data = x.data if here else _OnDisk(x.variable)
    if "input" not in x.indexes:
        return data, None
    index = x.indexes["input"]
    inputs.input_labels(index.to_numpy(), index.nlevels)
    return data, index.to_numpy()


def _row_labels(index: Any) -> NDArray[Any] | None:
    """Return the labels of the rows of a frame, if they are not just 0, 1, ... and can be stored in netCDF."""
    rows: NDArray[Any] = index.to_numpy()
    if index.nlevels > 1 or np.array_equal(rows, np.arange(len(rows))):
        return None
    text = rows.dtype.kind == "O" and all(isinstance(label, str) for label in rows)
    return rows if text or rows.dtype.kind in "biufMmUS" else None


class _OnDisk:
    """The rows of a labelled x whose data are in a file, read when they are sliced."""

    def __init__(self, variable: xr.Variable) -> None:
        self._variable = variable
        self.shape, self.dtype = variable.shape, variable.dtype
        rows = variable.encoding.get("preferred_chunks", {}).get("input")
        self.chunks = None if rows is None else (rows,)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return self._variable[rows].to_numpy()


def _same_rows(rows: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Require the rows of a frame to be for the inputs of x; row numbers match labels that are the same numbers."""
    if len(rows) != len(wanted):
        return  # rejected later by its shape
    numbers = np.arange(len(rows))
    numbered = np.array_equal(rows, numbers) or np.array_equal(wanted, numbers)
    if not numbered or set(rows.tolist()) == set(wanted.tolist()):
        inputs.same_inputs(rows, wanted, "y.loc[x.index]")


def unlabelled_response(y: Any, input_labels: NDArray[Any] | None = None) -> Any:
    """Return the array inside labelled data labels, outputs last; if both x and y are labelled, the labels must match."""
    if isinstance(y, xr.Dataset):
        inputs.one_array("y", y.data_vars)
    if isinstance(y, xr.Variable):
        y = xr.DataArray(y)
    if hasattr(type(y), "iloc") and not hasattr(y, "__dask_graph__"):
        if input_labels is not None:
            _same_rows(y.index.to_numpy(), input_labels)
        return y
    if not isinstance(y, xr.DataArray):
        return y
    inputs.labelled_response(y.dims)
    if input_labels is not None and "input" in y.indexes:
        inputs.same_inputs(y.indexes["input"].to_numpy(), input_labels, "y.sel(input=x.input)")
    y = y.transpose("input", ...)
    return y.variable._data if on_device(y.variable._data) else y.to_numpy()
