"""What a training run has seen: one row an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
                raise KeyError(f"history: expected one of {', '.join(self.columns)}, got {key!r}")
            return [row[key] for row in self.rows if key in row]
        return self.rows[key]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __repr__(self) -> str:
        columns = self.columns
        shown = [row for row in self.rows if len(row) == len(columns)] or self.rows
        shown = shown if len(shown) <= 20 else shown[:: -(-len(shown) // 20)]
        lines = ["  ".join(f"{name:>12}" for name in columns)]
        lines += ["  ".join(_cell(row.get(name)) for name in columns) for row in shown]
        return "\n".join(lines)


def _cell(value: float | None) -> str:
    return " " * 12 if value is None else f"{value:12d}" if isinstance(value, int) else f"{value:12.4f}"


def line(row: Row) -> str:
    """A row as one line of a report."""
    return "  ".join(f"{name} {value:5d}" if name == "epoch" else f"{name} {value:.4f}" for name, value in row.items())
