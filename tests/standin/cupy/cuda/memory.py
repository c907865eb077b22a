"""A memory pool that counts: blocks of 512 bytes, kept for reuse when freed, refused above a limit.

Pools other than the default one hand the memory that was freed last to the next array of this size and stream.
"""

import contextlib
import ctypes
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import _capture, runtime
from .device import Device

_UNIT = 512
_lock = threading.RLock()  # memory may be freed by the garbage collector while this thread holds it
_pools: weakref.WeakSet["MemoryPool"] = weakref.WeakSet()
_local = threading.local()


class OutOfMemoryError(MemoryError):
    """CuPy's, with its text."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        self._size, self._total, self._limit = size, total, limit
        so_far = f"allocated so far: {total:,} bytes"
        super().__init__(
            f"Out of memory allocating {size:,} bytes ({so_far}, limit set to: {limit:,} bytes)."
            if limit
            else f"Out of memory allocating {size:,} bytes ({so_far})."
        )

    def __reduce__(self) -> Any:
        return type(self), (self._size, self._total, self._limit)


class Memory:
    """A block of one device. `host` is the NumPy array that stands for it."""

    __slots__ = ("_key", "_pool", "capture", "device_id", "host", "size")

    def __init__(self, size: int, pool: "MemoryPool | None" = None, host: Any = None) -> None:
        self._pool, self._key = None, None
        self.capture = _capture.capturing() if _capture.active else None  # in which it was allocated
        self.size, self.device_id = size, runtime.getDevice()
        if pool is not None and size:
            pool._take(size, self.device_id)
            self._pool = pool
            if host is None and pool.keeps:
                key = pool._key(size, self.device_id)
                try:
                    host = pool._kept(key)
                except OutOfMemoryError:
                    self._pool = None
                    pool._give_back(size, self.device_id)
                    raise
                self._key = key
        elif size and host is None and reserved(self.device_id) > runtime.CAPACITY:  # what it is for has been counted
            raise runtime.CUDARuntimeError(2)
        self.host = np.empty(size, np.uint8) if host is None else host

    @property
    def ptr(self) -> int:
        return self.host.__array_interface__["data"][0] if self.size else 0

    @property
    def device(self) -> Device:
        return Device(self.device_id)

    def __del__(self) -> None:
        if self._pool is not None:
            self._pool._give_back(self.size, self.device_id)
            if self._key is not None:
                self._pool._free[self._key].append(self.host)


class MemoryPointer:
    """An address in a block."""

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> "MemoryPointer":
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    @property
    def device(self) -> Device:
        return Device(self.device_id)

    def copy_from_device_async(self, src: "MemoryPointer", size: int, stream: Any = None) -> None:
        _launch(stream, [self.mem, src.mem], _copy, self._bytes(size), src._bytes(size))

    def copy_from_host_async(self, mem: Any, size: int, stream: Any = None) -> None:
        """From page-locked memory; in a capture, from nothing else."""
        address = mem.value if isinstance(mem, ctypes.c_void_p) else int(mem)
        if not any(start <= address < start + length for start, length in list(_pinned.items())):
            _capture.refuse(_capture.capturing(stream))
        _launch(stream, [self.mem], _copy, self._bytes(size), _host_bytes(address, size))

    def copy_from_async(self, mem: Any, size: int, stream: Any = None) -> None:
        device = isinstance(mem, MemoryPointer)
        (self.copy_from_device_async if device else self.copy_from_host_async)(mem, size, stream)

    def copy_to_host_async(self, mem: Any, size: int, stream: Any = None) -> None:
        """To page-locked memory, for whoever waits."""
        address = mem.value if isinstance(mem, ctypes.c_void_p) else int(mem)
        _launch(stream, [self.mem], _copy, _host_bytes(address, size), self._bytes(size))

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        _launch(stream, [self.mem], np.ndarray.fill, self._bytes(size), value)

    def _bytes(self, size: int) -> Any:
        begin = self.ptr - self.mem.ptr
        host = self.mem.host
        while isinstance(host.base, np.ndarray):
            host = host.base
        return host.reshape(-1, order="A").view(np.uint8)[begin : begin + size]


def _host_bytes(address: int, size: int) -> Any:
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)


def _copy(to: Any, source: Any) -> None:
    if to.size != source.size:
        raise runtime.CUDARuntimeError(1)
    to[...] = source


def _launch(stream: Any, memories: list[Memory], function: Callable[..., Any], *args: Any) -> None:
    capture = _capture.capturing(stream)
    if capture is None:
        function(*args)
    else:
        capture.check(memories)
        capture.record(function, args, {}, run=False)


class MemoryPool:
    """All figures are of the current device, as CuPy's are."""

    def __init__(self, allocator: Any = None, *, keeps: bool = True) -> None:
        self._allocator, self.keeps, self._free = allocator, keeps, defaultdict[Any, list[Any]](list)
        self._used, self._total, self._limit = ([0] * runtime.DEVICES for _ in range(3))
        with _lock:
            _pools.add(self)

    def malloc(self, size: int) -> MemoryPointer:
        """A block."""
        return MemoryPointer(Memory(size, self), 0)

    def _key(self, size: int, device: int) -> Any:
        from .stream import get_current_stream

        return device, get_current_stream().ptr, -(-size // _UNIT) * _UNIT

    def _kept(self, key: Any) -> Any:
        """Memory that was freed on this stream, with what was in it, or new memory."""
        with _lock:
            free = self._free[key]
            if free:
                return free.pop()
            if self._allocator is None:
                return np.full(key[-1], 0xFF, np.uint8)
            try:
                host = self._allocator(key[-1]).mem.host
            except runtime.CUDARuntimeError:
                self._total[key[0]] -= key[-1]
                raise OutOfMemoryError(key[-1], self._total[key[0]]) from None
            host.fill(0xFF)
            return host

    def _take(self, size: int, device: int) -> None:
        size = -(-size // _UNIT) * _UNIT
        with _lock:
            more = size - (self._total[device] - self._used[device])
            limit = self._limit[device]
            if more > 0:
                if more < size and self._refused(size, device):
                    self._forget(device)  # CuPy gives back what is free, then tries again
                    more = size
                if self._refused(more, device) and self._allocator is None:
                    raise OutOfMemoryError(size, self._total[device], limit)
                self._total[device] += more
            self._used[device] += size

    def _refused(self, more: int, device: int) -> bool:
        limit = self._limit[device]
        too_much = bool(limit) and self._total[device] + more > limit
        return too_much or reserved(device) + more > runtime.CAPACITY

    def _give_back(self, size: int, device: int) -> None:
        with _lock:
            self._used[device] -= -(-size // _UNIT) * _UNIT

    def used_bytes(self) -> int:
        return self._used[runtime.getDevice()]

    def total_bytes(self) -> int:
        return self._total[runtime.getDevice()]

    def free_bytes(self) -> int:
        return self.total_bytes() - self.used_bytes()

    def n_free_blocks(self) -> int:
        return int(self.free_bytes() > 0)

    def free_all_blocks(self, stream: Any = None) -> None:
        with _lock:
            self._forget(runtime.getDevice())

    def _forget(self, device: int) -> None:
        """What is free goes back to the device; whoever has an allocator keeps what that has made."""
        if self._allocator is not None:
            return
        if self.keeps and _capture.active and any(self._free.values()):
            raise RuntimeError("memory that a captured kernel uses is given back to the device")
        self._total[device] = self._used[device]
        for key in [key for key in self._free if key[0] == device]:
            del self._free[key]

    def get_limit(self) -> int:
        return self._limit[runtime.getDevice()]

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        """In bytes, or as a share of the device; 0 is none."""
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at one time")
        if fraction is not None:
            if not 0 <= fraction <= 1:
                raise ValueError(f"memory limit fraction out of range: {fraction}")
            size = int(fraction * runtime.CAPACITY)
        if size is None or size < 0:
            raise ValueError(f"memory limit size out of range: {size}")
        self._limit[runtime.getDevice()] = size


def reserved(device: int) -> int:
    """Bytes of a device that any pool holds."""
    return sum(pool._total[device] for pool in list(_pools))


_default = MemoryPool(keeps=False)
_scratch = MemoryPool(keeps=False)  # of graphs while they run


def current_pool() -> MemoryPool:
    """The one that arrays of this thread come from."""
    return getattr(_local, "pool", None) or _default


def get_allocator() -> Callable[[int], MemoryPointer]:
    return current_pool().malloc


def set_allocator(allocator: Any = None) -> None:
    global _default
    _default = allocator.__self__ if allocator else MemoryPool()


@contextlib.contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    """In this thread."""
    before = getattr(_local, "pool", None)
    _local.pool = allocator.__self__ if allocator else MemoryPool()
    try:
        yield
    finally:
        _local.pool = before


def alloc(size: int) -> MemoryPointer:
    return current_pool().malloc(size)


_pinned: dict[int, int] = {}  # where, and how many bytes


class PinnedMemoryPointer(bytearray):
    """Page-locked memory: here a plain buffer."""

    def __init__(self, size: int) -> None:
        super().__init__(-(-max(size, 1) // _UNIT) * _UNIT)
        self.ptr = np.frombuffer(self, np.uint8).__array_interface__["data"][0]
        _pinned[self.ptr] = len(self)

    def __del__(self) -> None:
        _pinned.pop(self.ptr, None)

    def size(self) -> int:
        return len(self)


class PinnedMemoryPool:
    """Keeps nothing."""

    def malloc(self, size: int) -> PinnedMemoryPointer:
        return PinnedMemoryPointer(size)

    def free_all_blocks(self) -> None:
        """Nothing is kept."""

    def n_free_blocks(self) -> int:
        return 0
