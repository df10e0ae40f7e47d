"""Checks of generalized linear models of statsmodels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from fisherstats.core.validation.arguments import shown

__all__ = [
    "a_column",
    "finite_coefficients",
    "no_constant_needed",
    "plain",
    "scale_is_of_a_likelihood",
    "second_kind",
    "unknown_family",
]


def unknown_family(family: str, link: str, known: Sequence[tuple[str, str]], models: Sequence[str]) -> NoReturn:
    """Refuse a family or link that this package has no equal of."""
    listed = ", ".join(f"{one} with {other}" for one, other in known)
    got = f"{family} with {link}" if link else family
    raise ValueError(
        f"`results` must be of one of the models {listed}, or of {', '.join(models)}, got {got}; refit it with one of these, or "
        "build the network with MLP.from_arrays and a family of this package."
    )


def second_kind(method: str) -> None:
    """Require a variance that is quadratic in the mean, as that of a sum of failures is."""
    if method != "nb2":
        raise ValueError(
            f"`results` must be of a NegativeBinomial with loglike_method='nb2', of variance mu + alpha mu^2, got {method!r}."
        )


def plain(model: Any) -> None:
    """Refuse what changes the likelihood beside the linear predictor: offsets, exposures, weights, several trials."""
    found = {
        "an offset": getattr(model, "offset", None),
        "an exposure": getattr(model, "exposure", None),
        "freq_weights other than 1": _unlike_one(getattr(model, "freq_weights", None)),
        "var_weights other than 1": _unlike_one(getattr(model, "var_weights", None)),
        "several trials per response": _unlike_one(getattr(model, "n_trials", None)),
        "weights other than 1": _unlike_one(_weights(model)),
        "a covariance `sigma` of the errors": _off(getattr(model, "sigma", None)),
    }
    for what, value in found.items():
        if value is not None and np.any(np.asarray(value) != 0):
            raise ValueError(
                f"`results` must be of a model whose predictor is linear in its columns for one response each, got {what}; "
                "refit it "
                "without, or with the offset as a column."
            )


def _weights(model: Any) -> Any:
    """Return the weights of a WLS, relative to their first; None elsewhere."""
    weights = getattr(model, "weights", None) if type(model).__name__ == "WLS" else None
    return None if weights is None else np.asarray(weights) / np.asarray(weights).ravel()[0]


def _off(sigma: Any) -> Any:
    return None if sigma is None else np.ones(1)


def _unlike_one(value: Any) -> Any:
    return None if value is None else np.asarray(value) - 1


def finite_coefficients(coefficients: Any) -> NoReturn:
    """Refuse coefficients that are not finite."""
    raise ValueError(f"`results` must have finite coefficients, got {shown(coefficients)}; refit the model.")


def a_column(names: Any) -> NoReturn:
    """Refuse a model of a constant alone."""
    raise ValueError(f"`results` must be of a model with a column other than the constant, got {shown(names)}.")


def scale_is_of_a_likelihood(family: str, scale: float) -> None:
    """Refuse a quasi-likelihood: a scale beside a family without one."""
    if family in ("Binomial", "Poisson", "NegativeBinomial") and scale != 1:
        raise ValueError(
            f"`results` must be of a likelihood, got {family} with the scale {scale:g}, a quasi-likelihood; refit it without "
            "`scale`."
        )


def no_constant_needed(family: str, shift: float) -> None:
    """Refuse a model without a constant whose intercept in this package is not 0."""
    if shift != 0:
        raise ValueError(
            f"`results` must be of a model with a constant column for {family}, whose intercept in the parameters of this "
            "package is "
            f"{shift:g} where that of the model is 0, got none; add one with `sm.add_constant(exog)`."
        )
