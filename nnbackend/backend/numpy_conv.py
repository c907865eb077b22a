"""Convolutions on NumPy: windows of a few samples at a time, as a matrix that stays in the cache, times the weights.

The samples are spread over threads, each of which does its matrix products alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .base import Array
from .threads import num_threads, spread

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

BYTES = 1 << 20  # of a matrix of windows: more leaves the cache
COLUMNS = 128  # of a product: fewer make it slow


class Layout:
    """Shapes of a convolution, and how its windows are best laid out.

    They are seen as (samples, c, *kernel, *places). In memory, what can be copied in the longest runs comes last:
    places, or channels (`last`). As a matrix they have a column for each place; samples and groups are a stack of
    matrices, but samples of few places are side by side in one (`merged`).
    """

    def __init__(
        self, x: Ints, w: Ints, y: Ints, dtype: Any, stride: Ints, padding: Pairs, dilation: Ints, groups: int
    ) -> None:
        (n, self.c, *self.size), self.kernel, self.count = x, w[2:], y[2:]
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups, self.dtype = groups, dtype
        self.rows, places, inner = self.c * math.prod(self.kernel), math.prod(self.count), math.prod(self.count[1:])
        run = self.kernel[-1] * self.c if dilation[-1] == 1 else self.c
        self.last = groups == 1 and run >= (self.count[-1] if stride[-1] == 1 else 1)
        self.merged = places < COLUMNS
        columns = max(COLUMNS, BYTES // (self.rows * dtype.itemsize))  # of all matrices together
        self.samples = max(1, min(columns // places, n // num_threads()))
        slabs = -(-self.count[0] // max(1, columns // inner))
        self.slab = -(-self.count[0] // slabs)  # places along the first axis that are done together
        self.slabs = [(a, min(a + self.slab, self.count[0])) for a in range(0, self.count[0], self.slab)]
        self.chunks = [slice(s, min(s + self.samples, n)) for s in range(0, n, self.samples)]

    def weights(self, w: Array) -> Array:
        """(o, c / groups, *kernel) -> (groups, o / groups, rows)."""
        w = np.moveaxis(w, 1, -1) if self.last else w
        return np.ascontiguousarray(w).reshape(self.groups, w.shape[0] // self.groups, -1)

    def weights_back(self, rows: Array, shape: Ints) -> Array:
        """The other way round."""
        return np.moveaxis(rows.reshape(shape[0], *shape[2:], -1), -1, 1) if self.last else rows.reshape(shape)

    def results(self, y: Array) -> Array:
        """(n, o, *places) -> (n, groups, o / groups, all places): the same memory."""
        return y.reshape(len(y), self.groups, y.shape[1] // self.groups, math.prod(self.count))

    def columns(self, y: Array) -> Array:
        """Some of these results as the matrices that belong to the windows."""
        return y.transpose(1, 2, 0, 3).reshape(1, *y.shape[1:3], -1) if self.merged else y

    def put(self, matrices: Array, y: Array) -> None:
        """Such matrices back among the results."""
        _, groups, o, places = y.shape
        y[...] = matrices.reshape(groups, o, -1, places).transpose(2, 0, 1, 3)


class Scratch:
    """What one thread needs: a few padded samples, and a matrix of their windows."""

    def __init__(self, layout: Layout) -> None:
        self.layout = how = layout
        padded = [m + sum(p) for m, p in zip(how.size, how.padding, strict=True)]
        if how.last:
            self.image = np.moveaxis(np.zeros((how.samples, *padded, how.c), how.dtype), -1, 1)
        else:
            self.image = np.zeros((how.samples, how.c, *padded), how.dtype)
        inside = [slice(before, before + m) for m, (before, _) in zip(how.size, how.padding, strict=True)]
        self.inside = self.image[:, :, *inside]
        of_sample, of_channel, *steps = self.image.strides
        dilated = [d * s for d, s in zip(how.dilation, steps, strict=True)]
        strided = [d * s for d, s in zip(how.stride, steps, strict=True)]
        self.windows = np.lib.stride_tricks.as_strided(
            self.image,
            (how.samples, how.c, *how.kernel, *how.count),
            (of_sample, of_channel, *dilated, *strided),
        )
        self.stage = None
        if how.last:  # channels that are a power of two apart would fight for the same lines of the cache
            pixels, odd = math.prod(how.size), 16
            stage = np.empty((how.samples, how.c, pixels + odd), how.dtype)
            self.stage = stage[..., :pixels].reshape(how.samples, how.c, *how.size)
        self.memory = np.empty(how.rows * how.samples * how.slab * math.prod(how.count[1:]), how.dtype)
        self.known: dict[tuple[int, int, int], tuple[Array, Array, Array]] = {}

    def views(self, samples: int, start: int, stop: int) -> tuple[Array, Array, Array]:
        """The windows of so many samples at a slab of places: as matrices, the same memory as windows, in the image."""
        key = samples, start, stop
        if key not in self.known:
            how, axes = self.layout, len(self.layout.kernel)
            windows = self.windows[:samples, :, *(slice(None),) * axes, start:stop]
            kernel, places = range(2, 2 + axes), range(2 + axes, 2 + 2 * axes)
            if how.last:
                order = (0, *places, *kernel, 1)
            else:
                order = (1, *kernel, 0, *places) if how.merged else (0, 1, *kernel, *places)
            memory = self.memory[: windows.size].reshape([windows.shape[i] for i in order])
            stack = 1 if how.merged else samples
            if how.last:
                matrices = memory.reshape(stack, 1, -1, how.rows).mT
            else:
                matrices = memory.reshape(stack, how.groups, how.rows // how.groups, -1)
            self.known[key] = matrices, memory.transpose(np.argsort(order)), windows
        return self.known[key]

    def load(self, x: Array) -> None:
        """Take in the next samples."""
        if self.stage is not None:
            np.copyto(self.stage[: len(x)], x)
            x = self.stage[: len(x)]
        np.copyto(self.inside[: len(x)], x)

    def unfolded(self, samples: int, start: int, stop: int) -> Array:
        """Their windows as matrices."""
        matrices, memory, windows = self.views(samples, start, stop)
        np.copyto(memory, windows)
        return matrices


def conv(
    x: Array, w: Array, stride: Ints, padding: Pairs, dilation: Ints, groups: int, out: Array | None = None
) -> Array:
    """The weights times the windows."""
    if not _takes(x, w):
        return NotImplemented
    axes = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    count = tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)
    y = np.empty((len(x), len(w), *count), x.dtype) if out is None else out
    how = Layout(x.shape, w.shape, y.shape, x.dtype, stride, padding, dilation, groups)
    rows, results, inner = how.weights(w), how.results(y), math.prod(count[1:])

    def run(chunks: list[slice]) -> None:
        scratch = Scratch(how)
        for chunk in chunks:
            samples = chunk.stop - chunk.start
            scratch.load(x[chunk])
            for start, stop in how.slabs:
                part = results[chunk, :, :, start * inner : stop * inner]
                windows = scratch.unfolded(samples, start, stop)
                if how.merged:
                    how.put(np.matmul(rows, windows), part)
                else:
                    np.matmul(rows, windows, out=part)

    spread(run, how.chunks)
    return y


def conv_weight(
    y: Array, x: Array, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int,
    out: Array | None = None,
) -> Array:  # fmt: skip
    """`y` times the windows, added up in each thread, and then over threads."""
    if not _takes(y, x):
        return NotImplemented
    y = np.ascontiguousarray(y)
    shape = (y.shape[1], x.shape[1] // groups, *kernel)
    how = Layout(x.shape, shape, y.shape, x.dtype, stride, padding, dilation, groups)
    results, inner, sums = how.results(y), math.prod(how.count[1:]), {}

    def run(chunks: list[slice]) -> None:
        scratch = Scratch(how)
        total = sums[chunks[0].start] = np.zeros((groups, shape[0] // groups, how.rows // groups), x.dtype)
        for chunk in chunks:
            samples = chunk.stop - chunk.start
            scratch.load(x[chunk])
            for start, stop in how.slabs:
                part = how.columns(results[chunk, :, :, start * inner : stop * inner])
                for term in np.matmul(part, scratch.unfolded(samples, start, stop).mT):
                    np.add(total, term, total)

    spread(run, how.chunks)
    first, *others = (sums[start] for start in sorted(sums))
    for other in others:
        first += other
    w = np.empty(shape, x.dtype) if out is None else out
    w[...] = how.weights_back(first, shape)
    return w


def conv_transpose(
    y: Array, w: Array, size: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int,
    out: Array | None = None,
) -> Array:  # fmt: skip
    """At stride 1 a convolution of `y` with the weights turned round, else windows that are added where they belong."""
    if not _takes(y, w):
        return NotImplemented
    (o, c), kernel, y = w.shape[:2], w.shape[2:], np.ascontiguousarray(y)
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    around = tuple((r - before, r - after) for r, (before, after) in zip(reach, padding, strict=True))
    if set(stride) == {1} and min(map(min, around)) >= 0 and 2 * c * groups >= o:
        turned = w[:, :, *(slice(None, None, -1),) * len(kernel)].reshape(groups, o // groups, c, *kernel)
        turned = turned.swapaxes(1, 2).reshape(groups * c, o // groups, *kernel)
        return conv(y, turned, stride, around, dilation, groups, out)
    x = np.empty((len(y), groups * c, *size), y.dtype) if out is None else out
    how = Layout(x.shape, w.shape, y.shape, y.dtype, stride, padding, dilation, groups)
    rows, results, inner = how.weights(w).mT, how.results(y), math.prod(how.count[1:])
    elements = list(itertools.product(*map(range, kernel)))

    def run(chunks: list[slice]) -> None:
        scratch = Scratch(how)
        for chunk in chunks:
            scratch.image[...] = 0
            for start, stop in how.slabs:
                matrices, memory, windows = scratch.views(chunk.stop - chunk.start, start, stop)
                part = how.columns(results[chunk, :, :, start * inner : stop * inner])
                np.matmul(rows, part, out=matrices)
                for at in elements:
                    place = windows[:, :, *at]
                    np.add(place, memory[:, :, *at], place)
            np.copyto(x[chunk], scratch.inside[: chunk.stop - chunk.start])

    spread(run, how.chunks)
    return x


def _takes(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.dtype.char in "fd" and a.size > 0 and b.size > 0


OVERRIDES: dict[str, Callable[..., Array]] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "conv_weight": conv_weight,
}
