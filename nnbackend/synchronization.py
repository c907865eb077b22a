"""What makes the host wait for a device: values that are read, copies to the host, waits. For tests; see `testing`."""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from .backend import NUMPY, Backend, is_array
from .backend.cupy_backend import CupyBackend
from .program.namespace import UNKNOWN_SHAPE
from .program.trace import ours

READS = ("__float__", "__int__", "__bool__", "__complex__", "__index__", "item", "tolist", "tobytes", "get")
_OUTER = ("nnbackend.backend", "nnbackend.interop", "nnbackend.synchronization")  # of the library: how values are read

_found: ContextVar[tuple[list[str], ...]] = ContextVar("found", default=())  # those of other threads are not ours
_lock = threading.Lock()
_patches = ExitStack()
_active = 0


@contextmanager
def synchronizations() -> Iterator[list[str]]:
    """Inside, each time that the host waits for a device is noted, with the line of your code: a list of strings.

    Noted are, for CuPy and array-api-strict (a pretend device; NumPy is the host): values read (`float(x)`, `if x:`,
    `x.item()`, `x.numpy()`, ...), copies to the host, `synchronize()`, and results whose shape depends on values
    (`x[mask]`, `nonzero`). Uploads are not, nor what other threads do, but for those that bring batches over. Costs
    nothing where it is not in use.
    """
    global _active
    found: list[str] = []
    with _lock:
        if not _active:
            _patch()
        _active += 1
    token = _found.set((*_found.get(), found))
    try:
        yield found
    finally:
        with _lock:
            _active -= 1
            if not _active:
                _patches.close()
        _found.reset(token)


@contextmanager
def no_synchronization() -> Iterator[None]:
    """AssertionError at the end if the host has waited for a device inside; see `synchronizations`.

    Also as a decorator: `@nb.testing.no_synchronization()`.
    """
    with synchronizations() as found:
        yield
    if found:
        raise AssertionError(f"no_synchronization: expected none, got {len(found)}:\n  " + "\n  ".join(found))


def _patch() -> None:
    for kind in (Backend, CupyBackend):
        for name in ("to_host", "synchronize"):
            _count(kind, name, counts=lambda self, *_: self.name != NUMPY.name)
    cupy: Any = sys.modules.get("cupy")
    if hasattr(cupy, "ndarray"):  # a broken one may lack it
        _count_reads(cupy, cupy.ndarray)
        for kind in (cupy.cuda.Stream, cupy.cuda.ExternalStream, cupy.cuda.Event):
            _count(kind, "synchronize")
        if hasattr(detect := sys.modules.get("cupy._core.syncdetect"), "_declare_synchronize"):
            _count(detect, "_declare_synchronize", "synchronize()")  # CuPy says so itself, wherever it reads inside
    if (strict := sys.modules.get("array_api_strict")) is not None:
        _count_reads(strict, type(strict.zeros(())))
        _count(Backend, "shares", None)  # only looks at where the memory is
        _count(strict, "repeat", counts=lambda _, repeats, **how: is_array(repeats))


def _count_reads(library: Any, kind: type) -> None:
    for owner, names in ((kind, READS), (library, UNKNOWN_SHAPE)):
        for name in names:
            if hasattr(owner, name):
                _count(owner, name)
    _count(kind, "__dlpack__", counts=_to_host)
    _count(kind, "__getitem__", "x[mask]", _by_mask)


def _to_host(x: Any, dl_device: Any = None, **how: Any) -> bool:
    return bool((dl_device or x.__dlpack_device__())[0] == 1)  # DLPack's number of the CPU


def _by_mask(x: Any, key: Any) -> bool:
    return any(is_array(part) and "bool" in str(part.dtype) for part in (key if isinstance(key, tuple) else (key,)))


def _count(
    owner: Any, name: str, what: str | None = "", counts: Callable[..., bool] = lambda *args, **named: True
) -> None:
    """Note each call of `owner.name` as one, until `_patches` are closed; what it does inside is part of it.

    `what` it is called; None: it is not noted.
    """
    call = getattr(owner, name)
    text = f"{name.strip('_')}()" if what == "" else what

    def counted(*args: Any, **named: Any) -> Any:
        lists = _found.get()
        if not lists or not counts(*args, **named):
            return call(*args, **named)
        if text is not None:
            where = _where()
            for found in lists:
                found.append(f"{text} at {where}")
        token = _found.set(())
        try:
            return call(*args, **named)
        finally:
            _found.reset(token)

    if name in vars(owner):
        _patches.callback(setattr, owner, name, vars(owner)[name])
    else:
        _patches.callback(delattr, owner, name)
    setattr(owner, name, counted)


def _where() -> str:
    """The user's innermost line, and the library's where it is that which reads."""
    frame: Any = sys._getframe(2)
    inside = ""
    while frame.f_back is not None and ours(frame):
        name = frame.f_globals.get("__name__", "")
        if not inside and name.startswith("nnbackend.") and not name.startswith(_OUTER):
            inside = f" (in {name}, line {frame.f_lineno})"
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"{file}:{line}: {linecache.getline(file, line).strip()}{inside}"
