"""Fisher efficiency of online natural gradient: t times the covariance of the parameters goes to the inverse information.

``python -m validation.fisher_efficiency`` from the top of the repository writes ``table.md`` and a figure into its folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

import fisherstats as fs
from fisherstats import training

__all__ = [
    "HIDDEN",
    "LINEAR",
    "Online",
    "Setting",
    "descend",
    "descend_hidden",
    "expected_ratio",
    "main",
    "study",
    "summary",
    "write",
]

FOLDER = Path(__file__).parent
DESIGN = np.random.default_rng(3).normal(size=(16, 2)) * [2.0, 1.0]
"""The inputs, each as likely as any other."""


class Setting(NamedTuple):
    """A model of known information, and how long and how often it is trained."""

    family: str
    truth: tuple[float, ...]
    """Weights of the two features, bias."""
    offset: int = 50
    """The learning rate of step t is 1 / (t + offset)."""
    steps: int = 8192
    groups: int = 4
    replicates: int = 250
    """In each group; a group has its own inputs."""


LINEAR = {
    "gaussian": Setting("Gaussian", (0.5, -0.5, 1.0)),
    "logistic": Setting("Bernoulli", (0.5, -0.5, 0.2)),
    "poisson": Setting("Poisson", (0.3, -0.3, -1.0)),
}
HIDDEN = Setting("Gaussian", (), offset=500, groups=1, replicates=64)
NOISE = 0.02
METHODS = ("natural", "plain")
SHOWN = ("efficiency", "standard_error", "expected_efficiency")


class Online(training.Optimizer):
    """Steps of 1 / (t + offset) along the gradient, or along it after the inverse exact information of the design.

    The rows of a one-layer network are replicates, each with its own information; the parameters of others are one replicate.
    """

    def __init__(self, method: str, design: np.ndarray, offset: int, at: tuple[int, ...]) -> None:
        self.method, self.design, self.offset, self.at = method, design, offset, at
        self.path: list[np.ndarray] = []

    def __repr__(self) -> str:
        return f"Online({self.method!r}, offset={self.offset})"

    def start(self, model: fs.MLP) -> training.Steps:
        return _OnlineSteps(self)


class _OnlineSteps(training.Steps):
    def __init__(self, settings: Online) -> None:
        self.settings = settings

    def step(self, gradient: np.ndarray, batch: training.Batch) -> np.ndarray:
        settings, model, taken = self.settings, batch.model, batch.number + 1
        direction = gradient
        if settings.method == "natural" and model.n_layers == 1:
            metric = fs.relative_fisher(model, settings.design, num_threads=1)["layer_0"].metric.values
            direction = np.linalg.solve(metric, gradient.reshape(len(metric), -1, 1)).ravel()
        elif settings.method == "natural":
            information = fs.fisher_information(model, settings.design, view="full", num_threads=1).values
            direction = np.linalg.solve(information, gradient)
        change = -direction / (taken + settings.offset)
        if taken in settings.at:
            settings.path.append(np.concatenate([w.ravel() for w in model.weights]) + change)
        return change


def checkpoints(steps: int) -> tuple[int, ...]:
    """Powers of two up to the last step."""
    return tuple(2**k for k in range(5, 40) if 2**k <= steps)


def labels(family: str, h: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels of the true law."""
    if family == "Poisson":
        return rng.poisson(np.exp(h)).astype(float)
    return rng.normal(h) if family == "Gaussian" else (rng.random(h.shape) < 1 / (1 + np.exp(-h))).astype(float)


