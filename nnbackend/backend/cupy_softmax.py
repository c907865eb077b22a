"""Softmax and cross-entropy on CUDA: one kernel for each, and one for its way back.

What is kept for a way back is (2, rows): the largest number of each row, and the sum of exp(x - largest).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from .base import Array
from .cupy_rows import SUMS, alike, blocks, lanes, run, whole


class _Rows(NamedTuple):
    """An array seen as (outer, n, inner). Its rows lie along n, and so many threads share one."""

    rows: int
    n: int
    inner: int
    lanes: int

    def run(self, kernel: str, arrays: tuple[Array, ...], *arguments: Any) -> None:
        """Start a kernel of softmax.cu; `arrays` are those of the full size."""
        packed = whole(self.n, *arrays) if self.inner == 1 else 0
        count = blocks(self.rows, self.lanes)
        run("softmax.cu", kernel, count, arrays[0].dtype, *arguments, *self, packed)


def _rows(x: Array, axis: int) -> _Rows | None:
    """None where there are no rows, or few and long ones whose numbers lie apart."""
    axis %= x.ndim
    n, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    rows = math.prod(x.shape[:axis]) * inner
    if not rows * n or (inner > 1 and n > 256 + 8 * rows):
        return None
    return _Rows(rows, n, inner, lanes(n) if inner == 1 else 1)


def _kept(rows: _Rows, x: Array) -> Array:
    return import_module("cupy").empty((2, rows.rows), SUMS[x.dtype.name])


def _packed(x: Array) -> Array:
    return import_module("cupy").ascontiguousarray(x)


def _new(x: Array) -> Array:
    return import_module("cupy").empty(x.shape, x.dtype)


def softmax(x: Array, axis: int) -> Array:
    """See `backend.softmax`."""
    if not alike(x) or (rows := _rows(x, axis)) is None:
        return NotImplemented
    x, y = _packed(x), _new(x)
    rows.run("softmax", (y, x), y, x)
    return y


def softmax_back(y: Array, dy: Array, axis: int) -> Array:
    """See `backend.softmax`."""
    if not alike(y, dy) or (rows := _rows(y, axis)) is None:
        return NotImplemented
    y, dy, dx = _packed(y), _packed(dy), _new(y)
    rows.run("softmax_back", (dx, dy, y), dx, dy, y)
    return dx


def log_softmax(x: Array, axis: int) -> Any:
    """See `backend.softmax`."""
    if not alike(x) or (rows := _rows(x, axis)) is None:
        return NotImplemented
    x, y, kept = _packed(x), _new(x), _kept(rows, x)
    rows.run("log_softmax", (y, x), y, kept, x)
    return y, kept


def log_softmax_back(x: Array, dy: Array, axis: int, *kept: Array) -> Array:
    """See `backend.softmax`."""
    if len(kept) > 1 or not alike(x, dy) or (rows := _rows(x, axis)) is None:
        return NotImplemented
    x, dy, dx = _packed(x), _packed(dy), _new(x)
    rows.run("log_softmax_back", (dx, dy, x), dx, dy, *kept, x)
    return dx


def softmax_loss(z: Array, labels: Array) -> Any:
    """See `backend.softmax`. The loss for a label beyond the classes is NaN."""
    if type(labels) is not type(z) or not alike(z) or (rows := _rows(z, 1)) is None:
        return NotImplemented
    z, kept = _packed(z), _kept(rows, z)
    losses = import_module("cupy").empty(labels.shape, z.dtype)
    rows.run("softmax_loss", (z,), losses, kept, z, _packed(labels.astype(np.int64, copy=False)))
    return losses, kept


def softmax_loss_back(z: Array, labels: Array, dy: Array, scale: float, *kept: Array) -> Array:
    """See `backend.softmax`."""
    if len(kept) > 1 or type(labels) is not type(z) or not alike(z, dy) or (rows := _rows(z, 1)) is None:
        return NotImplemented
    z, dy, dz, labels = _packed(z), _packed(dy), _new(z), _packed(labels.astype(np.int64, copy=False))
    rows.run("softmax_loss_back", (dz, z), dz, dy, int(dy.ndim > 0 and dy.size > 1), float(scale), *kept, z, labels)
    return dz


OVERRIDES: dict[str, Callable[..., Array]] = {
    "softmax": softmax,
    "softmax_back": softmax_back,
    "log_softmax": log_softmax,
    "log_softmax_back": log_softmax_back,
    "softmax_loss": softmax_loss,
    "softmax_loss_back": softmax_loss_back,
}
