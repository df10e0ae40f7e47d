"""Active learning by expected gradient length: selects the inputs of a pool whose labels would change the parameters most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats import execution
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import applications as checks
from fisherstats.core.validation import arguments
from fisherstats.execution import Steps, at_once
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import information_contractions, response_support, sampling

__all__ = ["expected_gradient_length", "select_batch"]

Array = NDArray[np.floating]
Seed = int | np.random.SeedSequence | np.random.Generator

SCORES = ("squared_norm", "norm")


@documented
@streamed(per_input=True)
def expected_gradient_length(
    model: MLP,
    x: Any,
    *,
    score: str | Sequence[str] = "squared_norm",
    n_draws: int | None = None,
    rng: Seed | None = None,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Expected length of the gradient over the model's own labels, :math:`\mathrm E_y\|\partial\ell(x,y)\|` or its square.

    The square is :math:`\mathrm{tr}\,I(\theta|x)=\mathrm{tr}(I(h)JJ^\top)`, exact for every family; the norm is the score of
    Settles and Craven (2008).

    Parameters
    ----------
    model : MLP
        The current network.
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        The pool; from a dask array the result is lazy.
    score : {"squared_norm", "norm"} or a sequence of both, default "squared_norm"
        Which lengths to return.
    n_draws : int, optional
        Labels per input for an estimate of the norm. Not needed for classes, up to eight binary outputs, and one output of any
        other family with one parameter per output, where it is exact: mean absolute deviations have a closed form.
    rng : int, SeedSequence or Generator, optional
        Source of these labels; used with `n_draws`.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset, dims (input,)
        ``squared_norm`` with ``squared_norm_deviation``, the standard deviation of :math:`\|\partial\ell\|^2` over labels, i.e.
        how much a single label may deviate; ``norm`` with ``norm_standard_error``, 0 where exact. Units of 1, source key
        ``expected-gradient-length``.

    Raises
    ------
    TypeError, ValueError
        If `model` or `x` is not valid, `score` is unknown, `n_draws` or `rng` is given without "norm" among the scores, or
        `n_draws` is missing where the norm has no closed form.

    Notes
    -----
    Cost: linear in the pool, one backward pass for T outputs per input; no array of size pool x P. No labels are drawn for the
    square.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> pool = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> found = fs.applications.expected_gradient_length(model, pool, score=("squared_norm", "norm"))
    >>> found.squared_norm.values, found.norm.values
    (array([0.75, 2.25]), array([0.8660254, 1.5      ]))
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, any_network=True)
    chosen = arguments.words("score", score, SCORES)
    drawing = n_draws is not None or rng is not None
    seed = None
    if drawing:
        checks.draws_for_norm(chosen)
        n_draws, seed = arguments.positive_integer("n_draws", n_draws), arguments.seed_sequence(rng)
    record = None if seed is None else sampling.seed_record(seed)
    keys = [f"gradient_{key}" for key in _parts(chosen)]
    provenance = call.provenance(n_draws=n_draws, seed=record)
    yield (layout := _layout.dataset(keys, call.input_coordinate(), provenance, call.rows.dtype))
    values = yield from _lengths(call, chosen, n_draws or 0, seed)
    return layout, list(values.values())


def _lengths(call: Call, chosen: Sequence[str], n_draws: int, seed: np.random.SeedSequence | None) -> Steps[dict[str, Array]]:
    family = call.model.family

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        G = call.network.unit_jacobians(forward, differences=False)
        found: list[Array] = []
        if "squared_norm" in chosen:
            found.append(information_contractions.mean_square_length(law, G, forward.inputs))
            found.append(information_contractions.square_length_deviation(law, G, forward.inputs))
        if "norm" not in chosen:
            return found
        if seed is not None:
            lengths = information_contractions.gradient_lengths(
                sampling.residuals(family, law, seed, first_input, n_draws), G, forward.inputs
            )
            error = lengths.std(axis=1, ddof=1) / np.sqrt(n_draws) if n_draws > 1 else np.full_like(lengths, np.inf, shape=len(x))
            return [*found, lengths.mean(axis=1), error]
        if isinstance(law, CategoricalLaw):
            mean = information_contractions.mean_class_length(law, G, forward.inputs)
            return [*found, mean, np.zeros_like(mean)]
        support, absolute = response_support.enumerated(family, law), response_support.mean_absolute_residual(family, law)
        if support is not None:
            residuals, log_prob = support
            mean = np.einsum(
                "nk,nk->n", np.exp(log_prob), information_contractions.gradient_lengths(residuals, G, forward.inputs)
            )
        else:
            absolute = checks.exact_norm(absolute, family.name)
            mean = (
                absolute
                * information_contractions.gradient_lengths(np.ones_like(x, shape=(len(x), 1, 1)), G, forward.inputs)[:, 0]
            )
        return [*found, mean, np.zeros_like(mean)]

    widest = max(call.model.widths)
    rows = execution.block_rows(max(n_draws, call.model.widths[-1] + 1) * widest)
    arrays = yield from call.stack(block, rows, infinite=n_draws == 1)
    return {key: array.astype(call.rows.dtype, copy=False) for key, array in zip(_parts(chosen), arrays, strict=True)}


_PARTS = {"squared_norm": ("squared_norm", "squared_norm_deviation"), "norm": ("norm", "norm_standard_error")}


def _parts(chosen: Sequence[str]) -> list[str]:
    """Return the quantities of the chosen scores, in order."""
    return [key for one in SCORES if one in chosen for key in _PARTS[one]]


@documented
@arguments.answered()
def select_batch(
    model: MLP,
    x: Any,
    size: int,
    *,
    score: str = "squared_norm",
    n_draws: int | None = None,
    rng: Seed | None = None,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Select the inputs of a pool with the largest expected gradient length, or by a baseline criterion.

    Parameters
    ----------
    model : MLP
        The current network.
    x : array_like, DataArray (dims ``input``, ``feature``) or dask array, shape (n, n_features)
        The pool.
    size : int
        Number of inputs to select, at most n.
    score : {"squared_norm", "norm", "entropy", "random"}, default "squared_norm"
        A gradient length, the entropy of the predicted label (classes and up to eight binary outputs), or random selection.
    n_draws : int, optional
        Labels per input for an estimated norm.
    rng : int, SeedSequence or Generator, optional
        Source of these labels, or of the random selection.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset, dims (choice,)
        ``position``, the row in the pool, and ``score``, the largest first; ties are broken in favour of the earlier row. Units
        of 1, source key ``expected-gradient-length``.

    Raises
    ------
    %(refused)s

    Notes
    -----
    Cost: that of the scores, and sorting. Inputs are scored independently: near-duplicates of one informative input are all
    selected.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> pool = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    >>> fs.applications.select_batch(model, pool, 2).position.values
    array([2, 1])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, any_network=True)
    size = checks.batch_size(size, call.n_inputs)
    arguments.choice("score", score, (*SCORES, "entropy", "random"))
    seed = None if rng is None and score != "random" else arguments.seed_sequence(rng)
    if n_draws is not None or (seed is not None and score != "random"):
        checks.draws_for_norm([score])
        n_draws = arguments.positive_integer("n_draws", n_draws)
    values: Array
    if score == "random":
        values = np.random.default_rng(seed).random(call.n_inputs)
    elif score == "entropy":
        values = at_once(_entropies(call))
    else:
        values = at_once(_lengths(call, [score], n_draws or 0, seed))[score]
    order = np.argsort(-values, kind="stable")[:size]
    entries: list[_labels.Entry] = [("chosen_position", ["choice"], order), ("chosen_score", ["choice"], values[order])]
    record = None if seed is None else sampling.seed_record(seed)
    provenance = call.provenance(score=score, n_draws=n_draws, seed=record)
    return _labels.dataset(entries, _labels.coordinates(choice=size), provenance)


def _entropies(call: Call) -> Steps[Array]:
    checks.few_labels(call.model.family.name, response_support.few(call.model.family))

    def block(x: Array, first_input: int) -> list[Array]:
        _, law = call.network.forward(x, first_input)
        support = response_support.enumerated(call.model.family, law)
        assert support is not None
        return [response_support.entropy(support[1])]

    (values,) = yield from call.stack(block, call.block_rows())
    return values.astype(call.rows.dtype, copy=False)
