r"""Bounds of the derivatives of h by products of weight norms, and their consequences for the covariances.

With :math:`c_{1,i}=\sup|\sigma_i'|`, :math:`c_{2,i}=\sup|\sigma_i''|` of each layer's own activation and s one norm of every
kernel :math:`W_i^-` (Frobenius or largest singular value), every bound is a sum of products of weight norms:

* :math:`\|G_l\|\le\prod_{i\ge l}c_{1,i}\prod_{i>l}s_i`, and for the last layer :math:`\|I\|_F=\sqrt{n_L}`;
* :math:`\|A_{k,l}\|\le\prod_{i=l}^{k-1}c_{1,i}\prod_{i=l+1}^{k}s_i`, 1 for k = l, where it multiplies row by row.

A link h = g(z) is treated as a further activation, at the output: :math:`c_{1,L-1}=\max_a|g_a'|` and
:math:`c_{2,L-1}=\max_a|g_a''|` at the input in question.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import double, identity, like
from fisherstats.core.margins import eigenvalues

__all__ = [
    "KINDS",
    "Products",
    "Suprema",
    "WeightBounds",
    "derivative_norms",
    "first_bound",
    "kernel_norms",
    "printed_first_bounds",
    "second_bound",
    "weight_bounds",
]

Array = NDArray[np.floating]
Powers = NDArray[np.int64]

KINDS = ("frobenius", "spectral", "tensor")
"""Frobenius norms; largest singular values of the matrix outputs x parameters; of the tensor, over unit vectors."""


@dataclass(frozen=True)
class Suprema:
    """Suprema of first and second derivatives of each layer's activation; of the link for the last one (1 and 0 without)."""

    slopes: Array
    """c_1, (n, L)."""
    bends: Array
    """c_2, (n, L)."""
    last_slope: Array
    """Norms `KINDS` of diag g', (n, 3): sqrt(n_L), 1 and 1 without a link."""
    last_bend: Array
    """Norms `KINDS` of the diagonal tensor g'', (n, 3): 0 without a link."""

    @classmethod
    def of(
        cls, first: Sequence[float], second: Sequence[float], outputs: int, link: tuple[Array, Array] | None = None
    ) -> Suprema:
        """Build it from the suprema of the hidden layers, and the link's derivatives at each input (n, T)."""
        slope, bend = (np.ones((1, outputs)), np.zeros((1, outputs))) if link is None else (np.abs(one) for one in link)
        slope, bend = double(slope), double(bend)
        hidden = [np.broadcast_to(like(np.asarray(one, np.float64), slope), (len(slope), len(one))) for one in (first, second)]
        largest = [one.max(axis=1, keepdims=True) for one in (slope, bend)]
        norms = [
            np.concatenate([np.linalg.norm(one, axis=1, keepdims=True), top, top], axis=1)
            for one, top in zip((slope, bend), largest, strict=True)
        ]
        joined = [np.concatenate(pair, axis=1) for pair in zip(hidden, largest, strict=True)]
        return cls(joined[0], joined[1], norms[0], norms[1])


@dataclass(frozen=True)
class Products:
    r"""A sum of :math:`c_t\prod_is_i^{e_{ti}}` over terms t, for the norms s of the kernels."""

    coefficients: list[Array]
    """Per term (n,)."""
    powers: list[Powers]
    """Per term (L,)."""

    def bound(self, norms: Array) -> tuple[Array, Array]:
        """Return the sum (n,) and its derivatives by each norm (n, L), n = 1 where all inputs share them; norms (L,)."""
        if not self.powers:
            return np.zeros_like(norms, shape=1), np.zeros_like(norms, shape=(1, len(norms)))
        powers, coefficients = like(np.stack(self.powers), norms), like(np.stack(self.coefficients), norms)
        lowered = np.maximum(powers[:, None, :] - identity(len(norms), powers), 0)
        derivatives = powers * np.prod(norms**lowered, axis=2)
        return coefficients.T @ np.prod(norms**powers, axis=1), coefficients.T @ derivatives


@dataclass(frozen=True)
class WeightBounds:
    """Bounds of the derivatives at each input, and their derivatives by the norm of each kernel, layer inputs held fixed."""

    first: Array
    """Of dh/dW_l, by the first two `KINDS`, (n, 2, L)."""
    first_gradient: Array
    """(n, 2, L, L), the kernel last."""
    second: Array
    """Of d2h/dW_l dW_m, by all `KINDS`, symmetric in the layers, (n, 3, L, L)."""
    second_gradient: Array
    """(n, 3, L, L, L), the kernel last."""

    def squares(self) -> tuple[Array, Array, Array, Array]:
        r"""Return bounds of :math:`\|J\|^2` and :math:`\|H\|^2`, (n, 2) each, each followed by its gradient (n, 2, L).

        Squared norms of the whole derivative are at most the sums of those of its blocks, off-diagonal ones counted twice.
        """
        second, second_gradient = self.second[:, :2], self.second_gradient[:, :2]
        return (
            np.square(self.first).sum(axis=2),
            2 * np.einsum("nvl,nvlk->nvk", self.first, self.first_gradient),
            np.square(second).sum(axis=(2, 3)),
            2 * np.einsum("nvlm,nvlmk->nvk", second, second_gradient),
        )


