"""Effect of a penalty on the weights on the estimators' errors, per layer and along a grid of penalty strengths."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core import margins
from fisherstats.core.docstrings import documented
from fisherstats.core.progress import progress_bar
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, clients, remedies, training
from fisherstats.execution import Steps, at_once, tasks
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.quantities.bounds.variance import layer_bounds
from fisherstats.theory import sample_size, weight_norms
from fisherstats.theory.sampling import seed_record
from fisherstats.training import BatchNormalization, Optimizer, Penalty, fit
from fisherstats.training.fitting import started
from fisherstats.training.likelihood import Labelled, labelled_beside, measures_accuracy

__all__ = ["layer_errors", "regularization_path"]

Array = NDArray[np.floating]

_PER_LAYER = {
    "layers_information": ["layer"],
    "layers_variance": ["estimator", "layer"],
    "layers_lower": ["estimator", "layer"],
    "layers_upper": ["estimator", "layer"],
    "layers_relative_error": ["estimator", "layer"],
    "layers_draws": ["estimator", "layer"],
}
_NORMS = {"path_frobenius": ["layer"], "path_spectral": ["layer"]}
_FIT = {"path_log_likelihood": "path_accuracy", "path_validation_log_likelihood": "path_validation_accuracy"}


@documented
@streamed()
def layer_errors(
    model: MLP,
    x: Any,
    *,
    n_draws: int = 1,
    target_cv: float = 0.1,
    estimators: Sequence[str] = ESTIMATORS,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Information, variances, their bounds and relative errors by layer: means over its diagonal entries (2024, Figure 2).

    :math:`\bar I_l,\bar V_{j,l}` are the means over a layer's entries; the relative error is :math:`\sqrt{\bar V_{j,l}}/\bar I_l`
    and :math:`N\ge\bar V_{j,l}^{(1)}/(\mathrm{target}^2\bar I_l^2)` draws per input bring it to the target.

    Parameters
    ----------
    %(model)s
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        Inputs, at least one row, finite and real; a fixed design; from a dask array the result is lazy.
    %(n_draws)s
    target_cv : float, default 0.1
        Target relative error, for the number of draws.
    estimators : sequence of {"score", "hessian"}, default both
        Which estimators; with the score alone kinks are irrelevant, and the Hessian estimator is not computed.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``information (layer)``; ``variance``, ``lower``, ``upper``, ``relative_error``, ``draws (estimator, layer)``: variances
        and their certified bounds at `n_draws` labels per input; draws as integer-valued floats, inf where no number suffices. A
        relative error is 0 where the variance is 0, and inf where only the information is 0. Units of 1, source keys
        ``information``, ``estimator-variance``, ``bounds``, ``layer-errors``.

    Raises
    ------
    %(refused)s
    %(kink)s

    See Also
    --------
    plan_draws : The draws for each parameter, for the mean entry of a layer, or for the trace.

    Notes
    -----
    The variance of an entry, averaged, is not the variance of the average entry, which `estimator_variance` with
    group_by="layer" gives. With ``training.record(lambda model: layer_errors(model, x))`` as a callback of `training.fit` it
    is recorded over epochs, and `plotting.training_errors` plots it. Cost: one pass over the inputs; no array of the
    size of the parameters is created.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.5]], [[2.0, 0.0]]], activation="tanh", family=fs.families.Gaussian())
    >>> fs.layer_errors(model, np.array([[1.0]])).relative_error.round(3).values
    array([[1.414, 1.421],
           [5.009, 0.   ]])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, in_double=True)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    target = arguments.positive_number("target_cv", target_cv)
    chosen = arguments.words("estimators", estimators, ESTIMATORS)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    coords = _labels.layer_coordinates(model.n_layers) | _labels.coordinates(estimator=list(chosen))
    provenance = call.provenance(n_draws=n_draws, target_cv=target, on_kink=on_kink)
    yield (layout := _layout.dataset(list(_PER_LAYER), coords, provenance, call.dtype))
    found = yield from _errors(call, n_draws, target, chosen, on_kink)
    return layout, [found[key] for key in _PER_LAYER]


def _errors(call: Call, n_draws: int, target: float, chosen: Sequence[str], on_kink: str) -> Steps[dict[str, Array]]:
    """Return the means over each layer's entries and the quantities derived from them."""
    information, (variance, lower, upper) = yield from layer_bounds(call, chosen, on_kink)
    variance, lower, upper = (one / n_draws for one in (variance, lower, upper))
    found = {
        "layers_information": information,
        "layers_variance": variance,
        "layers_lower": lower,
        "layers_upper": upper,
        "layers_relative_error": sample_size.relative_error(variance, np.broadcast_to(information, variance.shape)),
        "layers_draws": sample_size.draws_needed(variance * n_draws, np.zeros_like(variance), (target * information) ** 2),
    }
    ends = {"layers_lower": margins.below(lower, call.terms(False)), "layers_upper": margins.above(upper, call.terms(False))}
    rounded = {key: margins.outwards(values, call.dtype, key.removeprefix("layers_")) for key, values in ends.items()}
    return {key: rounded.get(key, margins.nearest(values, call.dtype)) for key, values in found.items()}


