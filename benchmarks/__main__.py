"""`python -m benchmarks [--only w1 w3] [--sizes tiny|full] [--repeat 5] [--write]`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import table
from benchmarks.harness import Row, measure

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "benchmarks.md"
NAMES = [*sorted(path.stem for path in FOLDER.glob("w[0-9]*.py")), "scale", "startup"]


def rows(names: Sequence[str], size: str, rounds: int) -> Iterator[Row]:
    """Measure the cases of some workloads."""
    for name in names:
        for case in importlib.import_module(f"benchmarks.{name}").cases(size):
            yield measure(case, rounds, size)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a line per row as it comes and then the table; with --write also the page of the documentation."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    short = {name.partition("_")[0]: name for name in NAMES}
    parser.add_argument("--only", nargs="+", choices=list(short), default=list(short))
    parser.add_argument("--sizes", choices=["tiny", "full"], default="full")
    parser.add_argument("--repeat", type=int, default=5, help="rounds in which every call has its turns")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    chosen = parser.parse_args(arguments)
    found = []
    for row in rows([short[one] for one in chosen.only], chosen.sizes, chosen.repeat):
        found.append(row)
        print(" | ".join(table.cells(row, table.rates(found))), file=sys.stderr, flush=True)
    print(table.page(found))
    if chosen.write:
        PAGE.write_text(table.page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
