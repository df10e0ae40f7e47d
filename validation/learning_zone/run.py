"""Effective learning zones on real digits: where units learn, and whether those outside learn less.

``python -m validation.learning_zone`` from the top of the repository writes ``table.md`` and the figures into its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

import fisherstats as fs
from fisherstats import training
from validation.mnist_sigmoid import data

__all__ = ["ACTIVATIONS", "main", "moved", "start", "zone_shares"]

FOLDER = Path(__file__).parent
ACTIVATIONS = ("tanh", "sigmoid", "relu")
WIDTHS = (64, 32, 32, 10)
SCALES = (1.0, 4.0)
"""Of the weights to begin with, times those of `MLP.random`."""
SEEDS = range(5)
EPOCHS = 30
SHOWN = (0, 1, 5, 30)
DRAWN = 30


def start(activation: str, scale: float, seed: int) -> fs.MLP:
    """A network to begin with; biases differ, so that some units lie farther out than others."""
    model = fs.MLP.random(WIDTHS, activation=activation, family=fs.families.Categorical(10), rng=seed)
    rng = np.random.default_rng([61, seed])
    kernels = [w[:, :-1] * scale for w in model.weights]
    biases = [rng.normal(size=len(w)) * scale for w in model.weights]
    return fs.MLP.from_arrays(kernels, biases, activation=activation, family=model.family)


def trained(model: fs.MLP, x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> fs.MLP:
    """The network after some epochs of plain descent; the same batches for the same seed."""
    settings = {"batch_size": 32, "rng": seed, "num_threads": 1}
    return training.fit(model, x, y, optimizer=training.SGD(0.05), epochs=epochs, **settings).model if epochs else model


def zone_shares(model: fs.MLP, x: np.ndarray) -> np.ndarray:
    """Mean coefficient of each hidden layer over the largest one."""
    zone = fs.learning_zone(model, x)
    share = (zone.coefficient.mean("input") / zone.largest).groupby("unit_layer").mean()
    return share.values[:-1]


def moved(before: fs.MLP, after: fs.MLP, x: np.ndarray) -> list[float]:
    """Rank correlation between a unit's mean coefficient before and the way its weights went, for each hidden layer."""
    zone = fs.learning_zone(before, x)
    mean, layers = zone.coefficient.mean("input").values, zone.unit_layer.values
    found = []
    for layer, (old, new) in enumerate(zip(before.weights[:-1], after.weights[:-1], strict=True)):
        way = np.linalg.norm(new - old, axis=1)
        found.append(float(stats.spearmanr(mean[layers == layer], way).statistic))
    return found


def tables(seeds: Sequence[int] = SEEDS) -> tuple[list[str], list[str]]:
    """Shares along the training, and rank correlations after it."""
    shares = [
        "| activation | scale | " + " | ".join(f"epoch {one}" for one in SHOWN) + " | accuracy after 30 epochs, % |",
        "|---|---:|" + "---:|" * (len(SHOWN) + 1),
    ]
    ways = ["| activation | scale | layer 0 | layer 1 |", "|---|---:|---:|---:|"]
    for activation in ACTIVATIONS:
        for scale in SCALES:
            share, way, right = [], [], []
            for seed in seeds:
                images = data.load("digits", seed)
                first = start(activation, scale, seed)
                models = [trained(first, images.x, images.y, epochs, seed) for epochs in SHOWN]
                share.append([zone_shares(model, images.x_held_out) for model in models])
                way.append(moved(first, models[-1], images.x))
                h = models[-1].natural_parameters(images.x_held_out)
                right.append(np.mean(h.argmax(axis=1) == images.y_held_out))
            cells = [", ".join(f"{100 * one:.0f} %" for one in row) for row in np.mean(share, axis=0)]
            shares.append(f"| {activation} | {scale:g} | " + " | ".join(cells) + f" | {100 * np.mean(right):.1f} |")
            cells = [f"{a:+.2f} ± {s:.2f}" for a, s in zip(np.mean(way, axis=0), np.std(way, axis=0, ddof=1), strict=True)]
            ways.append(f"| {activation} | {scale:g} | " + " | ".join(cells) + " |")
    return shares, ways


def main(folder: Path = FOLDER) -> None:
    """Write the tables and the figures."""
    shares, ways = tables()
    parts = [
        "## Mean coefficient over the largest one, hidden layers 0 and 1, held-out images",
        *["", *shares, ""],
        "## Rank correlation of a unit's mean coefficient before with how far its weights went in 30 epochs",
        *["", *ways, ""],
    ]
    (folder / "table.md").write_text("\n".join(parts), encoding="utf-8")
    images = data.load("digits", 0)
    for scale in SCALES:
        zone = fs.learning_zone(start("tanh", scale, 0), images.x_held_out[:DRAWN])
        figure = fs.plotting.learning_zone(zone)
        (folder / f"tanh_scale_{scale:g}.svg").write_text(fs.plotting.as_svg(figure), encoding="utf-8")
    print(f"wrote {folder / 'table.md'}")
