"""The main job: from data to a report on the accuracy of an estimated Fisher matrix."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fisherstats import plotting
from fisherstats._version import __version__
from fisherstats.core import atomic_directory
from fisherstats.core.docstrings import documented
from fisherstats.core.progress import Bar, progress_bar
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, clients, remedies, stores
from fisherstats.core.validation import study as checks
from fisherstats.execution import tasks
from fisherstats.quantities import _labels
from fisherstats.study import layer_table, plan, report, results_store, setup
from fisherstats.study.plan import Measured, Step
from fisherstats.study.results_store import Child, Memory, Slot, Store
from fisherstats.study.setup import Data, Experiment, Settings, read_settings

__all__ = ["finished", "run"]

#: recorded before anything is computed; a store can only be resumed with the same
_DECIDED = ("package", "settings", "data", "data_sha256", "versions")


@documented
@remedies.advising
def run(
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    out: str | os.PathLike[str] | None = "fisherstats-study",
    seed: int | None = None,
    progress: bool = False,
    store: str | os.PathLike[str] | None = None,
    client: Any = None,
) -> xr.DataTree:
    r"""Train a network on real data and report how accurately its diagonal Fisher information can be estimated.

    With no `config`: the handwritten digits of scikit-learn, an `MLPClassifier` fitted by scikit-learn and converted by
    `from_sklearn`. Computes the exact information, both estimators at several numbers of draws, their closed-form and
    observed standard errors over replicates, the bounds of Theorem 4.1, and all of it along a scale of the weight norms;
    writes ``study.nc``, ``study.zarr`` and ``report.html`` to `out`.

    Parameters
    ----------
    config : path of a TOML file or mapping, optional
        Keys ``seed``, ``[data] source | x, y, header, task``, ``[model] hidden, activation, epochs`` and
        ``[analysis] inputs, n_draws, replicates, target_standard_error``; missing keys use defaults. ``source`` is
        ``"digits"`` or an .npz file with arrays x and y, ``x`` and ``y`` are .npy or .csv files. A .csv file is text in UTF-8
        with commas, decimal points and a number in every cell; ambiguous files are rejected, and ``header = true`` or ``false``
        declares whether the first line holds names where that cannot be inferred. No column of y may be one of x.
    out : path, optional
        Directory for the results; it must be new, empty, or contain only an earlier study, and is replaced when the study is
        complete. None writes nothing.
    seed : int, optional
        Overrides the configuration's seed.
    progress : bool
        Show a progress bar over the tasks.
    store : path, optional
        Folder in which the results of every task are stored as soon as they are computed (zarr). Results in it from an earlier
        run of the same study, however that ended, are not recomputed. The final results are the same, bit for bit. The folder is
        kept when the study is complete.
    client : distributed.Client or executor, optional
        Where the tasks are computed, each with one thread; by default in this process. Never changes a bit of the results.

    Returns
    -------
    DataTree
        Children ``data``, ``network``, ``exact``, ``estimates``, ``variance``, ``bounds``, ``sweep``, ``layers``; equal
        settings give `identical` trees.

    Raises
    ------
    ValueError, TypeError
        If the configuration or the data are not valid, `out` contains other files, `client` is not a client or executor, or
        `store` belongs to another study (the message names the differences), is damaged, in use, or not a store; raised before
        any computation.
    OSError
        If results cannot be written. The contents of `store` remain valid; if writing to `out` fails, for whatever reason,
        everything has been computed, and the exception has the results as its attribute ``tree``.
    WorkerLost
        If the workers of `client` die. The message of an error begins with the task in which it was raised.
    MissingExtra
        If a library of the extra ``study`` is not installed.

    Notes
    -----
    Results are written to a hidden directory next to `out` and renamed at the end, so that an interrupted study leaves neither a
    partially written file nor a damaged earlier one. The file ``.fisherstats`` in `out` lists the files of the study, with
    digests. Only listed and unchanged files are ever replaced; any other file in `out` raises an error, before the study and
    again before its results are moved there. Identical studies give identical bytes of every file.

    In `store` a task is marked as complete after its results are written, so a run that is killed at any moment can be resumed.
    Replicates are grouped into a few seconds of work; the groups depend on the configuration only.

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
    clients.client(client)
    place = checks.output_path(out)
    kept = stores.store_path(store, place)
    if place is not None:
        checks.output_directory(place)
        if place.exists() and (found := atomic_directory.others(place)):
            stores.not_ours(place, found)
        plotting.style.library()
        for module in ("jinja2", "netCDF4", "zarr"):
            arguments.optional_module(module, extra="study")
    data = setup.load(settings)
    with contextlib.nullcontext() if kept is None else results_store.exclusive(kept), progress_bar(1, progress, "piece") as bar:
        study = _begun(settings, data, kept, bar)
        if place is not None and study.results.done.all():
            earlier = _finished(place, _decided(settings, data))
            if earlier is not None:
                return earlier
        bar.expect(len(study.steps) + (1 if place is None else 3), done=1 + study.n_done)
        tree = _measured(study, client, bar)
        if place is not None:
            try:
                _write(tree, place, bar)
            except Exception as error:  # whatever the error, the results must not be lost
                stores.results_not_written(place, error, kept, tree)
    return tree


