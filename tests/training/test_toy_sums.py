"""The sums of variances of the linear model of 2024, Figure 1: by the package, and by one integral without it."""

from __future__ import annotations

import numpy as np
import pytest

from validation.natural_gradient import run


@pytest.mark.parametrize(("task", "value"), run.TARGETS)
def test_the_sums_of_variances_are_those_of_the_paper(task, value):
    theta = np.full(2, value)
    for estimator, claimed in zip(run.ESTIMATORS, run.TARGETS[task, value], strict=True):
        stated = run.stated_sum(task, theta, estimator)
        assert run.quadrature_sum(task, theta, estimator) == pytest.approx(stated, rel=1e-8)
        assert stated == pytest.approx(claimed, abs=5e-7)


def test_the_sums_depend_on_the_parameters_for_classes_only():
    theta = np.array([0.3, -2.0])
    assert run.stated_sum("regression", theta, "score") == pytest.approx(22, rel=1e-12)
    assert run.stated_sum("classification", theta, "score") > 2 * run.stated_sum("classification", theta, "hessian")
