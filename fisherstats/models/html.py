"""Networks as tables of their layers, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["external_table", "perceptron_table"]


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(one))}</td>" for one in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def perceptron_table(model: Any) -> str:
    """Return the table of an MLP: a row per layer of weights."""
    names = [*(one.name for one in model.activations), "natural parameters" if model.family.link is None else "link"]
    rows = [
        (layer, shape[1] - biased, shape[0], "yes" if biased else "no", name, f"{shape[0] * shape[1]:,}")
        for layer, (shape, biased, name) in enumerate(zip(model.shapes, model.bias, names, strict=True))
    ]
    caption = f"MLP, {model.family!r}, {model.n_params:,} parameters, {model.dtype}"
    return _table(caption, ("layer", "inputs", "units", "bias", "then", "parameters"), rows)


def external_table(network: Any) -> str:
    """Return the table of an external network: a row per array of parameters."""
    rows = [(one.name, one.shape, "factors" if one.factored else "Jacobian", f"{one.size:,}") for one in network.layers]
    caption = f"ExternalNetwork, {network.family!r}, {network.n_params:,} parameters, {network.dtype}"
    return _table(caption, ("name", "shape", "given by", "parameters"), rows)
