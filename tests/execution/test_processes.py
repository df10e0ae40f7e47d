"""Forks, threads and signals: nobody waits for ever, and BLAS gets back what it had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info, threadpool_limits

import fisherstats as fs
from fisherstats import execution
from fisherstats.core import forks
from fisherstats.execution import blas

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")

BEGINNING = """
import faulthandler, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy as np
import fisherstats as fs
from threadpoolctl import threadpool_info, threadpool_limits
threadpool_limits(2, user_api="blas")
model = fs.MLP.random([6, 9, 4], activation="tanh", family=fs.families.Categorical(4), rng=3)
x = np.random.default_rng(7).normal(size=(40, 6))
def call(**more):
    return fs.fisher_information(model, x, **more).values
def of_blas():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}
def ended_well(work, seconds=200):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            os._exit(0 if work() else 1)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def run(script: str, timeout: float = 300, **environment: str) -> str:
    """Run a script in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + script],
        env=os.environ | environment,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORKS = """
expected = call()
ending = False
def works():
    while not ending:
        call(), fs.weight_norms(model)
threads = [threading.Thread(target=works) for _ in range(2)]
for one in threads:
    one.start()
def child():
    return of_blas() == {2} and np.array_equal(call(num_threads=2), expected) and of_blas() == {2}
ends = []
for _ in range(30):
    time.sleep(0.001)
    ends.append(ended_well(child))
ending = True
for one in threads:
    one.join()
assert all(ends), ends
assert of_blas() == {2}
"""


@needs_fork
def test_a_fork_during_calls_in_other_threads_gives_a_child_that_works():
    run(FORKS)


FIRST_CALL = """
expected = []
first = threading.Thread(target=lambda: expected.append(call()))
first.start()
ends = []
for _ in range(5):
    ends.append(ended_well(lambda: call().shape == (103,)))
    time.sleep(0.05)
first.join()
assert all(ends), ends
"""


@needs_fork
@pytest.mark.parametrize("compiled", ["compiled", "fresh"])
def test_a_fork_while_another_thread_loads_or_compiles_the_kernels(compiled, tmp_path):
    run(FIRST_CALL, **({"NUMBA_CACHE_DIR": str(tmp_path)} if compiled == "fresh" else {}))


WITHIN = """
expected = call()
def batches():
    for start in range(0, 40, 10):
        if start == 20:
            forked.append(os.fork())
            if forked[0] == 0:
                signal.alarm(60)
                if leaves:
                    os._exit(0 if of_blas() == {2} and np.array_equal(call(), expected) else 1)
        yield x[start : start + 10]
for threads, leaves in ((1, True), (2, True), (1, False), (2, False), (2, False), (2, False)):
    forked = []
    try:
        found = fs.fisher_information(model, batches(), num_threads=threads)
        if forked[0] == 0:
            os._exit(0 if np.allclose(found, expected, rtol=1e-13) and of_blas() == {2} else 1)
    except RuntimeError as error:
        os._exit(3 if "call again there" in str(error) and np.array_equal(call(), expected) and of_blas() == {2} else 2)
    end = os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1])
    # What goes on in the child with a call of several threads is ended there.
    assert end == 0 or (threads > 1 and not leaves and end in (3, 70)), (threads, leaves, end)
    assert np.allclose(found, expected, rtol=1e-13)
"""


@needs_fork
def test_a_fork_in_the_midst_of_a_call():
    run(WITHIN)


STARTED = """
import concurrent.futures, multiprocessing
def works(number):
    return call().tobytes(), of_blas()
if __name__ == "__main__":
    expected = call().tobytes()
    for method in sys.argv[1:] or ["fork", "forkserver", "spawn"]:
        ending = False
        def beside():
            while not ending:
                call()
        thread = threading.Thread(target=beside)
        thread.start()
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
            found = list(pool.map(works, range(6), timeout=120))
        # From within a call, too: it forks with the limit set.
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
            fs.definiteness(model, x, n_draws=2, rng=0, n_replicates=4, client=pool)
            found += list(pool.map(works, range(6), timeout=120))
        ending = True
        thread.join()
        assert {bits for bits, _ in found} == {expected}, method
        assert all(threads == {2} for _, threads in found), (method, [one for _, one in found])
