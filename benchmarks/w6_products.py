"""W6: the information times a vector.

Operations: 2 n P per product of inputs and weights: forward, tangent (two, of which the first layer needs one), backward (none
for the first layer), and the product that ends it. With the forward pass kept in the operator it falls away.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

import fisherstats as fs
from benchmarks import nets, peers
from benchmarks.harness import Array, Case, Contestant, Peer

SIZES = {"full": ((nets.MEDIUM, 1000), (nets.MANY, 1000), (nets.WIDE, 1000)), "tiny": ((nets.TINY, 7),)}
TARGET_MS = {(nets.MEDIUM, True): 6.8, (nets.WIDE, True): 170.0, (nets.MEDIUM, False): 5.3, (nets.WIDE, False): 125.0}


def flops(widths: tuple[int, ...], n_inputs: int, with_forward: bool) -> float:
    passes = 2 + with_forward
    return 2 * n_inputs * (passes * nets.n_params(widths) + 2 * nets.n_params(widths, first=1))


def cases(size: str) -> Iterator[Case]:
    for (widths, n_inputs), dtype in itertools.product(SIZES[size], nets.DTYPES):
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        vector = np.random.default_rng(2).standard_normal(model.n_params).astype(dtype)
        target = TARGET_MS if dtype == "float64" else {}
        found = (
            Peer("curvlinops", lambda model=model, x=x, v=vector: curvlinops(model, x, v)),
            Peer("JAX", lambda model=model, x=x, v=vector: jax_product(model, x, v)),
        )
        if widths != nets.MANY:  # 58 s
            found = (*found, Peer("NNGeometry", lambda model=model, x=x, v=vector: nngeometry(model, x, v)))
        yield Case(
            "W6 information times vector",
            nets.described(widths, n_inputs),
            dtype,
            lambda model=model, x=x, v=vector: fs.fisher_operator(model, x) @ v,
            flops=flops(widths, n_inputs, with_forward=True),
            target_ms=target.get((widths, True)),
            peers=found,
        )
        operator = fs.fisher_operator(model, x)
        yield Case(
            "W6 again, same operator",
            nets.described(widths, n_inputs),
            dtype,
            lambda operator=operator, v=vector: operator @ v,
            flops=flops(widths, n_inputs, with_forward=False),
            target_ms=target.get((widths, False)),
            peers=(Peer("JAX, linearised once", lambda model=model, x=x, v=vector: jax_linearised(model, x, v)),),
        )


def curvlinops(model: fs.MLP, x: Array, vector: Array) -> Contestant:
    (library,) = peers.load("curvlinops")
    torch, network, data, labels = peers.torch_network(model, x)
    places = peers.order(model.widths)
    parameters = list(network.parameters())
    information = library.GGNLinearOperator(
        network, torch.nn.CrossEntropyLoss(), parameters, [(data, labels)], check_deterministic=False
    )
    theirs = torch.tensor(vector[np.argsort(places)])
    return lambda: information @ theirs, lambda product: product.detach().cpu().numpy()[places]


def nngeometry(model: fs.MLP, x: Array, vector: Array) -> Contestant:
    objects, torch = peers.load("nngeometry.object", "torch")
    places = peers.order(model.widths)
    information = peers.nngeometry(model, x, "PMatImplicit")()
    layers = information.generator.layer_collection
    theirs = objects.PVector(layers, vector_repr=torch.tensor(vector[np.argsort(places)]))
    return lambda: information.mv(theirs), lambda product: product.to_torch().detach().cpu().numpy()[places]


def jax_product(model: fs.MLP, x: Array, vector: Array) -> Contestant:
    jax, jnp = peers.load_jax()
    weights, inputs = [jnp.asarray(matrix) for matrix in model.weights], jnp.asarray(x)

    @jax.jit
    def product(weights, inputs, vector):
        def natural(weights):
            return peers.jax_logits(jnp, weights, inputs)

        values, tangent = jax.jvp(natural, (weights,), (vector,))
        return jax.vjp(natural, weights)[1](at_outputs(jax, values, tangent))[0]

    theirs = in_layers(jnp, model, vector)
    return lambda: jax.block_until_ready(product(weights, inputs, theirs)), peers.flat


def jax_linearised(model: fs.MLP, x: Array, vector: Array) -> Contestant:
    jax, jnp = peers.load_jax()
    weights, inputs = [jnp.asarray(matrix) for matrix in model.weights], jnp.asarray(x)
    values, forward = jax.linearize(lambda weights: peers.jax_logits(jnp, weights, inputs), weights)
    backward = jax.linear_transpose(forward, weights)
    product = jax.jit(lambda vector: backward(at_outputs(jax, values, forward(vector)))[0])
    theirs = in_layers(jnp, model, vector)
    return lambda: jax.block_until_ready(product(theirs)), peers.flat


def at_outputs(jax, values, tangent):
    """Return the information at the outputs times a tangent, over the number of inputs."""
    p = jax.nn.softmax(values)
    return p * (tangent - (p * tangent).sum(axis=1, keepdims=True)) / len(values)


def in_layers(jnp, model: fs.MLP, vector: Array) -> list:
    """Cut a vector of parameters into matrices like the weights."""
    slices = model.layer_slices()
    return [jnp.asarray(vector[one].reshape(matrix.shape)) for one, matrix in zip(slices, model.weights, strict=True)]
