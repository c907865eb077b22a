"""The edge where a person hands in data: checked once, cast once, moved once. Steps then trust it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from mmap import PAGESIZE, mmap
from typing import Any

from ..backend import (
    CPU,
    DTYPES,
    FLOATING,
    INTEGRAL,
    NUMPY,
    Device,
    HostArray,
    backend_of,
    dtype_name,
    is_array,
    to_host,
)
from ..creation import asarray, tensor
from ..data.loader import bounded, ranged
from ..data.prefetch import fits
from ..errors import DataError, DTypeError, ShapeError
from ..tensor import Tensor
from ..tree import leaves

MADV_DONTNEED = 4 if sys.platform == "linux" else None  # what others mean by it may lose data
ROOM = 160 << 20  # bytes of files that may stay in memory
BLOCK = 1 << 22  # bytes that are looked at together: data may be a file that is larger than memory


class Edge:
    """What becomes of data on its way to a model: the model's dtype and device, but for whole numbers that stay.

    Inputs and targets are arrays, or tuples and dicts of arrays. What is to `stay` is looked at and left where it is,
    to be brought over batch by batch.
    """

    def __init__(self, device: Device, dtype: Any, whole: bool = False, classes: Callable[[Any], bool] = bool) -> None:
        self.device, self.dtype = device, DTYPES[dtype_name(dtype)]
        self.whole, self.classes = whole, classes  # do integers stay integers, in inputs and in targets of an output?

    def inputs(self, X: Any, name: str = "X", check: bool = True, stay: bool = False) -> Any:
        """Inputs. DataError names the first NaN or infinity by row and column."""
        return self._nest(X, name, lambda key: self.whole, check, stay)

    def targets(self, y: Any, name: str = "y", check: bool = True, stay: bool = False) -> Any:
        """Targets; whole numbers know their range."""
        return self._nest(y, name, self.classes, check, stay)

    def batch(self, parts: Sequence[Any], check: bool, names: Sequence[str] = ("X", "y", "weight")) -> tuple[Any, ...]:
        """Inputs, targets and weights of a batch, where the model can use them."""
        x, *others = parts
        moved = [self._nest(x, names[0], lambda key: self.whole, check, False, once=False)]
        if others:
            moved.append(self._nest(others[0], names[1], self.classes, check, False, once=False))
        if len(others) > 1:
            moved.append(self.weights(others[1], None, names[2]) if check else self.moved(others[1], False))
        return tuple(moved)

    def weights(self, weight: Any, rows: int | None = None, name: str = "sample_weight", stay: bool = False) -> Tensor:
        """Weights of rows, (rows,); those of all `rows` are scaled to a mean of 1."""
        t = row_weights(weight, rows, name, self.device)
        if rows is not None:  # their sum may be more than the dtype of the model holds
            host = to_host(t.data).astype("float64")
            t = Tensor(host / host.mean())
        return t if stay else self.moved(t, False)

    def moved(self, t: Tensor, whole: bool) -> Tensor:
        """A part of the data where the model can use it; not copied if it is so already, and never written to."""
        dtype = DTYPES["int64"] if whole and t.dtype in INTEGRAL else self.dtype
        if t.dtype == dtype:
            here: Tensor = t.to(self.device).detach()
            return here
        if dtype == self.dtype:
            import logging  # here, because it is a twentieth of the import of this library

            logging.getLogger("nnbackend").debug("data of shape %s: %s as %s", t.shape, t.dtype, dtype)
        with NUMPY.xp.errstate(over="ignore"):
            near = t.astype(dtype) if dtype.itemsize < t.dtype.itemsize else t  # the fewer bytes to move, the better
            moved: Tensor = near.to(self.device).astype(dtype).detach()
        return moved if dtype == self.dtype else bounded(moved, t)

    def fits(self, form: Any) -> bool:
        """Whether data should lie on the device as a whole."""
        away = [t for t in leaves(form) if t.device == CPU != self.device]
        return fits(sum(t.size * max(t.dtype.itemsize, self.dtype.itemsize) for t in away), self.device)

    def _nest(
        self, data: Any, name: str, whole: Callable[[Any], bool], check: bool, stay: bool, once: bool = True
    ) -> Any:
        parts = nested(data)
        if parts is None:
            t = checked(data, name, self.device, once) if check else data
            narrow = t.dtype in FLOATING and t.dtype.itemsize > self.dtype.itemsize
            if check and narrow and not (stay and in_file(t)) and _looked_at(t, once):  # large numbers may not fit
                _check_finite(t, f"{name} in {self.dtype}", self.dtype)
            return t if stay else self.moved(t, whole(None))
        if not parts:
            raise DataError(f"{name}: expected at least one array, got an empty {type(data).__name__}.")
        made = {
            key: self._nest(part, f"{name}[{key!r}]", lambda _, key=key: whole(key), check, stay, once)  # type: ignore[misc]
            for key, part in parts.items()
        }
        return made if isinstance(data, Mapping) else tuple(made.values())


def nested(data: Any) -> dict[Any, Any] | None:
    """The parts of a tuple of arrays or of a dict, by place or name; a tuple of numbers or lists is data itself."""
    if isinstance(data, Mapping):
        return dict(data)
    if isinstance(data, tuple) and data and all(is_array(x) or hasattr(x, "to_numpy") or nested(x) for x in data):
        return dict(enumerate(data))
    return None


def checked(data: Any, name: str, device: Device | None = None, once: bool = True) -> Tensor:
    """Rows of finite numbers, as they are; those of another GPU than this `device` are brought over first.

    If this is not done `once` but for each batch, those on a GPU are not looked at, for that would be to wait.
    """
    t = _rows(data, name)
    t = t if device is None or t.device == CPU else t.to(device)
    if t.dtype in FLOATING and _looked_at(t, once):
        _check_finite(t, name)
    return ranged(t, anywhere=once)


def _looked_at(t: Tensor, once: bool) -> bool:
    return once or backend_of(t.data) is NUMPY


def row_weights(
    weight: Any, rows: int | None = None, name: str = "sample_weight", device: Device | None = None
) -> Tensor:
    """Weights of rows, (rows,), as they are. ValueError if they are negative, or those of all rows 0."""
    t = checked(weight, name, device)
    if t.ndim != 1 or (rows is not None and len(t) != rows):
        expected = "(rows,)" if rows is None else f"({rows},)"
        raise ShapeError(f"{name}: expected one weight a row, shape {expected}, got {t.shape}.")
    if (lowest := float(t.min())) < 0 or (rows is not None and not float(t.max()) > 0):
        raise ValueError(f"{name}: expected weights >= 0, and not all 0, got {lowest:g} as the lowest.")
    return t


def in_file(t: Tensor) -> bool:
    """Whether an array lies in a memory-mapped file."""
    return any(isinstance(base, mmap) for base in _bases(t))


def let_go(t: Tensor) -> int:
    """If they are many, pages of a file that have been read need not stay in memory; returns how many bytes there were.

    Changes that are in memory alone stay.
    """
    modes = {getattr(base, "mode", None) for base in _bases(t)}
    resident = _from_files()
    for base in _bases(t) if modes & {"r", "r+", "w+"} and resident > ROOM else ():
        if isinstance(base, mmap) and MADV_DONTNEED is not None:
            base.madvise(MADV_DONTNEED)
    return resident


def _from_files() -> int:
    """How many bytes of files this process has in memory, as far as the system says."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read().split()[2]) * PAGESIZE
    except OSError:
        return 0


