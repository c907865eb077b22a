"""What a fit reads: batches of arrays, of files larger than memory, or of whatever gives batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from contextlib import closing
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from ..backend import Array, backend_of, gather, namespace, to_host
from ..data import DataLoader
from ..data.loader import bounded
from ..data.prefetch import prefetched
from ..errors import DataError, LabelError, ShapeError
from ..functional.loss_checks import check_labels
from ..tensor import Tensor
from ..tree import filled, leaves, mapped
from .edge import ROOM, Edge, fingerprint, in_file, let_go

T = TypeVar("T")
Batch: TypeAlias = tuple[Any, ...]  # (inputs, targets) or (inputs, targets, weights), each an array or a nest of them
PIECE = 64  # rows at random places of a file to begin with; up to 2 MB around each come along


class FromHost(DataLoader):
    """Batches of a form that are put together on the host, then brought over to an edge.

    They are of all rows, or of those that are `taken`, in this order. What has been read of a memory-mapped file need
    not stay in memory, nor what lies around it.
    """

    def __init__(self, edge: Edge, form: Batch, batch_size: int | None, taken: Any = None, **settings: Any) -> None:
        super().__init__(*leaves(form), batch_size=batch_size, **settings)
        self._place, self._edge, self._form, self.taken = edge.device, edge, form, taken
        if taken is not None:
            self.rows = len(taken)
            self.batch_size = min(batch_size or self.rows, self.rows)

    def _brought(self, batch: tuple[Tensor, ...]) -> Batch:
        return self._edge.batch(filled(self._form, iter(batch)), check=False)

    def _order(self) -> Any:
        order = super()._order()
        if self.taken is None:
            return order
        return self.taken if order is None else self.taken[order]

    def _batch(self, a: Tensor, i: int, order: Any) -> Tensor:
        if not in_file(a):
            return super()._batch(a, i, order)
        start, stop = i * self.batch_size, min((i + 1) * self.batch_size, self.rows)
        if order is None:
            data = backend_of(a.data).copy(a.data[start:stop])
            let_go(a)
            return bounded(Tensor(data), a)
        xp = namespace(a.data)
        rows = order[start:stop]
        places = xp.argsort(rows)  # read from the start to the end of the file
        pieces, first, size = [], 0, PIECE
        while first < len(rows):
            pieces.append(gather(a.data, rows[places[first : first + size]]))
            first += size
            if let_go(a) < ROOM // 2:
                size *= 2
        data = pieces[0] if len(pieces) == 1 else xp.concat(pieces, axis=0)
        return bounded(Tensor(gather(data, xp.argsort(places))), a)


class Rows:
    """Arrays of as many rows: inputs, with targets, with weights. All rows, or those whose numbers are `taken`.

    They are `resident`, on the device as a whole, unless some lie in files or they would take too much of its memory.
    """

    def __init__(
        self,
        edge: Edge,
        form: Batch,
        batch_size: int | None,
        shuffle: bool = False,
        seed: int | None = None,
        taken: Any = None,
        resident: bool | None = None,
    ) -> None:
        files = any(map(in_file, leaves(form)))
        if resident is None:  # else the form is that of other rows
            resident = not files and edge.fits(form)
            form = edge.batch(form, check=False) if resident else mapped(_on_host, form)
        if taken is not None and not files:
            form = mapped(_part(taken), form)
        self.edge, self.form, self.resident = edge, form, resident
        self._taken: Any = None if files else taken  # the rows there are
        self._read: Any = taken if files else None  # the rows that are read
        self._nested = not all(isinstance(part, Tensor) for part in form)
        arrays: list[Tensor] = list(leaves(form))
        if len({len(t) for t in arrays}) > 1:
            shapes = " and ".join(f"{name} {t.shape}" for name, t in self._named(arrays).items())
            raise ShapeError(f"fit: expected as many targets as rows, got {shapes}")
        settings: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed}
        self.loader = (
            DataLoader(*arrays, **settings) if self.resident else FromHost(edge, form, taken=self._read, **settings)
        )
        self.rows, self.batch_size = self.loader.rows, self.loader.batch_size
        self._done = 0  # batches of an epoch that another run has begun

    @property
    def count(self) -> int:
        """How many batches an epoch has."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        batches: Iterator[Batch] = iter(self.loader)
        if self._nested and self.resident:
            batches = (filled(self.form, iter(batch)) for batch in batches)
        return batches

    def groups(self, k: int) -> Iterator[tuple[list[Batch], list[int], bool]]:
        """What is left of an epoch, k batches at a time, their rows, and whether they are the last."""
        done, count, self._done = self._done, self.count, 0
        size, last = self.batch_size, self.rows - (count - 1) * self.batch_size
        batches = iter(self)
        while done < count:
            group = list(islice(batches, k))
            done += len(group)
            yield group, [size] * len(group) if done < count else [*[size] * (len(group) - 1), last], done == count

    @property
    def plain(self) -> bool:
        """Whether batches are rows of arrays on the device, one array for the inputs, and so on."""
        return self.resident and not self._nested

    def numbered(self, most: Callable[[], int]) -> Iterator[tuple[list[Array], list[int], bool]]:
        """As `groups`, but the numbers of the rows on the device, of as many whole batches as `most` says."""
        self._done, size = 0, self.batch_size
        first, hand_out = self.loader._begin()
        order, count = self.loader._order(), self.count
        if order is None:
            place = self.loader.arrays[0].device
            order = namespace(self.loader.arrays[0].data).arange(self.rows, device=place.raw)
        while first < count:
            whole = (self.rows - first * size) // size
            some = range(first, first + max(1, min(most(), whole)))
            first = some.stop
            hand_out(first - 1)
            rows = [order[i * size : min((i + 1) * size, self.rows)] for i in some]
            yield rows, [len(r) for r in rows], first == count

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """The same rows as they stand, for a look at all of them."""
        return iter(Rows(self.edge, self.form, batch_size, taken=self._read, resident=self.resident))

    def recount(self, error: LabelError) -> None:
        """LabelError that counts the labels outside of all rows, not of a batch, and names the first row."""
        y = self.form[1] if len(self.form) > 1 else None
        if isinstance(y, Tensor) and error.classes is not None:
            check_labels(Tensor(to_host(y.data)), error.classes, str(error).partition(":")[0], error.ignore_index)

    def numbers(self, places: list[int]) -> list[int]:
        """Which rows of the data as it was handed in stand at these places of the pass begun last."""
        order = self.loader._order()
        rows = places if order is None else to_host(order)[places].tolist()
        return rows if self._taken is None else self._taken[rows].tolist()

    def begin(self, epoch: int) -> None:
        """The next pass is that of the epoch after this one."""
        self.loader.epoch = epoch

    def settings(self) -> dict[str, Any]:
        """How the batches are made."""
        return {"batch_size": self.batch_size, "shuffle": self.loader.shuffle}

    def prints(self) -> dict[str, Any]:
        """What tells the data from others, looked at once: as the model gets it, wherever it waits for that."""
        rows = {} if self._read is None else {"rows": fingerprint(Tensor(self._read))}
        brought = leaves(self.edge.batch(mapped(lambda t: t[(slice(0, 1), ...)], self.form), check=False))
        named = self._named(zip(leaves(self.form), brought, strict=True))
        return {**{name: fingerprint(t, one.dtype) for name, (t, one) in named.items()}, **rows}

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.loader.load_state_dict(state)
        self._done = self.loader.batch

    def _named(self, values: Iterable[T]) -> dict[str, T]:
        """What there is of each array, by what the array is."""
        names = [
            name if isinstance(nest, Tensor) else f"{name}[{i}]"
            for name, nest in zip(("X", "y", "weight"), self.form, strict=False)
            for i, _ in enumerate(leaves(nest))
        ]
        return dict(zip(names, values, strict=True))


