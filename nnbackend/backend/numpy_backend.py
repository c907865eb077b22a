"""NumPy: the CPU, and the reference for every other library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import numpy_conv
from .base import KERNELS, Array, Backend, dtype_name
from .numpy_blas import LONG, axpby


class NumpyBackend(Backend):
    """The CPU. NumPy 2.1 and later is the standard's own namespace."""

    block = 1 << 18
    views = True

    def __init__(self) -> None:
        super().__init__("numpy", np, OVERRIDES if KERNELS else None)

    def dtype(self, spec: Any) -> np.dtype[Any]:
        """NumPy's dtype of that name."""
        return np.dtype(dtype_name(spec))

    def device_name(self, raw: Any) -> str:
        """Always "cpu"."""
        return "cpu"

    def default_device(self) -> str:
        """The only one."""
        return "cpu"

    def from_host(self, host: np.ndarray[Any, Any], raw: Any) -> Array:
        """A copy, contiguous and in native byte order."""
        return np.array(host, dtype=self.dtype(host.dtype), order="C")

    def to_host(self, x: Array) -> np.ndarray[Any, Any]:
        """The array itself."""
        return np.asarray(x)

    def blend(self, y: Array, b: Any, x: Array, a: Any) -> None:
        """In one pass over memory, if they are long."""
        if KERNELS and y.size >= LONG and x.shape == y.shape and x.dtype == y.dtype:
            axpby(a, x, b, y, y)
        else:
            super().blend(y, b, x, a)

    def descend(self, w: Array, a: Any, x: Array) -> None:
        """In one pass over memory, if they are long."""
        if KERNELS and w.size >= LONG and x.shape == w.shape and x.dtype == w.dtype:
            axpby(-a, x, 1.0, w, w)
        else:
            w -= a * x

    def copy(self, x: Array) -> Array:
        """A contiguous copy."""
        return np.array(x, order="C")

    def own(self, x: Array) -> Array:
        """As it is if it owns its memory."""
        return x if x.__class__ is np.ndarray and x.base is None else np.array(x, order="C")

    def shares(self, x: Array, y: Array) -> bool:
        """By their bounds in memory."""
        return np.may_share_memory(x, y)

    def one(self, like: Array) -> Array:
        """A NumPy scalar: cheaper than an array."""
        return ONES.get(like.__class__) or like.dtype.type(1)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) in one new array, with constants of the right dtype: half the time for small arrays."""
    constants = LOGISTIC.get(x.dtype)
    if constants is None or not x.shape:
        return NotImplemented
    lowest, one = constants
    y = np.maximum(x, lowest)
    np.negative(y, y)
    np.exp(y, y)
    np.add(y, one, y)
    return np.reciprocal(y, y)


# By dtype, as 0-d arrays: minus the largest number whose exponential is finite, and 1.
LOGISTIC = {
    np.dtype(t): (np.array(0.5 - math.log(float(np.finfo(t).max)), t), np.array(1, t)) for t in (np.float32, np.float64)
}
ONES = {t: t(1) for t in (np.float32, np.float64)}


def gather(x: Array, index: Array) -> Array:
    """Rows of `x`. `take` is quicker for short rows than `x[index]`, but makes a copy of all of an `x` with gaps."""
    return np.take(x, index, axis=0) if x.flags.c_contiguous else np.ascontiguousarray(x[index])


def scatter_add(dy: Array, index: Array, rows: int) -> Array:
    """Sums of the rows of `dy` that share an index: sorted, and then the first of each run, the second of each, ...

    When few runs are left, each is added up by itself: with n rows, neither takes more than the root of n steps.
    """
    flat = index.reshape(-1).astype(np.intp, copy=False)  # narrow integers may not reach `rows`
    out = np.zeros((rows, *dy.shape[index.ndim :]), dy.dtype)
    dy = dy.reshape(flat.size, *out.shape[1:])
    if out.ndim == 1 or dy.size < 8192:
        np.add.at(out, flat, dy)
        return out
    flat = np.where(flat < 0, flat + rows, flat)
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(starts, append=flat.size)
    done = 0
    while starts.size**2 > flat.size:
        out[ordered[starts]] += dy[order[starts + done]]
        done += 1
        starts, counts = starts[counts > done], counts[counts > done]
    for start, count in zip(starts, counts, strict=True):
        out[ordered[start]] += dy[order[start + done : start + count]].sum(axis=0)
    return out


def place(dy: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with `dy` added at `key`, repeated positions counted each time."""
    out = np.zeros(shape, dy.dtype)
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, np.ndarray | list) and np.asarray(part).dtype != bool for part in parts):
        np.add.at(out, key, dy)
    else:
        out[key] = dy
    return out


def one_hot(index: Array, classes: int, dtype: Any) -> Array:
    """Rows with a single one."""
    out = np.zeros((index.size, classes), dtype)
    out[np.arange(index.size), index.reshape(-1)] = 1
    return out.reshape(*index.shape, classes)


OVERRIDES: dict[str, Callable[..., Array]] = {
    "total": np.add.reduce,
    "logistic": logistic,
    "gather": gather,
    "scatter_add": scatter_add,
    "place": place,
    "one_hot": one_hot,
    **numpy_conv.OVERRIDES,
}
