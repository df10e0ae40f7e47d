"""The inverse information of a fitted network, model-based or robust, that covariances, intervals and bounds are read from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats import calls
from fisherstats.arrays import like
from fisherstats.calls import Call
from fisherstats.checks import applications as checks
from fisherstats.checks import arguments, networks
from fisherstats.closed_form import likelihood, tensors
from fisherstats.closed_form.likelihood import Inverse
from fisherstats.model import derivatives
from fisherstats.model.families import Gaussian
from fisherstats.model.network import MLP
from fisherstats.observed import observed_information

__all__ = ["Asymptotics", "double_call", "inverse_information", "triangle_rows"]

Array = NDArray[np.floating]

_BLOCK_NUMBERS = 2**21


@dataclass(frozen=True)
class Asymptotics:
    """What a fitted network and its data say of its parameters."""

    inverse: Inverse
    """W with the asymptotic covariance W W', dispersion included."""
    dispersion: float
    degrees: int
    """Numbers in the labels less the rank."""
    score_statistic: float
    """s' Cov s of the sum s of all scores; nan without labels."""
    provenance: dict[str, Any]


def double_call(model: MLP, x: Any, **common: Any) -> Call:
    """Return a checked call in float64: what is solved for may lose all digits of float32."""
    networks.model_object(model, MLP)
    return calls.prepare(model.as_dtype(np.dtype(np.float64)), x, **common)


def inverse_information(
    model: MLP, x: Any, y: Any, hessian: str, robust: bool, dispersion: float | str | None, **common: Any
) -> Asymptotics:
    """Return the inverse information of all labels, or the sandwich covariance."""
    call = double_call(model, x, **common)
    arguments.choice("hessian", hessian, ("expected", "observed"))
    arguments.boolean("robust", robust)
    dispersion = checks.dispersion(dispersion)
    for what, needs in {
        "hessian='observed'": hessian == "observed",
        "robust=True": robust,
        "dispersion='pearson'": dispersion == "pearson",
    }.items():
        if needs:
            checks.labels_needed(what, y)
    call.fits("the asymptotic covariance", model.n_params**2, 6, "use leading_eigenpairs, or a network of fewer parameters.")
    data_labels = None if y is None else call.data_labels(y)
    estimated = dispersion == "pearson" or (
        dispersion is None and y is not None and isinstance(model.family, Gaussian) and not robust
    )
    R, score, (squares,) = _sums(call, data_labels, estimated)
    inverse = likelihood.inverse_of_triangle(R)
    if hessian == "observed":
        observed: Any = observed_information(call.model, x, y, view="full", **common)
        inverse, smallest = likelihood.inverse_of_matrix(observed.observed.values * call.n_inputs)
        checks.maximum(smallest, 1e-8)
    # Entries of t with a constant sum are one number less.
    n_numbers = call.n_inputs * (model.widths[-1] - model.family.shift_invariant)
    degrees = n_numbers - inverse.rank
    if estimated:
        checks.residual_degrees(degrees, n_numbers, inverse.rank)
        factor = float(squares) / degrees
    else:
        factor = 1.0 if dispersion is None else float(dispersion)
    statistic = np.nan if y is None else float(np.sum(np.square(score @ inverse.root))) / factor
    root = _robust_root(call, data_labels, inverse) if robust else np.sqrt(factor) * inverse.root
    provenance = call.provenance(hessian=hessian, robust=robust, dispersion=dispersion)
    return Asymptotics(replace(inverse, root=root), factor, degrees, statistic, provenance)


def triangle_rows(call: Call) -> int:
    """Return rows of a block: enough for the factorisation to be tall, few enough for its dense rows to be small."""
    outputs = call.model.widths[-1] + 1
    rows = max(16, _BLOCK_NUMBERS // (outputs * call.model.n_params))
    return min(512, rows)


def _sums(call: Call, data_labels: Any, pearson: bool) -> list[Array]:
    """Return R with R'R the information of all labels, the sum of the scores, and that of squared Pearson residuals if asked."""

    def block(x: Array, first_input: int) -> list[Array]:
        passed, law = call.pass_through(x, first_input)
        R = likelihood.triangle(call.root_rows(passed, law), passed.inputs)
        if data_labels is None:
            return [R, np.zeros(call.model.n_params), np.zeros(1)]
        residual = law.residual(like(data_labels[first_input : first_input + len(x)], law.h))
        score = tensors.dense_jacobian(_score_rows(call, passed, residual), passed.inputs)[:, 0].sum(axis=0)
        if not pearson:
            return [R, score, np.zeros(1)]
        squares = likelihood.pearson(law, residual, call.model.family.shift_invariant)
        return [R, score, squares.sum(keepdims=True)]

    return call.mean(block, triangle_rows(call), combine=likelihood.merge_triangles)


def _score_rows(call: Call, passed: derivatives.Forward, residual: Array) -> list[Array]:
    return [factors[:, None, :] for factors in derivatives.gradients(call.model, passed, residual)]


def _robust_root(call: Call, data_labels: Any, inverse: Inverse) -> Array:
    r"""Return W R', R'R the sum of W's s'W over the scores s of all labels: the sandwich covariance is its square."""

    def block(x: Array, first_input: int) -> list[Array]:
        passed, law = call.pass_through(x, first_input)
        residual = law.residual(like(data_labels[first_input : first_input + len(x)], law.h))
        scores = tensors.dense_jacobian(_score_rows(call, passed, residual), passed.inputs)[:, 0]
        return [likelihood.triangle_of(scores @ like(inverse.root, scores))]

    (R,) = call.mean(block, triangle_rows(call), combine=likelihood.merge_triangles)
    root: Array = inverse.root @ R.T
    return root
