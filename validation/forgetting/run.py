"""Forgetting on real digits: elastic weight consolidation by exact and estimated importances, beside plain fine-tuning.

``python -m validation.forgetting`` from the top of the repository writes ``validation/forgetting/table.md`` and the figures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

import fisherstats as fs
from fisherstats import applications, training
from fisherstats.core.errors import TrainingDiverged
from validation.mnist_sigmoid import data

__all__ = ["BENCHMARKS", "Benchmark", "Learner", "accuracies", "chosen", "main", "penalties", "permuted_digits", "split_digits"]

FOLDER = Path(__file__).parent
SEEDS = range(8)
PENALTY_SEEDS = range(40)
STRENGTHS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""1 is the Laplace approximation for tasks of equal size, 0 plain fine-tuning."""
IMPORTANCES = ("exact", "score", "hessian", "empirical", "uniform", "online")
"""`uniform` gives every parameter the mean of the exact ones; `online` merges the exact ones, all others are sums over tasks."""


class Task(NamedTuple):
    """Labelled images to train on, to choose a strength with, and to test on."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


class Benchmark(NamedTuple):
    """A sequence of tasks for one network."""

    tasks: Callable[[int], list[Task]]
    widths: tuple[int, ...]
    family: fs.families.Family
    epochs: int


def _task(images: data.Images, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Task:
    cut = len(images.y) // 5
    parts = [(images.x[cut:], images.y[cut:]), (images.x[:cut], images.y[:cut]), (images.x_held_out, images.y_held_out)]
    return Task(*(change(x, y) for x, y in parts))


def permuted_digits(seed: int, n_tasks: int = 3) -> list[Task]:
    """The digits, and the digits with their pixels in another order for each further task."""
    images = data.load("digits", seed)
    rng = np.random.default_rng([31, seed])
    orders = [np.arange(images.x.shape[1]), *(rng.permutation(images.x.shape[1]) for _ in range(1, n_tasks))]
    return [_task(images, lambda x, y, order=order: (x[:, order], y)) for order in orders]


def split_digits(seed: int) -> list[Task]:
    """Which of two digits is it: 0 or 1, then 2 or 3, up to 8 or 9, with one output for all."""
    images = data.load("digits", seed)

    def pair(first: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mine = y // 2 == first
        return x[mine], y[mine] % 2

    return [_task(images, functools.partial(pair, first)) for first in range(5)]


BENCHMARKS = {
    "permuted": Benchmark(permuted_digits, (64, 64, 10), fs.families.Categorical(10), 40),
    "split": Benchmark(split_digits, (64, 32, 1), fs.families.Bernoulli(), 60),
}


def accuracy(model: fs.MLP, x: np.ndarray, y: np.ndarray) -> float:
    """Fraction of images whose most probable label is theirs."""
    h = model.natural_parameters(x)
    return float(np.mean((h.argmax(axis=1) if h.shape[1] > 1 else h[:, 0] > 0) == y))


class Learner:
    """One network that learns the tasks of one seed in turn; the first task is learnt once for all importances."""

    def __init__(self, benchmark: Benchmark, seed: int) -> None:
        self.benchmark, self.seed = benchmark, seed
        self.tasks = benchmark.tasks(seed)
        start = fs.MLP.random(benchmark.widths, activation="tanh", family=benchmark.family, rng=seed)
        self.first = self.fit(start, 0, [])

    def fit(self, model: fs.MLP, task: int, held: Sequence[training.Penalty]) -> fs.MLP:
        """Train on a task."""
        settings = {"epochs": self.benchmark.epochs, "batch_size": 32, "rng": 100 * self.seed + task, "num_threads": 1}
        return training.fit(model, *self.tasks[task].train, optimizer=training.Adam(), penalty=held, **settings).model

    def importance(self, model: fs.MLP, task: int, information: str) -> np.ndarray:
        """Importances of a task's training images."""
        x, y = self.tasks[task].train
        if information == "empirical":
            return applications.importance(model, x, y, information="empirical").values
        if information in ("score", "hessian"):
            seed = np.random.SeedSequence([self.seed, task])
            return applications.importance(model, x, information=information, n_draws=1, rng=seed).values
        exact = applications.importance(model, x).values
        return np.full_like(exact, exact.mean()) if information == "uniform" else exact

    def learn(self, information: str | None, strength: float = 0.0) -> list[fs.MLP]:
        """The network after each task, each held to the earlier ones; by none of them for None."""
        models, held = [self.first], []
        for task in range(1, len(self.tasks)):
            if information is not None:
                weights = self.importance(models[-1], task - 1, information)
                if information == "online" and held:
                    held = [held[0].online(models[-1], weights)]
                else:
                    held = [*held, applications.Consolidation(models[-1], weights, strength)]
            models.append(self.fit(models[-1], task, held))
        return models

    def measured(self, models: Sequence[fs.MLP], part: str) -> np.ndarray:
        """Accuracy after each task (rows) on each task (columns)."""
        return np.array([[accuracy(model, *getattr(task, part)) for task in self.tasks] for model in models])

    def jointly(self) -> fs.MLP:
        """The network trained on all tasks at once: what could be reached without forgetting."""
        x, y = (np.concatenate(one) for one in zip(*(task.train for task in self.tasks), strict=True))
        start = fs.MLP.random(self.benchmark.widths, activation="tanh", family=self.benchmark.family, rng=self.seed)
        settings = {"epochs": self.benchmark.epochs, "batch_size": 32, "rng": self.seed, "num_threads": 1}
        return training.fit(start, x, y, optimizer=training.Adam(), **settings).model


