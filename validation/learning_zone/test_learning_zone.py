"""The claims on fewer seeds: large weights leave the zone, and units outside it move less."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from validation.learning_zone import run
from validation.mnist_sigmoid import data

pytestmark = pytest.mark.validation


@pytest.mark.parametrize("activation", run.ACTIVATIONS)
def test_units_outside_their_zone_move_less(activation):
    images = data.load("digits", 7)
    first = run.start(activation, 4.0, 7)
    after = run.trained(first, images.x, images.y, 10, 7)
    assert min(run.moved(first, after, images.x)) > 0.5
    # What does not depend on the units does not correlate: weights that went at random.
    rng = np.random.default_rng(0)
    random = fs.MLP([w + rng.normal(size=w.shape) for w in first.weights], activation=activation, family=first.family)
    assert max(np.abs(run.moved(first, random, images.x))) < 0.5


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_large_weights_leave_the_zone(activation):
    x = data.load("digits", 7).x
    small, large = (run.zone_shares(run.start(activation, scale, 7), x) for scale in run.SCALES)
    assert (large < 0.6 * small).all()
    assert (small <= 1).all()
