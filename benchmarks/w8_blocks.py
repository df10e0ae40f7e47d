"""W8: the dense diagonal block of each layer, and its Kronecker factors (K-FAC).

Operations: of the blocks, those of W4 within each layer; of the factors, forward, C - 1 rows back, and the symmetric products of
the layer inputs and of the rows with themselves. Packages share the scale of A (x) G differently between A and G: compared are
the factors over their traces, and the products of the traces.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

import fisherstats as fs
from benchmarks import nets, peers, w4_dense
from benchmarks.harness import Array, Case, Contestant, Peer

SIZES = {"full": (w4_dense.LARGE, 2000), "tiny": ((3, 4, 3), 7)}
FACTOR_SIZES = {"full": ((nets.MEDIUM, 1000), (nets.MANY, 100)), "tiny": ((nets.TINY, 7),)}
TARGET_MS = {"float64": 215.0}
FACTOR_TARGET_MS = {(nets.MEDIUM, "float64"): 17.5}


def flops(widths: tuple[int, ...], n_inputs: int) -> float:
    return sum(w4_dense.block_flops(widths, n_inputs, layer, layer) for layer in range(len(widths) - 1))


def factor_flops(widths: tuple[int, ...], n_inputs: int) -> float:
    A = n_inputs * sum((n_in + 1) * (n_in + 2) for n_in in widths[:-1])
    G = n_inputs * (widths[-1] - 1) * sum(n_out * (n_out + 1) for n_out in widths[1:-1])
    return nets.pass_flops(widths, n_inputs) + nets.backward_flops(widths, n_inputs) + A + G


def cases(size: str) -> Iterator[Case]:
    widths, n_inputs = SIZES[size]
    for dtype in nets.DTYPES:
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        yield Case(
            "W8 dense block per layer",
            nets.described(widths, n_inputs),
            dtype,
            lambda model=model, x=x: fs.fisher_information(model, x, view="block"),
            value=blocks,
            flops=flops(widths, n_inputs),
            target_ms=TARGET_MS.get(dtype),
            peers=(Peer("NNGeometry", lambda model=model, x=x: nngeometry(model, x)),),
        )
    for (widths, n_inputs), dtype in itertools.product(FACTOR_SIZES[size], nets.DTYPES):
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        yield Case(
            "W8 Kronecker factors",
            nets.described(widths, n_inputs),
            dtype,
            (lambda model=model, x=x: fs.fisher_information(model, x, view="kfac")) if has_factors() else None,
            value=factors,
            flops=factor_flops(widths, n_inputs),
            target_ms=FACTOR_TARGET_MS.get((widths, dtype)),
            peers=(
                Peer("ASDL", lambda model=model, x=x: asdl_factors(model, x)),
                Peer("BackPACK", lambda model=model, x=x: backpack_factors(model, x)),
                Peer("NNGeometry", lambda model=model, x=x: nngeometry_factors(model, x)),
            ),
        )


def has_factors() -> bool:
    model, x = nets.tanh_classifier(nets.TINY, 1, "float64")
    try:
        fs.fisher_information(model, x, view="kfac")
    except ValueError:
        return False
    return True


def blocks(tree: Any) -> Array:
    return peers.flat([tree[f"layer_{layer}"]["information"].values for layer in range(len(tree.children))])


def nngeometry(model: fs.MLP, x: Array) -> Contestant:
    places = [peers.order(pair) for pair in itertools.pairwise(model.widths)]

    def value(matrix: Any) -> Array:
        found = matrix.data.values()
        return peers.flat([block.detach().cpu().numpy()[np.ix_(one, one)] for block, one in zip(found, places, strict=True)])

    return peers.nngeometry(model, x, "PMatBlockDiag"), value


def over_traces(pairs: list[tuple[Array, Array]]) -> Array:
    """Join the factors (A without the bias, G), each over its trace, and the logarithms of the products of the traces."""
    scales = [np.log(np.trace(A) * np.trace(G)) for A, G in pairs]
    return peers.flat([*(factor / np.trace(factor) for pair in pairs for factor in pair), scales])


def factors(tree: Any) -> Array:
    layers = [tree[f"layer_{layer}"] for layer in range(len(tree.children))]
    return over_traces([(layer["A"].values[:-1, :-1], layer["G"].values) for layer in layers])


def asdl_factors(model: fs.MLP, x: Array) -> Contestant:
    def value(layers: list[Any]) -> Array:
        found = zip(layers, model.widths[:-1], strict=True)
        return over_traces([(one.kron.A.detach().cpu().numpy()[:n, :n], one.kron.B.detach().cpu().numpy()) for one, n in found])

    return peers.asdl(model, x, "kron"), value


def backpack_factors(model: fs.MLP, x: Array) -> Contestant:
    def value(found: list[Any]) -> Array:
        return over_traces([(A.detach().cpu().numpy(), G.detach().cpu().numpy()) for G, A in found[::2]])

    return peers.backpack(model, x, "KFLR", "kflr"), value


def nngeometry_factors(model: fs.MLP, x: Array) -> Contestant:
    def value(matrix: Any) -> Array:
        return over_traces([(A.detach().cpu().numpy()[:-1, :-1], G.detach().cpu().numpy()) for A, G in matrix.data.values()])

    return peers.nngeometry(model, x, "PMatKFAC"), value
