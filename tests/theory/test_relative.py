"""The relative information of every subsystem as the second derivative of its response's divergence, and its structure."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import fisherstats as fs
from fisherstats.models.activations import ELU, LeakyReLU, SmoothedReLU
from tests.theory.cases import assert_close

DIGITS = 60
STEP = mpf("1e-15")


def logistic(a):
    return 1 / (1 + mp.exp(-a))


def smoothed(iota, omega):
    return lambda a: omega * mp.log(mp.exp(iota * a / omega) + mp.exp(a / omega))


VALUES: dict[str, Callable[[Any], Any]] = {
    "tanh": mp.tanh,
    "sigmoid": logistic,
    "relu": lambda a: a if a > 0 else mpf(0),
    "identity": lambda a: a,
    "gelu": lambda a: a * mp.erfc(-a / mp.sqrt(2)) / 2,
    "softplus": lambda a: mp.log(1 + mp.exp(a)),
    "leaky 0.25": lambda a: a if a > 0 else a / 4,
    "smoothed 0 0.5": smoothed(0, mpf("0.5")),
    "smoothed 0.25 0.75": smoothed(mpf("0.25"), mpf("0.75")),
    "elu": lambda a: a if a > 0 else mp.expm1(a),
    "elu 1.5": lambda a: a if a > 0 else mpf("1.5") * mp.expm1(a),
}
OBJECTS = {
    "leaky 0.25": LeakyReLU(0.25),
    "smoothed 0 0.5": SmoothedReLU(0, 0.5),
    "smoothed 0.25 0.75": SmoothedReLU(0.25, 0.75),
    "elu 1.5": ELU(1.5),
}


@dataclass(frozen=True)
class Subsystem:
    """A few layers, their activations by name, and how the last one responds."""

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    response: str = "paper"
    variance: float = 1.0

    def weights(self) -> list[np.ndarray]:
        rng = np.random.default_rng([len(self.activations), *self.widths])
        shapes = zip(self.widths[1:], self.widths[:-1], strict=True)
        return [rng.normal(size=(n_out, n_in + 1)) for n_out, n_in in shapes]

    def inputs(self) -> np.ndarray:
        return np.random.default_rng(self.widths[0]).normal(size=(3, self.widths[0]))

    def metric(self, **words) -> Any:
        chosen = [OBJECTS.get(name, name) for name in self.activations]
        words = {"response": self.response, "variance": self.variance} | words
        return fs.subsystem_metric(self.weights(), self.inputs(), activation=chosen, **words)

    def outputs(self, first: list[Any], x: np.ndarray) -> list[Any]:
        """Return the pre-activations of the last layer, with these numbers (row-major) in the first matrix."""
        h = [mpf(float(one)) for one in x]
        matrices = [np.array(first, dtype=object).reshape(self.widths[1], -1), *self.weights()[1:]]
        for matrix, name in zip(matrices, (*self.activations[:-1], "identity"), strict=True):
            a = [sum(mpf(weight) * one for weight, one in zip(row, [*h, mpf(1)], strict=True)) for row in matrix]
            h = [VALUES[name](one) for one in a]
        return h

    def divergence(self, reference: list[Any], other: list[Any]) -> Any:
        """Return the sum over responses of p log(p / q) for two vectors of pre-activations."""
        kind = self.activations[-1]
        if kind == "softmax":
            p, q = ([mp.exp(one) for one in a] for a in (reference, other))
            return sum(u / sum(p) * mp.log(u / sum(p) / (v / sum(q))) for u, v in zip(p, q, strict=True))
        total = mpf(0)
        for a, b in zip(reference, other, strict=True):
            if kind in ("tanh", "sigmoid") and self.response == "paper":
                p, q = ((1 + mp.tanh(one)) / 2 if kind == "tanh" else logistic(one) for one in (a, b))
                total += p * mp.log(p / q) + (1 - p) * mp.log((1 - p) / (1 - q))
            else:
                total += gaussian_divergence(VALUES[kind](a), VALUES[kind](b), mpf(self.variance))
        return total


def gaussian_divergence(mean, other, variance):
    """Return E[log p(y) - log q(y)] by the three-point Gauss-Hermite rule, exact for polynomials up to degree five."""
    total = mpf(0)
    for node, weight in ((0, mpf(2) / 3), (mp.sqrt(3), mpf(1) / 6), (-mp.sqrt(3), mpf(1) / 6)):
        y = mean + mp.sqrt(variance) * node
        total += weight * ((y - other) ** 2 - (y - mean) ** 2) / (2 * variance)
    return total


def second_derivatives(function, at: list[Any]) -> np.ndarray:
    """Return the matrix of central second differences in sixty digits."""
    found = np.empty((len(at), len(at)))
    for i, j in itertools.combinations_with_replacement(range(len(at)), 2):
        total = mpf(0)
        for left, right in itertools.product((1, -1), repeat=2):
            moved = list(at)
            moved[i] += left * STEP
            moved[j] += right * STEP
            total += left * right * function(moved)
        found[i, j] = found[j, i] = float(total / (4 * STEP**2))
    return found


def true_metric(subsystem: Subsystem, x: np.ndarray) -> np.ndarray:
    with mp.workdps(DIGITS):
        at = [mpf(float(one)) for one in subsystem.weights()[0].ravel()]
        reference = subsystem.outputs(at, x)
        return second_derivatives(lambda moved: subsystem.divergence(reference, subsystem.outputs(moved, x)), at)


NEURON, LAYER = (3, 1), (2, 3)
ROWS = {
    "tanh neuron": Subsystem(NEURON, ("tanh",)),
    "sigmoid neuron": Subsystem(NEURON, ("sigmoid",)),
    "relu neuron": Subsystem(NEURON, ("relu",), variance=0.5),
    "leaky relu neuron": Subsystem(NEURON, ("leaky 0.25",)),
    "smoothed relu neuron": Subsystem(NEURON, ("smoothed 0 0.5",)),
    "smoothed leaky relu neuron": Subsystem(NEURON, ("smoothed 0.25 0.75",), variance=2.0),
    "elu neuron": Subsystem(NEURON, ("elu",)),
    "elu neuron with alpha": Subsystem(NEURON, ("elu 1.5",)),
    "tanh neuron with Gaussian response": Subsystem(NEURON, ("tanh",), "gaussian", 0.5),
    "sigmoid neuron with Gaussian response": Subsystem(NEURON, ("sigmoid",), "gaussian", 3.0),
    "gelu neuron": Subsystem(NEURON, ("gelu",), variance=0.25),
    "linear layer": Subsystem(LAYER, ("identity",), variance=0.5),
    "tanh layer": Subsystem(LAYER, ("tanh",)),
    "softplus layer": Subsystem(LAYER, ("softplus",), variance=2.0),
    "softmax layer": Subsystem((2, 4), ("softmax",)),
    "two layers, tanh": Subsystem((2, 3, 2), ("tanh", "tanh")),
    "two layers, sigmoid to relu": Subsystem((2, 3, 2), ("sigmoid", "relu"), variance=0.5),
    "two layers, relu to sigmoid": Subsystem((2, 3, 2), ("relu", "sigmoid")),
    "two layers, softplus to tanh": Subsystem((2, 3, 2), ("softplus", "tanh"), "gaussian", 2.0),
    "two layers, tanh to softmax": Subsystem((2, 3, 3), ("tanh", "softmax")),
    "three layers": Subsystem((2, 2, 3, 2), ("tanh", "gelu", "sigmoid")),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_of_the_table(row: Subsystem) -> None:
    expected = np.array([true_metric(row, x) for x in row.inputs()])
    found = row.metric(per_input=True)
    assert found.dims == ("input", "param", "param2")
    assert_close(found, expected, scale=float(np.abs(expected).max()), rtol=1e-12)
    assert_close(row.metric(), expected.mean(axis=0), scale=float(np.abs(expected).max()), rtol=1e-12)
    np.testing.assert_array_equal(found, found.transpose("input", "param2", "param"))


def test_the_response_matters() -> None:
    row = ROWS["tanh neuron"]
    expected = true_metric(row, row.inputs()[0])
    other = row.metric(per_input=True, response="gaussian")[0].values
    slope = expected[-1, -1]
    assert slope < 0.9
    np.testing.assert_allclose(other, slope * expected, rtol=1e-12)


def test_the_hessian_of_the_divergence_is_the_covariance_of_the_score() -> None:
    row = ROWS["softmax layer"]
    W, x = row.weights()[0], np.append(row.inputs()[0], 1)
    p = np.exp(W @ x) / np.exp(W @ x).sum()
    scores = [np.outer(np.eye(4)[label] - p, x).ravel() for label in range(4)]
    expected = sum(p[label] * np.outer(scores[label], scores[label]) for label in range(4))
    np.testing.assert_allclose(row.metric(per_input=True)[0], expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(expected, true_metric(row, row.inputs()[0]), rtol=1e-12, atol=1e-15)


# A whole network

WIDTHS = (3, 4, 5, 3, 2)
ACTIVATIONS = ["tanh", "relu", "sigmoid"]
FAMILIES = {
    "categorical": fs.families.Categorical(2),
    "gaussian": fs.families.Gaussian(2, covariance=[[1.0, 0.3], [0.3, 0.5]]),
    "poisson": fs.families.Poisson(2),
    "linked": fs.families.Exponential(2),
}
X = np.random.default_rng(5).normal(size=(7, 3))


def network(family: str) -> fs.MLP:
    return fs.MLP.random(WIDTHS, activation=ACTIVATIONS, family=FAMILIES[family], rng=3)


def layer_inputs(model: fs.MLP) -> list[np.ndarray]:
    h, found = X, []
    for weight, activation in zip(model.weights, [*model.activations, None], strict=True):
        found.append(h)
        if activation is not None:
            h = activation.value(h @ weight[:, :-1].T + weight[:, -1])
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_metric_of_the_whole_system_is_the_fisher_information(family: str) -> None:
    model = network(family)
    for per_input in (False, True):
        whole = fs.relative_fisher(model, X, subsystem="system", per_input=per_input)
        exact = fs.fisher_information(model, X, view="block", per_input=per_input)
        for layer in range(4):
            expected = exact[f"layer_{layer}"]["information"]
            found = whole[f"layer_{layer}"]["metric"]
            assert found.dims == expected.dims
            assert_close(found, expected.values, scale=float(np.abs(expected).max()), rtol=1e-13)
    above = fs.relative_fisher(model, X, subsystem="two_layers")
    for layer in (2, 3):
        np.testing.assert_allclose(above[f"layer_{layer}"].metric, exact[f"layer_{layer}"].information.mean("input"), rtol=1e-12)
    gap = above["layer_0"].metric - exact["layer_0"].information.mean("input")
    assert np.abs(gap).max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("response", "variance"), [("paper", 1.0), ("paper", 0.5), ("gaussian", 2.0)])
def test_layers_of_a_network_are_subsystems_at_their_reference_inputs(family: str, response: str, variance: float) -> None:
    model = network(family)
    words = {"response": response, "variance": variance}
    for layer, h in enumerate(layer_inputs(model)[:3]):
        alone = fs.subsystem_metric([model.weights[layer]], h, activation=ACTIVATIONS[layer], per_input=True, **words)
        for per_input, expected in ((True, alone.values), (False, alone.mean("input").values)):
            found = fs.relative_fisher(model, X, subsystem="layer", per_input=per_input, **words)[f"layer_{layer}"].metric
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
            neurons = fs.relative_fisher(model, X, per_input=per_input, **words)[f"layer_{layer}"].metric.values
            blocks = expected.reshape(*expected.shape[:-2], *(model.weights[layer].shape * 2))
            for unit, other in itertools.product(range(neurons.shape[-3]), repeat=2):
                block = blocks[..., unit, :, other, :]
                np.testing.assert_allclose(neurons[..., unit, :, :] if unit == other else 0, block, rtol=1e-12, atol=1e-15)
        if layer < 2:
            pair = fs.subsystem_metric(model.weights[layer : layer + 2], h, activation=ACTIVATIONS[layer : layer + 2], **words)
            found = fs.relative_fisher(model, X, subsystem="two_layers", **words)[f"layer_{layer}"].metric
            np.testing.assert_allclose(found, pair, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("family", FAMILIES)
def test_output_neurons_are_the_diagonal_blocks_of_the_output_layer(family: str) -> None:
    model = network(family)
    whole = fs.relative_fisher(model, X, subsystem="layer")["layer_3"].metric.values.reshape(2, 4, 2, 4)
    np.testing.assert_allclose(
        fs.relative_fisher(model, X)["layer_3"].metric, [whole[unit, :, unit, :] for unit in range(2)], rtol=1e-12, atol=1e-16
    )
    exact = fs.fisher_information(model, X, view="block")["layer_3"].information.values.reshape(2, 4, 2, 4)
    np.testing.assert_allclose(whole, exact, rtol=1e-12, atol=1e-15)


# A stochastic network: every unit is drawn from its response model and handed on

STOCHASTIC = [np.random.default_rng([8, layer]).normal(size=shape) for layer, shape in enumerate([(2, 3), (2, 3), (3, 3)])]
REFERENCE = np.array([0.7, -1.1])


def log_probabilities(parameters: np.ndarray) -> dict[tuple[Any, ...], Any]:
    """Return log p(h1, h2, y | x) of all outcomes: h1 in {-1, 1}^2 (tanh), h2 in {0, 1}^2 (sigmoid), y one of three."""
    W = np.split(parameters, [6, 12])
    W = [one.reshape(shape.shape) for one, shape in zip(W, STOCHASTIC, strict=True)]
    found = {}
    for h1 in itertools.product((-1, 1), repeat=2):
        first = sum(np.log((1 + s * np.tanh(a)) / 2) for s, a in zip(h1, W[0] @ [*REFERENCE, 1], strict=True))
        for h2 in itertools.product((0, 1), repeat=2):
            second = sum(-np.log(1 + np.exp(-(2 * s - 1) * a)) for s, a in zip(h2, W[1] @ [*h1, 1], strict=True))
            a = W[2] @ [*h2, 1]
            for y in range(3):
                found[h1, h2, y] = first + second + a[y] - np.log(np.exp(a).sum())
    return found


def information(log_laws: Callable[[np.ndarray], dict[Any, Any]]) -> np.ndarray:
    """Return the sum over outcomes of p score score', the score by complex steps."""
    at = np.concatenate([one.ravel() for one in STOCHASTIC]).astype(complex)
    steps = [log_laws(at + 1e-30j * np.eye(len(at))[j]) for j in range(len(at))]
    total = np.zeros((len(at), len(at)))
    for outcome, value in log_laws(at).items():
        score = np.array([step[outcome].imag / 1e-30 for step in steps])
        total += np.exp(value.real) * np.outer(score, score)
    return total