def _on_host(t: Tensor) -> Tensor:
    return bounded(Tensor(to_host(t.data)), t)


def _part(rows: Any) -> Callable[[Tensor], Tensor]:
    """What takes these rows of a Tensor."""
    return lambda t: bounded(Tensor(gather(t.data, t.device.put(rows))), t)


class Stream:
    """Whatever gives batches (inputs, targets) or (inputs, targets, weights): a loader, a list, a function of none.

    Each pass is one epoch. DataError if a pass has more or fewer batches than the first.
    """

    batch_size = rows = None

    def __init__(self, edge: Edge, source: Any, epochs: int = 1, name: str = "X") -> None:
        self.edge, self.source, self.name = edge, source, name
        self.once = isinstance(source, Iterator)
        self.count: int | None = len(source) if isinstance(source, Sized) else None
        self.skip = 0
        if not isinstance(source, Iterable) and not callable(source):
            raise TypeError(
                f"{name}: expected rows with targets, batches, or a function that gives them, got {source!r}."
            )
        if self.once and epochs > 1:
            raise DataError(
                f"{name}: expected batches that can be read again for {epochs} epochs, got a {type(source).__name__}. "
                "Pass a list, a loader, or the function that makes it."
            )

    def __iter__(self) -> Generator[Batch]:
        """An epoch, or what is left of it."""
        place = self.skip
        self.skip = 0
        source: Any = self.source if isinstance(self.source, Iterable) else self.source()
        if not isinstance(source, Iterable):
            raise DataError(f"{self.name}: expected a function that gives batches, got {source!r} from it.")
        return prefetched(self._brought(source, place), self.edge.device)

    def _brought(self, source: Iterable[Any], place: int) -> Iterator[Batch]:
        own = hasattr(self.source, "load_state_dict")  # it goes on where it should by itself
        first = i = place if own else 0
        width = 0  # of the batches, in parts
        for i, batch in enumerate(source, start=first + 1):
            if i > place:
                names = [f"{name} of batch {i}" for name in (self.name, "y", "weight")]
                parts = self._parts(batch, i)
                width = width or len(parts)
                if len(parts) != width:
                    raise DataError(
                        f"{self.name}: expected weights in all batches or in none, got others in batch {i}."
                    )
                yield self.edge.batch(parts, True, names)
        if self.count is not None and i != self.count:
            raise DataError(f"{self.name}: expected {self.count} batches as at first, got {i}.")
        self.count = i
        if not i:
            raise DataError(f"{self.name}: expected batches, got none.")

    def _parts(self, batch: Any, i: int) -> tuple[Any, ...]:
        if isinstance(batch, tuple | list) and 2 <= len(batch) <= 3:
            return tuple(batch)
        got = f"{len(batch)} parts" if isinstance(batch, tuple | list) else f"a {type(batch).__name__}"
        raise DataError(
            f"{self.name}: expected batches (inputs, targets) or (inputs, targets, weights), got {got} in batch {i}."
        )

    def groups(self, k: int) -> Iterator[tuple[list[Batch], list[int], bool]]:
        """What is left of an epoch, k batches at a time, their rows, and whether they are the last."""
        with closing(iter(self)) as batches:
            group = list(islice(batches, k))
            while group:
                after = list(islice(batches, k))
                yield group, [len(next(leaves(batch))) for batch in group], not after
                group = after

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """An epoch, for a look at all of it; the source then stands where it stood."""
        before, epoch = self.state_dict(), getattr(self.source, "epoch", None)
        yield from self
        self.begin(epoch)
        if before:
            self.source.load_state_dict(before)

    def begin(self, epoch: Any) -> None:
        """The next pass is that of the epoch after this one."""
        if isinstance(getattr(self.source, "epoch", None), int):
            self.source.epoch = epoch

    def settings(self) -> dict[str, Any]:
        """How the batches are made is not known."""
        return {}

    def prints(self) -> dict[str, Any]:
        """What tells the data from others: little."""
        return {self.name.removesuffix("_val"): f"batches of a {type(self.source).__name__}"}

    def recount(self, error: LabelError) -> None:
        """Other rows are not at hand."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as far as the source can say."""
        return dict(self.source.state_dict()) if hasattr(self.source, "load_state_dict") else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: from this batch of this epoch."""
        self.skip = state["batch"]
        if hasattr(self.source, "load_state_dict"):
            self.source.load_state_dict(state)
