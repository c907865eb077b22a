"""How precisely matrices are multiplied. The stand-in keeps the setting and always computes in full precision."""

from typing import Any

import numpy as np

COMPUTE_TYPE_TBD, COMPUTE_TYPE_DEFAULT, COMPUTE_TYPE_PEDANTIC, COMPUTE_TYPE_FP16 = 0, 1, 2, 3
COMPUTE_TYPE_FP32, COMPUTE_TYPE_FP64, COMPUTE_TYPE_BF16, COMPUTE_TYPE_TF32 = 4, 5, 6, 7
_types = dict.fromkeys("efdFD", COMPUTE_TYPE_DEFAULT)


def get_compute_type(dtype: Any) -> int:
    """Of products of matrices of this dtype."""
    return _types[_char(dtype)]


def set_compute_type(dtype: Any, compute_type: int) -> None:
    """In the whole process."""
    if compute_type not in range(8):
        raise ValueError(f"Unknown compute type: {compute_type}")
    _types[_char(dtype)] = compute_type


def _char(dtype: Any) -> str:
    char = np.dtype(dtype).char
    if char not in _types:
        raise TypeError(f"dtype is not supported: {dtype}")
    return char
