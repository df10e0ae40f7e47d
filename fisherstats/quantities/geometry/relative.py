"""The relative Fisher information of the subsystems of a network, and the learning zones of its units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from fisherstats import execution
from fisherstats.core.arrays import common_dtype, overflow_is_inf
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments, networks, subsystems
from fisherstats.models.activations import Activation
from fisherstats.models.families import Categorical, Gaussian
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run, _views
from fisherstats.quantities._alignment import square_matrices
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import assembly, relative_information
from fisherstats.theory.relative_information import Responses

__all__ = ["learning_zone", "pullback", "relative_fisher", "subsystem_metric"]

Array = NDArray[np.floating]

SUBSYSTEMS = ("neuron", "layer", "two_layers", "system")
RESPONSES = ("paper", "gaussian")


@documented
@streamed()
def relative_fisher(
    model: MLP,
    x: Any,
    *,
    subsystem: str = "neuron",
    response: str = "paper",
    variance: float = 1.0,
    per_input: bool = False,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataTree]:
    r"""Relative Fisher information of every layer, :math:`g(w_o|h_l)=\frac1n\sum_i\nu_f(w_o,h_l)\,\bar h_l\bar h_l^\top`.

    The information of a subsystem's response about its weights, given the subsystem's input (2017, table of subsystems): here the
    input of layer l at each row of x. The relative information of the whole system is the Fisher information.

    Parameters
    ----------
    %(model)s
    %(x)s
    subsystem : {"neuron", "layer", "two_layers", "system"}, default "neuron"
        Where the response is observed: at each neuron, at the whole layer, one layer above it, or at the network's output; the
        units between are deterministic. A subsystem that would extend beyond the output is truncated there.
    response : {"paper", "gaussian"}, default "paper"
        Response distribution of hidden units. ``paper``: a binary variable whose mean is the unit's value for tanh and sigmoid
        units, a Gaussian around it for all others; ``gaussian``: a Gaussian for all. The response of the output layer is that of
        the network's family.
    variance : float, default 1
        Variance of the Gaussian responses of hidden units.
    per_input : bool, default False
        Return the metric of each input instead of the mean over inputs.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataTree
        Children ``layer_0``, ``layer_1``, ... with ``metric``. ``neuron``: dims ([input,] unit, feature, feature2), the bias last
        (`feature` -1); in the output layer these are the diagonal blocks of the layer's metric. Otherwise: dims ([input,] param,
        param2), `param` being the index in the whole parameter vector. Units of 1, source keys ``relative-fisher`` and
        ``relative-layer``.

    Raises
    ------
    %(refused)s
    SizeError
        If the result, of units x features^2 numbers per layer or the square of that of the layer's parameters, would not fit in
        memory; the message names the bytes.

    Notes
    -----
    Cost for ``neuron``: one forward pass, and per layer one product of the units' coefficients with the products of all pairs of
    the layer's inputs; no backward pass. For the others one Khatri-Rao product per layer, as for the block view of
    `fisher_information`, which ``system`` equals. With ``neuron`` and ``layer`` hidden units of a layer are independent, so the
    layer's metric is block-diagonal with the neurons' metrics. At a kink the slope is the left one.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]], [[2.0, 0.0]]], activation="relu", family=fs.families.Bernoulli())
    >>> x = np.array([[1.0], [-1.0]])
    >>> fs.relative_fisher(model, x)["layer_0"].metric.sel(unit=0).values
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    arguments.choice("subsystem", subsystem, SUBSYSTEMS)
    arguments.boolean("per_input", per_input)
    responses = _responses(response, variance)
    provenance = call.provenance(subsystem=subsystem, response=response, variance=responses.variance)
    if subsystem == "neuron":
        return (yield from _neurons(call, responses, per_input, provenance))
    above = {"layer": 0, "two_layers": 1, "system": call.model.n_layers}[subsystem]
    numbers = sum(size**2 for size in call.sizes)
    remedy = "use subsystem='neuron' or per_input=False, or fisher_operator for products with vectors."
    call.fits(f"`subsystem={subsystem!r}`", numbers * (call.n_present if per_input else 1), 1, remedy)

    def roots(x: Array, first_input: int) -> tuple[list[list[Array]], list[Array]]:
        forward, law = call.network.forward(x, first_input)
        return [relative_information.rows(call.model, forward, law, responses, above)], forward.inputs

    def block(x: Array, first_input: int) -> list[Array]:
        (found,), layer_inputs = roots(x, first_input)
        return [
            assembly.symmetric(assembly.pairs_per_input(_squared(R), h_bar, h_bar))
            for R, h_bar in zip(found, layer_inputs, strict=True)
        ]

    yield (layout := _views.layout(call, "block", per_input, ["relative_layer"], provenance))
    if per_input:
        rows = min(call.block_rows(_run.DENSE_ROWS), execution.block_rows(numbers, _run.DENSE_ROWS))
        return layout, (yield from call.over_inputs(block, rows, True))
    (blocks,) = yield from call.pair_mean(roots, cross_layers=False)
    return layout, _views.arranged(call, "block", [blocks])


