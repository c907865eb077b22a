"""The thread that brings batches over goes away, and lets go of them, however a pass ends."""

import contextlib
import gc
import sys
import threading
import time
import weakref

from nnbackend.backend import CPU
from nnbackend.data import prefetch


class Batch:
    pass


def test_the_garbage_collector_may_end_a_pass_in_the_thread(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: said.append(what.exc_value))
    collected, forgotten = threading.Event(), threading.Event()

    def source():
        yield Batch()
        yield Batch()
        forgotten.wait(10)
        gc.collect()
        collected.set()
        yield Batch()

    def begun():
        batches = prefetch._by_a_thread(source(), CPU)
        next(batches)
        around = [batches]
        around.append(around)

    gc.disable()
    try:
        begun()
        forgotten.set()
        assert collected.wait(10)
    finally:
        gc.enable()
    until = time.monotonic() + 10
    while any(t.name == "nnbackend prefetch" for t in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.001)
    assert said == []


def test_an_error_keeps_no_batches():
    """After a MemoryError a smaller batch must have their room."""
    kept = []

    def source():
        batch = Batch()
        kept.append(weakref.ref(batch))
        yield 1
        raise MemoryError

    gc.disable()
    try:
        with contextlib.suppress(MemoryError):
            list(prefetch._by_a_thread(source(), CPU))
        assert kept[0]() is None
    finally:
        gc.enable()
