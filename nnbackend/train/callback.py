"""Callbacks: what somebody wants to do, or know, while a model trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .history import Row


class Callback:
    """Base of what `fit(callbacks=[...])` calls between steps, when model, optimizer and history are whole.

    What it remembers goes into checkpoints, if `state_dict` says what; an error in it ends the fit, which can be called
    again to go on. A plain function of (trainer, row) is called at the end of each epoch.
    """

    every_epoch = False  # does it need metrics and validation in every row?

    def on_fit_begin(self, trainer: Any) -> None:
        """Before the first step."""

    def on_step_end(self, trainer: Any) -> None:
        """After each step; the losses are still on the device."""

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """After each epoch; `row` is what the history has of it."""

    def on_fit_end(self, trainer: Any) -> None:
        """After the last step, also if the fit was interrupted."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers: tensors, numbers, text, and lists, tuples and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the callback that gave this state."""


class AtEpochEnd(Callback):
    """A function of (trainer, row)."""

    def __init__(self, function: Callable[[Any, Row], Any]) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """Call it."""
        self.function(trainer, row)


def callback(given: Any) -> Callback:
    """A callback, or a function as one. TypeError for anything else."""
    if isinstance(given, Callback):
        return given
    if not callable(given) or isinstance(given, type):
        raise TypeError(f"callbacks: expected Callback objects or functions of (trainer, row), got {given!r}.")
    return AtEpochEnd(given)


def listed(given: Any) -> list[Callback]:
    """Several callbacks, one, or none. TypeError for anything else."""
    alone = isinstance(given, Callback) or callable(given)
    return list(map(callback, [given] if alone else given or ()))


def named(callbacks: list[Callback]) -> dict[str, Callback]:
    """Callbacks by what they are called in checkpoints."""
    found: dict[str, Callback] = {}
    for each in callbacks:
        name = getattr(each.function, "__qualname__", "") if isinstance(each, AtEpochEnd) else type(each).__qualname__
        same = sum(known.partition("#")[0] == name for known in found)
        found[f"{name}#{same + 1}" if same else name] = each
    return found
