r"""First and second derivatives of the natural parameters, factored per layer.

For a layer l every array over :math:`W_l[o,d]` is (a number per unit o) x (a power of the layer's input :math:`\bar h_l[d]`),
input by input. This module computes the numbers per unit:

* ``G[l][i,a,o] =`` :math:`\partial h_L^a/\partial a_{l+1,o}`, so :math:`\partial h_L^a/\partial W_l[o,d]=G_l[a,o]\,\bar h_l[d]`;
* ``S[l][i,a,o] =`` :math:`\partial^2 h_L^a/\partial a_{l+1,o}^2`, so the second derivative is :math:`S_l[a,o]\,\bar h_l[d]^2`.

Array layout throughout: inputs first, outputs a second, units last.  Where the response distribution depends on differences of
outputs only (softmax), G and S may hold the rows a < T of differences from the last output: one row less to propagate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import identity, like
from fisherstats.core.forks import cached_property
from fisherstats.engines import primitives
from fisherstats.models.network import MLP, kernel_view

__all__ = [
    "Forward",
    "HessianBlocks",
    "Outputs",
    "contracted",
    "curvature_along",
    "curvatures",
    "forward",
    "forward_with_one",
    "from_the_top",
    "gradients",
    "hessian_blocks",
    "jacobians",
    "jacobians_and_curvatures",
    "pull_back",
    "push_forward",
    "second_directional",
    "unit_jacobians",
    "unit_jacobians_and_curvatures",
    "with_one",
]

Array = NDArray[np.floating]
Product = Callable[..., Array]
"""Takes two matrices and `out`, as `np.matmul` does."""


@dataclass(frozen=True)
class Forward:
    """A forward pass through the network for a block of inputs."""

    inputs: list[Array]
    """Layer inputs with the constant one appended, (n, n_l + 1) for l = 0..L-1; without it where a layer has no bias."""
    hidden: Array
    """The pre-activations of all hidden layers in one array, layer by layer, (n x units,)."""
    pre_activations: list[Array]
    """a_{l+1}, (n, n_{l+1}) for the hidden layers: views of `hidden`."""
    slopes: list[Array]
    """First derivatives of the activations there."""
    bends: list[Array]
    """Second derivatives of the activations there; empty unless requested."""
    natural: Array
    """h_L, (n, T): the network's output, mapped by the family's link if there is one."""
    link_slope: Array | None = None
    """First derivative of the link at the network's output, (n, T); None where the output is the natural parameter."""
    link_bend: Array | None = None
    """Second derivative of the link there, if requested."""

    @property
    def own_outputs(self) -> bool:
        """Whether the last layer gives the natural parameters, so that its G is the identity."""
        return self.link_slope is None


_FEW_UNITS = 512


def forward(model: MLP, x: Array, order: int = 1, by_units: bool = False) -> Forward:
    """Run the forward pass of a block, with the derivatives of activations and link up to `order`."""
    # A copy has the same layout in memory, and so the same rounding of products, whatever x is a part of.
    return forward_with_one(model, with_one(x) if model.bias[0] else x.copy(), order, by_units=by_units)


def forward_with_one(model: MLP, x_bar: Array, order: int = 1, product: Product = np.matmul, by_units: bool = False) -> Forward:
    """Do the same for a block that has the constant one appended if the first layer has a bias.

    Values of hidden layers are stored input by input, or `by_units`, which saves a tenth of the time of float64 products of large
    blocks with few units; with more units, or in float32, it would cost a tenth, and is not done. Backward passes with several
    rows per input need them input by input.
    """
    n, sizes = len(x_bar), [len(weight) for weight in model.weights[:-1]]
    by_units = by_units and x_bar.dtype == np.float64 and max(sizes, default=0) <= _FEW_UNITS
    hidden = np.empty_like(x_bar, shape=n * sum(sizes))
    pre_activations = _layers(hidden, n, sizes, by_units)
    # The derivatives of all layers at once where they share an activation: fewer and larger steps for small blocks.
    together = order > 1 and all(one is model.activations[0] for one in model.activations)
    inputs = [x_bar]
    by_layer: list[list[Array]] = [[] for _ in range(order)]
    for layer, (activation, a) in enumerate(zip(model.activations, pre_activations, strict=True)):
        product(inputs[-1], model.weights[layer].T, out=a)
        h, *derivatives = activation.evaluate(a, 0 if together else order)
        inputs.append(with_one(h) if model.bias[layer + 1] else h)
        for found, derivative in zip(by_layer, derivatives, strict=False):
            found.append(derivative)
    if together and sizes:
        _, *derivatives = model.activations[0].evaluate(hidden, order)
        by_layer = [_layers(one, n, sizes, by_units) for one in derivatives]
    slopes, bends = by_layer if order > 1 else (by_layer[0], [])
    output = inputs[-1] @ model.weights[-1].T
    link = model.family.link
    linked = (output,) if link is None else link.evaluate(output, order)
    return Forward(inputs, hidden, pre_activations, slopes, bends, *linked)


