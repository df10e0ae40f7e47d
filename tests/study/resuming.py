"""A tiny study in many pieces, whole and in part, for the tests of going on with a study."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fisherstats import study
from fisherstats.study import plan, results_store

CONFIG: dict[str, Any] = {
    "model": {"hidden": [5], "epochs": 3},
    "analysis": {"inputs": 20, "n_draws": [1, 3], "replicates": 6},
}
PIECES = 4 + 5 + 6  # exact, variances, those of layers, bounds; scales; groups of replicates

#: the study in a process of its own, which kills itself some seconds after it begins to write for the nth time (0: to run)
PROGRAM = """
import json, os, signal, sys, threading
from fisherstats import study
from fisherstats.study import plan, results_store
plan._MOST_REPLICATES = 2
config, place, store, writes, delay = (json.loads(one) for one in sys.argv[1:])

def count():
    global writes
    if writes == 0:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    writes -= 1

write = results_store.Store.write
results_store.Store.write = lambda *arguments: (count(), write(*arguments))
count()
study.run(config, out=place, store=store)
os._exit(0)
"""


def small_groups(patched: pytest.MonkeyPatch) -> None:
    """Let groups have two replicates, as those of a study that is not tiny have a part of theirs."""
    patched.setattr(plan, "_MOST_REPLICATES", 2)


def run(store: Path | None = None, config: Any = CONFIG, **more: Any) -> xr.DataTree:
    return study.run(config, **({"out": None, "store": store} | more))


def files(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def marks(store: Path) -> np.ndarray:
    return results_store.read(store, "progress")["mark"].values


class Stopped(Exception):
    """Ends a run from within, as a kill would."""


def stop_after(monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    """Let the next run end before it writes one more piece than `pieces`."""
    written = 0
    write = results_store.Store.write

    def counted(self: results_store.Store, piece: int, dataset: xr.Dataset) -> None:
        nonlocal written
        if written == pieces:
            raise Stopped
        written += 1
        write(self, piece, dataset)

    monkeypatch.setattr(results_store.Store, "write", counted)


def part(store: Path, pieces: int) -> Path:
    """Make the store of a study that has ended early."""
    with pytest.MonkeyPatch.context() as patched:
        small_groups(patched)
        stop_after(patched, pieces)
        with pytest.raises(Stopped):
            run(store)
    return store


def command(store: Path, writes: int = -1, delay: float = 0.0, out: Path | None = None, program: str = PROGRAM) -> list[str]:
    given = (CONFIG, None if out is None else str(out), str(store), writes, delay)
    return [sys.executable, "-c", program, *map(json.dumps, given)]


def killed(store: Path, writes: int = -1, delay: float = 0.0, out: Path | None = None) -> bool:
    """Let a process work on the study; return whether it was killed before the end."""
    done = subprocess.run(command(store, writes, delay, out), capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0
