"""Certified means certified: small eigenvalues, laws at the edge, float32, and forms that fail, against 60 to 80 digits."""

from __future__ import annotations

import warnings

import mpmath as mp
import numpy as np
import pytest

import fisherstats as fs
from fisherstats.core import margins
from fisherstats.models.families.extremes import information_extremes, quartic_extremes
from fisherstats.models.families.spectra import information_spectrum, quartic_spectrum
from fisherstats.theory import variance_inequalities
from validation.adversarial_bounds.oracle import Head, network
from validation.adversarial_bounds.oracle import Side as ExactLaw
from validation.adversarial_bounds.run import Case, check

Array = np.ndarray
F = fs.families

# --- spectra of laws whose statistics nearly depend on each other --------------------------------------------------------


def exact_spectra(head: Head, h: Array) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """Return the eigenvalues of I and of M on symmetric matrices, ascending."""
    law, size = ExactLaw([head], [mp.mpf(float(one)) for one in h]), len(h)
    unit = [[mp.mpf(a == b) for b in range(size)] for a in range(size)]
    I = mp.matrix([[law.second(a, b) for b in unit] for a in unit])
    pairs = [(a, b) for a in range(size) for b in range(a, size)]
    M = mp.matrix(len(pairs))
    for x, (a, b) in enumerate(pairs):
        for y, (c, d) in enumerate(pairs):
            weight = mp.sqrt((1 + (a != b)) * (1 + (c != d)))
            M[x, y] = weight * (law.fourth(*(unit[k] for k in (a, b, c, d))) + I[a, c] * I[b, d] + I[a, d] * I[b, c])
    return sorted(mp.eigsy(I, eigvals_only=True)), sorted(mp.eigsy(M, eigvals_only=True))


def gaussian(ratio: float, deviation: float) -> tuple[object, Head, Array]:
    h = np.array([ratio / deviation, -1 / (2 * deviation**2)])
    return F.GaussianMeanVariance(), Head("gaussian_mean_variance", 2), h


def gamma(shape: float, rate: float) -> tuple[object, Head, Array]:
    return F.GammaShapeRate(), Head("gamma_shape_rate", 2), np.array([shape, -rate])


def dirichlet(*alpha: float) -> tuple[object, Head, Array]:
    return F.Dirichlet(len(alpha)), Head("dirichlet", len(alpha)), np.array(alpha)


HARD = [
    *(gaussian(ratio, deviation) for ratio in (0.5, 327.8, 1e4, -1e6) for deviation in (1.0, 1e-3, 1e3)),
    *(gamma(shape, rate) for shape in (1e-3, 1.0, 1e5, 1e10) for rate in (1.0, 1e4)),
    dirichlet(1.0, 2.0),
    dirichlet(1e10, 1e-3),
    dirichlet(1e10, 2e10),
    dirichlet(0.007, 2340.0, 0.026),
    dirichlet(1e10, 1e-3, 1.0),
    dirichlet(1e-3, 1e-3, 1e-3),
    dirichlet(3.0, 4.0, 5.0),
]


@pytest.mark.parametrize(("family", "head", "h"), HARD, ids=lambda one: getattr(one, "name", None) or str(one)[:40])
def test_ends_of_spectra_hold_the_eigenvalues_and_keep_the_small_ones(family, head, h):
    law = family.at(h[None])
    with mp.workdps(80):
        found = zip(exact_spectra(head, h), (information_spectrum(law), quartic_spectrum(law)), strict=True)
        for exact, (lower, upper) in found:
            for k, value in enumerate(exact):
                assert mp.mpf(float(lower[0, k])) <= value <= mp.mpf(float(upper[0, k]))
        I, M = exact_spectra(head, h)
        smallest, largest = (float(one[0]) for one in information_extremes(law))
        assert float(1 - smallest / I[0]) < 1e-10
        assert float(largest / I[-1] - 1) < 1e-13
        smallest, largest = (float(one[0]) for one in quartic_extremes(law))
        assert float(largest / M[-1] - 1) < 1e-13
        if len(h) == 2:
            assert float(1 - smallest / M[0]) < 1e-10
        else:  # 2 lambda_min(I)^2 is a bound of M(u,u,u,u), which is what the theorem needs
            assert smallest >= 0.999 * min(float(M[0]), 2 * float(I[0]) ** 2)


# --- laws at the edge ----------------------------------------------------------------------------------------------------


def along(family: object, direction: Array, outputs: Array) -> tuple[Array, Array]:
    """Weights of a network whose one hidden unit moves the outputs along a direction at x = 0."""
    return np.array([[1.0, 0.0]]), np.column_stack([direction, outputs])


