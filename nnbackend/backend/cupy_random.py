"""Random numbers on CUDA: one kernel that makes them where they are needed, the same bits as NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from .base import Array
from .kernels import launch
from .slots import Slot, by_value

_TOGETHER = {"words": 4, "uniform_float64": 4, "uniform_float32": 8, "uniform_float16": 8}  # numbers that a block makes


def words_like(x: Array, key: int, site: int, step: int | Slot, rank: int = 0) -> Array:
    """Random 64-bit words."""
    return _drawn("words", x, np.dtype(np.uint64), key, site, step, rank)


def uniform_like(x: Array, key: int, site: int, step: int | Slot, rank: int = 0) -> Array:
    """Random numbers in [0, 1)."""
    if x.dtype not in (np.float32, np.float64, np.float16):
        return NotImplemented
    return _drawn(f"uniform_{x.dtype.name}", x, x.dtype, key, site, step, rank)


def kept(x: Array, p: float, key: int, site: int, step: int | Slot, rank: int = 0) -> Array:
    """What dropout multiplies by."""
    if x.dtype.name not in ("float32", "float64", "float16"):
        return NotImplemented
    with x.device:
        out = import_module("cupy").empty(x.shape, x.dtype)
        blocks = -(-out.size // _TOGETHER[f"uniform_{x.dtype.name}"])
        launch(
            "dropout.cu", f"keep_{x.dtype.name}", blocks, out, out.size,
            *kept_numbers(x.dtype, p), *address(key, site, step, rank),
        )  # fmt: skip
    return out


def kept_numbers(dtype: np.dtype[Any], p: float) -> tuple[float, float]:
    """Below what random numbers are dropped, and what the others are multiplied by, rounded to the dtype."""
    return float(dtype.type(p)), float(dtype.type(1.0 / (1.0 - p) if p < 1.0 else 0.0))


def _drawn(kernel: str, x: Array, dtype: np.dtype[Any], *at: Any) -> Array:
    with x.device:
        out = import_module("cupy").empty(x.shape, dtype)
        launch("random.cu", kernel, -(-out.size // _TOGETHER[kernel]), out, out.size, *address(*at))
    return out


def address(key: int, site: int, step: int | Slot, rank: int = 0) -> tuple[Any, ...]:
    """The arguments of a kernel that say where its random numbers begin."""
    low, high = key & (1 << 64) - 1, key >> 64
    return np.uint64(0), np.uint64(site), *by_value(step), np.uint64(rank), np.uint64(low), np.uint64(high)


OVERRIDES: dict[str, Callable[..., Array]] = {"kept": kept, "uniform_like": uniform_like, "words_like": words_like}
