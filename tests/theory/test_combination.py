"""The best linear combination against the enumerated variance of the combined statistic."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.models.families.quadratic_and_linear import combined_variance
from tests import naive
from tests.theory.cases import CASES, Case, assert_close, per_case


def combined(case, weight, rows):
    """Variance of the combined statistic, label by label, summed over the inputs in `rows`, for weights (P,)."""
    total = np.zeros(len(weight))
    for law in [case.laws[row] for row in rows]:
        values = weight * law.diagonal("score") + (1 - weight) * law.diagonal("hessian")
        total += naive.covariance(values, values, law.probabilities)
    return total


def best(v1, v2, c12):
    apart = v1 + v2 - 2 * c12
    return np.where(apart == 0, 0.5, (v2 - c12) / np.where(apart == 0, 1, apart))


def assert_best(case, weight, variance, rows, shares):
    """The variance is that of the combined statistic, and no other weight gives less."""
    v1, v2, c12 = (case.variances[name][rows].sum(axis=0) for name in ("score", "hessian", "cross"))
    scale = float(max(v1.max(), v2.max())) / shares
    assert np.all(variance >= 0)
    assert np.all(variance <= np.minimum(v1, v2) / shares * (1 + 1e-12))
    assert_close(variance, combined(case, weight, rows) / shares, scale=scale, floor=1e-28 * scale)
    for step in (-1e-3, 1e-3):
        assert np.all(combined(case, weight + step, rows) / shares >= variance * (1 - 1e-12) - 1e-28 * scale)
    clear = v1 + v2 - 2 * c12 > 1e-6 * (v1 + v2)
    np.testing.assert_allclose(weight[clear], best(v1, v2, c12)[clear], rtol=1e-9, atol=1e-9)


@per_case()
def test_fixed_design(case):
    result = fs.combine_estimators(case.model, case.x, n_draws=3, rng=0)
    assert result["weight"].dims == ("param",)
    rows = np.arange(case.n_inputs)
    assert_best(case, result["weight"].values, result["variance"].values, rows, 3 * case.n_inputs**2)


@per_case([case for case in CASES if case.n_inputs < 100])
def test_per_input(case):
    result = fs.combine_estimators(case.model, case.x, n_draws=2, rng=1, per_input=True)
    assert result["weight"].dims == ("input", "param")
    for row in range(case.n_inputs):
        assert_best(case, result["weight"].values[row], result["variance"].values[row], [row], 2)


@per_case()
def test_the_combination_is_that_of_the_estimates_from_the_same_labels(case):
    for per_input in (False, True):
        result = fs.combine_estimators(case.model, case.x, n_draws=5, rng=9, per_input=per_input)
        pair = fs.estimate_fisher(
            case.model, case.x, estimator=("score", "hessian"), n_draws=5, rng=9, per_input=per_input, standard_error=False
        )
        for name in ("score", "hessian"):
            assert_close(result[name], pair.sel(estimator=name), rtol=1e-12)
        mixed = result["weight"] * result["score"] + (1 - result["weight"]) * result["hessian"]
        assert_close(result["information"], mixed, rtol=1e-13)


def is_binary(case):
    two_classes = case.family == "categorical" and case.widths[-1] == 2
    one_logit = case.widths[-1] == 1 and case.family in ("bernoulli", "categorical_minimal")
    return two_classes or one_logit


@per_case([case for case in CASES if is_binary(case)])
def test_one_input_with_two_classes_is_known_exactly(case):
    result = fs.combine_estimators(case.model, case.x, n_draws=1, rng=3, per_input=True)
    np.testing.assert_array_equal(result["variance"].values, 0.0)
    assert_close(result["information"], case.information, rtol=1e-8)


@per_case()
def test_where_the_hessian_estimate_is_exact_it_is_taken(case):
    closed = fs.estimator_variance(case.model, case.x)["variance"]
    result = fs.combine_estimators(case.model, case.x, n_draws=1, rng=3)
    certain = (closed.sel(estimator="hessian").values == 0) & (closed.sel(estimator="score").values > 0)
    last = result["param_layer"].values == case.n_layers - 1
    assert np.all(certain[last] | (closed.sel(estimator="score").values[last] == 0))
    assert np.all(result["weight"].values[certain] == 0.0)
    assert np.all(result["variance"].values[certain] == 0.0)


def test_half_where_nothing_varies():
    model = fs.MLP([[[0.0, 0.0]], [[1.0, 0.0]]], activation="relu", family=fs.families.Gaussian())
    result = fs.combine_estimators(model, [[1.0]], n_draws=2, rng=0, on_kink="ignore")
    np.testing.assert_array_equal(result["weight"].values, [0.5, 0.5, 0.5, 0.0])
    np.testing.assert_array_equal(result["variance"].values, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_blocks_of_inputs_merge_to_the_same_weights(seed):
    """300 inputs are several blocks: their merged regressions are that of all inputs at once."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, 3)) * (rng.random((300, 3)) < 0.2)
    model = fs.MLP.random([3, 4, 3], activation="softplus", family=fs.families.Categorical(3), rng=seed)
    each = fs.estimator_variance(model, x, per_input=True)
    v1, v2 = (each["variance"].sel(estimator=name).values.sum(axis=0) for name in ("score", "hessian"))
    c12 = each["cross_covariance"].values.sum(axis=0)
    result = fs.combine_estimators(model, x, n_draws=1, rng=0)
    np.testing.assert_allclose(result["weight"], best(v1, v2, c12), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result["variance"] * 300**2, (v1 * v2 - c12**2) / (v1 + v2 - 2 * c12), rtol=1e-8)


