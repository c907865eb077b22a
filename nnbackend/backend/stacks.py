"""Stacks of matrices as cuBLAS reads them: dense lines in memory, and one distance from each matrix to the next."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from .base import Array

LOOPS = 4  # so many calls are cheaper than a copy


class Lies(NamedTuple):
    """A matrix as dense lines: its rows or, transposed, its columns. `step` elements are from one to the next."""

    transposed: bool
    lines: int
    length: int
    step: int

    @classmethod
    def of(cls, x: Array) -> Lies | None:
        """The last two axes of `x`. None if neither rows nor columns are dense, or if they overlap."""
        (rows, columns), (down, right) = x.shape[-2:], x.strides[-2:]
        ways = (False, rows, columns, down, right), (True, columns, rows, right, down)
        for transposed, lines, length, step, unit in ways:
            step = length * x.itemsize if lines == 1 else step
            if (unit == x.itemsize or length == 1) and step >= length * x.itemsize and step % x.itemsize == 0:
                return cls(transposed, lines, length, step // x.itemsize)
        return None


class Calls(NamedTuple):
    """A product of stacks as a few equal calls. The tuples are bytes for a, b and the result."""

    matrices: int  # of a call
    strides: tuple[int, ...]  # from one to the next
    offsets: list[tuple[int, ...]]  # where each call begins

    @classmethod
    def of(cls, stack: tuple[int, ...], a: Array, b: Array, size: int) -> Calls | None:
        """For results of `size` bytes each, one after the other. None if it takes too many calls."""
        packed = [size * math.prod(stack[i + 1 :]) for i in range(len(stack))]
        axes = list(zip(stack, _strides(a, stack), _strides(b, stack), packed, strict=True))
        if any(s < 0 or s % a.itemsize for axis in axes for s in axis[1:]):
            return None
        (matrices, *strides), *outer = sorted(_merged(axes), reverse=True) or [(1, 0, 0, 0)]
        if math.prod(n for n, *_ in outer) > LOOPS:
            return None
        offsets: list[tuple[int, ...]] = [(0, 0, 0)]
        for n, *along in outer:
            offsets = [tuple(o + i * s for o, s in zip(at, along, strict=True)) for at in offsets for i in range(n)]
        return cls(matrices, tuple(strides), offsets)


def joined(a: Lies, calls: Calls, itemsize: int) -> tuple[Lies, Calls]:
    """The rows of all matrices of `a` as one matrix, if they follow each other and meet the same matrix."""
    if a.transposed or len(calls.offsets) > 1 or calls.strides[:2] != (a.lines * a.step * itemsize, 0):
        return a, calls
    return a._replace(lines=calls.matrices * a.lines), Calls(1, (0, 0, 0), calls.offsets)


def uniform(x: Array, stack: tuple[int, ...]) -> bool:
    """Whether one distance leads through all matrices of `x` as a stack of that shape."""
    axes = _merged(zip(stack, _strides(x, stack), strict=True))
    return len(axes) < 2 and all(s >= 0 and s % x.itemsize == 0 for _, s in axes)


def _strides(x: Array, stack: tuple[int, ...]) -> list[int]:
    """Of the axes in front of the matrices; 0 where it broadcasts."""
    missing = len(stack) + 2 - x.ndim
    return [0] * missing + [0 if n == 1 else s for n, s in zip(x.shape[:-2], x.strides[:-2], strict=True)]


def _merged(axes: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Axes (length, strides...) as few of them, from the outermost on."""
    merged: list[tuple[int, ...]] = []
    for n, *strides in axes:
        if merged and all(outer == n * inner for outer, inner in zip(merged[-1][1:], strides, strict=True)):
            merged[-1] = (merged[-1][0] * n, *strides)
        elif n != 1:
            merged.append((n, *strides))
    return merged
