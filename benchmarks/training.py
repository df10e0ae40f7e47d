"""One epoch of `fisherstats.training.fit` beside the same loop in PyTorch: `python -m benchmarks.training` prints the table.

PyTorch is optional: without it its column is empty.
"""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fisherstats as fs

WIDTHS = (784, 128, 64, 32, 10)
SETTINGS = {"SGD": fs.training.SGD(0.1), "SGD, momentum": fs.training.SGD(0.1, momentum=0.9), "Adam": fs.training.Adam(1e-3)}


def images(n: int, n_features: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images, four fifths black as handwritten digits are, and random classes."""
    rng = np.random.default_rng(0)
    return rng.random((n, n_features)) * (rng.random((n, n_features)) < 0.19), rng.integers(0, n_classes, n)


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """Return the best time of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def ours(x: np.ndarray, y: np.ndarray, widths: tuple[int, ...], name: str, batch_size: int, dtype: Any) -> Callable[[], Any]:
    """Return an epoch of this package, from weights to weights."""
    model = fs.MLP.random(widths, activation="sigmoid", family=fs.families.Categorical(widths[-1]), rng=0).as_dtype(dtype)
    return lambda: fs.training.fit(model, x, y, optimizer=SETTINGS[name], epochs=1, batch_size=batch_size, rng=0)


def torch_epoch(
    x: np.ndarray, y: np.ndarray, widths: tuple[int, ...], name: str, batch_size: int, dtype: Any
) -> Callable[[], Any] | None:
    """Return the same epoch in PyTorch, or None without it."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    kind = torch.float64 if dtype == np.float64 else torch.float32
    inputs, classes = torch.from_numpy(x), torch.from_numpy(y)

    def epoch() -> None:
        layers: list[Any] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [torch.nn.Linear(n_in, n_out, dtype=kind), torch.nn.Sigmoid()]
        network = torch.nn.Sequential(*layers[:-1])
        optimizer = {
            "SGD": lambda: torch.optim.SGD(network.parameters(), lr=0.1),
            "SGD, momentum": lambda: torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9),
            "Adam": lambda: torch.optim.Adam(network.parameters(), lr=1e-3),
        }[name]()
        total = 0.0
        for rows in torch.randperm(len(inputs)).split(batch_size):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(inputs[rows]), classes[rows])
            loss.backward()
            optimizer.step()
            total += loss.item()

    return epoch


def rows(
    n: int = 60_000,
    widths: tuple[int, ...] = WIDTHS,
    batch_sizes: tuple[int, ...] = (64, 128, 512, 2048),
    dtypes: tuple[Any, ...] = (np.float64, np.float32),
    repeats: int = 3,
) -> Iterator[tuple[str, float, float]]:
    """Yield (setting, seconds per epoch here, seconds per epoch in PyTorch or nan)."""
    x, y = images(n, widths[0], widths[-1])
    for dtype in dtypes:
        for batch_size in batch_sizes:
            for name in SETTINGS:
                given = (x.astype(dtype), y, widths, name, batch_size, dtype)
                peer = torch_epoch(*given)
                here, there = seconds(ours(*given), repeats), np.nan if peer is None else seconds(peer, repeats)
                yield f"{name}, batch {batch_size}, {np.dtype(dtype).name}", here, there


def table(**settings: Any) -> str:
    """Return the rows as a Markdown table with the ratio here / PyTorch."""
    lines = ["| setting | here, s | PyTorch, s | ratio |", "|---|---:|---:|---:|"]
    for name, here, there in rows(**settings):
        lines.append(f"| {name} | {here:.2f} | {there:.2f} | {here / there:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
