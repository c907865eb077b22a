"""float16 and bfloat16 for storage: rounded to nearest, ties to even; infinities and NaN stay what they are."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray  # costs 15 ms

_WIDER = {"F16": ("float16", "bfloat16"), "BF16": ("bfloat16", "float32")}  # its name, and what has more range


def rounded(name: str, array: NDArray[Any], kind: str) -> NDArray[Any]:
    """Round to "F16", or to the bits of "BF16"; DataError if finite numbers would become infinite."""
    with np.errstate(all="ignore"):
        narrow: NDArray[Any] = array.astype(np.float16) if kind == "F16" else _to_bfloat16(array)
        infinite = np.isinf(narrow) if kind == "F16" else narrow & 0x7FFF == 0x7F80
        lost = np.count_nonzero(infinite & np.isfinite(array))
    if lost:
        mine, wider = _WIDER[kind]
        raise DataError(f"{name}: expected numbers in the range of {mine}, got {lost} beyond it. Store it as {wider}.")
    return narrow


def _to_bfloat16(array: NDArray[Any]) -> NDArray[Any]:
    """Round to bfloat16: the upper half of float32."""
    single = array.astype(np.float32, order="C")
    bits = single.view(np.uint32)
    if array.dtype.itemsize > 4:  # toward zero, with a last bit that says whether anything was lost: no double rounding
        lost = single != array
        bits -= np.abs(single) > np.abs(array)
        bits |= lost
    up = (bits >> 16 & 1) + 0x7FFF
    return np.where(np.isnan(single), bits >> 16 | 0x40, bits + up >> 16).astype(np.uint16)


def from_bfloat16(bits: NDArray[Any]) -> NDArray[Any]:
    """Return bfloat16 from its bits, or the same numbers as float32 where ml_dtypes is not installed."""
    try:
        return bits.view(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError:
        return np.asarray(np.left_shift(bits, 16, dtype=np.uint32)).view(np.float32)
