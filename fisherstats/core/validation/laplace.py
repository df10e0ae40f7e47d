"""Checks of `applications.laplace`: the prior, and what an estimated information allows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation.arguments import real_array, shown

__all__ = ["draws_with_estimates", "exact_factors", "positive_precision", "prior_precision"]


def exact_factors(structure: str, information: str) -> None:
    """Require the exact information for Kronecker factors."""
    if structure == "kfac" and information != "exact":
        raise ValueError(
            f"`information` must be 'exact' with structure='kfac', whose factors are exact, got {information!r}; use "
            "structure='diagonal', 'last_layer' or 'full'."
        )


def draws_with_estimates(information: str, n_draws: Any, rng: Any) -> None:
    """Require labels and a seed for estimates, and none elsewhere."""
    estimated = information in ("score", "hessian")
    if estimated and (n_draws is None or rng is None):
        raise ValueError(f"`n_draws` and `rng` must be given with information={information!r}, got n_draws={n_draws}, rng={rng}.")
    if not estimated and (n_draws is not None or rng is not None):
        raise ValueError(f"`n_draws` and `rng` go with information='score' or 'hessian', got them with {information!r}.")


def prior_precision(value: Any, n_layers: int, n_params: int, structure: str) -> NDArray[np.float64] | str:
    """Return the word "evidence" or positive precisions: one, one per layer, or where the structure allows one per parameter."""
    if isinstance(value, str):
        if value != "evidence":
            raise ValueError(f"`prior_precision` must be positive numbers or 'evidence', got {shown(value)}.")
        return value
    array = real_array("prior_precision", value).astype(np.float64)
    sizes = [1, n_layers] + ([n_params] if structure in ("full", "diagonal") else [])
    if array.ndim > 1 or array.size not in sizes:
        listed = f"one number, {n_layers} (one for each layer)" + (
            f" or {n_params} (one for each parameter)" if len(sizes) > 2 else ""
        )
        raise ValueError(f"`prior_precision` must be {listed}, got shape {array.shape}.")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(
            f"`prior_precision` must be positive and finite: an improper prior leaves directions without information "
            f"unbounded, got {shown(value)}; take a small number instead."
        )
    return array.reshape(-1)


def positive_precision(met: bool, structure: str) -> None:
    """Require a positive posterior precision of an estimated information."""
    if not met:
        raise ValueError(
            "`information` must leave the posterior precision positive, got an estimate whose negative part exceeds the "
            f"prior; draw more labels, take information='exact', or a larger `prior_precision` (structure={structure!r})."
        )
