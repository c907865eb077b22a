"""Tables from CSV files, read strictly: what is wrong is refused, with its line and column."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray  # costs 15 ms

Missing = Literal["error", "mean", "drop"]
MISSING_CELLS = frozenset({"", "NA", "NaN", "nan", "null", "?"})
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class Table:
    """Columns of equal length by name: float64 for numbers, str for anything else."""

    def __init__(self, columns: dict[str, NDArray[Any]], lines: Sequence[int], path: str) -> None:
        self._columns = columns
        self._lines = lines  # of the file, one for each row: for messages
        self._path = path

    @property
    def names(self) -> list[str]:
        """The names of the columns, in the file's order."""
        return list(self._columns)

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._columns:
            known = ", ".join(map(repr, self._columns))
            raise _fault(self._path, f"expected a column among {known}, got {name!r}. Check the name.", column=name)
        return self._columns[name]

    def matrix(self, names: Iterable[str]) -> NDArray[np.float64]:
        """Numeric columns side by side, (rows, columns); `DataError` for a column that is not numeric."""
        names = [names] if isinstance(names, str) else list(names)
        result = np.empty((len(self), len(names)))
        for i, name in enumerate(names):
            column = self[name]
            if column.dtype.kind != "f":
                cells = zip(self._lines, column.tolist(), strict=True)
                line, cell = next(((n, c) for n, c in cells if not NUMBER.fullmatch(c)), (self._lines[0], column[0]))
                problem = f"expected a column of numbers, got {str(cell)!r}. Encode the column, or leave it out."
                raise _fault(self._path, problem, line, name)
            result[:, i] = column
        return result

    def __repr__(self) -> str:
        shown = []
        for name in self.names[:8]:
            column = self[name]
            cells = [name, *map(_short, column[:5])]
            width = max(map(len, cells))
            shown.append([c.rjust(width) if column.dtype.kind == "f" else c.ljust(width) for c in cells])
        body = ["  ".join(row).rstrip() for row in zip(*shown, strict=True)]
        hidden = ", the first 8 shown" if len(self._columns) > 8 else ""
        title = f"Table (rows: {len(self)}, columns: {len(self._columns)}{hidden})"
        return "\n".join([title, *body, *(["..."] if len(self) > 5 else [])])


