"""Deterministic envelopes of the information of a classifier."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core import margins
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import probes as checks
from fisherstats.models.families import Categorical
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._streams import streamed
from fisherstats.theory import probes
from fisherstats.theory.forward_rounding import forward_rounding

__all__ = ["information_envelopes"]

Array = NDArray[np.floating]


@documented
@streamed()
def information_envelopes(
    model: MLP,
    x: Any,
    *,
    rank: int = 1,
    per_input: bool = False,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Deterministic envelopes of the diagonal information of a classifier: :math:`J^\top\mathrm{diag}(p)J` and rank k.

    :math:`\sum_{k\le r}\lambda_kv_kv_k^\top\preceq I(h)=\mathrm{diag}(p)-pp^\top\preceq\mathrm{diag}(p)` with the r largest
    eigenpairs of I(h) at each input (Sun 2026); the same order holds for :math:`J^\top\cdot J` and its diagonal.

    Parameters
    ----------
    model : MLP
        The network, with the Categorical family; its weights are treated as fixed.
    %(x)s
    rank : int, default 1
        Eigenpairs of the lower envelope; with as many as outputs it is exact, in the overcomplete form with one less.
    per_input : bool, default False
        Return the envelopes of each input instead of the mean over inputs.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset, dims ([input,] param)
        ``information_lower``, ``information_exact``, ``information_upper``, and ``lower_ratio`` and ``upper_ratio``, over the
        exact value (1 where both are 0, inf where only the exact value is 0). Units of 1, source keys ``class-envelopes``,
        ``information``.

    Raises
    ------
    TypeError, ValueError
        If `model` is not an `MLP` with the Categorical family, `x` is not a finite real matrix with one column per input of the
        network, or `rank` is not a positive integer in its range.
    %(size)s

    Notes
    -----
    Cost: that of the exact diagonal, and per input r roots of an equation of T terms, or, where r is above T / 16, one
    eigendecomposition of a T x T matrix. With the logits of all classes as
    outputs the upper envelope of the last layer is larger than the information by the factor 1 / (1 - p).

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[0.0, 0.0], [0.0, 0.0]]], activation=[], family=fs.families.Categorical(2))
    >>> envelopes = fs.information_envelopes(model, np.array([[1.0]]))
    >>> envelopes.information_exact.values, envelopes.information_upper.values.round(9)
    (array([0.25, 0.25, 0.25, 0.25]), array([0.5, 0.5, 0.5, 0.5]))
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, in_double=True)
    checks.one_label_of_several(isinstance(model.family, Categorical), model.family.name)
    rank = checks.envelope_rank(rank, model.widths[-1])
    _views.check(call, "diagonal", per_input, 5)

    def diagonal(x: Array, first_input: int) -> list[Any]:
        forward, law = call.network.forward(x, first_input)
        G = call.network.unit_jacobians(forward, differences=False)
        envelopes = probes.class_envelopes(cast(CategoricalLaw, law), G, rank, forward_rounding(call.model, forward))
        return [*((factors, 2) for factors in envelopes), forward.inputs]

    keys = ["envelope_lower", "information_exact", "envelope_upper", "envelope_lower_ratio", "envelope_upper_ratio"]
    coords = _labels.param_coordinates(model) | (call.input_coordinate() if per_input else {})
    yield (layout := _layout.dataset(keys, coords, call.provenance(rank=rank), call.dtype))
    found = yield from _views.compute(call, "diagonal", per_input, diagonal, lambda x, first: [])
    lower, exact, upper = (one[0, 0] for one in found)
    terms = call.terms(per_input)
    lower = margins.outwards(margins.below(lower, terms), call.dtype, "lower")
    upper = margins.outwards(margins.above(upper, terms), call.dtype, "upper")
    exact = margins.nearest(exact, call.dtype)
    return layout, [lower, exact, upper, _ratio(lower, exact), _ratio(upper, exact)]


def _ratio(bound: Array, exact: Array) -> Array:
    nothing = exact == 0
    with np.errstate(over="ignore"):  # inf where the ratio overflows
        ratio: Array = np.where(nothing, np.where(bound == 0, 1.0, np.inf), bound / np.where(nothing, 1, exact))
    return ratio.astype(exact.dtype, copy=False)
