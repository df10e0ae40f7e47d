"""Exact draws of labels, as sufficient statistics where the distribution allows it, so that the cost need not grow with N.

Every function draws N labels per input for a block of inputs and returns only what the estimators use: the mean of
delta, and, if requested, a root of the second moment of delta about its known mean, both from the same labels.
No step replaces a law by its normal approximation. Probabilities are float64 whatever the dtype of the network.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fisherstats.core.validation.families import draw_count, sampler_range
from fisherstats.engines import primitives
from fisherstats.models.families import samplers
from fisherstats.models.families.base import Draw, MatrixRoot
from fisherstats.models.families.draw_blocks import SLAB, row_slabs

__all__ = [
    "DRAW_SCHEMES",
    "CountHeads",
    "class_counts",
    "class_scheme",
    "class_weights",
    "draw_class_weights",
    "draw_counts",
    "draw_gaussian",
    "independent_scheme",
]

DRAW_SCHEMES = {
    "class_counts": "multinomial counts of the classes; the cost does not grow with n_draws",
    "class_labels": "every label, by inversion, as so few take less time than multinomial counts",
    "rarer_count": "a binomial count of the rarer outcome; the cost does not grow with n_draws",
    "normal_mean": "the mean label, which is Gaussian; the cost does not grow with n_draws",
    "normal_and_wishart": (
        "the mean label and an independent Wishart matrix about it (Bartlett's factor); the cost does not grow with n_draws"
    ),
    "label_sums": "the sum of the labels of each output, closed under addition; the cost does not grow with n_draws",
    "support_counts": (
        "multinomial counts over the support where it has fewer points than n_draws, else labels; the cost grows with "
        "the spread of the labels, not with n_draws"
    ),
    "pattern_counts": (
        "multinomial counts over the joint patterns of the outputs where these are fewer than n_draws, else labels in "
        "slabs of bounded memory"
    ),
    "parts": "what each part of the product draws by itself",
    "stratified": (
        "counts of stratified labels, one from each of n_draws equal slices of the distribution function; the cost does not grow "
        "with n_draws"
    ),
    "labels": "every label, in slabs of bounded memory; the cost grows with n_draws",
}

Multinomial = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Draws counts (n, K) for numbers of trials (n,) and probabilities (n, K)."""

Uniforms = Callable[[tuple[int, int]], np.ndarray]
"""Draws numbers in [0, 1), (n, N) of N for each of n inputs."""

FEW_LABELS = 16
"""Number of labels per input up to which single labels are faster to draw than class counts."""

# Largest number of joint patterns that are counted.
MOST_PATTERNS = 2**22
# Each tail outside a support window has probability below e^-50 (Bernstein's inequality).
TAIL_EXPONENT = 50.0


