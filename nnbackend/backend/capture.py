"""Capturing: what is launched on a stream becomes one CUDA graph, which is launched as a whole from then on."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, TypeVar

from .cuda_faults import one_line

T = TypeVar("T")
_one = threading.Lock()  # piece of work at a time on the streams that are captured
_streams: dict[int, Any] = {}  # by the number of the device


class UncapturedError(RuntimeError):
    """The work cannot be captured; it says why. Nothing has been done."""


class Private:
    """Memory of its own for the work of a graph, on a stream that only such work is launched on.

    Nobody else may launch on a stream that is captured, nor be given what a graph has freed.
    """

    def __init__(self) -> None:
        cupy = import_module("cupy")
        cuda = cupy.cuda
        taken: list[Any] = []  # so that none of it goes back to the device when there is no more

        def take(size: int) -> Any:
            try:
                taken.append(cuda.Memory(size))
            except cuda.runtime.CUDARuntimeError:
                cupy.get_default_memory_pool().free_all_blocks()  # what eager steps have left
                taken.append(cuda.Memory(size))
            return cuda.MemoryPointer(taken[-1], 0)

        self._pool = cuda.MemoryPool(take)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Work of this thread goes there, in turn with that of the current stream."""
        here = import_module("cupy").cuda.get_current_stream()
        with _one:
            stream = _stream()
            stream.wait_event(here.record())
            try:
                with self.allocating(), stream:
                    yield
            finally:
                here.wait_event(stream.record())

    def allocating(self) -> Any:
        """Arrays made inside, by this thread, live there."""
        return import_module("cupy").cuda.using_allocator(self._pool.malloc)

    @property
    def nbytes(self) -> int:
        """What it has taken from the device."""
        return int(self._pool.total_bytes())


def captured(work: Callable[[], T], memory: Private) -> tuple[Any, T]:
    """A graph of what `work` launches, and its result, whose values come with a launch.

    UncapturedError if it does what a capture does not allow: waiting, calling cuBLAS, uploading.
    """
    with _one, _no_finalizers(), memory.allocating(), _stream() as stream:
        try:
            stream.begin_capture()
            result = work()
            graph = stream.end_capture()
        except BaseException as error:
            with suppress(RuntimeError):  # it may be over, or never have begun
                stream.end_capture()
            if isinstance(error, Exception):
                raise UncapturedError(one_line(str(error))) from error
            raise
    graph.upload()
    return graph, result


def _stream() -> Any:
    """That of the current device."""
    cuda = import_module("cupy").cuda
    number = cuda.Device().id
    if number not in _streams:
        _streams[number] = cuda.Stream(non_blocking=True)
    return _streams[number]


@contextmanager
def _no_finalizers() -> Iterator[None]:
    """The garbage collector might free memory in the middle of a capture."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
