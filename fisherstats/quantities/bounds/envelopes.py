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
from fisherstats.theory import lumped_classes, probes
from fisherstats.theory.forward_rounding import forward_rounding

__all__ = ["information_envelopes"]

Array = NDArray[np.floating]


@documented
@streamed()
def information_envelopes(
    model: MLP,
    x: Any,
    *,
    rank: int | None = None,
    n_classes_kept: int | None = None,
    per_input: bool = False,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Deterministic envelopes of the diagonal information of a classifier: by rank, or from its most probable classes.

    :math:`\sum_{k\le r}\lambda_kv_kv_k^\top\preceq I(h)=\mathrm{diag}(p)-pp^\top\preceq\mathrm{diag}(p)` with the r largest
    eigenpairs of I(h) at each input (Sun 2026); the same order holds for :math:`J^\top\cdot J` and its diagonal. With
    `n_classes_kept` all but the k most probable classes of each input are taken as one: what is left out is P times the variance
    of the derivatives over these classes, with P their probability, and is bounded.

    Parameters
    ----------
    model : MLP
        The network, with the Categorical family; its weights are treated as fixed.
    %(x)s
    rank : int, optional
        Eigenpairs of the lower envelope, 1 by default; with as many as outputs it is exact, in the overcomplete form with one
        less.
    n_classes_kept : int, optional
        Number k of classes that are kept at each input: ends of the exact diagonal from k + 1 rows instead of one for each class.
    per_input : bool, default False
        Return the envelopes of each input instead of the mean over inputs.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset, dims ([input,] param)
        With `n_classes_kept` ``information_lower``, ``information_upper`` and ``ratio``, upper over lower (source key
        ``lumped-classes``). Else ``information_lower``, ``information_exact``, ``information_upper``, and ``lower_ratio`` and
        ``upper_ratio``, over the exact value (1 where both are 0, inf where only the exact value is 0). Units of 1, source keys
        ``class-envelopes``, ``information``.

    Raises
    ------
    TypeError, ValueError
        If `model` is not an `MLP` with the Categorical family, `x` is not a finite real matrix with one column per input of the
        network, or `rank` or `n_classes_kept` is not a positive integer in its range, or both are given.
    %(size)s

    Notes
    -----
    Cost: that of the exact diagonal, and per input r roots of an equation of T terms, or, where r is above T / 16, one
    eigendecomposition of a T x T matrix. With the logits of all classes as
    outputs the upper envelope of the last layer is larger than the information by the factor 1 / (1 - p). With `n_classes_kept`:
    k + 1 rows per input, and products with the last weights. The ends are equal up to rounding in the last two layers; below,
    they are apart by P times a bound by norms.

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
    checks.one_kind_of_envelope(rank, n_classes_kept)
    _views.check(call, "diagonal", per_input, 5)
    if n_classes_kept is not None:
        return (
            yield from _of_lumped_classes(
                call, checks.classes_kept(n_classes_kept, cast(Categorical, model.family).n_classes), per_input
            )
        )
    rank = checks.envelope_rank(1 if rank is None else rank, model.widths[-1])

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


def _of_lumped_classes(call: _run.Call, n_kept: int, per_input: bool) -> Computation[xr.Dataset]:
    """Return the ends of the exact diagonal from the most probable classes of each input."""
    model = call.model

    def diagonal(x: Array, first_input: int) -> list[Any]:
        forward, law = call.network.forward(x, first_input)
        root, others = lumped_classes.lumped(cast(CategoricalLaw, law), n_kept)
        kept = call.network.root_unit_factors(forward, root)
        tails = lumped_classes.tail_bounds(model, forward, cast(CategoricalLaw, law), others)
        ends = lumped_classes.with_margins(kept, tails, forward_rounding(model, forward), sum(model.widths))
        return [*((factors, 2) for factors in ends), forward.inputs]

    coords = _labels.param_coordinates(model) | (call.input_coordinate() if per_input else {})
    keys = ["lumped_lower", "lumped_upper", "lumped_ratio"]
    yield (layout := _layout.dataset(keys, coords, call.provenance(n_classes_kept=n_kept), call.dtype))
    found = yield from _views.compute(call, "diagonal", per_input, diagonal, lambda x, first: [])
    lower, upper = (one[0, 0] for one in found)
    terms = call.terms(per_input)
    lower = margins.outwards(margins.below(lower, terms), call.dtype, "lower")
    upper = margins.outwards(margins.above(upper, terms), call.dtype, "upper")
    return layout, [lower, upper, _ratio(upper, lower)]


def _ratio(bound: Array, exact: Array) -> Array:
    nothing = exact == 0
    with np.errstate(over="ignore"):  # inf where the ratio overflows
        ratio: Array = np.where(nothing, np.where(bound == 0, 1.0, np.inf), bound / np.where(nothing, 1, exact))
    return ratio.astype(exact.dtype, copy=False)
