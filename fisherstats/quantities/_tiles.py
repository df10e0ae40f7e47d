"""Dense views that do not fit in memory: computed a few tiles at a time and written to a zarr store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fisherstats.core import atomic_directory
from fisherstats.core.validation import arguments, capacity, inputs
from fisherstats.quantities import _labels, _views
from fisherstats.quantities._run import Call
from fisherstats.theory.dense_blocks import Tile, TileSum, small_tiles

__all__ = ["information"]

_TILE_NUMBERS = 2**21
"""Numbers in a tile, 16 MiB."""

_PASS_NUMBERS = 2**23
"""Numbers in the tiles that one pass over the inputs accumulates, 64 MiB."""

_CHUNK_ROWS = 512
"""Approximate rows and columns in a chunk of a block, rounded to whole units."""


def information(
    call: Call, view: str, block: _views.RowsBlock, store: Any, provenance: dict[str, Any]
) -> xr.DataArray | xr.DataTree:
    """Write the whole matrix or the diagonal blocks to a new zarr store, and return them lazily from there."""
    arguments.optional_module("dask.array", extra="distributed")
    zarr = arguments.optional_module("zarr", extra="io")
    place = capacity.new_store(store, _views.numbers(call, view) * call.rows.dtype.itemsize)
    shapes = [matrix.shape for matrix in call.model.weights]
    full = view == "full"
    with capacity.writing(place), atomic_directory.whole(place) as partial:
        template = _template(call, view, provenance)
        written = template.to_dataset(name="information") if isinstance(template, xr.DataArray) else template
        written.to_zarr(partial, compute=False, zarr_format=2)
        group = zarr.open_group(partial, mode="r+")
        for tiles in _passes(shapes, full):
            total = TileSum(shapes, tiles)
            call.dense(block, total).answer()
            for left, right, rows, columns, values in total.rectangles(call.n_inputs):
                inputs.finite_results([values], call.rows.dtype)
                if full:
                    own, beside = call.model.layer_slices()[left].start, call.model.layer_slices()[right].start
                    target = group["information"]
                else:
                    own = beside = 0
                    target = group[f"layer_{left}/information"]
                rows = slice(own + rows.start, own + rows.stop)
                columns = slice(beside + columns.start, beside + columns.stop)
                target[rows, columns] = np.ascontiguousarray(values, dtype=call.rows.dtype)
    return opened(place, view)


def opened(place: Path, view: str) -> xr.DataArray | xr.DataTree:
    """Return the contents of a store, lazily."""
    if view == "block":
        return xr.open_datatree(place, engine="zarr", chunks={})
    return xr.open_zarr(place, chunks={})["information"]


def _chunk_units(n_in: int) -> int:
    return max(1, _CHUNK_ROWS // n_in)


def _passes(shapes: list[tuple[int, int]], full: bool) -> Iterator[list[Tile]]:
    """Yield the tiles of one pass over the inputs after the other."""
    held: list[Tile] = []
    numbers = 0
    for tile in small_tiles(shapes, full, _TILE_NUMBERS, lambda layer: _chunk_units(shapes[layer][1])):
        n_units, n_others = tile.units.stop - tile.units.start, tile.others.stop - tile.others.start
        own = n_units * n_others * shapes[tile.left][1] * shapes[tile.right][1]
        if held and numbers + own > _PASS_NUMBERS:
            yield held
            held, numbers = [], 0
        held.append(tile)
        numbers += own
    yield held


def _template(call: Call, view: str, provenance: dict[str, Any]) -> Any:
    """Return the result with its values not yet computed."""
    array = arguments.optional_module("dask.array", extra="distributed")
    dtype = call.rows.dtype

    def zeros(n_params: int, rows: int) -> Any:
        return array.zeros((n_params, n_params), chunks=rows, dtype=dtype)

    dims = ["param", "param2"]
    if view == "full":
        coords = _labels.param_coordinates(call.model) | _labels.param_coordinates(call.model, "param2")
        return _labels.array("information", dims, zeros(call.model.n_params, _CHUNK_ROWS), coords, provenance)
    children = {}
    for layer, matrix in enumerate(call.model.weights):
        coords = _labels.param_coordinates(call.model, layer=layer) | _labels.param_coordinates(call.model, "param2", layer)
        values = zeros(matrix.size, min(matrix.size, _chunk_units(matrix.shape[1]) * matrix.shape[1]))
        children[f"layer_{layer}"] = _labels.dataset([("information", dims, values)], coords, provenance)
    return _labels.tree(children, provenance)
