"""Checks of networks from other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from fisherstats.core.validation.arguments import shown

__all__ = ["activation_known", "family_matches_output", "fitted_perceptron", "output_unknown"]


def fitted_perceptron(estimator: Any, perceptrons: tuple[type, ...]) -> None:
    """Require a fitted MLPClassifier or MLPRegressor."""
    wanted = "a fitted sklearn.neural_network.MLPClassifier or MLPRegressor"
    if isinstance(estimator, type):
        raise TypeError(f"`estimator` must be {wanted}, got the class {estimator.__name__}; pass a fitted instance.")
    if not isinstance(estimator, perceptrons):
        advice = ""
        if hasattr(estimator, "named_steps"):
            advice = "; pass the last step, `pipeline[-1]`, and transform the inputs with `pipeline[:-1].transform(x)`"
        elif hasattr(estimator, "best_estimator_"):
            advice = "; pass its `best_estimator_`"
        elif hasattr(estimator, "coef_"):
            advice = "; a linear model is MLP.from_arrays([coef], [intercept], activation=[], family=...)"
        raise TypeError(f"`estimator` must be {wanted}, got {type(estimator).__name__}{advice}.")
    if not hasattr(estimator, "coefs_"):
        raise ValueError(
            f"`estimator` must be fitted, got an unfitted {type(estimator).__name__}; call `estimator.fit(x, y)` first."
        )


def activation_known(activation: Any, known: Sequence[str]) -> None:
    """Require a hidden activation that has an equivalent in this package."""
    if activation not in known:
        listed = ", ".join(repr(word) for word in known)
        raise ValueError(
            f"`estimator.activation` must be one of {listed}, got {shown(activation)}; build the network with "
            "MLP.from_arrays and an activation of this package."
        )


def output_unknown(output: Any, known: Sequence[str]) -> NoReturn:
    """Refuse an output activation that matches no family of this package."""
    listed = ", ".join(repr(word) for word in known)
    raise ValueError(
        f"`estimator.out_activation_` must be one of {listed}, got {shown(output)}; build the network with "
        "MLP.from_arrays and the family whose natural parameters the last layer gives."
    )


def family_matches_output(family: Any, expected: type, output: str) -> None:
    """Require the family whose mean is the estimator's own output function."""
    if not isinstance(family, expected):
        raise ValueError(
            f"`family` must be a {expected.__name__} for an estimator whose output function is {output!r}, got "
            f"{shown(family)}; leave it out for the default, or build the network with MLP.from_arrays."
        )
