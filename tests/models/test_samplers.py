"""Samplers beyond numpy's accurate ranges: whole laws against exact masses, moments at sizes that cannot be counted.

False alarms: z-scores are compared with 6 (2e-9 each, fewer than 100 of them), chi-square statistics by a p-value of 1e-9.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

import fisherstats as fs
from fisherstats.models.families import samplers

F = fs.families
LABELS = 400_000
LARGEST_Z = 6.0


def z_of_mean(sample: NDArray[np.float64], expected: float) -> float:
    return float(abs(sample.mean() - expected) / (sample.std() / np.sqrt(len(sample))))


def binomial_mass(n: int, p: float, count: int) -> mpmath.mpf:
    with mpmath.workdps(60):
        q = mpmath.mpf(p)
        choose = mpmath.loggamma(n + 1) - mpmath.loggamma(count + 1) - mpmath.loggamma(n - count + 1)
        return mpmath.exp(choose + count * mpmath.log(q) + (n - count) * mpmath.log1p(-q))


def p_value(counts: NDArray[np.int64], n: int, p: float) -> float:
    mean = n * p
    reach = int(4 * mean**0.5)
    first, last = max(0, int(mean) - reach), int(mean) + reach
    masses = np.array([float(binomial_mass(n, p, count)) for count in range(first, last + 1)])
    observed = np.bincount(np.clip(counts, first - 1, last + 1) - first + 1, minlength=len(masses) + 2)
    tail = (1 - masses.sum()) / 2
    # The two tails are one cell: their shares are not needed.
    return float(chisquare([observed[0] + observed[-1], *observed[1:-1]], np.append(2 * tail, masses) * counts.size).pvalue)


SMALL_MEANS = [(2**57, 1e-15), (2**50, 4e-14), (2**45, 2e-12), (2**42, 1e-11), (2**62, 1e-17), (2**62, 2e-18)]


@pytest.mark.parametrize(("n", "p"), SMALL_MEANS)
def test_many_trials_of_a_rare_outcome(n: int, p: float) -> None:
    counts = samplers.binomial(np.random.default_rng(1), n, np.full(LABELS, p))
    assert p_value(counts, n, p) > 1e-9


def test_numpys_own_sampler_is_caught() -> None:
    assert p_value(np.random.default_rng(1).binomial(2**57, 1e-15, LABELS), 2**57, 1e-15) < 1e-9


FEW_LABELS = 100_000
"""A variance that is wrong by 6 sqrt(2 / 100000) = 2.7 % is seen, and by 1.3 % with `LABELS`."""
numbers_of_labels = pytest.mark.parametrize("labels", [FEW_LABELS, pytest.param(LABELS, marks=pytest.mark.validation)])


@numbers_of_labels
@pytest.mark.parametrize("n", [2**42, 2**57, 2**62, 2**63 - 2**36])
@pytest.mark.parametrize("p", [0.5, 0.3, 1e-3, 1e-9])
def test_moments_of_many_trials(n: int, p: float, labels: int) -> None:
    counts = samplers.binomial(np.random.default_rng(2), n, np.full(labels, p))
    whole = int(n * p)
    z = ((counts - whole) - (n * p - whole)) / np.sqrt(n * p * (1 - p))
    for power, moment in ((1, 0.0), (2, 1.0), (4, 3.0)):
        assert z_of_mean(z**power, moment) < LARGEST_Z


def test_power_of_the_moments() -> None:
    n = 2**62
    z = (np.random.default_rng(2).binomial(n, 0.5, FEW_LABELS) - n // 2) / np.sqrt(n / 4)
    assert z_of_mean(z**2, 1.0) > LARGEST_Z


@numbers_of_labels
@pytest.mark.parametrize("h", [-0.3, 2.0, -35.0])
def test_single_labels_of_a_binomial_family(h: float, labels: int) -> None:
    """Labels of `sample`, and the residuals that the score estimator draws, at 2^62 trials."""
    n = 2**62
    family, at = F.Binomial(n), np.array([[h]])
    law = family.at(at)
    variance = float(law.information()[0, 0, 0])
    y = family.sample(at, 3, labels)[:, 0, 0]
    rarer = y if h <= 0 else n - y
    mean = n / (1 + np.exp(abs(h)))
    delta = (rarer - int(mean)) - (mean - int(mean))
    assert z_of_mean(delta**2 / variance, 1.0) < LARGEST_Z
    # A block of equal inputs; one wrong by a factor of 1 + 6 sqrt(2 / 400) = 1.4, or of another input, is seen.
    second = family.at(np.tile(at, (400, 1))).draw(np.random.default_rng(4), 1, True).second
    assert second is not None
    assert z_of_mean(second.own_diagonal()[:, 0] / variance, 1.0) < LARGEST_Z


@pytest.mark.parametrize("rows", [300, pytest.param(1000, marks=pytest.mark.validation)])
def test_multinomial_counts_of_many_trials(rows: int) -> None:
    """Each count is drawn by itself; with 300 a variance that is wrong by a half is seen, and a correlation by 0.4.

    The binomial sampler that draws them is looked at above with more labels.
    """
    n, p = 2**60, np.array([1e-17, 0.2, 0.3, 0.5])
    counts = samplers.multinomial(np.random.default_rng(5), np.full(rows, n), np.broadcast_to(p, (rows, 4)))
    assert (counts.sum(axis=1) == n).all()
    for outcome in range(4):
        mean = n * p[outcome]
        z = ((counts[:, outcome] - int(mean)) - (mean - int(mean))) / np.sqrt(mean * (1 - p[outcome]))
        assert z_of_mean(z, 0.0) < LARGEST_Z
        assert z_of_mean(z**2, 1.0) < LARGEST_Z
    correlation = -np.sqrt(0.2 * 0.3 / (0.8 * 0.7))
    pair = [(counts[:, k] - int(n * p[k])) / np.sqrt(n * p[k] * (1 - p[k])) for k in (1, 2)]
    assert z_of_mean(pair[0] * pair[1], correlation) < LARGEST_Z


@pytest.mark.parametrize("minimal", [False, True])
def test_labels_of_a_multinomial_family_of_many_trials_are_accepted(minimal: bool) -> None:
    family = F.Multinomial(2**60, 3, minimal=minimal)
    h = np.zeros((2, family.n_outputs))
    y = family.sample(h, 0, 5)
    assert (y.sum(axis=2) == 2**60).all()
    for labels in y:
        assert np.isfinite(family.log_prob(h, labels)).all()


@pytest.mark.parametrize("shape", [2.0**53 * 1.1, 1e20, 1e30])
def test_gamma_variables_about_a_large_mean(shape: float) -> None:
    z = samplers.centred_gamma(np.random.default_rng(6), np.full(LABELS, shape)) / np.sqrt(shape)
    for power, moment in ((1, 0.0), (2, 1.0), (3, 2 / np.sqrt(shape)), (4, 3.0)):
        assert z_of_mean(z**power, moment) < LARGEST_Z
    ratio = samplers.log_gamma_ratios(np.random.default_rng(7), np.full(LABELS, shape)) * np.sqrt(shape)
    assert z_of_mean(ratio**2, 1.0) < LARGEST_Z


def test_power_of_gamma_variables_about_a_large_mean() -> None:
    z = (np.random.default_rng(6).standard_gamma(1e31, LABELS) - 1e31) / np.sqrt(1e31)
    assert z_of_mean(z**2, 1.0) > LARGEST_Z


@pytest.mark.parametrize("shape", [1e4, 1e7, 1e10, 1e13])
def test_the_direction_that_log_and_label_nearly_share(shape: float) -> None:
    """L - X / k has a variance of psi_1(k) - 1/k, about 1 / (2 k^2): far below that of either."""
    law = F.GammaShapeRate().at(np.array([[shape, -2.0]]))
    delta = law.labels(np.random.default_rng(8), 0, 200_000)
    excess = delta[:, 0] - delta[:, 1] * 2.0 / shape
    with mpmath.workdps(60):
        variance = float(mpmath.psi(1, mpmath.mpf(shape)) - 1 / mpmath.mpf(shape))
    assert z_of_mean(excess, 0.0) < LARGEST_Z
    assert z_of_mean(excess**2 / variance, 1.0) < LARGEST_Z


@pytest.mark.parametrize("alpha", [(2e4, 3e4, 1e-2), (1e8, 2e8, 5e8), (1e12, 1e12, 3.0)])
def test_dirichlet_labels_of_large_concentrations(alpha: tuple[float, ...]) -> None:
    law = F.Dirichlet(3).at(np.array([alpha]))
    delta = law.labels(np.random.default_rng(9), 0, 200_000)
    total = sum(alpha)
    with mpmath.workdps(60):
        psi_1 = [mpmath.psi(1, mpmath.mpf(a)) for a in alpha]
        # sum_a (alpha_a / alpha_0) log y_a, nearly constant where all concentrations are large
        weights = [mpmath.mpf(a) / mpmath.mpf(total) for a in alpha]
        variance = sum(w * w * p for w, p in zip(weights, psi_1, strict=True)) - mpmath.psi(1, mpmath.mpf(total))
        own = [float(p - mpmath.psi(1, mpmath.mpf(total))) for p in psi_1]
    for part in range(3):
        assert z_of_mean(delta[:, part], 0.0) < LARGEST_Z
        assert z_of_mean(delta[:, part] ** 2 / own[part], 1.0) < LARGEST_Z
    nearly_constant = delta @ (np.array(alpha) / total)
    assert z_of_mean(nearly_constant, 0.0) < LARGEST_Z
    assert z_of_mean(nearly_constant**2 / float(variance), 1.0) < LARGEST_Z
