"""Monte Carlo estimates of the Fisher information, the empirical Fisher, and the closed-form variances of the estimators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats import calls, labels, monte_carlo, views
from fisherstats.calls import Call
from fisherstats.checks import arguments, inputs
from fisherstats.closed_form import assembly, covariance, fisher
from fisherstats.model import derivatives
from fisherstats.model.network import MLP
from fisherstats.schema import ESTIMATORS
from fisherstats.streaming import BlockFunction

__all__ = ["empirical_fisher", "estimate_fisher", "estimator_variance"]

Array = NDArray[np.floating]
Seed = int | np.random.SeedSequence | np.random.Generator


def estimate_fisher(
    model: MLP,
    x: Any,
    *,
    estimator: str | Sequence[str],
    n_draws: int,
    rng: Seed,
    view: str = "diagonal",
    per_input: bool = False,
    standard_error: bool = True,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> xr.DataArray | xr.DataTree:
    call = calls.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    chosen = arguments.words("estimator", estimator, ESTIMATORS)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    arguments.boolean("standard_error", standard_error)
    seed = arguments.seed_sequence(rng)
    views.check(call, view, per_input, len(chosen))
    with_score, with_hessian = "score" in chosen, "hessian" in chosen

    def drawn(x: Array, first_input: int) -> tuple[Any, ...]:
        passed, law = call.pass_through(x, first_input, order=2 if with_hessian else 1)
        if with_hessian:
            call.refuse_kinks(passed, on_kink, first_input)
        G = derivatives.jacobians(call.model, passed)
        return passed, law, G, monte_carlo.draw(model.family, passed.natural, seed, first_input, n_draws, with_score)

    def diagonal(x: Array, first_input: int) -> list[Any]:
        passed, law, G, draw = drawn(x, first_input)
        estimates: dict[str, list[Array]] = {}
        variances: dict[str, list[Array | None]] = {}
        if with_score:
            estimates["score"] = fisher.unit_factors(draw.second, G)
            variances["score"] = covariance.score_variance_factors(law, G) if standard_error else []
        if with_hessian:
            contracted = [np.matmul(draw.mean[:, None, :], G_l) for G_l in G]
            estimates["hessian"] = fisher.hessian_factors(law, G, derivatives.curvatures(call.model, passed, contracted))
            variances["hessian"] = (
                covariance.hessian_variance_factors(law, derivatives.curvatures(call.model, passed, G))
                if standard_error
                else []
            )
        quantities = [(estimates[one], 2) for one in chosen]
        if standard_error:
            quantities += [(variances[one], 4) for one in chosen]
        return [*quantities, passed.inputs]

    def matrix(x: Array, first_input: int) -> list[dict[tuple[int, int], Array]]:
        passed, law, G, draw = drawn(x, first_input)
        full = view == "full"
        blocks = {}
        if with_score:
            blocks["score"] = fisher.matrix_blocks(draw.second, G, passed.inputs, full, per_input)
        if with_hessian:
            hessian = derivatives.hessian_blocks(call.model, passed, G, draw.mean, full)
            blocks["hessian"] = fisher.hessian_matrix_blocks(law, G, passed.inputs, hessian, full, per_input)
        return [blocks[one] for one in chosen]

    quantities = views.compute(call, view, per_input, diagonal, matrix, with_hessian)
    pair = not isinstance(estimator, str)
    values = views.stacked(quantities[: len(chosen)], per_input) if pair else quantities[0]
    companions: list[tuple[str, Array]] = []
    if standard_error and view == "diagonal":
        variances = quantities[len(chosen) :]
        variance = (views.stacked(variances, per_input) if pair else variances[0])[0, 0]
        companions = [("standard_error", np.sqrt(variance / (n_draws * (1 if per_input else call.n_inputs))))]
    key = ("estimate_both" if len(chosen) > 1 else f"estimate_{chosen[0]}") if pair else f"estimate_{chosen[0]}"
    provenance = call.provenance(
        view=view,
        estimator=list(chosen),
        n_draws=n_draws,
        seed=monte_carlo.seed_record(seed),
        draws=model.family.draw_scheme(with_score, n_draws),
        on_kink=on_kink,
    )
    return views.labelled(
        call, view, per_input, [(key, values)], provenance, estimators=chosen if pair else None, companions=companions
    )


def empirical_fisher(
    model: MLP,
    x: Any,
    y: Any,
    *,
    view: str = "diagonal",
    per_input: bool = False,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset | xr.DataTree:
    call = calls.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    views.check(call, view, per_input, 3)
    data_labels = model.family.check_labels(labels.unlabelled_response(y), call.n_inputs)

    def middle(x: Array, first_input: int) -> tuple[Any, ...]:
        passed, law = call.pass_through(x, first_input)
        at_labels = fisher.at_labels(law, data_labels[first_input : first_input + len(x)])
        return passed, derivatives.jacobians(call.model, passed), at_labels, law

    def diagonal(x: Array, first_input: int) -> list[Any]:
        passed, G, at_labels, law = middle(x, first_input)
        return [(fisher.unit_factors(at_labels, G), 2), (fisher.unit_factors(law, G), 2), passed.inputs]

    def matrix(x: Array, first_input: int) -> list[dict[tuple[int, int], Array]]:
        passed, G, at_labels, law = middle(x, first_input)
        return [fisher.matrix_blocks(one, G, passed.inputs, view == "full", per_input) for one in (at_labels, law)]

    empirical, expected = views.compute(call, view, per_input, diagonal, matrix)
    bias = {pair: empirical[pair] - expected[pair] for pair in empirical}
    entries = [("empirical", empirical), ("expected", expected), ("bias", bias)]
    return views.labelled(
        call, view, per_input, entries, call.provenance(view=view, estimator="empirical"), compare=True
    )


def estimator_variance(
    model: MLP,
    x: Any,
    *,
    n_draws: int = 1,
    design: str = "fixed",
    population: int | None = None,
    per_input: bool = False,
    group_by: str | None = None,
    estimators: Sequence[str] = ESTIMATORS,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    call = calls.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.choice("design", design, ("fixed", "random", "subsample"))
    arguments.boolean("per_input", per_input)
    arguments.choice("group_by", group_by, (None, "layer", "unit", "model"))
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    chosen = arguments.words("estimators", estimators, ESTIMATORS)
    arguments.only_with("population", population, "design", design, "subsample")
    if design != "fixed":
        inputs.aggregated("per_input", per_input, design)
        inputs.at_least_two_inputs(call.n_inputs, design)
    if population is not None:
        population = inputs.population_size(population, call.n_inputs)
    asked = _Asked(call, n_draws, design, population, per_input, tuple(chosen), on_kink)
    provenance = call.provenance(n_draws=n_draws, design=design, population=population, group_by=group_by, on_kink=on_kink)
    if group_by is None:
        views.check(call, "diagonal", per_input, 4)
        return asked.labelled(asked.of_entries(), provenance, ["param"], labels.param_coordinates(model.widths))
    dims, coords = {
        "layer": (["layer"], labels.layer_coordinates(model.n_layers)),
        "unit": (["unit"], labels.unit_coordinates(model.widths)),
        "model": ([], {}),
    }[group_by]
    return asked.labelled(asked.of_groups(group_by), provenance, dims, coords)


@dataclass(frozen=True)
class _Asked:
    """What a call of `estimator_variance` asks for."""

    call: Call
    n_draws: int
    design: str
    population: int | None
    per_input: bool
    chosen: tuple[str, ...]
    on_kink: str

    @property
    def both(self) -> bool:
        return len(self.chosen) > 1

    def derivatives(self, x: Array, first_input: int) -> tuple[Any, ...]:
        with_hessian = "hessian" in self.chosen
        passed, law = self.call.pass_through(x, first_input, order=2 if with_hessian else 1)
        G = derivatives.jacobians(self.call.model, passed)
        if not with_hessian:
            return passed, law, G, [None] * len(G)
        self.call.refuse_kinks(passed, self.on_kink, first_input)
        return passed, law, G, derivatives.curvatures(self.call.model, passed, G)

    def of_entries(self) -> dict[str, Array]:
        """Return the variances of single diagonal entries, and their covariance."""

        def block(x: Array, first_input: int) -> list[Array]:
            passed, law, G, S = self.derivatives(x, first_input)
            factors = {
                "score": lambda: covariance.score_variance_factors(law, G),
                "hessian": lambda: covariance.hessian_variance_factors(law, S),
            }
            wanted = [factors[one]() for one in self.chosen]
            if self.both:
                wanted.append(covariance.cross_factors(law, G, S))
            sums = [assembly.diagonal(one, passed.inputs, 4, self.call.sizes, self.per_input) for one in wanted]
            if self.design == "fixed":
                return sums
            return [*assembly.moments_over_inputs(fisher.unit_factors(law, G), passed.inputs, 2), *sums]

        return self.by_design(block)

    def of_groups(self, group_by: str) -> dict[str, Array]:
        """Return the information and the variances of the mean entry of each group."""
        whole_model = group_by == "model"

        def block(x: Array, first_input: int) -> list[Array]:
            passed, law, G, S = self.derivatives(x, first_input)
            if group_by == "unit":
                moments = covariance.unit_moments(law, G, S, passed.inputs)
            else:
                groups = covariance.layer_groups(G, S, passed.inputs, self.call.sizes, whole_model)
                moments = covariance.group_moments(law, groups)
            information, by_estimator, cross = moments[0], dict(zip(ESTIMATORS, moments[1:3], strict=True)), moments[3]
            values = [by_estimator[one] for one in self.chosen] + ([cross] if self.both else [])
            if self.per_input:
                return [information, *values]
            spread = assembly.moments_of_values(information)
            return [*spread, *[np.asarray(value, np.float64).sum(axis=0) for value in values]]

        results = self.by_design(block, grouped=True)
        return {name: array[..., 0] for name, array in results.items()} if whole_model else results

    def by_design(self, block: BlockFunction, grouped: bool = False) -> dict[str, Array]:
        """Stream, and turn the single-label variances into those of the design (Theorem 4.7)."""
        call, rows = self.call, self.call.block_rows(second_order="hessian" in self.chosen)
        names = [*self.chosen, "cross"] if self.both else [*self.chosen]
        if self.per_input:
            results = call.stack(block, rows)
            single = dict(zip(["information", *names] if grouped else names, results, strict=True))
            return {name: value if name == "information" else value / self.n_draws for name, value in single.items()}
        if self.design == "fixed" and not grouped:
            means, spread = call.mean(block, rows), None
        else:
            _, mean_information, deviations, *sums = call.mean(block, rows, combine=assembly.merge_moments)
            means = [one / call.n_inputs for one in sums]
            spread = deviations / max(call.n_inputs - 1, 1)
        results = {
            name: covariance.under_design(
                mean, spread, self.n_draws, call.n_inputs, self.design, self.population
            )
            for name, mean in zip(names, means, strict=True)
        }
        return results | ({"information": mean_information} if grouped else {})

    def labelled(
        self, results: dict[str, Array], provenance: dict[str, Any], dims: list[str], coords: dict[str, Any]
    ) -> xr.Dataset:
        leading = ["input"] if self.per_input else []
        grouped = "information" in results
        suffix = "_group" if grouped else "" if self.design == "fixed" else f"_{self.design}"
        dtype = self.call.rows.dtype
        stacked = np.stack([results[one] for one in self.chosen], axis=int(self.per_input)).astype(dtype, copy=False)
        entries: list[labels.Entry] = [(f"variance{suffix}", [*leading, "estimator", *dims], stacked)]
        if self.both:
            cross = "cross_covariance_group" if grouped else "cross_covariance"
            entries.append((cross, [*leading, *dims], results["cross"].astype(dtype, copy=False)))
        if grouped:
            entries.append(("information_group", [*leading, *dims], results["information"].astype(dtype, copy=False)))
        coords = coords | labels.coordinates(estimator=list(self.chosen))
        if self.per_input:
            coords |= self.call.input_coordinate()
        return labels.dataset(entries, coords, provenance)
