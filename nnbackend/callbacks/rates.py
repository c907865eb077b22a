"""Callbacks that change the learning rate. Schedules that need no metric are the trainer's: `Trainer(schedule=...)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import optim
from ..cells import Parameter
from ..creation import zeros
from ..train import Callback
from ..train.history import Row
from .monitor import Monitor


class ReduceLROnPlateau(Monitor):
    """Times `factor` whenever `monitor` has not improved for more than `patience` epochs.

    The rule, and the other settings, are those of `optim.ReduceLROnPlateau`; as a callback it watches any number.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(monitor, mode)
        self.settings = {
            "mode": self.mode, "factor": factor, "patience": patience, "threshold": threshold,
            "threshold_mode": threshold_mode, "cooldown": cooldown, "min_lr": min_lr, "eps": eps,
        }  # fmt: skip
        groups = len(min_lr) if isinstance(min_lr, Sequence) else 1
        self._rule(optim.SGD([{"params": [Parameter(zeros(1))]} for _ in range(groups)], lr=1.0))  # for its errors
        self._plateau: optim.ReduceLROnPlateau | None = None
        self._remembered: dict[str, Any] | None = None

    def _rule(self, optimizer: Any) -> optim.ReduceLROnPlateau:
        return optim.ReduceLROnPlateau(optimizer, **self.settings)  # type: ignore[arg-type]

    def on_fit_begin(self, trainer: Any) -> None:
        """Take hold of the trainer's optimizer."""
        optimizer, state = trainer.optimizer, self._remembered
        lrs = [group["lr"] for group in optimizer.param_groups]
        if self._plateau is None or self._plateau.optimizer is not optimizer:
            if state is not None and (others := optimizer.schedules):
                _set(optimizer, _given(others))  # else this one would take the place of the others
            self._plateau = self._rule(optimizer)
        if state is not None:
            self._plateau.load_state_dict(state)
            _set(optimizer, lrs)  # as in the checkpoint
        self._remembered = None

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """Let the rule see the number."""
        assert self._plateau is not None
        self._plateau.step(self.value(row))

    def state_dict(self) -> dict[str, Any]:
        """That of the rule."""
        if self._remembered is not None:
            return self._remembered
        return {} if self._plateau is None else self._plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there when the fit begins."""
        self._remembered = state


class LearningRateSchedule(Callback):
    """The learning rate of each epoch, counted from 1: `LearningRateSchedule(lambda epoch: 0.1 / epoch)`.

    For trainers without a `schedule`, which would set it too: ValueError.
    """

    def __init__(self, function: Callable[[int], float]) -> None:
        if not callable(function):
            raise TypeError(f"LearningRateSchedule: expected a function of the epoch, got {function!r}.")
        self.function = function

    def on_fit_begin(self, trainer: Any) -> None:
        """The rate of the epoch that comes."""
        if trainer.schedule is not None:
            raise ValueError("LearningRateSchedule: expected a trainer without a schedule, got one. Leave one out.")
        self._apply(trainer, len(trainer.history) + 1)

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """The rate of the next epoch."""
        self._apply(trainer, int(row["epoch"]) + 1)

    def _apply(self, trainer: Any, epoch: int) -> None:
        optimizer = trainer.optimizer
        _set(optimizer, [self.function(epoch)] * len(optimizer.param_groups))


def _set(optimizer: Any, lrs: Sequence[float]) -> None:
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr


def _given(schedules: Sequence[optim.LRScheduler]) -> list[float]:
    """The learning rates that schedules of one optimizer give."""
    lrs = schedules[0].base_lrs
    for schedule in schedules:
        lrs = schedule.values(schedule.last_epoch, lrs)
    return lrs
