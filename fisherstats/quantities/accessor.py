"""The accessor ``result.fisher`` of xarray objects over the parameters of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.validation import accessor as checks

__all__ = ["FisherAccessor"]


@xr.register_dataarray_accessor("fisher")  # type: ignore[no-untyped-call]
class FisherAccessor:
    """Views of a result over the parameters: one layer, arrays of weights, a plain matrix, a summary by layer.

    Parameters
    ----------
    result : DataArray
        A result with the dim ``param``.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP.random([3, 5, 2], activation="tanh", family=fs.families.Bernoulli(2), rng=0)
    >>> exact = fs.fisher_information(model, np.random.default_rng(0).normal(size=(50, 3)))
    >>> exact.fisher.layer(1).sizes["param"], [one.shape for one in exact.fisher.as_weights()]
    (12, [(5, 4), (2, 6)])
    """

    def __init__(self, result: xr.DataArray) -> None:
        self._result = result

    def _over_parameters(self) -> xr.DataArray:
        checks.over_parameters(self._result)
        return self._result

    def layer(self, number: int) -> xr.DataArray:
        """Return the part of one layer of weights, of both dims of a matrix."""
        result = self._over_parameters()
        layers = result["param_layer"].values
        checks.layer_number(number, np.unique(layers).tolist())
        chosen = {"param": np.flatnonzero(layers == number)}
        if "param2" in result.dims:
            chosen["param2"] = np.flatnonzero(result["param2_layer"].values == number)
        return result.isel(chosen)

    def as_weights(self) -> list[NDArray[Any]]:
        """Return an array for each layer in the shape of its weights, biases in the last column; other dims come first."""
        result = self._over_parameters()
        checks.no_matrix(result)
        rest = [dim for dim in result.dims if dim != "param"]
        found = []
        for number in np.unique(result["param_layer"].values):
            part = self.layer(int(number)).transpose(*rest, "param")
            n_out = int(part["param_unit_out"].values.max()) + 1
            found.append(part.values.reshape(*part.shape[:-1], n_out, -1))
        return found

    def to_matrix(self) -> NDArray[Any]:
        """Return a square matrix over the parameters: the values of a full one, or a diagonal one."""
        result = self._over_parameters()
        if "param2" in result.dims:
            return result.transpose(..., "param", "param2").values
        checks.one_dim(result)
        return np.diag(result.values)

    def summary(self) -> xr.Dataset:
        """Return per layer the number of parameters, the mean and the largest entry, and the median relative error."""
        result = self._over_parameters()
        checks.one_dim(result)
        layers = result["param_layer"].values
        numbers = np.unique(layers)
        groups = [layers == number for number in numbers]
        columns: dict[str, Any] = {
            "parameters": [int(one.sum()) for one in groups],
            "mean_entry": [float(result.values[one].mean()) for one in groups],
            "largest_entry": [float(result.values[one].max()) for one in groups],
        }
        if "standard_error" in result.coords:
            errors = result.coords["standard_error"].values
            with np.errstate(all="ignore"):
                ratios = [errors[one] / np.abs(result.values[one]) for one in groups]
            columns["median_relative_error"] = [float(np.nanmedian(one)) if np.isfinite(one).any() else np.nan for one in ratios]
        return xr.Dataset({name: ("layer", values) for name, values in columns.items()}, coords={"layer": numbers})
