"""The benchmarks run, on tiny sizes, so that they cannot rot: peers agree where they are installed, times are not looked at."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import (
    device,
    harness,
    kernels,
    nets,
    peers,
    startup,
    table,
    training,
    w1_exact_diagonal,
    w3_hessian_diagonal,
    w4_dense,
    w5_variances,
    w6_products,
    w8_blocks,
)
from fisherstats import engines
from fisherstats.engines import numba_kernels
from tests.device.arrays import to_device


def test_every_kernel_has_a_row():
    lines = kernels.table(shapes=((2, 3, 4),), repeats=1).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == numba_kernels.__all__


# To compile all kernels anew, for the first call of a fresh process, takes longer than all other workloads together.
WORKLOADS = [pytest.param(name, marks=pytest.mark.validation) if name == "startup" else name for name in command.NAMES]


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_runs_and_agrees(name):
    rows = list(command.rows([name], "tiny", 1))
    assert rows
    for row in rows:
        for peer, times in row.peers.items():
            assert bool(times) == (peer in row.differences)
    page = table.page(rows)
    assert all(f"| {row.case.work} |" in page for row in rows)


def test_the_time_of_the_import_is_measured():
    assert next(startup.cases("tiny")).ours() > 0


def case(theirs):
    peer = harness.Peer("a peer", lambda: (lambda: theirs, np.asarray))
    return harness.Case("work", "setting", "float64", lambda: np.array([1.0, 2.0]), peers=(peer,), flops=8.0, target_ms=1.0)


def test_a_peer_that_differs_stops_the_run():
    agrees = harness.measure(case([1.0, 2.0]), 2, "tiny")
    assert len(agrees.times) == len(agrees.peers["a peer"]) == 2
    assert agrees.differences == {"a peer": 0.0}
    for wrong in ([1.0, 2.0 + 1e-9], [1.0, np.nan]):
        with pytest.raises(AssertionError, match=r"work, setting, float64: a peer differs by"):
            harness.measure(case(wrong), 1, "tiny")


def test_what_is_not_installed_is_reported(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(peers.NotInstalled):
        peers.load("json")
    row = harness.measure(next(w1_exact_diagonal.cases("tiny")), 1, "tiny")
    assert set(row.peers) == {"BackPACK", "NNGeometry", "ASDL", "JAX, differentiated", "JAX, derived by hand"}
    assert not any(row.peers.values())
    assert row.fastest_peer() is None
    assert "BackPACK not installed" in table.table([row])


def test_a_row_says_what_was_measured():
    row = harness.Row(case([]), [0.004, 0.002, 0.003], {"slow": [9.0], "fast": [0.01], "absent": []}, {"fast": 0.5}, 8e3)
    cells = table.cells(row, table.rates([row]))
    assert cells[3:12] == ["2", "3", "fast", "10", "5.0", "1", "2.00", "1", "5.0e-01"]
    assert cells[12] == "slow 9000; absent not installed"
    assert len(cells) == len(table.cells(harness.Row(case([]), []), {})) == len(table.HEAD)


def test_a_benchmark_of_a_device_needs_one(capsys, monkeypatch):
    monkeypatch.setattr(device.arrays, "gpu_status", lambda: (False, "it is disabled"))
    with pytest.raises(SystemExit) as ended:
        device.main([])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "There is nothing to measure: it is disabled.\n"


def test_the_benchmark_of_a_device_runs_and_agrees(monkeypatch):
    """On the stand-in; where the peers of other devices are installed, they are not asked for."""
    monkeypatch.setattr(engines, "gpu_status", lambda: (True, "stand-in"))
    monkeypatch.setattr(engines, "gpu_array", lambda: to_device(np.zeros(0)))
    rows = device.measured("tiny", 1, to_device)
    assert {row.case.work.split()[0] for row in rows} == {*(f"W{number}" for number in range(1, 9)), "epoch"}
    assert all(row.times and row.flops_per_second for row in rows)


def test_parameters_are_put_in_our_order():
    theirs = np.array([0, 1, 3, 4, 2, 5, 6, 7, 8])  # weights and biases of two units, then of one
    assert theirs[peers.order((2, 2, 1))].tolist() == list(range(9))


@pytest.mark.parametrize(
    ("flops", "gigaflops"),
    [
        # each product of n inputs written out: (rows, columns, sum over)
        (w1_exact_diagonal.flops(nets.MEDIUM, 1000), 2e-6 * (2 * 76_570 + 9 * 2 * 6400)),
        (w3_hessian_diagonal.flops(nets.MEDIUM, 100), 2e-7 * (2 * 76_570 + 9 * 2 * 6400 + 80**3 + 3 * 6400)),
        (w5_variances.flops(nets.MEDIUM, 100), 2e-7 * (4 * 76_570 + 9 * 2 * 6400 + 80**3 + 9 * 3 * 6400)),
        (w6_products.flops(nets.MEDIUM, 1000, True), 2e-6 * (3 * 76_570 + 2 * 13_770)),
        (w6_products.flops(nets.MEDIUM, 1000, False), 2e-6 * (2 * 76_570 + 2 * 13_770)),
        (
            w8_blocks.factor_flops(nets.MEDIUM, 1000),
            1e-6 * (2 * (76_570 + 9 * 2 * 6400) + 785 * 786 + 3 * 81 * 82 + 9 * 3 * 80 * 81),
        ),
    ],
    ids=["w1", "w3", "w5", "w6", "w6-again", "w8-factors"],
)
def test_operations_are_counted(flops, gigaflops):
    assert flops == pytest.approx(1e9 * gigaflops, rel=1e-12)


def test_dense_blocks_count_each_symmetric_pair_once():
    widths = (2, 2, 1)  # layers of 2 x 3 and 1 x 3
    within = (3 * 6) + (1 * 6)
    assert w8_blocks.flops(widths, 5) == 10 * within
    assert w4_dense.flops(widths, 5) == 10 * (within + 2 * 1 * 3 * 3)


def test_every_optimiser_has_a_row_per_batch_size_and_precision():
    lines = training.table(n=8, widths=(3, 4, 2), batch_sizes=(4, 8), repeats=1).splitlines()
    assert len(lines) == 2 + 2 * 2 * len(training.SETTINGS)
    assert lines[2].startswith("| SGD, batch 4, float64 | ")
