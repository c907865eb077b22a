"""Picking elements out. The way back adds at the places picked from, as often as they were picked."""

from __future__ import annotations

import math
from typing import Any

from ..backend import Array, assign, namespace
from ..backend import gather as _gather
from ..backend import one_hot as _one_hot
from ..backend import place as _place
from ..backend import scatter_add as _scatter_add
from ..errors import ShapeError
from .core import Op, axis_of, constant, shape_of, unbroadcast


def getitem(x: Array, key: Any) -> Op:
    """`x[key]` for slices, numbers, `...`, new axes, masks and integer arrays."""
    return x[key], (lambda dy: _place(dy, key, x.shape), None)


def place(dy: Array, key: Any, shape: tuple[int, ...]) -> Op:
    """Zeros of `shape` with `dy` added at `key`: the way back of `getitem`, and the reverse."""
    return _place(dy, key, shape), (lambda d2: d2[key], None, None)


def setitem(x: Array, value: Array, key: Any) -> Op:
    """A copy of `x` with `value` at `key`."""
    xp = namespace(x)
    y = xp.asarray(x, copy=True)
    assign(y, key, value)

    def dx(dy: Array) -> Array:
        kept = xp.asarray(dy, copy=True)
        kept[key] = 0.0
        return kept

    def dvalue(dy: Array) -> Array:
        part, shape = dy[key], shape_of(value)
        needed = shape[max(0, len(shape) - len(part.shape)) :]  # a value may have further axes of length 1 in front
        return namespace(dy).reshape(unbroadcast(part, needed), shape)

    return y, (dx, dvalue, None)


def gather(x: Array, index: Array) -> Op:
    """Rows of `x` (n, ...) at `index` (...): embeddings."""
    return _gather(x, index), (lambda dy: _scatter_add(dy, index, x.shape[0]), None)


def scatter_add(dy: Array, index: Array, rows: int) -> Op:
    """(rows, ...) with the rows of `dy` added at `index`."""
    return _scatter_add(dy, index, rows), (lambda d2: _gather(d2, index), None, None)


def one_hot(index: Array, classes: int, dtype: Any) -> Op:
    """(...) integers -> (..., classes) zeros and ones."""
    return _one_hot(index, classes, dtype), (None, None, None)


def take(x: Array, indices: Array, axis: int = 0) -> Op:
    """Slices of `x` along `axis` at 1-D `indices`."""
    xp = namespace(x)
    axis = axis_of(axis, len(x.shape))
    if len(indices.shape) != 1:
        raise ShapeError(f"take: expected 1-D indices, got shape {indices.shape}. Use x[...] or take_along_axis.")

    def dx(dy: Array) -> Array:
        rows = _scatter_add(xp.moveaxis(dy, axis, 0), indices, x.shape[axis])
        return xp.moveaxis(rows, 0, axis)

    return xp.take(x, indices, axis=axis), (dx, None)


def take_along_axis(x: Array, indices: Array, axis: int = -1) -> Op:
    """Element `indices[..., j, ...]` of each line along `axis`."""
    axis = axis_of(axis, len(x.shape))

    def dx(dy: Array) -> Array:
        shape = (*dy.shape[:axis], x.shape[axis], *dy.shape[axis + 1 :])
        return unbroadcast(_added(dy, indices, shape, axis), x.shape)

    return namespace(x).take_along_axis(x, indices, axis=axis), (dx, None)


def add_along_axis(x: Array, indices: Array, values: Array, axis: int = -1) -> Op:
    """`x` with `values` added where `take_along_axis` would take, repeats counted each time."""
    axis = axis_of(axis, len(x.shape))
    given = namespace(x).broadcast_to(values, indices.shape)
    return x + _added(given, indices, x.shape, axis), (
        lambda dy: dy,
        None,
        lambda dy: unbroadcast(namespace(dy).take_along_axis(dy, indices, axis=axis), values.shape),
    )


