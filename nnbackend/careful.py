"""What NNBACKEND_SYNC=1 does: each op checks its indices, and waits until the device is done with it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from .backend import INTEGRAL, SYNC, backend_of, device_of, is_array, to_host

ROWS = ("gather", "embedding", "scatter_add")  # whose second argument counts rows of the first, or as many as the third
ALONG = ("take", "take_along_axis", "put_along_axis", "add_along_axis")  # or elements along an axis
KEYS = ("getitem", "setitem")


def careful(op: Callable[..., Any]) -> Callable[..., Any]:
    """The op itself, unless errors are to come where they are made.

    CUDA reports an error some ops after the one that caused it, and CuPy wraps indices around that are out of range.
    """
    if not SYNC:
        return op

    @functools.wraps(op)
    def run(*args: Any, **kw: Any) -> Any:
        for index, n in _indices(op.__name__, args, kw):
            host = to_host(index)
            if host.size and not -n <= host.min() <= host.max() < n:
                raise IndexError(f"{op.__name__}: expected indices in {-n}..{n - 1}, got {host.min()}..{host.max()}.")
        y, pulls = op(*args, **kw)
        device_of(y[0] if y.__class__ is tuple else y).synchronize()
        return y, pulls

    return run


def _indices(name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> Iterator[tuple[Any, int]]:
    """Arrays of indices, and how many elements there are for each."""
    if name in ROWS:
        yield args[1], args[2] if name == "scatter_add" else args[0].shape[0]
    elif name in ALONG:
        yield args[1], args[0].shape[kw.get("axis", 0 if name == "take" else -1)]
    elif name in KEYS:
        key, shape = kw["key"], args[0].shape
        parts = [part for part in (key if isinstance(key, tuple) else (key,)) if not isinstance(part, bool | None)]
        left = next((i for i, part in enumerate(parts) if part is ...), len(parts))
        for i, part in enumerate(parts):
            if is_array(part) and backend_of(part).canonical(part.dtype) in INTEGRAL:
                yield part, shape[i if i < left else i - len(parts)]
            elif is_array(part):  # a mask, which stands for as many axes as it has
                return
