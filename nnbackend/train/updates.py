"""How a trainer changes parameters: optimizers by name, and schedules made for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import optim
from ..nn import Module
from ..optim import LRScheduler, Optimizer
from .objective import named

OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.__name__.lower(): rule
    for rule in (
        optim.SGD, optim.Lion, optim.Adagrad, optim.RMSprop, optim.Adadelta, optim.Rprop, optim.ASGD, optim.Adam,
        optim.AdamW, optim.Adamax, optim.NAdam, optim.RAdam, optim.Adafactor,
    )
}  # fmt: skip


def optimizer_of(spec: Any, net: Module) -> Optimizer:
    """The optimizer of a net by name, from a template, or as it is if it has parameters."""
    made = named("optimizer", OPTIMIZERS, spec)() if isinstance(spec, str) else spec
    if not isinstance(made, Optimizer):
        got = getattr(spec, "__name__", type(spec).__name__)
        raise TypeError(f"optimizer: expected a name or a template such as optim.SGD(lr=0.1), got {got}.")
    return made if made.param_groups else made.bind(net.parameters())


def scheduled(optimizer: Optimizer, schedule: Callable[[Optimizer], LRScheduler]) -> LRScheduler:
    """The schedule of an optimizer, made by a function."""
    made = schedule(optimizer) if callable(schedule) else schedule
    if not isinstance(made, LRScheduler) or made.optimizer is not optimizer:
        raise ValueError(
            f"schedule: expected a function that makes a schedule of the optimizer it is given, got {schedule!r}. "
            "Use schedule=lambda opt: optim.StepLR(opt, 10)."
        )
    return made
