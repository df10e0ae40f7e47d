"""The covariance tensors, their norms and contractions against the enumerated estimators, entry by entry."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from tests import naive
from tests.theory.cases import CASES, Case

SMALL = [case for case in CASES if sum(w.size for w in case.weights) <= 20 and case.n_inputs <= 7]
FLOOR = 1e-18  # rounding of the enumeration where the covariance is 0


@functools.cache
def dense(case: Case, first: str, second: str) -> np.ndarray:
    """The covariance tensor of the mean over the inputs, one label each."""
    return sum(naive.covariance_tensor(law, first, second) for law in case.laws) / case.n_inputs**2


@pytest.fixture(params=SMALL, ids=lambda case: case.name)
def case(request) -> Case:
    return request.param


def close(found, expected, tolerance=1e-10):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=max(tolerance * np.abs(expected).max(), FLOOR))


@pytest.mark.parametrize("estimator", ["score", "hessian", "cross"])
def test_the_tensor(case, estimator):
    pair = ("score", "hessian") if estimator == "cross" else (estimator, estimator)
    result = fs.estimator_covariance(case.model, case.x, estimator=estimator, n_draws=3, on_kink="ignore")
    assert result.dims == ("param", "param2", "param3", "param4")
    expected = dense(case, *pair) / 3
    scale = np.abs(dense(case, "score", "score")).max() + np.abs(dense(case, "hessian", "hessian")).max()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-11 * scale)


def test_norms(case):
    result = fs.covariance_norms(case.model, case.x, n_draws=2, on_kink="ignore")
    own = fs.covariance_norms(case.model, case.x, n_draws=2, per_input=True, on_kink="ignore")
    size = case.model.n_params**2
    for estimator in ("score", "hessian"):
        matrix = dense(case, estimator, estimator).reshape(size, size) / 2
        expected = [np.linalg.norm(matrix), np.linalg.eigvalsh(matrix)[-1], np.trace(matrix)]
        close(result.exact.sel(estimator=estimator), expected)
        for at, law in enumerate(case.laws):
            alone = naive.covariance_tensor(law, estimator, estimator, 2).reshape(size, size)
            expected = [np.linalg.norm(alone), np.linalg.eigvalsh(alone)[-1], np.trace(alone)]
            close(own.exact.sel(estimator=estimator).isel(input=at), expected)


def test_the_tensor_spectral_norm_lies_in_its_interval(case):
    result = fs.covariance_norms(case.model, case.x, on_kink="ignore")
    rng = np.random.default_rng(0)
    for estimator in ("score", "hessian"):
        low, high = (float(result[f"tensor_spectral_{end}"].sel(estimator=estimator)) for end in ("lower", "upper"))
        tensor = dense(case, estimator, estimator)
        vectors = rng.normal(size=(200, 2, case.model.n_params))
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        values = np.einsum("ijkl,ri,rj,rk,rl->r", tensor, *(vectors[:, at] for at in (0, 1, 0, 1)), optimize=True)
        assert low <= high
        # What the iteration attains is at least what random directions find, and no direction passes the upper end.
        assert values.max() <= high * (1 + 1e-10) + FLOOR
        assert low >= values.max() * (1 - 1e-8) - FLOOR


def test_single_output_score_interval_is_a_point():
    model = fs.MLP.random([3, 4, 1], activation="tanh", family=fs.families.Bernoulli(), rng=0)
    result = fs.covariance_norms(model, np.random.default_rng(0).normal(size=(1, 3))).sel(estimator="score")
    np.testing.assert_allclose(result.tensor_spectral_lower, result.tensor_spectral_upper, rtol=1e-9)


@pytest.mark.parametrize("estimator", ["score", "hessian"])
def test_product_with_a_symmetric_matrix(case, estimator):
    X = np.random.default_rng(1).normal(size=(case.model.n_params,) * 2)
    X = X + X.T
    result = fs.covariance_product(case.model, case.x, X, estimator=estimator, n_draws=2, on_kink="ignore")
    expected = np.einsum("ijkl,kl->ij", dense(case, estimator, estimator), X) / 2
    close(result, expected)


def test_variance_of_functionals(case):
    rng = np.random.default_rng(2)
    v = rng.normal(size=case.model.n_params)
    X = rng.normal(size=(case.model.n_params,) * 2)
    X = X + X.T
    for given, form in (({"vector": v}, np.outer(v, v)), ({"matrix": X}, X)):
        result = fs.functional_variance(case.model, case.x, n_draws=5, on_kink="ignore", **given)
        own = fs.functional_variance(case.model, case.x, per_input=True, on_kink="ignore", **given)
        expected = [np.einsum("ijkl,ij,kl->", dense(case, one, one), form, form) / 5 for one in ("score", "hessian")]
        close(result.variance, expected)
        cross = np.einsum("ijkl,ij,kl->", dense(case, "score", "hessian"), form, form) / 5
        np.testing.assert_allclose(
            result.cross_covariance, cross, rtol=0, atol=1e-10 * max(np.sqrt(np.prod(expected)), expected[0])
        )
        information = sum(law.information for law in case.laws) / case.n_inputs
        close(result.information, (information * form).sum())
        close(own.variance.sum("input") / (5 * case.n_inputs**2), expected)


def test_trace_is_the_sum_of_all_variances_for_a_large_network():
    model = fs.MLP.random([30, 20, 15, 5], activation="tanh", family=fs.families.Categorical(5), rng=0)
    x = np.random.default_rng(0).normal(size=(4, 30))
    result = fs.covariance_norms(model, x)
    assert (result.exact.sel(norm="spectral") <= result.exact.sel(norm="frobenius") * (1 + 1e-12)).all()
    assert (result.exact.sel(norm="frobenius") <= result.exact.sel(norm="trace") * (1 + 1e-12)).all()
    # Sum over all entries of Var = trace; its diagonal part alone is estimator_variance.
    diagonal = fs.estimator_variance(model, x).variance.sum("param")
    assert (diagonal <= result.exact.sel(norm="trace")).all()


def test_last_layer_of_the_hessian_estimator_has_no_covariance():
    model = fs.MLP.random([3, 2], activation=[], family=fs.families.Poisson(2), rng=0)
    x = np.random.default_rng(0).normal(size=(3, 3))
    assert not fs.covariance_norms(model, x).exact.sel(estimator="hessian").any()
    assert not fs.estimator_covariance(model, x, estimator="hessian").any()
    assert not fs.estimator_covariance(model, x, estimator="cross").any()


def test_refusals():
    model = fs.MLP.random([3, 2], activation=[], family=fs.families.Poisson(2), rng=0)
    x = np.zeros((1, 3))
    with pytest.raises(fs.SizeError, match="more than `max_bytes`=1,000"):
        fs.estimator_covariance(model, x, estimator="score", max_bytes=1000)
    with pytest.raises(ValueError, match="Exactly one of `vector` and `matrix` must be given, got none"):
        fs.functional_variance(model, x)
    with pytest.raises(ValueError, match="`matrix` must be symmetric, got"):
        fs.covariance_product(model, x, np.triu(np.ones((8, 8))), estimator="score")
    with pytest.raises(ValueError, match=r"`vector` must have shape \(8,\)"):
        fs.functional_variance(model, x, vector=np.ones(3))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_bit(threads):
    model = fs.MLP.random([3, 4, 2], activation="sin", family=fs.families.Categorical(2), rng=0)
    x = np.random.default_rng(0).normal(size=(50, 3))
    for call in (fs.covariance_norms, lambda *a, **k: fs.estimator_covariance(*a, estimator="cross", **k)):
        xr.testing.assert_identical(call(model, x, num_threads=threads), call(model, x, num_threads=2))


@pytest.mark.parametrize("estimator", ["score", "hessian"])
def test_standard_errors_of_every_entry(case, estimator):
    found = fs.estimate_fisher(
        case.model, case.x, estimator=estimator, n_draws=3, rng=0, view="full", standard_error=True, on_kink="ignore"
    )
    own = fs.estimate_fisher(
        case.model,
        case.x,
        estimator=estimator,
        n_draws=3,
        rng=0,
        view="full",
        standard_error=True,
        per_input=True,
        on_kink="ignore",
    )
    blocks = fs.estimate_fisher(
        case.model, case.x, estimator=estimator, n_draws=3, rng=0, view="block", standard_error=True, on_kink="ignore"
    )
    expected = sum(law.variance(estimator) for law in case.laws) / case.n_inputs**2 / 3
    close(found.standard_error.values**2, expected)
    for at, law in enumerate(case.laws):
        close(own.standard_error.values[at] ** 2, law.variance(estimator) / 3)
    first = blocks["layer_0"].standard_error.values
    np.testing.assert_allclose(first, found.standard_error.values[: len(first), : len(first)], rtol=1e-7, atol=1e-12)
    interval = fs.confidence_intervals(case.model, case.x, estimator=estimator, n_draws=3, rng=0, view="full", on_kink="ignore")
    np.testing.assert_array_equal(interval.standard_error, found.standard_error)
    np.testing.assert_array_equal(interval.estimate, found)
