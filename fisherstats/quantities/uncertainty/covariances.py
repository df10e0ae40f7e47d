"""The covariance tensors of the estimators: dense for small networks, their norms and contractions for any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from fisherstats.core.arrays import double
from fisherstats.core.docstrings import documented
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, capacity
from fisherstats.execution import Steps
from fisherstats.models import derivatives
from fisherstats.models.derivatives import Forward, HessianBlocks
from fisherstats.models.families import Law
from fisherstats.models.families.extremes import quartic_root
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._alignment import parameter_vector, symmetric_matrix
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import assembly, covariance_tensors, tensor_norms

__all__ = ["HESSIAN_ROWS", "covariance_norms", "covariance_product", "estimator_covariance", "functional_variance"]

Array = NDArray[np.floating]

HESSIAN_ROWS = 16
"""Inputs in a block with the Hessian of every output."""

NORMS = ("frobenius", "spectral", "trace")


@documented
@streamed()
def estimator_covariance(
    model: MLP,
    x: Any,
    *,
    estimator: str,
    n_draws: int = 1,
    max_bytes: int = 2**31,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    r"""P^4 covariance tensor of an estimator for the given inputs (2021, Theorems 4 and 6).

    :math:`\frac1{n^2N}\sum_iJ_{ai}J_{bj}J_{ck}J_{dl}M_{abcd}` for the score, :math:`\frac1{n^2N}\sum_iH^a_{ij}H^b_{kl}I_{ab}`
    for the Hessian estimator, :math:`-\frac1{n^2N}\sum_iJ_{ai}J_{bj}H^c_{kl}\kappa_{abc}` for their covariance from the same
    labels.

    Parameters
    ----------
    %(model)s
    %(x)s
    estimator : {"score", "hessian", "cross"}
        Estimator whose covariance is returned; for "cross" the first pair of dims belongs to the score estimator.
    %(n_draws)s
    max_bytes : int, default 2**31
        Largest tensor that is built.
    on_kink : {"raise", "ignore"}, default "raise"
        Behaviour if a pre-activation is exactly on a kink (ignored for "score").
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray, dims (param, param2, param3, param4)
        Units of 1, source keys ``covariance-score``, ``covariance-hessian``, ``covariance-cross``.

    Raises
    ------
    %(refused)s
    %(kink)s
    SizeError
        If 8 P^4 bytes exceed `max_bytes`.

    Notes
    -----
    Symmetric in (i, j), in (k, l) and, but for "cross", in the two pairs; matricised it is positive semi-definite. Cost P^4 times
    the rank (at most n T (T + 1) / 2).

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> fs.estimator_covariance(model, np.array([[1.0]]), estimator="score").values.ravel()[:3]
    array([2., 2., 2.])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    arguments.choice("estimator", estimator, ("score", "hessian", "cross"))
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    n_params = model.n_params
    capacity.within("`estimator_covariance`", 8 * n_params**4, arguments.positive_integer("max_bytes", max_bytes))
    slices = call.model.layer_slices()

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law, G, hessian = _second_order(call, x, first_input, on_kink, estimator != "score")
        jacobian = covariance_tensors.dense_jacobian(G, forward.inputs)
        hessians = None if hessian is None else covariance_tensors.dense_hessians(hessian, forward.inputs, slices)
        return [double(covariance_tensors.covariance_sum(law, jacobian, hessians, estimator))]

    coords: dict[str, Any] = {}
    for dim in ("param", "param2", "param3", "param4"):
        coords |= _labels.param_coordinates(model, dim)
    provenance = call.provenance(n_draws=n_draws, estimator=estimator)
    yield (layout := _layout.array(f"covariance_{estimator}", coords, provenance, call.rows.dtype))
    (mean,) = yield from call.mean(block, HESSIAN_ROWS)
    return layout, [(mean / (call.n_inputs * n_draws)).reshape((n_params,) * 4).astype(call.rows.dtype, copy=False)]


