"""Scaling of estimates together with their standard errors, and attachment of standard errors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from fisherstats.core.validation import uncertainty as checks
from fisherstats.quantities._labels import ERROR, ERROR_OF, error_given, error_is_own

__all__ = ["scale_estimate", "with_standard_error"]

Array = NDArray[Any]


def scale_estimate(estimate: xr.DataArray, factor: ArrayLike | xr.DataArray) -> xr.DataArray:
    """Multiply an estimate by known factors, together with its standard error.

    Arithmetic of xarray changes the values only; functions that use the standard error then reject it. This function scales
    both consistently: the standard error of c F is abs(c) times that of F.

    Parameters
    ----------
    estimate : DataArray
        An estimate with or without a standard error, such as `estimate_fisher` or ``applications.importance`` return, in memory
        or lazy.
    factor : float, array_like or DataArray
        One known number, an array of the shape of `estimate`, or a DataArray over some of its dims (matched by their labels) or
        over ``layer`` (one number for the parameters of each layer). Divide by n with 1 / n.

    Returns
    -------
    DataArray
        The product with the same labels and attributes; the factor is in the provenance. The coordinate ``standard_error``, where
        there is one, belongs to the new values.

    Raises
    ------
    TypeError, ValueError
        If `estimate` is not a DataArray, its values have been changed since its error was computed, or `factor`
        is not finite or does not match the shape or labels of `estimate`.

    Notes
    -----
    Cost: a few operations per value. The factor is treated as known: the error of a factor that is itself estimated is not
    accounted for.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
    >>> estimate = fs.estimate_fisher(model, np.array([[0.0], [1.0]]), estimator="score", n_draws=100, rng=0)
    >>> total = fs.scale_estimate(estimate, 2)
    >>> (total / estimate).values, (total.standard_error / estimate.standard_error).values
    (array([2., 2.]), array([2., 2.]))
    """
    checks.labelled_estimate("estimate", isinstance(estimate, xr.DataArray), estimate)
    multiplier, record = _factor(factor, estimate)
    coords = estimate.coords
    if ERROR not in coords:
        scaled = _each(lambda values, by: checks.scaled_range(values * by), estimate.variable, multiplier)
        result = estimate.copy(data=scaled.data)
    else:
        if ERROR_OF not in coords:
            checks.paired_errors("estimate", error_is_own(estimate))
        of = coords[ERROR_OF if ERROR_OF in coords else ERROR].variable

        def of_current(values: Array, of: Array, by: Array) -> Array:
            if ERROR_OF in coords:
                checks.errors_belong("estimate", values, of)
            return checks.scaled_range(values * by)

        scaled = _each(of_current, estimate.variable, of, multiplier)
        error = _each(lambda values, by: checks.scaled_range(values * np.abs(by)), coords[ERROR].variable, multiplier)
        result = estimate.copy(data=scaled.data).assign_coords(
            {ERROR: error.transpose(*coords[ERROR].dims), ERROR_OF: _each(np.copy, scaled)}
        )
        for name in {ERROR, ERROR_OF} & set(coords):
            result.coords[name].attrs = _scaled_attributes(coords[name].attrs, record)
    result.attrs = _scaled_attributes(estimate.attrs, record)
    return result


def with_standard_error(values: xr.DataArray, standard_error: ArrayLike | xr.DataArray) -> xr.DataArray:
    r"""Attach user-supplied standard errors to values, replacing existing ones.

    For values whose error is known, for example a function g of an estimate by the delta method, with :math:`|g'(F)|` times the
    error of F.

    Parameters
    ----------
    values : DataArray
        The values, in memory or lazy.
    standard_error : float, array_like or DataArray
        One number, or an array of the shape of `values`; a DataArray is matched by its labels. At least 0, or nan where an error
        is not known.

    Returns
    -------
    DataArray
        The values with the coordinates ``standard_error`` and ``standard_error_of`` (a copy of the values, by which a later
        change of them is detected). The attributes of the error record that it was supplied by the user, as its design is
        unknown.

    Raises
    ------
    TypeError, ValueError
        If `values` is not a DataArray, or `standard_error` has negative entries or does not match the shape or labels of
        `values`.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
    >>> estimate = fs.estimate_fisher(model, np.array([[0.0], [1.0]]), estimator="score", n_draws=100, rng=0)
    >>> root = fs.with_standard_error(np.sqrt(estimate), estimate.standard_error / (2 * np.sqrt(estimate)))
    >>> (root.standard_error / root).values.round(4)  # half the relative error of the estimate
    array([0.0572, 0.0465])
    """
    checks.labelled_estimate("values", isinstance(values, xr.DataArray), values)
    bare = values.drop_vars([ERROR, ERROR_OF], errors="ignore")
    if isinstance(standard_error, xr.DataArray):
        standard_error = (
            _like(standard_error.reset_coords(drop=True), bare, "standard_error", "values").transpose(*bare.dims).data
        )
    error = checks.errors_given(standard_error, bare.shape)
    result = bare.assign_coords(
        {ERROR: (bare.dims, np.broadcast_to(error, bare.shape).copy()), ERROR_OF: _each(np.copy, bare.variable)}
    )
    result.coords[ERROR].attrs = error_given()
    return result


def _each(function: Any, *variables: Any) -> xr.Variable:
    """Apply a function of arrays, chunk by chunk where an array is lazy."""

    def quietly(*arrays: Array) -> Array:
        with np.errstate(over="ignore", under="ignore"):
            found: Array = function(*arrays)
        return found

    return xr.apply_ufunc(quietly, *variables, dask="parallelized", output_dtypes=[variables[0].dtype])


def _factor(factor: Any, estimate: xr.DataArray) -> tuple[xr.Variable, Any]:
    """Return the factors over dims of the estimate, in its precision, and their description for the provenance."""
    record: Any
    if not isinstance(factor, xr.DataArray):
        array = checks.scale_factor(factor)
        checks.factor_shape(array.shape, estimate.shape)
        dims, record = estimate.dims if array.ndim else (), float(array) if array.ndim == 0 else "one for each value"
        return xr.Variable(dims, array.astype(estimate.dtype)), record
    record = f"one for each of {', '.join(map(str, factor.dims))}" if factor.ndim else float(factor)
    has_layers = "layer" not in estimate.dims and "param_layer" in estimate.coords
    checks.factor_dims(factor.dims, (*estimate.dims, "layer") if has_layers else estimate.dims)
    if has_layers and "layer" in factor.dims:
        layers = estimate.coords["param_layer"]
        known = factor.indexes["layer"].get_indexer(layers.values) if "layer" in factor.indexes else layers.values
        checks.same_labels("factor", "layer", bool(((known >= 0) & (known < factor.sizes["layer"])).all()), "estimate")
        factor = factor.isel(layer=xr.DataArray(known, dims=layers.dims)).drop_vars(["layer"], errors="ignore")
    factor = _like(factor, estimate, "factor", "estimate")
    return xr.Variable(factor.dims, checks.scale_factor(factor.values).astype(estimate.dtype)), record


def _like(array: xr.DataArray, wanted: xr.DataArray, name: str, other: str) -> xr.DataArray:
    """Return an array reordered to the labels of another one."""
    for dim in array.dims:
        if dim in array.indexes and dim in wanted.indexes:
            places = array.indexes[dim].get_indexer(wanted.indexes[dim])
            checks.same_labels(name, str(dim), bool((places >= 0).all()), other)
            array = array.isel({dim: places})
        checks.same_labels(name, str(dim), array.sizes[dim] == wanted.sizes.get(dim), other)
    return array


def _scaled_attributes(attrs: dict[Any, Any], record: Any) -> dict[Any, Any]:
    """Return the attributes of a scaled quantity: its provenance records the factor."""
    if "provenance" not in attrs:
        return dict(attrs)
    made = json.loads(attrs["provenance"])
    name = attrs.get("long_name", "")
    described = {"long_name": name if "scaled_by" in made else f"{name}, scaled"} if name else {}
    made["scaled_by"] = [*made.get("scaled_by", []), record]
    return attrs | described | {"provenance": json.dumps(made, sort_keys=True)}
