"""Elastic weight consolidation: a quadratic penalty, weighted by Fisher information, that preserves earlier tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from fisherstats.core.arrays import like, number, overflow_is_inf
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import applications as checks
from fisherstats.core.validation import arguments, networks, remedies
from fisherstats.execution import at_once
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._alignment import over_parameters
from fisherstats.quantities._computation import Computation, computation_of, plan_of, steps_of
from fisherstats.quantities._designs import DESIGNS, Design
from fisherstats.quantities._layout import Layout
from fisherstats.quantities._streams import streamed
from fisherstats.quantities.information.estimates import empirical_fisher, estimate_fisher
from fisherstats.quantities.information.exact import fisher_information
from fisherstats.theory import fisher, information_contractions
from fisherstats.training import Penalty, Restraint

__all__ = ["Consolidation", "consolidation_penalty", "importance"]

Array = NDArray[np.floating]
Seed = int | np.random.SeedSequence | np.random.Generator

INFORMATION = ("exact", "score", "hessian", "empirical")


@documented
@streamed()
def importance(
    model: MLP,
    x: Any,
    y: Any = None,
    *,
    information: str = "exact",
    n_draws: int | None = None,
    rng: Seed | None = None,
    design: str = "fixed",
    population: int | None = None,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray]:
    """Diagonal information of a learnt task, the weights of elastic weight consolidation, with its standard error.

    Parameters
    ----------
    model : MLP
        The network trained on the task.
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        Inputs of the task; from a dask array the result is lazy.
    y : array_like, shape (n,) or (n, T), optional
        Data labels, for the empirical information.
    information : {"exact", "score", "hessian", "empirical"}, default "exact"
        Closed form, an estimate from labels of the model, or the squared scores at the data labels.
    n_draws : int, optional
        Labels per input, for the two estimates.
    rng : int, SeedSequence or Generator, optional
        Source of these labels.
    design : {"fixed", "random", "subsample"}, default "fixed"
        Sampling design of the standard error, as for `estimate_fisher`. At fixed inputs closed forms and data labels have no
        standard error; where the inputs are a sample, all four kinds have one.
    %(population)s
    on_kink : {"raise", "ignore"}, default "raise"
        Behaviour at a kink, where the Hessian estimate does not exist.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray, dims (param,)
        Mean over inputs, with the coordinate ``standard_error`` where it is an estimate or the inputs are a sample. Units of 1,
        source keys ``information``, ``score-estimator``, ``hessian-estimator``, ``empirical-fisher``.

    Raises
    ------
    %(refused)s
    AssumptionError
        If a pre-activation is exactly on a kink and `on_kink` is "raise", for the Hessian estimate.

    Notes
    -----
    Cost: that of `fisher_information`, `estimate_fisher` or `empirical_fisher`. Hessian estimates may be negative, and a penalty
    with negative weights has no minimum; they are not clipped.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> fs.applications.importance(model, np.array([[1.0, 1.0], [2.0, 2.0]])).values
    array([0.625, 0.625, 0.25 ])
    """
    common: dict[str, Any] = {"engine": engine, "num_threads": num_threads, "progress": progress}
    _importance_arguments(information, y, n_draws, rng)
    arguments.choice("design", design, DESIGNS)
    if information in ("score", "hessian"):
        drawn: dict[str, Any] = {"n_draws": n_draws or 0, "rng": _seed(rng), "standard_error": True, "on_kink": on_kink}
        of_inputs: dict[str, Any] = {"design": design, "population": population}
        estimate = computation_of(estimate_fisher, model, x, estimator=information, **drawn, **of_inputs, **common)
        layout, values = yield from estimate
        return cast("Layout[xr.DataArray]", layout), values
    if design != "fixed":
        return (yield from _of_a_sample(_run.prepare(model, x, **common, any_network=True), y, design, population))
    arguments.only_with("population", population, "design", design, "subsample")
    if information == "exact":
        return (yield from computation_of(cast(Any, fisher_information), model, x, **common))
    both = plan_of(empirical_fisher, model, x, y, **common)
    yield (own := _layout.array("empirical", _labels.param_coordinates(model), both.provenance, both.slots[0].dtype))
    found = cast(xr.Dataset, (yield from steps_of(empirical_fisher, model, x, y, **common)))
    return own, [found.empirical.values]


def _of_a_sample(call: _run.Call, y: Any, design: str, population: int | None) -> Computation[xr.DataArray]:
    """Return the exact information, or with data labels the empirical one, and its standard error over inputs."""
    sampled = Design.of(call, design, population)
    data_labels = None if y is None else call.data_labels(y)

    def squares(x: Array, first_input: int) -> tuple[list[Array], list[Any], list[Array]]:
        forward, law = call.network.forward(x, first_input)
        middle = law if data_labels is None else fisher.at_labels(law, data_labels[first_input : first_input + len(x)])
        factors = call.network.root_unit_factors(forward, middle)
        return factors, [[None] * len(factors)], forward.inputs

    def factors_and_inputs(x: Array, first_input: int) -> tuple[list[Any], list[Array]]:
        factors, _, layer_inputs = squares(x, first_input)
        return [(factors, 2)], layer_inputs

    key, estimator = ("information", "exact") if data_labels is None else ("empirical", "empirical")
    provenance = call.provenance(view="diagonal", estimator=estimator, **sampled.record)
    coords, dtype = _labels.param_coordinates(call.model), call.rows.dtype
    layout = _layout.array(key, coords, provenance, dtype, [sampled.key, "error_freedom"])
    yield (layout := layout.followed_by(*sampled.diagonal_shapes()))
    (values,) = yield from call.diagonal_mean(factors_and_inputs)
    ((error, freedom, _),) = yield from sampled.diagonal(squares, squares, [np.zeros_like(values)])
    return layout, [values, error.astype(dtype), freedom.astype(dtype)]


def _importance_arguments(information: str, y: Any, n_draws: Any, rng: Any) -> None:
    arguments.choice("information", information, INFORMATION)
    checks.only_for("y", y, "information", information, ("empirical",))
    checks.only_for("n_draws", n_draws, "information", information, ("score", "hessian"))
    checks.only_for("rng", rng, "information", information, ("score", "hessian"))


def _seed(rng: Seed | None) -> Seed:
    return arguments.seed_sequence(rng)


@dataclass(frozen=True, eq=False)
class Consolidation(Penalty):
    r"""Elastic weight consolidation: :math:`\frac\lambda2\sum_iF_i(\theta_i-\theta_i^*)^2` (Kirkpatrick et al. 2017).

    A penalty for `training.fit`; for several tasks pass a list of them, or one that is updated by `online`.

    Parameters
    ----------
    anchor : MLP
        The network trained on the earlier task.
    importance : array_like or DataArray, shape (P,)
        F, one number per parameter, see `importance`.
    strength : float, default 1.0
        lambda, at least 0. The loss of a fit is a mean over inputs, so the Laplace approximation of the earlier task has the
        strength (inputs of that task) / (inputs of the new one).

    Raises
    ------
    TypeError, ValueError
        If `anchor` is not an `MLP`, `importance` is not a finite vector with one entry per parameter or its standard error does
        not match its values, or `strength` is negative or not finite.

    Notes
    -----
    The gradient is :math:`\lambda F_i(\theta_i-\theta_i^*)`. Cost: O(P) per step.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> old = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> new = fs.MLP([[[1.0, 0.0, 2.0]]], activation=[], family=fs.families.Bernoulli())
    >>> held = fs.applications.Consolidation(old, [0.5, 2.0, 1.0], strength=3.0)
    >>> held.value(new), held.gradient(new)
    (9.0, array([0., 6., 6.]))
    """

    anchor: MLP
    importance: ArrayLike
    strength: float = 1.0

    def __post_init__(self) -> None:
        networks.model_object(self.anchor, MLP, "anchor")
        given, _ = _labels.values_and_error("importance", over_parameters("importance", self.importance, self.anchor))
        weights = arguments.parameter_vector("importance", given, self.anchor.n_params).astype(np.float64)
        weights.flags.writeable = False
        object.__setattr__(self, "importance", weights)
        object.__setattr__(self, "strength", arguments.non_negative_number("strength", self.strength))

    def start(self, model: MLP) -> Restraint:
        """Return the restraint for one fit."""
        checks.same_network("model", model, self.anchor)
        networks.same_names("model", model, "anchor", self.anchor)
        return _Held(self, model)

    def value(self, model: MLP) -> float:
        """Return the penalty at the weights of a network.

        Parameters
        ----------
        model : MLP
            A network of the same widths.

        Returns
        -------
        float
            The penalty.
        """
        return float(self.start(model).penalise(model.weights, [np.zeros(w.shape) for w in model.weights]))

    def gradient(self, model: MLP) -> Array:
        """Return the gradient of the penalty at the weights of a network.

        Parameters
        ----------
        model : MLP
            A network of the same widths.

        Returns
        -------
        ndarray, shape (P,)
            The gradient.
        """
        gradients = [np.zeros(w.shape) for w in model.weights]
        self.start(model).penalise(model.weights, gradients)
        return np.concatenate([one.ravel() for one in gradients])

    def online(self, anchor: MLP, importance: ArrayLike, *, decay: float = 1.0) -> Consolidation:
        r"""Return the penalty after one more task, :math:`F\leftarrow\gamma F+F_{new}` around the newest weights.

        The online form of Schwarz et al. (2018): memory and cost do not grow with the number of tasks. The sum of the
        penalties of single tasks keeps every anchor; pass it as a list to `training.fit`.

        Parameters
        ----------
        anchor : MLP
            The network after training on the new task.
        importance : array_like or DataArray, shape (P,)
            Information of the new task there.
        decay : float, default 1.0
            gamma, above 0 and at most 1: the weight of the earlier tasks.

        Returns
        -------
        Consolidation
            With the same strength.
        """
        kept = checks.share("decay", decay)
        checks.same_network("anchor", anchor, self.anchor)
        networks.same_names("anchor", anchor, "self.anchor", self.anchor)
        added = Consolidation(anchor, importance, self.strength)
        return Consolidation(anchor, kept * np.asarray(self.importance) + np.asarray(added.importance), self.strength)


class _Held(Restraint):
    def __init__(self, penalty: Consolidation, model: MLP) -> None:
        shapes = [matrix.shape for matrix in penalty.anchor.weights]
        factors = [penalty.strength * part for part in _per_layer(np.asarray(penalty.importance), shapes)]
        self.anchor, self.factors = (
            [like(one, beside) for one, beside in zip(arrays, model.weights, strict=True)]
            for arrays in (penalty.anchor.weights, factors)
        )

    def penalise(self, weights: Sequence[Array], gradients: Sequence[Array]) -> Any:
        value: Any = 0.0
        for factor, anchor, weight, gradient in zip(self.factors, self.anchor, weights, gradients, strict=True):
            moved = weight - anchor
            slope = factor * moved
            value += 0.5 * number((slope * moved).sum(dtype=np.float64))
            np.add(gradient, slope, out=gradient)
        return value


def _per_layer(vector: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends[:-1]), shapes, strict=True)]


@documented
@arguments.answered()
@remedies.advising
@overflow_is_inf
def consolidation_penalty(
    model: MLP,
    anchor: MLP,
    x: Any,
    y: Any = None,
    *,
    centre: MLP | None = None,
    strength: float = 1.0,
    information: str = "exact",
    n_draws: int | None = None,
    rng: Seed | None = None,
    design: str = "fixed",
    population: int | None = None,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Penalty of elastic weight consolidation with the standard error due to its estimated importances.

    With :math:`\delta=\theta-\theta^*`, the difference from `anchor` or from `centre`, its variance is
    :math:`\frac{\lambda^2}4(\delta^2)^\top\mathrm{Cov}(\hat F)\,\delta^2`: the entries of an estimate covary, as they come from
    the same labels. Per input it is :math:`\mathrm{Var}(r^\top Ar)` with :math:`A=J\,\mathrm{diag}(\delta^2)J^\top` for the score
    and :math:`\mathrm{Var}(s\cdot r)` with :math:`s=\sum_i\delta_i^2\,\partial_i^2h` for the Hessian estimate (2021, Theorems 4
    and 6).

    Parameters
    ----------
    model : MLP
        The network at which the penalty is evaluated.
    anchor : MLP
        The network trained on the earlier task, of the same widths.
    x : array_like, DataArray (dims ``input``, ``feature``) or dask array, shape (n, n_features)
        Inputs of the earlier task.
    y : array_like, shape (n,) or (n, T), optional
        Data labels, for the empirical information.
    centre : MLP, optional
        The network that the penalty is centred at instead of `anchor`, with the importances of `anchor`: the form that an earlier
        task has in `Consolidation.online`.
    strength : float, default 1.0
        lambda, at least 0.
    information, n_draws, rng : optional
        As for `importance`.
    design : {"fixed", "random", "subsample"}, default "fixed"
        Sources of variation: the drawn labels at fixed inputs, or the inputs as well, as for `estimate_fisher`. The empirical
        information draws no labels, so it has no standard error at fixed inputs.
    %(population)s
    on_kink : {"raise", "ignore"}, default "raise"
        Behaviour at a kink, where the Hessian estimate does not exist.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``penalty`` with the chosen importances, ``exact`` with the exact ones, and ``standard_error``. Units of nat, source key
        ``consolidation``.

    Raises
    ------
    %(refused)s
    AssumptionError
        If a pre-activation is exactly on a kink and `on_kink` is "raise", for the Hessian estimate.

    Notes
    -----
    Cost: two or three times that of the importances; no array of size P^2. Penalties of several tasks add, and so do the squares
    of their standard errors where the labels are drawn independently; after an online merge with a decay, task k of K has the
    weight :math:`\gamma^{K-k}`, with the newest weights as its `centre`.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> old = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> new = fs.MLP([[[3.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> x = np.array([[1.0], [-1.0]])
    >>> found = fs.applications.consolidation_penalty(new, old, x, information="score", n_draws=100, rng=0)
    >>> float(found.exact), round(float(found.standard_error), 4)
    (2.0, 0.2)
    """
    networks.model_object(model, MLP)
    common: dict[str, Any] = {"engine": engine, "num_threads": num_threads, "progress": progress}
    networks.model_object(anchor, MLP, "anchor")
    call = _run.prepare(anchor, x, **common)
    checks.same_network("model", model, anchor)
    networks.same_names("model", model, "anchor", anchor)
    if centre is not None:
        networks.model_object(centre, MLP, "centre")
        checks.same_network("centre", centre, anchor)
        networks.same_names("centre", centre, "anchor", anchor)
    strength = arguments.non_negative_number("strength", strength)
    _importance_arguments(information, y, n_draws, rng)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    arguments.choice("design", design, DESIGNS)
    checks.random_labels(information, design)
    sampled = Design.of(call, design, population, n_draws or 1)
    seed = None if rng is None else arguments.seed_sequence(rng)
    chosen: Any
    if information in ("score", "hessian"):
        drawn: dict[str, Any] = {"n_draws": n_draws or 0, "rng": _seed(seed), "standard_error": False, "on_kink": on_kink}
        chosen = estimate_fisher(anchor, x, estimator=information, **drawn, **common)
    else:
        chosen = importance(anchor, x, y, information=information, **common)
    pulled_to = anchor if centre is None else centre
    delta = [(w - a).astype(np.float64) for w, a in zip(model.weights, pulled_to.weights, strict=True)]
    data_labels = None if y is None else call.data_labels(y)
    curved = information == "hessian"

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order=2 if curved else 1)
        if curved:
            call.network.refuse_kinks(forward, on_kink, first_input)
        G = call.network.jacobians(forward, differences=False)
        S = call.network.curvatures(forward, G) if curved else [None] * len(G)
        A, s = information_contractions.weighted_diagonal(G, S, forward.inputs, delta)
        exact = law.quadratic_mean(A)
        if curved:
            return [exact, exact, law.diagonal(s[:, :, None])[:, 0]]
        if information == "score":
            return [exact, exact, law.quadratic_variance(A)]
        if data_labels is None:
            return [exact, exact, np.zeros_like(exact)]
        r = law.residual(like(data_labels[first_input : first_input + len(x)], law.h))
        return [exact, np.einsum("nt,nts,ns->n", r, A, r), np.zeros_like(exact)]

    stacked = at_once(call.stack(block, call.block_rows(second_order=curved)))
    exact, spread, noise = (one.astype(np.float64) for one in stacked)
    error = sampled.error(noise.mean(), None if sampled.fixed else spread.var(ddof=1))
    moved = np.concatenate([one.ravel() for one in delta])
    value = float((moved * chosen.values.astype(np.float64)) @ moved)
    entries: list[_labels.Entry] = [
        ("consolidation_penalty", [], np.asarray(strength / 2 * value)),
        ("consolidation_exact", [], np.asarray(strength / 2 * exact.mean())),
        ("consolidation_error", [], np.asarray(strength / 2 * error)),
    ]
    more = {"strength": strength, "information": information, "n_draws": n_draws, "moved": model.fingerprint} | sampled.record
    more |= {"centre": pulled_to.fingerprint}
    return _labels.dataset(entries, {}, call.provenance(**more))
