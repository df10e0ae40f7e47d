"""Moments of the families of independent heads with h < 0, and their links, against 60-digit arithmetic; what they refuse."""

from __future__ import annotations

import json
import pickle

import mpmath as mp
import numpy as np
import pytest

from fisherstats.models.families import (
    Dirichlet,
    Exponential,
    Gamma,
    GammaShapeRate,
    GaussianMeanVariance,
    Geometric,
    InverseGaussian,
    Laplace,
    Link,
    Multinomial,
    NegativeBinomial,
    Product,
    Weibull,
)

FAMILIES = [
    Exponential(2),
    Gamma(0.3, 2),
    Laplace(1.5, 2),
    Weibull(0.7, 2),
    InverseGaussian(2.0, 2),
    NegativeBinomial(1.5, 2),
    Geometric(2),
    GaussianMeanVariance(),
    GammaShapeRate(),
    Multinomial(3, 2),
    Multinomial(3, 3, minimal=True),
    Dirichlet(2),
    Product([Exponential(), Geometric()]),
]


def negative_binomial(r):
    def cumulants(h):
        q, s = mp.exp(h), -mp.expm1(h)
        return r * q / s, r * q / s**2, r * q * (1 + q) / s**3, r * q * (1 + 4 * q + q * q) / s**4

    return cumulants


def gamma(k):
    return lambda h: tuple(mp.factorial(m - 1) * k / (-h) ** m for m in range(1, 5))


def inverse_gaussian(shape):
    def cumulants(h):
        mu = mp.sqrt(-shape / (2 * h))
        return mu, mu**3 / shape, 3 * mu**5 / shape**2, 15 * mu**7 / shape**3

    return cumulants


POWERS = -(10.0 ** np.linspace(-12, 12, 49))
LOGS = np.concatenate([-(10.0 ** np.linspace(-25, 2, 55)), [-np.log(2), -300.0, -700.0]])
CASES = [
    *[(NegativeBinomial(r), LOGS, negative_binomial(r)) for r in (1e-3, 0.5, 7.25, 1e6)],
    (Geometric(), LOGS, negative_binomial(1)),
    (Exponential(), POWERS, gamma(1)),
    (Laplace(3.0), POWERS, gamma(1)),
    (Weibull(0.6), POWERS, gamma(1)),
    *[(Gamma(k), POWERS, gamma(k)) for k in (1e-3, 0.7, 12.0, 1e6)],
    *[(InverseGaussian(k), POWERS, inverse_gaussian(k)) for k in (1e-3, 0.7, 12.0, 1e6)],
]


@pytest.mark.parametrize(("family", "h", "cumulants"), CASES, ids=lambda case: repr(case) if hasattr(case, "name") else "")
def test_moments_have_full_relative_accuracy(family, h, cumulants):
    law, one = family.at(h[:, None]), np.ones((len(h), 1, 1))
    got = {
        1: law.mean[:, 0],
        2: law.diagonal(one)[:, 0],
        3: law.third_moment(one, one)[:, 0],
        4: law.cumulant(4)[:, 0, 0, 0, 0],
        "fourth": law.fourth_moment(one)[:, 0],
        "square": law.square_variance(one)[:, 0],
        "product": law.product_variance(one, one)[:, 0, 0],
        "form": law.quadratic_variance(one),
    }
    with mp.workdps(60):
        for row, point in enumerate(h):
            exact = cumulants(mp.mpf(float(point)))
            square = exact[3] + 2 * exact[1] ** 2
            wanted = {**dict(enumerate(exact, start=1)), "fourth": square + exact[1] ** 2}
            wanted |= dict.fromkeys(("square", "product", "form"), square)
            for name, value in wanted.items():
                assert abs(mp.mpf(float(got[name][row])) - value) < 1e-14 * value, (name, point)


EXACT_LINKS = {
    "identity": (lambda z: z, lambda z: mp.mpf(1), lambda z: mp.mpf(0)),
    "exp": (mp.exp,) * 3,
    "negative_exp": (lambda z: -mp.exp(z),) * 3,
    "negative_half_exp": (lambda z: -mp.exp(z) / 2,) * 3,
    "log_sigmoid": (
        lambda z: -mp.log1p(mp.exp(-z)),
        lambda z: 1 / (1 + mp.exp(z)),
        lambda z: -1 / (1 + mp.exp(z)) / (1 + mp.exp(-z)),
    ),
}


@pytest.mark.parametrize("function", EXACT_LINKS)
def test_links_are_accurate_in_both_tails(function):
    z = np.concatenate([np.linspace(-700, 700, 141), [1e-300, -1e-9, 1e-3]])
    got = Link((function,)).evaluate(z[:, None], 2)
    with mp.workdps(700):
        for values, exact in zip(got, EXACT_LINKS[function], strict=True):
            for value, point in zip(values[:, 0], z, strict=True):
                wanted = exact(mp.mpf(float(point)))
                assert abs(mp.mpf(float(value)) - wanted) <= 1e-14 * abs(wanted), point


