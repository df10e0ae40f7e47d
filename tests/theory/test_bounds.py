"""Element-wise bounds of Theorem 4.1 (Soen & Sun 2024) around the exact values of the oracle."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from tests import naive
from tests.theory.cases import CASES, assert_close, per_case

SLACK = 1e-9
ESTIMATORS = ("score", "hessian")


def assert_encloses(lower, exact, upper):
    """Up to 1e-9 relative, and up to rounding where a bound and the value are both zero."""
    lower, exact, upper = (np.asarray(values) for values in (lower, exact, upper))
    assert np.all(lower <= exact * (1 + SLACK))
    assert np.all(exact <= upper * (1 + SLACK))
    assert np.all(lower >= 0.0)


@per_case()
@pytest.mark.parametrize("n_draws", [1, 5])
def test_fixed_design(case, n_draws):
    result = fs.variance_bounds(case.model, case.x, n_draws=n_draws)
    assert result["exact"].dims == ("estimator", "param")
    for name in ESTIMATORS:
        chosen = result.sel(estimator=name)
        assert_close(chosen["exact"], naive.combine_fixed(case.variances[name], n_draws))
        assert_encloses(chosen["lower"], chosen["exact"], chosen["upper"])
    assert_close(result["information_exact"], case.information.mean(axis=0))
    assert_encloses(result["information_lower"], result["information_exact"], result["information_upper"])


@per_case()
def test_exact_columns_are_those_of_the_other_functions(case):
    result = fs.variance_bounds(case.model, case.x, n_draws=3)
    variance = fs.estimator_variance(case.model, case.x, n_draws=3)["variance"]
    assert_close(result["exact"], variance, rtol=1e-12)
    assert_close(result["information_exact"], fs.fisher_information(case.model, case.x), rtol=1e-12)


@per_case()
def test_per_input(case):
    result = fs.variance_bounds(case.model, case.x, n_draws=2, per_input=True)
    assert result["exact"].dims == ("input", "estimator", "param")
    for name in ESTIMATORS:
        chosen = result.sel(estimator=name)
        assert_close(chosen["exact"], case.variances[name] / 2)
        assert_encloses(chosen["lower"], chosen["exact"], chosen["upper"])
    assert_close(result["information_exact"], case.information)
    assert_encloses(result["information_lower"], result["information_exact"], result["information_upper"])


@per_case()
def test_never_wider_than_the_statement_read_literally(case):
    """Theorem 4.1 with the eigenvalues of Cov(t) and those of the matrix of M on symmetric matrices."""
    result = fs.variance_bounds(case.model, case.x, per_input=True)
    literal = [naive.elementwise_bounds(law) for law in case.laws]
    tiny = {"information": np.max(case.information), **{name: np.max(case.variances[name]) for name in ESTIMATORS}}
    for name in ("information", *ESTIMATORS):
        lower, upper = (np.array([bounds[name][side] for bounds in literal]) for side in (0, 1))
        if name == "information":
            found = result["information_lower"], result["information_upper"]
        else:
            found = result["lower"].sel(estimator=name), result["upper"].sel(estimator=name)
        assert np.all(found[0].values >= lower * (1 - SLACK) - 1e-13 * tiny[name])
        assert np.all(found[1].values <= upper * (1 + SLACK) + 1e-13 * tiny[name])


@per_case()
def test_every_form_is_a_bound_and_the_tightest_is_chosen(case):
    result = fs.variance_bounds(case.model, case.x, per_input=True)
    exact = result["exact"]
    for lower in result["lower_by_form"].transpose("bound", *exact.dims):
        assert np.all(lower.values <= exact.values * (1 + SLACK))
    for upper in result["upper_by_form"].transpose("bound", *exact.dims):
        assert np.all(upper.values >= exact.values * (1 - SLACK))
    assert_close(result["lower"], result["lower_by_form"].max("bound").transpose(*exact.dims), rtol=1e-13)
    assert_close(result["upper"], result["upper_by_form"].min("bound").transpose(*exact.dims), rtol=1e-13)


@per_case()
def test_attained_extremes_lie_within_the_certified_ones(case):
    result = fs.variance_bounds(case.model, case.x, per_input=True)
    literal = [naive.elementwise_bounds(law)["score"] for law in case.laws]
    lower, upper = (np.array([bounds[side] for bounds in literal]) for side in (0, 1))
    attained = result["attained"]
    tiny = 1e-12 * np.max(upper)
    assert np.all(attained.sel(side="lower").values >= lower * (1 - SLACK) - tiny)
    assert np.all(attained.sel(side="upper").values <= upper * (1 + SLACK) + tiny)
    assert np.all(attained.sel(side="lower").values <= attained.sel(side="upper").values * (1 + SLACK) + tiny)


@per_case()
def test_ratio(case):
    result = fs.variance_bounds(case.model, case.x, n_draws=2)
    exact, upper, ratio = (result[name].values for name in ("exact", "upper", "ratio"))
    np.testing.assert_array_equal(ratio[(exact == 0) & (upper == 0)], 1.0)
    np.testing.assert_array_equal(ratio[(exact == 0) & (upper > 0)], np.inf)
    np.testing.assert_allclose(ratio[exact > 0], (upper / np.where(exact > 0, exact, 1.0))[exact > 0], rtol=1e-14)


@per_case([case for case in CASES if case.family == "gaussian" and np.ndim(case.params.get("covariance", 1)) == 0])
def test_equality_for_a_gaussian_of_equal_variances(case):
    """Proposition 5.1: the eigenvalues are 1 and 2, up to the common variance."""
    result = fs.variance_bounds(case.model, case.x)
    assert_close(result["lower"], result["exact"])
    assert_close(result["upper"], result["exact"])
    assert_close(result["information_lower"], result["information_exact"])
    assert_close(result["information_upper"], result["information_exact"])


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize(
    ("families", "limit"),
    [
        (("gaussian",), 1.0 + SLACK),
        (("categorical", "categorical_minimal"), 2.0),
        (("bernoulli", "binomial"), 4.0),
        (("poisson",), 4.0),
    ],
)
def test_the_typical_upper_bound_is_tight(families, limit, name):
    """Over all entries that are not zero, of all networks of a family (categorical: up to four classes)."""
    ratios = []
    for case in CASES:
        n_classes = case.widths[-1] + (case.family == "categorical_minimal")
        if case.family in families and not (case.family.startswith("categorical") and n_classes > 4):
            chosen = fs.variance_bounds(case.model, case.x, per_input=True).sel(estimator=name)
            ratios.append((chosen["upper"] / chosen["exact"].where(chosen["exact"] > 0)).values.ravel())
    assert np.nanmedian(np.concatenate(ratios)) <= limit
