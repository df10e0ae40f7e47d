"""Asymptotic inference for maximum likelihood: covariance, bounds, and intervals of parameters and predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from fisherstats.applications.asymptotics import Asymptotics, Inference, double_call
from fisherstats.core.arrays import overflow_is_inf, power_of_two
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import applications as checks
from fisherstats.core.validation import arguments, networks, remedies
from fisherstats.execution import at_once, one_blas_thread
from fisherstats.models.columns import column_names
from fisherstats.models.families import Family
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout
from fisherstats.quantities._alignment import direction_rows
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._streams import streamed
from fisherstats.theory import covariance_tensors, maximum_likelihood

__all__ = ["asymptotic_covariance", "cramer_rao_bound", "parameter_intervals", "prediction_intervals"]

Array = NDArray[np.floating]


@documented
@streamed()
def asymptotic_covariance(
    model: MLP,
    x: Any,
    y: Any = None,
    *,
    hessian: str = "expected",
    robust: bool = False,
    dispersion: float | str | None = None,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Asymptotic covariance of the maximum likelihood estimate, :math:`\phi\,(nI(\theta))^+` or the sandwich.

    The sandwich is :math:`H^{-1}\bigl(\sum_is_is_i^\top\bigr)H^{-1}`, with the score :math:`s_i` at each data label; it is valid
    where the family is misspecified and the labels are independent. No matrix is inverted: W with covariance W W' comes from the
    QR factorisation of :math:`A=I^{1/2}J`, :math:`A^\top A=nI`, block by block, and the SVD of its triangle, columns scaled to
    one. The observed H of one layer has roots as well; with hidden layers it is A'A, in terms of that root, plus a
    label-dependent term.

    Parameters
    ----------
    model : MLP
        The network at the estimate.
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        Inputs that it was fitted to; from a dask array the result is lazy.
    y : array_like, shape (n,) or (n, T), optional
        Their labels; required for the quantities that depend on them.
    hessian : {"expected", "observed"}, default "expected"
        H: n I, or minus the Hessian of the log-likelihood at the labels. They agree for generalised linear models with the
        canonical link.
    robust : bool, default False
        Return the sandwich covariance (HC0); other packages use the observed H in it where the link is not canonical.
    dispersion : float or "pearson", optional
        Factor phi of the covariance; "pearson" is :math:`\sum_ir_i^\top I(h_i)^+r_i` over its degrees of freedom: the ranks of
        all I(h_i), minus that of the derivative of the components that can vary. By default, as for generalised linear models,
        "pearson" for a Gaussian with labels and 1 otherwise. The sandwich needs none.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``covariance (param, param2)``, the Moore-Penrose inverse where the information is singular; ``standard_error (param)``,
        infinite where ``estimable (param)`` is False; ``dispersion``, ``information_rank``, ``degrees_of_freedom``; and
        ``score_statistic``, :math:`s^\top\mathrm{Cov}\,s` of the sum s of the scores: 0 at a maximum, and nan without labels.
        Units of 1, source keys ``asymptotic-covariance`` and ``sandwich``.

    Raises
    ------
    %(refused)s
    AssumptionError
        If the observed information has a negative eigenvalue, or one whose sign rounding leaves undecided; or if there are no
        degrees of freedom left to estimate a dispersion.
    SizeError
        If matrices over the parameters would not fit in memory.

    Notes
    -----
    Always in float64. Cost: n T P^2 operations and P^2 numbers. Columns of x may have any units: scaling one by a power of two
    scales the results, and results outside the floating-point range raise an error. A parameter is estimable if its unit vector
    lies in the range of the information up to rounding; that of a softmax layer is singular, and so is that of a network with a
    dead unit.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[2.0, 1.0]]], activation=[], family=fs.families.Gaussian())
    >>> found = fs.applications.asymptotic_covariance(model, np.array([[-1.0], [0.0], [1.0]]))
    >>> found.covariance.values.round(4)
    array([[0.5   , 0.    ],
           [0.    , 0.3333]])
    """
    common = {"engine": engine, "num_threads": num_threads, "progress": progress}
    asked = Inference.of(model, x, y, hessian, robust, dispersion, **common)
    suffix = "_robust" if robust else ""
    coords = _labels.param_coordinates(model) | _labels.param_coordinates(model, "param2")
    keys: list[_layout.Entry] = [f"asymptotic_covariance{suffix}", f"asymptotic_error{suffix}", ("estimable", bool), "dispersion"]
    keys += [("information_rank", np.int64), ("degrees_of_freedom", np.int64), "score_statistic"]
    layout = _layout.dataset(keys, coords, asked.provenance, np.float64)
    yield (layout := layout.followed_by(*asked.later))
    found = yield from asked.steps()
    covariance = _covariance(found)
    estimable, error = found.inverse.own_errors()
    numbers = (found.dispersion, model.n_params - found.inverse.null.shape[1], found.degrees, found.score_statistic)
    return layout, [(covariance + covariance.T) / 2, error, estimable, *map(np.asarray, numbers)]


