"""W2: the score estimator of the diagonal from any number of labels per input, drawn from the network.

Operations: as for W1; they do not depend on the number of labels. Everybody draws their own labels, so an estimate is right
when its mean entry is within a few of its closed-form standard errors of the exact one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import fisherstats as fs
from benchmarks import nets, peers, w1_exact_diagonal
from benchmarks.harness import Array, Case, Contestant, Peer

SIZES = w1_exact_diagonal.SIZES
DRAWS = (10, 10**6, 10**9)
PEER_DRAWS = 10
TARGET_MS = {"float64": 8.5}


def cases(size: str) -> Iterator[Case]:
    widths, n_inputs = SIZES[size]
    for dtype in nets.DTYPES:
        model, x = nets.tanh_classifier(widths, n_inputs, dtype)
        for n_draws in DRAWS:
            yield Case(
                "W2 score estimator",
                f"{nets.described(widths, n_inputs)}, {n_draws:,} draws",
                dtype,
                lambda model=model, x=x, n_draws=n_draws: fs.estimate_fisher(
                    model, x, estimator="score", n_draws=n_draws, rng=0, standard_error=False
                ),
                flops=w1_exact_diagonal.flops(widths, n_inputs),
                target_ms=TARGET_MS.get(dtype),
                peers=(
                    Peer("BackPACK", lambda model=model, x=x: backpack(model, x)),
                    Peer("NNGeometry", lambda model=model, x=x: nngeometry(model, x)),
                )
                if n_draws == PEER_DRAWS
                else (),
                difference=lambda found, ours, model=model, x=x, n_draws=n_draws: standard_errors(found, model, x, n_draws),
                tolerance=6.0,
                unit="standard errors of the mean entry",
            )
        yield Case(
            "W2 with standard errors",
            f"{nets.described(widths, n_inputs)}, {PEER_DRAWS} draws",
            dtype,
            lambda model=model, x=x: fs.estimate_fisher(model, x, estimator="score", n_draws=PEER_DRAWS, rng=0),
            flops=w1_exact_diagonal.flops(widths, n_inputs) + nets.pass_flops(widths, n_inputs),
        )


def standard_errors(found: Array, model: fs.MLP, x: Array, n_draws: int) -> float:
    """Return how many of its standard errors the mean entry of an estimate is off the exact one."""
    model, x, found = model.as_dtype(np.dtype(np.float64)), x.astype(np.float64), found.astype(np.float64)
    exact = float(fs.fisher_information(model, x).mean())
    variance = fs.estimator_variance(model, x, n_draws=n_draws, group_by="model", estimators=["score"])
    return abs(float(found.mean()) - exact) / float(np.sqrt(variance["variance"].item()))


def backpack(model: fs.MLP, x: Array) -> Contestant:
    return peers.backpack(model, x, "DiagGGNMC", "diag_ggn_mc", mc_samples=PEER_DRAWS), peers.joined(model.widths)


def nngeometry(model: fs.MLP, x: Array) -> Contestant:
    places = peers.order(model.widths)
    call = peers.nngeometry(model, x, "PMatDiag", n_draws=PEER_DRAWS)
    return call, lambda matrix: matrix.get_diag().detach().cpu().numpy()[places]
