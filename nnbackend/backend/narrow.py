"""Mixed precision: the factors of a float32 product, rounded to 16 bits, which tensor cores multiply.

bfloat16 has the range of float32. float16 has three more bits and a small range, so there each factor comes times a
power of two, which brings its largest number below 2**15, and the product is multiplied by what undoes both. The powers
stay on the device: nobody waits for them. (Transformer Engine calls this current scaling.)
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from .base import Array
from .kernels import BLOCK, start

PACK = 8  # numbers that one thread rounds
SEARCH = (512, 256)  # at most so many blocks, of so many threads, look for the largest number of a factor


class Factors(NamedTuple):
    """Two factors in 16 bits: float16, or uint16 with the bits of bfloat16.

    `back` is what to multiply the product by, and 0, both float32 on the device; None if there is nothing to undo.
    """

    a: Array
    b: Array
    back: Array | None


class Narrowing:
    """Rounds two float32 factors, laid out as `a` and `b` and not empty, to nearest even. NaN and infinities stay.

    In "float16" numbers below 2**-28 of the largest one of their factor lose digits, and below 2**-39 they are 0. The
    largest one is infinite beyond 6e23, and counts as 2e-15 below that.
    """

    def __init__(self, a: Array, b: Array, precision: str) -> None:
        self._cupy: Any = import_module("cupy")
        self._precision = precision
        self._read = [_Read.of(x.shape, x.strides) for x in (a, b)]
        blocks = [-(-read.rows * -(-read.columns // PACK) // BLOCK) for read in self._read]
        self._blocks, self._first = (sum(blocks),), blocks[0]
        self._search = min(SEARCH[0], -(-max(blocks) * BLOCK // SEARCH[1]))

    def __call__(self, a: Array, b: Array) -> Factors:
        """The numbers of each in one line, in the order in which they lie in memory."""
        empty, given, to = self._cupy.empty, [], []
        half = self._precision == "float16"
        for x, read in zip((a, b), self._read, strict=True):
            x = x if read.as_it_lies else self._cupy.ascontiguousarray(x)
            given += [x, read.rows, read.columns, read.pitch]
            to.append(empty(read.rows * read.columns, np.float16 if half else np.uint16))
        if not half:
            start("narrow.cu", "narrow_bfloat16", self._blocks, BLOCK, *to, self._first, *given)
            return Factors(to[0], to[1], None)
        tops, back = empty((2, self._search), np.float32), empty(2, np.float32)
        start("narrow.cu", "largest", (self._search, 2), SEARCH[1], tops, *given)
        found = (back, tops, np.int32(self._search))
        start("narrow.cu", "narrow_float16", self._blocks, BLOCK, *to, *found, self._first, *given)
        return Factors(to[0], to[1], back)

    def laid_out(self, factors: Factors) -> list[Array]:
        """Both in their shapes: views that step through memory as `a` and `b` do, without gaps."""
        as_strided: Any = import_module("cupy.lib.stride_tricks").as_strided
        return [as_strided(x, read.shape, read.strides) for x, read in zip(factors[:2], self._read, strict=True)]


class _Read(NamedTuple):
    """A factor as rows of numbers, `pitch` apart, or as a contiguous copy of it; the strides of the 16-bit one."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    rows: int
    columns: int
    pitch: int
    as_it_lies: bool = True

    @classmethod
    def of(cls, shape: tuple[int, ...], strides: tuple[int, ...]) -> _Read:
        """A stack that repeats one matrix is read once. Rows or columns of the matrices become dense."""
        steps = [step for n, step in zip(shape, strides, strict=True) if n > 1]
        runs, packed, size = [(1, 4)], dict[int, int](), 1  # lengths and strides, the innermost first
        for axis in sorted((i for i, n in enumerate(shape) if n > 1 and strides[i]), key=lambda i: strides[i]):
            n, step = shape[axis], strides[axis]
            packed[axis], size = 2 * size, size * n
            last, by = runs[-1]
            runs[-1:] = [(last * n, by)] if step == last * by else [runs[-1], (n, step)]
        narrow = tuple(packed.get(i, 0 if n > 1 else 2 * size) for i, n in enumerate(shape))
        matrix = [step for n, step in zip(shape[-2:], narrow[-2:], strict=True) if n > 1]
        if min(steps, default=0) < 0 or any(s % 4 for s in steps) or len(runs) > 2 or min(matrix, default=2) != 2:
            dense = tuple(4 * math.prod(shape[i + 1 :]) for i in range(len(shape)))
            return cls.of(shape, dense)._replace(as_it_lies=False)
        (columns, _), (rows, pitch) = (*runs, (1, 0))[:2]
        return cls(shape, narrow, rows, columns, pitch // 4)
