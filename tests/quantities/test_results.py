"""Every result is finite, or says by its schema what inf and nan mean; what is not is refused by name."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.core.schema import VARIABLES
from fisherstats.core.schema.values import INFINITE, UNDEFINED
from fisherstats.quantities import _labels
from tests.refusals import pattern, refused

ap = fs.applications
MODEL = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)
RELU = fs.MLP.random([3, 4, 2], activation="relu", family=fs.families.Categorical(2), rng=0)
LINEAR = fs.MLP.random([3, 1], activation=[], family=fs.families.Gaussian(), rng=0)
X = np.random.default_rng(0).normal(size=(30, 3))
Y = X.sum(axis=1)


def test_the_schema_says_where_inf_and_nan_are_values():
    assert INFINITE.keys() <= VARIABLES.keys()
    assert UNDEFINED.keys() <= VARIABLES.keys()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("build", ["array", "companion", "dataset"])
def test_no_builder_lets_a_number_out_that_means_nothing(build, dtype, bad):
    good, wrong = np.ones(3, dtype), np.array([1, bad, 1], dtype)
    coords = {"param": ("param", np.arange(3), {})}
    calls = {
        "array": lambda: _labels.array("information", ["param"], wrong, coords, {}),
        "companion": lambda: _labels.array("information", ["param"], good, coords, {}, [("standard_error", ["param"], wrong)]),
        "dataset": lambda: _labels.dataset([("information", ["param"], good), ("variance", ["param"], wrong)], coords, {}),
    }
    with pytest.raises(ValueError, match=r"^`\w+` of the result must be finite, got .+ at index \(1,\): "):
        calls[build]()
    assert np.isnan(_labels.array("relative_error", ["param"], np.array([1, np.nan, 1]), coords, {})).sum() == 1
    assert np.isinf(_labels.array("ratio", ["param"], np.array([1, np.inf, 1]), coords, {})).sum() == 1


def test_large_numbers_whose_sum_overflows_are_finite():
    coords = {"param": ("param", np.arange(3), {})}
    assert np.array_equal(_labels.array("information", ["param"], np.full(3, 1e308), coords, {}), np.full(3, 1e308))


OVERFLOW = "`x` must give results within the range of "
RESULT = "`{}` of the result must be finite"


@pytest.mark.filterwarnings("error")
@refused(
    [
        (lambda: ap.cramer_rao_bound(LINEAR, X, directions=np.full(4, 1e200)), ValueError, OVERFLOW),
        (lambda: ap.cramer_rao_bound(LINEAR, X * 1e-10, dispersion=1e300), ValueError, OVERFLOW),
        (
            lambda: fs.pullback(np.eye(2) * 1e300, np.eye(2) * 1e200),
            ValueError,
            "`metric` and `jacobian` must give a metric",
        ),
        (lambda: fs.norm_sweep(MODEL, X, scales=[1e200]), ValueError, RESULT.format("frobenius")),
        (
            lambda: fs.plan_draws(MODEL, X, target_cv=0.1, design="random", cost_input=1e308, cost_draw=1e-308),
            ValueError,
            "`cost_input` and `cost_draw` must be within a factor of 1e200 of each other, got 1e+308 and 1e-308.",
        ),
        (
            lambda: ap.asymptotic_covariance(LINEAR, X, Y, dispersion=1e-308),
            ValueError,
            "`x` must give results within the range of float64, but the variance underflows at parameter 0",
        ),
        (
            lambda: fs.confidence_intervals(MODEL, X, estimator="score", n_draws=3, rng=0, level=1 - 1e-16),
            ValueError,
            "`level` must be below 1 by more than rounding, got 0.9999999999999999; the interval would be infinite.",
        ),
        (
            lambda: ap.parameter_intervals(LINEAR, X, Y, level=1 - 1e-16),
            ValueError,
            "`level` must be below 1 by more than rounding",
        ),
        (
            lambda: fs.families.Gaussian(covariance=1e308),
            ValueError,
            "`covariance` must have a variance from 1e-150 to 1e+150",
        ),
        (lambda: fs.families.Gaussian(2, covariance=[1, 1e-200]), ValueError, "`covariance` must have variances from 1e-150 to "),
        (
            lambda: ap.pruning_scores(fs.MLP([w * 1e160 for w in LINEAR.weights], activation=[], family=LINEAR.family), X),
            ValueError,
            RESULT.format("score"),
        ),
        (
            lambda: fs.weight_norms(fs.MLP([w * 1e160 for w in MODEL.weights], activation="tanh", family=MODEL.family)),
            ValueError,
            RESULT.format("frobenius"),
        ),
    ]
)
def test_arguments_that_lead_past_the_range(call, error, message):
    with pytest.raises(error, match=pattern(message).replace(r"\.\+", ".+")):
        call()


OF_X = {
    name: getattr(fs, name)
    for name in (
        "fisher_information",
        "estimator_variance",
        "variance_bounds",
        "covariance_norms",
        "covariance_bounds",
        "trace_bounds",
        "input_variance_bounds",
        "information_envelopes",
        "relative_fisher",
        "learning_zone",
        "derivative_bounds",
        "family_extremes",
        "kfac_error",
        "layer_errors",
        "output_information",
    )
} | {
    "off_diagonal_bounds": lambda model, x: fs.off_diagonal_bounds(model, x, pairs=[(0, 1), (2, 3)]),
    "efron_curvature": lambda model, x: fs.efron_curvature(model, x, np.ones(model.n_params)),
    "amari_chentsov": lambda model, x: fs.amari_chentsov(model, x, np.ones(model.n_params)),
    "information_volume": lambda model, x: ap.information_volume(model, x, tau=1.0),
    "fisher_rao_norm": ap.fisher_rao_norm,
    "expected_gradient_length": ap.expected_gradient_length,
}


def numbers(result):
    nodes = [one.to_dataset() for one in result.subtree] if isinstance(result, xr.DataTree) else [result]
    for node in nodes:
        yield from [node] if isinstance(node, xr.DataArray) else node.data_vars.values()


@pytest.mark.parametrize("scale", [1e80, 1e160, 1e300, 1e-160, 1e-300])
@pytest.mark.parametrize("model", [MODEL, RELU, LINEAR], ids=["tanh", "relu", "linear"])
@pytest.mark.parametrize("name", OF_X)
def test_any_scale_of_the_inputs_gives_numbers_or_the_usual_refusal(name, model, scale):
    symbols = {VARIABLES[key].long_name for key in INFINITE} | {VARIABLES[key].long_name for key in UNDEFINED}
    refusal: Exception | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = OF_X[name](model, X[:7] * scale)
        except ValueError as error:
            refusal = error
    if refusal is not None:
        assert type(refusal) in (ValueError, fs.AssumptionError)  # not one of numpy's
        assert any(words in str(refusal) for words in ("range of", "too large", "categorical family")), str(refusal)
        return
    for one in numbers(result):
        assert one.dtype.kind != "f" or np.isfinite(one.values).all() or one.attrs["long_name"] in symbols


def test_numbers_of_numpy_are_recorded_as_python_s_own():
    mine, plain = (ap.asymptotic_covariance(LINEAR, X, Y, robust=robust) for robust in (np.True_, True))
    assert mine.identical(plain)


def test_a_word_that_is_not_used_is_read():
    with pytest.raises(ValueError, match=pattern("`on_kink` must be one of 'raise', 'ignore', got 'ingore'.")):
        ap.importance(MODEL, X, on_kink="ingore")


@pytest.mark.parametrize("make", [lambda: np.random.Generator(np.random.Philox(key=5)), lambda: np.random.default_rng(1)])
def test_a_refused_call_leaves_the_generator_as_it_was(make):
    asked, untouched = make(), make()
    with pytest.raises(ValueError, match="n_draws"):
        ap.importance(MODEL, X, information="score", n_draws=-1, rng=asked)
    with pytest.raises(ValueError, match="activation"):
        fs.MLP.random([3, 2], activation="nope", family=MODEL.family, rng=asked)
    first, second = (fs.estimate_fisher(MODEL, X, estimator="score", n_draws=3, rng=rng) for rng in (asked, untouched))
    assert first.identical(second)
    assert not np.array_equal(first, fs.estimate_fisher(MODEL, X, estimator="score", n_draws=3, rng=asked))
