"""Threads for NumPy: as many as its BLAS uses, and a pool that runs a few functions side by side."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np

WORTH_THREADS = 1 << 20  # products of two numbers in a product of matrices
_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
_SYMBOLS = ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads")
_asked: list[int] = []  # by `set_num_threads`, where the BLAS cannot be told
_alone: list[int] = []  # while the BLAS is told to use one thread: the number that counts, for each who wanted that
_lock = threading.RLock()


@cache
def _blas(verb: str) -> Callable[..., int] | None:
    """OpenBLAS's own function to "get" or "set" the number of threads, found through NumPy's core."""
    try:
        core = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    except (OSError, AttributeError):
        return None
    for symbol in _SYMBOLS:
        found = getattr(core, symbol.format(verb), None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    return None


def num_threads() -> int:
    """How many threads a replay and a matrix product use."""
    with _lock:  # between a change of `_alone` and that of the BLAS, neither says it
        if _alone:
            return _alone[0]
        get = _blas("get")
        if get is not None:
            return max(1, get())
        if _asked:
            return _asked[-1]
    named = [os.environ[v] for v in _VARIABLES if os.environ.get(v, "").isdecimal()]
    return int(named[0]) if named else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def set_num_threads(n: int) -> None:
    """Use `n` threads from now on, for matrix products and for replays. ValueError below 1."""
    if n < 1:
        raise ValueError(f"set_num_threads: expected a number >= 1, got {n}.")
    put = _blas("set")
    with _lock:
        if _alone:
            _alone[:] = [n] * len(_alone)
        elif put is not None:
            put(n)
    _asked[:] = [n]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, a matrix product is computed by the thread that asks for it alone: for work that is in threads of ours.

    OpenBLAS has one number for the whole process: the first to come in changes it, the last to leave puts it back.
    """
    put = _blas("set") or (lambda n: n)
    with _lock:
        n = num_threads()
        if not _alone:
            put(1)
        _alone.append(n)
    try:
        yield
    finally:
        with _lock:
            if _alone:  # a child process that began in here starts without
                n = _alone.pop()
                if not _alone:
                    put(n)


class Pool:
    """Daemon threads that wait for work. `run` does the first job itself and returns when all are done."""

    mine = threading.local()  # `mine.busy` in the threads of a pool: all of them could wait for each other

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[..., None], tuple[Any, ...], SimpleQueue[BaseException | None]]] = (
            SimpleQueue()
        )
        self._threads = 0
        self._lock = threading.Lock()

    def run(self, job: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
        """Call `job` with each of the arguments, side by side; the first error is raised when all have ended.

        A job that itself runs jobs in one of these threads does them one after the other.
        """
        if getattr(self.mine, "busy", False):
            for given in arguments:
                job(*given)
            return
        with self._lock:
            while self._threads < len(arguments) - 1:
                threading.Thread(target=self._serve, name="nnbackend", daemon=True).start()
                self._threads += 1
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for given in arguments[1:]:
            self._work.put((copy_context().run, (job, *given), done))
        error: BaseException | None = None
        try:
            job(*arguments[0])
        except BaseException as mine:
            error = mine
        for _ in arguments[1:]:
            error = done.get() or error
        if error is not None:
            raise error

    def _serve(self) -> None:
        self.mine.busy = True
        while True:
            job, given, done = self._work.get()
            try:
                job(*given)
                done.put(None)
            except BaseException as error:
                done.put(error)


pool = Pool()


def spread(job: Callable[..., None], items: Sequence[Any]) -> None:
    """Call `job` with a part of the items in each thread; meanwhile matrix products keep to the thread they are in."""
    n = min(num_threads(), len(items))
    if n < 2:
        job(items)
        return
    with one_blas_thread():
        pool.run(job, [(items[i::n],) for i in range(n)])


def _forked() -> None:
    """In a child process: the threads are gone, and with them what they were at."""
    global _lock
    pool.__init__()  # type: ignore[misc]
    _lock = threading.RLock()
    if _alone:
        n = _alone[0]
        _alone.clear()
        set_num_threads(n)


def dot(a: Any, b: Any, out: Any) -> None:
    """A product of matrices by threads of ours: for programs in which other work is in them, too.

    OpenBLAS's own threads go on looking for work long after a product, and take the core from ours meanwhile.
    """
    rows, n = len(out), num_threads()
    if n == 1:
        np.dot(a, b, out)
        return
    if rows < 16 * n or a.size * out.shape[1] < WORTH_THREADS:
        with one_blas_thread():
            np.dot(a, b, out)
        return
    edges = [rows * i // n for i in range(n + 1)]

    def some(parts: Sequence[slice]) -> None:
        for part in parts:
            np.dot(a[part], b, out[part])

    spread(some, [slice(i, j) for i, j in pairwise(edges)])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
