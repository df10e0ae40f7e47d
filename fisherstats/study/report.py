"""The report of a study, as a self-contained HTML file.

All contents are formatted from the study's tree; only values needed for formatting are computed here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import xarray as xr

from fisherstats.core.validation import study as checks
from fisherstats.core.validation.arguments import optional_module

__all__ = ["render"]

_TITLE = {"score": "Score", "hessian": "Hessian", "neither": "neither"}

#: figure -> title and caption; the order is the order on the page
_FIGURES = {
    "standard_error": (
        "Are the closed-form standard errors correct?",
        "Relative standard error of each layer's mean entry against the number of draws per input. Lines: closed form. "
        "Marks: observed over {replicates} independent replicates, with the bar that covers its line in 95 % of cases. "
        "The dotted line is the target.",
    ),
    "relative_error": (
        "How well is a single parameter known?",
        "Relative standard error of every parameter at one draw per input; N draws divide it by the square root of N. "
        "Boxes hold the middle half of a layer's parameters, whiskers the middle 90 %; the black line is the median.",
    ),
    "information": (
        "How large is the information?",
        "Exact Fisher information of every parameter. Boxes hold the middle half, whiskers the middle 90 % of the "
        "positive entries; the diamond is the mean over all entries of the layer.",
    ),
    "bounds": (
        "How tight are the bounds?",
        "Certified lower (left of 1) and upper bounds (right of 1) of each parameter's variance, over its exact value. "
        "Lower bounds of 0 are trivial and cannot be shown on a log axis: they are omitted from the boxes, but not from "
        "the table.",
    ),
    "sweep": (
        "What if the weights were larger or smaller?",
        "All kernels times a scale, biases unchanged: mean variance of a layer's parameters at one draw per input with its "
        "certified upper bound (dotted), and the same over the squared mean information, the square of a relative error. Small "
        "weights make the variance small, but not necessarily the relative error.",
    ),
}


def render(tree: xr.DataTree, figures: Mapping[str, str]) -> str:
    """Return the report of a study as a self-contained HTML page.

    Parameters
    ----------
    tree : DataTree
        The result of `study.run`.
    figures : mapping of str to str
        SVG text of the figures "information", "standard_error", "relative_error", "bounds" and "sweep".

    Returns
    -------
    str
        HTML with embedded style and figures, without external resources.

    Raises
    ------
    ValueError
        If a figure is missing.
    MissingExtra
        If jinja2 is not installed.
    """
    jinja2 = optional_module("jinja2", extra="study")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("fisherstats.study").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    provenance = json.loads(tree.attrs["provenance"])
    layers = tree["layers"].to_dataset()
    rows = [_layer(layers, layer, provenance["widths"]) for layer in range(layers.sizes["layer"])]
    return environment.from_string(template).render(
        target=_percent(float(layers.attrs["target_standard_error"])),
        target_number=f"{float(layers.attrs['target_standard_error']):g}",
        n_parameters=_count(float(layers["n_parameters"].sum())),
        headline=_headline(rows),
        agreement=_agreement(layers),
        layers=rows,
        figures=_embedded(layers, rows, tree["sweep"].to_dataset(), figures),
        sources=_sources(tree),
        provenance=provenance,
        score_name="accuracy" if provenance["settings"]["data"]["task"] == "classification" else "R²",
        network=_network(provenance),
        configuration=_toml(provenance["settings"]),
    )


def _percent(ratio: float) -> str:
    """Return a ratio as a percentage with two digits, and "0 %" only for exactly 0; with a non-breaking space."""
    if not np.isfinite(ratio):
        return "undefined"
    value = 100 * ratio
    return (f"{value:,.0f}" if value == 0 or value >= 9.95 else f"{value:.2g}") + "\N{NO-BREAK SPACE}%"


def _count(number: float) -> str:
    """Return an integer with thousands separators."""
    if not np.isfinite(number):
        return "undefined"
    return f"{number:,.0f}" if number < 1e7 else f"{number:.2g}"


def _layer(layers: xr.Dataset, layer: int, widths: list[int]) -> dict[str, Any]:
    """Return the table entries of one layer."""
    one = layers.isel(layer=layer)
    return {
        "layer": layer,
        "shape": f"{widths[layer]} → {widths[layer + 1]}",
        "n_parameters": _count(float(one["n_parameters"])),
        "n_informed": _count(float(one["n_informed"])),
        "all_informed": bool(one["n_informed"] == one["n_parameters"]),
        "information": f"{float(one['information']):.3g}",
        "targets": [
            _choice("median parameter", one["median_relative_error"], one["draws_for_median"]),
            _choice("mean entry", one["mean_relative_error"], one["draws_for_mean"]),
        ],
        "tightness": [
            {
                "estimator": str(estimator),
                "title": _TITLE[str(estimator)],
                "lower": _tightness(float(one["lower_tightness"].sel(estimator=estimator))),
                "upper": _tightness(float(one["upper_tightness"].sel(estimator=estimator))),
            }
            for estimator in one["estimator"].values
        ],
    }


def _tightness(ratio: float) -> str:
    return "variance is 0" if np.isnan(ratio) else f"{ratio:.3g}"


def _choice(of: str, error: xr.DataArray, draws: xr.DataArray) -> dict[str, Any]:
    """Return which estimator reaches the target with fewer draws, and the reason."""
    names = [str(name) for name in error["estimator"].values]
    errors = dict(zip(names, error.values.tolist(), strict=True))
    # Unrounded, so that two estimators that need the same number of draws are still distinguished.
    best, other = sorted(names, key=lambda name: errors[name])
    if np.isnan(errors[best]):
        best, why = "neither", "the layer has no information"
    elif errors[best] == errors[other]:
        best, why = "score", "both are equally good; the score estimate is never negative"
    elif errors[best] == 0:
        why = "exact at 1 draw: its variance is 0"
    else:
        ratio = (errors[other] / errors[best]) ** 2
        why = f"its variance is {_count(ratio) if ratio >= 10 else f'{ratio:.2g}'} times smaller"
    return {
        "of": of,
        "error": errors.get(best, float("nan")),
        "draws": float(draws.sel(estimator=best)) if best in names else float("nan"),
        "needs": {name: _count(float(draws.sel(estimator=name))) for name in names},
        "use": best,
        "title": _TITLE[best],
        "why": why,
    }


def _headline(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the numbers of the first sentence, or None if no parameter has information."""
    medians, means = ([row["targets"][which] for row in rows] for which in (0, 1))
    if all(choice["use"] == "neither" for choice in medians):
        return None
    hardest = max(medians, key=lambda choice: np.nan_to_num(choice["error"], nan=-1.0))
    return {
        "exact": hardest["error"] == 0,
        "hardest_error": _percent(hardest["error"]),
        "hardest_layer": str(medians.index(hardest)),
        "draws_for_median": _count(np.nanmax([choice["draws"] for choice in medians])),
        "draws_for_mean": _count(np.nanmax([choice["draws"] for choice in means])),
        "estimators": _by_estimator([choice["use"] for choice in medians]),
    }