def finished(
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    out: str | os.PathLike[str] = "fisherstats-study",
    seed: int | None = None,
) -> bool:
    """Return whether a directory holds the complete results of this study, computed with the installed library versions.

    Parameters
    ----------
    config : path of a TOML file or mapping, optional
        As for `run`.
    out : path
        The directory.
    seed : int, optional
        As for `run`.

    Returns
    -------
    bool
        Whether all files exist, and settings, data and versions are the same.

    Raises
    ------
    ValueError, TypeError
        If the configuration or the data are not valid.

    Examples
    --------
    >>> from fisherstats import study
    >>> study.finished(out="no such directory")
    False
    """
    settings = read_settings(config, seed)
    place = checks.output_path(out)
    return place is not None and _finished(place, _decided(settings, setup.load(settings))) is not None


@dataclasses.dataclass(frozen=True)
class _Study:
    """A running study: its subject, its tasks, and the storage of their results."""

    settings: Settings
    experiment: Experiment
    provenance: dict[str, Any]
    steps: list[Step]
    results: results_store.Results

    @property
    def n_done(self) -> int:
        """Number of completed tasks."""
        return int(self.results.done[: len(self.steps)].sum())


#: children of the tree that are derived from the results of all tasks, and follow them in a store
_TABLES = ("estimates", "layers")


def _begun(settings: Settings, data: Data, kept: Path | None, bar: Bar) -> _Study:
    """Return the study with its network, trained or loaded from the store."""
    decided = _decided(settings, data)
    record = None if kept is None else Store.record(kept)
    if kept is None or record is None:
        bar.begin("training the network")
        subject = setup.prepare(settings, data)
    else:
        stores.same_study(kept, {key: record.get(key) for key in _DECIDED}, decided)
        subject = _restored(data, kept, record)
    provenance = _provenance(decided, subject)
    steps = plan.plan(settings, subject.model, data.n_inputs)
    slots = [step.slot for step in steps] + [Slot(Child(name)) for name in _TABLES]
    results: results_store.Results
    if kept is None:
        results = Memory(slots)
    elif record is None:
        results = Store.create(kept, provenance, _given(subject, provenance), slots)
    else:
        results = Store.open(kept, slots, _given(subject, provenance), provenance)
    return _Study(settings, subject, provenance, steps, results)


def _restored(data: Data, kept: Path, record: Mapping[str, Any]) -> Experiment:
    """Return the experiment with the network of the store, after validating it."""
    parameters = results_store.read(kept, "network")
    try:
        subject = setup.restore(data, parameters["parameters"].values, record)
    except (KeyError, ValueError, TypeError) as error:
        stores.damaged(kept, "network", f"{type(error).__name__}: {error}")
    stores.same_study(kept, {"model": record["model"]}, {"model": subject.model.fingerprint})
    return subject


def _measured(study: _Study, client: Any, bar: Bar) -> xr.DataTree:
    """Compute the incomplete tasks, and return all contents of the report."""
    subject, results = study.experiment, study.results
    measured = Measured(subject.model, subject.x, study.settings.seed, study.provenance)
    # The first is small and required by the others, so it is computed here; data common to all others are sent once.
    for wave, where in ((range(1), None), (range(1, len(study.steps)), client)):
        todo = [piece for piece in wave if not results.done[piece]]
        pieces = [tasks.Piece(study.steps[piece].name, study.steps[piece]) for piece in todo]
        stream = tasks.completed(plan.measure, measured, pieces, client=where, bar=bar)
        with contextlib.closing(stream):
            for position, dataset in stream:
                results.write(todo[position], dataset)
        exact = results.read(study.steps[0].slot.child)["information"]
        measured = dataclasses.replace(measured, exact=exact.values)
    children = {step.slot.child.name: step.slot.child for step in study.steps}
    found = {name: results.read(child) for name, child in children.items()}
    tables = _tables(study, found)
    for piece, name in enumerate(_TABLES, start=len(study.steps)):
        if not results.done[piece]:
            results.write(piece, tables[name])
    results.finish()
    shown = {name: found[name] for name in ("exact", "variance", "bounds", "sweep")}
    every = {**_given(subject, study.provenance), **shown, **tables}
    return _labels.tree({name: _in_order(child) for name, child in every.items()}, study.provenance)


