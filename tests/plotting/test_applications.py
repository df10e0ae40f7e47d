"""The figures of the uses: what they show, and what they leave out."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)


def accuracies(**sizes):
    values = 0.5 + 0.1 * RNG.random(tuple(sizes.values()))
    coords = {name: np.arange(size) for name, size in sizes.items()}
    return xr.Dataset({"accuracy": (tuple(sizes), values)}, coords=coords)


def test_forgetting_starts_at_fine_tuning_and_leaves_out_what_diverged():
    result = accuracies(importance=2, strength=4, replicate=3, task=3)
    result = result.assign_coords(importance=["exact", "score"], strength=[0.0, 1.0, 10.0, 100.0])
    result.accuracy[:, 0] = result.accuracy[0, 0].values
    result.accuracy[1, 3, 0] = np.nan
    figure = fs.plotting.forgetting(result)
    (panel,) = figure.axes
    cross = next(line for line in panel.lines if line.get_marker() == "x")
    at_zero = result.accuracy[0, 0]
    np.testing.assert_allclose(cross.get_xdata(), at_zero[:, -1].mean())
    np.testing.assert_allclose(cross.get_ydata(), at_zero[:, :-1].mean())
    exact, score = (container.lines[0].get_xdata() for container in panel.containers)
    np.testing.assert_allclose(exact, result.accuracy[0, :, :, -1].mean("replicate"))
    assert np.isnan(score).tolist() == [False, False, False, True]
    assert "<svg" in fs.plotting.as_svg(figure)


def test_learning_curves_are_means_with_their_standard_errors():
    curves = accuracies(strategy=2, replicate=5, labels=4).assign_coords(strategy=["norm", "random"])
    (panel,) = fs.plotting.learning_curves(curves).axes
    for name, container in zip(("norm", "random"), panel.containers, strict=True):
        one = 100 * curves.accuracy.sel(strategy=name)
        np.testing.assert_allclose(container.lines[0].get_ydata(), one.mean("replicate"))
        (bars,) = container.lines[2]
        lengths = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        np.testing.assert_allclose(lengths, 2 * one.std("replicate", ddof=1) / np.sqrt(5))


def test_efficiency_has_a_panel_per_model_and_a_line_at_the_least():
    sizes = {"model": 2, "gradient": 2, "step": 3}
    values = 1 + RNG.random((2, 2, 3))
    coords = {"model": ["a", "b"], "gradient": ["natural", "plain"], "step": [1, 2, 4]}
    names = ("efficiency", "standard_error", "expected_efficiency")
    result = xr.Dataset({name: (tuple(sizes), values) for name in names}, coords=coords)
    figure = fs.plotting.efficiency(result)
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["a", "b"]
    for panel in figure.axes:
        assert any(np.all(np.asarray(line.get_ydata()) == 1) for line in panel.lines)
        assert len(panel.containers) == 2


def test_second_moments_show_both_measures_of_every_diagonal():
    dims = ("epoch", "layer", "diagonal")
    values = 0.1 + RNG.random((4, 2, 3))
    coords = {"epoch": [1, 2, 3, 4], "layer": [0, 1], "diagonal": ["exact", "empirical", "predicted"]}
    history = xr.Dataset({"ratio": (dims, values), "correlation": (dims, -values)}, coords=coords)
    figure = fs.plotting.second_moments(history)
    assert len(figure.axes) == 6
    below = figure.axes[1]
    assert below.get_ylim()[0] < -values.max()
    np.testing.assert_array_equal(below.lines[1].get_ydata(), -values[:, 1, 0])
