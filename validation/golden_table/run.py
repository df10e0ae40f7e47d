"""The golden table of the 2-2-2 networks: what is claimed, what comes out, and how far apart they are.

``python -m validation.golden_table`` from the top of the repository writes ``validation/golden_table/table.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

import fisherstats as fs
from tests import golden, naive

__all__ = ["Comparison", "comparisons", "main", "markdown"]

TABLE = Path(__file__).with_name("table.md")

FAMILIES = {"categorical": fs.families.Categorical(2), "gaussian": fs.families.Gaussian(2)}
HEADS = {"categorical": "softmax, 2 classes", "gaussian": "Gaussian, unit variance, 2 outputs"}
ESTIMATORS = ("score", "hessian")


class Comparison(NamedTuple):
    """One number of the table; ``source`` is the package or the oracle of the test suite."""

    activation: str
    head: str
    quantity: str
    source: str
    claimed: float
    computed: float

    @property
    def relative_error(self) -> float:
        """``|computed - claimed| / |claimed|``, the absolute error where zero is claimed."""
        return abs(self.computed - self.claimed) / (abs(self.claimed) or 1.0)

    @property
    def agrees(self) -> bool:
        """Within the printed digits; what is claimed to be zero has to be exactly zero."""
        return abs(self.computed - self.claimed) <= (golden.PRECISION if self.claimed else 0.0)


def _model(activation: str, family: str) -> tuple[fs.MLP, np.ndarray]:
    weights = [np.array(weight) for weight in golden.WEIGHTS]
    return fs.MLP(weights, activation=activation, family=FAMILIES[family]), np.array([golden.INPUT])


def _row(activation: str, family: str) -> list[Comparison]:
    """One row of the table: the package where it offers the quantity, the oracle for the rest."""
    model, x = _model(activation, family)
    claimed = golden.ROWS[activation, family]
    law = naive.input_law(naive.Network.named(golden.WEIGHTS, [activation]), family, {}, golden.INPUT)
    variance = fs.estimator_variance(model, x)["variance"].sum("param")
    full = fs.fisher_information(model, x, view="full")
    bounds = dict(zip(ESTIMATORS, naive.frobenius_bounds(law), strict=True))
    rows = [
        ("tr I", "package", claimed.information_trace, fs.fisher_information(model, x).sum()),
        ("tr I, full view", "package", claimed.information_trace, np.trace(full.values)),
    ]
    for name in ESTIMATORS:
        tensor = naive.covariance_tensor(law, name, name)
        found = {
            "variance_diagonal": ("sum_i Var F_ii", "package", variance.sel(estimator=name)),
            "variance_all": ("sum_ij Var F_ij", "oracle", law.variance(name).sum()),
            "frobenius": ("Frobenius norm of Cov", "oracle", np.sqrt(np.sum(tensor**2))),
            "frobenius_bound": ("bound on that norm", "oracle", bounds[name]),
        }
        for column, (what, source, got) in found.items():
            rows.append((f"{what}, {name}", source, getattr(claimed, f"{name}_{column}"), got))
    return [Comparison(activation, HEADS[family], what, source, want, float(got)) for what, source, want, got in rows]


def _diagonals() -> list[Comparison]:
    """Parameter by parameter for tanh and softmax: the exact information and both single-label variances."""
    model, x = _model("tanh", "categorical")
    variance = fs.estimator_variance(model, x)["variance"]
    found = {"information": fs.fisher_information(model, x).values}
    found |= {name: variance.sel(estimator=name).values for name in ESTIMATORS}
    labels = {"information": "I_{}", "score": "Var F_{}, score", "hessian": "Var F_{}, hessian"}
    return [
        Comparison("tanh", HEADS["categorical"], labels[name].format(index), "package", claimed, float(computed))
        for name, values in golden.DIAGONALS.items()
        for index, (claimed, computed) in enumerate(zip(values, found[name], strict=True))
    ]


def comparisons() -> list[Comparison]:
    """Every number of the table, rows first, then the diagonals of the first network."""
    return [entry for key in golden.ROWS for entry in _row(*key)] + _diagonals()


def markdown(entries: list[Comparison]) -> str:
    """The entries as a Markdown table."""
    lines = [
        "| activation | head | quantity | from | claimed | computed | relative error |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {e.activation} | {e.head} | {e.quantity} | {e.source} | {e.claimed:.10f} | {e.computed:.10f} "
        f"| {e.relative_error:.0e} |"
        for e in entries
    ]
    return "\n".join(lines) + "\n"


def main(path: Path = TABLE) -> None:
    """Write the table and say how many numbers agree."""
    entries = comparisons()
    path.write_text(markdown(entries), encoding="utf-8")
    agreeing = sum(entry.agrees for entry in entries)
    print(f"{agreeing} of {len(entries)} numbers agree to the printed digits; table in {path.name}")
    if agreeing < len(entries):
        raise SystemExit(1)
