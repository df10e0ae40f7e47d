"""What a step costs beside the gradient: ``python -m validation.natural_gradient.cost`` prints milliseconds on one thread."""

from __future__ import annotations

import time

import numpy as np

import fisherstats as fs
from fisherstats import training

__all__ = ["main", "seconds_per_step"]

BATCH = 50
STEPS = 40
NETWORKS = {"64-32-10": [64, 32, 10], "784-80-80-80-10": [784, 80, 80, 80, 10]}
OPTIMIZERS = {
    "Adam": training.Adam(1e-9),
    "RelativeNaturalGradient": training.RelativeNaturalGradient(1e-9),
    "RelativeNaturalGradient, every step": training.RelativeNaturalGradient(1e-9, update_every=1),
    "DiagonalNaturalGradient": training.DiagonalNaturalGradient(1e-9),
    "KroneckerNaturalGradient": training.KroneckerNaturalGradient(1e-9),
    "KroneckerNaturalGradient, every 20": training.KroneckerNaturalGradient(1e-9, update_every=20),
    "NaturalGradient, cg to 1e-3": training.NaturalGradient(1e-9, damping=0.01, solver="cg", tolerance=1e-3),
    "NaturalGradient, dense": training.NaturalGradient(1e-9),
}


def seconds_per_step(widths: list[int], optimizer: training.Optimizer) -> float:
    """Least time of nine fits, by the step; the gradient, which is the same for all, is included."""
    rng = np.random.default_rng(0)
    model = fs.MLP.random(widths, activation="relu", family=fs.families.Categorical(widths[-1]), rng=0)
    x, y = rng.random((BATCH * STEPS, widths[0])), rng.integers(0, widths[-1], BATCH * STEPS)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        training.fit(model, x, y, optimizer=optimizer, epochs=1, batch_size=BATCH, rng=0, num_threads=1)
        times.append((time.perf_counter() - start) / STEPS)
    return min(times)


def main() -> None:
    """Print the table."""
    print(f"| milliseconds per step, {BATCH} inputs | {' | '.join(NETWORKS)} |\n|---|{'---:|' * len(NETWORKS)}")
    for name, optimizer in OPTIMIZERS.items():
        cells = [f"{1e3 * seconds_per_step(widths, optimizer):.2f}" for widths in NETWORKS.values()]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
