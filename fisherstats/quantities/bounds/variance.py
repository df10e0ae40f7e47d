"""Certified bounds of the information and of the estimators' variances, with the exact values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core import margins
from fisherstats.core.arrays import double
from fisherstats.core.docstrings import documented
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, inputs
from fisherstats.core.validation import bounds as checks
from fisherstats.execution import Steps
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._layout import Layout
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import assembly
from fisherstats.theory.variance_inequalities import FORMS, Bounds, LawBounds, attained_extremes, law_bounds

__all__ = ["layer_bounds", "variance_bounds"]

Array = NDArray[np.floating]


@documented
@streamed()
def variance_bounds(
    model: MLP,
    x: Any,
    *,
    n_draws: int = 1,
    per_input: bool = False,
    estimators: Sequence[str] = ESTIMATORS,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Certified bounds of the estimators' variances and of the information, with the exact values (2024, Theorem 4.1).

    :math:`\|\partial_ih\|^4\lambda(M)/N` bounds the score estimator's variance (8), :math:`\|\partial_i^2h\|^2\lambda(I)/N`
    the Hessian estimator's (9), :math:`\|\partial_ih\|^2\lambda(I)` the information (7). The tightest of several certified
    forms is chosen for each unit and input, then summed for the fixed design.

    Parameters
    ----------
    %(model)s
    %(x)s
    %(n_draws)s
    per_input : bool, default False
        Return the bounds of each input instead of those of the mean over inputs.
    estimators : sequence of {"score", "hessian"}, default both
        Which variances; with the score alone kinks are irrelevant, and the Hessian estimator is not computed.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``exact, lower, upper, ratio ([input,] estimator, param)``, ratio = upper / exact (1 where both are 0, inf where only
        exact is 0); ``lower_by_form, upper_by_form ([input,] bound, estimator, param)`` with 0 and inf where a form gives no
        bound; with the score estimator ``attained ([input,] side, param)``, Theorem 4.1 with quartic extremes attained by an
        iteration (not certified, never used as a bound);
        ``information_lower, information_exact, information_upper ([input,] param)``; ``failed ([input,] bound, estimator)``, the
        number of entries at which a form is on the wrong side of the exact value or is NaN: 0 unless there is a defect in the
        package, which raises a warning. A failed form is reported but not used. Units of 1, source keys ``bounds``,
        ``information-bounds``; the forms' are ``bhatia-davis`` and ``pearson``.

    Raises
    ------
    %(refused)s
    %(kink)s
    %(size)s

    Notes
    -----
    Forms: ``spectral`` (the theorem with certified eigenvalues), ``projected`` (softmax without its flat direction),
    ``standardised`` (the theorem in the parametrisation t / sqrt(I)), ``bhatia_davis`` (bounded t) and ``pearson`` (lower bound
    of (8)). Cost: that of `estimator_variance`, and with the score 1,200 products with the response distribution per input for
    `attained`.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> bounds = fs.variance_bounds(model, x)
    >>> bool((bounds.lower <= bounds.exact).all() and (bounds.exact <= bounds.upper).all())
    True
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, in_double=True, any_network=True)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    chosen = arguments.words("estimators", estimators, ESTIMATORS)
    _views.check(call, "diagonal", per_input, (1 + len(chosen)) * (3 + 2 * len(FORMS)))

    def block(x: Array, first_input: int) -> list[Array]:
        found = _of_block(call, x, first_input, chosen, on_kink)

        def assembled(factors: Sequence[Array | None], exponent: int) -> Array:
            return assembly.diagonal(factors, found.inputs, exponent, call.sizes, per_input)

        def fourth(factors: Sequence[Array | None]) -> Array:
            return assembled(factors, 4)

        arrays = _three(found.information, lambda factors: assembled(factors, 2))
        for name, one in found.variances.items():
            arrays += _three(one, fourth)
            arrays += _by_form(one, found.information[0] if name == "hessian" else found.score_forms, fourth)
        if "score" in chosen:
            arrays += [fourth(factors) for factors in _attained(found)]
        sizes = [h_bar.shape[1] for h_bar in found.inputs]
        return [*arrays, _failures(list(found.variances.values()), found.information, sizes, per_input)]

    yield (layout := _laid_out(call, chosen, per_input, call.provenance(n_draws=n_draws, on_kink=on_kink)))
    results = yield from call.over_inputs(block, call.block_rows(second_order="hessian" in chosen), per_input, infinite=True)
    return layout, _values(call, chosen, results, n_draws, per_input)


@dataclass(frozen=True)
class _Block:
    """The bounds of one block of inputs, per unit of every layer."""

    bounded: LawBounds
    G: Sequence[Array | None]
    inputs: list[Array]
    information: list[Bounds]
    variances: dict[str, Sequence[Bounds | None]]
    """By estimator; None stands for a layer that is zero."""

    @property
    def score_forms(self) -> Bounds:
        """Those of any layer: all have the same forms."""
        first = self.variances["score"][0]
        assert first is not None
        return first


def _of_block(call: Call, x: Array, first_input: int, chosen: Sequence[str], on_kink: str) -> _Block:
    with_hessian = "hessian" in chosen
    forward, law = call.network.forward(x, first_input, order=2 if with_hessian else 1)
    S: Sequence[Array | None] = []
    if with_hessian:
        call.network.refuse_kinks(forward, on_kink, first_input)
        G, S = call.network.unit_jacobians_and_curvatures(forward, differences=False)
    else:
        G = call.network.unit_jacobians(forward, differences=False)
    bounded = law_bounds(law, call.network.rounding(forward))
    variances: dict[str, Sequence[Bounds | None]] = {}
    for one in chosen:
        if one == "score":
            variances[one] = [bounded.of_square_variance(G_l) for G_l in G]
        else:
            variances[one] = [None if S_l is None else bounded.of_variance(S_l) for S_l in S]
    return _Block(bounded, G, forward.inputs, [bounded.of_variance(G_l) for G_l in G], variances)


def layer_bounds(call: Call, chosen: Sequence[str], on_kink: str) -> Steps[tuple[Array, Array]]:
    """Return the mean information of each layer's entries, (L,), and for one label exact, lower, upper variance (3, e, L).

    Sums over a layer's entries are products of sums, so no array of the size of the parameters is created.
    """

    def block(x: Array, first_input: int) -> list[Array]:
        found = _of_block(call, x, first_input, chosen, on_kink)

        def summed(factors: Sequence[Array | None], exponent: int) -> Array:
            sums = [
                np.zeros_like(h_bar[:, 0], dtype=np.float64)
                if factor is None
                else double(factor).sum(axis=1) * assembly.power_of(double(h_bar), exponent).sum(axis=1)
                for factor, h_bar in zip(factors, found.inputs, strict=True)
            ]
            return np.stack(sums).sum(axis=1)

        variances = [_three(one, lambda factors: summed(factors, 4)) for one in found.variances.values()]
        information = summed([one.exact for one in found.information], 2)
        return [information, np.stack([np.stack(one) for one in variances], axis=1)]

    information, variances = yield from call.mean(block, call.block_rows(second_order="hessian" in chosen))
    sizes = np.asarray(call.sizes)
    return information / sizes, variances / (sizes * call.n_inputs)


Assemble = Callable[[Sequence[Array | None]], Array]


def _three(layers: Sequence[Bounds | None], assemble: Assemble) -> list[Array]:
    """Return exact, lower and upper over parameters; None stands for a layer that is zero."""
    tightest = [None if layer is None else layer.tightest() for layer in layers]
    return [
        assemble([None if layer is None else layer.exact for layer in layers]),
        assemble([None if pair is None else pair[0] for pair in tightest]),
        assemble([None if pair is None else pair[1] for pair in tightest]),
    ]


def _by_form(layers: Sequence[Bounds | None], pattern: Bounds, assemble: Assemble) -> list[Array]:
    """Return every form's lower, then upper bound; a form missing in `pattern`, or NaN, gives the trivial bounds 0 and inf."""
    empty = assemble([None] * len(layers))

    def side(chosen: str, nothing: float) -> list[Array]:
        present = getattr(pattern, chosen)
        rows = []
        for form in FORMS:
            if form not in present:
                rows.append(np.full_like(empty, nothing))
                continue
            own = [None if layer is None else getattr(layer, chosen)[form] for layer in layers]
            rows.append(assemble([None if one is None else np.where(np.isnan(one), nothing, one) for one in own]))
        return rows

    return [*side("lower", 0.0), *side("upper", np.inf)]


