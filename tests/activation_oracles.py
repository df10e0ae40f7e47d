"""Activations as textbook formulas in fifty digits, with the points and the measure of error that tests of them use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpmath import mp, mpf

DIGITS = 50
SELU_SCALE = "1.0507009873554804934193349852946"
SELU_ALPHA = "1.6732632423543772848170429916717"

# Value, slope and curvature in fifty digits, from the left at a kink. The derivatives are the textbook ones and
# `test_oracle_derivatives_are_derivatives` holds them to the values.

Oracle = tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]


def logistic(a):
    return 1 / (1 + mp.exp(-a))


def logistic_slope(a):
    return logistic(a) * logistic(-a)


def density(a):
    return mp.exp(-a * a / 2) / mp.sqrt(2 * mp.pi)


def distribution(a):
    return mp.erfc(-a / mp.sqrt(2)) / 2


def rectifier(slope) -> Oracle:
    return lambda a: a if a > 0 else slope * a, lambda a: mpf(1) if a > 0 else slope, lambda a: mpf(0)


def exponential_linear(scale, alpha) -> Oracle:
    return (
        lambda a: scale * a if a > 0 else scale * alpha * mp.expm1(a),
        lambda a: scale if a > 0 else scale * alpha * mp.exp(a),
        lambda a: mpf(0) if a > 0 else scale * alpha * mp.exp(a),
    )


def continuous_exponential_linear(alpha) -> Oracle:
    return (
        lambda a: a if a > 0 else alpha * mp.expm1(a / alpha),
        lambda a: mpf(1) if a > 0 else mp.exp(a / alpha),
        lambda a: mpf(0) if a > 0 else mp.exp(a / alpha) / alpha,
    )


def clipped(lower, upper) -> Oracle:
    return lambda a: max(lower, min(upper, a)), lambda a: mpf(lower < a <= upper), lambda a: mpf(0)


def soft_rectifier(beta) -> Oracle:
    return (
        lambda a: mp.log1p(mp.exp(beta * a)) / beta,
        lambda a: logistic(beta * a),
        lambda a: beta * logistic_slope(beta * a),
    )


def tanh_gate(a):
    scale, cubic = 2 * mp.sqrt(2 / mp.pi), mpf("0.044715")
    return scale * (a + cubic * a**3), scale * (1 + 3 * cubic * a**2), scale * 6 * cubic * a


def gelu_tanh_slope(a):
    w, first, _ = tanh_gate(a)
    return logistic(w) + a * logistic_slope(w) * first


def gelu_tanh_curvature(a):
    w, first, second = tanh_gate(a)
    return logistic_slope(w) * (2 * first + a * second - a * first**2 * mp.tanh(w / 2))


def mish_gate(a):
    return mp.tanh(mp.log1p(mp.exp(a)))


def mish_gate_slope(a):
    return mp.sech(mp.log1p(mp.exp(a))) ** 2 * logistic(a)


def mish_gate_curvature(a):
    softplus = mp.log1p(mp.exp(a))
    return mp.sech(softplus) ** 2 * (logistic_slope(a) - 2 * mp.tanh(softplus) * logistic(a) ** 2)


with mp.workdps(DIGITS):
    ORACLES: dict[str, Oracle] = {
        "tanh": (mp.tanh, lambda a: mp.sech(a) ** 2, lambda a: -2 * mp.tanh(a) * mp.sech(a) ** 2),
        "sigmoid": (logistic, logistic_slope, lambda a: -logistic_slope(a) * mp.tanh(a / 2)),
        "softplus": (lambda a: mp.log1p(mp.exp(a)), logistic, logistic_slope),
        "log_sigmoid": (lambda a: -mp.log1p(mp.exp(-a)), lambda a: logistic(-a), lambda a: -logistic_slope(a)),
        "relu": rectifier(mpf(0)),
        "leaky_relu": rectifier(mpf("0.01")),
        "elu": exponential_linear(mpf(1), mpf(1)),
        "selu": exponential_linear(mpf(SELU_SCALE), mpf(SELU_ALPHA)),
        "gelu": (
            lambda a: a * distribution(a),
            lambda a: distribution(a) + a * density(a),
            lambda a: density(a) * (2 - a * a),
        ),
        "silu": (
            lambda a: a * logistic(a),
            lambda a: logistic(a) * (1 + a * logistic(-a)),
            lambda a: logistic_slope(a) * (2 - a * mp.tanh(a / 2)),
        ),
        "mish": (
            lambda a: a * mish_gate(a),
            lambda a: mish_gate(a) + a * mish_gate_slope(a),
            lambda a: 2 * mish_gate_slope(a) + a * mish_gate_curvature(a),
        ),
        "erf": (
            mp.erf,
            lambda a: 2 / mp.sqrt(mp.pi) * mp.exp(-a * a),
            lambda a: -4 / mp.sqrt(mp.pi) * a * mp.exp(-a * a),
        ),
        "arctan": (mp.atan, lambda a: 1 / (1 + a * a), lambda a: -2 * a / (1 + a * a) ** 2),
        "softsign": (
            lambda a: a / (1 + abs(a)),
            lambda a: 1 / (1 + abs(a)) ** 2,
            lambda a: (-2 if a > 0 else 2) / (1 + abs(a)) ** 3,
        ),
        "sin": (mp.sin, mp.cos, lambda a: -mp.sin(a)),
        "hard_tanh": clipped(mpf(-1), mpf(1)),
        "identity": (lambda a: a, lambda a: mpf(1), lambda a: mpf(0)),
        "gelu_tanh": (lambda a: a * logistic(tanh_gate(a)[0]), gelu_tanh_slope, gelu_tanh_curvature),
        "relu6": clipped(mpf(0), mpf(6)),
        "hard_sigmoid": (
            lambda a: max(mpf(0), min(mpf(6), a + 3)) / 6,
            lambda a: mpf(-3 < a <= 3) / 6,
            lambda a: mpf(0),
        ),
        "hard_swish": (
            lambda a: a * max(mpf(0), min(mpf(6), a + 3)) / 6,
            lambda a: (2 * a + 3) / 6 if -3 < a <= 3 else mpf(a > 3),
            lambda a: mpf(-3 < a <= 3) / 3,
        ),
        "celu": continuous_exponential_linear(mpf(1)),
    }

# Where one of the three functions crosses 0 away from 0 itself: the most delicate places.
ZEROS = {
    "gelu": (-0.7517915246935645, -(2**0.5), 2**0.5),
    "gelu_tanh": (-0.7524614220710163, -1.4185040088908288, 1.4185040088908288),
    "hard_swish": (-3.0, -1.5, 3.0),
    "hard_sigmoid": (-3.0, 3.0),
    "relu6": (6.0,),
    "silu": (-1.2784645427610738, -2.399357280515468, 2.399357280515468),
    "mish": (-1.1924320473030253, -2.2564388798427387, 1.4905711794854284),
    "sin": (np.pi / 2, np.pi, -7 * np.pi / 2, 1000 * np.pi, 1000.5 * np.pi),
}

DTYPES = (np.float32, np.float64)


def grid(name: str, dtype: type, per_decade: int = 4) -> np.ndarray:
    """Body, zeros and their neighbours, the tails to 1e4, and where exponentials of a and of a^2 underflow."""
    body = np.linspace(-9.7, 9.7, 98)
    decades = np.geomspace(1e-30, 1e4, 34 * per_decade + 1)
    underflow = np.concatenate([np.linspace(limit * 0.9, limit * 1.03, 8) for limit in (9.3, 13.2, 26.5, 38, 88, 709)])
    zeros = [zero * (1 + sign * 10.0**-k) for zero in ZEROS.get(name, ()) for sign in (-1, 1) for k in range(1, 20, 2)]
    points = np.concatenate([body, decades, -decades, underflow, -underflow, zeros, [-1, -0.0, 0, 1]])
    return np.unique(points.astype(dtype))


def errors_in_tolerances(oracle: Oracle, order: int, a: np.ndarray, computed: np.ndarray) -> np.ndarray:
    """Return |error| / (8 eps (|f| + |a f'|)), allowing for what is lost below the normal numbers."""
    numbers = np.finfo(computed.dtype)
    ratios = []
    with mp.workdps(DIGITS):
        for point, result in zip(a, computed, strict=True):
            x = mpf(float(point))
            exact = oracle[order](x)
            slope = oracle[order + 1](x) if order < 2 else mp.diff(oracle[2], x, direction=-1 if x <= 0 else 0)
            tolerance = 8 * mpf(float(numbers.eps)) * (abs(exact) + abs(x * slope)) + mpf(float(numbers.tiny))
            ratios.append(float(abs(mpf(float(result)) - exact) / tolerance))
    return np.array(ratios)