def _layers(flat: Array, n: int, sizes: Sequence[int], by_units: bool) -> list[Array]:
    """Return the part (n, units) of each layer from an array that concatenates them."""
    parts, end = [], 0
    for size in sizes:
        start, end = end, end + n * size
        parts.append(flat[start:end].reshape(-1, n).T if by_units else flat[start:end].reshape(n, -1))
    return parts


def with_one(h: Array) -> Array:
    """Return a block with the constant one appended."""
    h_bar = np.empty_like(h, shape=(h.shape[0], h.shape[1] + 1))
    h_bar[:, :-1] = h
    h_bar[:, -1] = 1
    return h_bar


class Outputs:
    """Directions in the outputs shared by all inputs: the outputs themselves, or the rows of :math:`h^a-h^T`, a < T.

    Differences are all that the moments of a `shift_invariant` family need.
    """

    def __init__(self, kernel: Array, differences: bool = False) -> None:
        self.below = kernel[:-1] - kernel[-1] if differences else kernel
        """Their products with the last kernel, (R, k)."""
        self._kernel = kernel
        self._differences = differences

    @cached_property
    def rows(self) -> Array:
        """The directions, (R, T)."""
        every: Array = identity(len(self._kernel), self._kernel)
        return every[:-1] - every[-1] if self._differences else every


Directions = Outputs | Array | None
"""Shared by all inputs, or (n, R, T); None stands for the outputs."""


def jacobians(model: MLP, forward: Forward, rows: Directions = None, contractions: Any = primitives) -> list[Array]:
    r"""Return :math:`G_l=B_{l+1}D_l` for every layer, (n, T, n_{l+1}); the last one is the identity, or the link's slope.

    With `rows` return their products with G_l, (n, R, n_{l+1}). `contractions` holds `scaled_products` (see `engines`).
    """
    return [G for G, _ in from_the_top(model, forward, rows, contractions)][::-1]


def jacobians_and_curvatures(
    model: MLP, forward: Forward, rows: Directions = None, contractions: Any = primitives
) -> tuple[list[Array], list[Array | None]]:
    """Return the results of `jacobians` and `curvatures`, with common parts computed once; needs a forward pass of order 2."""
    G, S = _carried_curvatures(model, forward, rows, contractions)
    return G, _with_link(forward, G, S)


def unit_jacobians(model: MLP, forward: Forward, outputs: Outputs, contractions: Any = primitives) -> list[Array | None]:
    """Return the result of `jacobians`, with None for the identity: no T x T array is created for the last layer."""
    return [G for G, _ in _below_the_outputs(model, forward, outputs, contractions)][::-1]


def unit_jacobians_and_curvatures(
    model: MLP, forward: Forward, outputs: Outputs, contractions: Any = primitives
) -> tuple[list[Array | None], list[Array | None]]:
    """Return the result of `jacobians_and_curvatures`, with None for the identity."""
    if forward.link_slope is not None:
        G, S = jacobians_and_curvatures(model, forward, outputs, contractions)
        return [*G], S
    carried = list(_below_the_outputs(model, forward, outputs, contractions, second_order=True))[::-1]
    return [one for one, _ in carried], _chained_curvatures(model, forward, [bent for _, bent in carried[:-1]], contractions)


