"""W1: the exact diagonal, (1/n) sum_i Var(dh'/dtheta t).

Operations: forward, C - 1 rows back, and one product of squared factors with squared layer inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import fisherstats as fs
from benchmarks import nets, peers
from benchmarks.harness import Case, Contestant, Peer

SIZES = {"full": (nets.MEDIUM, 1000), "tiny": (nets.TINY, 7)}
TARGET_MS = {"float64": 7.5}


def flops(widths: tuple[int, ...], n_inputs: int) -> float:
    return 2 * nets.pass_flops(widths, n_inputs) + nets.backward_flops(widths, n_inputs)


def cases(size: str) -> Iterator[Case]:
    widths, n_inputs = SIZES[size]
    for dtype in nets.DTYPES:
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        yield Case(
            "W1 exact diagonal",
            nets.described(widths, n_inputs),
            dtype,
            lambda model=model, x=x: fs.fisher_information(model, x),
            flops=flops(widths, n_inputs),
            target_ms=TARGET_MS.get(dtype),
            peers=(
                Peer("BackPACK", lambda model=model, x=x: backpack(model, x)),
                Peer("NNGeometry", lambda model=model, x=x: nngeometry(model, x)),
                Peer("ASDL", lambda model=model, x=x: asdl(model, x)),
                Peer("JAX, differentiated", lambda model=model, x=x: jax_differentiated(model, x)),
                Peer("JAX, derived by hand", lambda model=model, x=x: jax_by_hand(model, x)),
            ),
        )


def backpack(model: fs.MLP, x: np.ndarray) -> Contestant:
    return peers.backpack(model, x, "DiagGGNExact", "diag_ggn_exact"), peers.joined(model.widths)


def nngeometry(model: fs.MLP, x: np.ndarray) -> Contestant:
    places = peers.order(model.widths)
    return peers.nngeometry(model, x, "PMatDiag"), lambda matrix: matrix.get_diag().detach().cpu().numpy()[places]


def asdl(model: fs.MLP, x: np.ndarray) -> Contestant:
    join = peers.joined(model.widths)
    return peers.asdl(model, x, "diag"), lambda layers: join(
        [part for one in layers for part in (one.diag.weight, one.diag.bias)]
    )


def jax_differentiated(model: fs.MLP, x: np.ndarray) -> Contestant:
    """Add up the variances of the rows of the Jacobian, one input at a time (the fastest of the chunks tried)."""
    jax, jnp = peers.load_jax()
    weights, inputs = [jnp.asarray(matrix) for matrix in model.weights], jnp.asarray(x)

    @jax.jit
    def information(weights, inputs):
        def add(total, row):
            p = jax.nn.softmax(peers.jax_logits(jnp, weights, row))
            jacobians = jax.jacrev(lambda weights: peers.jax_logits(jnp, weights, row))(weights)
            centred = [J - jnp.tensordot(p, J, 1) for J in jacobians]
            return [sums + jnp.tensordot(p, J**2, 1) for sums, J in zip(total, centred, strict=True)], None

        total, _ = jax.lax.scan(add, [jnp.zeros_like(matrix) for matrix in weights], inputs)
        return [sums / len(inputs) for sums in total]

    return lambda: jax.block_until_ready(information(weights, inputs)), peers.flat


def jax_by_hand(model: fs.MLP, x: np.ndarray) -> Contestant:
    """Compile the closed form itself: all classes go back through the layers, squares are averaged before the last product."""
    jax, jnp = peers.load_jax()
    weights, inputs = [jnp.asarray(matrix) for matrix in model.weights], jnp.asarray(x)

    @jax.jit
    def information(weights, inputs):
        layer_inputs = peers.jax_layer_inputs(jnp, weights, inputs)
        p = jax.nn.softmax(layer_inputs[-1] @ weights[-1].T)
        rows = jnp.sqrt(p)[:, :, None] * (jnp.eye(p.shape[1], dtype=p.dtype) - p[:, None, :])
        found = []
        for matrix, h in zip(weights[::-1], layer_inputs[::-1], strict=True):
            found.append(jnp.sum(rows**2, axis=1).T @ h**2 / len(inputs))
            rows = (rows @ matrix[:, :-1]) * (1 - h[:, None, :-1] ** 2)
        return found[::-1]

    return lambda: jax.block_until_ready(information(weights, inputs)), peers.flat