def _failures(
    variances: Sequence[Sequence[Bounds | None]], information: Sequence[Bounds], sizes: Sequence[int], per_input: bool
) -> Array:
    """Return for how many parameters a form has failed, (n, forms, estimators) or summed over inputs.

    Failures for the information are counted with the first estimator.
    """
    nothing = np.zeros_like(information[0].exact[:, 0])
    by_estimator = []
    for place, layers in enumerate(variances):
        together = [*zip(layers, sizes, strict=True), *(zip(information, sizes, strict=True) if place == 0 else ())]
        counts = {form: nothing for form in FORMS}
        for bounds, size in together:
            for form, failed in ({} if bounds is None else bounds.failed()).items():
                counts[form] = counts[form] + size * failed.sum(axis=1, dtype=np.float64)
        by_estimator.append(np.stack([counts[form] for form in FORMS], axis=1))
    found: Array = np.stack(by_estimator, axis=2)
    return found if per_input else found.sum(axis=0)


def _attained(found: _Block) -> list[list[Array]]:
    """Return the factors |dh|^4 times the smallest and largest quartic value attained by an iteration."""
    extremes = attained_extremes(found.bounded.law, found.bounded.quartic[1][:, 0])
    fourth = [
        np.ones_like(found.bounded.law.h) if G_l is None else np.square(np.einsum("ntk,ntk->nk", G_l, G_l)) for G_l in found.G
    ]
    return [[norm * value[:, None] for norm in fourth] for value in extremes]


