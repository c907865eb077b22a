"""Progress of a fit: a bar where somebody is looking, lines elsewhere, and a summary at the end."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TextIO

from .direction import direction
from .history import Row

BLINK = 0.5  # seconds from one picture of the bar to the next
FIRST, LONGEST = 10.0, 300.0  # seconds of silence before a line; they double with each line


class Progress:
    """Epochs with a bar in a terminal (tqdm's where that is installed), or with a line when there was none for long.

    There are `steps` in an epoch, if that is known (else it is after the first), of which some are `done` in the one
    to begin with. The bar goes to stderr, lines go to stdout. Unless `shown`, there is nothing but what is written.
    """

    def __init__(self, epochs: range, bar: bool, steps: int | None = None, done: int = 0, shown: bool = False) -> None:
        self.epochs, self.steps = epochs, steps or 0
        self.passed, self.done = 0, done  # epochs, and steps of the next
        self._counted: tuple[float, int] | None = None  # the clock, and how many were done, after the first step
        self._wait = BLINK if bar else FIRST
        self._next = time.monotonic() + self._wait if bar or shown else math.inf
        self._bar = _bar(len(epochs)) if bar else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
        self._next = math.inf

    def __iter__(self) -> Iterator[int]:
        for epoch in self.epochs:
            yield epoch
            self.passed, self.steps, self.done = self.passed + 1, self.steps or self.done, 0
            self._look()
        if self._bar is not None and self._bar.shown:
            self._bar.show(self._where(), self.position, 0.0)

    def step(self, n: int = 1) -> None:
        """So many more are done."""
        self.done += n
        if self._counted is None:  # the first one takes longer than others
            self._counted = time.monotonic(), self.done
        if self.done != self.steps:  # else the epoch ends, with a line perhaps
            self._look()

    def _look(self) -> None:
        """Show where things are, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        left = self.left(now)
        if self._bar is not None:
            self._bar.show(self._where(), self.position, left)
        else:
            print(", ".join(filter(None, (self._where(), _left(left)))), flush=True)
            self._wait = min(2 * self._wait, LONGEST)
        self._next = now + self._wait

    def write(self, text: str) -> None:
        """A line, above the bar if there is one."""
        if self._bar is None:
            print(text, flush=True)
            self._next = max(self._next, time.monotonic() + self._wait)
        else:
            self._bar.write(text)

    @property
    def position(self) -> float:
        """How many epochs are done, with the share of this one, as far as it is known."""
        return self.passed + self._share(self.done)

    def _share(self, done: int) -> float:
        return min(1.0, done / self.steps) if self.steps else 0.0

    def left(self, now: float) -> float | None:
        """How many seconds are left if things go on as they do; None if nobody can tell yet."""
        began, done = self._counted or (now, 0)
        gone = self.position - self._share(done)
        return (now - began) / gone * (len(self.epochs) - self.position) if gone > 0 else None

    def _where(self) -> str:
        last = self.epochs.stop - 1
        text = f"epoch {min(self.epochs.start + self.passed, last)}/{last}"
        return text + (f", step {self.done:,}" + (f"/{self.steps:,}" if self.steps else "") if self.done else "")


def _bar(epochs: int) -> _Tqdm | _Bar:
    try:
        from tqdm import tqdm
    except ImportError:
        return _Bar(sys.stderr, epochs)
    return _Tqdm(tqdm, epochs)


class _Tqdm:
    """One of tqdm."""

    def __init__(self, kind: Any, epochs: int) -> None:
        form = "{desc} |{bar}| {percentage:4.0f}%{postfix}"
        self.bar = kind(total=epochs, bar_format=form, leave=False, dynamic_ncols=True)
        self.write, self.close, self.shown = self.bar.write, self.bar.close, epochs > 0

    def show(self, where: str, position: float, left: float | None) -> None:
        """The place, a bar, and the time left."""
        self.bar.n = position
        self.bar.set_postfix_str(_left(left), refresh=False)
        self.bar.set_description_str(where)


class _Bar:
    """One line of a terminal, written over and over."""

    def __init__(self, terminal: TextIO, epochs: int) -> None:
        self.terminal, self.epochs, self.shown = terminal, epochs, ""

    def show(self, where: str, position: float, left: float | None) -> None:
        """The place, a bar of what room there is, and the time left."""
        share = position / self.epochs
        try:
            columns = os.get_terminal_size(self.terminal.fileno()).columns or 80  # 0 where nobody knows
        except (OSError, ValueError):
            columns = 80
        end = ", ".join(filter(None, (f" {share:4.0%}", _left(left))))
        room = min(40, columns - len(where) - len(end) - 4)
        bar = f" |{'#' * int(share * room):-<{room}}|" if room >= 5 else ""
        self._put((where + bar + end)[: columns - 1])

    def write(self, text: str) -> None:
        """A line on stdout, with the bar below."""
        shown = self.shown
        self.close()
        print(text, flush=True)
        if shown:
            self._put(shown)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.shown:
            self._put("")

    def _put(self, text: str) -> None:
        self.shown = text
        with suppress(OSError):  # nobody looks any more
            self.terminal.write("\r\x1b[K" + text)  # to the start of the line, and clear it
            self.terminal.flush()


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(round(seconds))} left"


def duration(seconds: float) -> str:
    """For people: 0.31 s, 42 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def summary(rows: Sequence[Row], steps: int, seconds: float, why: str = "") -> str:
    """A fit in one line: its rows, steps and time, the last loss, what was watched with its best, and why it stopped.

    `fit: 30 epochs, 1,410 steps in 4.2 s; loss 0.0312, val_accuracy 0.974 (best 0.981 in epoch 24)`
    """
    text = f"fit: {_count(len(rows), 'epoch')}, {_count(steps, 'step')} in {duration(seconds)}"
    found = [_said(name, rows) for name in _worth_saying(rows)]
    return text + (f"; {', '.join(found)}" if found else "") + (f"; stopped by {why}" if why else "")


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _worth_saying(rows: Sequence[Row]) -> list[str]:
    """The loss, and a metric: of validation data if there are any, else their loss."""
    if not rows:
        return []
    names = [name for name, value in rows[-1].items() if isinstance(value, int | float) and direction(name)]
    metrics = [name for name in names if name not in ("loss", "val_loss")]
    held_out = [name for name in metrics if name.startswith("val_")]
    chosen = next(iter(held_out or [name for name in names if name == "val_loss"] or metrics), None)
    return [name for name in ("loss", chosen) if name in names]


def _said(name: str, rows: Sequence[Row]) -> str:
    """The last value, and the best if that is another."""
    sign = 1 if direction(name) == "min" else -1
    known = [row for row in rows if isinstance(row.get(name), int | float) and not math.isnan(row[name])]
    text = f"{name} {rows[-1][name]:.4g}"
    if known:
        best = min(known, key=lambda row: sign * row[name])
        if name != "loss" and best is not rows[-1] and best[name] != rows[-1][name]:
            text += f" (best {best[name]:.4g} in epoch {best['epoch']})"
    return text
