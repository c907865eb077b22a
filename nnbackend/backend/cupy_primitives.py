"""Primitives on CuPy: fewer kernels, sums in a fixed order, and never a wait for the device."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import cupy_random
from .base import Array
from .kernels import launch

SUMMED = ("float32", "float64", "int64")


def last_for_each(cupy: Any, value: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """`value` for the elements at `key`, with each value replaced by the last one for the same place.

    As it is where `key` has no array of integers, or a mask beside it: then no two are for one place.
    """
    parts = key if isinstance(key, tuple) else (key,)
    arrays = [np.asarray(part) if isinstance(part, list) else part for part in parts]
    if {part.dtype.kind for part in arrays if hasattr(part, "dtype")} not in ({"i"}, {"u"}, {"i", "u"}):
        return value
    if all(isinstance(part, cupy.ndarray) for part in parts):
        shape, tail = shape[: len(parts)], shape[len(parts) :]  # whole rows have one place
    else:
        tail = ()
    places = cupy.arange(math.prod(shape)).reshape(shape)[key]
    flat, target = places.reshape(-1), (*places.shape, *tail)
    value = value.reshape(value.shape[max(0, value.ndim - len(target)) :])  # NumPy allows axes of length 1 in front
    rows = cupy.broadcast_to(value, target).reshape(flat.size, math.prod(tail))
    order = cupy.argsort(flat, kind="stable")
    last = order[cupy.searchsorted(flat[order], flat, side="right") - 1]
    return rows[last].reshape(target)


def overrides(cupy: Any) -> dict[str, Callable[..., Array]]:
    """The table of CuPy's backend."""
    special: Any = importlib.import_module("cupyx.scipy.special")
    as_strided: Any = importlib.import_module("cupy.lib.stride_tricks").as_strided

    def gather(x: Array, index: Array) -> Array:
        return x.take(index, axis=0)

    def scatter_add(dy: Array, index: Array, rows: int) -> Array:
        """Sorted, so that rows for one place stand together; where they begin is found without a look at them."""
        if dy.dtype.name not in SUMMED:
            return NotImplemented
        out = cupy.empty((rows, *dy.shape[index.ndim :]), dy.dtype)
        flat = index.reshape(-1).astype(np.int64)
        flat = cupy.where(flat < 0, flat + rows, flat)
        order = cupy.argsort(flat, kind="stable").astype(np.int64, copy=False)
        starts = cupy.searchsorted(flat[order], cupy.arange(rows + 1)).astype(np.int64, copy=False)
        dy, width = cupy.ascontiguousarray(dy), out.size // max(rows, 1)
        launch("scatter.cu", f"add_rows_{dy.dtype.name}", out.size, out, dy, order, starts, out.size, width)
        return out

    def erf(x: Array) -> Array:
        return NotImplemented if x.dtype.itemsize == 2 else special.erf(x)

    def unfold(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Array:
        """The windows are a view of the padded array; one kernel copies them."""
        if any(map(any, padding)):
            x = cupy.pad(x, ((0, 0), (0, 0), *padding))
        n, c, *size = x.shape
        axes = list(zip(size, kernel, stride, dilation, x.strides[2:], strict=True))
        count = [(m - d * (k - 1) - 1) // s + 1 for m, k, s, d, _ in axes]
        inner, outer = [b * d for *_, d, b in axes], [b * s for _, _, s, _, b in axes]
        windows = as_strided(x, (n, c, *kernel, *count), (*x.strides[:2], *inner, *outer))
        return windows.reshape(n, c, math.prod(kernel), math.prod(count))

    return {"gather": gather, "scatter_add": scatter_add, "erf": erf, "unfold": unfold, **cupy_random.OVERRIDES}
