"""Data for a device: all of it there if it is small, else batches that a thread brings over in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeVar

from ..backend import CPU, Device

AHEAD = 2  # batches that a thread makes ready
LOOKS, WORTH = 3, 2e-3  # a thread is worth its while if so many batches in a row have taken so many seconds
SHARE = 1 / 4  # of free memory, for a set of data: activations, gradients and another set need the rest

T = TypeVar("T")


def fits(size: int, device: Device) -> bool:
    """Whether so many bytes of data should lie on a device as a whole."""
    memory = device.memory() if size else None
    return memory is None or size <= SHARE * memory.free


def prefetched(batches: Iterator[T], device: Device) -> Generator[T]:
    """The same, made ready by a thread: on their way to another device always, else if each takes its time.

    Threads that compute take turns of milliseconds, so that short waits would become longer ones.
    """
    waits: list[float] = []
    while device == CPU and (len(waits) < LOOKS or min(waits) < WORTH):
        start = time.perf_counter()
        if (batch := next(batches, None)) is None:
            return
        waits = [*waits[1 - LOOKS :], time.perf_counter() - start]
        yield batch
    yield from _by_a_thread(batches, device)


def _by_a_thread(batches: Iterator[T], device: Device) -> Generator[T]:
    """Up to AHEAD batches more than have been handed out. The thread works in turn with the loop, in its context."""
    ready: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    room, over, here = threading.Semaphore(AHEAD), threading.Event(), device.here()

    def work() -> None:
        try:
            with here():
                while room.acquire() and not over.is_set() and (batch := next(batches, None)) is not None:
                    ready.put((batch, None))
        except BaseException as error:
            ready.put((None, error))
        else:
            ready.put((None, None))

    item: tuple[T | None, BaseException | None]
    thread = threading.Thread(target=copy_context().run, args=(work,), name="nnbackend prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get())[0] is not None:
            room.release()
            yield item[0]
        if item[1] is not None:
            raise item[1]
    finally:
        item = None, None  # else an error keeps itself, and the batches that its traceback sees
        over.set()
        room.release()
        if thread is not threading.current_thread():  # the garbage collector may end this anywhere
            thread.join(1.0)  # a source that waits for ever must not keep anybody
