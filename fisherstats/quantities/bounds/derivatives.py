"""Bounds by weight norms: of the derivatives of the network, and through them of the covariances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats._version import __version__
from fisherstats.core import margins
from fisherstats.core.arrays import overflow_is_inf
from fisherstats.core.docstrings import documented
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, networks
from fisherstats.execution import Steps, one_blas_thread
from fisherstats.models.derivatives import Forward
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._computation import Computation, steps_of
from fisherstats.quantities._layout import Layout
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.quantities.bounds.covariance import covariance_bounds, covariance_passes
from fisherstats.theory import tensor_bounds, tensor_norms
from fisherstats.theory import weight_norms as closed
from fisherstats.theory.forward_rounding import SENSITIVITY, forward_rounding
from fisherstats.theory.weight_norms import Suprema

__all__ = ["derivative_bounds", "weight_norms"]

Array = NDArray[np.floating]

_NORMS = ("frobenius", "spectral")
_BLOCK_ROWS = 16
_BLOCK_NUMBERS = 2**24
"""Maximum numbers in a block's second derivatives, unless the block is a single input."""


@documented
@overflow_is_inf
@one_blas_thread
def weight_norms(model: MLP) -> xr.Dataset:
    r"""Norms of every kernel (the weight matrix without its bias), and the products that enter the derivative bounds.

    Parameters
    ----------
    %(model)s

    Returns
    -------
    Dataset
        Over ``layer``: ``frobenius``, ``spectral`` (largest singular value), ``nuclear`` (sum of singular values),
        ``stable_rank`` (squared Frobenius over squared spectral norm, 0 for a kernel of zeros), ``largest_row`` (largest
        Euclidean norm of a unit's incoming weights), ``bias`` (0 without one); ``sup_first`` and ``sup_second``, the suprema of
        :math:`|\sigma'|` and :math:`|\sigma''|` of the activation after the layer (1 and 0 after the last); and
        ``derivative_factor (norm, layer)``, the bound of :math:`\|\partial h_L/\partial W_l\|/\|\bar h_l\|` by weight norms.
        Units of 1, source keys ``weight-norms``, ``weight-norm-bounds``.

    Raises
    ------
    TypeError
        If `model` is not an MLP.

    Notes
    -----
    Cost: one singular value decomposition per layer. With a link, ``derivative_factor`` is that of the network's output, before
    the link.

    Examples
    --------
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[3.0, 0.0, 1.0], [0.0, 4.0, 1.0]]], activation=[], family=fs.families.Gaussian(2))
    >>> norms = fs.weight_norms(model)
    >>> norms.frobenius.values, norms.spectral.values, norms.stable_rank.values
    (array([5.]), array([4.]), array([1.5625]))
    """
    networks.model_object(model, MLP)
    kernels = [np.asarray(kernel, np.float64) for kernel in model.kernels]
    by_kind = closed.kernel_norms(kernels)
    frobenius, spectral = by_kind[:2]
    flat = spectral == 0
    suprema = _suprema(model)
    factors = [
        [closed.first_bound(suprema, layer, kind).bound(by_kind[at])[0][0] for layer in range(model.n_layers)]
        for at, kind in enumerate(_NORMS)
    ]
    values = {
        "frobenius": frobenius,
        "spectral": spectral,
        "nuclear": [np.linalg.norm(kernel, ord="nuc") for kernel in kernels],
        "stable_rank": np.where(flat, 0, np.square(frobenius / np.where(flat, 1, spectral))),
        "largest_row": [np.linalg.norm(kernel, axis=1).max() for kernel in kernels],
        "bias": [
            np.linalg.norm(np.asarray(weight[:, -1], np.float64)) if biased else 0.0
            for weight, biased in zip(model.weights, model.bias, strict=True)
        ],
        "sup_first": suprema.slopes[0],
        "sup_second": suprema.bends[0],
    }
    entries: list[_labels.Entry] = [
        (f"weights_{name}", ["layer"], np.asarray(value, model.dtype)) for name, value in values.items()
    ]
    entries.append(("weights_factor", ["norm", "layer"], margins.outwards(_upper(np.array(factors)), model.dtype, "upper")))
    coords = _labels.layer_coordinates(model.n_layers) | _labels.coordinates(norm=list(_NORMS))
    provenance = {
        "package": f"fisherstats {__version__}",
        "model": model.fingerprint,
        "widths": list(model.widths),
        **({} if all(model.bias) else {"bias": list(model.bias)}),
        "activations": [one.name for one in model.activations],
        "family": model.family.parameters(),
        "dtype": str(model.dtype),
    }
    return _labels.dataset(entries, coords, provenance)


