"""Random numbers on CUDA: one kernel that makes them where they are needed, the same bits as NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from .base import Array
from .kernels import launch

_TOGETHER = {"words": 4, "uniform_float64": 4, "uniform_float32": 8, "uniform_float16": 8}  # numbers that a block makes


def words_like(x: Array, key: int, site: int, step: int, rank: int = 0) -> Array:
    """Random 64-bit words."""
    return _drawn("words", x, np.dtype(np.uint64), key, site, step, rank)


def uniform_like(x: Array, key: int, site: int, step: int, rank: int = 0) -> Array:
    """Random numbers in [0, 1)."""
    if x.dtype not in (np.float32, np.float64, np.float16):
        return NotImplemented
    return _drawn(f"uniform_{x.dtype.name}", x, x.dtype, key, site, step, rank)


def _drawn(kernel: str, x: Array, dtype: np.dtype[Any], key: int, site: int, step: int, rank: int) -> Array:
    with x.device:
        out = import_module("cupy").empty(x.shape, dtype)
        address = map(np.uint64, (0, site, step, rank, key & (1 << 64) - 1, key >> 64))
        launch("random.cu", kernel, -(-out.size // _TOGETHER[kernel]), out, out.size, *address)
    return out


OVERRIDES: dict[str, Callable[..., Array]] = {"uniform_like": uniform_like, "words_like": words_like}
