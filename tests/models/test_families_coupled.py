"""Moments of families with dependent statistics against 60-digit arithmetic, in directions where textbook forms cancel."""

from __future__ import annotations

import itertools

import mpmath as mp
import numpy as np
import pytest

from fisherstats.models.families import Dirichlet, GammaShapeRate, GaussianMeanVariance, Multinomial
from fisherstats.models.families.polygamma import leading_power, polygamma_drop, polygamma_remainder

DIGITS = 60


def gaussian_cumulants(h):
    variance = -1 / (2 * h[1])
    mu = h[0] * variance
    second = [variance, 2 * mu * variance, 4 * mu**2 * variance + 2 * variance**2]
    third = [0, 2 * variance**2, 8 * mu * variance**2, 24 * mu**2 * variance**2 + 8 * variance**3]
    fourth = [0, 0, 8 * variance**3, 48 * mu * variance**3, 192 * mu**2 * variance**3 + 48 * variance**4]
    values = {1: [mu, mu**2 + variance], 2: second, 3: third, 4: fourth}
    return lambda index: values[len(index)][sum(index)]


def gamma_cumulants(h):
    k, rate = h[0], -h[1]
    values = {
        1: [mp.digamma(k) - mp.log(rate), k / rate],
        2: [mp.polygamma(1, k), 1 / rate, k / rate**2],
        3: [mp.polygamma(2, k), 0, 1 / rate**2, 2 * k / rate**3],
        4: [mp.polygamma(3, k), 0, 0, 2 / rate**3, 6 * k / rate**4],
    }
    return lambda index: values[len(index)][sum(index)]


def dirichlet_cumulants(h):
    total = mp.fsum(h)
    shared = {order: -mp.polygamma(order - 1, total) for order in range(1, 5)}
    own = {(order, a): mp.polygamma(order - 1, alpha) for order in range(1, 5) for a, alpha in enumerate(h)}
    return lambda index: shared[len(index)] + (own[len(index), index[0]] if len(set(index)) == 1 else 0)


def multinomial_cumulants(n_trials, minimal):
    def cumulants(h):
        weights = [mp.exp(x) for x in h] + ([mp.mpf(1)] if minimal else [])
        p = [w / mp.fsum(weights) for w in weights]
        t = [[mp.mpf(a == k) - p[a] for a in range(len(h))] for k in range(len(p))]

        def mean(index):
            return mp.fsum(p[k] * mp.fprod(t[k][a] for a in index) for k in range(len(p)))

        def value(index):
            if len(index) == 1:
                return n_trials * p[index[0]]
            moment = mean(index)
            if len(index) == 4:
                a, b, c, d = index
                for first, second in (((a, b), (c, d)), ((a, c), (b, d)), ((a, d), (b, c))):
                    moment -= mean(first) * mean(second)
            return n_trials * moment

        return value

    return cumulants


def exact(cumulant, u, v, s, a):
    """Moments and the size that their errors are relative to, from the definition by cumulants."""
    axes = range(len(u))

    def kappa(*directions):
        return mp.fsum(
            cumulant(index) * mp.fprod(direction[axis] for direction, axis in zip(directions, index, strict=True))
            for index in itertools.product(axes, repeat=len(directions))
        )

    pairs = list(itertools.product(axes, repeat=2))
    second = {pair: cumulant(pair) for pair in pairs}

    def moment4(x):
        return kappa(x, x, x, x) + 3 * kappa(x, x) ** 2

    quadratic = mp.fsum(a[i][j] * second[i, j] for i, j in pairs)
    spread = mp.fsum(
        a[i][j] * a[k][m] * (cumulant((i, j, k, m)) + second[i, k] * second[j, m] + second[i, m] * second[j, k])
        for i, j in pairs
        for k, m in pairs
    )
    skew = mp.fsum(a[i][j] * s[k] * cumulant((i, j, k)) for i, j in pairs for k in axes)
    product = kappa(u, v, u, v) + kappa(u, u) * kappa(v, v) + kappa(u, v) ** 2
    size4, square = moment4(u), spread + quadratic**2
    return {
        "diagonal": (kappa(u, u), kappa(u, u)),
        "third": (kappa(u, u, s), mp.sqrt(size4 * kappa(s, s))),
        "fourth": (size4, size4),
        "square": (kappa(u, u, u, u) + 2 * kappa(u, u) ** 2, size4),
        "product": (product, mp.sqrt(size4 * moment4(v))),
        "quadratic mean": (quadratic, mp.sqrt(square)),
        "quadratic variance": (spread, square),
        "quadratic third": (skew, mp.sqrt(square * kappa(s, s))),
    }