def _responses(response: str, variance: float) -> Responses:
    arguments.choice("response", response, RESPONSES)
    return Responses(response == "paper", arguments.positive_number("variance", variance))


def _squared(R: Array) -> Array:
    return np.matmul(R.transpose(0, 2, 1), R)


def _neurons(call: Call, responses: Responses, per_input: bool, provenance: dict[str, Any]) -> Computation[xr.DataTree]:
    shapes = [matrix.shape for matrix in call.model.weights]
    numbers = sum(n_out * n_in**2 for n_out, n_in in shapes)
    what = "`relative_fisher`" + (" with `per_input=True`" if per_input else "")
    remedy = "use per_input=False or fewer inputs." if per_input else "use layers with fewer units or inputs."
    # Sums in float64 are rounded to the precision of the call at the end.
    copies = int(call.rows.dtype != np.float64)
    call.fits(what, numbers * (call.n_present if per_input else 1), copies, remedy)

    def factors(x: Array, first_input: int) -> tuple[list[Array], list[Array]]:
        forward, law = call.network.forward(x, first_input)
        return relative_information.coefficients(call.model, forward, law, responses), forward.inputs

    def block(x: Array, first_input: int) -> list[Array]:
        return [relative_information.neuron_metrics(*one) for one in zip(*factors(x, first_input), strict=True)]

    children = {}
    for layer in range(call.model.n_layers):
        coords = _labels.factor_coordinates(call.model, layer)
        del coords["unit2"]
        if per_input:
            coords = call.input_coordinate() | coords
        children[f"layer_{layer}"] = (["relative_neuron"], coords)
    yield (layout := _layout.tree(children, provenance, call.rows.dtype))
    if per_input:
        return layout, (yield from call.over_inputs(block, execution.block_rows(numbers, _run.DENSE_ROWS), True))
    return layout, (yield from call.neuron_mean(factors))


