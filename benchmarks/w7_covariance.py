"""W7: the covariance of all entries of the score estimator, exact; the peer's way is to simulate it.

One input, Gaussian response with two outputs. Operations: with the T(T+1)/2 products of outputs and the P(P+1)/2 pairs of
parameters, one product on each side of a small matrix. The simulation agrees up to its own error: the largest entries have a
standard error of about 4 / sqrt(draws).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fisherstats as fs
from benchmarks import nets, peers
from benchmarks.harness import Array, Case, Contestant, Peer

WIDTHS = (2, 3, 2)
PEER_DRAWS = {"full": 10**6, "tiny": 10**4}
CHUNKS = 10
TARGET_MS = {"float64": 0.3}


def flops(n_params: int, n_outputs: int) -> float:
    pairs, products = n_params * (n_params + 1) // 2, n_outputs * (n_outputs + 1) // 2
    return 2 * products * pairs * (products + pairs)


def cases(size: str) -> Iterator[Case]:
    n_draws = PEER_DRAWS[size]
    for dtype in nets.DTYPES:
        model = fs.MLP.random(WIDTHS, activation="tanh", family=fs.families.Gaussian(2), rng=0).as_dtype(np.dtype(dtype))
        x = np.random.default_rng(1).standard_normal((1, 2)).astype(dtype)
        yield Case(
            "W7 covariance of all entries",
            f"{nets.described(WIDTHS, 1)}, Gaussian",
            dtype,
            lambda model=model, x=x: fs.estimator_covariance(model, x, estimator="score"),
            value=pairs_of_pairs,
            flops=flops(model.n_params, 2),
            target_ms=TARGET_MS.get(dtype),
            peers=(Peer(f"JAX, {n_draws} draws", lambda model=model, x=x: jax_simulated(model, x, n_draws)),),
            tolerance=25 / np.sqrt(n_draws),
            unit="relative, simulated",
        )


def pairs_of_pairs(result: Any) -> Array:
    """Return the covariance as a matrix over the pairs j <= k of parameters."""
    j, k = np.triu_indices(result.sizes["param"])
    return result.values[j, k][:, j, k]


def jax_simulated(model: fs.MLP, x: Array, n_draws: int) -> Contestant:
    jax, jnp = peers.load_jax()
    weights, inputs = [jnp.asarray(matrix) for matrix in model.weights], jnp.asarray(x)
    j, k = np.triu_indices(model.n_params)

    @jax.jit
    def covariance(weights, inputs, key):
        jacobians = jax.jacrev(lambda weights: peers.jax_logits(jnp, weights, inputs[0]))(weights)
        jacobian = jnp.concatenate([one.reshape(len(one), -1) for one in jacobians], axis=1)

        def add(sums, key):
            residuals = jax.random.normal(key, (n_draws // CHUNKS, len(jacobian)), inputs.dtype)
            scores = residuals @ jacobian
            products = scores[:, j] * scores[:, k]
            return (sums[0] + products.sum(axis=0), sums[1] + products.T @ products), None

        start = jnp.zeros(len(j), inputs.dtype), jnp.zeros((len(j), len(j)), inputs.dtype)
        (first, second), _ = jax.lax.scan(add, start, jax.random.split(key, CHUNKS))
        return second / n_draws - jnp.outer(first, first) / n_draws**2

    key = jax.random.key(0)
    return lambda: jax.block_until_ready(covariance(weights, inputs, key)), np.asarray
