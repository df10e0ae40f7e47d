r"""First and second derivatives of the natural parameters, factored per layer.

For a layer l everything over :math:`W_l[o,d]` is (a number per unit o) x (a power of the layer's input
:math:`\bar h_l[d]`), input by input.  This module makes the numbers per unit:

* ``G[l][i,a,o] =`` :math:`\partial h_L^a/\partial a_{l+1,o}=(B_{l+1}D_l)[a,o]`, so
  :math:`\partial h_L^a/\partial W_l[o,d]=G_l[a,o]\,\bar h_l[d]`;
* ``S[l][i,a,o] =`` :math:`\partial^2 h_L^a/\partial a_{l+1,o}^2`, so
  :math:`\partial^2 h_L^a/\partial W_l[o,d]^2=S_l[a,o]\,\bar h_l[d]^2`.

Array layout throughout: inputs first, outputs a second, units last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fisherstats.model.network import MLP

__all__ = [
    "Forward",
    "HessianBlocks",
    "curvatures",
    "forward",
    "gradients",
    "hessian_blocks",
    "jacobians",
    "pull_back",
    "push_forward",
]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Forward:
    """One pass through the network for a block of inputs."""

    inputs: list[Array]
    """Layer inputs with the constant one appended, (n, n_l + 1) for l = 0..L-1."""
    pre_activations: list[Array]
    """a_{l+1}, (n, n_{l+1}) for the hidden layers."""
    slopes: list[Array]
    """First derivatives of the activations there."""
    bends: list[Array]
    """Second derivatives of the activations there; empty unless asked for."""
    natural: Array
    """h_L, (n, T)."""


def forward(model: MLP, x: Array, order: int = 1) -> Forward:
    """Pass a block through the network, with the activations' derivatives up to `order`."""
    inputs, pre_activations, slopes, bends = [], [], [], []
    h = x
    for weight, activation in zip(model.weights[:-1], model.activations, strict=True):
        h_bar = _with_one(h)
        a = h_bar @ weight.T
        h, *derivatives = activation.evaluate(a, order)
        inputs.append(h_bar)
        pre_activations.append(a)
        slopes.append(derivatives[0])
        if order > 1:
            bends.append(derivatives[1])
    inputs.append(_with_one(h))
    return Forward(inputs, pre_activations, slopes, bends, inputs[-1] @ model.weights[-1].T)


def _with_one(h: Array) -> Array:
    h_bar = np.empty((h.shape[0], h.shape[1] + 1), dtype=h.dtype)
    h_bar[:, :-1] = h
    h_bar[:, -1] = 1
    return h_bar


def jacobians(model: MLP, passed: Forward) -> list[Array]:
    r"""Return :math:`G_l=B_{l+1}D_l` for every layer, (n, T, n_{l+1}); the last one is the identity."""
    n, n_outputs = passed.natural.shape
    identity = np.eye(n_outputs, dtype=passed.natural.dtype)
    G = [np.broadcast_to(identity, (n, n_outputs, n_outputs))]
    for layer in range(model.n_layers - 2, -1, -1):
        G.append(pull_back(model, G[-1], layer + 1) * passed.slopes[layer][:, None, :])
    return G[::-1]


def pull_back(model: MLP, G: Array, layer: int) -> Array:
    r"""Return :math:`B_l=G_lW_l^-`, the derivative of the natural parameters by the output of layer l, (n, T, n_l)."""
    kernel = model.weights[layer][:, :-1]
    # The identity at the top is stored once for all inputs, so its product with the kernel is the kernel.
    if G.strides[0] == 0:
        return np.broadcast_to(kernel, (G.shape[0], *kernel.shape))
    n, n_outputs, n_units = G.shape
    return (np.ascontiguousarray(G).reshape(n * n_outputs, n_units) @ kernel).reshape(n, n_outputs, -1)


def curvatures(model: MLP, passed: Forward, G: list[Array]) -> list[Array | None]:
    r"""Return :math:`S_l[a,o]=\sum_{k\ge l}\sum_r B_{k+1}[a,r]\sigma''(a_{k+1,r})A_{k,l}[r,o]^2`, (n, T, n_{l+1}).

    `G` may be contracted with a vector per input beforehand, (n, 1, n_{l+1}): the second derivatives are linear in it.

    `None` stands for a layer where the theory says zero: the last (canonical) layer and every layer that only piecewise
    linear activations follow. One chain :math:`A_{k,l}=\partial a_{k+1}/\partial a_{l+1}` per input serves all outputs.
    """
    n_hidden = model.n_layers - 1
    bent: list[Array | None] = [
        None if model.activations[k].piecewise_linear else pull_back(model, G[k + 1], k + 1) * passed.bends[k][:, None, :]
        for k in range(n_hidden)
    ]
    S: list[Array | None] = []
    for layer in range(n_hidden):
        total = bent[layer]
        chain: Array | None = None
        last_bent = max((k for k in range(n_hidden) if bent[k] is not None), default=-1)
        for k in range(layer + 1, last_bent + 1):
            chain = _next_link(model, passed, k, chain)
            above = bent[k]
            if above is not None:
                term = above @ np.square(chain)
                total = term if total is None else total + term
        S.append(total)
    return [*S, None]


