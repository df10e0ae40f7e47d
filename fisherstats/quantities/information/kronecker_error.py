"""Error of the Kronecker-factored approximation of each layer's block."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.execution import Rows, at_once
from fisherstats.models.families.base import RowProducts
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import kronecker

__all__ = ["kfac_error"]

Array = NDArray[np.floating]


@documented
@streamed()
def kfac_error(
    model: MLP,
    x: Any,
    *,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Error :math:`\lVert B_l-G_l\otimes A_l\rVert_F` of the Kronecker-factored approximation of each layer's exact block.

    :math:`B_l` is the block of layer l of the Fisher information and :math:`A_l`, :math:`G_l` are the factors of
    ``fisher_information(view="kfac")`` (Martens & Grosse 2015, Section 3). The block itself is never built.

    Parameters
    ----------
    %(model)s
    %(x)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``error``, ``norm`` (of the exact block) and ``relative_error`` = error / norm, dims (layer). Units of 1, source key
        ``kronecker-error``.

    Raises
    ------
    %(refused)s
    SizeError
        If the layer inputs and derivatives of all inputs do not fit in memory; the message names the bytes.

    Notes
    -----
    Cost: all pairs of inputs, n^2 (units^2 + inputs) operations per layer, plus one forward and one backward pass; memory of
    n (inputs + T units) numbers, 2 n T of the outputs where they are independent or classes. It is a double sum over the
    deviations of each input's own factors from their means, so it is exactly 0 for one input and does not lose accuracy where the
    approximation is good; where theory says 0 by cancellation over inputs, the relative error is of the order of the square root
    of the rounding unit. A relative error above 1 means that 0 would have been a better approximation. It is NaN where the block
    is 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
    >>> x = np.log([[1.0], [3.0]])
    >>> fs.kfac_error(model, x[:1]).error.values
    array([0.])
    >>> fs.kfac_error(model, x).relative_error.values.round(3)
    array([0.276])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    n_layers = call.model.n_layers

    def gather(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        rows, diagonals = zip(*call.network.root_products(forward, law), strict=True)
        found = [*forward.inputs, *rows, *(one for one in diagonals if one is not None)]
        if first_input == call.rows.first:
            call.fits("`kfac_error`", call.n_inputs * sum(one[0].size for one in found), 1, "use fewer inputs.")
        return found

    keys = ["kronecker_error", "kronecker_norm", "kronecker_relative_error"]
    yield (layout := _layout.dataset(keys, _labels.layer_coordinates(n_layers), call.provenance(), call.rows.dtype))
    gathered = yield from call.stack(gather, call.block_rows())
    inputs = gathered[:n_layers]
    units: list[RowProducts] = [(rows, None) for rows in gathered[n_layers : 2 * n_layers]]
    if len(gathered) > 2 * n_layers:  # a diagonal second moment at the outputs
        units[-1] = units[-1][0], gathered[-1]
    again = _over(call, inputs[0])

    def held(x: Array, first_input: int) -> tuple[list[RowProducts], list[Array]]:
        part = slice(first_input, first_input + len(x))
        return [kronecker.of_inputs(one, part) for one in units], [one[part] for one in inputs]

    A, G = (list(factors.values()) for factors in at_once(again.kronecker_mean(held)))

    # With a bias the last column of A holds the mean inputs.
    biased = zip(A, inputs, call.model.bias, strict=True)
    means = [A_l[:, -1] if bias else h.mean(axis=0, dtype=np.float64) for A_l, h, bias in biased]

    def pairs(x: Array, first_input: int) -> list[Array]:
        arrays = zip(units, inputs, A, G, means, strict=True)
        return [np.array([kronecker.pair_sums(*layer, first_input, len(x)) for layer in arrays])]

    (sums,) = at_once(again.mean(pairs, again.block_rows()))
    error, norm = kronecker.block_distances(sums * call.n_inputs, A, G, call.n_inputs)
    relative = np.divide(error, norm, out=np.full_like(error, np.nan), where=norm > 0)
    return layout, [one.astype(call.rows.dtype, copy=False) for one in (error, norm, relative)]


def _over(call: Call, array: Array) -> Call:
    """Return the same call over the rows of an array already in memory, so that a lazy x is read only once."""
    return dataclasses.replace(call, rows=Rows(array, array.dtype, known_finite=True))
