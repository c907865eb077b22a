"""CSVLoader: batches from a CSV file that may be larger than memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..backend import DeviceLike
from ..backend import device as find_device
from ..creation import asarray
from ..errors import DataError, IncompatibleCheckpointError
from ..random import generator, site_of
from ..tensor import Tensor
from .csv_rows import NUMBER, Block, fault, features_of, missing_fault, no_row_left, numbers, read_blocks
from .passes import Passes, check_batch_size

if TYPE_CHECKING:
    from numpy.typing import NDArray  # costs 15 ms

Missing = Literal["error", "drop"]
DType = Literal["float32", "float64"]
Names = str | Iterable[str]
Arrays = tuple[Any, Any]  # features and target of some rows


class CSVLoader(Passes):
    """Batches (x, y) of the rows of a CSV file: `for x, y in CSVLoader("rows.csv", "price")` is one epoch.

    The rules and the errors are those of `read_csv`. The file is read once when the loader is made, so that all of
    them come before training, and again in each pass, some rows at a time; DataError if it is another file by then.

    x is (batch, features): all columns but the target, unless named. y is (batch,), or (batch, targets) for a list of
    names. A target of text becomes indices into `classes`: those of the file, sorted, unless given; numbers stay
    numbers unless `classes` are. Rows that miss a cell they need are an "error", or "drop" them. The order is the
    file's, or each block of `shuffle_rows` rows in one of its own, given by (seed, epoch). `transform` gets each x as
    a NumPy array, such as a scaler's.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        target: Names,
        features: Iterable[str] | None = None,
        *,
        batch_size: int | None = 32,
        shuffle_rows: int = 0,
        seed: int | None = None,
        drop_last: bool = False,
        delimiter: str = ",",
        missing: Missing = "error",
        classes: Iterable[str | float] | None = None,
        transform: Callable[[Any], Any] | None = None,
        dtype: DType = "float32",
        device: DeviceLike = None,
    ) -> None:
        check_batch_size("CSVLoader", batch_size)
        if shuffle_rows < 0:
            raise ValueError(f"CSVLoader: expected shuffle_rows >= 0, got {shuffle_rows}. Pass 0 for the file's order.")
        self.device = None if device is None else find_device(device)
        self._file = _File(fspath(path), target, features, delimiter, missing, classes, dtype)
        self.shuffle_rows, self.transform = shuffle_rows, transform
        super().__init__(self._file.rows, batch_size, drop_last, seed)

    @property
    def features(self) -> list[str]:
        """The names of the columns of x."""
        return list(self._file.features)

    @property
    def classes(self) -> list[Any] | None:
        """What the indices in y stand for; None for a target of numbers."""
        return self._file.classes

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch, or what is left of that of a loaded state."""
        first, hand_out = self._begin()
        size = self.batch_size
        together = max(1, -(-self.shuffle_rows // size))  # so many batches are shuffled as one
        for part, (x, y) in enumerate(_regrouped(self._file.parts(), together * size)):
            start = part * together
            if self.shuffle_rows:
                order = generator(self.key, site_of("CSVLoader"), self.epoch, part).permutation(len(x))
                x, y = x[order], y[order]
            for i in range(max(start, first), min(start + together, len(self))):
                rows = slice((i - start) * size, (i - start + 1) * size)
                batch = self._batch(x[rows], y[rows])
                hand_out(i)
                yield batch

    def _batch(self, x: Any, y: Any) -> tuple[Tensor, Tensor]:
        if self.transform is not None:
            x = self.transform(x)
        features, targets = asarray(x, device=self.device), asarray(y, device=self.device)
        if self.classes is not None:
            targets.bounds = 0, len(self.classes) - 1  # labels in range stay in range
        return features, targets

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, with the SHA-256 of the file."""
        return {**super().state_dict(), "sha256": self._file.sha256}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on from there. IncompatibleCheckpointError, and nothing has changed, if it cannot."""
        position = self._position(state)
        if (sha256 := state.get("sha256")) != self._file.sha256:
            expected = f"the state of a loader of a file with SHA-256 {self._file.sha256}"
            raise IncompatibleCheckpointError(
                f"CSVLoader.load_state_dict: expected {expected}, got {sha256!r:.80}. Use the file of the state."
            )
        self._go_to(position)


class _File:
    """A CSV file as arrays, some rows at a time. All of it has been read, and found right, once."""

    def __init__(
        self,
        path: str,
        target: Names,
        features: Iterable[str] | None,
        delimiter: str,
        missing: Missing,
        classes: Iterable[str | float] | None,
        dtype: DType,
    ) -> None:
        for name, value, known in (("missing", missing, Missing), ("dtype", dtype, DType)):
            if value not in get_args(known):
                raise ValueError(f"CSVLoader: expected {name} among {get_args(known)}, got {value!r}. Choose one.")
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise fault(path, "expected a file that can be read again, got a pipe or a device. Save it as a file.")
        self.path, self.delimiter, self.dtype = path, delimiter, dtype
        self.targets, self.one = ([target], True) if isinstance(target, str) else (list(target), False)
        self.classes = None if classes is None else _distinct(classes)
        if classes is not None and not self.one:
            raise ValueError(f"CSVLoader: expected one target with classes, got {self.targets}. Pass its name alone.")
        self._read(features, missing)

    def _read(self, features: Iterable[str] | None, missing: Missing) -> None:
        """Look at all of it."""
        digest = _sha256()
        self.names, blocks = read_blocks(self.path, self.delimiter, digest)
        self.features = features_of(self.path, self.names, self.targets, features)
        self.rows, text, words = 0, False, set[str]()
        counts, first_gap = Counter[str](), (0, "")
        for block, gaps in map(self._whole, blocks):
            if gaps and not counts:
                first_gap = gaps[0]
            counts.update(name for _, name in gaps)
            self._numbers(block, self.features)
            if not self.rows and self.one and self.classes is None and block.lines:
                text = not NUMBER.fullmatch(self._column(block, self.targets[0])[0])
            if text:
                words.update(self._column(block, self.targets[0]))
            else:
                self._y(block)
            self.rows += len(block.lines)
        if counts and missing == "error":
            raise missing_fault(self.path, counts, *first_gap, "Correct them, or pass missing='drop'.")
        if not self.rows:
            raise no_row_left(self.path, counts)
        self.classes = sorted(words) if text else self.classes
        self.bytes, self.sha256 = os.path.getsize(self.path), digest.hexdigest()

    def parts(self) -> Iterator[Arrays]:
        """All rows, some at a time: features (rows, features), and the target (rows,) or (rows, targets).

        DataError at the end, or as soon as it shows, if the file has changed.
        """
        digest, count = _sha256(), 0
        names, blocks = read_blocks(self.path, self.delimiter, digest)
        if names == self.names and os.path.getsize(self.path) == self.bytes:
            for block, _ in map(self._whole, blocks):
                count += len(block.lines)
                if count > self.rows:
                    break
                yield self._numbers(block, self.features), self._y(block)
        if count != self.rows or digest.hexdigest() != self.sha256:
            problem = "expected the file as it was when the loader was made, got one that has changed"
            raise fault(self.path, f"{problem}. Make a new CSVLoader.")

    def _whole(self, block: Block) -> tuple[Block, list[tuple[int, str]]]:
        """The rows that miss nothing; line and column of each cell that others miss."""
        gaps = block.gaps(self.names.index(name) for name in (*self.targets, *self.features))
        if not gaps:
            return block, []
        return block.without({row for row, _ in gaps}), [(block.lines[row], self.names[i]) for row, i in gaps]

    def _column(self, block: Block, name: str) -> list[str]:
        return block.columns[self.names.index(name)]

    def _y(self, block: Block) -> NDArray[Any]:
        if self.classes is None:
            values = self._numbers(block, self.targets)
            return values[:, 0] if self.one else values
        index: dict[Any, int] = {label: i for i, label in enumerate(self.classes)}
        read = str if isinstance(self.classes[0], str) else _number
        cells = self._column(block, self.targets[0])
        labels = [index.get(read(cell), -1) for cell in cells]
        if -1 in labels:
            row = labels.index(-1)
            known = ", ".join(map(repr, self.classes[:10])) + ", ..." * (len(self.classes) > 10)
            problem = f"expected one of the classes {known}, got {cells[row]!r}. Correct the cell, or the classes."
            raise fault(self.path, problem, block.lines[row], self.targets[0])
        return np.array(labels, np.int64)

    def _numbers(self, block: Block, names: list[str]) -> NDArray[Any]:
        """Cells that must be finite numbers, (rows, names)."""
        columns = [numbers(self._column(block, name)) for name in names]
        if words := [name for name, column in zip(names, columns, strict=True) if column is None]:
            raise self._no_number(block, words, names is self.features)
        with np.errstate(over="ignore"):
            values: NDArray[Any] = np.array(columns, np.float64).T.astype(self.dtype, order="C")
        if not np.isfinite(values).all():
            row, i = map(int, np.argwhere(~np.isfinite(values))[0])
            problem = f"expected a finite number in {self.dtype}, got {self._column(block, names[i])[row]!r}"
            raise fault(self.path, f"{problem}. Correct the cell.", block.lines[row], names[i])
        return values

    def _no_number(self, block: Block, words: list[str], features: bool) -> DataError:
        """The error for columns that are not of numbers alone."""
        found = ((row, name) for name in words for row, cell in enumerate(self._column(block, name)))
        row, name = min((row, name) for row, name in found if not NUMBER.fullmatch(self._column(block, name)[row]))
        more = f" (and text in {', '.join(repr(w) for w in words if w != name)})" if len(words) > 1 else ""
        fix = "name the numeric columns in features=" if features else "pass classes="
        problem = f"expected a number, got {self._column(block, name)[row]!r}{more}. Correct the cell, or {fix}."
        return fault(self.path, problem, block.lines[row], name)


def _regrouped(parts: Iterable[Arrays], size: int) -> Iterator[Arrays]:
    """So many rows at a time. The last ones are held back until all parts are there: that may raise."""
    held: list[Arrays] = []
    for part in parts:
        held.append(part)
        if (count := sum(len(x) for x, _ in held)) > size:
            x, y = (np.concatenate(arrays) for arrays in zip(*held, strict=True))
            whole = (count - 1) // size * size
            yield from ((x[i : i + size], y[i : i + size]) for i in range(0, whole, size))
            held = [(x[whole:], y[whole:])]
    x, y = (np.concatenate(arrays) for arrays in zip(*held, strict=True))
    yield x, y


def _number(cell: str) -> float | str:
    """The number that a cell is, or its text."""
    return float(cell) if NUMBER.fullmatch(cell) else cell


def _distinct(classes: Iterable[str | float]) -> list[Any]:
    """Different texts or different numbers."""
    found = [c.item() if isinstance(c, np.generic) else c for c in classes]
    one_kind = all(isinstance(c, str) for c in found) or all(type(c) in (int, float) for c in found)
    if not found or not one_kind or len(set(found)) < len(found):
        raise ValueError(f"CSVLoader: expected classes, all different texts or all different numbers, got {found}.")
    return found


def _sha256() -> Any:
    import hashlib  # here, because it loads OpenSSL: a tenth of the import of this library

    return hashlib.sha256()
