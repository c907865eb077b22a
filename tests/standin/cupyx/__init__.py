"""The part of cupyx that goes with the stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np
from cupy._core.syncdetect import DeviceSynchronized, allow_synchronize
from cupy._ufunc import scatter
from cupy.cuda import alloc_pinned_memory

__all__ = [
    "DeviceSynchronized",
    "allow_synchronize",
    "empty_pinned",
    "scatter_add",
    "scatter_max",
    "scatter_min",
    "zeros_pinned",
]


def scatter_add(a: Any, slices: Any, value: Any) -> None:
    """Adds as often as an index turns up, in no order on a GPU."""
    scatter("add", a, slices, value)


def scatter_max(a: Any, slices: Any, value: Any) -> None:
    scatter("maximum", a, slices, value)


def scatter_min(a: Any, slices: Any, value: Any) -> None:
    scatter("minimum", a, slices, value)


def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    """An array of the host in page-locked memory."""
    count = int(np.prod(shape))
    memory = alloc_pinned_memory(count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape, order=order)


def zeros_pinned(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    made = empty_pinned(shape, dtype, order)
    made[...] = 0
    return made
