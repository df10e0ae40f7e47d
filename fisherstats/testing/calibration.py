"""Calibration of estimates of Fisher information: which one a function gives, and whether its spread is what theory predicts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import stdtrit

from fisherstats.core.docstrings import documented
from fisherstats.core.schema import DIAGONAL_ESTIMATORS
from fisherstats.core.validation import arguments
from fisherstats.core.validation import calibration as checks
from fisherstats.execution import at_once
from fisherstats.models.families import Family, Gaussian
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities.information.estimates import empirical_fisher
from fisherstats.quantities.information.exact import fisher_information
from fisherstats.quantities.information.scores import mean_score, squared_batches
from fisherstats.quantities.uncertainty.variances import estimator_variance

__all__ = ["calibrate"]

Array = NDArray[np.float64]

EXACT, EMPIRICAL, MEAN_GRADIENT, BATCHES = "exact", "empirical", "mean_gradient", "batches"

_WORDS = {
    EXACT: "the exact Fisher information",
    EMPIRICAL: "the empirical Fisher information at the data labels",
    MEAN_GRADIENT: "the square of the mean gradient at the data labels",
}

_MASKS = 4
"""Random halves of every array of parameters that are compared, besides its total."""

_EQUAL = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-7}
"""Relative distance below which two values without spread are the same."""


@documented
def calibrate(
    function: Callable[[np.random.Generator], Any],
    model: MLP,
    x: Any,
    y: Any = None,
    *,
    n_draws: int = 1,
    estimator: str = "score",
    n_calls: int = 200,
    by: Callable[[xr.DataArray], Mapping[str, Any]] | None = None,
    false_alarm: float = 1e-3,
    rng: int | np.random.SeedSequence | np.random.Generator = 0,
) -> xr.Dataset:
    r"""Find out which information a function of somebody else estimates, up to which factor, and with which spread.

    Its mean over calls is compared with the exact information of the model, and with data labels with the empirical information,
    the square of the mean gradient, and the squared gradients of batches, each times an unknown factor; a factor other than 1 is
    compared with those of known mistakes. Its spread is compared with the closed-form variance of the estimator.

    Parameters
    ----------
    function : callable
        Takes a numpy Generator and returns an estimate of the diagonal: an array with one number per parameter, in the order of
        `fisher_information`, or with `by` a mapping from names to arrays. It need not use the generator.
    model : MLP or ExternalNetwork
        The network whose information is estimated.
    x : array_like, shape (n, n_features)
        The inputs that the function uses, in memory.
    y : array_like, optional
        Data labels, if the function may have used them.
    n_draws : int, default 1
        Labels per input in one call of the function, N.
    estimator : {"score", "hessian", "hutchinson_gaussian", "hutchinson_rademacher"}, default "score"
        The estimator whose variance the spread is compared with.
    n_calls : int, default 200
        Calls of the function, at least 20.
    by : callable, optional
        Turns a result of this package into a mapping with the keys and shapes of those that the function returns, such as
        ``lambda result: fs.interop.to_torch(result, net)``.
    false_alarm : float, default 1e-3
        Probability that a function that is right is not found to be so.
    rng : int, SeedSequence or Generator, default 0
        Source of the generators that the function is given, one for each call.

    Returns
    -------
    Dataset
        By ``candidate``: ``factor`` and its ``factor_error``, the mean of the estimates over the candidate; ``shape_z``, the
        largest z-score of a part of the parameters beyond a common factor; ``fits``, whether the shape is that of the candidate;
        ``detectable``, the smallest relative deviation of the factor that is found with probability 0.99. ``spread`` and
        ``spread_error``: the mean squared deviation over the closed-form variance for N draws. The attribute ``verdict`` says it
        in words. Source keys ``calibration``, ``calibration-spread``.

    Raises
    ------
    TypeError, ValueError
        If `function` cannot be called or returns other numbers than one per parameter, if `x` or `y` are not as described, or if
        another argument is not. The message names the argument, what is required and what arrived.

    Notes
    -----
    Cost: `n_calls` calls of the function, and one exact information with its variances. A candidate fits if no z-score of the
    total and of random halves of every array of parameters exceeds the limit for all of them together (Student's t, Bonferroni).
    The z-scores are those of means over calls: with fewer than a hundred calls, or very few inputs, they may be too skewed for a
    small `false_alarm`.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> model = fs.MLP.random([3, 6, 4], activation="tanh", family=fs.families.Categorical(4), rng=1)
    >>> def halved(rng):
    ...     return fs.estimate_fisher(model, x, estimator="score", n_draws=2, rng=rng, standard_error=False) / 2
    >>> found = calibrate(halved, model, x, n_draws=2)
    >>> "a division by the number of draws twice" in found.attrs["verdict"]
    True
    """
    checks.callable_function(function)
    call = _run.prepare(model, x, any_network=True)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    word = arguments.choice("estimator", estimator, DIAGONAL_ESTIMATORS)
    n_calls = checks.n_calls(n_calls)
    alarm = checks.false_alarm(false_alarm)
    exact = cast(xr.DataArray, fisher_information(model, x))
    empirical = None if y is None else cast(xr.Dataset, empirical_fisher(model, x, y))["empirical"]
    variance = estimator_variance(model, x, n_draws=n_draws, estimators=[word])["variance"][0]
    seeds = arguments.seed_sequence(rng).spawn(n_calls)
    flat = _Flat.of(exact, by)
    estimates = np.stack([flat.given(function(np.random.default_rng(seed))) for seed in seeds])
    truths, words = {EXACT: flat.own(exact)}, dict(_WORDS)
    if empirical is not None:
        truths[EMPIRICAL] = flat.own(empirical)
        squared = exact.copy(data=np.square(at_once(mean_score(call, call.data_labels(y)))).astype(exact.dtype))
        truths[MEAN_GRADIENT] = flat.own(squared)
        words[BATCHES], truths[BATCHES] = _of_batches(
            estimates.mean(axis=0), truths[EMPIRICAL], truths[MEAN_GRADIENT], call.n_inputs
        )
    compared = {name: _compared(estimates, truth, flat.parts, alarm / 2, exact.dtype) for name, truth in truths.items()}
    chosen = next((name for name, one in compared.items() if one.fits), None)
    scale = compared[EXACT].factor if compared[EXACT].fits else 1.0
    spread, error = _spread(estimates / scale, truths[EXACT], flat.own(variance))
    named = _Verdict(words, call.n_inputs, n_draws, model.family, alarm)
    text = named.of(chosen, compared, spread, error, n_calls)
    coords = _labels.coordinates(candidate=list(compared))
    keys: list[_layout.Entry] = ["calibration_factor", "calibration_error", "calibration_shape", ("calibration_fits", np.bool_)]
    keys += ["calibration_detectable", "calibration_spread", "calibration_spread_error"]
    provenance = call.provenance(n_draws=n_draws, estimator=word, n_calls=n_calls, false_alarm=alarm)
    layout = _layout.dataset(keys, coords, provenance, np.float64)
    rows = compared.values()
    columns = [np.array([getattr(one, name) for one in rows]) for name in ("factor", "error", "shape", "fits", "detectable")]
    values = [*columns, np.array(spread), np.array(error)]
    layout.check(values)
    result = layout.filled(values)
    result.attrs["verdict"] = text
    return result


@dataclass(frozen=True)
class _Flat:
    """Arrays of parameters as one vector, in the order of the package or of their owner."""

    by: Callable[[xr.DataArray], Mapping[str, Any]] | None
    names: Sequence[str]
    shapes: Sequence[tuple[int, ...]]

    @classmethod
    def of(cls, exact: xr.DataArray, by: Callable[[xr.DataArray], Mapping[str, Any]] | None) -> _Flat:
        if by is None:
            _, sizes = np.unique(exact.coords["param_layer"].values, return_counts=True)
            return cls(None, [str(layer) for layer in range(len(sizes))], [(int(size),) for size in sizes])
        arrays = {name: np.asarray(_on_host(one)) for name, one in by(exact).items()}
        return cls(by, list(arrays), [one.shape for one in arrays.values()])

    @property
    def parts(self) -> list[slice]:
        """The places of each array."""
        ends = itertools.accumulate((int(np.prod(shape)) for shape in self.shapes), initial=0)
        return list(itertools.starmap(slice, itertools.pairwise(ends)))

    def own(self, result: xr.DataArray) -> Array:
        """Return a result of the package."""
        if self.by is None:
            return result.values.astype(np.float64)
        return self._joined(self.by(result))

    def given(self, value: Any) -> Array:
        """Return what the function gave, if it fits."""
        if self.by is None:
            return checks.one_number_per_parameter(_on_host(value), sum(int(np.prod(shape)) for shape in self.shapes))
        checks.same_names(value, self.names)
        checks.same_shapes(
            {name: np.shape(_on_host(value[name])) for name in self.names}, dict(zip(self.names, self.shapes, strict=True))
        )
        return self._joined(value)

    def _joined(self, arrays: Mapping[str, Any]) -> Array:
        parts = [np.asarray(_on_host(arrays[name]), dtype=np.float64).ravel() for name in self.names]
        return checks.finite_estimate(np.concatenate(parts))


def _on_host(value: Any) -> Any:
    """Return an array of numpy of what may be a tensor that takes part in a differentiation."""
    value = value.detach() if hasattr(value, "detach") else value
    return value.values if isinstance(value, xr.DataArray) else np.asarray(value)


def _of_batches(mean: Array, empirical: Array, square: Array, n_inputs: int) -> tuple[str, Array]:
    """Return the expected squared gradient of random batches, of the size that fits a mean best, in words and numbers."""
    if n_inputs < 3:
        return _WORDS[MEAN_GRADIENT], square
    sizes = np.arange(2, n_inputs)
    own, cross = squared_batches(sizes, n_inputs)
    # The squared distance of the mean, as a function of the size alone.
    gram = [float(np.vdot(left, right)) for left, right in ((empirical, empirical), (empirical, square), (square, square))]
    along = own * float(np.vdot(mean, empirical)) + cross * float(np.vdot(mean, square))
    best = int(np.argmin(own**2 * gram[0] + 2 * own * cross * gram[1] + cross**2 * gram[2] - 2 * along))
    found: Array = own[best] * empirical + cross[best] * square
    return f"the squared gradients of batches of {sizes[best]} inputs at the data labels", found


@dataclass(frozen=True)
class _Compared:
    """Estimates against one candidate."""

    factor: float
    error: float
    shape: float
    fits: bool
    detectable: float
    is_one: bool


def _compared(estimates: Array, truth: Array, parts: Sequence[slice], alarm: float, dtype: np.dtype[Any]) -> _Compared:
    """Compare the mean of the estimates with a candidate: the factor by the totals, the shape by parts of the parameters."""
    n_calls = len(estimates)
    total = truth.sum()
    if not total > 0:
        return _Compared(np.nan, np.nan, np.nan, False, np.nan, False)
    mean = estimates.mean(axis=0)
    if np.abs(estimates - mean).max() <= _EQUAL[dtype] * np.abs(mean).max():
        factor = float(np.vdot(mean, truth) / np.vdot(truth, truth))
        apart = np.abs(mean - factor * truth).max() / max(np.abs(mean).max(), np.finfo(float).tiny)
        fits = bool(apart <= _EQUAL[dtype])
        return _Compared(factor, 0.0, 0.0 if fits else np.inf, fits, 0.0, bool(abs(factor - 1) <= _EQUAL[dtype]))
    weights = _weights(truth, parts)
    limit = float(stdtrit(n_calls - 1, 1 - alarm / (2 * (len(weights) + 1))))
    ratios = estimates.sum(axis=1) / total
    factor, error = float(ratios.mean()), float(ratios.std(ddof=1) / np.sqrt(n_calls))
    projected = estimates @ weights.T / (weights @ truth) - ratios[:, None]
    errors = projected.std(axis=0, ddof=1) / np.sqrt(n_calls)
    resolution = 1e-9 * np.abs(ratios).mean()
    shape = float((np.abs(projected.mean(axis=0)) / np.maximum(errors, resolution)).max(initial=0.0))
    detectable = (limit + 2.33) * error / max(abs(factor), np.finfo(float).tiny)
    return _Compared(factor, error, shape, shape <= limit, detectable, abs(factor - 1) <= limit * error)


def _weights(truth: Array, parts: Sequence[slice]) -> Array:
    """Return weights of the parameters: every array, and random halves of it, (k, P)."""
    random = np.random.default_rng(0)
    rows = []
    for part in parts:
        for mask in range(1 + _MASKS):
            row = np.zeros(len(truth))
            row[part] = 1.0 if mask == 0 else random.random(part.stop - part.start) < 0.5
            if row @ truth > 0:
                rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, len(truth)))


def _spread(estimates: Array, exact: Array, variance: Array) -> tuple[float, float]:
    """Return the mean squared deviation over the variance that theory predicts, over parameters and calls, and its error."""
    varies = variance > 0
    if not varies.any():
        return np.nan, np.nan
    squares = (np.square(estimates - exact)[:, varies] / variance[varies]).mean(axis=1)
    return float(squares.mean()), float(squares.std(ddof=1) / np.sqrt(len(squares)))


@dataclass(frozen=True)
class _Verdict:
    """The answer in words."""

    words: Mapping[str, str]
    n_inputs: int
    n_draws: int
    family: Family
    alarm: float

    def of(self, chosen: str | None, compared: Mapping[str, _Compared], spread: float, error: float, n_calls: int) -> str:
        """Return one or two sentences."""
        if chosen is None:
            listed = ", ".join(f"{name} (largest z-score {one.shape:.1f})" for name, one in compared.items())
            return f"None of the candidates, up to any factor: {listed}."
        found = compared[chosen]
        if found.is_one:
            what = self.words[chosen]
            text = f"An unbiased estimate of {what}" if found.error else f"{what[0].upper()}{what[1:]} itself, without error"
            text += f"; a deviation of {100 * found.detectable:.2g} % would have been found." if found.error else "."
        else:
            text = f"{found.factor:.4g} times {self.words[chosen]} (standard error {found.error:.2g})."
            reasons = self.reasons(found, n_calls)
            if reasons:
                text += f" Such a factor comes from: {'; '.join(reasons)}."
        if chosen == EXACT and found.error and np.isfinite(spread):
            limit = float(stdtrit(n_calls - 1, 1 - self.alarm / 4))
            draws = "draw" if self.n_draws == 1 else "draws"
            if abs(spread - 1) <= limit * error:
                text += f" Its spread is that of {self.n_draws} {draws} per input."
            else:
                text += f" Its variance is {spread:.3g} times that of {self.n_draws} independent {draws} per input."
        return text

    def reasons(self, found: _Compared, n_calls: int) -> list[str]:
        """Return the known mistakes with such a factor."""
        n, draws, outputs = self.n_inputs, self.n_draws, self.family.n_outputs
        known = [
            (n, "a sum over the inputs in the place of a mean"),
            (draws, "a sum over the draws in the place of a mean"),
            (1 / draws, "a division by the number of draws twice, or before squaring"),
            (1 / n, "the square of the mean gradient over all inputs, or a division by the number of inputs twice"),
            ((draws - 1) / draws, "deviations from the mean of the drawn scores in the place of their known mean 0"),
            (0.5, "a factor 1/2 too many"),
        ]
        of_squares = [
            (4.0, "a squared error without the factor 1/2, by scores"),
            (2.0, "a squared error without the factor 1/2, by second derivatives"),
            (4 / outputs**2, "a mean squared error over the outputs, by scores"),
        ]
        of_means = [
            (1 / outputs**2, "a loss that is a mean over the outputs, by scores"),
            (1 / outputs, "a loss that is a mean over the outputs, by second derivatives"),
        ]
        known += of_squares if isinstance(self.family, Gaussian) else []
        known += [] if self.family.labels_are_classes else of_means
        limit = max(float(stdtrit(n_calls - 1, 1 - self.alarm / 4)) * found.error, 1e-6 * abs(found.factor))
        reasons = list(dict.fromkeys(reason for value, reason in known if value != 1 and abs(found.factor - value) <= limit))
        if found.factor > 0 and not reasons:
            size = round(1 / found.factor)
            if 1 < size < n and abs(found.factor - 1 / size) <= limit:
                sizes = [one for one in range(2, n) if abs(found.factor - 1 / one) <= limit]
                chance = f" ({sizes[0]} to {sizes[-1]} within chance)" if len(sizes) > 1 else ""
                reasons.append(f"squared gradients of batches of {size}{chance} in the place of those of single examples")
        return reasons
