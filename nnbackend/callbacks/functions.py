"""Functions as callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..train import Callback
from ..train.history import Row

Hook = Callable[[Any], Any]


class Lambda(Callback):
    """Functions of `trainer`, and at the end of an epoch of `(trainer, row)`, each called at its time."""

    def __init__(
        self,
        on_fit_begin: Hook | None = None,
        on_step_end: Hook | None = None,
        on_epoch_end: Callable[[Any, Row], Any] | None = None,
        on_fit_end: Hook | None = None,
    ) -> None:
        self.functions: dict[str, Callable[..., Any] | None] = {
            "on_fit_begin": on_fit_begin, "on_step_end": on_step_end,
            "on_epoch_end": on_epoch_end, "on_fit_end": on_fit_end,
        }  # fmt: skip
        for name, function in self.functions.items():
            if function is not None and not callable(function):
                raise TypeError(f"Lambda: expected a function as {name}, got {function!r}.")

    def on_fit_begin(self, trainer: Any) -> None:
        """Before the first step."""
        self._call("on_fit_begin", trainer)

    def on_step_end(self, trainer: Any) -> None:
        """After each step."""
        self._call("on_step_end", trainer)

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """After each epoch."""
        self._call("on_epoch_end", trainer, row)

    def on_fit_end(self, trainer: Any) -> None:
        """After the last step."""
        self._call("on_fit_end", trainer)

    def _call(self, name: str, *args: Any) -> None:
        if (function := self.functions[name]) is not None:
            function(*args)
