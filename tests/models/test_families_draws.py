"""Draws of labels as sufficient statistics: the right law, on every path, at any number of labels.

All statistics below are z-scores of fixed seeds. About 600 are compared with LIMIT = 5.5, where one of a right sampler
exceeds it with probability 4e-8, so that the whole file raises a false alarm for about one choice of seeds in 40 000.
The power checks show that samplers with small, typical errors exceed the limit by far.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from fisherstats.engines import numba_kernels, primitives
from fisherstats.models.families import (
    DRAW_SCHEMES,
    Bernoulli,
    Binomial,
    Categorical,
    Draw,
    Gaussian,
    Multinomial,
    Poisson,
    draws,
    samplers,
)
from fisherstats.models.families.draws import SLAB, CountHeads, draw_counts

LIMIT = 5.5
REPLICATES = 3000
"""A variance that is wrong by 5.5 sqrt(2 / 3000) = 14 % exceeds the limit; more replicates, for 9 %, belong to the validation."""

sizes = pytest.mark.parametrize("replicates", [REPLICATES, pytest.param(8000, marks=pytest.mark.validation)])
COVARIANCE = np.array([[2.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 0.5]])


def z_mean(sample, expected):
    """z-score of the mean of a sample against its exact value; 0 for two constants that agree to rounding."""
    error = sample.std(ddof=1) / np.sqrt(len(sample))
    difference = abs(sample.mean() - expected)
    return 0.0 if difference <= 1e-12 * (1 + abs(expected)) else difference / max(error, 1e-300)


def z_scores(drawn: Draw, law, n_draws, u, s):
    """Compare replicates of a draw, one per row of the block, with the exact moments that the estimators promise."""
    variance, slope_variance = law.diagonal(u)[0, 0], law.diagonal(s)[0, 0]
    along = np.einsum("nt,nt->n", drawn.mean, s[:, :, 0])
    scores = {
        "mean": z_mean(along, 0.0),
        "variance of mean": z_mean(along**2, slope_variance / n_draws),
    }
    if drawn.second is not None:
        second = drawn.second.diagonal(u)[:, 0]
        excess = second - variance
        scores |= {
            "second moment": z_mean(second, variance),
            "variance of second moment": z_mean(excess**2, law.square_variance(u)[0, 0] / n_draws),
            # Holds only if the mean and the second moment come from the same labels.
            "covariance": z_mean(excess * along, law.third_moment(u, s)[0, 0] / n_draws),
        }
    return scores


def replicated(family, h, replicates, seed=0):
    """Law of `replicates` equal inputs with common random directions u and s."""
    rng = np.random.default_rng(seed)
    law = family.at(np.tile(np.asarray(h, dtype=float), (replicates, 1)))
    u, s = (np.tile(rng.standard_normal((1, family.n_outputs, 1)), (replicates, 1, 1)) for _ in range(2))
    return law, u, s


CASES = [
    (Bernoulli(), [-1.3], 7),
    (Bernoulli(), [2.1], 1),
    (Bernoulli(), [6.0], 40),
    (Bernoulli(3), [-1.3, 0.2, 2.0], 2),  # labels as rows
    (Bernoulli(3), [-1.3, 0.2, 2.0], 6),  # labels in slabs
    (Bernoulli(3), [-1.3, 0.2, 2.0], 50),  # patterns
    (Binomial(5), [0.9], 3),  # labels
    (Binomial(5), [0.9], 30),  # support
    (Binomial(400), [-1.0], 1000),  # support window
    (Binomial(3, 2), [0.9, -1.0], 9),
    (Binomial(3, 2), [0.9, -1.0], 90),
    (Poisson(), [0.4], 4),
    (Poisson(), [0.4], 300),
    (Poisson(), [-3.0], 300),
    (Poisson(2), [0.4, -1.0], 12),
    (Poisson(2), [0.4, -1.0], 9000),
    (Categorical(2), [0.3, -0.8], 1),
    (Categorical(4), [0.3, -0.8, 1.1, -4.0], 10),
    (Categorical(4), [0.3, -0.8, 1.1, -4.0], 40),
    (Categorical(4, minimal=True), [0.3, -0.8, 1.1], 10),
    (Categorical(4, minimal=True), [0.3, -0.8, 1.1], 17),
    (Gaussian(), [0.7], 1),
    (Gaussian(), [0.7], 2),
    (Gaussian(), [0.7], 9),
    (Gaussian(3, covariance=COVARIANCE), [0.1, 0.2, 0.3], 1),
    (Gaussian(3, covariance=COVARIANCE), [0.1, 0.2, 0.3], 2),
    (Gaussian(3, covariance=COVARIANCE), [0.1, 0.2, 0.3], 3),
    (Gaussian(3, covariance=COVARIANCE), [0.1, 0.2, 0.3], 50),
    (Gaussian(4, covariance=[0.5, 1.0, 2.0, 3.0]), [0.0, 0.0, 0.0, 0.0], 3),
]


@sizes
@pytest.mark.parametrize("second_moment", [False, True])
@pytest.mark.parametrize(("family", "h", "n_draws"), CASES)
def test_draws_have_the_promised_moments(family, h, n_draws, second_moment, replicates):
    law, u, s = replicated(family, h, replicates)
    drawn = law.draw(np.random.default_rng(1), n_draws, second_moment)
    assert (drawn.second is not None) == second_moment
    assert family.draw_scheme(second_moment, n_draws) in DRAW_SCHEMES
    scores = z_scores(drawn, law, n_draws, u, s)
    assert max(scores.values()) < LIMIT, scores


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda law, rng: Draw(law.draw(rng, 5, True).mean, law.draw(rng, 5, True).second), id="other labels"),
        pytest.param(lambda law, rng: law.draw(rng, 6, True), id="six labels called five"),
        pytest.param(lambda law, rng: _recentred(law.draw(rng, 5, True)), id="about the sample mean"),
        pytest.param(lambda law, rng: _shifted(law, rng), id="rate too large by 5 %"),
    ],
)
def test_small_errors_of_a_sampler_are_caught(broken):
    family, h = Poisson(), [0.4]
    law, u, s = replicated(family, h, REPLICATES)
    scores = z_scores(broken(law, np.random.default_rng(1)), law, 5, u, s)
    assert max(scores.values()) > LIMIT, scores


class _Recentred:
    def __init__(self, drawn):
        self.drawn = drawn

    def diagonal(self, u):
        return self.drawn.second.diagonal(u) - np.einsum("nt,ntk->nk", self.drawn.mean, u) ** 2


def _recentred(drawn):
    return Draw(drawn.mean, _Recentred(drawn))


def _shifted(law, rng):
    rate = np.exp(law.h)
    labels = rng.poisson(1.05 * rate[:, :, None], (*rate.shape, 5)) - rate[:, :, None]
    return Draw(labels.mean(axis=2), law.second_moment_of(labels.swapaxes(1, 2) / np.sqrt(5)))


@pytest.mark.parametrize("n_draws", [1, 2, 3, 4, 7])
def test_the_wishart_path_has_the_law_of_labels(n_draws):
    family, h = Gaussian(3, covariance=COVARIANCE), np.array([0.4, -0.3, 1.0])
    replicates = 3000
    law, _, _ = replicated(family, h, replicates)
    drawn = law.draw(np.random.default_rng(2), n_draws, True)
    labels = family.sample(np.tile(h, (replicates, 1)), np.random.default_rng(3), n_draws)
    delta = family.statistic(labels - h).swapaxes(0, 1)
    direct = law.second_moment_of(delta / np.sqrt(n_draws))
    u = np.random.default_rng(4).standard_normal((1, 3, 4))
    for column in range(4):
        pair = [moment.diagonal(np.tile(u, (replicates, 1, 1)))[:, column] for moment in (drawn.second, direct)]
        assert stats.ks_2samp(*pair).pvalue > 1e-7
    # Generalised variance and largest eigenvalue see the joint law of the entries, not one direction only.
    eye = np.tile(np.eye(3), (replicates, 1, 1))
    spectra = [np.linalg.svd(moment.rows(eye), compute_uv=False) for moment in (drawn.second, direct)]
    for value in range(min(n_draws, 3)):
        assert stats.ks_2samp(*(spectrum[:, value] for spectrum in spectra)).pvalue > 1e-7
    assert drawn.second.rows(eye).shape[1] == 1 + min(n_draws - 1, 3)


def test_one_gaussian_label_gives_its_own_square():
    law, u, _ = replicated(Gaussian(3, covariance=COVARIANCE), [0.0, 0.0, 0.0], 5)
    drawn = law.draw(np.random.default_rng(0), 1, True)
    along = np.einsum("nt,ntk->nk", drawn.mean, u)
    np.testing.assert_allclose(drawn.second.diagonal(u), along**2, rtol=1e-12)


def chi_square_z(counts, expected):
    """z-score of Pearson's statistic, cells with a mean below 20 pooled."""
    large = expected >= 20
    counts = np.append(counts[large], counts[~large].sum())
    expected = np.append(expected[large], expected[~large].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic = ((counts - expected) ** 2 / expected).sum()
    return stats.norm.isf(stats.chi2.sf(statistic, len(counts) - 1))


def heads_of(family, h):
    return family.at(np.array([h], dtype=float))._heads()


@pytest.mark.parametrize("slab", [2**18, 13])
@pytest.mark.parametrize(
    ("family", "h", "law"),
    [
        (Poisson(), 3.0, stats.poisson(np.exp(3.0))),
        (Poisson(), -5.0, stats.poisson(np.exp(-5.0))),
        (Poisson(), 8.0, stats.poisson(np.exp(8.0))),
        (Binomial(9), -0.5, stats.binom(9, 1 / (1 + np.exp(0.5)))),
        (Binomial(3000), -2.0, stats.binom(3000, 1 / (1 + np.exp(2.0)))),
    ],
)
def test_support_counts_follow_the_mass_function(family, h, law, slab, monkeypatch):
    monkeypatch.setattr(draws, "SLAB", slab)
    heads, n_draws = heads_of(family, [h]), 10**7
    first, size = (int(window[0, 0]) for window in heads.windows())
    counts = np.zeros(size)
    for value, repeats in draws._support_counts(np.random.default_rng(5), heads, 0, first, size, n_draws):
        counts[value.astype(int) - first] += repeats
    assert counts.sum() == n_draws
    mass = law.pmf(np.arange(first, first + size))
    assert mass.sum() == pytest.approx(1, abs=1e-11)
    assert abs(chi_square_z(counts, n_draws * mass)) < LIMIT
    # Power: a parameter that is wrong by 0.2 % is seen at this number of labels.
    shifted = stats.poisson(law.mean() * 1.002).pmf(np.arange(first, first + size))
    assert family.name == "binomial" or h == -5.0 or chi_square_z(counts, n_draws * shifted) > 2 * LIMIT


@pytest.mark.parametrize(("family", "h"), [(Bernoulli(3), [-1.0, 0.3, 3.0]), (Binomial(4, 2), [0.6, -1.5])])
def test_pattern_counts_follow_the_joint_mass_function(family, h):
    heads, n_draws = heads_of(family, h), 10**6
    firsts, sizes = (window[0] for window in heads.windows())
    chunks = list(draws._pattern_counts(np.random.default_rng(6), heads, 0, firsts, sizes.astype(int), n_draws))
    counts = np.concatenate([chunk[0] for chunk in chunks])
    repeats = np.concatenate([chunk[1] for chunk in chunks])
    assert repeats.sum() == n_draws
    assert len(np.unique(counts, axis=0)) == len(counts)
    labels = np.where(heads.sign[0] > 0, counts, heads.n_trials - counts)
    mass = np.exp([family.log_prob(np.array([h]), label[None])[0] for label in labels])
    assert mass.sum() > 1 - 1e-4
    assert abs(chi_square_z(repeats, n_draws * mass)) < LIMIT


def test_class_counts_keep_rare_classes():
    # Class 2 has probability e^-17: 41 of 10^9 labels, which a rounding of 1 - p to one part in 10^8 would lose.
    law = Categorical(3).at(np.tile([17.0, 16.0, 0.0], (500, 1)))
    weights = law.draw(np.random.default_rng(7), 10**9, True).second.weights
    for k in range(3):
        p = law.p[0, k]
        assert z_mean(weights[:, k], p) < LIMIT
        assert z_mean((weights[:, k] - p) ** 2, p * (1 - p) / 1e9) < LIMIT


@pytest.mark.parametrize("p", [[0.2, 0.5, 0.3], [0.0, 0.0, 1.0], [1.0, 0.0], [0.0, 1e-4, 0.7, 0.2999], [2.0**-60, 1 - 2.0**-60]])
@pytest.mark.parametrize("contractions", [primitives, numba_kernels], ids=["primitives", "kernels"])
def test_few_labels_invert_the_law(p, contractions):
    # All multiples of 1/M in place of random numbers: every class comes up as often as its probability says.
    n_numbers = 2**18
    grid = np.arange(n_numbers).reshape(-1, 16) / n_numbers
    weights, excess = draws.class_weights(None, lambda shape: grid, np.tile(p, (len(grid), 1)), 16, contractions)
    np.testing.assert_allclose(excess, weights - p, rtol=0, atol=1e-15)
    counts = 16 * weights
    assert counts.shape == (len(grid), len(p))
    assert (counts.sum(axis=1) == 16).all()
    frequency = counts.sum(axis=0) / n_numbers
    np.testing.assert_allclose(frequency, p, rtol=0, atol=1.001 / n_numbers)
    assert (frequency[np.array(p) == 0] == 0).all()


def test_categorical_mean_is_accurate_where_one_class_is_nearly_certain():
    law = Categorical(2).at(np.array([[60.0, 0.0]]))
    mean = law.draw(np.random.default_rng(8), 1000, False).mean
    np.testing.assert_allclose(mean, [[np.exp(-60), -np.exp(-60)]], rtol=1e-12)


@pytest.mark.parametrize("rate", [2.0**41 * 1.1, 3.3e14, 1e16, 9e18])
def test_poisson_counts_of_large_rates(rate):
    counts = samplers.poisson(np.random.default_rng(9), np.full(100_000, rate))
    z = (counts - int(rate)).astype(float) / np.sqrt(rate)
    assert z_mean(z, 0.0) < LIMIT
    assert z_mean(z**2, 1.0) < LIMIT
    assert z_mean(z**4, 3.0) < LIMIT
    assert z_mean(1.03 * z**2, 1.0) > LIMIT  # power: 3 % of the variance is seen


def test_binomial_sums_past_the_accurate_range_of_numpy():
    trials, replicates = 9 * 10**18, 100_000
    heads = CountHeads(np.full((1, replicates), 0.5), np.ones((1, replicates)), 1)
    z = (heads.sums(np.random.default_rng(10), trials)[0] - trials // 2).astype(float) / np.sqrt(trials / 4)
    assert z_mean(z, 0.0) < LIMIT
    assert z_mean(z**2, 1.0) < LIMIT


@pytest.mark.parametrize(
    "family",
    [
        Bernoulli(),
        Bernoulli(8),
        Binomial(9),
        Binomial(9, 3),
        Poisson(),
        Poisson(2),
        Categorical(10),
        Gaussian(),
        Gaussian(3, covariance=COVARIANCE),
    ],
    ids=repr,
)
def test_a_billion_labels_cost_little_and_agree_to_their_standard_error(family):
    n_draws = 10**9
    law, u, s = replicated(family, np.linspace(-1, 1, family.n_outputs), 16)
    start = time.perf_counter()
    drawn = law.draw(np.random.default_rng(11), n_draws, True)
    assert time.perf_counter() - start < 5
    standard_error = np.sqrt(law.square_variance(u) / n_draws)
    assert (np.abs(drawn.second.diagonal(u) - law.diagonal(u)) < LIMIT * standard_error + 1e-14).all()
    along = np.einsum("nt,ntk->nk", drawn.mean, s)
    assert (np.abs(along) < LIMIT * np.sqrt(law.diagonal(s) / n_draws)).all()
    # A sampler that is exact by accident of rounding would give no spread at all.
    assert (along.std(axis=0) > 0.3 * np.sqrt(law.diagonal(s)[0] / n_draws)).all()


@pytest.mark.parametrize("family", [family for family, _, _ in CASES[::3]], ids=repr)
@pytest.mark.parametrize("second_moment", [False, True])
def test_inputs_that_follow_do_not_change_earlier_draws(family, second_moment):
    rng = np.random.default_rng(12)
    h = rng.standard_normal((4, family.n_outputs))
    changed = np.concatenate([h[:2], h[2:] + 1])
    u = rng.standard_normal((4, family.n_outputs, 3))
    for n_draws in (1, 5, 200):
        first, other = (family.at(x).draw(np.random.default_rng(0), n_draws, second_moment) for x in (h, changed))
        np.testing.assert_array_equal(first.mean[:2], other.mean[:2])
        if second_moment:
            np.testing.assert_array_equal(first.second.diagonal(u)[:2], other.second.diagonal(u)[:2])


def test_more_joint_patterns_than_a_float_holds():
    drawn = Bernoulli(1100).at(np.zeros((1, 1100))).draw(np.random.default_rng(0), 1101, True)
    assert np.isfinite(drawn.second.root).all()


@pytest.mark.parametrize("family", [Bernoulli(4), Binomial(3, 4), Poisson(4)], ids=repr)
@pytest.mark.parametrize("n_draws", [3, 9, 30, 70_000])
def test_how_many_inputs_are_drawn_together_changes_no_bit(family, n_draws):
    """With an input whose few patterns are counted, at the end, the others are drawn one by one."""
    h = np.random.default_rng(13).standard_normal((4, 4))
    h[3] = -800.0 if family.name != "poisson" else -700.0
    u = np.random.default_rng(14).standard_normal((4, 4, 3))
    alone = [family.at(h[:rows]).draw(np.random.default_rng(0), n_draws, True) for rows in (1, 2, 3, 4)]
    for rows, one in enumerate(alone, 1):
        np.testing.assert_array_equal(one.mean, alone[-1].mean[:rows])
        np.testing.assert_array_equal(one.second.diagonal(u[:rows]), alone[-1].second.diagonal(u)[:rows])


@pytest.mark.parametrize(
    ("heads", "n_draws"),
    [
        (CountHeads(np.full((5, 3), 0.3), np.ones((5, 3)), 1), 7),
        (CountHeads(np.array([[0.5, 1e-9, 1e-9, 0.2], [0.5, 0.4, 0.3, 0.2]]), np.ones((2, 4)), 1), 12),  # singular, and not
        (CountHeads(np.full((2, 70), 0.4), -np.ones((2, 70)), 1), 5000),  # more numbers than are held at once
        (CountHeads(np.full((3, 2), 1.5), np.ones((3, 2)), None), 11),
    ],
    ids=["regular", "singular", "slabs", "poisson"],
)
def test_moments_are_those_of_the_labels_drawn(heads, n_draws):
    drawn = draw_counts(np.random.default_rng(1), heads, n_draws, True, 0, np.dtype(float))
    rng = np.random.default_rng(1)
    step = max(1, SLAB // heads.rate.shape[1])
    slabs = [min(step, n_draws - start) for start in range(0, n_draws, step)]
    labels = [np.concatenate([heads.labels(rng, row, count) for count in slabs]) for row in range(len(heads.rate))]
    for row, delta in enumerate(labels):
        np.testing.assert_allclose(drawn.mean[row], delta.mean(axis=0), rtol=1e-12, atol=1e-15)
        found = drawn.second.root[row].T @ drawn.second.root[row]
        wanted = delta.T @ delta / n_draws
        size = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
        assert (np.abs(found - wanted) <= 1e-13 * size).all()


def test_single_precision_draws_the_same_labels():
    for family in (Bernoulli(2), Poisson(2), Categorical(3), Gaussian(2)):
        h = np.array([[0.5, -0.25, 0.75][: family.n_outputs]])
        pair = [family.at(h.astype(t)).draw(np.random.default_rng(0), 100, True) for t in (np.float32, np.float64)]
        assert pair[0].mean.dtype == np.float32
        np.testing.assert_allclose(pair[0].mean, pair[1].mean, rtol=1e-6, atol=1e-7)
        u = np.ones((1, family.n_outputs, 1)) * np.arange(1, family.n_outputs + 1)[:, None]
        assert pair[0].second.diagonal(u.astype(np.float32)).dtype == np.float32


def test_singular_second_moments_and_tiny_heads_keep_their_accuracy():
    # Output 1 deviates by e^-30 unless it fires, which it will not do here.
    law = Bernoulli(2).at(np.array([[0.0, -30.0]]))
    second = law.draw(np.random.default_rng(0), 1000, True).second
    tiny = second.diagonal(np.array([[[0.0], [1.0]]]))
    np.testing.assert_allclose(tiny, np.exp(-60), rtol=1e-10)


@pytest.mark.parametrize(
    ("family", "h", "n_draws", "second_moment", "message"),
    [
        (
            Poisson(),
            30.0,
            10**9,
            False,
            r"`n_draws` times the rate .* 1000000000 draws and rate 1.06.*at input 7, output 0",
        ),
        (
            Binomial(10**12),
            0.0,
            10**9,
            False,
            r"number of trials 1e\+12 at input 7, output 0; use at most 9223372 draws",
        ),
        (Poisson(), 50.0, 1, True, r"rate of a label must be at most"),
        (Poisson(), 0.0, 2**63, True, r"`n_draws` must be at most"),
        (Gaussian(), 0.0, 2**63, False, r"`n_draws` must be at most"),
    ],
)
def test_what_the_samplers_cannot_hold_is_refused(family, h, n_draws, second_moment, message):
    with pytest.raises(ValueError, match=message):
        family.at(np.array([[h]])).draw(np.random.default_rng(0), n_draws, second_moment, first_input=7)


@pytest.mark.parametrize(
    ("family", "n_draws", "scheme"),
    [
        (Bernoulli(), 1, "rarer_count"),
        (Bernoulli(3), 8, "labels"),
        (Bernoulli(3), 9, "pattern_counts"),
        (Bernoulli(23), 2**30, "labels"),
        (Binomial(4), 9, "support_counts"),
        (Poisson(2), 9, "pattern_counts"),
        (Categorical(3), 16, "class_labels"),
        (Categorical(3), 17, "class_counts"),
        (Multinomial(1, 3), 16, "class_labels"),
        (Multinomial(2, 3), 9, "labels"),
        (Gaussian(3), 9, "normal_and_wishart"),
    ],
)
def test_draw_schemes(family, n_draws, scheme):
    assert family.draw_scheme(True, n_draws) == scheme
    if family.name in ("categorical", "multinomial"):
        n_labels = n_draws * getattr(family, "n_trials", 1)
        hessian = "class_labels" if n_labels <= 16 else "class_counts"
    else:
        hessian = {"gaussian": "normal_mean"}.get(family.name, "label_sums")
    assert family.draw_scheme(False, n_draws) == hessian
