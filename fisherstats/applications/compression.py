"""Model compression: pruning of parameters, and merging of several networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats._version import __version__
from fisherstats.applications.consolidation import Seed, importance
from fisherstats.core.arrays import overflow_is_inf
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import applications as checks
from fisherstats.core.validation import arguments, networks, uncertainty
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout
from fisherstats.quantities._alignment import over_parameters
from fisherstats.quantities._computation import Computation, plan_of, steps_of
from fisherstats.quantities._streams import streamed
from fisherstats.theory import parameter_averaging

__all__ = ["Merged", "merge_networks", "pruning_scores"]

Array = NDArray[np.floating]


@documented
@streamed()
def pruning_scores(
    model: MLP,
    x: Any,
    y: Any = None,
    *,
    information: str = "exact",
    n_draws: int | None = None,
    rng: Seed | None = None,
    design: str = "fixed",
    population: int | None = None,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Increase of the loss when a parameter is set to zero, to second order: :math:`\tfrac12\theta_i^2F_{ii}`.

    Optimal brain damage (LeCun et al. 1990) with the Fisher information for the Hessian of the loss at a minimum.

    Parameters
    ----------
    model : MLP
        The trained network.
    %(x)s
    y : array_like, shape (n,) or (n, T), optional
        Data labels, for the empirical information.
    information, n_draws, rng, design, population, on_kink : optional
        As for `importance`.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset, dims (param,)
        ``score``, ``standard_error`` (:math:`\tfrac12\theta_i^2` times that of the information, for the given `design`;
        at fixed inputs 0 where the information is exact, nan for the empirical one) and ``pruning_rank``, 0 for the
        parameter to prune first.
        In nat, source key ``pruning``.

    Raises
    ------
    %(refused)s
    AssumptionError
        If a pre-activation is exactly on a kink and `on_kink` is "raise", for the Hessian estimate.

    Notes
    -----
    Cost: that of the information. The order of two scores is uncertain if their difference is small relative to their standard
    errors.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[3.0, 1.0]]], activation=[], family=fs.families.Gaussian())
    >>> found = fs.applications.pruning_scores(model, np.array([[2.0], [-2.0]]))
    >>> found.score.values, found.pruning_rank.values
    (array([18. ,  0.5]), array([1, 0]))
    """
    networks.model_object(model, MLP)
    common: dict[str, Any] = {"engine": engine, "num_threads": num_threads, "progress": progress}
    seed = None if rng is None else arguments.seed_sequence(rng)
    asked: dict[str, Any] = {"n_draws": n_draws, "rng": seed, "design": design, "population": population, "on_kink": on_kink}
    plan = plan_of(importance, model, x, y, information=information, **asked, **common)
    provenance = {**plan.provenance, "information": information}
    keys: list[_layout.Entry] = ["pruning_score", "pruning_error", ("pruning_rank", np.int64)]
    layout = _layout.dataset(keys, _labels.param_coordinates(model), provenance, np.float64)
    yield (layout := layout.followed_by(*plan.later))
    weights = yield from steps_of(importance, model, x, y, information=information, **asked, **common)
    theta = _flat(model)
    given, carried = _labels.values_and_error("importance", weights)
    error = np.full(theta.shape, 0.0 if information == "exact" else np.nan) if carried is None else carried.astype(np.float64)
    # Half of theta first, as the product of two large parameters may be beyond the range.
    score = theta / 2 * given.astype(np.float64) * theta
    order = np.empty(len(score), np.int64)
    order[np.argsort(score, kind="stable")] = np.arange(len(score))
    return layout, [score, theta / 2 * error * theta, order]


def _flat(model: MLP) -> Array:
    return np.concatenate([matrix.ravel() for matrix in model.weights]).astype(np.float64)


@dataclass(frozen=True)
class Merged:
    """A network merged from several.

    Parameters
    ----------
    model : MLP
        The network.
    parameters : Dataset
        ``merged (param)``, ``standard_error (param)`` and ``share (network, param)``.
    """

    model: MLP
    parameters: xr.Dataset


