"""DataLoader: batches of arrays, on the device they are for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from ..backend import CPU, INTEGRAL, NUMPY, Device, DeviceLike, backend_of, gather, namespace
from ..backend import device as find_device
from ..creation import asarray
from ..errors import DataError, ShapeError
from ..random import permutation, site_of
from ..tensor import Tensor
from .passes import Passes
from .prefetch import fits, prefetched


class DataLoader(Passes):
    """Batches of rows: `for x, y in DataLoader(X, y, batch_size=32, seed=0)` is one epoch.

    Batches are on `device`, by default where the data is. Data that is there already is not copied: a memory-mapped
    file is read batch by batch. Other data is `resident`, moved there as a whole, if it takes no more than a quarter of
    the free memory; else its batches are put together on the host, and a thread brings over up to two ahead. True or
    False decides that, where there is a `device`; the batches are the same.

    Each pass is one epoch in an order of its own, given by (seed, epoch); the last batch may be smaller unless
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
        resident: bool | None = None,
    ) -> None:
        if not arrays:
            raise DataError("DataLoader: expected at least one array, got none.")
        given: list[Tensor] = [asarray(a).detach() for a in arrays]
        lengths = [a.shape[0] if a.shape else 0 for a in given]
        if len(set(lengths)) > 1:
            raise ShapeError(f"DataLoader: expected arrays of one length, got {lengths}")
        if not lengths[0]:
            raise DataError("DataLoader: expected at least one row, got an empty dataset.")
        super().__init__(lengths[0], batch_size, drop_last, seed)
        self.shuffle, self._length = shuffle, lengths[0]
        self._place: Device | None = None  # where batches are brought to; None: they are made where they are wanted
        if device is not None:
            place = find_device(device)
            away = [ranged(a) for a in given if a.device != place]
            if resident is None:
                resident = fits(sum(a.size * a.dtype.itemsize for a in away), place)
            given = [a.to(place if resident else CPU) for a in given]
            self._place = None if resident else place
        self.arrays: tuple[Tensor, ...] = tuple(given)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """One epoch, or what is left of that of a loaded state. DataError if there are other rows than at first."""
        for a in self.arrays:
            if a.data.shape[:1] != (self._length,):
                raise DataError(
                    f"DataLoader: expected {self._length} rows as at first, got shape {a.shape}. Make a new DataLoader."
                )
        first, hand_out = self._begin()
        order = self._order()

        def made(i: int) -> tuple[Tensor, ...]:
            return tuple([self._batch(a, i, order) for a in self.arrays])

        if self._place is None:
            for i in range(first, len(self)):
                hand_out(i)
                yield made(i)
            return
        numbers = range(first, len(self))
        with closing(prefetched((self._brought(made(i)) for i in numbers), self._place)) as batches:
            for i, batch in zip(numbers, batches, strict=True):
                hand_out(i)
                yield batch

    def _brought(self, batch: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """A batch where it is wanted."""
        return tuple([t.to(self._place) for t in batch])

    def _order(self) -> Any:
        """The order of the rows in this epoch, drawn on the host, on the device of the data; None as they stand."""
        if not self.shuffle:
            return None
        return permutation(self.rows, self.key, site_of("DataLoader"), self.epoch, device=self.arrays[0].device)

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


def ranged(t: Tensor, anywhere: bool = False) -> Tensor:
    """Whole numbers on the host know their range from now on; those `anywhere` too, if it is worth waiting for."""
    if t.dtype in INTEGRAL and t.size and not hasattr(t, "bounds") and (anywhere or backend_of(t.data) is NUMPY):
        xp = namespace(t.data)
        t.bounds = int(xp.min(t.data)), int(xp.max(t.data))
    return t


def concatenated(parts: list[Tensor]) -> Tensor:
    """Batches of results as one."""
    return parts[0] if len(parts) == 1 else Tensor(namespace(parts[0].data).concat([p.data for p in parts], axis=0))
