"""Active learning on real digits: expected gradient length beside entropy and chance, and what scoring a pool costs.

``python -m validation.active_learning`` from the top of the repository writes ``table.md`` and a figure into its folder.
"""

from __future__ import annotations

import functools
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

import fisherstats as fs
from fisherstats import applications, training
from validation.mnist_sigmoid import data

__all__ = ["STRATEGIES", "cost", "learn", "main", "study"]

FOLDER = Path(__file__).parent
SEEDS = range(10)
STRATEGIES = ("squared_norm", "norm", "entropy", "random")
WIDTHS = (64, 32, 10)
START, BATCH, ROUNDS = 20, 20, 19
STEPS = 600


def trained(x: np.ndarray, y: np.ndarray, seed: int) -> fs.MLP:
    """A network trained anew on what is labelled, from the same weights for the same seed, with the same number of steps."""
    start = fs.MLP.random(WIDTHS, activation="tanh", family=fs.families.Categorical(10), rng=seed)
    epochs = max(1, STEPS * 20 // len(y))
    settings = {"epochs": epochs, "batch_size": 20, "rng": seed, "num_threads": 1}
    return training.fit(start, x, y, optimizer=training.Adam(0.003), penalty=training.Frobenius(1e-3), **settings).model


def learn(strategy: str, seed: int, rounds: int = ROUNDS) -> np.ndarray:
    """Accuracy on test images after each round of a batch of new labels, the first round with labels chosen by chance."""
    images = data.load("digits", seed)
    rng = np.random.default_rng([53, seed])
    labelled = rng.permutation(len(images.y))[:START]
    pool = np.setdiff1d(np.arange(len(images.y)), labelled)
    found = []
    for number in range(rounds + 1):
        model = trained(images.x[labelled], images.y[labelled], seed)
        h = model.natural_parameters(images.x_held_out)
        found.append(np.mean(h.argmax(axis=1) == images.y_held_out))
        if number == rounds:
            return np.array(found)
        chance = {"rng": np.random.SeedSequence([seed, number])} if strategy == "random" else {}
        chosen = applications.select_batch(model, images.x[pool], BATCH, score=strategy, num_threads=1, **chance).position.values
        labelled, pool = np.append(labelled, pool[chosen]), np.delete(pool, chosen)
    raise AssertionError


def study(seeds: Sequence[int] = SEEDS, rounds: int = ROUNDS) -> xr.Dataset:
    """Learning curves of all strategies."""
    found = [[learn(strategy, seed, rounds) for seed in seeds] for strategy in STRATEGIES]
    coords = {"strategy": list(STRATEGIES), "replicate": list(seeds), "labels": START + BATCH * np.arange(rounds + 1)}
    return xr.Dataset({"accuracy": (tuple(coords), np.array(found))}, coords=coords)


def curve_table(curves: xr.Dataset, at: Sequence[int] = (20, 60, 100, 200, 300, 400)) -> list[str]:
    """Accuracy at some numbers of labels, mean and standard deviation over seeds; and the paired difference to chance."""
    lines = ["| strategy | " + " | ".join(f"{one} labels" for one in at) + " |", "|---|" + "---:|" * len(at)]
    accuracy = 100 * curves.accuracy
    for strategy in curves.strategy.values:
        one = accuracy.sel(strategy=strategy, labels=list(at))
        cells = [
            f"{a:.1f} ± {s:.1f}" for a, s in zip(one.mean("replicate").values, one.std("replicate", ddof=1).values, strict=True)
        ]
        lines.append(f"| {strategy} | " + " | ".join(cells) + " |")
    for strategy in curves.strategy.values[:-1]:
        one = (accuracy.sel(strategy=strategy) - accuracy.sel(strategy="random")).sel(labels=list(at))
        error = one.std("replicate", ddof=1) / np.sqrt(one.sizes["replicate"])
        cells = [f"{a:+.1f} ({s:.1f})" for a, s in zip(one.mean("replicate").values, error.values, strict=True)]
        lines.append(f"| {strategy} less random (standard error) | " + " | ".join(cells) + " |")
    return lines


def needed(curves: xr.Dataset, targets: Sequence[float] = (0.85, 0.9, 0.95)) -> list[str]:
    """Labels at which the mean curve first reaches an accuracy."""
    lines = ["| strategy | " + " | ".join(f"{100 * one:g} %" for one in targets) + " |", "|---|" + "---:|" * len(targets)]
    mean = curves.accuracy.mean("replicate")
    for strategy in curves.strategy.values:
        cells = []
        for target in targets:
            reached = np.flatnonzero(mean.sel(strategy=strategy).values >= target)
            cells.append(str(int(curves.labels[reached[0]])) if reached.size else "not reached")
        lines.append(f"| {strategy} | " + " | ".join(cells) + " |")
    return lines


def cost(pools: Sequence[int] = (1000, 4000, 16_000, 64_000), widths: Sequence[int] = (784, 80, 80, 80, 10)) -> xr.Dataset:
    """Seconds of one core and bytes of both scores of a pool; bytes beside the pool and the result."""
    model = fs.MLP.random(widths, activation="relu", family=fs.families.Categorical(widths[-1]), rng=0)
    seconds, peaks = np.empty(len(pools)), np.empty(len(pools))
    for k, size in enumerate(pools):
        x = np.random.default_rng(0).random((size, widths[0]))
        score = functools.partial(applications.expected_gradient_length, model, x, score=("squared_norm", "norm"), num_threads=1)
        times = []
        for _ in range(3):
            start = time.process_time()
            score()
            times.append(time.process_time() - start)
        seconds[k] = min(times)
        tracemalloc.start()
        score()
        peaks[k] = tracemalloc.get_traced_memory()[1] - 4 * 8 * size
        tracemalloc.stop()
    variables = {
        "seconds": ("pool", seconds),
        "extra_bytes": ("pool", peaks),
        "full_bytes": ("pool", 8 * np.array(pools) * model.n_params),
    }
    return xr.Dataset(variables, coords={"pool": list(pools)})


def cost_table(found: xr.Dataset) -> list[str]:
    """Cost by size of the pool."""
    lines = [
        "| pool | core time | per input | memory beside pool and result | a matrix pool x P would take |",
        "|---:|---:|---:|---:|---:|",
    ]
    for size in found.pool.values:
        one = found.sel(pool=size)
        cells = [
            f"{size:,}",
            f"{float(one.seconds):.3g} s",
            f"{1e6 * float(one.seconds) / size:.1f} µs",
            f"{float(one.extra_bytes) / 1e6:.1f} MB",
            f"{float(one.full_bytes) / 1e9:.3g} GB",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(folder: Path = FOLDER) -> None:
    """Write the tables and the figure."""
    curves = study()
    parts = [
        f"## Accuracy on test images, per cent, {curves.sizes['replicate']} seeds, mean ± standard deviation",
        *["", *curve_table(curves), ""],
        "## Labels at which the mean accuracy reaches",
        *["", *needed(curves), ""],
        "## Both scores of a pool, 784-80-80-80-10, one thread",
        *["", *cost_table(cost()), ""],
    ]
    (folder / "table.md").write_text("\n".join(parts), encoding="utf-8")
    (folder / "curves.svg").write_text(fs.plotting.as_svg(fs.plotting.learning_curves(curves)), encoding="utf-8")
    print(f"wrote {folder / 'table.md'}")
