"""Tests of what users bring: families, for consistency, and estimates of Fisher information, for what they estimate."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fisherstats.core.validation import arguments
from fisherstats.core.validation import families as checks
from fisherstats.models.families import DRAW_SCHEMES, Family, Law
from fisherstats.testing.calibration import calibrate
from fisherstats.testing.quadrature import weighted_labels

__all__ = ["calibrate", "check_family"]

EXACT = 1e-7
"""Tolerance for comparisons with a sum, an integral or a derivative, in units of standard deviations."""

Z_LIMIT = 5.5
"""A z-score of a correct family exceeds it with probability 4e-8; fewer than 100 are computed."""

POWER = 14.0
"""Expected z-score of labels drawn at shifted natural parameters, which must exceed `Z_LIMIT`."""

N_LABELS = 20_000
REPLICATES = 2_000
LABELS_PER_REPLICATE = 7
# Weights of central differences with steps 1, 2, 3, 4, exact to the eighth power of the step.
DIFFERENCE = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
STEP = 0.001


def check_family(family: Family, *, h: Any = None, rng: Any = 0) -> dict[str, float]:
    """Test that the methods of a family are consistent with one exponential family.

    It tests: normalisation and moments against a sum over the support or an integral, where labels are countable or one number,
    else by z-scores of labels (which detect only the dependence of the normalisation on h); every cumulant as the derivative of
    the previous one (d eta / dh = I(h) and so on); every moment along directions against the cumulant tensors; residuals; that
    drawn labels are accepted, and NaN, half counts and wrong shapes rejected; the sampler and the draws of the estimators by
    z-scores, whose limit the family's own labels must not exceed and labels of a slightly shifted h must exceed; the derivatives
    of the link.

    Parameters
    ----------
    family : Family
        The family, at most about 10 outputs.
    h : array_like, optional
        Natural parameters (n, T) at which to test, in the interior of the domain; three random ones, through the family's link,
        unless given.
    rng : int, SeedSequence or Generator, default 0
        Source of randomness; the same seed gives the same result.

    Returns
    -------
    dict of str to float
        Worst error of each test: relative for exact tests, a z-score where the name says so.

    Raises
    ------
    AssertionError
        If a test failed; the message lists all failed tests.

    Examples
    --------
    >>> import fisherstats as fs
    >>> errors = check_family(fs.families.Poisson())
    >>> errors["normalisation"] < 1e-10
    True
    """
    checks.family_parts([family], Family)
    generator = arguments.generator(rng)
    if h is None:
        z = generator.standard_normal((3, family.n_outputs))
        h = z if family.link is None else family.link.evaluate(z)[0]
    h = checks.natural_parameters(np.asarray(h, dtype=np.float64), family.n_outputs)
    tests = _Tests(family, h, generator)
    tests.declarations()
    tests.link()
    tests.derivatives()
    tests.directions()
    for row in range(len(h)):
        sample, accepted = tests.labels(row)
        if accepted:
            tests.law_of_labels(row, sample)
        tests.sampler(row, sample)
        tests.draws(row)
    if tests.failures:
        checks.tests_failed(repr(family), tests.failures)
    return tests.worst


class _Tests:
    """The tests of one family at natural parameters h (n, T), with their results."""

    def __init__(self, family: Family, h: np.ndarray, rng: np.random.Generator) -> None:
        self.family, self.h, self.rng = family, h, rng
        self.law = family.at(h)
        self.worst: dict[str, float] = {}
        self.failures: list[str] = []
        self.deviation = np.sqrt(np.maximum(np.einsum("naa->na", self.law.information()), np.finfo(np.float64).tiny))
        # A distribution with numerical cumulants declares their accuracy.
        self.tolerance = EXACT + 10 * max(getattr(self.law, "accuracy", {0: 0.0}).values())
        # One direction per column, scaled so that outputs matter equally.
        self.u, self.s = (rng.standard_normal((*h.shape, 3)) / self.deviation[:, :, None] for _ in range(2))

    def note(self, name: str, error: Any, limit: float, at_least: bool = False) -> None:
        """Record the worst error of a test, and whether it passed."""
        value = float(np.min(error) if at_least else np.max(error))
        pick = min if at_least else max
        self.worst[name] = value if name not in self.worst else pick(self.worst[name], value)
        forward = value >= limit if at_least else value <= limit
        if not forward:  # NaN fails
            self.failures.append(f"{name}: {value:.3g}, {'at least' if at_least else 'at most'} {limit:.3g} allowed")

    def require(self, holds: bool, failure: str) -> None:
        """Record a failure unless a condition holds."""
        if not holds:
            self.failures.append(failure)

    def declarations(self) -> None:
        """Test the family's declared attributes."""
        parameters = self.family.parameters()
        self.require(json.loads(json.dumps(parameters)) == parameters, "parameters: not plain values")
        self.require(parameters.get("n_outputs") == self.family.n_outputs, "parameters: `n_outputs` differs from the family's")
        for second_moment in (False, True):
            scheme = self.family.draw_scheme(second_moment, 100)
            self.require(scheme in DRAW_SCHEMES, f"draw_scheme: {scheme!r} is not in DRAW_SCHEMES")

    def link(self) -> None:
        """Test the derivatives of the link, and that it maps into the natural domain."""
        if self.family.link is None:
            return
        z = self.rng.uniform(-3, 3, (20, self.family.n_outputs))
        h, slope, bend = self.family.link.evaluate(z, 2)
        self.family.at(h)
        for name, function, derivative in (("link slope", 0, slope), ("link curvature", 1, bend)):
            difference = _difference(lambda step, k=function: self.family.link.evaluate(z + step, 2)[k])
            self.note(name, np.abs(difference - derivative) / (np.abs(derivative) + np.abs(slope)), 1e-9)

    def derivatives(self) -> None:
        """Test that the cumulant of every order is the derivative of the previous one."""
        for order in (1, 2, 3):
            for column in range(self.u.shape[2]):
                u = self.u[:, :, column]
                difference = _difference(lambda step, k=order, u=u: self.family.at(self.h + step * u).cumulant(k))
                derivative = np.einsum("n...a,na->n...", self.law.cumulant(order + 1), u)
                self.note(f"derivative of cumulant {order}", np.abs(difference - derivative) / self._scale(order), self.tolerance)

    def _scale(self, order: int) -> np.ndarray:
        """Return products of typical sizes, the fourth root of the fourth moment of each output, shape (n, T, ..., T)."""
        outputs = self.h.shape[1]
        fourth = self.law.fourth_moment(np.broadcast_to(np.eye(outputs), (len(self.h), outputs, outputs)))
        size = np.maximum(fourth, np.finfo(np.float64).tiny) ** 0.25
        scale = np.ones(len(size))
        for axis in range(order):
            scale = scale[..., None] * size.reshape(len(size), *(1,) * axis, -1)
        return scale

    def directions(self) -> None:
        """Test every moment along directions against the cumulant tensors."""
        law, u, s = self.law, self.u, self.s
        second, third, fourth = (law.cumulant(order) for order in (2, 3, 4))
        variance = np.einsum("nab,nak,nbk->nk", second, u, u)
        of_s = np.einsum("nab,nak,nbk->nk", second, s, s)
        along = np.einsum("nabcd,nak,nbl,nck,ndl->nkl", fourth, u, s, u, s, optimize=True)
        fourth_u = np.einsum("nabcd,nak,nbk,nck,ndk->nk", fourth, u, u, u, u, optimize=True)
        fourth_s = np.einsum("nabcd,nak,nbk,nck,ndk->nk", fourth, s, s, s, s, optimize=True) + 3 * of_s**2
        mixed = np.einsum("nab,nak,nbl->nkl", second, u, s)
        moment = fourth_u + 3 * variance**2
        third_us = np.einsum("nabc,nak,nbk,nck->nk", third, u, u, s, optimize=True)
        size3, product_size = np.sqrt(moment * of_s), np.sqrt(moment[:, :, None] * fourth_s[:, None, :])
        rows = np.einsum("nrk,nrk->nk", law.rows(u), law.rows(u))
        own, own_fourth = np.einsum("naa->na", second), np.einsum("naaaa->na", fourth)
        own_rows, own_diagonal = law.own_products()
        products = np.einsum("nra,nrb->nab", own_rows, own_rows)
        if own_diagonal is not None:
            np.negative(products, out=products)
            np.einsum("naa->na", products)[...] = own_diagonal
        pairs = {
            "information": (law.information(), second, self._scale(2)),
            "product": (np.einsum("nak,nak->nk", u, law.product(u)), variance, variance),
            "diagonal": (law.diagonal(u), variance, variance),
            "rows": (rows, variance, variance),
            "third_moment": (law.third_moment(u, s), third_us, size3),
            "fourth_moment": (law.fourth_moment(u), moment, moment),
            "square_variance": (law.square_variance(u), fourth_u + 2 * variance**2, moment),
            "product_variance": (
                law.product_variance(u, s),
                along + variance[:, :, None] * of_s[:, None, :] + mixed**2,
                product_size,
            ),
            "own_diagonal": (law.own_diagonal(), own, own),
            "own_rows": (np.einsum("nra,nrb->nab", law.own_rows(), law.own_rows()), second, self._scale(2)),
            "own_products": (products, second, self._scale(2)),
            "own_square_variance": (law.own_square_variance(), own_fourth + 2 * own**2, own_fourth + 3 * own**2),
            **self._forms(second, third, fourth),
        }
        for name, (got, wanted, size) in pairs.items():
            self.note(name, np.abs(got - wanted) / np.maximum(size, np.finfo(np.float64).tiny), self.tolerance)

    def _forms(self, second: np.ndarray, third: np.ndarray, fourth: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
        a = np.einsum("nag,nbg->ngab", self.u, self.s)
        a, s = a + a.swapaxes(2, 3), self.s.swapaxes(1, 2)
        pairings = np.einsum("nac,nbd->nabcd", second, second)
        spread = np.einsum("ngab,nabcd,ngcd->ng", a, fourth + pairings + pairings.swapaxes(3, 4), a, optimize=True)
        mean, skew = np.einsum("ngab,nab->ng", a, second), np.einsum("ngab,nabc,ngc->ng", a, third, s, optimize=True)
        square, along = spread + mean**2, np.einsum("nab,nga,ngb->ng", second, s, s)
        law = self.law
        return {
            "quadratic_mean": (law.quadratic_mean(a), mean, np.sqrt(square)),
            "quadratic_variance": (law.quadratic_variance(a), spread, square),
            "quadratic_third_moment": (law.quadratic_third_moment(a, s), skew, np.sqrt(square * along)),
            "quadratic_variance of one form": (law.quadratic_variance(a[:, 0]), spread[:, 0], square[:, 0]),
            "quadratic_third_moment of one form": (
                law.quadratic_third_moment(a[:, 0], s[:, 0]),
                skew[:, 0],
                np.sqrt(square * along)[:, 0],
            ),
        }

    def labels(self, row: int) -> tuple[np.ndarray, bool]:
        """Return labels of one input and whether they are accepted, after testing that invalid labels are rejected."""
        sample, accepted = self.family.sample(self.h[row : row + 1], self.rng, N_LABELS)[:, 0], True
        try:
            self.family.check_labels(sample, len(sample))
        except ValueError as error:
            accepted = False
            self.failures.append(f"check_labels: refuses a label that was drawn: {error}")
        first = sample[:1].astype(np.float64)
        wrong = {"NaN": first * np.nan, "infinity": first + np.inf, "two rows for one input": np.repeat(first, 2, axis=0)}
        if (sample == np.floor(sample)).all():
            wrong["half a count"] = first + 0.5
        for what, label in wrong.items():
            try:
                self.family.check_labels(label, 1)
            except (TypeError, ValueError):
                continue
            self.failures.append(f"check_labels: accepts {what}")
        return sample, accepted

    def law_of_labels(self, row: int, sample: np.ndarray) -> None:
        """Test probabilities and moments against the support, an integral, or labels."""
        h = self.h[row : row + 1]
        u, law = self.u[row : row + 1, :, :1], self.family.at(h)
        points = weighted_labels(self.family, h, sample)
        labels, weights = (sample, np.full(len(sample), 1 / len(sample))) if points is None else points
        delta = self.family.statistic(labels) - law.mean
        few = self.family.check_labels(labels[:500], len(labels[:500]))
        residual = self.family.at(np.repeat(h, len(few), axis=0)).residual(few)
        error = np.abs(residual - delta[: len(few)]).max(axis=0)
        self.note("residual", error / (self.deviation[row] + np.abs(residual).max(axis=0)), EXACT)
        q = delta @ u[0, :, 0]
        deviation = np.sqrt(law.diagonal(u)[0, 0])
        moments = {
            "mean": (q / deviation, 0.0),
            "variance": ((q / deviation) ** 2, 1.0),
            "third moment": ((q / deviation) ** 3, law.third_moment(u, u)[0, 0] / deviation**3),
        }
        if points is None:
            shifted = h + 0.1 * u[:, :, 0] / (u[0, :, 0] @ law.information()[0] @ u[0, :, 0]) ** 0.5
            tiled = [np.repeat(one, len(labels), axis=0) for one in (h, shifted)]
            ratio = np.exp(self.family.log_prob(tiled[1], labels) - self.family.log_prob(tiled[0], labels))
            for name, (values, expected) in {**moments, "normalisation": (ratio, 1.0)}.items():
                error = abs(values.mean() - expected) / (values.std() / np.sqrt(len(values)))
                self.note(f"{name} of labels (z-score)", error, Z_LIMIT)
            return
        self.note("normalisation", abs(weights.sum() - 1), self.tolerance)
        moments["fourth moment"] = ((q / deviation) ** 4, law.fourth_moment(u)[0, 0] / deviation**4)
        for name, (values, expected) in moments.items():
            size = weights @ np.abs(values)
            self.note(f"{name} of labels", abs(weights @ values - expected) / max(size, 1.0), self.tolerance)

    def sampler(self, row: int, sample: np.ndarray) -> None:
        """Test the mean and the variance of labels, and that labels of a shifted h are detected."""
        h, u = self.h[row : row + 1], self.u[row : row + 1]
        law = self.family.at(h)
        information = law.diagonal(u)[0]
        self.note("sampler (z-score)", self._z_scores(law, u, sample), Z_LIMIT)
        # E[u.t] moves by c u'Iu for a shift c u of h, that is, by POWER standard errors of its sample mean.
        step = POWER / np.sqrt(len(sample) * information[0])
        other = self.family.sample(h + step * u[:, :, 0], self.rng, len(sample))[:, 0]
        self.note("sampler at a shifted h (z-score)", self._z_scores(law, u, other).max(), Z_LIMIT, at_least=True)

    def _z_scores(self, law: Law, u: np.ndarray, sample: np.ndarray) -> np.ndarray:
        along = (self.family.statistic(sample) - law.mean) @ u[0]
        variance, of_square = law.diagonal(u)[0], law.square_variance(u)[0]
        root = np.sqrt(len(sample))
        mean = np.abs(along.mean(axis=0)) / np.sqrt(variance) * root
        excess = np.abs((along**2).mean(axis=0) - variance)
        # Where (u.delta)^2 is constant, only rounding is left.
        spread = np.where(excess <= 1e-12 * variance, 0.0, excess / np.sqrt(np.maximum(of_square, 1e-24 * variance**2)) * root)
        return np.maximum(mean, spread)

    def draws(self, row: int) -> None:
        """Test the draws of the two estimators: their means, second moments, and that both come from the same labels."""
        law = self.family.at(np.repeat(self.h[row : row + 1], REPLICATES, axis=0))
        u, s = (np.repeat(one[row : row + 1, :, :1], REPLICATES, axis=0) for one in (self.u, self.s))
        variance, slope = law.diagonal(u)[0, 0], law.diagonal(s)[0, 0]
        for second_moment in (False, True):
            drawn = law.draw(self.rng, LABELS_PER_REPLICATE, second_moment)
            along = np.einsum("nt,nt->n", drawn.mean, s[:, :, 0])
            scores = [_z_score(along, 0.0), _z_score(along**2, slope / LABELS_PER_REPLICATE)]
            if drawn.second is not None:
                second = drawn.second.diagonal(u)[:, 0]
                together = law.third_moment(u, s)[0, 0] / LABELS_PER_REPLICATE
                scores += [_z_score(second, variance), _z_score((second - variance) * along, together)]
            self.require((drawn.second is not None) == second_moment, "draw: a second moment that was not asked for, or none")
            self.note("draws (z-score)", max(scores), Z_LIMIT)


def _z_score(sample: np.ndarray, expected: float) -> float:
    """Return the z-score of a sample mean, 0 if it agrees to rounding."""
    error = abs(float(sample.mean()) - expected)
    if error <= 1e-12 * (abs(expected) + float(np.abs(sample).max())):
        return 0.0
    return error / max(float(sample.std(ddof=1)) / float(np.sqrt(len(sample))), np.finfo(np.float64).tiny)


def _difference(function: Any) -> np.ndarray:
    """Return the derivative at 0 of an array-valued function of a step, by central differences."""
    total = sum(weight * (function(k * STEP) - function(-k * STEP)) for k, weight in enumerate(DIFFERENCE, start=1))
    return np.asarray(total) / STEP