@documented
@streamed()
def covariance_norms(
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
    r"""Exact norms of the P^4 covariance tensors for any P, by Gram matrices of the size of the outputs.

    Of the matricised covariance of the mean over the given inputs: the Frobenius norm, the spectral norm (largest eigenvalue)
    and the trace (the sum of the variances of *all* entries). With :math:`K_{ij}=J_iJ_j^\top` and :math:`Q_{ij}^{ab}=\langle
    H^a(x_i),H^b(x_j)\rangle` the first is
    :math:`\|\mathrm{Cov}_1\|_F^2=n^{-4}N^{-2}\sum_{ij}\mathrm{tr}(M_iG_{ij}M_jG_{ij}^\top)`, :math:`G_{ij}=K_{ij}\otimes K_{ij}`.

    Parameters
    ----------
    %(model)s
    %(x)s
    %(n_draws)s
    per_input : bool, default False
        Return the norms of the covariance of each input (without the tensor spectral norm) instead of those of the mean.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``exact ([input,] estimator, norm)``; ``tensor_spectral_lower, tensor_spectral_upper (estimator)``: the interval of
        :math:`\max|\mathrm{Cov}(\alpha,\beta,\gamma,\delta)|` over unit vectors, between the value attained by an alternating
        power method and the matricised spectral norm. Units of 1, source keys ``covariance-norms``, ``tensor-spectral``.

    Raises
    ------
    %(refused)s
    %(kink)s
    SizeError
        If the Gram matrices or their intermediate arrays do not fit in memory.

    Notes
    -----
    Cost: n^2 T^2 numbers per layer, n^2 T products of pairs of layers; no array of size P^2. The norm of the mean covariance is
    not the mean of the norms, so all pairs of inputs enter.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> fs.covariance_norms(model, np.array([[1.0]])).exact.sel(estimator="score").values
    array([8., 8., 8.])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.boolean("per_input", per_input)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    coords = _labels.coordinates(estimator=list(ESTIMATORS), norm=list(NORMS))
    if per_input:
        coords |= call.input_coordinate()
    keys = ["norm_exact"] if per_input else ["norm_exact", "tensor_spectral_lower", "tensor_spectral_upper"]
    yield (layout := _layout.dataset(keys, coords, call.provenance(n_draws=n_draws, on_kink=on_kink), np.float64))
    summary = yield from _Summary.of(call, on_kink)
    grams = {"score": summary.score_gram(), "hessian": summary.hessian_gram()}
    if per_input:
        return layout, [np.stack([tensor_norms.Gram.each(grams[one]) for one in ESTIMATORS], axis=1) / n_draws]
    scale = n_draws * call.n_inputs**2
    exact = np.array([[gram.frobenius(), gram.spectral(), gram.trace()] for gram in grams.values()]) / scale
    attained = np.array([summary.score_attained(grams["score"]), summary.hessian_attained(grams["hessian"])]) / scale
    return layout, [exact, np.minimum(attained, exact[:, 1]), exact[:, 1]]


@documented
@streamed()
def covariance_product(
    model: MLP,
    x: Any,
    matrix: ArrayLike,
    *,
    estimator: str,
    n_draws: int = 1,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    r"""Product :math:`(\mathrm{Cov}:X)_{ij}=\sum_{kl}\mathrm{Cov}_{ijkl}X_{kl}` for a symmetric X, without the P^4 tensor.

    It is the covariance of every entry of the estimate with the linear functional tr(X I-hat). Per input
    :math:`J^\top(M:JXJ^\top)J` for the score and :math:`\sum_{ab}H^aI_{ab}\mathrm{tr}(H^bX)` for the Hessian estimator (2021,
    Theorems 4 and 6).

    Parameters
    ----------
    %(model)s
    %(x)s
    matrix : array_like, shape (P, P)
        Symmetric X.
    estimator : {"score", "hessian"}
        Estimator whose covariance is used.
    %(n_draws)s
    on_kink : {"raise", "ignore"}, default "raise"
        Behaviour if a pre-activation is exactly on a kink (ignored for "score").
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray, dims (param, param2)
        Units of 1, source keys ``covariance-score`` and ``covariance-hessian``.

    Raises
    ------
    %(refused)s
    %(kink)s
    SizeError
        If a (P, P) matrix would not fit in memory.

    Notes
    -----
    Cost: that of the full view of the estimate, plus P^2 operations per input.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> fs.covariance_product(model, np.array([[1.0]]), np.eye(2), estimator="score").values
    array([[4., 4.],
           [4., 4.]])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    arguments.choice("estimator", estimator, ESTIMATORS)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    n_params = model.n_params
    call.fits("`covariance_product`", n_params**2, 3, "use functional_variance for a single functional.")
    X = symmetric_matrix("matrix", matrix, model).astype(call.rows.dtype, copy=False)
    slices = call.model.layer_slices()

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law, G, hessian = _second_order(call, x, first_input, on_kink, estimator == "hessian")
        if hessian is None:
            middle = covariance_tensors.middle_product(law, covariance_tensors.projected_matrix(G, forward.inputs, X, slices))
            blocks = {
                (left, right): assembly.pair_sum(
                    np.matmul(np.matmul(G[left].swapaxes(1, 2), middle), G[right]), forward.inputs[left], forward.inputs[right]
                )
                for left in range(len(G))
                for right in range(left, len(G))
            }
            return [assembly.full_matrix(blocks, slices)]
        weights = law.product(covariance_tensors.contracted_hessian(hessian, forward.inputs, X, slices)[:, :, None])[:, :, 0]
        moved = call.network.hessian_blocks(forward, G, weights[:, None, :])
        return [covariance_tensors.dense_hessians(moved, forward.inputs, slices)[:, 0].sum(axis=0, dtype=np.float64)]

    coords = _labels.param_coordinates(model) | _labels.param_coordinates(model, "param2")
    provenance = call.provenance(n_draws=n_draws, estimator=estimator)
    yield (layout := _layout.array(f"covariance_{estimator}", coords, provenance, call.rows.dtype))
    (mean,) = yield from call.mean(block, HESSIAN_ROWS)
    return layout, [(mean / (call.n_inputs * n_draws)).astype(call.rows.dtype, copy=False)]


@documented
@streamed()
def functional_variance(
    model: MLP,
    x: Any,
    *,
    vector: ArrayLike | None = None,
    matrix: ArrayLike | None = None,
    n_draws: int = 1,
    per_input: bool = False,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Variance of :math:`v^\top\hat Iv` or of :math:`\mathrm{tr}(X\hat I)` for both estimators, for any P.

    Per input and label :math:`\mathrm{Var}(r^\top Ar)` with :math:`A=JXJ^\top` for the score and
    :math:`\mathrm{Var}(r\cdot s)` with :math:`s_a=\mathrm{tr}(XH^a)` for the Hessian estimator (2021, Theorems 4 and 6);
    :math:`X=vv^\top` for a vector.

    Parameters
    ----------
    %(model)s
    %(x)s
    vector : array_like, shape (P,), optional
        Direction v.
    matrix : array_like, shape (P, P), optional
        Symmetric X; exactly one of the two is given.
    %(n_draws)s
    per_input : bool, default False
        Return the variance of each input instead of that of the mean.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``variance ([input,] estimator)``, ``cross_covariance ([input])`` and ``information ([input])``, the exact value of the
        functional. Units of 1, source key ``group-variance``.

    Raises
    ------
    %(refused)s
    %(kink)s

    Notes
    -----
    Cost for a vector: one forward pass with two derivatives along v, no array of size P^2.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> fs.functional_variance(model, np.array([[2.0]]), vector=[1.0, 0.0]).variance.values
    array([32.,  0.])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.boolean("per_input", per_input)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    arguments.exactly_one(vector=vector, matrix=matrix)
    dtype, slices = call.rows.dtype, call.model.layer_slices()
    v, X = None, None
    if vector is not None:
        v = parameter_vector("vector", vector, model).astype(dtype)
    else:
        X = symmetric_matrix("matrix", matrix, model).astype(dtype)

    def moments(x: Array, first_input: int) -> list[Array]:
        forward, law, G, hessian = _second_order(call, x, first_input, on_kink, True, with_blocks=v is None)
        if v is not None:
            u = derivatives.push_forward(call.model, forward, v)[:, :, None]
            s = derivatives.second_directional(call.model, forward, v)[:, :, None]
            columns = [law.diagonal(u), law.square_variance(u), law.diagonal(s), 0.0 - law.third_moment(u, s)]
            return [column[:, 0] for column in columns]
        assert X is not None
        assert hessian is not None
        form = covariance_tensors.projected_matrix(G, forward.inputs, X, slices)
        linear = covariance_tensors.contracted_hessian(hessian, forward.inputs, X, slices)
        return [
            law.quadratic_mean(form),
            law.quadratic_variance(form),
            law.diagonal(linear[:, :, None])[:, 0],
            0.0 - law.quadratic_third_moment(form, linear),
        ]

    coords = _labels.coordinates(estimator=list(ESTIMATORS)) | (call.input_coordinate() if per_input else {})
    keys = ["variance_functional", "cross_covariance_functional", "information_functional"]
    yield (layout := _layout.dataset(keys, coords, call.provenance(n_draws=n_draws, on_kink=on_kink), dtype))
    information, score, curved, cross = yield from call.stack(moments, call.block_rows(second_order=True))
    if not per_input:
        scale = n_draws * call.n_inputs**2
        information = information.mean(dtype=np.float64)
        score, curved, cross = (one.sum(dtype=np.float64) / scale for one in (score, curved, cross))
    else:
        score, curved, cross = score / n_draws, curved / n_draws, cross / n_draws
    variances = np.stack([score, curved], axis=-1).astype(dtype)
    return layout, [variances, np.asarray(cross, dtype), np.asarray(information, dtype)]


def _second_order(
    call: Call, x: Array, first_input: int, on_kink: str, with_hessian: bool, with_blocks: bool = True
) -> tuple[Forward, Law, list[Array], HessianBlocks | None]:
    """Return forward pass and J of a block and, if requested, check for kinks and return the Hessian blocks of every output."""
    forward, law = call.network.forward(x, first_input, order=2 if with_hessian else 1)
    G = call.network.jacobians(forward, differences=False)
    if not with_hessian:
        return forward, law, G, None
    call.network.refuse_kinks(forward, on_kink, first_input)
    if not with_blocks:
        return forward, law, G, None
    return forward, law, G, call.network.hessian_blocks(forward, G)


class _Summary:
    """Inputs of the Gram matrices of all pairs of inputs, gathered block by block, in float64."""

    def __init__(self, parts: list[Array], call: Call) -> None:
        doubled: Iterator[Array] = iter([np.asarray(part, np.float64) for part in parts])
        n_layers = call.model.n_layers
        self.G = [next(doubled) for _ in range(n_layers)]
        self.inputs = [next(doubled) for _ in range(n_layers)]
        self.quartic, self.root = next(doubled), next(doubled)
        score = [next(doubled) for _ in range(n_layers)]
        units = {key: next(doubled) for key in assembly.layer_pairs(n_layers)}
        pairs = {key: value if value.size else None for key, value in units.items()}
        reach = {key: next(doubled) for key in units if key[0] < key[1]}
        self.hessian = HessianBlocks(pairs, score, reach)
        self.products = tensor_norms.jacobian_products(self.G, self.inputs)

    @classmethod
    def of(cls, call: Call, on_kink: str) -> Steps[_Summary]:
        """Stream the inputs once and keep the arrays needed for every pair of them."""
        outputs, widths = call.model.widths[-1], call.model.widths[1:]
        pairs = sum(left * right for at, left in enumerate(widths) for right in widths[at:])
        rank = max(outputs * (outputs + 1) // 2, outputs)
        kept = outputs * (sum(call.model.widths) + pairs) + pairs + rank * outputs**2
        call.fits(
            "`covariance_norms`", call.n_inputs * kept + (call.n_inputs * rank) ** 2, 2, "use fewer inputs or per_input chunks."
        )
        keys = assembly.layer_pairs(call.model.n_layers)

        def block(x: Array, first_input: int) -> list[Array]:
            forward, law, G, hessian = _second_order(call, x, first_input, on_kink, True)
            assert hessian is not None
            # A block that is zero is represented by an empty array.
            units = [np.empty((len(x), 0)) if (own := hessian.pairs[key]) is None else own for key in keys]
            return [
                *G,
                *forward.inputs,
                quartic_root(law),
                covariance_tensors.information_root(law),
                *hessian.score,
                *units,
                *[hessian.reach[key] for key in keys if key[0] < key[1]],
            ]

        return cls((yield from call.stack(block, HESSIAN_ROWS)), call)

    def score_gram(self) -> tensor_norms.Gram:
        return tensor_norms.score_gram(self.quartic, self.products)

    def hessian_gram(self) -> tensor_norms.Gram:
        return tensor_norms.hessian_gram(self.root, tensor_norms.hessian_inner_products(self.hessian, self.inputs))

    def score_attained(self, gram: tensor_norms.Gram) -> float:
        return tensor_norms.score_tensor_attained(self.quartic, self.products, gram)

    def hessian_attained(self, gram: tensor_norms.Gram) -> float:
        return tensor_norms.hessian_tensor_attained(self.hessian, self.root, self.inputs, gram)
