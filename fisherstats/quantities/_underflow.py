"""Variances whose terms underflow, recomputed in rescaled units.

The variance of an estimated entry is of fourth order in inputs and derivatives, so that it underflows where the entry and its
standard error do not. With inputs, derivatives and second derivatives in powers of two near the largest of each column and
unit none of its terms does. It takes two more passes, made only where an entry has a variance of 0 that nothing explains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.execution import Batches, Steps
from fisherstats.models.families import Law
from fisherstats.models.network import MLP
from fisherstats.quantities import _views
from fisherstats.quantities._run import Call
from fisherstats.theory import probes

__all__ = ["label_deviations", "mended_error", "mended_variances"]

Array = NDArray[np.floating]
Roots = tuple[Array, Array]
"""Mantissas and exponents of 2."""


_MOST_APART = 250
"""Powers of two of which the fourth is within the range."""


def _larger(total: list[Array], part: list[Array]) -> None:
    for into, one in zip(total, part, strict=True):
        np.maximum(into, one, out=into)


def _largest(values: Array) -> Array:
    return np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)


def _may_pass_again(call: Call) -> bool:
    """Whether further, unplanned passes over the inputs are possible."""
    source = call.rows.source
    whole = source is not None and call.n_present == call.n_inputs
    return call.rows.device is None and isinstance(call.model, MLP) and (isinstance(source, Batches) or whole)


def _the_law_itself(law: Law) -> Law:
    return law


def label_deviations(
    call: Call, kinds: Sequence[str], per_input: bool, of_labels: Callable[[Law], Law] = _the_law_itself
) -> Steps[list[Roots]]:
    """Return, per estimator, the root of the variance of one label, of the mean over inputs or of each: (..., P) and (P,)."""
    n_layers, with_hessian = call.model.n_layers, "hessian" in kinds
    order = 2 if with_hessian else 1

    def largest(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order)
        G, S = call.network.jacobians_and_curvatures(forward) if with_hessian else (call.network.jacobians(forward), [])
        found = [*forward.inputs, *call.network.root_rows(forward, law), *G]
        found += [np.zeros_like(G_l[:1]) if S_l is None else S_l for G_l, S_l in zip(G, S, strict=False)]
        return [_largest(one) for one in found]

    sizes = yield from call.mean(largest, call.block_rows(second_order=with_hessian), combine=_larger)
    exponents = [np.frexp(one)[1] for one in sizes]
    of_inputs, of_roots, of_slopes, of_bends = (exponents[part * n_layers : (part + 1) * n_layers] for part in range(4))
    # A root is far smaller than the derivative where an outcome is nearly certain; fourth powers of both have to be in range.
    of_units = [np.maximum(root, slope - _MOST_APART) for root, slope in zip(of_roots, of_slopes, strict=True)]

    def scaled(arrays: Sequence[Any], units: Sequence[Array]) -> list[Any]:
        return [None if one is None else np.ldexp(one, -unit) for one, unit in zip(arrays, units, strict=True)]

    def block(x: Array, first_input: int) -> list[Any]:
        forward, law = call.network.forward(x, first_input, order)
        G, S = call.network.jacobians_and_curvatures(forward) if with_hessian else (call.network.jacobians(forward), [])
        G, S = scaled(G, of_units), scaled(S, of_bends) if with_hessian else []
        # In units of its own the last layer is no identity, for which the score has a form of its own.
        drawn = of_labels(law)
        factors = [
            [drawn.square_variance(G_l) for G_l in G]
            if one == "score"
            else probes.label_variance_factors(one, drawn, forward, G, S)
            for one in kinds
        ]
        return [*((one, 4) for one in factors), scaled(forward.inputs, of_inputs)]

    found = yield from _views.compute(call, "diagonal", per_input, block, lambda x, first: [], with_hessian)
    roots = []
    for one, variance in zip(kinds, found, strict=True):
        units = of_bends if one == "hessian" else [2 * unit for unit in of_units]
        exponent = [(unit[:, None] + 2 * column).ravel() for unit, column in zip(units, of_inputs, strict=True)]
        roots.append((np.sqrt(variance[0, 0].astype(np.float64)), np.concatenate(exponent)))
    return roots


def mended_error(
    call: Call,
    kinds: Sequence[str],
    per_input: bool,
    estimates: Sequence[Array],
    variances: Sequence[Array],
    shares: int,
    of_labels: Callable[[Law], Law] = _the_law_itself,
) -> Steps[list[Array]]:
    """Return the standard errors for given inputs, from variances of one label over `shares` labels.

    An entry that is not 0 and has a variance below the range of normal numbers is evaluated again.
    """
    errors = [np.sqrt(one / shares) for one in variances]
    if not _may_pass_again(call):
        return errors
    kind = np.finfo(call.rows.dtype)
    lost = [(one < kind.tiny) & (estimate != 0) for one, estimate in zip(variances, estimates, strict=True)]
    asked = [place for place, (one, word) in enumerate(zip(lost, kinds, strict=True)) if (one & _varies(call, word)).any()]
    if not asked:
        return errors
    deviations = yield from label_deviations(call, [kinds[one] for one in asked], per_input, of_labels)
    for place, (root, exponent) in zip(asked, deviations, strict=True):
        right = np.ldexp(root / np.sqrt(shares), exponent)
        # A value below the smallest number is still an error; one at rounding level in these units is not.
        right = np.maximum(right.astype(kind.dtype), kind.smallest_subnormal)
        right = np.where(root > 64 * kind.eps, right, errors[place])
        errors[place] = np.where(lost[place], right, errors[place]).astype(errors[place].dtype)
    return errors


def mended_variances(
    call: Call,
    kinds: Sequence[str],
    per_input: bool,
    variances: Sequence[Array],
    shares: float,
    of_labels: Callable[[Law], Law] = _the_law_itself,
) -> Steps[list[Array]]:
    """Return the variances, recomputed where only intermediate results underflow; below the smallest number they are 0."""
    if not _may_pass_again(call):
        return [*variances]
    zeros = [(one == 0) & _varies(call, kind) for one, kind in zip(variances, kinds, strict=True)]
    if not any(one.any() for one in zeros):
        return [*variances]
    seen = yield from _seen(call)
    asked = [place for place, one in enumerate(zeros) if (one & seen).any()]
    if not asked:
        return [*variances]
    found = [*variances]
    deviations = yield from label_deviations(call, [kinds[one] for one in asked], per_input, of_labels)
    for place, (root, exponent) in zip(asked, deviations, strict=True):
        # Smaller values are rounding errors of cancellation.
        lost = zeros[place] & seen & (root > 64 * np.finfo(call.rows.dtype).eps)
        right = np.ldexp(np.square(root) / shares, 2 * exponent)
        found[place] = np.where(lost, right, found[place]).astype(found[place].dtype)
    return found


def _varies(call: Call, kind: str) -> NDArray[np.bool_]:
    """Return where the variance is not 0 by theory; the Hessian's is 0 if all later layers are piecewise linear."""
    model = call.model
    linear = [one.piecewise_linear for one in model.activations]
    curved = [kind != "hessian" or model.family.link is not None or not all(linear[layer:]) for layer in range(model.n_layers)]
    return np.repeat(np.array(curved), call.sizes)


def _seen(call: Call) -> Steps[NDArray[np.bool_]]:
    """Return the parameters whose layer input is not 0 throughout, and whose unit is not either."""

    def largest(x: Array, first_input: int) -> list[Array]:
        return [_largest(one) for one in call.network.forward(x, first_input)[0].inputs]

    alive = [one > 0 for one in (yield from call.mean(largest, call.block_rows(), combine=_larger))]
    masks = []
    for layer, columns in enumerate(alive):
        n_units = call.model.widths[layer + 1]
        dead = layer + 1 < len(alive) and call.model.activations[layer].piecewise_linear
        units = alive[layer + 1][:n_units] if dead else np.ones(n_units, bool)
        masks.append((units[:, None] & columns).ravel())
    return np.concatenate(masks)
