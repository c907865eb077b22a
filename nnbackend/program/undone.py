"""Recordings without traces: what a step changes is put back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..backend import backend_of, device_of
from ..cells import Parameter, Scalar
from ..recorder import recorder
from ..tensor import Tensor

CELL = ("read", "write", "read_grad", "write_grad")  # what a recorder is asked of cells


class Undone:
    """Watches a recording and keeps what the step is about to change; leaving it puts that back, unless it is kept."""

    def __init__(self) -> None:
        self.kept: dict[int, Callable[[], None]] = {}
        self.owners: dict[int, Callable[[], None]] = {}

    def watching(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step, watched while it is recorded."""

        @functools.wraps(getattr(step, "forward", step), updated=())
        def run(*args: Any, **kw: Any) -> Any:
            trace: Any = recorder.get()
            vars(trace).update({name: self._first_keeping(getattr(trace, name)) for name in CELL})
            vars(trace)["scope"] = self._first_asking(trace.scope)
            try:
                return step(*args, **kw)
            finally:
                for name in (*CELL, "scope"):  # the trace and what it is asked would hold on to each other
                    delattr(trace, name)

        return run

    def _first_keeping(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        """What a recorder is asked of a cell, after the cell has been kept."""

        def asked(cell: Any, *value: Any) -> Any:
            if id(cell) not in self.kept:
                self.kept[id(cell)] = _number_back(cell) if isinstance(cell, Scalar) else _cell_back(cell)
            return ask(cell, *value)

        return asked

    def _first_asking(self, scope: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """What a recorder is told of an owner at work, which may lay out anew what it remembers."""

        def asked(owner: Any) -> Any:
            if id(owner) not in self.owners and hasattr(owner, "returning"):
                self.owners[id(owner)] = owner.returning()
            return scope(owner)

        return asked

    def keep(self) -> None:
        """Let the changes stand."""
        self.kept.clear()
        self.owners.clear()

    def __enter__(self) -> Undone:
        return self

    def __exit__(self, *error: object) -> None:
        for back in (*reversed(self.kept.values()), *self.owners.values()):
            back()
        self.keep()


def _number_back(scalar: Scalar) -> Callable[[], None]:
    value = scalar._value

    def back() -> None:
        scalar._value = value

    return back


def _cell_back(cell: Any) -> Callable[[], None]:
    """How a cell gets its contents, its version and its gradient back."""
    copy, written = backend_of(cell.array).copy(cell.array), cell.written
    gradient = cell._gradient if isinstance(cell, Parameter) else None
    raw: Any = gradient.data if isinstance(gradient, Tensor) else gradient
    values = None if raw is None else backend_of(raw).copy(raw)

    def back() -> None:
        cell.array[...] = copy
        cell.written = written
        if isinstance(cell, Parameter):
            cell._gradient = gradient
        if raw is not None:
            raw[...] = values
        home = getattr(cell, "gradient_home", None)
        if home is not None and home.array is not None and device_of(home.array) == cell.device:
            home.array[...] = 0.0 if values is None else values

    return back
