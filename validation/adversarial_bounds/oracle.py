"""Exact variances of a network at 80 digits, sharing nothing with the package.

Derivatives are those of a power series in one pre-activation, carried through the network; a family gives the second and fourth
cumulant of u.t from textbook formulas or by listing the classes. No form is chosen for its accuracy: there are digits enough.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath as mp

__all__ = ["Entry", "Exact", "Head", "network"]

DIGITS = 80

Vector = list[Any]


@dataclass(frozen=True)
class Head:
    """One part of the response: a kind of law, its parameters, and the link of its outputs."""

    kind: str
    outputs: int
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One unit of one layer at one input: dh and d2h by its pre-activation, and the exact numbers before the layer's input."""

    layer: int
    first: Vector
    second: Vector
    information: Any
    score: Any
    hessian: Any


@dataclass(frozen=True)
class Exact:
    """All units at one input, the extended inputs of the layers, and the law."""

    entries: list[Entry]
    inputs: list[Vector]
    law: Law


# --- activations and links: value, first and second derivative -------------------------------------------------------


def _tanh(a: Any) -> tuple[Any, Any, Any]:
    t = mp.tanh(a)
    return t, 1 - t * t, -2 * t * (1 - t * t)


def _sin(a: Any) -> tuple[Any, Any, Any]:
    return mp.sin(a), mp.cos(a), -mp.sin(a)


def _softplus(a: Any) -> tuple[Any, Any, Any]:
    s = 1 / (1 + mp.exp(-a))
    return mp.log(1 + mp.exp(a)), s, s * (1 - s)


def _identity(a: Any) -> tuple[Any, Any, Any]:
    return a, mp.mpf(1), mp.mpf(0)


def _power(factor: float) -> Callable[[Any], tuple[Any, Any, Any]]:
    def link(a: Any) -> tuple[Any, Any, Any]:
        value = factor * mp.exp(a)
        return value, value, value

    return link


def _failures(a: Any) -> tuple[Any, Any, Any]:
    """h = log of the expit of a."""
    s = 1 / (1 + mp.exp(-a))
    return mp.log(s), 1 - s, -s * (1 - s)


ACTIVATIONS = {"tanh": _tanh, "sin": _sin, "softplus": _softplus}

LINKS = {
    "gaussian": (_identity,),
    "bernoulli": (_identity,),
    "binomial": (_identity,),
    "poisson": (_identity,),
    "categorical": (_identity,),
    "multinomial": (_identity,),
    "gamma": (_power(-1.0),),
    "inverse_gaussian": (_power(-1.0),),
    "negative_binomial": (_failures,),
    "gaussian_mean_variance": (_identity, _power(-0.5)),
    "gamma_shape_rate": (_power(1.0), _power(-1.0)),
    "dirichlet": (_power(1.0),),
}


# --- laws ------------------------------------------------------------------------------------------------------------


