"""Bounds by weight norms are never violated, their gradients are derivatives, and the printed forms are false."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.theory import weight_norms as closed
from tests.refusals import pattern, refused

Array = np.ndarray

X = np.random.default_rng(0).normal(size=(4, 3))
MODEL = fs.MLP.random([3, 4, 3], activation="gelu", family=fs.families.Categorical(3), rng=0)
NORMAL = fs.MLP.random([3, 4, 2, 2], activation=["tanh", "silu"], family=fs.families.Gaussian(2, covariance=[1.0, 3.0]), rng=1)
LINKED = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Exponential(2), rng=2)
FAMILIES = (
    fs.families.Gaussian,
    fs.families.Bernoulli,
    lambda T: fs.families.Categorical(max(T, 2)),
    fs.families.Exponential,
)


def random_networks(count: int, seed: int, widest: int, most_outputs: int) -> Iterator[tuple[fs.MLP, Array]]:
    """Depths 1 to 8, mixtures of all activations, weight scales 0.1 to 10, four families, one of them with a link."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        depth = 1 + index % 8
        family = FAMILIES[index // 8 % len(FAMILIES)](int(rng.integers(1, most_outputs + 1)))
        widths = [*rng.integers(1, widest + 1, depth).tolist(), family.n_outputs]
        chosen = rng.choice(fs.activations.NAMES, depth - 1).tolist()
        scale = 10 ** rng.uniform(-1, 1)
        weights = [scale * weight for weight in fs.MLP.random(widths, activation=chosen, family=family, rng=rng).weights]
        x = rng.normal(size=(2, widths[0]))
        if family.link is not None:  # h = -e^z: keep the rates within the range of their fourth powers
            plain = fs.MLP(weights, activation=chosen, family=fs.families.Gaussian(family.n_outputs))
            weights[-1] *= min(1, 20 / max(float(np.abs(plain.natural_parameters(x)).max()), 1e-300))
        yield fs.MLP(weights, activation=chosen, family=family), x


def violations(found: xr.Dataset) -> list[str]:
    """Names of the ratios and links of the chain that are on the wrong side by more than 1e-12."""
    wrong = [name for name in found if name.endswith("ratio") and not bool((found[name] >= 1 - 1e-12).all())]
    chain = [f"covariance_{name}" for name in ("exact", "upper", "from_derivatives", "from_weights")]
    if chain[0] in found:
        pairs = itertools.pairwise(chain)
        wrong += [name for beneath, name in pairs if not bool((found[name] >= found[beneath] * (1 - 1e-12)).all())]
    wrong += [name for name in found if "upper" in name and bool(np.isnan(found[name]).any())]
    tensor = found.tensor_upper <= found.second_upper.sel(norm="spectral") * (1 + 1e-12)
    return wrong + ([] if bool(tensor.all()) else ["tensor_upper"])


def test_no_bound_is_violated_on_random_networks() -> None:
    for index, (model, x) in enumerate(random_networks(48, 3, 12, 5)):
        found = fs.derivative_bounds(model, x, per_input=bool(index % 2))
        assert violations(found) == [], (index, model)


@pytest.mark.validation
def test_no_bound_is_violated_on_many_wide_networks() -> None:
    """1,000 networks with widths 1 to 64; the covariances too where the outputs are few."""
    for index, (model, x) in enumerate(random_networks(1000, 4, 64, 64)):
        found = fs.derivative_bounds(model, x, per_input=bool(index % 2), covariance=model.widths[-1] <= 12)
        assert violations(found) == [], (index, model)


def test_a_wrong_bound_would_be_seen() -> None:
    """Without the last layer's sqrt(n_L), or with |sigma'| <= 1, what the checks above look at is violated."""
    printed = [fs.derivative_bounds(model, x, form="printed") for model, x in random_networks(48, 3, 12, 5)]
    wrong = [not bool((one.first_ratio.sel(norm="frobenius") >= 1 - 1e-12).all()) for one in printed]
    assert sum(wrong) >= 24
    low = fs.derivative_bounds(MODEL, X)
    low["second_ratio"] = low.second_ratio * 0 + 1 - 1e-6
    assert violations(low) == ["second_ratio"]


def test_linear_networks_of_width_one_are_equalities() -> None:
    model = fs.MLP.random([1, 1, 1, 1], activation="identity", family=fs.families.Gaussian(), rng=0)
    found = fs.derivative_bounds(model, np.array([[0.7], [-1.3]]), per_input=True)
    np.testing.assert_allclose(found.first_ratio, 1, rtol=1e-12)
    off = ~np.eye(3, dtype=bool)
    adjacent = found.second_ratio.values[:, :, off]
    assert (adjacent >= 1).all()
    np.testing.assert_allclose(adjacent, 1, rtol=1e-12)
    np.testing.assert_array_equal(found.second_upper.values[:, :, ~off], 0)


def test_piecewise_linear_layers_bend_nothing() -> None:
    model = fs.MLP.random([3, 4, 4, 2], activation=["relu", "leaky_relu"], family=fs.families.Gaussian(2), rng=0)
    found = fs.derivative_bounds(model, X)
    diagonal = np.arange(3)
    assert not found.second_upper.values[:, diagonal, diagonal].any()
    assert (found.second_exact.values[:, 0, 1] > 0).all()  # a product of two weights has a mixed derivative


# --- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MODEL, NORMAL, LINKED], ids=["categorical", "gaussian", "linked"])
@pytest.mark.parametrize("per_input", [False, True])
def test_gradients_are_derivatives_by_the_norms(model: fs.MLP, per_input: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Central differences of the bounds, each kernel norm moved by itself while network and inputs stay."""
    found = fs.derivative_bounds(model, X, per_input=per_input, n_draws=2)
    norms, step = closed.kernel_norms(model.kernels), 1e-5
    for layer in range(model.n_layers):
        for side, norm in enumerate(("frobenius", "spectral")):
            moved = []
            for sign in (1, -1):
                changed = norms.copy()
                changed[side, layer] *= 1 + sign * step
                with monkeypatch.context() as patch:
                    patch.setattr(closed, "kernel_norms", lambda kernels, changed=changed: changed)
                    moved.append(fs.derivative_bounds(model, X, per_input=per_input, n_draws=2).sel(norm=norm))
            for bound, gradient in (
                ("first_upper", "first_gradient"),
                ("second_upper", "second_gradient"),
                ("covariance_from_weights", "covariance_gradient"),
            ):
                difference = (moved[0][bound] - moved[1][bound]) / (2 * step * norms[side, layer])
                exact = found[gradient].sel(norm=norm, weight_layer=layer)
                np.testing.assert_allclose(exact, difference, rtol=1e-8, atol=1e-8 * float(np.abs(difference).max()))


def test_elasticities_of_the_first_layer() -> None:
    """The bound of the first derivative is the product of all norms above: elasticity 1 for each, 0 for those below."""
    found, norms = fs.derivative_bounds(NORMAL, X), fs.weight_norms(NORMAL)
    elasticity = (
        found.first_gradient.sel(norm="spectral").values
        * norms.spectral.values
        / found.first_upper.sel(norm="spectral").values[:, None]
    )
    np.testing.assert_allclose(elasticity, np.triu(np.ones((3, 3)), 1), atol=1e-14)  # fmt: skip


# --- the printed forms ---------------------------------------------------------------------------------------------------


def test_the_printed_frobenius_bound_is_false_in_the_last_layer() -> None:
    model = fs.MLP.random([3, 2], activation=[], family=fs.families.Gaussian(2), rng=0)
    printed, corrected = (fs.derivative_bounds(model, X, form=form) for form in ("printed", "corrected"))
    np.testing.assert_allclose(printed.first_ratio.sel(norm="frobenius"), [np.sqrt(0.5)], rtol=1e-12)
    np.testing.assert_allclose(corrected.first_ratio, 1, rtol=1e-12)
    assert set(printed.data_vars) == {"first_exact", "first_upper", "first_ratio"}
    assert printed.first_upper.attrs["erratum"].startswith("(20) is false as printed")
    assert "corrected" in corrected.first_upper.attrs["source"]


def test_the_printed_bounds_are_false_for_a_slope_above_one() -> None:
    """One GELU unit at its steepest point, a = sqrt(2): |sigma'| = 1.1289 > 1."""
    model = fs.MLP([[[1.0, 0.0]], [[1.0, 0.0]]], activation="gelu", family=fs.families.Gaussian())
    x = np.array([[np.sqrt(2.0)]])
    printed = fs.derivative_bounds(model, x, form="printed").first_ratio.sel(layer=0)
    np.testing.assert_allclose(printed, 1 / 1.128904145185155, rtol=1e-12)
    corrected = fs.derivative_bounds(model, x).first_ratio.sel(layer=0)
    np.testing.assert_allclose(corrected, 1, rtol=1e-12)


# --- what every result promises ------------------------------------------------------------------------------------------

CALLS = {
    "weight_norms": lambda model, x, **more: fs.weight_norms(model),
    "derivative_bounds": fs.derivative_bounds,
    "derivative_bounds printed": lambda model, x, **more: fs.derivative_bounds(model, x, form="printed", **more),
    "norm_sweep": lambda model, x, **more: fs.norm_sweep(model, x, scales=[0.5, 1.0], **more),
}


@pytest.mark.parametrize("name", CALLS)
def test_results_survive_a_file_and_repeat(name: str, tmp_path) -> None:
    result = CALLS[name](MODEL, X)
    result.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as read:
        assert read.load().identical(result)
    assert CALLS[name](MODEL, X, num_threads=1).identical(result)
    for variable in result.data_vars.values():
        assert {"long_name", "units", "symbol", "source", "assumptions", "provenance"} <= set(variable.attrs)
        assert variable.dtype == np.float64


@pytest.mark.parametrize("name", CALLS)
def test_single_precision(name: str) -> None:
    double = CALLS[name](MODEL, X)
    single = CALLS[name](MODEL.as_dtype(np.dtype(np.float32)), X.astype(np.float32))
    for key, values in double.data_vars.items():
        assert single[key].dtype == np.float32
        np.testing.assert_allclose(
            single[key], values, rtol=0, atol=2e-4 * max(1.0, float(np.nan_to_num(np.abs(values), posinf=0).max()))
        )
    assert "first_ratio" not in single or (single.first_ratio >= 1 - 1e-6).all() or name.endswith("printed")


@pytest.mark.parametrize("name", ["derivative_bounds", "norm_sweep"])
def test_kinks(name: str) -> None:
    model = fs.MLP([[[1.0, 0.0]], [[1.0, 0.0]]], activation="relu", family=fs.families.Bernoulli())
    x = np.array([[1.0], [0.0]])
    with pytest.raises(fs.AssumptionError, match="input 1, layer 0, unit 0"):
        CALLS[name](model, x)
    assert CALLS[name](model, x, on_kink="ignore").sizes["layer"] == 2
    assert np.isfinite(fs.derivative_bounds(model, x, form="printed").first_exact).all()  # no second derivative, no kink


def bounds(**words):
    return lambda: fs.derivative_bounds(MODEL, X, **words)


def sweep(**words):
    return lambda: fs.norm_sweep(MODEL, X, **({"scales": [1.0]} | words))


LAYERS = "`layers` must hold integers from 0 to 1, got "
ONCE = "`layers` must name at least one layer, each once, got "
FACTORS = "`scales` must be a list of at least one factor, got shape "


@refused(
    [
        (lambda: fs.weight_norms(X), TypeError, "`model` must be a fisherstats.MLP, got an array of shape (4, 3)"),
        (lambda: fs.derivative_bounds(MODEL, X[0]), ValueError, "`x` must be 2-D (input, feature), got shape (3,);"),
        (bounds(form="true"), ValueError, "`form` must be one of 'corrected', 'printed', got 'true'."),
        (bounds(covariance=1), ValueError, "`covariance` must be True or False, got 1."),
        (bounds(per_input=0), ValueError, "`per_input` must be True or False, got 0."),
        (bounds(n_draws=0), ValueError, "`n_draws` must be a positive integer, got 0."),
        (bounds(on_kink="skip"), ValueError, "`on_kink` must be one of 'raise', 'ignore', got 'skip'."),
        (sweep(scales=2.0), ValueError, FACTORS + "(); use [2.0] for one."),
        (sweep(scales=[]), ValueError, FACTORS + "(0,); use [2.0] for one."),
        (sweep(scales=[1.0, 0.0]), ValueError, "`scales` must be above 0, got 0.0 at index 1."),
        (sweep(scales=[1.0, np.nan]), ValueError, "`scales` must be finite, got nan at index (1,)"),
        (sweep(scales=[1, 1]), ValueError, "`scales` must not repeat a factor, got [1, 1]."),
        (sweep(layers=[2]), ValueError, LAYERS + "2."),
        (sweep(layers=[True]), ValueError, LAYERS + "True."),
        (sweep(layers="0"), ValueError, LAYERS + "'0'."),
        (sweep(layers=[]), ValueError, ONCE + "[]."),
        (sweep(layers=[1, 1]), ValueError, ONCE + "[1, 1]."),
        (sweep(by="nuclear"), ValueError, "`by` must be one of 'frobenius', 'spectral', got 'nuclear'."),
        (sweep(mode="clip"), ValueError, "`mode` must be one of 'rescale', 'project', got 'clip'."),
        (sweep(n_draws=0.5), ValueError, "`n_draws` must be a positive integer, got 0.5."),
    ]
)
def test_what_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=pattern(message)):
        call()


def test_second_derivatives_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fisherstats.core.validation.capacity.available_bytes", lambda *needed: 2000)
    with pytest.raises(fs.SizeError, match=r"`derivative_bounds` needs .* use covariance=False or fewer outputs\."):
        fs.derivative_bounds(MODEL, X)


# --- figures -----------------------------------------------------------------------------------------------------------


def test_the_figure_of_a_sweep_shows_its_numbers() -> None:
    sweep = fs.norm_sweep(NORMAL, X, scales=[2.0, 0.5])
    figure = fs.plotting.norm_sweep(sweep)
    assert len(figure.axes) == 4
    lines = figure.axes[0].lines
    np.testing.assert_array_equal(lines[0].get_xdata(), [0.5, 2.0])
    expected = sweep.sel(estimator="score", layer=0, scale=[0.5, 2.0])
    np.testing.assert_array_equal(lines[0].get_ydata(), expected.variance)
    np.testing.assert_array_equal(lines[1].get_ydata(), expected.upper)
    assert figure.axes[1].get_title("right") == "layer 2: exactly 0"
    np.testing.assert_array_equal(figure.axes[2].lines[0].get_ydata(), expected.relative_variance)
    assert "<svg" in fs.plotting.as_svg(figure)


@pytest.mark.parametrize("covariance", [False, True])
def test_the_figure_of_the_bounds_shows_the_chain(covariance: bool) -> None:
    found = fs.derivative_bounds(NORMAL, X, covariance=covariance)
    figure = fs.plotting.derivative_bounds(found)
    assert len(figure.axes) == (4 if covariance else 2)
    exact, upper = figure.axes[1].lines
    np.testing.assert_array_equal(exact.get_xdata(), found.first_exact.sel(norm="spectral"))
    np.testing.assert_array_equal(upper.get_xdata(), found.first_upper.sel(norm="spectral"))
    if covariance:
        chain = figure.axes[2].lines[1].get_xdata()
        assert list(chain) == sorted(chain)
        assert chain[-1] == found.covariance_from_weights.sel(estimator="hessian", norm="frobenius")
    assert "<svg" in fs.plotting.as_svg(figure)
