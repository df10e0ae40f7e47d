"""Delta-method errors and biases against sums over all labels of numerical derivatives along each label's error.

The derivatives of eps -> phi(F + eps E) come from Cauchy's integral over a circle of complex eps, so that nothing of the closed
forms is used: sixteen points on a circle of a tenth of the radius of convergence are exact to rounding.
"""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.theory import error_propagation
from tests.refusals import pattern
from tests.theory.cases import CASES, per_case

POINTS = 16
SMALL = [case for case in CASES if case.model.n_params <= 26 and max(len(law.probabilities) for law in case.laws) <= 400][:14]
FAMILIES = {case.family for case in SMALL}


def functionals(case):
    """Return functional, its value at a stack of complex matrices, and the smallest distance to a singularity."""
    g = np.random.default_rng(3).normal(size=case.model.n_params)
    exact = np.mean([law.information for law in case.laws], axis=0)
    eye = np.eye(len(exact))
    values = np.sort(np.linalg.eigvalsh(exact))[::-1]

    def leading(matrices, k=1):
        found = np.linalg.eigvals(matrices)
        return np.take_along_axis(found, np.abs(found - values[k - 1]).argmin(axis=-1)[..., None], axis=-1)

    def log_det(matrices):
        sign, size = np.linalg.slogdet(matrices + 0.2 * eye)
        return (np.log(sign) + size)[..., None]

    def solve(matrices):
        rhs = np.broadcast_to(g[:, None], (*matrices.shape[:-1], 1))
        return np.linalg.solve(matrices + 0.2 * eye, rhs)[..., 0]

    def dimension(matrices):
        return len(eye) - 0.2 * np.trace(np.linalg.inv(matrices + 0.2 * eye), axis1=-2, axis2=-1)[..., None]

    return exact, {
        "solve": (fs.SolveWith(g, 0.2), solve, 0.2),
        "log_det": (fs.LogDet(0.2), log_det, 0.2),
        "dimension": (fs.EffectiveDimension(0.2), dimension, 0.2),
        "eigenvalue": (fs.LeadingEigenvalues(1), leading, (values[0] - values[1]) / 2),
    }


def taylor(function, exact, errors, radius):
    """Return the coefficients of eps and eps^2 of function(exact + eps error), label by label."""
    steps = 0.1 * radius / np.maximum(np.linalg.norm(errors, axis=(1, 2)), 1e-300)
    circle = np.exp(2j * np.pi * np.arange(POINTS) / POINTS)
    matrices = exact + (steps[:, None] * circle)[:, :, None, None] * errors[:, None]
    around = function(matrices)
    first = np.mean(around / circle[:, None], axis=1) / steps[:, None]
    second = np.mean(around / circle[:, None] ** 2, axis=1) / steps[:, None] ** 2
    return first.real, second.real


@pytest.mark.parametrize("which", ["solve", "log_det", "dimension", "eigenvalue"])
@per_case(SMALL)
def test_all_labels(case, which):
    exact, table = functionals(case)
    functional, function, radius = table[which]
    n_draws, n = 7, case.n_inputs
    if radius < 1e-12:  # equal rows of the last layer of a linear Gaussian network: equal eigenvalues
        with pytest.raises(fs.AssumptionError, match=r"eigenvalue 0, .* is within .* of another one"):
            fs.propagate(functional, case.model, case.x, estimator="score", n_draws=1)
        return
    result = fs.propagate(functional, case.model, case.x, estimator=("score", "hessian"), n_draws=n_draws)
    expected = np.ravel(function(exact[None].astype(complex))[0].real)
    np.testing.assert_allclose(np.ravel(result["value"]), expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())
    for name in ("score", "hessian"):
        variance, bias = 0.0, 0.0
        for law in case.laws:
            errors = law.estimator(name) - law.information
            kept = np.linalg.norm(errors, axis=(1, 2)) > 1e-14 * np.linalg.norm(exact)
            if kept.any():
                first, second = taylor(function, exact, errors[kept], radius)
                weights = law.probabilities[kept]
                variance = variance + weights @ first**2
                bias = bias + weights @ second
        found = result.sel(estimator=name)
        error = np.sqrt(np.ravel(variance) / n_draws) / n
        bias = np.ravel(bias) / (n * n * n_draws)
        scale = max(float(np.max(error)), 1e-13 * np.abs(expected).max())
        np.testing.assert_allclose(
            np.ravel(found["standard_error"]), error * np.ones(expected.shape), rtol=1e-8, atol=1e-9 * scale
        )
        scale = max(float(np.max(np.abs(bias))), 1e-13 * np.abs(expected).max())
        np.testing.assert_allclose(np.ravel(found["bias"]), bias * np.ones(expected.shape), rtol=1e-7, atol=1e-8 * scale)