def weight_bounds(suprema: Suprema, widths: Sequence[int], norms: Array, inputs: Sequence[Array]) -> WeightBounds:
    """Return the bounds of all layers and pairs of layers; norms (3, L) by `KINDS`, inputs the layer inputs (n, n_l + 1)."""
    n, n_layers = len(inputs[0]), norms.shape[1]
    norms = like(norms, inputs[0])
    zeros = functools.partial(np.zeros_like, inputs[0], dtype=np.float64)
    size = [np.linalg.norm(double(h_bar), axis=1) for h_bar in inputs]
    first, first_gradient = zeros(shape=(n, 2, n_layers)), zeros(shape=(n, 2, n_layers, n_layers))
    second, second_gradient = (zeros(shape=(n, 3, *(n_layers,) * order)) for order in (2, 3))
    for at, kind in enumerate(KINDS):
        for left in range(n_layers):
            if at < 2:
                value, gradient = first_bound(suprema, left, kind).bound(norms[at])
                first[:, at, left], first_gradient[:, at, left] = value * size[left], gradient * size[left][:, None]
            for right in range(left, n_layers):
                curved, explicit = (one.bound(norms[at]) for one in second_bound(suprema, widths, left, right, kind))
                block = size[left] * (size[right] * curved[0] + explicit[0])
                slope = size[left][:, None] * (size[right][:, None] * curved[1] + explicit[1])
                second[:, at, left, right] = second[:, at, right, left] = block
                second_gradient[:, at, left, right] = second_gradient[:, at, right, left] = slope
    return WeightBounds(first, first_gradient, second, second_gradient)


def first_bound(suprema: Suprema, layer: int, kind: str) -> Products:
    r"""Bound :math:`\|\partial h_L/\partial W_l\|/\|\bar h_l\|=\|B_{l+1}D_l\|` (2021, norm theorem, corrected).

    As printed, the Frobenius bound of the last layer is the empty product 1, which is false for more than one output; and
    c_1 = 1 by hypothesis, which leaves out GELU, SiLU, Mish, SELU and erf.
    """
    n_layers = suprema.slopes.shape[1]
    if layer == n_layers - 1:
        return Products([suprema.last_slope[:, KINDS.index(kind)]], [_powers(n_layers)])
    return Products([_slopes(suprema, layer, n_layers)], [_powers(n_layers, (layer + 1, n_layers))])


def printed_first_bounds(norms: Array, inputs: Sequence[Array]) -> Array:
    r"""Return :math:`\prod_{i>l}s_i\,\|\bar h_l\|` as printed in the norm theorem of 2021, (n, 2, L)."""
    norms = like(norms, inputs[0])
    above = [np.prod(norms[:, layer + 1 :], axis=1) for layer in range(norms.shape[1])]
    size = [np.linalg.norm(double(h_bar), axis=1) for h_bar in inputs]
    return np.stack([h[:, None] * product for h, product in zip(size, above, strict=True)], axis=2)


def second_bound(suprema: Suprema, widths: Sequence[int], left: int, right: int, kind: str) -> tuple[Products, Products]:
    r"""Bound the block l <= m of the second derivatives: (times :math:`\|\bar h_l\|\|\bar h_m\|`, times :math:`\|\bar h_l\|`).

    :math:`\sum_{k\ge m}c_{2,k}\|B_{k+1}\|\|A_{k,l}\|\|A_{k,m}\|` and, for l < m, :math:`\|B_{m+1}D_m\|\|D_{m-1}A_{m-1,l}\|`.
    As a matrix with the outputs for rows, the second term has the *Frobenius* norm of its last factor, at most
    :math:`\sqrt{\min(n_{l+1},\dots,n_m)}` times the spectral one; as a tensor it has the spectral one.
    """
    n_layers = suprema.slopes.shape[1]
    curved = Products([], [])
    for k in range(right, n_layers):
        slopes = _slopes(suprema, k + 1, n_layers) * _slopes(suprema, left, k) * _slopes(suprema, right, k)
        if left == right == k == n_layers - 1:
            bend = suprema.last_bend[:, KINDS.index(kind)]
        else:
            bend = suprema.bends[:, k]
        if bend.any():
            curved.coefficients.append(bend * slopes)
            curved.powers.append(_powers(n_layers, (k + 1, n_layers), (left + 1, k + 1), (right + 1, k + 1)))
    explicit = Products([], [])
    if left < right:
        above = first_bound(suprema, right, kind)
        if kind == "frobenius":
            size = widths[right] if right == left + 1 else 1
        else:
            size = min(widths[left + 1 : right + 1]) if kind == "spectral" else 1
        explicit.coefficients.append(above.coefficients[0] * _slopes(suprema, left, right) * np.sqrt(size))
        explicit.powers.append(above.powers[0] + _powers(n_layers, (left + 1, right)))
    return curved, explicit


def derivative_norms(gram: Array) -> Array:
    """Return Frobenius and largest singular value of X from X X' (n, T, T), (n, 2)."""
    trace = np.maximum(np.trace(gram, axis1=1, axis2=2), 0)
    size = np.where(trace > 0, trace, 1)
    largest = np.clip(eigenvalues(gram / size[:, None, None])[:, -1], 0, 1)
    squares: Array = np.stack([trace, largest * trace], axis=1)
    return np.sqrt(squares)


def kernel_norms(kernels: Sequence[Array]) -> Array:
    """Return the norms `KINDS` of every kernel, (3, L); the last two agree."""
    doubled = [double(kernel) for kernel in kernels]
    spectral = [np.linalg.norm(kernel, ord=2) for kernel in doubled]
    return np.stack([np.stack([np.linalg.norm(kernel) for kernel in doubled]), *[np.stack(spectral)] * 2])


def _slopes(suprema: Suprema, start: int, stop: int) -> Array:
    return np.prod(suprema.slopes[:, start:stop], axis=1)


def _powers(n_layers: int, *ranges: tuple[int, int]) -> Powers:
    """Return how often each layer occurs in the half-open ranges."""
    powers = np.zeros(n_layers, np.int64)
    for start, stop in ranges:
        powers[start:stop] += 1
    return powers
