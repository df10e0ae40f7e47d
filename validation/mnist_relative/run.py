"""The experiment of 2017 on real images: relative natural gradient beside SGD and Adam, with and without batch normalisation.

``python -m validation.mnist_relative`` from the top of the repository writes ``table.md`` and ``figures/`` beside this file; with
``--data mnist-70k`` the same into ``build/mnist_relative/``. All numbers go there as netCDF.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import fisherstats as fs
from fisherstats import training
from fisherstats.core.errors import TrainingDiverged
from validation.mnist_relative import claims, figures
from validation.mnist_sigmoid import data

__all__ = ["GRID", "NETWORKS", "SETTINGS", "Setting", "choose", "main", "seconds_per_step", "trained"]

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "mnist_relative"

NETWORKS = {"plain": None, "normalised": training.BatchNormalization()}

GRID: dict[str, list[training.Optimizer]] = {
    "SGD": [
        *[training.SGD(rate) for rate in (0.03, 0.1, 0.3, 1.0)],
        *[training.SGD(rate, momentum=0.9) for rate in (0.003, 0.01, 0.03, 0.1)],
    ],
    "Adam": [training.Adam(rate, betas=(0.9, slow)) for slow in (0.999, 0.99) for rate in (3e-4, 1e-3, 3e-3, 1e-2)],
    "RNGD": [
        *[training.RelativeNaturalGradient(rate, damping=0.1) for rate in (0.01, 0.03, 0.1, 0.3)],
        *[training.RelativeNaturalGradient(rate, damping=0.01) for rate in (0.001, 0.003, 0.01, 0.03)],
    ],
}
"""Eight settings each: four rates, times two of what else there is to choose. Inverses are computed every 100 steps."""

Chosen = dict[tuple[str, str], training.Optimizer]
PARTS = ("train", "time")


class Setting(NamedTuple):
    """What is trained, and for how long."""

    hidden: tuple[int, ...] = (80, 80, 80)
    epochs: int = 20
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    batch_size: int = 50
    decay: float = 1e-4
    choosing_epochs: int = 5
    choosing_images: int | None = None
    """Images that the settings are chosen with, a fifth of them for validation; None for all that are trained on."""
    timed_steps: int = 100
    timed_fits: int = 9


SETTINGS = {
    "mnist-70k": Setting(epochs=10, seeds=(0, 1), choosing_epochs=2, choosing_images=10_000),
}
"""Where it is not the default."""

MEASURES = ("loss", "accuracy", "validation_loss", "validation_accuracy")


def fitted(
    images: data.Images, setting: Setting, seed: int, network: str, optimizer: training.Optimizer, epochs: int
) -> xr.Dataset:
    """The history of one training, nan after an epoch in which it diverges."""
    widths = [images.x.shape[1], *setting.hidden, 10]
    start = fs.MLP.random(widths, activation="relu", family=fs.families.Categorical(10), rng=seed)
    try:
        history = training.fit(
            start,
            images.x,
            images.y,
            optimizer=optimizer,
            penalty=training.Frobenius(setting.decay),
            normalization=NETWORKS[network],
            epochs=epochs,
            batch_size=setting.batch_size,
            rng=seed,
            validation=(images.x_held_out, images.y_held_out),
            num_threads=1,
        ).history
    except TrainingDiverged as error:
        history = error.fitted.history  # type: ignore[attr-defined]
    whole = np.arange(1, epochs + 1)
    return xr.Dataset(
        {
            name: history[name].reindex(epoch=whole) if name in history else ("epoch", np.full(epochs, np.nan))
            for name in MEASURES
        },
        coords={"epoch": whole},
    )


def choose(images: data.Images, setting: Setting, networks: Iterable[str] = NETWORKS) -> xr.DataArray:
    """The mean validation accuracy over the first epochs for every setting of the grid, 0 where one diverges.

    A fifth of the images that are trained on validate; what is held out for the results takes no part.
    """
    n = setting.choosing_images or len(images.x)
    kept = n - n // 5
    part = data.Images(images.name, images.x[:kept], images.y[:kept], images.x[kept:n], images.y[kept:n])
    found: list[list[list[float]]] = []
    for network in networks:
        found.append([])
        for name, optimizers in GRID.items():
            histories = [fitted(part, setting, 1000, network, one, setting.choosing_epochs) for one in optimizers]
            found[-1].append([float(history.validation_accuracy.fillna(0.0).mean()) for history in histories])
            print(network, name, [f"{score:.4f}" for score in found[-1][-1]], flush=True)
    coords = {"network": list(networks), "optimizer": list(GRID)}
    return xr.DataArray(found, dims=["network", "optimizer", "setting"], coords=coords)


def chosen_by(score: xr.DataArray) -> Chosen:
    """The best setting of each optimiser for each network."""
    pairs = [(network, name) for network in score.network.values.tolist() for name in GRID]
    return {pair: GRID[pair[1]][int(np.argmax(score.sel(network=pair[0], optimizer=pair[1]).values))] for pair in pairs}


def trained(images: data.Images, setting: Setting, chosen: Chosen) -> xr.Dataset:
    """Every chosen training with every seed: (network, optimizer, seed, epoch)."""
    networks = list(dict.fromkeys(network for network, _ in chosen))
    rows = []
    for network in networks:
        for name in GRID:
            runs = [fitted(images, setting, seed, network, chosen[network, name], setting.epochs) for seed in setting.seeds]
            rows.append(xr.concat(runs, dim=xr.Variable("seed", list(setting.seeds)), combine_attrs="override"))
            last = rows[-1].isel(epoch=-1).mean("seed")
            print(
                network, name, f"loss {float(last.loss):.4f}, held-out accuracy {float(last.validation_accuracy):.4f}", flush=True
            )
    columns = [
        xr.concat(rows[start : start + len(GRID)], dim=xr.Variable("optimizer", list(GRID)), combine_attrs="override")
        for start in range(0, len(rows), len(GRID))
    ]
    return xr.concat(columns, dim=xr.Variable("network", networks), combine_attrs="override")


class Stamped(training.Optimizer):
    """An optimiser that notes the processor time at which each step is asked for."""

    def __init__(self, optimizer: training.Optimizer) -> None:
        self.optimizer = optimizer
        self.stamps: list[float] = []

    def start(self, model: fs.MLP) -> training.Steps:
        return _StampedSteps(self, self.optimizer.start(model))


class _StampedSteps(training.Steps):
    def __init__(self, settings: Stamped, steps: training.Steps) -> None:
        self.settings = settings
        self.steps = steps

    def step(self, gradient: np.ndarray, batch: training.Batch) -> np.ndarray:
        self.settings.stamps.append(time.process_time())
        return self.steps.step(gradient, batch)


def seconds_per_step(images: data.Images, setting: Setting, chosen: Chosen) -> xr.DataArray:
    """Processor time of a step on one thread, a mean over the steps that the inverses of RNGD serve.

    Several fits do the same work step by step, so the least of each step is taken: what else the machine does is left out.
    """
    rows = np.resize(np.arange(len(images.x)), (setting.timed_steps + 1) * setting.batch_size)
    x, y = images.x[rows], images.y[rows]
    values: dict[str, list[float]] = {}
    for (network, _), optimizer in chosen.items():
        widths = [x.shape[1], *setting.hidden, 10]
        start = fs.MLP.random(widths, activation="relu", family=fs.families.Categorical(10), rng=0)
        settings: dict[str, Any] = {"normalization": NETWORKS[network], "penalty": training.Frobenius(setting.decay)}
        settings |= {"epochs": 1, "batch_size": setting.batch_size, "rng": 0, "num_threads": 1}
        times = []
        for _ in range(setting.timed_fits):
            stamped = Stamped(optimizer)
            training.fit(start, x, y, optimizer=stamped, **settings)
            times.append(np.diff(stamped.stamps))
        values.setdefault(network, []).append(float(np.min(times, axis=0).mean()))
    coords = {"network": list(values), "optimizer": list(GRID)}
    return xr.DataArray(list(values.values()), dims=["network", "optimizer"], coords=coords, name="seconds_per_step")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m validation.mnist_relative", description=__doc__)
    parser.add_argument("--data", choices=data.SOURCES, default="mnist-5k", help="which images (default: %(default)s)")
    parser.add_argument("--fashion", type=Path, default=data.FASHION, help="folder of the Fashion-MNIST files")
    parser.add_argument("--seeds", type=int, help="number of seeds, instead of 5 (2 of the full set)")
    parser.add_argument("--epochs", type=int, help="number of epochs, instead of 20 (10 of the full set)")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="what to do before the tables (default: both)")
    parser.add_argument("--out", type=Path, help="where to write")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose the settings, train with them, and write the tables and figures."""
    asked = parsed(arguments)
    setting = SETTINGS.get(asked.data, Setting())
    if asked.seeds is not None:
        setting = setting._replace(seeds=tuple(range(asked.seeds)))
    if asked.epochs is not None:
        setting = setting._replace(epochs=asked.epochs)
    out = asked.out or (HERE if asked.data == "mnist-5k" else BUILD / asked.data)
    numbers = BUILD / asked.data
    for folder in (out / "figures", numbers):
        folder.mkdir(parents=True, exist_ok=True)
    images = data.load(asked.data, seed=0, fashion=asked.fashion)
    if "train" in asked.parts:
        score = choose(images, setting)
        trained(images, setting, chosen_by(score)).assign(score=score).to_netcdf(numbers / "runs.nc")
    runs = xr.load_dataset(numbers / "runs.nc")
    setting = setting._replace(epochs=runs.sizes["epoch"], seeds=tuple(runs.seed.values.tolist()))
    if "time" in asked.parts:
        seconds_per_step(images, setting, chosen_by(runs.score)).to_netcdf(numbers / "seconds.nc")
    seconds = xr.load_dataarray(numbers / "seconds.nc")
    runs["seconds_per_epoch"] = seconds * -(-len(images.x) // setting.batch_size)
    lines = claims.header(images, setting)
    for network in runs.network.values:
        one = runs.sel(network=network)
        found = claims.of(one)
        lines += claims.markdown(str(network), one, GRID, found)
        (out / "figures" / f"{network}.svg").write_text(figures.curves(one), encoding="utf-8")
        print(
            *[f"{network}: {'holds' if c.holds else 'DOES NOT HOLD'}: {c.says} ({c.number})" for c in found], sep="\n", flush=True
        )
    (out / "table.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"tables and figures in {out}, numbers in {numbers}")