def _carried_curvatures(
    model: MLP, forward: Forward, rows: Directions, contractions: Any
) -> tuple[list[Array], list[Array | None]]:
    """Return the products of rows with G, and S of the rows without the link's part."""
    carried = list(from_the_top(model, forward, rows, contractions, second_order=True))[::-1]
    G, bent = [one for one, _ in carried], [one for _, one in carried[:-1]]
    return G, _chained_curvatures(model, forward, bent, contractions)


def from_the_top(
    model: MLP, forward: Forward, rows: Directions = None, contractions: Any = primitives, second_order: bool = False
) -> Iterator[tuple[Array, Array | None]]:
    r"""Yield :math:`B_{l+1}D_l` and, if requested, :math:`B_{l+1}\circ\sigma''(a_{l+1})`, None where zero; the last layer first.

    Callers that need one layer at a time need not keep them: their memory is then reused while it is in the cache.
    """
    G, below = _top(model, forward, rows)
    yield G, None
    yield from _carried_down(model, forward, G, below, contractions, second_order)


def _below_the_outputs(
    model: MLP, forward: Forward, outputs: Outputs, contractions: Any, second_order: bool = False
) -> Iterator[tuple[Array | None, Array | None]]:
    """Yield the same for all outputs, with None for the identity at the last layer."""
    if forward.link_slope is not None:
        yield from from_the_top(model, forward, outputs, contractions, second_order)
        return
    yield None, None
    # Used as the first product; G itself is not read.
    below = _for_each(len(forward.natural), outputs.below)
    yield from _carried_down(model, forward, below, below, contractions, second_order)


def _carried_down(
    model: MLP, forward: Forward, G: Array, below: Array | None, contractions: Any, second_order: bool
) -> Iterator[tuple[Array, Array | None]]:
    """Yield the results below the last layer; `below` is the product of its G with the last kernel, if it is known."""
    for layer in range(model.n_layers - 2, -1, -1):
        scales = [forward.slopes[layer]]
        curved = second_order and not model.activations[layer].piecewise_linear
        if curved:
            scales.append(forward.bends[layer])
        # The first product is the same for all inputs if the rows are.
        scaled = contractions.scaled_products(*((G, model.kernels[layer + 1]) if below is None else (below, None)), scales)
        G, below = scaled.pop(0), None
        yield G, scaled.pop() if curved else None


def _top(model: MLP, forward: Forward, rows: Directions) -> tuple[Array, Array | None]:
    """Return the rows at the outputs, (n, R, T), and where all inputs share them their products with the last kernel."""
    n, slope = len(forward.natural), forward.link_slope
    if rows is None:
        rows = Outputs(model.kernels[-1])
    if not isinstance(rows, Outputs):
        own = like(rows, forward.natural)
        return own if slope is None else own * slope[:, None, :], None
    if slope is not None:
        return rows.rows * slope[:, None, :], None
    return _for_each(n, rows.rows), _for_each(n, rows.below)


def _for_each(n: int, shared: Array) -> Array:
    """Return an array broadcast to n inputs, without a copy."""
    return np.broadcast_to(shared, (n, *shared.shape))


def pull_back(model: MLP, G: Array, layer: int) -> Array:
    r"""Return :math:`B_l=G_lW_l^-`, the derivative of the natural parameters by the output of layer l, (n, T, n_l)."""
    kernel = kernel_view(model, layer)
    if G.strides[0] == 0:  # the same for all inputs
        return _for_each(len(G), G[0] @ kernel)
    return primitives.row_products(G, kernel)


def curvatures(model: MLP, forward: Forward, G: list[Array], contractions: Any = primitives) -> list[Array | None]:
    r"""Return :math:`S_l[a,o]=\sum_{k\ge l}\sum_r B_{k+1}[a,r]\sigma''(a_{k+1,r})A_{k,l}[r,o]^2`, (n, T, n_{l+1}).

    `None` stands for a layer where S is zero by theory: the last (canonical) layer and every layer that only piecewise linear
    activations follow. One chain :math:`A_{k,l}=\partial a_{k+1}/\partial a_{l+1}=J_{k,l}D_l` per input serves all outputs, and
    :math:`J_{l+1,l}=W_{l+1}^-` is the same for all inputs. A link g adds :math:`g''(z_a)(\partial z_a/\partial a_{l+1,o})^2` in
    every layer. `contractions` holds `squared_chain` (see `engines`).
    """
    return _with_link(forward, G, _chained_curvatures(model, forward, _bent(model, forward, G), contractions))


