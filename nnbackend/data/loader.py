"""DataLoader: batches of arrays that already live on the device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..backend import CPU, DeviceLike, backend_of, gather, namespace
from ..backend import device as find_device
from ..creation import asarray
from ..errors import DataError, IncompatibleCheckpointError, ShapeError
from ..random import fresh_key, key_of, permutation, site_of
from ..tensor import Tensor


class DataLoader:
    """Batches of rows: `for x, y in DataLoader(X, y, batch_size=32, seed=0)` is one epoch.

    The data is moved to `device` once, and not copied if it is there already: a memory-mapped file is read batch by
    batch. Each pass is one epoch in an order of its own, given by (seed, epoch); the last batch may be smaller unless
    `drop_last`. `batch_size=None` is one batch of everything.

    `epoch` is that of the pass begun last, `batch` how many batches it has handed out, 0 after the last of them; of
    several passes at once each is whole. With `state_dict` and `load_state_dict` another loader goes on from there.
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int | None = 32,
        shuffle: bool = True,
        seed: int | None = None,
        drop_last: bool = False,
        device: DeviceLike = None,
    ) -> None:
        if not arrays:
            raise DataError("DataLoader: expected at least one array, got none.")
        place = None if device is None else find_device(device)
        self.arrays: tuple[Tensor, ...] = tuple(asarray(a, device=place).detach() for a in arrays)
        lengths = [a.shape[0] if a.shape else 0 for a in self.arrays]
        if len(set(lengths)) > 1:
            raise ShapeError(f"DataLoader: expected arrays of one length, got {lengths}")
        self.rows = lengths[0]
        if not self.rows:
            raise DataError("DataLoader: expected at least one row, got an empty dataset.")
        if batch_size is not None and (batch_size < 1 or int(batch_size) != batch_size):
            raise ValueError(f"DataLoader: expected batch_size >= 1 or None, got {batch_size}.")
        if drop_last and batch_size is not None and batch_size > self.rows:
            raise ValueError(f"DataLoader: expected batch_size <= {self.rows} rows with drop_last, got {batch_size}.")
        self.batch_size = min(batch_size or self.rows, self.rows)
        self.shuffle, self.drop_last = shuffle, drop_last
        self.key = fresh_key() if seed is None else key_of(seed)
        self.epoch = self.batch = 0
        self._pass: object = None  # the one that `batch` counts
        self._loaded = False  # does the next pass go on where a state said?

    def __len__(self) -> int:
        full, rest = divmod(self.rows, self.batch_size)
        return full if self.drop_last else full + (rest > 0)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """One epoch, or what is left of that of a loaded state. DataError if there are other rows than at first."""
        for a in self.arrays:
            if a.data.shape[:1] != (self.rows,):
                raise DataError(
                    f"DataLoader: expected {self.rows} rows as at first, got shape {a.shape}. Make a new DataLoader."
                )
        if not self._loaded:
            self.epoch, self.batch = self.epoch + 1, 0
        self._loaded, first, count = False, self.batch, len(self)
        self._pass = mine = object()
        order = self._order() if self.shuffle else None
        for i in range(first, count):
            if self._pass is mine:
                self.batch = i + 1 if i + 1 < count else 0
            yield tuple([self._batch(a, i, order) for a in self.arrays])

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: `epoch`, `batch`, and the `key` of all its orders in 32 hexadecimal digits."""
        return {"epoch": self.epoch, "batch": self.batch, "key": f"{self.key:032x}"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on with the batches, in the order, that were left when the state was taken.

        IncompatibleCheckpointError, and nothing has changed, if it is not a state of a loader of as many batches.
        """
        epoch, batch, key = self._position(state)
        self.epoch, self.batch, self.key = epoch, batch, key
        self._pass, self._loaded = None, batch > 0

    def _position(self, state: Mapping[str, Any]) -> tuple[int, int, int]:
        """The epoch, batch and key of a state that fits."""
        place = "DataLoader.load_state_dict"
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

    def _order(self) -> Any:
        """The order of the rows in this epoch, drawn on the host, on the device of the data."""
        order = permutation(self.rows, self.key, site_of("DataLoader"), self.epoch)
        place = self.arrays[0].device
        return order if place == CPU else place.put(order)

    def _batch(self, a: Tensor, i: int, order: Any) -> Tensor:
        """Batch `i` of the rows of `a` as a Tensor of its own, so that no change of it comes back to `a`."""
        if self.batch_size == self.rows:
            data = a.data if order is None else gather(a.data, order)
        else:
            rows = slice(i * self.batch_size, min((i + 1) * self.batch_size, self.rows))
            data = a.data[(rows, ...)] if order is None else gather(a.data, order[rows])
        flags = getattr(data, "flags", None)  # the standard knows no layout
        if flags is not None and not flags.c_contiguous:  # else results would depend on it
            data = backend_of(data).copy(data)
        batch = Tensor(data)
        if hasattr(a, "bounds"):
            batch.bounds = a.bounds  # labels in range stay in range
        return batch


def concatenated(parts: list[Tensor]) -> Tensor:
    """Batches of results as one."""
    return parts[0] if len(parts) == 1 else Tensor(namespace(parts[0].data).concat([p.data for p in parts], axis=0))
