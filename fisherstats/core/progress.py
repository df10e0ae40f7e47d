"""Progress bars: how much is done, how fast, and the time that is left."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from fisherstats.core.validation import arguments

__all__ = ["Bar", "progress_bar"]


class Bar:
    """Counts what is done; shows nothing."""

    def expect(self, total: int, done: int = 0) -> None:
        """Say how many there are, and how many of them were done before."""

    def begin(self, name: str) -> None:
        """Say what is computed now."""

    def update(self) -> None:
        """Count one more."""


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
    """Show how many of `total` are done on the standard error stream, or nothing; None where their number is not known."""
    if not shown:
        yield Bar()
        return
    tqdm = arguments.optional_module("tqdm", extra="study").tqdm
    with tqdm(total=total, unit=unit, leave=False, dynamic_ncols=True, file=_Forgiving(sys.stderr)) as bar:
        yield _ShownBar(bar)


class _Forgiving:
    """A stream that may be closed, full or gone, or lack a character: what it cannot show is left out, and nothing ends."""

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
