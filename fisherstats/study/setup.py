"""Set-up of a study: its settings, its data and the network that scikit-learn trains on them."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fisherstats.core.validation import arguments, data_files, study
from fisherstats.interop import from_sklearn
from fisherstats.models.families import Bernoulli, Categorical, Gaussian, Poisson
from fisherstats.models.network import MLP

__all__ = ["Data", "Experiment", "Settings", "load", "prepare", "read_settings", "restore"]

#: keys of the configuration, table by table ("" is the top level)
_KEYS = {
    "": ("seed", "data", "model", "analysis"),
    "data": ("source", "x", "y", "header", "task"),
    "model": ("hidden", "activation", "epochs"),
    "analysis": ("inputs", "n_draws", "replicates", "target_standard_error"),
}

#: number of analysed inputs unless configured
_DEFAULT_INPUTS = 256


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings that determine a study's results, with the defaults of the main job."""

    seed: int = 0
    data: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"source": "digits"})
    task: str = "classification"
    hidden: tuple[int, ...] = (48, 32)
    activation: str = "tanh"
    epochs: int = 60
    inputs: int | None = None
    n_draws: tuple[int, ...] = (1, 4, 16, 64, 256)
    replicates: int = 200
    target_standard_error: float = 0.1
    folder: Path = Path()

    def as_tables(self) -> dict[str, Any]:
        """Return the settings as the tables of a configuration, defaults filled in."""
        return {
            "seed": self.seed,
            "data": {**self.data, "task": self.task},
            "model": {"hidden": list(self.hidden), "activation": self.activation, "epochs": self.epochs},
            "analysis": {
                "inputs": self.inputs,
                "n_draws": list(self.n_draws),
                "replicates": self.replicates,
                "target_standard_error": self.target_standard_error,
            },
        }


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of a study, and which of them are used for training and for analysis."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[Any]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    n_inputs: int
    training_seed: int
    digest: str

    @property
    def analysed(self) -> NDArray[np.int64]:
        """The rows at which the information is evaluated."""
        return self.held_out[: self.n_inputs]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A trained network, the held-out inputs of the analysis, and its score."""

    data: Data
    model: MLP
    train_score: float
    held_out_score: float

    @property
    def x(self) -> NDArray[np.float64]:
        """The inputs at which the information is evaluated."""
        return self.data.x[self.data.analysed]

    @property
    def y(self) -> NDArray[Any]:
        """Their labels."""
        return self.data.y[self.data.analysed]


def read_settings(config: str | os.PathLike[str] | Mapping[str, Any] | None, seed: int | None = None) -> Settings:
    """Return validated settings from None, a TOML file or a mapping with the same keys; `seed` overrides both."""
    folder = Path()
    if isinstance(config, Mapping):
        given: Mapping[str, Any] = config
    elif config is None:
        given = {}
    else:
        path = study.configuration_path(config)
        folder = path.parent
        given = study.parsed_toml(path)
    study.all_known("", given, _KEYS[""])
    tables = {name: given.get(name, {}) for name in ("data", "model", "analysis")}
    for name, table in tables.items():
        study.all_known(name, table, _KEYS[name])

    chosen: dict[str, Any] = {"folder": folder}
    if "seed" in given or seed is not None:
        chosen["seed"] = study.non_negative_integer("seed", given["seed"] if seed is None else seed)
    data = dict(tables["data"])
    if "task" in data:
        chosen["task"] = arguments.choice("data.task", data.pop("task"), ("classification", "regression", "count"))
    if data:
        study.data_source(data)
        chosen["data"] = data
    model, analysis = tables["model"], tables["analysis"]
    if "hidden" in model:
        chosen["hidden"] = study.hidden_widths("model.hidden", model["hidden"])
    if "activation" in model:
        words = ("identity", "logistic", "tanh", "relu")
        chosen["activation"] = arguments.choice("model.activation", model["activation"], words)
    if "n_draws" in analysis:
        chosen["n_draws"] = study.draw_counts("analysis.n_draws", analysis["n_draws"])
    if "target_standard_error" in analysis:
        target = arguments.positive_number("analysis.target_standard_error", analysis["target_standard_error"])
        chosen["target_standard_error"] = target
    for table, key in (("model", "epochs"), ("analysis", "inputs"), ("analysis", "replicates")):
        if key in tables[table]:
            chosen[key] = arguments.positive_integer(f"{table}.{key}", tables[table][key])
    settings = Settings(**chosen)
    study.work_fits(settings.n_draws, settings.replicates)
    return settings


def _arrays(settings: Settings) -> tuple[str, NDArray[np.float64], NDArray[Any]]:
    """Return the name of the data, x and y."""
    data = settings.data
    if data.get("source") == "digits":
        digits = arguments.optional_module("sklearn.datasets", extra="study").load_digits()
        # Grey levels 0..16 are scaled to 0..1, so that the inputs are of order one.
        return "handwritten digits of scikit-learn (8 × 8 pixels)", digits.data / 16.0, digits.target
    if "source" in data:
        x, y = (data_files.read("data.source", data["source"], settings.folder, entry) for entry in "xy")
        return data["source"], *study.data_arrays(x, y)
    data_files.apart(data, settings.folder)
    x, y = (data_files.read(f"data.{entry}", data[entry], settings.folder, entry, data.get("header")) for entry in "xy")
    return f"{data['x']} and {data['y']}", *study.data_arrays(x, y)


def _train(settings: Settings, x: NDArray[np.float64], y: NDArray[Any], random_state: int) -> Any:
    """Fit scikit-learn's perceptron for a given number of epochs."""
    library = arguments.optional_module("sklearn.neural_network", extra="study")
    options: dict[str, Any] = {
        "hidden_layer_sizes": settings.hidden,
        "activation": settings.activation,
        "max_iter": settings.epochs,
        "n_iter_no_change": settings.epochs,
        "random_state": random_state,
    }
    if settings.task == "classification":
        estimator = library.MLPClassifier(**options)
    else:
        loss = "poisson" if settings.task == "count" else "squared_error"
        estimator = library.MLPRegressor(loss=loss, **options)
    exceptions = arguments.optional_module("sklearn.exceptions", extra="study")
    # The number of epochs is a setting, so reaching it is not an error; stopping early is, and scikit-learn only warns of Ctrl-C.
    # One BLAS thread: the products are small, and the weights do not depend on the number of cores.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        warnings.filterwarnings("error", "Training interrupted by user")
        try:
            return estimator.fit(x, y)
        except UserWarning as interrupted:
            raise KeyboardInterrupt from interrupted


