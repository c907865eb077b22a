"""CuPy's array namespace: array-api-compat's, but for what waits, starts a kernel a slice or does not broadcast.

Reductions are kernels of ours, so that they give the same bits on their own and at the end of a group.
"""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import Any

import numpy as np

from .base import KERNELS, Array
from .fusion.eager import REDUCTIONS, reduction
from .gemm import NARROW, PRECISION, product
from .kernels import launch

PARTS = 8  # arrays that are put together at a time


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

    def concat(arrays: Any, /, *, axis: int | None = 0) -> Array:
        """One after another. More than eight at a time would have CuPy upload where they are."""
        if axis is None:
            arrays, axis = [x.reshape(-1) for x in arrays], 0
        y = _joined(cupy, list(arrays), axis)
        if y is not None:
            return y
        while KERNELS and len(arrays) > PARTS:
            arrays = [cupy.concatenate(arrays[i : i + PARTS], axis) for i in range(0, len(arrays), PARTS)]
        return cupy.concatenate(arrays, axis)

    def stack(arrays: Any, /, *, axis: int = 0) -> Array:
        """As the slices of a new axis."""
        return concat([cupy.expand_dims(x, axis) for x in arrays], axis=axis)

    def matmul(x1: Array, x2: Array, /) -> Array:
        """By cuBLASLt where it can be, for CuPy's own way is neither for captures nor for views of stacks.

        Never of factors in 16 bits: those are for layers.
        """
        precision = PRECISION.get()
        PRECISION.set("ieee" if precision in NARROW else precision)
        try:
            y = product(x1, x2) if KERNELS else NotImplemented
        finally:
            PRECISION.set(precision)
        return compat.matmul(x1, x2) if y is NotImplemented else y

    def solve(a: Array, b: Array, /) -> Array:
        """X of `a @ x = b`, where `b` is (n,) or (..., n, k). The leading axes broadcast."""
        if b.ndim > 1:
            stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            a, b = (cupy.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b))
        return cupy.linalg.solve(a, b)

    linalg = ModuleType(compat.linalg.__name__, compat.linalg.__doc__)
    vars(linalg).update({**vars(compat.linalg), "matmul": matmul, "solve": solve})
    xp = ModuleType(compat.__name__, __doc__)
    own = {"sign": cupy.sign, "repeat": repeat, "concat": concat, "stack": stack, "matmul": matmul, "linalg": linalg}
    vars(xp).update({**vars(compat), **own})
    if KERNELS:
        vars(xp).update({op: reduction(op, getattr(compat, op)) for op in REDUCTIONS})
    return xp


def _joined(cupy: Any, arrays: list[Array], axis: int) -> Array | None:
    """`concat` in a launch for eight arrays; None if they differ in dtype, are not contiguous, or cannot be joined."""
    if not KERNELS or len(arrays) < 2 or not all(type(x) is cupy.ndarray for x in arrays):
        return None
    first = arrays[0]
    if not -first.ndim <= axis < first.ndim or first.itemsize > 8 or any(x.dtype != first.dtype for x in arrays):
        return None
    axis %= first.ndim
    before, after = first.shape[:axis], first.shape[axis + 1 :]
    if any(x.shape[:axis] != before or x.shape[axis + 1 :] != after or not x.flags.c_contiguous for x in arrays):
        return None
    out = cupy.empty((*before, sum(x.shape[axis] for x in arrays), *after), first.dtype)
    rows, inner, column = math.prod(before), math.prod(after), 0
    for i in range(0, len(arrays), PARTS):
        parts = [(x, x.shape[axis] * inner) for x in arrays[i : i + PARTS]]
        width = sum(n for _, n in parts)
        sources = [number for part in [*parts, *[(first, 0)] * (PARTS - len(parts))] for number in part]
        sizes = rows * width, width, out.shape[axis] * inner, column
        launch("join.cu", f"join_{first.itemsize}", rows * width, out, *sizes, *sources)
        column += width
    return out
