"""What a training run has seen: one row an epoch."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .. import plots
from ..io.atomic import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, float]


class History:
    """Rows by epoch: `history["loss"]` is a column, `history[-1]` a row, `print(history)` a table.

    Every row has `epoch` and `loss`; metrics and validation are in the rows of reported epochs.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def append(self, row: Row) -> None:
        """Add the row of an epoch."""
        self.rows.append(row)

    @property
    def columns(self) -> list[str]:
        """All names that occur, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, key: int | str) -> Any:
        """A row by number, or a column by name (of the rows that have it)."""
        if isinstance(key, str):
            if key not in self.columns:
                known = f"one of {', '.join(self.columns)}" if self.columns else "no column before a fit"
                raise KeyError(f"history: expected {known}, got {key!r}")
            return [row[key] for row in self.rows if key in row]
        return self.rows[key]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def best(self, name: str, mode: str = "min") -> Row:
        """The row with the lowest value of a column, or with `mode="max"` the highest; the first of several.

        KeyError for an unknown name, ValueError if the column has no numbers.
        """
        if mode not in ("min", "max"):
            raise ValueError(f'best: expected mode "min" or "max", got {mode!r}.')
        found = [row for row in self.rows if isinstance(v := row.get(name), int | float) and not math.isnan(v)]
        if not found:
            raise ValueError(f"best: expected numbers in {name!r}, got {self[name]}.")
        return (min if mode == "min" else max)(found, key=lambda row: row[name])

    def to_dict(self) -> dict[str, list[Any]]:
        """The columns by name, with None where a row has no value: what `pandas.DataFrame` takes."""
        return {name: [row.get(name) for row in self.rows] for name in self.columns}

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with a header, whole or not at all; numbers so that they read back to the bit."""
        import csv
        import io

        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(self.columns)
        table.writerows([row.get(name) for name in self.columns] for row in self.rows)
        replace_file(path, [text.getvalue().encode()])

    def plot(self, names: Sequence[str] | None = None) -> Figure:
        """Learning curves as a figure of matplotlib, see `nb.plots.history`."""
        return plots.history(self, names)

    def chart(self, width: int = 72, height: int = 12, names: Sequence[str] | None = None) -> str:
        """Learning curves as text, see `nb.plots.chart`."""
        return plots.chart(self, width, height, names)

    def _shown(self) -> list[Row]:
        """Some twenty rows, whole ones if there are any."""
        columns = self.columns
        shown = [row for row in self.rows if len(row) == len(columns)] or self.rows
        return shown if len(shown) <= 20 else shown[:: -(-len(shown) // 20)]

    def __repr__(self) -> str:
        columns = self.columns
        lines = ["  ".join(f"{name:>12}" for name in columns)]
        lines += ["  ".join(f"{_cell(row.get(name)):>12}" for name in columns) for row in self._shown()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        columns = self.columns
        rows = [[html.escape(_cell(row.get(name))) for name in columns] for row in self._shown()]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:d}"
    return "" if value is None else _number(value)


def _number(value: Any) -> str:
    """Four places behind the point, where they say something."""
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:.4f}" if value == 0 or 5e-5 <= abs(value) < 1e6 else f"{value:.3g}"


def line(row: Row) -> str:
    """A row as one line of a report."""
    return "  ".join(
        f"{name} {value:5d}" if name == "epoch" else f"{name} {_number(value)}" for name, value in row.items()
    )
