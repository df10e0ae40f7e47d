"""Equations (20) and (21) of 2021 as printed: committed counterexamples, and how often random networks violate them.

``python -m validation.weight_norms`` from the top of the repository writes ``validation/weight_norms/table.md``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fisherstats as fs
from tests import naive_network as naive

__all__ = ["COUNTEREXAMPLES", "Claim", "Counterexample", "Share", "claims", "main", "markdown", "model_of", "shares"]

TABLE = Path(__file__).with_name("table.md")
NETWORKS = 60
NORMS = (("(20)", "frobenius", "fro"), ("(21)", "spectral", 2))


class Counterexample(NamedTuple):
    """A network with Gaussian outputs and one input."""

    name: str
    weights: tuple[list[list[float]], ...]
    activations: tuple[str, ...]
    x: list[float]


COUNTEREXAMPLES = (
    Counterexample("two linear outputs", ([[0.7, 0.0], [-0.4, 0.1]],), (), [1.5]),
    Counterexample("one GELU unit at its steepest, a = sqrt(2)", ([[1.0, 0.0]], [[0.8, 0.0]]), ("gelu",), [2.0**0.5]),
    Counterexample("two SELU units in a row", ([[-1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]), ("selu", "selu"), [0.1]),
)

SUPREMUM = {"gelu": 1.128904145185155, "selu": 1.0507009873554805 * 1.6732632423543772}
"""Largest slopes, from the values of sigma' at sqrt(2) and at 0 from the left."""


class Claim(NamedTuple):
    """What a statement says of one layer of a counterexample, by index loops."""

    network: str
    statement: str
    layer: int
    exact: float
    printed: float
    corrected: float

    @property
    def false(self) -> bool:
        """Whether the printed bound is below the exact value by more than rounding."""
        return self.printed < self.exact * (1 - 1e-9)


class Share(NamedTuple):
    """Random networks of one activation: how many violate each printed statement in any layer, and how many a corrected one."""

    activation: str
    violated: tuple[int, int]
    corrected: int


def claims(network: Counterexample) -> list[Claim]:
    """Every layer's statement, exact value and correction."""
    plain = naive.Network.named(network.weights, network.activations)
    states, _ = naive.forward(plain, network.x)
    slopes, n_layers = naive.output_slopes(plain, network.x), len(network.weights)
    found = []
    for statement, _, order in NORMS:
        kernels = [np.linalg.norm(np.array(weight)[:, :-1], order) for weight in network.weights]
        for layer in range(n_layers):
            size = math.sqrt(1 + sum(value**2 for value in states[layer]))
            exact = float(np.linalg.norm(slopes[layer], order)) * size
            printed = math.prod(kernels[layer + 1 :]) * size
            corrected = printed * math.prod(SUPREMUM[name] for name in network.activations[layer:])
            if layer == n_layers - 1 and statement == "(20)":
                corrected *= math.sqrt(len(network.weights[-1]))
            found.append(Claim(network.name, statement, layer, exact, float(printed), float(corrected)))
    return found


def model_of(network: Counterexample) -> tuple[fs.MLP, np.ndarray]:
    """The counterexample as the package sees it."""
    family = fs.families.Gaussian(len(network.weights[-1]))
    return fs.MLP(network.weights, activation=list(network.activations), family=family), np.array([network.x])


def shares(count: int = NETWORKS) -> list[Share]:
    """Random networks of one to eight layers, widths 1 to 6, scales 0.1 to 10, one activation at a time, two inputs each."""
    found = []
    for position, activation in enumerate(fs.activations.NAMES):
        rng = np.random.default_rng([2, position])
        violated, corrected = np.zeros(2, int), 0
        for index in range(count):
            widths = rng.integers(1, 7, 2 + index % 8).tolist()
            model = fs.MLP.random(widths, activation=activation, family=fs.families.Gaussian(widths[-1]), rng=rng)
            scale = 10 ** rng.uniform(-1, 1)
            model = fs.MLP([scale * one for one in model.weights], activation=activation, family=model.family)
            x = rng.normal(size=(2, widths[0]))
            printed = fs.derivative_bounds(model, x, form="printed", per_input=True).first_ratio
            violated += [bool((printed.sel(norm=norm) < 1 - 1e-9).any()) for _, norm, _ in NORMS]
            right = fs.derivative_bounds(model, x, per_input=True, covariance=False)
            corrected += any(bool((right[f"{part}_ratio"] < 1 - 1e-12).any()) for part in ("first", "second"))
        found.append(Share(activation, (int(violated[0]), int(violated[1])), corrected))
    return found


def markdown(entries: list[Claim], found: list[Share], count: int = NETWORKS) -> str:
    """Both tables."""
    lines = [
        "| network | statement | layer | exact | printed | corrected | printed / exact |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for e in entries:
        numbers = f"{e.exact:.8f} | {e.printed:.8f} | {e.corrected:.8f} | {e.printed / e.exact:.4f}"
        lines.append(f"| {e.network} | {e.statement} | {e.layer} | {numbers} |")
    lines += ["", f"Of {count} random networks per activation, how many violate", ""]
    lines += ["| activation | (20) | (21) | any bound as corrected, second derivatives included |", "|---|---:|---:|---:|"]
    lines += [f"| {one.activation} | {one.violated[0]} | {one.violated[1]} | {one.corrected} |" for one in found]
    return "\n".join(lines) + "\n"


def main(path: Path = TABLE) -> None:
    """Write the tables and say what is false."""
    entries = [entry for network in COUNTEREXAMPLES for entry in claims(network)]
    found = shares()
    path.write_text(markdown(entries, found), encoding="utf-8")
    print(f"{sum(entry.false for entry in entries)} of {len(entries)} printed statements are false; table in {path.name}")
    if any(one.corrected for one in found):
        raise SystemExit(1)
