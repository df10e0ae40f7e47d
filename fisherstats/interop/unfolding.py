r"""Information of the owner's parameters through folds of batch normalisation.

A layer with both folds computes from its inputs h, with fixed means :math:`\mu`, deviations :math:`\sigma` and the owner's
parameters, :math:`v=\gamma^-(h-\mu^-)/\sigma^-+\beta^-`, then :math:`z=Wv+b`, then
:math:`a=\gamma^+(z-\mu^+)/\sigma^++\beta^+`. With :math:`G=\partial h_L/\partial a` and :math:`s=\gamma^+/\sigma^+` every
derivative of the natural parameters is a vector over the outputs times a number of the input:

=====================  =====================================  ==================================
parameter              vector                                 number
=====================  =====================================  ==================================
:math:`W_{od}`         :math:`G_o`                            :math:`s_ov_d`
:math:`b_o`            :math:`G_o`                            :math:`s_o`
:math:`\gamma^+_o`     :math:`G_o`                            :math:`(z_o-\mu^+_o)/\sigma^+_o`
:math:`\beta^+_o`      :math:`G_o`                            1
:math:`\gamma^-_d`     :math:`B_d=\sum_oG_os_oW_{od}`         :math:`(h_d-\mu^-_d)/\sigma^-_d`
:math:`\beta^-_d`      :math:`B_d`                            1
=====================  =====================================  ==================================

So the diagonal information is a mean over inputs of (a number per unit) x (a square), as for any layer: no block over the
parameters of a unit is formed, although the number of gamma is a linear form of the unit's folded row. Only B is new: a
derivative by the normalised inputs, since gamma and beta after an activation act on all units of the next layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.core.validation import interop_results as checks
from fisherstats.interop._chain import Chain, Layer, Scale
from fisherstats.interop._owners import chain_of
from fisherstats.models.network import MLP
from fisherstats.quantities import _layout, _run
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._streams import streamed
from fisherstats.theory import fisher, sampling

__all__ = ["ParameterResult", "unfolded_information"]

Array = NDArray[np.floating]
PerUnit = Callable[[Array], Array]
"""Takes vectors over the outputs (n, T, k), and returns a number for each of them (n, k)."""


@dataclass(frozen=True)
class ParameterResult:
    """Numbers for each parameter of a network of another library.

    Parameters
    ----------
    values : dict of str to ndarray
        By the owner's names, in the owner's shapes.
    standard_errors : dict of str to ndarray, optional
        In the same way; None for exact information.
    provenance : dict
        As in the results of this package.
    """

    values: dict[str, Array]
    standard_errors: dict[str, Array] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


@documented
def unfolded_information(
    model: MLP,
    source: Any,
    x: Any,
    *,
    head: str | None = None,
    estimator: str | None = None,
    n_draws: int | None = None,
    rng: int | np.random.SeedSequence | np.random.Generator | None = None,
    y: Any = None,
) -> ParameterResult:
    r"""Diagonal information of a network's own parameters, gamma and beta of batch normalisations included.

    A folded network has other parameters than its owner: one row of weights instead of a row, gamma and beta. The diagonal of its
    information does not determine theirs, so it is computed from the inputs, exactly.

    Parameters
    ----------
    model : MLP
        The network as it was read from `source`.
    source : torch.nn.Module
        The network of the other library. Networks without batch normalisation are taken as well.
    x : array_like or iterable of batches, shape (n, n_features)
        Inputs of `model`.
    head : str, optional
        The part of `source` that was read.
    estimator : {None, "score", "empirical"}, optional
        None is exact; "score" is the estimate from drawn labels, those of `estimate_fisher` with the same `rng`; "empirical"
        takes the data labels.
    n_draws : int, optional
        Labels per input, for the score estimate.
    rng : int, SeedSequence or Generator, optional
        Source of the labels, for the score estimate.
    y : array_like, optional
        One data label per input, for the empirical information.

    Returns
    -------
    ParameterResult
        Means over inputs in units of 1, source key ``information``, ``score-estimator`` or ``empirical-fisher``; a score estimate
        has the standard errors of labels at fixed inputs, source key ``estimator-variance``.

    Raises
    ------
    TypeError, ValueError
        If the weights of `model` are no longer those of `source`, or an argument is not as described.

    Notes
    -----
    Cost: a forward and a backward pass, one product per layer, and for a normalisation after an activation one more backward
    step.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from fisherstats.interop import from_torch, unfolded_information
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1)).double().eval()
    >>> model = from_torch(net, loss=torch.nn.MSELoss())
    >>> exact = unfolded_information(model, net, np.ones((3, 2)))
    >>> [(name, values.shape) for name, values in exact.values.items()]
    [('0.weight', (1, 2)), ('0.bias', (1,)), ('1.weight', (1,)), ('1.bias', (1,))]
    >>> exact.values["1.bias"]
    array([1.])
    """
    chain = chain_of(source, head)
    arguments.choice("estimator", estimator, (None, "score", "empirical"))
    arguments.only_with("n_draws", n_draws, "estimator", estimator, "score")
    arguments.only_with("rng", rng, "estimator", estimator, "score")
    arguments.only_with("y", y, "estimator", estimator, "empirical")
    checks.rows_in_memory(x)
    if estimator == "score":
        return _score(model, x, chain, arguments.positive_integer("n_draws", n_draws), arguments.seed_sequence(rng))
    return _exact(model, x, chain) if y is None else _empirical(model, x, chain, y=y)


@streamed()
def _exact(model: MLP, x: Any, chain: Chain) -> Computation[ParameterResult]:
    call = _prepared(model, x, chain)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        return _sums(chain, forward.inputs, call.network.jacobians(forward), law.diagonal, 2)

    means = yield from call.mean(block, call.block_rows())
    return _layout.given(_result(call, chain, means)), ()


@streamed()
def _empirical(model: MLP, x: Any, chain: Chain, y: Any) -> Computation[ParameterResult]:
    call = _prepared(model, x, chain)
    labels = call.data_labels(y)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        second = fisher.at_labels(law, labels[first_input : first_input + len(x)])
        return _sums(chain, forward.inputs, call.network.jacobians(forward), second.diagonal, 2)

    means = yield from call.mean(block, call.block_rows())
    return _layout.given(_result(call, chain, means, estimator="empirical")), ()


@streamed()
def _score(model: MLP, x: Any, chain: Chain, n_draws: int, rng: np.random.SeedSequence) -> Computation[ParameterResult]:
    call = _prepared(model, x, chain)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        draw = sampling.draw(call.model.family, law, rng, first_input, n_draws, True)
        assert draw.second is not None
        G = call.network.jacobians(forward)
        estimate = _sums(chain, forward.inputs, G, draw.second.diagonal, 2)
        return [*estimate, *_sums(chain, forward.inputs, G, law.square_variance, 4)]

    means = yield from call.mean(block, call.block_rows())
    half = len(means) // 2
    errors = [np.sqrt(one / (n_draws * call.n_inputs)) for one in means[half:]]
    record = {"estimator": "score", "n_draws": n_draws, "seed": sampling.seed_record(rng), "design": "fixed"}
    return _layout.given(_result(call, chain, means[:half], errors, **record)), ()


def _prepared(model: Any, x: Any, chain: Chain) -> _run.Call:
    """Return the call in float64, if the network is that of the chain."""
    call = _run.prepare(model, x, host_only=True, in_double=True)
    checks.same_network(model, chain.network(model.family).weights)
    return call


def _result(
    call: _run.Call, chain: Chain, means: Sequence[Array], errors: Sequence[Array] | None = None, **record: Any
) -> ParameterResult:
    names = [name for name, _ in chain.parameters()]

    def named(arrays: Sequence[Array]) -> dict[str, Array]:
        return {name: one.astype(call.dtype) for name, one in zip(names, arrays, strict=True)}

    return ParameterResult(named(means), None if errors is None else named(errors), call.provenance(**record))


def _sums(chain: Chain, inputs: Sequence[Array], G: Sequence[Array], per_unit: PerUnit, power: int) -> list[Array]:
    """Return the sums over inputs for every parameter, in the order of `Chain.parameters`."""
    found: list[Array] = []
    for layer, h_bar, G_l in zip(chain.layers, inputs, G, strict=True):
        found += _of_layer(layer, h_bar[:, : layer.dense.kernel.shape[1]], G_l, per_unit, power)
    return found


def _of_layer(layer: Layer, h: Array, G: Array, per_unit: PerUnit, power: int) -> list[Array]:
    kernel, before, after = layer.dense.kernel.astype(np.float64), layer.before, layer.after
    units = per_unit(G)
    factor = np.ones(len(kernel)) if after is None else after.factor
    found: list[Array] = []
    v = h
    if before is not None:
        v = h * before.factor + before.shift
        found += _of_scale(before, h, per_unit(np.matmul(G, factor[:, None] * kernel)), power)
    weights = (units.T @ v**power) * factor[:, None] ** power
    found.append(weights.T if layer.dense.transposed else weights)
    if layer.dense.bias is not None:
        found.append(units.sum(axis=0) * factor**power)
    if after is not None:
        z = v @ kernel.T if layer.dense.bias is None else v @ kernel.T + layer.dense.bias
        found += _of_scale(after, z, units, power)
    return found


def _of_scale(scale: Scale, inputs: Array, units: Array, power: int) -> list[Array]:
    """Return the sums for gamma and beta of a normalisation, without those that it does not have."""
    normal = (inputs - scale.mean) / scale.deviation
    both = (scale.gamma_name, units * normal**power), (scale.beta_name, units)
    return [one.sum(axis=0) for name, one in both if name is not None]
