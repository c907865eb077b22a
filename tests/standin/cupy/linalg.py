"""Linear algebra: NumPy's. What NumPy calls singular, CuPy answers with NaN, without an exception."""

from __future__ import annotations

import functools as _functools
import types as _types
from typing import Any as _Any

import numpy as _np
from numpy.linalg import LinAlgError

from ._functions import fill as _fill
from ._functions import matmul as _matmul

_SILENT = ("cholesky", "inv", "solve")


def _silently(name: str) -> _Any:
    original = getattr(_np.linalg, name)

    @_functools.wraps(original)
    def call(a: _Any, *others: _Any) -> _Any:
        if others and others[0].ndim > 1 and a.shape[:-1] != others[0].shape[:-1]:
            raise ValueError("a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b")
        try:
            return original(a, *others)
        except LinAlgError as error:
            if "square" in str(error) or "dimension" in str(error):
                raise
            like = others[0] if others else a
            if a.ndim > 2 and like.ndim == a.ndim:
                return _np.stack([call(*each) for each in zip(a, *others, strict=True)])
            return _np.full(like.shape, _np.nan, _np.result_type(like, _np.float32))

    return call


_place = _types.SimpleNamespace(**{name: getattr(_np.linalg, name) for name in dir(_np.linalg) if name[0] != "_"})
for _name in _SILENT:
    setattr(_place, _name, _silently(_name))
_fill("cupy.linalg", globals(), _place)
matmul = _matmul
__all__ = [_name for _name in globals() if _name[0] != "_" and _name != "annotations"]
__all__ += ["LinAlgError"]
