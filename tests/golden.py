"""Reference values of four networks of widths 2-2-2 (one hidden layer), one input, one label, to ten decimals.

Derived once from the closed forms of Soen & Sun (2021, 2024).  `tests/test_naive.py` checks the oracle against them and
`validation/golden_table` the package.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DIAGONALS", "INPUT", "OUTPUTS", "PRECISION", "ROWS", "WEIGHTS", "Row"]

WEIGHTS = ([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]], [[0.7, -0.8, 0.9], [-0.1, 0.2, -0.3]])
INPUT = (1.0, -1.0)

PRECISION = 5.1e-11
"""Half a unit of the last printed digit, and a little for rounding."""


class Row(NamedTuple):
    """One row of the table; "all" sums over every entry (i, j) of the estimator, "diagonal" over the entries (i, i)."""

    information_trace: float
    score_frobenius: float
    hessian_frobenius: float
    score_variance_all: float
    hessian_variance_all: float
    score_variance_diagonal: float
    hessian_variance_diagonal: float
    score_frobenius_bound: float
    hessian_frobenius_bound: float


ROWS = {
    ("tanh", "categorical"): Row(
        information_trace=0.4795595174,
        score_frobenius=1.7120220380,
        hessian_frobenius=1.7103201529,
        score_variance_all=1.7120220380,
        hessian_variance_all=1.7103201529,
        score_variance_diagonal=0.1838861916,
        hessian_variance_diagonal=0.2523112599,
        score_frobenius_bound=5.4338416115,
        hessian_frobenius_bound=2.9957403040,
    ),
    ("tanh", "gaussian"): Row(
        information_trace=4.8887841312,
        score_frobenius=24.1009688630,
        hessian_frobenius=12.8894999328,
        score_variance_all=37.0875388160,
        hessian_variance_all=17.1420870691,
        score_variance_diagonal=5.7013362368,
        hessian_variance_diagonal=2.0770799858,
        score_frobenius_bound=82.7927570395,
        hessian_frobenius_bound=24.2425720205,
    ),
    ("sigmoid", "categorical"): Row(
        information_trace=0.5288069036,
        score_frobenius=0.6275256868,
        hessian_frobenius=0.2071771151,
        score_variance_all=0.6275256868,
        hessian_variance_all=0.2071771151,
        score_variance_diagonal=0.1371261184,
        hessian_variance_diagonal=0.0040381444,
        score_frobenius_bound=2.4060325289,
        hessian_frobenius_bound=0.4074307486,
    ),
    ("relu", "categorical"): Row(
        information_trace=0.6144124790,
        score_frobenius=1.3408631252,
        hessian_frobenius=1.5889977905,
        score_variance_all=1.3408631252,
        hessian_variance_all=1.5889977905,
        score_variance_diagonal=0.2172325812,
        hessian_variance_diagonal=0.0,
        score_frobenius_bound=4.4364274075,
        hessian_frobenius_bound=3.1779955810,
    ),
}
"""By activation of the hidden layer and head: overcomplete softmax over two classes, or two unit-variance Gaussians."""

OUTPUTS = {
    "tanh": (1.7594289186, -0.4745785121),
    "sigmoid": (1.0865096321, -0.2982031851),
    "softplus": (1.3036927262, -0.3231115853),
    "relu": (1.32, -0.36),
}
"""The natural parameters h_L, by activation."""

DIAGONALS = {
    "information": [0.0283162136] * 3 + [0.0352047808] * 3 + [0.025202244, 0.0319163392, 0.087379684] * 2,
    "score": [0.0059689052] * 3 + [0.0092263008] * 3 + [0.0047282752, 0.0075831643, 0.0568388473] * 2,
    "hessian": [0.0326681027] * 3 + [0.0514356506] * 3 + [0.0] * 6,
}
"""For tanh and softmax, parameter by parameter: the information and the single-label variances."""
