"""W4: the dense exact information, (1/n) sum_i (G_l' I G_m) (x) (hbar_l hbar_m').

Operations: per pair of layers one product of (pairs of units x inputs) with (inputs x pairs of layer inputs); within a layer only
the pairs j <= k of each. There is no factor of the number of classes, which the peers' product of Jacobians has.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

import fisherstats as fs
from benchmarks import nets, peers
from benchmarks.harness import Array, Case, Contestant, Peer

SMALL, LARGE = (20, 16, 16, 4), (64, 48, 48, 10)
SIZES = {"full": ((SMALL, 2000), (LARGE, 2000)), "tiny": (((3, 4, 3), 7),)}
TARGET_MS = {SMALL: 13.0, LARGE: 680.0}


def block_flops(widths: tuple[int, ...], n_inputs: int, left: int, right: int) -> float:
    (in_left, out_left), (in_right, out_right) = ((widths[layer] + 1, widths[layer + 1]) for layer in (left, right))
    if left == right:
        return 2 * n_inputs * (out_left * (out_left + 1) // 2) * (in_left * (in_left + 1) // 2)
    return 2 * n_inputs * out_left * out_right * in_left * in_right


def flops(widths: tuple[int, ...], n_inputs: int) -> float:
    pairs = itertools.combinations_with_replacement(range(len(widths) - 1), 2)
    return sum(block_flops(widths, n_inputs, left, right) for left, right in pairs)


def cases(size: str) -> Iterator[Case]:
    for (widths, n_inputs), dtype in itertools.product(SIZES[size], nets.DTYPES):
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        found = [Peer("torch.func", lambda model=model, x=x: torch_jacobians(model, x))]
        if widths == LARGE:  # the others take longer still, or more memory
            found.append(Peer("JAX", lambda model=model, x=x: jax_jacobians(model, x)))
        else:
            found.append(Peer("NNGeometry", lambda model=model, x=x: nngeometry(model, x)))
            found.append(Peer("ASDL", lambda model=model, x=x: asdl(model, x)))
        yield Case(
            "W4 dense",
            nets.described(widths, n_inputs),
            dtype,
            lambda model=model, x=x: fs.fisher_information(model, x, view="full"),
            flops=flops(widths, n_inputs),
            target_ms=TARGET_MS.get(widths) if dtype == "float64" else None,
            peers=tuple(found),
        )


def nngeometry(model: fs.MLP, x: Array) -> Contestant:
    places = peers.order(model.widths)
    return peers.nngeometry(
        model, x, "PMatDense"
    ), lambda matrix: matrix.to_torch().detach().cpu().numpy()[np.ix_(places, places)]


def asdl(model: fs.MLP, x: Array) -> Contestant:
    places = peers.order(model.widths)
    return peers.asdl(model, x, "full"), lambda matrices: matrices[0].data.detach().cpu().numpy()[np.ix_(places, places)]


def torch_jacobians(model: fs.MLP, x: Array) -> Contestant:
    """Multiply the stacked roots of the information at the outputs times the Jacobians with themselves."""
    torch, network, data, _ = peers.torch_network(model, x)
    parameters = dict(network.named_parameters())
    places = peers.order(model.widths)

    def natural(parameters, row):
        return torch.func.functional_call(network, parameters, (row,))

    def call():
        with torch.no_grad():
            jacobians = torch.func.vmap(torch.func.jacrev(natural), (None, 0))(parameters, data)
            jacobian = torch.cat([one.flatten(2) for one in jacobians.values()], dim=2)
            p = torch.softmax(network(data), dim=1)
            root = p.sqrt()[:, :, None] * (torch.eye(p.shape[1], dtype=p.dtype) - p[:, None, :])
            factors = (root @ jacobian).flatten(0, 1)
            return factors.T @ factors / len(data)

    return call, lambda matrix: matrix.cpu().numpy()[np.ix_(places, places)]


def jax_jacobians(model: fs.MLP, x: Array) -> Contestant:
    jax, jnp = peers.load_jax()
    weights, inputs = [jnp.asarray(matrix) for matrix in model.weights], jnp.asarray(x)

    def natural(weights, row):
        return peers.jax_logits(jnp, weights, row)

    @jax.jit
    def information(weights, inputs):
        jacobians = jax.vmap(jax.jacrev(natural), (None, 0))(weights, inputs)
        jacobian = jnp.concatenate([one.reshape(*one.shape[:2], -1) for one in jacobians], axis=2)
        p = jax.nn.softmax(peers.jax_logits(jnp, weights, inputs))
        root = jnp.sqrt(p)[:, :, None] * (jnp.eye(p.shape[1], dtype=p.dtype) - p[:, None, :])
        factors = (root @ jacobian).reshape(-1, jacobian.shape[2])
        return factors.T @ factors / len(inputs)

    return lambda: jax.block_until_ready(information(weights, inputs)), np.asarray
