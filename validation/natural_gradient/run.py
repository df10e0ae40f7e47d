"""Figure 1 of Soen & Sun 2024: natural gradient descent of a linear model by each estimator of the information.

``python -m validation.natural_gradient`` from the top of the repository writes ``validation/natural_gradient/table.md``.
"""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.integrate import quad

import fisherstats as fs
from fisherstats import training
from fisherstats.core.errors import TrainingDiverged

__all__ = ["Descent", "LinearNaturalGradient", "descend", "main", "quadrature_sum", "stated_sum"]

TABLE = Path(__file__).with_name("table.md")

FAMILIES = {"regression": fs.families.Gaussian(1), "classification": fs.families.Bernoulli()}
ESTIMATORS = ("score", "hessian")
TRUTH = np.array([1.0, 1.0])
LEARNING_RATE, BATCH, N_TRAIN, N_TEST = 0.01, 4, 256, 4096
ITERATIONS = 256
LONG = 2048
SEEDS = range(20)
SHOWN = (0, 16, 64, 128, 256)

# Exact targets: sum over all entries of the variance of the estimate from one pair (x, y).
TARGETS = {
    ("regression", 0.0): (22.0, 6.0),
    ("regression", 1.0): (22.0, 6.0),
    ("classification", 0.0): (0.375, 0.375),
    ("classification", 1.0): (0.415282, 0.111369),
}


def model_at(task: str, theta: np.ndarray) -> fs.MLP:
    """h = theta' x: a linear layer whose bias is 0 and left alone."""
    return fs.MLP([np.append(theta, 0.0)[None]], activation=[], family=FAMILIES[task])


