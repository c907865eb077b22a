"""Arrays for results of kernels that are NaN until they are written, between guards that must stay as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from nnbackend.backend import to_host

GUARD = 64  # elements on each side


@contextmanager
def guarded(off: int = 0) -> Iterator[None]:
    """In here `cupy.empty` gives such arrays, which begin `off` elements behind a place where 16 bytes begin."""
    cupy, made = import_module("cupy"), []
    real = cupy.empty

    def empty(shape: Any, dtype: Any = float) -> Any:
        size, dtype = int(np.prod(shape)), np.dtype(dtype)
        room = cupy.full(size + 2 * GUARD + off, 7.25, dtype)
        inner = room[GUARD + off : GUARD + off + size]
        inner[...] = np.nan
        made.append((room, size))
        return inner.reshape(shape)

    cupy.empty = empty
    try:
        yield
    finally:
        cupy.empty = real
    for room, size in made:
        host = to_host(room)
        assert np.all(host[: GUARD + off] == 7.25)
        assert np.all(host[GUARD + off + size :] == 7.25)
        assert len(host) == size + 2 * GUARD + off
