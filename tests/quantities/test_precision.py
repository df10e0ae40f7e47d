"""float32 stays float32 and close to float64; zeros are exact; integers become float64."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs

FAMILIES = [
    fs.families.Gaussian(3),
    fs.families.Gaussian(3, covariance=[[2.0, 0.5, 0.0], [0.5, 1.0, 0.1], [0.0, 0.1, 0.7]]),
    fs.families.Bernoulli(3),
    fs.families.Binomial(6, n_outputs=3),
    fs.families.Categorical(3),
    fs.families.Categorical(4, minimal=True),
    fs.families.Poisson(3),
]


def pair(family, activation="tanh"):
    model = fs.MLP.random([5, 8, 6, 3], activation=activation, family=family, rng=4)
    x = np.random.default_rng(2).normal(size=(50, 5)).astype(np.float32)
    single = fs.MLP([matrix.astype(np.float32) for matrix in model.weights], activation=activation, family=family)
    double = fs.MLP([matrix.astype(np.float64) for matrix in single.weights], activation=activation, family=family)
    return single, double, x


QUANTITIES = {
    "information": lambda model, x: fs.fisher_information(model, x).values,
    "full": lambda model, x: fs.fisher_information(model, x, view="full").values,
    "score": lambda model, x: fs.estimator_variance(model, x).variance.sel(estimator="score").values,
    "hessian": lambda model, x: fs.estimator_variance(model, x).variance.sel(estimator="hessian").values,
    "cross": lambda model, x: fs.estimator_variance(model, x).cross_covariance.values,
    "layers": lambda model, x: fs.estimator_variance(model, x, group_by="layer").variance.values,
    "upper": lambda model, x: fs.variance_bounds(model, x).upper.values,
    "estimate": lambda model, x: fs.estimate_fisher(model, x, estimator="score", n_draws=50, rng=0).values,
}


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@pytest.mark.parametrize("name", QUANTITIES)
def test_float32_follows_float64(name, family):
    single, double, x = pair(family)
    result = QUANTITIES[name](single, x)
    assert result.dtype == np.float32
    if name == "estimate" and isinstance(family, fs.families.Gaussian):
        return  # the draws start from another rounding of the same normals; the dtype is all there is to compare
    expected = QUANTITIES[name](double, x.astype(np.float64))
    assert expected.dtype == np.float64
    if name != "estimate":  # a count may flip where a probability rounds differently
        np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_mixed_precision_is_float64(family):
    single, double, x = pair(family)
    assert fs.fisher_information(single, x.astype(np.float64)).dtype == np.float64
    assert fs.fisher_information(double, x).dtype == np.float64
    np.testing.assert_allclose(fs.fisher_information(single, x.astype(np.float64)), fs.fisher_information(double, x), rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, bool])
def test_integers_become_float64(dtype):
    _, model, _ = pair(fs.families.Categorical(3))
    x = np.random.default_rng(0).integers(0, 2, size=(6, 5)).astype(dtype)
    result = fs.fisher_information(model, x)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, fs.fisher_information(model, x.astype(np.float64)))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@pytest.mark.parametrize(
    ("activation", "zero"),
    [
        ("relu", [0, 1, 2]),
        ("hard_tanh", [0, 1, 2]),
        (["tanh", "identity"], [1, 2]),
        (["relu", "softplus"], [2]),
        ("tanh", [2]),
    ],
    ids=str,
)
def test_zeros_of_the_theory_are_exact(family, activation, zero):
    _, model, x = pair(family, activation)
    variance = fs.estimator_variance(model, x)
    for layer in range(3):
        entries = np.flatnonzero(variance.param_layer == layer)
        hessian = variance.variance.sel(estimator="hessian").values[entries]
        cross = variance.cross_covariance.values[entries]
        if layer in zero:
            assert not hessian.any()
            assert not cross.any()
            assert not np.signbit(hessian).any()
            assert not np.signbit(cross).any()
        else:
            assert (hessian > 0).any()
    if isinstance(family, fs.families.Gaussian):
        assert not variance.cross_covariance.values.any()
    # What has no variance is estimated exactly from a single label.
    estimate = fs.estimate_fisher(model, x, estimator="hessian", n_draws=1, rng=0)
    exact = fs.fisher_information(model, x)
    kept = variance.variance.sel(estimator="hessian").values == 0
    np.testing.assert_allclose(estimate.values[kept], exact.values[kept], rtol=1e-14)


def test_no_negative_variance_and_no_nan():
    rng = np.random.default_rng(0)
    for family in FAMILIES:
        for scale in (1e-3, 1.0, 30.0):
            base = fs.MLP.random([5, 8, 3], activation="softplus", family=family, rng=rng)
            model = fs.MLP(
                [matrix * scale for matrix in base.weights[:1]] + [base.weights[1]], activation="softplus", family=family
            )
            x = rng.normal(size=(9, 5))
            variance = fs.estimator_variance(model, x)
            assert np.isfinite(variance.variance).all()
            assert (variance.variance >= 0).all()
            score = fs.estimate_fisher(model, x, estimator="score", n_draws=2, rng=1, per_input=True)
            assert (score >= 0).all()


@pytest.mark.parametrize("view", ["block", "full"])
def test_pairs_of_inputs_past_the_range_of_float32_do_not_spoil_a_dense_view(view):
    rng = np.random.default_rng(3)
    weights = [1e-20 * rng.normal(size=(4, 4)), 1e-5 * rng.normal(size=(3, 5))]
    weights[0][:, -1] = rng.normal(size=4)
    x = 1e20 * rng.normal(size=(40, 3))
    y = rng.integers(3, size=40)
    double, single = (
        (fs.MLP([one.astype(t) for one in weights], activation="tanh", family=fs.families.Categorical(3)), x.astype(t))
        for t in (np.float64, np.float32)
    )
    for call in (
        lambda model, x: fs.fisher_information(model, x, view=view),
        lambda model, x: fs.estimate_fisher(model, x, estimator="score", n_draws=1, rng=0, view=view),
        lambda model, x: fs.empirical_fisher(model, x, y, view=view),
    ):
        found, wanted = (call(*given) for given in (single, double))
        for (_, one), (_, other) in zip(arrays(found), arrays(wanted), strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


def arrays(result):
    """Return the names and values of the arrays of a result."""
    if isinstance(result, xr.DataTree):
        return [(f"{node.path}/{name}", one.values) for node in result.leaves for name, one in node.data_vars.items()]
    return [(name, one.values) for name, one in (result if isinstance(result, xr.Dataset) else {"": result}).items()]
