"""Adam's second moment beside the exact and the empirical diagonal of the information, along trainings on real digits.

``python -m validation.adam_second_moment`` from the top of the repository writes ``validation/adam_second_moment/table.md`` and a
figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

import fisherstats as fs
from fisherstats import training
from validation.mnist_sigmoid import data

__all__ = ["DIAGONALS", "WatchedAdam", "compared", "expected_square", "main", "mean_gradient", "watch"]

FOLDER = Path(__file__).parent
SEEDS = range(3)
WIDTHS = (64, 48, 32, 10)
EPOCHS = 40
BATCHES = (1, 16, 128)
DECAYS = (0.99, 0.999)
DIAGONALS = ("exact", "empirical", "predicted")


class WatchedAdam(training.Optimizer):
    """Adam whose second moment can be looked at between the steps."""

    def __init__(self, settings: training.Adam) -> None:
        self.settings = settings
        self.taken = 0
        self.inner: Any = None

    def __repr__(self) -> str:
        return repr(self.settings)

    def start(self, model: fs.MLP) -> training.Steps:
        self.inner, self.taken = self.settings.start(model), 0
        return _WatchedSteps(self)

    def second_moment(self) -> np.ndarray:
        """The running mean of squared gradients, corrected for its start at 0."""
        return self.inner.second_moment(self.taken)


class _WatchedSteps(training.Steps):
    def __init__(self, watched: WatchedAdam) -> None:
        self.watched = watched

    def step(self, gradient: np.ndarray, batch: training.Batch) -> np.ndarray:
        self.watched.taken = batch.number + 1
        return self.watched.inner.step(gradient, batch)


def expected_square(empirical: np.ndarray, mean: np.ndarray, n: int, batch: int) -> np.ndarray:
    """E[g_B^2] over batches of B inputs without replacement: gbar^2 + (E[g_i^2] - gbar^2) (n - B) / (B (n - 1))."""
    return mean**2 + (empirical - mean**2) * (n - batch) / (batch * (n - 1))


def mean_gradient(model: fs.MLP, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gradient of the mean log-likelihood of classes, hidden units tanh; none of the package's own derivatives."""
    ones = np.ones((len(x), 1))
    h = [x]
    for w in model.weights[:-1]:
        h.append(np.tanh(np.hstack([h[-1], ones]) @ w.T))
    z = np.hstack([h[-1], ones]) @ model.weights[-1].T
    p = np.exp(z - z.max(axis=1, keepdims=True))
    back = np.eye(z.shape[1])[y] - p / p.sum(axis=1, keepdims=True)
    found = []
    for w, below in zip(model.weights[::-1], h[::-1], strict=True):
        found.append((back.T @ np.hstack([below, ones]) / len(x)).ravel())
        back = back @ w[:, :-1] * (1 - below**2)
    return np.concatenate(found[::-1])


