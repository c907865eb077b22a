"""Pooling, one axis at a time: the maximum or mean of a box is that of its lines. Windows: see `backend.pool`."""

from __future__ import annotations

import math

from ..backend import Array, namespace, pool_keys, pool_max, pool_max_back, pool_sum, pool_sum_back
from .core import Op, constant


def max_pool(x: Array, *, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int) -> Op:
    """The largest element of each window along `axis`; the first of equal ones gets the gradient.

    NaN is largest; the gradient of a window with NaN goes to any element, for it means nothing.
    """
    how = axis, kernel, stride, padding, dilation, out
    y = pool_max(x, *how)
    return y, (lambda dy: pool_max_back(dy, constant(x), constant(y), *how),)


def max_pool_indices(
    x: Array, index: Array, *, axis: int, kernel: int, stride: int, padding: int, dilation: int, out: int
) -> Op:
    """`index` where the largest element of each window along `axis` is: of equal ones the first, of NaN the last."""
    xp, n = namespace(x), x.shape[axis]
    shape = (*x.shape[:axis], out, *x.shape[axis + 1 :])
    starts = [i * stride - padding for i in range(out)]
    firsts = xp.asarray([min(n - 1, s if s >= 0 else s % dilation) for s in starts], device=x.device)
    y, best = xp.full(shape, -math.inf, dtype=x.dtype, device=x.device), xp.take(index, firsts, axis=axis)
    for windows, elements in pool_keys(n, axis, kernel, stride, padding, dilation, out):
        part = x[elements]
        larger = (part > y[windows]) | (part != part)
        y[windows] = xp.where(larger, part, y[windows])
        best[windows] = xp.where(larger, index[elements], best[windows])
    return best, (None, None)


def avg_pool(
    x: Array, *, axis: int, kernel: int, stride: int, padding: int, out: int, counts: float | tuple[float, ...]
) -> Op:
    """The sum of each window along `axis`, divided by one number for all or by one for each."""
    how = axis, kernel, stride, padding, out
    y = pool_sum(x, *how)

    def divisor(like: Array) -> Array | float:
        if not isinstance(counts, tuple):
            return counts
        row = namespace(like).asarray(counts, dtype=like.dtype, device=like.device)
        return namespace(like).reshape(row, (out, *(1,) * (len(x.shape) - axis - 1)))

    y /= divisor(y)
    return y, (lambda dy: pool_sum_back(dy / divisor(dy), x.shape[axis], *how),)


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
