"""Lengths of steps, divergences between response distributions, and volume and spectrum of the information."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import eigsh

from fisherstats.applications.asymptotics import double_call, triangle_rows
from fisherstats.core.arrays import on_host, overflow_is_inf, power_of_two
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import applications as checks
from fisherstats.core.validation import arguments, functionals, networks
from fisherstats.execution import Steps, at_once, one_blas_thread
from fisherstats.models import derivatives
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout
from fisherstats.quantities._alignment import parameter_vector
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.quantities.information.exact import fisher_information
from fisherstats.quantities.information.operators import fisher_operator
from fisherstats.theory import divergence, error_propagation, maximum_likelihood, volume

__all__ = ["fisher_rao_norm", "information_volume", "leading_eigenpairs", "length_element", "output_divergence"]

Array = NDArray[np.floating]


@documented
@streamed()
def length_element(
    model: MLP,
    x: Any,
    delta: ArrayLike,
    *,
    n_draws: int = 1,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Squared length of a step, :math:`\delta^\top I(\theta)\,\delta`, per layer, with the exact Kullback-Leibler divergence.

    Half of it is the Kullback-Leibler divergence :math:`\mathrm{KL}[p_\theta\|p_{\theta+\delta}]` up to third order. The
    divergence given here is exact: that of the outputs, when a single layer is changed and when all are.

    Parameters
    ----------
    %(model)s
    %(x)s
    delta : array_like, shape (P,)
        The step.
    n_draws : int, default 1
        Labels per input of a score estimate, for the standard error.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``squared_length (layer)``, ``divergence (layer)``, and ``standard_error (layer)`` that the score estimate of the squared
        length would have at these inputs; ``total_squared_length``, ``total_divergence``, ``total_standard_error`` of the whole
        step. Means over inputs; divergences in nat, else units of 1, source keys ``length-element`` and ``bregman``.

    Raises
    ------
    %(refused)s

    Notes
    -----
    Always in float64. Cost: two forward passes per layer, no array of size P^2. The length is invariant under
    reparametrisation of the network, if the step is transformed accordingly.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> found = fs.applications.length_element(model, np.array([[2.0]]), [0.1, 0.0])
    >>> found.squared_length.values.round(6), found.divergence.values.round(6)
    (array([0.04]), array([0.02]))
    """
    call = double_call(model, x, engine=engine, num_threads=num_threads, progress=progress)
    step = parameter_vector("delta", delta, model).astype(np.float64)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    slices = call.model.layer_slices()
    steps = [np.zeros_like(step) for _ in slices]
    for one, piece in zip(steps, slices, strict=True):
        one[piece] = step[piece]
    steps.append(step)
    moved = [_moved(call.model, one) for one in steps]

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        u = np.stack([derivatives.push_forward(call.model, forward, one) for one in steps], axis=2)
        others = [call.of(one, "model + delta").network.forward(x, first_input)[0].natural for one in moved]
        apart = np.stack([divergence.bregman(model.family, law, other) for other in others], axis=1)
        return [law.diagonal(u).sum(axis=0), apart.sum(axis=0), law.square_variance(u).sum(axis=0)]

    keys = [key for one in ("squared_length", "divergence", "length_error") for key in (one, f"total_{one}")]
    coords = _labels.layer_coordinates(model.n_layers)
    yield (layout := _layout.dataset(keys, coords, call.provenance(n_draws=n_draws), np.float64))
    length, apart, variance = yield from call.mean(block, call.block_rows())
    error = np.sqrt(variance / (call.n_inputs * n_draws))
    return layout, [np.asarray(part) for one in (length, apart, error) for part in (one[:-1], one[-1])]


def _moved(model: MLP, step: Array) -> MLP:
    parts = [step[piece].reshape(matrix.shape) for piece, matrix in zip(model.layer_slices(), model.weights, strict=True)]
    weights = [on_host(matrix) + part for matrix, part in zip(model.weights, parts, strict=True)]
    return model.with_weights(weights)


