"""Exact Fisher information: of the natural parameters, of hidden layers, and of the network's parameters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments, capacity, networks
from fisherstats.models import derivatives
from fisherstats.models.families import SecondMoment
from fisherstats.models.families.base import RowProducts
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run, _tiles, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._layout import Layout
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import fisher, kronecker, sampling

__all__ = [
    "fisher_information",
    "hidden_information",
    "hidden_information_variance",
    "output_information",
]

Array = NDArray[np.floating]


@documented
@streamed(per_input=True)
def output_information(
    model: MLP,
    x: Any,
    *,
    coordinates: str = "output",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    r"""Fisher information of the network's output at each input, :math:`I(h)=\mathrm{Cov}(t(y))` (2021, Lemma 2).

    Where the family links the output z to natural parameters h = g(z), it is :math:`g'(z)\,\mathrm{Cov}(t)\,g'(z)` in the
    coordinates of the output and Cov(t) in natural ones.

    Parameters
    ----------
    %(model)s
    %(x)s
    coordinates : {"output", "natural"}, default "output"
        Coordinates of the information; they differ only for families with a link.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray, dims (input, output, output2)
        I(h) in units of 1, source key ``output-information``.

    Raises
    ------
    %(refused)s
    %(size)s

    Notes
    -----
    Cost: one forward pass and n T^2 numbers. Assumes an exponential family in canonical coordinates.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> fs.output_information(model, x).values.ravel()
    array([0.25, 0.25])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, any_network=True)
    arguments.choice("coordinates", coordinates, ("output", "natural"))
    n_outputs = model.widths[-1]
    call.fits("`output_information`", call.n_present * n_outputs**2, 1, "use fewer inputs at a time.")

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        if coordinates == "natural" or forward.link_slope is None:
            return [law.information()]
        return [forward.link_slope[:, :, None] * law.information() * forward.link_slope[:, None, :]]

    coords = call.input_coordinate() | _labels.output_coordinates(call.model, "output", "output2")
    provenance = call.provenance(coordinates=coordinates)
    yield (layout := _layout.array("output_information", coords, provenance, call.rows.dtype))
    return layout, (yield from call.stack(block, call.block_rows()))