"""


@needs_fork
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.validation
def test_processes_of_every_kind(method, tmp_path):
    script = tmp_path / "started.py"
    script.write_text(BEGINNING + STARTED)
    subprocess.run([sys.executable, script, method], check=True, timeout=300)


JOBLIB = """
import joblib
expected = call().tobytes()
for backend in ("loky", "threading", "multiprocessing"):
    parallel = joblib.Parallel(n_jobs=2, backend=backend, timeout=120)
    found = parallel(joblib.delayed(fs.fisher_information)(model, x) for _ in range(4))
    assert {one.values.tobytes() for one in found} == {expected}, backend
    assert of_blas() == {2}, backend
"""


def test_joblib():
    pytest.importorskip("joblib")
    run(JOBLIB)


DASK = """
import dask, dask.array, distributed
if __name__ == "__main__":
    lazy = dask.array.from_array(np.tile(x, (50, 1)), chunks=(300, 6))
    expected = fs.fisher_information(model, lazy).compute(scheduler="sync")
    for scheduler in ("threads", "sync"):
        assert fs.fisher_information(model, lazy).compute(scheduler=scheduler).identical(expected)
    def inside(kind):
        # A call of a task, whose x is lazy itself.
        return fs.fisher_information(model, lazy).compute(scheduler=kind)
    for processes in (False, True):
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=processes, dashboard_address="127.0.0.1:0"
        ) as cluster, distributed.Client(cluster) as client:
            assert fs.fisher_information(model, lazy).compute().identical(expected)
            for kind in ("threads", "sync", None):
                found = client.gather([client.submit(inside, kind, pure=False) for _ in range(4)])
                assert all(one.identical(expected) for one in found), (processes, kind)
    assert of_blas() == {2}
"""


def test_dask_inside_dask(tmp_path):
    pytest.importorskip("distributed")
    script = tmp_path / "cluster.py"
    script.write_text(BEGINNING + DASK)
    subprocess.run([sys.executable, script], check=True, timeout=300, cwd=tmp_path)


HANDLER = """
import random
expected, norms = call(), fs.weight_norms(model)
handled, wrong = 0, 0
def handle(*_):
    global handled, wrong
    handled += 1
    wrong += not np.array_equal(call(num_threads=2), expected)
signal.signal(signal.SIGALRM, handle)
faulthandler.dump_traceback_later(100, exit=True)
until = time.monotonic() + 4
number = 0
while time.monotonic() < until:
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 3e-3))
    number += 1
    if number % 2:
        wrong += not np.array_equal(call(num_threads=2), expected)
    else:
        wrong += not fs.weight_norms(model).identical(norms)
signal.setitimer(signal.ITIMER_REAL, 0)
assert handled > 50, handled
assert not wrong
assert of_blas() == {2}
"""


@needs_timers
def test_a_signal_handler_may_call_while_a_call_is_under_way():
    run(HANDLER)


INTERRUPTS = """
import random
random.seed(0)
signal.signal(signal.SIGINT, signal.default_int_handler)
calls = [call, lambda: fs.weight_norms(model), lambda: fs.covariance_norms(model, x[:2])]
for one in calls:
    one()
x = x[:4]
def interrupt():
    while not ending:
        time.sleep(random.uniform(3e-4, 3e-3))
        if armed:
            os.kill(os.getpid(), signal.SIGINT)
armed = ending = False
thread = threading.Thread(target=interrupt)
thread.start()
limited = interrupts = 0
for number in range(600):
    try:
        armed = True
        while True:
            calls[number % 3]()
    except KeyboardInterrupt:
        interrupts += 1
    while True:
        try:
            armed = False
            time.sleep(1e-4)
            break
        except KeyboardInterrupt:
            interrupts += 1
    limited += of_blas() != {2}
