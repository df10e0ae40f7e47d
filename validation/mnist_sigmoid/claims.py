"""What the paper says of Figure 2, each as a check with a number, and the tables that show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

__all__ = ["Claim", "by_layer", "markdown", "of_figure", "of_log_sigmoid", "span"]

EARLY = 5
"""Epochs that count as the first ones."""
FACTOR = 3.0
"""A ratio that the paper reads off a curve counts as reproduced within this factor."""
FALSE_ALARM = 1e-3
"""Chance that any of the z-scores of a setting is called too large though all variances are right."""


class Claim(NamedTuple):
    """A statement, the number that decides it, and the decision."""

    says: str
    number: str
    holds: bool


def span(values: Any, form: str = ".3g") -> str:
    """Smallest to largest."""
    low, high = (f"{float(end(values)):{form}}" for end in (np.min, np.max))
    return low if low == high else f"{low} to {high}"


def _all(histories: Sequence[xr.Dataset], of: Callable[[xr.Dataset], Any]) -> np.ndarray:
    """One number or array per seed."""
    return np.stack([np.asarray(of(history)) for history in histories])


def by_layer(values: np.ndarray, form: str = ".3g") -> str:
    """Smallest to largest over all but the last axis, layer by layer."""
    return "; ".join(f"layer {layer}: {span(values[..., layer], form)}" for layer in range(values.shape[-1]))


def _trained(history: xr.Dataset) -> xr.Dataset:
    return history.sel(epoch=slice(1, None))


def of_figure(histories: Sequence[xr.Dataset], n_evaluated: int) -> list[Claim]:
    """The claims on the network of four layers."""
    last = histories[0].sizes["layer"] - 1
    hidden = slice(0, last - 1)

    def ratio(history: xr.Dataset) -> np.ndarray:
        variance = _trained(history).variance.sel(layer=hidden)
        return (variance.sel(estimator="score") / variance.sel(estimator="hessian")).values

    ratios = _all(histories, ratio)
    found = []
    for layer in range(last):
        one = ratios[..., layer]
        number = f"V1 / V2 {span(one)}, below 1 in {np.mean(one < 1):.0%} of epochs"
        found.append(Claim(f"V1 < V2 in hidden layer {layer}", number, bool((one < 1).all())))
    exact = _all(histories, lambda h: h.variance.sel(estimator="hessian", layer=last))
    found.append(Claim("V2 = 0 in the last layer", f"largest V2 there: {exact.max():g}", bool((exact == 0).all())))
    score = _all(histories, lambda h: _trained(h).variance.sel(estimator="score"))
    largest = score.argmax(axis=-1) == last
    found.append(Claim("V1 is largest in the last layer", f"in {largest.mean():.0%} of epochs", bool(largest.all())))
    one_label = np.log(n_evaluated * _all(histories, lambda h: _trained(h).variance.sel(layer=0).values))
    number = f"log V1 {span(one_label[..., 0])}, log V2 {span(one_label[..., 1])}"
    found.append(Claim("V1 and V2 about e^-10 in layer 0", number, bool((np.abs(np.median(one_label, axis=1) + 10) < 1).all())))
    for name, symbol, reported in (("score", "V1", 50), ("hessian", "V2", 10)):
        for which, says in (("theorem_upper", "Theorem 4.1"), ("upper", "best certified bound")):
            values = _all(histories, lambda h, n=name, w=which: _over(_trained(h), w, n, 0))
            middle = np.exp(np.median(np.log(values), axis=1))
            holds = bool(((middle > reported / FACTOR) & (middle < reported * FACTOR)).all())
            number = f"{span(values)}; medians over epochs by seed {span(middle)}"
            found.append(Claim(f"bound / {symbol} about {reported} in layer 0, {says}", number, holds))
    below = _all(histories, lambda h: (_trained(h).theorem_lower / _trained(h).variance).fillna(0.0))
    says = "upper bounds are far tighter than lower bounds, Theorem 4.1"
    found.append(Claim(says, f"lower bound / variance is {below.max():.2g} at most", bool(below.max() < 1e-3)))
    tighter = _all(histories, _upper_is_tighter)
    says = "the same for the best certified bounds (no claim of the paper)"
    number = f"the upper one is the nearer in logarithm in {tighter.mean():.0%} of hidden layers and epochs"
    found.append(Claim(says, number, bool(tighter.all())))
    return [*found, *_changes(histories), _sampling(histories)]


def of_log_sigmoid(histories: Sequence[xr.Dataset]) -> list[Claim]:
    """The claims on the network of five layers."""
    found = []
    for name in ("information", "score", "hessian"):
        for start, word in ((0, "the start"), (1, "epoch 1")):
            left = _all(histories, lambda h, n=name, s=start: _quantity(h, n, EARLY) / _quantity(h, n, s))
            end = _all(histories, lambda h, n=name, s=start: _quantity(h, n, int(h.epoch[-1])) / _quantity(h, n, s))
            what = {"information": "information", "score": "V1", "hessian": "V2"}[name]
            number = f"over that of {word}: epoch {EARLY} {span(left)}; last epoch {span(end)}"
            found.append(
                Claim(f"{what} of every layer vanishes within {EARLY} epochs (below 1 %)", number, bool((left < 0.01).all()))
            )
    return [*found, *_changes(histories), _sampling(histories)]


def _quantity(history: xr.Dataset, name: str, epoch: int) -> np.ndarray:
    one = history.sel(epoch=min(epoch, int(history.epoch[-1])))
    values = one.information.values if name == "information" else one.variance.sel(estimator=name).values
    return values[values > 0]  # not the last layer's V2


def _over(history: xr.Dataset, which: str, name: str, layer: int) -> np.ndarray:
    one = history.sel(estimator=name, layer=layer)
    return (one[which] / one.variance).values


def _upper_is_tighter(history: xr.Dataset) -> np.ndarray:
    one = _trained(history).isel(layer=slice(0, -1))
    return (one.upper * one.lower < one.variance**2).values


def _changes(histories: Sequence[xr.Dataset]) -> list[Claim]:
    """How much of the way that logarithms go, up and down, lies in the first epochs."""
    n_epochs = int(histories[0].epoch[-1])

    def share(values: xr.DataArray) -> np.ndarray:
        logarithms = np.log(values.where(values > 0)).transpose("epoch", ...).values
        steps = np.abs(np.diff(logarithms.reshape(len(logarithms), -1), axis=0))
        steps = steps[:, np.isfinite(steps).all(axis=0)]
        return steps[:EARLY].sum(axis=0) / steps.sum(axis=0)

    found = []
    for what, of in (("log information", lambda h: h.information), ("log standard deviations", lambda h: h.variance)):
        shares = _all(histories, lambda h, o=of: share(o(h)))
        number = f"share of the first {EARLY} of {n_epochs} epochs, by layer and seed: {span(shares, '.0%')}"
        found.append(Claim(f"most change of the {what} comes in the first epochs", number, bool((shares > 0.5).all())))
    return found


def _sampling(histories: Sequence[xr.Dataset]) -> Claim:
    """Whether the variances of drawn labels are the closed form: one z-score per seed, epoch, estimator and layer."""
    scores, single = [], []
    for history in histories:
        there = history.dropna("epoch", subset=["sampled_exact"])
        drawn, exact = there.sampled_variance.transpose("replicate", ...).values, there.sampled_exact.values
        some = exact > 0
        error = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
        scores.append(((drawn.mean(axis=0) - exact)[some] / error[some]).ravel())
        single.append(np.abs(np.sqrt(drawn[0][some] / exact[some]) - 1))
    z, deviation = np.abs(np.concatenate(scores)), np.concatenate(single)
    freedom = histories[0].sizes["replicate"] - 1
    limit = float(stats.t.isf(FALSE_ALARM / 2 / z.size, freedom))
    number = f"standard deviations are off by {deviation.max():.2%} at most; largest of {z.size} z-scores {z.max():.2f}, "
    number += f"allowed {limit:.2f}"
    return Claim("5,000 draws give the closed-form variances", number, bool(z.max() < limit))


def markdown(setting: Any, n_features: int, histories: Sequence[xr.Dataset], found: Sequence[Claim]) -> list[str]:
    """The tables of one setting."""
    widths = "-".join(str(width) for width in (n_features, *setting.hidden, 10))
    last = [history.isel(epoch=-1) for history in histories]
    lines = [f"## {widths}, {setting.activation}, {len(histories)} seeds", ""]
    accuracy = [float(one.validation_accuracy) for one in last]
    lines += [f"Accuracy on held-out images after {setting.epochs} epochs: {span(accuracy, '.3f')}.", ""]
    lines += ["| claim | number (all seeds) | holds |", "|---|---|---|"]
    lines += [f"| {one.says} | {one.number} | {'yes' if one.holds else '**no**'} |" for one in found]
    lines += ["", f"Seed {setting.seeds[0]}, one label, mean over {setting.n_evaluated} held-out images:", ""]
    lines += [
        "| epoch | layer | information | sd 1 | sd 2 | T4.1 / V1 | T4.1 / V2 | best / V1 | best / V2 | sd 1 / I | sd 2 / I |"
    ]
    lines += ["|---:|---:|" + "---:|" * 9]
    history = histories[0]
    for epoch in sorted({0, 1, 2, EARLY, setting.epochs} & set(history.epoch.values.tolist())):
        for layer in history.layer.values:
            one = history.sel(epoch=epoch, layer=layer)
            variance = one.variance.values * setting.n_evaluated
            bounds = [one[which].values * setting.n_evaluated for which in ("theorem_upper", "upper")]
            numbers = [float(one.information), *np.sqrt(variance)]
            numbers += [b / v if v else np.nan for bound in bounds for b, v in zip(bound, variance, strict=True)]
            numbers += [float(one.relative_error[at]) * setting.n_evaluated**0.5 for at in (0, 1)]
            cells = " | ".join("exact" if np.isnan(number) else f"{number:.3g}" for number in numbers)
            lines.append(f"| {epoch} | {layer} | {cells} |")
    return [*lines, ""]
