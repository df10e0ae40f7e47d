"""Plan of a study: its computations as independent tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.schema import ESTIMATORS
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels
from fisherstats.quantities.bounds.norm_sweep import norm_sweep
from fisherstats.quantities.bounds.variance import variance_bounds
from fisherstats.quantities.information.estimates import estimate_fisher
from fisherstats.quantities.information.exact import fisher_information
from fisherstats.quantities.uncertainty.variances import estimator_variance
from fisherstats.study import layer_table
from fisherstats.study.results_store import Child, Slot
from fisherstats.study.setup import Settings

__all__ = ["Measured", "Step", "measure", "observed_errors", "plan"]

#: factors of the weight norms in the sweep
_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)

#: parameters times inputs times replicates of one group: a few seconds of work
_GROUP_WORK = 3e8

#: replicates of one group at most: a small network takes milliseconds, whatever its size
_MOST_REPLICATES = 500

#: bytes that the groups of a study may take
_MOST_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Step:
    """One task: its name in the progress bar, the place of its results, and for replicates their numbers."""

    name: str
    slot: Slot
    n_draws: int = 0
    stream: int = 0
    replicates: range = range(0)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Input common to all tasks; the exact information is None until it is computed."""

    model: MLP
    x: NDArray[np.float64]
    seed: int
    provenance: Mapping[str, Any]
    exact: NDArray[np.floating] | None = None


def plan(settings: Settings, model: MLP, n_inputs: int) -> list[Step]:
    """Return the tasks of a study, determined by its settings and its network only.

    The first is the exact information, from which the deviations of the others are computed.
    """
    whole = {name: Slot(Child(name)) for name in ("exact", "variance", "layer_variance", "bounds")}
    steps = [
        Step("exact information", whole["exact"]),
        Step("variances", whole["variance"]),
        Step("variances of layers", whole["layer_variance"]),
        Step("bounds", whole["bounds"]),
    ]
    sweep = Child("sweep", "scale", _labels.coordinates(scale=np.array(_SCALES)))
    steps += [Step(f"weight norms, scale {scale:g}", Slot(sweep, place)) for place, scale in enumerate(_SCALES)]
    size = _group_size(settings, model.n_params, n_inputs)
    groups = [
        (position, range(first, min(first + size, settings.replicates)))
        for position in range(len(settings.n_draws))
        for first in range(0, settings.replicates, size)
    ]
    child = Child("replicates", "group", _group_coordinates(settings, groups))
    for place, (position, replicates) in enumerate(groups):
        n_draws = settings.n_draws[position]
        steps.append(Step(f"replicates, N = {n_draws}", Slot(child, place), n_draws, position, replicates))
    return steps


def _group_size(settings: Settings, n_params: int, n_inputs: int) -> int:
    """Return how many replicates are computed and stored together."""
    in_time = min(_MOST_REPLICATES, int(_GROUP_WORK / (n_params * n_inputs)))
    all_bytes = settings.replicates * len(settings.n_draws) * 4 * n_params * 8
    n_groups = -(-settings.replicates // max(1, in_time, -(-all_bytes // _MOST_BYTES)))
    return -(-settings.replicates // n_groups)


def _group_coordinates(settings: Settings, groups: list[tuple[int, range]]) -> dict[str, Any]:
    return _labels.coordinates(group=len(groups)) | {
        name: ("group", np.array(values), _labels.coordinates(**{name: 1})[name][2])
        for name, values in (
            ("n_draws", [settings.n_draws[position] for position, _ in groups]),
            ("replicates", [len(replicates) for _, replicates in groups]),
        )
    }


def measure(measured: Measured, step: Step, num_threads: int | None) -> xr.Dataset:
    """Return the results of one task."""
    model, x = measured.model, measured.x
    known: dict[str, Any] = {"num_threads": num_threads}
    match step.slot.child.name:
        case "exact":
            return cast(xr.DataArray, fisher_information(model, x, **known)).to_dataset()
        case "variance":
            return _with_relative_error(estimator_variance(model, x, **known), measured)
        case "layer_variance":
            return estimator_variance(model, x, group_by="layer", **known)
        case "bounds":
            return variance_bounds(model, x, **known)
        case "sweep":
            return norm_sweep(model, x, scales=[_SCALES[step.slot.place]], **known)
    return _replicates(measured, step, num_threads)


def _with_relative_error(variance: xr.Dataset, measured: Measured) -> xr.Dataset:
    assert measured.exact is not None
    error = layer_table.relative_error(variance["variance"].transpose("estimator", "param").values, measured.exact)
    coords = _labels.coordinates(estimator=list(ESTIMATORS)) | _labels.param_coordinates(measured.model)
    return variance.assign(_labels.dataset([("relative_error", ["estimator", "param"], error)], coords, measured.provenance))


def _replicates(measured: Measured, step: Step, num_threads: int | None) -> xr.Dataset:
    """Repeat both estimators; deviations are from the exact information, which is known."""
    model, exact = measured.model, measured.exact
    assert exact is not None
    layer = np.repeat(np.arange(model.n_layers), [matrix.size for matrix in model.weights])
    size = np.bincount(layer)
    first = np.zeros((len(ESTIMATORS), layer.size))
    squares, layer_squares = np.zeros_like(first), np.zeros((len(ESTIMATORS), size.size))
    for replicate in step.replicates:
        stream = np.random.SeedSequence(measured.seed, spawn_key=(2, step.stream, replicate))
        estimate = estimate_fisher(
            model,
            measured.x,
            estimator=ESTIMATORS,
            n_draws=step.n_draws,
            rng=stream,
            standard_error=False,
            num_threads=num_threads,
        )
        values = cast(xr.DataArray, estimate).values
        deviation = values - exact
        squares += deviation**2
        sums = np.stack([np.bincount(layer, weights=one) for one in deviation])
        layer_squares += (sums / size) ** 2
        if replicate == step.replicates[0]:
            first[:] = values
    entries: list[_labels.Entry] = [
        ("group_first", ["group", "estimator", "param"], first[None]),
        ("group_squares", ["group", "estimator", "param"], squares[None]),
        ("group_layer_squares", ["group", "estimator", "layer"], layer_squares[None]),
    ]
    coords = _labels.coordinates(estimator=list(ESTIMATORS)) | _labels.param_coordinates(model)
    return _labels.dataset(entries, coords | _labels.layer_coordinates(model.n_layers), measured.provenance)


def observed_errors(
    replicates: xr.Dataset, settings: Settings
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return first estimates and root mean square deviations, (estimator, n_draws, param), and those of layers."""
    groups = [np.flatnonzero(replicates["n_draws"].values == n_draws) for n_draws in settings.n_draws]

    def root_mean(name: str) -> NDArray[np.float64]:
        sums = replicates[name].values
        return np.sqrt(np.stack([sum(sums[group]) for group in groups], axis=1) / settings.replicates)

    first = np.stack([replicates["first_estimate"].values[group[0]] for group in groups], axis=1)
    return first, root_mean("squared_deviation"), root_mean("layer_squared_deviation")
