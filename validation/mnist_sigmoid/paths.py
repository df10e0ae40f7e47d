"""How far penalties and batch normalisation reduce the errors of the estimators: paths over seeds, their tables and claims."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import fisherstats as fs
from fisherstats.plotting.style import LAYER_STYLES, log_axis, styled
from validation.mnist_sigmoid.claims import Claim, by_layer, span
from validation.mnist_sigmoid.data import Images

__all__ = [
    "ERRORS",
    "GRIDS",
    "NORMALIZATIONS",
    "Grid",
    "Paths",
    "claims_of",
    "errors",
    "factors",
    "figure",
    "joined",
    "markdown",
    "of_seed",
]

ALLOWED_LOSS = 0.01
"""A penalty is of use while the held-out accuracy, mean over the seeds, is at most this much below that without it."""


class Grid(NamedTuple):
    """A penalty, the strength that restrains nothing, and stronger and stronger ones."""

    penalty: Callable[[float], fs.training.Penalty]
    without: float
    strengths: tuple[float, ...]
    norm: str
    """The norm of the kernels that it restrains, a quantity of a path."""


GRIDS = {
    "Frobenius": Grid(fs.training.Frobenius, 0.0, (1e-4, 3e-4, 1e-3, 3e-3), "frobenius"),
    "Spectral": Grid(fs.training.Spectral, 0.0, (1e-3, 3e-3, 1e-2, 3e-2), "spectral"),
    "SpectralProjection": Grid(fs.training.SpectralProjection, np.inf, (6.0, 4.0, 2.0, 1.0), "spectral"),
}
NORMS = {"frobenius": "Frobenius", "spectral": "spectral"}
NORMALIZATIONS = {"plain": None, "normalised": fs.training.BatchNormalization()}
LOOKS: dict[str, dict[str, Any]] = {
    "plain": {"linestyle": "-"},
    "normalised": {"linestyle": ":", "markerfacecolor": "white"},
}
ERRORS = {
    "sd of score": ("variance", "score"),
    "sd of Hessian": ("variance", "hessian"),
    "relative error of score": ("relative_error", "score"),
    "relative error of Hessian": ("relative_error", "hessian"),
}
"""Each error, with the quantity of a path and the estimator that tell it."""

Paths = dict[tuple[str, str], xr.Dataset]
"""By penalty and normalisation."""


def of_seed(images: Images, start: fs.MLP, n_evaluated: int, names: Sequence[str], **settings: Any) -> Paths:
    """The paths of one seed, from a network that they all start from; the network without any penalty is trained once."""
    found = {}
    for word, normalization in NORMALIZATIONS.items():
        along = functools.partial(
            fs.regularization_path,
            start,
            images.x,
            images.y,
            normalization=normalization,
            x_eval=images.x_held_out[:n_evaluated],
            validation=(images.x_held_out, images.y_held_out),
            **settings,
        )
        without = along(penalty=fs.training.Frobenius, strengths=[0.0])
        for name in names:
            if normalization is not None and name == "SpectralProjection":
                continue  # folding rescales the kernels, so that no limit on them would last
            grid = GRIDS[name]
            parts = [without.assign_coords(strength=[grid.without]), along(penalty=grid.penalty, strengths=grid.strengths)]
            found[name, word] = xr.concat(parts, dim="strength", combine_attrs="drop_conflicts")
    return found


def joined(seeds: Sequence[Paths]) -> Paths:
    """The paths of all seeds along `replicate`."""
    return {key: xr.concat([one[key] for one in seeds], dim="replicate", combine_attrs="drop_conflicts") for key in seeds[0]}


def errors(path: xr.Dataset, error: str) -> xr.DataArray:
    """An error by layer, without the last layer where the estimator has none."""
    quantity, estimator = ERRORS[error]
    found = path[quantity].sel(estimator=estimator, drop=True) ** (0.5 if quantity == "variance" else 1.0)
    return found.isel(layer=[layer for layer in range(path.sizes["layer"]) if (found.isel(layer=layer) > 0).all()])


def factors(path: xr.Dataset, of: Callable[[xr.Dataset], xr.DataArray]) -> np.ndarray:
    """What a penalty multiplies a quantity by, (replicate, strength, layer)."""
    values = of(path)
    return (values / values.isel(strength=0)).transpose("replicate", "strength", "layer").values


def _without(found: Paths) -> dict[str, xr.Dataset]:
    """The networks without any penalty by normalisation; every path begins with them."""
    return {word: path.isel(strength=0) for (_, word), path in found.items()}


def _useful(path: xr.Dataset) -> int:
    """The position of the strongest penalty that is of use; of the weakest one where none is."""
    accuracy = path.validation_accuracy.mean("replicate").values
    return max(1, int(np.flatnonzero(accuracy >= accuracy[0] - ALLOWED_LOSS)[-1]))


def claims_of(found: Paths) -> list[Claim]:
    """What one may hope for, at the strongest penalty that is of use, and of normalisation on its own."""
    claims = []
    for (name, word), path in found.items():
        position = _useful(path)
        accuracy = path.validation_accuracy.mean("replicate").values
        where = f"{name} {path.strength.values[position]:g}, {word} (accuracy from {accuracy[0]:.3f} to {accuracy[position]:.3f})"
        norm = GRIDS[name].norm
        hopes: dict[str, Callable[[xr.Dataset], xr.DataArray]] = {f"{NORMS[norm]} norm": lambda one, norm=norm: one[norm]}
        hopes |= {error: functools.partial(errors, error=error) for error in ERRORS}
        for what, of in hopes.items():
            values = factors(path, of)[:, position]
            claims.append(Claim(f"{where}: smaller {what} in every layer", by_layer(values), bool((values < 1).all())))
    without = _without(found)
    for error in ERRORS if "normalised" in without else ():
        values = errors(without["normalised"], error) / errors(without["plain"], error)
        decided = by_layer(values.transpose("replicate", "layer").values), bool((values < 1).all())
        claims.append(Claim(f"normalisation alone: smaller {error} in every layer", *decided))
    return claims


def _middle(values: np.ndarray) -> str:
    """Geometric means over the seeds, layer by layer."""
    return ", ".join(f"{value:.2g}" for value in np.exp(np.log(values).mean(axis=0)))


_ABOUT_CLAIMS = """\
Factors against no penalty with the same normalisation, at the strongest penalty that costs at most {points:g} point of held-out
accuracy, at the weakest one where all cost more. Ranges are over {seeds} seeds; a claim holds where every factor is below 1."""
_ABOUT_ERRORS = """\
Geometric means over the seeds, layers 0, 1, ... in a row. Errors are those of one label, mean over {images} held-out images;
draws per image (score; Hessian) bring the relative error of the mean over these images to 10 %, the most over the seeds."""


def markdown(found: Paths, n_evaluated: int) -> list[str]:
    """The claims, the networks without a penalty, and the factors of every penalty."""
    seeds = next(iter(found.values())).sizes["replicate"]
    lines = ["## Claims", "", _ABOUT_CLAIMS.format(points=100 * ALLOWED_LOSS, seeds=seeds), ""]
    lines += ["| claim | factor by layer | holds |", "|---|---|---|"]
    lines += [f"| {one.says} | {one.number} | {'yes' if one.holds else '**no**'} |" for one in claims_of(found)]
    lines += ["", "## Without a penalty", "", _ABOUT_ERRORS.format(images=n_evaluated), ""]
    lines += [
        "| | accuracy held out | information | sd 1 | sd 2 | sd 1 / I | sd 2 / I | s_max | draws |",
        "|---|---:|" + "---|" * 7,
    ]
    for word, one in _without(found).items():
        root = n_evaluated**0.5
        cells = [span(one.validation_accuracy, ".3f"), _middle(one.information.values)]
        cells += [_middle(root * errors(one, error).values) for error in ERRORS]
        cells += [_middle(one.spectral.values), "; ".join(_draws(one, estimator) for estimator in ("score", "hessian"))]
        lines.append(f"| {word} | {' | '.join(cells)} |")
    for name in dict.fromkeys(name for name, _ in found):
        lines += ["", f"## {name}", "", "Factors, geometric means over the seeds; layers 0, 1, ... in a row.", ""]
        norm = NORMS[GRIDS[name].norm]
        lines += [
            f"| | strength | accuracy held out | log-likelihood held out | {norm} norm | I | sd 1 | sd 2 | sd 1 / I | sd 2 / I |"
        ]
        lines += ["|---|---:|---:|---:|" + "---|" * 6]
        for word in NORMALIZATIONS:
            if (name, word) in found:
                lines += _rows(word, GRIDS[name].norm, found[name, word])
    return lines


def _draws(one: xr.Dataset, estimator: str) -> str:
    """The most draws over the seeds, layer by layer."""
    return ", ".join(f"{value:.0f}" for value in one.draws.sel(estimator=estimator).max("replicate").values)


def _rows(word: str, norm: str, path: xr.Dataset) -> list[str]:
    columns = [factors(path, lambda one, of=of: one[of]) for of in (norm, "information")]
    columns += [factors(path, functools.partial(errors, error=error)) for error in ERRORS]
    rows = []
    for position, strength in enumerate(path.strength.values):
        one = path.isel(strength=position)
        fit = f"{span(one.validation_accuracy, '.3f')} | {float(one.validation_log_likelihood.mean()):.3f}"
        rows.append(f"| {word} | {strength:g} | {fit} | {' | '.join(_middle(column[:, position]) for column in columns)} |")
    return rows


@styled
def figure(found: Paths) -> Any:
    """What a penalty multiplies each error by, by layer: geometric means over the seeds, and their range."""
    names = list(dict.fromkeys(name for name, _ in found))
    drawn = Figure(figsize=(2.9 * len(names) + 0.6, 10.5), layout="constrained")
    panels = drawn.subplots(len(ERRORS), len(names), squeeze=False, sharex="col")
    for row, error in zip(panels, ERRORS, strict=True):
        for panel, name in zip(row, names, strict=True):
            panel.axhline(1.0, color="black", linewidth=0.8)
            panel.set_yscale("log")
            for word in NORMALIZATIONS:
                if (name, word) in found:
                    _lines(panel, factors(found[name, word], functools.partial(errors, error=error)), word)
            log_axis(panel.yaxis, *panel.get_ylim())
        row[0].set_ylabel(error)
    for column, name in enumerate(names):
        strengths = found[name, "plain"].strength.values
        panels[0, column].set_title(name)
        panels[-1, column].set_xticks(range(len(strengths)), [f"{strength:g}" for strength in strengths], rotation=45)
    drawn.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    drawn.supxlabel("strength (open marks: normalised)")
    drawn.supylabel("factor against no penalty with the same normalisation")
    return drawn


def _lines(panel: Any, values: np.ndarray, word: str) -> None:
    """Draw a line per layer; the legend is that of the plain ones."""
    places = np.arange(values.shape[1])
    for layer in range(values.shape[2]):
        colour, marker, _ = LAYER_STYLES[layer]
        one = values[..., layer]
        look = {"marker": marker, "color": colour, "label": f"layer {layer}" if word == "plain" else None} | LOOKS[word]
        panel.plot(places, np.exp(np.log(one).mean(axis=0)), markersize=5, linewidth=1.4, **look)
        panel.fill_between(places, one.min(axis=0), one.max(axis=0), color=colour, alpha=0.15, linewidth=0)