def put_along_axis(x: Array, indices: Array, values: Array, axis: int = -1) -> Op:
    """`x` with `values` where `take_along_axis` would take; of several for one place the last stays."""
    xp, axis = namespace(x), axis_of(axis, len(x.shape))
    lines = xp.reshape(xp.moveaxis(xp.asarray(x, copy=True), axis, -1), (-1,))
    given = xp.moveaxis(xp.broadcast_to(values, indices.shape), axis, -1)
    assign(lines, _places(indices, x.shape, axis), xp.reshape(given, (-1,)))

    def dx(dy: Array) -> Array:
        ones = xp.ones(indices.shape, dtype=x.dtype, device=x.device)
        return namespace(dy).where(_added(ones, indices, x.shape, axis) > 0.0, 0.0, dy)

    return _from_lines(lines, x.shape, axis), (
        dx,
        None,
        lambda dy: unbroadcast(namespace(dy).take_along_axis(dy, indices, axis=axis), values.shape),
    )


def _places(indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """`indices` along `axis` of an array of this shape as indices into all its elements, in lines along `axis`."""
    ip, n, k = namespace(indices), shape[axis], indices.shape[axis]
    rest = (*shape[:axis], *shape[axis + 1 :])
    starts = ip.reshape(ip.arange(math.prod(rest), device=indices.device), (*rest, 1)) * n
    moved = ip.astype(ip.broadcast_to(ip.moveaxis(indices, axis, -1), (*rest, k)), starts.dtype)
    return ip.reshape(starts + ip.where(moved < 0, moved + n, moved), (-1,))


def _added(values: Array, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Zeros of `shape` with `values` added at `indices` along `axis`."""
    xp = namespace(values)
    lines = xp.reshape(xp.moveaxis(values, axis, -1), (-1,))
    return _from_lines(_scatter_add(lines, _places(indices, shape, axis), math.prod(shape)), shape, axis)


def _from_lines(lines: Array, shape: tuple[int, ...], axis: int) -> Array:
    xp = namespace(lines)
    return xp.moveaxis(xp.reshape(lines, (*shape[:axis], *shape[axis + 1 :], shape[axis])), -1, axis)


def topk(x: Array, k: int, axis: int = -1, largest: bool = True) -> Op:
    """The `k` largest (or smallest) elements along `axis`, in order, and where they stand; of equal ones the first."""
    axis = axis_of(axis, len(x.shape))
    if not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"topk: expected k from 0 to {x.shape[axis]}, got {k} along axis {axis} of shape {x.shape}")
    order, _ = argsort(constant(x), axis, largest)
    places = order[(slice(None),) * axis + (slice(0, k), ...)]
    values = namespace(x).take_along_axis(x, places, axis=axis)
    return (values, places), (lambda dy: _added(dy[0], places, x.shape, axis),)


def where(condition: Array, a: Array, b: Array) -> Op:
    """`a` where the condition holds, else `b`. Both are computed: mask inputs too where one could be infinite."""

    def side(dy: Array, mine: Array, chosen: Array) -> Array:
        return unbroadcast(dy * namespace(dy).astype(chosen, dy.dtype), shape_of(mine))

    return namespace(condition).where(condition, a, b), (
        None,
        lambda dy: side(dy, a, condition),
        lambda dy: side(dy, b, ~condition),
    )


def masked_fill(x: Array, mask: Array, value: Array) -> Op:
    """`x` with `value` where `mask` holds."""
    return namespace(x).where(mask, value, x), (
        lambda dy: unbroadcast(namespace(dy).where(mask, 0.0, dy), x.shape),
        None,
        lambda dy: unbroadcast(namespace(dy).where(mask, dy, 0.0), shape_of(value)),
    )


def sort(x: Array, axis: int = -1, descending: bool = False, stable: bool = True) -> Op:
    """Sorted values; ties keep their order."""
    xp = namespace(x)
    order, _ = argsort(constant(x), axis, descending, stable)
    return xp.take_along_axis(x, order, axis=axis), (
        lambda dy: xp.take_along_axis(dy, xp.argsort(order, axis=axis), axis=axis),
    )


def argsort(x: Array, axis: int = -1, descending: bool = False, stable: bool = True) -> Op:
    """Where each of the sorted values stands in `x`; ties keep their order."""
    xp = namespace(x)
    if not descending:
        return xp.argsort(x, axis=axis, stable=stable), (None,)
    back_to_front = xp.argsort(xp.flip(x, axis=axis), axis=axis, stable=stable)  # NumPy does not know `descending`
    return x.shape[axis] - 1 - xp.flip(back_to_front, axis=axis), (None,)
