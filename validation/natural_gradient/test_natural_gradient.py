"""The claim as a test: near the optimum the Hessian estimator varies less, and the score estimator throws the parameters."""

from __future__ import annotations

import numpy as np
import pytest

from validation.natural_gradient import run

pytestmark = pytest.mark.validation

SEEDS = range(8)


@pytest.fixture(scope="module", params=run.FAMILIES)
def descents(request):
    task = request.param
    return task, {one: [run.descend(task, one, seed, run.ITERATIONS) for seed in SEEDS] for one in run.ESTIMATORS}


def test_both_descend(descents):
    _, runs = descents
    optimum = runs["hessian"][0].losses(run.TRUTH[None])[0]
    for one in run.ESTIMATORS:
        gaps = [np.subtract(*[descent.losses(descent.path[[at]])[0] for at in (0, -1)]) for descent in runs[one]]
        assert np.median(gaps) > 0
    ended = np.median([descent.losses(descent.path[-1:])[0] for descent in runs["hessian"]])
    assert abs(ended - optimum) < 0.1


def test_the_hessian_estimator_varies_less(descents):
    task, runs = descents
    seen = {one: run.spread(runs[one], 0, run.ITERATIONS) for one in run.ESTIMATORS}
    assert seen["hessian"] < 0.8 * seen["score"]
    if task == "regression":
        assert seen["score"] == pytest.approx(22 / 4, rel=0.25)
        assert seen["hessian"] == pytest.approx(6 / 4, rel=0.25)


def test_the_score_estimator_is_unstable(descents):
    task, runs = descents
    longest = {one: np.array([descent.lengths.max() for descent in runs[one]]) for one in run.ESTIMATORS}
    assert longest["score"].max() > {"regression": 30, "classification": 5}[task] * longest["hessian"].max()
    assert np.median(longest["score"]) > 2 * np.median(longest["hessian"])


def test_the_table_in_the_folder_has_the_claimed_sums():
    text = run.TABLE.read_text(encoding="utf-8")
    assert all(line in text for line in run.sums_table())
