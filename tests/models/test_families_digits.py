"""Log-likelihoods, divergences and mean absolute deviations over the whole range of every family, against many digits."""

from __future__ import annotations

import warnings

import mpmath as mp
import numpy as np
import pytest

from fisherstats import families as F
from fisherstats.models.families import deviance, double_double
from fisherstats.models.families.mean_shift import mean_shift
from fisherstats.theory import response_support
from fisherstats.theory.divergence import bregman
from tests import digits

TYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])
AWAY = (0.0, 0.3, -1.0, 3.0, -30.0, 1e4)
"""Labels lie at the mean and so many deviations from it."""


def around(mean, deviation, least=0.0):
    return [max(least, mean + z * deviation) for z in AWAY]


def counted(mean, deviation, most=np.inf):
    return [[min(float(np.floor(y)), most)] for y in around(mean, deviation)]


def poisson():
    for rate in (1e-3, 2.0, 100.0, 1e4, 5e15, 1e30):
        yield F.Poisson(), [np.log(rate)], counted(rate, np.sqrt(rate))
    yield F.Poisson(), [-700.0], [[0.0], [1e5]]


def binomial():
    for n in (1, 7, 200, 10**6, 10**15, 2**62 + 2**12):
        for h in (0.3, -34.0, 12.0):
            p, q = 1 / (1 + np.exp(-h)), 1 / (1 + np.exp(h))
            labels = counted(n * p, np.sqrt(n * p * q), n if n < 2**53 else np.nextafter(float(n), 0))
            yield F.Binomial(n), [h], [*labels, [0.0]]


def failures():
    for r in (1e-5, 0.7, 30.0, 1e6, 6e16):
        for mean in (1e-3, np.exp(4.0), 1e8, 1e14):
            labels = counted(mean, np.sqrt(mean + mean * mean / r))
            yield F.NegativeBinomial(r), [-np.log1p(r / mean)], [*labels, [39.0]]
    yield F.Geometric(), [-1e-15], [[0.0], [1e15]]
    yield F.Geometric(), [-30.0], [[0.0], [3.0]]


def gammas():
    for k in (1e-5, 0.5, 1.0, 100.0, 1e5, 1e12):
        for rate in (1e-6, 3.0, 1e6):
            labels = [[y] for y in around(k / rate, np.sqrt(k) / rate, 1e-9 * k / rate)]
            yield F.Gamma(k), [-rate], labels
            yield F.GammaShapeRate(), [k, -rate], labels


def positives():
    for rate in (1e-9, 1.0, 1e12):
        yield F.Exponential(), [-rate], [[0.0], [1 / rate], [1e-9], [40 / rate]]
        yield F.Laplace(1.5), [-rate], [[1.5], [1.5 + 1 / rate], [-3.0]]
        for c in (0.2, 1.7, 1e4):
            yield F.Weibull(c), [-rate], [[(1 / rate) ** (1 / c)], [(3 / rate) ** (1 / c)]]
        for shape in (1e-3, 2.0, 1e6, 1e13):
            mean = np.sqrt(shape / (2 * rate))
            yield F.InverseGaussian(shape), [-rate], [[y] for y in around(mean, mean * np.sqrt(mean / shape), mean / 1e3)]


def gaussians():
    for mean in (0.0, 3.0, -1e4, 1e9):
        for deviation in (1e-3, 1.0, 1e3):
            labels = [[mean + z * deviation] for z in AWAY]
            yield F.GaussianMeanVariance(), [mean / deviation**2, -0.5 / deviation**2], labels
            yield F.Gaussian(covariance=deviation**2), [mean], labels


def classes():
    rng = np.random.default_rng(1)
    for minimal in (False, True):
        for size in (1.0, 50.0):
            h = size * rng.normal(size=4 - minimal)
            full = np.append(h, 0.0)[:4]
            p = np.exp(full - full.max()) / np.exp(full - full.max()).sum()
            yield F.Categorical(4, minimal=minimal), list(h), [[0], [1], [2], [3]]
            for n in (1, 50, 10**6, 10**15):
                yield F.Multinomial(n, 4, minimal=minimal), list(h), [*rng.multinomial(n, p, 3), [0, n, 0, 0]]
    yield F.Bernoulli(), [34.0], [[0], [1]]
    yield F.Bernoulli(), [-700.0], [[0], [1]]


