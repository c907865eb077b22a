"""Convolutions on CuPy: windows of a few samples at a time, as a matrix that stays in the cache, times the weights.

Where each channel has a kernel of its own, that is no product of matrices: CUDA kernels do it directly. What the
functions are is said in `backend.conv`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

from . import gemm
from .base import Array
from .kernels import BLOCK, launch, start

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

BYTES = 16 << 20  # of a matrix of windows: more leaves the cache
COLUMNS = 64  # of a matrix: with fewer places, samples stand side by side in one
FARTHEST = 1 << 30  # along an axis: kernels count places and elements in 32 bits
FLOATS = ("float32", "float64", "float16")


class Windows:
    """Shapes of a convolution along up to three axes, and how its windows are matrices.

    A matrix has a row for each channel and element of the kernel, and a column for each place. `side` samples stand
    side by side in one, so that samples (n, ...) are a stack of n / side matrices, times one for each group. Results
    are such matrices with a row for each of their channels.
    """

    def __init__(self, x: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int = 1) -> None:
        (self.n, self.c, *size), self.groups = x, groups
        before = [p for p, _ in padding]
        axes = zip(size, kernel, stride, padding, dilation, strict=True)
        self.count = tuple((m + sum(p) - d * (k - 1) - 1) // s + 1 for m, k, s, p, d in axes)
        self.places, self.elements = math.prod(self.count), math.prod(kernel)
        self.plain = self.elements == 1 and set(stride) == {1} and not any(map(any, padding))
        self.lengths = [m + sum(p) for m, p in zip(size, padding, strict=True)]
        numbers = zip(size, kernel, self.count, stride, before, dilation, strict=True)
        self.numbers = [n for axis in [*[(1, 1, 1, 1, 0, 1)] * (3 - len(size)), *numbers] for n in axis]

    def takes(self, *arrays: Array) -> bool:
        """Whether the functions here are for these arrays: floats of one kind, and something to do."""
        return (
            len(self.count) <= 3
            and min(self.n, self.elements, *self.count, *(x.size for x in arrays)) > 0
            and max(*self.numbers, *self.lengths) < FARTHEST
            and arrays[0].dtype.name in FLOATS
            and all(x.dtype == arrays[0].dtype for x in arrays)
        )

    @property
    def axes(self) -> list[np.int32]:
        """As arguments of a kernel."""
        return [np.int32(n) for n in self.numbers]

    def chunks(self, side: int, itemsize: int) -> Iterator[tuple[slice, int]]:
        """Samples whose windows stay in the cache, and how many of them stand side by side: at most `side`."""
        room = BYTES // (self.c * self.elements * self.places * itemsize)
        step = self.n if self.plain else max(1, min(self.n, room))
        side = min(side, step)
        step -= step % side
        for first in range(0, self.n, step):
            last = min(first + step, self.n)
            whole = last - (last - first) % side
            if first < whole:
                yield slice(first, whole), side
            if whole < last:
                yield slice(whole, last), last - whole

    @property
    def side(self) -> int:
        """As many as can be where there are groups, or few places; else one."""
        return self.n if self.groups > 1 or self.places < COLUMNS else 1

    def unfolded(self, x: Array, side: int) -> Array:
        """The windows of some samples."""
        if self.plain:
            return self.matrices(x, side)
        rows = self.c * self.elements // self.groups
        columns = _empty((len(x) // side * self.groups, rows, side * self.places), x)
        n = len(x) * self.c * self.places
        _launch("unfold", n, columns, x, n, self.c, side, *self.axes)
        return columns

    def fold(self, columns: Array, x: Array, side: int) -> None:
        """The way back, into `x`: sums where windows overlap."""
        if self.plain:
            self.put(columns, x, side)
        else:
            _launch("fold", x.size, x, columns, x.size, self.c, side, *self.axes)

    def matrices(self, y: Array, side: int) -> Array:
        """Some samples of results, (samples, channels, *places): the same memory, unless they stand side by side."""
        samples, channels = y.shape[:2]
        if side > 1:
            y = y.reshape(samples // side, side, channels, self.places).swapaxes(1, 2)
        return y.reshape(samples // side * self.groups, channels // self.groups, side * self.places)

    def put(self, matrices: Array, y: Array, side: int) -> None:
        """The way back, into `y`."""
        stack, channels = len(y) // side, y.shape[1]
        y = y.reshape(stack, side, channels, self.places)
        y[...] = matrices.reshape(stack, channels, side, self.places).swapaxes(1, 2)

    def depthwise(self, w: Ints) -> bool:
        """Whether weights of this shape have one kernel for each channel."""
        return 1 < self.groups == self.c == w[0]


def unfold(x: Array, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Array:
    """In one launch."""
    how = Windows(x.shape, kernel, stride, padding, dilation)
    if not how.takes(x):
        return NotImplemented
    return how.unfolded(_packed(x), 1).reshape(how.n, how.c, how.elements, how.places)


def fold(columns: Array, size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Array:
    """In one launch: each element gathers what belongs to it, in the order of the kernel's elements."""
    how = Windows((*columns.shape[:2], *size), kernel, stride, padding, dilation)
    if not how.takes(columns):
        return NotImplemented
    x = _empty((how.n, how.c, *size), columns)
    how.fold(_packed(columns), x, 1)
    return x


