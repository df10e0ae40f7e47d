"""Positive definiteness of the Hessian estimate: sufficient number of draws, and simulated probability."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.arrays import identity
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments, clients, remedies
from fisherstats.execution import STREAM_ROWS, at_once, one_blas_thread, tasks
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _run, _views
from fisherstats.quantities._run import Call
from fisherstats.quantities.information.estimates import estimate_fisher
from fisherstats.quantities.information.exact import fisher_information
from fisherstats.theory import definiteness as closed
from fisherstats.theory import sampling, tensor_norms

__all__ = ["definiteness"]

Array = NDArray[np.floating]

_GROUP = 10
"""Replicates that are computed together."""


@documented
@arguments.answered()
@remedies.advising
@one_blas_thread
def definiteness(
    model: MLP,
    x: Any,
    *,
    n_draws: int,
    rng: int | np.random.SeedSequence | np.random.Generator,
    n_replicates: int = 200,
    delta: float = 0.05,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    client: Any = None,
) -> xr.Dataset:
    r"""Probability that the Hessian estimate is positive definite, and draws that are sufficient for it (2021, section 3.4).

    With :math:`\lambda_{min}` that of the exact information and S the sum of the single-label variances of all entries, mean over
    inputs, :math:`N\ge S/(n\,\delta\,\lambda_{min}^2)` gives :math:`P(\hat I_2\succ0)\ge1-\delta` by Chebyshev's inequality.

    Parameters
    ----------
    model : MLP
        The network, with few parameters; its weights are treated as fixed.
    x : array_like, DataArray (dims ``input``, ``feature``), or array on disk, shape (n, n_features)
        Inputs, at least one row, finite and real; fixed design.
        From a dask array the result is lazy.
    n_draws : int
        Labels per input, N, of the simulated estimates.
    rng : int, SeedSequence or Generator
        Source of the labels.
    n_replicates : int, default 200
        Simulated estimates.
    delta : float, default 0.05
        Failure probability for the sufficient number of draws.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    progress : bool, default False
        Show a progress bar over groups of replicates (needs tqdm, extra ``study``).
    client : distributed.Client or executor, optional
        Where the replicates are computed, each with one thread; by default in this process. Never changes a bit of the result.

    Returns
    -------
    Dataset
        Scalars: ``smallest_eigenvalue`` (0 where the information is singular up to rounding), ``total_variance``
        (S), ``sufficient_draws`` (inf where it is singular), ``probability`` at `n_draws`, with its exact 95 % interval
        ``probability_lower``, ``probability_upper``. Source keys ``information``, ``definiteness``.

    Raises
    ------
    %(refused)s
    %(kink)s
    SizeError
        If the full matrix would not fit in memory.
    WorkerLost
        If the workers of `client` die. The message of an error begins with the replicates in which it was raised.

    Notes
    -----
    Cost: `n_replicates` full estimates and eigenvalue problems of size P. The sufficient number is far from necessary, often by
    orders of magnitude. One input's information has rank T at most, so with P > T its estimate is singular at best and
    indefinite in general; the softmax over all classes has null directions in its last layer and is never positive definite
    (use ``minimal=True``). No clipping or damping is applied.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]], [[1.0, 0.0]]], activation="tanh", family=fs.families.Gaussian())
    >>> x = np.array([[-1.5], [-0.5], [0.3], [0.8], [2.0]])
    >>> found = fs.definiteness(model, x, n_draws=10**7, rng=0, n_replicates=20)
    >>> float(found.probability)
    1.0
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    n_draws, n_replicates = (
        arguments.positive_integer(name, value) for name, value in (("n_draws", n_draws), ("n_replicates", n_replicates))
    )
    delta = arguments.fraction("delta", delta)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    _views.check(call, "full", False, 2)
    seed = arguments.seed_sequence(rng)
    clients.client(client)
    exact = fisher_information(model, x, view="full", engine=engine, num_threads=num_threads)
    smallest = closed.smallest_eigenvalue(np.asarray(exact, np.float64))
    total = _total_variance(call, on_kink)
    known: dict[str, Any] = {"estimator": "hessian", "n_draws": n_draws, "view": "full", "on_kink": on_kink, "engine": engine}
    groups = [range(first, min(first + _GROUP, n_replicates)) for first in range(0, n_replicates, _GROUP)]
    pieces = [tasks.Piece(f"replicates {group[0] + 1} to {group[-1] + 1}", group) for group in groups]
    definite = sum(
        tasks.in_order(
            _count_definite, (model, x, seed, known), pieces, client=client, num_threads=num_threads, progress=progress
        )
    )
    lower, upper = closed.binomial_interval(definite, n_replicates, 0.95)
    values = {
        "smallest_eigenvalue": smallest,
        "total_variance": total,
        "sufficient_draws": closed.sufficient_draws(total, call.n_inputs, delta, smallest),
        "definite_probability": definite / n_replicates,
        "definite_lower": lower,
        "definite_upper": upper,
    }
    provenance = call.provenance(
        n_draws=n_draws, n_replicates=n_replicates, delta=delta, seed=sampling.seed_record(seed), on_kink=on_kink
    )
    entries: list[_labels.Entry] = [(key, [], np.asarray(value)) for key, value in values.items()]
    return _labels.dataset(entries, {}, provenance)


def _count_definite(
    shared: tuple[MLP, Any, np.random.SeedSequence, dict[str, Any]], replicates: range, num_threads: int | None
) -> int:
    """Return how many of these replicates of the estimate are positive definite."""
    model, x, seed, known = shared
    definite = 0
    for replicate in replicates:
        child = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, replicate), pool_size=seed.pool_size)
        estimate = estimate_fisher(model, x, rng=child, num_threads=num_threads, **known)
        definite += int(closed.smallest_eigenvalue(np.asarray(estimate, np.float64)) > 0)
    return definite


def _total_variance(call: Call, on_kink: str) -> float:
    """Return the mean over inputs of the sum of the single-label variances of all entries, tr(I Q) (Theorem 6 of 2021)."""
    n_outputs = call.model.widths[-1]

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order=2)
        call.network.refuse_kinks(forward, on_kink, first_input)
        roots = law.rows(np.broadcast_to(identity(n_outputs, x), (len(x), n_outputs, n_outputs)))
        hessian = call.network.hessian_blocks(forward, call.network.jacobians(forward, differences=False), roots)
        return [np.einsum("iaia->", tensor_norms.hessian_inner_products(hessian, forward.inputs))[None]]

    (total,) = at_once(call.mean(block, STREAM_ROWS))
    return float(total[0])
