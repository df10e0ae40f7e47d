"""The five ways in which continual learning computes a Fisher information, side by side."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import applications as checks
from fisherstats.core.validation import arguments
from fisherstats.execution import at_once, one_blas_thread
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run
from fisherstats.quantities.information.estimates import empirical_fisher, estimate_fisher
from fisherstats.quantities.information.exact import fisher_information
from fisherstats.quantities.information.scores import mean_score, squared_batches
from fisherstats.quantities.uncertainty.variances import estimator_variance

__all__ = ["compare_fishers"]

Array = NDArray[np.floating]

FISHERS = ("exact", "exact_subset", "sampled", "empirical", "batched")


@documented
@one_blas_thread
def compare_fishers(
    model: MLP,
    x: Any,
    y: Any,
    *,
    rng: int | np.random.SeedSequence | np.random.Generator,
    n_subset: int | None = None,
    n_draws: int = 1,
    batch_size: int | None = None,
    engine: str | None = None,
    num_threads: int | None = None,
) -> xr.Dataset:
    r"""Compare what is called the diagonal Fisher information in continual learning: five definitions, their errors and costs.

    ``exact``: the expectation over labels, at all inputs. ``exact_subset``: the same at some of them. ``sampled``: squared
    scores of labels drawn from the model. ``empirical``: squared scores of the data labels. ``batched``: squared mean scores of
    batches of data labels, a mistake of much code. The first three estimate one quantity, the last two others (van de Ven
    2025).

    Parameters
    ----------
    %(model)s
    x : array_like or DataArray (dims ``input``, ``feature``), shape (n, n_features)
        Inputs, in memory, at least two rows.
    y : array_like, shape (n,) or (n, T)
        Data labels.
    rng : int, SeedSequence or Generator
        Source of the subset and of the labels.
    n_subset : int, optional
        Inputs of the subset; a tenth, and at least two, by default.
    n_draws : int, default 1
        Labels per input of the sampled one.
    batch_size : int, optional
        Inputs of a batch; 32, or all if they are fewer, by default.
    %(engine)s
    %(num_threads)s

    Returns
    -------
    Dataset
        ``information (definition, param)``; for ``batched`` the expectation over random batches. ``standard_error (definition,
        param)`` over subsets or labels, 0 where nothing is random. ``bias (definition, param)``, the expectation minus the
        exact value. ``distance (definition)``, the norm of the difference from the exact diagonal over its norm, ``trace_ratio
        (definition)``, and ``backward_passes (definition)`` per evaluation. Source keys ``five-fishers``, ``information``.

    Raises
    ------
    %(refused)s

    Notes
    -----
    Cost: three exact diagonals and one variance over inputs. A backward pass is one row of one input: the exact value takes one
    for every output (one less for a softmax), and ``batched`` one for every batch.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = fs.MLP.random([3, 5, 4], activation="tanh", family=fs.families.Categorical(4), rng=1)
    >>> y = np.random.default_rng(1).integers(0, 4, 200)
    >>> found = fs.applications.compare_fishers(model, x, y, rng=0)
    >>> found.trace_ratio.sel(definition=["exact", "batched"]).values.round(2)
    array([1.  , 0.05])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, any_network=True)
    on_host = _run.prepare(model, x, num_threads=num_threads, host_only=True, any_network=True)
    n = call.n_inputs
    labels = call.data_labels(y)
    n_subset = max(2, n // 10) if n_subset is None else arguments.positive_integer("n_subset", n_subset)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    size = min(32, n) if batch_size is None else arguments.positive_integer("batch_size", batch_size)
    checks.part_of_the_inputs("n_subset", n_subset, n, 2)
    checks.part_of_the_inputs("batch_size", size, n, 1)
    of_subset, of_labels = arguments.seed_sequence(rng).spawn(2)
    chosen = np.sort(np.random.default_rng(of_subset).choice(n, n_subset, replace=False))
    settings: dict[str, Any] = {"engine": engine, "num_threads": num_threads}
    exact = cast(xr.DataArray, fisher_information(model, x, **settings)).values
    subset = _rows(x, chosen)
    part = cast(xr.DataArray, fisher_information(model, subset, **settings)).values
    spread = estimator_variance(model, subset, design="exact_labels", estimators=["score"], **settings)["variance"].values[0]
    over_subsets = (1 - n_subset / n) * spread  # without replacement from finitely many
    sampled = cast(
        xr.DataArray,
        estimate_fisher(model, x, estimator="score", n_draws=n_draws, rng=of_labels, standard_error=True, **settings),
    )
    empirical = cast(xr.Dataset, empirical_fisher(model, x, y, **settings))["empirical"].values
    own, cross = squared_batches(size, n)
    batched = own * empirical + cross * np.square(at_once(mean_score(on_host, labels)))
    information = np.stack([exact, part, sampled.values, empirical, batched]).astype(exact.dtype)
    errors = np.zeros_like(information)
    errors[1], errors[2] = np.sqrt(over_subsets), sampled.coords["standard_error"].values
    bias = np.zeros_like(information)
    bias[3:] = information[3:] - exact
    rows = model.family.n_outputs - (1 if model.family.shift_invariant else 0)
    passes = np.array([n * rows, n_subset * rows, n * n_draws, n, -(-n // size)], dtype=np.float64)
    norm, total = np.linalg.norm(exact), exact.sum(dtype=np.float64)
    distance = np.linalg.norm(information - exact, axis=1) / norm if norm else np.full(5, np.nan)
    ratio = information.sum(axis=1, dtype=np.float64) / total if total else np.full(5, np.nan)
    coords = _labels.param_coordinates(model) | _labels.coordinates(definition=list(FISHERS))
    keys: list[_layout.Entry] = ["five_information", "five_error", "five_bias"]
    keys += [(key, np.float64) for key in ("five_distance", "five_ratio", "five_passes")]
    provenance = call.provenance(n_subset=n_subset, n_draws=n_draws, batch_size=size)
    layout = _layout.dataset(keys, coords, provenance, exact.dtype)
    values = [information, errors, bias, distance, ratio, passes]
    layout.check(values)
    return layout.filled(values)


def _rows(x: Any, chosen: NDArray[np.int64]) -> Any:
    """Return some rows of the inputs, with their labels if they have any."""
    if isinstance(x, xr.DataArray):
        return x.isel(input=chosen)
    return x.iloc[chosen] if hasattr(x, "iloc") else arguments.array_like("x", x)[chosen]
