"""The best linear combination of the score and the Hessian estimate from the same labels."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.models.families import SecondMoment
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._designs import Design
from fisherstats.quantities._streams import streamed
from fisherstats.theory import assembly, combination, fisher, sampling
from fisherstats.theory.combination import Regression

__all__ = ["combine_estimators"]

Array = NDArray[np.floating]


@documented
@streamed()
def combine_estimators(
    model: MLP,
    x: Any,
    *,
    n_draws: int,
    rng: int | np.random.SeedSequence | np.random.Generator,
    per_input: bool = False,
    design: str = "fixed",
    population: int | None = None,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Best linear combination :math:`\alpha\hat I_1+(1-\alpha)\hat I_2` of the two diagonal estimates from the same labels.

    Per parameter :math:`\alpha^*=(V_2-C_{12})/(V_1+V_2-2C_{12})`, from the closed-form variances of the mean over the given
    inputs (2024, Lemma 3.1); the weight does not depend on the labels, so the combination is unbiased. The contribution of
    sampled inputs to the variance is common to both estimates, so that the weight is the same for every `design`.

    Parameters
    ----------
    %(model)s
    %(x)s
    n_draws : int
        Labels per input, N.
    rng : int, SeedSequence or Generator
        Source of the labels; the same int gives the labels that `estimate_fisher` draws for a pair.
    per_input : bool, default False
        Combine the estimates of each input, with separate weights (fixed design only).
    design : {"fixed", "random", "subsample"}, default "fixed"
        Sampling design of the variance, as for `estimator_variance`: labels at fixed inputs, or sampled inputs as well.
    %(population)s
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``information`` (the combined estimate), ``weight`` (alpha*), ``variance`` (that of the combined estimate), ``score`` and
        ``hessian`` (the estimates that were combined), dims ([input,] param). Units of 1, source keys ``combination``,
        ``score-estimator``, ``hessian-estimator``.

    Raises
    ------
    %(refused)s
    %(kink)s
    %(size)s

    Notes
    -----
    Cost: that of `estimate_fisher` for a pair, and a few operations per input and parameter for the weights. The weight may lie
    outside [0, 1]. It is 0 where the Hessian estimate is exact (last layer without a link, piecewise linear networks) and 1/2
    where the two estimates differ by a constant. For one input and binary outputs both estimates are affine in the mean label and
    the variance is 0; for several inputs a single weight is used for all, and the variance is positive. The variance is a sum of
    squares, with an error of the order of the square of a rounding error of the parts for every family but those given by
    cumulant tensors (GammaShapeRate, GaussianMeanVariance, Dirichlet, a user's own), where it is of the order of a rounding
    error.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> layers = [[[1.0, 0.5]], [[2.0, 0.0]]]
    >>> model = fs.MLP(layers, activation="tanh", family=fs.families.Gaussian())
    >>> combined = fs.combine_estimators(model, np.array([[1.0], [0.2]]), n_draws=10, rng=0)
    >>> combined.weight.values.round(3)
    array([0.911, 0.347, 0.   , 0.   ])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, any_network=True)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    _views.check(call, "diagonal", per_input, 5)
    sampled = Design.of(call, design, population, n_draws, per_input)
    seed = arguments.seed_sequence(rng)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order=2)
        call.network.refuse_kinks(forward, on_kink, first_input)
        G, S = call.network.unit_jacobians_and_curvatures(forward)
        regressions = combination.regression_factors(law, G, S)
        draw = sampling.draw(model.family, law, seed, first_input, n_draws, second_moment=True)
        contracted = call.network.curvature_along(forward, draw.mean)
        score, exact = (fisher.unit_factors(one, forward, G) for one in (cast(SecondMoment, draw.second), law))
        estimates = [score, fisher.hessian_factors(exact, contracted)]
        if per_input:
            parts = zip(*[(one.variance, one.slope, one.rest) for one in regressions], strict=True)
            quantities = [*zip(parts, (4, 0, 4), strict=True), *[(one, 2) for one in estimates]]
            return [assembly.diagonal(factors, forward.inputs, power, call.sizes, True) for factors, power in quantities]
        sums = [assembly.diagonal(one, forward.inputs, 2, call.sizes, False) for one in estimates]
        return [*combination.regression_sums(regressions, forward.inputs), *sums]

    keys = ["combined_information", "combination_weight", "combined_variance", "score_estimate", "hessian_estimate"]
    coords = _labels.param_coordinates(model) | (call.input_coordinate() if per_input else {})
    provenance = call.provenance(
        n_draws=n_draws,
        seed=sampling.seed_record(seed),
        draws=model.family.draw_scheme(True, n_draws),
        on_kink=on_kink,
        **sampled.record,
    )
    layout = _layout.dataset(keys, coords, provenance, call.rows.dtype)
    yield (layout := layout.followed_by(*(() if sampled.fixed else sampled.diagonal_shapes())))
    rows = call.block_rows(second_order=True)
    if per_input:
        *regression, score, hessian = yield from call.stack(block, rows)
        shares = n_draws
    else:
        *regression, score, hessian = yield from call.mean(block, rows, combine=combination.merge_regressions)
        score, hessian = score / call.n_inputs, hessian / call.n_inputs
        shares = n_draws * call.n_inputs**2
    weight, variance = combination.combination(Regression(*regression), call.rows.dtype)
    combined = weight * score + (1 - weight) * hessian
    variance = variance / shares + (0.0 if sampled.fixed else (yield from sampled.variance_of_exact()))
    values = [combined, weight, variance, score, hessian]
    return layout, [one.astype(call.rows.dtype, copy=False) for one in values]
