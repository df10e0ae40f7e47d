"""Results of this package by the names and in the shapes of another library's parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import arguments
from fisherstats.core.validation import interop_results as checks
from fisherstats.interop._chain import Chain
from fisherstats.interop.unfolding import ParameterResult
from fisherstats.models.families import Gaussian
from fisherstats.quantities import _labels
from fisherstats.quantities._alignment import over_parameters

__all__ = ["by_name"]

Array = NDArray[np.floating]


def by_name(result: Any, chain: Chain, what: str) -> dict[str, Array]:
    """Return the values of a result, or its standard errors, by the owner's names and in the owner's shapes."""
    arguments.choice("what", what, ("values", "standard_errors"))
    if isinstance(result, ParameterResult):
        return _of_unfolded(result, chain, what)
    structure = chain.network(Gaussian(chain.n_outputs))
    given = over_parameters("result", result, structure)
    values, errors = _labels.values_and_error("result", given)
    if what == "standard_errors" and errors is None:
        checks.no_errors()
    vector = arguments.real_array("result", values if what == "values" else errors)
    if vector.shape != (structure.n_params,):
        checks.one_per_parameter(result, structure.n_params, vector.shape)
    if chain.normalized:
        checks.needs_unfolding(next(name for one in chain.layers if one.normalized for name in _names(one)))
    found: dict[str, Array] = {}
    for layer, part in zip(chain.layers, structure.layer_slices(), strict=True):
        n_out, n_in = layer.dense.kernel.shape
        matrix = vector[part].reshape(n_out, -1)
        found[layer.dense.kernel_name] = matrix[:, :n_in].T.copy() if layer.dense.transposed else matrix[:, :n_in].copy()
        if layer.dense.bias_name is not None:
            found[layer.dense.bias_name] = matrix[:, n_in].copy()
    return found


def _names(layer: Any) -> list[str]:
    scales = [one for one in (layer.before, layer.after) if one is not None]
    return [*[name for one in scales for name in (one.gamma_name,) if name is not None], layer.dense.kernel_name]


def _of_unfolded(result: ParameterResult, chain: Chain, what: str) -> dict[str, Array]:
    found = result.values if what == "values" else result.standard_errors
    if found is None:
        checks.no_errors()
    wanted = dict(chain.parameters())
    checks.same_names("result", list(found), list(wanted))
    for name, values in wanted.items():
        checks.same_shape(name, values.shape, found[name].shape)
    return dict(found)