@documented
@streamed()
def subsystem_metric(
    weights: Sequence[ArrayLike],
    x: Any,
    *,
    activation: str | Activation | Sequence[str | Activation],
    bias: bool | Sequence[bool] = True,
    response: str = "paper",
    variance: float = 1.0,
    per_input: bool = False,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    r"""Relative Fisher information of a subsystem alone, :math:`g(W|x)=\frac1n\sum_i R_i^\top R_i\otimes\bar x_i\bar x_i^\top`.

    Every row of the table of subsystems (2017): a neuron is a matrix of one row, a layer a matrix of several, two layers are two
    matrices; the metric is that of the first matrix, given x, for the response of the last layer.

    Parameters
    ----------
    weights : sequence of array_like, shape (n_out, n_in + 1)
        One matrix per layer of the subsystem; the last column is the bias, if the layer has one.
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        Inputs of the subsystem, at least one row, finite and real; from a dask array the result is lazy.
    activation : str, Activation or sequence of them
        The activation of all layers, or one per layer. The last one determines the response distribution: ``"identity"`` is the
        linear layer, ``"softmax"`` a class with these log odds; ``SmoothedReLU(iota, omega)``, ``LeakyReLU(iota)`` and
        ``ELU(alpha)`` of `fisherstats.activations` are rectifiers with parameters.
    bias : bool or sequence of bool, default True
        Whether the layers have a bias, one answer for all or one per layer.
    response : {"paper", "gaussian"}, default "paper"
        ``paper``: the response is a binary variable whose mean is the unit's value for tanh and sigmoid units, a Gaussian around
        it for all others; ``gaussian``: a Gaussian for all but the softmax.
    variance : float, default 1
        Variance of a Gaussian response.
    per_input : bool, default False
        Return the metric of each input instead of the mean over inputs.
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray
        ``metric``, dims ([input,] param, param2), `param` being the row-major index in the first matrix, bias last in each row.
        Exactly symmetric; units of 1, source key ``relative-layer``.

    Raises
    ------
    TypeError, ValueError
        If `weights` are not finite matrices whose shapes match, `x` is not a finite real matrix with one column per input of the
        first layer, `activation` or `response` is unknown, or `variance` is not a positive number.
    SizeError
        If the metric would not fit in memory; the message names the bytes.

    Notes
    -----
    Cost: one forward and backward pass through the subsystem, and one Khatri-Rao product of all pairs of units with all pairs of
    inputs. At a kink the slope is the left one. The units between the first matrix and the last layer are deterministic.
    `relative_fisher` gives the metrics of all layers of a network at once.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.array([[2.0]])
    >>> fs.subsystem_metric([[[0.0, 0.0]]], x, activation="tanh").values
    array([[4., 2.],
           [2., 1.]])
    >>> fs.subsystem_metric([np.zeros((2, 2))], x, activation="softmax").sel(param=1).values
    array([ 0.5 ,  0.25, -0.5 , -0.25])
    """
    matrices, biased = networks.weight_matrices(weights, bias)
    chosen, softmax = subsystems.layer_activations(activation, len(matrices))
    responses = _responses(response, variance)
    arguments.boolean("per_input", per_input)
    n_outputs = len(matrices[-1])
    if softmax:
        subsystems.softmax_units(n_outputs)
        model = MLP(matrices, activation=chosen, family=Categorical(n_outputs), bias=biased)
    else:
        # The subsystem is the lower part of a network whose upper part is the identity.
        onward = np.eye(n_outputs, n_outputs + 1, dtype=common_dtype(*matrices))
        model = MLP([*matrices, onward], activation=chosen, family=Gaussian(n_outputs), bias=(*biased, True))
    call = _run.prepare(model, x, num_threads=num_threads, progress=progress, host_only=True)
    size, above = matrices[0].size, len(matrices) - 1
    remedy = "use per_input=False, or relative_fisher for the metrics of single neurons."
    call.fits("`subsystem_metric`", size**2 * (call.n_present if per_input else 1), 1, remedy)
    build = assembly.pairs_per_input if per_input else assembly.pair_sum

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        R, h_bar = relative_information.rows(call.model, forward, law, responses, above)[0], forward.inputs[0]
        return [build(_squared(R), h_bar, h_bar)]

    rows = call.block_rows(_run.DENSE_ROWS)
    if per_input:
        rows = min(rows, execution.block_rows(size**2, _run.DENSE_ROWS))
    coords = _labels.param_coordinates(model, layer=0) | _labels.param_coordinates(model, "param2", 0)
    if per_input:
        coords = call.input_coordinate() | coords
    provenance = call.provenance(response=response, variance=responses.variance)
    yield (layout := _layout.array("relative_layer", coords, provenance, call.rows.dtype))
    (metric,) = yield from call.over_inputs(block, rows, per_input)
    return layout, [assembly.symmetric(metric)]


@documented
@streamed(per_input=True)
def learning_zone(
    model: MLP,
    x: Any,
    *,
    response: str = "paper",
    variance: float = 1.0,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Effective learning zone of every unit: its coefficient :math:`\nu_f(w_o,h_l)` at every input (2017).

    The coefficient measures how much a unit learns from an input; where it is 0 the unit is saturated, or dead, and the metric of
    its weights vanishes. `fisherstats.plotting.learning_zone` plots the result.

    Parameters
    ----------
    %(model)s
    %(x)s
    response : {"paper", "gaussian"}, default "paper"
        Response distribution of hidden units, as for `relative_fisher`.
    variance : float, default 1
        Variance of the Gaussian responses of hidden units.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``coefficient (input, unit)`` and ``pre_activation (input, unit)``, with the units of all layers in one dim and the
        coordinates ``unit_layer`` and ``unit_out``; ``largest (unit)``, the supremum of the coefficient over all pre-activations,
        NaN for the outputs. Units of 1, source keys ``relative-fisher`` and ``learning-zone``.

    Raises
    ------
    %(refused)s
    SizeError
        If two numbers per input and unit do not fit in memory; the message names the bytes.

    Notes
    -----
    Cost: one forward pass. For the outputs the coefficient is the diagonal of I(h).

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0], [1.0, -9.0]], [[1.0, 1.0, 0.0]]], activation="relu", family=fs.families.Bernoulli())
    >>> zone = fs.learning_zone(model, np.array([[1.0], [-1.0], [3.0]]))
    >>> zone.coefficient.where(zone.unit_layer == 0, drop=True).mean("input").values.round(3)
    array([0.667, 0.   ])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    responses = _responses(response, variance)
    n_units = sum(call.model.widths[1:])
    call.fits("`learning_zone`", 2 * call.n_present * n_units, 1, "use fewer inputs.")

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        outputs = forward.inputs[-1] @ call.model.weights[-1].T
        found = relative_information.coefficients(call.model, forward, law, responses)
        return [np.concatenate(found, axis=1), np.concatenate([*forward.pre_activations, outputs], axis=1)]

    coords = call.input_coordinate() | _labels.unit_coordinates(call.model.widths)
    provenance = call.provenance(response=response, variance=responses.variance)
    keys = ["zone_coefficient", "zone_pre_activation", "zone_largest"]
    yield (layout := _layout.dataset(keys, coords, provenance, call.rows.dtype))
    suprema = [*map(responses.largest, call.model.activations), np.nan]
    largest = np.repeat(np.asarray(suprema, dtype=call.rows.dtype), call.model.widths[1:])
    return layout, [*(yield from call.stack(block, call.block_rows())), largest]