def of_the_response(parameters: np.ndarray) -> dict[Any, Any]:
    joint = log_probabilities(parameters)
    return {y: np.log(sum(np.exp(value) for outcome, value in joint.items() if outcome[2] == y)) for y in range(3)}


def test_the_joint_information_of_a_stochastic_network_is_block_diagonal_with_the_relative_ones() -> None:
    joint = information(log_probabilities)
    laws = {outcome: float(np.exp(value)) for outcome, value in log_probabilities(np.concatenate(STOCHASTIC, axis=None)).items()}
    assert sum(laws.values()) == pytest.approx(1)
    expected = np.zeros_like(joint)
    for layer, activation in enumerate(["tanh", "sigmoid", "softmax"]):
        own = slice(6 * layer, 6 * layer + STOCHASTIC[layer].size)
        references = [REFERENCE if layer == 0 else outcome[layer - 1] for outcome in laws]
        metrics = fs.subsystem_metric([STOCHASTIC[layer]], np.array(references, float), activation=activation, per_input=True)
        expected[own, own] = np.tensordot(list(laws.values()), metrics.values, 1)
    np.testing.assert_allclose(joint, expected, rtol=1e-12, atol=1e-14)


def test_the_response_alone_says_less_than_all_units() -> None:
    joint, marginal = information(log_probabilities), information(of_the_response)
    eigenvalues = np.linalg.eigvalsh(joint - marginal)
    assert eigenvalues.min() > -1e-13
    assert eigenvalues.max() > 0.1
    assert np.abs(marginal[:6, 6:]).max() > 1e-4