@dataclass(frozen=True)
class CountHeads:
    """Outputs that are counts: delta = sign (count - expected), where the count is of the rarer of success and failure.

    Parameters
    ----------
    rate : numpy.ndarray
        Probability of the counted outcome, at most 1/2, or the Poisson rate, shape (n, T).
    sign : numpy.ndarray
        +1 where successes are counted, -1 where failures are, shape (n, T).
    n_trials : int or None
        Number of trials; None for Poisson.
    """

    rate: np.ndarray
    sign: np.ndarray
    n_trials: int | None

    @property
    def expected(self) -> np.ndarray:
        """Mean count of one label, shape (n, T)."""
        return self.rate if self.n_trials is None else self.n_trials * self.rate

    @property
    def failure(self) -> np.ndarray:
        """Variance over mean: 1 - rate, or 1 for Poisson."""
        return np.ones_like(self.rate) if self.n_trials is None else 1 - self.rate

    def sums(self, rng: np.random.Generator, n_labels: int) -> np.ndarray:
        """Return the sum of n_labels counts of every output, shape (n, T)."""
        if self.n_trials is None:
            return _poisson_by_input(rng, n_labels * self.rate)
        return _binomial_by_input(rng, n_labels * self.n_trials, self.rate)

    def labels(self, rng: np.random.Generator, rows: int | slice, n_labels: int) -> np.ndarray:
        """Return delta of n_labels labels of one input, shape (n_labels, T), or of several, (n, n_labels, T)."""
        rate, expected, sign = (one[rows][..., None, :] for one in (self.rate, self.expected, self.sign))
        rates = np.broadcast_to(rate, (*rate.shape[:-2], n_labels, rate.shape[-1]))
        if self.n_trials is None:
            counts = _poisson_by_input(rng, rates) if rates.ndim == 3 else samplers.poisson(rng, rates)
        elif self.n_trials == 1:
            # Uniform numbers are multiples of 2^-53, so a smaller rate is drawn as that.
            counts = rng.random(rates.shape) < rates
        else:
            draw = _binomial_by_input if rates.ndim == 3 else samplers.binomial
            counts = draw(rng, self.n_trials, rates)
        return sign * (counts - expected)

    def windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first count and the number of counts of a window with all but 2 e^-50 of the mass, (n, T) each."""
        expected = self.expected
        bernstein = TAIL_EXPONENT / 3
        reach = bernstein + np.sqrt(bernstein**2 + 2 * TAIL_EXPONENT * expected * self.failure)
        first = np.maximum(np.floor(expected - reach), 0)
        last = np.ceil(expected + reach)
        if self.n_trials is not None:
            last = np.minimum(last, self.n_trials)
        last[expected == 0] = 0
        return first, last - first + 1

    def log_ratios(self, row: int, output: int, count: np.ndarray) -> np.ndarray:
        """Return log P(count + 1) - log P(count), without cancellation around the mode where it is near 0."""
        rate, failure = self.rate[row, output], self.failure[row, output]
        log_ratio = np.log(rate / failure) - np.log(count + 1)
        if self.n_trials is not None:
            log_ratio += np.log(self.n_trials - count)
        excess = (self.expected[row, output] - failure - count) / (failure * (count + 1))
        near = np.abs(excess) < 0.5
        return np.where(near, np.log1p(np.where(near, excess, 0)), log_ratio)


def independent_scheme(n_outputs: int, n_trials: int | None, second_moment: bool, n_draws: int) -> str:
    """Return the key in `DRAW_SCHEMES` of what `draw_counts` draws."""
    if not second_moment:
        return "label_sums"
    if n_trials == 1:
        if n_outputs == 1:
            return "rarer_count"
        return "pattern_counts" if 2.0**n_outputs < n_draws and 2.0**n_outputs <= MOST_PATTERNS else "labels"
    return "support_counts" if n_outputs == 1 else "pattern_counts"


def draw_class_weights(
    rng: np.random.Generator, p: np.ndarray, n_draws: int, contractions: Any = primitives
) -> tuple[np.ndarray, np.ndarray]:
    """Return relative frequencies w of n_draws classes from p (n, C), and w - p, both (n, C), from one stream."""
    return class_weights(functools.partial(samplers.multinomial, rng), rng.random, p, n_draws, contractions)


def class_scheme(n_draws: int) -> str:
    """Return the key in `DRAW_SCHEMES` of what `class_weights` draws."""
    return "class_labels" if n_draws <= FEW_LABELS else "class_counts"


def class_weights(
    sample: Multinomial, uniforms: Uniforms, p: np.ndarray, n_draws: int, contractions: Any = primitives
) -> tuple[np.ndarray, np.ndarray]:
    """Return relative frequencies w of n_draws classes from p (n, C), and w - p, both (n, C).

    `contractions` holds `drawn_frequencies` and `frequencies` (see `engines`).
    """
    draw_count(n_draws)
    found: tuple[np.ndarray, np.ndarray]
    if n_draws <= FEW_LABELS:
        found = contractions.drawn_frequencies(p, uniforms((len(p), n_draws)))
    else:
        found = contractions.frequencies(p, _multinomial(sample, np.full(len(p), n_draws), p), n_draws)
    return found


def draw_gaussian(rng: np.random.Generator, root: np.ndarray, n: int, n_draws: int, second_moment: bool, dtype: np.dtype) -> Draw:
    """Return the draw of delta = R' z for n_draws standard normal z, with R = `root` (T,) or (T, T).

    The mean of z is normal. The scatter of z about its mean is an independent Wishart matrix with N - 1 degrees of
    freedom, A A' with Bartlett's A: independent normals below the diagonal, A_jj^2 ~ chi^2(N - 1 - j), and only
    N - 1 columns (a trapezoid) when N - 1 < T.
    """
    outputs = root.shape[0]
    draw_count(n_draws)
    mean = rng.standard_normal((n, 1, outputs)) / np.sqrt(n_draws)
    apply_root = mean * root if root.ndim == 1 else mean @ root
    if not second_moment:
        return Draw(apply_root[:, 0].astype(dtype), None)
    degrees = min(n_draws - 1, outputs)
    factor = np.triu(rng.standard_normal((n, degrees, outputs)), 1)  # A', so the normals stand above the diagonal
    column = np.arange(degrees)
    factor[:, column, column] = np.sqrt(rng.chisquare(n_draws - 1 - column, (n, degrees)))
    white = np.concatenate([mean, factor / np.sqrt(n_draws)], axis=1)
    rows = white * root if root.ndim == 1 else white @ root
    return Draw(apply_root[:, 0].astype(dtype), MatrixRoot(rows.astype(dtype)))


def draw_counts(
    rng: np.random.Generator, heads: CountHeads, n_draws: int, second_moment: bool, first_input: int, dtype: np.dtype
) -> Draw:
    """Return the draw of independent counts: sums, counts over supports or patterns, or labels (`DRAW_SCHEMES`)."""
    most = heads.rate if heads.n_trials is None else np.full_like(heads.rate, heads.n_trials)
    draw_count(n_draws)
    # Only sums of labels grow with n_draws; a second moment is drawn from single labels.
    summed = 1 if second_moment else n_draws
    sampler_range(summed, most, first_input, "rate" if heads.n_trials is None else "number of trials")
    n, outputs = heads.rate.shape
    if not second_moment:
        mean = heads.sign * (heads.sums(rng, n_draws) / n_draws - heads.expected)
        return Draw(mean.astype(dtype), None)
    if heads.n_trials == 1 and outputs == 1:
        return _draw_binary(rng, heads, n_draws, dtype)
    if n_draws <= outputs:
        delta = heads.labels(rng, slice(None), n_draws)
        return Draw(delta.mean(axis=1).astype(dtype), MatrixRoot((delta / np.sqrt(n_draws)).astype(dtype)))
    firsts, sizes = heads.windows()
    with np.errstate(over="ignore"):  # too many to count
        patterns = np.prod(sizes, axis=1)
    # A single output of any range can be counted.
    counted = (patterns < n_draws) & ((patterns <= MOST_PATTERNS) | (outputs == 1))
    mean, second = np.zeros((n, outputs)), np.zeros((n, outputs, outputs))
    held = SLAB // (n_draws * outputs)
    step = 1 if counted.any() else max(1, held)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        if held and not counted[start]:
            # The bits of an input do not depend on the other inputs.
            delta = heads.labels(rng, rows, n_draws)
            mean[rows], second[rows] = delta.sum(axis=1), np.matmul(delta.swapaxes(1, 2), delta)
            continue
        window = (firsts[start], sizes[start]) if counted[start] else None
        for delta, weights in _weighted_residuals(rng, heads, start, window, n_draws):
            mean[start] += weights @ delta
            second[start] += (delta * weights[:, None]).T @ delta
    return Draw((mean / n_draws).astype(dtype), MatrixRoot(_triangular_root(second / n_draws).astype(dtype)))


def _draw_binary(rng: np.random.Generator, heads: CountHeads, n_draws: int, dtype: np.dtype) -> Draw:
    """Return the draw of one binary output: delta takes two values, so one count is sufficient."""
    rarer = heads.sums(rng, n_draws) / n_draws
    mean = heads.sign * (rarer - heads.rate)
    rows = np.stack([np.sqrt(rarer) * heads.failure, np.sqrt(1 - rarer) * heads.rate], axis=1)
    return Draw(mean.astype(dtype), MatrixRoot(rows.astype(dtype)))


def _weighted_residuals(
    rng: np.random.Generator, heads: CountHeads, row: int, window: tuple[np.ndarray, np.ndarray] | None, n_draws: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (delta (R, T), how often (R,)) for the n_draws labels of one input, at most about 2^18 numbers at once.

    Labels in a `window`, the first counts and how many of each output, are counted; without one they are drawn one by one.
    """
    outputs = heads.rate.shape[1]
    if window is None:
        for n_labels in row_slabs(n_draws, outputs):
            yield heads.labels(rng, row, n_labels), np.ones(n_labels)
        return
    firsts, sizes = window
    if outputs == 1:
        for count, repeats in _support_counts(rng, heads, row, int(firsts[0]), int(sizes[0]), n_draws):
            yield heads.sign[row] * (count - heads.expected[row])[:, None], repeats
    else:
        for counts, repeats in _pattern_counts(rng, heads, row, firsts, sizes.astype(np.int64), n_draws):
            yield heads.sign[row] * (counts - heads.expected[row]), repeats


