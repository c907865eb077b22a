"""Curves in a terminal, in characters."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from .columns import Series, grouped, series, spans_decades

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row and column
DASHES = (0b111111111111, 0b010101010101, 0b000000111111, 0b000100010001)  # which of twelve dots on its way are drawn
LETTERS = "*o+x#@%&"


def chart(
    history: Any,
    width: int = 72,
    height: int = 12,
    names: Sequence[str] | None = None,
    ascii: bool | None = None,
) -> str:
    """Curves as text: `print(nb.plots.chart(trainer.history))`, loss and val_loss in one chart, metrics in others.

    `history` is a History, a list of rows, or a dict of columns, of which `names` chooses some; each chart is so many
    characters wide and lines high. Logarithmic as in `plots.history`. Without `ascii` braille is used where the
    standard output knows it. ValueError for less than 30 characters or 3 lines, and as `plots.history`.
    """
    if width < 30 or height < 3:
        raise ValueError(f"chart: expected width >= 30 and height >= 3, got {width} and {height}.")
    plain = _must_be_plain() if ascii is None else ascii
    groups = grouped(series(history, names))
    return "\n\n".join("\n".join(_panel(name, group, width, height, plain)) for name, group in groups.items())


def _must_be_plain() -> bool:
    try:
        "⣿│".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def _panel(title: str, group: list[Series], width: int, height: int, plain: bool) -> list[str]:
    scale = math.log10 if spans_decades(group) else float
    values = [scale(v) for one in group for v in one.finite]
    low, high = min(values), max(values)
    if low == high:
        low, high = low - max(abs(low), 1.0) / 2, high + max(abs(high), 1.0) / 2
    first, last = min(one.x[0] for one in group), max(one.x[-1] for one in group)
    ticks = {row: high - (high - low) * row / (height - 1) for row in _spread(height, max(2, (height + 3) // 4))}
    marks = {row: _short(10**v if scale is math.log10 else v) for row, v in ticks.items()}
    gutter = max(map(len, marks.values()))
    keys = [_key(k, one.name, plain, width // 2 - 5) for k, one in enumerate(group)]
    inner = width - gutter - 3 - max(7, *map(len, keys))
    fine = (1, 1) if plain else (2, 4)
    canvas = _Canvas(inner, height, plain)
    ends = []
    for k, one in enumerate(group):
        points = [
            ((x - first) / ((last - first) or 1) * (inner * fine[0] - 1),
             (high - scale(y)) / (high - low) * (height * fine[1] - 1)) if math.isfinite(y) else None
            for x, y in zip(one.x, one.y, strict=True)
        ]  # fmt: skip
        canvas.draw(k, points)
        ends.append(next(round(p[1]) // fine[1] for p in reversed(points) if p is not None))
    beside = _beside(ends, height)
    tick, bar, corner = ("+", "|", "+") if plain else ("┤", "│", "└")
    lines = [f"{'':{gutter}} {title}{' (log)' if scale is math.log10 else ''}"]
    for row, text in enumerate(canvas.lines()):
        key = keys[beside[row]] if row in beside else ""
        lines.append(f"{marks.get(row, ''):>{gutter}} {tick if row in marks else bar}{text} {key}".rstrip())
    lines.append(f"{'':{gutter}} {corner}{('-' if plain else '─') * inner}")
    start, end = f"{first:g}", f"{last:g}"
    axis = start.ljust(inner // 2 - 1) + f"{round((first + last) / 2)}" if last - first > 3 else start
    lines.append(f"{'':{gutter}}  {axis.ljust(inner - len(end))}{end} epoch")
    return lines


class _Canvas:
    """A field of characters on which several curves are told apart."""

    def __init__(self, width: int, height: int, plain: bool) -> None:
        self.width, self.height, self.plain = width, height, plain
        self.cells: dict[tuple[int, int], list[int]] = {}  # (row, column): the dots, or the curves in ASCII

    def draw(self, k: int, points: list[tuple[float, float] | None]) -> None:
        """Curve number k through these points; None is a gap."""
        step = 0
        for a, b in zip([None, *points], points, strict=False):
            if b is not None:
                for x, y in _line(a or b, b):
                    step += 1
                    if self.plain or DASHES[k % len(DASHES)] >> step % 12 & 1 or a is None:
                        self._dot(k, x, y)

    def _dot(self, k: int, x: int, y: int) -> None:
        if self.plain:
            here = self.cells.setdefault((y, x), [])
            if k not in here:
                here.append(k)
        else:
            here = self.cells.setdefault((y // 4, x // 2), [0])
            here[0] |= DOTS[y % 4][x % 2]

    def lines(self) -> Iterator[str]:
        """From top to bottom."""
        for row in range(self.height):
            yield "".join(self._character(row, column) for column in range(self.width))

    def _character(self, row: int, column: int) -> str:
        here = self.cells.get((row, column))
        if here is None:
            return " "
        return LETTERS[here[column % len(here)] % len(LETTERS)] if self.plain else chr(0x2800 + here[0])


def _line(a: tuple[float, float], b: tuple[float, float]) -> Iterator[tuple[int, int]]:
    """The dots from a, which has been drawn unless it is b, to b."""
    n = max(abs(round(b[0]) - round(a[0])), abs(round(b[1]) - round(a[1])))
    if a == b:
        yield round(b[0]), round(b[1])
    for i in range(1, n + 1):
        yield round(a[0] + (b[0] - a[0]) * i / n), round(a[1] + (b[1] - a[1]) * i / n)


def _key(k: int, name: str, plain: bool, longest: int) -> str:
    if len(name) > longest:
        name = name[: longest - 2] + ".."
    if plain:
        return f"{LETTERS[k % len(LETTERS)]} {name}"
    canvas = _Canvas(4, 1, False)
    canvas.draw(k, [(0.0, 1.0), (7.0, 1.0)])
    return f"{next(canvas.lines())} {name}"


def _beside(ends: list[int], height: int) -> dict[int, int]:
    """Which curve's name is in which row: where it ends, or the nearest row that is free."""
    taken: dict[int, int] = {}
    for k in sorted(range(len(ends)), key=ends.__getitem__):
        free = [row for row in range(height) if row not in taken]
        if free:
            taken[min(free, key=lambda row: abs(row - ends[k]))] = k
    return taken


def _spread(height: int, n: int) -> list[int]:
    """So many rows, from the first to the last."""
    return [round(i * (height - 1) / (n - 1)) for i in range(n)]


def _short(value: float) -> str:
    return f"{value:.3g}"
