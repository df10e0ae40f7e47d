"""Quantities that are functions of the laws alone: right for large and for nearly equal parameters, and no label is drawn."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import families as F
from fisherstats.models.families.base import Family
from tests import digits
from tests.device.test_families import FAMILIES

ap = fs.applications
ONE = np.ones((1, 1))


def constant(family, z, dtype=np.float64):
    """A network with the outputs z at every input."""
    z = np.atleast_1d(np.asarray(z, dtype=np.float64))
    return fs.MLP([np.stack([np.zeros(len(z)), z], axis=1).astype(dtype)], activation=[], family=family)


def apart(family, z, other):
    return ap.output_divergence(constant(family, z), constant(family, other), ONE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [1e6, 1e7, 1e9, 1e12, 1e15])
def test_norm_of_a_poisson_output_of_large_mean(rate, dtype):
    model = constant(F.Poisson(), np.log(rate), dtype)
    found = ap.expected_gradient_length(model, ONE.astype(dtype), score="norm")
    deviation = np.sqrt(2 / np.pi * np.exp(float(model.weights[0][0, 1])))  # E|y - mean| to 1 / (12 mean)
    assert found.norm.dtype == dtype
    np.testing.assert_allclose(found.norm / np.sqrt(2), deviation, rtol=1e-6 if dtype == np.float32 else 1e-7)
    assert found.norm_standard_error == 0


@pytest.mark.parametrize("family", [F.Binomial(10**9), F.NegativeBinomial(1e9), F.Gamma(1e9), F.InverseGaussian(1e9)], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norm_of_a_nearly_gaussian_output(family, dtype):
    model = constant(family, -0.3, dtype)
    found = ap.expected_gradient_length(model, ONE.astype(dtype), score=("norm", "squared_norm"))
    np.testing.assert_allclose(found.norm, np.sqrt(2 / np.pi * found.squared_norm), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_and_entropies_of_a_support_are_summed_in_float64(dtype):
    x = np.array([[1.0]], dtype=dtype)
    model = fs.MLP([np.array([[1.0, 0.3], [0.2, -0.4], [-3.0, 0.1]], dtype=dtype)], activation=[], family=F.Categorical(3))
    wide = model.as_dtype(np.float64)
    one, two = (ap.expected_gradient_length(each, x.astype(each.weights[0].dtype), score="norm") for each in (model, wide))
    np.testing.assert_allclose(one.norm, two.norm, rtol=3e-7)


def test_poisson_and_gamma_laws_one_deviation_apart():
    for rate, wanted in ((1e12, 0.5000002), (1e14, 0.5)):
        found = apart(F.Poisson(), np.log(rate + np.sqrt(rate)), np.log(rate))
        np.testing.assert_allclose([found.divergence, found.reverse], wanted, rtol=2e-6)
    for shape in (1e9, 1e12):
        found = apart(F.Gamma(shape), 0.0, 0.1 / np.sqrt(shape))
        np.testing.assert_allclose([found.divergence, found.reverse], 0.005, rtol=1e-5)


def test_jeffreys_keeps_what_its_parts_keep():
    found = apart(F.Bernoulli(), 34.0, 35.0)
    assert float(found.jeffreys) == pytest.approx(1.0834e-15, rel=1e-4)
    for family, z, other in (
        (F.Bernoulli(), [34.0], [35.0]),
        (F.GaussianMeanVariance(), [1.1e8, 0.02], [1.1e8 * np.exp(0.7), 0.72]),
        (F.Poisson(), [30.0], [30.0 + 1e-9]),
    ):
        found = apart(family, z, other)
        h, away = (constant(family, one).natural_parameters(ONE)[0] for one in (z, other))
        wanted = digits.divergence(family, h, away) + digits.divergence(family, away, h)
        assert float(found.jeffreys) == pytest.approx(float(wanted), rel=1e-12)
        assert found.jeffreys == found.divergence + found.reverse


def test_laws_whose_labels_are_below_all_floats():
    alpha = np.array([1e-3, 1e-3, 2e-3])
    step = np.exp(0.3 * np.arange(3.0))
    found = apart(F.Dirichlet(3), np.log(alpha), np.log(alpha * step))
    assert float(found.divergence) == pytest.approx(float(digits.divergence(F.Dirichlet(3), alpha, alpha * step)), rel=1e-10)
    found = apart(F.Gamma(1e-5), 0.0, 0.1)
    assert float(found.divergence) == pytest.approx(1e-5 * (np.expm1(0.1) - 0.1), rel=1e-10)
    model = constant(F.Dirichlet(3), np.log(alpha))
    delta = np.array([0.0, 0.0, 0.0, 0.3, 0.0, 0.6])
    moved = ap.length_element(model, ONE, delta)
    assert float(moved.total_divergence) == pytest.approx(
        float(digits.divergence(F.Dirichlet(3), alpha, alpha * step)), rel=1e-10
    )


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_no_label_is_drawn(family, monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError("a label was drawn")

    for one in {type(family), *(type(part) for part in getattr(family, "families", ()))}:
        assert issubclass(one, Family)
        monkeypatch.setattr(one, "sample", refused)
    model, other = (fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=seed) for seed in (0, 1))
    x = np.random.default_rng(0).normal(size=(4, 2))
    found = ap.output_divergence(model, other, x, per_input=True)
    assert (found.divergence > 0).all()
    assert (found.reverse > 0).all()
    step = np.full(model.n_params, 1e-4)
    length = ap.length_element(model, x, step)
    np.testing.assert_allclose(2 * length.total_divergence, length.total_squared_length, rtol=1e-2)
    ap.expected_gradient_length(model, x)
    ap.fisher_rao_norm(model, x)
    ap.information_volume(model, x, tau=1.0)