@pytest.mark.parametrize("which", ["solve", "log_det", "dimension", "eigenvalue"])
@per_case([case for case in SMALL if case.n_inputs > 1])
def test_sampled_inputs(case, which):
    """The part of the inputs: the same derivatives along the deviation of each input, with the divisor n - 1."""
    exact, table = functionals(case)
    functional, function, radius = table[which]
    if radius < 1e-12:  # refused, as above
        return
    n = case.n_inputs
    asked = {"estimator": ("score", "hessian"), "n_draws": 7}
    fixed = fs.propagate(functional, case.model, case.x, **asked)
    deviations = np.array([law.information for law in case.laws]) - exact
    deviations = deviations[np.linalg.norm(deviations, axis=(1, 2)) > 1e-14 * np.linalg.norm(exact)]
    first, second = taylor(function, exact, deviations, radius)
    for design, population, kept in (("random", None, 1.0), ("subsample", 3 * n, 2 / 3), ("subsample", n, 0.0)):
        found = fs.propagate(functional, case.model, case.x, design=design, population=population, **asked)
        variance = fixed.standard_error.values.reshape(2, -1) ** 2 + kept * (first**2).sum(axis=0) / (n * (n - 1))
        bias = fixed.bias.values.reshape(2, -1) + kept * second.sum(axis=0) / (n * (n - 1))
        error = found.standard_error.values.reshape(2, -1)
        scale = max(float(error.max()), 1e-13 * float(np.abs(found["value"]).max()))
        np.testing.assert_allclose(error, np.sqrt(variance), rtol=1e-8, atol=1e-9 * scale)
        scale = max(float(np.abs(bias).max()), 1e-13 * float(np.abs(found["value"]).max()))
        np.testing.assert_allclose(found.bias.values.reshape(2, -1), bias, rtol=1e-7, atol=1e-8 * scale)
        assert json.loads(found.attrs["provenance"])["design"] == design


TINY = [case for case in SMALL if case.n_inputs >= 3 and max(len(law.probabilities) for law in case.laws) <= 8]


@pytest.mark.parametrize("design", ["random", "subsample"])
@pytest.mark.parametrize("estimator", ["score", "hessian"])
@per_case(TINY[:4])
def test_all_samples_and_all_labels(case, estimator, design):
    """Far from every singularity the expansion is exact: errors and biases over all pairs of inputs with all their labels."""
    n_all, g = case.n_inputs, np.random.default_rng(3).normal(size=case.model.n_params)
    exact = np.mean([law.information for law in case.laws], axis=0)
    tau = 1e4 * max(np.linalg.norm(law.estimator(estimator), axis=(1, 2)).max() for law in case.laws)
    few = itertools.combinations(range(n_all), 2) if design == "subsample" else itertools.product(range(n_all), repeat=2)
    pairs = [list(pair) for pair in few]
    asked = {"estimator": estimator, "n_draws": 1, "design": design, "population": n_all if design == "subsample" else None}
    # Relative to the value at tau, so that nothing is lost to its size: all are series in (F - exact) / tau.
    inverse = np.linalg.inv(exact + tau * np.eye(len(exact)))

    def change(functional, error):
        whitened = inverse @ error
        if isinstance(functional, fs.LogDet):
            return np.log1p(np.linalg.eigvals(whitened)).sum(axis=-1, keepdims=True).real
        moved = np.linalg.solve(np.eye(len(exact)) + whitened, whitened @ inverse)
        if isinstance(functional, fs.EffectiveDimension):
            return tau * np.trace(moved, axis1=1, axis2=2)[:, None]
        return -moved @ g

    for functional in (fs.LogDet(tau), fs.EffectiveDimension(tau), fs.SolveWith(g, tau)):
        mean = square = claimed = biased = 0.0
        for pair in pairs:
            one, other = (case.laws[i] for i in pair)
            estimates = (one.estimator(estimator)[:, None] + other.estimator(estimator)[None]) / 2
            weights = np.outer(one.probabilities, other.probabilities).ravel() / len(pairs)
            found = change(functional, estimates.reshape(-1, *exact.shape) - exact)
            mean, square = mean + weights @ found, square + weights @ found**2
            result = fs.propagate(functional, case.model, case.x[pair], **asked)
            claimed = claimed + np.ravel(result["standard_error"] ** 2) / len(pairs)
            biased = biased + np.ravel(result["bias"]) / len(pairs)
        np.testing.assert_allclose(claimed, square - mean**2, rtol=2e-3, atol=1e-6 * claimed.max())
        np.testing.assert_allclose(biased, mean, rtol=2e-3, atol=2e-3 * np.abs(biased).max())


def test_one_input_has_no_spread():
    case = next(case for case in SMALL if case.n_inputs > 1)
    with pytest.raises(ValueError, match=pattern("`design='random'` needs at least two inputs")):
        fs.propagate(fs.LogDet(1.0), case.model, case.x[:1], estimator="score", n_draws=1, design="random")
    with pytest.raises(ValueError, match=pattern("`population` must be at least the 2 inputs sampled from it, got 1")):
        fs.propagate(fs.LogDet(1.0), case.model, case.x[:2], estimator="score", n_draws=1, design="subsample", population=1)


def test_the_cases_hold_the_five_families():
    assert {"bernoulli", "binomial", "poisson", "categorical", "gaussian"} <= FAMILIES


@per_case(SMALL[:5])
def test_forms_of_outputs_agree_with_entries(case):
    """E tr(E A E B) by T x T forms is the sum of the variances of all entries in the eigenbasis, weighted."""
    model, x = case.model, case.x
    spectrum = error_propagation.Spectrum.of(fs.fisher_information(model, x, view="full").values)
    law = model.family.at(model.natural_parameters(x))
    jacobian = np.array([law.jacobian for law in case.laws]) @ spectrum.vectors
    error = error_propagation.ScoreFluctuation(law, jacobian)
    a, b = 1 / (spectrum.values + 0.3), 1 / (spectrum.values + 0.7)
    entries = error.columns(model.n_params)
    np.testing.assert_allclose(error.square(a, b), np.einsum("nmp,m,p->n", entries, a, b), rtol=1e-10, atol=1e-14)
