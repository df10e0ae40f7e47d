"""Corollaries G.1 and G.2 where the law of the labels is another network's, for every family, by enumeration or quadrature."""

from __future__ import annotations

import itertools
import json

import mpmath
import numpy as np
import pytest

import fisherstats as fs
from fisherstats.models.families.mean_shift import mean_shift
from tests import naive
from tests.naive_quadrature import labels_and_weights
from tests.theory.test_linked import derivatives, network

F = fs.families


class Rayleigh(F.LogPartitionFamily):
    """A family of one's own: t(y) = y^2, exponential with rate -h."""

    name, n_outputs, bounded = "rayleigh", 1, False
    link = F.Link(("negative_exp",))

    def __repr__(self):
        return "Rayleigh()"

    def log_partition(self, h):
        return -np.log(-h[..., 0])

    def log_base(self, y):
        return np.log(2 * y[..., 0])

    def statistic(self, y):
        return np.asarray(y) ** 2

    def sample(self, h, rng, n_draws):
        return np.sqrt(rng.standard_exponential((n_draws, *h.shape)) / -h)

    def check_labels(self, y, n):
        return np.asarray(y, dtype=float).reshape(n, 1)


FAMILIES = [
    F.Bernoulli(3),
    F.Binomial(5, 2),
    F.Poisson(2),
    F.NegativeBinomial(2.5, n_outputs=2),
    F.Geometric(2),
    F.Categorical(4),
    F.Categorical(4, minimal=True),
    F.Multinomial(4, 3),
    F.Multinomial(3, 3, minimal=True),
    F.Gaussian(2, covariance=[[1.0, 0.3], [0.3, 0.5]]),
    F.GaussianMeanVariance(),
    F.Exponential(2),
    F.Gamma(1.7, n_outputs=2),
    F.GammaShapeRate(),
    F.InverseGaussian(2.0, n_outputs=2),
    F.Laplace(n_outputs=2),
    F.Weibull(1.5, n_outputs=2),
    F.Dirichlet(3),
    F.Product([F.Poisson(1), F.Categorical(3)]),
    F.Product([F.Exponential(1), F.GaussianMeanVariance()]),
    Rayleigh(),
]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=repr)


def test_no_family_is_left_out():
    public = {one for one in vars(F).values() if isinstance(one, type) and issubclass(one, F.Family)}
    assert public - {F.Family, F.LogPartitionFamily} == {type(one) for one in FAMILIES} - {Rayleigh}


def true_network(model):
    """A network of other depth, width, activation and weights, with natural parameters of moderate size."""
    rng = np.random.default_rng(17)
    widths = [2, 4, model.family.n_outputs]
    weights = [0.3 * rng.normal(size=(n_out, n_in + 1)) for n_in, n_out in itertools.pairwise(widths)]
    return fs.MLP(weights, activation="sigmoid", family=model.family)


def squared_scores(model, plain, x, h_true):
    """(J' r)^2 for every label (K, P) about the mean under the model, and the weights of the labels under the truth."""
    h, J, _ = derivatives(model, plain, x)
    y, model_weights = labels_and_weights(model.family, h[0])
    _, weights = labels_and_weights(model.family, h_true)
    statistic = np.asarray(model.family.statistic(y), dtype=float).reshape(len(weights), -1)
    r = statistic - model_weights @ statistic
    return (r @ J) ** 2, weights, (model_weights @ (r @ J) ** 2)


def moments(model, plain, x, truth):
    """Mean (n, P) and single-label variance (n, P) under the truth, and the information (n, P)."""
    rows = [squared_scores(model, plain, row, h) for row, h in zip(x, truth.natural_parameters(x), strict=True)]
    mean = np.array([weights @ values for values, weights, _ in rows])
    variance = np.array([naive.covariance(values, values, weights) for values, weights, _ in rows])
    return mean, variance, np.array([information for *_, information in rows])