def load(settings: Settings) -> Data:
    """Load the data; three quarters train the network, and inputs of the last quarter are analysed."""
    name, x, y = _arrays(settings)
    y = study.labels_for_task(y, settings.task)
    split_seed, training_seed = np.random.SeedSequence(settings.seed).spawn(2)
    order = np.random.default_rng(split_seed).permutation(len(x))
    n_train = len(x) - len(x) // 4
    held_out = order[n_train:]
    n_inputs = settings.inputs if settings.inputs is not None else min(_DEFAULT_INPUTS, len(held_out))
    study.enough_inputs("analysis.inputs", n_inputs, len(held_out))
    outputs = y.shape[1] if y.ndim == 2 else len(np.unique(y)) if settings.task == "classification" else 1
    study.network_fits(settings.hidden, x.shape[1], outputs)
    digest = hashlib.sha256(np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(y).tobytes()).hexdigest()
    seed = int(training_seed.generate_state(1)[0])
    return Data(name, x, y, order[:n_train], held_out, n_inputs, seed, digest)


def prepare(settings: Settings, data: Data) -> Experiment:
    """Train the network."""
    x, y = data.x, data.y
    estimator = _train(settings, x[data.train], y[data.train], data.training_seed)
    with threadpool_limits(1):
        scores = [float(estimator.score(x[rows], y[rows])) for rows in (data.train, data.held_out)]
    return Experiment(data, from_sklearn(estimator), *scores)


def restore(data: Data, parameters: NDArray[np.float64], record: Mapping[str, Any]) -> Experiment:
    """Return the experiment with a network that was trained earlier, from its parameters and its record."""
    widths = record["widths"]
    shapes = [(n_out, n_in + 1) for n_in, n_out in itertools.pairwise(widths)]
    parts = np.split(parameters, np.cumsum([rows * columns for rows, columns in shapes])[:-1])
    family = {one.name: one for one in (Bernoulli, Categorical, Gaussian, Poisson)}[record["family"]["name"]](widths[-1])
    model = MLP(
        [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)],
        activation=record["activations"],
        family=family,
        feature_names=record["feature_names"],
        output_names=record["output_names"],
    )
    return Experiment(data, model, record["train_score"], record["held_out_score"])
