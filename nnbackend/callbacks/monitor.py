"""What callbacks that watch a number share."""

from __future__ import annotations

import math
import warnings

from ..train import Callback
from ..train.direction import direction
from ..train.history import Row

MODES = ("auto", "min", "max")


class Monitor(Callback):
    """Base of what watches a number of the rows, of which less is better in mode "min" and more in mode "max".

    Mode "auto" is "min" for losses and errors and "max" for accuracy and its like; ValueError for names that do not
    say. Without validation data `val_loss` is the loss, with a warning.
    """

    every_epoch = True

    def __init__(self, monitor: str, mode: str = "auto") -> None:
        kind = type(self).__name__
        if not isinstance(monitor, str):
            raise TypeError(f'{kind}: expected the name of a number such as "val_loss" to monitor, got {monitor!r}.')
        if mode not in MODES:
            raise ValueError(f"{kind}: expected mode of {', '.join(MODES)}, got {mode!r}.")
        found = direction(monitor) if mode == "auto" else mode
        if found is None:
            raise ValueError(f'{kind}: expected mode "min" or "max" for {monitor!r}, got "auto". Is more of it better?')
        self.monitor, self.mode = monitor, found
        self.watched = monitor  # the name that rows have
        self._warned = False

    def value(self, row: Row) -> float:
        """The number in a row. ValueError names what there is, if it is not."""
        name = "loss" if self.monitor == "val_loss" and "val_loss" not in row else self.monitor
        if name not in row:
            there = ", ".join(key for key in row if key != "epoch")
            raise ValueError(
                f"{type(self).__name__}: expected {name} in the rows, got {there}. "
                "Give the trainer this metric, or fit validation_data."
            )
        if name != self.monitor and not self._warned:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__}: expected val_loss in the rows, got no validation data. Watching the loss.",
                stacklevel=2,
            )
        self.watched = name
        return float(row[name])

    def better(self, value: float, best: float | None, by: float = 0.0) -> bool:
        """Whether a value is better than the best so far, if there is one, by more than a margin. NaN never is."""
        if math.isnan(value) or best is None:
            return not math.isnan(value)
        return value < best - by if self.mode == "min" else value > best + by
