"""Networks in files: safetensors with kernels and biases as tensors, and the rest as JSON in the metadata.

Nothing is pickled: a file holds numbers and names. `layers.0.weight` and `layers.0.bias` have the shapes of a dense layer in
other libraries, (n_out, n_in) and (n_out,); a layer without bias has no such tensor. The fingerprint in the file is that of the
network.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats._version import __version__
from fisherstats.core import atomic_directory
from fisherstats.core.arrays import on_host
from fisherstats.core.validation import network_files as checks
from fisherstats.core.validation.arguments import optional_module, shown
from fisherstats.models import activations, families
from fisherstats.models.activations import Activation, SmoothedReLU
from fisherstats.models.families import Family, LogPartitionFamily, Product

__all__ = ["load", "of_format", "save"]

_FORMAT = "fisherstats network 1"
_PRECISIONS = ("F32", "F64")

_ACTIVATIONS: dict[str, type[Activation]] = {
    **{name: type(activations.get(name)) for name in activations.NAMES},
    "smoothed_relu": SmoothedReLU,
}

_FAMILIES: dict[str, type[Family]] = {
    one.name: one
    for one in vars(families).values()
    if inspect.isclass(one) and issubclass(one, Family) and one not in (Family, LogPartitionFamily)
}


def save(given: Any, model: Any) -> None:
    """Write a network to a file, which replaces an earlier one of this package; see `MLP.save`."""
    library = optional_module("safetensors.numpy", extra="interop")
    path = checks.destination(given)
    tensors: dict[str, NDArray[np.floating]] = {}
    for layer, (kernel, matrix, biased) in enumerate(zip(model.kernels, model.weights, model.bias, strict=True)):
        tensors[f"layers.{layer}.weight"] = np.ascontiguousarray(on_host(kernel))
        if biased:
            tensors[f"layers.{layer}.bias"] = np.ascontiguousarray(on_host(matrix)[:, -1])
    described = {
        "activations": [_described(one) for one in model.activations],
        "bias": list(model.bias),
        "family": _family_described(model.family),
        "feature_names": model.feature_names,
        # A network in another precision may carry the fingerprint of the original.
        "fingerprint": model.with_weights([on_host(matrix) for matrix in model.weights]).fingerprint,
        "output_names": model.output_names,
        "package": f"fisherstats {__version__}",
    }
    metadata = {"format": _FORMAT, "network": json.dumps(described, sort_keys=True, allow_nan=False)}
    with (
        checks.writing(path),
        atomic_directory.whole_file(path, lambda there: checks.replaceable(there, of_format(there, _FORMAT))) as new,
    ):
        library.save_file(tensors, str(new), metadata=metadata)


def load(given: Any, build: Callable[..., Any]) -> Any:
    """Return the network in a file, made by `MLP.from_arrays`; see `MLP.load`."""
    library = optional_module("safetensors", extra="interop")
    path = checks.existing(given)
    with checks.reading(path):
        with library.safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                checks.unknown_format(metadata.get("format"), _FORMAT)
            described = checks.parsed(metadata.get("network"))
            checks.flags("bias", described["bias"])
            kernels, biases = _arrays(file, described["bias"])
        model = build(
            kernels,
            biases,
            activation=[_activation(one) for one in described["activations"]],
            family=_family(described["family"]),
            feature_names=described["feature_names"],
            output_names=described["output_names"],
        )
        if model.fingerprint != described["fingerprint"]:
            raise checks.Unreadable("its numbers are not those that were saved")
    return model


def _arrays(file: Any, biased: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the kernel of each layer, and its bias or None."""
    wanted = [f"layers.{layer}.weight" for layer in range(len(biased))]
    wanted += [f"layers.{layer}.bias" for layer, one in enumerate(biased) if one]
    found = sorted(file.keys())
    if found != sorted(wanted):
        raise checks.Unreadable(f"it holds the tensors {shown(found)} instead of {shown(sorted(wanted))}")
    for name in found:
        dtype = file.get_slice(name).get_dtype()
        if dtype not in _PRECISIONS:
            raise checks.Unreadable(f"its tensor {name!r} has the type {dtype} instead of {' or '.join(_PRECISIONS)}")
    kernels = [file.get_tensor(f"layers.{layer}.weight") for layer in range(len(biased))]
    return kernels, [file.get_tensor(f"layers.{layer}.bias") if one else None for layer, one in enumerate(biased)]


def of_format(path: Path, form: str) -> bool:
    """Return whether an existing file has a format of this package, in any version."""
    library = optional_module("safetensors", extra="interop")
    try:
        with library.safe_open(str(path), framework="numpy") as file:
            return (file.metadata() or {}).get("format", "").startswith(form.rpartition(" ")[0])
    except Exception:  # other files raise errors of many types
        return False


def _described(activation: Activation) -> dict[str, Any]:
    """Return name and parameters of an activation of the package."""
    description = {"name": activation.name, "parameters": dict(activation.parameters)}
    if activation.name not in _ACTIVATIONS or _activation(description) != activation:
        checks.written_by_users("activation", activation.name)
    return description


def _activation(described: Any) -> Activation:
    if not isinstance(described, dict) or described.keys() != {"name", "parameters"} or not isinstance(described["name"], str):
        raise checks.Unreadable(f"an activation is {shown(described)} instead of a name and parameters")
    name, parameters = described["name"], described["parameters"]
    if name not in _ACTIVATIONS:
        raise checks.Unreadable(f"it has the activation {name!r}, which this version of the package does not know")
    kind = _ACTIVATIONS[name]
    plain = None if kind is SmoothedReLU else activations.get(name)
    if plain is not None and dict(plain.parameters) == parameters:
        return plain
    if kind is Activation or not isinstance(parameters, dict):
        raise checks.Unreadable(f"the activation {name!r} has the parameters {shown(parameters)}")
    return kind(**parameters)


def _family_described(family: Family) -> Mapping[str, Any]:
    """Return what defines a family of the package."""
    parameters = family.parameters()
    if not _of_the_package(family):
        checks.written_by_users("family", family.name)
    return parameters


def _of_the_package(family: Family) -> bool:
    inside = family.families if isinstance(family, Product) else ()
    return type(family) is _FAMILIES.get(family.name) and all(map(_of_the_package, inside))


def _family(described: Any) -> Family:
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        raise checks.Unreadable(f"a family is {shown(described)} instead of a name and parameters")
    name = described["name"]
    if name not in _FAMILIES:
        raise checks.Unreadable(f"it has the family {name!r}, which this version of the package does not know")
    kind, given = _FAMILIES[name], dict(described)
    if kind is Product:
        given["families"] = [_family(one) for one in _listed(described.get("families"))]
    missing = inspect.signature(kind).parameters.keys() - given.keys()
    if missing:
        raise checks.Unreadable(f"its family {name!r} has no {sorted(missing)[0]!r}")
    family = kind(**{one: given[one] for one in inspect.signature(kind).parameters})
    if family.parameters() != described:
        raise checks.Unreadable(f"its family {name!r} has the parameters {shown(described)}")
    return family


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise checks.Unreadable(f"the families of a product are {shown(value)} instead of a list")
    return value