@every_family
def test_fixed_random_and_per_input(family):
    model, plain, x = network(family, 1)
    x = x[:2]  # every input costs a sum over up to 200,000 labels
    truth = true_network(model)
    mean, variance, information = moments(model, plain, x, truth)
    tolerance = {"rtol": 1e-10, "atol": 1e-12 * mean.max()}
    squared = {"rtol": 1e-9, "atol": 1e-11 * variance.max()}
    each = fs.empirical_variance(model, x, truth=truth, per_input=True, n_draws=3)
    np.testing.assert_allclose(each["empirical"], mean, **tolerance)
    np.testing.assert_allclose(each["expected"], information, **tolerance)
    np.testing.assert_allclose(each["variance"], variance / 3, **squared)
    whole = fs.empirical_variance(model, x, truth=truth, n_draws=3)
    np.testing.assert_allclose(whole["bias"], (mean - information).mean(axis=0), **tolerance)
    np.testing.assert_allclose(whole["variance"], naive.combine_fixed(variance, 3), **squared)
    drawn = fs.empirical_variance(model, x, truth=truth, n_draws=4, design="random")
    np.testing.assert_allclose(drawn["variance"], naive.combine_random(mean, variance, 4), **squared)
    # The bias and the non-central terms are there to be seen.
    assert np.abs(mean - information).max() > 1e-3 * mean.max()


@every_family
@pytest.mark.parametrize("design", ["fixed", "random"])
def test_labels_of_the_model_give_the_score_estimator(family, design):
    model, _, x = network(family, 2)
    found = fs.empirical_variance(model, x, truth=model, n_draws=2, design=design)
    np.testing.assert_allclose(found["bias"], 0.0, rtol=0, atol=1e-15 * float(found["expected"].max()))
    each = fs.empirical_variance(model, x, truth=model, per_input=True)
    np.testing.assert_array_equal(each["bias"], 0.0)
    score = fs.estimator_variance(model, x, n_draws=2, design=design)["variance"].sel(estimator="score")
    np.testing.assert_allclose(found["variance"], score, rtol=1e-12, atol=1e-15 * float(score.max()))


@pytest.mark.parametrize("family", [F.Categorical(4), F.Categorical(4, minimal=True), F.Bernoulli()], ids=repr)
def test_a_network_and_the_table_of_its_probabilities_agree(family):
    model, _, x = network(family, 2)
    truth = true_network(model)
    h = truth.natural_parameters(x)
    p = family.mean(h)[:, 0] if family.name == "bernoulli" else family.at(h).p
    by_network, by_table = (fs.empirical_variance(model, x, **law) for law in ({"truth": truth}, {"probabilities": p}))
    for name in by_network:
        np.testing.assert_allclose(by_network[name], by_table[name], rtol=1e-12, atol=1e-14 * float(by_table[name].max()))


@pytest.mark.parametrize("family", FAMILIES[:-1], ids=repr)  # of one's own: differentiated numerically, in float64
def test_single_precision_follows_double_precision(family):
    model, _, x = network(family, 1)
    truth = true_network(model)
    single = fs.empirical_variance(model.as_dtype(np.dtype("f4")), x.astype("f4"), truth=truth)
    double = fs.empirical_variance(model, x, truth=truth)
    for name in double:
        assert single[name].dtype == np.float32
        np.testing.assert_allclose(single[name], double[name], rtol=2e-4, atol=1e-5 * float(np.abs(double[name]).max()))


def test_the_law_of_the_labels_is_in_the_provenance():
    model, _, x = network(F.Poisson(2), 1)
    truth = true_network(model)
    found = fs.empirical_variance(model, x, truth=truth)
    assert json.loads(found.attrs["provenance"])["truth"] == truth.fingerprint
    assert "truth" not in json.loads(fs.empirical_variance(*table_call()).attrs["provenance"])