def conv(x: Array, w: Array, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Array:
    """The weights times the windows."""
    how = Windows(x.shape, w.shape[2:], stride, padding, dilation, groups)
    if not how.takes(x, w):
        return NotImplemented
    x, w = _packed(x), _packed(w)
    y = _empty((how.n, len(w), *how.count), x)
    if how.depthwise(w.shape):
        _launch("depthwise", y.size, y, x, w, y.size, how.c, *how.axes)
        return y
    rows = w.reshape(groups, len(w) // groups, -1)
    for chunk, side in how.chunks(how.side, x.itemsize):
        columns = how.unfolded(x[chunk], side)
        if side == 1:
            _product(rows, columns, how.matrices(y[chunk], 1))
        else:
            how.put(_product(rows, columns), y[chunk], side)
    return y


def conv_transpose(y: Array, w: Array, size: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Array:
    """The weights, transposed, times `y`: windows, which are folded."""
    how = Windows((len(y), groups * w.shape[1], *size), w.shape[2:], stride, padding, dilation, groups)
    if how.count != y.shape[2:] or not how.takes(y, w):
        return NotImplemented
    y, w = _packed(y), _packed(w)
    x = _empty((how.n, how.c, *size), y)
    if how.depthwise(w.shape):
        _launch("depthwise_back", x.size, x, y, w, x.size, how.c, *how.axes)
        return x
    rows = w.reshape(groups, len(w) // groups, -1).swapaxes(1, 2)
    for chunk, side in how.chunks(how.side, y.itemsize):
        matrices = how.matrices(y[chunk], side)
        if how.plain and side == 1:
            _product(rows, matrices, how.matrices(x[chunk], 1))
        else:
            how.fold(_product(rows, matrices), x[chunk], side)
    return x


def conv_weight(y: Array, x: Array, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Array:
    """`y` times the windows: a stack of products in each chunk, summed in the order of the samples.

    Samples stand side by side until a product has as many terms as rows, so that the stack is no larger than the
    windows.
    """
    how = Windows(x.shape, kernel, stride, padding, dilation, groups)
    if how.count != y.shape[2:] or not how.takes(y, x):
        return NotImplemented
    y, x, o = _packed(y), _packed(x), y.shape[1]
    shape = (o, how.c // groups, *kernel)
    if how.depthwise(shape):
        w = _empty(shape, y)
        start("conv.cu", f"depthwise_weight_{y.dtype.name}", (w.size,), BLOCK, w, y, x, how.n, how.c, *how.axes)
        return w
    total, dtype = None, np.float32 if y.dtype == np.float16 else y.dtype
    for chunk, side in how.chunks(how.n if groups > 1 else -(-o // how.places), y.itemsize):
        terms = _product(how.matrices(y[chunk], side), how.unfolded(x[chunk], side).swapaxes(1, 2))
        part = terms.reshape(-1, *shape).sum(axis=0, dtype=dtype)
        total = part if total is None else total + part
    return total.astype(y.dtype, copy=False)  # type: ignore[union-attr]


def _product(a: Array, b: Array, out: Array | None = None) -> Array:
    y = gemm.product(a, b, out)
    if y is NotImplemented:
        y = import_module("cupy").matmul(a, b)
        if out is not None:
            out[...] = y
    return y


def _packed(x: Array) -> Array:
    return import_module("cupy").ascontiguousarray(x)


def _empty(shape: Ints, like: Array) -> Array:
    return import_module("cupy").empty(shape, like.dtype)


def _launch(kernel: str, threads: int, out: Array, *arguments: Any) -> None:
    launch("conv.cu", f"{kernel}_{out.dtype.name}", threads, out, *arguments)


OVERRIDES: dict[str, Callable[..., Array]] = {
    "unfold": unfold,
    "fold": fold,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "conv_weight": conv_weight,
}
