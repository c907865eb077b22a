"""DLPack: capsules that say they hold CUDA memory, so that nobody on the host takes them."""

import ctypes
from typing import Any

import numpy as np

from ._core.syncdetect import synchronized

CPU, CUDA = 1, 2
_api = ctypes.pythonapi
_pointer = _api.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def _relabel(capsule: Any, kind: int, number: int) -> Any:
    """The device stands behind the address, in a DLTensor that comes first in its container."""
    at = ctypes.cast(_pointer(capsule, b"dltensor"), ctypes.POINTER(ctypes.c_int32))
    at[2], at[3] = kind, number
    return capsule


def export(self: Any, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None) -> Any:
    """`__dlpack__`: on the device, or a copy on the host if that is asked for, which waits."""
    if stream is not None and (not isinstance(stream, int) or stream < -1 or stream == 0):
        raise ValueError(
            f"On CUDA, the valid stream for the DLPack protocol is -1, 1, 2, or any larger value, but {stream} was "
            "provided"
        )
    if dl_device is not None and dl_device[0] == CPU:
        if copy is False:
            raise ValueError("GPU data cannot be exported to CPU without copy")
        synchronized("__dlpack__ to the host")
        return self._np.copy().__dlpack__()
    array = self.copy() if copy else self
    return _relabel(array._np.__dlpack__(), CUDA, array._mem.device_id)


def device(self: Any) -> tuple[int, int]:
    """`__dlpack_device__`."""
    return CUDA, self._mem.device_id


class _Taken:
    def __init__(self, capsule: Any) -> None:
        self.capsule = _relabel(capsule, CPU, 0)

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0


def taken(array: Any) -> Any:
    """The NumPy array behind an array of a device, without a copy."""
    if array.__dlpack_device__()[0] != CUDA:
        raise BufferError("CPU arrays cannot be directly imported to CuPy. Use `cupy.array(numpy.from_dlpack(input))`.")
    return np.from_dlpack(_Taken(array.__dlpack__(stream=1)))