def table_call():
    return fs.MLP.random([2, 1], activation=[], family=F.Bernoulli(), rng=0), [[1.0, 2.0]], [0.5]


def test_blocks_of_inputs_and_threads_do_not_change_a_bit():
    model, _, _ = network(F.GaussianMeanVariance(), 2)
    truth = true_network(model)
    x = np.random.default_rng(0).normal(size=(300, 2))
    one, two = (fs.empirical_variance(model, x, truth=truth, design="random", num_threads=k) for k in (1, 2))
    assert one.identical(two)


# --- what must not cancel ------------------------------------------------------------------------------------------


def shift(family, h, h_true, u):
    laws = [family.at(np.array([one], dtype=float)) for one in (h, h_true)]
    return float(mean_shift(*laws, np.array(u, dtype=float).reshape(1, -1, 1))[0, 0])


@pytest.mark.parametrize(("h", "h_true"), [(40.0, 90.0), (90.0, 40.0), (-40.0, -90.0), (40.0, -90.0), (0.3, 0.1), (-0.3, 50.0)])
def test_nearly_certain_labels_keep_their_distance(h, h_true):
    with mpmath.workdps(60):
        exact = _expit(h_true) - _expit(h)
        cases = [
            (F.Bernoulli(), [h], [h_true], [2.0], 2 * exact),
            (F.Binomial(7), [h], [h_true], [1.0], 7 * exact),
            (F.Categorical(2), [h, 0.0], [h_true, 0.0], [3.0, 1.0], 2 * exact),
            (F.Categorical(2, minimal=True), [h], [h_true], [3.0], 3 * exact),
            (F.Multinomial(5, 2), [0.0, h], [0.0, h_true], [1.0, 2.0], 5 * exact),
            (F.Product([F.Bernoulli(), F.Bernoulli()]), [0.0, h], [0.0, h_true], [9.0, 1.0], exact),
        ]
        for family, model, truth, u, expected in cases:
            assert shift(family, model, truth, u) == pytest.approx(float(expected), rel=1e-13, abs=0), family


def _expit(h):
    return 1 / (1 + mpmath.exp(-mpmath.mpf(h)))


def test_two_certain_laws_at_the_same_class_are_told_apart():
    """Labels surer than the model: the bias is -p(1-p) + (1-p)^2 with 1-p = 4e-18, far below one unit of rounding of 1."""
    model, truth = (fs.MLP([[[0.0, logit]]], activation=[], family=F.Bernoulli()) for logit in (40.0, 90.0))
    found = fs.empirical_variance(model, [[1.0]], truth=truth)
    with mpmath.workdps(60):
        p, q = _expit(40), _expit(90)
        mean = q * (1 - p) ** 2 + (1 - q) * p**2
        variance = q * (1 - q) * (1 - 2 * p) ** 2
        np.testing.assert_allclose(found["empirical"], float(mean), rtol=1e-12)
        np.testing.assert_allclose(found["variance"], float(variance), rtol=1e-12)


@pytest.mark.parametrize("location", [1e2, 1e4, 1e6])
def test_a_mean_far_above_the_deviation_keeps_the_shift(location):
    """Along u the statistic is (y - mu)^2 / 4 + 5 (y - mu) plus a constant; u itself is rounded, which the exact value knows."""
    h, h_true = np.array([location, -0.5]), np.array([location * 1.5 + 0.75, -0.75])
    u = np.array([5.0 - location / 2, 0.25])
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(value)) for value in (*h, *h_true, *u)]
        mu, mu_true = -exact[0] / (2 * exact[1]), -exact[2] / (2 * exact[3])
        s, s_true = -1 / (2 * exact[1]), -1 / (2 * exact[3])
        expected = exact[4] * (mu_true - mu) + exact[5] * (mu_true**2 + s_true - mu**2 - s)
        scale = float(abs(exact[4]) + 2 * abs(mu) * exact[5]) * 1e-16  # one rounding of the direction
        assert shift(F.GaussianMeanVariance(), h, h_true, u) == pytest.approx(float(expected), rel=1e-14, abs=scale)
        naively = float(u[0]) * float(mu_true - mu) + float(u[1]) * (float(mu_true**2 + s_true) - float(mu**2 + s))
        assert location < 1e6 or abs(naively - float(expected)) > 10 * scale


