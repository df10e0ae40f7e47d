"""Files of safetensors: networks from checkpoints, and results under the names of a checkpoint. Nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fisherstats._version import __version__
from fisherstats.core.validation import arguments
from fisherstats.core.validation import interop as checks
from fisherstats.core.validation import interop_trees as tree_checks
from fisherstats.core.validation.arguments import optional_module
from fisherstats.interop._files import tensors
from fisherstats.interop._owners import chain_of
from fisherstats.interop._results import by_name
from fisherstats.interop._trees import by_names
from fisherstats.interop.unfolding import ParameterResult
from fisherstats.models.activations import Activation
from fisherstats.models.families import Family
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels

__all__ = ["from_safetensors", "read_safetensors", "to_safetensors"]

_FORMAT, _VERSION = "fisherstats.parameter_result", "1"
_ERROR = ".standard_error"


def from_safetensors(
    path: str | os.PathLike[str],
    *,
    activation: str | Activation | Sequence[str | Activation],
    family: Family,
    layers: Sequence[str] | None = None,
) -> MLP:
    """Read the dense layers of a safetensors checkpoint as an exponential-family network.

    Parameters
    ----------
    path : path
        A file whose tensors are kernels and biases of dense layers: ``0.weight`` of shape (n_out, n_in) and ``0.bias`` of
        PyTorch, or ``Dense_0.kernel`` (also with slashes) of shape (n_in, n_out) of Flax. Every other tensor is refused.
    activation : str, Activation or sequence of them
        The activation of all hidden layers, or one per hidden layer: a file does not hold them.
    family : Family
        The family whose natural parameters the last layer gives.
    layers : sequence of str, optional
        Names of the layers in order; by default the order of the numbers in their names, or the only one in which their shapes
        chain.

    Returns
    -------
    MLP
        The network.

    Raises
    ------
    ValueError
        If the file is damaged, of another format, or holds other tensors, other types than float32 and float64, or numbers that
        are not finite.
    MissingExtra
        If safetensors is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import safetensors.numpy
    >>> import tempfile, pathlib
    >>> import fisherstats as fs
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> safetensors.numpy.save_file({"0.weight": np.ones((2, 3)), "0.bias": np.zeros(2)}, path)
    >>> fs.interop.from_safetensors(path, activation=[], family=fs.families.Categorical(2))
    MLP(3-2, activation=none, family=Categorical(n_classes=2, minimal=False), 8 parameters)
    """
    checks.family_instance(family, Family)
    arrays, _ = tensors(path)
    return by_names("path", arrays, layers).network(family, activation)


def to_safetensors(result: Any, path: str | os.PathLike[str], source: Any, *, head: str | None = None) -> None:
    """Write a result to a file, under the names of the parameters of a network: a file of Fisher information for others.

    Parameters
    ----------
    result : DataArray over the parameters or ParameterResult
        One number for each parameter of the network that was read from the source.
    path : path
        The file to write; it replaces an earlier one once it is complete.
    source : torch.nn.Module, model of Keras, tree of parameters or path of a safetensors checkpoint
        Where the network was read from.
    head : str, optional
        The part of a module that was read.

    Raises
    ------
    TypeError, ValueError
        If the result is not of this network's parameters.
    OSError
        If the file cannot be written.

    Notes
    -----
    A parameter ``name`` has its values under ``name`` and its standard errors, where the result has them, under
    ``name.standard_error``, in the shape of the parameter. The metadata are JSON: the provenance with the family, the number of
    inputs, the fingerprint of the network and the version of this package, and long name, units and source of the quantity.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile, pathlib
    >>> import fisherstats as fs
    >>> tree = {"Dense_0": {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}}
    >>> model = fs.interop.from_flax(tree, activation=[], family=fs.families.Categorical(2))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "fisher.safetensors"
    >>> fs.interop.to_safetensors(fs.fisher_information(model, np.ones((5, 3))), path, tree)
    >>> fs.interop.read_safetensors(path).provenance["n_inputs"]
    5
    """
    library = optional_module("safetensors.numpy", extra="interop")
    chain = chain_of(source, head)
    arrays = {name: np.ascontiguousarray(one) for name, one in by_name(result, chain, "values").items()}
    if _has_errors(result):
        errors = by_name(result, chain, "standard_errors")
        arrays |= {name + _ERROR: np.ascontiguousarray(one) for name, one in errors.items()}
    provenance = result.provenance if isinstance(result, ParameterResult) else _recorded(result)
    described = {"provenance": _labels.as_text(provenance), "package": f"fisherstats {__version__}"}
    described |= {name: getattr(result, "attrs", {}).get(name, "") for name in ("long_name", "units", "source")}
    described |= {name: _labels.as_text(provenance[name]) for name in ("family", "n_inputs") if name in provenance}
    given = Path(arguments.path("path", path, "the path of a file"))
    beside = given.with_name(f".{given.name}.{os.getpid()}.partial")
    try:
        beside.write_bytes(_in_order(library.save(arrays, {"format": _FORMAT, "version": _VERSION, **described})))
        beside.replace(given)
    finally:
        beside.unlink(missing_ok=True)


def _in_order(stored: bytes) -> bytes:
    """Return a file with a sorted header, so that the same result has the same bytes: the library writes it in any order."""
    end = 8 + int.from_bytes(stored[:8], "little")
    header = json.dumps(json.loads(stored[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + stored[end:]


def _has_errors(result: Any) -> bool:
    if isinstance(result, ParameterResult):
        return result.standard_errors is not None
    return isinstance(result, xr.DataArray) and _labels.ERROR in result.coords


def _recorded(result: Any) -> dict[str, Any]:
    return dict(json.loads(getattr(result, "attrs", {}).get("provenance", "{}")))


def read_safetensors(path: str | os.PathLike[str]) -> ParameterResult:
    """Read a result that `to_safetensors` wrote.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    ParameterResult
        Values and standard errors by name, which `to_torch` and `to_flax` take, and the provenance.

    Raises
    ------
    ValueError
        If the file is damaged, or no such result.
    MissingExtra
        If safetensors is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile, pathlib
    >>> import fisherstats as fs
    >>> tree = {"Dense_0": {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}}
    >>> model = fs.interop.from_flax(tree, activation=[], family=fs.families.Categorical(2))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "fisher.safetensors"
    >>> estimate = fs.estimate_fisher(model, np.ones((5, 3)), estimator="score", n_draws=4, rng=0)
    >>> fs.interop.to_safetensors(estimate, path, tree)
    >>> sorted(fs.interop.read_safetensors(path).standard_errors)
    ['Dense_0.bias', 'Dense_0.kernel']
    """
    arrays, metadata = tensors(path)
    if metadata.get("format") != _FORMAT or metadata.get("version") != _VERSION:
        tree_checks.no_result_file(
            path, f"its format is {metadata.get('format', 'not given')} {metadata.get('version', '')}".strip()
        )
    try:
        provenance = dict(json.loads(metadata["provenance"]))
    except (KeyError, ValueError, TypeError) as error:
        tree_checks.no_result_file(path, f"its provenance is not readable: {type(error).__name__}")
    values = {name: one for name, one in arrays.items() if not name.endswith(_ERROR)}
    errors = {name.removesuffix(_ERROR): one for name, one in arrays.items() if name.endswith(_ERROR)}
    if errors and set(errors) != set(values):
        tree_checks.no_result_file(path, "its standard errors have other names than its values")
    return ParameterResult(values, errors or None, provenance)
