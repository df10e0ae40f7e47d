"""The largest eigenvalue of Cov(vec(delta delta')) of a softmax, which `variance_bounds` puts behind its upper bounds."""

from __future__ import annotations

import tracemalloc

import mpmath
import numpy as np
import pytest

from fisherstats import families
from fisherstats.models.families.categorical import CategoricalLaw
from fisherstats.models.families.extremes import information_extremes, largest_eigenpairs, unfolded_largest

HARD_LOGITS = {
    "even": [0.0, 0.0, 0.0, 0.0],
    "nearly even": [1e-9, -2e-9, 3e-9, 0.0],
    "two alike": [0.0, 0.0, -23.0],
    "two alike, two rare": [0.0, -40.0, 0.0, -35.0],
    "certain": [40.0, 0.0, 0.0, 0.0],
    "certain, last": [0.0, 0.0, 3.0, 40.0],
    "one rare": [-40.0, 0.0, 0.0, 0.0],
    "steps": [0.0, 3.0, 6.0, 9.0, 12.0],
    "two classes": [1e-9, 0.0],
    "two classes, one certain": [30.0, 0.0],
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("minimal", [False, True])
@pytest.mark.parametrize("case", HARD_LOGITS)
def test_the_largest_quartic_eigenvalue_of_hard_softmax_laws(case: str, minimal: bool, dtype: type) -> None:
    """Never below that of 60 digits, and above it by rounding alone, relative to the largest variance of a class."""
    logits = np.array(HARD_LOGITS[case], dtype=dtype).tolist()
    classes, outputs = len(logits), len(logits) - minimal
    with mpmath.workdps(60):
        weights = [mpmath.exp(one) for one in logits]
        p = [one / sum(weights) for one in weights]
        outer = [[((a == k) - p[a]) * ((b == k) - p[b]) for a in range(outputs) for b in range(outputs)] for k in range(classes)]
        mean = [sum(p[k] * outer[k][j] for k in range(classes)) for j in range(outputs**2)]
        centred = [[outer[k][j] - mean[j] for j in range(outputs**2)] for k in range(classes)]
        gram = mpmath.matrix(classes, classes)
        for i in range(classes):
            for k in range(classes):
                gram[i, k] = mpmath.sqrt(p[i] * p[k]) * mpmath.fdot(centred[i], centred[k])
        exact = max(mpmath.eigsy(gram, eigvals_only=True))
        size = max(one * (1 - one) for one in p)
    law = CategoricalLaw(np.array([logits], dtype=dtype), minimal=False)
    found = unfolded_largest(law, minimal)
    assert found.dtype == dtype
    assert exact <= float(found[0]) <= exact + 32 * classes * np.finfo(dtype).eps * (exact + size)


def test_it_is_found_class_by_class_not_pair_by_pair() -> None:
    """10,000 classes, for which a matrix of pairs of classes would take 800 MB."""
    logits = np.random.default_rng(0).normal(size=(2, 10_000))
    law = CategoricalLaw(logits, minimal=False)
    tracemalloc.start()
    found = unfolded_largest(law, False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    # diag(q) + 2 w w' on the complement of one direction: above the second largest q, below the largest and 2 |w|^2 together.
    s = np.square(law.p).sum(axis=1, keepdims=True)
    q = np.sort(law.p * (1 + 2 * s - 4 * law.p), axis=1)
    assert np.all(q[:, -2] <= found)
    assert np.all(found <= (q[:, -1] + 2 * (law.p * np.square(s - law.p)).sum(axis=1)) * (1 + 1e-9))


@pytest.mark.parametrize(
    ("family", "singular"),
    [
        (families.Multinomial(4, 3), True),
        (families.Multinomial(4, 3, minimal=True), False),
        (families.Product([families.Gaussian(2), families.Multinomial(2, 3), families.Poisson(1)]), True),
        (families.Product([families.Gaussian(2), families.Bernoulli(2)]), False),
    ],
    ids=repr,
)
def test_extremes_of_what_is_made_of_other_laws(family, singular) -> None:
    """A singular information has exactly 0 for its smallest eigenvalue, where eigenvalues by LAPACK have rounding."""
    law = family.at(np.random.default_rng(0).normal(size=(5, family.n_outputs)))
    values = np.linalg.eigvalsh(law.information())
    smallest, largest = information_extremes(law)
    np.testing.assert_allclose(largest, values[:, -1], rtol=1e-12)
    if singular:
        np.testing.assert_array_equal(smallest, 0)
    else:
        np.testing.assert_allclose(smallest, values[:, 0], rtol=1e-12)


TIES = {
    "apart": [0.4, 0.3, 0.15, 0.1, 0.05],
    "equal": [0.2] * 5,
    "tied": [0.3, 0.15, 0.3, 0.15, 0.1],
    "nearly tied": [0.3, 0.3 - 2e-16, 0.3 - 1e-12, 0.1 - 2e-12, 3e-12],
}


@pytest.mark.parametrize("missing", [0.0, 0.25])
@pytest.mark.parametrize("name", TIES)
def test_largest_eigenpairs_of_classes(name, missing):
    p = np.array(TIES[name]) * (1 - missing)
    values, vectors = largest_eigenpairs(p[None], np.array([missing]), 4)
    matrix = mpmath.diag([mpmath.mpf(one) for one in p]) - mpmath.matrix(p) * mpmath.matrix(p).T
    exact = sorted((float(one) for one in mpmath.eigsy(matrix, eigvals_only=True)), reverse=True)[:4]
    np.testing.assert_allclose(values[0], exact, rtol=1e-14 if missing else 1e-9, atol=1e-15 * exact[0])
    off = (np.diag(p) - np.outer(p, p)) @ vectors[0] - values[0] * vectors[0]
    assert np.abs(off).max() <= 4e-16 * exact[0] * 4
    informed = values[0] > 0
    np.testing.assert_allclose((vectors[0].T @ vectors[0])[np.ix_(informed, informed)], np.eye(informed.sum()), atol=1e-10)