ending = True
thread.join()
assert interrupts >= 600, interrupts
assert not limited, limited
"""


@needs_timers
def test_ctrl_c_never_leaves_blas_with_one_thread():
    run(INTERRUPTS)


class TestLimit:
    """The limit follows from who is inside, at whatever step it is interrupted."""

    @pytest.fixture
    def before(self):
        with threadpool_limits(2, user_api="blas"):
            yield {2}

    def of_blas(self):
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    @pytest.mark.parametrize("times", [1, 2, 5])
    @pytest.mark.parametrize("step", range(6))
    def test_an_interrupt_at_any_step(self, before, step, times, monkeypatch):
        steps, left = [0], [times]

        def interrupted(limits):
            for number, limit in enumerate(limits):
                if steps[0] >= step and left[0]:
                    left[0] -= 1
                    raise KeyboardInterrupt
                steps[0] += 1
                getattr(blas._libraries()[number], "_real_set_num_threads", blas._libraries()[number].set_num_threads)(limit)

        with monkeypatch.context() as patched:
            patched.setattr(blas._Limit, "_set", staticmethod(interrupted))
            try:
                execution.one_blas_thread(lambda: None)()
            except KeyboardInterrupt:
                assert left[0] < times
        assert self.of_blas() == before
        assert execution.one_blas_thread(self.of_blas)() == {1}
        assert self.of_blas() == before

    def test_what_an_interrupt_has_left_is_mended_by_the_next_call(self, before):
        blas._limit.inside.add(-1)
        blas._limit.settle()
        blas._limit.inside.discard(-1)
        assert self.of_blas() == {1}
        execution.one_blas_thread(lambda: None)()
        assert self.of_blas() == before

    def test_other_threads_that_limit_blas_do_not_keep_it_from_being_limited(self):
        entered, may_go = threading.Event(), threading.Event()

        def limits():
            with threadpool_limits(2, user_api="blas"):
                entered.set()
                may_go.wait(60)

        other = threading.Thread(target=limits)
        other.start()
        try:
            assert entered.wait(60)
            assert execution.one_blas_thread(self.of_blas)() == {1}
            assert self.of_blas() == {2}
        finally:
            may_go.set()
            other.join()


class TestCounts:
    """Threads are counted before anything is made for each."""

    @pytest.mark.parametrize("threads", [2**31, 2**62])
    def test_no_more_than_the_cores(self, threads, monkeypatch):
        cores = execution.thread_count(None)
        assert execution.thread_count(threads) == cores
        assert execution.thread_count(1) == 1
        monkeypatch.setenv("FISHERSTATS_NUM_THREADS", str(threads))
        assert execution.thread_count(None) == cores
        monkeypatch.setenv("FISHERSTATS_NUM_THREADS", "1")
        assert execution.thread_count(None) == 1

    def test_results_do_not_change(self, monkeypatch):
        model = fs.MLP.random([6, 9, 4], activation="tanh", family=fs.families.Categorical(4), rng=3)
        x, y = np.random.default_rng(7).normal(size=(300, 6)), np.arange(300) % 4
        expected = fs.fisher_information(model, x)
        xr.testing.assert_identical(fs.fisher_information(model, x, num_threads=2**31), expected)
        monkeypatch.setenv("FISHERSTATS_NUM_THREADS", str(2**31))
        xr.testing.assert_identical(fs.fisher_information(model, x), expected)
        fs.training.fit(model, x, y, optimizer=fs.training.SGD(0.1), epochs=1, batch_size=128, rng=0)

    @pytest.mark.parametrize("setting", ["many", "0", "-2", "1.5", "²", "9" * 5000])
    def test_what_is_no_number_of_threads_is_refused(self, setting, monkeypatch):
        monkeypatch.setenv("FISHERSTATS_NUM_THREADS", setting)
        with pytest.raises(ValueError, match=r"`FISHERSTATS_NUM_THREADS` must be"):
            execution.thread_count(None)


def test_every_lock_of_the_package_is_waited_for_or_belongs_to_one_call():
    """A lock of a module, or the lock of `functools.cached_property` in older Pythons, would hang a child."""
    words = ("Lock()", "Condition(", "Semaphore(", "functools import cached_property", "functools.cached_property")
    made = []
    for file in sorted(Path(fs.__file__).parent.rglob("*.py")):
        lines = file.read_text(encoding="utf-8").splitlines()
        made += [f"{file.name}: {line.strip()}" for line in lines if any(word in line for word in words)]
    assert made == [
        "forks.py: made = threading.RLock()",
        "forks.py: from functools import cached_property",
        "forks.py: class cached_property(functools.cached_property):",
        "scheduler.py: self._lock = threading.RLock()",
        "scheduler.py: self._state = threading.Condition(self._lock)",
        "thread_pool.py: self._ended = threading.Lock()",
    ]
    assert len(forks._waited_for) >= 3