def accuracies(benchmark: Benchmark, seeds: Sequence[int] = SEEDS, strengths: Sequence[float] = STRENGTHS) -> xr.Dataset:
    """Accuracy on every task, when it has just been learnt and at the end, for every importance and strength.

    A training that diverged, as it may under negative importances, has accuracy nan.
    """
    n_tasks = len(benchmark.tasks(seeds[0]))
    shape = (len(IMPORTANCES), len(strengths), len(seeds), n_tasks)
    found = {name: np.full(shape, np.nan) for name in ("accuracy", "accuracy_when_learnt", "validation_accuracy")}
    joint = np.empty((len(seeds), n_tasks))
    for k, seed in enumerate(seeds):
        learner = Learner(benchmark, seed)
        joint[k] = learner.measured([learner.jointly()], "test")[0]
        for i, information in enumerate(IMPORTANCES):
            for j, strength in enumerate(strengths):
                if strength == 0 and i:  # plain fine-tuning is one and the same
                    for values in found.values():
                        values[i, j, k] = values[0, j, k]
                    continue
                try:
                    models = learner.learn(information if strength else None, strength)
                except TrainingDiverged:
                    continue
                after = learner.measured(models, "test")
                found["accuracy"][i, j, k], found["accuracy_when_learnt"][i, j, k] = after[-1], np.diag(after)
                found["validation_accuracy"][i, j, k] = learner.measured(models[-1:], "validation")[0]
    dims = ("importance", "strength", "replicate", "task")
    coords = {"importance": list(IMPORTANCES), "strength": list(strengths), "replicate": list(seeds), "task": np.arange(n_tasks)}
    variables = {name: (dims, values) for name, values in found.items()} | {"joint_accuracy": (dims[2:], joint)}
    return xr.Dataset(variables, coords=coords)


def chosen(found: xr.Dataset) -> xr.DataArray:
    """The strength of each importance with the best mean accuracy on validation images."""
    mean = found.validation_accuracy.mean(("replicate", "task"), skipna=False)
    return mean.fillna(0).sel(strength=found.strength > 0).idxmax("strength")


def penalties(benchmark: Benchmark, strength: float, seeds: Sequence[int] = PENALTY_SEEDS) -> xr.Dataset:
    """The penalty of the first task by one draw per input, its exact value and standard error, at two networks.

    `free` has been fine-tuned to the second task without it, `held` by the very estimate that is looked at.
    """
    names, places = ("score", "hessian"), ("free", "held")
    found = {name: np.full((2, 2, len(seeds)), np.nan) for name in ("penalty", "exact", "standard_error")}
    for k, seed in enumerate(seeds):
        learner = Learner(benchmark, seed)
        free = learner.fit(learner.first, 1, [])
        for i, information in enumerate(names):
            weights = learner.importance(learner.first, 0, information)
            held = learner.fit(learner.first, 1, [applications.Consolidation(learner.first, weights, strength)])
            for j, model in enumerate((free, held)):
                drawn = {"information": information, "n_draws": 1, "rng": np.random.SeedSequence([seed, 0])}
                one = applications.consolidation_penalty(
                    model, learner.first, learner.tasks[0].train[0], strength=strength, **drawn
                )
                for name, values in found.items():
                    values[i, j, k] = one[name]
    coords = {"estimator": list(names), "network": list(places), "replicate": list(seeds)}
    return xr.Dataset({name: (tuple(coords), values) for name, values in found.items()}, coords=coords)


