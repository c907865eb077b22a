"""Tables from CSV files, read strictly: what is wrong is refused, with its line and column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from .csv_rows import MISSING_CELLS, NUMBER, Block, fault, features_of, missing_fault, no_row_left, numbers, read_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray  # costs 15 ms

Missing = Literal["error", "mean", "drop"]


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
            raise fault(self._path, f"expected a column among {known}, got {name!r}. Check the name.", column=name)
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
                raise fault(self._path, problem, line, name)
            result[:, i] = column
        return result

    def xy(
        self, target: str | Iterable[str], features: Iterable[str] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Features X (rows, columns) and the target y (rows,), or (rows, targets) for a list of names.

        A target of text comes as str; features are all other columns unless named. DataError for features of text.
        """
        target = target if isinstance(target, str) else list(target)
        names = features_of(self._path, self.names, target, features)
        words = [repr(name) for name in names if self[name].dtype.kind != "f"]
        if words:
            fix = "Name the numeric ones in features=, or encode these with data.OneHotEncoder."
            raise fault(self._path, f"expected features of numbers, got text in {', '.join(words)}. {fix}")
        return self.matrix(names), self[target] if isinstance(target, str) else self.matrix(target)

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
    if missing not in get_args(Missing):
        raise ValueError(f"read_csv: expected missing='error', 'mean' or 'drop', got {missing!r}. Choose one.")
    path = fspath(path)
    names, blocks = read_blocks(path, delimiter)
    table = _joined(blocks)
    text = [text] if isinstance(text, str) else list(text)
    for name in text:
        if name not in names:
            raise fault(path, f"expected columns for text= among {names}, got {name!r}. Check the name.", column=name)
    if missing != "mean":
        table = _without_missing(path, names, table, text, drop=missing == "drop")
    columns = {
        name: np.array(cells, dtype=np.str_) if name in text else _column(path, name, table.lines, cells)
        for name, cells in zip(names, table.columns, strict=True)
    }
    return Table(columns, table.lines, path)


def _short(cell: Any) -> str:
    """A cell as `repr` shows it, on one line."""
    word = f"{cell:.6g}" if isinstance(cell, float) else " ".join(cell.split())
    return word if len(word) <= 20 else f"{word[:17]}..."


def _joined(blocks: Iterable[Block]) -> Block:
    """All blocks as one."""
    parts = [*blocks]
    columns = zip(*(part.columns for part in parts), strict=True)
    return Block([*chain(*(part.lines for part in parts))], [[*chain(*pieces)] for pieces in columns])


def _without_missing(path: str, names: list[str], table: Block, text: list[str], *, drop: bool) -> Block:
    """The rows that miss no value, all of them unless `drop`."""
    gaps = table.gaps(i for i, name in enumerate(names) if name not in text)
    if not gaps:
        return table
    counts = Counter(names[i] for _, i in gaps)
    if not drop:
        row, i = gaps[0]
        raise missing_fault(path, counts, table.lines[row], names[i], "Pass missing='drop' or missing='mean'.")
    whole = table.without({row for row, _ in gaps})
    if not whole.lines:
        raise no_row_left(path, counts)
    return whole


def _column(path: str, name: str, lines: Sequence[int], cells: Sequence[str]) -> NDArray[Any]:
    """Numbers if the cells are numbers, missing ones as the mean; otherwise str."""
    values = numbers(cells)
    gaps: list[int] = []
    if values is None:
        gaps = [i for i, cell in enumerate(cells) if cell in MISSING_CELLS]
        words = [i for i, cell in enumerate(cells) if cell not in MISSING_CELLS and not NUMBER.fullmatch(cell)]
        count = len(cells) - len(gaps) - len(words)
        if words and count >= len(words):
            got = f"expected a number (the column has {count} of them), got {cells[words[0]]!r}"
            raise fault(path, f"{got}. Correct the cell, or pass text=[{name!r}].", lines[words[0]], name)
        if gaps and (words or not count):
            got = f"got none or text, and {len(gaps)} of {len(cells)} cells missing"
            problem = f"expected numbers to take the mean of, {got}. Pass missing='drop' or text=[{name!r}]."
            raise fault(path, problem, lines[gaps[0]], name)
        if words:
            return np.array(cells, dtype=np.str_)
        values = np.array([np.nan if cell in MISSING_CELLS else float(cell) for cell in cells])
    if np.isinf(values).any():
        i = int(np.isinf(values).argmax())
        raise fault(path, f"expected a finite number, got {cells[i]!r}. Correct the cell.", lines[i], name)
    if gaps:
        values[gaps] = np.nanmean(values)
    return values
