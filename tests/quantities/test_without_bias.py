"""Quantities of networks with layers without bias: the entries of the same network with biases of 0, and no others."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

import fisherstats as fs
from tests.without_bias import CASES, Pair

F = fs.families
ENGINES = ("numpy", "numba")
VIEWS = ("diagonal", "block", "full", "kfac")
KINKS = {"on_kink": "ignore"}


@pytest.fixture(params=CASES)
def pair(request) -> Pair:
    return Pair.named(request.param)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("view", VIEWS)
def test_information(pair, view, engine):
    for per_input in (False, True):
        pair.agree(*(fs.fisher_information(one, pair.x, view=view, engine=engine, per_input=per_input) for one in both(pair)))


@pytest.mark.parametrize("view", VIEWS)
def test_the_information_of_batches_chunks_and_stores(pair, view, tmp_path):
    expected = fs.fisher_information(pair.bare, pair.x, view=view)
    chunked = fs.fisher_information(pair.bare, da.from_array(pair.x, chunks=(4, -1)), view=view)
    listed = fs.fisher_information(pair.bare, np.asfortranarray(pair.x), view=view)
    for found in (chunked, listed):
        same_bits(found, expected)
    with pytest.raises(ValueError, match="`x`"):
        fs.fisher_information(pair.bare, np.column_stack([pair.x, np.ones(len(pair.x))]), view=view)
    if view in ("block", "full"):
        stored = fs.fisher_information(pair.bare, pair.x, view=view, store=tmp_path / "matrix")
        close(stored, expected)


def test_parameters_are_named(pair):
    model = pair.bare.named([f"x{number}" for number in range(pair.x.shape[1])])
    found = fs.fisher_information(model, pair.x)
    assert found.sizes["param"] == model.n_params
    for layer, biased in enumerate(model.bias):
        own = found.isel(param=found.param_layer.values == layer)
        assert ("bias" in own.param_kind) == biased == (-1 in own.param_unit_in) == ("bias" in own.param_name)
        columns = [*range(model.widths[layer]), *([-1] if biased else [])]
        assert own.param_unit_in.values.tolist() == columns * model.widths[layer + 1]
    factors = fs.fisher_information(model, pair.x, view="kfac")
    for layer, biased in enumerate(model.bias):
        assert factors[f"layer_{layer}"].feature.values.tolist()[-1] == (-1 if biased else model.widths[layer] - 1)
    assert factors["layer_0"].sizes["feature"] == len(factors["layer_0"].feature_name)
    record = found.attrs["provenance"]
    assert f'"bias": {str(list(model.bias)).lower()}' in record
    assert '"bias"' not in fs.fisher_information(pair.zero, pair.x).attrs["provenance"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("estimator", ["score", "hessian"])
def test_estimates_from_the_same_labels(pair, estimator, engine):
    if estimator == "hessian" and pair.bare.family.link is not None:
        estimator = "score"
    for view in VIEWS[:3]:
        more = {"estimator": estimator, "n_draws": 4, "rng": 3, "view": view, "engine": engine, "standard_error": True} | KINKS
        pair.agree(*(fs.estimate_fisher(one, pair.x, **more) for one in both(pair)))


@pytest.mark.parametrize("estimator", ["hutchinson_gaussian", "hutchinson_rademacher"])
def test_probes(pair, estimator):
    pair.agree(*(fs.estimate_fisher(one, pair.x, estimator=estimator, n_draws=4, rng=3) for one in both(pair)))


@pytest.mark.parametrize("engine", ENGINES)
def test_data_labels(pair, engine):
    for view in VIEWS[:3]:
        found, wide = (fs.empirical_fisher(one, pair.x, pair.y, view=view, engine=engine) for one in both(pair))
        pair.agree(found.drop_vars("bias") if view != "block" else found, wide, rtol=1e-9)
        pair.agree(*(fs.observed_information(one, pair.x, pair.y, view=view, engine=engine, **KINKS) for one in both(pair)), 1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_variances_and_bounds(pair, engine):
    known = {"engine": engine} | KINKS
    pair.agree(*(fs.estimator_variance(one, pair.x, **known) for one in both(pair)))
    pair.agree(*(fs.estimator_variance(one, pair.x, per_input=True, **known) for one in both(pair)))
    pair.agree(*(fs.estimator_variance(one, pair.x, design="random", **known) for one in both(pair)), 1e-9)
    pair.agree(*(fs.variance_bounds(one, pair.x, **known) for one in both(pair)), 1e-9)
    for estimator in ("score", "hessian"):
        if pair.bare.n_params < 45 or estimator == "hessian":
            pair.agree(*(fs.estimator_covariance(one, pair.x, estimator=estimator, **known) for one in both(pair)))
    pair.agree(*(fs.input_variance_bounds(one, pair.x, engine=engine) for one in both(pair)), 1e-9)


def test_other_entries(pair):
    pair.agree(*(fs.combine_estimators(one, pair.x, n_draws=3, rng=2, **KINKS) for one in both(pair)), 1e-9)
    pair.agree(*(fs.output_information(one, pair.x) for one in both(pair)))
    pair.agree(*(fs.hidden_information(one, pair.x, layer=1) for one in both(pair)))
    pair.agree(*(fs.kink_report(one, pair.x) for one in both(pair)))
    pair.agree(*(fs.learning_zone(one, pair.x) for one in both(pair)))
    if isinstance(pair.bare.family, F.Categorical):
        pair.agree(*(fs.information_envelopes(one, pair.x) for one in both(pair)))


def test_pairs_of_parameters(pair):
    chosen = np.random.default_rng(0).integers(pair.bare.n_params, size=(12, 2))
    chosen = chosen[chosen[:, 0] != chosen[:, 1]]
    places = np.flatnonzero(pair.kept)
    found = fs.off_diagonal_bounds(pair.bare, pair.x, pairs=chosen, **KINKS)
    wide = fs.off_diagonal_bounds(pair.zero, pair.x, pairs=places[chosen], **KINKS)
    for name in ("exact", "upper"):
        np.testing.assert_allclose(found[name], wide[name], rtol=1e-9, atol=1e-15)


def test_products_and_functionals(pair):
    rng = np.random.default_rng(0)
    v = rng.normal(size=pair.bare.n_params)
    X = np.outer(v, v[::-1]) + np.outer(v[::-1], v)
    operators = [fs.fisher_operator(one, pair.x) for one in both(pair)]
    np.testing.assert_allclose(operators[0] @ v, (operators[1] @ pair.widened(v))[pair.kept], rtol=1e-11, atol=1e-14)
    full = fs.fisher_information(pair.bare, pair.x, view="full").values
    np.testing.assert_allclose(operators[0] @ v, full @ v, rtol=1e-11, atol=1e-14)
    for vector, matrix in ((v, None), (None, X)):
        found = fs.functional_variance(pair.bare, pair.x, vector=vector, matrix=matrix, **KINKS)
        wide = fs.functional_variance(
            pair.zero,
            pair.x,
            vector=None if vector is None else pair.widened(vector),
            matrix=None if matrix is None else pair.widened_matrix(matrix),
            **KINKS,
        )
        for name in found.data_vars:
            np.testing.assert_allclose(found[name], wide[name], rtol=1e-10, atol=1e-14)
    for estimator in ("score", "hessian"):
        found = fs.covariance_product(pair.bare, pair.x, X, estimator=estimator, **KINKS).values
        wide = fs.covariance_product(pair.zero, pair.x, pair.widened_matrix(X), estimator=estimator, **KINKS).values
        np.testing.assert_allclose(found, wide[np.ix_(pair.kept, pair.kept)], rtol=1e-10, atol=1e-13 * np.abs(wide).max())


def test_curvature_and_third_moments_along_directions(pair):
    directions = np.random.default_rng(0).normal(size=(2, pair.bare.n_params))
    wide = np.stack([pair.widened(one) for one in directions])
    for function in (fs.amari_chentsov, lambda *args: fs.efron_curvature(*args, **KINKS).to_dataarray()):
        found, expected = function(pair.bare, pair.x, directions), function(pair.zero, pair.x, wide)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("subsystem", ["neuron", "layer", "two_layers", "system"])
def test_relative_information(pair, subsystem):
    found, wide = (fs.relative_fisher(one, pair.x, subsystem=subsystem) for one in both(pair))
    for name, part in found.children.items():
        biased = pair.bare.bias[int(name.split("_")[1])]
        for key, values in part.to_dataset().data_vars.items():
            expected = wide[name][key]
            if not biased:
                ours = [dim for dim in expected.dims if expected.sizes[dim] != values.sizes[dim]]
                for dim in ours:
                    kept = expected.coords.get(f"{dim}_unit_in", expected.coords[dim]).values >= 0
                    expected = expected.isel({dim: np.flatnonzero(kept)})
            np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("activation", [["tanh", "relu"], ["tanh", "softmax"]])
def test_a_subsystem(activation):
    pair = Pair.of(fs.MLP.random([3, 4, 2], activation="tanh", family=F.Gaussian(2), rng=0, bias=[False, True]), np.eye(3))
    found = fs.subsystem_metric(pair.bare.weights, pair.x, activation=activation, bias=pair.bare.bias)
    wide = fs.subsystem_metric(pair.zero.weights, pair.x, activation=activation)
    kept = np.flatnonzero(pair.kept[: wide.sizes["param"]])
    np.testing.assert_allclose(found, wide.isel(param=kept, param2=kept), rtol=1e-12, atol=1e-16)
    assert set(found.param_kind.values) == {"weight"}


def test_norms_of_kernels_and_derivatives(pair):
    found, wide = (fs.weight_norms(one) for one in both(pair))
    for name in found.data_vars:
        np.testing.assert_array_equal(found[name], wide[name])
    assert found.bias.values[~np.array(pair.bare.bias)].tolist() == [0.0] * (len(pair.bare.bias) - sum(pair.bare.bias))
    # The exact norms from all second derivatives, and bounds that hold.
    bounds = fs.derivative_bounds(pair.bare, pair.x, per_input=True, covariance=False, **KINKS)
    for part in ("first", "second"):
        assert np.all(bounds[f"{part}_ratio"].fillna(1) >= 1 - 1e-12)
    if any(one.kinks for one in pair.bare.activations):
        return
    J = dense_jacobians(pair)
    for layer, part in enumerate(pair.bare.layer_slices()):
        norms = np.linalg.norm(J[:, :, part], axis=(1, 2))
        np.testing.assert_allclose(bounds.first_exact.sel(norm="frobenius", layer=layer), norms, rtol=1e-11)


def test_norms_of_covariances(pair):
    """Of the tensors that `estimator_covariance` returns, over own parameters only."""
    norms = fs.covariance_norms(pair.bare, pair.x, **KINKS)
    for estimator in ("score", "hessian"):
        tensor = fs.estimator_covariance(pair.bare, pair.x, estimator=estimator, **KINKS).values
        expected = np.linalg.norm(tensor.ravel())
        np.testing.assert_allclose(norms.exact.sel(estimator=estimator, norm="frobenius"), expected, rtol=1e-10, atol=1e-16)
    bounds = fs.covariance_bounds(pair.bare, pair.x, **KINKS)
    assert (bounds.exact <= bounds.upper * (1 + 1e-12)).all()
    traces = fs.trace_bounds(pair.bare, pair.x, **KINKS)
    variances = fs.estimator_variance(pair.bare, pair.x, **KINKS).variance
    for estimator in ("score", "hessian"):
        np.testing.assert_allclose(traces.exact.sel(estimator=estimator), variances.sel(estimator=estimator).sum(), rtol=1e-10)


def test_error_of_the_kronecker_factors(pair):
    found = fs.kfac_error(pair.bare, pair.x)
    blocks, factors = (fs.fisher_information(pair.bare, pair.x, view=view) for view in ("block", "kfac"))
    for layer in range(pair.bare.n_layers):
        block = next(iter(blocks[f"layer_{layer}"].data_vars.values())).values
        A, G = (factors[f"layer_{layer}"][name].values for name in ("A", "G"))
        np.testing.assert_allclose(found.error[layer], np.linalg.norm(block - np.kron(G, A)), rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(found.norm[layer], np.linalg.norm(block), rtol=1e-11)


def test_averages_over_the_parameters_of_a_layer(pair):
    exact, variance = fs.fisher_information(pair.bare, pair.x), fs.estimator_variance(pair.bare, pair.x, **KINKS).variance
    sweep = fs.norm_sweep(pair.bare, pair.x, scales=[0.5, 1.0], **KINKS)
    errors = fs.layer_errors(pair.bare, pair.x, **KINKS)
    by_layer = fs.estimator_variance(pair.bare, pair.x, group_by="layer", **KINKS)
    for layer in range(pair.bare.n_layers):
        own = exact.param_layer.values == layer
        np.testing.assert_allclose(sweep.information.sel(scale=1.0, layer=layer), exact.values[own].mean(), rtol=1e-10)
        mean = variance.values[:, own].mean(axis=1)
        np.testing.assert_allclose(sweep.variance.sel(scale=1.0, layer=layer), mean, rtol=1e-10, atol=1e-300)
        assert np.isfinite(by_layer.isel(layer=layer).to_dataarray().values).any()
    assert errors.sizes["layer"] == pair.bare.n_layers


def both(pair: Pair) -> tuple[fs.MLP, fs.MLP]:
    return pair.bare, pair.zero


def dense_jacobians(pair: Pair) -> np.ndarray:
    """Derivatives of h by the parameters by central differences of the definition, extrapolated."""
    theta = np.concatenate([one.ravel() for one in pair.bare.weights])
    found = np.empty((len(pair.x), pair.bare.family.n_outputs, len(theta)))

    def outputs(vector: np.ndarray) -> np.ndarray:
        weights = [vector[part].reshape(one.shape) for part, one in zip(pair.bare.layer_slices(), pair.bare.weights, strict=True)]
        return pair.bare.with_weights(weights).natural_parameters(pair.x)

    coefficients = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))
    for number in range(len(theta)):
        step = np.zeros(len(theta))
        step[number] = 1e-2
        found[:, :, number] = (
            sum(weight * (outputs(theta + k * step) - outputs(theta - k * step)) for k, weight in coefficients) / 1e-2
        )
    return found


def same_bits(found, expected) -> None:
    if hasattr(found, "children"):
        for name, part in found.children.items():
            for key, values in part.to_dataset().data_vars.items():
                np.testing.assert_array_equal(values, expected[name][key])
    else:
        np.testing.assert_array_equal(found, expected)


def close(found, expected) -> None:
    if hasattr(found, "children"):
        for name, part in found.children.items():
            for key, values in part.to_dataset().data_vars.items():
                np.testing.assert_allclose(values, expected[name][key], rtol=1e-12, atol=1e-16)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-16)
