"""The claim as a test: a search finds no bound on the wrong side, and would find one."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.core import margins
from fisherstats.models.families import spectra
from fisherstats.theory import variance_inequalities
from validation.adversarial_bounds import run

KINDS = [*run.KINDS, "product"]


@pytest.mark.parametrize("kind", ["gaussian_mean_variance", "dirichlet", "categorical"])
def test_a_few_hard_networks(kind):
    """Quick enough for every run."""
    rng = np.random.default_rng(5)
    found = run.Found()
    for _ in range(3):
        found.add(run.check(run.random_case(kind, rng)))
    assert not found.violations
    assert found.total > 300


@pytest.mark.validation
@pytest.mark.parametrize("kind", KINDS)
def test_no_bound_is_on_the_wrong_side(kind):
    rng = np.random.default_rng([99, KINDS.index(kind)])
    found = run.Found()
    for at in range(20):
        case = run.random_case(kind, rng)
        found.add(run.climb(case, rng, 3) if at < 2 else run.check(case))
    assert not found.violations
    assert found.total > 5000


def test_a_bound_too_low_by_a_trillionth_is_found(monkeypatch):
    """Equalities shift by 1e-12; the forms are compared with 80 digits, so that is seen."""
    plain = variance_inequalities.Bounds.widened

    def shifted(self, *args, **kwargs):
        wide = plain(self, *args, **kwargs)
        return variance_inequalities.Bounds(wide.exact, wide.lower, {form: one * (1 - 1e-12) for form, one in wide.upper.items()})

    monkeypatch.setattr(variance_inequalities.Bounds, "widened", shifted)
    monkeypatch.setattr(
        variance_inequalities.Bounds, "failed", lambda self: {f: self.exact < 0 for f in (*self.lower, *self.upper)}
    )
    weights = (np.array([[0.5, -0.25], [0.75, 0.5]]), np.array([[1.0, 0.5, 0.0], [-0.5, 0.25, 0.125]]))
    heads, x = (run.Head("gaussian", 2),), np.array([[0.5], [0.25]])
    assert run.check(run.Case("planted", weights, "tanh", fs.families.Gaussian(2), heads, x)).violations


def test_eigenvalues_without_their_margins_are_found(monkeypatch):
    """The smallest eigenvalue of M by LAPACK alone, as it stood in the bounds before."""
    monkeypatch.setattr(spectra, "_two_coordinates", lambda law: None)

    def bare(matrices):
        values = np.maximum(np.linalg.eigvalsh(matrices), 0)
        return values, values

    monkeypatch.setattr(spectra, "spectrum", bare)
    monkeypatch.setattr(
        variance_inequalities.Bounds, "failed", lambda self: {f: self.exact < 0 for f in (*self.lower, *self.upper)}
    )
    weights = (np.array([[1.0, 0.0]]), np.array([[1e4, 1e4], [1.0, 0.0]]))
    heads = (run.Head("gaussian_mean_variance", 2),)
    wrong = []
    for step in range(6):
        x = np.array([[0.0], [2.0**-step]])
        case = run.Case("planted", weights, "tanh", fs.families.GaussianMeanVariance(), heads, x)
        try:
            wrong += run.check(case).violations
        except RuntimeWarning as warning:  # traces tell by themselves
            wrong.append(str(warning))
    assert wrong
    assert margins.ROUNDING > 0
