"""The bounds of `variance_bounds` hold, on networks drawn at random and at the ends of every family.

All numbers come from the public face. Derivatives enter through the Gaussian head on the same weights: with unit variance its
information is |dh|^2 and its Hessian variance |d^2h|^2, so Theorem 4.1 can be put together a second time from eigenvalues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs

Array = np.ndarray

EPS = np.finfo(np.float64).eps
SLACK = 1e-9
# Sums of fourth powers below this have left the normal numbers somewhere on the way and keep no relative accuracy.
SMALLEST = 1e-290

FAMILIES = {
    "gaussian": lambda T, rng: fs.families.Gaussian(T),
    "gaussian_covariance": lambda T, rng: fs.families.Gaussian(T, covariance=_covariance(T, rng)),
    "bernoulli": lambda T, rng: fs.families.Bernoulli(T),
    "binomial": lambda T, rng: fs.families.Binomial(int(rng.integers(2, 12)), T),
    "categorical": lambda T, rng: fs.families.Categorical(max(T, 2)),
    "categorical_minimal": lambda T, rng: fs.families.Categorical(T + 1, minimal=True),
    "poisson": lambda T, rng: fs.families.Poisson(T),
}


def _covariance(T: int, rng: np.random.Generator) -> Array:
    root = rng.normal(size=(T, T)) + 2 * np.eye(T)
    return root @ root.T


@dataclass(frozen=True)
class Case:
    name: str
    model: fs.MLP
    x: Array


def random_cases(count: int, seed: int, largest_scale: float = 10.0) -> Iterator[Case]:
    """Families in turn; depth 0 to 4, T from 1 to 12, any activations, weight scales from 0.1, some inputs and weights 0."""
    rng = np.random.default_rng(seed)
    names = list(FAMILIES)
    for index in range(count):
        name = names[index % len(names)]
        family = FAMILIES[name](int(rng.integers(1, 13)), rng)
        depth = int(rng.integers(0, 5))
        widths = [int(rng.integers(1, 5)), *rng.integers(1, 6, depth).tolist(), family.n_outputs]
        chosen = rng.choice(fs.activations.NAMES, depth).tolist()
        scale = 10 ** rng.uniform(-1, np.log10(largest_scale))
        weights = [scale * w for w in fs.MLP.random(widths, activation=chosen, family=family, rng=rng).weights]
        x = rng.normal(size=(int(rng.integers(1, 4)), widths[0])) * (rng.random((1, widths[0])) < 0.8)
        if name == "poisson":  # keep the rates representable to the fourth power
            h = fs.MLP(weights, activation=chosen, family=family).natural_parameters(x)
            weights[-1] = weights[-1] * min(1.0, 20 / max(float(np.abs(h).max()), 1e-300))
        yield Case(f"{index}-{name}-{chosen}-{scale:.2g}", fs.MLP(weights, activation=chosen, family=family), x)


def linear(rows: list[list[float]], family: object) -> fs.MLP:
    return fs.MLP([rows], activation=[], family=family)


def corner_cases() -> Iterator[Case]:
    """Saturated and uniform softmax, p = 1/2, dead units, tiny rates."""
    x = np.array([[1.0, -1.0], [0.0, 0.0], [0.5, 0.0]])
    ends = [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]
    heads = {
        "categorical": fs.families.Categorical(3),
        "categorical_minimal": fs.families.Categorical(4, minimal=True),
        "bernoulli": fs.families.Bernoulli(3),
        "binomial": fs.families.Binomial(5, 3),
    }
    for gap in (0.0, 3.0, 40.0, 300.0, 400.0, 700.0, 750.0):
        for name, family in heads.items():
            yield Case(f"{name}, gap {gap}", linear((gap * np.array(ends)).tolist(), family), x)
        yield Case(f"poisson, log rate {-gap}", linear((-gap * np.abs(ends)).tolist(), fs.families.Poisson(3)), np.abs(x))
    for log_rate in (30.0, 100.0, 150.0):  # and its negative, at the first input
        yield Case(f"poisson, log rate {log_rate}", linear((log_rate * np.abs(ends)).tolist(), fs.families.Poisson(3)), x)
    dead = [np.array([[1.0, 1.0, -50.0], [0.3, -0.2, 1.0]]), np.array([[1.0, 1.0, 0.2], [-0.5, 0.7, -0.1], [0.2, 0.4, 0.3]])]
    for name, family in heads.items():
        for activation in ("relu", "softplus"):
            yield Case(f"{name}, dead {activation}", fs.MLP(dead, activation=activation, family=family), x)


def fourth_moment(exact: xr.DataArray, information: xr.DataArray) -> xr.DataArray:
    """E[(u.r)^4] = M + Var(u.t)^2 per input and label; (9) has no cancellation and is its own scale."""
    return xr.where(exact.estimator == "score", exact + information**2, exact)


def worst_violation(exact: Array, lower: Array, upper: Array, scale: Array | float = 0.0) -> float:
    """Return by how much, relative to `exact`, a bound is on the wrong side, once 64 eps of `scale` are forgiven.

    `exact` is a difference of numbers of the size of `scale` where it cancels, and so are the forms that equal it: either may
    err by a few eps of `scale`, whatever is left of it.
    """
    beyond = np.maximum(np.maximum(lower - exact, exact - upper), 0) - 64 * EPS * scale
    relevant = beyond > SMALLEST
    if not np.all(np.isfinite(exact)) or np.any(np.isnan(lower)) or np.any(np.isnan(upper)):
        return np.inf
    return float((beyond[relevant] / np.maximum(exact, SMALLEST)[relevant]).max(initial=0.0))


def check_case(case: Case) -> None:
    bounds = fs.variance_bounds(case.model, case.x, per_input=True)
    mean = fs.variance_bounds(case.model, case.x, n_draws=3)
    check_attained(bounds)
    check_attained(mean)
    # The reported triple: no allowance but 1e-9 of the exact value.
    for one in (bounds, mean):
        assert worst_violation(one.exact.values, one.lower.values, one.upper.values) <= SLACK
        information = [one[f"information_{side}"].values for side in ("exact", "lower", "upper")]
        assert worst_violation(*information) <= SLACK
        assert (one.lower >= 0).all()
        assert np.isfinite(one.upper).all()
    # Every single form.
    scale = fourth_moment(bounds.exact, bounds.information_exact)
    mean_scale = scale.mean("input") / (len(case.x) * 3)
    for one, size in ((bounds, scale), (mean, mean_scale)):
        shape = {"bound": one.bound}
        exact = one.exact.expand_dims(shape).transpose(*one.lower_by_form.dims)
        size = size.expand_dims(shape).transpose(*one.lower_by_form.dims)
        wrong = worst_violation(exact.values, one.lower_by_form.values, one.upper_by_form.values, size.values)
        assert wrong <= SLACK
    # A mean of the tightest is never looser than the tightest of the means.
    assert np.all(mean.upper <= mean.upper_by_form.min("bound") * (1 + 1e-12) + 64 * EPS * mean_scale + SMALLEST)
    assert np.all(mean.lower >= mean.lower_by_form.max("bound") * (1 - 1e-12) - 64 * EPS * mean_scale - SMALLEST)
    for name in ("exact", "lower", "upper"):
        summed = bounds[name].mean("input") / (len(case.x) * 3)
        np.testing.assert_allclose(mean[name].values, summed.values, rtol=1e-12, atol=SMALLEST)
    # The exact columns are those of the other functions.
    variance = fs.estimator_variance(case.model, case.x, n_draws=3).variance
    np.testing.assert_allclose(mean.exact.values, variance.values, rtol=1e-12, atol=SMALLEST)
    for per_input, one in ((True, bounds), (False, mean)):
        information = fs.fisher_information(case.model, case.x, per_input=per_input)
        np.testing.assert_allclose(one.information_exact.values, information.values, rtol=1e-12, atol=SMALLEST)
    # ratio = upper / exact, 1 where both are 0, inf where only exact is 0.
    exact, upper, ratio = bounds.exact.values, bounds.upper.values, bounds.ratio.values
    positive = exact > 0
    with np.errstate(over="ignore"):  # at rates below 1e-308
        np.testing.assert_allclose(ratio[positive], upper[positive] / exact[positive], rtol=1e-12)
    assert np.all(ratio[~positive & (upper == 0)] == 1)
    assert np.all(np.isinf(ratio[~positive & (upper > 0)]))


def check_attained(bounds: xr.Dataset) -> None:
    """The quartic values an iteration attained lie between the certified ones, and never beyond them."""
    spectral = bounds.sel(bound="spectral", estimator="score")
    low, high = bounds.attained.sel(side="lower"), bounds.attained.sel(side="upper")
    room = 64 * EPS * np.abs(spectral.upper_by_form) + SMALLEST
    assert np.isfinite(bounds.attained).all()
    assert np.all(low <= high)
    assert np.all(high <= spectral.upper_by_form * (1 + 1e-12) + room)
    assert np.all(low >= spectral.lower_by_form * (1 - 1e-12) - room)


def extreme_poisson_cases() -> Iterator[Case]:
    """Rates below e^-709, and rates so far apart that the ratio of their variances leaves the range of float64."""
    hidden = [[1.0, 1.0, -50.0], [0.3, -0.2, 1.0]]
    x = np.array([[1.0, -1.0], [0.0, 0.0], [0.5, 0.0]])
    for first, second in ((-709.0, 0.0), (-720.0, -360.0), (-740.0, 1.0), (250.0, -250.0), (350.0, -20.0)):
        weights = [hidden, [[1.0, 0.0, first], [0.0, 0.1, second]]]
        for activation in ("relu", "tanh"):
            model = fs.MLP(weights, activation=activation, family=fs.families.Poisson(2))
            yield Case(f"{first} and {second}, {activation}", model, x)
    yield Case("-720, one output", linear([[1.0, 0.0, -720.0]], fs.families.Poisson(1)), x)


def test_no_bound_is_violated_on_random_networks() -> None:
    """Ten networks of every family; a bound that is wrong at fewer than one network in twenty is for the validation."""
    run_all(random_cases(70, seed=1))


@pytest.mark.validation
def test_no_bound_is_violated_on_many_random_networks() -> None:
    run_all(random_cases(3500, seed=2))


@pytest.mark.parametrize("case", list(corner_cases()), ids=lambda case: case.name)
def test_no_bound_is_violated_at_the_ends_of_a_family(case: Case) -> None:
    check_case(case)


@pytest.mark.parametrize("case", list(extreme_poisson_cases()), ids=lambda case: case.name)
def test_no_bound_is_violated_or_undefined_at_extreme_rates(case: Case) -> None:
    check_case(case)


def run_all(cases: Iterator[Case]) -> None:
    failed = []
    for case in cases:
        try:
            check_case(case)
        except (AssertionError, RuntimeWarning) as error:
            failed.append(f"{case.name}: {' '.join(str(error).split())[:200]}")
    assert not failed, f"{len(failed)} failures:\n" + "\n".join(failed[:12])


# Theorem 4.1 put together a second time


def theorem_parts(model: fs.MLP, x: Array) -> tuple[Array, Array, Array]:
    """Return |dh|^2, |d^2h|^2 (n, P) and the eigenvalues of I(h) (n, T)."""
    same_network = fs.MLP(model.weights, activation=model.activations, family=fs.families.Gaussian(model.widths[-1]))
    first = fs.fisher_information(same_network, x, per_input=True).values
    second = fs.estimator_variance(same_network, x, per_input=True).variance.sel(estimator="hessian").values
    return first, second, np.linalg.eigvalsh(fs.output_information(model, x).values)


def moderate_cases(count: int, seed: int) -> Iterator[Case]:
    return random_cases(count, seed, largest_scale=1.0)


def test_the_spectral_form_is_theorem_4_1() -> None:
    for case in moderate_cases(70, seed=3):
        bounds = fs.variance_bounds(case.model, case.x, per_input=True).sel(bound="spectral")
        first, second, values = theorem_parts(case.model, case.x)
        # A covariance is known to a few eps of its largest eigenvalue, which the smallest, and so the largest of I, feels.
        covariance = "gaussian_covariance" in case.name
        room = 1e-10 + covariance * 100 * EPS * values[:, -1:] / np.where(values[:, :1] > 0, values[:, :1], 1)
        expected = second * np.maximum(values[:, -1:], 0)
        upper = bounds.upper_by_form.sel(estimator="hessian").values
        assert np.all(np.abs(upper - expected) <= room * expected + 1e-30), case.name
        expected = second * np.maximum(values[:, :1], 0)
        lost = np.maximum(1e-12, covariance * room)
        size = lost * second * values[:, -1:] + 1e-30
        assert np.all(np.abs(bounds.lower_by_form.sel(estimator="hessian") - expected) <= size), case.name
        assert np.all(bounds.information_upper <= first * values[:, -1:] * (1 + room)), case.name
        assert np.all(bounds.information_lower >= first * values[:, :1] * (1 - 1e-12) - lost * first * values[:, -1:]), case.name


@pytest.mark.parametrize("minimal", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 5, 20])
def test_certified_quartic_extremes_of_a_softmax(classes: int, minimal: bool) -> None:
    """Against the eigenvalues of Cov(vec(rr')) by enumeration of the classes; what is attained against many directions."""
    rng = np.random.default_rng(classes)
    family = fs.families.Categorical(classes, minimal=minimal)
    model = fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=classes)
    x = rng.normal(size=(3, 2))
    bounds = fs.variance_bounds(model, x, per_input=True).sel(estimator="score")
    first = theorem_parts(model, x)[0]
    h = model.natural_parameters(x)
    for i, logits in enumerate(np.pad(h, ((0, 0), (0, 1))) if minimal else h):
        p = np.exp(logits) / np.exp(logits).sum()
        residuals = (np.eye(classes) - p)[:, : family.n_outputs]
        outer = np.einsum("ka,kb->kab", residuals, residuals).reshape(classes, -1)
        values = np.linalg.eigvalsh((outer.T * p) @ outer - np.outer(p @ outer, p @ outer))
        np.testing.assert_allclose(
            bounds.upper_by_form.sel(bound="spectral", input=i), first[i] ** 2 * values[-1], rtol=1e-10, atol=1e-20
        )
        u = rng.normal(size=(family.n_outputs, 4000))
        squares = (residuals @ (u / np.linalg.norm(u, axis=0))) ** 2
        quartic = p @ squares**2 - (p @ squares) ** 2
        attained = bounds.attained.sel(input=i)
        assert np.all(attained.sel(side="upper") >= 0.999 * first[i] ** 2 * quartic.max())
        assert np.all(attained.sel(side="lower") <= first[i] ** 2 * (1.001 * quartic.min() + 1e-3 * quartic.max()))


# Tightness


def finite_ratios(family: object, seed: int) -> Array:
    """Return upper / exact of all parameters and both estimators where exact is positive, over 12 networks."""
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(12):
        model = fs.MLP.random([3, 5, 4, family.n_outputs], activation=["tanh", "softplus"], family=family, rng=rng)
        bounds = fs.variance_bounds(model, rng.normal(size=(5, 3)))
        ratios.append(bounds.ratio.values[bounds.exact.values > 0])
    return np.concatenate(ratios)


@pytest.mark.parametrize(
    ("family", "most"),
    [
        (fs.families.Gaussian(3), 1),
        (fs.families.Gaussian(2, covariance=[[2.0, 0.5], [0.5, 1.0]]), 1),
        (fs.families.Categorical(2), 2),
        (fs.families.Categorical(3), 2),
        (fs.families.Categorical(4), 2),
        (fs.families.Categorical(4, minimal=True), 2),
        (fs.families.Categorical(10), 4),
        (fs.families.Bernoulli(1), 4),
        (fs.families.Bernoulli(4), 4),
        (fs.families.Binomial(6, 3), 4),
        (fs.families.Poisson(1), 4),
        (fs.families.Poisson(4), 4),
    ],
    ids=lambda value: f"{value.name}-{value.n_outputs}" if hasattr(value, "n_outputs") else "",
)
def test_median_tightness(family: object, most: float) -> None:
    ratios = finite_ratios(family, seed=7)
    if most == 1:
        np.testing.assert_allclose(ratios, 1, rtol=1e-12)
    assert np.all(ratios >= 1 - SLACK)
    assert np.median(ratios) <= most * (1 + 1e-12)


@pytest.mark.parametrize("minimal", [False, True])
def test_a_thousand_classes(minimal: bool) -> None:
    family = fs.families.Categorical(1000, minimal=minimal)
    model = fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=5)
    bounds = fs.variance_bounds(model, np.array([[0.5, -1.0]]))
    assert worst_violation(bounds.exact.values, bounds.lower.values, bounds.upper.values) <= SLACK
    assert np.isfinite(bounds.upper).all()
    assert np.all(bounds.lower >= 0)
    assert np.median(bounds.ratio.values[bounds.exact.values > 0]) < 20


