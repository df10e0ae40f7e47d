"""A search for violated bounds: hard laws, nearly null directions, layers of very different scale, and climbing towards the edge.

``python -m validation.adversarial_bounds`` from the top of the repository writes ``validation/adversarial_bounds/table.md``.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

import fisherstats as fs
from validation.adversarial_bounds.oracle import DIGITS, Exact, Head, network

__all__ = ["KINDS", "Case", "Found", "check", "climb", "main", "markdown", "random_case", "search"]

TABLE = Path(__file__).with_name("table.md")

Array = np.ndarray

SMALLEST = 1e-290
"""Exact numbers below this have left the normal ones somewhere on the way, and nothing is certified of them."""

ACTIVATIONS = ("tanh", "sin", "softplus")


@dataclasses.dataclass(frozen=True)
class Case:
    """One network and its inputs."""

    name: str
    weights: tuple[Array, ...]
    activation: str
    family: Any
    heads: tuple[Head, ...]
    x: Array

    def model(self) -> fs.MLP:
        """The network as the package sees it."""
        return fs.MLP(self.weights, activation=[self.activation] * (len(self.weights) - 1), family=self.family)


@dataclasses.dataclass
class Found:
    """How many bounds were held against the exact number, and which of them are on the wrong side."""

    evaluations: Counter[str] = dataclasses.field(default_factory=Counter)
    violations: list[str] = dataclasses.field(default_factory=list)
    closest: float = 0.0
    """The largest lower / exact or exact / upper over all forms whose bound is no equality: what a climb climbs on."""

    def add(self, other: Found) -> None:
        """Take in what another search has found."""
        self.evaluations += other.evaluations
        self.violations += other.violations
        self.closest = max(self.closest, other.closest)

    @property
    def total(self) -> int:
        """Number of evaluations."""
        return sum(self.evaluations.values())


# --- laws at and beyond the edge of what is usual ------------------------------------------------------------------------


def _ten(rng: np.random.Generator, low: float, high: float, size: Any = None) -> Any:
    return 10 ** rng.uniform(low, high, size)


def _gaussian(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    outputs = int(rng.integers(1, 4))
    if rng.random() < 0.4:
        return fs.families.Gaussian(outputs), Head("gaussian", outputs), rng.normal(size=outputs)
    turned = np.linalg.qr(rng.normal(size=(outputs, outputs)))[0] * np.sqrt(_ten(rng, -6, 4, outputs))
    covariance = turned @ turned.T
    covariance = (covariance + covariance.T) / 2
    family = fs.families.Gaussian(outputs, covariance=covariance)
    with mp.workdps(DIGITS):
        precision = tuple(map(tuple, mp.inverse(mp.matrix(covariance.tolist())).tolist()))
    return family, Head("gaussian", outputs, (precision,)), rng.normal(size=outputs)


def _bernoulli(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    outputs = int(rng.integers(1, 4))
    return fs.families.Bernoulli(outputs), Head("bernoulli", outputs), _logits(rng, outputs)


def _logits(rng: np.random.Generator, size: int) -> Array:
    logits: Array = rng.choice([-1, 1], size) * _ten(rng, -9, 1.6, size)
    return logits


def _binomial(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    outputs, trials = int(rng.integers(1, 4)), int(_ten(rng, 0.4, 6))
    return fs.families.Binomial(trials, outputs), Head("binomial", outputs, (trials,)), _logits(rng, outputs)


def _poisson(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    outputs = int(rng.integers(1, 4))
    return fs.families.Poisson(outputs), Head("poisson", outputs), rng.uniform(-30, 30, outputs)


def _gamma(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    outputs, shape = int(rng.integers(1, 4)), float(_ten(rng, -3, 10))
    if rng.random() < 0.5:
        return fs.families.Exponential(outputs), Head("gamma", outputs, (1.0,)), rng.uniform(-30, 30, outputs)
    return fs.families.Gamma(shape, outputs), Head("gamma", outputs, (shape,)), rng.uniform(-30, 30, outputs)


def _inverse_gaussian(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    outputs, shape = int(rng.integers(1, 4)), float(_ten(rng, -3, 3))
    family = fs.families.InverseGaussian(shape, outputs)
    return family, Head("inverse_gaussian", outputs, (shape,)), rng.uniform(-15, 15, outputs)


def _negative_binomial(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    outputs, successes = int(rng.integers(1, 4)), float(_ten(rng, -3, 6))
    family = fs.families.NegativeBinomial(successes, outputs)
    return family, Head("negative_binomial", outputs, (successes,)), rng.uniform(-15, 15, outputs)


def _categorical(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    classes, minimal = int(rng.integers(2, 6)), bool(rng.random() < 0.5)
    family = fs.families.Categorical(classes, minimal=minimal)
    logits = rng.normal(size=family.n_outputs) * _ten(rng, -3, 1.5)
    return family, Head("categorical", family.n_outputs, (minimal,)), logits


def _multinomial(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    classes, trials, minimal = int(rng.integers(2, 5)), int(_ten(rng, 0.3, 5)), bool(rng.random() < 0.5)
    family = fs.families.Multinomial(trials, classes, minimal=minimal)
    logits = rng.normal(size=family.n_outputs) * _ten(rng, -3, 1.2)
    return family, Head("multinomial", family.n_outputs, (trials, minimal)), logits


def _gaussian_mean_variance(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    ratio, deviation = rng.choice([-1, 1]) * _ten(rng, -1, 6), _ten(rng, -3, 3)
    outputs = np.array([ratio / deviation, -2 * np.log(deviation)])
    return fs.families.GaussianMeanVariance(), Head("gaussian_mean_variance", 2), outputs


def _gamma_shape_rate(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    return fs.families.GammaShapeRate(), Head("gamma_shape_rate", 2), np.log([_ten(rng, -3, 10), _ten(rng, -4, 4)])


def _dirichlet(rng: np.random.Generator) -> tuple[Any, Head, Array]:
    classes = int(rng.integers(2, 5))
    return fs.families.Dirichlet(classes), Head("dirichlet", classes), np.log(_ten(rng, -3, 10, classes))


KINDS: dict[str, Callable[[np.random.Generator], tuple[Any, Head, Array]]] = {
    "gaussian": _gaussian,
    "bernoulli": _bernoulli,
    "binomial": _binomial,
    "poisson": _poisson,
    "gamma": _gamma,
    "inverse_gaussian": _inverse_gaussian,
    "negative_binomial": _negative_binomial,
    "categorical": _categorical,
    "multinomial": _multinomial,
    "gaussian_mean_variance": _gaussian_mean_variance,
    "gamma_shape_rate": _gamma_shape_rate,
    "dirichlet": _dirichlet,
}


def random_case(kind: str, rng: np.random.Generator, n_inputs: int = 4) -> Case:
    """Return a network whose law is hard near x = 0, with hidden layers of any scale and directions that are nearly null."""
    parts = [KINDS[kind](rng)] if kind != "product" else [KINDS[str(one)](rng) for one in rng.choice(list(KINDS), 2)]
    family = parts[0][0] if len(parts) == 1 else fs.families.Product([part[0] for part in parts])
    outputs = np.concatenate([part[2] for part in parts])
    depth = int(rng.choice([0, 1, 1, 1, 2]))
    widths = [int(rng.integers(6, 11)), *rng.integers(2, 4, depth).tolist(), len(outputs)]
    weights = [_few_bits(rng, (after, before + 1), (-13, 3)) for before, after in itertools.pairwise(widths)]
    last = rng.normal(size=(len(outputs), widths[-2])) * _ten(rng, -4, -1)
    if depth:
        heads = fs.MLP([np.column_stack([np.eye(len(outputs)), np.zeros(len(outputs))])], activation=[], family=family)
        last[:, 0] = _null_direction(heads, outputs) * _ten(rng, -4, 0)
        last[:, 1] = last[:, 0] * (1 + rng.normal(size=len(outputs)) * _ten(rng, -12, 0))
    weights[-1] = np.column_stack([last, outputs])
    x = _few_bits(rng, (n_inputs, widths[0]), (-20, 0))
    dtype = np.float32 if rng.random() < 0.35 else np.float64
    activation = str(rng.choice(ACTIVATIONS))
    heads_of = tuple(part[1] for part in parts)
    return Case(kind, tuple(one.astype(dtype) for one in weights), activation, family, heads_of, x.astype(dtype))


def _few_bits(rng: np.random.Generator, shape: tuple[int, int], exponents: tuple[int, int]) -> Array:
    """Return numbers of few bits, so that the first pre-activations are exact: what is judged is the bounds, not the pass."""
    scale = 2.0 ** rng.integers(*exponents, endpoint=True)
    numbers: Array = rng.integers(-1024, 1024, shape) / 512 * scale
    return numbers


def _null_direction(model: fs.MLP, outputs: Array) -> Array:
    """Return a direction of the outputs along which the law says least, as well as floats tell."""
    information = fs.fisher_information(model, outputs[None], view="full").values
    width = len(outputs) + 1
    own = np.array([[information[a * width + a, b * width + b] for b in range(width - 1)] for a in range(width - 1)])
    own = own / np.where(outputs == 0, 1, np.outer(outputs, outputs)) * np.outer(outputs != 0, outputs != 0)
    return np.asarray(np.linalg.eigh(own)[1][:, 0])


# --- every bound against the exact number ------------------------------------------------------------------------------


class _Judge:
    """Counts what is held against the exact numbers."""

    def __init__(self, name: str) -> None:
        self.name, self.found = name, Found()

    def below(self, what: str, bound: Any, exact: Array) -> None:
        """Judge lower bounds; 0 says nothing."""
        self._judge(what, np.asarray(bound, np.float64), exact, -1)

    def above(self, what: str, bound: Any, exact: Array) -> None:
        """Judge upper bounds; inf says nothing."""
        self._judge(what, np.asarray(bound, np.float64), exact, 1)

    def _judge(self, what: str, bound: Array, exact: Array, side: int) -> None:
        near = np.array([float(one) for one in exact.ravel()]).reshape(exact.shape)
        bound, near = np.broadcast_arrays(bound, near)
        exact = np.broadcast_to(exact, bound.shape)
        says = (np.isfinite(bound) if side > 0 else bound != 0) & (near > SMALLEST)
        self.found.evaluations[what.partition(" ")[0]] += int(says.sum())
        suspect = says & (side * (near * (1 + side * 1e-15) - bound) > 0)
        for place in zip(*np.nonzero(suspect), strict=True):
            if side * (exact[place] - mp.mpf(float(bound[place]))) > 0:
                excess = mp.nstr(mp.mpf(float(bound[place])) / exact[place] - 1, 5)
                self.found.violations.append(f"{self.name}: {what} at {tuple(map(int, place))}, bound / exact - 1 = {excess}")
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            quotients = (bound / near if side < 0 else near / bound)[says]
        near_miss = quotients[quotients < 1 - 1e-6]
        self.found.closest = max(self.found.closest, float(near_miss.max(initial=0.0)))


def _over_parameters(case: Case, exacts: Sequence[Exact], values: Callable[[Any], Any], power: int) -> Array:
    """Return a number per unit times a power of the layer input, (n, P), as exact numbers."""
    rows = []
    for exact in exacts:
        rows.append([values(entry) * h**power for entry in exact.entries for h in exact.inputs[entry.layer]])
    return np.array(rows, dtype=object)


def check(case: Case) -> Found:
    """Hold every bound of a network against exact numbers of 80 digits, input by input and for the mean."""
    judge = _Judge(case.name)
    model, x = case.model(), case.x
    with mp.workdps(DIGITS), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            bounds = fs.variance_bounds(model, x, per_input=True)
            traces = fs.trace_bounds(model, x, per_input=True)
        except ValueError as error:  # moments past the range of floats are refused
            if "range" in str(error):
                return judge.found
            raise
        exacts = [network(case.weights, case.activation, case.heads, row) for row in x]
        information = _over_parameters(case, exacts, lambda entry: entry.information, 2)
        score = _over_parameters(case, exacts, lambda entry: entry.score, 4)
        hessian = _over_parameters(case, exacts, lambda entry: entry.hessian, 4)
        for word, one, own in (("by input", bounds, lambda rows: rows), ("of the mean", None, lambda rows: rows.sum(axis=0))):
            if one is None:
                one, n = fs.variance_bounds(model, x), len(x)
                truth = own(information) / n, own(score) / n**2, own(hessian) / n**2
            else:
                truth = information, score, hessian
            judge.below(f"variance_bounds information {word}", one.information_lower.values, truth[0])
            judge.above(f"variance_bounds information {word}", one.information_upper.values, truth[0])
            for estimator, exact in zip(("score", "hessian"), truth[1:], strict=True):
                chosen = one.sel(estimator=estimator)
                judge.below(f"variance_bounds {estimator} {word}", chosen.lower.values, exact)
                judge.above(f"variance_bounds {estimator} {word}", chosen.upper.values, exact)
                for form in chosen.bound.values:
                    forms = chosen.sel(bound=form)
                    judge.below(f"variance_bounds {estimator} {form} {word}", forms.lower_by_form.values, exact)
                    judge.above(f"variance_bounds {estimator} {form} {word}", forms.upper_by_form.values, exact)
        _check_traces(judge, traces, information.sum(axis=1), score.sum(axis=1), hessian.sum(axis=1))
        _check_others(judge, case, model, exacts, information)
    return judge.found


def _check_traces(judge: _Judge, traces: Any, information: Array, score: Array, hessian: Array) -> None:
    for prefix, where, exact in (
        ("information_", {}, information),
        ("", {"estimator": "score"}, score),
        ("", {"estimator": "hessian"}, hessian),
    ):
        for side, judged in (("lower", judge.below), ("upper", judge.above)):
            judged(f"trace_bounds {prefix}{where}", traces[f"{prefix}{side}"].sel(where).values, exact)
            for form in traces.bound.values:
                judged(
                    f"trace_bounds {form} {prefix}{where}",
                    traces[f"{prefix}{side}_by_form"].sel({**where, "bound": form}).values,
                    exact,
                )


def _check_others(judge: _Judge, case: Case, model: fs.MLP, exacts: Sequence[Exact], information: Array) -> None:
    """Entries off the diagonal, the norm of the first derivatives, extremes of the law, variance over inputs, envelopes."""
    x, n = case.x, len(case.x)
    ends = np.cumsum([0, *(matrix.size for matrix in case.weights)])
    pairs = np.array([(0, int(ends[-1]) - 1), (0, int(ends[1]) - 1), (int(ends[-2]), int(ends[-1]) - 1)])
    places = [(entry, h) for exact in exacts for entry in exact.entries for h in exact.inputs[entry.layer]]
    size = len(places) // n
    truth = []
    for row, exact in enumerate(exacts):
        values = []
        for i, k in pairs:
            (one, h), (two, g) = places[row * size + int(i)], places[row * size + int(k)]
            mixed = exact.law.second(one.first, two.first)
            fourth = exact.law.fourth(one.first, one.first, two.first, two.first)
            values.append((fourth + one.information * two.information + mixed**2) * (h * g) ** 2)
        truth.append(values)
    entries = fs.off_diagonal_bounds(model, x, pairs=pairs, per_input=True).sel(estimator="score")
    judge.above("off_diagonal_bounds", entries.upper.values, np.array(truth, dtype=object))
    for form in entries.bound.values:
        judge.above(f"off_diagonal_bounds {form}", entries.upper_by_form.sel(bound=form).values, np.array(truth, dtype=object))
    # Sum of the variances of all entries of the score estimator, of one input as it takes all pairs of units.
    norms = fs.covariance_bounds(model, x[:1], per_input=True).sel(estimator="score", norm="trace")
    trace = np.array([_trace_of_covariance(exacts[0], _products(exacts[0]))], dtype=object)
    judge.above("covariance_bounds", norms.upper.values, trace)
    for form in norms.bound.values:
        judge.above(f"covariance_bounds {form}", norms.upper_by_form.sel(bound=form).values, trace)
    # Norms of the first derivatives, whatever the law.
    derivatives = fs.derivative_bounds(model, x, per_input=True, covariance=False).sel(norm="frobenius")
    layers = range(len(case.weights))
    first = [
        [
            mp.sqrt(mp.fsum(mp.fdot(e.first, e.first) for e in exact.entries if e.layer == layer) * _square(exact.inputs[layer]))
            for layer in layers
        ]
        for exact in exacts
    ]
    judge.above("derivative_bounds", derivatives.first_upper.values, np.array(first, dtype=object))
    # M(u,u,u,u) / |u|^4 and u'Iu / |u|^2 along the directions of the network.
    try:
        extremes = fs.family_extremes(model, x).certified
    except ValueError as error:  # an attained moment past the range of floats is refused
        if "range" not in str(error):
            raise
        extremes = None
    for row, exact in enumerate(exacts if extremes is not None else ()):
        for entry in exact.entries:
            square = mp.fdot(entry.first, entry.first)
            if square == 0:
                continue
            quotients = np.array([entry.information / square, entry.score / square**2], dtype=object)
            ends_of = extremes[row].sel(tensor=["information", "square_covariance"])
            judge.below("family_extremes", ends_of.sel(side="lower").values, quotients)
            judge.above("family_extremes", ends_of.sel(side="upper").values, quotients)
    over_inputs = fs.input_variance_bounds(model, x).sel(moment="population")
    mean = information.sum(axis=0) / n
    judge.above("input_variance_bounds", over_inputs.upper.values, ((information - mean) ** 2).sum(axis=0) / n)
    if isinstance(case.family, fs.families.Categorical):
        envelopes = fs.information_envelopes(model, x, per_input=True)
        judge.below("information_envelopes", envelopes.information_lower.values, information)
        judge.above("information_envelopes", envelopes.information_upper.values, information)


def _square(row: Sequence[Any]) -> Any:
    return mp.fdot(row, row)


def _products(exact: Exact) -> list[tuple[Any, list[Any]]]:
    """Return |hbar|^2 and dh of every unit: K = JJ' is the sum of the first times the square of the second."""
    return [(_square(exact.inputs[entry.layer]), entry.first) for entry in exact.entries]


