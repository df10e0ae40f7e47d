"""Random networks, twice: as the package sees them and as the oracle does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest

import fisherstats as fs
from tests import naive

__all__ = ["CASES", "SEVERAL_INPUTS", "Case", "assert_close", "per_case"]

FAMILIES: dict[str, Callable[[int, Mapping[str, Any]], Any]] = {
    "bernoulli": lambda n, params: fs.families.Bernoulli(n),
    "binomial": lambda n, params: fs.families.Binomial(params["n_trials"], n),
    "poisson": lambda n, params: fs.families.Poisson(n),
    "categorical": lambda n, params: fs.families.Categorical(n),
    "categorical_minimal": lambda n, params: fs.families.Categorical(n + 1, minimal=True),
    "gaussian": lambda n, params: fs.families.Gaussian(n, covariance=params.get("covariance")),
}


@dataclass(frozen=True, eq=False)
class Case:
    """A network with its inputs; the laws of its labels are listed once and kept."""

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    family: str
    n_inputs: int
    seed: int
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        widths = "-".join(map(str, self.widths))
        return "_".join([self.family, *map(str, self.params), widths, *self.activations, f"n{self.n_inputs}"])

    @cached_property
    def weights(self) -> list[np.ndarray]:
        """Standard deviation 1.2 / sqrt(n_in): units leave their linear range, labels stay far from certain."""
        rng = np.random.default_rng([self.seed, 1])
        shapes = zip(self.widths[1:], self.widths[:-1], strict=True)
        return [rng.normal(scale=1.2 / np.sqrt(n_in), size=(n_out, n_in + 1)) for n_out, n_in in shapes]

    @cached_property
    def x(self) -> np.ndarray:
        return np.random.default_rng([self.seed, 2]).normal(size=(self.n_inputs, self.widths[0]))

    @cached_property
    def model(self) -> fs.MLP:
        family = FAMILIES[self.family](self.widths[-1], self.params)
        return fs.MLP(self.weights, activation=list(self.activations), family=family)

    @cached_property
    def network(self) -> naive.Network:
        return naive.Network.named(self.weights, self.activations)

    @cached_property
    def laws(self) -> list[naive.InputLaw]:
        return naive.input_laws(self.network, self.family, self.params, self.x)

    @property
    def n_layers(self) -> int:
        return len(self.widths) - 1

    @property
    def setting(self) -> tuple[naive.Network, str, Mapping[str, Any]]:
        """What the functions of the oracle take before the input."""
        return self.network, self.family, self.params

    @cached_property
    def information(self) -> np.ndarray:
        """Diagonal information of each input (n, P)."""
        return np.array([np.diag(law.information) for law in self.laws])

    @cached_property
    def variances(self) -> dict[str, np.ndarray]:
        """Single-label variances of the diagonal, and the covariance of the estimators, of each input (n, P)."""
        return {
            "score": np.array([np.diag(law.variance("score")) for law in self.laws]),
            "hessian": np.array([np.diag(law.variance("hessian")) for law in self.laws]),
            "cross": np.array([np.diag(law.cross_covariance) for law in self.laws]),
        }

    @cache  # noqa: B019  a handful of cases that live as long as the test run
    def group_quantities(self, group_by: str) -> dict[str, np.ndarray]:
        """Information, single-label variances and covariance of each group's mean entry, of each input (n, groups)."""
        members = naive.groups(self.network, group_by)
        found: dict[str, list[list[float]]] = {"information": [], "score": [], "hessian": [], "cross": []}
        for law in self.laws:
            score, hessian = ([law.group_mean(name, group) for group in members] for name in ("score", "hessian"))
            pairs = {"score": (score, score), "hessian": (hessian, hessian), "cross": (score, hessian)}
            found["information"].append([float(law.probabilities @ values) for values in score])
            for name, (first, second) in pairs.items():
                moments = [naive.covariance(a, b, law.probabilities) for a, b in zip(first, second, strict=True)]
                found[name].append([float(moment) for moment in moments])
        return {name: np.array(values) for name, values in found.items()}