class Law:
    """Second and fourth cumulants of the statistic of one part, as forms."""

    def __init__(self, head: Head, h: Vector) -> None:
        self.head, self.h = head, h
        self._second, self._fourth = getattr(self, f"_of_{head.kind}")(h, *head.parameters)

    def second(self, u: Vector, v: Vector) -> Any:
        """Cov(u.t, v.t)."""
        return self._second(u, v)

    def fourth(self, *u: Vector) -> Any:
        """Fourth joint cumulant of four directions."""
        return self._fourth(*u)

    @staticmethod
    def _independent(second: Vector, fourth: Vector) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return (
            lambda u, v: mp.fsum(k * a * b for k, a, b in zip(second, u, v, strict=True)),
            lambda u, v, w, z: mp.fsum(k * a * b * c * d for k, a, b, c, d in zip(fourth, u, v, w, z, strict=True)),
        )

    def _of_gaussian(self, h: Vector, precision: Sequence[Sequence[Any]] | None = None) -> Any:
        def second(u: Vector, v: Vector) -> Any:
            if precision is None:
                return mp.fdot(u, v)
            return mp.fsum(a * precision[i][k] * b for i, a in enumerate(u) for k, b in enumerate(v))

        return second, lambda *u: mp.mpf(0)

    def _of_binomial(self, h: Vector, trials: int) -> Any:
        v = [1 / (2 + mp.exp(a) + mp.exp(-a)) for a in h]
        return self._independent([trials * one for one in v], [trials * one * (1 - 6 * one) for one in v])

    def _of_bernoulli(self, h: Vector) -> Any:
        return self._of_binomial(h, 1)

    def _of_poisson(self, h: Vector) -> Any:
        rate = [mp.exp(a) for a in h]
        return self._independent(rate, rate)

    def _of_gamma(self, h: Vector, shape: Any) -> Any:
        shape = mp.mpf(shape)
        return self._independent([shape / a**2 for a in h], [6 * shape / a**4 for a in h])

    def _of_inverse_gaussian(self, h: Vector, shape: Any) -> Any:
        mean = [mp.sqrt(mp.mpf(shape) / (-2 * a)) for a in h]
        return self._independent([m**3 / shape for m in mean], [15 * m**7 / mp.mpf(shape) ** 3 for m in mean])

    def _of_negative_binomial(self, h: Vector, successes: Any) -> Any:
        q, r = [mp.exp(a) for a in h], mp.mpf(successes)
        second = [r * one / (1 - one) ** 2 for one in q]
        return self._independent(second, [r * one * (1 + 4 * one + one**2) / (1 - one) ** 4 for one in q])

    def _of_gaussian_mean_variance(self, h: Vector) -> Any:
        variance = -1 / (2 * h[1])
        mean = h[0] * variance
        second = [variance, 2 * mean * variance, 4 * mean**2 * variance + 2 * variance**2]
        fourth = [0, 0, 8 * variance**3, 48 * mean * variance**3, 192 * mean**2 * variance**3 + 48 * variance**4]
        return self._by_count(second, fourth)

    def _of_gamma_shape_rate(self, h: Vector) -> Any:
        shape, rate = h[0], -h[1]
        second = [mp.psi(1, shape), 1 / rate, shape / rate**2]
        return self._by_count(second, [mp.psi(3, shape), 0, 0, 2 / rate**3, 6 * shape / rate**4])

    @staticmethod
    def _by_count(second: Vector, fourth: Vector) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Forms of two statistics from their cumulants by how often the second one is taken."""

        def form(values: Vector, *u: Vector) -> Any:
            total = mp.mpf(0)
            for index in itertools.product((0, 1), repeat=len(u)):
                if values[sum(index)]:
                    total += values[sum(index)] * mp.fprod(one[k] for one, k in zip(u, index, strict=True))
            return total

        return lambda u, v: form(second, u, v), lambda *u: form(fourth, *u)

    def _of_dirichlet(self, h: Vector) -> Any:
        total = mp.fsum(h)

        def form(order: int) -> Callable[..., Any]:
            own, whole = [mp.psi(order - 1, a) for a in h], mp.psi(order - 1, total)

            def moment(*u: Vector) -> Any:
                each = mp.fsum(k * mp.fprod(one[a] for one in u) for a, k in enumerate(own))
                return each - whole * mp.fprod(mp.fsum(one) for one in u)

            return moment

        return form(2), form(4)

    def _of_categorical(self, h: Vector, minimal: bool = False) -> Any:
        return self._of_multinomial(h, 1, minimal)

    def _of_multinomial(self, h: Vector, trials: int, minimal: bool = False) -> Any:
        weights = [mp.exp(a) for a in h] + [mp.mpf(1)] * minimal
        p = [one / mp.fsum(weights) for one in weights]

        def centred(u: Vector) -> Vector:
            u = [*u, *[mp.mpf(0)] * minimal]
            mean = mp.fdot(p, u)
            return [one - mean for one in u]

        def moment(*q: Vector) -> Any:
            return mp.fsum(weight * mp.fprod(one[k] for one in q) for k, weight in enumerate(p))

        def fourth(*u: Vector) -> Any:
            a, b, c, d = (centred(one) for one in u)
            pairs = moment(a, b) * moment(c, d) + moment(a, c) * moment(b, d) + moment(a, d) * moment(b, c)
            return trials * (moment(a, b, c, d) - pairs)

        return lambda u, v: trials * moment(centred(u), centred(v)), fourth


class Side(Law):
    """Several parts side by side."""

    def __init__(self, heads: Sequence[Head], h: Vector) -> None:
        ends = [0, *itertools.accumulate(head.outputs for head in heads)]
        self.slices = [slice(*pair) for pair in itertools.pairwise(ends)]
        self.parts = [Law(head, h[piece]) for head, piece in zip(heads, self.slices, strict=True)]

    def second(self, u: Vector, v: Vector) -> Any:
        return mp.fsum(part.second(u[piece], v[piece]) for part, piece in zip(self.parts, self.slices, strict=True))

    def fourth(self, *u: Vector) -> Any:
        pieces = zip(self.parts, self.slices, strict=True)
        return mp.fsum(part.fourth(*(one[piece] for one in u)) for part, piece in pieces)


# --- the network -----------------------------------------------------------------------------------------------------


def _through(function: Callable[[Any], tuple[Any, Any, Any]], jet: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    value, slope, bend = function(jet[0])
    return value, slope * jet[1], bend * jet[1] ** 2 + slope * jet[2]


def network(weights: Sequence[Any], activation: str, heads: Sequence[Head], x: Sequence[float]) -> Exact:
    """Return the exact numbers of a network with one activation at one input, weights as the floats that they are."""
    with mp.workdps(DIGITS):
        matrices = [[[mp.mpf(float(one)) for one in row] for row in matrix] for matrix in weights]
        links = [LINKS[head.kind][k % len(LINKS[head.kind])] for head in heads for k in range(head.outputs)]
        functions = [[ACTIVATIONS[activation]] * len(matrix) for matrix in matrices[:-1]] + [links]
        inputs, before = [[*(mp.mpf(float(one)) for one in x), mp.mpf(1)]], []
        for matrix, own in zip(matrices, functions, strict=True):
            before.append([mp.fdot(row, inputs[-1]) for row in matrix])
            inputs.append([*(function(a)[0] for function, a in zip(own, before[-1], strict=True)), mp.mpf(1)])
        law = Side(heads, inputs.pop()[:-1])
        entries = []
        for layer, units in enumerate(before):
            for unit in range(len(units)):
                jets = [(a, mp.mpf(k == unit), mp.mpf(0)) for k, a in enumerate(units)]
                for at in range(layer, len(matrices)):
                    if at > layer:
                        rows = matrices[at]
                        jets = [
                            (before[at][o], *(mp.fsum(w * jet[k] for w, jet in zip(row[:-1], jets, strict=True)) for k in (1, 2)))
                            for o, row in enumerate(rows)
                        ]
                    jets = [_through(function, jet) for function, jet in zip(functions[at], jets, strict=True)]
                u, s = [jet[1] for jet in jets], [jet[2] for jet in jets]
                variance = law.second(u, u)
                entries.append(Entry(layer, u, s, variance, law.fourth(u, u, u, u) + 2 * variance**2, law.second(s, s)))
        return Exact(entries, inputs, law)