def _support_counts(
    rng: np.random.Generator, heads: CountHeads, row: int, first: int, size: int, n_draws: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (counts, how often) over the support window of one output: first per slab, then within each slab."""
    starts = range(first, first + size, SLAB)
    log_scales, masses = [0.0], []
    for start in starts:
        log_weights, following = _log_weights(heads, row, 0, start, min(SLAB, first + size - start), log_scales[-1])
        masses.append(np.exp(log_weights).sum())
        log_scales.append(following)
    per_slab = _counts(rng, np.array([n_draws]), np.array([masses]))[0]
    for start, total, log_scale in zip(starts, per_slab, log_scales, strict=False):
        if total:
            length = min(SLAB, first + size - start)
            log_weights, _ = _log_weights(heads, row, 0, start, length, log_scale)
            repeats = _counts(rng, np.array([total]), np.exp(log_weights)[None])[0]
            drawn = np.flatnonzero(repeats)
            yield start + drawn.astype(np.float64), repeats[drawn].astype(np.float64)


def _pattern_counts(
    rng: np.random.Generator, heads: CountHeads, row: int, firsts: np.ndarray, sizes: np.ndarray, n_draws: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (counts (R, T), how often) over joint patterns, split output after output.

    Patterns that were not drawn are dropped immediately. A pattern is stored as one integer whose digits, in the mixed base
    `sizes`, are the counts minus `firsts`.
    """
    repeats, codes = np.array([n_draws]), np.array([0])
    for output, (first, size) in enumerate(zip(firsts, sizes, strict=True)):
        log_weights, _ = _log_weights(heads, row, output, int(first), int(size), 0.0)
        split = _counts(rng, repeats, np.broadcast_to(np.exp(log_weights), (len(repeats), size)))
        parent, digit = np.nonzero(split)
        repeats, codes = split[parent, digit], codes[parent] * size + digit
    step = max(1, SLAB // len(sizes))
    for start in range(0, len(codes), step):
        code = codes[start : start + step]
        counts = np.empty((len(code), len(sizes)))
        for output in reversed(range(len(sizes))):
            code, digit = np.divmod(code, sizes[output])
            counts[:, output] = firsts[output] + digit
        yield counts, repeats[start : start + step].astype(np.float64)


def _log_weights(heads: CountHeads, row: int, output: int, start: int, length: int, log_scale: float) -> tuple[np.ndarray, float]:
    """Return log P(count) for `length` counts from `start`, up to a constant, and the value that continues them.

    The sum of log ratios starts at `log_scale`; it cannot overflow, as a window reaches from the mode down to about
    e^-50 of it, or to a count of 0 whose probability is above e^-140.
    """
    if length == 1 and heads.expected[row, output] == 0:
        return np.zeros(1), 0.0
    counts = np.arange(start, start + length, dtype=np.float64)
    if heads.n_trials is not None and start + length > heads.n_trials:
        ratios = np.append(heads.log_ratios(row, output, counts[:-1]), 0.0)
    else:
        ratios = heads.log_ratios(row, output, counts)
    path = log_scale + np.cumsum(ratios)
    return np.concatenate([[log_scale], path[:-1]]), float(path[-1])


def class_counts(rng: np.random.Generator, n_draws: int, p: np.ndarray) -> np.ndarray:
    """Return how often each class is drawn in n_draws, integers (n, C), for p (n, C)."""
    return _counts(rng, np.full(len(p), n_draws), p)


def _counts(rng: np.random.Generator, totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _multinomial(functools.partial(samplers.multinomial, rng), totals, weights)


def _multinomial(sample: Multinomial, totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return multinomial counts (n, K) of `totals` (n,) for non-negative weights (n, K), normalised here.

    numpy draws conditional binomials in order; with the largest weight last, what remains of the total probability
    never falls below it, so rounding stays relative to a probability that is not small.
    """
    p = weights / weights.sum(axis=1, keepdims=True)
    top = np.argmax(p, axis=1)
    counts = sample(totals, primitives.with_last_exchanged(p, top))
    return primitives.with_last_exchanged(counts, top)


def _poisson_by_input(rng: np.random.Generator, rates: np.ndarray) -> np.ndarray:
    """Return Poisson counts for rates (n, ...): the draws of an input must not depend on those that follow it in a block."""
    if not (rates > samplers.LARGE).any():
        return rng.poisson(rates)
    return np.stack([samplers.poisson(rng, rate) for rate in rates])


def _binomial_by_input(rng: np.random.Generator, n_trials: int, rates: np.ndarray) -> np.ndarray:
    """Return binomial counts for rates (n, ...), as `_poisson_by_input`."""
    if n_trials <= samplers.LARGE:
        return rng.binomial(n_trials, rates)
    return np.stack([samplers.binomial(rng, n_trials, rate) for rate in rates])


def _with_unit_diagonal(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices (n, T, T) scaled by the roots of their diagonals, and those roots, (n, T), 1 in place of 0."""
    scale = np.sqrt(np.diagonal(matrices, axis1=1, axis2=2))
    divisor = np.where(scale > 0, scale, 1)
    return matrices / (divisor[:, :, None] * divisor[:, None, :]), scale


def _triangular_root(matrices: np.ndarray) -> np.ndarray:
    """Return the result of `_root`, by Cholesky factors where all pivots are positive: at most a seventh of the time."""
    scaled, scale = _with_unit_diagonal(matrices)
    outputs = np.arange(matrices.shape[1])
    scaled[:, outputs, outputs] = 1
    try:
        lower = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        # One by one, as an input must not depend on the others.
        return _root(matrices) if len(matrices) == 1 else np.concatenate([_triangular_root(one[None]) for one in matrices])
    return lower.swapaxes(1, 2) * scale[:, None, :]


def _root(matrices: np.ndarray, rounding: float = 0.0) -> np.ndarray:
    """Return roots (n, T, T) with root' root = matrix, for positive semi-definite matrices (n, T, T).

    The matrix is first scaled to a unit diagonal, so that outputs with tiny variances keep their relative accuracy; its
    eigenvalues of no more than `rounding` are 0 then.
    """
    scaled, scale = _with_unit_diagonal(matrices)
    values, vectors = np.linalg.eigh(scaled)
    # Rounding may leave an eigenvalue of a singular matrix below 0.
    return np.sqrt(np.where(values > rounding, values, 0))[:, :, None] * vectors.swapaxes(1, 2) * scale[:, None, :]