def _bases(t: Tensor) -> Iterator[Any]:
    """The array, and those whose memory it shares."""
    base: Any = t.data
    while base is not None:
        yield base
        base = getattr(base, "base", None)


def fingerprint(t: Tensor, dtype: Any = None) -> dict[str, Any]:
    """Shape, dtype and SHA-256 of the values (C order, little endian): the same on every device, in every layout.

    With a `dtype`, of the values in that.
    """
    import hashlib  # here, because it loads OpenSSL: a tenth of the import of this library

    digest, dtype = hashlib.sha256(), t.dtype if dtype is None else dtype
    for block in _blocks(t, dtype):
        digest.update(block.astype(dtype.newbyteorder("<"), order="C", copy=False).reshape(-1).data)
    return {"shape": list(t.shape), "dtype": dtype.name, "sha256": digest.hexdigest()}


def _rows(data: Any, name: str) -> Tensor:
    t = _tensor(data, name)
    if not t.shape:
        raise DataError(f"{name}: expected rows, got a single number.")
    if not t.shape[0]:
        raise DataError(f"{name}: expected at least one row, got an empty dataset of shape {t.shape}.")
    return t


def _tensor(data: Any, name: str) -> Tensor:
    """The data as it is, sharing memory where it can; whole numbers on the host know their range."""
    if isinstance(data, Tensor):
        plain: Tensor = data.detach()
        return plain
    if not is_array(data) and hasattr(data, "to_numpy"):  # a data frame
        data = data.to_numpy()
    try:
        if not is_array(data):
            return tensor(data)
        t = asarray(data)
    except DTypeError as error:
        hint = " Encode class names with data.LabelEncoder." if name.startswith("y") else ""
        raise DTypeError(f"{name}: {error}{hint}") from error
    return ranged(t)


def _blocks(t: Tensor, dtype: Any) -> Iterator[HostArray]:
    """The values on the host in a dtype, some rows at a time."""
    if not t.shape:
        yield to_host(t.data)
        return
    rows = max(1, BLOCK * len(t) // max(1, t.size * t.dtype.itemsize))
    for start in range(0, len(t), rows):
        block = to_host(t.data[(slice(start, min(start + rows, len(t))), ...)])
        with NUMPY.xp.errstate(over="ignore"):
            block = block.astype(dtype, copy=False)
        yield block
        let_go(t)


def _check_finite(t: Tensor, name: str, dtype: Any = None) -> None:
    row = column = start = count = 0
    kind, dtype = "", t.dtype if dtype is None else dtype
    if (backend := backend_of(t.data)) is not NUMPY:  # one look at the device; where all is not well a copy comes here
        xp = backend.xp
        if bool(xp.all(xp.isfinite(xp.astype(t.data, backend.dtype(dtype), copy=False)))):
            return
    for block in _blocks(t, dtype):
        finite = NUMPY.xp.isfinite(block)
        if not finite.all():
            bad = ~finite.reshape(len(block), -1)
            if not count:
                row, column = divmod(int(bad.argmax()), bad.shape[1])
                value = block.reshape(bad.shape)[row, column]
                kind, row = "NaN" if value != value else "infinity", start + row
            count += int(bad.sum())
        start += len(block)
    if count:
        where = f"row {row}, column {column}" if t.ndim > 1 else f"row {row}"
        raise DataError(
            f"Input {name} contains {kind}: expected finite numbers, got {count} that are not (first: {where}). "
            "Drop those rows or fill them in.",
            row=row,
            column=column if t.ndim > 1 else None,
        )