def proportions():
    rng = np.random.default_rng(2)
    for alpha in ([1e-3, 1e-3, 2e-3], [0.5, 2.0, 70.0], [1e6, 3e5, 2e6], [1e10, 2e10], [1e-2, 1e9, 5.0]):
        alpha = np.array(alpha)
        middle = alpha / alpha.sum()
        spread = np.sqrt(middle * (1 - middle) / alpha.sum())
        labels = [np.abs(middle + z * spread * rng.normal(size=len(alpha))) for z in (0.0, 1.0, 5.0)]
        yield F.Dirichlet(len(alpha)), list(alpha), [label / label.sum() for label in labels]


EVERY = [case for cases in (poisson, binomial, failures, gammas, positives, gaussians, classes, proportions) for case in cases()]
BY_NAME = {name: [case for case in EVERY if case[0].name == name] for name in {case[0].name for case in EVERY}}


def accepted(family, h, labels):
    """Labels and log probabilities where this precision takes the parameters."""
    try:
        family.at(h)
    except ValueError:
        return
    for y in labels:
        label = np.array([y], dtype=np.int64)[:, 0] if family.labels_are_classes else np.array([y], dtype=np.float64)
        yield y, float(family.log_prob(h, label)[0])


@TYPES
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_log_probabilities(name, dtype):
    looked_at = 0
    for family, h, labels in BY_NAME[name]:
        with np.errstate(over="ignore"):
            natural = np.array([h], dtype=dtype)
        for y, found in accepted(family, natural, labels) if np.isfinite(natural).all() else ():
            wanted = digits.log_probability(family, natural[0], y)
            assert abs(found - wanted) <= 1e-12 * max(1, abs(wanted)), (family, h, y, found, wanted)
            looked_at += 1
    assert looked_at >= 2


def test_one_large_label_does_not_change_another():
    h, y = np.log([[3.0], [1e9], [40.0]]), np.array([[2.0], [1e9], [41.0]])
    whole = F.Poisson().log_prob(h, y)
    np.testing.assert_array_equal(whole, np.concatenate([F.Poisson().log_prob(h[k : k + 1], y[k : k + 1]) for k in range(3)]))


def test_rows_of_the_audit():
    def log_prob(family, h, y):
        return float(family.log_prob(np.array([[h]]), np.array([[y]]))[0])

    rate = np.log(5e15)
    assert log_prob(F.Poisson(), rate, np.exp(rate)) == pytest.approx(-18.99304569, abs=1e-8)
    mode = np.floor((1e15 + 1) / (1 + np.exp(-0.3)))
    assert log_prob(F.Binomial(10**15), 0.3, mode) == pytest.approx(-17.484, abs=1e-3)
    h = -np.log1p(6e16 / np.exp(4.0))
    assert log_prob(F.NegativeBinomial(6e16), h, 39.0) == pytest.approx(-5.22991, abs=1e-5)


def moved(h, size, rng):
    """Natural parameters near h, in the same natural domain; signs and proportions are kept, or the last number alone moves."""
    factor = np.exp(size * rng.normal(size=len(h)))
    if rng.random() < 0.5:
        factor[:] = factor[0]
    return h * factor


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_divergences(name):
    rng = np.random.default_rng(3)
    looked_at = 0
    for family, h, _ in BY_NAME[name]:
        for size in (1e-12, 1e-7, 1e-3, 0.5):
            h = np.array(h, dtype=np.float64)
            other = moved(h, size, rng)
            if (other == h).all():
                continue
            for one, two in ((h, other), (other, h)):
                found = float(bregman(family, family.at(one[None]), two[None])[0])
                wanted = digits.divergence(family, one, two)
                assert abs(found - wanted) <= 1e-12 * abs(wanted) + 1e-300, (family, one, two, found, wanted)
                looked_at += 1
    assert looked_at >= 8


FAR = [
    (F.Bernoulli(), [34.0], [-700.0]),
    (F.Poisson(), [-300.0], [40.0]),
    (F.NegativeBinomial(3.0), [-40.0], [-1e-12]),
    (F.Gamma(1e-5), [-1.0], [-1e-9]),
    (F.InverseGaussian(2.0), [-1e-6], [-1e6]),
    (F.GammaShapeRate(), [1e-4, -1.0], [1e8, -1e3]),
    (F.Dirichlet(3), [1e-3, 1e-3, 2e-3], [1e6, 3.0, 1e-2]),
    (F.Dirichlet(2), [1e6, 1e-10], [1e3, 1e-10]),
    (F.Categorical(3), [0.0, 300.0, -500.0], [200.0, -1.0, 3.0]),
]


