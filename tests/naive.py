"""The oracle of the test suite: every quantity as a finite sum over labels, straight from its definition.

For one input, ``InputLaw`` lists the possible labels with their probabilities and the two single-label estimators
``score = (J' delta)(J' delta)'`` and ``hessian = J' I J - sum_a delta_a H^a`` (Soen & Sun 2021, 2024) of each.  Means,
variances, covariances and norms follow by summation; nothing here knows a closed form of a cumulant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.naive_labels import FAMILIES, enumerate_labels, law_of_statistic, sufficient_statistic
from tests.naive_network import (
    ACTIVATIONS,
    Activation,
    Network,
    Parameter,
    forward,
    hessian,
    jacobian,
    output_slopes,
    parameters,
    state_jacobians,
)

Array = NDArray[np.float64]

__all__ = [
    "ACTIVATIONS",
    "FAMILIES",
    "Activation",
    "InputLaw",
    "Network",
    "Parameter",
    "backward_information",
    "combine_fixed",
    "combine_random",
    "combine_subsample",
    "covariance",
    "covariance_tensor",
    "elementwise_bounds",
    "empirical_fisher",
    "enumerate_labels",
    "forward",
    "frobenius_bounds",
    "groups",
    "hessian",
    "hidden_information",
    "input_law",
    "input_laws",
    "jacobian",
    "law_of_statistic",
    "natural_information",
    "output_slopes",
    "parameters",
    "statistic_moment",
    "sufficient_statistic",
]


@dataclass(frozen=True)
class InputLaw:
    """One input: derivatives of ``h_L``, the law of ``delta``, and both estimators (K, P, P) label by label."""

    jacobian: Array
    hessian: Array
    deltas: Array
    probabilities: Array
    score: Array
    observed: Array

    def estimator(self, name: str) -> Array:
        return {"score": self.score, "hessian": self.observed}[name]

    @property
    def information(self) -> Array:
        """``E[(J' delta)(J' delta)']`` (P, P)."""
        return _expectation(self.score, self.probabilities)

    def variance(self, name: str) -> Array:
        """Variance of every entry of the single-label estimator (P, P)."""
        return covariance(self.estimator(name), self.estimator(name), self.probabilities)

    @property
    def cross_covariance(self) -> Array:
        """Covariance of the two estimators from the same label, entry by entry (P, P)."""
        return covariance(self.score, self.observed, self.probabilities)

    def diagonal(self, name: str) -> Array:
        """The diagonal of the single-label estimator, label by label (K, P)."""
        return np.array([np.diag(matrix) for matrix in self.estimator(name)])

    def group_mean(self, name: str, members: Sequence[int]) -> Array:
        """The mean of the diagonal over a group of parameters, label by label (K,)."""
        return self.diagonal(name)[:, list(members)].mean(axis=1)


def _expectation(values: Array, probabilities: Array) -> Array:
    total = np.zeros(values.shape[1:])
    for value, probability in zip(values, probabilities, strict=True):
        total = total + probability * value
    return total


def covariance(first: Array, second: Array, probabilities: Array) -> Array:
    """``E[(A - E A)(B - E B)]`` entry by entry, the label on the first axis.

    Both are measured from their value at the first label: what does not depend on the label has covariance zero.
    """
    first, second = first - first[0], second - second[0]
    centred = first - _expectation(first, probabilities)
    return _expectation(centred * (second - _expectation(second, probabilities)), probabilities)


def natural_information(deltas: Array, probabilities: Array) -> Array:
    """``I(h) = Cov(t)``."""
    return _expectation(np.array([np.outer(delta, delta) for delta in deltas]), probabilities)


def input_law(network: Network, family: str, params: Mapping[str, Any], x: Any) -> InputLaw:
    """Both single-label estimators of the information at one input, for every possible label."""
    states, _ = forward(network, x)
    deltas, probabilities = enumerate_labels(family, params, states[-1])
    slopes, curvatures = jacobian(network, x), hessian(network, x)
    expected = slopes.T @ natural_information(deltas, probabilities) @ slopes
    score = np.array([np.outer(slopes.T @ delta, slopes.T @ delta) for delta in deltas])
    observed = np.array([expected - sum(d * h for d, h in zip(delta, curvatures, strict=True)) for delta in deltas])
    return InputLaw(slopes, curvatures, deltas, probabilities, score, observed)


def input_laws(network: Network, family: str, params: Mapping[str, Any], inputs: Iterable[Any]) -> list[InputLaw]:
    """One ``InputLaw`` per row of ``inputs``."""
    return [input_law(network, family, params, x) for x in inputs]


def groups(network: Network, group_by: str) -> list[list[int]]:
    """Parameter indices of every layer, of every unit (a row of a weight matrix), or of the whole model."""
    keys = {"layer": lambda p: p.layer, "unit": lambda p: (p.layer, p.unit_out), "model": lambda p: 0}
    members: dict[Any, list[int]] = {}
    for index, place in enumerate(parameters(network)):
        members.setdefault(keys[group_by](place), []).append(index)
    return list(members.values())


# --- designs: how conditional quantities of n inputs combine -------------------------------------------------------


def combine_fixed(variances: Array, n_draws: int = 1) -> Array:
    """Every input used once with ``n_draws`` labels: ``(1/n^2) sum_i V(x_i) / N``."""
    n = len(variances)
    return np.asarray(sum(variances) / (n * n * n_draws))


def _sample_variance(values: Array) -> Array:
    """``s2_x`` with ``n - 1``, measured from the first value: exactly zero where all inputs agree."""
    n = len(values)
    shifted = [value - values[0] for value in values]
    mean = sum(shifted) / n
    return np.asarray(sum((value - mean) ** 2 for value in shifted) / (n - 1))


def combine_random(informations: Array, variances: Array, n_draws: int = 1) -> Array:
    """Inputs drawn independently: ``(1/n) [s2_x(I) + mean(V) / N]``, the law of total variance."""
    n = len(variances)
    return np.asarray((_sample_variance(informations) + sum(variances) / (n * n_draws)) / n)


def combine_subsample(informations: Array, variances: Array, population: int, n_draws: int = 1) -> Array:
    """``m`` inputs without replacement out of ``population``: ``(1 - m/M) s2_x / m + mean(V) / (N m)``."""
    m = len(variances)
    return np.asarray((1 - m / population) * _sample_variance(informations) / m + sum(variances) / (m * m * n_draws))


# --- hidden states -------------------------------------------------------------------------------------------------


def hidden_information(network: Network, family: str, params: Mapping[str, Any], x: Any, layer: int) -> tuple[Array, Array]:
    """``B_l' I(h_L) B_l`` and the single-label variances of the entries of its estimator ``B_l' delta delta' B_l``."""
    states, _ = forward(network, x)
    deltas, probabilities = enumerate_labels(family, params, states[-1])
    scores = deltas @ state_jacobians(network, x)[layer]
    estimates = np.array([np.outer(score, score) for score in scores])
    return _expectation(estimates, probabilities), covariance(estimates, estimates, probabilities)


def backward_information(network: Network, family: str, params: Mapping[str, Any], x: Any) -> list[Array]:
    """``I(h_0) .. I(h_L)`` by ``I(h_l) = W_l^-' D_l I(h_{l+1}) D_l W_l^-``, starting from ``I(h_L) = Cov(t)``."""
    states, preactivations = forward(network, x)
    informations = [natural_information(*enumerate_labels(family, params, states[-1]))]
    for layer in reversed(range(network.n_layers)):
        kernel = np.array(network.weights[layer])[:, :-1]
        if layer < network.n_layers - 1:
            slopes = [network.activations[layer].first(z) for z in preactivations[layer]]
            kernel = np.diag(slopes) @ kernel
        informations.insert(0, kernel.T @ informations[0] @ kernel)
    return informations


# --- observed labels -----------------------------------------------------------------------------------------------


def empirical_fisher(network: Network, family: str, params: Mapping[str, Any], inputs: Any, labels: Any) -> tuple[Array, Array]:
    """``(1/n) sum_i s_i s_i'`` with ``s_i = J_i'(t(y_i) - E t)`` at the observed labels, and each input's term."""
    terms = []
    for x, y in zip(inputs, labels, strict=True):
        states, _ = forward(network, x)
        points, probabilities = law_of_statistic(family, params, states[-1])
        statistic = sufficient_statistic(family, params, y, len(states[-1]))
        score = jacobian(network, x).T @ (statistic - probabilities @ points)
        terms.append(np.outer(score, score))
    return np.asarray(sum(terms) / len(terms)), np.array(terms)


# --- tensors, norms and bounds -------------------------------------------------------------------------------------


def statistic_moment(deltas: Array, probabilities: Array) -> Array:
    """``M_abcd = Cov(delta_a delta_b, delta_c delta_d)`` as (T, T, T, T)."""
    n_outputs = deltas.shape[1]
    second = natural_information(deltas, probabilities)
    moment = np.zeros((n_outputs,) * 4)
    for a, b, c, d in np.ndindex(moment.shape):
        fourth = sum(p * r[a] * r[b] * r[c] * r[d] for p, r in zip(probabilities, deltas, strict=True))
        moment[a, b, c, d] = fourth - second[a, b] * second[c, d]
    return moment


def _symmetric_form(moment: Array) -> Array:
    """The matrix of ``M`` on symmetric matrices: pairs ``a <= b``, off-diagonal pairs with weight ``sqrt 2``."""
    n = moment.shape[0]
    pairs = [(a, b, 1.0 if a == b else np.sqrt(2.0)) for a in range(n) for b in range(a, n)]
    return np.array([[v * w * moment[a, b, c, d] for c, d, w in pairs] for a, b, v in pairs])


def covariance_tensor(law: InputLaw, first: str, second: str, n_draws: int = 1) -> Array:
    """``Cov(F_ij, G_kl)`` of two estimators as (P, P, P, P), for tiny networks only."""
    left, right = law.estimator(first), law.estimator(second)
    left = left - _expectation(left, law.probabilities)
    right = right - _expectation(right, law.probabilities)
    total = np.zeros(left.shape[1:] + right.shape[1:])
    for a, b, probability in zip(left, right, law.probabilities, strict=True):
        total += probability * np.multiply.outer(a, b)
    return total / n_draws


def frobenius_bounds(law: InputLaw, n_draws: int = 1) -> tuple[float, float]:
    """``||J||_F^4 ||M||_F / N`` and ``||H||_F^2 ||I(h)||_F / N`` (Soen & Sun 2021)."""
    moment = statistic_moment(law.deltas, law.probabilities)
    information = natural_information(law.deltas, law.probabilities)
    score = float(np.sum(law.jacobian**2) ** 2 * np.sqrt(np.sum(moment**2)))
    observed = float(np.sum(law.hessian**2) * np.sqrt(np.sum(information**2)))
    return score / n_draws, observed / n_draws


def elementwise_bounds(law: InputLaw) -> dict[str, tuple[Array, Array]]:
    """Lower and upper bounds (P,) of Theorem 4.1 of Soen & Sun (2024), one label.

    The extreme values of ``M(u, u, u, u)`` over unit ``u`` are replaced by the extreme eigenvalues of its matrix on
    symmetric matrices, which enclose them.
    """
    information = np.linalg.eigvalsh(natural_information(law.deltas, law.probabilities))
    quartic = np.linalg.eigvalsh(_symmetric_form(statistic_moment(law.deltas, law.probabilities)))
    slope = np.sum(law.jacobian**2, axis=0)
    curvature = np.array([sum(h[i, i] ** 2 for h in law.hessian) for i in range(len(slope))])
    least, greatest = max(information[0], 0.0), information[-1]
    return {
        "information": (slope * least, slope * greatest),
        "score": (slope**2 * max(quartic[0], 0.0), slope**2 * quartic[-1]),
        "hessian": (curvature * least, curvature * greatest),
    }
