"""Checks of the arguments of the applications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import holds, on_host
from fisherstats.core.errors import AssumptionError
from fisherstats.core.validation.arguments import only_with, parameter_vector, positive_integer, positive_number, shown
from fisherstats.core.validation.external import perceptron_only

__all__ = [
    "alike",
    "batch_size",
    "dispersion",
    "dispersion_within_range",
    "draws_for_norm",
    "exact_norm",
    "few_labels",
    "importances",
    "labels_needed",
    "maximum",
    "one_each",
    "only_for",
    "part_of_the_inputs",
    "possible_labels",
    "random_labels",
    "residual_degrees",
    "same_family",
    "same_network",
    "several_networks",
    "share",
    "within_range",
]


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
            f"An estimated dispersion needs more label values ({n_labels}) than the rank of the information ({rank}); "
            "give the `dispersion` as a number."
        )


def possible_labels(squares: NDArray[np.floating], natural: NDArray[np.floating], first_input: int) -> None:
    """Require squared Pearson residuals within the float range: an underflowing variance makes other labels impossible."""
    finite = np.isfinite(squares)
    if not holds(finite):
        squares, natural = on_host(squares), on_host(natural)
        row, output = (int(i) for i in np.argwhere(~np.isfinite(squares))[0])
        output = min(output, natural.shape[1] - 1)
        raise ValueError(
            f"`dispersion='pearson'` divides by the variance of each label, which underflows for input {first_input + row}, "
            f"output {output} (natural parameter {natural[row, output]:.6g}): the label there is impossible under the model up "
            "to the range of float64; leave such inputs out, or give the `dispersion` as a number."
        )


def dispersion_within_range(squares: float, first: float, n_outputs: int) -> None:
    """Refuse a dispersion of 0 from variances that underflow; `first` numbers such an output, inf if there is none."""
    if np.isfinite(first) and not squares >= np.finfo(np.float64).tiny:
        row, output = divmod(int(first), n_outputs)
        raise ValueError(
            "`dispersion='pearson'` must be within the range of float64, but the variance of the label underflows, first for "
            f"input {row}, output {output}, and with it the sum of all squared Pearson residuals: the labels are certain under "
            "the model; leave such inputs out, or give the `dispersion` as a number."
        )


_DIGITS = 1e-3
"""Largest relative error of a covariance that is returned."""


def maximum(smallest: float, rounding: float) -> None:
    """Require an observed information without negative eigenvalues, of which the smallest is known up to `rounding`."""
    if smallest < -rounding:
        raise AssumptionError(
            "The observed information must be positive semi-definite, as it is at a maximum of the likelihood, but its smallest "
            f"eigenvalue, relative to the expected information, is {smallest:.3g}; fit the network further, or use "
            "hessian='expected'."
        )
    if not rounding <= _DIGITS * smallest:
        raise AssumptionError(
            "Whether the observed information is positive definite cannot be decided at this precision: its smallest eigenvalue, "
            f"relative to the expected information, is {smallest:.3g} with a rounding error of up to {rounding:.3g}; centre the "
            "inputs, leave out nearly collinear features, or use hessian='expected'."
        )


def within_range(what: str, values: NDArray[np.floating], known: NDArray[np.bool_] | bool, names: str) -> None:
    """Require results that are not 0 to be within the normal range of float64 where they are `known`, and name the first."""
    size = np.abs(values)
    outside = known & ~((size >= np.finfo(np.float64).tiny) & (size <= np.finfo(np.float64).max))
    if outside.any():
        position = int(np.argmax(outside))
        kind = "underflows" if size[position] < 1 else "overflows"
        raise ValueError(
            f"`x` must give results within the range of float64, but {what} {kind} at {names} {position}; scale the inputs "
            "(powers of two change no digit)."
        )


def only_for(name: str, value: Any, other: str, other_value: Any, required: Sequence[str]) -> None:
    """Require `value` where `other` has one of the `required` values, and refuse it elsewhere."""
    if other_value in required:
        only_with(name, value, other, other_value, other_value)
    elif value is not None:
        listed = " or ".join(f"{other}={one!r}" for one in required)
        raise ValueError(
            f"`{name}` goes with {listed} only, got {name}={shown(value)} with {other}={other_value!r}; leave `{name}` out."
        )


def same_network(name: str, given: Any, wanted: Any) -> None:
    """Require two networks with the same parameters."""
    for which in ("widths", "bias"):
        own, theirs = list(getattr(given, which)), list(getattr(wanted, which))
        if own != theirs:
            raise ValueError(f"`{name}` must have the {which} {theirs} of the other network, got {own}.")


def share(name: str, value: Any) -> float:
    """Return a float above 0 and at most 1."""
    number = positive_number(name, value)
    if number > 1:
        raise ValueError(f"`{name}` must be a number above 0 and at most 1, got {shown(value)}.")
    return number


def random_labels(information: str, design: str) -> None:
    """Refuse a standard error over labels that are given, not drawn."""
    if information == "empirical" and design == "fixed":
        raise ValueError(
            "`design` must be 'random' with information='empirical', got 'fixed': its labels are data, so that nothing varies at "
            "given inputs."
        )


def draws_for_norm(scores: Sequence[str]) -> None:
    """Refuse draws where nothing is estimated from them."""
    if "norm" not in scores:
        raise ValueError(
            f"`n_draws` and `rng` go with score='norm' only, got score={shown(scores[0])}, which is exact; leave them out."
        )


def exact_norm(value: NDArray[np.floating] | None, family: str) -> NDArray[np.floating]:
    """Return a closed form, or ask for draws where there is none."""
    if value is None:
        raise ValueError(
            f"`n_draws` and `rng` must be given for score='norm' with the family {family}, which has no closed form here; use "
            "n_draws=100 and rng=0, say, or score='squared_norm', which is exact."
        )
    return value


def few_labels(family: str, few: bool) -> None:
    """Require a family whose labels can be enumerated."""
    if not few:
        raise ValueError(
            f"`score='entropy'` needs classes or up to eight binary outputs, got the family {family}; use score='squared_norm'."
        )


def batch_size(value: Any, n_inputs: int) -> int:
    """Return the number of inputs to select from a pool."""
    size = positive_integer("size", value)
    if size > n_inputs:
        raise ValueError(f"`size` must be at most {n_inputs}, the inputs of the pool, got {size}.")
    return size


def same_family(one: Any, other: Any, n_features: int, other_features: int) -> None:
    """Require two networks that give laws of one family to the same inputs."""
    if one != other or n_features != other_features:
        raise ValueError(
            f"`other` must take {n_features} features and have the family of `model`, {one}, got {other_features} features and "
            f"{other}."
        )


def part_of_the_inputs(name: str, size: int, n_inputs: int, fewest: int) -> None:
    """Require a part of the inputs, at least so many of them."""
    if not fewest <= size <= n_inputs:
        raise ValueError(f"`{name}` must be from {fewest} to {n_inputs}, the number of inputs, got {size}.")


def several_networks(models: Any, kind: type) -> None:
    """Require at least two networks."""
    if isinstance(models, list | tuple) and any(type(one).__name__ == "ExternalNetwork" for one in models):
        perceptron_only("models")
    if not isinstance(models, list | tuple) or len(models) < 2 or not all(isinstance(one, kind) for one in models):
        raise TypeError(f"`models` must be a list of at least two networks, got {shown(models)}.")


def alike(descriptions: Sequence[Any]) -> None:
    """Require networks of the same architecture."""
    for position, one in enumerate(descriptions):
        if one != descriptions[0]:
            raise ValueError(
                f"`models[{position}]` must have the widths, biases, activations and family of `models[0]`, {descriptions[0]}, "
                f"got {one}."
            )


def one_each(importances: Any, n_models: int) -> None:
    """Require one importance for each network."""
    try:
        n_importances = len(importances)
    except TypeError as error:
        message = f"`importances` must be a sequence, one for each of the {n_models} networks, got {shown(importances)}."
        raise TypeError(message) from error
    if n_importances != n_models:
        raise ValueError(f"`importances` must be one for each of the {n_models} networks, got {n_importances}.")


def importances(name: str, value: Any, n_params: int) -> NDArray[np.float64]:
    """Return weights of a mean: one number of at least 0 per parameter."""
    weights = parameter_vector(name, value, n_params).astype(np.float64)
    if weights.min() < 0:
        position = int(np.argmin(weights))
        raise ValueError(
            f"`{name}` must have no negative entries, got {weights[position]:.6g} at index {position}; a Hessian estimate may be "
            "negative: use the exact information, or the score."
        )
    return weights
