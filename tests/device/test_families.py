"""Every moment of every family on the stand-in for a device, against the host."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fisherstats import families
from fisherstats.core.arrays import all_held, noted_checks
from fisherstats.models.families.mean_shift import mean_shift
from fisherstats.models.families.quadratic_and_linear import combined_variance
from tests.device.arrays import DeviceArray, no_transfers, to_device

FAMILIES = [
    families.Bernoulli(),
    families.Bernoulli(3),
    families.Binomial(5, 2),
    families.Poisson(2),
    families.Categorical(4),
    families.Categorical(4, minimal=True),
    families.Multinomial(1, 3),
    families.Multinomial(3, 3, minimal=True),
    families.Gaussian(2),
    families.Gaussian(2, covariance=[0.5, 2.0]),
    families.Gaussian(2, covariance=[[1.3, -0.5], [-0.5, 0.6]]),
    families.GaussianMeanVariance(),
    families.GammaShapeRate(),
    families.NegativeBinomial(2.5, 2),
    families.Geometric(2),
    families.Exponential(2),
    families.Gamma(2.5, 2),
    families.InverseGaussian(1.5, 2),
    families.Laplace(0.5, 2),
    families.Weibull(1.5, 2),
    families.Dirichlet(3),
    families.Product([families.Bernoulli(), families.Categorical(3), families.Dirichlet(2), families.GaussianMeanVariance()]),
]


def natural(family, n=5):
    z = np.random.default_rng(3).normal(size=(n, family.n_outputs))
    return z if family.link is None else family.link.evaluate(z, 0)[0]


def agree(found, wanted):
    assert isinstance(found, DeviceArray)
    assert found.dtype == wanted.dtype
    rtol, atol = (1e-12, 1e-13) if wanted.dtype == np.float64 else (2e-5, 2e-6)
    np.testing.assert_allclose(found.get(), wanted, rtol=rtol, atol=atol * np.abs(wanted).max())


MOMENTS = {
    "mean": lambda law, at: law.mean,
    "information": lambda law, at: law.information(),
    "product": lambda law, at: law.product(at.u),
    "diagonal": lambda law, at: law.diagonal(at.u),
    "rows": lambda law, at: law.rows(at.u),
    "fourth_moment": lambda law, at: law.fourth_moment(at.u),
    "square_variance": lambda law, at: law.square_variance(at.u),
    "third_moment": lambda law, at: law.third_moment(at.u, at.v),
    "joint_moments": lambda law, at: np.stack(law.joint_moments(at.u, at.v)),
    "product_variance": lambda law, at: law.product_variance(at.u, at.v),
    "quadratic_mean": lambda law, at: law.quadratic_mean(at.a),
    "quadratic_mean of one form": lambda law, at: law.quadratic_mean(at.a[:, 0]),
    "quadratic_variance": lambda law, at: law.quadratic_variance(at.a),
    "quadratic_variance of one form": lambda law, at: law.quadratic_variance(at.a[:, 0]),
    "quadratic_third_moment": lambda law, at: law.quadratic_third_moment(at.a, at.s),
    "quadratic_third_moment of one form": lambda law, at: law.quadratic_third_moment(at.a[:, 0], at.s[:, 0]),
    "cumulants": lambda law, at: np.concatenate([law.cumulant(order).reshape(len(at.u), -1) for order in range(1, 5)], axis=1),
    "combined_variance": lambda law, at: combined_variance(law, at.u, at.v),
    "quadratic_form_of_a_draw": lambda law, at: law.second_moment_of(at.v.mT, at.w).diagonal(at.u),
}


def directions(n, outputs, dtype):
    """Directions u and v, symmetric forms a, vectors s, and weights w."""
    rng = np.random.default_rng(4)
    u, v = rng.normal(size=(2, n, outputs, 3)).astype(dtype)
    a = rng.normal(size=(n, 2, outputs, outputs)).astype(dtype)
    s = rng.normal(size=(n, 2, outputs)).astype(dtype)
    return SimpleNamespace(u=u, v=v, a=(a + a.mT) / 2, s=s, w=rng.random(size=(n, 3)).astype(dtype))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_moments_of_every_family(family, dtype):
    h = natural(family).astype(dtype)
    at = directions(*h.shape, dtype)
    there = SimpleNamespace(**{name: to_device(array) for name, array in vars(at).items()})
    with noted_checks() as noted, no_transfers():
        law = family.at(to_device(h))
        found = {name: moment(law, there) for name, moment in MOMENTS.items()}
    assert noted
    assert all_held(noted)
    host = family.at(h)
    for name, moment in MOMENTS.items():
        agree(found[name], moment(host, at))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_residuals_and_shifted_means(family):
    h = natural(family)
    other = h * (1 + 1e-6)
    host, elsewhere = family.at(h), family.at(to_device(h))
    y = family.check_labels(family.sample(h, 1, 1)[0], len(h))
    agree(elsewhere.residual(to_device(y)), host.residual(y))
    u = np.random.default_rng(5).normal(size=(*h.shape, 2))
    agree(mean_shift(elsewhere, family.at(to_device(other)), to_device(u)), mean_shift(host, family.at(other), u))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_log_probabilities(family, dtype):
    h = natural(family).astype(dtype)
    y = family.check_labels(family.sample(h, 1, 1)[0], len(h))
    there, labels = to_device(h), to_device(y)
    with noted_checks() as noted, no_transfers():
        found = family.log_prob(there, labels)
    assert all_held(noted)
    agree(found, family.log_prob(h, y))


EVERY_REAL_LABEL = (families.Gaussian, families.GaussianMeanVariance, families.Laplace)


@pytest.mark.parametrize("family", [one for one in FAMILIES if not isinstance(one, EVERY_REAL_LABEL)], ids=repr)
def test_labels_outside_the_support_are_refused_on_a_device(family):
    h = natural(family)
    y = family.check_labels(family.sample(h, 1, 1)[0], len(h))
    y.reshape(-1)[3] = -1
    with np.errstate(invalid="ignore"), noted_checks() as noted, no_transfers():
        family.log_prob(to_device(h), to_device(y))
    assert not all_held(noted)
    with pytest.raises(ValueError, match="`y` must") as wanted:
        family.log_prob(h, y)
    with pytest.raises(ValueError, match="`y` must") as found:
        family.log_prob(to_device(h), to_device(y))
    assert str(found.value) == str(wanted.value).replace("-1.0", "-1" if family.labels_are_classes else "-1.0")


def test_natural_parameters_outside_the_domain_are_refused_on_a_device():
    h = to_device(np.array([[-1.0], [np.nan], [2.0]]))
    with pytest.raises(ValueError, match="`h` must be finite"):
        families.Exponential().at(h)
    with pytest.raises(ValueError, match=r"`h` must be below 0 in output 0 .* got 2\.0 at input 1"):
        families.Exponential().at(h[[0, 2]])
    with noted_checks() as noted, no_transfers():
        families.Exponential().at(h[[0, 2]])
        families.Bernoulli().at(h[[0, 2]])
    assert not all_held(noted)
    assert all_held(noted[-1:])
