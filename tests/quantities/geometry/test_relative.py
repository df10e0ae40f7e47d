"""Relative information and learning zones as results: labels, precision, sizes, refusals, figures."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.models.activations import SmoothedReLU
from tests.refusals import pattern, refused

MODEL = fs.MLP.random([3, 4, 5, 2], activation=["tanh", "relu"], family=fs.families.Categorical(2), rng=0)
X = np.random.default_rng(0).normal(size=(6, 3))


def layers(tree: xr.DataTree) -> list[xr.DataArray]:
    return [tree[f"layer_{layer}"]["metric"] for layer in range(len(tree.children))]


# --- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_input", [False, True])
def test_dims_and_coordinates(per_input: bool) -> None:
    first = ("input",) if per_input else ()
    for layer, metric in enumerate(layers(fs.relative_fisher(MODEL, X, per_input=per_input))):
        assert metric.dims == (*first, "unit", "feature", "feature2")
        assert list(metric.feature.values) == list(metric.feature2.values) == [*range(MODEL.widths[layer]), -1]
        assert metric.sizes["unit"] == MODEL.widths[layer + 1]
        assert "Sun & Nielsen" in metric.attrs["source"]
    whole = fs.fisher_information(MODEL, X, view="full")
    for layer, metric in enumerate(layers(fs.relative_fisher(MODEL, X, subsystem="layer", per_input=per_input))):
        assert metric.dims == (*first, "param", "param2")
        own = whole.param.values[whole.param_layer == layer]
        np.testing.assert_array_equal(metric.param, own)
        np.testing.assert_array_equal(metric.param2, own)


def test_the_mean_is_the_mean_over_inputs_and_the_inputs_keep_their_labels() -> None:
    labelled = xr.DataArray(X, dims=("input", "feature"), coords={"input": list("abcdef")})
    for subsystem in ("neuron", "layer", "two_layers", "system"):
        single = layers(fs.relative_fisher(MODEL, labelled, subsystem=subsystem, per_input=True))
        for mean, one in zip(layers(fs.relative_fisher(MODEL, X, subsystem=subsystem)), single, strict=True):
            assert list(one.input.values) == list("abcdef")
            np.testing.assert_allclose(mean, one.mean("input"), rtol=1e-12, atol=1e-16)
    assert list(fs.learning_zone(MODEL, labelled).input.values) == list("abcdef")


# --- many inputs, wide layers ------------------------------------------------------------------------------------------


def test_wide_layers_and_many_inputs_by_index_loops() -> None:
    rng = np.random.default_rng(1)
    model = fs.MLP.random([70, 3, 2], activation="sigmoid", family=fs.families.Poisson(2), rng=2)
    x = rng.normal(size=(2300, 70))
    zone = fs.learning_zone(model, x)
    first = fs.relative_fisher(model, x)["layer_0"].metric
    h_bar = np.column_stack([x, np.ones(len(x))])
    slopes = model.activations[0].first(h_bar @ model.weights[0].T)
    for unit in range(3):
        expected = (h_bar * slopes[:, unit, None]).T @ h_bar / len(x)
        np.testing.assert_allclose(first[unit], expected, rtol=1e-10, atol=1e-15)
        np.testing.assert_allclose(zone.coefficient[:, unit], slopes[:, unit], rtol=1e-13)
    np.testing.assert_array_equal(first, first.transpose("unit", "feature2", "feature"))


def test_float32_is_kept_and_close() -> None:
    single = MODEL.as_dtype(np.dtype(np.float32))
    x = X.astype(np.float32)
    for subsystem in ("neuron", "layer", "two_layers"):
        for per_input in (False, True):
            words = {"subsystem": subsystem, "per_input": per_input}
            for rough, fine in zip(
                layers(fs.relative_fisher(single, x, **words)), layers(fs.relative_fisher(MODEL, X, **words)), strict=True
            ):
                assert rough.dtype == np.float32
                np.testing.assert_allclose(rough, fine, rtol=1e-4, atol=1e-6)
    zone = fs.learning_zone(single, x)
    assert {array.dtype for array in zone.data_vars.values()} == {np.dtype(np.float32)}
    metric = fs.subsystem_metric(list(single.weights[:1]), x, activation="tanh")
    assert metric.dtype == np.float32


# --- learning zones ----------------------------------------------------------------------------------------------------


def test_the_zone_is_the_metric_of_the_bias() -> None:
    zone = fs.learning_zone(MODEL, X, variance=0.5)
    metrics = layers(fs.relative_fisher(MODEL, X, variance=0.5, per_input=True))
    for layer, metric in enumerate(metrics):
        own = zone.isel(unit=zone.unit_layer.values == layer)
        np.testing.assert_allclose(own.coefficient, metric.sel(feature=-1, feature2=-1), rtol=1e-13)
    hidden = zone.isel(unit=zone.unit_layer.values < 2)
    assert (hidden.coefficient <= hidden.largest).all()
    assert np.isnan(zone.largest.values[-2:]).all()
    assert set(hidden.largest.values) == {1.0, 2.0}
    assert (hidden.coefficient.values[:, 4:] == np.where(hidden.pre_activation.values[:, 4:] > 0, 2.0, 0.0)).all()


def test_a_binary_unit_learns_most_at_zero() -> None:
    weights = [[[1.0, 0.0], [10.0, 0.0]], [[1.0, 1.0, 0.0]]]
    x = np.array([[0.0], [1.0], [-1.0]])
    for word, largest in (("tanh", 1.0), ("sigmoid", 0.25)):
        zone = fs.learning_zone(fs.MLP(weights, activation=word, family=fs.families.Bernoulli()), x)
        np.testing.assert_array_equal(zone.coefficient[0, :2], [largest, largest])
        np.testing.assert_array_equal(zone.largest[:2], [largest, largest])
        assert (zone.coefficient[1:, 1] < 1e-3 * zone.coefficient[1:, 0]).all()


def test_a_smoothed_rectifier_learns_more_and_more_like_a_rectifier() -> None:
    x = np.linspace(-2, 2, 9)[:, None]
    sharp = fs.subsystem_metric([[[1.0, 0.01]]], x, activation="relu", per_input=True)
    gaps = [
        float(np.abs(fs.subsystem_metric([[[1.0, 0.01]]], x, activation=SmoothedReLU(0, omega), per_input=True) - sharp).max())
        for omega in (1.0, 0.1, 0.001)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-4


def test_the_figure_shows_every_layer() -> None:
    zone = fs.learning_zone(MODEL, X)
    figure = fs.plotting.learning_zone(zone)
    assert len(figure.axes) == 3
    for layer, panel in enumerate(figure.axes):
        own = zone.isel(unit=zone.unit_layer.values == layer)
        order = np.argsort(own.pre_activation.values.ravel())
        np.testing.assert_array_equal(panel.lines[0].get_xdata(), own.pre_activation.values.ravel()[order])
        np.testing.assert_array_equal(panel.lines[0].get_ydata(), own.coefficient.values.ravel()[order])
        assert panel.get_title(loc="left").startswith(f"layer {layer}: mean {float(own.coefficient.mean()):.3g}")
        assert ("of the largest" in panel.get_title(loc="left")) == (layer < 2)
    assert "<svg" in fs.plotting.as_svg(figure)


def test_the_figure_of_many_points_is_thinned_and_that_of_dead_units_is_drawn() -> None:
    many = np.random.default_rng(3).normal(size=(2000, 3))
    figure = fs.plotting.learning_zone(fs.learning_zone(MODEL, many))
    assert all(1000 < len(panel.lines[0].get_xdata()) <= 4000 for panel in figure.axes)
    dead = fs.MLP([[[1.0, -9.0]], [[1.0, 0.0]]], activation="relu", family=fs.families.Gaussian())
    panel = fs.plotting.learning_zone(fs.learning_zone(dead, [[0.0]])).axes[0]
    assert panel.get_title(loc="left") == "layer 0: mean 0, 0 % of the largest"


# --- refusals ----------------------------------------------------------------------------------------------------------


def relative(**words):
    return lambda: fs.relative_fisher(MODEL, X, **words)


def alone(activation, weights=MODEL.weights[:2], **words):
    return lambda: fs.subsystem_metric(list(weights), X, activation=activation, **words)


SUBSYSTEM = "`subsystem` must be one of 'neuron', 'layer', 'two_layers', 'system', got "
RESPONSE = "`response` must be one of 'paper', 'gaussian', got "
METRIC = "`metric` must be a square matrix, or several of them, (..., m, m), got shape "
JACOBIAN = (
    "`jacobian` must have shape (..., 2, k), a row for each of the 2 coordinates of the metric and a column for each new one, "
    "got shape "
)


@refused(
    [
        (relative(subsystem="layers"), ValueError, SUBSYSTEM + "'layers'. Did you mean 'layer'?"),
        (relative(response="normal"), ValueError, RESPONSE + "'normal'."),
        (relative(variance=0), ValueError, "`variance` must be a finite number above 0, got 0."),
        (relative(per_input=1), ValueError, "`per_input` must be True or False, got 1."),
        (lambda: fs.learning_zone(MODEL, X, response="binary"), ValueError, RESPONSE + "'binary'."),
        (lambda: fs.learning_zone(MODEL, X[0]), ValueError, "`x` must be 2-D (input, feature), got shape (3,); use x[None, :]"),
        (
            alone(["tanh"]),
            ValueError,
            "`activation` must name one activation for each of the 2 matrices in `weights`, got 1; a single name applies to all",
        ),
        (
            alone("softmax"),
            ValueError,
            "`activation` must have 'softmax' in its last place only, got 'softmax'; give a list with one activation per matrix.",
        ),
        (
            alone(["tanh", "softmax"], weights=[np.ones((2, 3)), np.ones((1, 3))]),
            ValueError,
            "`weights` must end in a matrix of at least 2 rows with the activation 'softmax', got 1; with one class nothing",
        ),
        (alone("tahn"), ValueError, "`activation` must be one of .*, got 'tahn'. Did you mean 'tanh'?"),
        (alone("tanh", weights=MODEL.weights[0]), ValueError, "`weights[0]` must be a matrix of shape (n_out, n_in + 1)"),
        (lambda: fs.pullback(np.ones(3), np.eye(3)), ValueError, METRIC + "(3,)."),
        (lambda: fs.pullback(np.ones((2, 3)), np.eye(3)), ValueError, METRIC + "(2, 3)."),
        (lambda: fs.pullback(np.eye(2), np.eye(3)), ValueError, JACOBIAN + "(3, 3)."),
        (lambda: fs.pullback(np.eye(2), [1.0, 2.0]), ValueError, JACOBIAN + "(2,)."),
        (
            lambda: fs.pullback(np.ones((3, 2, 2)), np.ones((4, 2, 2))),
            ValueError,
            "`jacobian` must be one matrix, or one for each of the (3,) matrices of `metric`, got shape (4, 2, 2).",
        ),
        (
            lambda: fs.pullback([[1.0, 0.5], [0.0, 1.0]], np.eye(2)),
            ValueError,
            "`metric` must be symmetric, got entries that differ by 0.5 from their mirror images.",
        ),
        (lambda: fs.pullback(np.eye(2), [[np.nan], [1.0]]), ValueError, "`jacobian` must be finite, got nan at index (0, 0)"),
    ]
)
def test_what_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=pattern(message)):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (relative(), r"`relative_fisher` needs 2,088 bytes .* use layers with fewer units or inputs\."),
        (relative(per_input=True), r"`relative_fisher` with `per_input=True` needs 12,528 bytes .* use per_input=False"),
        (relative(subsystem="layer"), r"`subsystem='layer'` needs 8,200 bytes .* use subsystem='neuron'"),
        (alone("tanh"), r"`subsystem_metric` needs 2,048 bytes .* use per_input=False"),
        (lambda: fs.learning_zone(MODEL, X), r"`learning_zone` needs 1,056 bytes .* use fewer inputs\."),
    ],
)
def test_what_does_not_fit_is_refused_with_its_bytes(call, message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fisherstats.core.validation.capacity.available_bytes", lambda *needed: 500)
    with pytest.raises(fs.SizeError, match=message):
        call()
