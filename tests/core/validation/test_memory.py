"""What is asked of memory before a call: the least of machine, limits and control groups, and no more than is used."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest

import fisherstats as fs
from fisherstats.core.validation import capacity, memory
from fisherstats.execution import tasks
from fisherstats.execution.tasks import Piece

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A made-up system: no limits of the process, a machine with 64 GiB left, control groups below a folder."""
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "self")
    monkeypatch.setattr(memory, "_machine_bytes", lambda: 64 * GIB)
    monkeypatch.setattr(memory, "_free_bytes", lambda: 32 * GIB)
    monkeypatch.setattr(memory, "_left_by_limits", lambda: iter(()))

    def write(files: dict[str, Any]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")

    return write


class TestControlGroups:
    def test_none(self, system):
        assert memory.available_bytes() == 64 * GIB
        assert memory.available_bytes(GIB) == 32 * GIB

    @pytest.mark.parametrize("path", ["/", "/job/step"])
    def test_version_2(self, system, path):
        folder = f"cgroup{path}".rstrip("/")
        system({"self/cgroup": f"0::{path}", f"{folder}/memory.max": 4 * GIB, f"{folder}/memory.current": 3 * GIB})
        assert memory.available_bytes() == GIB
        system({f"{folder}/memory.stat": f"anon 17\ninactive_file {GIB}\nactive_file 9"})
        assert memory.available_bytes() == memory.available_bytes(GIB) == 2 * GIB

    def test_a_group_above_may_leave_less(self, system):
        system({"self/cgroup": "0::/job/step", "cgroup/job/step/memory.max": "max", "cgroup/job/step/memory.current": 5})
        system({"cgroup/job/memory.max": 2 * GIB, "cgroup/job/memory.current": GIB // 2})
        assert memory.available_bytes() == 3 * GIB // 2

    def test_version_1_beside_an_empty_one_of_version_2(self, system):
        system({"self/cgroup": "9:name=systemd:/\n4:cpu,memory:/a\n0::/"})
        system({"cgroup/memory/a/memory.limit_in_bytes": 3 * GIB, "cgroup/memory/a/memory.usage_in_bytes": GIB})
        system({"cgroup/memory/memory.limit_in_bytes": 9223372036854771712, "cgroup/memory/memory.usage_in_bytes": 9 * GIB})
        assert memory.available_bytes() == 2 * GIB

    @pytest.mark.parametrize("path", ["/docker/0123", "/../../host"])
    def test_the_path_of_a_host_that_is_not_seen_in_a_container(self, system, path):
        system({"self/cgroup": f"0::{path}", "cgroup/memory.max": GIB, "cgroup/memory.current": GIB // 4})
        assert memory.available_bytes() == 3 * GIB // 4

    def test_a_group_beyond_its_limit_leaves_nothing(self, system):
        system({"self/cgroup": "0::/", "cgroup/memory.max": GIB, "cgroup/memory.current": 2 * GIB})
        assert memory.available_bytes() == 0

    def test_a_result_that_does_not_fit_is_refused(self, system):
        system({"self/cgroup": "0::/", "cgroup/memory.max": GIB, "cgroup/memory.current": GIB - 2**25})
        capacity.fits("this", 2**24, 0, "use less.")
        with pytest.raises(fs.SizeError, match=r"32\.0 MiB are available"):
            capacity.fits("this", 2**26, 0, "use less.")


LIMITED = """
import resource
import numpy as np
import fisherstats as fs
wide, narrow = (
    fs.MLP.random([size, size, 10], activation="tanh", family=fs.families.Categorical(10), rng=0) for size in (50, 12)
)
x = np.random.default_rng(0).normal(size=(300, 50))
def batches(size, count):
    return (x[:size, :12] for _ in range(count))
def limit(of, to_spare):
    taken = int(open("/proc/self/statm").read().split()[place[of]]) * resource.getpagesize()
    resource.setrlimit(of, (int(taken + to_spare), resource.RLIM_INFINITY))
place = {resource.RLIMIT_AS: 0, resource.RLIMIT_DATA: 5}
calls = {
    "full": (lambda: fs.fisher_information(wide, x, view="full"), 8 * wide.n_params**2),
    "block": (lambda: fs.fisher_information(wide, x, view="block"), 8 * sum(one.size**2 for one in wide.weights)),
    "score": (lambda: fs.estimate_fisher(wide, x, estimator="score", n_draws=2, view="full", rng=0), 8 * wide.n_params**2),
    "hessian": (lambda: fs.estimate_fisher(wide, x, estimator="hessian", n_draws=2, view="full", rng=0), 8 * wide.n_params**2),
    "per input": (lambda: fs.fisher_information(narrow, x[:, :12], view="full", per_input=True), 300 * 8 * narrow.n_params**2),
    "batches": (
        lambda: fs.fisher_information(narrow, batches(30, 8), view="full", per_input=True), 240 * 8 * narrow.n_params**2
    ),
}
"""

REFUSED_OR_DONE = """
import sys
for call, _ in calls.values():
    fs.fisher_information(narrow, x[:50, :12], view="full", per_input=True)  # threads, and what they take
for one in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
    for name in sys.argv[1:]:
        call, size = calls[name]
        ends = []
        for times in (0.5, 2, 5):
            limit(one, times * size)
            try:
                call()
                ends.append("done")
            except fs.SizeError as error:
                assert "are available" in str(error), error
                ends.append("refused")
            resource.setrlimit(one, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(one, name, ends, flush=True)
        assert ends[0] == "refused" and ends[-1] == "done", (name, ends)
        if name in ("full", "block", "score"):
            assert ends[1] == "done", (name, ends)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("names", [["full", "block"], ["score", "hessian"], ["per input", "batches"]], ids=" and ".join)
def test_under_a_limit_a_call_is_refused_or_done(names):
    """And never ends in a MemoryError: what is asked for is what is used."""
    done = subprocess.run([sys.executable, "-c", LIMITED + REFUSED_OR_DONE, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def lacks_memory(shared: Any, argument: Any, num_threads: int | None) -> None:
    np.empty((2**40, 2**12))


class TestMemoryErrors:
    """numpy's own takes a shape and a dtype, and is a MemoryError all the same."""

    def test_of_a_piece(self):
        with pytest.raises(MemoryError, match=r"^one: Unable to allocate"):
            tasks.in_order(lacks_memory, None, [Piece("one", 1)])

    def test_of_a_piece_in_another_process(self):
        with (
            ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor,
            pytest.raises(MemoryError, match=r"^one: Unable to allocate"),
        ):
            tasks.in_order(lacks_memory, None, [Piece("one", 1)], client=executor)

    def test_of_a_block_of_a_lazy_x(self):
        def lacking(block):
            return np.empty((2**40, 2**12)) if block.shape[0] else block

        model = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)
        x = dask.array.zeros((40, 3), chunks=20)
        with pytest.raises(MemoryError, match="Unable to allocate"):
            fs.fisher_information(model, x.map_blocks(lacking, dtype=float, meta=np.empty((0, 3)))).compute(scheduler="sync")

    def test_within_a_block(self):
        from fisherstats.core.validation import inputs

        for error, kind in ((OSError("gone"), OSError), (MemoryError("much"), MemoryError), (KeyError("k"), KeyError)):
            with pytest.raises(kind, match="In block 3, inputs 5 to 6"), inputs.naming_block(3, 5, 2):
                raise error
        wanted = "In block 3, inputs 5 to 6: Unable to allocate"
        with pytest.raises(MemoryError, match=wanted), inputs.naming_block(3, 5, 2):
            np.empty((2**40, 2**12))


def test_asking_is_fast_where_little_is_needed(monkeypatch):
    def opened(file):
        raise AssertionError(f"{file} was read")

    monkeypatch.setattr(memory, "_lines", opened)
    capacity.fits("this", 2**20, 2**20, "use less.")
