"""`axpby` by NumPy's own BLAS: y = a x + b y in one pass over memory where NumPy takes three."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

LONG = 1 << 13  # elements from which one call of BLAS is quicker than NumPy's
_KINDS = {np.dtype("float32"): ("s", ctypes.c_float), np.dtype("float64"): ("d", ctypes.c_double)}
_NAMES = ("scipy_cblas_{}axpby64_", "cblas_{}axpby64_", "cblas_{}axpby")


@cache
def _blas(dtype: Any) -> Callable[..., None] | None:
    """The function for this dtype in the library that NumPy multiplies matrices with, if it has one."""
    if dtype not in _KINDS:
        return None
    letter, number = _KINDS[dtype]
    try:
        core = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    except (OSError, AttributeError):
        return None
    for name in _NAMES:
        found = getattr(core, name.format(letter), None)
        if found is not None:
            integer = ctypes.c_int64 if name.endswith("64_") else ctypes.c_int
            found.argtypes = (integer, number, ctypes.c_void_p, integer, number, ctypes.c_void_p, integer)
            found.restype = None
            return found  # type: ignore[no-any-return]
    return None


def axpby(a: Any, x: Any, b: Any, y: Any, out: Any) -> None:
    """Store a x + b y, of arrays of one shape and dtype, in `out`, which may be one of them, but not a part of one."""
    blas = _blas(out.dtype) if out.size >= LONG and a and b else None  # to BLAS 0 times NaN is 0
    if blas is None or not (x.flags.c_contiguous and y.flags.c_contiguous and out.flags.c_contiguous):
        _plainly(a, x, b, y, out)
        return
    at_x, at_y, at = (array.__array_interface__["data"][0] for array in (x, y, out))
    if at == at_x:
        a, at_x, b, at_y = b, at_y, a, at_x
    elif at != at_y:
        np.multiply(y, b, out)
        b = 1.0
    blas(out.size, float(a), at_x, 1, float(b), at, 1)


def _plainly(a: Any, x: Any, b: Any, y: Any, out: Any) -> None:
    product = np.multiply(x, a, dtype=out.dtype)
    np.multiply(y, b, out)
    np.add(out, product, out)
