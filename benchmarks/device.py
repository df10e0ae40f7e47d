"""`python -m benchmarks.device [--repeat 5]`: W1 to W8 and training on a GPU, at sizes that fill it, beside peers there.

Inputs, weights of the peers and the products that give the rate of the arithmetic lie on the device before anything is timed; our
results are brought back to the host within the time. Every time ends when the device has finished. Without a GPU it says so.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import fisherstats as fs
from benchmarks import (
    nets,
    table,
    w1_exact_diagonal,
    w3_hessian_diagonal,
    w4_dense,
    w5_variances,
    w6_products,
    w7_covariance,
    w8_blocks,
)
from benchmarks.harness import GEMM_SIZE, Array, Case, Contestant, Peer, measure
from fisherstats.core import arrays

SIZES = {
    "device": {"first": 2**17, "second": 2**13, "dense": 2**15, "products": 2**16},
    "tiny": {"first": 7, "second": 7, "dense": 7, "products": 7},
}
"""Inputs of first order, second order, dense views and products with a vector."""


def cases(size: str, put: Callable[[Array], Any]) -> Iterator[Case]:
    """Yield the rows; `put` moves an array to the device."""
    sizes, tiny = SIZES[size], size == "tiny"
    medium = nets.TINY if tiny else nets.MEDIUM
    for dtype in nets.DTYPES:
        model, x = nets.tanh_classifier(medium, sizes["first"], dtype)
        setting, there = nets.described(medium, len(x)), put(x)
        yield Case(
            "W1 exact diagonal",
            setting,
            dtype,
            lambda model=model, x=there: fs.fisher_information(model, x),
            flops=w1_exact_diagonal.flops(medium, len(x)),
            peers=(
                on_gpu("BackPACK", w1_exact_diagonal.backpack, model, x),
                on_gpu("JAX, differentiated", w1_exact_diagonal.jax_differentiated, model, x),
                on_gpu("JAX, derived by hand", w1_exact_diagonal.jax_by_hand, model, x),
            ),
        )
        yield Case(
            "W2 score estimator",
            f"{setting}, 10 draws",
            dtype,
            lambda model=model, x=there: fs.estimate_fisher(model, x, estimator="score", n_draws=10, rng=0, standard_error=False),
            value=None,
            flops=w1_exact_diagonal.flops(medium, len(x)),
        )
        yield Case(
            "W8 Kronecker factors",
            setting,
            dtype,
            lambda model=model, x=there: fs.fisher_information(model, x, view="kfac"),
            value=w8_blocks.factors,
            flops=w8_blocks.factor_flops(medium, len(x)),
            peers=(on_gpu("BackPACK", w8_blocks.backpack_factors, model, x),),
        )
        yield from second_order(medium, sizes["second"], dtype, put)
        yield from dense((((3, 4, 3),) if tiny else (w4_dense.SMALL, w4_dense.LARGE)), sizes["dense"], dtype, put)
        yield from products((medium,) if tiny else (nets.MEDIUM, nets.WIDE), sizes["products"], dtype, put)
        yield covariance(dtype, put)
        yield from epochs(medium, sizes["first"], (4,) if tiny else (512, 8192), dtype, put)


def second_order(widths: tuple[int, ...], n_inputs: int, dtype: str, put: Callable[[Array], Any]) -> Iterator[Case]:
    model, x = nets.tanh_classifier(widths, n_inputs, dtype)
    setting, there = nets.described(widths, n_inputs), put(x)
    yield Case(
        "W3 Hessian estimator",
        f"{setting}, 1 draw",
        dtype,
        lambda: fs.estimate_fisher(model, there, estimator="hessian", n_draws=1, rng=0, standard_error=False),
        value=None,
        flops=w3_hessian_diagonal.flops(widths, n_inputs),
    )
    yield Case(
        "W5 variances",
        setting,
        dtype,
        lambda: fs.estimator_variance(model, there),
        value=w5_variances.variances,
        flops=w5_variances.flops(widths, n_inputs),
        peers=(on_gpu("JAX", w5_variances.jax_variances, model, x),),
        difference=w5_variances.worst_of_both,
    )


def dense(nets_of: Sequence[tuple[int, ...]], n_inputs: int, dtype: str, put: Callable[[Array], Any]) -> Iterator[Case]:
    for widths, view in itertools.product(nets_of, ("full", "block")):
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        there = put(x)
        found = (on_gpu("torch.func", w4_dense.torch_jacobians, model, x), on_gpu("JAX", w4_dense.jax_jacobians, model, x))
        yield Case(
            "W4 dense" if view == "full" else "W8 dense block per layer",
            nets.described(widths, n_inputs),
            dtype,
            lambda model=model, x=there, view=view: fs.fisher_information(model, x, view=view),
            value=np.asarray if view == "full" else None,
            flops=(w4_dense if view == "full" else w8_blocks).flops(widths, n_inputs),
            peers=found if view == "full" else (),
        )


def products(nets_of: Sequence[tuple[int, ...]], n_inputs: int, dtype: str, put: Callable[[Array], Any]) -> Iterator[Case]:
    for widths in nets_of:
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        there, vector = put(x), np.random.default_rng(2).standard_normal(model.n_params).astype(dtype)
        yield Case(
            "W6 information times vector",
            nets.described(widths, n_inputs),
            dtype,
            lambda model=model, x=there, v=vector: fs.fisher_operator(model, x) @ v,
            flops=w6_products.flops(widths, n_inputs, with_forward=True),
            peers=(on_gpu("JAX", w6_products.jax_product, model, x, vector),),
        )


def covariance(dtype: str, put: Callable[[Array], Any]) -> Case:
    model = fs.MLP.random(w7_covariance.WIDTHS, activation="tanh", family=fs.families.Gaussian(2), rng=0)
    model = model.as_dtype(np.dtype(dtype))
    x = put(np.random.default_rng(1).standard_normal((1, 2)).astype(dtype))
    return Case(
        "W7 covariance of all entries",
        nets.described(w7_covariance.WIDTHS, 1),
        dtype,
        lambda: fs.estimator_covariance(model, x, estimator="score"),
        value=None,
        flops=w7_covariance.flops(model.n_params, 2),
    )


def epochs(
    widths: tuple[int, ...], n_inputs: int, batch_sizes: Sequence[int], dtype: str, put: Callable[[Array], Any]
) -> Iterator[Case]:
    """Yield epochs of Adam, three products per layer and step; the peer is the same call on the host."""
    model, x = nets.tanh_classifier(widths, n_inputs, dtype)
    y, there = np.random.default_rng(3).integers(0, widths[-1], n_inputs), put(x)
    for size in batch_sizes:
        settings: dict[str, Any] = {"optimizer": fs.training.Adam(), "epochs": 1, "batch_size": size, "rng": 0}
        yield Case(
            "epoch of training",
            f"{nets.described(widths, n_inputs)}, Adam, batches of {size}",
            dtype,
            lambda settings=settings: fs.training.fit(model, there, y, **settings),
            value=loss,
            tolerance={"float64": 1e-8, "float32": 1e-3}[dtype],  # rounding adds up over the steps
            flops=6.0 * n_inputs * model.n_params,
            peers=(Peer("host", lambda settings=settings: (lambda: fs.training.fit(model, x, y, **settings), loss)),),
        )


def loss(fitted: Any) -> Array:
    """Return the loss of a training, epoch by epoch."""
    values: Array = fitted.history.loss.values
    return values


def on_gpu(name: str, build: Callable[..., Contestant], *arguments: Any) -> Peer:
    """Return a peer that computes on the GPU and has finished when its call returns."""

    def contestant() -> Contestant:
        if importlib.util.find_spec("torch") is None:
            return build(*arguments)
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            torch.set_default_device("cuda")
        call, value = build(*arguments)
        if not torch.cuda.is_available():
            return call, value

        def finished() -> Any:
            result = call()
            torch.cuda.synchronize()
            return result

        return finished, value

    return Peer(name, contestant)


def product(size: int, dtype: str, put: Callable[[Array], Any]) -> Callable[[], Any]:
    """Return a square matrix product on the device that is waited for."""
    a, b = (put(one) for one in np.random.default_rng(0).standard_normal((2, size, size)).astype(dtype))
    return lambda: float((a @ b)[0, 0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a line per row as it comes and then the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description=__doc__)
    parser.add_argument("--sizes", choices=list(SIZES), default="device")
    parser.add_argument("--repeat", type=int, default=5, help="rounds in which every call has its turns")
    chosen = parser.parse_args(arguments)
    usable, reason = arrays.gpu_status()
    if not usable:
        parser.exit(1, f"There is nothing to measure: {reason}.\n")
    rows = measured(chosen.sizes, chosen.repeat, importlib.import_module("cupy").asarray)
    print(f"{reason}\n\n{table.page(rows)}")


def measured(size: str, rounds: int, put: Callable[[Array], Any]) -> list[Any]:
    """Measure all cases."""
    found: list[Any] = []
    rates = {dtype: product(GEMM_SIZE[size], dtype, put) for dtype in nets.DTYPES}
    for case in cases(size, put):
        found.append(measure(case, rounds, size, rates[case.dtype]))
        print(" | ".join(table.cells(found[-1], table.rates(found))), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
