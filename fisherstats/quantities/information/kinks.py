"""Where the network is not twice differentiable: units whose pre-activation is on, or near, a kink of their activation."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.execution import at_once
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _run

__all__ = ["kink_report"]

Array = NDArray[np.floating]


@documented
def kink_report(
    model: MLP,
    x: Any,
    *,
    tolerance: float = 0.0,
    num_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Units whose pre-activation is within `tolerance` of a kink of their activation (2021, smoothness theorem).

    There the network has no second derivative in the parameters, and the Hessian estimator and its variance are undefined.

    Parameters
    ----------
    %(model)s
    x : array_like, DataArray (dims ``input``, ``feature``) or dask array, shape (n, n_features)
        Inputs, at least one row, finite and real.
    tolerance : float, default 0
        Largest distance from a kink that is reported; 0 reports the kinks at which the Hessian estimator raises.
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``input`` (the label of the input where x carries them, else its row), ``layer`` (the weight matrix that feeds the unit),
        ``unit``, ``value`` (the pre-activation) and ``at`` (the nearest kink), dim ``kink``, in the order of inputs, layers and
        units; empty where there are none. Source key ``kinks``.

    Raises
    ------
    %(refused)s

    Notes
    -----
    Cost: one forward pass. elu and softsign, once differentiable, count as kinks. Almost no parameters are on a kink for inputs
    with a density; zero biases, inputs of zeros and quantised data make them common.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> layers = [[[1.0, -1.0, 0.0], [1.0, 1.0, 0.5]], [[1.0, 1.0, 0.0]]]
    >>> model = fs.MLP(layers, activation="relu", family=fs.families.Bernoulli())
    >>> report = fs.kink_report(model, np.array([[1.0, 2.0], [3.0, 3.0]]))
    >>> report.input.values, report.layer.values, report.unit.values
    (array([1]), array([0]), array([0]))
    """
    call = _run.prepare(model, x, num_threads=num_threads, progress=progress, host_only=True)
    tolerance = arguments.non_negative_number("tolerance", tolerance)
    kinks = [np.asarray(activation.kinks, dtype=call.rows.dtype) for activation in call.model.activations]

    def block(x: Array, first_input: int) -> list[Array]:
        forward, _ = call.network.forward(x, first_input)
        found = [np.empty((0, 5))]
        for layer, (values, points) in enumerate(zip(forward.pre_activations, kinks, strict=True)):
            if len(points):
                distances = np.abs(values[:, :, None] - points)
                row, unit = np.nonzero(distances.min(axis=2) <= tolerance)
                nearest = points[distances[row, unit].argmin(axis=1)]
                found.append(np.stack([first_input + row, np.full(len(row), layer), unit, values[row, unit], nearest], axis=1))
        return [np.concatenate(found)]

    def extend(total: list[Array], part: list[Array]) -> None:
        total.extend(part)

    table = np.concatenate(at_once(call.mean(block, call.block_rows(), combine=extend)))
    table = table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))]
    rows, layers, units = table[:, :3].astype(np.int64).T
    columns = {
        "kink_input": rows if call.input_labels is None else call.input_labels[rows],
        "kink_layer": layers,
        "kink_unit": units,
        "kink_value": table[:, 3].astype(call.rows.dtype),
        "kink_place": table[:, 4].astype(call.rows.dtype),
    }
    entries = [(key, ["kink"], values) for key, values in columns.items()]
    return _labels.dataset(entries, _labels.coordinates(kink=len(table)), call.provenance(tolerance=tolerance))