LAWS = {
    "bernoulli": (fs.families.Bernoulli(3), 1.0),
    "binomial": (fs.families.Binomial(6, 2), 1.0),
    "poisson": (fs.families.Poisson(3), 1.0),
    "negative_binomial": (fs.families.NegativeBinomial(2.5, 2), -0.5),
    "geometric": (fs.families.Geometric(2), -0.5),
    "exponential": (fs.families.Exponential(2), -0.5),
    "gamma": (fs.families.Gamma(2.5, 2), -0.5),
    "inverse_gaussian": (fs.families.InverseGaussian(1.7, 2), -0.5),
    "laplace": (fs.families.Laplace(n_outputs=2), -0.5),
    "categorical": (fs.families.Categorical(4), 1.0),
    "minimal": (fs.families.Categorical(4, minimal=True), 1.0),
    "multinomial": (fs.families.Multinomial(5, 3), 1.0),
    "gaussian": (fs.families.Gaussian(2, covariance=[[1.0, 0.3], [0.3, 0.5]]), 1.0),
    "mean_variance": (fs.families.GaussianMeanVariance(), None),
    "shape_rate": (fs.families.GammaShapeRate(), None),
    "dirichlet": (fs.families.Dirichlet(3), 2.0),
    "product": (fs.families.Product([fs.families.Poisson(), fs.families.Categorical(3)]), 1.0),
}


