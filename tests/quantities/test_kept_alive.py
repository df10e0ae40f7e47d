"""A refused call keeps nothing of its inputs alive: x is gone with its last name, without the garbage collector."""

from __future__ import annotations

import gc
import weakref

import dask.array
import numpy as np
import pytest

import fisherstats as fs

CATEGORICAL, POISSON = fs.families.Categorical(2), fs.families.Poisson()
SMOOTH = fs.MLP.random([3, 4, 2], activation="tanh", family=CATEGORICAL, rng=0)
KINKED = fs.MLP([np.zeros((4, 4)), np.ones((2, 5))], activation="relu", family=CATEGORICAL)
STEEP = fs.MLP.random([3, 1], activation="tanh", family=POISSON, rng=0)


def with_entry(value):
    x = np.random.default_rng(0).normal(size=(600, 3))
    x[400, 1] = value
    return x


class Batched:
    """Gives its rows in batches, as often as asked."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return (self.rows[first : first + 150] for first in range(0, len(self.rows), 150))


class Reader:
    """Reads rows when they are asked for, as a file does."""

    def __init__(self, rows):
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __getitem__(self, rows):
        return self.rows[rows]

    def __len__(self):
        return len(self.rows)


SOURCES = {
    "memory": lambda x: x,
    "batches": Batched,
    "file": Reader,
    "dask": lambda x: dask.array.from_array(x, chunks=(200, 3), name=False),
}
REFUSED = {
    "nan": (SMOOTH, lambda: with_entry(np.nan)),
    "inf": (SMOOTH, lambda: with_entry(np.inf)),
    "overflow": (STEEP, lambda: with_entry(1e200)),
    "kinks": (KINKED, lambda: np.zeros((600, 3))),
    "columns": (SMOOTH, lambda: with_entry(1.0)[:, :2].copy()),
}
CALLS = {
    "information": lambda model, x: fs.fisher_information(model, x),
    "information in this thread": lambda model, x: fs.fisher_information(model, x, num_threads=1),
    "matrix": lambda model, x: fs.fisher_information(model, x, view="full"),
    "per input": lambda model, x: fs.fisher_information(model, x, per_input=True),
    "variance": lambda model, x: fs.estimator_variance(model, x),
    "estimate": lambda model, x: fs.estimate_fisher(model, x, estimator="hessian", n_draws=2, rng=0),
    "bounds": lambda model, x: fs.trace_bounds(model, x),
    "plan": lambda model, x: fs.plan_draws(model, x, target_cv=0.1),
    "importance": lambda model, x: fs.applications.importance(model, x),
}
OF_SECOND_ORDER = ("variance", "estimate", "plan")


@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize("source", SOURCES)
def test_refused_calls_let_go_of_x(source, why):
    model, make = REFUSED[why]
    kept = []
    gc.disable()
    try:
        for call in OF_SECOND_ORDER if why == "kinks" else CALLS:
            x = make()
            gone, given = weakref.ref(x), SOURCES[source](x)
            refused = False
            try:
                found = CALLS[call](model, given)
                if source == "dask":
                    found.compute()
            except (ValueError, fs.AssumptionError):
                refused = True
            assert refused, call
            del x, given
            if gone() is not None:
                kept.append(call)
    finally:
        gc.enable()
    assert kept == []
