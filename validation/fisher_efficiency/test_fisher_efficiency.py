"""The expectations in closed form, and the claim on fewer replicates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import fisherstats as fs
from validation.fisher_efficiency import run


@pytest.mark.parametrize("offset", [0, 7])
def test_the_expected_ratio_of_the_natural_gradient(offset):
    t = np.arange(1, 101)
    np.testing.assert_allclose(run.expected_ratio(0.3, "natural", offset, 100), (t / (t + offset)) ** 2, rtol=1e-12)


@pytest.mark.parametrize("eigenvalue", [0.8, 1.0, 3.0])
def test_the_limit_of_the_plain_gradient(eigenvalue):
    found = run.expected_ratio(eigenvalue, "plain", 10, 200_000)[-1]
    np.testing.assert_allclose(found, eigenvalue**2 / (2 * eigenvalue - 1), rtol=5e-3)


def test_there_is_no_limit_below_one_half():
    found = run.expected_ratio(0.25, "plain", 10, 64_000)[[999, 3999, 15999, 63999]]
    np.testing.assert_allclose(found[1:] / found[:-1], 2, rtol=0.1)  # t^(1 - 2 l), four times the steps


def test_the_spread_is_measured_in_units_of_the_inverse_information():
    """Draws of an efficient estimate, and of one with twice the variance along the last eigenvector."""
    setting = run.Setting("Bernoulli", (0.5, -0.5, 0.2), steps=64, groups=2, replicates=4000)
    model = fs.MLP([[setting.truth]], activation=[], family=fs.families.Bernoulli())
    values, vectors = np.linalg.eigh(fs.fisher_information(model, run.DESIGN, view="full").values)
    scale = np.sqrt(np.array([1, 1, 2]) / values / 64)
    draws = np.random.default_rng(0).normal(size=(2, 1, 4000, 3)) * scale @ vectors.T + setting.truth
    paths = np.concatenate([draws, draws], axis=1)  # two checkpoints, 32 and 64 steps
    found = run.summary(paths, model, run.DESIGN, setting, "natural").isel(step=-1)
    np.testing.assert_allclose(found.ratio, [1, 1, 2], rtol=0.1)
    assert (abs(found.ratio - [1, 1, 2]) < 5 * found.ratio_error).all()
    assert float(found.bias) < 0.1


@pytest.mark.validation
@pytest.mark.parametrize("name", run.LINEAR)
def test_natural_gradient_is_efficient_and_the_plain_one_is_not(name):
    """Three directions with a false alarm of one in a thousand each; errors of first order in 1 / t are allowed for."""
    setting = run.LINEAR[name]._replace(steps=2048, groups=1, replicates=200)
    natural, plain = (run.descend(setting, method).isel(step=-1) for method in run.METHODS)
    # At 2,048 steps the covariances along a curved path are still up to 15 % below their limit, see the table.
    excess = (natural.ratio - natural.expected) / natural.ratio_error
    bound = stats.norm.isf(0.0005)
    assert (excess < bound).all()
    assert (excess > -bound - 0.15 * natural.expected / natural.ratio_error).all()
    # Where both have expectations far apart, they are far apart.
    apart = abs(np.log(plain.expected)) > 0.7
    assert apart.any()
    assert (np.sign(plain.ratio - natural.ratio) == np.sign(plain.expected - natural.expected))[apart].all()
