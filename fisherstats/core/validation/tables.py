"""Tables of numbers in text files: only unambiguous ones are read; errors name the position and the possible readings.

A table is UTF-8 text (UTF-16 and UTF-32 with a byte order mark), comma-separated, with decimal points, a number in every cell,
and an optional header line of names.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation.arguments import shown

__all__ = ["Table", "read"]

#: byte order marks; the longer ones first, as one is a prefix of another
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+", re.ASCII)
#: "1,05": the second part of a number with a decimal comma, or a number with a leading zero
_PADDED = re.compile(r"(^|,)[+-]?\d+,0\d+(?=,|$)|(^|,)-0,\d", re.ASCII | re.MULTILINE)
#: words that programs write for missing or non-finite values
_WORDS = """
na n/a #n/a #na n.a. n.a <na> nan -nan +nan nat null nil none missing unknown undefined undef void empty true false
inf -inf +inf infinity -infinity +infinity 1.#ind -1.#ind 1.#qnan -1.#qnan 1.#inf -1.#inf
#value! #div/0! #ref! #num! #name? #null!
"""
_NO_VALUE = frozenset(_WORDS.split())


class Table(NamedTuple):
    """The numbers (row, column) of a file, and the names of its columns if its first line holds names."""

    values: NDArray[np.float64]
    names: tuple[str, ...] | None


class _Row(NamedTuple):
    line: int
    cells: list[str]


class _File(NamedTuple):
    """A file under the name of the argument that gave it."""

    argument: str
    path: Path

    def refuse(self, place: str, required: str = "be a readable file of numbers") -> NoReturn:
        raise ValueError(f"`{self.argument}` must {required}, got {shown(self.path)}, {place}.")


def read(name: str, path: Path, header: bool | None = None) -> Table:
    """Return the table in a file; `header` says whether its first line holds names, None detects it."""
    file = _File(name, path)
    text = _text(file, path.read_bytes())
    if '"' in text:
        rows = _quoted_rows(file, text)
        first, rest = rows[0], rows[1:]
    else:
        lines = _lines(file, text)
        first, rest = _Row(1, lines[0].split(",")), None
    named = _names(file, first) if header is None else header
    if named and not first.cells[0].strip() and len(first.cells) > 1:
        file.refuse(
            "in which the first column has no name, as that of row numbers in files of pandas and R: save the table without "
            "them (`index=False`, `row.names=FALSE`), or name the column if it is a feature"
        )
    if rest is not None:
        values = _cell_by_cell(file, rest if named else rows, len(first.cells))
    else:
        values = _all_at_once(file, lines, 1 if named else 0, len(first.cells))
    if not named:
        _one_reading(file, text, first.cells, values, header)
    return Table(values, tuple(cell.strip() for cell in first.cells) if named else None)


def _text(file: _File, data: bytes) -> str:
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        file.refuse(f"which is no text in UTF-8: byte {error.object[error.start]:#04x} in line {line}; save it as UTF-8")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        file.refuse(
            f"which has a NUL character in line {line}: it is not text, or is UTF-16 without a byte order mark; save it as UTF-8"
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n").rstrip()
    if not text:
        file.refuse("which is empty")
    return text


def _lines(file: _File, text: str) -> list[str]:
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            _refuse_blank(file, number)
    return lines


def _refuse_blank(file: _File, line: int) -> NoReturn:
    file.refuse(f"in which line {line} is blank: it can be a row whose values are missing, or nothing; remove it")


def _quoted_rows(file: _File, text: str) -> list[_Row]:
    """Return the rows of a text with quoted cells, which may contain commas and line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[_Row] = []
    try:
        line = 1
        for cells in reader:
            if not cells or (len(cells) == 1 and not cells[0].strip()):
                _refuse_blank(file, line)
            rows.append(_Row(line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        file.refuse(f"whose quotes do not match from line {line} on ({error}); correct them")
    return rows


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None


def _is_name(cell: str) -> bool:
    word = cell.strip().lstrip("#").strip()
    return bool(word) and (word[0].isalpha() or word[0] == "_") and not _lacks_value(word)


def _lacks_value(cell: str) -> bool:
    word = cell.strip().lower()
    return word in _NO_VALUE or not any(character.isalnum() for character in word)


def _names(file: _File, first: _Row) -> bool:
    """Return whether the first line holds names; refuse an ambiguous one."""
    cells = first.cells
    numbers = [_is_number(cell) for cell in cells]
    if all(numbers):
        return False
    column = numbers.index(False)
    if not any(numbers):
        unnamed = len(cells) > 1 and not cells[0].strip() and all(map(_is_name, cells[1:]))
        if unnamed or (any(map(_is_name, cells)) and not any(map(_lacks_value, cells))):
            return True
        column = next(column for column, cell in enumerate(cells) if not _is_name(cell))
    file.refuse(
        f"whose first line can be names, or a row that {_fault(cells[column], column + 1, len(cells))}; set data.header = true "
        "in the configuration if it holds names, or correct the row",
        "be a table with names or numbers in its first line",
    )


def _all_at_once(file: _File, lines: Sequence[str], skipped: int, width: int) -> NDArray[np.float64]:
    if len(lines) == skipped:
        return np.zeros((0, width))
    try:
        values = np.loadtxt(lines[skipped:], delimiter=",", comments=None, ndmin=2)
        if values.shape[1] == width and np.isfinite(values).all():
            return values
        reason = "in which a row differs from the first in its number of cells"
    except ValueError as error:
        reason = f"which cannot be read ({error})"
    _cell_by_cell(file, (_Row(number, line.split(",")) for number, line in enumerate(lines, 1) if number > skipped), width)
    file.refuse(reason)


def _cell_by_cell(file: _File, rows: Sequence[_Row] | Iterator[_Row], width: int) -> NDArray[np.float64]:
    """Return the numbers, or raise an error that names the line and column of the first that is missing."""
    values = []
    for line, cells in rows:
        numbers = [float(cell) if _is_number(cell) else np.nan for cell in cells]
        if len(cells) != width or not np.isfinite(numbers).all():
            # A separator other than a comma changes the number of cells too, and is the more helpful thing to report.
            strange = next((c for c, cell in enumerate(cells) if cell.strip() and not _is_number(cell)), None)
            empty = next((c for c, value in enumerate(numbers) if not np.isfinite(value)), None)
            if len(cells) != width and strange is None:
                file.refuse(f"in which line {line} has {len(cells)} cells and the first line {width}; every row needs the same")
            column = strange if strange is not None else empty
            assert column is not None
            file.refuse(f"in which line {line} {_fault(cells[column], column + 1, len(cells))}")
        values.append(numbers)
    return np.array(values, dtype=np.float64).reshape(len(values), width)


def _fault(cell: str, column: int, width: int) -> str:
    """Describe what is wrong with a cell that holds no finite number, and the remedy."""
    holds = f"has {shown(cell)} in column {column}"
    if not cell.strip():
        end = ": it ends with a comma; remove that in all lines, or give the number" if column == width else "; give the number"
        return f"has an empty cell in column {column}{end}"
    if ";" in cell or "\t" in cell or "|" in cell:
        return f"{holds}, which looks like cells that are not separated by commas: save it with commas and decimal points"
    if _DECIMAL_COMMA.fullmatch(cell.strip()):
        return f"{holds}, with a decimal comma: save it with decimal points"
    if _is_number(cell) or cell.strip().lower().lstrip("+-") in ("inf", "infinity"):
        return f"{holds}, which is not finite: remove or correct it"
    if _lacks_value(cell):
        return f"{holds}, which stands for a missing value: remove the row, or impute it"
    return f"{holds}, which is no number"


def _one_reading(file: _File, text: str, first: list[str], values: NDArray[np.float64], header: bool | None) -> None:
    """Refuse a table without names that can be read in a second way."""
    width = len(first)
    whole = bool((values == np.floor(values)).all())
    if width % 2 == 0 and whole and (found := _PADDED.search(text)):
        line = text[: found.start()].count("\n") + (2 if text[found.start()] == "\n" else 1)
        file.refuse(
            f"in which line {line} ({shown(text.split(chr(10))[line - 1])}) can be {width} whole numbers, or {width // 2} with "
            "decimal commas: write decimal points, or remove the leading zeros"
        )
    counted = [str(number) for number in range(width + 1)]
    cells = [cell.strip() for cell in first]
    if header is None and cells in (counted[:-1], counted[1:]) and (width > 2 or (width == 2 and not whole)):
        file.refuse(
            f"whose first line ({shown(','.join(cells))}) can be numbers of the columns, or a row; set data.header = true in the "
            "configuration if they are numbers of columns, and data.header = false if they are data",
            "be a table with names or numbers in its first line",
        )