def read_csv(
    path: str | PathLike[str], *, delimiter: str = ",", missing: Missing = "error", text: Iterable[str] = ()
) -> Table:
    """Read a table whose first line names the columns; every fault is a `DataError` with its line.

    A column of decimal numbers becomes float64, any other str. Blank lines and spaces around cells do not count.
    Missing cells (empty, NA, NaN, nan, null, ?) are refused, replaced by the "mean" of their column, or "drop"
    their row. Columns named in `text` are taken as they stand: no numbers, nothing missing.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"read_csv: expected a delimiter of one character, got {delimiter!r}. Pass ',' or ';'.")
    if missing not in get_args(Missing):
        raise ValueError(f"read_csv: expected missing='error', 'mean' or 'drop', got {missing!r}. Choose one.")
    path = fspath(path)
    names, lines, rows = _cells(path, delimiter)
    text = [text] if isinstance(text, str) else list(text)
    for name in text:
        if name not in names:
            raise _fault(path, f"expected columns for text= among {names}, got {name!r}. Check the name.", column=name)
    values = [name not in text for name in names]
    if missing != "mean":
        lines, rows = _without_missing(path, names, values, lines, rows, drop=missing == "drop")
    columns = {
        name: _column(path, name, lines, cells) if value else np.array(cells, dtype=np.str_)
        for name, value, cells in zip(names, values, zip(*rows, strict=True), strict=True)
    }
    return Table(columns, lines, path)


def _fault(path: str, problem: str, line: int | None = None, column: str | None = None) -> DataError:
    """The error for a place in a file."""
    place = str(path)
    place += f", line {line}" if line is not None else ""
    place += f", column {column!r}" if column is not None else ""
    return DataError(f"{place}: {problem}", row=line, column=column)


def _short(cell: Any) -> str:
    """A cell as `repr` shows it, on one line."""
    word = f"{cell:.6g}" if isinstance(cell, float) else " ".join(cell.split())
    return word if len(word) <= 20 else f"{word[:17]}..."


def _cells(path: str, delimiter: str) -> tuple[list[str], list[int], list[list[str]]]:
    """Column names; for each row its first line and its cells."""
    raw, content = _read(path)
    records = list(_records(path, raw, content, delimiter))
    if not records:
        raise _fault(path, "expected a line of column names and rows, got an empty file. Check the path.")
    (top, names), *body = records
    if len(names) == 1:
        _check_delimiter(path, top, content, delimiter)
    _check_names(path, top, names)
    if not body:
        raise _fault(path, "expected rows below the column names, got none. Check that the file is complete.")
    for line, cells in body:
        if len(cells) != len(names):
            problem = f"expected as many fields as column names, {len(names)}, got {len(cells)}. "
            raise _fault(path, f"{problem}Add or remove a {delimiter!r}, or quote the field with one in it.", line)
    return names, [line for line, _ in body], [cells for _, cells in body]


def _read(path: str) -> tuple[bytes, str]:
    """The bytes and the text of a file that is UTF-8 without NUL."""
    if os.path.isdir(path):
        raise _fault(path, "expected a file, got a folder. Add the name of the file.")
    try:
        with open(path, "rb") as file:
            raw = file.read()
        content = raw.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        problem = f"expected a file that can be read, got '{error.strerror}'. Check the path, seen from {os.getcwd()}."
        raise _fault(path, problem) from error
    except UnicodeDecodeError as error:
        got = f"byte 0x{raw[error.start]:02x} at byte offset {error.start}"
        problem = f"expected UTF-8 text, got {got}. Save the file as UTF-8."
        raise _fault(path, problem, _line(raw, error.start)) from error
    if (nul := raw.find(b"\0")) >= 0:
        problem = f"expected text, got a NUL byte at byte offset {nul}. Check that the file is whole and is a CSV file."
        raise _fault(path, problem, _line(raw, nul))
    return raw, content


def _line(raw: bytes, offset: int) -> int:
    """The line of a byte."""
    return len((raw[:offset] + b".").splitlines())


def _records(path: str, raw: bytes, content: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, with the line it starts on."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1
    except csv.Error as error:
        if "end of data" in str(error):
            problem = "expected a closing quote, got the end of the file. Close the quote opened in this row."
        elif "field limit" in str(error):
            offset = sum(map(len, raw.splitlines(keepends=True)[: line - 1]))
            most = f"fields of at most {csv.field_size_limit()} characters"
            where = f"a longer one in the row at byte offset {offset}"
            problem = f"expected {most}, got {where}. Look for a quote that is never closed."
        else:
            problem = (
                f"expected quotes around whole fields, got a stray quote ({error}). Correct the quotes in this row."
            )
        raise _fault(path, problem, line) from error


def _check_delimiter(path: str, top: int, content: str, delimiter: str) -> None:
    """Refuse one column where another delimiter would make more."""
    head = [line[:1000] for line in io.StringIO(content, newline=None) if line.strip()][:2]
    for other in ",;\t|":
        if other != delimiter and all(len(next(csv.reader([line], delimiter=other))) > 1 for line in head):
            problem = f"expected columns split by {delimiter!r}, got 1 column found; did you mean delimiter={other!r}?"
            raise _fault(path, problem, top)


def _check_names(path: str, line: int, names: list[str]) -> None:
    """Refuse names that are empty or used twice."""
    wrong = [f"{name!r} {n} times" for name, n in Counter(names).items() if name and n > 1]
    wrong += [f"no name for column {i}" for i, name in enumerate(names, 1) if not name]
    if wrong:
        problem = f"expected a different name for each column, got {', '.join(wrong)}. Correct the first line."
        raise _fault(path, problem, line)


def _without_missing(
    path: str, names: list[str], values: list[bool], lines: list[int], rows: list[list[str]], *, drop: bool
) -> tuple[list[int], list[list[str]]]:
    """The rows that miss no value, all of them unless `drop`."""
    gaps = [
        (i, name)
        for i, row in enumerate(rows)
        for name, value, cell in zip(names, values, row, strict=True)
        if value and cell in MISSING_CELLS
    ]
    if not gaps:
        return lines, rows
    counts = Counter(name for _, name in gaps)
    listed = ", ".join(f"{name!r} {n}" for name, n in counts.items())
    if not drop:
        i, name = gaps[0]
        problem = f"expected no missing cells, got {len(gaps)} ({listed}). Pass missing='drop' or missing='mean'."
        raise _fault(path, problem, lines[i], name)
    whole = sorted(set(range(len(rows))).difference(i for i, _ in gaps))
    if not whole:
        raise _fault(path, f"expected a row without missing cells, got none ({listed}). Leave out a column.")
    return [lines[i] for i in whole], [rows[i] for i in whole]


def _column(path: str, name: str, lines: list[int], cells: Sequence[str]) -> NDArray[Any]:
    """Numbers if the cells are numbers, missing ones as the mean; otherwise str."""
    gaps = [i for i, cell in enumerate(cells) if cell in MISSING_CELLS]
    words = [i for i, cell in enumerate(cells) if cell not in MISSING_CELLS and not NUMBER.fullmatch(cell)]
    numbers = len(cells) - len(gaps) - len(words)
    if words and numbers >= len(words):
        got = f"expected a number (the column has {numbers} of them), got {cells[words[0]]!r}"
        raise _fault(path, f"{got}. Correct the cell, or pass text=[{name!r}].", lines[words[0]], name)
    if gaps and (words or not numbers):
        got = f"expected numbers to take the mean of, got none or text, and {len(gaps)} of {len(cells)} cells missing"
        raise _fault(path, f"{got}. Pass missing='drop' or text=[{name!r}].", lines[gaps[0]], name)
    if words:
        return np.array(cells, dtype=np.str_)
    values = np.array([np.nan if cell in MISSING_CELLS else float(cell) for cell in cells])
    if np.isinf(values).any():
        i = int(np.isinf(values).argmax())
        raise _fault(path, f"expected a finite number, got {cells[i]!r}. Correct the cell.", lines[i], name)
    if gaps:
        values[gaps] = np.nanmean(values)
    return values
