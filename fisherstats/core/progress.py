"""Progress bars: work completed, rate and remaining time."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from fisherstats.core.validation import arguments

__all__ = ["Bar", "progress_bar"]


class Bar:
    """Counts completed items without showing anything."""

    def expect(self, total: int, done: int = 0) -> None:
        """Set the total number of items, and how many were completed before."""

    def begin(self, name: str) -> None:
        """Set the description of the current item."""

    def update(self) -> None:
        """Count one more completed item."""


class _ShownBar(Bar):
    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._name = ""

    def expect(self, total: int, done: int = 0) -> None:
        self._bar.total = total
        self._bar.n = self._bar.initial = done
        self._bar.refresh()

    def begin(self, name: str) -> None:
        if name != self._name:
            self._bar.set_description(name)
        self._name = name

    def update(self) -> None:
        self._bar.update(1)


@contextlib.contextmanager
def progress_bar(total: int | None, shown: bool, unit: str) -> Iterator[Bar]:
    """Show progress out of `total` on the standard error stream, or nothing; None where the total is not known."""
    if not shown:
        yield Bar()
        return
    tqdm = arguments.optional_module("tqdm", extra="study").tqdm
    with tqdm(total=total, unit=unit, leave=False, dynamic_ncols=True, file=_Forgiving(sys.stderr)) as bar:
        yield _ShownBar(bar)


class _Forgiving:
    """A stream that may be closed, full or unable to encode a character: what cannot be written is dropped without an error."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
