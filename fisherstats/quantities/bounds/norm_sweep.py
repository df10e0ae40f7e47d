"""Effect of scaling the weights on information, variances and their bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.arrays import overflow_is_inf
from fisherstats.core.docstrings import documented
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, clients, remedies
from fisherstats.core.validation import weight_factors as checks
from fisherstats.execution import tasks
from fisherstats.models.families import Gaussian
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _run
from fisherstats.quantities.bounds.variance import variance_bounds
from fisherstats.quantities.information.exact import fisher_information
from fisherstats.quantities.uncertainty.variances import estimator_variance
from fisherstats.theory import assembly
from fisherstats.theory import weight_norms as closed

__all__ = ["norm_sweep"]

Array = NDArray[np.floating]

_STEP = 0.01
"""Step in log s of the local exponents: truncation error is of the order of its fourth power, rounding error of eps / step."""

_DIFFERENCE = ((1, 2 / 3), (2, -1 / 12))
"""Weights of the central differences over one and two steps, exact to the fourth power of the step."""


@documented
@remedies.advising
@overflow_is_inf
def norm_sweep(
    model: MLP,
    x: Any,
    *,
    scales: Sequence[float],
    layers: Sequence[int] | None = None,
    by: str = "frobenius",
    mode: str = "rescale",
    n_draws: int = 1,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    client: Any = None,
) -> xr.Dataset:
    r"""Information, variances and their bounds per layer along a scale s of the weight norms, with local exponents.

    If only the last kernel is scaled, not its biases, and I(h) is constant (a Gaussian of known variance), then in every earlier
    layer :math:`I\propto s^2`, :math:`V_1\propto s^4` and :math:`V_2\propto s^2` exactly; elsewhere the exponents are local and
    no theorem gives them.

    Parameters
    ----------
    model : MLP
        The network at s = 1.
    x : array_like, DataArray (dims ``input``, ``feature``) or dask array, shape (n, n_features)
        Inputs, at least one row, finite and real; a fixed design.
    scales : sequence of float
        Factors s of the norms, above 0 and all different.
    layers : sequence of int, optional
        The weight matrices whose kernels change; all of them by default. Biases never change.
    by : {"frobenius", "spectral"}, default "frobenius"
        The norm that is scaled; relevant for mode="project" only.
    mode : {"rescale", "project"}, default "rescale"
        "rescale": the kernel times s. "project": the nearest kernel whose norm is at most s times its norm; the Frobenius norm
        shrinks all singular values by one factor, the spectral norm truncates those above the limit.
    %(n_draws)s
    %(on_kink)s
    engine, num_threads : optional
        As for `fisher_information`.
    progress : bool, default False
        Show a progress bar over the scales (needs tqdm, extra ``study``).
    client : distributed.Client or executor, optional
        Where the scales are computed, each with one thread; by default in this process. Never changes a bit of the result.

    Returns
    -------
    Dataset
        ``information (scale, layer)``, ``variance``, ``upper`` and ``relative_variance (scale, estimator, layer)``: means over a
        layer's entries of the exact diagonal information, of the variance and of its smallest certified bound, and mean variance
        over squared mean information. ``exponent (scale, estimator, layer)`` = d log V / d log s, ``information_exponent (scale,
        layer)``, NaN where the quantity is 0; ``predicted_exponent (estimator, layer)``, NaN where none is known. ``frobenius``
        and ``spectral (scale, layer)``, the norms of the kernels. Units of 1, source keys ``information``,
        ``estimator-variance``, ``bounds``, ``norm-sweep``, ``weight-norms``.

    Raises
    ------
    %(refused)s
    %(kink)s
    SizeError
        If the bounds of the variances do not fit in memory.
    WorkerLost
        If the workers of `client` die. The message of an error begins with the scale in which it was raised.

    Notes
    -----
    Exponents are central differences of logarithms in double precision over one and two steps of 0.01 in log s, exact to the
    fourth power of the step: for a power law to about 1e-12, else to about 1e-8 times the fifth derivative of log V in log s.
    Where a difference straddles a kink of an activation, or the end of a projection (s = 1, or a singular value that starts to be
    truncated), it mixes both sides. Cost: per scale that of `variance_bounds`, and four times that of `estimator_variance` and
    `fisher_information`.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP.random([2, 3, 1], activation="tanh", family=fs.families.Gaussian(), rng=0)
    >>> sweep = fs.norm_sweep(model, np.ones((4, 2)), scales=[0.5, 2.0], layers=[1])
    >>> sweep.exponent.sel(layer=0, scale=2.0).values.round(6)
    array([4., 2.])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    factors = checks.scales(scales)
    chosen = checks.weight_layers(layers, model.n_layers)
    arguments.choice("by", by, ("frobenius", "spectral"))
    arguments.choice("mode", mode, ("rescale", "project"))
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    clients.client(client)
    sweep = _Sweep(model.as_dtype(np.dtype(np.float64)), x, chosen, by, mode, n_draws, on_kink, engine)
    pieces = [tasks.Piece(f"scale {factor:g}", factor) for factor in factors.tolist()]
    rows = tasks.in_order(_row, sweep, pieces, client=client, num_threads=num_threads, progress=progress)
    dims = {"variance": ["scale", "estimator", "layer"], "information": ["scale", "layer"]}
    dims |= dict.fromkeys(("upper", "relative", "exponent"), dims["variance"])
    entries: list[_labels.Entry] = [
        (f"sweep_{name}", dims.get(name, dims["information"]), np.stack([row[name] for row in rows]).astype(call.rows.dtype))
        for name in rows[0]
    ]
    entries.append(("sweep_predicted", ["estimator", "layer"], _predicted(model, chosen, mode).astype(call.rows.dtype)))
    coords = _labels.layer_coordinates(model.n_layers) | _labels.coordinates(scale=factors, estimator=list(ESTIMATORS))
    more: dict[str, Any] = {"layers": list(chosen), "by": by, "mode": mode, "n_draws": n_draws, "on_kink": on_kink}
    return _labels.dataset(entries, coords, call.provenance(**more))


