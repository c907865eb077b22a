"""Adding rows at an index on CUDA: sorted by row, then summed in a fixed order, and never a wait for the device."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from .base import Array
from .kernels import BLOCK, launch, start

_SUMMED = ("float32", "float64", "float16", "int64")
_TILE, _RUNS = 2048, 8  # keys that a block sorts, and runs that become one


def scatter_add(dy: Array, index: Array, rows: int) -> Array:
    """Three launches up to 2048 rows of `dy`; what is out of range is left out."""
    cupy: Any = import_module("cupy")
    if dy.dtype.name not in _SUMMED or max(index.size, rows) >= 1 << 31:
        return NotImplemented
    shape, n = (rows, *dy.shape[index.ndim :]), index.size
    if not (n and math.prod(shape)):
        return cupy.zeros(shape, dy.dtype)
    keys, width, by_row = _sorted(cupy, index, rows), dy.size // n, rows <= n
    out = cupy.empty(shape, dy.dtype) if by_row else cupy.zeros(shape, dy.dtype)
    many = 64 * rows <= n  # for each row
    columns = min(8 if many else 32, _power_of_2(width))
    lanes = BLOCK // columns if many else 8
    teams = (rows if by_row else n) * -(-width // columns)
    launch(
        "scatter.cu", f"add_rows_{dy.dtype.name}", teams * columns * lanes,
        out, cupy.ascontiguousarray(dy), keys, n, rows, width,
        *map(np.int32, (columns, lanes, by_row)),
    )  # fmt: skip
    return out


def _sorted(cupy: Any, index: Array, rows: int) -> Array:
    """The keys of `index`, each a row and where it stands, in order."""
    index, n = cupy.ascontiguousarray(index.reshape(-1), np.int64), index.size
    keys, run = cupy.empty(n, np.uint64), min(_TILE, _power_of_2(n))
    start("sort.cu", "sort_tiles", (-(-n // run),), max(32, run // 2), keys, index, n, rows, np.int32(run))
    while run < n:
        merged = cupy.empty(n, np.uint64)
        launch("sort.cu", "merge_runs", n, merged, keys, n, run)
        keys, run = merged, run * _RUNS
    return keys


def _power_of_2(n: int) -> int:
    """The least that is not below `n`."""
    return 1 << (n - 1).bit_length()
