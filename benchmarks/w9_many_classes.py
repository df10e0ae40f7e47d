"""W9: heads of many classes: what the estimators need, beside the exact diagonal of the same head in the same run.

Operations: the forward pass, and where the result has a number per parameter one product per quantity. A layer's moments need one
value per class and input, so a forward pass is all that is counted. The peer is our own exact diagonal; nothing is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fisherstats as fs
from benchmarks import nets
from benchmarks.harness import Array, Case, Contestant, Peer

SIZES = {"full": (((2048, 1000), 2000), ((768, 32000), 16)), "tiny": (((6, 9), 7),)}

CALLS: tuple[tuple[str, Callable[[fs.MLP, Array], Any], int], ...] = (
    ("score with errors", lambda m, x: fs.estimate_fisher(m, x, estimator="score", n_draws=10, rng=0), 2),
    ("variance of the score", lambda m, x: fs.estimator_variance(m, x, estimators=["score"]), 1),
    ("variances by layer", lambda m, x: fs.estimator_variance(m, x, group_by="layer"), 0),
    ("variances by unit", lambda m, x: fs.estimator_variance(m, x, group_by="unit"), 0),
    ("plan by layer", lambda m, x: fs.plan_draws(m, x, target_cv=0.1, level="layer"), 0),
    ("layer errors", lambda m, x: fs.layer_errors(m, x), 0),
)
"""Name, call, and how many quantities have a number per parameter."""


def cases(size: str) -> Iterator[Case]:
    for widths, n_inputs in SIZES[size]:
        model, x = nets.tanh_classifier(widths, n_inputs, "float64")
        for name, call, quantities in CALLS:
            yield Case(
                f"W9 {name}",
                nets.described(widths, n_inputs),
                "float64",
                lambda call=call, model=model, x=x: call(model, x),
                value=None,
                flops=(1 + quantities) * nets.pass_flops(widths, n_inputs),
                peers=(Peer("exact diagonal (ours)", lambda model=model, x=x: exact_diagonal(model, x)),),
            )


def exact_diagonal(model: fs.MLP, x: Array) -> Contestant:
    return lambda: fs.fisher_information(model, x), lambda _: np.ones(())
