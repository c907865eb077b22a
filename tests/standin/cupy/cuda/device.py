"""Two devices without access to each other's memory. Which one is current is a matter of the thread."""

import threading
from typing import Any

from .._core.syncdetect import synchronized
from . import _capture, runtime

_local = threading.local()


def get_device_id() -> int:
    """The current device."""
    return runtime.getDevice()


class Device:
    """As CuPy's: a number, not hashable, and a context manager that makes it current."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, device: Any = None) -> None:
        self.id = runtime.getDevice() if device is None else int(getattr(device, "id", device))

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __lt__(self, other: Any) -> bool:
        return self.id < other.id if isinstance(other, Device) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return self.id > other.id if isinstance(other, Device) else NotImplemented

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> "Device":
        before = runtime.getDevice()
        if self.id != before:
            runtime.setDevice(self.id)
        if not hasattr(_local, "before"):
            _local.before = []
        _local.before.append(before)
        return self

    def __exit__(self, *error: object) -> None:
        runtime.setDevice(_local.before.pop())

    def use(self) -> "Device":
        """Make it current."""
        runtime.setDevice(self.id)
        return self

    def synchronize(self) -> None:
        """Wait for it."""
        for capture in list(_capture.active.values()):
            _capture.refuse(capture)
        synchronized("Device.synchronize")

    @property
    def compute_capability(self) -> str:
        """As of an H100."""
        return "90"

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the device."""
        return {"MultiProcessorCount": 4, "MaxThreadsPerBlock": 1024}

    @property
    def mem_info(self) -> tuple[int, int]:
        """Free and total bytes."""
        with self:
            return runtime.memGetInfo()

    @property
    def pci_bus_id(self) -> str:
        """A made-up one."""
        return f"0000:0{self.id}:00.0"
