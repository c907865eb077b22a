"""DataLoader: batches of arrays that already live on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backend import CPU, DeviceLike, backend_of, gather, namespace
from ..backend import device as find_device
from ..creation import asarray
from ..errors import DataError, ShapeError
from ..random import permutation, site_of
from ..tensor import Tensor
from .passes import Passes


class DataLoader(Passes):
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
        if not lengths[0]:
            raise DataError("DataLoader: expected at least one row, got an empty dataset.")
        super().__init__(lengths[0], batch_size, drop_last, seed)
        self.shuffle, self._length = shuffle, lengths[0]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """One epoch, or what is left of that of a loaded state. DataError if there are other rows than at first."""
        for a in self.arrays:
            if a.data.shape[:1] != (self._length,):
                raise DataError(
                    f"DataLoader: expected {self._length} rows as at first, got shape {a.shape}. Make a new DataLoader."
                )
        first, hand_out = self._begin()
        order = self._order()
        for i in range(first, len(self)):
            hand_out(i)
            yield tuple([self._batch(a, i, order) for a in self.arrays])

    def _order(self) -> Any:
        """The order of the rows in this epoch, drawn on the host, on the device of the data; None as they stand."""
        if not self.shuffle:
            return None
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
        return bounded(Tensor(data), a)


def bounded(part: Tensor, whole: Tensor) -> Tensor:
    """A part of whole numbers that know their range: labels in range stay in range."""
    if hasattr(whole, "bounds"):
        part.bounds = whole.bounds
    return part


def concatenated(parts: list[Tensor]) -> Tensor:
    """Batches of results as one."""
    return parts[0] if len(parts) == 1 else Tensor(namespace(parts[0].data).concat([p.data for p in parts], axis=0))
