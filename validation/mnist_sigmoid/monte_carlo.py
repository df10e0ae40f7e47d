"""Variances from drawn labels, in plain numpy: nothing here comes from the package but the weights.

A class label takes one of C values, so N draws at an input are a multinomial count, and a single label's estimate is one of C
numbers: (d log p(c) / d theta)^2 from the score, -d2 log p(c) / d theta2 from the Hessian. Derivatives are carried back through
pre-activations layer by layer, second derivatives as full matrices per class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["log_sigmoid", "sampled_variances", "sigmoid"]

Activation = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def sigmoid(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value, slope and bend."""
    s = 1 / (1 + np.exp(-a))
    return s, s * (1 - s), s * (1 - s) * (1 - 2 * s)


def log_sigmoid(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value, slope and bend."""
    s = 1 / (1 + np.exp(-a))
    return -np.log1p(np.exp(-a)), 1 - s, -s * (1 - s)


def single_label_values(
    weights: Sequence[np.ndarray], activation: Activation, x: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return the class probabilities (C,), both estimates at every class by pre-activation (C, n_l), and the layers' inputs."""
    inputs, slopes, bends, state = [], [], [], x
    for weight in weights:
        inputs.append(np.append(state, 1.0))
        state, slope, bend = activation(weight @ inputs[-1])
        slopes.append(slope)
        bends.append(bend)
    logits = weights[-1] @ inputs[-1]
    p = np.exp(logits - logits.max())
    p /= p.sum()
    covariance = np.diag(p) - np.outer(p, p)
    gradient = np.eye(len(p))  # of each logit by the pre-activations of the layer
    hessian = np.zeros((len(p), len(p), len(p)))
    found = []
    for layer in range(len(weights) - 1, -1, -1):
        score = np.square(gradient - p @ gradient)
        second = np.diagonal(hessian, axis1=1, axis2=2)
        curvature = np.einsum("ao,ab,bo->o", gradient, covariance, gradient) - (second - p @ second)
        found.append(np.stack([score, curvature]))
        if layer:
            kernel = weights[layer][:, :-1]
            below = gradient @ kernel
            slope, bend = slopes[layer - 1], bends[layer - 1]
            hessian = (kernel.T @ hessian @ kernel) * np.outer(slope, slope)
            hessian[:, np.arange(len(bend)), np.arange(len(bend))] += below * bend
            gradient = below * slope
    return p, found[::-1], inputs


def sampled_variances(
    weights: Sequence[np.ndarray], activation: Activation, x: np.ndarray, n_draws: int, replicates: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the sample variance of a single label's estimates over `n_draws` labels per input.

    Means over the inputs and the entries of each layer, shape (replicates, 2, L).
    """
    found = np.zeros((replicates, 2, len(weights)))
    for one in x:
        p, values, inputs = single_label_values(weights, activation, one)
        counts = rng.multinomial(n_draws, p, size=replicates)
        for layer, value in enumerate(values):
            mean = counts @ value / n_draws  # (2, replicates, n_l)
            square = counts @ np.square(value) / n_draws
            sample = (square - np.square(mean)) * n_draws / (n_draws - 1)
            found[:, :, layer] += sample.mean(axis=-1).T * np.mean(inputs[layer] ** 4)
    return found / len(x)
