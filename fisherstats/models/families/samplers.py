"""Samplers for distributions and ranges where numpy's samplers are not exact: large counts, and Gamma variables of large shape.

numpy's rejection samplers compare sums of terms of the size of the count times its logarithm. Past a rate of 1e13 or past 2^41
trials their rounding is no longer small compared to the logarithm of the probability that is compared: 2^57 trials of mean 144
have a variance 8 % too large. Here candidates are compared through deviances, which avoid differences of large numbers.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logit

from fisherstats.models.families.deviance import binomial_log_mass

__all__ = ["LARGE_CONCENTRATION", "binomial", "centred_gamma", "log_gamma_labels", "log_gamma_ratios", "multinomial", "poisson"]

LARGE = 2.0**41
"""Rates and numbers of trials above which numpy's rejection samplers are not used."""

_INVERTED = 30.0
"""numpy inverts the distribution function up to this mean, for any number of trials."""

LARGE_CONCENTRATION = 1e4
"""Above this shape, logarithms of Gamma variables are drawn about that of their mean."""

_LARGE_SHAPE = 2.0**53
"""Above this shape, the centred Gamma variable is drawn directly, as rounding of the variable approaches its deviation."""


def poisson(rng: np.random.Generator, rate: np.ndarray) -> np.ndarray:
    """Return Poisson counts for every rate, of the same shape."""
    large = rate > LARGE
    if not large.any():
        return rng.poisson(rate)
    counts = rng.poisson(np.where(large, 0, rate))
    counts[large] = _large_poisson(rng, rate[large])
    return counts


def binomial(rng: np.random.Generator, n_trials: int, p: np.ndarray) -> np.ndarray:
    """Return counts of successes in `n_trials` for every probability p of at most 1/2, of the same shape."""
    if n_trials <= LARGE:
        return rng.binomial(n_trials, p)
    large = n_trials * p > _INVERTED
    counts = rng.binomial(n_trials, np.where(large, 0, p))
    counts[large] = _large_binomial(rng, n_trials, p[large])
    return counts


