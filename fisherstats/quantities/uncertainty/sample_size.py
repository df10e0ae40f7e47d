"""Sample size planning: number of draws, choice of estimator, and optimal split of a budget over inputs and draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.arrays import double
from fisherstats.core.docstrings import documented
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, inputs
from fisherstats.execution import Steps
from fisherstats.models.families import Law
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._designs import Design
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import assembly, estimator_moments, fisher
from fisherstats.theory import sample_size as closed
from fisherstats.theory.probes import label_variance_factors
from fisherstats.theory.sampling import label_law

__all__ = ["plan_draws"]

Array = NDArray[np.floating]

_COUNTS = tuple(2**power for power in range(13))
"""Numbers of stratified labels for which the variance is computed."""

_EITHER = "either"
"""The estimator of the smallest variance, where there are two."""


@documented
@streamed()
def plan_draws(
    model: MLP,
    x: Any,
    *,
    target_cv: float,
    level: str = "parameter",
    sampling: str = "iid",
    design: str = "fixed",
    population: int | None = None,
    n_inputs: int | None = None,
    cost_input: float | None = None,
    cost_draw: float | None = None,
    estimators: Sequence[str] = ESTIMATORS,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Draws per input needed for a target relative standard error of an estimate (2024, Lemma 3.1 and Theorem 4.7).

    Fixed design: the smallest N with :math:`V^{(1)}/N\le\text{target}^2I^2`, where :math:`V^{(1)}` is the variance of the mean
    over the given inputs with one draw each. Random design: :math:`(s_x^2+\bar V/N)/N_x\le\text{target}^2I^2`, which no N
    satisfies where the floor :math:`s_x^2/N_x` alone is larger. For a finite population the floor is multiplied by
    :math:`1-N_x/n_{all}`.

    Parameters
    ----------
    %(model)s
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        Inputs, at least one row (two for the random design), finite and real; from a dask array the result is lazy.
    target_cv : float
        Target standard error relative to the exact value.
    level : {"parameter", "layer", "trace"}, default "parameter"
        Quantity to plan for: each diagonal entry, the mean entry of each layer, or the trace.
    %(sampling)s
    design : {"fixed", "random", "subsample"}, default "fixed"
        Whether inference is for the given inputs, or these are a sample from which the variance over inputs is estimated: of
        independent inputs, or of a finite population.
    %(population)s
    n_inputs : int, optional
        Inputs of the planned sample, N_x; the number of given inputs by default.
    cost_input, cost_draw : float, optional
        Cost of an additional input and of an additional draw, in the same unit; give both, for sampled inputs only.
    estimators : sequence of {"score", "hessian"}, default both
        Which estimators; with the score alone kinks are irrelevant, and the Hessian estimator is not computed.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``draws (estimator[, param | layer])``, integer-valued floats, inf where no number of draws suffices;
        ``best ([param | layer])``, the estimator of the smaller variance (_EITHER where they are equal); for parameters
        ``median_draws (estimator, layer)`` over those with information. Sampled inputs: ``floor_cv``, the relative error that
        remains with exact conditional information; with costs ``optimal_draws``, N* = sqrt(cost_input V / (cost_draw s_x^2)), to
        be read as 1 if below 1, and ``optimal_inputs``, the number of inputs that then reaches the target. Source keys
        ``draws-needed``, ``draws-needed-random``, ``optimal-split``.

    Raises
    ------
    %(refused)s
    %(kink)s
    %(size)s

    Notes
    -----
    Cost: that of `estimator_variance`. An entry without variance needs one draw; one without
    information has no relative error, and needs inf unless it has no variance either. The random design uses the variance over
    inputs estimated from the given inputs, without accounting for its own error.

    With stratified labels the variance is no multiple of 1 / N. Its exact value is computed for N = 1, 2, 4, ..., 4096, and
    ``draws`` is the first of these that reaches the target, or the number of independent labels where that is smaller or none
    does; ``best`` compares the variances of one label. Such a plan takes several times as long, and no costs.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> layers = [[[1.0, 0.5]], [[2.0, 0.0]]]
    >>> model = fs.MLP(layers, activation="tanh", family=fs.families.Gaussian())
    >>> plan = fs.plan_draws(model, np.array([[1.0]]), target_cv=0.1, level="layer")
    >>> plan.draws.values
    array([[2.000e+02, 2.000e+02],
           [2.509e+03, 1.000e+00]])
    >>> plan.best.values.tolist()
    ['score', 'hessian']
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, any_network=True)
    target = arguments.positive_number("target_cv", target_cv)
    arguments.choice("level", level, ("parameter", "layer", "trace"))
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    sampled = Design.of(call, design, population)
    costs = inputs.costs(cost_input, cost_draw, design)
    counts = _COUNTS if _run.label_sampling(call, sampling) == "stratified" else ()
    inputs.no_costs_with_stratified(bool(counts), costs is not None)
    planned = call.n_inputs
    if not sampled.fixed:
        planned = call.n_inputs if n_inputs is None else arguments.positive_integer("n_inputs", n_inputs)
        inputs.planned_inputs(planned, sampled.population)
    elif n_inputs is not None:
        inputs.fixed_inputs(n_inputs)
    chosen = arguments.words("estimators", estimators, ESTIMATORS)
    _views.check(call, "diagonal", False, 8)
    coords = {
        "parameter": _labels.param_coordinates(model) | _labels.layer_coordinates(model.n_layers),
        "layer": _labels.layer_coordinates(model.n_layers),
        "trace": {},
    }[level] | _labels.coordinates(estimator=list(chosen))
    random = "" if sampled.fixed else "_random"
    keys: list[_layout.Entry] = [f"plan_draws{random}", ("plan_best", np.result_type(np.array(chosen), np.array(_EITHER)))]
    keys += ["plan_median"] if level == "parameter" else []
    keys += ["plan_floor"] if random else []
    keys += [] if costs is None else ["plan_optimal_draws", "plan_optimal_inputs"]
    provenance = call.provenance(
        target_cv=target,
        level=level,
        **sampled.record,
        planned_inputs=planned,
        cost_input=None if costs is None else costs[0],
        cost_draw=None if costs is None else costs[1],
        on_kink=on_kink,
        **({"sampling": sampling} if counts else {}),
    )
    yield (layout := _layout.dataset(keys, coords, provenance, np.float64))
    information, spread, variances = yield from _moments(call, level, chosen, on_kink, not sampled.fixed, counts)
    variance = variances[0]
    shape = () if level == "trace" else information.shape
    finite = np.zeros_like(spread) if sampled.population is None else spread / sampled.population
    floor = np.zeros_like(spread) if sampled.fixed else spread / planned - finite
    with np.errstate(over="ignore", under="ignore"):
        allowed = (target * information) ** 2
        inputs.reachable_target(target, allowed, information, variance)
        draws = closed.draws_needed(variance / planned, floor, allowed)
        for count, one in zip(reversed(counts), reversed(variances[1:]), strict=True):
            draws = np.where(one / (planned * count) + floor <= allowed, np.minimum(draws, count), draws)
    values = [draws.reshape(-1, *shape), _best(variance, chosen).reshape(shape)]
    if level == "parameter":
        values.append(_median_per_layer(call, draws, information))
    if random:
        values.append(closed.relative_error(floor, information).reshape(shape))
    if costs is not None:
        optimal = closed.optimal_draws(variance, spread, *costs)
        needed = closed.inputs_needed(variance, spread, np.maximum(optimal, 1), allowed + finite)
        if sampled.population is not None:
            needed = np.where(needed > sampled.population, np.inf, needed)
        values += [optimal.reshape(-1, *shape), needed.reshape(-1, *shape)]
    return layout, values


def _moments(
    call: Call, level: str, chosen: Sequence[str], on_kink: str, with_spread: bool, counts: Sequence[int]
) -> Steps[tuple[Array, Array, Array]]:
    """Return the mean information (k,), its variance over inputs (k,), 0 if not requested, and mean variances (1 + counts, e, k).

    The variances are those of one label, and N times those of N stratified labels for every N of `counts`.
    """
    with_hessian = "hessian" in chosen

    def laws(law: Law) -> list[Law]:
        return [law, *(label_law(call.model.family, law, "stratified", count) for count in counts)]

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order=2 if with_hessian else 1)
        S: Sequence[Array | None] = [None] * call.model.n_layers
        if with_hessian:
            call.network.refuse_kinks(forward, on_kink, first_input)
            G, S = call.network.unit_jacobians_and_curvatures(forward)
        else:
            G = call.network.unit_jacobians(forward)
        if level == "parameter":
            factors = [label_variance_factors(one, drawn, forward, G, S) for drawn in laws(law) for one in chosen]
            sums = [assembly.diagonal(one, forward.inputs, 4, call.sizes, False) for one in factors]
            units = fisher.unit_factors(law, forward, G)
            if with_spread:
                return [*assembly.moments_over_inputs(units, forward.inputs, 2), *sums]
            return [assembly.diagonal(units, forward.inputs, 2, call.sizes, False), *sums]
        groups = estimator_moments.layer_groups(G, S, forward.inputs, call.sizes, level == "trace")
        found = [estimator_moments.group_moments(drawn, groups) for drawn in laws(law)]
        information = found[0][0]
        sums = [double(moments[1 + ESTIMATORS.index(one)]).sum(axis=0) for moments in found for one in chosen]
        if with_spread:
            return [*assembly.moments_of_values(information), *sums]
        return [double(information).sum(axis=0), *sums]

    rows = call.block_rows(second_order=with_hessian)
    if not with_spread:
        information, *means = yield from call.mean(block, rows)
        return information, np.zeros_like(information), np.stack(means).reshape(-1, len(chosen), *information.shape)
    _, information, deviations, *sums = yield from call.mean(block, rows, combine=assembly.merge_moments)
    variances = np.stack(sums).reshape(-1, len(chosen), *information.shape) / call.n_inputs
    return information, deviations / max(call.n_inputs - 1, 1), variances


def _best(variance: Array, chosen: Sequence[str]) -> NDArray[np.str_]:
    """Return the estimator of the smallest variance, _EITHER where there are two."""
    smallest = variance.min(axis=0)
    names = np.array(chosen)[np.argmin(variance, axis=0)]
    return np.where((variance == smallest).all(axis=0) & (len(chosen) > 1), _EITHER, names)


def _median_per_layer(call: Call, draws: Array, information: Array) -> Array:
    """Return the median draws over the parameters of each layer that have information; inf where there are none."""
    medians = np.full((len(draws), call.model.n_layers), np.inf)
    for layer, part in enumerate(call.model.layer_slices()):
        informed = draws[:, part][:, information[part] > 0]
        if informed.size:
            # The lower of two middle values: an average with inf would be inf.
            medians[:, layer] = np.quantile(informed, 0.5, axis=1, method="inverted_cdf")
    return medians