def descend(setting: Setting, method: str) -> xr.Dataset:
    """Train the replicates of a group at once, as the independent outputs of one layer, from 0; they see the same inputs.

    Given the inputs they are independent, so their spread in the group is the covariance given the inputs.
    """
    truth, size, at = np.array(setting.truth), setting.replicates, checkpoints(setting.steps)
    family, paths = getattr(fs.families, setting.family), []
    start = fs.MLP([np.zeros((size, len(truth)))], activation=[], family=family(size))
    for group in range(setting.groups):
        rng = np.random.default_rng([41, group])
        x = DESIGN[rng.integers(len(DESIGN), size=setting.steps)]
        y = labels(setting.family, np.repeat(x @ truth[:-1, None] + truth[-1], size, axis=1), rng)
        optimizer = Online(method, DESIGN, setting.offset, at)
        training.fit(start, x, y, optimizer=optimizer, epochs=1, batch_size=1, rng=group, num_threads=1)
        paths.append(np.array(optimizer.path).reshape(len(at), size, -1))
    model = fs.MLP([truth[None]], activation=[], family=family())
    return summary(np.array(paths), model, DESIGN, setting, method)


def hidden_truth() -> tuple[fs.MLP, np.ndarray]:
    """A network with two hidden units, and its design."""
    weights = [[[1.5, 1.0], [-1.0, 1.5]], [[1.0, 1.5, 0.3]]]
    model = fs.MLP(weights, activation="tanh", family=fs.families.Gaussian(covariance=NOISE))
    return model, np.linspace(-3, 3, 13)[:, None]


def descend_hidden(setting: Setting, method: str) -> xr.Dataset:
    """Train replicates of a network with hidden units one by one from near the truth, each with its own inputs."""
    model, design = hidden_truth()
    at, paths = checkpoints(setting.steps), []
    start = fs.MLP([1.1 * w for w in model.weights], activation="tanh", family=model.family)
    for seed in range(setting.replicates):
        rng = np.random.default_rng([43, seed])
        x = design[rng.integers(len(design), size=setting.steps)]
        y = rng.normal(model.natural_parameters(x), np.sqrt(NOISE))
        optimizer = Online(method, design, setting.offset, at)
        training.fit(start, x, y, optimizer=optimizer, epochs=1, batch_size=1, rng=seed, num_threads=1)
        paths.append(optimizer.path)
    return summary(np.array(paths).transpose(1, 0, 2)[None], model, design, setting, method)


def expected_ratio(eigenvalue: float, method: str, offset: int, steps: int) -> np.ndarray:
    """t times the variance along an eigenvector of the information over the least, 1 / eigenvalue, after each step t.

    To first order in the learning rate: with e the error along the eigenvector, a step of length r takes r l e (natural: r e) off
    it and adds noise of variance r^2 l (natural: r^2 / l). The limit is 1 for the natural gradient, l^2 / (2 l - 1) for the plain
    one with l above 1/2, and infinite below.
    """
    rate = 1 / (np.arange(1, steps + 1) + offset)
    decay, noise = (rate, rate**2 / eigenvalue) if method == "natural" else (rate * eigenvalue, rate**2 * eigenvalue)
    variances = np.empty(steps)
    variance = 0.0
    for step in range(steps):
        variance = (1 - decay[step]) ** 2 * variance + noise[step]
        variances[step] = variance
    return np.arange(1, steps + 1) * variances * eigenvalue


def summary(paths: np.ndarray, model: fs.MLP, design: np.ndarray, setting: Setting, method: str) -> xr.Dataset:
    """Spread of the parameters (group, step, replicate, param) in units of the inverse information over the steps taken."""
    at = np.array(checkpoints(setting.steps))
    truth = np.concatenate([w.ravel() for w in model.weights])
    values, vectors = np.linalg.eigh(fs.fisher_information(model, design, view="full").values)
    size = paths.shape[2]
    # In these coordinates an efficient estimate has unit covariance.
    error = (paths - truth) @ vectors * np.sqrt(values) * np.sqrt(at)[:, None, None]
    centred = (error - error.mean(axis=2, keepdims=True)) * np.sqrt(size / (size - 1))
    squares = np.moveaxis(centred**2, 0, 1).reshape(len(at), -1, len(values))
    expected = np.stack([expected_ratio(one, method, setting.offset, setting.steps)[at - 1] for one in values], axis=1)
    n = squares.shape[1]
    variables = {
        "ratio": (("step", "direction"), squares.mean(axis=1)),
        "ratio_error": (("step", "direction"), squares.std(axis=1, ddof=1) / np.sqrt(n)),
        "expected": (("step", "direction"), expected),
        "efficiency": (("step",), squares.mean(axis=(1, 2))),
        "standard_error": (("step",), squares.mean(axis=2).std(axis=1, ddof=1) / np.sqrt(n)),
        "expected_efficiency": (("step",), expected.mean(axis=1)),
        "bias": (("step",), np.sqrt(np.square(error.mean(axis=(0, 2))).sum(axis=1))),
    }
    return xr.Dataset(variables, coords={"step": at, "eigenvalue": ("direction", values)})