def _next_link(model: MLP, passed: Forward, k: int, chain: Array | None) -> Array:
    r"""Return :math:`A_{k,l}=W_k^-D_{k-1}A_{k-1,l}`, (n, n_{k+1}, n_{l+1}); `chain` None stands for the identity."""
    kernel, slope = model.weights[k][:, :-1], passed.slopes[k - 1]
    if chain is None:
        return kernel * slope[:, None, :]
    link: Array = np.matmul(kernel, slope[:, :, None] * chain)
    return link


@dataclass(frozen=True)
class HessianBlocks:
    r"""The Hessian of :math:`r^\top h_L` per pair of layers l <= m, (r one T-vector per input).

    Block (l, m) is ``pairs[l, m][o, p]`` :math:`\bar h_l[d]\bar h_m[q]` plus, for l < m and q not the bias,
    ``score[m][p] * reach[l, m][q, o]`` :math:`\bar h_l[d]` (row-major parameters [o, d] and [p, q]).
    """

    pairs: dict[tuple[int, int], Array | None]
    score: list[Array]
    reach: dict[tuple[int, int], Array]


def hessian_blocks(model: MLP, passed: Forward, G: list[Array], r: Array, cross_layers: bool = True) -> HessianBlocks:
    r"""Return the layer blocks of :math:`\sum_a r_a\,\partial^2 h_L^a/\partial\theta\partial\theta^\top`.

    With :math:`E_k=\mathrm{diag}(r^\top B_{k+1}\circ\sigma''(a_{k+1}))` the unit part of a diagonal block obeys
    :math:`C_{ll}=E_l+A_{l+1,l}^\top C_{l+1,l+1}A_{l+1,l}`, and :math:`C_{lm}=A_{m,l}^\top C_{mm}`.
    """
    n_layers = model.n_layers
    score = [np.matmul(r[:, None, :], G_l)[:, 0, :] for G_l in G]
    pairs: dict[tuple[int, int], Array | None] = {(n_layers - 1, n_layers - 1): None}
    below: Array | None = None
    for layer in range(n_layers - 2, -1, -1):
        below = _unit_hessian(model, passed, score, layer, below)
        pairs[layer, layer] = below
    reach: dict[tuple[int, int], Array] = {}
    if cross_layers:
        for layer in range(n_layers - 1):
            chain: Array | None = None
            for m in range(layer + 1, n_layers):
                reach[layer, m] = _reach(passed, m, layer, chain)
                chain = _next_link(model, passed, m, chain)
                above = pairs[m, m]
                pairs[layer, m] = None if above is None else np.matmul(chain.transpose(0, 2, 1), above)
    return HessianBlocks(pairs, score, reach)


def _unit_hessian(model: MLP, passed: Forward, score: list[Array], layer: int, above: Array | None) -> Array | None:
    """Return C_ll from C_{l+1,l+1}, (n, n_{l+1}, n_{l+1})."""
    total: Array | None = None
    if above is not None:
        link = _next_link(model, passed, layer + 1, None)
        total = np.matmul(link.transpose(0, 2, 1), np.matmul(above, link))
    if not model.activations[layer].piecewise_linear:
        bent = (score[layer + 1] @ model.weights[layer + 1][:, :-1]) * passed.bends[layer]
        units = np.arange(bent.shape[1])
        if total is None:
            total = np.zeros((*bent.shape, bent.shape[1]), dtype=bent.dtype)
        total[:, units, units] += bent
    return total


def _reach(passed: Forward, m: int, layer: int, chain: Array | None) -> Array:
    r"""Return :math:`\partial h_m/\partial a_{l+1}=D_{m-1}A_{m-1,l}`, (n, n_m, n_{l+1})."""
    slope = passed.slopes[m - 1]
    if chain is None:
        n, n_units = slope.shape
        diagonal = np.zeros((n, n_units, n_units), dtype=slope.dtype)
        diagonal[:, np.arange(n_units), np.arange(n_units)] = slope
        return diagonal
    return slope[:, :, None] * chain


def push_forward(model: MLP, passed: Forward, direction: Array) -> Array:
    r"""Return :math:`J v` for a parameter vector v, (n, T)."""
    moved: Array | None = None
    for layer, (weight, part) in enumerate(zip(model.weights, model.layer_slices(), strict=True)):
        tangent = passed.inputs[layer] @ direction[part].reshape(weight.shape).T
        if moved is not None:
            tangent += moved @ weight[:, :-1].T
        if layer < model.n_layers - 1:
            moved = tangent * passed.slopes[layer]
    return tangent


def gradients(model: MLP, passed: Forward, z: Array) -> list[Array]:
    r"""Return :math:`z^\top G_l` for one T-vector z per input, (n, n_{l+1}) per layer."""
    back = [z]
    for layer in range(model.n_layers - 2, -1, -1):
        back.append((back[-1] @ model.weights[layer + 1][:, :-1]) * passed.slopes[layer])
    return back[::-1]