@documented
@streamed()
def derivative_bounds(
    model: MLP,
    x: Any,
    *,
    n_draws: int = 1,
    per_input: bool = False,
    form: str = "corrected",
    covariance: bool = True,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Norms of the derivatives, their bounds by weight norms, and the implied bounds of the covariances (2021, norm theorem).

    :math:`\|\partial h_L/\partial W_l\|=\|B_{l+1}D_l\|\|\bar h_l\|\le\prod_{i\ge l}c_{1,i}\prod_{i>l}\|W_i^-\|\,\|\bar h_l\|`
    (with Frobenius norms or largest singular values), the Frobenius norm of the last layer's identity being
    :math:`\sqrt{n_L}`, and for :math:`l\le m` :math:`\|\partial^2h_L/\partial W_l\partial W_m\|\le\|\bar h_l\|\|\bar h_m\|
    \sum_{k\ge m}c_{2,k}\|B_{k+1}\|\|A_{k,l}\|\|A_{k,m}\|+1_{l<m}\|B_{m+1}D_m\|\|D_{m-1}A_{m-1,l}\|\|\bar h_l\|`, every factor
    bounded by the weight norms and by
    the suprema :math:`c_1,c_2` of each layer's own activation. Theorems 7 and 8 turn them into bounds of both covariances.

    Parameters
    ----------
    %(model)s
    %(x)s
    %(n_draws)s
    per_input : bool, default False
        Return the norms and bounds of each input instead of their means over inputs.
    form : {"corrected", "printed"}, default "corrected"
        "printed" gives the bounds of the first derivatives as published, with the empty product 1 in the last layer, which is
        incorrect for several outputs, and :math:`|\sigma'|\le1` by hypothesis, without which they do not hold: ratios below 1
        occur.
    covariance : bool, default True
        Also return the norms of the covariances and their bounds.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``first_exact, first_upper, first_ratio ([input,] norm, layer)``, ``second_exact, second_upper, second_ratio ([input,]
        norm, layer, layer2)``, norm = frobenius, spectral; ``tensor_upper ([input,] layer, layer2)``, the bound of the block's
        norm as a tensor, over unit vectors. With `covariance` the chain ``covariance_from_weights`` >=
        ``covariance_from_derivatives`` >= ``covariance_upper`` >= ``covariance_exact`` and ``covariance_ratio``, first over last,
        ([input,] estimator, norm). ``first_gradient``, ``second_gradient`` and ``covariance_gradient`` add ``weight_layer``: the
        derivatives of ``first_upper``, ``second_upper`` and ``covariance_from_weights`` by that layer's weight norm. ratio is
        upper / exact, 1 where both are 0, inf where only exact is. With form="printed" there are the first derivatives alone.
        Units of 1, source keys ``weight-norm-bounds``, ``weight-norm-bounds-printed``, ``covariance-bounds``,
        ``covariance-norms``.

    Raises
    ------
    %(refused)s
    AssumptionError
        If a pre-activation is exactly on a kink and `on_kink` is "raise" (form="corrected").
    SizeError
        If the second derivatives of one input, or the intermediate arrays of the covariance norms, do not fit in memory.

    Notes
    -----
    The coordinate ``norm`` goes through the chain: Frobenius norms of the weights bound those of the derivatives, and these with
    Theorems 7 and 8 those of the covariances; largest singular values of the weights bound those of the derivatives *as matrices
    with the outputs for rows*, T x P_l and T x (P_l P_m), and these :math:`s_{max}(J)^4\lambda_{max}(M)` and
    :math:`s_{max}(\mathrm{mat}_1H)^2\lambda_{max}(I)`. In that matrix the second term of a block has the Frobenius norm of its
    last factor, :math:`\sqrt{\min(n_{l+1},\dots,n_m)}` times the spectral one at most; ``tensor_upper`` has the spectral one
    itself. Derivatives are those of the natural parameters: a link counts as one more activation, with its own largest slope and
    bend at each input. The norms of the layer inputs are evaluated exactly, and held fixed in the gradients; an elasticity is
    gradient * norm / bound. An activation's suprema are certified, or declared with it.

    Cost: the second derivatives of every output per unit pair, T n_{l+1} n_{m+1} numbers per pair of layers and input, with
    T x T Gram matrices; and that of `covariance_bounds`, which grows with T^6 and is skipped with covariance=False.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[0.5, 0.0]], [[2.0, 0.0]]], activation="tanh", family=fs.families.Gaussian())
    >>> bounds = fs.derivative_bounds(model, np.array([[0.0]]))
    >>> bounds.first_exact.sel(norm="spectral").values, bounds.first_upper.sel(norm="spectral").values.round(9)
    (array([2., 1.]), array([2., 1.]))
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, in_double=True)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.boolean("per_input", per_input)
    arguments.choice("form", form, ("corrected", "printed"))
    arguments.boolean("covariance", covariance)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    if form == "printed":
        return (yield from _printed(call, per_input, call.provenance(form=form)))
    rows = _block_rows(call, covariance)
    names = [*_DERIVATIVES, *(_COVARIANCES if covariance else ())]
    provenance = call.provenance(n_draws=n_draws, form=form, covariance=covariance, on_kink=on_kink)
    layout = _laid_out(call, names, per_input, provenance)
    yield (layout := layout.followed_by(*(covariance_passes(call, per_input) if covariance else ())))
    found = yield from _derivatives(call, rows, per_input, covariance, n_draws, on_kink)
    if covariance:
        known: dict[str, Any] = {"n_draws": n_draws, "per_input": per_input, "on_kink": on_kink}
        known |= {"engine": engine, "num_threads": num_threads, "progress": progress}
        beneath = (yield from steps_of(covariance_bounds, model, x, **known)).sel(norm=list(_NORMS))
        found |= _chained(found, beneath.exact.to_numpy(), beneath.upper.to_numpy())
    return layout, _in_order(call, names, found)


