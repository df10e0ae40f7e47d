"""Training history: statistics of each epoch and results of the callbacks, concatenated along `epoch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from fisherstats.core.schema import COORDINATES
from fisherstats.core.validation import arguments, training
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels

__all__ = ["Callback", "History", "record"]

Callback = Callable[[int, MLP], Any]

_PER_EPOCH = {
    "training_loss": ["epoch"],
    "training_penalty": ["epoch"],
    "training_accuracy": ["epoch"],
    "training_gradient_norm": ["epoch"],
    "validation_loss": ["epoch"],
    "validation_accuracy": ["epoch"],
    "training_weight_norm": ["epoch", "layer"],
    "training_spectral_norm": ["epoch", "layer"],
}


def record(function: Callable[[MLP], Any], *, prefix: str = "", every: int = 1) -> Callback:
    """Return a callback that records the result of a function of the network.

    Parameters
    ----------
    function : callable
        Takes an `MLP`; returns a named DataArray, a Dataset, or a dict of numbers and DataArrays.
    prefix : str, default ""
        Prefix of every variable name, so that one quantity can be recorded twice, e.g. at different inputs.
    every : int, default 1
        Record epochs 1, 1 + every ... only; the history holds nan (or the like) at the others.

    Returns
    -------
    callable
        A function of (epoch, model) for `fit(..., callbacks=[...])`.

    Raises
    ------
    TypeError, ValueError
        If `function` is not callable, `prefix` is not a string, or `every` is not a positive integer.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.array([[0.0], [1.0]])
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> callback = fs.training.record(lambda model: fs.estimator_variance(model, x), prefix="train_")
    >>> sorted(callback(1, model).data_vars)
    ['train_cross_covariance', 'train_variance']
    """
    training.function_of_model(function)
    training.prefix_text(prefix)
    arguments.positive_integer("every", every)

    def callback(epoch: int, model: MLP) -> xr.Dataset | None:
        if (epoch - 1) % every:
            return None
        found = _labelled("function", function(model))
        return found.rename({name: f"{prefix}{name}" for name in found.data_vars})

    return callback


def _labelled(what: str, result: Any) -> xr.Dataset:
    """Return a callback's result as a Dataset; coordinates that are quantities, such as standard errors, become variables."""
    if isinstance(result, xr.DataArray) and isinstance(result.name, str):
        result = result.to_dataset()
    elif isinstance(result, Mapping) and not isinstance(result, xr.Dataset):
        values = dict(result)
        if all(isinstance(key, str) and (isinstance(one, xr.DataArray) or np.ndim(one) == 0) for key, one in values.items()):
            result = xr.Dataset(values)
    if not isinstance(result, xr.Dataset):
        training.callback_result(what, result)
    return result.reset_coords([name for name in result.coords if name not in result.dims and name not in COORDINATES])


class History:
    """The recorded quantities of a training run, epoch by epoch.

    Parameters
    ----------
    provenance : mapping
        Provenance of the result.
    callbacks : sequence of callables
        Called with (epoch, model) at the end of each epoch.
    """

    def __init__(self, provenance: Mapping[str, Any], callbacks: Sequence[Callback]) -> None:
        self.provenance = provenance
        self.callbacks = callbacks
        self.rows: list[dict[str, Any]] = []
        self.recorded: list[list[tuple[int, xr.Dataset]]] = [[] for _ in callbacks]

    def append(self, numbers: dict[str, Any]) -> None:
        """Append the training statistics of an epoch.

        Parameters
        ----------
        numbers : dict
            One number, or one per layer, for each schema key.
        """
        self.rows.append(numbers)

    def call(self, epoch: int, model: MLP) -> None:
        """Call every callback with the network, and keep its result.

        Parameters
        ----------
        epoch : int
            Number of the completed epoch.
        model : MLP
            The current network.
        """
        for position, callback in enumerate(self.callbacks):
            result = callback(epoch, model)
            if result is not None:
                found = _labelled(f"callbacks[{position}]", result)
                self._fits(position, found)
                self.recorded[position].append((epoch, found))

    def _fits(self, position: int, found: xr.Dataset) -> None:
        """Raise immediately for a result that could not be concatenated at the end."""
        if "epoch" in found.variables or "epoch" in found.dims:
            training.callback_name(position, "epoch", "the history adds itself")
        others = [self._own(), *(records[0][1] for at, records in enumerate(self.recorded) if records and at != position)]
        for name in map(str, found.data_vars):
            if any(name in other.variables for other in others):
                training.callback_name(position, name, "the history holds already")
        try:
            xr.merge([*others, found], compat="equals", join="outer")
        except (xr.MergeError, ValueError) as error:
            training.callback_coordinates(position, str(error))

    def _own(self) -> xr.Dataset:
        keys = list(self.rows[0]) if self.rows else ["training_loss"]
        entries = [(key, _PER_EPOCH[key], np.array([row[key] for row in self.rows], dtype=np.float64)) for key in keys]
        coords = _labels.coordinates(epoch=np.arange(1, len(self.rows) + 1))
        n_layers = len(self.rows[0]["training_weight_norm"]) if self.rows else 0
        return _labels.dataset(entries, coords | (_labels.layer_coordinates(n_layers) if n_layers else {}), self.provenance)

    def dataset(self) -> xr.Dataset:
        """Return everything recorded so far.

        Returns
        -------
        Dataset
            Over `epoch`, from 1; nan where a callback recorded nothing in an epoch that others did.
        """
        parts = [self._own()]
        for records in self.recorded:
            if records:
                # The provenance changes with the network at every epoch and is dropped; the schema attributes are kept.
                joined = xr.concat(
                    [dataset for _, dataset in records],
                    dim=xr.Variable("epoch", [epoch for epoch, _ in records], {"long_name": COORDINATES["epoch"]}),
                    data_vars="all",
                    coords="different",
                    compat="equals",
                    join="outer",
                    combine_attrs="drop_conflicts",
                )
                parts.append(joined.reindex(epoch=parts[0].epoch))
        return xr.merge(parts, compat="equals", join="outer", combine_attrs="override")
