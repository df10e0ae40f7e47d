"""Delta-method errors and biases against sums over all labels of numerical derivatives along each label's error.

The derivatives of eps -> phi(F + eps E) come from Cauchy's integral over a circle of complex eps, so that nothing of the closed
forms is used: sixteen points on a circle of a tenth of the radius of convergence are exact to rounding.
"""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.closed_form import propagation
from tests.oracle.cases import CASES, per_case

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


def test_the_cases_hold_the_five_families():
    assert {"bernoulli", "binomial", "poisson", "categorical", "gaussian"} <= FAMILIES


@per_case(SMALL[:5])
def test_forms_of_outputs_agree_with_entries(case):
    """E tr(E A E B) by T x T forms is the sum of the variances of all entries in the eigenbasis, weighted."""
    model, x = case.model, case.x
    spectrum = propagation.Spectrum.of(fs.fisher_information(model, x, view="full").values)
    law = model.family.at(model.natural_parameters(x))
    jacobian = np.array([law.jacobian for law in case.laws]) @ spectrum.vectors
    error = propagation.ScoreFluctuation(law, jacobian)
    a, b = 1 / (spectrum.values + 0.3), 1 / (spectrum.values + 0.7)
    entries = error.columns(model.n_params)
    np.testing.assert_allclose(error.square(a, b), np.einsum("nmp,m,p->n", entries, a, b), rtol=1e-10, atol=1e-14)
