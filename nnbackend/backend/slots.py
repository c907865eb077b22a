"""Slots: numbers that a kernel reads from the device when it runs, so that a captured graph can be run with others."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from .kernels import start

TOGETHER = 8  # numbers that one launch stores


class Slot(NamedTuple):
    """A float64 or an int64 in the device's memory, at `address`, and what it holds at the moment."""

    address: int
    value: float


def by_value(x: float | Slot) -> tuple[Any, Any]:
    """A whole number as two arguments of a kernel, uint64 each: the number, or 0, and where to find one to add."""
    if isinstance(x, Slot):
        return np.uint64(0), np.uint64(x.address)
    return np.uint64(int(x) & (1 << 64) - 1), np.uint64(0)


class Slots:
    """So many slots, on CuPy's current device. What has not changed is not written again."""

    def __init__(self, count: int) -> None:
        self._array = import_module("cupy").zeros(count, np.uint64)
        self._bits = [0] * count
        self._values: list[float] = [0] * count

    def write(self, values: Sequence[float]) -> None:
        """Give each its number, in turn with what is done on the current stream."""
        bits = [_bits(v) for v in values]
        self._values = list(values)
        for i in range(0, len(bits), TOGETHER):
            some = bits[i : i + TOGETHER]
            if some != self._bits[i : i + TOGETHER]:
                words = map(np.uint64, some + [0] * (TOGETHER - len(some)))
                start("numbers.cu", "store", (1,), 32, self._array[i:], np.int64(len(some)), *words)
                self._bits[i : i + TOGETHER] = some

    def __iter__(self) -> Any:
        """All of them."""
        where = self._array.data.ptr
        return (Slot(where + 8 * i, value) for i, value in enumerate(self._values))


def _bits(x: float) -> int:
    """The 8 bytes of a float64 or of an int64."""
    bits: int = struct.unpack("<Q", struct.pack("<d", x))[0] if type(x) is float else int(x) & (1 << 64) - 1
    return bits
