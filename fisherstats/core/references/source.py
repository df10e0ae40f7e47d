"""One numbered statement, and the assumptions that many of them share."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIXED", "MODEL", "TWICE", "Source"]


@dataclass(frozen=True)
class Source:
    """One numbered statement: its location, formula, assumptions, and errata of the printed version."""

    paper: str
    statement: str
    formula: str
    assumptions: str
    erratum: str = ""


MODEL = "exponential-family response with natural parameters h(x); labels drawn from the model"
TWICE = MODEL + "; h twice differentiable at the given parameters (no pre-activation on a kink)"
FIXED = "fixed design: every given input is used with n_draws independent labels"
