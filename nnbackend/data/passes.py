"""Where a loader stands: in which pass over its data, and how many batches of it have been handed out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import IncompatibleCheckpointError
from ..random import fresh_key, key_of


def check_batch_size(place: str, batch_size: int | None) -> None:
    """ValueError unless it is a whole number from 1 on, or None for one batch of everything."""
    if batch_size is not None and (batch_size < 1 or int(batch_size) != batch_size):
        raise ValueError(f"{place}: expected batch_size >= 1 or None, got {batch_size}.")


class Passes:
    """Passes over so many rows, each of them one epoch in an order of its own, given by `key` and `epoch`.

    `epoch` is that of the pass begun last, `batch` how many batches it has handed out, 0 after the last of them; of
    several passes at once each is whole. With `state_dict` and `load_state_dict` another loader goes on from there.
    """

    def __init__(self, rows: int, batch_size: int | None, drop_last: bool, seed: int | None) -> None:
        place = type(self).__name__
        check_batch_size(place, batch_size)
        if drop_last and batch_size is not None and batch_size > rows:
            raise ValueError(f"{place}: expected batch_size <= {rows} rows with drop_last, got {batch_size}.")
        self.rows, self.batch_size, self.drop_last = rows, min(batch_size or rows, rows), drop_last
        self.key = fresh_key() if seed is None else key_of(seed)
        self.epoch = self.batch = 0
        self._pass: object = None  # the one that `batch` counts
        self._loaded = False  # does the next pass go on where a state said?

    def __len__(self) -> int:
        full, rest = divmod(self.rows, self.batch_size)
        return full if self.drop_last else full + (rest > 0)

    def _begin(self) -> tuple[int, Callable[[int], None]]:
        """Begin a pass: its first batch, and what to call before a batch is handed out."""
        if not self._loaded:
            self.epoch, self.batch = self.epoch + 1, 0
        self._loaded, count = False, len(self)
        self._pass = mine = object()

        def hand_out(i: int) -> None:
            if self._pass is mine:
                self.batch = i + 1 if i + 1 < count else 0

        return self.batch, hand_out

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: `epoch`, `batch`, and the `key` of all its orders in 32 hexadecimal digits."""
        return {"epoch": self.epoch, "batch": self.batch, "key": f"{self.key:032x}"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on with the batches, in the order, that were left when the state was taken.

        IncompatibleCheckpointError, and nothing has changed, if it is not a state of a loader of as many batches.
        """
        self._go_to(self._position(state))

    def _go_to(self, position: tuple[int, int, int]) -> None:
        self.epoch, self.batch, self.key = position
        self._pass, self._loaded = None, self.batch > 0

    def _position(self, state: Mapping[str, Any]) -> tuple[int, int, int]:
        """The epoch, batch and key of a state that fits."""
        place = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise IncompatibleCheckpointError(f"{place}: expected a state, got {type(state).__name__}.")
        if missing := [name for name in ("epoch", "batch", "key") if name not in state]:
            raise IncompatibleCheckpointError(f"{place}: expected {missing} in the state, got {list(state)}.")
        epoch, batch, key = state["epoch"], state["batch"], state["key"]
        for name, value in (("epoch", epoch), ("batch", batch)):
            if type(value) is not int or value < 0:
                raise IncompatibleCheckpointError(f"{place}: expected {name}, a whole number >= 0, got {value!r}.")
        if not isinstance(key, str) or not re.fullmatch("[0-9a-f]{32}", key):
            raise IncompatibleCheckpointError(f"{place}: expected a key of 32 hexadecimal digits, got {key!r}.")
        if batch >= len(self) or (batch and not epoch):
            raise IncompatibleCheckpointError(
                f"{place}: expected a batch below {len(self) if epoch else 1} in epoch {epoch}, got {batch}."
                " Use the rows, batch_size and drop_last of the loader that gave the state."
            )
        return epoch, batch, int(key, 16)
