"""Checks of networks from other libraries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation.arguments import shown

__all__ = [
    "activation_at_the_end",
    "activation_known",
    "after_the_end",
    "bias_needed",
    "family_fits_end",
    "family_fits_loss",
    "family_instance",
    "family_matches_output",
    "family_unknown",
    "fitted_perceptron",
    "kernel_and_bias",
    "loss_fits_end",
    "no_layer_before",
    "no_layers",
    "no_likelihood",
    "not_from",
    "nothing_to_fold_into",
    "output_unknown",
    "sizes_chain",
    "statistics",
    "tied",
    "unknown_activation",
    "unknown_loss",
    "unread",
    "variance_needed",
]

_BY_HAND = "build the network with MLP.from_arrays"


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


# --- chains of layers, from any library ----------------------------------------------------------------------------------------


def not_from(argument: str, value: Any, wanted: str, advice: str = "") -> NoReturn:
    """Refuse an object that is not of the library."""
    raise TypeError(f"`{argument}` must be {wanted}, got {shown(value)}{advice}.")


def unread(argument: str, place: str, what: str, advice: str) -> NoReturn:
    """Refuse a step that is no part of a multilayer perceptron."""
    raise ValueError(f"`{argument}` must be a chain of dense layers and activations, got {what} at {place}; {advice}.")


def no_layers(argument: str) -> NoReturn:
    """Refuse a network without a dense layer."""
    raise ValueError(f"`{argument}` must have at least one dense layer, got none; {_BY_HAND}.")


def sizes_chain(argument: str, place: str, size: int, before: str, found: int) -> None:
    """Require a layer to take as many numbers as the one before it gives."""
    if size != found:
        raise ValueError(f"`{argument}` must be a chain, got {size} inputs at {place} after {found} outputs at {before}.")


def no_layer_before(argument: str, place: str) -> NoReturn:
    """Refuse an activation that does not follow a dense layer."""
    raise ValueError(
        f"`{argument}` must have a dense layer before every activation, with at most a normalisation between them, got one "
        "without "
        f"at {place}; {_BY_HAND} and a layer of the identity."
    )


def nothing_to_fold_into(argument: str, place: str) -> NoReturn:
    """Refuse a normalisation without a dense layer next to it."""
    raise ValueError(
        f"`{argument}` must have a dense layer next to every batch normalisation, got none into which {place} could be folded; "
        "fold it by hand, and build the network with MLP.from_arrays."
    )


def after_the_end(argument: str, place: str, function: str, end: str) -> NoReturn:
    """Refuse steps after a function that makes probabilities or means."""
    raise ValueError(f"`{argument}` must end with its {function} at {end}, got {place} after it; {_BY_HAND}.")


def activation_at_the_end(argument: str, name: str) -> NoReturn:
    """Refuse an activation whose values are no natural parameters or means of a family."""
    raise ValueError(
        f"`{argument}` must end with a dense layer, a softmax, a log-softmax, a sigmoid or an exponential, got the activation "
        f"{name!r} "
        "at its end; read it without its last activation, and choose the family whose natural parameters the last dense layer "
        "gives."
    )


def unknown_activation(place: str, name: str, known: Sequence[str]) -> NoReturn:
    """Refuse an activation that this package does not have."""
    raise ValueError(
        f"`activation` at {place} must be one that this package has ({', '.join(known)}), got {name}; describe it by an "
        "fisherstats.activations.Activation, and build the network with MLP.from_arrays."
    )


def bias_needed(places: Sequence[str]) -> NoReturn:
    """Refuse layers without bias."""
    raise ValueError(
        f"{places[0]} must have a bias, got a dense layer without one; give it a bias of zeros, which then counts as a parameter."
    )


def tied(argument: str, name: str, other: str) -> NoReturn:
    """Refuse one parameter in two places."""
    raise ValueError(
        f"`{argument}` must have different parameters in different layers, got one for {other} and {name}: the information of a "
        "shared parameter is not the sum of theirs."
    )


def kernel_and_bias(place: str, kernel: NDArray[Any], bias: NDArray[Any] | None, units: int) -> None:
    """Require finite numbers of float32 or float64, a matrix and a vector that go together."""
    layer = place.strip("`")
    for name, values, shape in ((f"{layer} (kernel)", kernel, None), (f"{layer} (bias)", bias, (units,))):
        if values is None:
            continue
        if shape is None and (values.ndim != 2 or 0 in values.shape):
            raise ValueError(f"`{name}` must be a matrix with at least one row and column, got shape {values.shape}.")
        if shape is not None and values.shape != shape:
            raise ValueError(f"`{name}` must have shape {shape} to go with its kernel, got shape {values.shape}.")
        numbers(name, values)


def statistics(place: str, values: Mapping[str, NDArray[Any]], units: int) -> None:
    """Require a mean, a positive variance, gamma and beta of as many numbers as there are units."""
    place = place.strip("`")
    for what, one in values.items():
        if one.shape != (units,):
            raise ValueError(f"`{place} ({what})` must have shape ({units},), got shape {one.shape}.")
        numbers(f"{place} ({what})", one)
    lowest = float(values["variance"].min())
    if lowest <= 0:
        raise ValueError(f"`{place} (variance)` must be above 0 together with its epsilon, got {lowest:g}.")


def numbers(name: str, values: NDArray[Any]) -> None:
    """Require finite numbers in one of the two precisions of a network."""
    if values.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"`{name}` must hold float32 or float64, got dtype {values.dtype}; convert the network to float32 if that loses "
            "nothing."
        )
    finite = np.isfinite(values)
    if not finite.all():
        index = tuple(int(one) for one in np.argwhere(~finite)[0])
        raise ValueError(
            f"`{name}` must hold finite numbers, got {values[index]} at index {index}; its training has diverged, or its file "
            "is damaged."
        )


# --- which family --------------------------------------------------------------------------------------------------------------


def family_instance(family: Any, family_type: type) -> None:
    """Require a family object."""
    if not isinstance(family, family_type):
        raise TypeError(f"`family` must be a family object such as fisherstats.families.Categorical(3), got {shown(family)}.")


def family_unknown(end: str | None, n_outputs: int) -> NoReturn:
    """Refuse to guess the family."""
    got = "neither" if end is None else f"a {end} at the end alone, which trains with several losses"
    raise ValueError(
        "`family` must be said where neither a loss nor a softmax at the end says it, got "
        f"{got}; give the loss of its training, or a family such as fisherstats.families.Gaussian({n_outputs}): the number of "
        "outputs "
        "does not tell."
    )


def family_fits_end(family: Any, families: Sequence[type], end: str) -> None:
    """Require the family whose mean the function at the end is."""
    if not isinstance(family, tuple(families)) or getattr(family, "minimal", False):
        listed = " or a ".join(one.__name__ for one in families)
        raise ValueError(
            f"`family` must be a {listed} with one output per probability for a network with a {end} at its end, got "
            f"{shown(family)}; "
            "leave out `family`, or read the network without its end."
        )


def loss_fits_end(loss: str, kind: str, end: str | None, ends: Sequence[str | None]) -> None:
    """Require the function at the end that the loss takes."""
    if end not in ends:
        wanted = " or ".join("no function" if one is None else f"a {one}" for one in ends)
        got = "none" if end is None else f"a {end}"
        raise ValueError(
            f"`loss` must fit the end of the network: {loss} takes {kind}, after {wanted} at the end, got {got}; give the loss "
            "that it "
            "was trained with, or correct the network."
        )


def family_fits_loss(family: Any, families: Sequence[type], loss: str) -> None:
    """Require the family whose negative log-likelihood the loss is."""
    if not isinstance(family, tuple(families)) or getattr(family, "minimal", False):
        listed = " or a ".join(one.__name__ for one in families)
        raise ValueError(f"`family` must be a {listed} for {loss}, got {shown(family)}; leave out one of `family` and `loss`.")


def variance_needed(loss: str, n_outputs: int) -> NoReturn:
    """Require the variance that a loss takes as an argument of its own."""
    raise ValueError(
        f"`family` must be given with {loss}, which takes the variance as an argument of its own, got none; give "
        f"fisherstats.families.Gaussian({n_outputs}, covariance=...)."
    )


def unknown_loss(loss: Any, known: Collection[str]) -> NoReturn:
    """Refuse a loss that is no negative log-likelihood of this package."""
    raise ValueError(f"`loss` must be one of {', '.join(known)}, got {shown(loss)}; give the family instead, `family=...`.")


def no_likelihood(loss: str, option: str, value: Any) -> NoReturn:
    """Refuse an option with which a loss is no negative log-likelihood of a label."""
    raise ValueError(
        f"`loss` must be the negative log-likelihood of a label, got {loss} with {option}={shown(value)}; give the family of "
        "the model "
        "instead, `family=...`."
    )