@pytest.mark.parametrize("name", LAWS)
def test_every_law_agrees_with_the_sum_of_its_moments(name):
    """Where nothing cancels, the variance is that of the square, the linear form and twice their covariance."""
    family, scale = LAWS[name]
    rng = np.random.default_rng(5)
    T = family.n_outputs
    h = np.stack([rng.normal(size=6), -rng.uniform(0.3, 1, 6)], axis=1) if scale is None else rng.uniform(0.3, 1, (6, T)) * scale
    if name == "shape_rate":
        h[:, 0] = np.abs(h[:, 0]) + 0.5
    law = family.at(h)
    u, s = rng.normal(size=(6, T, 9)), rng.normal(size=(6, T, 9))
    parts = [law.square_variance(u), 2 * law.third_moment(u, s), law.diagonal(s)]
    size = parts[0] + parts[2]
    np.testing.assert_allclose(combined_variance(law, u, s) / size, sum(parts) / size, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("per_input", [False, True])
def test_every_family_with_its_link_agrees_with_its_variances(name, per_input):
    """Away from cancellation the weight and the variance are the textbook ratios of V_1, V_2 and C_12."""
    family = LAWS[name][0]
    model = fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=3)
    x = np.random.default_rng(0).normal(size=(5, 2))
    closed = fs.estimator_variance(model, x, per_input=per_input)
    v1, v2 = (closed["variance"].sel(estimator=one).values for one in ("score", "hessian"))
    c12 = closed["cross_covariance"].values
    found = fs.combine_estimators(model, x, n_draws=1, rng=0, per_input=per_input)
    apart = v1 + v2 - 2 * c12
    textbook = (v1 * v2 - c12**2) / apart
    np.testing.assert_allclose(found["weight"], (v2 - c12) / apart, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found["variance"] / np.minimum(v1, v2).max(), textbook / np.minimum(v1, v2).max(), atol=1e-10)


def test_single_precision_follows_double_precision():
    model = fs.MLP.random([4, 6, 5], activation="tanh", family=fs.families.Categorical(5), rng=3)
    single = fs.MLP([w.astype(np.float32) for w in model.weights], activation="tanh", family=fs.families.Categorical(5))
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    found = fs.combine_estimators(single, x, n_draws=3, rng=0)
    exact = fs.combine_estimators(fs.MLP([w.astype(np.float64) for w in single.weights], activation="tanh",
                                         family=fs.families.Categorical(5)), x, n_draws=3, rng=0)  # fmt: skip
    assert found["variance"].dtype == np.float32
    np.testing.assert_allclose(found["weight"], exact["weight"], atol=1e-4)
    np.testing.assert_allclose(found["variance"], exact["variance"], rtol=1e-3, atol=1e-5 * float(exact["variance"].max()))


@pytest.mark.parametrize("name", ["bernoulli", "binomial", "poisson", "negative_binomial", "exponential", "inverse_gaussian"])
@pytest.mark.parametrize("h", [-30.0, -8.0, -0.01])
def test_what_a_regression_leaves_keeps_its_digits(name, h):
    """One head: Var(m d^2 + d) at the best m is I (1 - kappa3^2 / (I M)), here by formulas in 60 digits."""
    mpmath = pytest.importorskip("mpmath")
    family = {
        "bernoulli": fs.families.Bernoulli(),
        "binomial": fs.families.Binomial(6),
        "poisson": fs.families.Poisson(),
        "negative_binomial": fs.families.NegativeBinomial(2.5),
        "exponential": fs.families.Exponential(),
        "inverse_gaussian": fs.families.InverseGaussian(1.7),
    }[name]
    with mpmath.workdps(60):
        F = {
            "bernoulli": lambda z: mpmath.log1p(mpmath.exp(z)),
            "binomial": lambda z: 6 * mpmath.log1p(mpmath.exp(z)),
            "poisson": mpmath.exp,
            "negative_binomial": lambda z: -mpmath.mpf(2.5) * mpmath.log1p(-mpmath.exp(z)),
            "exponential": lambda z: -mpmath.log(-z),
            "inverse_gaussian": lambda z: -mpmath.sqrt(-2 * mpmath.mpf(1.7) * z),
        }[name]
        c2, c3, c4 = (mpmath.diff(F, mpmath.mpf(h), k) for k in (2, 3, 4))
        m = -c3 / (c4 + 2 * c2**2)
        expected = float(c2 - c3**2 / (c4 + 2 * c2**2)) if name != "bernoulli" else 0.0
        slope = float(m)
    law = family.at(np.array([[h]]))
    sign = 1.0 if slope >= 0 else -1.0
    found = combined_variance(law, np.full((1, 1, 1), abs(slope) ** 0.5), np.full((1, 1, 1), sign))[0, 0]
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-29 * float(c2))


