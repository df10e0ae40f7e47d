"""The tasks, the exact parts of the comparison, and the claims on few seeds."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from validation.forgetting import run

SMALL = run.BENCHMARKS["permuted"]._replace(tasks=lambda seed: run.permuted_digits(seed, 2))


def test_permuted_tasks_hold_the_same_images_in_another_order():
    first, second, third = run.permuted_digits(0)
    for part in ("train", "validation", "test"):
        (x, y), (other, labels) = getattr(first, part), getattr(second, part)
        np.testing.assert_array_equal(np.sort(x, axis=1), np.sort(other, axis=1))
        np.testing.assert_array_equal(y, labels)
    assert not np.array_equal(second.train[0], third.train[0])
    assert len(first.train[1]) > 3 * len(first.validation[1])


def test_split_tasks_are_the_pairs():
    tasks = run.split_digits(0)
    assert len(tasks) == 5
    assert sum(len(part[1]) for task in tasks for part in task) == 1797
    for task in tasks:
        assert set(task.train[1].tolist()) == {0, 1}


def test_without_strength_the_penalty_changes_nothing():
    learner = run.Learner(SMALL._replace(epochs=2), 0)
    free, held = learner.learn(None)[-1], learner.learn("exact", 0.0)[-1]
    for one, two in zip(free.weights, held.weights, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="module")
def found():
    return run.accuracies(SMALL, seeds=range(2), strengths=(0.0, 30.0))


@pytest.mark.validation
def test_importances_keep_what_fine_tuning_forgets(found):
    kept = found.accuracy.isel(task=0).mean("replicate")
    forgotten = float(kept.sel(importance="exact", strength=0.0))
    assert forgotten < 0.8
    for name in ("exact", "score", "hessian", "empirical"):
        assert float(kept.sel(importance=name, strength=30.0)) > forgotten + 0.1
    # One draw per input does as well as the exact information; equal weights do worse at the same mean.
    exact, score, uniform = (float(kept.sel(importance=name, strength=30.0)) for name in ("exact", "score", "uniform"))
    assert abs(score - exact) < 0.05
    assert uniform < exact
    assert float(found.accuracy.isel(task=1).sel(strength=30.0, importance="exact").mean()) > 0.8
    # With two tasks there is one penalty, so a sum and the online merge are the same.
    np.testing.assert_array_equal(found.accuracy.sel(importance="online"), found.accuracy.sel(importance="exact"))


@pytest.mark.validation
def test_the_standard_error_is_right_where_the_network_does_not_depend_on_the_draws():
    """And training against an estimate finds where it is too small, most of all where it is negative."""
    penalties = run.penalties(SMALL, 30.0, seeds=range(12))
    z = ((penalties.penalty - penalties.exact) / penalties.standard_error).sel(network="free")
    # Twelve values: their mean square leaves this range once in 1,000 networks.
    assert (abs(z.mean("replicate")) < 3.3 / np.sqrt(12)).all()
    assert ((z**2).mean("replicate") < 2.75).all()
    held = ((penalties.penalty - penalties.exact) / penalties.exact).sel(network="held").mean("replicate")
    assert float(held.sel(estimator="hessian")) < -0.5


@pytest.mark.validation
def test_tables_and_figure(found):
    for lines in (run.accuracy_table(found), run.path_table(found)):
        assert len({line.count("|") for line in lines}) == 1
    assert len(fs.plotting.forgetting(found).axes) == 1