def computed(law, u, v, s, a):
    def column(x):
        return x[:, :, None]

    return {
        "diagonal": law.diagonal(column(u))[:, 0],
        "third": law.third_moment(column(u), column(s))[:, 0],
        "fourth": law.fourth_moment(column(u))[:, 0],
        "square": law.square_variance(column(u))[:, 0],
        "product": law.product_variance(column(u), column(v))[:, 0, 0],
        "quadratic mean": law.quadratic_mean(a),
        "quadratic variance": law.quadratic_variance(a),
        "quadratic third": law.quadratic_third_moment(a, s),
    }


def directions(law, rng, hard):
    """Return u, v, s, a in units of the standard deviations; `hard` ones along the direction of least variance."""
    information = law.information()
    deviation = np.sqrt(np.einsum("naa->na", information))
    u, v, s = (rng.standard_normal(deviation.shape) for _ in range(3))
    if hard:
        u = np.linalg.eigh(information / (deviation[:, :, None] * deviation[:, None, :]))[1][:, :, 0]
        v = u + 1e-3 * v
    u, v, s = (x / deviation for x in (u, v, s))
    return u, v, s, u[:, :, None] * u[:, None, :] + v[:, :, None] * v[:, None, :]


def worst_errors(family, h, cumulants, hard, seed=0):
    law = family.at(h)
    u, v, s, a = directions(law, np.random.default_rng(seed), hard)
    got = computed(law, u, v, s, a)
    tensors = {order: law.cumulant(order) for order in range(1, 5)}
    errors = dict.fromkeys([*got, *tensors], 0.0)
    with mp.workdps(DIGITS):
        for row in range(len(h)):
            cumulant = cumulants([mp.mpf(float(x)) for x in h[row]])
            numbers = [np.vectorize(lambda x: mp.mpf(float(x)), otypes=[object])(one[row]) for one in (u, v, s, a)]
            for name, (value, size) in exact(cumulant, *numbers).items():
                errors[name] = max(errors[name], float(abs(mp.mpf(float(got[name][row])) - value) / size))
            fourths = [cumulant((axis,) * 4) + 3 * cumulant((axis,) * 2) ** 2 for axis in range(h.shape[1])]
            deviation = [mp.root(fourth, 4) for fourth in fourths]
            for order, tensor in tensors.items():
                for index in itertools.combinations_with_replacement(range(h.shape[1]), order):
                    size = mp.fprod(deviation[axis] for axis in index) + (abs(cumulant(index)) if order == 1 else 0)
                    error = abs(mp.mpf(float(tensor[(row, *index)])) - cumulant(index)) / size
                    errors[order] = max(errors[order], float(error))
    return errors


GAUSSIAN = np.array([[mu / v, -0.5 / v] for mu, v in itertools.product((-1e6, -3.0, 0.0, 0.4, 1e6), (1e-12, 0.7, 1e12))])
MODERATE = np.array([[mu / v, -0.5 / v] for mu, v in ((0.0, 1e-12), (-3.0, 0.7), (0.4, 0.7), (2.0, 1.0), (1e5, 1e12))])
GAMMA = np.array([[k, -b] for k, b in itertools.product((1e-3, 0.05, 0.9, 1.0, 4.0, 17.0, 1e3, 1e6), (1e-6, 1.7, 1e6))])
DIRICHLET = [
    np.array([[0.3, 2.0], [1e-3, 1e-3], [1e6, 1e6], [1e6, 1e-3], [1e-3, 1e6], [1.0, 1.0], [30.0, 31.0], [1.5, 1e5]]),
    np.array([[0.3, 2.0, 5.0], [1e6, 1e6, 1e6], [1e-3, 1e4, 1e-2], [1e5, 1.0, 1e-2], [1e-3, 1e-3, 1e6]]),
    np.array([[0.3, 2.0, 5.0, 40.0], [1e4, 1e4, 1e4, 1e4], [0.01, 1e-3, 0.5, 0.02]]),
]