@dataclasses.dataclass(frozen=True)
class _Sweep:
    """Settings shared by all scales."""

    model: MLP
    x: Any
    layers: Sequence[int]
    by: str
    mode: str
    n_draws: int
    on_kink: str
    engine: str | None


def _row(sweep: _Sweep, scale: float, num_threads: int | None) -> dict[str, Array]:
    """Return all quantities at one scale."""
    known: dict[str, Any] = {"engine": sweep.engine, "num_threads": num_threads}

    def scaled(factor: float) -> MLP:
        return _scaled(sweep.model, factor, sweep.layers, sweep.by, sweep.mode)

    def layer_mean(values: Array) -> Array:
        return assembly.layer_means(values, sweep.model.layer_slices())

    def moments(factor: float) -> tuple[Array, Array]:
        """Return the logarithms of information (L,) and variances (2, L), NaN where 0."""
        at = scaled(factor)
        variance = estimator_variance(at, sweep.x, on_kink=sweep.on_kink, **known).variance.to_numpy()
        return _logarithm(layer_mean(fisher_information(at, sweep.x, **known).to_numpy())), _logarithm(layer_mean(variance))

    at = scaled(scale)
    bounds = variance_bounds(at, sweep.x, n_draws=sweep.n_draws, on_kink=sweep.on_kink, **known)
    information, variance = layer_mean(bounds.information_exact.to_numpy()), layer_mean(bounds.exact.to_numpy())
    informed = np.where(information > 0, information, np.nan)
    slopes = [np.zeros(sweep.model.n_layers), np.zeros((len(ESTIMATORS), sweep.model.n_layers))]
    for steps, weight in _DIFFERENCE:
        above, below = (moments(scale * np.exp(sign * steps * _STEP)) for sign in (1, -1))
        slopes = [slope + weight * (up - down) / _STEP for slope, up, down in zip(slopes, above, below, strict=True)]
    kernel_norms = closed.kernel_norms(at.kernels)
    return {
        "frobenius": kernel_norms[0],
        "spectral": kernel_norms[1],
        "information": information,
        "variance": variance,
        "upper": layer_mean(bounds.upper.to_numpy()),
        "relative": variance / informed / informed,
        "exponent": slopes[1],
        "information_exponent": slopes[0],
    }


def _scaled(model: MLP, scale: float, layers: Sequence[int], by: str, mode: str) -> MLP:
    """Return the network with the kernels of some layers rescaled or projected."""
    weights = [np.array(matrix) for matrix in model.weights]
    for layer in layers:
        kernel = weights[layer][:, : model.widths[layer]]
        if mode == "rescale" or (by == "frobenius" and scale < 1):
            kernel *= scale
        elif scale < 1:
            left, values, right = np.linalg.svd(kernel, full_matrices=False)
            kernel[:] = (left * np.minimum(values, scale * values[0])) @ right
    return model.with_weights(weights)


def _logarithm(values: Array) -> Array:
    return np.log(np.where(values > 0, values, np.nan))


def _predicted(model: MLP, layers: Sequence[int], mode: str) -> Array:
    """Return the exponents that hold for every network, NaN elsewhere: those below a last kernel that alone is scaled."""
    predicted = np.full((len(ESTIMATORS), model.n_layers), np.nan)
    if mode == "rescale" and list(layers) == [model.n_layers - 1] and isinstance(model.family, Gaussian):
        predicted[:, :-1] = [[4.0], [2.0]]
    return predicted
