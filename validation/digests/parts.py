"""What a result consists of, part by part, as short digests: values bit for bit, dims, dtypes, attributes, text."""

from __future__ import annotations

import hashlib
import json
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

import fisherstats as fs

__all__ = ["differences", "of", "of_call", "sha"]

Parts = dict[str, str]

_VARIES = {"package", "versions", "fisherstats_version"}
"""Keys of a record of how a result came about that differ between versions of libraries."""

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
_MODULE = re.compile(r"\b(?:fisherstats|validation)(?:\.\w+)+(?=\.[A-Z]\w*)")
_FOLDER = re.compile(r"/\S*digests-folder-\w+")


def sha(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


def plain(text: str) -> str:
    """Return a text without addresses, folders of this run, and the modules that a class is in."""
    return _MODULE.sub("<module>", _FOLDER.sub("<folder>", _ADDRESS.sub("<address>", text)))


def _values(array: np.ndarray) -> str:
    """Return the digest of shape and bytes; of objects, of their texts."""
    if array.dtype.kind == "O":
        return sha(repr((array.shape, [plain(repr(one)) for one in array.ravel().tolist()])))
    ordered = np.ascontiguousarray(array)
    return sha(repr(array.shape).encode() + ordered.view(np.uint8 if ordered.ndim and ordered.size else ordered.dtype).tobytes())


def _attributes(attrs: Mapping[Any, Any]) -> str:
    """Return attributes as JSON with sorted keys, without what varies between versions."""

    def cleaned(one: Any) -> Any:
        if isinstance(one, Mapping):
            return {str(key): cleaned(value) for key, value in one.items() if key not in _VARIES}
        if isinstance(one, list | tuple):
            return [cleaned(each) for each in one]
        if isinstance(one, str) and one.startswith(("{", "[")):
            try:
                return cleaned(json.loads(one))
            except ValueError:
                return plain(one)
        if isinstance(one, np.ndarray | np.generic):
            return [str(one.dtype), one.tolist()]
        return one if isinstance(one, int | float | bool | None) else plain(str(one))

    return json.dumps(cleaned(attrs), sort_keys=True)


def _variable(kind: str, one: xr.Variable, chunks: Any) -> str:
    """Return kind, dims, dtype and the digests of values and attributes, separated by spaces."""
    array = np.asarray(one.values)
    laid = "" if chunks is None else f" chunks={sha(repr(chunks))}"
    dims = ",".join(map(str, one.dims))
    return f"kind={kind} dims=({dims}) dtype={array.dtype.str} values={_values(array)} attrs={sha(_attributes(one.attrs))}{laid}"


def _dataset(prefix: str, one: xr.Dataset, chunks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in sorted(one.variables, key=str):
        kind = "coordinate" if name in one.coords else "variable"
        index = "+index" if name in one.indexes else ""
        yield f"{prefix}{name}", _variable(kind + index, one.variables[name], chunks.get(f"{prefix}{name}"))
    yield f"{prefix}attrs", f"attrs={sha(_attributes(one.attrs))}"


def _labelled(one: Any) -> tuple[list[tuple[str, xr.Dataset]], str]:
    """Return the datasets of a labelled result by prefix, and what it is."""
    if isinstance(one, xr.DataTree):
        return [(f"{node.path.rstrip('/')}/", node.to_dataset(inherit=False)) for node in one.subtree], "DataTree"
    if isinstance(one, xr.DataArray):
        inner = one.to_dataset(name="<values>") if one.name is None or one.name in one.coords else one.to_dataset()
        return [("", inner)], f"DataArray {one.name!r} {sha(_attributes(one.attrs))}"
    return [("", one)], "Dataset"


def _chunks(nodes: list[tuple[str, xr.Dataset]]) -> dict[str, Any]:
    return {f"{at}{name}": v.chunks for at, node in nodes for name, v in node.variables.items() if v.chunks is not None}


def of(result: Any, prefix: str = "") -> Parts:
    """Return the parts of a result of any kind by name."""
    if isinstance(result, xr.DataTree | xr.Dataset | xr.DataArray):
        chunks = _chunks(_labelled(result)[0])
        nodes, what = _labelled(result.compute() if chunks else result)
        found = {f"{prefix}type": f"type={what}"}
        for at, node in nodes:
            found |= {f"{prefix}{name}": one for name, one in _dataset(at, node, chunks)}
        return found
    name = prefix or "result "
    if hasattr(type(result), "__dask_graph__"):
        result = result.compute()
    if isinstance(result, np.ndarray | np.generic):
        array = np.asarray(result)
        return {name: f"type={type(result).__name__} dtype={array.dtype.str} shape={array.shape} values={_values(array)}"}
    if isinstance(result, fs.MLP):
        found = {f"{prefix}network": f"repr={sha(plain(repr(result)))} fingerprint={result.fingerprint[:16]}"}
        return found | {f"{prefix}weights {number}": of(one)["result "] for number, one in enumerate(result.weights)}
    if hasattr(result, "matmat"):
        columns = np.stack([np.linspace(-1, 1, result.shape[1]), np.cos(np.arange(result.shape[1]))], axis=1)
        products = {"matmat": result @ columns, "vector": result @ columns[:, 0]}
        return {f"{prefix}operator": f"dtype={result.dtype} shape={result.shape}"} | of(products, f"{prefix}operator ")
    if isinstance(result, Mapping):
        return {name: f"type={type(result).__name__}"} | _several(prefix, ((str(key), one) for key, one in result.items()))
    if isinstance(result, list | tuple):
        fields = getattr(result, "_fields", [str(number) for number in range(len(result))])
        head = {name: f"type={type(result).__name__} length={len(result)}"}
        return head | _several(prefix, zip(fields, result, strict=True))
    text = plain(result.hex() if isinstance(result, float) else result if isinstance(result, str) else repr(result))
    return {name: f"type={type(result).__name__} text={text if len(text) < 60 else sha(text)}"}


def _several(prefix: str, named: Any) -> Parts:
    found: Parts = {}
    for name, one in named:
        found |= of(one, f"{prefix}{name} ")
    return found


def of_call(call: Callable[[], Any]) -> Parts:
    """Return the parts of what a call returns, or of what it raises, and of the warnings it gives."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        try:
            found = of(call())
        except Exception as error:
            found = {"<error>": f"type={type(error).__name__} message={plain(str(error))}"}
            notes = [one for one in getattr(error, "__notes__", []) if "0x" not in one]
            if notes:
                found["<error> notes"] = f"notes={plain(' / '.join(notes))}"
            traceback.clear_frames(error.__traceback__)
    said = sorted({f"{one.category.__name__}: {plain(str(one.message))}" for one in given})
    said = [one for one in said if not one.startswith(("ResourceWarning", "DeprecationWarning"))]
    return found | {f"warning {number}": f"message={text}" for number, text in enumerate(said)}


def differences(before: Parts, after: Parts) -> list[str]:
    """Return the parts that differ, each with what of it does: ``variance: values``."""
    said = []
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if one == other:
            continue
        label = name.strip()
        if one is None or other is None:
            said.append(f"{label}: {'new' if one is None else 'missing'}")
        elif "message=" in one or "notes=" in one:
            said.append(f"{label}: {one}  ->  {other}")
        else:
            fields, others = (dict(each.split("=", 1) for each in re.split(r" (?=\w+=)", text)) for text in (one, other))
            which = [key for key in dict.fromkeys((*fields, *others)) if fields.get(key) != others.get(key)]
            said.append(f"{label}: {', '.join(which)}")
    return said