@pytest.mark.parametrize("gap", [5.0, 20.0, 60.0, 300.0])
def test_almost_two_classes_keep_their_digits(gap):
    """The third class is rare: V* is smaller than V_1 and V_2 by its probability, here against 400 digits."""
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(2, 3)), rng.normal(size=(3, 3))]
    weights[1][2] = [0.3, -0.2, -gap]
    x = [0.7, -0.4]
    model = fs.MLP(weights, activation="tanh", family=fs.families.Categorical(3))
    found = fs.combine_estimators(model, [x], n_draws=1, rng=0)
    with mpmath.workdps(400):
        first, second = (mpmath.matrix(w.tolist()) for w in weights)
        states = [mpmath.tanh(first[unit, 0] * x[0] + first[unit, 1] * x[1] + first[unit, 2]) for unit in range(2)]
        logits = [second[k, 0] * states[0] + second[k, 1] * states[1] + second[k, 2] for k in range(3)]
        masses = [mpmath.exp(one) for one in logits]
        p = [one / sum(masses) for one in masses]
        for unit in range(2):
            slope = 1 - states[unit] ** 2
            bend = -2 * states[unit] * slope
            mean = sum(p[k] * second[k, unit] for k in range(3))
            q = [slope * (second[k, unit] - mean) for k in range(3)]
            s = [bend * (second[k, unit] - mean) for k in range(3)]
            information = sum(p[k] * q[k] ** 2 for k in range(3))
            v1 = sum(p[k] * (q[k] ** 2 - information) ** 2 for k in range(3))
            v2 = sum(p[k] * s[k] ** 2 for k in range(3))
            c12 = -sum(p[k] * (q[k] ** 2 - information) * s[k] for k in range(3))
            smallest = (v1 * v2 - c12**2) / (v1 + v2 - 2 * c12)
            for column, power in enumerate((x[0] ** 4, x[1] ** 4, 1.0)):
                expected = float(smallest) * power
                value = found["variance"].values[3 * unit + column]
                # Below the square of a rounding error of its parts it may be zero.
                assert value == pytest.approx(expected, rel=1e-10, abs=1e-27 * float(min(v1, v2)))


def test_many_replicates_vary_as_much_as_the_closed_form_says():
    """z-scores of mean and variance of 4,000 combined estimates; 24 of them below 5: a false alarm in 1e5."""
    case = Case((2, 2, 3), ("tanh",), "categorical", 2, 77)
    replicates = 4000
    rows = np.tile(case.x[:1], (replicates, 1))
    result = fs.combine_estimators(case.model, rows, n_draws=40, rng=11, per_input=True)
    variance, exact = result["variance"].values[0], case.information[0]
    random = variance > 1e-20
    z = (result["information"].values[:, random] - exact[random]) / np.sqrt(variance[random])

    def scores(values):
        squares = values**2 - 1
        return np.sqrt(replicates) * np.concatenate([values.mean(axis=0), squares.mean(axis=0) / squares.std(axis=0)])

    assert np.abs(scores(z)).max() < 5
    # Power: a variance wrong by a fifth, and a mean by a tenth of a standard error, are caught.
    assert np.abs(scores(z * 1.1)).max() > 5
    assert np.abs(scores(z + 0.1)).max() > 5


def test_what_is_refused():
    model = fs.MLP([[[1.0, 0.0]], [[1.0, 0.5]]], activation="relu", family=fs.families.Bernoulli())
    with pytest.raises(ValueError, match="n_draws"):
        fs.combine_estimators(model, [[1.0]], n_draws=0, rng=0)
    with pytest.raises(fs.AssumptionError, match="input 0, layer 0, unit 0"):
        fs.combine_estimators(model, [[0.0]], n_draws=1, rng=0)