def curvature_along(model: MLP, forward: Forward, r: Array, contractions: Any = primitives) -> list[Array | None]:
    r"""Return :math:`r\cdot S_l` for one T-vector r per input, (n, 1, n_{l+1}), at the cost of a single output."""
    if model.n_layers - 1 > _FEW_LAYERS:
        S = _recursive_curvatures(model, forward, [back[:, None, :] for back in gradients(model, forward, r)])
    else:
        _, S = _carried_curvatures(model, forward, r[:, None, :], contractions)
    return S if forward.link_slope is None else _with_link(forward, jacobians(model, forward, contractions=contractions), S, r)


def _bent(model: MLP, forward: Forward, G: list[Array]) -> list[Array | None]:
    r"""Return :math:`B_{l+1}\circ\sigma''(a_{l+1})` of the hidden layers, None where zero."""
    return [
        None if model.activations[k].piecewise_linear else pull_back(model, G[k + 1], k + 1) * forward.bends[k][:, None, :]
        for k in range(model.n_layers - 1)
    ]


def _with_link(forward: Forward, G: list[Array], S: list[Array | None], r: Array | None = None) -> list[Array | None]:
    if forward.link_slope is None:
        return S
    return [_plus(one, _link_curvature(forward, G_l, r)) for one, G_l in zip(S, G, strict=True)]


_FEW_LAYERS = 5
"""Number of hidden layers up to which the chains of all pairs of layers need fewer products than one Hessian, 2 per layer."""


def _recursive_curvatures(model: MLP, forward: Forward, rows: list[Array]) -> list[Array | None]:
    """Return the diagonals of the units' Hessian of one combination of the outputs, formed layer by layer from the top."""
    S: list[Array | None] = [None]
    below: Array | None = None
    for layer in range(model.n_layers - 2, -1, -1):
        below = _unit_hessian(model, forward, rows, layer, below)
        S.append(None if below is None else np.diagonal(below, axis1=2, axis2=3).copy())
    return S[::-1]


def _chained_curvatures(model: MLP, forward: Forward, bent: list[Array | None], contractions: Any) -> list[Array | None]:
    r"""Return S without the link's part from :math:`B_{l+1}\circ\sigma''(a_{l+1})` of every hidden layer."""
    n_hidden = model.n_layers - 1
    last_bent = max((k for k in range(n_hidden) if bent[k] is not None), default=-1)
    S: list[Array | None] = []
    for layer in range(n_hidden):
        # From the bottom up, so that the array of a layer may be overwritten by its S: only the layers below need the original.
        total = bent[layer]
        scale = np.square(forward.slopes[layer])
        # J_{k,l} starts as the kernel of the next layer, the same for all inputs.
        chain = np.zeros(0) if layer >= last_bent else model.kernels[layer + 1][None]
        for k in range(layer + 1, last_bent + 1):
            above = bent[k]
            if k == layer + 1:
                term = None if above is None else contractions.scaled_products(above, np.square(chain[0]), [scale])[0]
            elif above is None:
                chain, term = np.matmul(model.kernels[k] * forward.slopes[k - 1][:, None, :], chain), None
            else:
                slopes, goes_on = forward.slopes[k - 1], k < last_bent
                chain, term = contractions.squared_chain(model.kernels[k], slopes, chain, above, scale, goes_on)
            if term is not None:
                total = term if total is None else np.add(total, term, out=total)
        S.append(total)
    S.append(None)
    return S


def contracted(r: Array, G_l: Array) -> Array:
    """Return r . G_l for one residual per input, (n, 1, units); rows of differences need the first T - 1 of a sum of zero."""
    return np.matmul(r[:, None, : G_l.shape[1]], G_l)


