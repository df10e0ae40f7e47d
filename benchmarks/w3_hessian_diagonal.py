"""W3: the Hessian estimator of the diagonal, minus the second derivatives of the log-likelihood at drawn labels.

Operations: forward, C - 1 rows back, dz_k/dz_l for all pairs of hidden layers, one row per input through their squares, and one
product with the squared layer inputs; they depend neither on the classes nor on the number of labels. Peers get our labels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import fisherstats as fs
from benchmarks import nets, peers, w5_variances
from benchmarks.harness import Array, Case, Contestant, Peer

SIZES = {"full": (nets.MEDIUM, 100), "tiny": (nets.TINY, 7)}
DRAWS = (1, 10)
SEED = 0
TARGET_MS = {"float64": 3.0}


def flops(widths: tuple[int, ...], n_inputs: int) -> float:
    squared = nets.squared_flops(widths, n_inputs, 1, True) + nets.squared_flops(widths, n_inputs, 1, False)
    passes = 2 * nets.pass_flops(widths, n_inputs) + nets.backward_flops(widths, n_inputs)
    return passes + nets.chain_flops(widths, n_inputs) + squared


def cases(size: str) -> Iterator[Case]:
    widths, n_inputs = SIZES[size]
    for dtype in nets.DTYPES:
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        for n_draws in DRAWS:
            counts = label_counts(model, x, n_draws)
            yield Case(
                "W3 Hessian estimator",
                f"{nets.described(widths, n_inputs)}, {n_draws} draw{'s' if n_draws > 1 else ''}",
                dtype,
                lambda model=model, x=x, n_draws=n_draws: fs.estimate_fisher(
                    model, x, estimator="hessian", n_draws=n_draws, rng=SEED, standard_error=False
                ),
                flops=flops(widths, n_inputs),
                target_ms=TARGET_MS.get(dtype),
                peers=(
                    Peer("BackPACK", lambda model=model, x=x, counts=counts: backpack(model, x, counts)),
                    Peer("JAX, shifted units", lambda model=model, x=x, counts=counts: jax_shifted_units(model, x, counts)),
                ),
            )
        yield Case(
            "W3 with standard errors",
            f"{nets.described(widths, n_inputs)}, 10 draws",
            dtype,
            lambda model=model, x=x: fs.estimate_fisher(model, x, estimator="hessian", n_draws=10, rng=SEED),
            flops=w5_variances.flops(widths, n_inputs) - nets.pass_flops(widths, n_inputs),
        )


def label_counts(model: fs.MLP, x: Array, n_draws: int) -> np.ndarray:
    """Return how often each class was drawn at each input, read off the score estimate at the output: f (1 - 2p) + p^2."""
    output = fs.hidden_information(model, x, layer=model.n_layers, estimator="score", n_draws=n_draws, rng=SEED)
    p = nets.probabilities(model, x)
    share = (np.einsum("ikk->ik", output.values) - p**2) / (1 - 2 * p)
    counts = np.rint(n_draws * share).astype(int)
    if not (counts.sum(axis=1) == n_draws).all():
        raise AssertionError("The labels cannot be read off the estimate.")
    return counts


def backpack(model: fs.MLP, x: Array, counts: np.ndarray) -> Contestant:
    """Average one pass per label."""
    n_draws, join = int(counts[0].sum()), peers.joined(model.widths)
    labels = np.array([np.repeat(np.arange(len(row)), row) for row in counts])
    calls = [peers.backpack(model, x, "DiagHessian", "diag_h", y=labels[:, draw]) for draw in range(n_draws)]
    return lambda: [call() for call in calls], lambda passes: np.mean([join(one) for one in passes], axis=0)


def jax_shifted_units(model: fs.MLP, x: Array, counts: np.ndarray) -> Contestant:
    """Differentiate by shifts of the hidden units twice, for the mean label, as one who knows the structure would."""
    jax, jnp = peers.load_jax()
    weights, inputs = [jnp.asarray(matrix) for matrix in model.weights], jnp.asarray(x)
    targets = jnp.asarray((counts / counts.sum(axis=1, keepdims=True)).astype(x.dtype))
    ends = np.cumsum(model.widths[1:-1])

    def loss(shifts, weights, row, target):
        natural = peers.jax_logits(jnp, weights, row, jnp.split(shifts, ends[:-1]))
        return jax.nn.logsumexp(natural) - target @ natural

    @jax.jit
    def hessian_diagonal(weights, inputs, targets):
        zeros = jnp.zeros(ends[-1], inputs.dtype)
        hidden = jax.vmap(lambda row, target: jnp.diag(jax.hessian(loss)(zeros, weights, row, target)))(inputs, targets)
        layer_inputs = peers.jax_layer_inputs(jnp, weights, inputs)
        p = jax.nn.softmax(layer_inputs[-1] @ weights[-1].T)
        units = [*jnp.split(hidden, ends[:-1], axis=1), p * (1 - p)]
        return [unit.T @ h**2 / len(inputs) for unit, h in zip(units, layer_inputs, strict=True)]

    return lambda: jax.block_until_ready(hessian_diagonal(weights, inputs, targets)), peers.flat
