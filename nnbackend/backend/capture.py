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
_one = threading.Lock()  # captures in a process


class UncapturedError(RuntimeError):
    """The work cannot be captured; it says why. Nothing has been done."""


class Private:
    """Memory of its own for the work of a graph: what a graph has freed may not be given to anybody else."""

    def __init__(self) -> None:
        self._pool = import_module("cupy").cuda.MemoryPool()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Arrays made inside, by this thread, live there."""
        with import_module("cupy").cuda.using_allocator(self._pool.malloc):
            yield

    @property
    def nbytes(self) -> int:
        """What it has taken from the device."""
        return int(self._pool.total_bytes())


def captured(work: Callable[[], T], memory: Private) -> tuple[Any, T]:
    """A graph of what `work` launches on the current stream, and its result, whose values come with a launch.

    UncapturedError if it does what a capture does not allow: waiting, calling cuBLAS, uploading.
    """
    stream = import_module("cupy").cuda.get_current_stream()
    with _one, memory.used(), _no_finalizers():
        stream.begin_capture()
        try:
            result = work()
        except BaseException as error:
            with suppress(RuntimeError):  # it may have been invalidated
                stream.end_capture()
            if isinstance(error, Exception):
                raise UncapturedError(one_line(str(error))) from error
            raise
        try:
            graph = stream.end_capture()
        except RuntimeError as error:
            raise UncapturedError(one_line(str(error))) from error
    graph.upload()
    return graph, result


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
