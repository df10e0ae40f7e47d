"""Curvature of the model along directions: Efron's statistical curvature and the Amari-Chentsov tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from fisherstats import execution
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.models import derivatives
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._alignment import direction_rows
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._streams import streamed
from fisherstats.theory import curvature
from fisherstats.theory.curvature import CurveMoments

__all__ = ["amari_chentsov", "efron_curvature"]

Array = NDArray[np.floating]


@documented
@streamed()
def efron_curvature(
    model: MLP,
    x: Any,
    directions: ArrayLike,
    *,
    per_input: bool = False,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Efron's curvature :math:`\gamma^2=(\nu_{20}\nu_{02}-\nu_{11}^2)/\nu_{20}^3` along directions of the parameter space.

    With :math:`h'=Jv` and :math:`h''=H[v,v]`: :math:`\nu_{20}=h'^\top I(h)h'`, :math:`\nu_{11}=h'^\top I(h)h''`,
    :math:`\nu_{02}=h''^\top I(h)h''` (Efron 1975). It is 0 where the model is locally a full exponential family along v, as in
    the last layer of a network without a link; there :math:`\nu_{02}`, the variance of the Hessian estimate of
    :math:`v^\top I(\theta|x)v` from one label, is 0 too.

    Parameters
    ----------
    %(model)s
    %(x)s
    directions : array_like, shape (k, P) or (P,)
        Vectors over the parameters, in the order of the coordinate ``param``.
    per_input : bool, default False
        Return the curvature of each input instead of that of the joint distribution of one label at every input.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset, dims ([input,] direction)
        ``nu_20``, ``nu_11``, ``nu_02`` and ``curvature_squared``. Without `per_input` the nu are *sums* over the inputs, those of
        the joint distribution, for which N labels per input have the curvature squared over N. Where the first derivative of the
        natural parameters along a direction is 0, the curvature is 0, or inf if the second derivative is not. Units of 1, source
        key ``efron-curvature``.

    Raises
    ------
    %(refused)s
    %(kink)s

    Notes
    -----
    Cost: two tangent passes per direction. The numerator is the squared norm of the part of h'' orthogonal to h' in the metric
    I(h), so it is never negative and has no cancellation; with one output it is exactly 0 at each input.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> fs.efron_curvature(model, x, [1.0, 0.0, 0.0]).curvature_squared.values
    array([0.])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    rows = direction_rows(directions, model).astype(call.rows.dtype, copy=False)
    arguments.boolean("per_input", per_input)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    call.fits("`directions`", 8 * call.n_inputs * len(rows), 1, "use fewer directions or inputs at a time.")

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order=2)
        call.network.refuse_kinks(forward, on_kink, first_input)
        one = curvature.curve_moments(call.model, forward, law, rows)
        return [one.speed, one.acceleration, one.projection, one.residual]

    keys = ["nu_20", "nu_11", "nu_02", "curvature_squared"]
    coords = _labels.coordinates(direction=len(rows)) | (call.input_coordinate() if per_input else {})
    yield (layout := _layout.dataset(keys, coords, call.provenance(on_kink=on_kink), call.rows.dtype))
    rows_per_block = execution.block_rows(len(rows) * model.widths[-1])
    moments = CurveMoments(*(yield from call.stack(block, rows_per_block)))
    if not per_input:
        moments = curvature.curve_sums(CurveMoments(*(one.astype(np.float64) for one in vars(moments).values())))
    values = [moments.speed, moments.mixed, moments.acceleration, moments.curvature_squared()]
    return layout, [one.astype(call.rows.dtype, copy=False) for one in values]


@documented
@streamed()
def amari_chentsov(
    model: MLP,
    x: Any,
    directions: ArrayLike,
    *,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    r"""Amari-Chentsov tensor of directions, :math:`T(u,v,w)=\frac1n\sum_i\kappa_3(J_iu,J_iv,J_iw)`.

    It is :math:`E[(u\cdot\partial\ell)(v\cdot\partial\ell)(w\cdot\partial\ell)]`, the third moment of the score (Amari and
    Nagaoka 2000), for all triples of the given directions.

    Parameters
    ----------
    %(model)s
    %(x)s
    directions : array_like, shape (k, P) or (P,)
        Vectors over the parameters, in the order of the coordinate ``param``.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray, dims (direction, direction2, direction3)
        Exactly symmetric, mean over inputs; exactly 0 for Gaussian outputs. Units of 1, source key ``amari-chentsov``.

    Raises
    ------
    %(refused)s
    SizeError
        If the result would not fit in memory.

    Notes
    -----
    Cost: a tangent pass per direction and a form of T^2 numbers per triple.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
    >>> fs.amari_chentsov(model, np.array([[0.0]]), [0.0, 2.0]).values  # rate 1, third cumulant 1
    array([[[8.]]])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    rows = direction_rows(directions, model).astype(call.rows.dtype, copy=False)
    count = len(rows)
    call.fits("`directions`", count**3, 16, "use fewer directions at a time.")

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        tangents = np.stack([derivatives.push_forward(call.model, forward, one) for one in rows], axis=2)
        return [curvature.third_cumulants(law, tangents).sum(axis=0, dtype=np.float64)]

    coords = _labels.coordinates(direction=count, direction2=count, direction3=count)
    yield (layout := _layout.array("amari_chentsov", coords, call.provenance(), call.rows.dtype))
    (tensor,) = yield from call.mean(block, execution.block_rows(count**2 * max(count, model.widths[-1] ** 2)))
    return layout, [tensor.astype(call.rows.dtype, copy=False)]
