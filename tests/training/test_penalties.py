"""Penalties: value and gradient against mpmath's singular values and finite differences, constraints against the SVD."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from fisherstats.training.penalties import TopSingular

MODEL = fs.MLP.random([4, 3, 5, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)
STRENGTHS = [0.5, 0.0, 2.0]


def top_singular(matrix):
    """Return the largest singular value with 40 digits."""
    with mpmath.workdps(40):
        return max(mpmath.svd_r(mpmath.matrix(matrix.tolist()), compute_uv=False))


def group_norms(kernel, by):
    """Return the summed norms of groups with the root of their sizes, one group at a time."""
    rows, columns = kernel.shape
    groups = {
        "unit": [[(i, j) for j in range(columns)] for i in range(rows)],
        "feature": [[(i, j) for i in range(rows)] for j in range(columns)],
        "layer": [[(i, j) for i in range(rows) for j in range(columns)]],
    }[by]
    return sum(len(group) ** 0.5 * sum(kernel[place] ** 2 for place in group) ** 0.5 for group in groups)


CASES = {
    "frobenius": (training.Frobenius(STRENGTHS), lambda w: (w[:, :-1] ** 2).sum() / 2),
    "with biases": (training.Frobenius(STRENGTHS, biases=True), lambda w: (w**2).sum() / 2),
    "spectral": (training.Spectral(STRENGTHS, iterations=300), lambda w: top_singular(w[:, :-1]) ** 2 / 2),
    **{
        by: (training.GroupWise(STRENGTHS, by=by), lambda w, by=by: group_norms(w[:, :-1], by))
        for by in ("unit", "feature", "layer")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_definition(name):
    penalty, definition = CASES[name]
    gradients = [np.ones_like(weight) for weight in MODEL.weights]
    value = penalty.start(MODEL).penalise(MODEL.weights, gradients)
    expected = sum(s * float(definition(weight)) for s, weight in zip(STRENGTHS, MODEL.weights, strict=True))
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    step = 1e-3
    for strength, weight, gradient in zip(STRENGTHS, MODEL.weights, gradients, strict=True):
        for place in np.ndindex(weight.shape):

            def at(shift, place=place, weight=weight):
                moved = weight.copy()
                moved[place] += shift
                return definition(moved)

            slope = float(8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
            np.testing.assert_allclose(gradient[place] - 1, strength * slope, rtol=1e-8, atol=1e-8)


def test_one_strength_stands_for_all_layers():
    gradients = [np.zeros_like(weight) for weight in MODEL.weights]
    one = training.Frobenius(0.3).start(MODEL).penalise(MODEL.weights, gradients)
    assert one == training.Frobenius([0.3] * 3).start(MODEL).penalise(MODEL.weights, gradients)


def test_a_group_at_zero_has_the_subgradient_zero():
    flat = fs.MLP([np.zeros((2, 4))], activation=[], family=fs.families.Categorical(2))
    gradients = [np.zeros((2, 4))]
    assert training.GroupWise(1.0).start(flat).penalise(flat.weights, gradients) == 0
    assert not gradients[0].any()
    assert training.Spectral(1.0).start(flat).penalise(flat.weights, gradients) == 0
    assert not gradients[0].any()


def test_the_top_singular_value_is_followed_along_a_path():
    rng = np.random.default_rng(0)
    matrix, other = rng.normal(size=(2, 8, 20))
    top = TopSingular(matrix)
    np.testing.assert_allclose(top.value, np.linalg.norm(matrix, 2), rtol=1e-14)
    for part in np.linspace(0, 1, 400):
        now = (1 - part) * matrix + part * other
        top.follow(now, 2)
        assert top.value <= np.linalg.norm(now, 2) * (1 + 1e-14)
        np.testing.assert_allclose(top.value, np.linalg.norm(now, 2), rtol=1e-2)
    top.follow(other, 1000, settled=1e-15)
    np.testing.assert_allclose(top.value, np.linalg.norm(other, 2), rtol=1e-12)


def test_a_vector_that_the_matrix_annihilates_is_left():
    top = TopSingular(np.diag([2.0, 1.0]))
    top.follow(np.diag([0.0, 3.0]), 2)
    assert top.value == 3
    top.follow(np.zeros((2, 2)), 2)
    assert top.value == 0


def training_of(penalty, **settings):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 4)), rng.integers(0, 2, 60)
    chosen = {"optimizer": training.Adam(0.05), "epochs": 5, "batch_size": 16, "rng": 0} | settings
    return training.fit(MODEL, x, y, penalty=penalty, **chosen)


def test_the_projection_holds_the_limit():
    free = training_of(None).history.spectral_norm.values
    limits = np.array([0.4, np.inf, 0.9])
    held = training_of(training.SpectralProjection(limits)).history.spectral_norm.values
    assert np.all(free[-1] > [0.4, 0, 0.9])
    assert np.all(held <= limits)
    np.testing.assert_allclose(held[2:, 0], 0.4, rtol=1e-9)
    biases = training_of(training.SpectralProjection(1e-3)).model.weights[0][:, -1]
    assert np.abs(biases).max() > 1e-3


def test_the_projection_scales_the_kernel_alone_after_every_step():
    weights = [weight.copy() for weight in MODEL.weights]
    restraint = training.SpectralProjection(0.25).start(MODEL)
    rng = np.random.default_rng(0)
    for _ in range(20):
        for weight in weights:
            weight += 0.01 * rng.normal(size=weight.shape)
        before = [weight.copy() for weight in weights]
        restraint.project(weights, exact=False)
        for old, new in zip(before, weights, strict=True):
            top = np.linalg.norm(old[:, :-1], 2)
            np.testing.assert_allclose(new[:, :-1], old[:, :-1] * min(1, 0.25 / top), rtol=1e-6)
            assert np.array_equal(new[:, -1], old[:, -1])


@pytest.mark.parametrize("kind", [training.Frobenius, training.Spectral, training.GroupWise])
def test_a_penalty_makes_what_it_penalises_smaller(kind):
    plain, restrained = training_of(None).history, training_of(kind(0.05)).history
    assert plain.penalty.values.tolist() == [0] * 5
    assert np.all(restrained.penalty > 0)
    assert np.all(restrained.spectral_norm[-1] < plain.spectral_norm[-1])


def test_penalties_add_up():
    both = training_of([training.Frobenius(0.1), training.GroupWise(0.1)], epochs=1, batch_size=60).history
    one, other = (training_of(p, epochs=1, batch_size=60).history for p in (training.Frobenius(0.1), training.GroupWise(0.1)))
    np.testing.assert_allclose(both.penalty, one.penalty + other.penalty, rtol=1e-14)
