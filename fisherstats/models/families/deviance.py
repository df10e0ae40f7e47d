r"""Log-likelihoods and divergences without cancellation of large terms: deviances and Stirling remainders (Loader 2000).

For an exponential family :math:`\log p(y|h)=\log p(y|\hat h)-\mathrm{KL}[p_{\hat h}\|p_h]`, with :math:`\hat h` the parameter
whose mean is the label. The first part has a Stirling form; the second consists of :math:`e^s-1-s` and :math:`x-\log(1+x)`,
which are never negative. So a log-likelihood of 1e15 trials is as accurate as one of ten.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import betaln, expit, gammaln, log_expit, xlogy

from fisherstats.core.arrays import like, on_device
from fisherstats.models.families.double_double import exact_difference, log_pair, two_sum
from fisherstats.models.families.polygamma import BERNOULLI, SHIFTS, log_less_psi, polygamma_remainder

__all__ = [
    "MODERATE",
    "binomial_log_mass",
    "class_deviance",
    "exp_excess",
    "factorial_remainder",
    "failure_deviance",
    "failure_log_mass",
    "gamma_excess",
    "gamma_log_density",
    "log_deviance",
    "log_excess",
    "log_gamma_remainder",
    "log_success",
    "multinomial_log_mass",
    "poisson_log_mass",
    "relative_excess",
    "where_moderate",
]

Array = np.ndarray

MODERATE = 128.0
"""Up to these counts and shapes the plain sum of terms is accurate to 1e-13."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(14)


def where_moderate(moderate: Array, plain: Callable[[], Array], exact: Callable[[], Array]) -> Array:
    """Return `plain` where the terms are moderate, else `exact`, which is not evaluated where no entry needs it."""
    if not on_device(moderate) and moderate.all():
        return plain()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        found: Array = np.where(moderate, plain(), exact())
    return found


def exp_excess(s: Array) -> Array:
    """Return e^s - 1 - s, never negative."""
    near = np.abs(s) < 0.1
    small = np.where(near, s, 0.0)
    series = np.ones_like(small)
    for k in range(11, 2, -1):
        series = 1 + small / k * series
    return np.where(near, small * small / 2 * series, np.expm1(s) - s)


def log_excess(x: Array) -> Array:
    """Return x - log(1 + x), never negative, for x > -1."""
    near = np.abs(x) < 0.2
    small = np.where(near, x, 0.0)
    v = small / (2 + small)
    square = v * v
    series = np.zeros_like(v)
    for k in range(23, 1, -2):
        series = (series + 1 / k) * square
    # log(1 + x) = 2 atanh(v), and x - 2v = x v
    far = np.where(near, 0.5, x)
    return np.where(near, v * (small - 2 * series), far - np.log1p(far))


def log_deviance(scale: Array, apart: Array, log_ratio: Array) -> Array:
    """Return scale (x - log(1 + x)) for x = apart / scale; `log_ratio` is log(1 + x), taken where x is near -1 or large."""
    with np.errstate(over="ignore"):
        x = apart / scale
    near = np.abs(x - 0.5) < 1
    return np.where(near, scale * log_excess(np.where(near, x, 0.0)), apart - scale * log_ratio)


def relative_excess(count: Array, expected: Array, s: Array) -> Array:
    """Return count (e^s - 1 - s) for expected = count e^s; that is `expected` where the count is 0."""
    near, step = _near_step(count, s)
    linear = np.where(count > 0, count * np.where(count > 0, s, 0.0), 0.0)
    return np.where(near, count * exp_excess(step), expected - count - linear)


def _difference(count: Array, expected: Array, s: Array) -> Array:
    """Return count (e^s - 1) for expected = count e^s."""
    near, step = _near_step(count, s)
    return np.where(near, count * np.expm1(step), expected - count)


def _near_step(count: Array, s: Array) -> tuple[Array, Array]:
    near = (count > 0) & (np.abs(s) <= 1)
    return near, np.where(near, s, 0.0)


def class_deviance(count: Array, expected: Array, s: Array, total: float | Array) -> Array:
    r"""Return :math:`\sum_kn_k\log(n_k/m_k)` over the last axis, for counts n with the sum `total` and expected counts m.

    The argument s is log(m / n) to within a constant, `expected` is n e^s. A constant error of s, as from rounding, has no
    effect: the last term removes it.
    """
    apart = _difference(count, expected, s).sum(axis=-1) / total
    return relative_excess(count, expected, s).sum(axis=-1) - total * log_excess(apart)


def failure_deviance(count: Array, successes: float, s: Array, log_ratio: Array, expected: Array) -> Array:
    """Return KL of the negative binomial law of mean `count` from the one whose log failure probability is larger by s.

    `log_ratio` is the logarithm of the ratio of their success probabilities, `expected` is count e^s.
    """
    apart = -_difference(count, expected, s)
    return log_deviance(np.zeros_like(apart) + successes, apart, log_ratio) + relative_excess(count, expected, s)


def log_gamma_remainder(x: Array) -> Array:
    """Return E(x) = log Gamma(x) - x log x + x = log(2 pi / x) / 2 + 1/(12 x) - ..., x > 0."""
    small = x < SHIFTS
    low, high = np.where(small, x, 1.0), np.where(small, float(SHIFTS), x)
    inverse = 1 / high
    square = inverse * inverse
    series = np.zeros_like(high)
    for k in range(len(BERNOULLI), 0, -1):
        series = series * square + BERNOULLI[k - 1] / (2 * k * (2 * k - 1))
    large = np.log(2 * np.pi * inverse) / 2 + series * inverse
    return np.where(small, gammaln(low) - xlogy(low, low) + low, large)


