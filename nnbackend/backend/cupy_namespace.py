"""CuPy's array namespace: array-api-compat's, but for functions that wait for the device or start a kernel a slice."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from .base import Array


def namespace(cupy: Any) -> Any:
    """The namespace of CuPy's arrays."""
    compat = importlib.import_module("array_api_compat.cupy")

    def sign(x: Array, /) -> Array:
        """-1, 0 or 1; NaN stays NaN."""
        return cupy.where(cupy.isnan(x), x, cupy.sign(x)) if x.dtype.kind == "f" else cupy.sign(x)

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

    xp = ModuleType(compat.__name__, __doc__)
    vars(xp).update({**vars(compat), "sign": sign, "repeat": repeat})
    return xp
