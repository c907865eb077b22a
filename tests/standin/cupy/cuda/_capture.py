"""Captures: what is launched on a capturing stream is written down, and a graph does it later on the same memory.

Nothing is computed in a capture: its results are NaN or extreme integers. A graph knows addresses alone: memory that
the capture has freed may be given to others, whose numbers the graph then overwrites, as on a GPU.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

active: dict[int, "Capture"] = {}  # by the address of the stream
_local = threading.local()

UNSUPPORTED, INVALIDATED, ISOLATION, CAPTURED_EVENT, ILLEGAL_STATE = 900, 901, 905, 907, 401
BLAS = "calling cuBLAS API during stream capture is currently unsupported"


def capturing(stream: Any = None) -> "Capture | None":
    """The capture on this or the current stream."""
    if not active:
        return None
    from .stream import get_current_stream

    return active.get((stream or get_current_stream()).ptr)


def refuse(capture: "Capture | None", status: int = UNSUPPORTED) -> None:
    """What this capture, if there is one, does not survive."""
    if capture is not None:
        from .runtime import CUDARuntimeError

        capture.valid = False
        raise CUDARuntimeError(status)


def refuse_blas(*dtypes: Any) -> None:
    """cuBLAS and cuSOLVER, which CuPy keeps out of captures. Products of integers are kernels of its own."""
    if active and capturing() and not all(dtype.kind in "biu" for dtype in dtypes):
        raise NotImplementedError(BLAS)


def launched(function: Callable[..., Any], *, run: bool = True) -> Callable[..., Any]:
    """`function` launches kernels: in a capture it is written down. `run=False`: it is not needed for its results."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        capture = None if not active or getattr(_local, "busy", False) else capturing()
        if capture is None:
            return function(*args, **options)
        return capture.record(function, args, options, run)

    return call


def must_be_launched() -> None:
    """What the stand-in computes in a capture would not be in the graph."""
    if active and not getattr(_local, "busy", False) and capturing():
        raise AssertionError("the stand-in cannot capture this: give it `launched`")


def _arrays(value: Any) -> Iterator[Any]:
    from .._array import ndarray

    if isinstance(value, ndarray):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _arrays(each)
    elif isinstance(value, dict):
        yield from _arrays(list(value.values()))


def _addresses(value: Any) -> Any:
    """The same with arrays that do not keep their memory."""
    from .._array import _made, ndarray
    from .memory import Memory

    if isinstance(value, ndarray):
        mem = Memory.__new__(Memory)
        mem._pool, mem.capture = None, None
        mem.size, mem.device_id, mem.host = value._mem.size, value._mem.device_id, value._mem.host
        return _made(value._np, mem, None)
    if type(value) in (list, tuple):
        return type(value)(map(_addresses, value))
    return {key: _addresses(each) for key, each in value.items()} if type(value) is dict else value


class Capture:
    """Of one stream."""

    def __init__(self) -> None:
        self.valid, self.calls = True, list[Any]()

    def check(self, memories: list[Any]) -> None:
        """Memory of the capture must be private, or eager work would get it as soon as it is freed."""
        from .memory import _default

        if any(memory.capture is self and memory._pool is _default for memory in memories):
            raise AssertionError("capture allocated from the default pool")

    def record(self, function: Any, args: Any, options: Any, run: bool = True) -> Any:
        """Write it down; what comes out has the right shapes, and poison for values."""
        given = list(_arrays([args, options]))
        self.check([array._mem for array in given])
        result, fresh = None, list[int]()
        if run:
            hosts = {id(array._mem): array._mem.host for array in given}
            before = [(host, host.copy(order="K")) for host in hosts.values() if host.flags.writeable]
            _local.busy = True
            try:
                result = function(*args, **options)
            finally:
                _local.busy = False
                for host, values in before:
                    host[...] = values
            results = list(_arrays(result))
            fresh = [i for i, array in enumerate(results) if id(array._mem) not in hosts]
            self.check([results[i]._mem for i in fresh])
            for i in fresh:
                poison(results[i]._np)
        made = [_addresses(results[i]) for i in fresh]
        self.calls.append((function, _addresses(args), _addresses(options), fresh, made))
        return result

    def launch(self) -> None:
        """All of it."""
        from .memory import _scratch, using_allocator

        _local.busy = True
        try:
            with using_allocator(_scratch.malloc):
                for function, args, options, fresh, made in self.calls:
                    result = function(*args, **options)
                    results = list(_arrays(result)) if fresh else []
                    for i, array in zip(fresh, made, strict=True):
                        np.copyto(array._np, results[i]._np)
        finally:
            _local.busy = False
            _scratch.free_all_blocks()


def poison(host: Any) -> None:
    """NaN, True, or a large negative integer, or a large one where there are none."""
    kind = host.dtype.kind
    if kind in "fcb":
        host.fill(True if kind == "b" else np.nan)
    else:
        host.fill(np.iinfo(host.dtype).max // 3 * (-1 if kind == "i" else 1))


def begin(stream: Any) -> None:
    """`cudaStreamBeginCapture`. CUDA lets a blocking stream begin, and fails when the null stream is used."""
    from .runtime import CUDARuntimeError

    if active:
        raise CUDARuntimeError(ILLEGAL_STATE)
    if not stream.is_non_blocking:
        raise CUDARuntimeError(906)
    active[stream.ptr] = Capture()


def end(stream: Any) -> Capture:
    """`cudaStreamEndCapture`."""
    from .runtime import CUDARuntimeError

    capture = active.pop(stream.ptr, None)
    if capture is None:
        raise CUDARuntimeError(ILLEGAL_STATE)
    if not capture.valid:
        raise CUDARuntimeError(INVALIDATED)
    return capture
