"""Certified bounds of the covariance tensors: their norms, the traces of their diagonals, and single entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from fisherstats import execution
from fisherstats.core import margins
from fisherstats.core.arrays import double
from fisherstats.core.docstrings import documented
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, inputs
from fisherstats.core.validation import bounds as checks
from fisherstats.execution import PassShape, Steps
from fisherstats.models.derivatives import Forward, HessianBlocks
from fisherstats.models.families import Law
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._computation import Computation, steps_of
from fisherstats.quantities._layout import Layout
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.quantities.uncertainty.covariances import HESSIAN_ROWS, covariance_norms
from fisherstats.theory import entry_derivatives, estimator_moments, fisher, tensor_bounds
from fisherstats.theory.cancellation import fourth_rounding, uncancelled_variance
from fisherstats.theory.forward_rounding import SENSITIVITY, forward_rounding
from fisherstats.theory.tensor_bounds import COVARIANCE_FORMS, NORMS, PAIR_FORMS, TRACE_FORMS
from fisherstats.theory.variance_inequalities import Bounds

__all__ = ["covariance_bounds", "covariance_passes", "off_diagonal_bounds", "trace_bounds"]

Array = NDArray[np.floating]


@documented
@streamed()
def covariance_bounds(
    model: MLP,
    x: Any,
    *,
    n_draws: int = 1,
    per_input: bool = False,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Certified bounds of the norms of both covariance tensors, with the exact norms (2021, Theorems 7 and 8).

    :math:`\|\mathrm{Cov}(\hat I_1)\|_F\le\|J\|_F^4\|M\|_F/N` and :math:`\|\mathrm{Cov}(\hat I_2)\|_F\le\|H\|_F^2\|I(h)\|_F/N`,
    sharper forms of both, and bounds of the spectral norm and the trace. The tightest form is taken input by input; several
    inputs enter by the triangle inequality, :math:`\frac1{n^2}\sum_i`.

    Parameters
    ----------
    %(model)s
    %(x)s
    %(n_draws)s
    per_input : bool, default False
        Return the norms and bounds of each input instead of those of the mean over inputs.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``exact, upper, ratio ([input,] estimator, norm)`` of the matricised covariance, norm = frobenius, spectral, trace (the
        sum of the variances of all entries); ``upper_by_form ([input,] bound, estimator, norm)``, inf where a form gives
        no bound. ratio is upper / exact, 1 where both are 0, inf where only exact is. Units of 1, source keys
        ``covariance-norms``, ``covariance-bounds``.

    Raises
    ------
    %(refused)s
    %(kink)s
    SizeError
        If the intermediate arrays of the exact norms do not fit in memory.

    Notes
    -----
    Forms: ``theorem`` (as numbered), ``gram`` (:math:`\|JJ^\top\|_F^2\|M\|_F`, :math:`\|Q\|_F\|I\|_F` with
    :math:`Q_{ab}=\langle H^a,H^b\rangle`), ``derivative`` (:math:`s_{max}(J)^4` or :math:`s_{max}(\mathrm{mat}_1H)^2` times the
    same norm of M or I) and ``response`` (:math:`\lambda_{max}` of M or I times the norm of :math:`JJ^\top\otimes JJ^\top` on
    symmetric matrices, or of Q). No array of size P^2 is built. Cost of the bounds: that of the Hessian blocks per input; of the
    exact values: that of `covariance_norms`, or without any pairs of inputs if `per_input`.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0], [0.5, 0.0, 0.0]]], activation=[], family=fs.families.Gaussian(2))
    >>> bounds = fs.covariance_bounds(model, np.array([[1.0, 1.0]])).sel(estimator="score", norm="trace")
    >>> round(bounds.exact.item(), 6), round(bounds.upper.item(), 6)
    (54.0, 54.0)
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, in_double=True)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.boolean("per_input", per_input)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    widths, outputs = call.model.widths[1:], call.model.widths[-1]
    rank = outputs + 1 if call.model.family.labels_are_classes else outputs * (outputs + 1) // 2
    pairs = sum(left * right for at, left in enumerate(widths) for right in widths[at:])
    call.fits("`covariance_bounds`", HESSIAN_ROWS * (outputs * pairs + (rank + 1) * outputs**2), 3, "use fewer outputs.")

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law, G, hessian = _with_hessians(call, x, first_input, on_kink)
        K, size = tensor_bounds.own_jacobian_products(G, forward.inputs)
        Q = tensor_bounds.own_inner_products(hessian, forward.inputs)
        forms = np.stack([tensor_bounds.score_norm_bounds(law, K, size), tensor_bounds.hessian_norm_bounds(law, Q)], axis=2)
        forms = forms * (1 + SENSITIVITY * forward_rounding(call.model, forward))[:, None, None, None]
        if not per_input:
            return [array.sum(axis=0) for array in (forms, forms.min(axis=1))]
        exact = np.stack([tensor_bounds.score_norms(law, K, size), tensor_bounds.hessian_norms(law, Q)], axis=1)
        failed = ~(forms >= exact[:, None])
        return [forms, np.where(failed, np.inf, forms).min(axis=1), exact, failed.astype(np.float64)]

    coords = _labels.coordinates(estimator=list(ESTIMATORS), norm=list(NORMS), bound=list(COVARIANCE_FORMS))
    layout = _laid_out(call, "norm_bound", per_input, coords, call.provenance(n_draws=n_draws, on_kink=on_kink))
    yield (layout := layout.followed_by(*covariance_passes(call, per_input)[1:]))
    results = yield from _over_inputs(call, block, per_input, n_draws)
    if per_input:
        forms, upper, exact, failed = results
        failed = np.rint(failed * n_draws)
    else:
        forms, upper = (margins.above(one, call.terms(per_input)) for one in results)
        settings: dict[str, Any] = {"engine": engine, "num_threads": num_threads, "progress": progress}
        norms = yield from steps_of(covariance_norms, model.in_double(), x, n_draws=n_draws, on_kink=on_kink, **settings)
        exact = norms.exact.to_numpy().astype(np.float64)
        failed = (~(forms >= exact)).astype(np.float64)
        upper = np.where(failed.any(axis=0), np.where(failed == 0, forms, np.inf).min(axis=0), upper)
    checks.forms_hold("covariance_bounds", COVARIANCE_FORMS, failed.swapaxes(-2, -3))
    return layout, _rounded(call, exact, upper, forms, failed)


def covariance_passes(call: Call, per_input: bool) -> tuple[PassShape, ...]:
    """Return the shapes of the passes of `covariance_bounds`: its own, and for a mean over inputs that of the exact norms."""
    stacked = call.stack_shape(HESSIAN_ROWS)
    return (stacked,) if per_input else (call.mean_shape(HESSIAN_ROWS), stacked)


@documented
@streamed()
def trace_bounds(
    model: MLP,
    x: Any,
    *,
    n_draws: int = 1,
    per_input: bool = False,
    form: str = "corrected",
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Certified bounds of the trace of the information and of the summed variances, with exact values (2024, Corollary 4.6).

    :math:`\mathrm{tr}I\le\min\{s_{max}^2(J)\mathrm{tr}I(h),\|J\|_F^2\lambda_{max}(I)\}`;
    :math:`\sum_iV_1(\theta_i)\le\frac1N\min\{ s_{max}^2(\mathrm{vJac})\mathrm{tr}M,\sum_i\|\partial_ih\|^4\lambda_{max}(M)\}`;
    :math:`\sum_iV_2(\theta_i)\le\frac1N\min\{ s_{max}^2(\mathrm{dHes})\mathrm{tr}I(h),\|\mathrm{dHes}\|_F^2\lambda_{max}(I)\}`;
    and the full spectrum of Theorem D.1. The variances are those of the diagonal entries only.

    Parameters
    ----------
    %(model)s
    %(x)s
    %(n_draws)s
    per_input : bool, default False
        Return the traces and bounds of each input instead of those of the mean over inputs.
    form : {"corrected", "printed"}, default "corrected"
        "printed" gives Corollary 4.6 and Theorem D.1 as published. They are incorrect: ratios below 1 occur.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``exact, lower, upper, ratio ([input,] estimator)`` of the summed variances with ``lower_by_form, upper_by_form
        ([input,] bound, estimator)``, and the same names with ``information_`` before them for the trace of the information,
        without ``estimator``. A form that gives no bound is 0 below and inf above. Units of 1, source keys ``trace-bounds`` or
        ``trace-bounds-printed``, whose ``erratum`` attribute describes the error in the publication.

    Raises
    ------
    %(refused)s
    %(kink)s
    SizeError
        If M on symmetric matrices, T (T + 1) / 2 squared numbers per input, does not fit in memory.

    Notes
    -----
    Forms: ``derivative`` and ``response`` are the two terms of the minima (below, smallest for largest eigenvalues),
    ``spectrum`` is Theorem D.1, and ``svec`` its statement (23) without the zero eigenvalues on antisymmetric matrices, which
    make the lower bound trivial: for a Gaussian with equal variances both sides are equalities. vJac has one row vec(dh dh') per
    parameter; only its Gram matrix is built. Cost: that of `estimator_variance` and one eigenvalue problem of size T (T + 1) /
    2 per input.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[0.5, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> x = np.array([[3.0]])
    >>> bounds = fs.trace_bounds(model, x)
    >>> bounds.information_exact.item(), round(bounds.information_upper.item(), 9)
    (10.0, 10.0)
    >>> round(fs.trace_bounds(model, x, form="printed").information_upper.item(), 6)
    3.162278
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, in_double=True)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.boolean("per_input", per_input)
    arguments.choice("form", form, ("corrected", "printed"))
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    outputs = call.model.widths[-1]
    size = outputs * (outputs + 1) // 2
    call.fits("`trace_bounds`", execution.STREAM_ROWS * size**2, 4, "use fewer outputs.")

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order=2)
        call.network.refuse_kinks(forward, on_kink, first_input)
        G = call.network.jacobians(forward, differences=False)
        S = call.network.curvatures(forward, G)
        exact = [
            _summed(fisher.unit_factors(law, forward, G), forward.inputs, 2),
            _summed(estimator_moments.score_variance_factors(law, forward, G), forward.inputs, 4),
            _summed(estimator_moments.hessian_variance_factors(law, S), forward.inputs, 4),
        ]
        K, square = tensor_bounds.own_jacobian_products(G, forward.inputs)
        K = K * square[:, None, None]
        vectors = tensor_bounds.score_gram_svec(G, forward.inputs)
        curved = tensor_bounds.curvature_gram(S, forward.inputs, outputs)
        if form == "printed":
            bounds = tensor_bounds.printed_trace_bounds(law, exact, K, vectors, curved)
        else:
            rounding = _rounding(law, G, S, forward.inputs, exact, forward_rounding(call.model, forward))
            bounds = [
                tensor_bounds.information_trace_bounds(law, exact[0], K, rounding[0]),
                tensor_bounds.score_trace_bounds(law, exact[1], vectors, rounding[1]),
                tensor_bounds.information_trace_bounds(law, exact[2], curved, rounding[2]),
            ]
        arrays = _sides(bounds, TRACE_FORMS)
        return arrays if per_input else [array.sum(axis=0) for array in arrays]

    names = ["exact", "lower", "upper", "lower_by_form", "upper_by_form", "ratio"]
    entries: list[_layout.Entry] = [f"{what}_{form}_{name}" for name in names for what in ("trace", "information")]
    if form == "corrected":
        entries += [(f"{what}_{form}_failed", np.int64) for what in ("trace", "information")]
    coords = _labels.coordinates(estimator=list(ESTIMATORS), bound=list(TRACE_FORMS))
    if per_input:
        coords |= call.input_coordinate()
    provenance = call.provenance(n_draws=n_draws, on_kink=on_kink, form=form)
    yield (layout := _layout.dataset(entries, coords, provenance, call.dtype))
    rows = min(call.block_rows(second_order=True), execution.block_rows(size**2))
    # The trace of the information is a mean over inputs; the variances of that mean are divided by n and N once more.
    divisors = np.array([1.0, *[n_draws * (1 if per_input else call.n_inputs)] * 2])
    *results, failed = yield from call.over_inputs(block, rows, per_input, infinite=True)
    failed = np.rint(failed * (1 if per_input else call.n_inputs))
    values = dict(zip(names[:-1], results, strict=True))
    values = {name: _outwards(call, name, array / divisors, per_input) for name, array in values.items()}
    inputs.finite_results([values["exact"], values["upper"]], call.dtype)
    values["ratio"] = margins.nearest(tensor_bounds.tightness(values["exact"], values["upper"]), call.dtype)
    if form == "corrected":
        checks.forms_hold("trace_bounds", TRACE_FORMS, failed)
        values["failed"] = failed.astype(np.int64)
    return layout, [part for array in values.values() for part in (array[..., 1:], array[..., 0])]


@documented
@streamed()
def off_diagonal_bounds(
    model: MLP,
    x: Any,
    *,
    pairs: ArrayLike,
    n_draws: int = 1,
    per_input: bool = False,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Certified bounds of the variances of selected entries (i, j) of both estimators, with the exact ones (2024, Theorem C.1).

    :math:`\mathrm{Var}(\hat I_{1,ij})=M(\partial_ih,\partial_jh,\partial_ih,\partial_jh)/N\le\|\partial_ih\|^2\|\partial_jh\|^2
    \tilde\gamma_{max}(M)/N` and :math:`\mathrm{Var}(\hat I_{2,ij})=\partial^2_{ij}h^\top I(h)\,\partial^2_{ij}h/N\le
    \|\partial^2_{ij}h\|^2s_{max}(I)/N`, with the certified largest eigenvalue of M on symmetric matrices for
    :math:`\tilde\gamma_{max}=\sup M(u,v,u,v)` over unit vectors.

    Parameters
    ----------
    %(model)s
    %(x)s
    pairs : array_like of int, shape (k, 2)
        Rows and columns of the entries, as indices in the flat parameter vector; an entry may be on the diagonal.
    %(n_draws)s
    per_input : bool, default False
        Return the variances and bounds of each input instead of those of the mean over inputs.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``exact, upper, ratio ([input,] estimator, pair)`` and ``upper_by_form ([input,] bound, estimator, pair)``, inf where a
        form gives no bound; the coordinates ``param`` and ``param2`` of ``pair`` (with their layers and units) identify the
        entry. Lower bounds are trivial. Units of 1, source keys ``estimator-variance``, ``off-diagonal-bounds``.

    Raises
    ------
    %(refused)s
    %(kink)s
    SizeError
        If the result would not fit in memory.

    Notes
    -----
    Forms: ``theorem``; ``symmetric``, :math:`(\|u\|^2\|v\|^2+(u^\top v)^2)/2` in place of :math:`\|u\|^2\|v\|^2`, as only the
    symmetric part of :math:`uv^\top` enters; ``moments``, Cauchy-Schwarz on the fourth moments of :math:`\partial_ih^\top r`
    and :math:`\partial_jh^\top r`. Cost: the Hessian blocks per input, and T^2 per pair.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> bounds = fs.off_diagonal_bounds(model, np.array([[2.0, 3.0]]), pairs=[(0, 1)])
    >>> bounds.exact.sel(estimator="score").values, bounds.upper.sel(estimator="score").values.round(9)
    (array([72.]), array([72.]))
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, in_double=True)
    chosen = checks.parameter_pairs(pairs, model.n_params)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.boolean("per_input", per_input)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    numbers = len(chosen) * (call.n_present * 10 * per_input + HESSIAN_ROWS * call.model.widths[-1] * 3)
    call.fits("`pairs`", numbers, 1, "use fewer pairs.")
    shapes = [(matrix.shape[0], matrix.shape[1]) for matrix in call.model.weights]
    rows, columns = (entry_derivatives.Places.of(chosen[:, side], shapes) for side in (0, 1))

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law, G, hessian = _with_hessians(call, x, first_input, on_kink)
        u, v = (entry_derivatives.jacobian_columns(G, forward.inputs, places) for places in (rows, columns))
        s = entry_derivatives.hessian_entries(hessian, forward.inputs, rows, columns)
        rounding = forward_rounding(call.model, forward)
        bounds = [tensor_bounds.score_entry_bounds(law, u, v, rounding), tensor_bounds.hessian_entry_bounds(law, s, rounding)]
        # (n, pair, estimator) and (n, bound, pair, estimator) on return; estimators are moved before pairs.
        exact, _, upper, _, forms, failed = (array.swapaxes(-1, -2) for array in _sides(bounds, PAIR_FORMS))
        arrays = [exact, upper, forms, failed]
        return arrays if per_input else [array.sum(axis=0, dtype=np.float64) for array in arrays]

    coords = _labels.coordinates(estimator=list(ESTIMATORS), bound=list(PAIR_FORMS), pair=len(chosen))
    for dim, side in (("param", 0), ("param2", 1)):
        for name, (_, values, attrs) in _labels.param_coordinates(model, dim).items():
            coords[name] = ("pair", values[chosen[:, side]], attrs)
    yield (layout := _laid_out(call, "entry", per_input, coords, call.provenance(n_draws=n_draws, on_kink=on_kink)))
    exact, upper, forms, failed = yield from _over_inputs(call, block, per_input, n_draws)
    upper, forms = (margins.above(one, call.terms(per_input)) for one in (upper, forms))
    failed = np.rint(failed * n_draws * (1 if per_input else call.n_inputs**2))
    checks.forms_hold("off_diagonal_bounds", PAIR_FORMS, failed.swapaxes(-2, -3))
    return layout, _rounded(call, exact, upper, forms, failed)


def _with_hessians(call: Call, x: Array, first_input: int, on_kink: str) -> tuple[Forward, Law, list[Array], HessianBlocks]:
    """Return forward pass, response distribution, Jacobian and Hessian blocks of every output for a block."""
    forward, law = call.network.forward(x, first_input, order=2)
    call.network.refuse_kinks(forward, on_kink, first_input)
    G = call.network.jacobians(forward, differences=False)
    return forward, law, G, call.network.hessian_blocks(forward, G)


def _over_inputs(call: Call, block: execution.BlockFunction, per_input: bool, n_draws: int) -> Steps[list[Array]]:
    """Return single-label numbers under the design: per input divided by N, else (1/n^2) times their sum over inputs."""
    if per_input:
        return [array / n_draws for array in (yield from call.stack(block, HESSIAN_ROWS, infinite=True))]
    return [array / (n_draws * call.n_inputs) for array in (yield from call.mean(block, HESSIAN_ROWS, infinite=True))]


def _summed(factors: Sequence[Array | None], inputs: Sequence[Array], exponent: int) -> Array:
    """Return the sum over parameters of f_l[o] hbar_l[d]^exponent, (n,)."""
    total = np.zeros_like(inputs[0], dtype=np.float64, shape=len(inputs[0]))
    for factor, h_bar in zip(factors, inputs, strict=True):
        if factor is not None:
            total += factor.sum(axis=1, dtype=np.float64) * (double(h_bar) ** exponent).sum(axis=1)
    return total


def _rounding(
    law: Law,
    G: Sequence[Array],
    S: Sequence[Array | None],
    inputs: Sequence[Array],
    exact: Sequence[Array],
    of_outputs: Array,
) -> list[Array]:
    """Return the rounding of the traces of information, score and Hessian variances relative to them, (n,) each.

    A standard deviation has an error of a few eps times its value without cancellation.
    """
    few = (16 * margins.EPS + of_outputs)[:, None]

    def of_variance(u: Array) -> Array:
        off = few * np.sqrt(uncancelled_variance(law, u))
        return off * (2 * np.sqrt(law.diagonal(u)) + off)

    def of_square(u: Array) -> Array:
        off = fourth_rounding(law, few, u, u)
        return off * (2 * np.sqrt(law.square_variance(u)) + off)

    room = [
        _summed([of_variance(G_l) for G_l in G], inputs, 2),
        _summed([of_square(G_l) for G_l in G], inputs, 4),
        _summed([None if S_l is None else of_variance(S_l) for S_l in S], inputs, 4),
    ]
    found = [one / np.where(whole > 0, whole, 1) + SENSITIVITY * of_outputs for one, whole in zip(room, exact, strict=True)]
    return [np.minimum(one, 1) for one in found]


def _outwards(call: Call, name: str, values: Array, per_input: bool) -> Array:
    """Return values in the precision of the call: exact ones rounded to nearest, bounds outwards by the error of their sums."""
    side = name.partition("_")[0]
    if side not in ("lower", "upper"):
        return margins.nearest(values, call.dtype)
    end = margins.above if side == "upper" else margins.below
    return margins.outwards(end(values, call.terms(per_input)), call.dtype, side)


def _sides(bounds: Sequence[Bounds], forms: Sequence[str]) -> list[Array]:
    """Return exact, lower, upper, both by form, and which forms have failed, of several quantities on a last axis."""
    columns = []
    for one in bounds:
        nothing = np.full_like(one.exact, np.inf)
        lower = np.stack([one.lower.get(form, np.zeros_like(one.exact)) for form in forms], axis=1)
        upper = np.stack([one.upper.get(form, nothing) for form in forms], axis=1)
        # NaN is replaced by the trivial bound.
        lower, upper = np.where(np.isnan(lower), 0, lower), np.where(np.isnan(upper), np.inf, upper)
        never, found = np.zeros_like(one.exact, dtype=bool), one.failed()
        failed = np.stack([found.get(form, never) for form in forms], axis=1).astype(np.float64)
        columns.append([one.exact, *one.tightest(), lower, upper, failed])
    return [np.stack(column, axis=-1) for column in zip(*columns, strict=True)]


def _laid_out(call: Call, key: str, per_input: bool, coords: dict[str, Any], provenance: dict[str, Any]) -> Layout[xr.Dataset]:
    """Return the layout of one bounded quantity."""
    entries: list[_layout.Entry] = [f"{key}_{name}" for name in ("exact", "upper", "upper_by_form", "ratio")]
    coords = coords | (call.input_coordinate() if per_input else {})
    return _layout.dataset([*entries, (f"{key}_failed", np.int64)], coords, provenance, call.dtype)


def _rounded(call: Call, exact: Array, upper: Array, forms: Array, failed: Array) -> list[NDArray[Any]]:
    """Return its arrays in the precision of the call."""
    exact = margins.nearest(exact, call.dtype)
    upper, forms = (_outwards(call, "upper", one, True) for one in (upper, forms))
    inputs.finite_results([exact, upper], call.dtype)
    ratio = margins.nearest(tensor_bounds.tightness(exact, upper), call.dtype)
    return [exact, upper, forms, ratio, failed.astype(np.int64)]