def test_a_square_that_hardly_varies_is_not_a_difference_of_moments():
    """A model of 1/2 has r^2 = 1/4 at either label, whose law does not matter; a Gaussian far away has (z + c)^2."""
    truth = fs.MLP([[[0.0, 1.0]]], activation=[], family=F.Bernoulli())
    half = fs.MLP([[[0.0, 0.0]]], activation=[], family=F.Bernoulli())
    variance = fs.empirical_variance(half, [[1.0]], truth=truth)["variance"].values
    assert np.all((variance >= 0) & (variance < 1e-32))
    far = fs.MLP([[[0.0, 1e6]]], activation=[], family=F.Gaussian())
    near = fs.MLP([[[0.0, 0.0]]], activation=[], family=F.Gaussian())
    # (z + c)^2 with c = 1e6: 4 c^2 + 2
    np.testing.assert_allclose(fs.empirical_variance(near, [[1.0]], truth=far)["variance"], 4e12 + 2, rtol=1e-15)


# --- what is refused -----------------------------------------------------------------------------------------------


def poisson(n_features=2, n_outputs=1):
    return fs.MLP.random([n_features, n_outputs], activation=[], family=F.Poisson(n_outputs), rng=0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "^The label distribution must be given once, as `probabilities` or as the network `truth`, got neither"),
        ({"probabilities": [0.5], "truth": poisson()}, ValueError, "`truth`, got both.$"),
        ({"truth": [0.5]}, TypeError, r"^`truth` must be a fisherstats.MLP with the family of the model, got \[0.5\].$"),
        ({"truth": poisson(3)}, ValueError, "^`truth` must take the 2 features of the model, got a network of 3 features.$"),
        (
            {"truth": poisson(n_outputs=2)},
            ValueError,
            r"^`truth` must have the family of the model, Poisson\(n_outputs=1\), got Poisson\(n_outputs=2\).$",
        ),
        ({"truth": fs.MLP.random([2, 1], activation=[], family=F.Bernoulli(), rng=0)}, ValueError, "got Bernoulli"),
        ({"probabilities": [0.5]}, fs.AssumptionError, "got poisson with 1 outputs; give the label distribution .* `truth`.$"),
    ],
)
def test_what_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fs.empirical_variance(poisson(), [[1.0, 2.0]], **arguments)


def test_a_truth_out_of_range_is_named():
    truth = fs.MLP([[[1e308, 1e308, 0.0]]], activation=[], family=F.Poisson())
    with pytest.raises(ValueError, match=r"^`truth` must give finite natural parameters, got inf for input 1, output 0"):
        fs.empirical_variance(poisson(), [[0.0, 0.0], [1.0, 2.0]], truth=truth)


@pytest.mark.parametrize(
    ("family", "other"),
    [
        (F.Binomial(3), F.Binomial(4)),
        (F.Gaussian(1), F.Gaussian(1, covariance=2.0)),
        (F.Product([F.Poisson(), F.Bernoulli()]), F.Product([F.Bernoulli(), F.Poisson()])),
        (F.Geometric(1), F.NegativeBinomial(1.0)),
    ],
    ids=repr,
)
def test_the_statistic_must_be_the_same(family, other):
    model, truth = (fs.MLP.random([2, one.n_outputs], activation=[], family=one, rng=0) for one in (family, other))
    with pytest.raises(ValueError, match=r"^`truth` must have the family of the model"):
        fs.empirical_variance(model, [[1.0, 2.0]], truth=truth)
