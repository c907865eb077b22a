"""Views by strides. As in CuPy, nobody checks that they stay in the array, but here its memory ends them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._array import ndarray
from .._signatures import bound


def _as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    shape, strides = x.shape if shape is None else tuple(shape), x.strides if strides is None else tuple(strides)
    if 0 not in shape:
        first = x.data.ptr - x._mem.ptr
        low, high = np.lib.array_utils.byte_bounds(np.lib.stride_tricks.as_strided(x._np, shape, strides))
        if low < x._mem.ptr or high > x._mem.ptr + x._mem.size:
            raise ValueError(f"shape {shape} and strides {strides} from byte {first} leave the {x._mem.size} allocated")
    return x._view(np.lib.stride_tricks.as_strided(x._np, shape, strides))


as_strided = bound("cupy.lib.stride_tricks", "as_strided", _as_strided)
