"""Histories and tables as series of numbers, sorted into panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple


class Series(NamedTuple):
    """A named curve: `y` over `x`, at the places where there is a value. NaN and infinity are gaps in it."""

    name: str
    x: list[float]
    y: list[float]

    @property
    def finite(self) -> list[float]:
        """The values that can be drawn."""
        return [v for v in self.y if math.isfinite(v)]


def series(history: Any, names: Sequence[str] | None = None) -> dict[str, Series]:
    """The columns of numbers of a History, a list of rows, or a dict of columns, over its column `epoch` or 1, 2, 3...

    None and text are no values. `names` are one or several; without, all columns with a finite value. ValueError if
    there is nothing to draw, KeyError for an unknown name.
    """
    table = columns(history)
    epochs = [_number(v) for v in table.get("epoch", ())]
    found = {}
    for name in table if names is None else [names] if isinstance(names, str) else names:
        if name not in table:
            raise KeyError(f"plots: expected one of {', '.join(table)}, got {name!r}")
        if name == "epoch" and names is None:
            continue
        values = [_number(v) for v in table[name]]
        x = epochs if len(epochs) == len(values) and None not in epochs else range(1, len(values) + 1)
        here = [(float(i), v) for i, v in zip(x, values, strict=True) if i is not None and v is not None]
        one = Series(name, [i for i, _ in here], [v for _, v in here])
        if one.finite:
            found[name] = one
        elif names is not None:
            raise ValueError(f"plots: expected numbers in {name!r}, got none. Choose other names.")
    if not found:
        raise ValueError("plots: expected a history with numbers, got none. Call fit first.")
    return found


def columns(history: Any) -> dict[str, list[Any]]:
    """Its columns by name, in order of appearance, with None where a row has no value."""
    if isinstance(history, Mapping):
        return {str(name): list(values) for name, values in history.items()}
    rows = list(history)
    if not all(isinstance(row, Mapping) for row in rows):
        raise TypeError(f"plots: expected a History, rows or a dict of columns, got {type(history).__name__}.")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def grouped(found: Mapping[str, Series]) -> dict[str, list[Series]]:
    """Series that belong in one panel: `loss` with `val_loss`, each metric with its own validation; losses first."""
    groups: dict[str, list[Series]] = {}
    for name, one in found.items():
        groups.setdefault(name.removeprefix("val_"), []).append(one)
    return dict(sorted(groups.items(), key=lambda group: group[0] != "loss"))


def spans_decades(group: Sequence[Series]) -> bool:
    """Whether the values are best seen on a logarithmic scale: positive, over two decades or more."""
    values = [v for one in group for v in one.finite]
    return min(values) > 0 and max(values) >= 100 * min(values)


def best(found: Mapping[str, Series]) -> tuple[Series, int] | None:
    """The series that says which epoch was the best (val_loss, else loss), and the place in it; None if neither is."""
    for name in ("val_loss", "loss"):
        if name in found:
            y = found[name].y
            return found[name], min((i for i, v in enumerate(y) if math.isfinite(v)), key=y.__getitem__)
    return None


def _number(value: Any) -> float | None:
    if not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
