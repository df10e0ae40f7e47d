"""Random probes by enumeration of signs and by quadrature, envelopes by the eigenpairs of diag(p) - p p'."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.linalg import solve_triangular

import fisherstats as fs
from tests import naive
from tests.theory.cases import CASES, assert_close, per_case

WORDS = ("hutchinson_gaussian", "hutchinson_rademacher")
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(3)  # exact for the moments up to the fifth


def root_rows(case, law):
    """Return the rows of the family's root of I(h) times J, (R, P)."""
    info = naive.natural_information(law.deltas, law.probabilities)
    if case.family.startswith("categorical"):
        return np.sqrt(law.probabilities)[:, None] * (law.deltas @ law.jacobian)
    if case.family == "gaussian":
        covariance = np.linalg.inv(info)
        return solve_triangular(np.linalg.cholesky(covariance), law.jacobian, lower=True)
    return np.sqrt(np.diag(info))[:, None] * law.jacobian


def outcomes(word, n_rows):
    """Return all probes of a rank and their weights: signs, or nodes that integrate products of fourth powers exactly."""
    if word == "hutchinson_rademacher":
        probes = np.array(list(itertools.product([-1.0, 1.0], repeat=n_rows)))
        return probes, np.full(len(probes), 1 / len(probes))
    probes = np.array(list(itertools.product(NODES, repeat=n_rows)))
    return probes, np.prod(list(itertools.product(WEIGHTS / WEIGHTS.sum(), repeat=n_rows)), axis=1)


def ranks(case):
    return max(len(root_rows(case, law)) for law in case.laws)


SMALL = [case for case in CASES if case.n_inputs < 10 and len(case.laws[0].deltas[0]) <= 6 and ranks(case) <= 6]


@pytest.mark.parametrize("word", WORDS)
@per_case(SMALL)
def test_all_probes(case, word):
    expected = {"variance": [], "layer": [], "unit": [], "model": []}
    information = []
    for law in case.laws:
        rows = root_rows(case, law)
        probes, weights = outcomes(word, len(rows))
        estimates = np.square(probes @ rows)
        np.testing.assert_allclose(weights @ estimates, np.diag(law.information), rtol=1e-9, atol=1e-13)
        information.append(np.diag(law.information))
        expected["variance"].append(naive.covariance(estimates, estimates, weights))
        for group_by in ("layer", "unit", "model"):
            means = np.array([estimates[:, members].mean(axis=1) for members in naive.groups(case.network, group_by)]).T
            expected[group_by].append(naive.covariance(means, means, weights))
    largest = max(np.max(one) for one in information) ** 2

    def found(**more):
        return fs.estimator_variance(case.model, case.x, estimators=[word], **more).variance.sel(estimator=word)

    variance = np.array(expected["variance"])
    assert_close(found(per_input=True, n_draws=3), variance / 3, floor=1e-15 * largest)
    assert_close(found(n_draws=5), naive.combine_fixed(variance, 5), floor=1e-15 * largest)
    if case.n_inputs > 1:
        random = naive.combine_random(np.array(information), variance, 5)
        assert_close(found(n_draws=5, design="random"), random, floor=1e-15 * largest)
    for group_by in ("layer", "unit", "model"):
        grouped = np.array(expected[group_by])
        grouped = grouped[:, 0] if group_by == "model" else grouped
        assert_close(found(group_by=group_by, per_input=True), grouped, floor=1e-15 * largest)


def test_cases_hold_all_families():
    assert {case.family for case in SMALL} >= {
        "bernoulli",
        "binomial",
        "poisson",
        "categorical",
        "categorical_minimal",
        "gaussian",
    }


# Envelopes

CLASSIFIERS = [case for case in CASES if case.family.startswith("categorical")]


@pytest.mark.parametrize("rank", [1, 2])
@per_case(CLASSIFIERS)
def test_envelopes(case, rank):
    outputs = case.widths[-1]
    rank = min(rank, outputs)
    result = fs.information_envelopes(case.model, case.x, rank=rank, per_input=True)
    assert result["information_lower"].dims == ("input", "param")
    for i, law in enumerate(case.laws):
        info = naive.natural_information(law.deltas, law.probabilities)
        values, vectors = np.linalg.eigh(info)
        kept = vectors[:, -rank:] * np.sqrt(values[-rank:])
        p = law.probabilities[:outputs]
        one = result.isel(input=i)
        assert_close(one["information_lower"], np.square(kept.T @ law.jacobian).sum(axis=0), rtol=1e-9)
        assert_close(one["information_upper"], p @ np.square(law.jacobian))
        assert_close(one["information_exact"], np.diag(law.information))
    assert (result["information_lower"] <= result["information_exact"]).all()
    assert (result["information_exact"] <= result["information_upper"]).all()
    mean = fs.information_envelopes(case.model, case.x, rank=rank)
    for name in ("information_lower", "information_exact", "information_upper"):
        np.testing.assert_allclose(mean[name], result[name].mean("input"), rtol=1e-12)
    informed = mean["information_exact"].values > 0
    np.testing.assert_allclose(
        mean["upper_ratio"].values[informed], (mean["information_upper"] / mean["information_exact"]).values[informed]
    )


@per_case(CLASSIFIERS)
def test_a_full_rank_is_exact(case):
    outputs = case.widths[-1]
    rank = outputs if case.model.family.minimal else outputs - 1
    result = fs.information_envelopes(case.model, case.x, rank=rank)
    np.testing.assert_allclose(result["information_lower"], result["information_exact"], rtol=1e-9, atol=1e-14)
