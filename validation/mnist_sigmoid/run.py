"""Figure 2 of 2024 on real images: networks, the claims as checks with a number, and the path of penalties.

``python -m validation.mnist_sigmoid`` from the top of the repository writes ``table.md`` and ``figures/`` beside this file; with
``--data mnist-70k`` or ``--data fashion`` the same into ``build/mnist_sigmoid/``.
All numbers go there as netCDF.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

import fisherstats as fs
from validation.mnist_sigmoid import claims, data, monte_carlo, paths

__all__ = ["DEEP", "FIGURE", "PENALISED", "Setting", "main", "network", "penalised", "training_of"]

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "mnist_sigmoid"


class Setting(NamedTuple):
    """What is trained, and where its errors are evaluated."""

    hidden: tuple[int, ...] = (128, 64, 32)
    activation: str = "sigmoid"
    epochs: int = 20
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    n_evaluated: int = 500
    n_sampled: int = 40
    n_draws: int = 5000
    replicates: int = 20
    sampled_epochs: tuple[int, ...] = (1, 5, 10, 20)
    learning_rate: float = 1e-3
    batch_size: int = 50


FIGURE = Setting()
DEEP = Setting(hidden=(128, 96, 64, 32), activation="log_sigmoid", seeds=(0, 1, 2))
PENALISED = Setting(seeds=(0, 1, 2))

PARTS = ("figure_2", "log_sigmoid", "paths")


def network(images: data.Images, setting: Setting, seed: int) -> fs.MLP:
    """The network before any step."""
    widths = [images.x.shape[1], *setting.hidden, 10]
    return fs.MLP.random(widths, activation=setting.activation, family=fs.families.Categorical(10), rng=seed)


def fit_settings(setting: Setting, seed: int) -> dict:
    optimizer = fs.training.Adam(setting.learning_rate)
    return {"optimizer": optimizer, "epochs": setting.epochs, "batch_size": setting.batch_size, "rng": seed}


def measured(model: fs.MLP, x: np.ndarray) -> xr.Dataset:
    """Errors by layer; and Theorem 4.1 as it stands: extreme eigenvalues of I(h) and quartic values of M over unit vectors.

    The largest quartic value is what an iteration attains; the smallest is 0 for a softmax, along the ones.
    """
    bounds = fs.variance_bounds(model, x)
    spectral = {"bound": "spectral", "drop": True}
    above = [bounds.attained.sel(side="upper", drop=True), bounds.upper_by_form.sel(estimator="hessian", **spectral)]
    by_entry = {"theorem_lower": bounds.lower_by_form.sel(**spectral), "theorem_upper": xr.concat(above, dim=bounds.estimator)}
    by_layer = {name: one.groupby("param_layer").mean().rename(param_layer="layer") for name, one in by_entry.items()}
    return fs.layer_errors(model, x).assign(by_layer)


def training_of(images: data.Images, setting: Setting, seed: int) -> xr.Dataset:
    """Everything along the epochs of one training, 0 being the network before it."""
    x = images.x_held_out[: setting.n_evaluated]
    few = x[: setting.n_sampled]
    activation = getattr(monte_carlo, setting.activation)

    def sampled(epoch: int, model: fs.MLP) -> dict | None:
        if epoch not in setting.sampled_epochs:
            return None
        rng = np.random.default_rng([seed, epoch])
        drawn = monte_carlo.sampled_variances(model.weights, activation, few, setting.n_draws, setting.replicates, rng)
        exact = len(few) * fs.layer_errors(model, few).variance  # of one label, mean over inputs
        values = xr.DataArray(drawn, dims=["replicate", "estimator", "layer"], coords={"estimator": exact.estimator})
        return {"sampled_variance": values, "sampled_exact": exact}

    start = network(images, setting, seed)
    history = fs.training.fit(
        start,
        images.x,
        images.y,
        callbacks=[fs.training.record(lambda model: measured(model, x)), sampled],
        validation=(images.x_held_out, images.y_held_out),
        **fit_settings(setting, seed),
    ).history
    first = measured(start, x).expand_dims(epoch=[0])
    along = xr.concat([first, history[list(first.data_vars)]], dim="epoch", combine_attrs="override")
    return xr.merge([along, history.drop_vars(list(first.data_vars))], join="outer", combine_attrs="override")


def penalised(images: data.Images, setting: Setting, names: Sequence[str], numbers: Path) -> paths.Paths:
    """The paths of some penalties over all seeds; those of a seed are written as soon as they are there."""
    seeds = []
    for seed in setting.seeds:
        start, settings = network(images, setting, seed), fit_settings(setting, seed)
        seeds.append(paths.of_seed(images, start, setting.n_evaluated, names, **settings))
        for (name, word), path in seeds[-1].items():
            path.to_netcdf(numbers / f"path_{name.lower()}_{word}_{seed}.nc")
    return paths.joined(seeds)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m validation.mnist_sigmoid", description=__doc__)
    parser.add_argument("--data", choices=data.SOURCES, default="mnist-5k", help="which images (default: %(default)s)")
    parser.add_argument("--fashion", type=Path, default=data.FASHION, help="folder of the Fashion-MNIST files")
    parser.add_argument("--seeds", type=int, help="number of seeds, instead of 5, 3 and 3")
    parser.add_argument("--epochs", type=int, help="number of epochs, instead of 20")
    parser.add_argument("--batch-size", type=int, default=FIGURE.batch_size, help="images per step (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to do (default: all)")
    parser.add_argument(
        "--penalties", nargs="+", choices=paths.GRIDS, default=list(paths.GRIDS), help="for the paths (default: all)"
    )
    parser.add_argument("--out", type=Path, help="where to write")
    return parser.parse_args(arguments)


def _as_asked(setting: Setting, asked: argparse.Namespace) -> Setting:
    """Return the setting with what the command line changes."""
    setting = setting._replace(batch_size=asked.batch_size)
    if asked.seeds is not None:
        setting = setting._replace(seeds=tuple(range(asked.seeds)))
    if asked.epochs is not None:
        kept = tuple(epoch for epoch in setting.sampled_epochs if epoch <= asked.epochs)
        setting = setting._replace(epochs=asked.epochs, sampled_epochs=kept)
    return setting


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables and figures, and print which claims hold."""
    asked = parsed(arguments)
    out = asked.out or (HERE if asked.data == "mnist-5k" else BUILD / asked.data)
    numbers = BUILD / asked.data
    for folder in (out / "figures", numbers):
        folder.mkdir(parents=True, exist_ok=True)
    images = data.load(asked.data, seed=0, fashion=asked.fashion)
    about = f"Data: {images.name}, {len(images.x)} images to train on, {len(images.x_held_out)} held out; "
    about += f"Adam, learning rate {FIGURE.learning_rate:g}, {asked.batch_size} images per step."
    tables, figures = {}, {}
    for name, setting in (("figure_2", FIGURE), ("log_sigmoid", DEEP)):
        if name not in asked.parts:
            continue
        setting = _as_asked(setting, asked)
        histories = [training_of(images, setting, seed) for seed in setting.seeds]
        shallow = setting.activation == "sigmoid"
        found = claims.of_figure(histories, setting.n_evaluated) if shallow else claims.of_log_sigmoid(histories)
        tables.setdefault("table", []).extend(claims.markdown(setting, images.x.shape[1], histories, found))
        figures[name] = fs.plotting.training_errors(histories[0])
        for seed, history in zip(setting.seeds, histories, strict=True):
            history.to_netcdf(numbers / f"{name}_{seed}.nc")
        _say(found)
    if "paths" in asked.parts:
        setting = _as_asked(PENALISED, asked)
        along = penalised(images, setting, asked.penalties, numbers)
        tables["paths"] = paths.markdown(along, setting.n_evaluated)
        figures["paths"] = paths.figure(along)
        for (name, word), path in along.items():
            figures[f"path_{name.lower()}_{word}"] = fs.plotting.regularization_path(path.isel(replicate=0))
        _say(paths.claims_of(along))
    for name, lines in tables.items():
        (out / f"{name}.md").write_text("\n".join([about, "", *lines]).rstrip() + "\n", encoding="utf-8")
    for name, figure in figures.items():
        (out / "figures" / f"{name}.svg").write_text(fs.plotting.as_svg(figure), encoding="utf-8")
    print(f"tables and figures in {out}, numbers in {numbers}")


def _say(found: Sequence[claims.Claim]) -> None:
    """Print which claims hold."""
    print(*[f"{'holds' if one.holds else 'DOES NOT HOLD'}: {one.says} ({one.number})" for one in found], sep="\n", flush=True)
