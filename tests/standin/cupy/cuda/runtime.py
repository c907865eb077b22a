"""The part of the CUDA runtime that anyone asks: versions, devices, memory."""

import threading
from typing import Any

from .._core.syncdetect import synchronized

DEVICES = 2
CAPACITY = 16 << 30  # bytes of a device

is_hip = False
memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice, memcpyDefault = 1, 2, 3, 4
streamLegacy, streamPerThread = 1, 2
errorMemoryAllocation = 2
_current = threading.local()


ERRORS = {
    2: "cudaErrorMemoryAllocation: out of memory",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    700: "cudaErrorIllegalAddress: an illegal memory access was encountered",
}


class CUDARuntimeError(RuntimeError):
    """What CUDA answers when it refuses."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(ERRORS[status])


def _checked(device: int) -> int:
    if not 0 <= device < DEVICES:
        raise CUDARuntimeError(101)
    return device


def driverGetVersion() -> int:
    return 13000


def runtimeGetVersion() -> int:
    return 13000


def getDeviceCount() -> int:
    return DEVICES


def getDevice() -> int:
    return getattr(_current, "device", 0)


def setDevice(device: int) -> None:
    _current.device = _checked(device)


def deviceSynchronize() -> None:
    synchronized("deviceSynchronize", declared=False)


def deviceCanAccessPeer(device: int, peer: int) -> int:
    _checked(device), _checked(peer)
    return 0


def getDeviceProperties(device: int) -> dict[str, Any]:
    _checked(device)
    return {
        "name": b"stand-in",
        "totalGlobalMem": CAPACITY,
        "major": 9,
        "minor": 0,
        "multiProcessorCount": 4,
        "warpSize": 32,
        "maxThreadsPerBlock": 1024,
        "sharedMemPerBlock": 49152,
        "integrated": 0,
    }


def memGetInfo() -> tuple[int, int]:
    """Free and total bytes of the current device."""
    from .memory import reserved

    return CAPACITY - reserved(getDevice()), CAPACITY
