"""Monte Carlo estimates of the Fisher information, and the empirical Fisher at data labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.core.schema import DIAGONAL_ESTIMATORS, ESTIMATORS
from fisherstats.core.validation import arguments, inputs
from fisherstats.core.validation import probes as probe_checks
from fisherstats.execution import PassShape, Steps
from fisherstats.models import derivatives
from fisherstats.models.derivatives import Forward
from fisherstats.models.families import Law, SecondMoment
from fisherstats.models.network import MLP
from fisherstats.quantities import _run, _underflow, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._designs import Design
from fisherstats.quantities._run import Call
from fisherstats.quantities._streams import streamed
from fisherstats.theory import entry_variances, fisher, probes
from fisherstats.theory.sampling import PROBES, draw, draw_probes, label_law, seed_record

__all__ = ["empirical_fisher", "estimate_fisher"]

Array = NDArray[np.floating]
Seed = int | np.random.SeedSequence | np.random.Generator


@documented
@streamed()
def estimate_fisher(
    model: MLP,
    x: Any,
    *,
    estimator: str | Sequence[str],
    n_draws: int,
    rng: Seed,
    view: str = "diagonal",
    per_input: bool = False,
    standard_error: bool | None = None,
    sampling: str = "iid",
    design: str = "fixed",
    population: int | None = None,
    on_kink: str = "raise",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.DataArray | xr.DataTree]:
    r"""Monte Carlo Fisher information from labels drawn from the model, with its closed-form standard error.

    The error covers the drawn labels at the given inputs (`design` "fixed"), or the inputs as well, where these are a sample.
    ``"score"`` is :math:`\hat I_1=\frac1{nN}\sum\partial\ell\,\partial\ell^\top`, ``"hessian"`` is
    :math:`\hat I_2=-\frac1{nN}\sum\partial^2\ell` (2024, eqs 2 and 3), over N labels of each of the n inputs. The other two
    draw no labels: ``"hutchinson_gaussian"`` and ``"hutchinson_rademacher"`` are :math:`\frac1{nN}\sum(R^\top\xi)_i^2`, over N
    probes of each input with standard normal entries or signs, R the root of I(h) times J (Sun 2026).

    Parameters
    ----------
    %(model)s
    %(x)s
    estimator : {"score", "hessian", "hutchinson_gaussian", "hutchinson_rademacher"} or a sequence of them
        A sequence adds the dim ``estimator``; score and hessian use the same labels.
    n_draws : int
        Labels per input, or probes per input, N.
    rng : int, SeedSequence or Generator
        Source of labels and probes; the same int gives the same labels in every view.
    view : {"diagonal", "block", "full"}, default "diagonal"
        The diagonal, the diagonal block of each layer, or the whole matrix; probes give the diagonal only.
    per_input : bool, default False
        Return the estimate of each input instead of the mean over inputs.
    standard_error : bool, optional
        Attach the standard error as a coordinate (in the block view as a variable). By default in the diagonal view only: for a
        dense view it costs about T times the estimate.
    %(sampling)s
    design : {"fixed", "random", "subsample"}, default "fixed"
        Sampling design of the standard error, as for `estimator_variance`: labels at fixed inputs; independent inputs and their
        labels; or inputs drawn without replacement from `population` and their labels. It changes no bit of the estimate.
    %(population)s
    %(on_kink)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    DataArray or DataTree
        ``diagonal``: dims ([input,] [estimator,] param). ``full``: ([input,] [estimator,] param, param2). Both have the
        coordinates ``standard_error`` and ``standard_error_of``, a copy of the values against which functions that use the error
        validate it (`scale_estimate` scales all three). Where inputs are a sample, ``degrees_of_freedom`` gives
        the precision of the error, whose part over inputs is estimated from the inputs (Satterthwaite), and ``sampling_share``
        the fraction of its square due to them. ``block``: DataTree as for
        `fisher_information`. Units of 1, source keys ``score-estimator``, ``hessian-estimator``, ``both-estimators`` or
        ``probe-estimator``; the standard error's is ``estimator-variance``, ``estimator-variance-random``,
        ``estimator-variance-subsample``, ``estimator-variance-stratified`` or ``probe-variance``.

    Raises
    ------
    %(refused)s
    %(kink)s
    %(size)s

    Notes
    -----
    Labels are drawn exactly. Where the family allows, only sufficient statistics are drawn and `n_draws` does not affect the
    cost: Categorical (counts of the classes; up to 16 labels one by one, which is faster), Bernoulli with one output (a binomial
    count), Gaussian (normal mean and an independent Wishart matrix) for both estimators and every view; Bernoulli, Binomial and
    Poisson with any number of outputs (sums of t) for the Hessian estimator only. The score estimator draws counts over the
    support for one Binomial or Poisson output (cost grows with the spread of y), counts of joint patterns for several Bernoulli
    or Binomial outputs while these are fewer than `n_draws`, and else labels in slabs (cost grows with `n_draws`, memory does
    not). `explain` and the provenance say which case applies. The score estimate is positive semi-definite, the Hessian estimate
    of one input is indefinite in general; neither is clipped. The cost of probes grows with `n_draws`, memory does not.

    Time: that of the exact diagonal for the score without its standard error, and less where a softmax has at least twice as
    many classes as labels are drawn: then one row is backpropagated for each label, instead of for each class. The
    Hessian estimate needs products of width^3 per input between hidden layers that are not neighbours (20 hidden layers of 256
    units: 0.03 s per input on two cores, 0.14 s with its standard error, against 0.4 ms for the score); where that is too much,
    use the score estimator, which has no such term.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> estimate = fs.estimate_fisher(model, x, estimator="hessian", n_draws=1, rng=0)
    >>> estimate.values  # exact in the last layer
    array([0.625, 0.625, 0.25 ])
    >>> float(estimate.standard_error.max())
    0.0
    """
    # A generator must not be advanced by a call that raises.
    once = not isinstance(rng, np.random.Generator)
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, read_once=once, any_network=True)
    chosen = arguments.words("estimator", estimator, DIAGONAL_ESTIMATORS)
    probing = [one for one in chosen if one in PROBES]
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.choice("on_kink", on_kink, ("raise", "ignore"))
    standard_error = view == "diagonal" if standard_error is None else arguments.boolean("standard_error", standard_error)
    n_quantities = len(chosen) * (1 if view == "diagonal" or not standard_error else 3 if view == "full" else 2)
    _views.check(call, view, per_input, n_quantities, by_rows=chosen == ["score"] and not standard_error)
    probe_checks.diagonal_only(probing, view)
    sampled = Design.of(call, design, population, n_draws, per_input)
    of_labels = _run.label_sampling(call, sampling, probing)
    drawn = _Estimate(
        call, tuple(chosen), n_draws, arguments.seed_sequence(rng), view, per_input, standard_error, on_kink, of_labels
    )
    pair = not isinstance(estimator, str)
    several = "estimate_both" if set(chosen) == set(ESTIMATORS) else "estimate_several"
    key = several if len(chosen) > 1 else f"estimate_{chosen[0]}"
    provenance = call.provenance(
        view=view,
        estimator=list(chosen),
        n_draws=n_draws,
        seed=seed_record(drawn.seed),
        draws=drawn.scheme,
        on_kink=on_kink,
        **(sampled.record if standard_error else {}),
    )
    keys = drawn.error_keys(sampled) if standard_error else []
    words = chosen if pair else None
    layout = _views.layout(call, view, per_input, [key], provenance, estimators=words, companions=keys)
    yield (layout := layout.followed_by(*(drawn.later(sampled) if standard_error else ())))
    quantities = yield from drawn.quantities()
    values = [quantities[: len(chosen)]]
    if standard_error:
        errors = yield from drawn.errors(sampled, quantities[: len(chosen)], quantities[len(chosen) :])
        values += [[*row] for row in zip(*errors, strict=True)]
    blocks = [_views.stacked(one, per_input) if pair else one[0] for one in values]
    return layout, [one.astype(call.rows.dtype, copy=False) for one in _views.arranged(call, view, blocks)]


@dataclass(frozen=True)
class _Estimate:
    """Estimates from labels or probes, and the variances of one label that their standard errors come from."""

    call: Call
    chosen: tuple[str, ...]
    n_draws: int
    seed: np.random.SeedSequence
    view: str
    per_input: bool
    with_errors: bool
    on_kink: str
    sampling: str

    @property
    def with_score(self) -> bool:
        return "score" in self.chosen

    @property
    def with_hessian(self) -> bool:
        return "hessian" in self.chosen

    @property
    def probing(self) -> list[str]:
        return [one for one in self.chosen if one in PROBES]

    @property
    def from_labels(self) -> bool:
        return len(self.probing) < len(self.chosen)

    @property
    def scheme(self) -> str:
        """The key of what is drawn."""
        if not self.from_labels:
            return "probes"
        family = self.call.model.family
        return "stratified" if self.sampling == "stratified" else family.draw_scheme(self.with_score, self.n_draws)

    def quantities(self) -> Steps[list[Any]]:
        """Return the estimates in order, and with errors the variances of one label after them, by blocks of the view."""
        call = self.call
        # Where nothing is asked for but R'R of the labels, a row goes back for each of them.
        alone = self.chosen == ("score",) and not self.with_errors
        n_rows = call.model.family.rows_drawn(self.n_draws) if alone and not call.engine.holds_classes else None
        steps = _views.compute(
            call,
            self.view,
            self.per_input,
            self.diagonal,
            self.matrix,
            self.with_hessian,
            rows_of=self.rows_of if alone else None,
            n_rows=n_rows,
        )
        return (yield from steps)

    def drawn(self, x: Array, first_input: int) -> tuple[Forward, Law, Any]:
        """Return the forward pass, the response distribution and the drawn labels of a block."""
        call = self.call
        forward, law = call.network.forward(x, first_input, order=2 if self.with_hessian else 1)
        if self.with_hessian:
            call.network.refuse_kinks(forward, self.on_kink, first_input)
        if not self.from_labels:
            return forward, law, None
        family = call.model.family
        return forward, law, draw(family, law, self.seed, first_input, self.n_draws, self.with_score, self.sampling)

    def of_labels(self, law: Law) -> Law:
        """Return the law whose variances, over N, are those of means of N labels."""
        return label_law(self.call.model.family, law, self.sampling, self.n_draws)

    def diagonal(self, x: Array, first_input: int) -> list[Any]:
        call = self.call
        forward, law, drawn = self.drawn(x, first_input)
        G: list[Array | None] = []
        S: list[Any] = []
        if self.with_hessian and self.with_errors:
            G, S = call.network.unit_jacobians_and_curvatures(forward)
        elif self.with_errors:
            G = call.network.unit_jacobians(forward)

        def factors(second: SecondMoment) -> list[Array]:
            return fisher.unit_factors(second, forward, G) if G else call.network.root_unit_factors(forward, second)

        estimates: dict[str, Any] = {}
        variances = self.label_variances(law, forward, G, S) if self.with_errors else []
        if self.with_score:
            estimates["score"] = factors(drawn.second)
        if self.with_hessian:
            if self.with_errors:
                S = [None if S_l is None else derivatives.contracted(drawn.mean, S_l) for S_l in S]
            else:
                S = call.network.curvature_along(forward, drawn.mean)
            estimates["hessian"] = fisher.hessian_factors(factors(law), S)
        for one in self.probing:
            estimates[one] = factors(draw_probes(law, self.seed, first_input, self.n_draws, one))
        return [*((estimates[one], 2) for one in self.chosen), *((one, 4) for one in variances), forward.inputs]

    def label_variances(self, law: Law, forward: Forward, G: Sequence[Any], S: Sequence[Any]) -> list[Any]:
        """Return the unit factors of the variance of one label or probe, per estimator."""
        return [probes.label_variance_factors(one, self.of_labels(law), forward, G, S) for one in self.chosen]

    def rows_of(self, x: Array, first_input: int) -> tuple[list[list[Array]], list[Array]]:
        forward, _, drawn = self.drawn(x, first_input)
        return [self.call.network.root_rows(forward, drawn.second)], forward.inputs

    def matrix(self, x: Array, first_input: int) -> list[dict[tuple[int, int], Array]]:
        call, full = self.call, self.view == "full"
        forward, law, drawn = self.drawn(x, first_input)
        # The dense Hessian is of each output; everything else is in moments of the law.
        G = call.network.jacobians(forward, differences=not self.with_hessian)
        blocks = {}
        if self.with_score:
            blocks["score"] = fisher.matrix_blocks(drawn.second, G, forward.inputs, full, self.per_input)
        if self.with_hessian:
            hessian = call.network.hessian_blocks(forward, G, drawn.mean[:, None, :], full)
            blocks["hessian"] = fisher.hessian_matrix_blocks(law, G, forward.inputs, hessian, full, self.per_input)
        estimates = [blocks[one] for one in self.chosen]
        if not self.with_errors:
            return estimates
        pairs, variances = list(estimates[0]), {}
        if self.with_score:
            of_labels = self.of_labels(law)
            variances["score"] = entry_variances.score_entry_variances(of_labels, G, forward.inputs, pairs, self.per_input)
        if self.with_hessian:
            hessian = call.network.hessian_blocks(forward, G, None, full)
            variances["hessian"] = entry_variances.hessian_entry_variances(
                self.of_labels(law), forward.inputs, hessian, pairs, self.per_input
            )
        return [*estimates, *[variances[one] for one in self.chosen]]

    def error_keys(self, sampled: Design) -> list[str]:
        """Return the schema rows that go with the estimates."""
        if sampled.fixed:
            stratified = "standard_error_stratified" if self.sampling == "stratified" else "standard_error"
            return ["standard_error_probes" if self.probing else stratified]
        return [sampled.key, "error_freedom", "sampling_share"]

    def later(self, sampled: Design) -> tuple[PassShape, ...]:
        """Return the shapes of the passes that errors over inputs take."""
        if sampled.fixed:
            return ()
        return sampled.diagonal_shapes(self.with_hessian) if self.view == "diagonal" else sampled.entries_shapes(self.view)

    def errors(self, sampled: Design, estimates: Sequence[Any], variances: Sequence[Any]) -> Steps[list[Sequence[_views.Blocks]]]:
        """Return the blocks of these rows per estimator."""
        if sampled.fixed:
            return (yield from self._label_errors(estimates, variances))
        errors: list[Sequence[_views.Blocks]]
        if self.view == "diagonal":
            linear = [one == "hessian" for one in self.chosen]
            singles = [one[0, 0] for one in variances]
            known = yield from sampled.diagonal(self._exact, self._exact_and_variances, singles, self.with_hessian, linear)
            errors = [[{(0, 0): part} for part in parts] for parts in known]
        else:
            errors = [*(yield from sampled.entries(self.view, self._exact_blocks, variances))]
        for kind, estimate, (error, *_) in zip(self.chosen, estimates, errors, strict=True):
            for place, block in error.items():
                inputs.errors_within_range(kind, estimate[place], block)
        return errors

    def _label_errors(self, estimates: Sequence[Any], variances: Sequence[Any]) -> Steps[list[Sequence[_views.Blocks]]]:
        """Return the standard errors for given inputs."""
        scale = self.n_draws * (1 if self.per_input else self.call.n_inputs)
        if self.view == "diagonal":
            means, singles = ([one[0, 0] for one in part] for part in (estimates, variances))
            mended = _underflow.mended_error(self.call, self.chosen, self.per_input, means, singles, scale, self.of_labels)
            errors = yield from mended
            return [[{(0, 0): one}] for one in errors]
        roots = [{key: np.sqrt(block / scale) for key, block in one.items()} for one in variances]
        for kind, estimate, error in zip(self.chosen, estimates, roots, strict=True):
            for place, block in error.items():
                if kind == "score" or block.any():  # a block of Hessians may not vary at all
                    inputs.errors_within_range(kind, estimate[place], block)
        return [[one] for one in roots]

    def _exact(self, x: Array, first_input: int) -> tuple[list[Array], list[Any], list[Array]]:
        forward, law = self.call.network.forward(x, first_input)
        return self.call.network.root_unit_factors(forward, law), [], forward.inputs

    def _exact_and_variances(self, x: Array, first_input: int) -> tuple[list[Array], list[Any], list[Array]]:
        call = self.call
        forward, law = call.network.forward(x, first_input, order=2 if self.with_hessian else 1)
        G, S = call.network.jacobians_and_curvatures(forward) if self.with_hessian else (call.network.jacobians(forward), [])
        return fisher.unit_factors(law, forward, G), self.label_variances(law, forward, G, S), forward.inputs

    def _exact_blocks(self, x: Array, first_input: int, each: bool) -> dict[tuple[int, int], Array]:
        forward, law = self.call.network.forward(x, first_input)
        return fisher.matrix_blocks(law, self.call.network.jacobians(forward), forward.inputs, self.view == "full", each)


@documented
@streamed()
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
) -> Computation[xr.Dataset | xr.DataTree]:
    r"""Empirical Fisher information at the data labels, :math:`\frac1n\sum_i\partial\ell_i\,\partial\ell_i^\top`, and its bias.

    It uses r = t(y) - E[t] at the data label around the model's mean (2024, eq 17); it estimates the Fisher information only if
    the model is correctly specified, and the bias is its difference from the exact information of the model at the same inputs
    (Lemma 6.1).

    Parameters
    ----------
    %(model)s
    %(x)s
    y : array_like, shape (n,) or (n, T)
        Data labels: class numbers for Categorical, else one number per output ((n,) if there is one output).
    view : {"diagonal", "block", "full"}, default "diagonal"
        The diagonal, the diagonal block of each layer, or the whole matrix.
    per_input : bool, default False
        Return the matrices of each input instead of the mean over inputs.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset or DataTree
        ``empirical``, ``expected`` (exact) and ``bias`` = empirical - expected, dims ([input,] param [, param2]); for "block" a
        DataTree of such Datasets. Units of 1, source keys ``empirical-fisher``, ``information``, ``empirical-bias``.

    Raises
    ------
    %(refused)s
    %(size)s

    Notes
    -----
    Cost: that of `fisher_information` with one row more. The bias is symmetric and indefinite in general.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> fs.empirical_fisher(model, x, [0, 1]).bias.values
    array([0., 0., 0.])
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, read_once=True, any_network=True)
    _views.check(call, view, per_input, 3, by_rows=True)
    data_labels = call.data_labels(y)

    def middle(x: Array, first_input: int) -> tuple[Any, ...]:
        forward, law = call.network.forward(x, first_input)
        return forward, (fisher.at_labels(law, data_labels[first_input : first_input + len(x)]), law)

    def diagonal(x: Array, first_input: int) -> list[Any]:
        forward, both = middle(x, first_input)
        return [*((call.network.root_unit_factors(forward, one), 2) for one in both), forward.inputs]

    def rows_of(x: Array, first_input: int) -> tuple[list[list[Array]], list[Array]]:
        forward, both = middle(x, first_input)
        return [call.network.root_rows(forward, one) for one in both], forward.inputs

    def matrix(x: Array, first_input: int) -> list[dict[tuple[int, int], Array]]:
        forward, both = middle(x, first_input)
        G = call.network.jacobians(forward)
        return [fisher.matrix_blocks(one, G, forward.inputs, view == "full", per_input) for one in both]

    provenance = call.provenance(view=view, estimator="empirical")
    yield (layout := _views.layout(call, view, per_input, ["empirical", "expected", "bias"], provenance, compare=True))
    empirical, expected = yield from _views.compute(call, view, per_input, diagonal, matrix, rows_of=rows_of, n_quantities=2)
    bias = {pair: empirical[pair] - expected[pair] for pair in empirical}
    return layout, _views.arranged(call, view, [empirical, expected, bias])
