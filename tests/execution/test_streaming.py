"""Blocks, threads and chunks change no bit of a result; memory does not grow with the inputs."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import dask.array
import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info, threadpool_limits

import fisherstats as fs
from fisherstats import applications, execution
from tests.memory import peak_kib

N_INPUTS = 2500


@pytest.fixture(scope="module")
def model() -> fs.MLP:
    return fs.MLP.random([6, 9, 7, 4], activation=["tanh", "softplus"], family=fs.families.Categorical(4), rng=3)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(N_INPUTS, 6))


CALLS = {
    "information": lambda model, x, **more: fs.fisher_information(model, x, **more),
    "full": lambda model, x, **more: fs.fisher_information(model, x, view="full", **more),
    "kfac": lambda model, x, **more: fs.fisher_information(model, x, view="kfac", **more),
    "relative": lambda model, x, **more: fs.relative_fisher(model, x, **more),
    "relative layers": lambda model, x, **more: fs.relative_fisher(model, x, subsystem="two_layers", **more),
    "learning zone": lambda model, x, **more: fs.learning_zone(model, x, **more),
    "kfac error": lambda model, x, **more: fs.kfac_error(model, x, **more),
    "estimate": lambda model, x, **more: fs.estimate_fisher(model, x, estimator=("score", "hessian"), n_draws=5, rng=1, **more),
    "estimate by counts": lambda model, x, **more: fs.estimate_fisher(
        model, x, estimator=("score", "hessian"), n_draws=17, rng=1, **more
    ),
    "full estimate": lambda model, x, **more: fs.estimate_fisher(
        model, x, estimator=("score", "hessian"), n_draws=5, rng=1, view="full", **more
    ),
    "variance": lambda model, x, **more: fs.estimator_variance(model, x, design="random", **more),
    "layers": lambda model, x, **more: fs.estimator_variance(model, x, group_by="layer", **more),
    "bounds": lambda model, x, **more: fs.variance_bounds(model, x, **more),
    "output": lambda model, x, **more: fs.output_information(model, x, **more),
    "hidden": lambda model, x, **more: fs.hidden_information(model, x, layer=1, estimator="score", n_draws=3, rng=0, **more),
}


@pytest.mark.parametrize("name", CALLS)
def test_threads_change_no_bit(name, model, x):
    reference = CALLS[name](model, x, num_threads=1)
    for threads in (2, 5):
        xr.testing.assert_identical(CALLS[name](model, x, num_threads=threads), reference)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("chunk", [777, 1024, 5000])
def test_chunks_change_no_bit(name, chunk, model, x):
    lazy = xr.DataArray(dask.array.from_array(x, chunks=(chunk, 4)), dims=("input", "feature"))
    assert lazy.chunks is not None
    xr.testing.assert_identical(CALLS[name](model, lazy), CALLS[name](model, x))


def test_memory_layout_changes_no_bit(model, x):
    reference = fs.fisher_information(model, x)
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], xr.DataArray(x.T, dims=("feature", "input"))):
        xr.testing.assert_identical(fs.fisher_information(model, other), reference)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100, 129])
@pytest.mark.parametrize("n_draws", [3, 17])
def test_adding_inputs_changes_no_earlier_draw(n, n_draws, model, x):
    every = fs.estimate_fisher(model, x[:200], estimator=("score", "hessian"), n_draws=n_draws, rng=5, per_input=True)
    some = fs.estimate_fisher(model, x[:n], estimator=("score", "hessian"), n_draws=n_draws, rng=5, per_input=True)
    # The labels are the same; sums within a block of another length may round differently.
    np.testing.assert_allclose(some, every[:n], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("n_draws", [2, 17])
def test_views_share_their_labels(n_draws, model, x):
    diagonal = fs.estimate_fisher(model, x[:300], estimator=("score", "hessian"), n_draws=n_draws, rng=9)
    full = fs.estimate_fisher(model, x[:300], estimator=("score", "hessian"), n_draws=n_draws, rng=9, view="full")
    np.testing.assert_allclose(np.diagonal(full, axis1=1, axis2=2), diagonal, rtol=1e-11, atol=1e-15)


def test_blas_threads_are_given_back(model, x):
    before = [library["num_threads"] for library in threadpool_info()]
    fs.fisher_information(model, x)
    broken = x.copy()
    broken[-1, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        fs.fisher_information(model, iter([broken]))
    assert [library["num_threads"] for library in threadpool_info()] == before


def test_the_last_call_out_gives_the_threads_of_blas_back_whichever_it_is():
    entered, left, ended, may_go = (threading.Event() for _ in range(4))
    limits = []

    def first_in():
        limits.append(threadpool_limits(2, user_api="blas"))  # whatever the machine and its environment have
        execution.one_blas_thread(lambda: (entered.set(), left.wait(60)))()
        ended.set()
        may_go.wait(60)  # while it lives, threadpoolctl would leave the limits to it

    def of_blas():
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    def second_in():
        left.set()
        assert ended.wait(60)
        assert of_blas() == {1}

    first = threading.Thread(target=first_in)
    first.start()
    try:
        assert entered.wait(60)
        execution.one_blas_thread(second_in)()
        assert of_blas() == {2}
    finally:
        may_go.set()
        first.join()
        limits[0].restore_original_limits()


DECOMPOSING = {
    "norms": lambda model, x: fs.covariance_norms(model, x[:10]),
    "derivatives": lambda model, x: fs.derivative_bounds(model, x[:10]),
    "weights": lambda model, x: fs.weight_norms(model),
    "sweep": lambda model, x: fs.norm_sweep(model, x[:10], scales=[0.5], by="spectral", mode="project"),
    "definiteness": lambda model, x: fs.definiteness(model, x[:10], n_draws=2, rng=0, n_replicates=2),
    "eigenpairs": lambda model, x: applications.leading_eigenpairs(model, x[:10], 2),
    "covariance": lambda model, x: applications.asymptotic_covariance(model, x[:10]),
    "intervals": lambda model, x: applications.prediction_intervals(model, x[:10], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1], x[:3]),
    "volume": lambda model, x: applications.information_volume(model, x[:10], tau=1.0),
}


@pytest.mark.parametrize("name", DECOMPOSING)
def test_blas_has_one_thread_between_the_passes_too(name, model, x, monkeypatch):
    seen = []

    def noting(function):
        def note(*given, **more):
            seen.append(max(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"))
            return function(*given, **more)

        return note

    for function in ("eigh", "eigvalsh", "norm", "qr", "svd"):
        monkeypatch.setattr(np.linalg, function, noting(getattr(np.linalg, function)))
    with threadpool_limits(2, user_api="blas"):
        DECOMPOSING[name](model, x)
    assert set(seen) == {1}


def test_threads_of_blas_change_no_bit():
    model = fs.MLP.random([6, 8, 3], activation="tanh", family=fs.families.Gaussian(3), rng=0)
    x = np.random.default_rng(0).normal(size=(100, 6))
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(fs.covariance_norms(model, x))
    xr.testing.assert_identical(*found)
    xr.testing.assert_identical(fs.covariance_norms(model, dask.array.from_array(x, chunks=30)).compute(), found[0])


def test_an_error_in_a_block_stops_the_call(model, x):
    def block(part, first):
        if first >= 1000:
            raise RuntimeError(f"block at {first}")
        return [part.sum(axis=0)]

    rows = execution.Rows(x, np.dtype(np.float64))
    with pytest.raises(RuntimeError, match="block at 1"):
        execution.at_once(execution.mean(block, rows, 100, num_threads=3))


def test_a_failing_late_block_of_a_lazy_source_names_its_row(model, x):
    broken = x.copy()
    broken[2222, 3] = np.inf
    lazy = xr.DataArray(dask.array.from_array(broken, chunks=(500, 6)), dims=("input", "feature"))
    result = fs.fisher_information(model, lazy, view="full")
    with pytest.raises(ValueError, match=r"^In block 1, inputs 2048 to 2499: `x` must be finite, got inf at index \(2222, 3\)"):
        result.compute()


PEAK = """
import sys
import dask.array, numpy as np, xarray as xr
import fisherstats as fs
model = fs.MLP.random([64, 32, 10], activation="tanh", family=fs.families.Categorical(10), rng=0)
n = int(sys.argv[1])
x = xr.DataArray(dask.array.random.default_rng(0).normal(size=(n, 64), chunks=(5000, 64)), dims=("input", "feature"))
fs.estimate_fisher(model, x, estimator="score", n_draws=4, rng=0).compute()
"""


def test_memory_is_flat_in_the_number_of_inputs():
    few, many = (peak_kib(PEAK, n) for n in (40_000, 160_000))
    # The 120,000 further rows are 60,000 KiB; holding them would show.
    assert many - few < 30_000


def test_progress_is_shown_only_when_asked(model, x, capsys):
    fs.fisher_information(model, x)
    assert capsys.readouterr().err == ""
    fs.fisher_information(model, x, progress=True)
    assert "block" in capsys.readouterr().err


def test_number_of_threads_from_the_environment(model, x, monkeypatch):
    reference = fs.fisher_information(model, x)
    monkeypatch.setenv("FISHERSTATS_NUM_THREADS", "3")
    xr.testing.assert_identical(fs.fisher_information(model, x), reference)
    monkeypatch.setenv("FISHERSTATS_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="FISHERSTATS_NUM_THREADS"):
        fs.fisher_information(model, x)


class Recorded(execution.Reduction):
    """A reduction that notes which blocks come together, and which of them in a leaf."""

    leaf_blocks = 6

    def __init__(self, shared):
        super().__init__(list.extend)
        self.shared = shared
        self.groups = []
        self.last = []

    def tasks(self, parts, last):
        def note():
            self.groups.append(parts)
            self.last.append(last)
            self.leaf = [*self.leaf, *parts] if self.leaf else list(parts)

        return [note]

    def add(self, leaf):
        super().add([leaf])


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("group", [1, 3, 8])
@pytest.mark.parametrize("n", [1, 16, 100, 331])
@pytest.mark.parametrize("shared", [False, True])
def test_groups_come_in_order_and_whole(threads, group, n, shared):
    def block(part, first):
        time.sleep(0.002 * (first % 3 == 0))
        return first, first + len(part)

    reduction = Recorded(shared)
    x = np.zeros((n, 1))
    rows = execution.Rows(x, np.dtype(np.float64))
    execution.Pass(block, reduction, rows, 32, group=group, num_threads=threads).answer()
    flat = [one for parts in reduction.groups for one in parts]
    assert [first for first, _ in flat] == [0, *[stop for _, stop in flat[:-1]]]
    assert flat[-1][1] == n
    if shared:
        assert all(parts[-1][1] % (32 * group) == 0 for parts in reduction.groups[:-1])
    else:
        assert all(len(parts) == 1 for parts in reduction.groups)
    assert reduction.last == [False] * (len(reduction.groups) - 1) + [True]
    leaf = max(1, 6 // group) * group
    assert [len(one) for one in reduction.totals] == [len(flat[start : start + leaf]) for start in range(0, len(flat), leaf)]
    assert [one for leaf in reduction.totals for one in leaf] == flat


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_first_failing_block_is_the_one_that_is_reported(threads):
    def block(part, first):
        if first >= 320:
            # Later blocks fail sooner.
            time.sleep(0.02 * (first == 320))
            raise RuntimeError(f"block at {first}")
        return [part.sum(axis=0)]

    rows = execution.Rows(np.zeros((2000, 2)), np.dtype(np.float64))
    with pytest.raises(RuntimeError, match=r"block at 320$"):
        execution.at_once(execution.mean(block, rows, 32, num_threads=threads))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_what_a_reader_raises_ends_the_call(failure, threads):
    def batches():
        for number in range(40):
            time.sleep(0.001)
            if number == 30:
                raise failure("the disk is gone")
            yield np.ones((100, 2))

    rows = execution.Rows(execution.Batches(batches(), (2,), np.dtype(np.float64)), np.dtype(np.float64))
    with pytest.raises(failure, match="the disk is gone"):
        execution.at_once(execution.mean(lambda part, first: [part.sum(axis=0)], rows, 64, num_threads=threads))


@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupt_ends_the_call_and_the_next_one_works(threads, model, x):
    def block(part, first):
        if first == 96:
            raise KeyboardInterrupt
        return [part.sum(axis=0)]

    rows = execution.Rows(x, np.dtype(np.float64))
    before = [library["num_threads"] for library in threadpool_info()]
    with pytest.raises(KeyboardInterrupt):
        execution.at_once(execution.mean(block, rows, 32, num_threads=threads))
    assert [library["num_threads"] for library in threadpool_info()] == before
    np.testing.assert_allclose(fs.fisher_information(model, x, num_threads=threads).sum(), fs.fisher_information(model, x).sum())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_shared_pieces_come_back_in_order_and_the_first_failure_is_raised(threads):
    def fail_from_three(number):
        time.sleep(0.01 * (number == 3))
        if number >= 3:
            raise RuntimeError(f"piece {number}")
        return number

    assert execution.share(lambda number: number**2, range(7), threads) == [number**2 for number in range(7)]
    assert execution.share(fail_from_three, [], threads) == []
    with pytest.raises(RuntimeError, match="piece 3"):
        execution.share(fail_from_three, range(7), threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupt_ends_what_is_shared(threads):
    begun = []

    def piece(number):
        begun.append(number)
        if number == 0:
            raise KeyboardInterrupt
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        execution.share(piece, range(1000), threads)
    assert len(begun) < 20
    assert execution.share(abs, [-1, -2], threads) == [1, 2]


def test_a_system_without_further_threads_leaves_the_work_to_the_caller(monkeypatch):
    def refused(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(execution.thread_pool, "_helpers", execution.thread_pool._Helpers())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        assert execution.share(abs, [-1, -2, -3], 3) == [1, 2, 3]
    callers = execution.share(lambda _: (time.sleep(0.05), threading.get_ident())[1], range(3), 3)
    assert len(set(callers)) == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_thread_stays_spoken_for_after_an_error(error, monkeypatch):
    helpers = execution.thread_pool._Helpers()
    monkeypatch.setattr(execution.thread_pool, "_helpers", helpers)

    def failing(_):
        raise error

    for _ in range(20):
        with pytest.raises(error):
            execution.share(failing, range(4), 3)
    assert not helpers._under_way
    assert helpers._threads == 2


def test_what_failed_is_not_kept_in_memory():
    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)

    def failing(_, held=held):
        raise ValueError("no good")

    gc.disable()
    try:
        with pytest.raises(ValueError, match="no good"):
            execution.share(failing, range(4), 2)
        del held, failing
        assert gone() is None
    finally:
        gc.enable()


def test_a_failing_reduction_is_reported():
    class Failing(execution.Reduction):
        def tasks(self, parts, last):
            def fail():
                raise MemoryError("no room")

            return [fail]

    rows = execution.Rows(np.zeros((100, 2)), np.dtype(np.float64))
    with pytest.raises(MemoryError, match="no room"):
        execution.Pass(lambda part, first: first, Failing(), rows, 16, num_threads=3).answer()


def test_calls_from_several_threads_at_once(model, x):
    expected = fs.fisher_information(model, x)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: fs.fisher_information(model, x, num_threads=3), range(8)):
            xr.testing.assert_identical(found, expected)


FORKED = """
import os, sys
import numpy as np
import fisherstats as fs
model = fs.MLP.random([6, 9, 4], activation="tanh", family=fs.families.Gaussian(4), rng=3)
x = np.random.default_rng(7).normal(size=(600, 6))
expected = fs.fisher_information(model, x, num_threads=2)
child = os.fork()
if child == 0:
    os._exit(0 if fs.fisher_information(model, x, num_threads=2).identical(expected) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_makes_its_own_threads():
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)


