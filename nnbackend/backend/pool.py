"""Pooling along one axis, in slices: all windows' elements of one number are a slice.

A window starts every `stride` elements, `padding` before the first, and has `kernel` elements `dilation` apart; those
outside of the array are left out. There are `out` windows: x (..., n, ...) -> y (..., out, ...).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

from .base import Array
from .primitive import primitive
from .registry import namespace

Keys: TypeAlias = list[tuple[tuple[Any, ...], tuple[Any, ...]]]


@primitive
def pool_max(x: Array, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int) -> Array:
    """The largest element of each window, NaN if it has one."""
    keys = pool_keys(x.shape[axis], axis, kernel, stride, padding, dilation, out)
    return _joined(x, keys, axis, out, namespace(x).maximum, -math.inf)


@primitive
def pool_max_back(
    dy: Array, x: Array, y: Array, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int
) -> Array:
    """The gradient of `pool_max`: of equal ones the first gets it. Where there is a NaN, it means nothing."""
    keys = pool_keys(x.shape[axis], axis, kernel, stride, padding, dilation, out)
    apart = stride >= (kernel - 1) * dilation + 1
    xp = namespace(dy)
    g, free = xp.zeros_like(x), xp.ones_like(y, dtype=xp.bool)
    for windows, elements in keys:
        hit = free[windows]  # what no other has is the last one's
        if elements is not keys[-1][1]:
            hit = hit & (x[elements] == y[windows])
            free[windows] = free[windows] ^ hit
        part = dy[windows] * xp.astype(hit, dy.dtype)
        g[elements] = part if apart else g[elements] + part
    return g


@primitive
def pool_sum(x: Array, axis: int, kernel: int, stride: int, padding: int, out: int) -> Array:
    """The sum of each window, whose elements stand side by side."""
    keys = pool_keys(x.shape[axis], axis, kernel, stride, padding, 1, out)
    return _joined(x, keys, axis, out, namespace(x).add, 0.0)


@primitive
def pool_sum_back(dy: Array, n: int, axis: int, kernel: int, stride: int, padding: int, out: int) -> Array:
    """The gradient of `pool_sum` of n elements along `axis`."""
    g = namespace(dy).zeros((*dy.shape[:axis], n, *dy.shape[axis + 1 :]), dtype=dy.dtype, device=dy.device)
    for windows, elements in pool_keys(n, axis, kernel, stride, padding, 1, out):
        g[elements] = dy[windows] if stride >= kernel else g[elements] + dy[windows]
    return g


@functools.lru_cache(256)
def pool_keys(n: int, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int) -> Keys:
    """For each number of an element: which windows have it, and where these elements are."""
    keys, before = [], (slice(None),) * axis
    for at in range(-padding, kernel * dilation - padding, dilation):
        first, last = max(0, -(at // stride)), min(out - 1, (n - 1 - at) // stride)
        if first <= last:
            windows, elements = slice(first, last + 1), slice(first * stride + at, last * stride + at + 1, stride)
            keys.append(((*before, windows, ...), (*before, elements, ...)))
    return keys


def _joined(x: Array, keys: Keys, axis: int, out: int, join: Callable[[Array, Array], Array], empty: float) -> Array:
    """All elements of each window put together by `join`."""
    xp, everywhere = namespace(x), slice(0, out)
    whole = [x[elements] for windows, elements in keys if windows[axis] == everywhere]
    if len(whole) > 1:
        y = functools.reduce(join, whole)
    elif whole:
        y = xp.asarray(whole[0], copy=True)
    else:
        y = xp.full((*x.shape[:axis], out, *x.shape[axis + 1 :]), empty, dtype=x.dtype, device=x.device)
    for windows, elements in keys:
        if windows[axis] != everywhere:
            y[windows] = join(y[windows], x[elements])
    return y
