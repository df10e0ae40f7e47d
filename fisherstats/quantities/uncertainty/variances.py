"""Closed-form variances of the estimators: per entry, per input, per group, and under the three designs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.arrays import double
from fisherstats.core.docstrings import documented
from fisherstats.core.schema import DIAGONAL_ESTIMATORS, ESTIMATORS
from fisherstats.core.validation import arguments, inputs
from fisherstats.execution import BlockFunction, Steps
from fisherstats.models.derivatives import Forward
from fisherstats.models.families import Law
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run, _underflow, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._designs import DESIGNS, Design
from fisherstats.quantities._layout import Layout
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import assembly, estimator_moments, fisher, probes
from fisherstats.theory.sampling import PROBES, label_law

__all__ = ["estimator_variance"]

Array = NDArray[np.floating]


@documented
@streamed()
def estimator_variance(
    model: MLP,
    x: Any,
    *,
    n_draws: int = 1,
    sampling: str = "iid",
    design: str = "fixed",
    population: int | None = None,
    per_input: bool = False,
    group_by: str | None = None,
    estimators: Sequence[str] = ESTIMATORS,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Closed-form variances of the score and the Hessian estimator of the diagonal, and their covariance (2024, Lemma 3.1).

    Per input and label :math:`V_1=M(\partial_ih,\partial_ih,\partial_ih,\partial_ih)` with M = Cov(rr', rr'),
    :math:`V_2=\partial_i^2h^\top I(h)\,\partial_i^2h` and :math:`C_{12}=-E[(\partial_ih^\top r)^2\,\partial_i^2h^\top r]`.
    Per input and probe the Hutchinson estimators have :math:`2F_{ii}^2` (Gaussian) and :math:`2(F_{ii}^2-\sum_kR_{ki}^4)`
    (Rademacher), R the rows of the family's root of I(h) times J (Sun 2026).

    Parameters
    ----------
    %(model)s
    %(x)s
    n_draws : int, default 1
        Labels or probes per input, N.
    %(sampling)s
    design : {"fixed", "random", "subsample", "exact_labels"}, default "fixed"
        Sampling design of the inputs. ``fixed``: inference is for the given inputs, :math:`\frac1{n^2}\sum_iV(x_i)/N`.
        ``random``: independent draws, :math:`\frac1n[s_x^2(I(\theta|x))+\frac1n\sum_iV(x_i)/N]` (Theorem 4.7). ``subsample``:
        drawn without replacement from `population` inputs, :math:`(1-m/n_{all})s_x^2/m+\bar V/(Nm)`. ``exact_labels``: random
        inputs whose information is known in closed form, :math:`s_x^2/n`, the limit of many labels; `n_draws` has no effect.
    %(population)s
    per_input : bool, default False
        Return V(x_i)/N of each input (fixed design only).
    group_by : {None, "layer", "unit", "model"}, optional
        The exact variance of the *mean* entry of a group, which is not the mean of the variances.
    estimators : sequence of {"score", "hessian", "hutchinson_gaussian", "hutchinson_rademacher"}, default the first two
        Which variances; the covariance is given with score and hessian.
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``variance ([input,] estimator, param)`` and ``cross_covariance ([input,] param)``; with `group_by` the last dim is
        ``layer``, ``unit`` or missing, and ``information`` holds the exact mean entry. Units of 1, source keys
        ``estimator-variance``, ``estimator-variance-random``,
        ``estimator-variance-subsample``, ``estimator-variance-exact-labels``,
        ``estimator-variance-stratified``, ``cross-covariance``, ``group-variance``, and with Hutchinson estimators
        ``probe-variance``.

    Raises
    ------
    %(refused)s
    %(kink)s
    %(size)s

    Notes
    -----
    Cost: forward and backward pass, one Jacobian chain between layers per input (shared by all outputs, width^3 per pair of
    hidden layers that are not neighbours: 0.14 s per input on two cores for 20 hidden layers of 256 units), one matrix product
    per layer. ``estimators=["score"]`` avoids the chain. Values that are 0 by theory are exactly 0.0: the Hessian variance and
    the covariance in the last layer and in layers followed only by piecewise linear activations.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> fs.estimator_variance(model, np.array([[1.0, 0.0]])).variance.sel(estimator="hessian").values
    array([0., 0., 0.])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, read_once=True, any_network=True)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.boolean("per_input", per_input)
    sampled = Design.of(call, design, population, n_draws, per_input, allowed=(*DESIGNS, "exact_labels"))
    arguments.choice("group_by", group_by, (None, "layer", "unit", "model"))
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    chosen = arguments.words("estimators", estimators, DIAGONAL_ESTIMATORS)
    of_labels = _run.label_sampling(call, sampling, [one for one in chosen if one in PROBES])
    asked = _Asked(call, sampled, per_input, tuple(chosen), on_kink, of_labels)
    provenance = call.provenance(
        n_draws=n_draws,
        design=design,
        population=sampled.population,
        group_by=group_by,
        on_kink=on_kink,
        **({} if of_labels == "iid" else {"sampling": of_labels}),
    )
    if group_by is None:
        _views.check(call, "diagonal", per_input, 4)
        yield (layout := asked.layout(provenance, _labels.param_coordinates(model), grouped=False))
        return layout, asked.arranged((yield from asked.of_entries()))
    call.fits("`group_by`", (call.n_present if per_input else 1) * 4 * sum(model.unit_widths[1:]), 1, "use per_input=False.")
    coords: dict[str, Any] = {}
    if group_by != "model":
        by_layer = group_by == "layer"
        coords = _labels.layer_coordinates(model.n_layers) if by_layer else _labels.unit_coordinates(call.model.unit_widths)
    yield (layout := asked.layout(provenance, coords, grouped=True))
    return layout, asked.arranged((yield from asked.of_groups(group_by)))


@dataclass(frozen=True)
class _Asked:
    """The quantities requested by a call of `estimator_variance`."""

    call: Call
    sampled: Design
    per_input: bool
    chosen: tuple[str, ...]
    on_kink: str
    sampling: str

    def of_labels(self, law: Law) -> Law:
        """Return the law whose variances, over N, are those of means of N labels."""
        return label_law(self.call.model.family, law, self.sampling, self.sampled.n_draws)

    @property
    def names(self) -> list[str]:
        """The returned quantities, in order."""
        return [*self.chosen, "cross"] if self.both else [*self.chosen]

    @property
    def both(self) -> bool:
        return set(ESTIMATORS) <= set(self.chosen)

    def derivatives(self, x: Array, first_input: int) -> tuple[Any, ...]:
        with_hessian = "hessian" in self.chosen
        forward, law = self.call.network.forward(x, first_input, order=2 if with_hessian else 1)
        if not with_hessian:
            G = self.call.network.unit_jacobians(forward)
            return forward, law, G, [None] * len(G)
        self.call.network.refuse_kinks(forward, self.on_kink, first_input)
        return forward, law, *self.call.network.unit_jacobians_and_curvatures(forward)

    def of_entries(self) -> Steps[dict[str, Array]]:
        """Return the variances of single diagonal entries, and their covariance."""

        def block(x: Array, first_input: int) -> list[Array]:
            forward, law, G, S = self.derivatives(x, first_input)
            factors = self.factors(forward, law, G, S)
            sums = [assembly.diagonal(one, forward.inputs, 4, self.call.sizes, self.per_input) for one in factors]
            if self.sampled.fixed:
                return sums
            return [*assembly.moments_over_inputs(fisher.unit_factors(law, forward, G), forward.inputs, 2), *sums]

        def factors_and_inputs(x: Array, first_input: int) -> tuple[list[Any], list[Array]]:
            forward, law, G, S = self.derivatives(x, first_input)
            return [(one, 4) for one in self.factors(forward, law, G, S)], forward.inputs

        if not self.sampled.fixed or self.per_input:
            return (yield from self.by_design(block))

        def weight() -> float:
            # The variance of the mean is proportional to that of one label.
            return float(self.sampled.variance(np.ones(()), None))

        found = yield from self.call.diagonal_mean(factors_and_inputs, "hessian" in self.chosen, weight=weight)
        count = len(self.chosen)
        found[:count] = yield from _underflow.mended_variances(
            self.call, self.chosen, False, list(found[:count]), self.sampled.n_draws * self.call.n_inputs, self.of_labels
        )
        return self.named(found)

    def named(self, values: Array | Sequence[Array]) -> dict[str, Array]:
        """Return the stacked variances and the covariance by name, from all returned quantities in order."""
        count = len(self.chosen)
        variances = values[:count] if isinstance(values, np.ndarray) else np.stack(values[:count], axis=int(self.per_input))
        return {"variance": variances} | ({"cross": values[count]} if self.both else {})

    def factors(
        self, forward: Forward, law: Law, G: Sequence[Array | None], S: Sequence[Array | None]
    ) -> list[Sequence[Array | None]]:
        """Return the factors per unit of each requested variance, and of the covariance."""
        found: dict[str, Sequence[Array | None]] = {}
        law = self.of_labels(law)
        if self.both:  # they share moments
            found["score"], found["hessian"], found["cross"] = estimator_moments.entry_factors(law, G, S)
        return [found[name] if name in found else probes.label_variance_factors(name, law, forward, G, S) for name in self.names]

    def of_groups(self, group_by: str) -> Steps[dict[str, Array]]:
        """Return the information and the variances of the mean entry of each group."""
        whole_model = group_by == "model"

        def block(x: Array, first_input: int) -> list[Array]:
            forward, law, G, S = self.derivatives(x, first_input)
            probing = [one for one in self.chosen if one in PROBES]
            if group_by == "unit":
                moments = estimator_moments.unit_moments(law, self.of_labels(law), forward, G, S)
                probed = [probes.unit_variance(law, G, forward.inputs, one == "hutchinson_gaussian") for one in probing]
            else:
                groups = estimator_moments.layer_groups(G, S, forward.inputs, self.call.sizes, whole_model)
                moments = estimator_moments.group_moments(self.of_labels(law), groups)
                probed = [probes.group_variance(law, groups, one == "hutchinson_gaussian") for one in probing]
            information, cross = moments[0], moments[3]
            by_estimator = dict(zip((*ESTIMATORS, *probing), (*moments[1:3], *probed), strict=True))
            values = [by_estimator[one] for one in self.chosen] + ([cross] if self.both else [])
            if self.per_input:
                return [information, *values]
            spread = assembly.moments_of_values(information)
            return [*spread, *[double(value).sum(axis=0) for value in values]]

        results = yield from self.by_design(block, grouped=True)
        return {name: array[..., 0] for name, array in results.items()} if whole_model else results

    def by_design(self, block: BlockFunction, grouped: bool = False) -> Steps[dict[str, Array]]:
        """Stream, and convert the single-label variances into those of the design (Theorem 4.7)."""
        call, rows = self.call, self.call.block_rows(second_order="hessian" in self.chosen)
        if self.per_input:
            stacked = yield from call.stack(block, rows)
            shared = {"information": stacked.pop(0)} if grouped else {}
            if not grouped:
                count = len(self.chosen)
                stacked[:count] = yield from _underflow.mended_variances(
                    call, self.chosen, True, stacked[:count], 1, self.of_labels
                )
            return shared | self.named([one / self.sampled.n_draws for one in stacked])
        shared, spread = {}, None
        if self.sampled.fixed and not grouped:
            means = yield from call.mean(block, rows)
        else:
            _, mean_information, deviations, *sums = yield from call.mean(block, rows, combine=assembly.merge_moments)
            means = [one / call.n_inputs for one in sums]
            spread = deviations / max(call.n_inputs - 1, 1)
            if grouped:
                shared = {"information": mean_information}
            else:
                for kind, one in zip(self.chosen, means, strict=False):
                    inputs.errors_within_range(kind, mean_information, np.sqrt(self.sampled.variance(one, spread)))
        return shared | self.named([self.sampled.variance(mean, spread) for mean in means])

    def layout(self, provenance: dict[str, Any], coords: dict[str, Any], grouped: bool) -> Layout[xr.Dataset]:
        labels = "_stratified" if self.sampling == "stratified" else ""
        suffix = f"_group{labels}" if grouped else labels if self.sampled.fixed else f"_{self.sampled.word}"
        keys = ["variance_probes" if set(self.chosen) & set(PROBES) else f"variance{suffix}"]
        if self.both:
            keys.append(f"cross_covariance{'_group' if grouped else ''}{labels}")
        if grouped:
            keys.append("information_group")
        coords = coords | _labels.coordinates(estimator=list(self.chosen))
        if self.per_input:
            coords |= self.call.input_coordinate()
        return _layout.dataset(keys, coords, provenance, self.call.rows.dtype)

    def arranged(self, results: dict[str, Array]) -> list[Array]:
        """Return the results in the order of the layout."""
        ordered = [results[name] for name in ("variance", "cross", "information") if name in results]
        return [np.asarray(one).astype(self.call.rows.dtype, copy=False) for one in ordered]