INTERRUPTED = """
import signal, time
import numpy as np
import fisherstats as fs
from fisherstats.execution import thread_pool as threads
model = fs.MLP.random([300, 60, 10], activation="tanh", family=fs.families.Categorical(10), rng=0)
x, y = np.random.default_rng(0).normal(size=(2000, 300)), np.arange(2000) % 10
def train():
    return fs.training.fit(model, x, y, optimizer=fs.training.SGD(0.1), epochs=2, batch_size=128, rng=0, num_threads=3).model
def inform():
    return fs.fisher_information(model, x, num_threads=3).values
armed = False
def interrupt(*_):
    if armed:
        raise KeyboardInterrupt
expected = train(), inform()
signal.signal(signal.SIGALRM, interrupt)
rng = np.random.default_rng(1)
for call in (train, inform):
    interrupts, until = 0, time.monotonic() + 2
    while time.monotonic() < until:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.02))
            call()
        except KeyboardInterrupt:
            interrupts += 1
        except RuntimeError as error:
            assert str(error) == "cannot release un-acquired lock", error  # it came while a condition gave its lock away
            interrupts += 1
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert interrupts > 10, interrupts
    assert not threads._helpers._under_way
found = train(), inform()
assert found[0] == expected[0] and np.array_equal(found[1], expected[1])
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_an_interrupt_may_come_at_any_moment():
    subprocess.run([sys.executable, "-c", INTERRUPTED], check=True, timeout=60)
