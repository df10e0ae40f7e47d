"""The loop on few rounds, and the claims: information pays in the long run, and scoring a pool takes flat memory."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from validation.active_learning import run

pytestmark = pytest.mark.validation


@pytest.fixture(scope="module")
def curves():
    return run.study(seeds=range(3), rounds=14)


def test_all_strategies_start_alike_and_learn(curves):
    start = curves.accuracy.isel(labels=0)
    assert (start == start.isel(strategy=0)).all()
    assert (curves.accuracy.isel(labels=-1) > start + 0.2).all()


def test_lengths_and_entropy_end_above_chance(curves):
    late = curves.accuracy.sel(labels=[260, 280, 300]).mean("labels")
    gain = late - late.sel(strategy="random")
    assert (gain.sel(strategy=["squared_norm", "norm", "entropy"]).mean("replicate") > 0.015).all()


def test_chance_is_better_at_first(curves):
    early = curves.accuracy.sel(labels=[40, 60]).mean(("labels", "replicate"))
    assert (early.sel(strategy="random") > early.sel(strategy=["squared_norm", "norm"])).all()


def test_memory_is_flat():
    found = run.cost(pools=(1000, 8000))
    small, large = found.extra_bytes.values
    assert large < 1.2 * small < 2e7
    assert np.all(found.full_bytes > 50 * found.extra_bytes)


def test_tables_and_figure(curves):
    for lines in (run.curve_table(curves, at=(20, 100, 300)), run.needed(curves)):
        assert len({line.count("|") for line in lines}) == 1
    assert len(fs.plotting.learning_curves(curves).axes) == 1
