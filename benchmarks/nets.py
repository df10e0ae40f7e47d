"""The networks and inputs of the workloads, and the operation counts they share (one multiplication and one addition are 2)."""

from __future__ import annotations

import itertools

import numpy as np

import fisherstats as fs

DTYPES = ("float64", "float32")
MEDIUM = (784, 80, 80, 80, 10)
MANY = (784, 80, 80, 80, 1000)
WIDE = (784, 1024, 1024, 10)
DEEP = (784, *[256] * 19, 10)
TINY = (6, 5, 5, 5, 3)


def tanh_classifier(widths: tuple[int, ...], n_inputs: int, dtype: str) -> tuple[fs.MLP, np.ndarray]:
    """Return a network with tanh units and categorical response, and standard normal inputs."""
    model = fs.MLP.random(widths, activation="tanh", family=fs.families.Categorical(widths[-1]), rng=0)
    x = np.random.default_rng(1).standard_normal((n_inputs, widths[0]))
    return model.as_dtype(np.dtype(dtype)), x.astype(dtype)


def probabilities(model: fs.MLP, x: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes, in float64."""
    natural = model.natural_parameters(x).astype(np.float64)
    weights = np.exp(natural - natural.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def n_params(widths: tuple[int, ...], first: int = 0) -> int:
    """Return the number of parameters, of the layers from `first` on."""
    return sum(n_out * (n_in + 1) for n_in, n_out in list(itertools.pairwise(widths))[first:])


def described(widths: tuple[int, ...], n_inputs: int) -> str:
    """Return a network and its inputs in words: 784-80-80-80-10, 1,000 inputs."""
    parts = []
    for width, group in itertools.groupby(widths):
        times = len(list(group))
        parts.append(f"{width}" if times == 1 else "-".join([str(width)] * times) if times < 5 else f"{width} x {times}")
    return f"{'-'.join(parts)}, {n_inputs:,} input{'s' if n_inputs > 1 else ''}"


def pass_flops(widths: tuple[int, ...], n_inputs: int) -> float:
    """Count a product of all inputs with every weight: the forward pass, or what ends a diagonal."""
    return 2 * n_inputs * n_params(widths)


def backward_flops(widths: tuple[int, ...], n_inputs: int) -> float:
    """Count the pass of C - 1 rows per input backwards through the weights between hidden layers (the last ones start it)."""
    return 2 * n_inputs * (widths[-1] - 1) * sum(a * b for a, b in itertools.pairwise(widths[1:-1]))


def chain_flops(widths: tuple[int, ...], n_inputs: int) -> float:
    """Count the products that give dz_k/dz_l for all hidden layers k >= l + 2."""
    hidden = widths[1:-1]
    pairs = [(left, right) for right in range(len(hidden)) for left in range(right - 1)]
    return 2 * n_inputs * sum(hidden[left] * hidden[right - 1] * hidden[right] for left, right in pairs)


def squared_flops(widths: tuple[int, ...], n_inputs: int, rows: int, neighbours: bool) -> float:
    """Count the products of `rows` rows per input with (dz_k/dz_l)^2: of neighbouring, or of farther hidden layers."""
    hidden = widths[1:-1]
    pairs = [(a, b) for a, b in itertools.combinations(range(len(hidden)), 2) if (b - a == 1) == neighbours]
    return 2 * n_inputs * rows * sum(hidden[a] * hidden[b] for a, b in pairs)
