"""Propagation of the error of an estimated information to functionals of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats import execution
from fisherstats.core.docstrings import documented
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, functionals, networks
from fisherstats.execution import Steps, Work
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._alignment import over_parameters
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._designs import Design
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import assembly, covariance_tensors, fisher
from fisherstats.theory.error_propagation import (
    EffectiveDimension,
    Functional,
    HessianFluctuation,
    InputFluctuation,
    LeadingEigenvalues,
    LogDet,
    ScoreFluctuation,
    SolveWith,
    Spectrum,
)

__all__ = ["EffectiveDimension", "LeadingEigenvalues", "LogDet", "SolveWith", "propagate"]

Array = NDArray[np.floating]

_MOST_PARAMETERS = 1000


@documented
@streamed()
def propagate(
    functional: Functional,
    model: MLP,
    x: Any,
    *,
    estimator: str | Sequence[str],
    n_draws: int,
    design: str = "fixed",
    population: int | None = None,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Standard error and bias of a functional of an estimated information, :math:`\phi(\hat F)`, by the delta method.

    With :math:`E=\hat F-F` the standard error is that of the linear term :math:`D\phi[E]` and the bias the mean of the
    second-order term, :math:`\tfrac12\mathrm{E}[D^2\phi[E,E]]` (van der Vaart 1998), both in closed form: no labels are drawn.
    They fall as :math:`1/\sqrt{nN}` and :math:`1/(nN)`. An inverse, for one, is biased upwards by :math:`\mathrm{E}[AEAEA]` with
    :math:`A=(F+\lambda)^{-1}`: the steps of a natural gradient from few labels are too long.

    Parameters
    ----------
    functional : SolveWith, LogDet, EffectiveDimension or LeadingEigenvalues
        Functional of the information matrix.
    model : MLP
        The network; its weights are treated as fixed. At most 1,000 parameters.
    %(x)s
    estimator : {"score", "hessian"} or a sequence of both
        Estimator of the information. A sequence adds the dim ``estimator``.
    n_draws : int
        Labels per input, N.
    design : {"fixed", "random", "subsample"}, default "fixed"
        Sampling design of error and bias, as for `estimator_variance`: labels at fixed inputs; independent inputs and their
        labels; or inputs drawn without replacement from `population` and their labels.
    %(population)s
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``value`` at the exact information, and ``standard_error`` and ``bias`` of the estimate ([estimator]), each over ``param``
        for SolveWith, over ``eigenvalue`` for LeadingEigenvalues, else one number. Units of 1, source keys ``information`` and
        ``delta-method``.

    Raises
    ------
    %(refused)s
    AssumptionError
        If a pre-activation is exactly on a kink and `on_kink` is "raise", or a leading eigenvalue is not simple.
    SizeError
        If the network has more than 1,000 parameters.

    Notes
    -----
    With sampled inputs E has two uncorrelated parts: labels, and the deviations :math:`F_i-F` of the information of single
    inputs, whose covariance :math:`\kappa S_x/n` is estimated with the divisor n - 1 (Theorem 4.7 of 2024;
    :math:`\kappa=1-n/n_{all}` for a subsample). Error and bias are then those of :math:`\phi(\hat F)` relative to :math:`\phi` of
    the mean information over all inputs, and both include the part due to the inputs, which no number of labels reduces.
    ``value`` is :math:`\phi` at the given inputs, which itself has that part of the bias.

    Cost: one eigendecomposition of the matrix. The score then needs moments of T x T forms per input, the Hessian estimator its
    dense Hessians (2 T P^3 operations per input), sampled inputs one P x P matrix each. No array of size P^4 is created. The
    expansion is valid for errors that are small relative to the damping or the gap to the next eigenvalue: a bias that is not
    small relative to the standard error indicates that they are not. With the Hessian estimator :math:`\hat F+\tau` may have no
    logarithm for few labels.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
    >>> x = np.array([[0.0], [1.0]])
    >>> result = fs.propagate(fs.LogDet(1.0), model, x, estimator=("score", "hessian"), n_draws=100)
    >>> result.standard_error.values.round(4), result.bias.values.round(5)
    (array([0.1146, 0.    ]), array([-0.00657,  0.     ]))
    """
    functionals.functional_object(functional, Functional)
    networks.model_object(model, MLP)
    functional = functional.in_order(lambda name, value: over_parameters(name, value, model))
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    chosen = arguments.words("estimator", estimator, ESTIMATORS)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    sampled = Design.of(call, design, population, n_draws)
    functionals.few_parameters(model.n_params, _MOST_PARAMETERS)
    functional.fits(model.n_params)
    coords = _over(functional, model)
    if not isinstance(estimator, str):
        coords |= _labels.coordinates(estimator=list(chosen))
    dtype = call.rows.dtype
    provenance = call.provenance(
        functional=functional.parameters(), estimator=list(chosen), n_draws=n_draws, **sampled.record, on_kink=on_kink
    )
    layout = _layout.dataset(["propagated", "propagated_error", "propagated_bias"], coords, provenance, dtype)
    later = [_moment_rows(call, one) for one in chosen] + ([] if sampled.fixed else [_rows_of_matrices(call)])
    yield (layout := layout.followed_by(*map(call.mean_shape, later)))
    spectrum = yield Work(_spectrum, (functional, (yield from _information(call))))
    moments = []
    for one in chosen:
        moments.append((yield from _moments(call, functional, spectrum, one, on_kink)))
    spread: list[Any] = [None, None] if sampled.fixed else (yield from _over_inputs(call, functional, spectrum))
    error = sampled.error(np.stack([variance for variance, _ in moments]), spread[0])
    bias = sampled.variance(np.stack([second for _, second in moments]), spread[1])
    value = functional.value(spectrum)
    if functional.dim is None:
        value, error, bias = value[0], error[:, 0], bias[:, 0]
    if isinstance(estimator, str):
        error, bias = error[0], bias[0]
    return layout, [np.asarray(one, dtype) for one in (value, error, bias)]