@documented
@streamed()
def output_divergence(
    model: MLP,
    other: MLP,
    x: Any,
    *,
    per_input: bool = False,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Exact divergences between the response distributions of two networks, with their quadratic approximation.

    :math:`\mathrm{KL}[p_h\|p_{h'}]=F(h')-F(h)-(h'-h)^\top\eta(h)`, a Bregman divergence; the sum of both directions, Jeffreys',
    is :math:`(h'-h)^\top(\eta'-\eta)`, and the approximation :math:`\tfrac12(h'-h)^\top I(h)(h'-h)`.

    Parameters
    ----------
    model, other : MLP
        Two networks of the same family; their hidden layers may differ.
    %(x)s
    per_input : bool, default False
        Return the divergences of each input instead of the mean over inputs.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset, dims ([input])
        ``divergence`` (from `model` to `other`), ``reverse``, ``jeffreys`` (their sum), ``quadratic``, in nat, source key
        ``bregman``.

    Raises
    ------
    %(refused)s

    Notes
    -----
    Always in float64, and no label is drawn. Cost: two forward passes. Divergences are sums of positive terms, so that those near
    zero and those of distributions with large parameters are accurate; families without such a form use an integral of the
    information along the step.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
    >>> other = fs.MLP([[[0.0, 0.0]]], activation=[], family=fs.families.Poisson())
    >>> float(fs.applications.output_divergence(model, other, np.array([[1.0]])).divergence.round(6))  # 1 - e + e
    1.0
    """
    call = double_call(model, x, engine=engine, num_threads=num_threads, progress=progress)
    networks.model_object(other, MLP, "other")
    checks.same_family(model.family.parameters(), other.family.parameters(), model.widths[0], other.widths[0])
    arguments.boolean("per_input", per_input)
    second = call.of(other, "other")

    def block(x: Array, first_input: int) -> list[Array]:
        _, law = call.network.forward(x, first_input)
        _, away = second.network.forward(x, first_input)
        step = away.h - law.h
        apart = divergence.bregman(model.family, law, away.h)
        back = divergence.bregman(model.family, away, law.h)
        return [apart, back, apart + back, law.diagonal(step[:, :, None])[:, 0] / 2]

    keys = ["output_divergence", "output_reverse", "output_jeffreys", "output_quadratic"]
    coords = call.input_coordinate() if per_input else {}
    yield (layout := _layout.dataset(keys, coords, call.provenance(other=other.fingerprint), np.float64))
    arrays = yield from call.stack(block, call.block_rows())
    return layout, arrays if per_input else [np.asarray(one.mean()) for one in arrays]


@documented
@streamed()
def fisher_rao_norm(
    model: MLP,
    x: Any,
    *,
    n_draws: int = 1,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Fisher-Rao norm of the parameters, :math:`\sqrt{\theta^\top I(\theta)\,\theta}` (Liang et al. 2019).

    Parameters
    ----------
    %(model)s
    %(x)s
    n_draws : int, default 1
        Labels per input of a score estimate, for the standard error.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``norm``, ``squared`` and ``standard_error``, that of the score estimate of the square at these inputs. Units of 1, source
        key ``fisher-rao-norm``.

    Raises
    ------
    %(refused)s

    Notes
    -----
    Cost: one forward pass with a derivative along the parameters, no array of size P^2.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[3.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> float(fs.applications.fisher_rao_norm(model, np.array([[2.0], [-2.0]])).norm)
    6.0
    """
    call = double_call(model, x, engine=engine, num_threads=num_threads, progress=progress)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    theta = np.concatenate([matrix.ravel() for matrix in call.model.weights])
    keys = ["fisher_rao_norm", "fisher_rao_squared", "fisher_rao_error"]
    yield (layout := _layout.dataset(keys, {}, call.provenance(n_draws=n_draws), np.float64))
    square, variance = yield from _quadratic_forms(call, theta[:, None])
    return layout, [np.asarray(one) for one in (np.sqrt(square[0]), square[0], np.sqrt(variance[0] / n_draws))]


def _quadratic_forms(call: Call, vectors: Array) -> Steps[list[Array]]:
    """Return v'Iv and the variance of its score estimate with one label per input, for each column v."""

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        u = np.stack([call.network.push_forward(forward, one) for one in vectors.T], axis=2)
        return [law.diagonal(u).sum(axis=0), law.square_variance(u).sum(axis=0)]

    value, variance = yield from call.mean(block, call.block_rows())
    return [value, variance / call.n_inputs]


@documented
@streamed()
def information_volume(
    model: MLP,
    x: Any,
    *,
    tau: float,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Volume element and dimensions of the information: rank, :math:`\tfrac12\log\det`, effective rank and dimension.

    Parameters
    ----------
    %(model)s
    %(x)s
    tau : float
        Scale to which eigenvalues are compared, above 0.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``eigenvalues (eigenvalue)``, the largest first; ``information_rank``; ``log_volume``, :math:`\tfrac12\sum\log\lambda`
        over the rank, the log density of Jeffreys' prior where the rank is full; ``effective_rank``,
        :math:`(\sum\lambda)^2/\sum\lambda^2`;
        ``effective_dimension``, :math:`\sum\lambda/(\lambda+\tau)`; ``log_det``, :math:`\tfrac12\sum\log(1+\lambda/\tau)`. Units
        of 1, source key ``information-volume``.

    Raises
    ------
    %(refused)s
    SizeError
        If matrices over the parameters would not fit in memory.

    See Also
    --------
    propagate : Standard error and bias of the last two when the information is estimated.

    Notes
    -----
    The eigenvalues are squared singular values of :math:`I^{1/2}J/\sqrt n`, so small ones have twice the digits that the matrix
    itself would give. Cost: n T P^2 operations and P^2 numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[3.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> found = fs.applications.information_volume(model, np.array([[2.0], [-2.0]]), tau=1.0)
    >>> found.eigenvalues.values.round(6), float(found.effective_dimension.round(6))
    (array([4., 1.]), 1.3)
    """
    call = double_call(model, x, any_network=True, engine=engine, num_threads=num_threads, progress=progress)
    tau = arguments.positive_number("tau", tau)
    call.fits("`information_volume`", model.n_params**2, 4, "use leading_eigenpairs, or a network of fewer parameters.")

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        return maximum_likelihood.triangle(call.network.root_rows(forward, law), forward.inputs)

    numbers = ("rank", "log_volume", "effective_rank", "effective_dimension", "log_det")
    keys: list[_layout.Entry] = [
        "volume_eigenvalues",
        *((f"volume_{key}", np.int64 if key == "rank" else np.float64) for key in numbers),
    ]
    coords = _labels.coordinates(eigenvalue=model.n_params)
    yield (layout := _layout.dataset(keys, coords, call.provenance(tau=tau), np.float64))
    R, unit = yield from call.mean(block, triangle_rows(call), combine=maximum_likelihood.merge_triangles)
    singular, rank = maximum_likelihood.singular_values(R, unit)
    with np.errstate(over="ignore", under="ignore"):  # raises below, by value
        values = np.square(singular) / call.n_inputs
    checks.within_range("an eigenvalue", values[:rank], True, "position")
    found = volume.of_spectrum(values, rank, tau)
    return layout, [values, *(np.asarray(found[key]) for key in numbers)]


_DENSE_PARAMETERS = 200


@documented
@overflow_is_inf
@one_blas_thread
def leading_eigenpairs(
    model: MLP,
    x: Any,
    k: int,
    *,
    n_draws: int = 1,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Largest eigenvalues of the information and their eigenvectors, by Lanczos iteration on `fisher_operator`.

    Parameters
    ----------
    %(model)s
    x : array_like, DataArray (dims ``input``, ``feature``) or dask array, shape (n, n_features)
        Inputs, at least one row, finite and real.
    k : int
        Eigenpairs, at most one per parameter.
    n_draws : int, default 1
        Labels per input of a score estimate, for the standard error.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``eigenvalues (eigenvalue)``, the largest first; ``eigenvectors (eigenvalue, param)`` of unit length, their largest entry
        positive; ``residual (eigenvalue)``, :math:`\|I q-\lambda q\|`: an eigenvalue of the exact matrix is within this distance;
        ``standard_error (eigenvalue)`` of :math:`q^\top\hat Iq`, to first order that of a simple eigenvalue of the score
        estimate. Units of 1, source key ``eigenpairs``.

    Raises
    ------
    %(refused)s

    See Also
    --------
    propagate : Standard error and bias of leading eigenvalues for both estimators, up to 1,000 parameters.

    Notes
    -----
    Always in float64. Up to 200 parameters, or for more than half of all pairs, the whole matrix is decomposed; otherwise no
    array of size P^2 is created.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[3.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> found = fs.applications.leading_eigenpairs(model, np.array([[2.0], [-2.0]]), 1)
    >>> found.eigenvalues.values.round(6), found.eigenvectors.values.round(6)
    (array([4.]), array([[1., 0.]]))
    """
    common: dict[str, Any] = {"engine": engine, "num_threads": num_threads, "progress": progress}
    call = double_call(model, x, any_network=True, **common)
    k = functionals.n_eigenvalues(k, model.n_params)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    operator = fisher_operator(call.model, x, **common)
    if model.n_params <= _DENSE_PARAMETERS or 2 * k > model.n_params:
        full: Any = fisher_information(call.model, x, view="full", **common)
        values, vectors = error_propagation.graded_eigenpairs(full.values) or np.linalg.eigh(full.values)
    else:
        start = np.random.default_rng(0).standard_normal(model.n_params)
        values, vectors = eigsh(operator, k, v0=start)
    order = np.argsort(-values, kind="stable")[:k]
    values, vectors = values[order], vectors[:, order]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(k)])
    # Squares, and fourth powers along directions, in units where the information is 1.
    unit = power_of_two(np.sqrt(np.abs(values)))
    residual = np.linalg.norm((operator.matmat(vectors) - vectors * values) / unit / unit, axis=0) * unit * unit
    _, variance = at_once(_quadratic_forms(call, vectors / unit))
    entries: list[_labels.Entry] = [
        ("leading_eigenvalues", ["eigenvalue"], values),
        ("leading_eigenvectors", ["eigenvalue", "param"], np.ascontiguousarray(vectors.T)),
        ("eigenpair_residual", ["eigenvalue"], residual),
        ("eigenvalue_error", ["eigenvalue"], np.sqrt(variance / n_draws) * unit * unit),
    ]
    coords = _labels.coordinates(eigenvalue=k) | _labels.param_coordinates(model)
    return _labels.dataset(entries, coords, call.provenance(n_draws=n_draws))