def compared(second: np.ndarray, diagonal: np.ndarray, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of the means and correlation of the logarithms, layer by layer, over parameters where both are above 0."""
    ratios, correlations = [], []
    for layer in np.unique(layers):
        mine = (layers == layer) & (second > 0) & (diagonal > 0)
        ratios.append(second[mine].mean() / diagonal[mine].mean())
        correlations.append(stats.pearsonr(np.log(second[mine]), np.log(diagonal[mine])).statistic)
    return np.array(ratios), np.array(correlations)


def watch(
    seed: int, batch: int, decay: float, epochs: int = EPOCHS, widths: Sequence[int] = WIDTHS, learning_rate: float = 1e-3
) -> xr.Dataset:
    """Train on the digits and compare at the end of every epoch: B v with the diagonals, v with its expectation.

    v follows the path and the diagonals are those of the network as it is; a small decay forgets the path sooner.
    """
    images = data.load("digits", seed)
    x, y, n = images.x, images.y, len(images.y)
    adam = WatchedAdam(training.Adam(learning_rate, (0.9, decay)))

    def look(epoch: int, model: fs.MLP) -> xr.Dataset:
        exact = fs.fisher_information(model, x)
        empirical = fs.empirical_fisher(model, x, y).empirical.values
        second, layers = adam.second_moment(), exact.param_layer.values
        predicted = expected_square(empirical, mean_gradient(model, x, y), n, batch)
        pairs = ((batch * second, exact.values), (batch * second, empirical), (second, predicted))
        found = [compared(*pair, layers) for pair in pairs]
        dims = ("layer", "diagonal")
        values = {
            "ratio": np.stack([one for one, _ in found], axis=1),
            "correlation": np.stack([one for _, one in found], axis=1),
        }
        coords = {"layer": np.arange(len(widths) - 1), "diagonal": list(DIAGONALS)}
        result = xr.Dataset({name: (dims, one) for name, one in values.items()}, coords=coords)
        return result.assign(empirical_over_exact=("layer", compared(empirical, exact.values, layers)[0]))

    start = fs.MLP.random(widths, activation="tanh", family=fs.families.Categorical(10), rng=seed)
    settings = {"epochs": epochs, "batch_size": batch, "rng": seed, "num_threads": 1}
    return training.fit(start, x, y, optimizer=adam, callbacks=[look], **settings).history


def study(seeds: Sequence[int] = SEEDS) -> dict[tuple[int, float], xr.Dataset]:
    """All batch sizes and decays."""
    found = {}
    for batch in BATCHES:
        for decay in DECAYS:
            runs = [watch(seed, batch, decay) for seed in seeds]
            kept = [one[["ratio", "correlation", "empirical_over_exact", "accuracy"]] for one in runs]
            found[batch, decay] = xr.concat(kept, dim=xr.Variable("replicate", list(seeds)))
    return found


def table(found: dict[tuple[int, float], xr.Dataset], name: str, epochs: Sequence[int] = (1, 5, 20, 40)) -> list[str]:
    """A quantity by layer, mean over seeds, at some epochs."""
    lines = [
        "| batch | beta_2 | diagonal | " + " | ".join(f"epoch {one}" for one in epochs) + " |",
        "|---:|---:|---|" + "---:|" * len(epochs),
    ]
    for (batch, decay), runs in found.items():
        for diagonal in DIAGONALS:
            one = runs[name].sel(diagonal=diagonal).mean("replicate")
            cells = [", ".join(f"{value:.2g}" for value in one.sel(epoch=epoch).values) for epoch in epochs]
            lines.append(f"| {batch} | {decay} | {diagonal} | " + " | ".join(cells) + " |")
    return lines


def bias_table(found: dict[tuple[int, float], xr.Dataset], epochs: Sequence[int] = (1, 5, 20, 40)) -> list[str]:
    """The empirical over the exact diagonal, and the accuracy on the training labels."""
    lines = ["| batch | beta_2 | " + " | ".join(f"epoch {one}" for one in epochs) + " |", "|---:|---:|" + "---:|" * len(epochs)]
    for (batch, decay), runs in found.items():
        one = runs.mean("replicate").sel(epoch=list(epochs))
        cells = [
            ", ".join(f"{value:.2g}" for value in here.empirical_over_exact.values) + f" ({100 * float(here.accuracy):.1f} %)"
            for here in (one.sel(epoch=epoch) for epoch in epochs)
        ]
        lines.append(f"| {batch} | {decay} | " + " | ".join(cells) + " |")
    return lines


def main(folder: Path = FOLDER) -> None:
    """Write the tables and the figure."""
    found = study()
    parts = [
        "## Ratio of means, layers 0, 1, 2",
        *["", *table(found, "ratio"), ""],
        "## Correlation of logarithms, layers 0, 1, 2",
        *["", *table(found, "correlation"), ""],
        "## Empirical over exact, layers 0, 1, 2 (accuracy on the training labels during the epoch)",
        *["", *bias_table(found), ""],
    ]
    (folder / "table.md").write_text("\n".join(parts), encoding="utf-8")
    history = found[BATCHES[1], DECAYS[0]].mean("replicate")
    (folder / "second_moments.svg").write_text(fs.plotting.as_svg(fs.plotting.second_moments(history)), encoding="utf-8")
    print(f"wrote {folder / 'table.md'}")