def null_case(kind: str) -> Case:
    """The parameter moves along the direction of which the law says least."""
    if kind == "gaussian_mean_variance":  # precision at fixed mean
        family, heads, z = F.GaussianMeanVariance(), (Head(kind, 2),), np.array([327.8, 0.0])
        direction = np.array([327.8, 1.0])
    elif kind == "gamma_shape_rate":  # shape and rate in proportion
        family, heads, z = F.GammaShapeRate(), (Head(kind, 2),), np.log([1e5, 1.0])
        direction = np.array([1.0, 1.0])
    else:
        family, heads, z = F.Dirichlet(3), (Head(kind, 3),), np.log([0.007, 2340.0, 0.026])
        direction = np.array([1e-4, 1.0, 1e-4])
    return Case(kind, along(family, direction, z), "tanh", family, heads, np.array([[0.0], [0.25]]))


@pytest.mark.parametrize("kind", ["gaussian_mean_variance", "gamma_shape_rate", "dirichlet"])
def test_no_bound_is_wrong_along_the_nearly_null_direction(kind):
    found = check(null_case(kind))
    assert not found.violations
    assert found.total > 200


def test_the_lower_bound_along_the_null_direction_is_of_the_size_of_the_exact_number():
    """Mean / deviation = 327.8: exactly 3.5, where the bound was 4.83."""
    case = null_case("gaussian_mean_variance")
    score = fs.variance_bounds(case.model(), case.x[:1], per_input=True).sel(estimator="score", input=0, param=1)
    np.testing.assert_allclose(score.exact, 3.5, rtol=1e-9)
    assert 1.0 <= score.lower <= 3.5
    assert not score.failed.any()


def test_a_perfectly_tight_bound_is_one():
    """Exponential rates 0.0013, 2.5 and 9e4: the form svec was 1e6 times the exact number and was taken for it."""
    weights = (np.array([[1.0, 0.5, 0.0]]), np.column_stack([np.array([0.3, -0.7, 1.1]), np.log([0.0013, 2.5, 9e4])]))
    x, heads = np.array([[0.5, -0.25], [0.5, 0.5]]), (Head("gamma", 3, (1.0,)),)
    case = Case("exponential", weights, "tanh", F.Exponential(3), heads, x)
    assert not check(case).violations
    traces = fs.trace_bounds(case.model(), case.x[:1]).sel(estimator="score")
    assert (traces.lower_by_form <= traces.exact).all()
    assert traces.lower < 0.9 * traces.exact


def test_fourth_powers_of_small_derivatives_do_not_underflow():
    model = fs.MLP([[[1.0, -100.0]]], activation=[], family=F.Exponential())
    bounds = fs.covariance_bounds(model, np.array([[1.0]])).sel(estimator="score")
    np.testing.assert_allclose(bounds.exact, 32, rtol=1e-12)
    np.testing.assert_allclose(bounds.upper_by_form.sel(bound="response", norm="frobenius"), 32, rtol=1e-11)
    assert (bounds.upper >= bounds.exact).all()


@pytest.mark.parametrize("bias", [0.0, 46.0, 92.0])
def test_entries_of_heads_that_differ_by_eighty_orders(bias):
    """The derivative of one rate is 1e80 times that of the other, and its variance 1e-160 times."""
    weights = (np.array([[1.0, -0.5, 0.0]]), np.array([[1.0, bias], [0.75, -bias]]))
    x, pairs = np.array([[0.5, 0.25]]), [(0, 1), (0, 0), (0, 3), (3, 5), (1, 6)]
    heads = (Head("gamma", 2, (1.0,)),)
    case = Case("exponential", weights, "tanh", F.Exponential(2), heads, x)
    exact = network(weights, "tanh", heads, x[0])
    places = [(entry, h) for entry in exact.entries for h in exact.inputs[entry.layer]]
    expected = []
    with mp.workdps(80):
        for i, k in pairs:
            (one, h), (two, g) = places[i], places[k]
            mixed = exact.law.second(one.first, two.first)
            fourth = exact.law.fourth(one.first, one.first, two.first, two.first)
            expected.append(float((fourth + one.information * two.information + mixed**2) * (h * g) ** 2))
    bounds = fs.off_diagonal_bounds(case.model(), x, pairs=pairs).sel(estimator="score")
    np.testing.assert_allclose(bounds.exact, expected, rtol=1e-12)
    assert (bounds.upper >= bounds.exact).all()
    assert (bounds.upper_by_form >= bounds.exact).all()


def test_the_smallest_of_eigenvalue_and_statements_is_taken():
    """Two Bernoulli outputs at p = 1/2: 1/8 by the eigenvalue, 1/16 by Proposition 4.3 with Corollary 4.2, which is attained."""
    model = fs.MLP([[[0.0, 0.0], [0.0, 0.0]]], activation=[], family=F.Bernoulli(2))
    found = fs.family_extremes(model, np.array([[1.0]])).sel(input=0, side="upper")
    np.testing.assert_allclose(found.certified.sel(tensor="square_covariance"), 1 / 16, rtol=1e-12)
    assert found.attained <= found.certified.sel(tensor="square_covariance")
    u = np.array([1.0, 1.0]) / np.sqrt(2)
    labels = np.array([[a, b] for a in (0, 1) for b in (0, 1)]) - 0.5
    np.testing.assert_allclose(np.var((labels @ u) ** 2), 1 / 16)