_FIRST = ("first_exact", "first_upper", "first_ratio")
_DERIVATIVES = (
    *_FIRST,
    "first_gradient",
    "second_exact",
    "second_upper",
    "second_ratio",
    "second_gradient",
    "tensor_upper",
)
_COVARIANCES = (
    "covariance_exact",
    "covariance_upper",
    "covariance_from_derivatives",
    "covariance_from_weights",
    "covariance_ratio",
    "covariance_gradient",
)


def _suprema(model: MLP, forward: Forward | None = None) -> Suprema:
    """Return the suprema of the activations, and with a forward pass the derivatives of the link at its inputs."""
    link = None
    if forward is not None and forward.link_slope is not None and forward.link_bend is not None:
        link = forward.link_slope, forward.link_bend
    first, second = ([getattr(one, name) for one in model.activations] for name in ("sup_first", "sup_second"))
    return Suprema.of(first, second, model.widths[-1], link)


def _block_rows(call: Call, covariance: bool) -> int:
    """Return the inputs per block; its arrays must fit in memory."""
    widths, outputs = call.model.widths, call.model.widths[-1]
    pairs = sum(left * right for at, left in enumerate(widths[1:]) for right in widths[1 + at :])
    rank = outputs * (outputs + 1) // 2
    numbers = (outputs + 1) * pairs + (rank + 1) * outputs**2 * covariance
    rows = max(1, min(_BLOCK_ROWS, _BLOCK_NUMBERS // numbers))
    remedy = "use covariance=False or fewer outputs." if covariance else "use fewer outputs."
    call.fits("`derivative_bounds`", rows * numbers, 3, remedy)
    return rows


def _derivatives(call: Call, rows: int, per_input: bool, covariance: bool, n_draws: int, on_kink: str) -> Steps[dict[str, Array]]:
    """Return norms of the derivatives, their bounds, and with `covariance` the implied bounds (before chaining)."""
    kernel_norms = closed.kernel_norms(call.model.kernels)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order=2)
        call.network.refuse_kinks(forward, on_kink, first_input)
        G = call.network.jacobians(forward, differences=False)
        n = len(x)
        hessian = call.network.hessian_blocks(forward, G)
        first = np.stack([closed.derivative_norms(one) for one in tensor_norms.own_layer_products(G, forward.inputs)], axis=2)
        products = tensor_norms.own_pair_products(hessian, forward.inputs)
        second = np.zeros_like(x, dtype=np.float64, shape=(n, 2, len(G), len(G)))
        for (left, right), product in products.items():
            second[:, :, left, right] = second[:, :, right, left] = closed.derivative_norms(product)
        bounds = closed.weight_bounds(_suprema(call.model, forward), call.model.widths, kernel_norms, forward.inputs)
        arrays = [
            first,
            _upper(bounds.first),
            bounds.first_gradient,
            second,
            _upper(bounds.second[:, :2]),
            bounds.second_gradient[:, :2],
            _upper(bounds.second[:, 2]),
        ]
        if covariance:
            K, size = tensor_bounds.own_jacobian_products(G, forward.inputs)
            K = K * size[:, None, None]
            Q = tensor_bounds.summed_pairs(products)
            response = np.stack([tensor_bounds.score_response(law), tensor_bounds.hessian_response(law)], axis=1)
            J, J_gradient, H, H_gradient = bounds.squares()
            own = [np.square(closed.derivative_norms(one)) for one in (K, Q)]
            room = 1 + SENSITIVITY * forward_rounding(call.model, forward)[:, None, None]
            arrays += [
                tensor_bounds.implied_norm_bounds(response, *own) * room,
                tensor_bounds.implied_norm_bounds(response, J, H) * room,
                np.stack([2 * J[..., None] * J_gradient, H_gradient], axis=1) * response[:, :, :2, None],
            ]
        return arrays if per_input else [array.sum(axis=0, dtype=np.float64) for array in arrays]

    results = yield from call.stack(block, rows, True) if per_input else call.mean(block, rows, infinite=True)
    names = ["first_exact", "first_upper", "first_gradient", "second_exact", "second_upper", "second_gradient", "tensor_upper"]
    names += ["covariance_from_derivatives", "covariance_from_weights", "covariance_gradient"] if covariance else []
    found = dict(zip(names, results, strict=True))
    divisor = n_draws * (1 if per_input else call.n_inputs)
    for name in names[7:]:
        found[name] = found[name] / divisor
    return _rounded(call, found, per_input)


def _upper(bounds: Array) -> Array:
    """Return bounds with a rounding margin for the products and sums in them, and for those in the exact values."""
    return margins.above(bounds, 2 * margins.ROUNDING)


def _rounded(call: Call, found: dict[str, Array], per_input: bool) -> dict[str, Array]:
    """Return all numbers in the precision of the call, bounds outwards of their means over inputs; and the ratios."""
    names = [name for name in found if name.endswith("upper") or "_from_" in name]
    for name in names:
        found[name] = margins.outwards(margins.above(found[name], call.terms(per_input)), call.dtype, "upper")
    rounded = {name: margins.nearest(array, call.dtype) for name, array in found.items()}
    for part in ("first", "second"):
        rounded[f"{part}_ratio"] = tensor_bounds.tightness(rounded[f"{part}_exact"], rounded[f"{part}_upper"])
    return rounded


def _chained(found: dict[str, Array], exact: Array, upper: Array) -> dict[str, Array]:
    """Return the chain of bounds of the covariances from its exact end; equal links must not be reordered by rounding."""
    chain = {"covariance_exact": exact, "covariance_upper": upper}
    for name in ("covariance_from_derivatives", "covariance_from_weights"):
        beneath, bound = list(chain.values())[-1], found[name]
        close = 1024 * np.finfo(bound.dtype).eps * beneath
        chain[name] = np.where((bound < beneath) & (beneath - bound <= close), beneath, bound)
    chain["covariance_ratio"] = tensor_bounds.tightness(exact, chain["covariance_from_weights"])
    return chain


def _printed(call: Call, per_input: bool, provenance: dict[str, Any]) -> Computation[xr.Dataset]:
    """Return the norms of the first derivatives and their bounds as printed."""
    kernel_norms = closed.kernel_norms(call.model.kernels)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, _ = call.network.forward(x, first_input)
        products = tensor_norms.own_layer_products(call.network.jacobians(forward, differences=False), forward.inputs)
        exact = np.stack([closed.derivative_norms(one) for one in products], axis=2)
        arrays = [exact, closed.printed_first_bounds(kernel_norms[:2], forward.inputs)]
        return arrays if per_input else [array.sum(axis=0) for array in arrays]

    yield (layout := _laid_out(call, _FIRST, per_input, provenance, "_printed"))
    exact, upper = yield from call.over_inputs(block, call.block_rows(), per_input, infinite=True)
    found = {"first_exact": exact, "first_upper": upper, "first_ratio": tensor_bounds.tightness(exact, upper)}
    return layout, _in_order(call, _FIRST, found)


def _laid_out(
    call: Call, names: Sequence[str], per_input: bool, provenance: dict[str, Any], suffix: str = ""
) -> Layout[xr.Dataset]:
    n_layers = call.model.n_layers
    coords = _labels.layer_coordinates(n_layers) | _labels.coordinates(norm=list(_NORMS))
    if not suffix:
        coords |= _labels.coordinates(layer2=n_layers, weight_layer=n_layers)
    if "covariance_exact" in names:
        coords |= _labels.coordinates(estimator=list(ESTIMATORS))
    coords |= call.input_coordinate() if per_input else {}
    return _layout.dataset([f"derivatives_{name}{suffix}" for name in names], coords, provenance, call.dtype)


def _in_order(call: Call, names: Sequence[str], found: Mapping[str, Array]) -> list[Array]:
    return [np.asarray(found[name], call.dtype) for name in names]