def test_links_of_several_outputs():
    z = np.random.default_rng(0).normal(size=(5, 4))
    product = Product([Exponential(), GaussianMeanVariance(), Geometric()])
    assert product.link.functions == ("negative_exp", "identity", "negative_half_exp", "log_sigmoid")
    assert product.link.name == "negative_exp, identity, negative_half_exp, log_sigmoid"
    assert Exponential(3).link.name == "negative_exp"
    for order in range(3):
        whole = product.link.evaluate(z, order)
        assert len(whole) == order + 1
        for column, function in enumerate(product.link.functions):
            own = Link((function,)).evaluate(z[:, [column]], order)
            for joined, single in zip(whole, own, strict=True):
                np.testing.assert_array_equal(joined[:, [column]], single)
    assert Link(("exp",)).evaluate(z.astype(np.float32)[:, :1], 2)[2].dtype == np.float32
    assert Product([Multinomial(2, 2)]).link is None
    with pytest.raises(ValueError, match="`functions` must hold words of 'identity'"):
        Link(("logit",))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_links_lead_into_the_domain(family):
    z = np.random.default_rng(0).uniform(-30, 30, (40, family.n_outputs))
    law = family.at(z if family.link is None else family.link.evaluate(z)[0])
    u = np.random.default_rng(1).normal(size=(40, family.n_outputs, 2))
    assert np.isfinite(law.fourth_moment(u)).all()
    assert (law.square_variance(u) >= 0).all()


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_float32_agrees_with_float64(family):
    z = np.random.default_rng(3).normal(size=(20, family.n_outputs)).astype(np.float32)
    h = (z if family.link is None else family.link.evaluate(z)[0]).astype(np.float32)
    u = np.random.default_rng(4).normal(size=(20, family.n_outputs, 2)).astype(np.float32)
    single, double = family.at(h), family.at(h.astype(np.float64))
    assert single.mean.dtype == np.float32
    for moment in ("diagonal", "fourth_moment", "square_variance"):
        got, wanted = getattr(single, moment)(u), getattr(double, moment)(u.astype(np.float64))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max())
    assert family.sample(h, 0, 3).shape[:2] == (3, 20)
    assert single.draw(np.random.default_rng(0), 4, True).mean.dtype == np.float32


def test_natural_parameters_outside_the_domain_are_refused_by_value_and_input():
    with pytest.raises(ValueError, match=r"`h` must be below 0 in output 1 of the exponential family, got 0.5 at input 2"):
        Exponential(2).at(np.array([[-1.0, -1.0], [-1.0, -1.0], [-1.0, 0.5]]))
    with pytest.raises(ValueError, match=r"below 0 in output 0 of the geometric family, got 0.0 at input 0"):
        Geometric().at(np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"above 0 in output 1 of the dirichlet family, got -2.0 at input 1"):
        Dirichlet(2).at(np.array([[1.0, 1.0], [1.0, -2.0]]))
    with pytest.raises(ValueError, match=r"above 0 in output 0 of the gamma_shape_rate family, got 0.0 at input 0"):
        GammaShapeRate().at(np.array([[0.0, -1.0]]))
    with pytest.raises(ValueError, match=r"below 0 in output 1 of the gaussian_mean_variance family, got 3.0 at input 0"):
        GaussianMeanVariance().at(np.array([[0.0, 3.0]]))
    with pytest.raises(ValueError, match=r"below 0 in output 0 of the weibull family"):
        Product([Exponential(), Weibull(1.0)]).at(np.array([[-1.0, 1.0]]))


@pytest.mark.parametrize(
    ("family", "h"),
    [
        (Exponential(), [[-1.0], [-1e-90]]),
        (Exponential(), [[-1.0], [-1e90]]),
        (Gamma(1e6), [[-1.0], [-1e-77]]),
        (InverseGaussian(1.0), [[-1.0], [-1e-200]]),
        (NegativeBinomial(2.0), [[-1.0], [-1e-100]]),
        (GaussianMeanVariance(), [[0.0, -1.0], [1e100, -0.5]]),
        (GammaShapeRate(), [[1.0, -1.0], [1e200, -1.0]]),
        (Dirichlet(2), [[1.0, 1.0], [1e-200, 1.0]]),
        (Exponential(), np.array([[-1.0], [-1e-10]], dtype=np.float32)),
    ],
)
def test_moments_past_the_range_of_floats_are_refused_by_name_and_input(family, h):
    h = np.asarray(h)
    family.at(h[:1])
    with pytest.raises(
        ValueError, match=rf"`h` must give fourth moments within the range of {h.dtype}.*{family.name}.*at input 1"
    ):
        family.at(h)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gamma(0.0), "`shape` must be a finite number above 0"),
        (lambda: Weibull(np.nan), "`shape` must be a finite number above 0"),
        (lambda: InverseGaussian(-1.0), "`shape` must be a finite number above 0"),
        (lambda: NegativeBinomial(0), "`n_successes` must be a finite number above 0"),
        (lambda: Laplace(np.inf), "`location` must be finite"),
        (lambda: Laplace([1.0, 2.0]), "`location` must be one finite number"),
        (lambda: Exponential(0), "`n_outputs` must be a positive integer"),
        (lambda: Multinomial(0, 2), "`n_trials` must be a positive integer"),
        (lambda: Multinomial(2, 1), "`n_classes` must be at least 2"),
        (lambda: Dirichlet(1), "`n_classes` must be at least 2"),
        (lambda: Product([]), "`families` must be a list of at least one family"),
        (lambda: Product([Exponential(), "poisson"]), "got 'poisson' at position 1"),
    ],
)
def test_wrong_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_families_are_values(family):
    assert pickle.loads(pickle.dumps(family)) == family
    assert hash(family) == hash(pickle.loads(pickle.dumps(family)))
    assert json.loads(json.dumps(family.parameters()))["n_outputs"] == family.n_outputs
    with pytest.raises(AttributeError):
        family.n_outputs = 7
    assert family != Exponential(9)
