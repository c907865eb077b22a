"""Streams and events. All work is done at once, so only the book-keeping is simulated."""

import itertools
import threading
import time
from typing import Any

from .._core.syncdetect import synchronized
from . import _capture, runtime
from .graph import Graph

_local = threading.local()
_numbers = itertools.count(0x1000)


def _stacks() -> list[list["_BaseStream"]]:
    if not hasattr(_local, "stacks"):
        _local.stacks = [[Stream.null] for _ in range(runtime.DEVICES)]
        _local.entered = []
    return _local.stacks


def get_current_stream(device_id: int = -1) -> "_BaseStream":
    """Of this thread, on the current or the given device."""
    return _stacks()[runtime.getDevice() if device_id == -1 else device_id][-1]


class Event:
    """A moment."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        if interprocess and not disable_timing:
            raise ValueError("Timing must be disabled for interprocess events")
        self.ptr, self._time = next(_numbers), 0.0
        self._capture: Any = None  # in which it was recorded last
        self._recorded = False

    @property
    def done(self) -> bool:
        self._refuse()
        return True

    def record(self, stream: "_BaseStream | None" = None) -> None:
        self._time, self._recorded, self._capture = time.perf_counter(), True, _capture.capturing(stream)

    def _refuse(self) -> None:
        if self._capture in _capture.active.values():
            _capture.refuse(self._capture, _capture.CAPTURED_EVENT)

    def synchronize(self) -> None:
        self._refuse()
        synchronized("Event.synchronize", declared=False)


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds."""
    return 1000 * (end_event._time - start_event._time)


class _BaseStream:
    """As CuPy's: a stream may be entered only while its device is current."""

    def __init__(self, ptr: int, device_id: int) -> None:
        self.ptr, self.device_id = ptr, device_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BaseStream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ptr} (device {self.device_id})>"

    def _matched(self) -> int:
        current = runtime.getDevice()
        if self.device_id not in (-1, current):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) does not match with the current device "
                f"({current})"
            )
        return current

    def __enter__(self) -> "_BaseStream":
        device = self._matched()
        _stacks()[device].append(self)
        _local.entered.append(device)
        return self

    def __exit__(self, *error: object) -> None:
        _stacks()[_local.entered.pop()].pop()

    def use(self) -> "_BaseStream":
        _stacks()[self._matched()][-1] = self
        return self

    @property
    def done(self) -> bool:
        _capture.refuse(_capture.capturing(self))
        return True

    @property
    def is_non_blocking(self) -> bool:
        return getattr(self, "_non_blocking", False)

    def begin_capture(self, mode: int | None = None) -> None:
        """What is launched on it from now on is written down, in place of being done."""
        if self.ptr in (0, 1):
            raise RuntimeError("cannot capture on the default (legacy) stream")
        _capture.begin(self)

    def end_capture(self) -> Graph:
        """All that was launched since."""
        return Graph._of(_capture.end(self))

    def is_capturing(self) -> bool:
        return runtime.streamIsCapturing(self.ptr)

    def synchronize(self) -> None:
        _capture.refuse(_capture.capturing(self))
        synchronized("Stream.synchronize", declared=False)

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        if not isinstance(event, Event):
            raise TypeError(f"Argument 'event' has incorrect type (expected Event, got {type(event).__name__})")
        here, there = _capture.capturing(self), event._capture
        if event._recorded and here is not (there if there in _capture.active.values() else None):
            _capture.refuse(here or there, _capture.ISOLATION)

    def launch_host_func(self, callback: Any, arg: Any) -> None:
        capture = _capture.capturing(self)
        callback(arg) if capture is None else capture.record(callback, (arg,), {}, run=False)


class Stream(_BaseStream):
    """On the current device."""

    null: "Stream"
    ptds: "Stream"

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        shared = null or ptds
        super().__init__((0 if null else 2) if shared else next(_numbers), -1 if shared else runtime.getDevice())
        self._non_blocking = non_blocking and not shared


Stream.null, Stream.ptds = Stream(null=True), Stream(ptds=True)


class ExternalStream(_BaseStream):
    """One that somebody else made."""

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        super().__init__(ptr, device_id)