def study(linear: dict[str, Setting] = LINEAR, hidden: Setting = HIDDEN) -> dict[str, xr.Dataset]:
    """Both methods on every model."""
    found = {
        name: xr.concat([descend(setting, one) for one in METHODS], dim=xr.Variable("gradient", list(METHODS)))
        for name, setting in linear.items()
    }
    both = [descend_hidden(hidden, one) for one in METHODS]
    return found | {"hidden units": xr.concat(both, dim=xr.Variable("gradient", list(METHODS)))}


def along_table(found: dict[str, xr.Dataset]) -> list[str]:
    """The mean over directions along the steps."""
    steps = [128, 1024, 8192]
    lines = [
        "| model | gradient | " + " | ".join(f"t = {one}" for one in steps) + " | bias at the end |",
        "|---|---|" + "---:|" * (len(steps) + 1),
    ]
    for name, one in found.items():
        for method in METHODS:
            cells = []
            for step in steps:
                here = one.sel(gradient=method, step=step)
                cells.append(f"{here.efficiency:.4g} ± {here.standard_error:.2g} (expected {here.expected_efficiency:.4g})")
            cells.append(f"{float(one.sel(gradient=method).bias[-1]):.2f}")
            lines.append(f"| {name} | {method} | " + " | ".join(cells) + " |")
    return lines


def direction_table(found: dict[str, xr.Dataset]) -> list[str]:
    """Every direction after the last step."""
    lines = [
        "| model | eigenvalue of I | natural: ratio | expected | z | plain: ratio | expected | plain: limit |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        last = one.isel(step=-1)
        for k, value in enumerate(last.eigenvalue.values):
            natural, plain = (last.isel(direction=k).sel(gradient=method) for method in METHODS)
            limit = f"{value**2 / (2 * value - 1):.3g}" if value > 0.5 else "infinite"
            cells = [
                f"{value:.4g}",
                f"{natural.ratio:.3f} ± {natural.ratio_error:.3f}",
                f"{natural.expected:.3f}",
                f"{(natural.ratio - natural.expected) / natural.ratio_error:+.2f}",
                f"{plain.ratio:.4g} ± {plain.ratio_error:.2g}",
                f"{plain.expected:.4g}",
                limit,
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def write(found: dict[str, xr.Dataset], folder: Path) -> None:
    """Write the tables and the figure."""
    parts = [
        "## Mean over directions, tr(I t Cov) / P; bias in units of the least standard deviation",
        *["", *along_table(found), ""],
        "## Every direction after the last step",
        *["", *direction_table(found), ""],
    ]
    (folder / "table.md").write_text("\n".join(parts), encoding="utf-8")
    models = xr.concat([one[list(SHOWN)] for one in found.values()], dim=xr.Variable("model", list(found)))
    (folder / "efficiency.svg").write_text(fs.plotting.as_svg(fs.plotting.efficiency(models)), encoding="utf-8")
    print(f"wrote {folder / 'table.md'}")


def main(folder: Path = FOLDER) -> None:
    """Run the study and write what came out."""
    write(study(), folder)
