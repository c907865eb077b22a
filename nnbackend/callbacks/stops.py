"""Callbacks that end a fit."""

from __future__ import annotations

import time
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from ..tensor import Tensor
from ..train import Callback
from ..train.history import Row
from .monitor import Monitor

State = dict[str, Tensor]


class EarlyStopping(Monitor):
    """Stop when `monitor` has not improved by more than `min_delta` in `patience` epochs in a row.

    With a `baseline`, only values better than it count as improvements. With `restore_best` the model then gets back
    the weights and buffers of its best epoch, also if the fit ends for another reason; a fit that goes on after an
    interrupt does so from the last ones. `best` and `best_epoch` say which that was. Each fit begins anew, one that
    goes on does not. Prechelt, "Early Stopping - But When?" (1998).
    """

    _last: ClassVar[WeakKeyDictionary[Any, State]] = WeakKeyDictionary()  # before the first of several has restored

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
        baseline: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if not patience >= 1 or not min_delta >= 0:
            raise ValueError(
                f"EarlyStopping: expected patience >= 1 and min_delta >= 0, got {patience} and {min_delta}."
            )
        self.patience, self.min_delta, self.restore_best, self.baseline = patience, min_delta, restore_best, baseline
        self._goes_on = False
        self._begin()

    def _begin(self) -> None:
        self.best: float | None = None
        self.best_epoch = self._waited = 0
        self._weights: State | None = None  # of the best epoch
        self._latest: State | None = None  # those that the best ones have taken the place of

    def on_fit_begin(self, trainer: Any) -> None:
        """From the start, or from where the fit was cut short."""
        if not self._goes_on:
            self._begin()
        elif self._latest is not None:
            trainer.net.load_state_dict(self._latest)
        self._goes_on, self._latest = False, None
        self._last.pop(trainer, None)
        self._judge(trainer)

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """Compare it with the best so far."""
        value = self.value(row)
        improved = self.better(value, self.best, self.min_delta)
        if improved:
            self.best, self.best_epoch = value, int(row["epoch"])
            self._weights = trainer.net.state_dict() if self.restore_best else None
        if improved and (self.baseline is None or self.better(value, self.baseline)):
            self._waited = 0
        else:
            self._waited += 1
        self._judge(trainer)

    def _judge(self, trainer: Any) -> None:
        if self._waited >= self.patience:
            worse = "" if self.baseline is None else f", or not beyond {self.baseline:g},"
            back = f", back to epoch {self.best_epoch}" if self._weights is not None else ""
            trainer.stop(f"EarlyStopping: {self.watched} has not improved{worse} for {self._waited} epochs{back}")

    def on_fit_end(self, trainer: Any) -> None:
        """Put the best weights in place."""
        if self._weights is None:
            return
        if trainer not in self._last:
            self._last[trainer] = trainer.net.state_dict()
        self._latest = self._last[trainer]
        trainer.net.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The best epoch with its weights, and for how long there was none better."""
        return {
            "best": self.best, "best_epoch": self.best_epoch, "waited": self._waited,
            "weights": self._weights, "latest": self._latest,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best, self.best_epoch, self._waited = state["best"], state["best_epoch"], state["waited"]
        self._weights, self._latest = state["weights"], state["latest"]
        self._goes_on = True


class StopAtTarget(Monitor):
    """Stop as soon as `monitor` is as good as `target`, such as 0.98 for `val_accuracy`."""

    def __init__(self, monitor: str, target: float, mode: str = "auto") -> None:
        super().__init__(monitor, mode)
        self.target = target

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """Stop if it is reached."""
        value = self.value(row)
        if value == self.target or self.better(value, self.target):
            trainer.stop(f"StopAtTarget: {self.watched} is {value:.4g}")


class TimeLimit(Callback):
    """Stop after the step in which so much time is over: `TimeLimit(minutes=30)`.

    The same call, or one that resumes, goes on from there, and has the time anew.
    """

    def __init__(self, seconds: float = 0.0, minutes: float = 0.0, hours: float = 0.0) -> None:
        self.seconds = seconds + 60.0 * minutes + 3600.0 * hours
        if not self.seconds > 0:
            raise ValueError(f"TimeLimit: expected more than 0 seconds, got {self.seconds:g}.")
        self._end = 0.0

    def on_fit_begin(self, trainer: Any) -> None:
        """The time starts."""
        self._end = time.monotonic() + self.seconds

    def on_step_end(self, trainer: Any) -> None:
        """Stop if it is over."""
        if time.monotonic() >= self._end:
            trainer.stop(f"TimeLimit: {self.seconds:g} s are over", final=False)