@documented
@arguments.answered()
@remedies.advising
def regularization_path(
    model: MLP,
    x: Any,
    y: Any,
    *,
    penalty: Callable[[float], Penalty | Sequence[Penalty]],
    strengths: Sequence[float],
    normalization: BatchNormalization | None = None,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int,
    rng: int | np.random.SeedSequence | np.random.Generator,
    warm_start: bool = False,
    x_eval: Any = None,
    validation: tuple[Any, Any] | None = None,
    n_draws: int = 1,
    target_cv: float = 0.1,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    client: Any = None,
) -> xr.Dataset:
    r"""Train along a grid of penalty strengths; report the fit of each network and the errors of its estimated information.

    Bounded weights bound the derivatives and with them the covariance of the estimators (2021, conclusion). That is the
    absolute error; the information falls as well, so the relative error :math:`\sqrt{V_j}/I` may rise or fall.

    Parameters
    ----------
    model : MLP
        The network to start from; it is not changed.
    x : array_like or DataArray (dims ``input``, ``feature``), shape (n, n_features)
        Inputs to train on, at least one row, finite and real.
    y : array_like, shape (n,) or (n, T)
        Data labels: class numbers for Categorical, else one number per output ((n,) if there is one output).
    penalty : callable
        Returns the penalty for a strength: a class such as `training.Frobenius`, `training.Spectral`, `training.GroupWise` or
        `training.SpectralProjection` (whose strengths are limits), or a function of one number, which may return several.
    strengths : sequence of float
        The grid, in the order of training, each strength once.
    normalization : BatchNormalization, optional
        Normalise the pre-activations of hidden layers over each minibatch, as in `training.fit`. Penalties then act on the
        kernels before folding; all results are for the folded network. A penalty that constrains the
        kernels, such as `training.SpectralProjection`, cannot be combined with it.
    optimizer : Optimizer
        The optimiser: `training.SGD`, `training.Adam`, a natural gradient, or a user-defined subclass.
    epochs : int
        Passes over the inputs, for every strength.
    batch_size : int
        Inputs per step.
    rng : int, SeedSequence or Generator
        Source of the shuffling; every strength sees the same batches.
    warm_start : bool, default False
        Start each training from the network of the previous strength, instead of from `model`; not possible with `client`, as
        the trainings are then sequential.
    x_eval : array_like, DataArray or dask array, optional
        Inputs of the Fisher information and of its estimators' errors, a fixed design; by default the training inputs.
    validation : (x, y), optional
        Validation inputs and labels for likelihood and accuracy.
    n_draws : int, default 1
        Labels per input, N, of the variances, bounds and relative errors.
    target_cv : float, default 0.1
        Target relative error, for the number of draws.
    %(on_kink)s
    engine, num_threads : optional
        As for `fisher_information` and `training.fit`.
    progress : bool, default False
        Show a progress bar over the strengths (needs tqdm, extra ``study``).
    client : distributed.Client or executor, optional
        Where the strengths are trained, each with one thread; by default in this process. Never changes a bit of the result.
        The penalties and the optimiser must be picklable.

    Returns
    -------
    Dataset
        Over ``strength``: ``log_likelihood`` (mean over the inputs, in nat) and, for classes and binary outputs, ``accuracy``
        of the trained network, ``validation_log_likelihood`` and ``validation_accuracy``; ``frobenius`` and
        ``spectral (strength, layer)``, norms of the kernels; ``information``, ``variance``, ``lower``, ``upper``,
        ``relative_error`` and ``draws`` as `layer_errors` has them. Source keys ``model``, ``weight-norms``, ``information``,
        ``estimator-variance``, ``bounds``, ``layer-errors``.

    Raises
    ------
    %(refused)s
    TrainingDiverged
        If the training with a strength diverges; the message names the strength and repeats that of `training.fit`.
    %(kink)s
    WorkerLost
        If the workers of `client` die. The message of every error begins with the strength in which it was raised.

    Notes
    -----
    An exception that ends it early (`TrainingDiverged`, a kink, a keyboard interrupt) is re-raised with the Dataset of the
    completed strengths as its attribute ``path``. Without warm starts the network of a strength is the one that
    `training.fit` gives with that penalty and the same settings, so only the chosen one need be retrained. A warm start with
    a normalisation takes the folded weights of the previous strength as kernels and shifts; scales and running statistics are
    reset, as in any further `training.fit`, so that it does not start exactly where the previous training ended.
    A normalised layer gives the same output for kernels of any length, so a penalty on that length affects the folded kernels
    far less. Cost per strength: one `training.fit` and one `layer_errors`.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> model = fs.MLP.random([1, 8, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)
    >>> settings = {"optimizer": fs.training.Adam(0.05), "epochs": 20, "batch_size": 16, "rng": 0}
    >>> y = (x[:, 0] > 0).astype(int)
    >>> path = fs.regularization_path(model, x, y, penalty=fs.training.Frobenius, strengths=[0.0, 0.1], **settings)
    >>> norm = path.frobenius.sel(layer=0).values
    >>> bool(norm[1] < norm[0])
    True
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    training.in_memory(call.rows.source)
    with training.within("x_eval"):
        where = call if x_eval is None else _run.prepare(model, x_eval, engine=engine)
    grid = training.grid("strengths", strengths)
    penalties = training.penalties_of(penalty, grid, Penalty)
    arguments.boolean("warm_start", warm_start)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    target = arguments.positive_number("target_cv", target_cv)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    clients.client(client)
    clients.no_warm_start(client, warm_start)
    seed = arguments.seed_sequence(rng)
    data = [(x, y)]
    labelled_beside(call, model, x, y)
    if validation is not None:
        data.append(training.validation_pair(validation))
        with training.within("validation"):
            labelled_beside(call, model, *data[1])
    training.optimizer_object(optimizer, Optimizer)
    epochs, batch_size = (
        arguments.positive_integer(name, value) for name, value in (("epochs", epochs), ("batch_size", batch_size))
    )
    training.normalization_object(normalization, BatchNormalization)
    if normalization is not None:  # each fit would reject its own penalty, but only after the previous trainings
        for one in penalties:
            started(model, training.penalties(one, Penalty), normalization, call.n_inputs, batch_size)
    settings: dict[str, Any] = {"optimizer": optimizer, "epochs": epochs, "batch_size": batch_size, "rng": seed}
    settings["normalization"] = normalization
    more: dict[str, Any] = {"penalties": [repr(one) for one in penalties], "warm_start": bool(warm_start), "n_draws": n_draws}
    more |= {"optimizer": repr(optimizer), "epochs": epochs, "batch_size": batch_size, "seed": seed_record(seed)}
    if normalization is not None:
        more["normalization"] = repr(normalization)
    path = _Path(call, grid, call.provenance(**more, n_evaluated=where.n_inputs, target_cv=target, on_kink=on_kink))
    training_of = _Training(model, data, x_eval, settings, n_draws, target, on_kink, engine, warm_start)
    pieces = [tasks.Piece(f"strength {strength:g}", one) for strength, one in zip(grid, penalties, strict=True)]
    try:
        with progress_bar(len(pieces), progress, "piece") as bar:
            done = tasks.completed(_strength, training_of, pieces, client=client, num_threads=num_threads, bar=bar)
            path.rows.update(done)
    except BaseException as error:
        error.path = path.dataset()  # type: ignore[attr-defined]
        error.add_note("The strengths that are done are in the attribute `path` of this exception.")
        raise
    return path.dataset()


@dataclasses.dataclass
class _Training:
    """Settings shared by the trainings with all strengths; with warm starts, `model` is updated."""

    model: MLP
    data: list[tuple[Any, Any]]
    x_eval: Any
    settings: dict[str, Any]
    n_draws: int
    target: float
    on_kink: str
    engine: str | None
    warm_start: bool


def _strength(shared: _Training, penalty: Penalty | Sequence[Penalty], num_threads: int | None) -> dict[str, Array]:
    """Train with one penalty; return the numbers of the network."""
    (x, y), engine = shared.data[0], shared.engine
    trained = fit(shared.model, x, y, penalty=penalty, engine=engine, num_threads=num_threads, **shared.settings).model
    with contextlib.nullcontext() if shared.x_eval is None else training.within("x_eval"):
        x_eval = x if shared.x_eval is None else shared.x_eval
        where = _run.prepare(trained, x_eval, engine=engine, num_threads=num_threads, in_double=True)
        found = at_once(_errors(where, shared.n_draws, shared.target, ESTIMATORS, shared.on_kink))
    call = _run.prepare(shared.model, x, engine=engine, num_threads=num_threads)
    data = [labelled_beside(call, shared.model, *pair) for pair in shared.data]
    if shared.warm_start:
        shared.model = trained
    fitted = _norms(trained) | _fits(trained.as_dtype(call.rows.dtype), data)
    return found | {key: values.astype(call.rows.dtype) for key, values in fitted.items()}


def _norms(model: MLP) -> dict[str, Array]:
    return dict(zip(_NORMS, weight_norms.kernel_norms(model.kernels), strict=False))


def _fits(model: MLP, data: Sequence[Labelled]) -> dict[str, Array]:
    """Return the likelihood of each set of labelled inputs and, where it is defined, the accuracy."""
    found: dict[str, Array] = {}
    for (likelihood, accuracy), one in zip(_FIT.items(), data, strict=False):
        there = one.fit(model)
        found[likelihood] = np.array(-there.loss)
        if measures_accuracy(model.family):
            found[accuracy] = np.array(there.accuracy)
    return found


class _Path:
    """The results of a path, strength by strength."""

    def __init__(self, call: Call, grid: NDArray[np.float64], provenance: dict[str, Any]) -> None:
        self.call = call
        self.grid = grid
        self.provenance = provenance
        self.rows: dict[int, dict[str, Array]] = {}

    def dataset(self) -> xr.Dataset:
        """Return the results so far; before the first one, the coordinates only."""
        dims = _PER_LAYER | _NORMS
        done = sorted(self.rows)
        rows = [self.rows[position] for position in done]
        entries: list[_labels.Entry] = [
            (key, ["strength", *dims.get(key, [])], np.stack([row[key] for row in rows])) for key in (rows[0] if rows else ())
        ]
        coords = _labels.layer_coordinates(self.call.model.n_layers)
        coords |= _labels.coordinates(strength=self.grid[done], estimator=list(ESTIMATORS))
        return _labels.dataset(entries, coords, self.provenance)