def _by_estimator(uses: list[str]) -> str:
    """Return "Score in layers 0 and 1, Hessian in layer 2"."""
    parts = []
    for name in dict.fromkeys(uses):
        chosen = [str(layer) for layer, use in enumerate(uses) if use == name]
        listed = " and ".join([", ".join(chosen[:-1]), chosen[-1]] if len(chosen) > 1 else chosen)
        parts.append(f"{_TITLE[name]} in layer{'s' if len(chosen) > 1 else ''} {listed}")
    return ", ".join(parts)


def _agreement(layers: xr.Dataset) -> dict[str, str]:
    """Return how many observed standard errors are inside their 95 % range."""
    expected, observed = layers["standard_error"].values, layers["observed_standard_error"].values
    ratio = observed[expected > 0] / expected[expected > 0]
    low, high = layers["expected_ratio"].values
    return {
        "inside": str(int(((ratio >= low) & (ratio <= high)).sum())),
        "all": str(ratio.size),
        "low": f"{low:.2f}",
        "high": f"{high:.2f}",
        "smallest": f"{ratio.min():.2f}" if ratio.size else "",
        "largest": f"{ratio.max():.2f}" if ratio.size else "",
        "replicates": str(int(layers.attrs["replicates"])),
    }


def _embedded(
    layers: xr.Dataset, rows: list[dict[str, Any]], sweep: xr.Dataset, figures: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return the figures in order, each as a data URI with title, caption and alternative text."""
    texts = _alternatives(layers, rows, sweep)
    embedded = []
    for name, (title, caption) in _FIGURES.items():
        if name not in figures:
            checks.image_missing(name)
        image = base64.b64encode(figures[name].encode()).decode()
        embedded.append(
            {
                "name": name,
                "title": title,
                "caption": caption.format(replicates=int(layers.attrs["replicates"])),
                "image": f"data:image/svg+xml;base64,{image}",
                "alternative": texts[name],
            }
        )
    return embedded


def _alternatives(layers: xr.Dataset, rows: list[dict[str, Any]], sweep: xr.Dataset) -> dict[str, str]:
    """Return the alternative text of each figure."""
    draws = layers["n_draws"].values
    ratio = _agreement(layers)
    spans = "; ".join(
        f"layer {row['layer']}: {_percent(row['targets'][0]['error'])} with the {row['targets'][0]['title']} estimator"
        for row in rows
    )
    tight = "; ".join(
        f"layer {row['layer']}, {side['estimator']}: {side['lower']} to {side['upper']}"
        for row in rows
        for side in row["tightness"]
    )
    powers = "; ".join(
        f"layer {layer}, {estimator}: {power:.2g}"
        for layer in sweep["layer"].values
        for estimator in sweep["estimator"].values
        if np.isfinite(power := float(sweep["exponent"].sel(scale=1.0, layer=layer, estimator=estimator)))
    )
    return {
        "standard_error": (
            f"Log-log plot for both estimators from {draws[0]} to {draws[-1]} draws per input: observed standard errors "
            f"follow the closed-form lines of slope minus one half; their ratios lie between "
            f"{ratio['smallest'] or 'none'} and {ratio['largest'] or 'none'}."
        ),
        "relative_error": f"Box plots per layer and estimator; the better medians at one draw per input are {spans}.",
        "information": "Box plots on a log scale; mean entries are "
        + "; ".join(f"layer {row['layer']}: {row['information']}" for row in rows)
        + ".",
        "bounds": f"Box plots of bounds over exact variance on a log scale; medians lower to upper are {tight}.",
        "sweep": (
            f"Log-log plots for both estimators, scales {sweep.scale.values.min():g} to {sweep.scale.values.max():g}; at scale 1 "
            f"variances grow with these powers of the scale: {powers}."
        ),
    }


def _sources(tree: xr.DataTree) -> dict[str, Any]:
    """Return papers with their statements and the quantities based on them, assumptions and errata, without duplicates."""
    papers: dict[str, dict[str, list[str]]] = {}
    assumptions: dict[str, None] = {}
    errata: dict[str, None] = {}
    for child in ("exact", "estimates", "variance", "bounds", "sweep", "layers"):
        for name, variable in tree[child].to_dataset().data_vars.items():
            statement, paper = variable.attrs["source"].removesuffix("]").rsplit(" [", 1)
            quantities = papers.setdefault(paper, {}).setdefault(statement, [])
            quantities.append(f"{child}/{name}")
            assumptions |= dict.fromkeys(one for one in variable.attrs["assumptions"].split("; ") if one != "none")
            if "erratum" in variable.attrs:
                errata[f"{statement.split(':')[0]}: {variable.attrs['erratum']}"] = None
    return {"papers": papers, "assumptions": list(assumptions), "errata": list(errata)}


def _network(provenance: Mapping[str, Any]) -> str:
    """Return the network in one line."""
    family = provenance["family"]
    activations = ", ".join(dict.fromkeys(provenance["activations"]))
    return f"{' → '.join(str(width) for width in provenance['widths'])}, {activations}, {family['name']} response"


def _toml(tables: Mapping[str, Any]) -> str:
    """Return the settings as the TOML text that repeats the study.

    JSON values of these types are TOML values, with two exceptions: TOML has no surrogate pairs, so characters are written
    literally, and the delete character must be escaped.
    """

    def line(key: str, value: Any) -> str:
        return f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")

    parts = ["\n".join(line(key, value) for key, value in tables.items() if not isinstance(value, dict))]
    for name, table in tables.items():
        if isinstance(table, dict):
            parts.append("\n".join([f"[{name}]", *(line(key, value) for key, value in table.items())]))
    return "\n\n".join(parts)
