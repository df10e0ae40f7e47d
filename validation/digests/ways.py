"""The ways in which inputs are given: in memory, as batches, lazily, from a store, with labels."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pandas as pd
import xarray as xr
import zarr

__all__ = ["WAYS", "folder", "lazily", "one_process"]

ROWS = 7
"""Rows of a batch and of a chunk."""


class Batches:
    """Batches of rows that can be read again."""

    def __init__(self, x: np.ndarray, rows: int) -> None:
        self.x, self.rows = x, rows

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.x), self.rows):
            yield self.x[start : start + self.rows]

    def __repr__(self) -> str:
        return "Batches()"


def _stored(x: np.ndarray, place: Path) -> Any:
    """Return a new zarr array that holds x."""
    name = Path(tempfile.mkdtemp(dir=place)) / "x.zarr"
    array = zarr.create_array(name, shape=x.shape, chunks=(ROWS, x.shape[1]), dtype=x.dtype)
    array[:] = x
    return zarr.open_array(name, mode="r")


def _labelled(x: np.ndarray, model: Any) -> xr.DataArray:
    """Return x with labels of its inputs, and its columns turned round where the network has names for them."""
    names = model.feature_names
    coords: dict[str, Any] = {"input": [f"row {10 * number}" for number in range(len(x))]}
    if names is not None:
        coords["feature"] = list(names)
    found = xr.DataArray(x, dims=("input", "feature"), coords=coords)
    return found if names is None else found[:, ::-1]


def _frame(x: np.ndarray, model: Any) -> pd.DataFrame:
    return pd.DataFrame(x, columns=model.feature_names, index=np.arange(len(x)) * 3 + 1)


WAYS: dict[str, Callable[[np.ndarray, Any, Path], Any]] = {
    "memory": lambda x, model, place: x,
    "batches": lambda x, model, place: Batches(x, ROWS),
    "generator": lambda x, model, place: (x[start : start + ROWS] for start in range(0, len(x), ROWS)),
    "dask": lambda x, model, place: dask.array.from_array(x, chunks=(ROWS, x.shape[1])),
    "dask columns": lambda x, model, place: dask.array.from_array(x, chunks=(10, 2)),
    "dask labelled": lambda x, model, place: _labelled(x, model).chunk(input=ROWS),
    "dask zarr": lambda x, model, place: dask.array.from_zarr(_stored(x, place)),
    "zarr": lambda x, model, place: _stored(x, place),
    "labelled": lambda x, model, place: _labelled(x, model),
    "frame": lambda x, model, place: _frame(x, model),
    "fortran": lambda x, model, place: np.asfortranarray(x),
    "list": lambda x, model, place: x.tolist(),
    "big-endian": lambda x, model, place: x.astype(x.dtype.newbyteorder(">")),
}
"""How x is given, as functions of x, the network and a folder for stores."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yield a folder that is removed afterwards; its name is not kept in digests."""
    with tempfile.TemporaryDirectory(prefix="digests-folder-") as place:
        yield Path(place)


@contextlib.contextmanager
def lazily() -> Iterator[None]:
    """Compute what is lazy in two threads."""
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """Compute what is lazy in another process."""
    context = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool,
        dask.config.set(scheduler="processes", pool=pool),
    ):
        yield
