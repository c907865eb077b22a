"""DataLoader: batches of arrays that already live on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..backend import CPU, DeviceLike, gather, namespace
from ..backend import device as find_device
from ..creation import asarray
from ..errors import DataError, ShapeError
from ..random import fresh_key, key_of, permutation, site_of
from ..tensor import Tensor


class DataLoader:
    """Batches of rows: `for x, y in DataLoader(X, y, batch_size=32, seed=0)` is one epoch.

    The data is moved to `device` once. Each pass is one epoch in an order of its own, given by (seed, epoch); the last
    batch may be smaller unless `drop_last`. `batch_size=None` is one batch of everything.
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
        self.epoch = 0

    def __len__(self) -> int:
        full = self.rows / self.batch_size
        return math.floor(full) if self.drop_last else math.ceil(full)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """One epoch."""
        self.epoch += 1
        if not self.shuffle and self.batch_size == self.rows:
            yield self.arrays
            return
        order = self._order() if self.shuffle else None
        for i in range(len(self)):
            rows = slice(i * self.batch_size, min((i + 1) * self.batch_size, self.rows))
            yield tuple(self._batch(a, rows, order) for a in self.arrays)

    def _order(self) -> Any:
        """The order of the rows in this epoch, drawn on the host, on the device of the data."""
        order = permutation(self.rows, self.key, site_of("DataLoader"), self.epoch)
        place = self.arrays[0].device
        return order if place == CPU else place.put(order)

    def _batch(self, a: Tensor, rows: slice, order: Any) -> Tensor:
        batch = Tensor(a.data[(rows, ...)] if order is None else gather(a.data, order[rows]))
        if hasattr(a, "bounds"):
            batch.bounds = a.bounds  # labels in range stay in range
        return batch


def concatenated(parts: list[Tensor]) -> Tensor:
    """Batches of results as one."""
    return parts[0] if len(parts) == 1 else Tensor(namespace(parts[0].data).concat([p.data for p in parts], axis=0))
