"""The benchmarks run, on tiny sizes, so that they cannot rot."""

from __future__ import annotations

from benchmarks import kernels, training
from fisherstats.engines import numba_kernels


def test_every_kernel_has_a_row():
    lines = kernels.table(shapes=((2, 3, 4),), repeats=1).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == numba_kernels.__all__


def test_every_optimiser_has_a_row_per_batch_size_and_precision():
    lines = training.table(n=8, widths=(3, 4, 2), batch_sizes=(4, 8), repeats=1).splitlines()
    assert len(lines) == 2 + 2 * 2 * len(training.SETTINGS)
    assert lines[2].startswith("| SGD, batch 4, float64 | ")
