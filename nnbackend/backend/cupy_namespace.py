"""CuPy's array namespace: array-api-compat's, but for what waits, starts a kernel a slice or does not broadcast."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from .base import Array


def namespace(cupy: Any) -> Any:
    """The namespace of CuPy's arrays."""
    compat = importlib.import_module("array_api_compat.cupy")

    def repeat(x: Array, repeats: int | Array, /, *, axis: int | None = None) -> Array:
        """Every element `repeats` times in a row. It waits if there is a number for each of them."""
        if not isinstance(repeats, int):
            return compat.repeat(x, repeats, axis=axis)
        if axis is None:
            x, axis = x.reshape(-1), 0
        axis %= x.ndim
        before, n, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        wide = cupy.broadcast_to(cupy.expand_dims(x, axis + 1), (*before, n, repeats, *after))
        return wide.reshape(*before, n * repeats, *after)

    def solve(a: Array, b: Array, /) -> Array:
        """X of `a @ x = b`, where `b` is (n,) or (..., n, k). The leading axes broadcast."""
        if b.ndim > 1:
            stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            a, b = (cupy.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b))
        return cupy.linalg.solve(a, b)

    linalg = ModuleType(compat.linalg.__name__, compat.linalg.__doc__)
    vars(linalg).update({**vars(compat.linalg), "solve": solve})
    xp = ModuleType(compat.__name__, __doc__)
    vars(xp).update({**vars(compat), "sign": cupy.sign, "repeat": repeat, "linalg": linalg})
    return xp