def _spectrum(functional: Functional, information: Array) -> Spectrum:
    """Return the eigenvalues and eigenvectors at which a functional is twice differentiable."""
    spectrum = Spectrum.of(information)
    functional.defined_at(spectrum)
    return spectrum


def _information(call: Call) -> Steps[Array]:
    """Return the exact matrix, in float64."""
    pairs = assembly.layer_pairs(call.model.n_layers)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        blocks = fisher.matrix_blocks(law, call.network.jacobians(forward, differences=False), forward.inputs, True, False)
        return [blocks[pair] for pair in pairs]

    return assembly.full_matrix(
        dict(zip(pairs, (yield from call.mean(block, call.block_rows())), strict=True)), call.model.layer_slices()
    )


def _moments(call: Call, functional: Functional, spectrum: Spectrum, estimator: str, on_kink: str) -> Steps[list[Array]]:
    """Return the mean over inputs of variance and bias for one label."""

    def score(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        jacobian = covariance_tensors.dense_jacobian(call.network.jacobians(forward, differences=False), forward.inputs)
        there = spectrum.beside(jacobian)
        return functional.moments(there, ScoreFluctuation(law, there.along(jacobian)))

    def hessian(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order=2)
        call.network.refuse_kinks(forward, on_kink, first_input)
        G = call.network.jacobians(forward, differences=False)
        blocks = call.network.hessian_blocks(forward, G, covariance_tensors.information_root(law))
        roots = covariance_tensors.dense_hessians(blocks, forward.inputs, call.model.layer_slices())
        there = spectrum.beside(roots)
        return functional.moments(there, HessianFluctuation(np.matmul(there.vectors.T, np.matmul(roots, there.vectors))))

    return (yield from call.mean(score if estimator == "score" else hessian, _moment_rows(call, estimator)))


def _moment_rows(call: Call, estimator: str) -> int:
    n_params, outputs = call.model.n_params, call.model.widths[-1]
    if estimator == "score":
        return execution.block_rows(max(n_params * outputs, outputs**4))
    return max(1, execution.block_rows(n_params**2 * outputs) // execution.STREAM_ROWS)


def _over_inputs(call: Call, functional: Functional, spectrum: Spectrum) -> Steps[list[Array]]:
    """Return variance and bias for one sampled input with exact conditional information, with the divisor n - 1."""

    def deviations(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        jacobian = covariance_tensors.dense_jacobian(call.network.jacobians(forward, differences=False), forward.inputs)
        there = spectrum.beside(jacobian)
        root = np.matmul(covariance_tensors.information_root(law), there.along(jacobian))
        return functional.moments(there, InputFluctuation(root, there.values))

    n = call.n_inputs
    return [one * (n / (n - 1)) for one in (yield from call.mean(deviations, _rows_of_matrices(call)))]


def _rows_of_matrices(call: Call) -> int:
    return execution.block_rows(call.model.n_params**2)


def _over(functional: Functional, model: MLP) -> dict[str, Any]:
    """Return the coordinates of a functional's value."""
    if functional.dim is None:
        return {}
    if functional.dim == "param":
        return _labels.param_coordinates(model)
    return _labels.coordinates(**{functional.dim: functional.size})
