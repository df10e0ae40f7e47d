"""The main job: from data to a report that says how well a Fisher matrix is known."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats import __version__, labels, plotting, report, summary
from fisherstats.bounds import variance_bounds
from fisherstats.checks import arguments
from fisherstats.checks import study as checks
from fisherstats.estimators import estimate_fisher
from fisherstats.experiment import Experiment, Settings, prepare, read_settings
from fisherstats.information import fisher_information
from fisherstats.schema import ESTIMATORS
from fisherstats.sweeps import norm_sweep
from fisherstats.variances import estimator_variance

__all__ = ["run"]

#: steps of a study that are not replicates, for the progress bar
_STEPS = ("training the network", "exact information", "variances", "bounds", "weight norms", "figures", "writing")

#: factors of all weight norms in the sweep
_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)

Advance = Callable[[str], None]


def run(
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    out: str | os.PathLike[str] | None = "fisherstats-study",
    seed: int | None = None,
    progress: bool = False,
) -> xr.DataTree:
    r"""Train a network on real data and say how well its diagonal Fisher information can be estimated.

    With no `config`: the handwritten digits of scikit-learn, an `MLPClassifier` fitted by scikit-learn and read through
    `from_sklearn`. Computes the exact information, both estimators at several numbers of draws, their closed-form and
    observed standard errors over replicates, the bounds of Theorem 4.1, and all of it along a scale of the weight norms;
    writes ``study.nc``, ``study.zarr`` and ``report.html`` to `out`.

    Parameters
    ----------
    config : path of a TOML file or mapping, optional
        Keys ``seed``, ``[data] source | x, y, task``, ``[model] hidden, activation, epochs`` and
        ``[analysis] inputs, n_draws, replicates, target_standard_error``; what is absent keeps its default.
    out : path, optional
        Directory for the results; it is new, empty, or holds an earlier study, which is replaced when all is done.
        None writes nothing.
    seed : int, optional
        Overrides the configuration's seed.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataTree
        Children ``data``, ``network``, ``exact``, ``estimates``, ``variance``, ``bounds``, ``sweep``, ``layers``; equal
        settings give `identical` trees.

    Raises
    ------
    ValueError, TypeError
        If the configuration, the data or `out` will not do; before any work.
    MissingExtra
        If a library of the extra ``study`` is absent.

    Notes
    -----
    Results are written to a hidden directory beside `out` and renamed at the end, so that an interrupted study leaves
    neither a half-written file nor a damaged earlier one.

    Examples
    --------
    >>> from fisherstats import study
    >>> small = {"model": {"hidden": [4], "epochs": 2}, "analysis": {"inputs": 4, "n_draws": [2], "replicates": 2}}
    >>> tree = study.run(small, out=None)
    >>> sorted(tree.children)
    ['bounds', 'data', 'estimates', 'exact', 'layers', 'network', 'sweep', 'variance']
    """
    settings = read_settings(config, seed)
    arguments.boolean("progress", progress)
    place = checks.output_path(out)
    if place is not None:
        checks.output_directory(place)
        for module in ("matplotlib", "jinja2", "netCDF4", "zarr"):
            arguments.optional_module(module, extra="study")
    n_steps = len(_STEPS) + len(settings.n_draws) * settings.replicates
    with _progress_bar(n_steps, progress) as advance:
        tree = _measure(settings, advance)
        if place is not None:
            advance("figures")
            page = report.render(tree, _figures(tree))
            advance("writing")
            _write(tree, page, place)
    return tree


@contextlib.contextmanager
def _progress_bar(total: int, shown: bool) -> Iterator[Advance]:
    """Yield a function that names the step which begins; the step before it counts as done."""
    if not shown:
        yield lambda step: None
        return
    tqdm = arguments.optional_module("tqdm", extra="study").tqdm
    with tqdm(total=total, file=sys.stderr, leave=False, dynamic_ncols=True) as bar:
        current = ""

        def advance(step: str) -> None:
            nonlocal current
            if current:
                bar.update(1)
            if step != current:
                bar.set_description(step)
            current = step

        yield advance
        bar.update(1)


def _measure(settings: Settings, advance: Advance) -> xr.DataTree:
    """Compute everything the report shows."""
    advance("training the network")
    experiment = prepare(settings)
    model, x = experiment.model, experiment.x
    advance("exact information")
    information = cast(xr.DataArray, fisher_information(model, x))
    advance("variances")
    variance = estimator_variance(model, x)
    layer_variance = estimator_variance(model, x, group_by="layer")
    advance("bounds")
    bounds = variance_bounds(model, x)
    advance("weight norms")
    sweep = norm_sweep(model, x, scales=_SCALES)
    repeated = _replicate(settings, experiment, information.values, advance)
    return _labelled(settings, experiment, _Results(information, variance, layer_variance, bounds, sweep, *repeated))


@dataclasses.dataclass(frozen=True)
class _Results:
    """What the library's calls gave for one experiment; the last three are (estimator, n_draws, param or layer)."""

    information: xr.DataArray
    variance: xr.Dataset
    layer_variance: xr.Dataset
    bounds: xr.Dataset
    sweep: xr.Dataset
    first: NDArray[np.float64]
    observed: NDArray[np.float64]
    layer_observed: NDArray[np.float64]


