"""The command line: ``fisherstats study`` and ``fisherstats info``.

Exit codes: 0 success, 1 invalid request or failure (the reason is one line on stderr), 2 the command line could not be
parsed, 130 interrupted. A study whose results are all written is a success, even if nothing can be printed.
"""

from __future__ import annotations

import _thread
import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
    study.add_argument("config", nargs="?", metavar="CONFIG.toml", help="configuration; missing keys use defaults")
    study.add_argument(
        "--out",
        type=os.path.expanduser,  # a shell does not expand --out=~/study
        default="fisherstats-study",
        metavar="DIR",
        help="directory for the results (default: %(default)s)",
    )
    study.add_argument("--seed", type=int, help="overrides the configuration's seed")
    study.add_argument("--resume", action="store_true", help="resume the unfinished study of an earlier run")
    where = study.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="compute in N processes of this machine (extra distributed)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="compute on the dask cluster of this scheduler (extra distributed)")
    study.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")
    commands.add_parser("info", help="print versions, threads and whether a GPU can be used")
    return parser


def _kept(parsed: argparse.Namespace) -> Path:
    """Return the folder of an unfinished study, next to its results."""
    return Path(f"{os.path.abspath(parsed.out)}.unfinished")


def _study(parsed: argparse.Namespace, kept: Path) -> str:
    """Run a study and return the message to print."""
    from fisherstats import study
    from fisherstats.core.validation import stores
    from fisherstats.study.runner import discard

    page = Path(parsed.out) / "report.html"
    if not parsed.resume:
        stores.unfinished(kept)
    elif not stores.begun(kept) and study.finished(parsed.config, out=parsed.out, seed=parsed.seed):
        return f"The study is complete; the report is {page}"
    with _client(parsed) as client:
        tree = study.run(parsed.config, out=parsed.out, seed=parsed.seed, progress=parsed.progress, store=kept, client=client)
    said = f"The report is {page}"
    try:
        left = discard(kept, tree)
    except (OSError, ValueError) as error:
        return f"{said}\n{kept} could not be removed: {error}"
    return f"{said}\n{kept} is no longer needed, but holds {left[0]}, which is not part of it and is kept" if left else said


@contextlib.contextmanager
def _client(parsed: argparse.Namespace) -> Iterator[Any]:
    """Yield None for computation in this process, or a client of the requested cluster."""
    if parsed.workers is None and parsed.scheduler is None:
        yield None
        return
    from fisherstats.core.validation import arguments, clients

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
    # Worker logs are not for the user: relevant errors are returned through the client.
    # Any process that can connect to a cluster's socket can run code in it: all sockets are on the loopback interface.
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
    """Start processes that ignore SIGINT: a terminal sends Ctrl-C to all of them, and this process terminates the others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous if previous is not None else signal.SIG_DFL)


def _info() -> str:
    import platform
    from importlib import metadata

    from threadpoolctl import threadpool_info

    from fisherstats._version import __version__
    from fisherstats.core.arrays import gpu_status

    lines = [f"fisherstats  {__version__}", f"python       {platform.python_version()}"]
    for name in ("numpy", "scipy", "numba", "xarray", "scikit-learn", "matplotlib", "netCDF4", "zarr", "dask"):
        try:
            lines.append(f"{name:<12} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name:<12} not installed")
    lines.append(f"cores        {os.cpu_count()}")
    for library in threadpool_info():
        described = f"{library['internal_api']} {library['version']}, {library['num_threads']} threads"
        lines.append(f"{library['user_api']:<12} {described}")
    usable, reason = gpu_status()
    lines.append(f"gpu          {reason}" if usable else f"gpu          none: {reason}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _open_streams()
    try:
        parsed = _parser().parse_args(arguments)
    except SystemExit as stopped:
        if _not_shown("stdout", "") and not stopped.code:
            raise SystemExit(1) from stopped
        raise
    kept = _kept(parsed) if parsed.command == "study" else None
    try:
        with _heard_interrupts():
            said = _info() if kept is None else _study(parsed, kept)
    except (KeyboardInterrupt, ValueError, TypeError, ArithmeticError, ImportError, OSError, MemoryError, RuntimeError) as error:
        if _was_interrupted(error):
            if kept is not None and kept.exists():
                _not_shown("stderr", f"fisherstats: interrupted; {kept} holds the finished work; rerun with --resume.")
            else:
                _not_shown("stderr", "fisherstats: interrupted; no partial results are left.")
            return _INTERRUPTED
        reason = f"there is not enough memory ({error})" if isinstance(error, MemoryError) else str(error)
        _not_shown("stderr", f"fisherstats: {reason}")
        return 1
    if failure := _not_shown("stdout", said):
        done = "" if kept is None else f"; the study is complete: {said}"
        _not_shown("stderr", f"fisherstats: standard output cannot be written to ({failure}){done}")
        return 1 if kept is None else 0  # the results exist
    _not_shown("stderr", "")
    return 0


@contextlib.contextmanager
def _heard_interrupts() -> Iterator[None]:
    """Interrupt again where Python has dropped an interrupt, as it does in callbacks of weak references and in destructors.

    An import, for one, ends in such a callback, so that one Ctrl-C in a hundred would be lost while libraries are loaded.
    """
    previous = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            previous(dropped)
            return
        # Not at once: the callback has not returned yet, and would drop it as well.
        again = threading.Timer(0.02, _interrupt)
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous


def _interrupt() -> None:
    """Send the main thread an interrupt that ends a waiting call as well."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _open_streams() -> None:
    """Open closed standard descriptors: otherwise a result file could get their number, and the output of libraries."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _not_shown(name: str, text: str) -> str:
    """Write a line to a standard stream, escaping unencodable characters; return the reason of a failure, or ""."""
    stream = getattr(sys, name)
    if stream is None:
        return "it is closed"
    try:
        if text:
            encoding = getattr(stream, "encoding", None) or "utf-8"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except (OSError, ValueError) as error:
        # Data left in its buffer would fail again when Python exits, and change the exit code.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), stream.fileno())
        return str(getattr(error, "strerror", None) or error)
    return ""


def _was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C caused an error; a library interrupted during import reports it as its own failure."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
