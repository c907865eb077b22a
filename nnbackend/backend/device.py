"""Where arrays live: `"cpu"`, `"cuda:0"`, or a device of any array-API library."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np

from ..errors import DeviceUnavailableError
from .base import Array, Backend
from .detect import cuda_status
from .registry import NUMPY, backend_of, is_array, library_backend


class Device:
    """A place for arrays: a library's backend and that library's own word for the device."""

    __slots__ = ("backend", "raw")

    def __init__(self, backend: Backend, raw: Any) -> None:
        self.backend, self.raw = backend, raw

    def __str__(self) -> str:
        return self.backend.device_name(self.raw)

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Device | str) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Found again by name: models and trainers can be copied and pickled."""
        return (
            (device, (str(self),)) if self.backend.name in ("numpy", "cupy") else (_of, (self.backend.name, self.raw))
        )

    def put(self, host: Any) -> Array:
        """A copy of host data (a NumPy array) on this device."""
        return self.backend.from_host(host, self.raw)


def _of(library: str, raw: Any) -> Device:
    import_module(library)  # which gave `raw`
    return Device(library_backend(library), raw)


DeviceLike: TypeAlias = Any  # a name, a Device, an array (its device), or the device object of an array library
CPU = Device(NUMPY, "cpu")


def device(spec: DeviceLike = "auto") -> Device:
    """The device meant by `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, an array, or an array library's own device object.

    `"cuda"` raises DeviceUnavailableError with the diagnosis and the fix; only `"auto"` falls back, and logs why, once.
    `NNBACKEND_DEVICE` says what `"auto"` means. ValueError for names that do not exist.
    """
    if isinstance(spec, Device):
        return spec
    if isinstance(spec, str):
        return _named(spec)
    if is_array(spec):
        return device_of(spec)
    library = type(spec).__module__.partition(".")[0]
    if library in ("cupy", "array_api_strict") and type(spec).__name__ == "Device":
        return Device(library_backend(library), spec)
    raise ValueError(f"device: expected {_NAMES}, got {spec!r}.")


_NAMES = 'one of "auto", "cpu", "cuda", "cuda:N", or a device object of an array library'


def _named(name: str) -> Device:
    if name == "cpu":
        return CPU
    if name == "auto":
        return _auto(os.environ.get("NNBACKEND_DEVICE", "auto"))
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        raise ValueError(f"device: expected {_NAMES}, got {name!r}.")
    status, index = cuda_status(), int(match[1] or 0)
    if not status.usable:
        raise _unavailable(f'device="{name}": {status.reason}. {status.fix}', status.reason)
    if index >= status.devices:
        reason = f"{name} requested, {status.devices} device{'s' * (status.devices > 1)} (0..{status.devices - 1})"
        raise _unavailable(f"{reason}. Use one of those.", reason)
    backend = library_backend("cupy")
    return Device(backend, backend.xp.cuda.Device(index))


@cache
def _auto(wish: str) -> Device:
    """Decided once a process, so that it is logged once."""
    if wish != "auto":
        return _named(wish)
    import logging  # here, because most programs never ask: it is a twentieth of the import of this library

    status = cuda_status()
    logging.getLogger("nnbackend").info("device auto: %s (%s)", "cuda:0" if status.usable else "cpu", status.reason)
    return _named("cuda:0") if status.usable else CPU


def _unavailable(message: str, reason: str) -> DeviceUnavailableError:
    error = DeviceUnavailableError(message)
    error.reason = reason
    return error


def device_of(x: Array) -> Device:
    """Where an array lives."""
    backend = backend_of(x)
    if backend is NUMPY:
        return CPU
    raw = backend.raw_device(x)
    return raw if isinstance(raw, Device) else Device(backend, raw)


HostArray: TypeAlias = np.ndarray[Any, Any]


def to_host(x: Array) -> HostArray:
    """A NumPy array of the values of any array: the one way back to the host. It may share memory."""
    return backend_of(x).to_host(x)


def shown(x: Array, prefix: str = "") -> str:
    """The values for people, four digits, middle parts left out where there are many."""
    return np.array2string(to_host(x), separator=", ", precision=4, suppress_small=True, prefix=prefix)