# --- float32 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family",
    [F.Gaussian(3), F.Bernoulli(3), F.Categorical(3), F.Poisson(2), F.GaussianMeanVariance(), F.Dirichlet(3), F.Exponential(2)],
    ids=lambda family: family.name,
)
def test_float32_bounds_are_rounded_outwards(family):
    """No tolerance: in float32 a third of random networks had a bound on the wrong side."""
    rng = np.random.default_rng(3)
    for _ in range(4):
        model = fs.MLP.random([3, 4, family.n_outputs], activation="tanh", family=family, rng=rng)
        model = fs.MLP([one.astype(np.float32) for one in model.weights], activation="tanh", family=family)
        x = rng.normal(size=(3, 3)).astype(np.float32)
        for per_input in (True, False):
            results = [
                fs.variance_bounds(model, x, per_input=per_input),
                fs.trace_bounds(model, x, per_input=per_input),
                fs.covariance_bounds(model, x, per_input=per_input),
                fs.off_diagonal_bounds(model, x, pairs=[(0, 1), (3, 3), (0, 20)], per_input=per_input),
            ]
            for one in results:
                assert one.exact.dtype == one.upper.dtype == np.float32
                assert (one.upper >= one.exact).all()
                assert (one.ratio >= 1).all()
                assert not one.failed.any()
                if "lower" in one:
                    assert (one.lower <= one.exact).all()
            for prefix in ("information_",):
                assert (results[1][f"{prefix}lower"] <= results[1][f"{prefix}exact"]).all()
                assert (results[1][f"{prefix}upper"] >= results[1][f"{prefix}exact"]).all()
            wide = fs.MLP([one.astype(np.float64) for one in model.weights], activation="tanh", family=family)
            inner = fs.variance_bounds(wide, x, per_input=per_input)
            assert (results[0].lower <= inner.lower).all()
            assert (results[0].upper >= inner.upper).all()


def test_rounding_outwards():
    values = np.array([1.0, 1 + 1e-9, 1 - 1e-9, 0.0, np.inf])
    single = np.dtype(np.float32)
    upper, lower = (margins.outwards(values, single, side) for side in ("upper", "lower"))
    assert upper.dtype == lower.dtype == single
    assert np.all(upper.astype(float) >= values)
    assert np.all(lower.astype(float) <= values)
    assert upper[0] == lower[0] == 1
    assert upper[3] == lower[3] == 0
    assert margins.outwards(values, values.dtype, "upper") is values


@pytest.mark.parametrize("value", [1.0, 3.0, 1e-300, 5e-324, 1e300, 0.0, np.inf])
def test_powers_of_two(value):
    power = float(margins.power_of_two(np.array([value]))[0])
    assert np.frexp(power)[0] == 0.5
    assert power <= value < 2 * power or value in (0.0, 5e-324, np.inf)


# --- forms that fail -----------------------------------------------------------------------------------------------------


def test_a_form_that_fails_is_counted_shown_and_bounds_nothing(monkeypatch):
    model = fs.MLP.random([2, 3, 2], activation="tanh", family=F.Bernoulli(2), rng=0)
    x = np.array([[0.5, -1.0], [1.0, 0.25]])
    right = fs.variance_bounds(model, x)
    assert not right.failed.any()
    plain = variance_inequalities._IndependentBounds._extended_square

    def wrong(self, bounds, u, variance):
        bounds = plain(self, bounds, u, variance)
        bounds.lower["standardised"] = 3 * bounds.exact
        return bounds

    monkeypatch.setattr(variance_inequalities._IndependentBounds, "_extended_square", wrong)
    with pytest.warns(RuntimeWarning, match=r"variance_bounds: certified forms are on the wrong side .*'standardised' \(\d+\)"):
        found = fs.variance_bounds(model, x)
    failed = found.failed.sel(estimator="score")
    assert failed.sel(bound="standardised") > 0
    assert failed.sum() == failed.sel(bound="standardised")
    shown = found.lower_by_form.sel(bound="standardised", estimator="score")
    assert (shown > found.exact.sel(estimator="score"))[found.exact.sel(estimator="score") > 0].all()
    assert (found.lower <= found.exact).all()
    assert (found.upper >= right.upper * (1 - 1e-12)).all()


def test_bounds_that_are_no_numbers_have_failed():
    bounds = variance_inequalities.Bounds(
        np.array([[1.0]]), {"a": np.array([[np.nan]])}, {"b": np.array([[np.nan]]), "c": np.array([[2.0]])}
    )
    assert {form: bool(one.any()) for form, one in bounds.failed().items()} == {"a": True, "b": True, "c": False}
    lower, upper = bounds.tightest()
    assert lower.item() == 0
    assert upper.item() == 2


def test_nothing_warns_where_nothing_fails():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(null_case("dirichlet"))
