"""``result.fisher``, tables of networks for notebooks, and the figure that belongs to a result."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs

MODEL = fs.MLP.random([3, 5, 2], activation="tanh", family=fs.families.Bernoulli(2), rng=0)
MIXED = fs.MLP.random([3, 4, 4, 2], activation="tanh", family=fs.families.Poisson(2), rng=0, bias=[True, False, True])
X = np.random.default_rng(0).normal(size=(30, 3))


@pytest.mark.parametrize("model", [MODEL, MIXED], ids=["biases", "mixed"])
def test_layers_and_weights(model):
    exact, full = fs.fisher_information(model, X), fs.fisher_information(model, X, view="full")
    for number, (part, weights) in enumerate(zip(model.layer_slices(), exact.fisher.as_weights(), strict=True)):
        np.testing.assert_array_equal(exact.fisher.layer(number), exact.values[part])
        np.testing.assert_array_equal(full.fisher.layer(number), full.values[part, part])
        np.testing.assert_array_equal(weights, exact.values[part].reshape(model.weights[number].shape))
    np.testing.assert_array_equal(full.fisher.to_matrix(), full.values)
    np.testing.assert_array_equal(exact.fisher.to_matrix(), np.diag(exact.values))
    both = fs.estimate_fisher(model, X, estimator=["score", "hessian"], n_draws=2, rng=0)
    assert [one.shape for one in both.fisher.as_weights()] == [(2, *one.shape) for one in model.weights]


def test_the_summary():
    estimate = fs.estimate_fisher(MODEL, X, estimator="score", n_draws=2, rng=0)
    found = estimate.fisher.summary()
    np.testing.assert_array_equal(found.parameters, [20, 12])
    for layer, part in enumerate(MODEL.layer_slices()):
        assert float(found.mean_entry[layer]) == estimate.values[part].mean()
        ratio = estimate.standard_error.values[part] / estimate.values[part]
        np.testing.assert_allclose(found.median_relative_error[layer], np.median(ratio))
    assert "median_relative_error" not in fs.fisher_information(MODEL, X).fisher.summary()


def test_what_is_not_over_the_parameters_is_refused():
    exact = fs.fisher_information(MODEL, X)
    with pytest.raises(ValueError, match=r"`\.fisher` is for results over the parameters"):
        xr.DataArray(np.ones(3), dims="param").fisher.summary()
    with pytest.raises(ValueError, match="`number` must be one of the layers"):
        exact.fisher.layer(2)
    with pytest.raises(ValueError, match="`as_weights` is for one number per parameter"):
        fs.fisher_information(MODEL, X, view="full").fisher.as_weights()
    with pytest.raises(ValueError, match=r"choose one with `\.isel\(input=0\)`"):
        fs.fisher_information(MODEL, X, per_input=True).fisher.summary()


def test_tables_of_networks():
    table = MIXED._repr_html_()
    assert table.count("<tr>") == 4
    assert "Poisson(n_outputs=2)" in table
    assert "<td>no</td>" in table
    network = fs.ExternalNetwork(lambda x: None, family=fs.families.Poisson(), layers=[fs.Layer("<b>", (1, 2), factored=True)])
    assert "&lt;b&gt;" in network._repr_html_()


def test_the_figure_of_a_result():
    pytest.importorskip("matplotlib")
    exact = fs.fisher_information(MODEL, X)
    estimate = fs.estimate_fisher(MODEL, X, estimator="score", n_draws=2, rng=0)
    for result, labels in (
        (exact, ["exact Fisher information of a parameter"]),
        (estimate, ["estimated Fisher information of a parameter", "standard error over the estimate"]),
    ):
        assert [axes.get_xlabel() for axes in fs.plot(result).axes] == labels
    assert len(fs.plot(fs.variance_bounds(MODEL, X)).axes) >= 1
    assert len(fs.plot(fs.learning_zone(MODEL, X)).axes) >= 1
    assert fs.plot(exact)._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(TypeError, match="`result` must be a DataArray or a Dataset"):
        fs.plot(np.ones(3))
    with pytest.raises(ValueError, match=r"`result` must be one of those that .*`information_by_layer`"):
        fs.plot(fs.kfac_error(MODEL, X))


def test_a_fault_of_the_drawing_is_not_taken_for_another_kind_of_result(monkeypatch):
    pytest.importorskip("matplotlib")

    def broken(*_):
        raise ValueError("a fault inside the drawing")

    monkeypatch.setattr("fisherstats.plotting.estimates.boxes", broken)
    estimate = fs.estimate_fisher(MODEL, X, estimator="score", n_draws=2, rng=0)
    with pytest.raises(ValueError, match="a fault inside the drawing"):
        fs.plot(estimate)
