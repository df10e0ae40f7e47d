"""W2: the score estimator of the diagonal from any number of labels per input, drawn from the network.

Operations: as for W1, with a row per label where these are fewer than the classes, and otherwise whatever the number of labels.
Everybody draws their own labels, so an estimate is right when its mean entry is within a few of its closed-form standard errors
of the exact one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import fisherstats as fs
from benchmarks import nets, peers, w1_exact_diagonal
from benchmarks.harness import Array, Case, Contestant, Peer

SIZES = w1_exact_diagonal.SIZES
DRAWS = (1, 10, 10**6, 10**9)
PEER_DRAWS = (1, 10)
MANY_CLASSES = 10
"""Times as many classes."""
TARGET_MS = {"float64": 8.5}


def flops(widths: tuple[int, ...], n_inputs: int, n_draws: int) -> float:
    rows = min(n_draws, widths[-1] - 1)
    return 2 * nets.pass_flops(widths, n_inputs) + nets.backward_flops(widths, n_inputs) * rows / (widths[-1] - 1)


def cases(size: str) -> Iterator[Case]:
    widths, n_inputs = SIZES[size]
    many = (*widths[:-1], MANY_CLASSES * widths[-1])
    for dtype in nets.DTYPES:
        for n_draws in DRAWS:
            yield case("W2 score estimator", widths, n_inputs, n_draws, dtype, TARGET_MS.get(dtype))
        yield case("W2 one label of many classes", many, n_inputs, 1, dtype)
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        yield Case(
            "W2 with standard errors",
            f"{nets.described(widths, n_inputs)}, 10 draws",
            dtype,
            lambda model=model, x=x: fs.estimate_fisher(model, x, estimator="score", n_draws=10, rng=0),
            flops=w1_exact_diagonal.flops(widths, n_inputs) + nets.pass_flops(widths, n_inputs),
        )


def case(name: str, widths: tuple[int, ...], n_inputs: int, n_draws: int, dtype: str, target_ms: float | None = None) -> Case:
    model, x = nets.tanh_classifier(widths, n_inputs, dtype)
    competing = (Peer("BackPACK", lambda: backpack(model, x, n_draws)), Peer("NNGeometry", lambda: nngeometry(model, x, n_draws)))
    return Case(
        name,
        f"{nets.described(widths, n_inputs)}, {n_draws:,} draw{'s' if n_draws > 1 else ''}",
        dtype,
        lambda: fs.estimate_fisher(model, x, estimator="score", n_draws=n_draws, rng=0, standard_error=False),
        flops=flops(widths, n_inputs, n_draws),
        target_ms=target_ms,
        peers=competing if n_draws in PEER_DRAWS else (),
        difference=lambda found, ours: standard_errors(found, model, x, n_draws),
        tolerance=6.0,
        unit="standard errors of the mean entry",
    )


def standard_errors(found: Array, model: fs.MLP, x: Array, n_draws: int) -> float:
    """Return how many of its standard errors the mean entry of an estimate is off the exact one."""
    model, x, found = model.as_dtype(np.dtype(np.float64)), x.astype(np.float64), found.astype(np.float64)
    exact = float(fs.fisher_information(model, x).mean())
    variance = fs.estimator_variance(model, x, n_draws=n_draws, group_by="model", estimators=["score"])
    return abs(float(found.mean()) - exact) / float(np.sqrt(variance["variance"].item()))


def backpack(model: fs.MLP, x: Array, n_draws: int) -> Contestant:
    return peers.backpack(model, x, "DiagGGNMC", "diag_ggn_mc", mc_samples=n_draws), peers.joined(model.widths)


def nngeometry(model: fs.MLP, x: Array, n_draws: int) -> Contestant:
    places = peers.order(model.widths)
    call = peers.nngeometry(model, x, "PMatDiag", n_draws=n_draws)
    return call, lambda matrix: matrix.get_diag().detach().cpu().numpy()[places]
