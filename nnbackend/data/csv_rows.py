"""The rows of a CSV file, block by block and strictly: what is wrong is refused, with its line and column."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, compress, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray  # costs 15 ms

MISSING_CELLS = frozenset({"", "NA", "NaN", "nan", "null", "?"})
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
BREAK = re.compile(r"\r\n|\r|\n")
BYTES, CELLS = 1 << 18, 1 << 13  # that are read, and looked at, at once
LONGEST = 1 << 24  # bytes that a line may have


class Block(NamedTuple):
    """Some rows of a table: the line that each starts on, and the cells of each column."""

    lines: Sequence[int]
    columns: list[list[str]]

    def gaps(self, columns: Iterable[int]) -> list[tuple[int, int]]:
        """Row and column of the missing cells of these columns, row by row."""
        gappy = [i for i in columns if not MISSING_CELLS.isdisjoint(self.columns[i])]
        return sorted((row, i) for i in gappy for row, cell in enumerate(self.columns[i]) if cell in MISSING_CELLS)

    def without(self, rows: set[int]) -> Block:
        """All but these rows."""
        keep = [row not in rows for row in range(len(self.lines))]
        return Block([*compress(self.lines, keep)], [[*compress(column, keep)] for column in self.columns])


def read_blocks(path: str, delimiter: str, digest: Any = None) -> tuple[list[str], Iterator[Block]]:
    """The column names, and the rows as they are read, blank lines left out; a `digest` is fed all bytes."""
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"CSV file: expected a delimiter of one character, got {delimiter!r}. Pass ',' or ';'.")
    lines = _Lines(path, digest)
    records = _Records(lines, delimiter)
    top, head = records.take(1)
    if not head:
        raise fault(path, "expected a line of column names and rows, got an empty file. Check the path.")
    names = [name.strip() for name in head[0]]
    rows = max(1, CELLS // len(names))
    first = records.take(rows)
    if len(names) == 1:
        _check_delimiter(path, top[0], lines.head, delimiter)
    _check_names(path, top[0], names)
    if not first[0]:
        raise fault(path, "expected rows below the column names, got none. Check that the file is complete.")
    parts = chain([first], iter(partial(records.take, rows), ([], [])))
    return names, (_block(path, found, cells, len(names), delimiter) for found, cells in parts)


def numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """Decimal numbers, all as `NUMBER` says; None if a cell is anything else."""
    if "".join(cells).encode().translate(None, b"0123456789+-.eE"):
        return None
    try:
        return np.array(list(map(float, cells)), np.float64)  # of these characters it takes what NUMBER takes
    except ValueError:
        return None


def fault(path: str, problem: str, line: int | None = None, column: str | None = None) -> DataError:
    """The error for a place in a file."""
    place = str(path)
    place += f", line {line}" if line is not None else ""
    place += f", column {column!r}" if column is not None else ""
    return DataError(f"{place}: {problem}", row=line, column=column)


def missing_fault(path: str, counts: Mapping[str, int], line: int, column: str, fix: str) -> DataError:
    """The error for missing cells, so many of each column, the first of them at this place."""
    got = f"{sum(counts.values())} ({_listed(counts)})"
    return fault(path, f"expected no missing cells, got {got}. {fix}", line, column)


def no_row_left(path: str, counts: Mapping[str, int]) -> DataError:
    """The error where every row misses a cell."""
    return fault(path, f"expected a row without missing cells, got none ({_listed(counts)}). Leave out a column.")


def features_of(
    path: str, names: Sequence[str], target: str | Iterable[str], features: Iterable[str] | None
) -> list[str]:
    """The names of the features: all columns but the target, unless they are given. DataError for wrong ones."""
    targets = _as_list(target)
    chosen = [name for name in names if name not in targets] if features is None else _as_list(features)
    for role, wanted in (("target", targets), ("features", chosen)):
        if not wanted:
            raise fault(path, f"expected at least one column for {role}=, got none. Name some of {list(names)}.")
        for name in wanted:
            if name not in names:
                known = ", ".join(map(repr, names))
                problem = f"expected columns for {role}= among {known}, got {name!r}. Check the name."
                raise fault(path, problem, column=name)
        if twice := [name for name, n in Counter(wanted).items() if n > 1]:
            raise fault(path, f"expected each column once in {role}=, got {twice[0]!r} again.", column=twice[0])
    if both := [name for name in chosen if name in targets]:
        problem = f"expected features without the target, got {both[0]!r} among them. Leave it out of features=."
        raise fault(path, problem, column=both[0])
    return chosen


def _as_list(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name!r} {n}" for name, n in counts.items())


class _Lines:
    """The lines of a UTF-8 file without NUL, with their ends; only some of them are in memory."""

    def __init__(self, path: str, digest: Any) -> None:
        self.path, self.digest = path, digest
        self.number = self.offset = 0  # of the last line, and in bytes where the next one starts
        self.starts: list[int] = []  # of the lines since somebody cleared it, in bytes
        self.head: list[str] = []  # the first two that are not blank

    def __iter__(self) -> Iterator[str]:
        rest = b""
        for block in self._blocks():
            *lines, rest = (rest + block).splitlines(keepends=True)  # the last one may go on in the next block
            yield from map(self._text, lines)
            if len(rest) > LONGEST:
                problem = f"expected lines of at most {LONGEST} bytes, got a longer one at byte offset {self.offset}"
                raise fault(self.path, f"{problem}. Check that it is a CSV file.", self.number + 1)
        if rest:
            yield self._text(rest)

    def _blocks(self) -> Iterator[bytes]:
        if os.path.isdir(self.path):
            raise fault(self.path, "expected a file, got a folder. Add the name of the file.")
        try:
            with open(self.path, "rb") as file:
                while block := file.read(BYTES):
                    if self.digest is not None:
                        self.digest.update(block)
                    yield block
        except OSError as error:
            got = f"'{error.strerror}'. Check the path, seen from {os.getcwd()}."
            raise fault(self.path, f"expected a file that can be read, got {got}") from error

    def _text(self, line: bytes) -> str:
        self.number += 1
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            got = f"byte 0x{line[error.start]:02x} at byte offset {self.offset + error.start}"
            problem = f"expected UTF-8 text, got {got}. Save the file as UTF-8."
            raise fault(self.path, problem, self.number) from error
        if "\0" in text:
            got = f"a NUL byte at byte offset {self.offset + line.index(0)}"
            problem = f"expected text, got {got}. Check that the file is whole and is a CSV file."
            raise fault(self.path, problem, self.number)
        self.starts.append(self.offset)
        self.offset += len(line)
        if self.number == 1:
            text = text.removeprefix("\ufeff")
        if len(self.head) < 2 and text.strip():
            self.head.append(text)
        return text


class _Records:
    """Records with the line that each starts on, blank lines left out."""

    def __init__(self, lines: _Lines, delimiter: str) -> None:
        self._lines = lines
        self._reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)

    def take(self, n: int) -> tuple[Sequence[int], list[list[str]]]:
        """So many records, or what is left; both are empty at the end."""
        rows: list[list[str]] = []
        while not any(rows):
            first, rows = self._lines.number + 1, []
            self._lines.starts.clear()
            try:
                rows.extend(islice(self._reader, n))
            except csv.Error as error:
                raise self._fault(error, first, sum(map(_height, rows))) from error
            if not rows:
                return [], []
        if all(rows) and len(rows) == self._lines.number + 1 - first:
            return range(first, first + len(rows)), rows
        lines = accumulate(map(_height, rows), initial=first)
        return [line for line, row in zip(lines, rows, strict=False) if row], [row for row in rows if row]

    def _fault(self, error: csv.Error, first: int, before: int) -> DataError:
        if "end of data" in str(error):
            problem = "expected a closing quote, got the end of the file. Close the quote opened in this row."
        elif "field limit" in str(error):
            most = f"fields of at most {csv.field_size_limit()} characters"
            where = f"a longer one in the row at byte offset {self._lines.starts[before]}"
            problem = f"expected {most}, got {where}. Look for a quote that is never closed."
        else:
            problem = (
                f"expected quotes around whole fields, got a stray quote ({error}). Correct the quotes in this row."
            )
        return fault(self._lines.path, problem, first + before)


def _height(row: list[str]) -> int:
    """How many lines a record takes."""
    return 1 + sum(len(BREAK.findall(cell)) for cell in row)


def _block(path: str, lines: Sequence[int], rows: list[list[str]], count: int, delimiter: str) -> Block:
    """Columns, without the spaces around cells; no row may have more or fewer cells than there are columns."""
    if {*map(len, rows)} != {count}:
        line, got = next((n, len(row)) for n, row in zip(lines, rows, strict=True) if len(row) != count)
        problem = f"expected as many fields as column names, {count}, got {got}. "
        raise fault(path, f"{problem}Add or remove a {delimiter!r}, or quote the field with one in it.", line)
    cells = [*chain.from_iterable(rows)]
    text = "".join(cells)
    if text.split() != [text]:
        cells = [cell.strip() for cell in cells]
    return Block(lines, [cells[i::count] for i in range(count)])


def _check_delimiter(path: str, top: int, head: list[str], delimiter: str) -> None:
    """Refuse one column where another delimiter would make more."""
    lines = [line[:1000].strip("\r\n") for line in head]
    for other in ",;\t|":
        if other != delimiter and all(len(next(csv.reader([line], delimiter=other))) > 1 for line in lines):
            problem = f"expected columns split by {delimiter!r}, got 1 column found; did you mean delimiter={other!r}?"
            raise fault(path, problem, top)


def _check_names(path: str, line: int, names: list[str]) -> None:
    """Refuse names that are empty or used twice."""
    wrong = [f"{name!r} {n} times" for name, n in Counter(names).items() if name and n > 1]
    wrong += [f"no name for column {i}" for i, name in enumerate(names, 1) if not name]
    if wrong:
        problem = f"expected a different name for each column, got {', '.join(wrong)}. Correct the first line."
        raise fault(path, problem, line)
