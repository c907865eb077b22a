"""A row an epoch in a text file: CSV, or JSON lines."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from abc import abstractmethod
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..io.atomic import replace_file
from ..train.history import History, Row
from .files import Log, prepare

Read = dict[str, Any]  # a row as it was read


class RowLog(Log):
    """Base of logs of one file. Every row is on the disk when the epoch is over.

    A new run starts the file anew, or with `append` goes on below what is there. A run that goes on where it stood
    keeps the rows that are in its history and cuts those that it is going to write again (with `append` not those of
    the first epoch, which nothing tells from another run's). CheckpointWriteError before training begins if the file
    cannot be written, DataError if what is to stay in it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path, self.append_to = Path(path), append

    def on_fit_begin(self, trainer: Any) -> None:
        """Put the file where the run stands."""
        prepare(self.path)
        kept: list[Read] = []
        if self.path.exists() and (self.append_to or len(trainer.history)):
            kept = _kept(self._read(), trainer.history, self.append_to)
        self._replace(kept)

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """Write it."""
        self.append(self.path, self._line(row).encode())

    def _replace(self, rows: list[Read]) -> None:
        replace_file(self.path, [self._text(rows).encode()])

    def _read(self) -> list[Read]:
        """The whole lines of the file; one that was being written when a process died does not count."""
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
            return list(self._rows([line + "\n" for line in lines]))
        except ValueError as error:
            raise DataError(
                f"{self.path}: expected the log of a run, to go on with, got {error}. Choose another file."
            ) from error

    @abstractmethod
    def _rows(self, lines: list[str]) -> Iterable[Read]:
        """The rows in some lines. ValueError if they are something else."""

    @abstractmethod
    def _line(self, row: Read) -> str:
        """A row in this form."""

    def _text(self, rows: list[Read]) -> str:
        """A whole file."""
        return "".join(map(self._line, rows))


class JSONLogger(RowLog):
    """One JSON object a line and epoch; what is not finite is null. See `RowLog` for what `append` and resuming do."""

    def _rows(self, lines: list[str]) -> Iterable[Read]:
        for line in lines:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"the line {line.strip():.40}")
            yield row

    def _line(self, row: Read) -> str:
        return json.dumps({name: _finite(value) for name, value in row.items()}, default=str) + "\n"


class CSVLogger(RowLog):
    """A table with a header; a name that comes later gets a column. See `RowLog` for what `append` and resuming do."""

    _columns: tuple[str, ...] = ()

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """Write it; the whole file anew if there is a new column."""
        if set(row) <= set(self._columns):
            super().on_epoch_end(trainer, row)
            return
        before = self._columns
        try:
            self._replace([*self._read(), dict(row)])
        except (OSError, DataError) as error:  # a DataError: somebody else has written there
            self._columns = before
            self.warn(self.path, error)

    def _rows(self, lines: list[str]) -> Iterable[Read]:
        table = csv.reader(lines, strict=True)
        try:
            header = next(table, [])
            for cells in table:
                if len(cells) != len(header):
                    raise ValueError(f"{len(cells)} cells for {len(header)} columns in line {table.line_num}")
                yield dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise ValueError(str(error)) from error

    def _line(self, row: Read) -> str:
        return _cells([row.get(name) for name in self._columns])

    def _text(self, rows: list[Read]) -> str:
        self._columns = tuple(dict.fromkeys(name for row in rows for name in row))
        return _cells(self._columns) + super()._text(rows) if rows else ""


def _finite(value: Any) -> Any:
    """As JSON can say it: numbers of array libraries as Python's."""
    value = value if isinstance(value, int) or not isinstance(value, Real) else float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cells(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _kept(rows: list[Read], history: History, append: bool) -> list[Read]:
    """The rows that are in the history; with `append` also those of runs before, which end where epochs begin anew."""
    known = {(row["epoch"], row["loss"]) for row in history}
    keys = [_key(row) for row in rows]
    start = len(rows)
    while start > 0 and (start == len(rows) or keys[start - 1][0] < keys[start][0]):
        start -= 1
    last = [row for row, key in zip(rows[start:], keys[start:], strict=True) if key in known]
    if not append:
        return [row for row, key in zip(rows, keys, strict=True) if key in known]
    return [*rows[:start], *last] if last else rows


def _key(row: Read) -> tuple[float, float]:
    """Which epoch of which run it is: two runs hardly have the same losses."""
    try:
        return float(row["epoch"]), float(row["loss"])
    except (KeyError, TypeError, ValueError):
        return math.inf, math.nan
