"""Pooling, one axis at a time: the maximum or mean of a box is that of its lines.

A window starts every `stride` elements, `padding` before the first, and has `kernel` elements `dilation` apart; those
outside of the array are left out. All windows' elements of one number are a slice, so a pool is a few calls on slices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

from ..backend import Array, namespace
from .core import Op, constant

Keys: TypeAlias = list[tuple[tuple[Any, ...], tuple[Any, ...]]]


def _keys(n: int, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int) -> Keys:
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


def max_pool(x: Array, *, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int) -> Op:
    """The largest element of each window along `axis`; the first of equal ones gets the gradient.

    NaN is largest; the gradient of a window with NaN goes to any element, for it means nothing.
    """
    keys = _keys(x.shape[axis], axis, kernel, stride, padding, dilation, out)
    y = _joined(x, keys, axis, out, namespace(x).maximum, -math.inf)
    apart = stride >= (kernel - 1) * dilation + 1

    def dx(dy: Array) -> Array:
        xp, old, top = namespace(dy), constant(x), constant(y)
        g, free = xp.zeros_like(old), xp.ones_like(top, dtype=xp.bool)
        for windows, elements in keys:
            hit = free[windows]  # what no other has is the last one's
            if elements is not keys[-1][1]:
                hit = hit & (old[elements] == top[windows])
                free[windows] = free[windows] ^ hit
            part = dy[windows] * xp.astype(hit, dy.dtype)
            g[elements] = part if apart else g[elements] + part
        return g

    return y, (dx,)


def max_pool_indices(
    x: Array, index: Array, *, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int
) -> Op:
    """`index` where the largest element of each window along `axis` is: of equal ones the first, of NaN the last."""
    xp, n = namespace(x), x.shape[axis]
    shape = (*x.shape[:axis], out, *x.shape[axis + 1 :])
    starts = [i * stride - padding for i in range(out)]
    firsts = xp.asarray([min(n - 1, s if s >= 0 else s % dilation) for s in starts], device=x.device)
    y, best = xp.full(shape, -math.inf, dtype=x.dtype, device=x.device), xp.take(index, firsts, axis=axis)
    for windows, elements in _keys(n, axis, kernel, stride, padding, dilation, out):
        part = x[elements]
        larger = (part > y[windows]) | (part != part)
        y[windows] = xp.where(larger, part, y[windows])
        best[windows] = xp.where(larger, index[elements], best[windows])
    return best, (None, None)


def avg_pool(
    x: Array, *, axis: int, kernel: int, stride: int, padding: int, out: int, counts: float | tuple[float, ...]
) -> Op:
    """The sum of each window along `axis`, divided by one number for all or by one for each."""
    xp = namespace(x)
    keys = _keys(x.shape[axis], axis, kernel, stride, padding, 1, out)
    y = _joined(x, keys, axis, out, xp.add, 0.0)

    def divisor(like: Array) -> Array | float:
        if not isinstance(counts, tuple):
            return counts
        row = namespace(like).asarray(counts, dtype=like.dtype, device=like.device)
        return namespace(like).reshape(row, (out, *(1,) * (len(x.shape) - axis - 1)))

    y /= divisor(y)

    def dx(dy: Array) -> Array:
        xp = namespace(dy)
        share, g = dy / divisor(dy), xp.zeros_like(constant(x))
        for windows, elements in keys:
            g[elements] = share[windows] if stride >= kernel else g[elements] + share[windows]
        return g

    return y, (dx,)


def max_unpool(y: Array, index: Array, *, size: int) -> Op:
    """(rows, k) elements put at `index` in rows of `size` zeros; of several for one place the last stays."""
    xp, (rows, k) = namespace(y), y.shape
    flat = xp.reshape(index + xp.reshape(xp.arange(rows, device=y.device) * size, (rows, 1)), (-1,))
    order = xp.argsort(flat)
    places = xp.arange(rows * size, device=y.device)
    sorted_ = xp.take(flat, order)
    last = xp.searchsorted(sorted_, places, side="right") - 1
    source = xp.take(order, xp.maximum(last, 0))
    filled = xp.take(flat, source) == places
    x = xp.where(filled, xp.take(xp.reshape(y, (-1,)), source), 0.0)
    return xp.reshape(x, (rows, size)), (
        lambda dx: namespace(dx).reshape(namespace(dx).take(namespace(dx).reshape(dx, (-1,)), flat, axis=0), (rows, k)),
        None,
    )