@pytest.mark.parametrize(("family", "h", "other"), FAR, ids=lambda value: repr(value))
def test_divergences_of_laws_far_apart(family, h, other):
    for one, two in ((h, other), (other, h)):
        found = float(bregman(family, family.at(np.array([one])), np.array([two]))[0])
        assert found == pytest.approx(float(digits.divergence(family, one, two)), rel=1e-12)


class Waiting(F.LogPartitionFamily):
    """Exponential waiting times, as a user writes them."""

    name, n_outputs, bounded = "waiting", 1, False

    def log_partition(self, h):
        return -np.log(-h[..., 0])

    def statistic(self, y):
        return y

    def sample(self, h, rng, n_draws):
        raise AssertionError("no label is needed")

    def check_labels(self, y, n):
        return y


def test_divergence_of_a_family_of_a_user():
    for step in (1e-9, 1e-3, 0.5, 30.0):
        h, other = np.array([[-2.0]]), np.array([[-2.0 - step]])
        wanted = float(digits.divergence(F.Exponential(), h[0], other[0]))
        assert float(bregman(Waiting(), Waiting().at(h), other)[0]) == pytest.approx(wanted, rel=1e-9)


def test_divergence_of_a_law_of_which_nothing_is_known():
    class Law:
        def __init__(self, h):
            self.h, self.own = h, F.Dirichlet(3).at(h)

        def diagonal(self, u):
            return self.own.diagonal(u)

    class Family:
        def at(self, h):
            return Law(h)

    h, other = np.array([[1e-3, 5.0, 70.0], [2.0, 2.0, 2.0]]), np.array([[3.0, 1e4, 1e-2], [2.0, 2.0, 2.1]])
    found = bregman(Family(), Law(h), other)
    wanted = [float(digits.divergence(F.Dirichlet(3), *rows)) for rows in zip(h, other, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-11)


def deviation(family, h):
    """E|t - E[t]| as a sum over labels, or from the incomplete functions."""
    mean = digits.CUMULANTS[family.name][1](family, [mp.mpf(float(h))])[0]
    total, y = mp.mpf(0), 0
    while y < 60 + 12 * mean:
        total += abs(y - mean) * mp.exp(digits.log_probability(family, [h], [y])) if y <= getattr(family, "n_trials", y) else 0
        y += 1
    return total


@TYPES
@pytest.mark.parametrize(
    ("family", "h"),
    [
        *((F.Poisson(), h) for h in (-3.0, 0.0, 1.7, 3.0)),
        *((F.Binomial(9), h) for h in (-3.0, 0.0, 2.0)),
        *((F.NegativeBinomial(2.5), h) for h in (-3.0, -0.4)),
        (F.Geometric(), -0.5),
    ],
    ids=repr,
)
def test_mean_absolute_deviation_of_counts(family, h, dtype):
    natural = np.array([[h]], dtype=dtype)
    found = response_support.mean_absolute_residual(family, family.at(natural))
    assert found.dtype == np.float64
    assert float(found[0]) == pytest.approx(float(deviation(family, natural[0, 0])), rel=1e-12)


@pytest.mark.validation
def test_mean_absolute_deviation_of_real_labels():
    for family, h in (
        (F.Exponential(), -0.3),
        (F.Gamma(1e-3), -2.0),
        (F.Gamma(2.5), -2.0),
        (F.Laplace(0.4), -2.0),
        (F.Weibull(1.7), -2.0),
    ):
        k, b = mp.mpf(getattr(family, "shape", 1.0) if family.name == "gamma" else 1), mp.mpf(-1 / h)
        wanted = 2 * b * k**k * mp.exp(-k) / mp.gamma(k)
        found = response_support.mean_absolute_residual(family, family.at(np.array([[h]])))[0]
        assert float(found) == pytest.approx(float(wanted), rel=1e-12)
    for shape in (0.1, 2.0, 1e8):
        family = F.InverseGaussian(shape)
        found = response_support.mean_absolute_residual(family, family.at(np.array([[-0.7]])))[0]
        assert float(found) == pytest.approx(float(integrated_deviation(family, -0.7, np.sqrt(shape / 1.4))), rel=1e-8)


def integrated_deviation(family, h, mean):
    spread = np.sqrt(mean / family.shape)
    panels = mean * np.linspace(max(0.0, 1 - 9 * spread), 1 + 9 * spread, 13)[1:]
    with mp.workdps(20):  # twice the digits that are compared
        return mp.quad(
            lambda y: abs(y - mean) * mp.exp(digits.log_probability(family, [h], [y])), sorted([0, *panels, mean, mp.inf])
        )


@TYPES
def test_mean_absolute_deviation_of_large_counts(dtype):
    """De Moivre's forms in many digits, at the first whole number above the mean."""
    cases = [(F.Poisson(), np.log(rate)) for rate in (1e6, 1e7, 1e9, 1e12, 1e15)]
    cases += [(F.Binomial(n), h) for n in (10**6, 10**12, 2**62) for h in (-3.0, 0.2)]
    cases += [(F.NegativeBinomial(r), -np.log1p(r / 1e12)) for r in (0.5, 1e6, 1e14)]
    for family, value in cases:
        h = np.array([[value]], dtype=dtype)
        exact = mp.mpf(float(h[0, 0]))
        try:
            law = family.at(h)
        except ValueError:
            continue
        with mp.workdps(60):
            mean = digits.CUMULANTS[family.name][1](family, [exact])[0]
            above = mp.floor(mean) + 1
            factor = 1
            if family.name == "binomial":
                factor = 1 / (1 + mp.exp(exact))
            elif family.name == "negative_binomial":
                factor = 1 / -mp.expm1(exact)
            own = digits.LOG_PROBABILITY[family.name](family, [exact], [above])
            wanted = 2 * factor * above * mp.exp(own)
        assert float(response_support.mean_absolute_residual(family, law)[0]) == pytest.approx(float(wanted), rel=1e-12)


def test_shifts_of_a_mean_keep_what_divergences_keep():
    for family, h, step in (
        (F.Poisson(), np.log(1e14), 1e-7),
        (F.NegativeBinomial(1e6), -1e-7, 1e-13),
        (F.Gamma(1e12), -3.0, 1e-9),
        (F.InverseGaussian(1e9), -2.0, 1e-9),
    ):
        one, two = np.array([[h]]), np.array([[h + step]])
        mean = digits.CUMULANTS[family.name][1]
        with mp.workdps(60):
            wanted = mean(family, [mp.mpf(two[0, 0])])[0] - mean(family, [mp.mpf(one[0, 0])])[0]
        found = mean_shift(family.at(one), family.at(two), np.ones((1, 1, 1)))[0, 0]
        assert float(found) == pytest.approx(float(wanted), rel=1e-12)


def test_pairs_of_floats():
    rng = np.random.default_rng(4)
    x = np.exp(rng.uniform(-700, 700, 200))
    x = np.concatenate([x, 1 + rng.normal(size=100) * 1e-9, 2.0 ** np.arange(-30, 30), np.nextafter(2.0 ** np.arange(-9, 9), 0)])
    with mp.workdps(60):
        for value, high, low in zip(x, *double_double.log_pair(x), strict=True):
            assert abs(mp.mpf(high) + mp.mpf(low) - mp.log(mp.mpf(value))) < 1e-28
        a, b = rng.normal(size=(2, 50)) * 10.0 ** rng.integers(-9, 9, (2, 50))
        for value, high, low in zip(zip(a, b, strict=True), *double_double.two_product(a, b), strict=True):
            assert mp.mpf(value[0]) * mp.mpf(value[1]) == mp.mpf(high) + mp.mpf(low)
        values = rng.normal(size=(9, 13)) * 10.0 ** rng.integers(-9, 9, (9, 13))
        for row, high, low in zip(values, *double_double.exact_sum(values), strict=True):
            assert abs(mp.mpf(high) + mp.mpf(low) - mp.fsum(row.tolist())) <= 1e-30 * abs(row).max()


def test_excesses():
    with mp.workdps(60), warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in (-0.999, -0.6, -0.2, -0.1, -1e-3, 1e-12, 0.0999, 0.1, 0.19, 0.21, 3.0, 50.0):
            number, array = mp.mpf(x), np.array([x])
            assert float(deviance.exp_excess(array)[0]) == pytest.approx(float(mp.expm1(number) - number), rel=1e-14)
            assert float(deviance.log_excess(array)[0]) == pytest.approx(float(number - mp.log1p(number)), rel=1e-14)
        for k in (1e-8, 0.3, 15.9, 16.0, 1e3, 1e15):
            remainder = mp.loggamma(k) - k * mp.log(k) + k
            assert float(deviance.log_gamma_remainder(np.array([k]))[0]) == pytest.approx(float(remainder), rel=1e-13, abs=1e-14)
