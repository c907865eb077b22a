"""Normalisation on NumPy: a few rows or channels at a time, which stay in the cache, spread over threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .base import KERNELS, Array
from .norm import count, varies
from .registry import NUMPY
from .threads import spread as spread_over_threads

WORTH = 1 << 16  # elements: fewer stay in the cache by themselves
ROW = 64  # elements along the last axis: with fewer, blocks cost more than they save
BYTES = 1 << 18  # of the input at a time


def normalized(x: Array, weight: Any, bias: Any, axes: tuple[int, ...], eps: float, centred: bool) -> Any:
    """See `backend.norm`."""
    if not _usual(x, axes):
        return NotImplemented
    n, inner = count(x, axes), weight is not None and varies(weight.shape, x, axes)
    y, mean, var = np.empty(x.shape, x.dtype), _statistics(x, axes), _statistics(x, axes)
    ones = np.ones(x.shape[-1:], x.dtype)

    def block(at: Any, _: Array, __: Array) -> None:
        h, v, w, b = y[at], var[at], _part(weight, x, at), _part(bias, x, at)
        if centred:
            m = np.divide(_dots(x[at], ones, axes), n, mean[at])
            np.subtract(x[at], m, h)
        else:
            np.copyto(h, x[at])
        r = 1.0 / np.sqrt(np.divide(_dots(h, h, axes), n, v) + eps)
        h *= r if w is None or inner else r * w
        if inner:
            h *= w
        if b is not None:
            h += b

    _each(x, axes, block)
    return y, mean if centred else None, var


def normalized_back(
    dy: Array, x: Array, weight: Any, mean: Any, var: Array, axes: tuple[int, ...], eps: float, spread: tuple[int, ...]
) -> Any:
    """See `backend.norm`; gradients of weight and bias are summed over each block."""
    if not _usual(x, axes):
        return NotImplemented
    n, inner, dx = count(x, axes), varies(spread, x, axes), np.empty(x.shape, x.dtype)
    ones, parts = np.ones(x.shape[-1:], x.dtype), dict[int, tuple[Array, Array]]()

    def block(at: Any, h: Array, p: Array) -> None:
        d, out, w, r = dy[at], dx[at], _part(weight, x, at), 1.0 / np.sqrt(var[at] + eps)
        if mean is None:
            np.copyto(h, x[at])
        else:
            np.subtract(x[at], mean[at], h)
        if inner:
            h *= r
            if spread[-1] == 1:
                dw, db = _dots(d, h, axes[-1:]), _dots(d, ones, axes[-1:])
            else:
                dw, db = _rows(np.multiply(d, h, p)), _rows(d)
            g, scale = d if w is None else np.multiply(d, w, out), r
            s, t = _dots(g, ones, axes), _dots(g, h, axes)
        else:
            g, s, t = d, _dots(d, ones, axes), _dots(d, h, axes)
            dw, db, scale = t * r, s, r if w is None else r * w
            t *= r * r
        parts[at[-1].start] = dw, db
        h *= t / n
        np.subtract(g, h, out)
        if mean is not None:
            out -= s / n
        out *= scale

    axis = _each(x, axes, block)
    dw, db = (np.concatenate([parts[i][k] for i in sorted(parts)], axis) for k in (0, 1))
    return dx, dw, db


def _usual(x: Array, axes: tuple[int, ...]) -> bool:
    return x.size >= WORTH and x.shape[-1] >= ROW and x.ndim - 1 in axes


def _statistics(x: Array, axes: tuple[int, ...]) -> Array:
    return np.empty([1 if i in axes else k for i, k in enumerate(x.shape)], x.dtype)


def _dots(a: Array, b: Array, axes: tuple[int, ...]) -> Array:
    """Sums of products along the axes, which are kept."""
    return np.add.reduce(np.vecdot(a, b)[..., None], axes[:-1], keepdims=True)


def _rows(a: Array) -> Array:
    """The sum along the first axis, which is kept; as a product, it is done by the BLAS."""
    return (np.ones(len(a), a.dtype) @ a.reshape(len(a), -1)).reshape(1, *a.shape[1:])


def _part(parameter: Any, x: Array, at: Any) -> Any:
    """What belongs to a block of `x`: the same elements, where the parameter has that axis."""
    skipped = 0 if parameter is None else x.ndim - parameter.ndim
    own = parameter is not None and len(at) > skipped and parameter.shape[len(at) - 1 - skipped] > 1
    return parameter[at[skipped:]] if own else parameter


def _each(x: Array, axes: tuple[int, ...], block: Callable[[Any, Array, Array], None]) -> int:
    """Call `block` with the index of each block along the first axis that has no mean, and room for two such blocks.

    Gives that axis.
    """
    axis = next(i for i in range(x.ndim) if i not in axes)
    n, before = x.shape[axis], (slice(None),) * axis
    step = max(1, BYTES * n // x.nbytes)

    def job(starts: Sequence[int]) -> None:
        room = np.empty((2, *x.shape[:axis], step, *x.shape[axis + 1 :]), x.dtype)
        for i in starts:
            end = min(i + step, n)
            block((*before, slice(i, end)), *room[(slice(None), *before, slice(0, end - i))])

    spread_over_threads(job, range(0, n, step))
    return axis


if KERNELS:
    NUMPY.overrides.update(normalized=normalized, normalized_back=normalized_back)