def _laid_out(call: Call, chosen: Sequence[str], per_input: bool, provenance: dict[str, Any]) -> Layout[xr.Dataset]:
    entries: list[_layout.Entry] = [
        "exact",
        "lower",
        "upper",
        "ratio",
        "lower_by_form",
        "upper_by_form",
        ("forms_failed", np.int64),
    ]
    coords = _labels.param_coordinates(call.model) | _labels.coordinates(estimator=list(chosen), bound=list(FORMS))
    if "score" in chosen:
        entries.append("attained")
        coords |= _labels.coordinates(side=["lower", "upper"])
    if per_input:
        coords |= call.input_coordinate()
    entries += ["information_exact", "information_lower", "information_upper"]
    return _layout.dataset(entries, coords, provenance, call.dtype)


def _values(call: Call, chosen: Sequence[str], results: list[Array], n_draws: int, per_input: bool) -> list[Array]:
    """Return the arrays of the layout, from single-label numbers scaled to the design."""
    count = 3 + 2 * len(FORMS)
    *results, failed = results
    terms = call.terms(per_input)
    information, rest = results[:3], results[3:]
    divisor = n_draws * (1 if per_input else call.n_inputs)
    if not per_input:
        failed = failed * call.n_inputs  # a mean over inputs
    scaled = [one / divisor for one in rest]
    by_estimator = [scaled[start : start + count] for start in range(0, count * len(chosen), count)]
    axis = int(per_input)

    def lower(values: Array) -> Array:
        return margins.outwards(margins.below(values, terms), call.dtype, "lower")

    def upper(values: Array) -> Array:
        return margins.outwards(margins.above(values, terms), call.dtype, "upper")

    def joined(start: int, stop: int) -> Array:
        forms = [np.stack(one[start:stop], axis=axis) for one in by_estimator]
        return np.stack(forms, axis=axis + 1)

    exact: Array
    low: Array
    high: Array
    exact, low, high = (np.stack([one[position] for one in by_estimator], axis=axis) for position in range(3))
    inputs.finite_results([exact, high, *information], call.dtype)
    exact = margins.nearest(exact, call.dtype)
    low, high = lower(low), upper(high)
    checks.forms_hold("variance_bounds", FORMS, failed)
    nothing = exact == 0
    with np.errstate(over="ignore"):  # inf where upper / exact overflows
        ratio = np.where(nothing, np.where(high == 0, 1.0, np.inf), high / np.where(nothing, 1, exact))
    by_form = lower(joined(3, 3 + len(FORMS))), upper(joined(3 + len(FORMS), count))
    attained = [margins.nearest(np.stack(scaled[-2:], axis=axis), call.dtype)] if "score" in chosen else []
    return [
        exact,
        low,
        high,
        margins.nearest(ratio, call.dtype),
        *by_form,
        np.rint(failed).astype(np.int64),
        *attained,
        margins.nearest(information[0], call.dtype),
        lower(information[1]),
        upper(information[2]),
    ]
