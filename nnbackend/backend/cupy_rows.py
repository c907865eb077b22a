"""Work on rows of CuPy's arrays (`cuda/rows.cuh`): what it takes, and how it is shared out."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Array
from .kernels import start

SUMS = {  # by dtype: what sums are made in
    "float16": np.dtype(np.float32),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
WARP, THREADS = 32, 256
LONG = 1024  # numbers: up to here a row is the work of a warp, from there on of a block
PACK = 16  # bytes that are read at a time
NONE = np.uint64(0)  # in place of an array


def alike(x: Array, *others: Any) -> bool:
    """Whether kernels take `x`, and all others that are there are of its library and dtype."""
    return x.dtype.name in SUMS and all(type(a) is type(x) and a.dtype == x.dtype for a in others if a is not None)


def lanes(n: int) -> int:
    """How many threads share a row of n numbers that lie together."""
    return WARP if n <= LONG else THREADS


def blocks(teams: int, lanes: int) -> int:
    """How many hold so many teams of `lanes` threads."""
    return -(-teams * lanes // THREADS)


def whole(n: int, *arrays: Any) -> int:
    """1 if all packs of rows of n numbers can be read at a time, else 0."""
    together = not n * arrays[0].itemsize % PACK
    return int(together and not any(a.data.ptr % PACK for a in arrays if a is not NONE))


def run(file: str, kernel: str, count: int, dtype: Any, *arguments: Any) -> None:
    """Start a kernel for this dtype in so many blocks."""
    start(file, f"{kernel}_{dtype.name}", (count,), THREADS, *arguments)
