"""The last state in which all was finite: a copy of what a step changes, to go back to."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from ..backend import NUMPY, HostArray, to_host
from ..cells import Cell, Parameter, Scalar
from ..nn import Module
from ..program import Compiled
from ..tensor import Tensor
from ..tree import mapped

FREE = 25  # copies that are made whatever they take
SHARE = 1 / 40  # of the time, at most, that the others take


class Copy:
    """All that a step of a trainer changes, on the host: as large as the model and what its optimizer remembers."""

    def __init__(self, trainer: Any) -> None:
        self.steps = trainer.steps
        losses = [fn for fn in trainer.objective.losses.values() if isinstance(fn, Module)]
        modules = [module for root in (trainer.net, *losses) for module in root.modules()]
        held = [value for module in modules for value in vars(module).values()]
        params = [p for group in trainer.optimizer.param_groups for p in group.params]
        cells = {id(x): x for x in (*held, *params) if isinstance(x, Cell)}.values()
        flat = {i: _copy(home.array) for i, home in {id(c.home): c.home for c in cells if c.home is not None}.items()}
        self._cells = [
            (cell, _part(flat[id(cell.home)], cell) if cell.home is not None else _copy(cell.array)) for cell in cells
        ]
        self._fresh = [p for p in cells if isinstance(p, Parameter) and p.fresh]
        self._numbers = [(x, x._value) for x in held if isinstance(x, Scalar)]
        self._optimizer = mapped(_copied, trainer.optimizer.state_dict(copy=False))
        self._schedule = None if trainer.schedule is None else trainer.schedule.state_dict()
        own = trainer._own()  # else each step begins without gradients
        grads = {p: p.grad if own else None for p in cells if isinstance(p, Parameter)}
        self._gradients = {p: None if g is None else _copy(g.data) for p, g in grads.items()}

    def restore(self, trainer: Any) -> None:
        """Let all be as it was. What has been recorded is recorded anew."""
        for cell, value in self._cells:
            cell.assign(cell.device.put(value))
        for p in self._fresh:
            p.drawn_at = p.written
        for number, plain in self._numbers:
            number.value = plain
        if self._schedule is not None:
            trainer.schedule.load_state_dict(self._schedule)
        trainer.optimizer.load_state_dict(self._optimizer)
        for p, gradient in self._gradients.items():
            p.grad = None if gradient is None else p.device.put(gradient)
        for step in (trainer._step, trainer._gather):
            if isinstance(step, Compiled):  # its programs hold the old memory of the optimizer
                step.forget()
        trainer.steps = self.steps


class LastGood:
    """The newest sound state of a run, and where the run then was in its data."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.copy: Copy | None = None
        self.rates: dict[int, list[float]] = {}  # learning rates that callbacks have set since then, by step
        self._count, self._cost, self._over = 0, 0.0, 0.0

    def keep(self) -> None:
        """Copy the present state, unless copies would slow the run down, or there is no memory for one.

        NonFiniteError if a parameter is not finite.
        """
        run, now = self.run, time.perf_counter()
        if self._count >= FREE and now - self._over < self._cost / SHARE:
            return
        run._check_parameters()
        self.copy = None  # one at a time
        with suppress(MemoryError):
            self.epochs, self.losses, self.sizes = len(run.history), list(run.losses), list(run.sizes)
            epoch = self.epochs + bool(self.losses)
            self.position = {**run.feed.state_dict(), "epoch": epoch, "batch": len(self.losses)}
            self.copy, self.rates = Copy(run.trainer), {}
        self._count, self._over = self._count + 1, time.perf_counter()
        self._cost = self._over - now

    def restore(self) -> None:
        """Let trainer and run be there again; the history ends there."""
        run = self.run
        self.copy.restore(run.trainer)  # type: ignore[union-attr]
        del run.history.rows[self.epochs :]
        run.losses, run.sizes, run.unread = list(self.losses), list(self.sizes), []
        run.feed.begin(self.epochs)
        run.feed.load_state_dict(self.position)


def rates_of(optimizer: Any) -> list[float]:
    """The learning rates of its groups."""
    return [group["lr"] for group in optimizer.param_groups]


def set_rates(optimizer: Any, rates: list[float]) -> None:
    """Let its groups have these learning rates."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _copy(array: Any) -> HostArray:
    host = to_host(array)
    return host if host.flags.owndata and host is not array else NUMPY.copy(host)


def _part(flat: HostArray, cell: Cell) -> HostArray:
    """What a cell has of a buffer that is home to many."""
    part: HostArray = flat[cell.offset : cell.offset + cell.size].reshape(cell.shape)
    return part


def _copied(x: Any) -> Any:
    return Tensor(_copy(x.data)) if isinstance(x, Tensor) else x
