"""W5: the variances of the score and of the Hessian estimator of the diagonal, and their covariance.

Operations: forward, C - 1 rows back, dz_k/dz_l for all pairs of hidden layers, the C - 1 rows through their squares, and three
products with fourth powers of the layer inputs. No peer has the quantities; JAX differentiates the two variances.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fisherstats as fs
from benchmarks import nets, peers
from benchmarks.harness import Array, Case, Contestant, Peer

SIZES = {"full": (nets.MEDIUM, 100), "tiny": (nets.TINY, 7)}
TARGET_MS = {"float64": 3.8}


def flops(widths: tuple[int, ...], n_inputs: int) -> float:
    rows = widths[-1] - 1
    squared = nets.squared_flops(widths, n_inputs, rows, True) + nets.squared_flops(widths, n_inputs, rows, False)
    passes = 4 * nets.pass_flops(widths, n_inputs) + nets.backward_flops(widths, n_inputs)
    return passes + nets.chain_flops(widths, n_inputs) + squared


def cases(size: str) -> Iterator[Case]:
    widths, n_inputs = SIZES[size]
    for dtype in nets.DTYPES:
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        yield Case(
            "W5 variances and covariance",
            nets.described(widths, n_inputs),
            dtype,
            lambda model=model, x=x: fs.estimator_variance(model, x),
            value=variances,
            flops=flops(widths, n_inputs),
            target_ms=TARGET_MS.get(dtype),
            peers=(Peer("JAX (without the covariance)", lambda model=model, x=x: jax_variances(model, x)),),
            difference=worst_of_both,
        )


def variances(result: Any) -> Array:
    return result["variance"].transpose("estimator", "param").sel(estimator=["score", "hessian"]).values


def worst_of_both(theirs: Array, ours: Array) -> float:
    """Return the larger of the two relative differences; the two variances are of different sizes."""
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in zip(theirs, ours, strict=True))


def jax_variances(model: fs.MLP, x: Array) -> Contestant:
    """Take the fourth moment from each input's Jacobian, and the Hessian from shifts of the hidden units."""
    jax, jnp = peers.load_jax()
    weights, inputs = [jnp.asarray(matrix) for matrix in model.weights], jnp.asarray(x)
    ends = np.cumsum(model.widths[1:-1])

    @jax.jit
    def score(weights, inputs):
        def add(total, row):
            p = jax.nn.softmax(peers.jax_logits(jnp, weights, row))
            jacobians = jax.jacrev(lambda weights: peers.jax_logits(jnp, weights, row))(weights)
            squares = [(J - jnp.tensordot(p, J, 1)) ** 2 for J in jacobians]
            variances = [jnp.tensordot(p, S**2, 1) - jnp.tensordot(p, S, 1) ** 2 for S in squares]
            return [sums + variance for sums, variance in zip(total, variances, strict=True)], None

        return jax.lax.scan(add, [jnp.zeros_like(matrix) for matrix in weights], inputs)[0]

    def natural(shifts, weights, row):
        return peers.jax_logits(jnp, weights, row, jnp.split(shifts, ends[:-1]))

    @jax.jit
    def hessian(weights, inputs):
        zeros = jnp.zeros(ends[-1], inputs.dtype)
        second = jax.vmap(lambda row: jnp.diagonal(jax.hessian(natural)(zeros, weights, row), axis1=1, axis2=2))(inputs)
        layer_inputs = peers.jax_layer_inputs(jnp, weights, inputs)
        p = jax.nn.softmax(layer_inputs[-1] @ weights[-1].T)
        centred = second - jnp.einsum("ic,icu->iu", p, second)[:, None, :]
        hidden = jnp.einsum("ic,icu->iu", p, centred**2)
        units = [*jnp.split(hidden, ends[:-1], axis=1), jnp.zeros_like(p)]
        return [unit.T @ h**4 for unit, h in zip(units, layer_inputs, strict=True)]

    def value(results: Any) -> Array:
        return np.stack([peers.flat(one) for one in results]) / len(x) ** 2

    return lambda: jax.block_until_ready((score(weights, inputs), hessian(weights, inputs))), value
