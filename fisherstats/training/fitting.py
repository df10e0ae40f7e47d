"""Maximum likelihood training by minibatches: the loop over epochs and steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats import execution
from fisherstats.core.arrays import holds, like, noted_checks, numbers_and_checks, on_device, vector
from fisherstats.core.docstrings import documented
from fisherstats.core.progress import Bar, progress_bar
from fisherstats.core.validation import arguments, inputs, training
from fisherstats.models.columns import column_names
from fisherstats.models.network import MLP
from fisherstats.quantities import _run
from fisherstats.theory.sampling import seed_record
from fisherstats.training.batches import batches, stream
from fisherstats.training.history import Callback, History
from fisherstats.training.likelihood import Labelled, labelled, labelled_beside, measures_accuracy
from fisherstats.training.network import Trainee, layer_views
from fisherstats.training.normalization import BatchNormalization, NormalizedTrainee
from fisherstats.training.optimizers import Batch, Optimizer
from fisherstats.training.penalties import Penalty, Restraint

__all__ = ["Fitted", "fit", "started"]

Array = NDArray[np.floating]

_OPTIMISING = 1
_LEFT_DOMAIN = "the outputs of the network have left the domain of the family"


class Fitted(NamedTuple):
    """A trained network and its training history.

    Parameters
    ----------
    model : MLP
        The network after the last completed epoch.
    history : Dataset
        The recorded quantities, over `epoch`.
    """

    model: MLP
    history: xr.Dataset


@documented
@arguments.answered()
def fit(
    model: MLP,
    x: Any,
    y: Any,
    *,
    optimizer: Optimizer,
    penalty: Penalty | Sequence[Penalty] | None = None,
    normalization: BatchNormalization | None = None,
    epochs: int,
    batch_size: int,
    rng: int | np.random.SeedSequence | np.random.Generator,
    callbacks: Iterable[Callback] = (),
    validation: tuple[Any, Any] | None = None,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Fitted:
    r"""Train a network by minibatches on :math:`-\frac1m\sum_i\log p(y_i|x_i,\theta)+\sum\mathrm{penalties}`, for any family.

    Parameters
    ----------
    model : MLP
        The network to start from; it is not changed.
    x : array_like or DataArray (dims ``input``, ``feature``), shape (n, n_features)
        Inputs, at least one row, finite and real; integers are converted batch by batch.
    y : array_like, shape (n,) or (n, T)
        Data labels: class numbers for Categorical, else one number per output ((n,) if there is one output).
    optimizer : Optimizer
        The optimiser: `SGD`, `Adam`, a natural gradient, or a user-defined subclass.
    penalty : Penalty, sequence of Penalty or None, optional
        Terms added to the loss, or constraints on the weights: `Frobenius`, `Spectral`, `GroupWise`, `SpectralProjection`.
    normalization : BatchNormalization, optional
        Normalise the pre-activations of hidden layers over each minibatch. The networks passed to callbacks and returned have
        the running means and variances folded into their weights.
    epochs : int
        Passes over the inputs.
    batch_size : int
        Inputs per step. The last batch of an epoch is smaller if `batch_size` does not divide n; a size of n or more is
        full-batch descent.
    rng : int, SeedSequence or Generator
        Source of the shuffling; the same int gives the same batches (`batches` shows them) and the same network.
    callbacks : iterable of callables, default ()
        Each is called with (epoch, model) at the end of every epoch; its results (a named DataArray, a Dataset, a dict of
        numbers and DataArrays, or None) are concatenated along ``epoch``. See `record`.
    validation : (x, y), optional
        Validation inputs and labels for loss and accuracy at the end of every epoch.
    engine : {None, "numpy", "numba", "cupy"}, optional
        Backend: the GPU for "cupy", or for None and an `x` that is a cupy array. The others differ in the array kernels of
        natural gradients only; None selects automatically. The backend used is recorded in the provenance.
    num_threads : int, optional
        Threads over blocks of inputs, or over the products and updates of small minibatches; by default the cores given to
        the process. Never changes a bit of the result.
    progress : bool, default False
        Show a progress bar over the steps (needs tqdm, extra ``study``).

    Returns
    -------
    Fitted
        ``model``, and ``history``, a Dataset over ``epoch`` = 1, 2, ...: ``loss``, ``penalty``, ``gradient_norm`` (means over
        the inputs or steps of the epoch, evaluated while the weights change), ``accuracy`` for classes and binary outputs,
        ``validation_loss``, ``validation_accuracy``, and ``weight_norm``, ``spectral_norm`` (epoch, layer) of the kernels
        after the epoch; then the results of the callbacks. Units of nat or 1, source keys ``model``, ``weight-penalties``.

    Raises
    ------
    %(refused)s
    TrainingDiverged
        If loss, gradient or weights are no longer finite, or the outputs leave the family's domain.

    Notes
    -----
    An exception that ends training early (`TrainingDiverged`, an error in a callback, a keyboard interrupt) is re-raised with
    a `Fitted` as its attribute ``fitted``: the network after the last completed epoch and the history up to then.

    Cost per step: three matrix products per layer and, for Adam, a dozen passes over the parameters; no new network object is
    created. float32 is kept only if weights and x are both float32.

    On a GPU inputs, labels, parameters and all intermediate arrays stay on the device; a step synchronises once, for its loss
    and the outcome of its checks, regardless of the numbers of inputs and parameters. Natural gradients synchronise a few
    more times when they update a matrix, `SpectralProjection` and ``solver="cg"`` once per iteration. `x` and `y`, and those
    of `validation`, may be host or device arrays; an `x` on the host that would fill more than half of the device's memory,
    or one in a file, is transferred minibatch by minibatch. Results, and the networks passed to callbacks, are on the host.
    User-defined optimisers and penalties receive device arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> model = fs.MLP.random([1, 8, 1], activation="tanh", family=fs.families.Poisson(), rng=0)
    >>> y = np.floor(np.exp(1 + x))
    >>> fitted = fs.training.fit(model, x, y, optimizer=fs.training.Adam(0.01), epochs=30, batch_size=16, rng=0)
    >>> bool(fitted.history.loss[-1] < fitted.history.loss[0])
    True
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    if model.feature_names is None and (found := column_names(x)) is not None:
        model = model.named(found)
        call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    training.in_memory(call.rows.source)
    data = labelled(call, y, call.rows.dtype)
    training.optimizer_object(optimizer, Optimizer)
    penalties = training.penalties(penalty, Penalty)
    training.normalization_object(normalization, BatchNormalization)
    epochs = arguments.positive_integer("epochs", epochs)
    size = arguments.positive_integer("batch_size", batch_size)
    seed = arguments.seed_sequence(rng)
    chosen = training.callbacks(callbacks)
    held_out: Labelled | None = None
    if validation is not None:
        pair = training.validation_pair(validation)
        with training.within("validation"):
            held_out = labelled_beside(call, model, *pair)

    made = call.provenance(optimizer=repr(optimizer), penalties=[repr(one) for one in penalties], batch_size=size)
    if normalization is not None:
        made["normalization"] = repr(normalization)
    history = History(made | {"rng": seed_record(seed)}, chosen)
    restraints = started(call.model, penalties, normalization, len(data), size)
    trainee = Trainee(call.model) if normalization is None else NormalizedTrainee(call.model, normalization)
    descent = _Descent(trainee, data, optimizer, restraints)
    finished = model.as_dtype(call.rows.dtype)
    try:
        steps = -(-len(data) // size)
        with progress_bar(epochs * steps, progress, "step") as bar:
            for epoch in range(1, epochs + 1):
                numbers = descent.epoch(epoch, batches(len(data), size, rng=seed, epoch=epoch), seed, bar)
                network = trainee.frozen()
                numbers |= _kernel_norms(network)
                if held_out is not None:
                    try:
                        fit_there = held_out.fit(network)
                    except ValueError as error:  # as in a step
                        training.diverged(epoch, steps, f"{_LEFT_DOMAIN} at validation inputs ({error})")
                    numbers["validation_loss"] = fit_there.loss
                    if measures_accuracy(model.family):
                        numbers["validation_accuracy"] = fit_there.accuracy
                finished = network
                history.append(numbers)
                history.call(epoch, finished)
    except BaseException as error:
        error.fitted = Fitted(finished, history.dataset())  # type: ignore[attr-defined]
        error.add_note("The network after the last whole epoch and the history are in the attribute `fitted` of this exception.")
        raise
    return Fitted(finished, history.dataset())


class _Descent:
    """The training loop of one network with one optimiser and its penalties."""

    def __init__(self, trainee: Trainee, data: Labelled, optimizer: Optimizer, restraints: list[Restraint]) -> None:
        self.trainee = trainee
        self.data = data
        self.steps = optimizer.start(trainee)
        self.restraints = restraints
        self.taken = 0

    def epoch(self, epoch: int, order: list[NDArray[np.int64]], seed: np.random.SeedSequence, bar: Bar) -> dict[str, Any]:
        """Run the steps of an epoch and return its statistics."""
        rng = stream(seed, epoch, _OPTIMISING)
        sums = np.zeros(4)
        self._descend(epoch, order, rng, sums, bar)
        for restraint in self.restraints:
            restraint.project(self.trainee.weights, exact=True)
        if not holds(np.isfinite(self.trainee.parameters)):
            training.diverged(epoch, len(order), "a weight is no longer finite after it")
        numbers = {"training_loss": sums[0] / len(self.data), "training_penalty": sums[2] / len(order)}
        if measures_accuracy(self.trainee.family):
            numbers["training_accuracy"] = sums[1] / len(self.data)
        return numbers | {"training_gradient_norm": sums[3] / len(order)}

    # One BLAS thread per block, whatever the number of cores; callbacks run with the usual BLAS threads.
    @execution.one_blas_thread
    def _descend(
        self, epoch: int, order: list[NDArray[np.int64]], rng: np.random.Generator, sums: NDArray[np.float64], bar: Bar
    ) -> None:
        """Run the steps of an epoch, and accumulate loss, accuracy, penalty and gradient norm."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for step, rows in enumerate(_beside(order, self.data.y), start=1):
                loss, accuracy, penalised, length = self._step(epoch, step, rows, rng)
                sums += loss * len(rows), accuracy * len(rows), penalised, length
                bar.update()

    def _step(
        self, epoch: int, step: int, rows: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[float, float, float, float]:
        """Perform a step; return loss, accuracy, penalty and gradient norm before it."""
        trainee = self.trainee
        network, gradient, numbers = self._differentiate(epoch, step, rows)
        loss, accuracy, penalised, square = numbers
        if not math.isfinite(loss + penalised):
            training.diverged(epoch, step, f"the loss is {loss + penalised}")
        length = math.sqrt(square)
        if not math.isfinite(length):
            training.diverged(epoch, step, f"the gradient has the norm {length}")
        self.steps.move(trainee.parameters, gradient, Batch(network, self.data, rows, self.taken, rng))
        self.taken += 1
        for restraint in self.restraints:
            restraint.project(trainee.weights, exact=False)
        return loss, accuracy, penalised, length

    def _differentiate(self, epoch: int, step: int, rows: NDArray[np.int64]) -> tuple[MLP, Array, list[float]]:
        """Return the network evaluated on the minibatch, the gradient, and loss, accuracy, penalty and squared gradient norm.

        The device is synchronised once, for these numbers and all deferred checks.
        """
        if self.data.device is None:
            return self._measured(epoch, step, rows)
        with noted_checks() as noted:
            network, gradient, numbers = self._measured(epoch, step, rows)
        found, held = numbers_and_checks(vector(numbers, gradient), noted)
        if not held:
            # Repeated with immediate checks, so that the failing one raises its own message.
            self._measured(epoch, step, rows)
        return network, gradient, found

    def _measured(self, epoch: int, step: int, rows: NDArray[np.int64]) -> tuple[MLP, Array, list[Any]]:
        """Return the same, with the numbers left on the device that computes them."""
        trainee = self.trainee
        network: MLP = trainee
        try:
            if isinstance(trainee, NormalizedTrainee):
                network, there, gradient = trainee.differentiate(self.data, rows)
                square = gradient @ gradient
            else:
                there, gradient, square = self.data.gradient(trainee, rows)
        except inputs.RowsRefused:
            raise
        except ValueError as error:  # outputs outside the natural domain of the family
            training.diverged(epoch, step, f"{_LEFT_DOMAIN} ({error})")
        if isinstance(trainee, NormalizedTrainee) and not trainee.is_finite():
            training.diverged(epoch, step, "the variance of a unit over the minibatch is no longer finite")
        penalised: Any = 0.0
        if self.restraints:
            gradients = layer_views(trainee, gradient)
            penalised = sum(restraint.penalise(trainee.weights, gradients) for restraint in self.restraints)
            square = gradient @ gradient
        return network, gradient, [*there, penalised, square]


def _beside(order: list[NDArray[np.int64]], other: Any) -> list[NDArray[np.int64]]:
    """Return the row numbers of an epoch on the device of `other`, transferred together."""
    if not on_device(other):
        return order
    whole = like(np.concatenate(order), other)
    ends = np.cumsum([len(rows) for rows in order]).tolist()
    return [whole[end - len(rows) : end] for end, rows in zip(ends, order, strict=True)]


def started(
    model: MLP, penalties: Sequence[Penalty], normalization: BatchNormalization | None, n_inputs: int, batch_size: int
) -> list[Restraint]:
    """Return the penalties started for one fit, after validating network, batch size and penalties against the normalisation.

    Parameters
    ----------
    model : MLP
        The network to be trained.
    penalties : sequence of Penalty
        Penalties and constraints on its weights.
    normalization : BatchNormalization or None
        Normalisation of the hidden layers.
    n_inputs, batch_size : int
        Number of training inputs, and inputs per step.

    Returns
    -------
    list of Restraint
        One per penalty.
    """
    restraints = [one.start(model) for one in penalties]
    if normalization is not None:
        constrain = [type(one).project is not Restraint.project for one in restraints]
        constraints = [repr(penalty) for penalty, does in zip(penalties, constrain, strict=True) if does]
        training.normalizable(model.bias, n_inputs, batch_size, constraints)
    return restraints


# Active BLAS threads keep spinning for a while, and would take a core from the next epoch.
@execution.one_blas_thread
def _kernel_norms(network: MLP) -> dict[str, Any]:
    """Return the norms of the kernels of each layer."""
    kernels = [kernel.astype(np.float64) for kernel in network.kernels]
    with np.errstate(over="ignore"):  # a norm may overflow the range of the weights
        norms = [[np.linalg.norm(kernel, kind) for kernel in kernels] for kind in ("fro", 2)]
    return {"training_weight_norm": norms[0], "training_spectral_norm": norms[1]}
