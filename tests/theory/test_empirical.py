"""The empirical Fisher at given labels, one term per observation."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from tests import naive
from tests.theory.cases import CASES, Case, assert_close, per_case


def observed_labels(case: Case) -> np.ndarray:
    """Labels of the support that have nothing to do with the model."""
    rng = np.random.default_rng([case.seed, 3])
    shape = (case.n_inputs, case.widths[-1])
    if case.family == "categorical":
        return rng.integers(case.widths[-1], size=case.n_inputs)
    if case.family == "categorical_minimal":
        return rng.integers(case.widths[-1] + 1, size=case.n_inputs)
    if case.family == "gaussian":
        return rng.normal(size=shape)
    greatest = {"bernoulli": 1, "binomial": case.params.get("n_trials"), "poisson": 6}[case.family]
    return rng.integers(greatest + 1, size=shape)


@per_case()
@pytest.mark.parametrize("view", ["diagonal", "full"])
def test_empirical_expected_and_bias(case, view):
    labels = observed_labels(case)
    result = fs.empirical_fisher(case.model, case.x, labels, view=view)
    expected = sum(law.information for law in case.laws) / case.n_inputs
    empirical, _ = naive.empirical_fisher(*case.setting, case.x, labels)
    if view == "diagonal":
        expected, empirical = np.diag(expected), np.diag(empirical)
    scale = float(np.max(np.abs(empirical)) + np.max(np.abs(expected)))
    assert_close(result["empirical"], empirical, rtol=1e-11)
    assert_close(result["expected"], expected, rtol=1e-11)
    assert_close(result["bias"], empirical - expected, scale=scale, rtol=1e-9)


@per_case()
def test_per_input(case):
    labels = observed_labels(case)
    result = fs.empirical_fisher(case.model, case.x, labels, per_input=True)
    _, terms = naive.empirical_fisher(*case.setting, case.x, labels)
    assert result["empirical"].dims == ("input", "param")
    assert_close(result["empirical"], np.array([np.diag(term) for term in terms]), rtol=1e-11)


@per_case([case for case in CASES if case.widths[-1] == 1 and not case.family.startswith("categorical")])
def test_one_output_takes_labels_without_a_second_axis(case):
    labels = observed_labels(case)
    flat = fs.empirical_fisher(case.model, case.x, labels[:, 0])
    assert flat.identical(fs.empirical_fisher(case.model, case.x, labels))