@documented
@streamed(per_input=True)
def hidden_information(
    model: MLP,
    x: Any,
    *,
    layer: int,
    estimator: str | None = None,
    n_draws: int | None = None,
    rng: int | np.random.SeedSequence | np.random.Generator | None = None,
    y: Any = None,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    r"""Fisher information of a layer's outputs at each input, :math:`I(h_l)=B_l^\top I(h_L)B_l`.

    With ``estimator="score"`` I(h_L) is replaced by the mean of r r' over `n_draws` labels from the model (2021, after the
    derivative lemma), with ``estimator="empirical"`` by r r' at the data label; r = t(y) - E[t].

    Parameters
    ----------
    %(model)s
    %(x)s
    layer : int
        0 (the input) to L (the natural parameters).
    estimator : {None, "score", "empirical"}, optional
        None is exact.
    n_draws : int, optional
        Labels per input, for the score estimate.
    rng : int, SeedSequence or Generator, optional
        Source of the labels, for the score estimate; the same int gives the same labels in every call and view.
    y : array_like, optional
        One data label per input, for the empirical information.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray, dims (input, unit, unit2)
        Units of 1, source key ``hidden-information``. A score estimate carries its closed-form ``standard_error`` as a
        coordinate.

    Raises
    ------
    %(refused)s
    %(size)s

    See Also
    --------
    hidden_information_variance : The variance of the score estimate, without drawing labels.

    Notes
    -----
    Cost: one forward and one backward pass for T outputs, and n n_l^2 numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> fs.hidden_information(model, x, layer=0).sel(input=0).values
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    call, layer = _layer_call(model, x, layer, engine, num_threads, progress)
    arguments.choice("estimator", estimator, (None, "score", "empirical"))
    arguments.only_with("n_draws", n_draws, "estimator", estimator, "score")
    arguments.only_with("rng", rng, "estimator", estimator, "score")
    arguments.only_with("y", y, "estimator", estimator, "empirical")
    if estimator == "score":
        draws = arguments.positive_integer("n_draws", n_draws)
        return (yield from _estimated_hidden(call, layer, draws, arguments.seed_sequence(rng)))
    data_labels = None if y is None else call.data_labels(y)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        B = _reach(call, forward, layer)
        if data_labels is None:
            return [fisher.hidden_information(law, B)]
        return [fisher.hidden_information(fisher.at_labels(law, data_labels[first_input : first_input + len(x)]), B)]

    key = "hidden_information" if data_labels is None else "hidden_information_empirical"
    yield (layout := _unit_layout(call, layer, key, call.provenance(layer=layer)))
    return layout, (yield from call.stack(block, call.block_rows()))


def _estimated_hidden(call: Call, layer: int, n_draws: int, seed: np.random.SeedSequence) -> Computation[xr.DataArray]:
    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        B = _reach(call, forward, layer)
        draw = sampling.draw(call.model.family, law, seed, first_input, n_draws, second_moment=True)
        variance = fisher.hidden_information_variance(law, B) / n_draws
        return [fisher.hidden_information(cast(SecondMoment, draw.second), B), np.sqrt(variance)]

    provenance = call.provenance(layer=layer, n_draws=n_draws, seed=sampling.seed_record(seed), estimator="score")
    yield (layout := _unit_layout(call, layer, "hidden_information_estimate", provenance, ["standard_error"]))
    return layout, (yield from call.stack(block, call.block_rows()))


@documented
@streamed(per_input=True)
def hidden_information_variance(
    model: MLP,
    x: Any,
    *,
    layer: int,
    n_draws: int = 1,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    r"""Variance of the score estimate of :math:`I(h_l)`: :math:`M(B_u,B_v,B_u,B_v)/N` per entry (2021, Theorem 4).

    Parameters
    ----------
    %(model)s
    %(x)s
    layer : int
        0 (the input) to L (the natural parameters).
    %(n_draws)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray, dims (input, unit, unit2)
        Variance in units of 1, source key ``hidden-information-variance``.

    Raises
    ------
    %(refused)s
    %(size)s

    Notes
    -----
    Cost: n T n_l^2 operations (n T^2 n_l^2 for independent heads), n T^2 at the outputs; no tensor over four outputs is built.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> float(fs.hidden_information_variance(model, x, layer=0).max())
    0.0
    """
    call, layer = _layer_call(model, x, layer, engine, num_threads, progress)
    n_draws = arguments.positive_integer("n_draws", n_draws)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        at_outputs = layer == call.model.n_layers and forward.link_slope is None
        return [fisher.hidden_information_variance(law, None if at_outputs else _reach(call, forward, layer)) / n_draws]

    yield (layout := _unit_layout(call, layer, "hidden_information_variance", call.provenance(layer=layer, n_draws=n_draws)))
    return layout, (yield from call.stack(block, call.block_rows()))


def _layer_call(model: MLP, x: Any, layer: Any, engine: str | None, num_threads: int | None, progress: bool) -> tuple[Call, int]:
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    layer = networks.layer_index(layer, model.n_layers)
    call.fits("`hidden_information`", call.n_present * model.widths[layer] ** 2, 1, "use fewer inputs at a time.")
    return call, layer


def _reach(call: Call, forward: derivatives.Forward, layer: int) -> Array:
    """Return B_l, the derivative of the natural parameters with respect to h_l."""
    G = call.network.jacobians(forward, differences=False)
    return G[-1] if layer == call.model.n_layers else derivatives.pull_back(call.model, G[layer], layer)


def _unit_layout(
    call: Call, layer: int, key: str, provenance: dict[str, Any], companions: Sequence[str] = ()
) -> Layout[xr.DataArray]:
    width = call.model.widths[layer]
    coords = call.input_coordinate() | _labels.coordinates(unit=width, unit2=width)
    return _layout.array(key, coords, provenance, call.rows.dtype, companions)


@documented
@streamed()
def fisher_information(
    model: MLP,
    x: Any,
    *,
    view: str = "diagonal",
    per_input: bool = False,
    store: str | os.PathLike[str] | None = None,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray | xr.DataTree]:
    r"""Exact Fisher information of the parameters, :math:`I(\theta)=\frac1n\sum_iJ_i^\top I(h_i)J_i` (2021, eq 6).

    Parameters
    ----------
    %(model)s
    %(x)s
    view : {"diagonal", "block", "full", "kfac"}, default "diagonal"
        The diagonal, the diagonal block of each layer, the whole matrix, or the Kronecker factors of each layer's block.
    per_input : bool, default False
        Return the conditional information of each input instead of the mean over inputs.
    store : path, optional
        With ``block`` or ``full``: a zarr store to create, for a matrix that does not fit in memory. It is computed a few tiles
        at a time, within 1 GB of memory, and appears at its path once complete.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray or DataTree
        ``diagonal``: dims ([input,] param). ``full``: dims ([input,] param, param2), exactly symmetric. ``block``: DataTree with
        children ``layer_0``, ``layer_1``, ... of ``information ([input,] param, param2)``, `param` being the index in the whole
        parameter vector. ``kfac``: DataTree with children of ``A ([input,] feature, feature2)``, the mean of
        :math:`\bar h_l\bar h_l^\top` with the bias last (`feature` -1), and ``G ([input,] unit, unit2)``, the mean of
        :math:`G_l^\top I(h)G_l`; the block is approximately the Kronecker product of G and A (Martens & Grosse 2015, Section 3),
        exactly for one input; `kfac_error` gives the error. Units of 1, source keys ``information`` and ``kronecker-factors``.
        With a `store` it is lazy, backed by dask arrays over the store.

    Raises
    ------
    %(refused)s
    SizeError
        If the result would not fit in memory or on the disk of the store; the message names the bytes and the alternatives.
    OSError
        If the store cannot be written; a partial store is removed.

    Notes
    -----
    Cost of the diagonal: one forward pass, one backward pass for T outputs and one matrix product per layer; no array of size
    inputs x outputs x parameters is created. Dense views: one product of Khatri-Rao factors per pair of layers, without a factor
    T. Kronecker factors: one backward pass for the rows of a root of I(h) and two symmetric products per layer, of the last
    layer's outputs with one row per input (softmax) or none (independent outputs). With a store, the forward and backward passes
    are repeated for every 64 MiB of the upper triangle.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> fs.fisher_information(model, x).values
    array([0.625, 0.625, 0.25 ])
    >>> fs.fisher_information(model, x, view="full").sel(param=0).values
    array([0.625, 0.625, 0.375])
    """
    call = _run.prepare(
        model, x, engine=engine, num_threads=num_threads, progress=progress, read_once=store is None, any_network=True
    )
    if store is None:
        _views.check(call, view, per_input, allowed=(*_views.VIEWS, "kfac"), may_be_stored=True, by_rows=True)
    else:
        arguments.choice("view", view, (*_views.VIEWS, "kfac"))
        capacity.stored_view(view, per_input)

    def diagonal(x: Array, first_input: int) -> list[Any]:
        forward, law = call.network.forward(x, first_input)
        return [(call.network.root_unit_factors(forward, law), 2), forward.inputs]

    def matrix(x: Array, first_input: int) -> list[dict[tuple[int, int], Array]]:
        forward, law = call.network.forward(x, first_input)
        if view == "kfac":
            return kronecker.factors(call.network.root_products(forward, law), forward.inputs)
        return [fisher.matrix_blocks(law, call.network.jacobians(forward), forward.inputs, view == "full", per_input)]

    def rows_of(x: Array, first_input: int) -> tuple[list[list[Array]], list[Array]]:
        forward, law = call.network.forward(x, first_input)
        return [call.network.root_rows(forward, law)], forward.inputs

    def products_of(x: Array, first_input: int) -> tuple[list[RowProducts], list[Array]]:
        forward, law = call.network.forward(x, first_input)
        return call.network.root_products(forward, law), forward.inputs

    if store is not None:
        return _layout.given(_tiles.information(call, view, rows_of, store, call.provenance(view=view))), ()
    of_root = products_of if view == "kfac" else rows_of
    keys = _views.KRONECKER if view == "kfac" else ["information"]
    yield (layout := _views.layout(call, view, per_input, keys, call.provenance(view=view)))
    found = yield from _views.compute(call, view, per_input, diagonal, matrix, rows_of=of_root)
    return layout, _views.arranged(call, view, found)
