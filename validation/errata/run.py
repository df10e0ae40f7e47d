"""Corollary 4.6 and Theorem D.1 as printed: committed counterexamples, and how often random networks violate them.

``python -m validation.errata`` from the top of the repository writes ``validation/errata/table.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

import fisherstats as fs
from tests import naive

__all__ = ["COUNTEREXAMPLES", "Claim", "Counterexample", "Share", "claims", "main", "markdown", "shares"]

TABLE = Path(__file__).with_name("table.md")

ACTIVATIONS = ("tanh", "sigmoid", "softplus", "silu", "relu", "elu")
NETWORKS = 200


class Counterexample(NamedTuple):
    """A network of the oracle with one input."""

    name: str
    family: str
    weights: tuple[list[list[float]], ...]
    activations: tuple[str, ...]
    x: list[float]


COUNTEREXAMPLES = (
    Counterexample("one linear unit, norm of dh 3", "bernoulli", ([[0.7, 0.0]],), (), [8.0**0.5]),
    Counterexample(
        "2-2-2 tanh, Bernoulli",
        "bernoulli",
        ([[-1.3, -0.8, 1.3], [-0.3, 0.9, 1.4]], [[-4.0, -0.2, -0.7], [-1.5, -0.2, -2.7]]),
        ("tanh",),
        [-0.6, 3.0],
    ),
    Counterexample(
        "2-3-3 tanh, unit Gaussian",
        "gaussian",
        (
            [[0.8, -0.5, 0.3], [-0.4, 0.9, 0.1], [0.6, 0.7, -0.2]],
            [[1.0, -1.0, 0.5, 0.0], [0.5, 1.0, -0.5, 0.2], [-1.0, 0.3, 1.0, 0.1]],
        ),
        ("tanh",),
        [1.0, -0.5],
    ),
)

FAMILIES = {"bernoulli": fs.families.Bernoulli, "gaussian": fs.families.Gaussian}


class Claim(NamedTuple):
    """One printed statement at one counterexample, by the oracle: what it says is at least ``exact``."""

    network: str
    statement: str
    exact: float
    printed: float
    corrected: float

    @property
    def false(self) -> bool:
        """Whether the printed bound is below the exact value by more than rounding."""
        return self.printed < self.exact * (1 - 1e-9)


class Share(NamedTuple):
    """How many of the random networks of one activation violate each printed statement, and how many any corrected one."""

    activation: str
    violated: tuple[int, int, int, int]
    corrected: int


def _descending(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh(matrix)[::-1].clip(0)


def claims(network: Counterexample) -> list[Claim]:
    """Every printed statement, its exact value and its correction, by summation over the labels."""
    law = naive.input_law(naive.Network.named(network.weights, network.activations), network.family, {}, network.x)
    J, outputs = law.jacobian, law.jacobian.shape[0]
    information = naive.natural_information(law.deltas, law.probabilities)
    M = naive.statistic_moment(law.deltas, law.probabilities).reshape(outputs**2, outputs**2)
    vJac = np.array([np.outer(column, column).ravel() for column in J.T])
    dHes = np.array([law.hessian[:, i, i] for i in range(J.shape[1])])
    exact = [np.trace(law.information), np.trace(law.variance("score")), np.trace(law.variance("hessian"))]
    s_J, s_v, s_H = (_descending(rows.T @ rows) for rows in (J.T, vJac, dHes))
    lambda_I, lambda_M = _descending(information), _descending(M)
    norm, curvature = np.linalg.norm(J), np.linalg.norm(dHes)
    printed = [
        min(norm * lambda_I.sum(), norm**2 * lambda_I[0]),
        min(norm**2 * lambda_M.sum(), norm**4 * lambda_M[0]),
        min(curvature * lambda_I.sum(), curvature**2 * lambda_I[0]),
    ]
    corrected = [
        min(s[0] * values.sum(), s.sum() * values[0]) for s, values in ((s_J, lambda_I), (s_v, lambda_M), (s_H, lambda_I))
    ]
    rows = list(zip(("(13)", "(14)", "(15)"), exact, printed, corrected, strict=True))
    rows.append(("(23)", exact[1], float(s_v[:outputs] @ lambda_M[:outputs]), float(s_v @ lambda_M)))
    return [Claim(network.name, *(one if isinstance(one, str) else float(one) for one in row)) for row in rows]


def model_of(network: Counterexample) -> tuple[fs.MLP, np.ndarray]:
    """The counterexample as the package sees it."""
    family = FAMILIES[network.family](len(network.weights[-1]))
    return fs.MLP(network.weights, activation=list(network.activations), family=family), np.array([network.x])


def shares(count: int = NETWORKS) -> list[Share]:
    """Random networks 3-5-4-3 with softmax, Bernoulli and Gaussian heads in turn, scales 0.3 to 3, two inputs each."""
    heads = (fs.families.Categorical(3), fs.families.Bernoulli(3), fs.families.Gaussian(3))
    found = []
    for position, activation in enumerate(ACTIVATIONS):
        rng = np.random.default_rng([1, position])
        violated, corrected = np.zeros(4, int), 0
        for index in range(count):
            scale = 10 ** rng.uniform(-0.5, 0.5)
            model = fs.MLP.random([3, 5, 4, 3], activation=activation, family=heads[index % 3], rng=rng)
            model = fs.MLP([scale * one for one in model.weights], activation=activation, family=model.family)
            x = rng.normal(size=(2, 3))
            results = {form: fs.trace_bounds(model, x, form=form, per_input=True) for form in ("printed", "corrected")}
            below = [_below(results["printed"], "information_", ""), *_of_estimators(results["printed"])]
            violated += np.array(below)
            corrected += _below(results["corrected"], "information_", "") or any(_of_estimators(results["corrected"]))
        found.append(Share(activation, tuple(violated.tolist()), corrected))
    return found


def _below(result: object, prefix: str, estimator: str, forms: tuple[str, ...] = ("derivative", "response")) -> bool:
    exact, upper = result[f"{prefix}exact"], result[f"{prefix}upper_by_form"].sel(bound=list(forms)).min("bound")
    if estimator:
        exact, upper = exact.sel(estimator=estimator), upper.sel(estimator=estimator)
    return bool((upper < exact * (1 - 1e-9) - 1e-14).any())


def _of_estimators(result: object) -> list[bool]:
    """(14), (15) and (23)."""
    return [_below(result, "", "score"), _below(result, "", "hessian"), _below(result, "", "score", ("spectrum",))]


def markdown(entries: list[Claim], found: list[Share], count: int = NETWORKS) -> str:
    """Both tables."""
    lines = ["| network | statement | exact | printed | corrected | printed / exact |", "|---|---|---:|---:|---:|---:|"]
    for e in entries:
        ratio = f"{e.printed / e.exact:.4f}" if e.exact else "0 <= 0"
        lines.append(f"| {e.network} | {e.statement} | {e.exact:.8f} | {e.printed:.8f} | {e.corrected:.8f} | {ratio} |")
    lines += ["", f"Of {count} random networks per activation, how many violate", ""]
    lines += [
        "| activation | (13) | (14) | (15) | (23) with T terms | any of them as corrected |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [f"| {one.activation} | {' | '.join(map(str, one.violated))} | {one.corrected} |" for one in found]
    return "\n".join(lines) + "\n"


def main(path: Path = TABLE) -> None:
    """Write the tables and say what is false."""
    entries = [entry for network in COUNTEREXAMPLES for entry in claims(network)]
    found = shares()
    path.write_text(markdown(entries, found), encoding="utf-8")
    print(f"{sum(entry.false for entry in entries)} of {len(entries)} printed statements are false; table in {path.name}")
    if any(one.corrected for one in found):
        raise SystemExit(1)