def quadrature_sum(task: str, theta: np.ndarray, estimator: str, nodes: int = 48) -> float:
    """Variance over x and y, summed over the entries of the 2 x 2 matrix: the package in y, a tensor Gauss-Hermite rule in x."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    x = np.array(list(itertools.product(points, repeat=2)))
    w = np.outer(weights, weights).ravel() / weights.sum() ** 2
    settings = {"estimator": estimator, "n_draws": 1, "rng": 0, "view": "full", "per_input": True, "standard_error": True}
    error = fs.estimate_fisher(model_at(task, theta), x, **settings).standard_error.values[:, :2, :2]
    exact = fs.fisher_information(model_at(task, theta), x, view="full", per_input=True).values[:, :2, :2]
    mean = np.tensordot(w, exact, 1)
    return float((np.tensordot(w, error**2 + exact**2, 1) - mean**2).sum())


def stated_sum(task: str, theta: np.ndarray, estimator: str) -> float:
    """The same without the package: E[f^2 |x|^4] - |E[f x x']|^2 with f = delta^2 or I(h), by one integral along theta.

    With s = theta' x / |theta| the mean of |x|^4 given s is s^4 + 2 s^2 + 3, and E[f x x'] has the eigenvalues E[f s^2], E[f].
    """
    length = float(np.linalg.norm(theta))

    def moments(s: float) -> tuple[float, float]:
        if task == "regression":
            return 1.0, 3.0
        p = 1 / (1 + np.exp(-length * s))
        return p * (1 - p), p * (1 - p) ** 4 + (1 - p) * p**4

    def expectation(function) -> float:
        density = lambda s: np.exp(-s * s / 2) / np.sqrt(2 * np.pi)  # noqa: E731
        return quad(lambda s: density(s) * function(s), -12, 12, epsabs=1e-13, epsrel=1e-13, limit=400)[0]

    def square(s: float) -> float:
        variance, fourth = moments(s)
        return fourth if estimator == "score" else variance**2

    mean = [expectation(lambda s: moments(s)[0] * s * s), expectation(lambda s: moments(s)[0])]
    return expectation(lambda s: square(s) * (s**4 + 2 * s**2 + 3)) - float(np.square(mean).sum())


class LinearNaturalGradient(training.Optimizer):
    """The paper's optimiser on `fit`'s protocol: one label per input, no damping unless given, no bias."""

    def __init__(self, estimator: str, damping: float = 0.0) -> None:
        self.estimator = estimator
        self.damping = damping
        self.path: list[np.ndarray] = []
        self.changes: list[np.ndarray] = []
        self.estimates: list[np.ndarray] = []

    def __repr__(self) -> str:
        return f"LinearNaturalGradient({self.estimator!r}, {self.damping})"

    def start(self, model: fs.MLP) -> training.Steps:
        return _LinearSteps(self)


class _LinearSteps(training.Steps):
    def __init__(self, settings: LinearNaturalGradient) -> None:
        self.settings = settings

    def step(self, gradient: np.ndarray, batch: training.Batch) -> np.ndarray:
        settings, rng = self.settings, np.random.SeedSequence(int(batch.rng.integers(2**63)))
        drawn = {"estimator": settings.estimator, "n_draws": 1, "rng": rng, "view": "full", "standard_error": False}
        information = fs.estimate_fisher(batch.model, batch.x, **drawn).values[:2, :2]
        change = np.zeros(3)
        change[:2] = -LEARNING_RATE * np.linalg.solve(information + settings.damping * np.eye(2), gradient[:2])
        settings.path.append(batch.model.weights[0][0, :2].copy())
        settings.changes.append(change[:2])
        settings.estimates.append(information)
        return change


class Descent(NamedTuple):
    """One descent, step by step."""

    path: np.ndarray
    """Parameters before each step and after the last, (steps + 1, 2)."""
    lengths: np.ndarray
    """Length of each step."""
    estimates: np.ndarray
    """Estimate of the information in each step, (steps, 2, 2)."""
    test: tuple[np.ndarray, np.ndarray]
    """Test inputs and labels."""
    task: str

    def losses(self, theta: np.ndarray) -> np.ndarray:
        """Mean negative log-likelihood on the test set without constants, for each row of theta; inf past the float range."""
        x, y = self.test
        with np.errstate(over="ignore", invalid="ignore"):
            h = theta @ x.T
            loss = np.square(h - y) / 2 if self.task == "regression" else np.logaddexp(0, (1 - 2 * y) * h)
            return np.nan_to_num(loss.mean(axis=1), nan=np.inf)


def data(task: str, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs N(0, I) and labels from the true model."""
    x = rng.standard_normal((n, 2))
    a = x @ TRUTH
    y = rng.normal(a) if task == "regression" else (rng.random(n) < 1 / (1 + np.exp(-a))).astype(float)
    return x, y


