"""What is claimed of relative natural gradient, each as a check with a number, and the tables that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

__all__ = ["Claim", "advantages", "header", "markdown", "of", "slower", "targets", "time_to_reach"]

TARGETS = (0.3, 0.1, 0.03, 0.01)
"""Training losses whose time is taken."""
ERRORS = 2.0
"""Standard errors within which two accuracies count as equal."""


class Claim(NamedTuple):
    """A statement, the number that decides it, and the decision."""

    says: str
    number: str
    holds: bool


def time_to_reach(loss: np.ndarray, target: float) -> float:
    """Epochs until a loss is reached, linear between the means of two epochs; nan if it never is.

    The loss of an epoch is a mean over its steps, so it stands at the middle of the epoch.
    """
    middles = np.arange(len(loss)) + 0.5
    reached = np.flatnonzero(loss <= target)
    if not len(reached):
        return float("nan")
    at = int(reached[0])
    if at == 0:
        return 0.5
    return float(middles[at] - (target - loss[at]) / (loss[at - 1] - loss[at]))


def advantages(runs: xr.Dataset, other: str, target: float | None = None) -> np.ndarray:
    """Epochs that the other optimiser takes over those that RNGD takes to a training loss, seed by seed.

    Without a target it is the larger of their two last losses, which both reach. 0 where RNGD does not get there, or diverges,
    inf where the other does not.
    """
    found = []
    for seed in runs.seed.values:
        ours, theirs = (runs.loss.sel(optimizer=name, seed=seed).values for name in ("RNGD", other))
        level = max(ours[-1], theirs[-1]) if target is None else target
        taken = [time_to_reach(loss, level) if np.isfinite(loss).all() else np.nan for loss in (ours, theirs)]
        found.append(0.0 if np.isnan(taken[0]) else np.inf if np.isnan(taken[1]) else taken[1] / taken[0])
    return np.array(found)


def targets(runs: xr.Dataset) -> list[float | None]:
    """The training losses that every optimiser reaches with every seed, and None for the last one."""
    reached = float(runs.loss.min("epoch").max())
    return [*[target for target in TARGETS if target >= reached], None]


def slower(runs: xr.Dataset, other: str) -> float:
    """How many times as long an epoch of RNGD takes."""
    return float(runs.seconds_per_epoch.sel(optimizer="RNGD") / runs.seconds_per_epoch.sel(optimizer=other))


def of(runs: xr.Dataset) -> list[Claim]:
    """The claims on one network: (optimizer, seed, epoch), and seconds per epoch (optimizer)."""
    found = []
    for by in ("epoch", "second"):
        for other in _SAYS:
            for target in targets(runs):
                ratios = advantages(runs, other, target) / (1.0 if by == "epoch" else slower(runs, other))
                # Faster is meant of every seed, at least as fast of the middle one.
                holds = bool((ratios > 1).all() if other == "SGD" else np.median(ratios) >= 1)
                found.append(Claim(_speed_claim(other, by, target), _times(ratios), holds))
    best = runs.validation_accuracy.max("epoch")
    for what, accuracy in (("after the last epoch", runs.validation_accuracy.isel(epoch=-1)), ("at its best epoch", best)):
        for other in ("SGD", "Adam"):
            gap = (accuracy.sel(optimizer="RNGD") - accuracy.sel(optimizer=other)).values
            error = gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else np.nan
            number = f"difference {100 * gap.mean():+.2f} points"
            number += f", standard error {100 * error:.2f}" if len(gap) > 1 else ", one seed"
            holds = bool(gap.mean() >= -ERRORS * np.nan_to_num(error))
            found.append(Claim(f"RNGD matches {other} in held-out accuracy {what}", number, holds))
    return found


_SAYS = {"SGD": "faster per {by} than SGD", "Adam": "at least as fast per {by} as Adam"}


def _speed_claim(other: str, by: str, target: float | None) -> str:
    level = "the larger last loss" if target is None else f"a training loss of {target:g}"
    return f"RNGD learns {_SAYS[other].format(by=by)}, to {level}"


def _times(ratios: np.ndarray) -> str:
    return f"{np.median(ratios):.2f}" + (f" ({ratios.min():.2f} to {ratios.max():.2f})" if len(ratios) > 1 else "")


def header(images: Any, setting: Any) -> list[str]:
    """What was trained."""
    n_seeds = len(setting.seeds)
    widths = "-".join(map(str, (images.x.shape[1], *setting.hidden, 10)))
    chosen = f"{setting.choosing_images or len(images.x)} images, {setting.choosing_epochs} epochs"
    return [
        f"Data: {images.name}, {len(images.x)} images to train on, {len(images.x_held_out)} held out; {widths}, ReLU, "
        f"{setting.batch_size} images per step, weight decay {setting.decay:g}, {setting.epochs} epochs, {n_seeds} "
        f"seed{'s' if n_seeds > 1 else ''}. Settings chosen with {chosen}, a fifth of them for validation.",
        "",
    ]


def markdown(network: str, runs: xr.Dataset, grid: Mapping[str, Sequence[Any]], found: Sequence[Claim]) -> list[str]:
    """The tables of one network: the grid, the curves as numbers, speeds and accuracies."""
    lines = [f"## {network.capitalize()} network", "", "### The grid", "", "| setting | mean validation accuracy |", "|---|---:|"]
    for name, optimizers in grid.items():
        scores = runs.score.sel(optimizer=name).values
        for number, (optimizer, score) in enumerate(zip(optimizers, scores, strict=True)):
            marked = "**" if number == np.argmax(scores) else ""
            lines.append(f"| {marked}{_short(optimizer)}{marked} | {marked}{100 * score:.2f} %{marked} |")
    epochs = [epoch for epoch in (1, 2, 5, 10, 20, 50, 100) if epoch <= runs.sizes["epoch"]]
    lines += [
        "",
        "### Along the training",
        "",
        "Mean ± standard deviation over the seeds; losses and errors of the training are means over the epoch.",
        "",
    ]
    lines += ["| optimiser | after epoch | training loss | training error | held-out loss | held-out accuracy | seconds |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for name in grid:
        for epoch in epochs:
            one = runs.sel(optimizer=name, epoch=epoch)
            cells = [name, str(epoch), _spread(one.loss), _spread(100 * (1 - one.accuracy), " %"), _spread(one.validation_loss)]
            cells += [_spread(100 * one.validation_accuracy, " %"), f"{epoch * float(one.seconds_per_epoch):.2f}"]
            lines.append("| " + " | ".join(cells) + " |")
    speeds = {one.says: f"{one.number}: {'yes' if one.holds else '**no**'}" for one in found}
    lines += [
        "",
        "### How many times as fast RNGD is",
        "",
        "Median and range over the seeds. Faster than SGD with every seed? As fast",
    ]
    lines[-1] += " as Adam in the median?"
    pairs = [(other, by) for other in _SAYS for by in ("epoch", "second")]
    lines += ["", f"| to a training loss of | {' | '.join(f'{other}, per {by}' for other, by in pairs)} |"]
    lines += [f"|---|{'---|' * len(pairs)}"]
    for target in targets(runs):
        cells = [speeds.pop(_speed_claim(other, by, target)) for other, by in pairs]
        lines.append(f"| {'the larger last one' if target is None else f'{target:g}'} | {' | '.join(cells)} |")
    lines += ["", "### Held-out accuracy", "", "| claim | number and whether it holds |", "|---|---|"]
    lines += [f"| {says} | {number} |" for says, number in speeds.items()]
    return [*lines, ""]


def _short(optimizer: Any) -> str:
    """Name the settings that the grid varies."""
    name = type(optimizer).__name__
    if name == "Adam":
        return f"Adam, rate {optimizer.learning_rate:g}, decays {optimizer.betas[0]:g} and {optimizer.betas[1]:g}"
    if name == "SGD":
        return f"SGD, rate {optimizer.learning_rate:g}, momentum {optimizer.momentum:g}"
    return f"RNGD, rate {optimizer.learning_rate:g}, damping {optimizer.damping:g}"


def _spread(values: xr.DataArray, unit: str = "") -> str:
    mean = float(values.mean())
    digits = 2 if unit else max(0, 2 - int(np.floor(np.log10(abs(mean))))) if np.isfinite(mean) and mean else 3
    spread = f" ± {float(values.std(ddof=1)):.{digits}f}" if values.size > 1 else ""
    return f"{mean:.{digits}f}{spread}{unit}"