@documented
@overflow_is_inf
def merge_networks(models: Sequence[MLP], importances: Sequence[Any], *, shrink: bool = False) -> Merged:
    r"""Merge networks parameter by parameter, :math:`\bar\theta_i=\sum_kF_{k,i}\theta_{k,i}/\sum_kF_{k,i}`.

    This is Fisher merging (Matena & Raffel 2022). Estimated importances make the mean uncertain: by the delta method
    :math:`\mathrm{Var}(\bar\theta_i)=\sum_k\bigl((\theta_{k,i}-\bar\theta_i)/\sum_jF_{j,i}\bigr)^2V_{k,i}`.

    Parameters
    ----------
    models : sequence of MLP
        At least two networks of the same widths, activations and family; they should have been trained from the same
        initialisation.
    importances : sequence of DataArray or array_like, shape (P,)
        One for each network, see `importance`. No entry may be negative. A coordinate ``standard_error`` is used, and must
        match the values: weight networks by their numbers of inputs with ``scale_estimate(importance, n)``, as
        ``importance * n`` would not scale the error and is rejected.
    shrink : bool, default False
        Replace each F by :math:`F\cdot F^2/(F^2+V)`, with its variance V, so that uncertain importances
        get less weight.

    Returns
    -------
    Merged
        ``model`` and ``parameters``, a Dataset of ``merged (param)``, ``standard_error (param)`` and ``share (network, param)``.
        Units of 1, source key ``fisher-merging``.

    Raises
    ------
    TypeError, ValueError
        If fewer than two networks are given, if they differ in widths, activations, family or names, if `importances` is not one
        non-negative vector over the parameters for each network, or if their standard errors do not match their values or have
        different designs.

    Notes
    -----
    Where all importances of a parameter are 0, the networks have equal weights. The standard error has the `design` of those of
    the importances: it covers the labels that they were estimated from, or their inputs as well. It is at most half the distance
    of the networks there, between which the merged parameter lies. Importances without one, such
    as exact ones, are treated as known.

    Examples
    --------
    >>> import fisherstats as fs
    >>> one = fs.MLP([[[3.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> two = fs.MLP([[[1.0, 2.0]]], activation=[], family=fs.families.Gaussian())
    >>> found = fs.applications.merge_networks([one, two], [[3.0, 1.0], [1.0, 1.0]])
    >>> found.model.weights[0]
    array([[2.5, 1. ]])
    """
    checks.several_networks(models, MLP)
    first = models[0]
    alike = [(one.widths, one.bias, [a.name for a in one.activations], one.family.parameters()) for one in models]
    checks.alike(alike)
    for position, one in enumerate(models[1:], start=1):
        networks.same_names(f"models[{position}]", one, "models[0]", first)
    arguments.boolean("shrink", shrink)
    checks.one_each(importances, len(models))
    names = [f"importances[{position}]" for position in range(len(models))]
    given = [
        _labels.values_and_error(name, over_parameters(name, one, first)) for name, one in zip(names, importances, strict=True)
    ]
    weights: Array = np.stack([checks.importances(name, F, first.n_params) for name, (F, _) in zip(names, given, strict=True)])
    error = np.stack([np.zeros(first.n_params) if one is None else one.astype(np.float64) for _, one in given])
    designs = [
        _labels.error_design(one) if error is not None else None for one, (_, error) in zip(importances, given, strict=True)
    ]
    uncertainty.one_design({name: one for name, one in zip(names, designs, strict=True) if one is not None})
    theta = np.stack([_flat(one) for one in models])
    weights, slopes = parameter_averaging.shrunk(weights, error) if shrink else (weights, np.ones_like(weights))
    mean, shares, spread = parameter_averaging.merged(theta, weights, slopes, error)
    parts = [mean[piece].reshape(w.shape) for piece, w in zip(first.layer_slices(), first.weights, strict=True)]
    model = first.with_weights([part.astype(first.dtype) for part in parts])
    entries: list[_labels.Entry] = [
        ("merged_parameters", ["param"], mean),
        ("merged_error", ["param"], spread),
        ("merged_share", ["network", "param"], shares),
    ]
    coords = _labels.param_coordinates(first) | _labels.coordinates(network=len(models))
    record = {"package": f"fisherstats {__version__}", "models": [one.fingerprint for one in models], "shrink": shrink}
    record["designs"] = designs
    return Merged(model, _labels.dataset(entries, coords, record | {"model": model.fingerprint}))
