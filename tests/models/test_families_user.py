"""Families given by a log-partition: numerical cumulants against exact ones, with the errors that they state."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from fisherstats.core.validation import families as checks
from fisherstats.models.families import Bernoulli, Categorical, GammaShapeRate, Link, LogPartitionFamily
from fisherstats.testing import check_family


class Coin(LogPartitionFamily):
    name = "coin"
    n_outputs = 1

    def log_partition(self, h):
        return np.log1p(np.exp(h[..., 0]))

    def statistic(self, y):
        return np.asarray(y, dtype=np.float64)

    def sample(self, h, rng, n_draws):
        return (rng.random((n_draws, *h.shape)) < special.expit(h)).astype(np.int64)

    def check_labels(self, y, n):
        return checks.labels_in_support(checks.label_array(y, n, 1), 1, self.name)


class RealCoin(Coin):
    """`logaddexp` takes no complex numbers."""

    def log_partition(self, h):
        return np.logaddexp(0, h[..., 0])


class DeceptiveCoin(Coin):
    """Takes complex numbers and returns some, but is not analytic: a circle gives half the derivative, consistently."""

    def log_partition(self, h):
        return np.logaddexp(0, np.real(h[..., 0])) + 0j


class Shaped(LogPartitionFamily):
    name = "shaped"
    n_outputs = 2
    bounded = False
    link = Link(("exp", "negative_exp"))

    def log_partition(self, h):
        return special.loggamma(h[..., 0]) - h[..., 0] * np.log(-h[..., 1])

    def log_base(self, y):
        return -np.log(y[..., 0])

    def statistic(self, y):
        return GammaShapeRate().statistic(y)

    def sample(self, h, rng, n_draws):
        return GammaShapeRate().sample(h, rng, n_draws)

    def check_labels(self, y, n):
        return GammaShapeRate().check_labels(y, n)


class Classes(LogPartitionFamily):
    name = "classes"
    n_outputs = 3
    labels_are_classes = True

    def log_partition(self, h):
        return special.logsumexp(h, axis=-1)

    def statistic(self, y):
        return np.eye(3)[np.asarray(y)]

    def sample(self, h, rng, n_draws):
        return Categorical(3).sample(h, rng, n_draws)

    def check_labels(self, y, n):
        return Categorical(3).check_labels(y, n)


def relative_errors(law, exact):
    """Largest errors of the cumulants relative to the fourth roots of fourth moments, by order."""
    n, outputs = law.h.shape
    size = exact.fourth_moment(np.broadcast_to(np.eye(outputs), (n, outputs, outputs))) ** 0.25
    errors = {}
    for order in range(1, 5):
        scale = np.ones(n)
        for axis in range(order):
            scale = scale[..., None] * size.reshape(n, *(1,) * axis, outputs)
        errors[order] = float((np.abs(law.cumulant(order) - exact.cumulant(order)) / scale).max())
    return errors


@pytest.mark.parametrize(
    ("family", "limits"),
    [
        (Coin(), (1e-13, 1e-13, 1e-12, 1e-11)),
        (RealCoin(), (1e-11, 1e-9, 1e-7, 1e-6)),
        (DeceptiveCoin(), (1e-11, 1e-9, 1e-7, 1e-6)),
    ],
    ids=lambda case: getattr(case, "name", ""),
)
def test_cumulants_of_one_output(family, limits):
    h = np.linspace(-6, 6, 25)[:, None]
    law = family.at(h)
    errors = relative_errors(law, Bernoulli().at(h))
    for order, limit in enumerate(limits, start=1):
        assert errors[order] < limit, (order, errors)
        assert errors[order] <= law.accuracy[order] + 1e-14, "the stated accuracy must cover the error"


def test_cumulants_of_dependent_outputs():
    rng = np.random.default_rng(0)
    h = np.exp(3 * rng.standard_normal((30, 2))) * [1, -1]
    errors = relative_errors(Shaped().at(h), GammaShapeRate().at(h))
    assert max(errors.values()) < 1e-9, errors
    logits = 3 * rng.standard_normal((10, 3))
    errors = relative_errors(Classes().at(logits), Categorical(3).at(logits))
    assert max(errors.values()) < 1e-11, errors


@pytest.mark.parametrize(
    "family", [Coin(), RealCoin(), DeceptiveCoin(), Shaped(), Classes()], ids=lambda family: type(family).__name__
)
def test_they_pass_the_tests_of_families(family):
    check_family(family, h=[[0.3, -0.2, 1.0]] if isinstance(family, Classes) else None)


def test_exact_cumulants_are_taken_where_given():
    class Exact(RealCoin):
        def cumulants(self, h, order):
            return Bernoulli().at(h).cumulant(order) if order > 2 else None

    h = np.array([[0.7]])
    law = Exact().at(h)
    np.testing.assert_array_equal(law.cumulant(4), Bernoulli().at(h).cumulant(4))
    assert law.accuracy[4] == 0.0
    assert law.accuracy[2] > 0.0


def test_what_cannot_be_differentiated_is_refused():
    class Many(Coin):
        n_outputs = 7

    with pytest.raises(ValueError, match="`n_outputs` must be at most 6 for cumulants by differentiation, got 7"):
        Many().at(np.zeros((1, 7)))

    class Undefined(Coin):
        def log_partition(self, h):
            return np.where(np.real(h[..., 0]) > 0, np.nan, np.log1p(np.exp(h[..., 0])))

    with pytest.raises(ValueError, match=r"`log_partition` of the coin family must be finite .* got h = 0.5 at input 1"):
        Undefined().at(np.array([[-100.0], [0.5]]))


def test_float32_and_draws():
    law = Coin().at(np.zeros((3, 1), dtype=np.float32))
    assert law.information().dtype == np.float32
    drawn = law.draw(np.random.default_rng(0), 100, True)
    np.testing.assert_allclose(drawn.second.diagonal(np.ones((3, 1, 1), dtype=np.float32)), 0.25, rtol=1e-6)
