"""The Jacobian of a network's natural parameters, or of its mean, by the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._streams import streamed
from fisherstats.theory.covariance_tensors import dense_jacobian

__all__ = ["jacobian"]

Array = NDArray[np.floating]

_BLOCK_NUMBERS = 2**21


@documented
@streamed(per_input=True)
def jacobian(
    model: MLP,
    x: Any,
    *,
    of: str = "natural",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    r"""Jacobian of the natural parameters, or of the mean of the statistic, by the parameters of the network, at each input.

    :math:`J_{ai}=\partial h_a/\partial\theta_i`, of which :math:`J^\top I(h)J` is the information at the input (2021, eq 6), or
    :math:`\partial\eta/\partial\theta=I(h)J`.

    Parameters
    ----------
    %(model)s
    %(x)s
    of : {"natural", "mean"}, default "natural"
        What is differentiated: the natural parameters, behind the family's link if it has one, or the mean of the statistic.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray, dims (input, output, param)
        Units of 1, source key ``jacobian``.

    Raises
    ------
    %(refused)s
    %(size)s

    Notes
    -----
    Cost: n T P numbers. Sums of products of the Jacobian do not need it: `fisher_information` and `fisher_operator` have the
    factors.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> fs.jacobian(model, np.array([[2.0, 2.0]]), of="mean").values
    array([[[0.5 , 0.5 , 0.25]]])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, any_network=True)
    word = arguments.choice("of", of, ("natural", "mean"))
    numbers = call.model.family.n_outputs * call.model.n_params
    call.fits("`jacobian`", call.n_present * numbers, 1, "use fewer inputs, or fisher_operator for products with vectors.")

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        J = dense_jacobian(call.network.jacobians(forward, differences=False), forward.inputs)
        return [law.product(J) if word == "mean" else J]

    coords = call.input_coordinate() | _labels.output_coordinates(call.model, "output") | _labels.param_coordinates(model)
    yield (layout := _layout.array("jacobian", coords, call.provenance(of=word), call.rows.dtype))
    (values,) = yield from call.stack(block, max(1, _BLOCK_NUMBERS // numbers))
    return layout, [values.astype(call.rows.dtype, copy=False)]
