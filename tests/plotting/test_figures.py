"""Every figure takes its own result only: another one, or one that is damaged, is drawn rightly or refused by name."""

from __future__ import annotations

import functools
import inspect
import itertools
import re

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from tests.device.calls import CALLS
from tests.refusals import pattern

pytest.importorskip("matplotlib")
plotting = fs.plotting
MODEL = fs.MLP.random([3, 3, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)
X = np.random.default_rng(0).normal(size=(12, 3))
RNG = np.random.default_rng(1)
PAIR = ["score", "hessian"]


def record(names, attrs=None, **coords):
    shape = tuple(len(entries) for entries in coords.values())
    return xr.Dataset({name: (tuple(coords), RNG.uniform(0.5, 1.0, shape)) for name in names}, coords=coords, attrs=attrs)


def layers_of_a_study():
    coords = {"estimator": PAIR, "n_draws": [1, 10, 100], "layer": [0, 1]}
    errors = record(["standard_error", "observed_standard_error"], {"target_standard_error": 0.05}, **coords)
    information = record(["information"], layer=[0, 1])
    return errors.merge(information).assign(expected_ratio=("side", [0.8, 1.2]))


def history_of_a_training():
    errors = record(["variance", "lower", "upper"], epoch=[0, 1, 2], estimator=PAIR, layer=[0, 1])
    return errors.merge(record(["information"], epoch=[0, 1, 2], layer=[0, 1]))


def path_of_a_penalty():
    errors = record(["variance", "upper", "relative_error"], strength=[0.0, 1.0, np.inf], estimator=PAIR, layer=[0, 1])
    return errors.merge(record(["accuracy", "validation_accuracy"], strength=[0.0, 1.0, np.inf]))


def relative_error():
    return np.sqrt(fs.estimator_variance(MODEL, X)["variance"]) / fs.fisher_information(MODEL, X)


GOOD = {
    "bound_tightness": lambda: fs.variance_bounds(MODEL, X),
    "derivative_bounds": lambda: fs.derivative_bounds(MODEL, X, covariance=True),
    "efficiency": lambda: record(
        ["efficiency", "standard_error", "expected_efficiency"], model=["a", "b"], gradient=["natural", "plain"], step=[1, 2, 4]
    ),
    "forgetting": lambda: record(["accuracy"], importance=["exact", "score"], strength=[0.0, 1.0], replicate=[0, 1], task=[0, 1]),
    "estimate_by_layer": lambda: fs.estimate_fisher(MODEL, X, estimator="score", n_draws=2, rng=0),
    "information_by_layer": lambda: fs.fisher_information(MODEL, X),
    "learning_curves": lambda: record(["accuracy"], strategy=["norm", "random"], replicate=[0, 1, 2], labels=[10, 20]),
    "learning_zone": lambda: fs.learning_zone(MODEL, X),
    "norm_sweep": lambda: fs.norm_sweep(MODEL, X, scales=[0.5, 1.0]),
    "regularization_path": path_of_a_penalty,
    "relative_error_by_layer": relative_error,
    "second_moments": lambda: record(["ratio", "correlation"], epoch=[1, 2], layer=[0, 1], diagonal=["exact", "empirical"]),
    "standard_error_by_draws": layers_of_a_study,
    "training_errors": history_of_a_training,
}
OWN = {
    "bound_tightness": {"variance_bounds"},
    "estimate_by_layer": {
        "applications.importance of a sample",
        "estimate_fisher hessian diagonal",
        "estimate_fisher probes",
        "estimate_fisher score diagonal",
    },
    "information_by_layer": {"fisher_information diagonal", "applications.importance", "applications.importance of a sample"},
    "learning_zone": {"learning_zone"},
    "norm_sweep": {"norm_sweep"},
    "derivative_bounds": {"derivative_bounds", "derivative_bounds printed"},
    "regularization_path": {"regularization_path"},
}
"""The calls of the table of all calls whose results a figure draws; all others are refused."""


@functools.cache
def good(name):
    """A figure changes nothing of what it is given, so one result will do for all tests."""
    return GOOD[name]()


@pytest.fixture(scope="module")
def results():
    found = {}
    for name, call in CALLS.items():
        try:
            found[name] = call(MODEL, X, None)
        except (ValueError, fs.AssumptionError):  # made for another network
            continue
    return found


def outcome(name, given):
    """Return whether it was drawn; a refusal has to name the argument and say what made it necessary."""
    draw = getattr(plotting, name)
    (argument,) = inspect.signature(draw).parameters
    message = None
    try:
        figure = draw(given)
    except (TypeError, ValueError) as error:
        message = str(error)
    if message is None:
        assert figure.axes
        return True
    assert re.match(rf"`{argument}(\.attrs\[.*\])?` must be ", message), (name, message)
    assert "got " in message
    return False


def test_every_figure_is_here():
    assert set(GOOD) | {"as_svg", "plot"} == set(plotting.__all__)


@pytest.mark.parametrize("name", GOOD)
def test_no_other_result_is_drawn(name, results):
    drawn = {kind for kind, result in results.items() if outcome(name, result)}
    assert drawn <= OWN.get(name, set())


@pytest.mark.parametrize("name", GOOD)
def test_no_figure_takes_the_result_of_another(name):
    before = {other: good(other).copy(deep=True) for other in GOOD}
    for other, given in before.items():
        assert outcome(name, given) == (other == name)
        assert given.identical(good(other))


ODD = [
    None,
    3,
    "x",
    [1.0],
    {},
    np.ones(3),
    xr.Dataset(),
    xr.DataArray(1.0),
    xr.DataTree(),
    xr.Variable("param", [1.0]),
    MODEL,
    fs,
]


@pytest.mark.parametrize("name", [*GOOD, "as_svg"])
def test_odd_objects_are_refused(name):
    for given in [*ODD, xr.Dataset.mean, getattr(plotting, name)]:
        assert not outcome(name, given)


@pytest.mark.parametrize("name", GOOD)
def test_keywords_and_settings(name):
    draw = getattr(plotting, name)
    (argument,) = inspect.signature(draw).parameters
    assert "<svg" in plotting.as_svg(draw(**{argument: good(name)}))
    with pytest.raises(TypeError):
        draw()


def damaged(good):
    """Yield the result with something wrong, or only unusual, in one place."""
    yield good.transpose(*reversed([*good.dims]))
    yield good.astype("float32")
    yield good.astype(complex)
    yield good.astype(object)
    yield good.astype(str)
    yield good.to_dataset(name="other") if isinstance(good, xr.DataArray) else xr.DataTree(good)
    yield good.expand_dims(replicate=[0]) if "replicate" not in good.dims else good.expand_dims(fold=[0])
    yield good.drop_attrs()
    if isinstance(good, xr.Dataset):
        for variable in good.data_vars:
            yield good.drop_vars(variable)
            yield good[variable]
    for coordinate in good.coords:
        yield good.drop_vars(coordinate)
    for dim in good.dims:
        yield good.isel({dim: 0})
        yield good.isel({dim: [0]})
        yield good.isel({dim: slice(0)})
        yield good.isel({dim: [0, 0]})
        yield good.isel({dim: slice(None, None, -1)})
        yield good.rename({dim: "elsewhere"})
        for entries in (np.nan, "?", -1, 0.5, 0):
            yield good.assign_coords({dim: np.full(good.sizes[dim], entries)})
    for layers in ("param_layer", "unit_layer"):
        if layers in good.coords:
            for entries in (np.nan, "?", -1, 0.5, 7, 10**12):
                yield good.assign_coords({layers: (good.coords[layers].dims, np.full(good.coords[layers].size, entries))})


@pytest.mark.parametrize("name", GOOD)
def test_damaged_results_are_drawn_or_refused(name):
    """Every fourth of them, from another start for every figure: each kind of damage is tried on three figures or more."""
    for given in itertools.islice(damaged(good(name)), [*GOOD].index(name) % 4, None, 4):
        outcome(name, given)


@pytest.mark.validation
@pytest.mark.parametrize("name", GOOD)
def test_all_damaged_results_are_drawn_or_refused(name):
    for given in damaged(good(name)):
        outcome(name, given)


def test_lazy_results_are_drawn():
    assert outcome("bound_tightness", fs.variance_bounds(MODEL, X).chunk(param=3))


@pytest.mark.parametrize(
    ("name", "given", "error", "message"),
    [
        (
            "information_by_layer",
            lambda: fs.fisher_information(MODEL, X, view="full"),
            ValueError,
            "`information` must be the diagonal that `fisherstats.fisher_information` returns, with `information` (param), the "
            "coordinate `param_layer` (param), got `information` (param, param2); a full matrix was given; compute its diagonal "
            "with `view='diagonal'`.",
        ),
        (
            "information_by_layer",
            lambda: fs.estimate_fisher(MODEL, X, estimator="score", n_draws=2, rng=0),
            ValueError,
            "`information` must be the diagonal .+, got a DataArray `information` (param), the score estimate of the Fisher",
        ),
        (
            "bound_tightness",
            lambda: fs.variance_bounds(MODEL, X, per_input=True),
            ValueError,
            "`bounds` must be the result of `fisherstats.variance_bounds`, .+; the figure shows the mean over inputs",
        ),
        (
            "bound_tightness",
            lambda: fs.fisher_information(MODEL, X),
            TypeError,
            "`bounds` must be the result of `fisherstats.variance_bounds`, with `exact` (estimator, param), .+, got a DataArray "
            "`information` (param).",
        ),
        (
            "relative_error_by_layer",
            lambda: fs.estimator_variance(MODEL, X, estimators=["hutchinson_gaussian"])["variance"].rename("relative_error"),
            ValueError,
            "`relative_error` must be .+ got `estimator` ['hutchinson_gaussian']; choose from `score`, `hessian` with",
        ),
        (
            "standard_error_by_draws",
            lambda: fs.learning_zone(MODEL, X),
            ValueError,
            "`layers` must be the group `layers` of a study, .+ got a Dataset with `coefficient`",
        ),
        ("as_svg", lambda: "x", TypeError, "`figure` must be a matplotlib Figure, .+ got 'x'."),
    ],
)
def test_the_words(name, given, error, message):
    with pytest.raises(error, match=pattern(message)):
        getattr(plotting, name)(given())


def test_a_layer_keeps_its_number_when_it_is_drawn_alone():
    information = fs.fisher_information(MODEL, X)
    second = information.isel(param=(information.param_layer == 1).values)
    (panel,) = plotting.information_by_layer(second).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["layer 1"]
    (panel,) = plotting.learning_zone(
        fs.learning_zone(MODEL, X).pipe(lambda zone: zone.isel(unit=zone.unit_layer.values == 1))
    ).axes
    assert panel.get_title(loc="left").startswith("layer 1")


def test_the_order_of_dims_changes_nothing():
    zone = fs.learning_zone(MODEL, X)
    turned = zone.assign(coefficient=zone.coefficient.T)
    assert plotting.as_svg(plotting.learning_zone(turned)) == plotting.as_svg(plotting.learning_zone(zone))
