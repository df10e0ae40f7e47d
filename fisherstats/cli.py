"""The command line: ``fisherstats study`` and ``fisherstats info``.

Exit codes: 0 done, 1 the request was refused or failed (the reason is one line on stderr), 2 the command line could not
be read, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

_INTERRUPTED = 130


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
        "--out", default="fisherstats-study", metavar="DIR", help="directory for the results (default: %(default)s)"
    )
    study.add_argument("--seed", type=int, help="overrides the configuration's seed")
    study.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")
    commands.add_parser("info", help="print versions, threads and whether a GPU can be used")
    return parser


def _study(arguments: argparse.Namespace) -> None:
    from fisherstats import study

    study.run(arguments.config, out=arguments.out, seed=arguments.seed, progress=arguments.progress)
    print(f"The report is {Path(arguments.out) / 'report.html'}")


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
    except (KeyboardInterrupt, ValueError, TypeError, ImportError, OSError) as error:
        if _was_interrupted(error):
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
