"""Convolutions: sums over windows that slide along the last axes.

All is said of x (n, c, *size), w (o, c / groups, *kernel) and y (n, o, *places); settings have one entry for each of
the last axes, `padding` a pair: how many zeros stand before and after. `conv`, `conv_transpose` and `conv_weight` are
one sum of products x * w * y, with y, x or w left out of it: so each is the way back of the two others. `unfold` and
`fold` are such a pair, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

from .base import Array
from .primitive import primitive, product
from .registry import namespace

Ints: TypeAlias = tuple[int, ...]
Pairs: TypeAlias = tuple[tuple[int, int], ...]


def places(size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Ints:
    """How many windows there are along each axis."""
    axes = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)


def _elements(kernel: Ints, count: Ints, stride: Ints, dilation: Ints) -> Iterator[tuple[Any, ...]]:
    """For each element of the kernel, where it stands in all windows."""
    for at in itertools.product(*map(range, kernel)):
        axes = zip(at, count, stride, dilation, strict=True)
        yield (..., *(slice(i * d, i * d + s * (m - 1) + 1, s) for i, m, s, d in axes))


@primitive
def unfold(x: Array, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Array:
    """The windows as columns: x -> (n, c, kernel elements, places)."""
    xp, (n, c, *size) = namespace(x), x.shape
    padded = xp.zeros((n, c, *(m + sum(p) for m, p in zip(size, padding, strict=True))), dtype=x.dtype, device=x.device)
    padded[(..., *(slice(p, p + m) for m, (p, _) in zip(size, padding, strict=True)))] = x
    count = places(tuple(size), kernel, stride, padding, dilation)
    rows = xp.stack([padded[key] for key in _elements(kernel, count, stride, dilation)], axis=2)
    return xp.reshape(rows, (n, c, math.prod(kernel), math.prod(count)))


@primitive
def fold(columns: Array, size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Array:
    """The way back of `unfold`: columns (n, c, kernel elements, places) -> x, summed where windows overlap."""
    xp, (n, c) = namespace(columns), columns.shape[:2]
    count = places(size, kernel, stride, padding, dilation)
    rows = xp.reshape(columns, (n, c, math.prod(kernel), *count))
    shape = (n, c, *(m + sum(p) for m, p in zip(size, padding, strict=True)))
    padded = xp.zeros(shape, dtype=columns.dtype, device=columns.device)
    for i, key in enumerate(_elements(kernel, count, stride, dilation)):
        padded[key] += rows[:, :, i, ...]
    return padded[(..., *(slice(p, p + m) for m, (p, _) in zip(size, padding, strict=True)))]


@primitive
def conv(x: Array, w: Array, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Array:
    """The inner products of the windows of `x` with the kernels `w`: (n, o, *places)."""
    xp, kernel = namespace(x), w.shape[2:]
    columns = unfold(x, kernel, stride, padding, dilation)
    n, c, k, m = columns.shape
    rows = xp.reshape(w, (groups, w.shape[0] // groups, c // groups * k))
    y = product(rows, xp.reshape(columns, (n, groups, c // groups * k, m)))
    return xp.reshape(y, (n, w.shape[0], *places(x.shape[2:], kernel, stride, padding, dilation)))


@primitive
def conv_transpose(y: Array, w: Array, size: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Array:
    """The kernels `w` laid down at each place, times `y`: (n, c, *size)."""
    xp, kernel = namespace(y), w.shape[2:]
    n, (o, c), k, m = y.shape[0], w.shape[:2], math.prod(kernel), math.prod(y.shape[2:])
    rows = xp.reshape(w, (groups, o // groups, c * k))
    columns = product(xp.matrix_transpose(rows), xp.reshape(y, (n, groups, o // groups, m)))
    return fold(xp.reshape(columns, (n, groups * c, k, m)), size, kernel, stride, padding, dilation)


@primitive
def conv_weight(y: Array, x: Array, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Array:
    """The windows of `x`, times `y`, summed over samples and places: (o, c / groups, *kernel)."""
    xp, columns = namespace(y), unfold(x, kernel, stride, padding, dilation)
    n, c, k, m = columns.shape
    columns = xp.reshape(columns, (n, groups, c // groups * k, m))
    w = product(xp.reshape(y, (n, groups, y.shape[1] // groups, m)), xp.matrix_transpose(columns))
    return xp.reshape(xp.sum(w, axis=0), (y.shape[1], c // groups, *kernel))
