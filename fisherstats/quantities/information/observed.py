"""Observed information: minus the Hessian of the log-likelihood at the data labels, with the expected information."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.arrays import like
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.models.network import MLP
from fisherstats.quantities import _run, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._streams import streamed
from fisherstats.theory import estimator_moments, fisher, observed

__all__ = ["observed_information"]

Array = NDArray[np.floating]


@documented
@streamed()
def observed_information(
    model: MLP,
    x: Any,
    y: Any,
    *,
    view: str = "diagonal",
    per_input: bool = False,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset | xr.DataTree]:
    r"""Observed information :math:`-\partial^2\ell=J^\top I(h)J-\sum_ar_aH^a` at the data labels, and its deviation from I.

    It is the Hessian estimate (2024, eq 3) with the data labels instead of draws, r = t(y) - E[t]. Under the model its mean is
    the expected information and its variance that of the Hessian estimator with one draw (Lemma 3.1), which gives the z-score.

    Parameters
    ----------
    %(model)s
    %(x)s
    y : array_like, shape (n,) or (n, T)
        Data labels: class numbers for Categorical, else one number per output ((n,) if there is one output).
    view : {"diagonal", "block", "full"}, default "diagonal"
        The diagonal, the diagonal block of each layer, or the whole matrix.
    per_input : bool, default False
        Return the matrices of each input instead of the mean over inputs.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset or DataTree
        ``observed`` and ``expected``, dims ([input,] param [, param2]), and for the diagonal ``z_score ([input,] param)``; for
        "block" a DataTree of such Datasets. Units of 1, source keys ``observed-information``, ``information``, ``observed-z``.

    Raises
    ------
    %(refused)s
    %(kink)s
    %(size)s

    Notes
    -----
    Observed and expected are at the same inputs, so the z-score concerns the labels, and its formula does not depend on the
    sampling design of the inputs: given any inputs, ``observed - expected`` has mean 0 under the model, so that by the law of
    total variance nothing is added to E_x[V]/n for independent inputs or a subsample of a population. It is not the error of
    ``observed`` or ``expected`` as estimates of the information over other inputs; for that use `estimate_fisher` with its
    `design`.

    Cost: that of one Hessian estimate and of its variance. The z-score is 0 where the Hessian does not depend on the label (last
    layer without a link, piecewise linear networks) and infinite where a label is impossible under the model. z-scores of
    different parameters are dependent; the standard normal distribution is an approximation for many inputs.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> layers = [[[1.0, 0.5]], [[2.0, 0.0]]]
    >>> model = fs.MLP(layers, activation="tanh", family=fs.families.Gaussian())
    >>> found = fs.observed_information(model, np.array([[0.0], [0.5]]), [3.0, 0.0])
    >>> found.z_score.values.round(2)
    array([-1.52,  0.55,  0.  ,  0.  ])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    _views.check(call, view, per_input, 5)
    data_labels = call.data_labels(y)

    def at_labels(x: Array, first_input: int) -> tuple[Any, ...]:
        forward, law = call.network.forward(x, first_input, order=2)
        call.network.refuse_kinks(forward, on_kink, first_input)
        residual = law.residual(like(data_labels[first_input : first_input + len(x)], law.h))
        return forward, law, call.network.jacobians(forward, differences=False), residual

    def diagonal(x: Array, first_input: int) -> list[Any]:
        forward, law, G, residual = at_labels(x, first_input)
        S = call.network.curvatures(forward, G)
        deviation, rounding = observed.deviation_factors(S, residual)
        return [
            (fisher.unit_factors(law, forward, G), 2),
            (deviation, 2),
            (rounding, 2),
            (estimator_moments.hessian_variance_factors(law, S), 4),
            forward.inputs,
        ]

    def matrix(x: Array, first_input: int) -> list[dict[tuple[int, int], Array]]:
        forward, law, G, residual = at_labels(x, first_input)
        full = view == "full"
        hessian = call.network.hessian_blocks(forward, G, residual[:, None, :], full)
        return [
            fisher.hessian_matrix_blocks(law, G, forward.inputs, hessian, full, per_input),
            fisher.matrix_blocks(law, G, forward.inputs, full, per_input),
        ]

    keys = ["observed", "expected", *(["observed_z"] if view == "diagonal" else [])]
    yield (layout := _views.layout(call, view, per_input, keys, call.provenance(view=view, on_kink=on_kink), compare=True))
    quantities = yield from _views.compute(call, view, per_input, diagonal, matrix, second_order=True)
    if view == "diagonal":
        expected, deviation, rounding, variance = (one[0, 0] for one in quantities)
        shares = 1 if per_input else call.n_inputs
        z = observed.z_scores(deviation, rounding, variance / shares)
        quantities = [{(0, 0): one} for one in (expected + deviation, expected, z)]
    return layout, _views.arranged(call, view, quantities)
