"""Bounds of covariance tensors, traces, entries and variances over inputs: they hold, and a wrong one would be caught."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from tests.quantities.bounds.test_variance import Case, corner_cases, random_cases

Array = np.ndarray

EPS = np.finfo(np.float64).eps

# --- no violation ------------------------------------------------------------------------------------------------------

SLACK = 1e-9
# Products of fourth powers below this have left the normal numbers somewhere on the way and keep no relative accuracy.
SMALLEST = 1e-290


def violated(exact: object, bound: object, scale: object = 0.0, below: bool = False) -> bool:
    """Whether a bound is on the wrong side by more than 1e-9 of the exact value and 64 eps of `scale`."""
    exact, bound, scale = (np.asarray(one, dtype=float) for one in (exact, bound, scale))
    beyond = bound - exact if below else exact - bound
    return bool(np.isnan(bound).any() or np.any(beyond > SLACK * np.abs(exact) + 64 * EPS * scale + SMALLEST))


def check_everything(model: fs.MLP, x: Array, ways: tuple[bool, ...] = (False, True)) -> None:
    """No bound of this module is on the wrong side, in any form, for the mean over inputs or for each of them."""
    rng = np.random.default_rng(model.n_params)
    pairs = rng.integers(model.n_params, size=(6, 2))
    for per_input in ways:
        norms = fs.covariance_bounds(model, x, n_draws=2, per_input=per_input)
        assert not violated(norms.exact, norms.upper)
        traces = fs.trace_bounds(model, x, n_draws=2, per_input=per_input)
        entries = fs.off_diagonal_bounds(model, x, pairs=pairs, n_draws=2, per_input=per_input)
        assert not violated(entries.exact, entries.upper)
        for prefix in ("", "information_"):
            exact = traces[f"{prefix}exact"]
            assert not violated(exact, traces[f"{prefix}upper"])
            assert not violated(exact, traces[f"{prefix}lower"], below=True)
            size = traces[f"{prefix}upper_by_form"].sel(bound="response")
            for bound in traces.bound.values:
                upper, lower = (traces[f"{prefix}{side}_by_form"].sel(bound=bound) for side in ("upper", "lower"))
                assert not violated(exact, upper, 1e3 * size)
                assert not violated(exact, lower, 1e3 * size, below=True)
        # What other functions call by the same name.
        variance = fs.estimator_variance(model, x, n_draws=2, per_input=per_input).variance.sum("param")
        np.testing.assert_allclose(traces.exact, variance.transpose(*traces.exact.dims), rtol=1e-10, atol=SMALLEST)
        for one in (norms, traces, entries):
            for prefix in ("", "information_"):
                if f"{prefix}ratio" in one:
                    assert bool(((one[f"{prefix}ratio"] >= 1 - SLACK) | (one[f"{prefix}exact"] < SMALLEST)).all())
    if len(x) > 1:
        inputs = fs.input_variance_bounds(model, x)
        assert not violated(inputs.exact, inputs.upper)
        assert not violated(inputs.exact.sel(moment="population"), inputs.second_moment)
        assert not violated(inputs.second_moment, inputs.upper.sel(moment="population"))
    extremes = fs.family_extremes(model, x)
    certified, quartic = extremes.certified, extremes.certified.sel(tensor="square_covariance")
    assert not violated(extremes.attained.sel(side="upper"), quartic.sel(side="upper"), quartic.sel(side="upper"))
    assert not violated(extremes.attained.sel(side="lower"), quartic.sel(side="lower"), quartic.sel(side="upper"), below=True)
    # Where all but one class underflow to 0 the bracket of the eigenvalue ends at about 1e-60.
    information = certified.sel(tensor="information", side="upper")
    information = information.where(information > 1e-50, 0)
    said = extremes.by_statement.sel(tensor="information", side="upper")
    for bound in said.bound.values:
        assert not violated(information, said.sel(bound=bound))


def run_all(cases: Iterable[Case]) -> None:
    failed = []
    for index, case in enumerate(cases):
        try:
            check_everything(case.model, case.x, (index % 4 != 0,))  # the mean needs all pairs of inputs
        except (AssertionError, RuntimeWarning) as error:
            failed.append(f"{case.name}: {type(error).__name__} {' '.join(str(error).split())[:300]}")
    assert not failed, f"{len(failed)} failures:\n" + "\n".join(failed[:12])


def test_no_bound_is_violated_on_random_networks() -> None:
    run_all(random_cases(70, seed=5))


@pytest.mark.validation
def test_no_bound_is_violated_on_many_random_networks() -> None:
    run_all(random_cases(2000, seed=6))


def test_no_bound_is_violated_at_the_ends_of_a_family() -> None:
    run_all(corner_cases())


LINKED: dict[str, Callable[[], object]] = {
    "exponential": lambda: fs.families.Exponential(2),
    "gamma": lambda: fs.families.GammaShapeRate(),
    "mean_variance": lambda: fs.families.GaussianMeanVariance(),
    "multinomial": lambda: fs.families.Multinomial(4, 3),
    "product": lambda: fs.families.Product([fs.families.Gaussian(1), fs.families.Categorical(3)]),
}


@pytest.mark.parametrize("name", LINKED)
def test_no_bound_is_violated_with_other_families(name: str) -> None:
    family = LINKED[name]()
    for seed in range(4):
        model = fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=seed)
        check_everything(model, np.random.default_rng(seed).normal(size=(2, 2)))


# --- equalities --------------------------------------------------------------------------------------------------------


def test_one_output_and_one_input_are_equalities() -> None:
    """With T = 1 both matrices of every pair are numbers: all forms and norms agree with the exact values."""
    for family in (fs.families.Bernoulli(1), fs.families.Poisson(1), fs.families.Gaussian(1, covariance=2.0)):
        model = fs.MLP.random([2, 3, 1], activation="tanh", family=family, rng=3)
        x = np.array([[0.4, -1.2]])
        norms = fs.covariance_bounds(model, x)
        stated = np.isfinite(norms.upper_by_form)
        np.testing.assert_allclose(norms.ratio, 1, rtol=1e-12)
        np.testing.assert_allclose(
            norms.upper_by_form.where(stated, norms.exact),
            norms.exact.broadcast_like(norms.upper_by_form).transpose(*stated.dims),
            rtol=1e-12,
        )
        traces = fs.trace_bounds(model, x)
        for prefix in ("", "information_"):
            np.testing.assert_allclose(traces[f"{prefix}upper"], traces[f"{prefix}exact"], rtol=1e-12)
            np.testing.assert_allclose(traces[f"{prefix}lower"], traces[f"{prefix}exact"], rtol=1e-12)
        entries = fs.off_diagonal_bounds(model, x, pairs=[(0, 5), (11, 3), (2, 2)])
        np.testing.assert_allclose(entries.ratio, 1, rtol=1e-10)


def test_the_gaussian_is_an_equality_of_theorem_d_1() -> None:
    """M is twice the identity on symmetric matrices: svec is exact on both sides, T^2 eigenvalues spoil the lower one."""
    model = fs.MLP.random([3, 4, 3], activation="tanh", family=fs.families.Gaussian(3), rng=0)
    x = np.random.default_rng(0).normal(size=(4, 3))
    traces = fs.trace_bounds(model, x).sel(estimator="score")
    for side in ("lower", "upper"):
        np.testing.assert_allclose(traces[f"{side}_by_form"].sel(bound="svec"), traces.exact, rtol=1e-12)
        np.testing.assert_allclose(traces[side], traces.exact, rtol=1e-12)
    assert traces.lower_by_form.sel(bound="spectrum") < 0.5 * traces.exact
    norms = fs.covariance_bounds(model, x, per_input=True).sel(estimator="score")
    np.testing.assert_allclose(norms.upper_by_form.sel(bound="response", norm="trace"), norms.exact.sel(norm="trace"), rtol=1e-12)


def test_zero_where_theory_says_zero() -> None:
    """No hidden layer: the Hessian estimator is exact, so are its bounds, and the ratio is 1."""
    model = fs.MLP.random([3, 4], activation=[], family=fs.families.Categorical(4), rng=0)
    x = np.random.default_rng(0).normal(size=(3, 3))
    for result in (
        fs.covariance_bounds(model, x),
        fs.trace_bounds(model, x),
        fs.off_diagonal_bounds(model, x, pairs=[(0, 7)]),
    ):
        hessian = result.sel(estimator="hessian")
        assert np.all(hessian.exact == 0)
        assert np.all(hessian.upper == 0)
        assert np.all(hessian.ratio == 1)


# --- power: what a wrong bound would do to the checks above --------------------------------------------------------------


def test_wrong_bounds_are_caught() -> None:
    """The mean eigenvalue for the largest, the printed corollary, and bounds 1e-6 too low are all seen by `violated`."""
    median, printed, low, count = 0, 0, 0, 0
    for case in random_cases(70, seed=8):
        T = case.model.widths[-1]
        norms = fs.covariance_bounds(case.model, case.x, per_input=True).sel(estimator="score")
        traces = fs.trace_bounds(case.model, case.x, per_input=True, form="printed")
        if T < 3 or not bool((norms.exact > 1e-200).all()):
            continue
        count += 1
        response = norms.upper_by_form.sel(bound="derivative", norm="trace") * 2 / (T * (T + 1))
        median += violated(norms.exact.sel(norm="spectral"), 0.5 * response)
        printed += violated(traces.information_exact, traces.information_upper)
        low += violated(norms.exact, norms.exact * (1 - 1e-6)) and violated(norms.exact, norms.exact * (1 + 1e-6), below=True)
    assert count >= 20
    assert low == count
    assert median >= 0.5 * count
    assert printed >= 0.3 * count


# --- the printed forms ---------------------------------------------------------------------------------------------------


def test_the_printed_corollary_is_violated_by_one_linear_unit() -> None:
    """One output and |dh| = 3, for any I: (13) reads 9 I <= 3 I, and as there is no second derivative (15) reads 0 <= 0."""
    model = fs.MLP([[[0.7, 0.0]]], activation=[], family=fs.families.Bernoulli())
    x = np.array([[np.sqrt(8.0)]])  # with the bias |dh|^2 = 9
    information = float(fs.output_information(model, x).item())
    printed = fs.trace_bounds(model, x, form="printed")
    np.testing.assert_allclose(printed.information_exact, 9 * information, rtol=1e-12)
    np.testing.assert_allclose(printed.information_upper_by_form.sel(bound="derivative"), 3 * information, rtol=1e-12)
    np.testing.assert_allclose(printed.information_ratio, 1 / 3, rtol=1e-12)
    corrected = fs.trace_bounds(model, x)
    np.testing.assert_allclose(corrected.information_upper, 9 * information, rtol=1e-12)
    assert printed.information_exact.identical(fs.trace_bounds(model, x, form="printed").information_exact)


def test_the_printed_form_is_marked_as_an_erratum() -> None:
    model = fs.MLP.random([2, 3], activation=[], family=fs.families.Categorical(3), rng=0)
    x = np.ones((2, 2))
    printed, corrected = (fs.trace_bounds(model, x, form=form) for form in ("printed", "corrected"))
    for name in ("upper", "information_upper", "ratio", "upper_by_form", "lower"):
        assert printed[name].attrs["erratum"].startswith("false as printed")
        assert "as printed" in printed[name].attrs["source"]
        assert "corrected" in corrected[name].attrs["source"]
        assert "false" in corrected[name].attrs["erratum"]
    assert "erratum" not in printed.information_exact.attrs
    np.testing.assert_array_equal(printed.exact, corrected.exact)


# --- what every result promises ------------------------------------------------------------------------------------------

MODEL = fs.MLP.random([3, 4, 3], activation="tanh", family=fs.families.Categorical(3), rng=0)
X = np.random.default_rng(0).normal(size=(5, 3))
CALLS: dict[str, Callable[..., xr.Dataset]] = {
    "covariance_bounds": lambda model, x, **more: fs.covariance_bounds(model, x, **more),
    "trace_bounds": lambda model, x, **more: fs.trace_bounds(model, x, **more),
    "off_diagonal_bounds": lambda model, x, **more: fs.off_diagonal_bounds(model, x, pairs=[(0, 1), (5, 20)], **more),
    "input_variance_bounds": lambda model, x, **more: fs.input_variance_bounds(model, x, **more),
    "family_extremes": lambda model, x, **more: fs.family_extremes(model, x, **more),
}


@pytest.mark.parametrize("name", CALLS)
def test_results_survive_a_file_and_repeat(name: str, tmp_path: Path) -> None:
    result = CALLS[name](MODEL, X)
    result.to_netcdf(tmp_path / "bounds.nc")
    with xr.open_dataset(tmp_path / "bounds.nc") as read:
        assert read.load().identical(result)
    assert CALLS[name](MODEL, X, num_threads=1).identical(result)
    for variable in result.data_vars.values():
        assert {"long_name", "units", "symbol", "source", "assumptions", "provenance"} <= set(variable.attrs)


@pytest.mark.parametrize("name", CALLS)
def test_single_precision(name: str) -> None:
    double = CALLS[name](MODEL, X)
    single = CALLS[name](MODEL.as_dtype(np.dtype(np.float32)), X.astype(np.float32))
    for key, values in double.data_vars.items():
        if str(key).endswith("failed"):
            assert not single[key].any()
            continue
        assert single[key].dtype == np.float32
        if key not in ("lower", "lower_by_form", "attained", "ratio"):
            finite = np.isfinite(values.values)
            np.testing.assert_allclose(
                single[key].values[finite], values.values[finite], rtol=0, atol=2e-5 * np.abs(values.values[finite]).max()
            )


@pytest.mark.parametrize("name", ["covariance_bounds", "trace_bounds", "off_diagonal_bounds"])
def test_kinks(name: str) -> None:
    model = fs.MLP([[[1.0, 0.0]], [[1.0, 0.0]]], activation="relu", family=fs.families.Bernoulli())
    call = {**CALLS, "off_diagonal_bounds": lambda model, x, **more: fs.off_diagonal_bounds(model, x, pairs=[(0, 1)], **more)}[
        name
    ]
    with pytest.raises(fs.AssumptionError, match="input 1, layer 0, unit 0"):
        call(model, np.array([[1.0], [0.0]]))
    assert np.isfinite(call(model, np.array([[1.0], [0.0]]), on_kink="ignore").exact).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fs.trace_bounds(MODEL, X, form="print"), ValueError, "`form` must be one of 'corrected', 'printed'"),
        (lambda: fs.covariance_bounds(MODEL, X, n_draws=0), ValueError, "`n_draws` must be a positive integer, got 0"),
        (lambda: fs.covariance_bounds(MODEL, X, per_input=1), ValueError, "`per_input` must be True or False"),
        (lambda: fs.covariance_bounds(MODEL, X, on_kink="skip"), ValueError, "`on_kink` must be one of"),
        (lambda: fs.off_diagonal_bounds(MODEL, X, pairs=[0, 1]), ValueError, r"`pairs` must have shape \(k, 2\)"),
        (lambda: fs.off_diagonal_bounds(MODEL, X, pairs=np.zeros((0, 2), int)), ValueError, r"`pairs` must have shape \(k, 2\)"),
        (lambda: fs.off_diagonal_bounds(MODEL, X, pairs=[[0, 31]]), ValueError, r"from 0 to 30, got 31 at index \(0, 1\)"),
        (lambda: fs.off_diagonal_bounds(MODEL, X, pairs=[[-1, 0]]), ValueError, r"from 0 to 30, got -1 at index \(0, 0\)"),
        (lambda: fs.off_diagonal_bounds(MODEL, X, pairs=[[0.0, 1.0]]), TypeError, "`pairs` must hold integer indices"),
        (lambda: fs.input_variance_bounds(MODEL, X[:1]), ValueError, "`x` must have at least two rows for a variance"),
    ],
)  # fmt: skip
def test_what_is_refused(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
