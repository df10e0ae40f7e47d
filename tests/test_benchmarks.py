"""The benchmarks run, on tiny sizes, so that they cannot rot."""

from __future__ import annotations

from benchmarks import kernels
from fisherstats.engines import numba_kernels


def test_every_kernel_has_a_row():
    lines = kernels.table(shapes=((2, 3, 4),), repeats=1).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == numba_kernels.__all__