def _in_order(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset with its variables and attributes sorted by name: a store returns them in any order."""

    def ordered(variables: Mapping[Any, Any]) -> dict[str, Any]:
        return {
            name: (variables[name].dims, variables[name].values, dict(sorted(variables[name].attrs.items())))
            for name in sorted(map(str, variables))
        }

    return xr.Dataset(ordered(dataset.data_vars), ordered(dataset.coords), dict(sorted(dataset.attrs.items())))


def _given(subject: Experiment, provenance: Mapping[str, Any]) -> dict[str, xr.Dataset]:
    """Return the subject of the study: the analysed inputs with their labels, and the network."""
    inputs = _labels.coordinates(input=len(subject.x), feature=subject.x.shape[1])
    output = ["output"] if subject.y.ndim == 2 else []
    if output:
        inputs |= _labels.coordinates(output=subject.y.shape[1])
    data: list[_labels.Entry] = [
        ("study_inputs", ["input", "feature"], subject.x),
        ("study_labels", ["input", *output], subject.y),
    ]
    parameters = np.concatenate([matrix.ravel() for matrix in subject.model.weights])
    params = _labels.param_coordinates(subject.model)
    return {
        "data": _labels.dataset(data, inputs, provenance),
        "network": _labels.dataset([("parameters", ["param"], parameters)], params, provenance),
    }


def _tables(study: _Study, found: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Return the tables derived from several results: the estimates with their errors, and the numbers of each layer."""
    settings, n_draws = study.settings, study.settings.n_draws
    first, observed, layer_observed = plan.observed_errors(found["replicates"], settings)
    variance = found["variance"]["variance"].transpose("estimator", "param").values
    coords = _labels.coordinates(estimator=list(ESTIMATORS)) | _labels.coordinates(n_draws=np.array(n_draws))
    three = ["estimator", "n_draws", "param"]
    estimates: list[_labels.Entry] = [
        ("replicate_estimate", three, first),
        ("standard_error", three, np.sqrt(variance[:, None, :] / np.array(n_draws, float)[:, None])),
        ("observed_standard_error", three, observed),
    ]
    layers = layer_table.layers(
        information=found["exact"]["information"],
        variance=found["variance"],
        layer_variance=found["layer_variance"],
        bounds=found["bounds"],
        observed=layer_observed,
        n_draws=n_draws,
        replicates=settings.replicates,
        target=settings.target_standard_error,
        provenance=study.provenance,
    )
    params = _labels.param_coordinates(study.experiment.model)
    return {"estimates": _labels.dataset(estimates, coords | params, study.provenance), "layers": layers}


def _decided(settings: Settings, data: Data) -> dict[str, Any]:
    """Return everything that determines the results before computation: no times, durations or machine names."""
    versions = {name: metadata.version(name) for name in ("numpy", "scipy", "xarray", "scikit-learn")}
    return {
        "package": f"fisherstats {__version__}",
        "settings": dataclasses.replace(settings, inputs=data.n_inputs).as_tables(),
        "data": data.name,
        "data_sha256": data.digest,
        "versions": versions,
    }


def _provenance(decided: Mapping[str, Any], subject: Experiment) -> dict[str, Any]:
    """Return the provenance of a study."""
    model, data = subject.model, subject.data
    return {
        **decided,
        "function": "study.run",
        "n_train": len(data.train),
        "n_held_out": len(data.held_out),
        "n_inputs": data.n_inputs,
        "train_score": subject.train_score,
        "held_out_score": subject.held_out_score,
        "model": model.fingerprint,
        "widths": list(model.widths),
        "activations": [one.name for one in model.activations],
        "family": model.family.parameters(),
        "feature_names": _listed(model.feature_names),
        "output_names": _listed(model.output_names),
    }


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)


def _finished(place: Path, decided: Mapping[str, Any]) -> xr.DataTree | None:
    """Return the study at `place` if it is complete and identical to this one."""
    if not place.is_dir() or not atomic_directory.intact(place):
        return None
    try:
        with xr.open_datatree(place / "study.nc", engine="netcdf4") as opened:
            tree = opened.load()
        record = json.loads(tree.attrs["provenance"])
    except (OSError, KeyError, ValueError):
        return None
    return tree if all(record.get(key) == value for key, value in decided.items()) else None


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


def _write(tree: xr.DataTree, place: Path, bar: Bar) -> None:
    """Write everything to a temporary directory next to `place` and move it there; an earlier study is replaced atomically.

    Ctrl-C is handled between the files.
    """
    with atomic_directory.interrupts_held() as stop_if_interrupted, atomic_directory.whole(place, replacing=True) as new:
        bar.begin("figures")
        page = report.render(tree, _figures(tree))
        bar.update()
        stop_if_interrupted()
        bar.begin("writing")
        new.mkdir()
        (new / "report.html").write_text(page, encoding="utf-8", newline="\n")
        stop_if_interrupted()
        tree.to_netcdf(new / "study.nc")
        stop_if_interrupted()
        # Format 2: fixed-width text, used for the labels, is not specified in format 3 yet.
        tree.to_zarr(new / "study.zarr", zarr_format=2)
        stop_if_interrupted()
        atomic_directory.sign(new)
    bar.update()


def discard(store: str | os.PathLike[str], tree: xr.DataTree) -> list[str]:
    """Remove the store of a completed study and return other files in its folder, which are kept."""
    return results_store.discard(Path(store), {*tree.children, "layer_variance", "progress", "replicates"})
