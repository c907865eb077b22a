"""Slots: numbers that a kernel reads from the device when it runs, so that a captured graph can be run with others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Slot(NamedTuple):
    """A float64 or an int64 in the device's memory, at `address`, and what it holds at the moment."""

    address: int
    value: float


def by_value(x: float | Slot) -> tuple[Any, Any]:
    """A whole number as two arguments of a kernel, uint64 each: the number, or 0, and where to find one to add."""
    if isinstance(x, Slot):
        return np.uint64(0), np.uint64(x.address)
    return np.uint64(int(x) & (1 << 64) - 1), np.uint64(0)