def _plus(total: Array | None, term: Array) -> Array:
    return term if total is None else total + term


def _link_weights(forward: Forward) -> Array:
    """Return g'' / g'^2 at the network's output, (n, T): the factor of the square of a linked derivative."""
    if forward.link_slope is None or forward.link_bend is None:
        return np.zeros_like(forward.natural)
    return forward.link_bend / forward.link_slope / forward.link_slope


def _link_curvature(forward: Forward, G_l: Array, r: Array | None) -> Array:
    weights = _link_weights(forward)
    if r is None:
        return weights[:, :, None] * np.square(G_l)
    return contracted(r * weights, np.square(G_l))


def _next_link(model: MLP, forward: Forward, k: int, chain: Array | None) -> Array:
    r"""Return :math:`A_{k,l}=W_k^-D_{k-1}A_{k-1,l}`, (n, n_{k+1}, n_{l+1}); `chain` None stands for the identity."""
    kernel, slope = kernel_view(model, k), forward.slopes[k - 1]
    if chain is None:
        return kernel * slope[:, None, :]
    return np.matmul(kernel, slope[:, :, None] * chain)


@dataclass(frozen=True)
class HessianBlocks:
    r"""The Hessians of :math:`r_k^\top h_L` per pair of layers l <= m, for K vectors r_k per input.

    Block (l, m) is ``pairs[l, m][k, o, p]`` :math:`\bar h_l[d]\bar h_m[q]` plus, for l < m and q not the bias,
    ``score[m][k, p] * reach[l, m][q, o]`` :math:`\bar h_l[d]` (row-major parameters [o, d] and [p, q]).
    """

    pairs: dict[tuple[int, int], Array | None]
    """(n, K, n_{l+1}, n_{m+1}), None where zero."""
    score: list[Array]
    """(n, K, n_{m+1})."""
    reach: dict[tuple[int, int], Array]
    """(n, n_m, n_{l+1})."""


def hessian_blocks(
    model: MLP, forward: Forward, G: list[Array], r: Array | None = None, cross_layers: bool = True
) -> HessianBlocks:
    r"""Return the layer blocks of :math:`\sum_a r_{ka}\,\partial^2 h_L^a/\partial\theta\partial\theta^\top` for r (n, K, T).

    None stands for every single output.

    With :math:`E_k=\mathrm{diag}(r^\top B_{k+1}\circ\sigma''(a_{k+1}))` the unit part of a diagonal block obeys
    :math:`C_{ll}=E_l+A_{l+1,l}^\top C_{l+1,l+1}A_{l+1,l}`, and :math:`C_{lm}=A_{m,l}^\top C_{mm}`. A link g adds
    :math:`\sum_ar_a\,g''_a\,\partial z_a\,\partial z_a^\top`.
    """
    n_layers = model.n_layers
    score = G if r is None else [np.matmul(r, G_l) for G_l in G]
    pairs: dict[tuple[int, int], Array | None] = {(n_layers - 1, n_layers - 1): None}
    below: Array | None = None
    for layer in range(n_layers - 2, -1, -1):
        below = _unit_hessian(model, forward, score, layer, below)
        pairs[layer, layer] = below
    reach: dict[tuple[int, int], Array] = {}
    if cross_layers:
        for layer in range(n_layers - 1):
            chain: Array | None = None
            for m in range(layer + 1, n_layers):
                reach[layer, m] = _reach(forward, m, chain)
                chain = _next_link(model, forward, m, chain)
                above = pairs[m, m]
                pairs[layer, m] = None if above is None else np.matmul(chain.transpose(0, 2, 1)[:, None], above)
    if forward.link_slope is not None:
        weighted = (identity(G[0].shape[1], forward.natural) if r is None else r) * _link_weights(forward)[:, None, :]
        for left, right in pairs:
            term = np.matmul((weighted[..., None] * G[left][:, None]).swapaxes(-1, -2), G[right][:, None])
            pairs[left, right] = _plus(pairs[left, right], term)
    return HessianBlocks(pairs, score, reach)


