"""Checks of what the uses of the information are given."""

from __future__ import annotations

from typing import Any

from fisherstats.checks.arguments import positive_number, shown
from fisherstats.errors import AssumptionError

__all__ = ["dispersion", "labels_needed", "maximum", "residual_degrees"]


def dispersion(value: Any) -> float | str | None:
    """Return a dispersion: None, the word "pearson" or a number above 0."""
    if value is None:
        return value
    if isinstance(value, str):
        if value != "pearson":
            raise ValueError(f"`dispersion` must be None, 'pearson' or a finite number above 0, got {shown(value)}.")
        return value
    return positive_number("dispersion", value)


def labels_needed(what: str, y: Any) -> None:
    """Require data labels."""
    if y is None:
        raise ValueError(f"`y` must be given with {what}, got None; pass the data labels that the network was fitted to.")


def residual_degrees(degrees: int, n_labels: int, rank: int) -> None:
    """Require more independent labels than parameters that they determine."""
    if degrees <= 0:
        raise AssumptionError(
            f"An estimated dispersion needs more numbers in the labels ({n_labels}) than the rank of the information ({rank}); "
            "give the `dispersion` as a number."
        )


def maximum(smallest: float, tolerance: float) -> None:
    """Require an observed information without negative eigenvalues."""
    if smallest < -tolerance:
        raise AssumptionError(
            "The observed information must be positive semi-definite, as it is at a maximum of the likelihood, but its smallest "
            f"eigenvalue, scaled to a unit diagonal, is {smallest:.3g}; fit the network further, or use hessian='expected'."
        )
