"""The command line: ``fisherstats study`` and ``fisherstats info``.

Exit codes: 0 done, 1 the request was refused or failed (the reason is one line on stderr), 2 the command line could not
be read, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fisherstats.errors import WorkerLost

__all__ = ["main"]

_INTERRUPTED = 130

#: seconds to wait for a scheduler
_PATIENCE = 10


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fisherstats", description="How well do you know this Fisher matrix?")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    study = commands.add_parser(
        "study",
        help="train on data, estimate the Fisher information, write a report",
        description="Train a network, compute exact and estimated Fisher information, and write report.html, study.nc "
        "and study.zarr. Without a configuration: the handwritten digits of scikit-learn.",
    )
    study.add_argument("config", nargs="?", metavar="CONFIG.toml", help="configuration; what is absent keeps its default")
    study.add_argument(
        "--out",
        type=os.path.expanduser,  # a shell leaves --out=~/study as it is
        default="fisherstats-study",
        metavar="DIR",
        help="directory for the results (default: %(default)s)",
    )
    study.add_argument("--seed", type=int, help="overrides the configuration's seed")
    study.add_argument("--resume", action="store_true", help="go on with the unfinished study that an earlier run has left")
    where = study.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="compute in N processes of this machine (extra distributed)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="compute on the dask cluster of this scheduler (extra distributed)")
    study.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")
    commands.add_parser("info", help="print versions, threads and whether a GPU can be used")
    return parser


def _kept(parsed: argparse.Namespace) -> Path:
    """Return the folder that keeps an unfinished study, beside its results."""
    out = Path(os.path.abspath(parsed.out))
    return out.with_name(f"{out.name}.unfinished")


def _study(parsed: argparse.Namespace) -> None:
    from fisherstats import study
    from fisherstats.checks import stores

    kept, page = _kept(parsed), Path(parsed.out) / "report.html"
    if not parsed.resume:
        stores.unfinished(kept)
    elif not kept.exists() and study.finished(parsed.config, out=parsed.out, seed=parsed.seed):
        print(f"The study is complete; the report is {page}")
        return
    with _client(parsed) as client:
        study.run(parsed.config, out=parsed.out, seed=parsed.seed, progress=parsed.progress, store=kept, client=client)
    shutil.rmtree(kept)
    print(f"The report is {page}")


@contextlib.contextmanager
def _client(parsed: argparse.Namespace) -> Iterator[Any]:
    """Yield who computes: None for this process, or a client of the cluster that was asked for."""
    if parsed.workers is None and parsed.scheduler is None:
        yield None
        return
    from fisherstats.checks import arguments, clients

    distributed = arguments.optional_module("distributed", extra="distributed")
    if parsed.scheduler is not None:
        try:
            client = distributed.Client(parsed.scheduler, timeout=_PATIENCE)
        except (OSError, ValueError) as error:
            clients.unreachable("--scheduler", parsed.scheduler, error)
        with client:
            yield client
        return
    n_workers = arguments.positive_integer("--workers", parsed.workers)
    # What the workers have to say is not for the user: an error that matters comes back through the client.
    # Whoever reaches a socket of a cluster can run code in it: all of them are on the loopback.
    settings = {
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.CRITICAL,
    }
    with _started_deaf():
        cluster = distributed.LocalCluster(n_workers=n_workers, **settings)
    with cluster, distributed.Client(cluster) as client:
        yield client


@contextlib.contextmanager
def _started_deaf() -> Iterator[None]:
    """Let processes that are started here ignore Ctrl-C: a terminal sends it to all of them, and this one ends the others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous if previous is not None else signal.SIG_DFL)


def _info() -> None:
    import os
    import platform
    from importlib import metadata

    from threadpoolctl import threadpool_info

    from fisherstats import __version__
    from fisherstats.arrays import gpu_status

    print(f"fisherstats  {__version__}")
    print(f"python       {platform.python_version()}")
    for name in ("numpy", "scipy", "numba", "xarray", "scikit-learn", "matplotlib", "netCDF4", "zarr", "dask"):
        try:
            print(f"{name:<12} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            print(f"{name:<12} not installed")
    print(f"cores        {os.cpu_count()}")
    for library in threadpool_info():
        described = f"{library['internal_api']} {library['version']}, {library['num_threads']} threads"
        print(f"{library['user_api']:<12} {described}")
    usable, reason = gpu_status()
    print(f"gpu          {reason}" if usable else f"gpu          none: {reason}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.command == "study":
            _study(parsed)
        else:
            _info()
    except (KeyboardInterrupt, ValueError, TypeError, ImportError, OSError, WorkerLost) as error:
        if _was_interrupted(error):
            if parsed.command == "study" and _kept(parsed).exists():
                print(f"fisherstats: interrupted; {_kept(parsed)} keeps what is done: go on with --resume.", file=sys.stderr)
            else:
                print("fisherstats: interrupted; no half-written results are left.", file=sys.stderr)
            return _INTERRUPTED
        print(f"fisherstats: {error}", file=sys.stderr)
        return 1
    return 0


def _was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is behind an error; a library that is being loaded reports it as its own failure."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