def within(errors):
    """Quadratic forms are given by rounded entries, which cancel along a direction of little variance."""
    forms = [error for name, error in errors.items() if str(name).startswith("quadratic")]
    return max(errors.values()) < 1e-12 or (
        max(forms) < 1e-10 and max(error for name, error in errors.items() if not str(name).startswith("quadratic")) < 1e-12
    )


def test_gaussian_with_unknown_variance():
    errors = worst_errors(GaussianMeanVariance(), GAUSSIAN, gaussian_cumulants, hard=False)
    assert max(errors.values()) < 1e-12, errors
    # Along the direction of least variance u_1 + 2 mu u_2 is a difference of rounded numbers once |mu| is far above sigma.
    errors = worst_errors(GaussianMeanVariance(), MODERATE, gaussian_cumulants, hard=True)
    assert max(errors.values()) < 1e-12, errors


@pytest.mark.parametrize("ratio", [1e1, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("deviation", [1e-3, 0.8, 1e3])
def test_gaussian_with_a_mean_far_above_its_deviation_loses_what_its_directions_lose(ratio, deviation):
    """Rounding u alone moves u_1 + 2 mu u_2 by eps mu / sigma of the result along the direction of least variance."""
    h = np.array([[ratio / deviation, -0.5 / deviation**2], [-ratio / deviation, -0.5 / deviation**2]])
    errors = worst_errors(GaussianMeanVariance(), h, gaussian_cumulants, hard=True)
    along = max(error for name, error in errors.items() if not str(name).startswith("quadratic"))
    assert along < 4 * np.finfo(float).eps * (1 + ratio), errors


@pytest.mark.parametrize("hard", [False, True])
def test_gamma_with_unknown_shape(hard):
    errors = worst_errors(GammaShapeRate(), GAMMA, gamma_cumulants, hard)
    assert within(errors), errors


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("alpha", DIRICHLET, ids=lambda alpha: f"{alpha.shape[1]} parts")
def test_dirichlet(alpha, hard):
    errors = worst_errors(Dirichlet(alpha.shape[1]), alpha, dirichlet_cumulants, hard)
    assert within(errors), errors


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("n_trials", [1, 5, 10**6])
def test_multinomial(n_trials, hard):
    logits = np.array([[0.1, -0.3, 0.7], [5.0, 0.0, -4.0], [30.0, 1.0, 0.0]])
    if not hard:  # the overcomplete form has a direction without variance
        errors = worst_errors(Multinomial(n_trials, 3), logits, multinomial_cumulants(n_trials, False), hard)
        assert max(errors.values()) < 1e-12, errors
    family = Multinomial(n_trials, 4, minimal=True)
    errors = worst_errors(family, logits, multinomial_cumulants(n_trials, True), hard)
    assert max(errors.values()) < 1e-12, errors


def test_polygamma_parts_have_full_relative_accuracy():
    x = np.concatenate([10.0 ** np.linspace(-12, 12, 49), [15.999, 16.0, 1.46]])
    with mp.workdps(DIGITS):
        exact_x = [mp.mpf(float(one)) for one in x]
        for order in (1, 2, 3):
            got = polygamma_remainder(order, x)
            wanted = [mp.polygamma(order, one) - (1, -1, 2)[order - 1] / one**order for one in exact_x]
            assert max(abs(mp.mpf(float(g)) - w) / abs(w) for g, w in zip(got, wanted, strict=True)) < 2e-15
            assert np.allclose(leading_power(order, x) * x**order, (1, -1, 2)[order - 1], rtol=1e-14)
        for order, part in itertools.product((0, 1, 2, 3), (1e-12, 1e-3, 0.4, 0.6, 100.0)):
            step = x * part
            wanted = [
                mp.polygamma(order, one) - mp.polygamma(order, one + mp.mpf(float(d)))
                for one, d in zip(exact_x, step, strict=True)
            ]
            got = polygamma_drop(order, x, step)
            assert max(abs(mp.mpf(float(g)) - w) / abs(w) for g, w in zip(got, wanted, strict=True)) < 1e-14