# Other parameters


def test_pullback_is_the_metric_in_other_parameters() -> None:
    row = ROWS["sigmoid neuron"]
    x = row.inputs()[0]
    start = [mpf("0.3"), mpf("-0.2"), mpf("0.5")]

    def weights_of(new):
        """Three numbers for four weights: a curved surface."""
        return [mp.exp(new[0]), new[0] * new[1], mp.sin(new[2]), new[1] ** 2 - new[2]]

    with mp.workdps(DIGITS):
        at = weights_of(start)
        reference = row.outputs(at, x)
        expected = second_derivatives(
            lambda moved: row.divergence(reference, row.outputs(weights_of(moved), x)),
            start,
        )
        columns = []
        for j in range(3):
            moved = [one + (STEP if position == j else 0) for position, one in enumerate(start)]
            columns.append([float((new - old) / STEP) for new, old in zip(weights_of(moved), at, strict=True)])
    jacobian = np.array(columns).T
    metric = fs.subsystem_metric([[[float(one) for one in at]]], x[None], activation="sigmoid")
    found = fs.pullback(metric, jacobian)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    step = np.array([0.2, -0.1, 0.4])
    moved = jacobian @ step
    assert step @ found @ step == pytest.approx(float(moved @ metric.values @ moved), rel=1e-12)
    np.testing.assert_array_equal(found, found.T)


def test_pullback_back_and_forth_and_for_many() -> None:
    rng = np.random.default_rng(0)
    metrics = fs.relative_fisher(network("categorical"), X)["layer_0"].metric
    jacobian = rng.normal(size=(4, 4))
    there = fs.pullback(metrics, jacobian)
    for unit in range(4):
        np.testing.assert_allclose(there[unit], jacobian.T @ metrics[unit].values @ jacobian, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(fs.pullback(there, np.linalg.inv(jacobian)), metrics, rtol=1e-9, atol=1e-12)
