"""The edge where a person hands in data: checked once, cast once, moved once. Steps then trust it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backend import FLOATING, INTEGRAL, NUMPY, Device, HostArray, backend_of, is_array, to_host
from ..creation import asarray, tensor
from ..errors import DataError, DTypeError
from ..tensor import Tensor

BLOCK = 1 << 22  # bytes that are looked at together: data may be a file that is larger than memory


def features(X: Any, device: Device, dtype: Any, name: str = "X") -> Tensor:
    """Inputs in the model's dtype on its device, not copied where they are so already, and never written to.

    DataError names the first NaN or infinity by row and column.
    """
    t = _rows(X, name)
    if t.dtype in FLOATING:
        _check_finite(t, name)
    moved: Tensor = t.to(device).astype(dtype).detach()
    return moved


def targets(y: Any, device: Device, dtype: Any, name: str = "y", classes: bool = True) -> Tensor:
    """Integers stay integers, and know their range, where they may be `classes`; all else gets the model's dtype."""
    t = _rows(y, name)
    if t.dtype not in INTEGRAL or not classes:
        return features(t, device, dtype, name)
    wide: Tensor = t.to(device).astype("int64")
    if hasattr(t, "bounds"):
        wide.bounds = t.bounds
    return wide


def fingerprint(t: Tensor) -> dict[str, Any]:
    """Shape, dtype and SHA-256 of the values (C order, little endian): the same on every device, in every layout."""
    import hashlib  # here, because it loads OpenSSL: a tenth of the import of this library

    digest = hashlib.sha256()
    for block in _blocks(t):
        digest.update(block.astype(block.dtype.newbyteorder("<"), order="C", copy=False).reshape(-1).data)
    return {"shape": list(t.shape), "dtype": t.dtype.name, "sha256": digest.hexdigest()}


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
    if t.dtype in INTEGRAL and t.size and backend_of(t.data) is NUMPY:
        t.bounds = int(t.data.min()), int(t.data.max())
    return t


def _blocks(t: Tensor) -> Iterator[HostArray]:
    """The values on the host, some rows at a time."""
    if not t.shape:
        yield to_host(t.data)
        return
    rows = max(1, BLOCK * len(t) // max(1, t.size * t.dtype.itemsize))
    for start in range(0, len(t), rows):
        yield to_host(t.data[(slice(start, min(start + rows, len(t))), ...)])


def _check_finite(t: Tensor, name: str) -> None:
    row = column = start = count = 0
    kind = ""
    for block in _blocks(t):
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