def _unit_hessian(model: MLP, forward: Forward, score: list[Array], layer: int, above: Array | None) -> Array | None:
    """Return C_ll from C_{l+1,l+1}, (n, K, n_{l+1}, n_{l+1})."""
    total: Array | None = None
    if above is not None:
        link = _next_link(model, forward, layer + 1, None)[:, None]
        total = np.matmul(link.swapaxes(-1, -2), np.matmul(above, link))
    if not model.activations[layer].piecewise_linear:
        bent = (score[layer + 1] @ kernel_view(model, layer + 1)) * forward.bends[layer][:, None, :]
        units = np.arange(bent.shape[-1])
        if total is None:
            total = np.zeros_like(bent, shape=(*bent.shape, bent.shape[-1]))
        total[..., units, units] += bent
    return total


def _reach(forward: Forward, m: int, chain: Array | None) -> Array:
    r"""Return :math:`\partial h_m/\partial a_{l+1}=D_{m-1}A_{m-1,l}`, (n, n_m, n_{l+1})."""
    slope = forward.slopes[m - 1]
    if chain is None:
        n, n_units = slope.shape
        diagonal = np.zeros_like(slope, shape=(n, n_units, n_units))
        diagonal[:, np.arange(n_units), np.arange(n_units)] = slope
        return diagonal
    return slope[:, :, None] * chain


def push_forward(model: MLP, forward: Forward, direction: Array) -> Array:
    r"""Return :math:`J v` for a parameter vector v, (n, T)."""
    direction = like(direction, forward.natural)
    dtype = np.promote_types(direction.dtype, forward.natural.dtype)
    moved: Array | None = None
    for layer, (weight, part) in enumerate(zip(model.weights, model.layer_slices(), strict=True)):
        # Memory layout as in the forward pass.
        tangent = np.empty_like([*forward.slopes, forward.natural][layer], dtype=dtype)
        np.matmul(forward.inputs[layer], direction[part].reshape(weight.shape).T, out=tangent)
        if moved is not None:
            tangent += np.matmul(moved, kernel_view(model, layer).T, out=np.empty_like(tangent))
        if layer < model.n_layers - 1:
            moved = tangent * forward.slopes[layer]
    return tangent if forward.link_slope is None else tangent * forward.link_slope


def gradients(model: MLP, forward: Forward, z: Array, product: Product = np.matmul) -> list[Array]:
    r"""Return :math:`z^\top G_l` for one T-vector z per input, (n, n_{l+1}) per layer."""
    back = [z if forward.link_slope is None else z * forward.link_slope]
    for layer in range(model.n_layers - 2, -1, -1):
        slope = forward.slopes[layer]
        pulled = product(back[-1], kernel_view(model, layer + 1), out=np.empty_like(slope))
        back.append(np.multiply(pulled, slope, out=pulled))
    return back[::-1]


def second_directional(model: MLP, forward: Forward, direction: Array) -> Array:
    r"""Return :math:`v^\top H^a v=\frac{d^2}{d\epsilon^2}h_L^a(\theta+\epsilon v)` for a parameter vector v, (n, T).

    A second-order jet of the forward pass: with dots for derivatives, :math:`\ddot a_{l+1}=2V_l^-\dot h_l+W_l^-\ddot h_l` and
    :math:`\ddot h=\sigma''\dot a^2+\sigma'\ddot a`. Needs a forward pass of order 2.
    """
    direction = like(direction, forward.natural)
    moved: Array | None = None
    bent: Array | None = None
    for layer, (weight, part) in enumerate(zip(model.weights, model.layer_slices(), strict=True)):
        change = direction[part].reshape(weight.shape)
        tangent = forward.inputs[layer] @ change.T
        second = np.zeros_like(tangent)
        if moved is not None and bent is not None:
            kernel = kernel_view(model, layer)
            tangent += moved @ kernel.T
            second = 2 * (moved @ change[:, : moved.shape[1]].T) + bent @ kernel.T
        if layer < model.n_layers - 1:
            slope = forward.slopes[layer]
            moved, bent = slope * tangent, forward.bends[layer] * np.square(tangent) + slope * second
    if forward.link_slope is None or forward.link_bend is None:
        return second
    return forward.link_bend * np.square(tangent) + forward.link_slope * second