def _covariance(found: Asymptotics) -> Array:
    """Return the Moore-Penrose covariance; products are formed in rescaled parameters, so that the diagonal does not overflow."""
    root = maximum_likelihood.moore_penrose_root(found.inverse)
    unit = power_of_two(np.abs(root).max(axis=1, initial=0))
    scaled = root / unit[:, None]
    product = scaled @ scaled.T
    with np.errstate(over="ignore", under="ignore"):  # raises below, by value
        covariance: Array = (product + product.T) / 2 * unit[:, None] * unit
    checks.within_range("the variance", np.diag(covariance), np.diag(product) > 0, "parameter")
    return covariance


@documented
@streamed()
def cramer_rao_bound(
    model: MLP,
    x: Any,
    *,
    directions: ArrayLike | None = None,
    dispersion: float = 1.0,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    r"""Smallest variance of an unbiased estimate, :math:`v^\top(nI(\theta))^+v`, of each parameter or of linear functionals.

    Parameters
    ----------
    model : MLP
        The network at the true parameters.
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        Inputs, one label at each; from a dask array the result is lazy.
    directions : array_like, shape (k, P) or (P,), optional
        Gradients v of the estimated functionals; by default each parameter.
    dispersion : float, default 1.0
        Factor of the variance.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray, dims (param,) or (direction,)
        Variance, infinite where v is not in the range of the information: no unbiased estimate of finite variance exists. Units
        of 1, source key ``cramer-rao``.

    Raises
    ------
    %(refused)s
    SizeError
        If matrices over the parameters would not fit in memory.

    Notes
    -----
    Cost: that of `asymptotic_covariance`. A bound for the given inputs and any unbiased estimate, not only for large samples.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[2.0, 1.0]]], activation=[], family=fs.families.Gaussian())
    >>> x = np.array([[-1.0], [0.0], [1.0]])
    >>> fs.applications.cramer_rao_bound(model, x, directions=[[1.0, 0.0], [1.0, 1.0]]).values.round(4)
    array([0.5   , 0.8333])
    """
    factor = arguments.positive_number("dispersion", dispersion)
    common = {"engine": engine, "num_threads": num_threads, "progress": progress}
    asked = Inference.of(model, x, None, "expected", False, factor, **common)
    rows = None if directions is None else np.asarray(direction_rows(directions, model), np.float64)
    coords = _labels.param_coordinates(model) if rows is None else _labels.coordinates(direction=len(rows))
    yield (layout := _layout.array("cramer_rao", coords, asked.provenance, np.float64))
    inverse = (yield from asked.steps()).inverse
    found = inverse.own_errors() if rows is None else (inverse.estimable(rows), inverse.standard_errors(rows))
    return layout, [_squares(*found)]


def _squares(estimable: NDArray[np.bool_], error: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):  # raises below, by value
        bound: Array = np.square(error)
    checks.within_range("the bound", bound, estimable & (error > 0), "position")
    return bound


@documented
@streamed()
def parameter_intervals(
    model: MLP,
    x: Any,
    y: Any,
    *,
    level: float = 0.95,
    reference: str = "normal",
    hessian: str = "expected",
    robust: bool = False,
    dispersion: float | str | None = None,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Wald confidence intervals of the parameters, :math:`\hat\theta_i\pm z\,\mathrm{se}_i`.

    Parameters
    ----------
    model : MLP
        The network at the estimate.
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        Inputs that it was fitted to; from a dask array the result is lazy.
    y : array_like, shape (n,) or (n, T)
        Their labels.
    level : float, default 0.95
        Nominal coverage.
    reference : {"normal", "t"}, default "normal"
        Distribution of the quantile; t with the degrees of freedom of the residuals is exact for a linear Gaussian model.
    hessian, robust, dispersion : optional
        As for `asymptotic_covariance`.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset, dims (param,)
        ``estimate``, ``standard_error``, ``lower``, ``upper``; infinite where the parameter is not estimable. Units of 1, source
        key ``wald-interval``.

    Raises
    ------
    %(refused)s
    AssumptionError
        As for `asymptotic_covariance`.
    SizeError
        If matrices over the parameters would not fit in memory.

    Notes
    -----
    Cost: that of `asymptotic_covariance`. They are valid for many labels per parameter, at an identified maximum.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[2.0, 1.0]]], activation=[], family=fs.families.Gaussian())
    >>> x, y = np.array([[-1.0], [0.0], [1.0]]), [-1.5, 2.0, 2.5]
    >>> fs.applications.parameter_intervals(model, x, y).lower.values.round(3)
    array([ 0.303, -0.386])
    """
    networks.model_object(model, MLP)  # an estimate is needed, and not its derivatives alone
    checks.labels_needed("`parameter_intervals`", y)
    level, _ = _quantile_arguments(level, reference)
    common = {"engine": engine, "num_threads": num_threads, "progress": progress}
    asked = Inference.of(model, x, y, hessian, robust, dispersion, **common)
    keys = ["parameter_estimate", "asymptotic_error_robust" if robust else "asymptotic_error"]
    provenance = asked.provenance | {"level": level, "reference": reference}
    coords = _labels.param_coordinates(model)
    layout = _layout.dataset([*keys, "parameter_lower", "parameter_upper"], coords, provenance, np.float64)
    yield (layout := layout.followed_by(*asked.later))
    found = yield from asked.steps()
    estimate = np.concatenate([matrix.ravel() for matrix in model.weights]).astype(np.float64)
    error = found.inverse.own_errors()[1]
    margin = _quantile(level, reference, found.degrees) * error
    return layout, [estimate, error, estimate - margin, estimate + margin]


def _quantile_arguments(level: float, reference: str) -> tuple[float, str]:
    return arguments.level("level", level), arguments.choice("reference", reference, ("normal", "t"))


def _quantile(level: float, reference: str, degrees: int) -> float:
    if reference == "t":
        checks.residual_degrees(degrees, degrees, 0)
        return float(stats.t.ppf((1 + level) / 2, degrees))
    return float(stats.norm.ppf((1 + level) / 2))


@documented
@remedies.advising
@overflow_is_inf
@one_blas_thread
def prediction_intervals(
    model: MLP,
    x: Any,
    y: Any,
    at: Any,
    *,
    level: float = 0.95,
    reference: str = "normal",
    hessian: str = "expected",
    robust: bool = False,
    dispersion: float | str | None = None,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Confidence intervals of the network's output and of :math:`\mathrm E[t(y)]` at new inputs, by the delta method.

    :math:`\mathrm{Var}(z)=J_z\Sigma J_z^\top` for the output z and :math:`I(h)J_h\Sigma J_h^\top I(h)` for the mean, with the
    asymptotic covariance :math:`\Sigma` of the parameters. With one output the interval of the mean is the image of that of the
    output, with several outputs it is symmetric.

    Parameters
    ----------
    model : MLP
        The network at the estimate.
    x : array_like, DataArray (dims ``input``, ``feature``) or dask array, shape (n, n_features)
        Inputs that it was fitted to.
    y : array_like, shape (n,) or (n, T)
        Their labels.
    at : array_like, DataArray (dims ``input``, ``feature``) or dask array, shape (m, n_features)
        Inputs at which to predict.
    level : float, default 0.95
        Nominal coverage.
    reference : {"normal", "t"}, default "normal"
        Distribution of the quantile.
    hessian, robust, dispersion : optional
        As for `asymptotic_covariance`.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset, dims (input, output)
        ``predictor`` (z), ``predictor_standard_error``, ``predictor_lower``, ``predictor_upper``; and ``predicted_mean``,
        ``mean_standard_error``, ``mean_lower``, ``mean_upper``.
        Infinite where not estimable, and so is the end of a mean's interval outside the range of the family; a mean may be
        estimable where no output is (softmax). Units of 1, source key ``prediction-interval``.

    Raises
    ------
    %(refused)s
    AssumptionError
        As for `asymptotic_covariance`.
    SizeError
        If matrices over the parameters would not fit in memory.

    Notes
    -----
    Intervals of the mean response, not of a new label. Cost: that of `asymptotic_covariance`, and m T P^2 operations.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[2.0, 1.0]]], activation=[], family=fs.families.Gaussian())
    >>> x, y = np.array([[-1.0], [0.0], [1.0]]), [-1.5, 2.0, 2.5]
    >>> found = fs.applications.prediction_intervals(model, x, y, np.array([[0.0]]))
    >>> found.mean_lower.values.round(3), found.mean_upper.values.round(3)
    (array([[-0.386]]), array([[2.386]]))
    """
    checks.labels_needed("`prediction_intervals`", y)
    level, _ = _quantile_arguments(level, reference)
    common: dict[str, Any] = {"engine": engine, "num_threads": num_threads, "progress": progress}
    networks.model_object(model, MLP)
    if model.feature_names is None and (names := column_names(x)) is not None:
        model = model.named(names)  # columns of `at` are matched to those of x by name, not by position
    call = double_call(model, at, **common)
    asked = Inference.of(model, x, y, hessian, robust, dispersion, **common)
    found = at_once(asked.steps())
    quantile = _quantile(level, reference, found.degrees)
    link = model.family.link

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        J = covariance_tensors.dense_jacobian(call.network.jacobians(forward, differences=False), forward.inputs)
        z = forward.inputs[-1] @ call.model.weights[-1].T
        J_z = J if forward.link_slope is None else J / forward.link_slope[:, :, None]
        error, mean_error = found.inverse.standard_errors(J_z), found.inverse.standard_errors(law.product(J))
        lower, upper = z - quantile * error, z + quantile * error
        if z.shape[1] > 1:
            ends = [law.mean - quantile * mean_error, law.mean + quantile * mean_error]
        else:
            ends = [_mean(lower, law.h), _mean(upper, law.h)]
        return [z, error, lower, upper, law.mean, mean_error, np.minimum(*ends), np.maximum(*ends)]

    def _mean(end: Array, natural: Array) -> Array:
        finite = np.isfinite(end)
        h = np.where(finite, end, 0.0)
        h = h if link is None else link.evaluate(h, 0)[0]
        known = finite & _has_law(call.model.family, h)[:, None]
        # Means increase with natural parameters, so it is known on which side an end outside the natural domain lies.
        beyond = np.where(finite, np.where(h > natural, np.inf, -np.inf), end)
        return np.where(known, call.model.family.at(np.where(known, h, natural)).mean, beyond)

    dims = ["input", "output"]
    arrays = at_once(call.stack(block, max(16, _PREDICTED_NUMBERS // (model.widths[-1] * model.n_params)), infinite=True))
    keys = [f"predicted_{quantity}{part}" for quantity in ("output", "mean") for part in ("", "_error", "_lower", "_upper")]
    entries: list[_labels.Entry] = [(key, dims, values) for key, values in zip(keys, arrays, strict=True)]
    coords = call.input_coordinate() | _labels.output_coordinates(model, "output")
    return _labels.dataset(entries, coords, asked.provenance | {"level": level, "reference": reference})


_PREDICTED_NUMBERS = 2**20


def _has_law(family: Family, h: Array) -> NDArray[np.bool_]:
    """Return for which rows the family has a distribution within the floating-point range."""
    try:
        family.at(h)
    except ValueError:
        half = len(h) // 2
        return np.concatenate([_has_law(family, h[:half]), _has_law(family, h[half:])]) if half else np.zeros(1, dtype=bool)
    return np.ones(len(h), dtype=bool)
