"""Checks of label distributions given by the user, as probabilities or as a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from fisherstats.core.errors import AssumptionError
from fisherstats.core.validation.arguments import real_array, shown

__all__ = ["label_distributions", "one_distribution", "true_network"]

# Tolerance of a sum of one after rounding to decimals or float32.
_SUM_TOLERANCE = 1e-6


def one_distribution(probabilities: Any, truth: Any) -> None:
    """Require the law of the labels once: as probabilities or as a network."""
    if (probabilities is None) == (truth is None):
        raise ValueError(
            "The label distribution must be given once, as `probabilities` or as the network `truth`, got "
            f"{'neither' if truth is None else 'both'}."
        )


def true_network(truth: Any, model: Any, model_type: type) -> None:
    """Require a network with the inputs and the family of the model."""
    if not isinstance(truth, model_type):
        raise TypeError(f"`truth` must be a fisherstats.MLP with the family of the model, got {shown(truth)}.")
    expected, given = model.family, truth.family  # type: ignore[attr-defined]
    if type(given) is not type(expected) or given.parameters() != expected.parameters():
        raise ValueError(f"`truth` must have the family of the model, {expected!r}, got {given!r}.")
    if truth.widths[0] != model.widths[0]:  # type: ignore[attr-defined]
        raise ValueError(
            f"`truth` must take the {model.widths[0]} features of the model, got a network of {truth.widths[0]} features."  # type: ignore[attr-defined]
        )


def label_distributions(probabilities: Any, family: Any, n: int) -> np.ndarray:
    """Return the probabilities of each label (n, C) for a family with finitely many labels; those of 0 and 1 for Bernoulli."""
    if family.name == "bernoulli" and family.n_outputs == 1:
        return _of_ones(probabilities, n)
    if family.name != "categorical":
        raise AssumptionError(
            "The variance under given label probabilities (Soen & Sun 2024, Corollary G.1) needs a Categorical family or one "
            f"Bernoulli output, whose distribution is a list of probabilities, got {family.name} with {family.n_outputs} "
            "outputs; give the label distribution as a network of the same family, `truth`."
        )
    classes = family.n_classes
    array = real_array("probabilities", probabilities).astype(np.float64)
    if array.shape != (n, classes):
        raise ValueError(
            f"`probabilities` must have shape ({n}, {classes}), one number per input and class, got shape {array.shape}."
        )
    _non_negative(array)
    sums = array.sum(axis=1)
    if np.abs(sums - 1).max() > _SUM_TOLERANCE:
        row = int(np.argmax(np.abs(sums - 1)))
        raise ValueError(f"`probabilities` must add up to 1 for each input, got {sums[row]:.9g} for input {row}; normalise it.")
    return array


def _of_ones(probabilities: Any, n: int) -> np.ndarray:
    array = real_array("probabilities", probabilities).astype(np.float64)
    if array.shape not in ((n,), (n, 1)):
        raise ValueError(
            f"`probabilities` must have shape ({n},), the probability of a 1 at each input, got shape {array.shape}."
        )
    ones = array.reshape(n)
    _non_negative(ones)
    if ones.max() > 1:
        row = int(np.argmax(ones))
        raise ValueError(f"`probabilities` must be at most 1, got {ones[row]} for input {row}.")
    return np.stack([1 - ones, ones], axis=1)


def _non_negative(array: np.ndarray) -> None:
    if array.min() < 0:
        index = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise ValueError(f"`probabilities` must be at least 0, got {array[index]} at index {index}.")
