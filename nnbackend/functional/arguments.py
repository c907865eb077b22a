"""What functions ask of their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend import CPU, SYNC, Array, HostArray, backend_of, device_of, to_host
from ..tensor import Tensor


def raw_of(x: Any) -> Array:
    """The array of a Tensor; other arrays as they are."""
    return x.data if isinstance(x, Tensor) else x


def kind_of(x: Any) -> Any:
    """The dtype, by NumPy's name for it."""
    raw = raw_of(x)
    return backend_of(raw).canonical(raw.dtype)


def readable(x: Any) -> HostArray | None:
    """The values where looking at them costs no wait for a device, else None."""
    raw = raw_of(x)
    return to_host(raw) if device_of(raw) == CPU or SYNC else None


def each(name: str, what: str, value: Any, axes: int, least: int | None = None) -> tuple[Any, ...]:
    """A setting for each axis, from one for all or from a sequence. ValueError for other lengths, or below `least`."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    values = values * axes if len(values) == 1 else values
    if len(values) != axes or (least is not None and min(values) < least):
        bound = "" if least is None else f" of {least} or more"
        raise ValueError(f"{name}: expected {what}{bound}, one number or {axes}, got {value!r}.")
    return values


__all__: list[str] = []
