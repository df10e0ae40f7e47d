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
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _run
from fisherstats.quantities._alignment import over_parameters
from fisherstats.quantities._designs import Design
from fisherstats.quantities._layout import Computation
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
    spectrum = Spectrum.of(_information(call))
    functional.defined_at(spectrum)

    moments = [_moments(call, functional, spectrum, one, on_kink) for one in chosen]
    spread: list[Array | None] = [None, None] if sampled.fixed else _over_inputs(call, functional, spectrum)
    error = sampled.error(np.stack([variance for variance, _ in moments]), spread[0])
    bias = sampled.variance(np.stack([second for _, second in moments]), spread[1])
    value = functional.value(spectrum)
    dims, coords = _over(functional, model, len(value))
    if functional.dim is None:
        value, error, bias = value[0], error[:, 0], bias[:, 0]
    several = not isinstance(estimator, str)
    leading = ["estimator"] if several else []
    if several:
        coords |= _labels.coordinates(estimator=list(chosen))
    dtype = call.rows.dtype
    entries: list[_labels.Entry] = [
        ("propagated", dims, np.asarray(value, dtype)),
        ("propagated_error", [*leading, *dims], np.asarray(error if several else error[0], dtype)),
        ("propagated_bias", [*leading, *dims], np.asarray(bias if several else bias[0], dtype)),
    ]
    provenance = call.provenance(
        functional=functional.parameters(), estimator=list(chosen), n_draws=n_draws, **sampled.record, on_kink=on_kink
    )
    return _labels.dataset(entries, coords, provenance)


def _information(call: Call) -> Array:
    """Return the exact matrix, in float64."""
    n_layers = call.model.n_layers
    pairs = [(left, right) for left in range(n_layers) for right in range(left, n_layers)]

    def block(x: Array, first_input: int) -> list[Array]:
        passed, law = call.network.forward(x, first_input)
        blocks = fisher.matrix_blocks(law, call.network.jacobians(passed, differences=False), passed.inputs, True, False)
        return [blocks[pair] for pair in pairs]

    return assembly.full_matrix(
        dict(zip(pairs, (yield from call.mean(block, call.block_rows())), strict=True)), call.model.layer_slices()
    )


def _moments(call: Call, functional: Functional, spectrum: Spectrum, estimator: str, on_kink: str) -> list[Array]:
    """Return the mean over inputs of variance and bias for one label."""
    n_params, outputs = call.model.n_params, call.model.widths[-1]

    def score(x: Array, first_input: int) -> list[Array]:
        passed, law = call.network.forward(x, first_input)
        jacobian = covariance_tensors.dense_jacobian(call.network.jacobians(passed, differences=False), passed.inputs)
        there = spectrum.beside(jacobian)
        return functional.moments(there, ScoreFluctuation(law, there.along(jacobian)))

    def hessian(x: Array, first_input: int) -> list[Array]:
        passed, law = call.network.forward(x, first_input, order=2)
        call.network.refuse_kinks(passed, on_kink, first_input)
        G = call.network.jacobians(passed, differences=False)
        blocks = call.network.hessian_blocks(passed, G, covariance_tensors.information_root(law))
        roots = covariance_tensors.dense_hessians(blocks, passed.inputs, call.model.layer_slices())
        there = spectrum.beside(roots)
        return functional.moments(there, HessianFluctuation(np.matmul(there.vectors.T, np.matmul(roots, there.vectors))))

    if estimator == "score":
        return (yield from call.mean(score, execution.block_rows(max(n_params * outputs, outputs**4))))
    return (yield from call.mean(hessian, max(1, execution.block_rows(n_params**2 * outputs) // execution.STREAM_ROWS)))


def _over_inputs(call: Call, functional: Functional, spectrum: Spectrum) -> list[Array | None]:
    """Return variance and bias for one sampled input with exact conditional information, with the divisor n - 1."""

    def deviations(x: Array, first_input: int) -> list[Array]:
        passed, law = call.network.forward(x, first_input)
        jacobian = covariance_tensors.dense_jacobian(call.network.jacobians(passed, differences=False), passed.inputs)
        there = spectrum.beside(jacobian)
        root = np.matmul(covariance_tensors.information_root(law), there.along(jacobian))
        return functional.moments(there, InputFluctuation(root, there.values))

    n = call.n_inputs
    return [one * (n / (n - 1)) for one in (yield from call.mean(deviations, execution.block_rows(call.model.n_params**2)))]


def _over(functional: Functional, model: MLP, count: int) -> tuple[list[str], dict[str, Any]]:
    """Return the dims of a functional's value and their coordinates."""
    if functional.dim is None:
        return [], {}
    if functional.dim == "param":
        return ["param"], _labels.param_coordinates(model)
    return [functional.dim], _labels.coordinates(**{functional.dim: count})