def _spread(values: xr.DataArray) -> str:
    """Mean and standard deviation over seeds, in per cent."""
    return f"{100 * float(values.mean()):.1f} ± {100 * float(values.std(ddof=1)):.1f}"


def accuracy_table(found: xr.Dataset) -> list[str]:
    """Each importance at its best strength."""
    lines = [
        "| importance | strength | earlier tasks | last task | all tasks | forgotten | all tasks, less exact (standard error) |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    best = chosen(found)
    whole = found.accuracy.sel(importance="exact", strength=float(best.sel(importance="exact"))).mean("task")
    rows = [("fine-tuning", found.sel(importance="exact", strength=0.0), "0")]
    for name in found.importance.values:
        strength = float(best.sel(importance=name))
        rows.append((str(name), found.sel(importance=name, strength=strength), f"{strength:g}"))
    for name, one, strength in rows:
        lost = (one.accuracy_when_learnt - one.accuracy).isel(task=slice(-1)).mean("task")
        cells = [
            name,
            strength,
            _spread(one.accuracy.isel(task=slice(-1)).mean("task")),
            _spread(one.accuracy.isel(task=-1)),
            _spread(one.accuracy.mean("task")),
            _spread(lost),
        ]
        difference = one.accuracy.mean("task") - whole
        error = float(difference.std(ddof=1)) / np.sqrt(difference.size)
        cells.append("" if name == "exact" else f"{100 * float(difference.mean()):+.1f} ({100 * error:.1f})")
        lines.append("| " + " | ".join(cells) + " |")
    joint = found.joint_accuracy
    cells = [_spread(joint.isel(task=slice(-1)).mean("task")), _spread(joint.isel(task=-1)), _spread(joint.mean("task"))]
    return [*lines, "| all tasks at once | | " + " | ".join(cells) + " | | |"]


def path_table(found: xr.Dataset) -> list[str]:
    """Mean accuracy on earlier tasks and on the last task by strength."""
    strengths = found.strength.values
    lines = ["| importance | " + " | ".join(f"{one:g}" for one in strengths) + " |", "|---|" + "---:|" * len(strengths)]
    for name in found.importance.values:
        one = found.accuracy.sel(importance=name).mean("replicate", skipna=False)
        earlier, last = one.isel(task=slice(-1)).mean("task"), one.isel(task=-1)
        cells = [
            "diverged" if np.isnan(b) else f"{100 * a:.0f}, {100 * b:.0f}"
            for a, b in zip(earlier.values, last.values, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def penalty_table(found: xr.Dataset) -> list[str]:
    """Errors of the penalty beside their standard errors."""
    lines = [
        "| importance | network | penalty, exact | standard error, relative | error, relative: mean, sd | z: mean, sd |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for estimator in found.estimator.values:
        for network in found.network.values:
            one = found.sel(estimator=estimator, network=network)
            error, relative = (one.penalty - one.exact) / one.exact, one.standard_error / one.exact
            z = (one.penalty - one.exact) / one.standard_error
            cells = [
                str(estimator),
                str(network),
                f"{float(one.exact.mean()):.3g}",
                f"{100 * float(relative.mean()):.1f} %",
                f"{100 * float(error.mean()):+.1f} %, {100 * float(error.std(ddof=1)):.1f} %",
                f"{float(z.mean()):+.2f}, {float(z.std(ddof=1)):.2f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(folder: Path = FOLDER) -> None:
    """Write the tables and the figures."""
    parts = []
    for name, benchmark in BENCHMARKS.items():
        found = accuracies(benchmark)
        strength = float(chosen(found).sel(importance="exact"))
        parts += [
            f"## {name.capitalize()} digits, {found.sizes['task']} tasks, {found.sizes['replicate']} seeds",
            "",
            "Accuracy on test images at the end, per cent, mean ± standard deviation over seeds; strengths chosen on validation",
            "images.",
            *["", *accuracy_table(found), ""],
            "Earlier tasks, last task by strength, per cent:",
            *["", *path_table(found), ""],
            f"The penalty of one draw per input on leaving the first task, strength {strength:g}, {len(PENALTY_SEEDS)} seeds:",
            *["", *penalty_table(penalties(benchmark, strength)), ""],
        ]
        figure = fs.plotting.forgetting(found)
        (folder / f"{name}.svg").write_text(fs.plotting.as_svg(figure), encoding="utf-8")
    (folder / "table.md").write_text("\n".join(parts), encoding="utf-8")
    print(f"wrote {folder / 'table.md'}")
