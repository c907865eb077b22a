"""Reductions. Ties of max and min share the gradient evenly."""

from __future__ import annotations

import math
from typing import Any

from ..backend import Array, namespace
from .core import Axis, Op, axes_of, constant, kept


def _count(x: Array, axis: Axis) -> int:
    """How many elements one result stands for."""
    return math.prod(x.shape[a] for a in axes_of(axis, len(x.shape)))


def _spread(dy: Array, shape: tuple[int, ...], axis: Axis) -> Array:
    """The way back of a sum: every element gets the gradient of its result."""
    xp = namespace(dy)
    return xp.broadcast_to(xp.reshape(dy, kept(shape, axis)), shape)


def sum(x: Array, axis: Axis = None, keepdims: bool = False) -> Op:
    """Sum along `axis`."""
    return namespace(x).sum(x, axis=axis, keepdims=keepdims), (lambda dy: _spread(dy, x.shape, axis),)


def mean(x: Array, axis: Axis = None, keepdims: bool = False) -> Op:
    """Mean along `axis`."""
    n = _count(x, axis)
    return namespace(x).mean(x, axis=axis, keepdims=keepdims), (lambda dy: _spread(dy / n, x.shape, axis),)


def max(x: Array, axis: Axis = None, keepdims: bool = False) -> Op:
    """Largest element along `axis`."""
    y = namespace(x).max(x, axis=axis, keepdims=keepdims)
    return y, (lambda dy: _to_extremes(dy, x, y, axis),)


def min(x: Array, axis: Axis = None, keepdims: bool = False) -> Op:
    """Smallest element along `axis`."""
    y = namespace(x).min(x, axis=axis, keepdims=keepdims)
    return y, (lambda dy: _to_extremes(dy, x, y, axis),)


def _to_extremes(dy: Array, x: Array, y: Array, axis: Axis) -> Array:
    xp = namespace(dy)
    shape = kept(x.shape, axis)
    hit = xp.astype(constant(x) == xp.reshape(constant(y), shape), dy.dtype)
    return xp.reshape(dy, shape) * (hit / xp.sum(hit, axis=axis, keepdims=True))


def prod(x: Array, axis: Axis = None, keepdims: bool = False) -> Op:
    """The gradient is the product of the *others*, so it is right at zeros too."""
    xp = namespace(x)

    def dx(dy: Array) -> Array:
        axes = axes_of(axis, len(x.shape))
        rest = tuple(i for i in range(len(x.shape)) if i not in axes)
        moved = xp.permute_dims(x, rest + axes)
        rows = xp.reshape(moved, (-1, _count(x, axis))) if _count(x, axis) else xp.reshape(moved, (0, 0))
        others = xp.reshape(_product_of_others(rows), moved.shape)
        back = sorted(range(len(x.shape)), key=(rest + axes).__getitem__)
        return xp.permute_dims(others, tuple(back)) * xp.reshape(dy, kept(x.shape, axis))

    return xp.prod(x, axis=axis, keepdims=keepdims), (dx,)


def _product_of_others(rows: Array) -> Array:
    """(n, k) -> (n, k), each the product of the other k - 1: those to its left times those to its right."""
    xp, k = namespace(rows), rows.shape[1]
    columns = [rows[:, i : i + 1] for i in range(k)]
    left, right = [1.0] * k, [1.0] * k
    for i in range(1, k):
        left[i] = left[i - 1] * columns[i - 1]
        right[k - 1 - i] = right[k - i] * columns[k - i]
    if k < 2:
        return xp.ones_like(rows)
    return xp.concat([a * b for a, b in zip(left, right, strict=True)], axis=1)


def var(x: Array, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Op:
    """Mean square distance from the mean, exact for means far from 0."""
    y, back = _variance(x, axis, correction, keepdims)
    return y, (back,)


def std(x: Array, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Op:
    """Square root of `var`; constants have gradient 0."""
    xp = namespace(x)
    square, back = _variance(x, axis, correction, keepdims)
    y = xp.sqrt(square)

    def dx(dy: Array) -> Array:
        flat = y == 0
        half = dy * 0.5 / xp.where(flat, y + 1.0, y)
        return back(xp.where(flat, 0.0 * half, half))

    return y, (dx,)


def _variance(x: Array, axis: Axis, correction: float, keepdims: bool) -> tuple[Array, Any]:
    """Centred twice: the mean of many float32 far from 0 is itself off, by more than their spread."""
    xp, free = namespace(x), _count(x, axis) - correction
    centred = x - xp.mean(x, axis=axis, keepdims=True)
    centred = centred - xp.mean(centred, axis=axis, keepdims=True)
    total = xp.sum(centred * centred, axis=axis, keepdims=keepdims)
    y = total / free if free > 0 else total * math.nan

    def back(dy: Array) -> Array:
        return (xp.reshape(dy, kept(x.shape, axis)) * (2.0 / free if free > 0 else math.nan)) * centred

    return y, back


def logsumexp(x: Array, axis: Axis = None, keepdims: bool = False) -> Op:
    """log(sum(exp(x))), shifted by the maximum."""
    xp, shape = namespace(x), kept(x.shape, axis)
    top = constant(xp.max(x, axis=axis, keepdims=True))
    top = xp.where(xp.isfinite(top), top, 0.0)
    e = xp.exp(x - top)
    s = xp.sum(e, axis=axis, keepdims=True)
    empty = s == 0.0  # every x is -inf
    y = xp.where(empty, -math.inf, xp.log(xp.where(empty, 1.0, s)) + top)
    return y if keepdims else _drop(y, x.shape, axis), (lambda dy: xp.reshape(dy, shape) * (e / s),)


def _drop(y: Array, shape: tuple[int, ...], axis: Axis) -> Array:
    axes = axes_of(axis, len(shape))
    return namespace(y).reshape(y, tuple(n for i, n in enumerate(shape) if i not in axes))