def _trace_of_covariance(exact: Exact, units: list[tuple[Any, list[Any]]]) -> Any:
    """Return the sum over all pairs of parameters of M(u,v,u,v)."""
    total = mp.mpf(0)
    for h, u in units:
        for g, v in units:
            mixed = exact.law.second(u, v)
            own = exact.law.fourth(u, u, v, v) + exact.law.second(u, u) * exact.law.second(v, v) + mixed**2
            total += h * g * own
    return total


# --- the search --------------------------------------------------------------------------------------------------------


def climb(case: Case, rng: np.random.Generator, steps: int) -> Found:
    """Move the weights wherever a bound that is no equality comes closer to the exact number; return all that was seen."""
    found = check(case)
    best = found.closest
    for _ in range(steps):
        factor = [1 + rng.normal(size=one.shape) * (rng.random(one.shape) < 0.3) * _ten(rng, -3, -0.5) for one in case.weights]
        moved = tuple((one * f).astype(one.dtype) for one, f in zip(case.weights, factor, strict=True))
        trial = dataclasses.replace(case, weights=moved)
        seen = check(trial)
        found.add(seen)
        if seen.closest > best:
            best, case = seen.closest, trial
    return found


def search(
    seed: int, rounds: int, climbs: int = 2, steps: int = 4, kinds: Sequence[str] = (*KINDS, "product")
) -> Iterator[tuple[str, Found]]:
    """Yield what every kind of law gives: random cases, and climbs from some of them."""
    for kind in kinds:
        number = [*KINDS, "product"].index(kind)
        rng, found = np.random.default_rng([seed, number]), Found()
        for at in range(rounds):
            case = random_case(kind, rng)
            found.add(climb(case, rng, steps) if at < climbs else check(case))
        yield kind, found


def markdown(results: Sequence[tuple[str, Found]]) -> str:
    """The table: evaluations by function and kind of law, and violations."""
    names = sorted({name for _, found in results for name in found.evaluations})
    lines = ["| law | " + " | ".join(f"`{name}`" for name in names) + " | violations |", "|---|" + "---:|" * (len(names) + 1)]
    total = Found()
    for kind, found in results:
        total.add(found)
        numbers = [f"{found.evaluations[name]:,}" for name in names]
        lines.append(f"| {kind.replace('_', ' ')} | {' | '.join(numbers)} | {len(found.violations)} |")
    numbers = [f"{total.evaluations[name]:,}" for name in names]
    lines.append(f"| all: {total.total:,} | {' | '.join(numbers)} | {len(total.violations)} |")
    return "\n".join(lines) + "\n"


ROUNDS = 29


def main(path: Path = TABLE) -> None:
    """Write the table and say what is violated."""
    results = list(search(0, ROUNDS))
    path.write_text(markdown(results), encoding="utf-8")
    violations = [one for _, found in results for one in found.violations]
    print("\n".join(violations[:20]) or "no violation")
    if violations:
        raise SystemExit(1)
