"""Log-likelihoods and divergences in many digits, straight from their definitions."""

from __future__ import annotations

from typing import Any

import mpmath as mp

__all__ = ["CUMULANTS", "LOG_PROBABILITY", "divergence", "log_probability"]

DIGITS = 120


def _number(value: Any) -> Any:
    return mp.mpf(value) if isinstance(value, int) else mp.mpf(float(value))


def _softplus(h):
    return mp.log1p(mp.exp(h)) if h < 0 else h + mp.log1p(mp.exp(-h))


def _choose(n, k):
    return mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)


def _classes(family, h):
    return [*h, mp.mpf(0)] if family.minimal else list(h)


def _log_sum(h):
    top = max(h)
    return top + mp.log(mp.fsum(mp.exp(one - top) for one in h))


def _gamma(k, rate, y):
    return k * mp.log(rate) - rate * y + (k - 1) * mp.log(y) - mp.loggamma(k)


def _categorical(family, h, y):
    h = _classes(family, h)
    return h[int(y[0])] - _log_sum(h)


def _multinomial(family, h, y):
    h = _classes(family, h)
    constant = _log_sum(h)
    own = mp.fsum(count * (one - constant) - mp.loggamma(count + 1) for count, one in zip(y, h, strict=True))
    return mp.loggamma(_number(family.n_trials) + 1) + own


def _inverse_gaussian(family, h, y):
    shape = _number(family.shape)
    mean = mp.sqrt(shape / (-2 * h[0]))
    return mp.log(shape / (2 * mp.pi * y[0] ** 3)) / 2 - shape * (y[0] - mean) ** 2 / (2 * mean**2 * y[0])


def _failures(r, h, y):
    return mp.loggamma(y + r) - mp.loggamma(r) - mp.loggamma(y + 1) + y * h + r * mp.log(-mp.expm1(h))


LOG_PROBABILITY = {
    "bernoulli": lambda f, h, y: y[0] * h[0] - _softplus(h[0]),
    "binomial": lambda f, h, y: _choose(_number(f.n_trials), y[0]) + y[0] * h[0] - _number(f.n_trials) * _softplus(h[0]),
    "poisson": lambda f, h, y: y[0] * h[0] - mp.exp(h[0]) - mp.loggamma(y[0] + 1),
    "negative_binomial": lambda f, h, y: _failures(_number(f.n_successes), h[0], y[0]),
    "geometric": lambda f, h, y: mp.log(-mp.expm1(h[0])) + y[0] * h[0],
    "categorical": _categorical,
    "multinomial": _multinomial,
    "exponential": lambda f, h, y: mp.log(-h[0]) + h[0] * y[0],
    "gamma": lambda f, h, y: _gamma(_number(f.shape), -h[0], y[0]),
    "gamma_shape_rate": lambda f, h, y: _gamma(h[0], -h[1], y[0]),
    "inverse_gaussian": _inverse_gaussian,
    "laplace": lambda f, h, y: mp.log(-h[0] / 2) + h[0] * abs(y[0] - _number(f.location)),
    "weibull": lambda f, h, y: (
        mp.log(-h[0] * _number(f.shape)) + h[0] * y[0] ** _number(f.shape) + (_number(f.shape) - 1) * mp.log(y[0])
    ),
    "gaussian": lambda f, h, y: -((y[0] - h[0]) ** 2) / (2 * _number(f.covariance)) - mp.log(2 * mp.pi * f.covariance) / 2,
    "gaussian_mean_variance": lambda f, h, y: h[0] * y[0] + h[1] * y[0] ** 2 + h[0] ** 2 / (4 * h[1]) + mp.log(-h[1] / mp.pi) / 2,
    "dirichlet": lambda f, h, y: (
        mp.loggamma(mp.fsum(h)) + mp.fsum((a - 1) * mp.log(b) - mp.loggamma(a) for a, b in zip(h, y, strict=True))
    ),
}

# log-partition F and its gradient
CUMULANTS = {
    "bernoulli": (lambda f, h: _softplus(h[0]), lambda f, h: [1 / (1 + mp.exp(-h[0]))]),
    "binomial": (lambda f, h: f.n_trials * _softplus(h[0]), lambda f, h: [f.n_trials / (1 + mp.exp(-h[0]))]),
    "poisson": (lambda f, h: mp.exp(h[0]), lambda f, h: [mp.exp(h[0])]),
    "negative_binomial": (
        lambda f, h: -_number(f.n_successes) * mp.log(-mp.expm1(h[0])),
        lambda f, h: [_number(f.n_successes) / mp.expm1(-h[0])],
    ),
    "geometric": (lambda f, h: -mp.log(-mp.expm1(h[0])), lambda f, h: [1 / mp.expm1(-h[0])]),
    "categorical": (lambda f, h: _log_sum(_classes(f, h)), lambda f, h: [mp.exp(a - _log_sum(_classes(f, h))) for a in h]),
    "multinomial": (
        lambda f, h: f.n_trials * _log_sum(_classes(f, h)),
        lambda f, h: [f.n_trials * mp.exp(a - _log_sum(_classes(f, h))) for a in h],
    ),
    "exponential": (lambda f, h: -mp.log(-h[0]), lambda f, h: [-1 / h[0]]),
    "laplace": (lambda f, h: -mp.log(-h[0]), lambda f, h: [-1 / h[0]]),
    "weibull": (lambda f, h: -mp.log(-h[0]), lambda f, h: [-1 / h[0]]),
    "gamma": (lambda f, h: -_number(f.shape) * mp.log(-h[0]), lambda f, h: [-_number(f.shape) / h[0]]),
    "gamma_shape_rate": (
        lambda f, h: mp.loggamma(h[0]) - h[0] * mp.log(-h[1]),
        lambda f, h: [mp.digamma(h[0]) - mp.log(-h[1]), -h[0] / h[1]],
    ),
    "inverse_gaussian": (
        lambda f, h: -mp.sqrt(-2 * _number(f.shape) * h[0]),
        lambda f, h: [mp.sqrt(_number(f.shape) / (-2 * h[0]))],
    ),
    "gaussian": (
        lambda f, h: h[0] ** 2 / (2 * _number(f.covariance)),
        lambda f, h: [h[0] / _number(f.covariance)],
    ),
    "gaussian_mean_variance": (
        lambda f, h: -(h[0] ** 2) / (4 * h[1]) - mp.log(-2 * h[1]) / 2,
        lambda f, h: [-h[0] / (2 * h[1]), h[0] ** 2 / (4 * h[1] ** 2) - 1 / (2 * h[1])],
    ),
    "dirichlet": (
        lambda f, h: mp.fsum(mp.loggamma(a) for a in h) - mp.loggamma(mp.fsum(h)),
        lambda f, h: [mp.digamma(a) - mp.digamma(mp.fsum(h)) for a in h],
    ),
}


def log_probability(family, h, y):
    """log p(y | h) of one label, a row of numbers, at natural parameters of either precision."""
    with mp.workdps(DIGITS):
        return LOG_PROBABILITY[family.name](family, [_number(one) for one in h], [_number(one) for one in y])


def divergence(family, h, other):
    """F(h') - F(h) - (h' - h)' grad F(h)."""
    with mp.workdps(DIGITS):
        h, other = [_number(one) for one in h], [_number(one) for one in other]
        partition, mean = CUMULANTS[family.name]
        linear = mp.fsum((b - a) * c for a, b, c in zip(h, other, mean(family, h), strict=True))
        return partition(family, other) - partition(family, h) - linear
