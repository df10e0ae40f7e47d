"""The stand-in takes the place of what cupy has of scipy and what does not look at numpy's protocols."""

from __future__ import annotations

import contextlib
import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import scipy.special

from tests.device.arrays import to_device


def zeta(order, x):
    return to_device(scipy.special.zeta(order, np.asarray(x.own)))


def solve_triangular(a, b, trans=0):
    return to_device(scipy.linalg.solve_triangular(np.asarray(a.own), np.asarray(b.own), trans=trans))


@pytest.fixture(autouse=True)
def functions_of_scipy(monkeypatch):
    for name, function in (("special", zeta), ("linalg", solve_triangular)):
        module = f"cupyx.scipy.{name}"
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
        known = vars(sys.modules[module]) if module in sys.modules else {}
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{**known, function.__name__: function}))