def multinomial(rng: np.random.Generator, totals: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the counts of K outcomes with probabilities p (n, K) in `totals` (n,) trials; the last p of a row is its largest."""
    if not (totals > LARGE).any():
        return rng.multinomial(totals, p)
    counts = np.zeros(p.shape, dtype=np.int64)
    for row, (total, chances) in enumerate(zip(totals, p, strict=True)):
        left, mass = int(total), 1.0
        for outcome, chance in enumerate(chances[:-1]):
            # The remaining mass never falls below the last p, so its rounding is relative to a probability that is not small.
            counts[row, outcome] = _one_binomial(rng, left, min(1.0, chance / mass))
            left -= int(counts[row, outcome])
            mass -= chance
        counts[row, -1] = left
    return counts


def _one_binomial(rng: np.random.Generator, n_trials: int, p: float) -> int:
    rarer = int(binomial(rng, n_trials, np.array([min(p, 1 - p)]))[0])
    return rarer if p <= 0.5 else n_trials - rarer


def centred_gamma(rng: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    """Return G - k for Gamma variables of every shape k, of the same shape, accurate relative to the deviation sqrt(k).

    For large k by Marsaglia and Tsang (2000): G = d (1 + t)^3 with d = k - 1/3, t = z / sqrt(9 d) and z normal, which is kept
    with probability exp(d (3 log(1 + t) - 3 t + 3 t^2 / 2 - t^3)), about 1 - 3 d t^4 / 4.
    """
    large = shape > _LARGE_SHAPE
    excess: np.ndarray = rng.standard_gamma(np.where(large, 1, shape)) - shape
    if not large.any():
        return excess
    scale = shape[large] - 1 / 3
    t = rng.standard_normal(scale.shape) / (3 * np.sqrt(scale))
    # The candidate is rejected with a probability below 1e-16 times z^4, which 53-bit uniform numbers cannot distinguish from 0.
    excess[large] = scale * t * (3 + t * (3 + t)) - 1 / 3
    return excess


def log_gamma_labels(rng: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    """Return log G for G ~ Gamma(k): G = G' U^(1/k) with G' ~ Gamma(k + 1), since G itself may underflow."""
    return np.log(rng.standard_gamma(shape + 1)) - rng.standard_exponential(shape.shape) / shape


def log_gamma_ratios(rng: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    """Return log(G / k) of the same variables, accurate relative to its deviation 1 / sqrt(k) where k is large."""
    excess = centred_gamma(rng, shape + 1)
    large = shape >= LARGE_CONCENTRATION
    with np.errstate(divide="ignore"):  # avoids the logarithm of 0
        log_boosted = np.where(large, np.log1p(np.where(large, 1 + excess, 0) / shape), np.log((excess + 1 + shape) / shape))
    return log_boosted - rng.standard_exponential(shape.shape) / shape


def _large_poisson(rng: np.random.Generator, rate: np.ndarray) -> np.ndarray:
    """Return Poisson counts for a vector of large rates by transformed rejection (PTRS, Hoermann 1993).

    A candidate is represented by its distance from floor(rate), and compared through
    log P(count) = -log(2 pi rate) / 2 - rate (x^2/2 - x^3/6 + x^4/12 - ...) - x/2 + ..., x = (count - rate) / rate,
    which needs no difference of large numbers. For rates past 2^41, |x| < 1e-4 wherever a candidate is not rejected outright, and
    the omitted terms are below 1e-9.
    """
    whole = np.floor(rate)
    fraction = rate - whole
    b = 0.931 + 2.53 * np.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    distance = np.zeros_like(rate)
    pending = np.arange(len(rate))
    while len(pending):
        u, v = rng.random(len(pending)) - 0.5, 1 - rng.random(len(pending))
        edge = 0.5 - np.abs(u)
        a_, b_, rate_ = a[pending], b[pending], rate[pending]
        with np.errstate(divide="ignore", invalid="ignore"):  # edge = 0 gives an infinite candidate, which is rejected
            candidate = np.floor((2 * a_ / edge + b_) * u + fraction[pending] + 0.43)
            x = (candidate - fraction[pending]) / rate_
            log_mass = -rate_ * x * x * (1 / 2 - x / 6 + x * x / 12) - x / 2 - np.log(2 * np.pi * rate_) / 2
            accepted = np.log(v * inverse_alpha[pending] / (a_ / edge**2 + b_)) <= log_mass
        accepted &= np.abs(x) < 1e-4
        distance[pending[accepted]] = candidate[accepted]
        pending = pending[~accepted]
    return whole.astype(np.int64) + distance.astype(np.int64)


def _large_binomial(rng: np.random.Generator, n_trials: int, p: np.ndarray) -> np.ndarray:
    """Return binomial counts of many trials for a vector of p by transformed rejection (BTRS, Hoermann 1993)."""
    mean = n_trials * p
    whole = np.floor(mean)
    fraction = mean - whole
    deviation = np.sqrt(mean * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    alpha = (2.83 + 5.1 / b) * deviation
    h = logit(p)
    log_mode = binomial_log_mass(h, whole + np.floor(fraction + p), n_trials)
    distance = np.zeros_like(mean)
    pending = np.arange(len(mean))
    while len(pending):
        u, v = rng.random(len(pending)) - 0.5, 1 - rng.random(len(pending))
        edge = 0.5 - np.abs(u)
        a_, b_ = a[pending], b[pending]
        with np.errstate(divide="ignore", invalid="ignore"):  # edge = 0 gives an infinite candidate, which is rejected
            candidate = np.floor((2 * a_ / edge + b_) * u + fraction[pending] + 0.5)
            count = whole[pending] + candidate
            inside = (count >= 0) & (count <= n_trials)
            log_ratio = binomial_log_mass(h[pending], np.where(inside, count, 0), n_trials) - log_mode[pending]
            accepted = inside & (np.log(v * alpha[pending] / (a_ / edge**2 + b_)) <= log_ratio)
        distance[pending[accepted]] = candidate[accepted]
        pending = pending[~accepted]
    return whole.astype(np.int64) + distance.astype(np.int64)