def _replicate(
    settings: Settings, experiment: Experiment, exact: NDArray[np.floating], advance: Advance
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Repeat both estimators at each number of draws; deviations are from the exact information, which is known."""
    layer = np.repeat(np.arange(experiment.model.n_layers), [matrix.size for matrix in experiment.model.weights])
    size = np.bincount(layer)
    shape = (len(ESTIMATORS), len(settings.n_draws))
    first, squares = np.zeros((*shape, layer.size)), np.zeros((*shape, layer.size))
    layer_squares = np.zeros((*shape, size.size))
    for position, n_draws in enumerate(settings.n_draws):
        for replicate in range(settings.replicates):
            advance(f"replicates, N = {n_draws}")
            stream = np.random.SeedSequence(settings.seed, spawn_key=(2, position, replicate))
            estimate = estimate_fisher(
                experiment.model,
                experiment.x,
                estimator=ESTIMATORS,
                n_draws=n_draws,
                rng=stream,
                standard_error=False,
            )
            values = cast(xr.DataArray, estimate).values
            deviation = values - exact
            squares[:, position] += deviation**2
            sums = np.stack([np.bincount(layer, weights=one) for one in deviation])
            layer_squares[:, position] += (sums / size) ** 2
            if replicate == 0:
                first[:, position] = values
    return first, np.sqrt(squares / settings.replicates), np.sqrt(layer_squares / settings.replicates)


def _labelled(settings: Settings, experiment: Experiment, results: _Results) -> xr.DataTree:
    """Put every result into one tree, a child per question."""
    model, n_draws = experiment.model, settings.n_draws
    provenance = _provenance(settings, experiment)
    params = labels.param_coordinates(model.widths)
    pairs = labels.coordinates(estimator=list(ESTIMATORS))
    counts = labels.coordinates(n_draws=np.array(n_draws))
    variance = results.variance["variance"].transpose("estimator", "param").values
    inputs = labels.coordinates(input=len(experiment.x), feature=experiment.x.shape[1])
    output = ["output"] if experiment.y.ndim == 2 else []
    data: list[labels.Entry] = [
        ("study_inputs", ["input", "feature"], experiment.x),
        ("study_labels", ["input", *output], experiment.y),
    ]
    if output:
        inputs |= labels.coordinates(output=experiment.y.shape[1])
    three = ["estimator", "n_draws", "param"]
    estimates: list[labels.Entry] = [
        ("replicate_estimate", three, results.first),
        ("standard_error", three, np.sqrt(variance[:, None, :] / np.array(n_draws, float)[:, None])),
        ("observed_standard_error", three, results.observed),
    ]
    errors: list[labels.Entry] = [
        ("relative_error", ["estimator", "param"], summary.relative_error(variance, results.information.values)),
    ]
    layers = summary.layers(
        information=results.information,
        variance=results.variance,
        layer_variance=results.layer_variance,
        bounds=results.bounds,
        observed=results.layer_observed,
        n_draws=n_draws,
        replicates=settings.replicates,
        target=settings.target_standard_error,
        provenance=provenance,
    )
    parameters = np.concatenate([matrix.ravel() for matrix in model.weights])
    return labels.tree(
        {
            "data": labels.dataset(data, inputs, provenance),
            "network": labels.dataset([("parameters", ["param"], parameters)], params, provenance),
            "exact": results.information.to_dataset(),
            "variance": results.variance.assign(labels.dataset(errors, pairs | params, provenance)),
            "estimates": labels.dataset(estimates, pairs | counts | params, provenance),
            "bounds": results.bounds,
            "sweep": results.sweep,
            "layers": layers,
        },
        provenance,
    )


def _provenance(settings: Settings, experiment: Experiment) -> dict[str, Any]:
    """Return what decides the numbers: no times, durations or names of machines."""
    model = experiment.model
    versions = {name: metadata.version(name) for name in ("numpy", "scipy", "xarray", "scikit-learn")}
    return {
        "package": f"fisherstats {__version__}",
        "function": "study.run",
        "settings": dataclasses.replace(settings, inputs=len(experiment.x)).as_tables(),
        "data": experiment.name,
        "data_sha256": experiment.data_hash,
        "n_train": experiment.n_train,
        "n_held_out": experiment.n_held_out,
        "n_inputs": len(experiment.x),
        "train_score": experiment.train_score,
        "held_out_score": experiment.held_out_score,
        "model": model.fingerprint,
        "widths": list(model.widths),
        "activations": [one.name for one in model.activations],
        "family": model.family.parameters(),
        "versions": versions,
    }


def _figures(tree: xr.DataTree) -> dict[str, str]:
    """Draw the report's figures."""
    drawn = {
        "information": plotting.information_by_layer(tree["exact"].to_dataset()["information"]),
        "standard_error": plotting.standard_error_by_draws(tree["layers"].to_dataset()),
        "relative_error": plotting.relative_error_by_layer(tree["variance"].to_dataset()["relative_error"]),
        "bounds": plotting.bound_tightness(tree["bounds"].to_dataset()),
        "sweep": plotting.norm_sweep(tree["sweep"].to_dataset()),
    }
    return {name: plotting.as_svg(figure) for name, figure in drawn.items()}


def _write(tree: xr.DataTree, page: str, place: Path) -> None:
    """Write everything beside `place` and move it there when all is written; an earlier study is replaced at once.

    Ctrl-C is looked at between the files: inside a library it can be swallowed by a callback, or stop a clean-up.
    """
    place = place.absolute()
    token = secrets.token_hex(4)
    partial, earlier = (place.with_name(f".{place.name}.{word}-{token}") for word in ("partial", "earlier"))
    with _interrupts_held() as stop_if_interrupted:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.mkdir()
            (partial / "report.html").write_text(page, encoding="utf-8")
            stop_if_interrupted()
            tree.to_netcdf(partial / "study.nc")
            stop_if_interrupted()
            # Format 2: text of fixed width, which the labels are, has no specification in format 3 yet.
            tree.to_zarr(partial / "study.zarr", zarr_format=2)
            stop_if_interrupted()
            _replace(place, partial, earlier)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(earlier, ignore_errors=True)


def _replace(place: Path, new: Path, earlier: Path) -> None:
    """Put `new` at `place`; what stood there goes to `earlier`, and comes back if that fails."""
    if place.exists():
        place.rename(earlier)
    try:
        new.rename(place)
    except OSError:
        if earlier.exists():
            earlier.rename(place)
        raise


@contextlib.contextmanager
def _interrupts_held() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C wait until it is asked for or the block ends; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    waiting: list[int] = []

    def stop_if_interrupted() -> None:
        if waiting:
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield stop_if_interrupted
    finally:
        signal.signal(signal.SIGINT, previous if previous is not None else signal.SIG_DFL)