@documented
@overflow_is_inf
def pullback(metric: ArrayLike, jacobian: ArrayLike) -> NDArray[np.floating]:
    r"""Metric in other coordinates, :math:`g_\Theta=J^\top g_\Lambda J` with :math:`J=\partial\Lambda/\partial\Theta` (2017).

    The length of a step is the same in both: :math:`d\Theta^\top g_\Theta\,d\Theta=d\Lambda^\top g_\Lambda\,d\Lambda` for
    :math:`d\Lambda=J\,d\Theta`.

    Parameters
    ----------
    metric : array_like, shape (..., m, m)
        Symmetric matrix in the coordinates Lambda, or several; a labelled one has the dims of a result, such as ``param`` and
        ``param2``, in any position.
    jacobian : array_like, shape (..., m, k)
        Derivatives of Lambda by Theta: a row for each coordinate of the metric, a column for each new one.

    Returns
    -------
    ndarray, shape (..., k, k)
        Exactly symmetric. Units of the metric over those of Theta squared, source key ``pullback``.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, a number is not finite or the metric is not symmetric.

    Notes
    -----
    Cost: two matrix products, m k (m + k) operations. Labels of the metric are dropped, as they do not apply to Theta.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.pullback([[2.0, 0.0], [0.0, 1.0]], [[1.0], [3.0]])
    array([[11.]])
    """
    metric = square_matrices("metric", metric)
    return subsystems.finite_metric(relative_information.pulled_back(*subsystems.transformation(metric, jacobian)))