CHOSEN = [
    Case((3, 2), (), "bernoulli", 1, 101),
    Case((2, 3, 2), ("tanh",), "bernoulli", 5, 102),
    Case((2, 2, 3, 3), ("sigmoid", "gelu"), "bernoulli", 3, 103),
    Case((2, 3, 1), ("softplus",), "binomial", 4, 104, {"n_trials": 5}),
    Case((1, 2, 2, 2, 2), ("silu", "arctan", "sin"), "binomial", 2, 105, {"n_trials": 3}),
    Case((4, 1), (), "poisson", 7, 106),
    Case((2, 3, 2), ("erf",), "poisson", 3, 107),
    Case((1, 2, 2, 2, 2, 1), ("mish", "tanh", "softsign", "log_sigmoid"), "poisson", 2, 108),
    Case((3, 4), (), "categorical", 6, 109),
    Case((3, 3, 4), ("tanh",), "categorical", 7, 110),
    Case((2, 3, 2, 3), ("relu", "elu"), "categorical", 5, 111),
    Case((2, 2, 2, 2, 5), ("identity", "selu", "sigmoid"), "categorical", 1, 112),
    Case((2, 2, 2, 2, 2, 2), ("tanh", "sin", "gelu", "softplus"), "categorical", 4, 113),
    Case((3, 3, 2), ("mish",), "categorical_minimal", 5, 114),
    Case((2, 3, 2, 1), ("leaky_relu", "silu"), "categorical_minimal", 2, 115),
    Case((3, 2), (), "gaussian", 2, 116, {"covariance": 0.4}),
    Case((2, 3, 3), ("tanh",), "gaussian", 6, 117),
    Case((2, 2, 3, 2), ("hard_tanh", "softplus"), "gaussian", 3, 118, {"covariance": [[1.3, -0.5], [-0.5, 0.6]]}),
    Case((1, 2, 2, 2, 3), ("sin", "erf", "mish"), "gaussian", 1, 119,
         {"covariance": [[2.0, 0.3, -0.2], [0.3, 0.5, 0.1], [-0.2, 0.1, 0.9]]}),
    Case((1, 2, 2, 2, 2, 1), ("relu", "relu", "leaky_relu", "hard_tanh"), "gaussian", 4, 120),
    Case((2, 2, 2), ("tanh",), "categorical", 300, 121),
    Case((1, 2, 1), ("gelu",), "bernoulli", 150, 122),
    Case((4, 20, 2), ("silu",), "categorical_minimal", 2, 123),
    Case((2, 3, 12), ("tanh",), "categorical", 3, 124),
    Case((2, 2, 6), ("softplus",), "bernoulli", 3, 125),
]  # fmt: skip
"""Depths 0 to 4, every activation, five families in every form, 1 to 7 inputs; then many inputs, units and outputs."""


def drawn_case(seed: int) -> Case:
    """A case of random depth, widths, activations, family and number of inputs."""
    rng = np.random.default_rng(seed)
    family = str(rng.choice(naive.FAMILIES))
    n_outputs = int(rng.integers(1, 3 if family == "poisson" else 4))
    depth = int(rng.integers(0, 5))
    widths = (*rng.integers(1, 4, size=depth + 1).tolist(), max(n_outputs, 2) if family == "categorical" else n_outputs)
    params: dict[str, Any] = {}
    if family == "binomial":
        params = {"n_trials": int(rng.integers(1, 6))}
    if family == "gaussian":
        root = rng.normal(size=(n_outputs, n_outputs))
        params = {"covariance": root @ root.T + 0.2 * np.eye(n_outputs)}
    activations = tuple(rng.choice(sorted(naive.ACTIVATIONS), size=depth).tolist())
    return Case(widths, activations, family, int(rng.integers(1, 8)), seed, params)


CASES = [*CHOSEN, *(drawn_case(seed) for seed in range(200, 220))]

SEVERAL_INPUTS = [case for case in CASES if case.n_inputs > 1]


def per_case(cases: list[Case] = CASES) -> Any:
    """Parametrise a test over cases."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def assert_close(found: Any, expected: Any, *, scale: float | None = None, rtol: float = 1e-10, floor: float = 0.0) -> None:
    """Relative to each entry; entries that cancel are held to a thousandth of that of the largest (or of `scale`).

    What is below `floor` is rounding of a quantity that is zero.
    """
    values, wanted = np.asarray(found), np.asarray(expected)
    assert values.shape == wanted.shape
    assert values.dtype == np.float64
    largest = float(np.max(np.abs(wanted), initial=0.0)) if scale is None else scale
    np.testing.assert_allclose(values, wanted, rtol=rtol, atol=max(1e-3 * rtol * largest, floor))
