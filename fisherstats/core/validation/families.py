"""Checks of families: their parameters, natural parameters, labels and the range of the samplers."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

import numpy as np

from fisherstats.core.arrays import holds, on_device, on_host
from fisherstats.core.validation.arguments import array_like, positive_integer, positive_number, real_array, shown

__all__ = [
    "SAMPLER_LIMIT",
    "class_labels",
    "count_vectors",
    "covariance",
    "cumulant_order",
    "draw_count",
    "exact_cumulants_needed",
    "family_parts",
    "few_classes",
    "finite_number",
    "label_array",
    "labels_in_support",
    "labels_within",
    "link_functions",
    "moment_range",
    "n_classes",
    "natural_domain",
    "natural_parameters",
    "no_stable_difference",
    "poisson_exponent",
    "proportions",
    "representable_labels",
    "sampler_range",
    "sum_range",
    "tests_failed",
]

# numpy's largest Poisson rate is 2**63 - 1 - 10 * sqrt(2**63 - 1); one limit below it serves all integer samplers.
SAMPLER_LIMIT = 2**63 - 2**35


def natural_parameters(h: Any, n_outputs: int) -> np.ndarray:
    """Return `h` as a finite (n, n_outputs) array of float32 or float64."""
    array = h if on_device(h) and holds(np.isfinite(h)) else real_array("h", on_host(h))
    if array.ndim != 2 or array.shape[1] != n_outputs:
        raise ValueError(
            f"`h` must have shape (n, {n_outputs}), one row of natural parameters per input, got shape {array.shape}."
        )
    return array


def n_classes(value: Any) -> int:
    """Return the number of classes, at least two."""
    number = positive_integer("n_classes", value)
    if number < 2:
        raise ValueError(f"`n_classes` must be at least 2, got {number}; with one class nothing is random.")
    return number


def covariance(value: Any, n_outputs: int) -> float | np.ndarray:
    """Return a Gaussian covariance in its smallest form: a number, a (T,) vector of variances or a (T, T) matrix."""
    if value is None:
        return 1.0
    array = real_array("covariance", value).astype(np.float64)
    if array.ndim == 0:
        number = positive_number("covariance", value)  # which refuses a truth value
        _within_range(np.array([number]), "a variance")
        return number
    shapes = ((n_outputs,), (n_outputs, n_outputs))
    if array.shape not in shapes:
        raise ValueError(
            f"`covariance` must be None, a number, or have shape {shapes[0]} or {shapes[1]} for "
            f"`n_outputs` = {n_outputs}, got shape {array.shape}."
        )
    variances = array if array.ndim == 1 else np.diagonal(array)
    if not (variances > 0).all():
        index = int(np.argmax(variances <= 0))
        raise ValueError(f"`covariance` must hold variances above 0, got {float(variances[index])} at output {index}.")
    _within_range(variances, "variances")
    if array.ndim == 2 and np.count_nonzero(array - np.diag(variances)):
        return _positive_definite(array)
    return float(variances[0]) if (variances == variances[0]).all() else variances.copy()


def _within_range(variances: np.ndarray, what: str) -> None:
    """Require variances whose squares and inverse squares, the fourth moments, are numbers."""
    low, high = 1e-150, 1e150
    if not ((variances >= low) & (variances <= high)).all():
        outside = variances[(variances < low) | (variances > high)]
        raise ValueError(
            f"`covariance` must have {what} from {low:g} to {high:g}, as its square and the inverse of that are needed, got "
            f"{outside.flat[0]:g}; change the units of the response."
        )


def _positive_definite(matrix: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.diagonal(matrix))
    asymmetry = np.abs(matrix - matrix.T) / np.outer(scale, scale)
    if asymmetry.max() > 1e-10:
        row, column = (int(i) for i in np.unravel_index(np.argmax(asymmetry), matrix.shape))
        raise ValueError(
            f"`covariance` must be symmetric, got {matrix[row, column]} at {(row, column)} but "
            f"{matrix[column, row]} at {(column, row)}."
        )
    symmetric: np.ndarray = (matrix + matrix.T) / 2
    try:
        np.linalg.cholesky(symmetric)
    except np.linalg.LinAlgError as error:
        smallest = float(np.linalg.eigvalsh(symmetric)[0])
        raise ValueError(f"`covariance` must be positive definite, got a smallest eigenvalue of {smallest:.3g}.") from error
    return symmetric


def poisson_exponent(h: np.ndarray, first_input: int = 0) -> None:
    """Refuse a Poisson log rate whose fourth central moment, 3 e^{2h}, is past the range of the floating-point type."""
    limit = float(np.log(np.finfo(h.dtype).max) / 2 - 1)
    if not holds(h <= limit):
        h = on_host(h)
        row, output = (int(i) for i in np.unravel_index(np.argmax(h), h.shape))
        raise ValueError(
            f"`h` must stay below {limit:.1f} for the Poisson family in {h.dtype}, so that the fourth moment of a rate "
            f"exp(h) is finite, got {h[row, output]} at index {(first_input + row, output)}."
        )


def cumulant_order(order: Any) -> int:
    """Return the order of a cumulant, 1 to 4."""
    number = positive_integer("order", order)
    if number > 4:
        raise ValueError(f"`order` must be 1, 2, 3 or 4, got {number}.")
    return number


def label_array(y: Any, n: int, n_outputs: int) -> np.ndarray:
    """Return labels as a float64 array (n, n_outputs); a vector of n labels is accepted for one output."""
    array = y if on_device(y) else real_array("y", y)
    if n_outputs == 1 and array.shape == (n,):
        array = array[:, None]
    if array.shape != (n, n_outputs):
        wanted = f"({n}, {n_outputs})" + (f" or ({n},)" if n_outputs == 1 else "")
        raise ValueError(f"`y` must have shape {wanted}, one label per input, got shape {array.shape}.")
    return array.astype(np.float64)


def labels_in_support(y: np.ndarray, largest: float, family: str) -> np.ndarray:
    """Return labels `y` if all are whole numbers from 0 to `largest`, else name the first that is not."""
    inside = (y == np.floor(y)) & (y >= 0) & (y <= largest)
    if not holds(inside):
        y, inside = on_host(y), on_host(inside)
        index = tuple(int(i) for i in np.argwhere(~inside)[0])
        support = "whole numbers of at least 0" if math.isinf(largest) else f"whole numbers from 0 to {int(largest)}"
        raise ValueError(f"`y` must hold {support} for the {family} family, got {y[index]} at index {index}.")
    return y


def class_labels(y: Any, n: int, classes: int) -> np.ndarray:
    """Return labels as (n,) class numbers from 0 to classes - 1."""
    given = y if on_device(y) else array_like("y", y)
    if given.dtype.kind in "OSUT":
        raise TypeError(
            f"`y` must hold class numbers, got dtype {given.dtype}; number the classes with "
            "`np.unique(y, return_inverse=True)[1]`, in the order of the network's outputs."
        )
    array = given if on_device(given) else real_array("y", given)
    if array.shape != (n,):
        hint = ""
        if array.ndim == 2:
            hint = "; pass `y[:, 0]`" if array.shape[1] == 1 else "; pass class numbers, for one-hot rows `y.argmax(axis=1)`"
        raise ValueError(f"`y` must have shape ({n},), one class number per input, got shape {array.shape}{hint}.")
    return labels_in_support(array, classes - 1, "categorical").astype(np.int64)


def draw_count(n_draws: int) -> None:
    """Refuse a number of labels per input that the integer samplers cannot hold."""
    if n_draws > SAMPLER_LIMIT:
        raise ValueError(f"`n_draws` must be at most 2**63 - 2**35, the range of the samplers, got {n_draws}.")


def sampler_range(n_draws: int, rate: np.ndarray, first_input: int, what: str) -> None:
    """Refuse sums of `n_draws` labels that may pass the range of the integer samplers.

    `rate` (n, T) is the largest value of one label (the number of trials) or its mean (a Poisson rate).
    """
    sums = n_draws * rate
    if not sums.size or sums.max() <= SAMPLER_LIMIT:
        return
    row, output = (int(i) for i in np.unravel_index(np.argmax(sums), sums.shape))
    largest = float(rate[row, output])
    place = f"{what} {largest:g} at input {first_input + row}, output {output}"
    if largest > SAMPLER_LIMIT:
        raise ValueError(
            f"`model` must stay in the range of the sampler: the {what} of a label must be at most 2**63 - 2**35, got {place}."
        )
    raise ValueError(
        f"`n_draws` times the {what} must be at most 2**63 - 2**35, the range of the sampler, got {n_draws} draws "
        f"and {place}; use at most {int(SAMPLER_LIMIT / largest)} draws."
    )


def finite_number(name: str, value: Any) -> float:
    """Return `value` as a finite float."""
    array = real_array(name, value)
    if array.ndim or isinstance(value, bool) or getattr(value, "dtype", None) == np.bool_:
        raise ValueError(f"`{name}` must be one finite number, got {shown(value)}.")
    return float(array)


def link_functions(functions: Any, known: Collection[str]) -> tuple[str, ...]:
    """Return the functions of a link, one known word per output."""
    words = (functions,) if isinstance(functions, str) else tuple(functions)
    for word in words:
        if word not in known:
            raise ValueError(f"`functions` must hold words of {', '.join(map(repr, known))}, got {shown(word)}.")
    if not words:
        raise ValueError("`functions` must name a function for every output, got none.")
    return words


def natural_domain(h: np.ndarray, inside: np.ndarray, requirement: str, family: str) -> None:
    """Refuse natural parameters outside the domain of the family; `inside` (n, T) says which are in it."""
    if not holds(inside):
        h, inside = on_host(h), on_host(inside)
        row, output = (int(i) for i in np.argwhere(~inside)[0])
        raise ValueError(
            f"`h` must be {requirement} in output {output} of the {family} family, got {h[row, output]} at input {row}; "
            "the family's `link` maps the outputs of a network into this domain."
        )


def moment_range(h: np.ndarray, moment: np.ndarray, family: str, may_vanish: bool = False) -> None:
    """Refuse natural parameters whose fourth moments `moment` (n, T) are past the range of the floating-point type."""
    limits = np.finfo(h.dtype)
    inside = np.isfinite(moment.astype(h.dtype, copy=False))
    if not may_vanish:
        inside &= moment >= limits.tiny
    if not holds(inside):
        h, inside = on_host(h), on_host(inside)
        row, output = (int(i) for i in np.argwhere(~inside)[0])
        parameters = ", ".join(str(value) for value in h[row])
        raise ValueError(
            f"`h` must give fourth moments within the range of {h.dtype}, {limits.tiny:.3g} to {limits.max:.3g}, for the "
            f"{family} family, got h = {parameters} at input {row}, where output {output} leaves it."
        )


def labels_within(y: np.ndarray, support: str, family: str) -> np.ndarray:
    """Return labels `y` if all are "at least 0", "above 0" or "finite", as `support` says, else name the first that is not."""
    inside = y >= 0 if support == "at least 0" else y > 0 if support == "above 0" else np.isfinite(y)
    if not holds(inside):
        y, inside = on_host(y), on_host(inside)
        index = tuple(int(i) for i in np.argwhere(~inside)[0])
        raise ValueError(f"`y` must be {support} for the {family} family, got {y[index]} at index {index}.")
    return y


def representable_labels(y: np.ndarray, family: str) -> np.ndarray:
    """Return positive labels `y` if none was rounded to 0 or infinity; (n_draws, n, columns)."""
    outside = ~((y > 0) & (y < np.inf))
    if outside.any():
        _, row, column = (int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"`h` must give labels within the range of float64 for the {family} family, got {y[outside][0]} at input {row}, "
            f"column {column}; moments and draws are accurate there, single labels are not."
        )
    return y


def sum_range(largest: np.ndarray, n_draws: int, first_input: int, family: str) -> None:
    """Refuse sums of counts whose upper limit `largest` (n, T) passes the range of the integer samplers."""
    if largest.size and largest.max() > SAMPLER_LIMIT:
        row, output = (int(i) for i in np.unravel_index(np.argmax(largest), largest.shape))
        raise ValueError(
            f"`n_draws` labels of the {family} family must sum to less than 2**63 - 2**35, the range of the sampler, got "
            f"{n_draws} draws with sums up to {largest[row, output]:.3g} at input {first_input + row}, output {output}."
        )


def count_vectors(y: np.ndarray, n_trials: int) -> np.ndarray:
    """Return multinomial labels (n, C) if every row sums to `n_trials`, to the rounding of counts past 2^53."""
    labels_in_support(y, n_trials, "multinomial")
    sums = y.sum(axis=1)
    slack = 0.0 if n_trials <= 2**53 else y.shape[1] * float(np.spacing(float(n_trials)))
    if not holds(np.abs(sums - n_trials) <= slack):
        sums = on_host(sums)
        row = int(np.argmax(np.abs(sums - n_trials) > slack))
        raise ValueError(
            f"`y` must hold counts that sum to `n_trials` = {n_trials} in every row, got a sum of {sums[row]} in row {row}."
        )
    return y


def proportions(y: np.ndarray) -> np.ndarray:
    """Return Dirichlet labels (n, C) if every row is positive and sums to 1 to within rounding."""
    labels_within(y, "above 0", "dirichlet")
    excess = np.abs(y.sum(axis=1) - 1)
    if not holds(excess <= 1e-6):
        y, excess = on_host(y), on_host(excess)
        row = int(np.argmax(excess))
        raise ValueError(f"`y` must hold proportions that sum to 1 in every row, got a sum of {y[row].sum()} in row {row}.")
    return y


def family_parts(families: Any, family_type: type) -> tuple[Any, ...]:
    """Return the parts of a product, at least one family object."""
    if not isinstance(families, Sequence) or not families:
        raise ValueError(f"`families` must be a list of at least one family object, got {shown(families)}.")
    for position, part in enumerate(families):
        if not isinstance(part, family_type):
            raise ValueError(f"`families` must hold family objects, got {shown(part)} at position {position}.")
    return tuple(families)


def exact_cumulants_needed(n_outputs: int, most: int, family: str) -> None:
    """Refuse numerical cumulant tensors of too many dependent outputs."""
    if n_outputs > most:
        raise ValueError(
            f"`n_outputs` must be at most {most} for cumulants by differentiation, got {n_outputs} for the {family} family; give "
            "its `cumulants` method, or write independent outputs as a Product of families."
        )


def no_stable_difference(h: np.ndarray, row: int, family: str) -> NoReturn:
    """Refuse natural parameters at which finite differences of the log-partition are unstable."""
    raise ValueError(
        f"`log_partition` of the {family} family must be finite around every natural parameter, got h = "
        f"{', '.join(str(value) for value in h[row])} at input {row}, where no circle or step around it gives finite values."
    )


def tests_failed(family: str, failures: Sequence[str]) -> NoReturn:
    """Return the error that lists the tests a family failed."""
    listed = "\n".join(f"- {failure}" for failure in failures)
    raise AssertionError(f"`family` must be consistent with its definition; {family} failed:\n{listed}")


def few_classes(met: bool, family: str) -> None:
    """Require a response with finitely many classes for stratified labels."""
    if not met:
        raise ValueError(
            "`sampling` must be 'iid' for this family: 'stratified' needs a response that is one of finitely many classes, "
            f"Categorical or Bernoulli with one output, got {family}."
        )
