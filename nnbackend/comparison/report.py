"""What a comparison has found: rows for programs, a table for people."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHOWN = 6  # further differences below the table
WAYS = ("forward", "backward", "update")


@dataclass(frozen=True)
class Row:
    """A value that a call of a layer has made on both devices from the same: an output, a gradient, a buffer."""

    path: str  # of the layer
    layer: str  # its class and settings
    call: int  # 1 for its first in the step
    calls: int  # how many there are
    way: str  # "forward", "backward" or "update"
    what: str
    difference: float  # the largest; inf if NaN or infinities, shapes or dtypes are not the same
    scale: float  # the largest finite absolute value
    allowed: float  # what rounding explains

    @property
    def differs(self) -> bool:
        """Beyond rounding."""
        return self.difference > self.allowed

    @property
    def share(self) -> tuple[float, float]:
        """The difference, and what is allowed, in terms of the largest value."""
        scale = self.scale or 1.0
        return self.difference / scale, self.allowed / scale

    @property
    def name(self) -> str:
        """The layer's path and line, and which of its calls it was."""
        name = ": ".join(filter(None, (self.path, self.layer)))
        return f"{name}, call {self.call} of {self.calls}" if self.calls > 1 else name

    def __str__(self) -> str:
        if math.isinf(self.difference):
            return f"{self.name}, {self.what}: other NaNs or infinities, another shape or dtype, or missing"
        return "{}, {}: {:.1e} of the largest value, rounding explains {:.1e}".format(self.name, self.what, *self.share)


class Comparison:
    """What `compare_devices` found: `rows`, the `first` that differs, and the `losses` of both whole steps.

    It is true if all are the same but for rounding. Prints as a table: for each call of a layer the value that is
    furthest apart, forward, backward and after the update, with what rounding explains; both in terms of the largest
    value.
    """

    def __init__(self, devices: tuple[str, str], dtype: str, rows: list[Row], losses: tuple[float, float]) -> None:
        self.devices, self.dtype, self.rows, self.losses = devices, dtype, rows, losses

    @property
    def different(self) -> list[Row]:
        """All that differ beyond rounding: forward in the order of the calls, backward from the end, then updates."""
        return [row for row in self.rows if row.differs]

    @property
    def first(self) -> Row | None:
        """The first of them; None if there is none."""
        return next(iter(self.different), None)

    @property
    def same(self) -> bool:
        """Whether there is none."""
        return self.first is None

    def __bool__(self) -> bool:
        return self.same

    def table(self) -> list[list[str]]:
        """The cells of the table, headings first."""
        calls: dict[tuple[str, int], list[Row]] = {}
        for row in self.rows:
            calls.setdefault((row.path, row.call), []).append(row)
        lines = [
            [rows[0].name, *(_worst([row for row in rows if row.way == way]) for way in WAYS)]
            for rows in calls.values()
        ]
        return [["layer", *WAYS], *lines]

    def __str__(self) -> str:
        lines = self.table()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        page = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        page.insert(1, "-" * max(map(len, page)))
        page.append(page[1])
        losses = (f"{loss:.8g} on {device}" for loss, device in zip(self.losses, self.devices, strict=True))
        page.append(f"loss of the whole step: {', '.join(losses)}")
        names, others = " and ".join(self.devices), self.different
        if not others:
            return "\n".join([*page, f"{names}: the same in {self.dtype}, but for rounding"])
        page.append(f"{names} differ first in {others[0]}")
        page += [f"  then in {row}" for row in others[1 : SHOWN + 1]]
        if len(others) > SHOWN + 1:
            page.append(f"  and in {len(others) - SHOWN - 1} more")
        return "\n".join(page)

    __repr__ = __str__


def _worst(rows: list[Row]) -> str:
    """The value that is furthest apart, in terms of what is allowed."""
    if not rows:
        return ""
    row = max(rows, key=lambda r: r.difference / r.allowed if r.allowed else math.inf if r.difference else 0.0)
    if not row.difference:
        return "equal"
    difference, allowed = row.share
    return f"{difference:.1e} > {allowed:.1e} !" if row.differs else f"{difference:.1e} < {allowed:.1e}"