def factorial_remainder(k: Array) -> Array:
    """Return log k! - k log k + k for k >= 0."""
    positive = np.where(k > 0, k, 1.0)
    return np.where(k > 0, log_gamma_remainder(positive) + np.log(positive), 0.0)


def gamma_excess(shape: Array, other: Array, step: Array) -> Array:
    """Return E(k') - E(k) - s E'(k), E(x) = log Gamma(x) - x log x + x, s = k' - k: KL without the change of the mean.

    Where k' is near k it is the integral of (1 - t) s^2 E'', whose integrand is positive.
    """
    near = np.abs(step) <= shape / 2
    width = np.where(near, step, 0.0)
    points = shape[..., None] + width[..., None] * like((1 + _NODES) / 2, shape)
    integral = width * width * (polygamma_remainder(1, points) @ like(_WEIGHTS * (1 - _NODES) / 4, shape))
    far = log_gamma_remainder(other) - log_gamma_remainder(shape) + step * log_less_psi(shape)
    return np.where(near, integral, far)


def log_success(h: Array) -> Array:
    """Return log(1 - e^h), h < 0."""
    near = h > -0.5
    return np.where(near, np.log(-np.expm1(np.where(near, h, -0.5))), np.log1p(-np.exp(np.where(near, -0.5, h))))


def poisson_log_mass(h: Array, y: Array) -> Array:
    """Return the log mass of counts y at log rates h, elementwise."""
    high, low = log_pair(np.where(y > 0, y, 1.0))
    return -relative_excess(y, np.exp(h), (h - high) - low) - factorial_remainder(y)


def binomial_log_mass(h: Array, y: Array, n_trials: int) -> Array:
    """Return the log mass of y successes at logits h, elementwise."""
    if n_trials <= MODERATE:
        log_choose = -np.log1p(n_trials) - betaln(n_trials - y + 1, y + 1) if n_trials > 1 else 0.0
        return log_choose + y * log_expit(h) + (n_trials - y) * log_expit(-h)
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        return _many_trials(h, y, n_trials)


def _many_trials(h: Array, y: Array, n_trials: int) -> Array:
    n = float(n_trials)
    failures, rest = two_sum(np.zeros_like(y) + n, -y)
    failures, rest = two_sum(failures, rest + float(n_trials - int(n)))
    constant = -log_expit(-h) - np.log(n)
    counts, steps = np.stack([y, failures], axis=-1), np.stack(_steps(h, constant, y, failures, rest), axis=-1)
    expected = n * np.stack([expit(h), expit(-h)], axis=-1)
    remainders = factorial_remainder(np.zeros_like(y) + n) - factorial_remainder(y) - factorial_remainder(failures)
    return remainders - class_deviance(counts, expected, steps, n)


def _steps(h: Array, constant: Array, y: Array, failures: Array, rest: Array) -> list[Array]:
    """Return log(np) - log y and log(nq) - log(n - y), each minus the same rounding error of the constant."""
    log_failures, low = log_pair(np.where(failures > 0, failures, 1.0))
    low = low + np.where(failures > 0, rest / np.where(failures > 0, failures, 1.0), 0.0)
    return [_log_step(h, constant, y), (-constant - log_failures) - low]


def _log_step(h: Array, constant: Array, count: Array) -> Array:
    """Return h - constant - log count to floating-point accuracy, 0 in place of the logarithm of 0."""
    high, low = log_pair(np.where(count > 0, count, 1.0))
    shifted, error = two_sum(h, -constant)
    return (shifted - high) + (error - low)


def multinomial_log_mass(logits: Array, log_p: Array, y: Array, n_trials: int) -> Array:
    """Return the log mass of the counts y of all classes, (n, C) to (n,)."""
    n = float(n_trials)
    top = np.argmax(logits, axis=1)[:, None]
    constant = np.take_along_axis(logits - log_p, top, axis=1) - np.log(n)
    steps = _log_step(logits, np.zeros_like(logits) + constant, y)
    remainders = factorial_remainder(np.zeros_like(y[:, 0]) + n) - factorial_remainder(y).sum(axis=1)
    return remainders - class_deviance(y, n * np.exp(log_p), steps, n)


def failure_log_mass(h: Array, y: Array, successes: float) -> Array:
    """Return the log mass of y failures before the given number of successes at log failure probabilities h, elementwise."""
    trials, rest = two_sum(y, np.zeros_like(y) + successes)
    log_trials, low = log_pair(trials)
    log_failures, other_low = log_pair(np.where(y > 0, y, 1.0))
    gap, error = two_sum(log_trials, -log_failures)
    step = (h + gap) + (error + (low - other_low) + rest / trials)
    log_ratio = log_success(h) + np.log1p(y / successes)
    remainders = log_gamma_remainder(trials) - log_gamma_remainder(np.zeros_like(y) + successes) - factorial_remainder(y)
    return remainders - failure_deviance(y, successes, step, log_ratio, np.exp(h) * trials)


def gamma_log_density(shape: Array | float, rate: Array, label: Array) -> Array:
    """Return the log density of the logarithm of Gamma labels, elementwise: that of the label is smaller by its logarithm."""
    shape = np.zeros_like(label) + shape
    apart = exact_difference(rate, label, shape, np.ones_like(shape))
    log_ratio = np.log(rate) + np.log(label) - np.log(shape)
    return -log_deviance(shape, apart, log_ratio) - log_gamma_remainder(shape)