def test_ratio_where_everything_is_zero() -> None:
    """p = 1/2: (u.r)^2 is constant in the direction of one output, and the last layer has no second derivative."""
    output = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    model = fs.MLP([[[0.0, 0.0], [0.0, 0.0]], output], activation="sin", family=fs.families.Bernoulli(2))
    bounds = fs.variance_bounds(model, [[1.0]])
    assert np.all(bounds.exact == 0)
    assert np.all(bounds.upper == 0)
    assert np.all(bounds.ratio == 1)


# Power: what a wrong bound would do to the checks above


@pytest.mark.parametrize("name", ["binomial", "categorical_minimal", "poisson", "bernoulli", "categorical"])
def test_the_check_catches_wrong_bounds(name: str) -> None:
    """The median eigenvalue for the largest, and a bound 1e-6 too low, are caught by `worst_violation`."""
    caught, equal = 0, 0
    for case in moderate_cases(70, seed=11):
        if f"-{name}-" not in case.name or case.model.widths[-1] < 3:
            continue
        exact = fs.fisher_information(case.model, case.x, per_input=True).values
        first, _, values = theorem_parts(case.model, case.x)
        right = worst_violation(exact, np.zeros_like(exact), first * values[:, -1:])
        median = worst_violation(exact, np.zeros_like(exact), first * np.median(values, axis=1)[:, None])
        assert right <= SLACK
        caught += median > SLACK
        equal += 1
        assert worst_violation(exact, np.zeros_like(exact), exact * (1 - 1e-6), exact) > SLACK
        assert worst_violation(exact, exact * (1 + 1e-6), exact, exact) > SLACK
    assert equal >= 4
    assert caught >= 0.7 * equal