def descend(task: str, estimator: str, seed: int, iterations: int, damping: float = 0.0) -> Descent:
    """Run one descent from theta = 0; one that blows up ends where it does."""
    rng = np.random.default_rng([seed, 1])
    x, y = data(task, rng, N_TRAIN)
    optimizer = LinearNaturalGradient(estimator, damping)
    settings = {"epochs": iterations * BATCH // N_TRAIN, "batch_size": BATCH, "rng": seed}
    with contextlib.suppress(TrainingDiverged, np.linalg.LinAlgError):
        training.fit(model_at(task, np.zeros(2)), x, y, optimizer=optimizer, **settings)
    changes = np.array(optimizer.changes)
    path = np.concatenate([optimizer.path, optimizer.path[-1:] + changes[-1:]])
    lengths = np.linalg.norm(changes, axis=1)
    return Descent(path, lengths, np.array(optimizer.estimates), data(task, rng, N_TEST), task)


def sums_table() -> list[str]:
    """The exact sums of variances."""
    lines = ["| task | θ | estimator | claimed | package | independent |", "|---|---|---|---:|---:|---:|"]
    for (task, value), claimed in TARGETS.items():
        theta = np.full(2, value)
        for estimator, target in zip(ESTIMATORS, claimed, strict=True):
            found = quadrature_sum(task, theta, estimator), stated_sum(task, theta, estimator)
            lines.append(f"| {task} | ({value:g}, {value:g}) | {estimator} | {target:g} | {found[0]:.8f} | {found[1]:.8f} |")
    return lines


def path_table(descents: dict[tuple[str, str], list[Descent]]) -> list[str]:
    """Losses, lengths of the steps and variance along the path."""
    lines = [
        "| task | estimator | after steps | test loss: median (largest) | step length since: median (largest) "
        "| variance of the estimate: exact (seen) |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (task, estimator), runs in descents.items():
        for before, at in zip((0, *SHOWN), SHOWN, strict=False):
            losses = np.array([run.losses(run.path[at : at + 1])[0] for run in runs])
            steps = np.concatenate([run.lengths[before:at] for run in runs])
            length = f"{np.median(steps):.4f} ({steps.max():.4f})" if len(steps) else ""
            exact = np.mean([quadrature_sum(task, run.path[at], estimator, 24) for run in runs]) / BATCH
            seen = f" ({spread(runs, before, at):.3f})" if at else ""
            lines.append(
                f"| {task} | {estimator} | {at} | {np.median(losses):.4f} ({losses.max():.4f}) | {length} | {exact:.4f}{seen} |"
            )
    return lines


def spread(runs: list[Descent], before: int, at: int) -> float:
    """Mean squared distance of the estimates of some steps from their expectations, summed over entries."""
    task = runs[0].task
    squares = []
    for run in runs:
        for theta, estimate in zip(run.path[before:at], run.estimates[before:at], strict=True):
            squares.append(np.square(estimate - expected_information(task, theta)).sum())
    return float(np.mean(squares))


def expected_information(task: str, theta: np.ndarray) -> np.ndarray:
    """E[I(theta|x)] over x, by quadrature along theta."""
    if task == "regression":
        return np.eye(2)
    s, w = np.polynomial.hermite_e.hermegauss(60)
    length = np.linalg.norm(theta)
    p = 1 / (1 + np.exp(-length * s))
    along, across = (w / w.sum()) @ (p * (1 - p) * s**2), (w / w.sum()) @ (p * (1 - p))
    if length == 0:
        return across * np.eye(2)
    u = theta / length
    return across * np.eye(2) + (along - across) * np.outer(u, u)


def stability_table() -> list[str]:
    """Long descents: how far the score estimator throws the parameters, and what a damping does about it."""
    lines = [
        "| task | estimator | damping | steps | blown up | longest step: median (largest) | steps longer than 1 "
        "| worst loss on the way: median (largest) | last loss: median (largest) |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task in FAMILIES:
        for estimator, damping in (("score", 0.0), ("score", 0.1), ("hessian", 0.0), ("hessian", 0.1)):
            runs = [descend(task, estimator, seed, LONG, damping) for seed in SEEDS[:5]]
            longest = np.array([run.lengths.max() for run in runs])
            thrown = sum(int((run.lengths > 1).sum()) for run in runs)
            losses = [run.losses(run.path[8:]) for run in runs]
            worst, last = np.array([one.max() for one in losses]), np.array([one[-1] for one in losses])
            ended = sum(len(run.lengths) < LONG for run in runs)
            count = sum(len(run.lengths) for run in runs)
            cells = [task, estimator, f"{damping:g}", str(count), f"{ended} of 5", _summary(longest), str(thrown)]
            lines.append("| " + " | ".join([*cells, _summary(worst), _summary(last)]) + " |")
    return lines


def _summary(values: np.ndarray) -> str:
    return f"{np.median(values):.4g} ({values.max():.4g})"


def main(path: Path = TABLE) -> None:
    """Write the tables."""
    settings = [(task, estimator) for task in FAMILIES for estimator in ESTIMATORS]
    descents = {(task, estimator): [descend(task, estimator, seed, ITERATIONS) for seed in SEEDS] for task, estimator in settings}
    parts = [
        "## Sums of variances of one pair (x, y)",
        *["", *sums_table(), ""],
        f"## {ITERATIONS} steps, {len(SEEDS)} seeds, no damping",
        *["", *path_table(descents), ""],
        f"## {LONG} steps, 5 seeds",
        *["", *stability_table()],
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")
    print(f"tables in {path.name}")
