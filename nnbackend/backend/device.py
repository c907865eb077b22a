"""Where arrays live: `"cpu"`, `"cuda:0"`, or a device of any array-API library."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, wraps
from importlib import import_module
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar, get_args

import numpy as np

from ..errors import DeviceError, DeviceUnavailableError, DTypeError
from .base import Array, Backend, Memory, Precision, log
from .detect import cuda_status
from .registry import NUMPY, backend_of, is_array, library_backend


class Device:
    """A place for arrays: a library's backend and that library's own word for the device."""

    __slots__ = ("backend", "precision", "raw")

    def __init__(self, backend: Backend, raw: Any, precision: Precision = "ieee") -> None:
        self.backend, self.raw, self.precision = backend, raw, precision

    def __str__(self) -> str:
        return self.backend.device_name(self.raw)

    def __repr__(self) -> str:
        return f"device({str(self)!r}" + f", precision={self.precision!r}" * (self.precision != "ieee") + ")"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Device | str) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Found again by name: models and trainers can be copied and pickled."""
        if self.backend.name in ("numpy", "cupy"):
            return device, (str(self), None if self.precision == "ieee" else self.precision)
        return _of, (self.backend.name, self.raw)

    def put(self, host: Any) -> Array:
        """A copy of host data (a NumPy array) on this device."""
        return self.backend.from_host(host, self.raw)

    def stream(self) -> AbstractContextManager[Any]:
        """Work on this device inside: in turn with what comes before and after, and without waiting for it.

        On CUDA the device becomes CuPy's current one, and one stream of nnbackend's own its current stream. Trainers
        and estimators do this by themselves; loops of your own need it on all but the first GPU, or for `precision`.
        MemoryError says what was asked for and what is free, DeviceError what CUDA reports.
        """
        return self.backend.stream(self.raw, self.precision)

    def here(self) -> Callable[[], AbstractContextManager[Any]]:
        """What another thread enters so that its work on this device takes its turn with the work of this thread."""
        return self.backend.here(self.raw)

    def synchronize(self) -> None:
        """Wait until all work on this device is done. DeviceError if some of it has failed."""
        self.backend.synchronize(self.raw)

    def memory(self) -> Memory | None:
        """Bytes that are free, in all, used and reserved; None where the device does not say."""
        return self.backend.memory(self.raw)


def _of(library: str, raw: Any) -> Device:
    import_module(library)  # which gave `raw`
    return Device(library_backend(library), raw)


DeviceLike: TypeAlias = Any  # a name, a Device, an array (its device), or the device object of an array library
CPU = Device(NUMPY, "cpu")


def device(spec: DeviceLike = "auto", precision: Precision | None = None) -> Device:
    """The device meant by `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, an array, or an array library's own device object.

    `"cuda"` raises DeviceUnavailableError with the diagnosis and the fix; only `"auto"` falls back, and logs why, once.
    `NNBACKEND_DEVICE` says what `"auto"` means. ValueError for names that do not exist.

    `precision` says how far fits on a GPU may round the factors of float32 matrix products, which makes them faster:
    "tf32" and "float16" to 10 bits of mantissa, "bfloat16" to 7, "ieee", the default, not at all. Products are summed
    in float32, and all else stays float32: weights, gradients, optimizers, norms, losses. With "float16" each factor
    has a scale of its own, so the loss needs none. Without CUDA it has no effect, and wherever arrays are compared,
    moved or named it makes no difference.
    """
    if precision is not None:
        return _precise(device(spec), precision)
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


def _precise(place: Device, precision: Precision) -> Device:
    if precision not in get_args(Precision):
        raise ValueError(f'device: expected precision="ieee", "tf32", "bfloat16" or "float16", got {precision!r}.')
    return Device(place.backend, place.raw, precision)


_NAMES = 'one of "auto", "cpu", "cuda", "cuda:N", or a device object of an array library'


def _named(name: str) -> Device:
    if name == "cpu":
        return CPU
    if name == "auto":
        return _auto(os.environ.get("NNBACKEND_DEVICE") or "auto")
    match = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", name)
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
        try:
            return _named(wish)
        except ValueError as error:
            raise ValueError(f"NNBACKEND_DEVICE: {error}") from None
    status = cuda_status()
    log("device auto: %s (%s)", "cuda:0" if status.usable else "cpu", status.reason)
    return _named("cuda:0") if status.usable else CPU


def _unavailable(message: str, reason: str) -> DeviceUnavailableError:
    error = DeviceUnavailableError(message)
    error.reason = reason
    return error


_P = ParamSpec("_P")
_T = TypeVar("_T")


def on_its_device(method: Callable[Concatenate[Any, _P], _T]) -> Callable[Concatenate[Any, _P], _T]:
    """A method whose work is done on `self.device`."""

    @wraps(method)
    def run(self: Any, *args: _P.args, **kw: _P.kwargs) -> _T:
        with self.device.stream():
            return method(self, *args, **kw)

    return run  # type: ignore[return-value]


def device_of(x: Array) -> Device:
    """Where an array lives."""
    backend = backend_of(x)
    if backend is NUMPY:
        return CPU
    raw = backend.raw_device(x)
    return raw if isinstance(raw, Device) else Device(backend, raw)


HostArray: TypeAlias = np.ndarray[Any, Any]
HOST_MEMORY, CUDA_MEMORY = (1, 3), (2, 13)  # DLPack's numbers: plain and page-locked; the GPU's and managed


def from_dlpack(x: Any) -> Array:
    """An array over the memory that another library shows by DLPack: NumPy's on the host, CuPy's on a GPU.

    DeviceError for memory of other devices, DTypeError for numbers that NumPy has not.
    """
    if not hasattr(x, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: expected an array that shows its memory by DLPack, got {type(x).__name__}.")
    kind, number = x.__dlpack_device__()
    if kind not in HOST_MEMORY + CUDA_MEMORY:
        raise DeviceError(f"from_dlpack: expected memory of the host or of a CUDA GPU, got DLPack's device {kind}.")
    place = _named(f"cuda:{number}") if kind in CUDA_MEMORY else CPU
    try:
        with place.backend.on(place.raw):
            return place.backend.from_dlpack(x)
    except (RuntimeError, BufferError) as error:
        if "dtype" not in str(error).lower():
            raise
        got = getattr(x, "dtype", "another")
        raise DTypeError(
            f"from_dlpack: expected a dtype that {place.backend.name} has, got {got}. Cast it first."
        ) from error


def to_host(x: Array) -> HostArray:
    """A NumPy array of the values of any array: the one way back to the host. It may share memory."""
    return backend_of(x).to_host(x)


def shown(x: Array, prefix: str = "") -> str:
    """The values for people, four digits, middle parts left out where there are many."""
    return np.array2string(to_host(x), separator=", ", precision=4, suppress_small=True, prefix=prefix)
