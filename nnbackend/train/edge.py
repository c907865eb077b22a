"""The edge where a person hands in data: checked once, cast once, moved once. Steps then trust it."""

from __future__ import annotations

from typing import Any

from ..backend import FLOATING, INTEGRAL, NUMPY, Device, HostArray, is_array, to_host
from ..creation import tensor
from ..errors import DataError, DTypeError
from ..tensor import Tensor


def features(X: Any, device: Device, dtype: Any, name: str = "X") -> Tensor:
    """Inputs in the model's dtype on its device. DataError names the first NaN or infinity by row and column."""
    t = _tensor(X, name)
    if not t.shape:
        raise DataError(f"{name}: expected rows, got a single number.")
    if not t.shape[0]:
        raise DataError(f"{name}: expected at least one row, got an empty dataset of shape {t.shape}.")
    if t.dtype in FLOATING:
        _check_finite(to_host(t.data), name)
    moved: Tensor = t.to(device).astype(dtype).detach()
    return moved


def targets(y: Any, device: Device, dtype: Any, name: str = "y", classes: bool = True) -> Tensor:
    """Integers stay integers, and know their range, where they may be `classes`; all else gets the model's dtype."""
    t = _tensor(y, name)
    if t.dtype not in INTEGRAL or not classes:
        return features(t, device, dtype, name)
    wide: Tensor = t.to(device).astype("int64")
    if hasattr(t, "bounds"):
        wide.bounds = t.bounds
    return wide


def _tensor(data: Any, name: str) -> Tensor:
    if isinstance(data, Tensor):
        plain: Tensor = data.detach()
        return plain
    if not is_array(data) and hasattr(data, "to_numpy"):  # a data frame
        data = data.to_numpy()
    try:
        return tensor(data)
    except DTypeError as error:
        hint = " Encode class names with data.LabelEncoder." if name.startswith("y") else ""
        raise DTypeError(f"{name}: {error}{hint}") from error


def _check_finite(host: HostArray, name: str) -> None:
    finite = NUMPY.xp.isfinite(host)
    if finite.all():
        return
    rows, bad = host.reshape(host.shape[0], -1), ~finite.reshape(host.shape[0], -1)
    row, column = divmod(int(bad.argmax()), rows.shape[1])
    kind = "NaN" if rows[row, column] != rows[row, column] else "infinity"
    where = f"row {row}, column {column}" if host.ndim > 1 else f"row {row}"
    raise DataError(
        f"Input {name} contains {kind}: expected finite numbers, got {int(bad.sum())} that are not (first: {where}). "
        "Drop those rows or fill them in.",
        row=row,
        column=column if host.ndim > 1 else None,
    )
