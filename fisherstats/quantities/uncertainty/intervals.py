"""Normal confidence intervals of estimated entries, from their closed-form standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import xarray as xr
from scipy.special import ndtri, stdtrit

from fisherstats.core.docstrings import documented
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._designs import DESIGNS
from fisherstats.quantities._streams import plan_of, steps_of, streamed
from fisherstats.quantities.information.estimates import estimate_fisher
from fisherstats.theory import sampled_inputs
from fisherstats.theory.sampling import seed_record

__all__ = ["confidence_intervals"]


@documented
@streamed()
def confidence_intervals(
    model: MLP,
    x: Any,
    *,
    estimator: str | Sequence[str],
    n_draws: int,
    rng: int | np.random.SeedSequence | np.random.Generator,
    level: float = 0.95,
    view: str = "diagonal",
    per_input: bool = False,
    sampling: str = "iid",
    design: str = "fixed",
    population: int | None = None,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Monte Carlo estimates with intervals :math:`\hat I\pm z\sqrt V`, V the closed-form variance (Lemma 3.1).

    They are for the information of the given inputs (`design` "fixed"), or for that of all inputs where those given are a sample
    of independent inputs ("random") or of a finite population ("subsample"). For given inputs the standard error is exact and not
    estimated from the draws, so only the normality of the estimate is an approximation (central limit theorem in the number of
    draws and inputs). That over inputs is estimated from the inputs: such intervals are :math:`\hat I\exp(\pm t\,se/\hat I)` on
    the diagonal and :math:`\hat I\pm t\,se` off it, t the quantile of Student's t distribution with Satterthwaite's degrees of
    freedom.

    Parameters
    ----------
    %(model)s
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        Inputs, at least one row (two where they are a sample), finite and real; from a dask array the result is lazy.
    estimator : {"score", "hessian"} or a sequence of both
        A sequence adds the dim ``estimator``; a pair uses the same labels.
    n_draws : int
        Labels per input, N.
    rng : int, SeedSequence or Generator
        Source of the labels; the same int gives the labels that `estimate_fisher` draws.
    level : float, default 0.95
        Nominal coverage, between 0 and 1.
    view : {"diagonal", "full"}, default "diagonal"
        The diagonal, or every entry.
    per_input : bool, default False
        Return the estimate and interval of each input (fixed design only).
    %(sampling)s
    design : {"fixed", "random", "subsample"}, default "fixed"
        Target of the interval, as for `estimator_variance`: the value at the given inputs, the mean over the distribution from
        which the inputs are independent draws, or the mean over all `population` inputs of which those given are drawn without
        replacement.
    %(population)s
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``estimate``, ``standard_error``, ``lower``, ``upper``, dims ([input,] [estimator,] param [, param2]). Units of 1,
        source keys ``both-estimators``, ``estimator-variance``, ``estimator-variance-random``,
        ``estimator-variance-subsample``, ``estimator-variance-stratified``, ``confidence-interval``,
        ``confidence-interval-sampled``; for a sample ``degrees_of_freedom``.

    Raises
    ------
    %(refused)s
    %(kink)s
    %(size)s

    Notes
    -----
    Cost: that of `estimate_fisher`. Intervals are not truncated at 0. At 1000 draws and more, intervals of level 0.95 cover in 94
    to 96 % of replicates where the absolute skewness of the estimate is at most 0.15; with few draws of a skewed distribution the
    coverage differs, as shown in ``docs/validation/coverage.md``. Intervals of several entries do not hold jointly with that
    probability.

    Intervals from a sample cannot account for inputs outside it. For an entry that is 0 at all sampled inputs (a pixel that is
    never on) the lower end is 0 and the upper end infinite; one dominated by few inputs has few ``degrees_of_freedom`` and a wide
    interval, whose coverage is below the nominal level.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> found = fs.confidence_intervals(model, np.array([[1.0, 1.0]]), estimator="score", n_draws=1000, rng=0)
    >>> ((found.lower < 1) & (1 < found.upper)).values
    array([ True,  True,  True])
    """
    level = arguments.level("level", level)
    arguments.choice("view", view, ("diagonal", "full"))
    arguments.choice("design", design, DESIGNS)
    arguments.boolean("per_input", per_input)
    asked: dict[str, Any] = {
        "n_draws": arguments.positive_integer("n_draws", n_draws),
        "per_input": per_input,
        **({} if sampling == "iid" else {"sampling": sampling}),
        "design": design,
        "population": population,
        "on_kink": on_kink,
    }
    common: dict[str, Any] = {"engine": engine, "num_threads": num_threads, "progress": progress}
    call = _run.prepare(model, x, **common, any_network=True)
    chosen = arguments.words("estimator", estimator, ESTIMATORS)
    _run.label_sampling(call, sampling)
    seed = arguments.seed_sequence(rng)
    drawn: dict[str, Any] = {"estimator": estimator, "rng": seed, "view": view, "standard_error": True, **asked, **common}
    coords = _labels.param_coordinates(model)
    if view == "full":
        coords |= _labels.param_coordinates(model, "param2")
    if per_input:
        coords |= call.input_coordinate()
    if not isinstance(estimator, str):
        coords |= _labels.coordinates(estimator=chosen)
    if design == "fixed":
        error = "standard_error" if sampling == "iid" else "standard_error_stratified"
        keys = ["interval_estimate", error, "interval_lower", "interval_upper"]
    else:
        errors = [f"standard_error_{design}", "error_freedom"]
        keys = ["interval_estimate", *errors, "interval_lower_sampled", "interval_upper_sampled"]
    provenance = call.provenance(estimator=chosen, level=level, seed=seed_record(seed), **asked)
    layout = _layout.dataset(keys, coords, provenance, call.rows.dtype)
    yield (layout := layout.followed_by(*plan_of(estimate_fisher, model, x, **drawn).later))
    estimated = cast(xr.DataArray, (yield from steps_of(estimate_fisher, model, x, **drawn)))
    estimate, error = estimated.values, estimated.coords["standard_error"].values
    if design == "fixed":
        reach = ndtri((1 + level) / 2).astype(estimate.dtype) * error
        values = [estimate, error, estimate - reach, estimate + reach]
    else:
        freedom = estimated.coords["degrees_of_freedom"].values
        quantile = stdtrit(freedom.astype(np.float64), (1 + level) / 2)
        # Entries off the diagonal may have either sign; for a complete population no sampling variance remains.
        on_log_scale = view == "diagonal" and population != call.n_inputs
        # The score squares residuals and is skewed as the information is; in the Hessian estimate they are linear.
        shares = np.sqrt(estimated.coords["sampling_share"].values).reshape(len(chosen), -1)
        skewed = [one if name == "hessian" else np.ones_like(one) for name, one in zip(chosen, shares, strict=True)]
        part = np.reshape(skewed, estimate.shape) if on_log_scale else None
        lower, upper = sampled_inputs.interval_ends(estimate, error, quantile, part)
        values = [estimate, error, freedom, lower, upper]
    with np.errstate(over="ignore"):  # an upper end beyond the range is infinite
        return layout, [one.astype(estimate.dtype, copy=False) for one in values]
