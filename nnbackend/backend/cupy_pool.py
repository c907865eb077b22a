"""Pooling on CuPy: one launch for an axis, forward and back. What the functions are is said in `backend.pool`."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from .base import Array
from .kernels import launch

FARTHEST = 1 << 30  # along an axis: kernels count in 32 bits
FLOATS = ("float32", "float64", "float16")


def pool_max(x: Array, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int) -> Array:
    """Each thread makes one maximum."""
    return _pooled("largest", (x,), axis, out, (x.shape[axis], kernel, out, stride, padding, dilation))


def pool_max_back(
    dy: Array, x: Array, y: Array, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int
) -> Array:
    """Each element looks whether it is the one in its windows."""
    n, last = x.shape[axis], 0  # the last element that is in any window
    for k in range(kernel):
        at = k * dilation - padding
        if max(0, -(at // stride)) <= min(out - 1, (n - 1 - at) // stride):
            last = k
    return _pooled("largest_back", (dy, x, y), axis, n, (n, kernel, out, stride, padding, dilation), np.int32(last))


def pool_sum(x: Array, axis: int, kernel: int, stride: int, padding: int, out: int) -> Array:
    """Each thread makes one sum."""
    return _pooled("sums", (x,), axis, out, (x.shape[axis], kernel, out, stride, padding, 1))


def pool_sum_back(dy: Array, n: int, axis: int, kernel: int, stride: int, padding: int, out: int) -> Array:
    """Each element adds up what its windows have."""
    return _pooled("sums_back", (dy,), axis, n, (n, kernel, out, stride, padding, 1))


def _pooled(
    kernel: str, arrays: tuple[Array, ...], axis: int, length: int, along: tuple[int, ...], *more: Any
) -> Array:
    """A launch for each element of a result like the first array, but of that length along `axis`."""
    cupy, first = import_module("cupy"), arrays[0]
    if first.dtype.name not in FLOATS or any(x.dtype != first.dtype for x in arrays):
        return NotImplemented
    if max(along) + along[1] * along[-1] >= FARTHEST:
        return NotImplemented
    shape = (*first.shape[:axis], length, *first.shape[axis + 1 :])
    result, inner = cupy.empty(shape, first.dtype), math.prod(shape[axis + 1 :])
    arrays = tuple(map(cupy.ascontiguousarray, arrays))
    numbers = (*more, *map(np.int32, along))
    launch("pool.cu", f"{kernel}_{first.dtype.name}", result.size, result, *arrays, result.size, inner, *numbers)
    return result


OVERRIDES: dict[str, Callable[..., Array]] = {
    "pool_max": pool_max,
    "pool_max_back": pool_max_back,
    "pool_sum": pool_sum,
    "pool_sum_back": pool_sum_back,
}
