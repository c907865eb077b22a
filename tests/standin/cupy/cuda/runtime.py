"""The part of the CUDA runtime that anyone asks: versions, devices, memory."""

import threading
from typing import Any

from .._core.syncdetect import synchronized
from . import _capture

DEVICES = 2
CAPACITY = 16 << 30  # bytes of a device

is_hip = False
memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice, memcpyDefault = 1, 2, 3, 4
streamLegacy, streamPerThread = 1, 2
streamCaptureModeGlobal, streamCaptureModeThreadLocal, streamCaptureModeRelaxed = 0, 1, 2
errorMemoryAllocation = 2
_current = threading.local()


ERRORS = {
    1: "cudaErrorInvalidValue: invalid argument",
    2: "cudaErrorMemoryAllocation: out of memory",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    401: "cudaErrorIllegalState: the operation cannot be performed in the present state",
    700: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    900: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
    901: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
    905: "cudaErrorStreamCaptureIsolation: dependency created on uncaptured work in another stream",
    906: "cudaErrorStreamCaptureImplicit: operation would make the legacy stream depend on a capturing blocking stream",
    907: "cudaErrorCapturedEvent: operation not permitted on an event last recorded in a capturing stream",
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


def streamIsCapturing(stream: int) -> bool:
    return stream in _capture.active


def deviceSynchronize() -> None:
    for capture in list(_capture.active.values()):
        _capture.refuse(capture)
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
