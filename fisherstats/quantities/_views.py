"""The views of a matrix over parameters (diagonal, block per layer, Kronecker factors, full): sizes, streaming, labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats import execution
from fisherstats.core.validation import arguments
from fisherstats.execution import Steps
from fisherstats.quantities import _labels, _layout
from fisherstats.quantities._layout import Layout
from fisherstats.quantities._run import DENSE_ROWS, Call
from fisherstats.theory import assembly

__all__ = ["KRONECKER", "VIEWS", "Blocks", "arranged", "check", "compute", "layout", "numbers", "stacked"]

Array = NDArray[np.floating]

VIEWS = ("diagonal", "block", "full")
KRONECKER = ("kronecker_inputs", "kronecker_units")
"""The two quantities of `view="kfac"`, offered by `fisher_information` only."""

Blocks = dict[tuple[int, int], Array]
"""{(0, 0): diagonal or whole matrix} or {(l, l): block}."""

DiagonalBlock = Callable[[Array, int], list[Any]]
MatrixBlock = Callable[[Array, int], list[Blocks]]
RowsBlock = Callable[[Array, int], tuple[list[Any], list[Array]]]


_BY_ROWS, _PER_INPUT, _BY_BLOCKS = 0.35, 1.5, 2.9
"""Measured working memory as a fraction of the result: where a mean is given by rows of a root and written in place;
where there is a result per input, a diagonal or a factor; where two threads hold whole matrices of blocks."""


def check(
    call: Call,
    view: str,
    per_input: bool,
    n_quantities: int = 1,
    allowed: Sequence[str] = VIEWS,
    may_be_stored: bool = False,
    by_rows: bool = False,
) -> None:
    """Require a known view whose result fits in memory; `may_be_stored` if there is a `store` for those that do not.

    `by_rows` if means are given by rows of a root, see `compute`.
    """
    arguments.choice("view", view, allowed)
    arguments.boolean("per_input", per_input)
    rows = call.n_present if per_input else 1
    remedy = {
        "diagonal": "use per_input=False, fewer inputs or group_by where it is offered.",
        "block": "use view='diagonal', or fisher_operator for products with vectors.",
        "full": "use view='diagonal' or view='block', or fisher_operator for products with vectors.",
        "kfac": "use per_input=False, fewer inputs or view='diagonal'.",
    }[view]
    if may_be_stored and view in ("block", "full") and not per_input:
        remedy = remedy.replace("use ", "use `store` to write it to disk, ", 1)
    what = f"`view={view!r}`" + (" with `per_input=True`" if per_input else "")
    in_place = by_rows and not per_input and view in ("block", "full")
    beside = _BY_ROWS if in_place else _PER_INPUT if per_input or view in ("diagonal", "kfac") else _BY_BLOCKS
    # Blocks that are summed are summed in float64.
    itemsize = call.rows.dtype.itemsize if in_place else 8
    call.fits(what, numbers(call, view) * rows * n_quantities, beside, remedy, itemsize)


def numbers(call: Call, view: str) -> int:
    """Return how many numbers one matrix takes in a view."""
    if view == "kfac":
        return sum(size**2 for shape in call.model.shapes for size in shape)
    n_params = call.model.n_params
    return {"diagonal": n_params, "block": sum(size**2 for size in call.sizes), "full": n_params**2}[view]


def compute(
    call: Call,
    view: str,
    per_input: bool,
    diagonal: DiagonalBlock,
    matrix: MatrixBlock,
    second_order: bool = False,
    rows_of: RowsBlock | None = None,
    n_quantities: int = 1,
    n_rows: int | None = None,
) -> Steps[list[Blocks]]:
    """Stream a block function; return, per quantity, {(0, 0): diagonal or whole matrix} or {(l, l): block}.

    `diagonal` gives (factors per unit, power of the layer input) of each quantity and last the layer inputs, `matrix` gives
    the blocks l <= m of each quantity. Where each is of the form R_l' R_m, `rows_of` gives (rows R_l of each quantity, layer
    inputs) for `n_quantities` of them, or for Kronecker factors (`RowProducts` of each layer, layer inputs), and takes its place
    for means over inputs. `n_rows` as for `Call.block_rows`.
    """
    if view == "diagonal":

        def summands(x: Array, first_input: int) -> list[Array]:
            *quantities, layer_inputs = diagonal(x, first_input)
            return [assembly.diagonal(factors, layer_inputs, exponent, call.sizes, True) for factors, exponent in quantities]

        def factors_and_inputs(x: Array, first_input: int) -> tuple[list[Any], list[Array]]:
            *quantities, layer_inputs = diagonal(x, first_input)
            return quantities, layer_inputs

        if per_input:
            arrays = yield from call.over_inputs(summands, call.block_rows(second_order=second_order), True)
        else:
            means = yield from call.diagonal_mean(factors_and_inputs, second_order, n_rows=n_rows)
            # Separate copies, so that keeping one does not keep the others alive.
            arrays = [means[0]] if len(means) == 1 else [one.copy() for one in means]
        return [{(0, 0): array} for array in arrays]

    if rows_of is not None and not per_input:
        full = view == "full"
        found = yield from call.kronecker_mean(rows_of) if view == "kfac" else call.pair_mean(rows_of, full, n_quantities)
        return [{key: block.astype(call.rows.dtype, copy=False) for key, block in blocks.items()} for blocks in found]
    pairs = assembly.layer_pairs(call.model.n_layers, view == "full")

    def dense_block(x: Array, first_input: int) -> list[Array]:
        return [blocks[pair] for blocks in matrix(x, first_input) for pair in pairs]

    rows = call.block_rows(DENSE_ROWS, second_order)
    if per_input:
        rows = min(rows, execution.block_rows(numbers(call, view), DENSE_ROWS))
    flat = yield from call.over_inputs(dense_block, rows, per_input)
    count = len(pairs)
    found = [dict(zip(pairs, flat[start : start + count], strict=True)) for start in range(0, len(flat), count)]
    if view == "full":
        return [{(0, 0): assembly.full_matrix(blocks, call.model.layer_slices())} for blocks in found]
    return [{pair: assembly.symmetric(block) for pair, block in blocks.items()} for blocks in found]


def stacked(quantities: Sequence[Mapping[tuple[int, int], Array]], per_input: bool) -> dict[tuple[int, int], Array]:
    """Join quantities along a new estimator axis (after the inputs)."""
    return {pair: np.stack([one[pair] for one in quantities], axis=int(per_input)) for pair in quantities[0]}


def layout(
    call: Call,
    view: str,
    per_input: bool,
    keys: Sequence[str],
    provenance: dict[str, Any],
    *,
    estimators: Sequence[str] | None = None,
    companions: Sequence[str] = (),
    compare: bool = False,
) -> Layout[Any]:
    """Return that of a DataArray (one quantity), a Dataset (`compare`), or for blocks and factors a DataTree by layer."""
    shared = call.input_coordinate() if per_input else {}
    if estimators:
        shared |= _labels.coordinates(estimator=list(estimators))
    dtype = call.rows.dtype
    if view in ("block", "kfac"):
        children = {}
        for layer in range(call.model.n_layers):
            if view == "kfac":
                coords = shared | _labels.factor_coordinates(call.model, layer)
            else:
                coords = shared | _labels.param_coordinates(call.model, layer=layer)
                coords |= _labels.param_coordinates(call.model, "param2", layer)
            children[f"layer_{layer}"] = ([*keys, *companions], coords)
        return _layout.tree(children, provenance, dtype)
    coords = shared | _labels.param_coordinates(call.model)
    if view == "full":
        coords |= _labels.param_coordinates(call.model, "param2")
    if compare:
        return _layout.dataset(keys, coords, provenance, dtype)
    return _layout.array(keys[0], coords, provenance, dtype, companions)


def arranged(call: Call, view: str, quantities: Sequence[Mapping[tuple[int, int], Array]]) -> list[Array]:
    """Return the arrays of quantities (and companions) in the order of their layout."""
    if view in ("block", "kfac"):
        return [one[layer, layer] for layer in range(call.model.n_layers) for one in quantities]
    return [one[0, 0] for one in quantities]
