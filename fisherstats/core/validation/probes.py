"""Checks of random probes and of the envelopes of the categorical information."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fisherstats.core.validation.arguments import positive_integer

__all__ = ["classes_kept", "diagonal_only", "envelope_rank", "labels_only", "one_kind_of_envelope", "one_label_of_several"]


def diagonal_only(probes: Sequence[str], view: str) -> None:
    """Require the diagonal view for estimators by random probes."""
    if probes and view != "diagonal":
        raise ValueError(
            f"`view` must be 'diagonal' with estimator={probes[0]!r}, which estimates the diagonal, got {view!r}; the exact "
            "matrix is `fisher_information(model, x, view=...)`."
        )


def labels_only(probes: Sequence[str]) -> None:
    """Require estimators from labels where these are stratified."""
    if probes:
        raise ValueError(f"`sampling` must be 'iid' with {probes[0]!r}, which draws no labels, got 'stratified'.")


def envelope_rank(rank: Any, n_outputs: int) -> int:
    """Return the number of eigenpairs of the lower envelope, at most one per output."""
    number = positive_integer("rank", rank)
    if number > n_outputs:
        raise ValueError(f"`rank` must be at most {n_outputs}, the number of outputs, got {number}.")
    return number


def classes_kept(value: Any, n_classes: int) -> int:
    """Return the number of classes that are kept, at most all of them."""
    number = positive_integer("n_classes_kept", value)
    if number > n_classes:
        raise ValueError(f"`n_classes_kept` must be at most {n_classes}, the number of classes, got {number}.")
    return number


def one_kind_of_envelope(rank: Any, n_classes_kept: Any) -> None:
    """Require at most one of two kinds of envelopes."""
    if rank is not None and n_classes_kept is not None:
        raise ValueError("`rank` and `n_classes_kept` are two kinds of envelopes; give one of them.")


def one_label_of_several(is_categorical: bool, family: str) -> None:
    """Require a categorical law, whose information is diag(p) - p p'."""
    if not is_categorical:
        raise ValueError(
            f"`model` must have the categorical family, whose information is diag(p) - p p', got {family}; "
            "`variance_bounds` bounds the information of every family."
        )
